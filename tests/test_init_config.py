"""`ner-arch init-config`: every cell of the grid gives a complete config that trains."""

from importlib.util import find_spec
from itertools import product

import pytest
import spacy
from conftest import entities, make_examples, run_in_line
from spacy.tokens import Doc, DocBin
from spacy.training.initialize import init_nlp
from spacy.training.loop import train
from spacy.util import get_sourced_components, load_config_from_str, load_model_from_config
from thinc.api import Config

from spacy_ner_arch.cli import cells
from spacy_ner_arch.cli.cells import EMBEDDINGS, ENCODERS, HEADS, RELATIONS, Cell, as_options
from spacy_ner_arch.cli.configs import DTYPES, GPU_SCALE, WORD_WIDTH, make_config
from spacy_ner_arch.cli.presets import PRESETS, find_cell


def does_not_fit(embedding, encoder, head, relations):
    """Cells without a pipeline: nothing to find, and marked copies without trees or without context."""
    markers = relations == "markers" and (encoder == "synlstm" or (embedding, encoder) == ("words", "none"))
    return head == relations == "none" or markers


ALL = list(product(EMBEDDINGS, ENCODERS, HEADS, RELATIONS))
GRID = [cell for cell in ALL if not does_not_fit(*cell)]


def marked_slow(cell):
    """All heads and all pair models run with the fast tests; most of their combinations do not."""
    _, _, head, relations = cell
    fast = relations == "none" or head == "none" or (head, relations) in {("crf", "softmax"), ("nested", "markers")}
    return pytest.param(*cell, marks=[] if fast else pytest.mark.slow, id="-".join(cell))


@pytest.fixture(scope="module")
def parser_folder(tmp_path_factory):
    """A pipeline with a parser, trained on two tokens."""
    nlp = spacy.blank("en")
    nlp.add_pipe("parser").add_label("ROOT")
    nlp.initialize()
    folder = tmp_path_factory.mktemp("parser")
    nlp.to_disk(folder)
    return folder


def check_complete(text):
    """Load a config, with defaults for missing settings, and check that none was missing."""
    config = load_config_from_str(text)
    filled = load_model_from_config(config, auto_fill=True).config
    filled["components"].update(get_sourced_components(config))
    assert filled == config
    return config


@pytest.mark.parametrize("embedding, encoder, head, relations", map(marked_slow, GRID))
def test_every_cell_is_complete(embedding, encoder, head, relations):
    config = check_complete(make_config(Cell(embedding, encoder, head, relations)))
    assert sum(weight or 0 for weight in config["training"]["score_weights"].values()) == 1.0
    assert set(config["nlp"]["pipeline"]) == set(config["components"])


@pytest.mark.parametrize("cell", [cell for cell in ALL if does_not_fit(*cell)], ids="-".join)
def test_cells_that_do_not_fit_name_a_remedy(cell):
    with pytest.raises(ValueError, match=r"give --|give another --"):
        Cell(*cell)


@pytest.mark.parametrize("field, constant", [("encoder", "ENCODERS"), ("relations", "RELATIONS")])
def test_a_value_without_a_block_in_the_template(field, constant, monkeypatch):
    monkeypatch.setattr(cells, constant, (*getattr(cells, constant), "new"))
    cell = Cell(**{"embedding": "words", "encoder": "bilstm", "head": "crf", field: "new"})
    with pytest.raises(ValueError, match=f"no block for {field} = 'new'"):
        make_config(cell)


@pytest.mark.parametrize("relations", ["none", "softmax"])
@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_gold_trees_are_read_from_the_corpus(embedding, relations):
    config = check_complete(make_config(Cell(embedding, "synlstm", "crf", relations, trees="gold")))
    for corpus in config["corpora"].values():
        assert corpus["@readers"] == "spacy_ner_arch.Corpus.v1" and "heads" in corpus["copy"]
    assert not {"parser", "sentencizer"} & set(config["nlp"]["pipeline"])


@pytest.mark.parametrize("relations", ["none", "softmax"])
@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_trees_from_the_parser_of_another_pipeline(embedding, relations, parser_folder):
    config = check_complete(make_config(Cell(embedding, "synlstm", "span", relations, trees=str(parser_folder))))
    assert config["components"]["parser"]["source"] == str(parser_folder)
    assert config["training"]["annotating_components"] == config["training"]["frozen_components"] == ["parser"]
    assert config["nlp"]["pipeline"][0] == "parser"


def test_a_parser_that_is_trained_over_a_transformer_has_its_own_rate():
    """The optimizer's rate holds for components that are not in the stages; that of a transformer is too low."""
    rates = [
        check_complete(make_config(Cell("transformer", encoder, "crf"))).interpolate()["training"]["optimizer"]
        for encoder in ("bilstm", "synlstm")
    ]
    assert [optimizer["learn_rate"] for optimizer in rates] == [0.00005, 0.001]


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_presets_in_other_languages(name, lang):
    config = check_complete(make_config(PRESETS[name].cell, lang=lang))
    assert config["nlp"]["lang"] == lang and config["paths"]["train"] is None
    blank = spacy.blank(lang).config
    assert config["nlp"]["tokenizer"] == blank["nlp"]["tokenizer"]
    assert config["initialize"]["tokenizer"] == blank["initialize"].get("tokenizer", {})


@pytest.mark.parametrize("name", ["joint", "joint_bilstm", "relation_markers", "synlstm_span"])
def test_gpu_settings(name):
    cpu, gpu = (check_complete(make_config(PRESETS[name].cell, gpu=gpu)) for gpu in (False, True))
    assert gpu["training"]["batcher"]["size"] == GPU_SCALE * cpu["training"]["batcher"]["size"]
    assert gpu["nlp"]["batch_size"] == GPU_SCALE * cpu["nlp"]["batch_size"]
    assert [block["dtype"] for block in models(gpu)] == [block["dtype"] for block in models(cpu)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gpu", [False, True])
def test_precision(dtype, gpu):
    """That of the option in all models, also for a GPU."""
    config = check_complete(make_config(PRESETS["joint"].cell, gpu=gpu, dtype=dtype))
    assert [block["dtype"] for block in models(config)] == [dtype] * 3
    default = check_complete(make_config(PRESETS["joint"].cell, gpu=gpu))
    assert {block["dtype"] for block in models(default)} == {"float32"}
    printed = run_in_line("init-config", "-", "--config", "joint", "--dtype", dtype, *["--gpu"] * gpu)
    assert printed.count(f'dtype = "{dtype}"') == 3


def models(config):
    blocks = (block.get("model", {}) for block in config["components"].values())
    return [block for block in blocks if "dtype" in block]


@pytest.mark.parametrize("name", ["bilstm", "joint", "nested", "synlstm_crf"])
def test_each_document_twice(name):
    once, twice = (check_complete(make_config(PRESETS[name].cell, consistency=factor)) for factor in (0, 4))
    assert twice["training"]["batcher"]["@batchers"] == "spacy_ner_arch.RDrop.v1"
    assert twice["training"]["batcher"]["batcher"] == once["training"]["batcher"]
    twice["training"]["batcher"] = once["training"]["batcher"]
    heads = {"sequence_ner", "nested_ner", "relation_extractor"} & set(once["components"])
    for head in heads:
        assert once["components"][head]["model"]["consistency"] == 0
        assert twice["components"][head]["model"].pop("consistency") == 4
        del once["components"][head]["model"]["consistency"]
    assert heads and twice == once


def test_transformer_and_vectors():
    config = check_complete(make_config(PRESETS["span"].cell, transformer="some/model"))
    assert config["paths"]["encoder"] == "some/model"
    for name in ("bilstm_crf", "joint_bilstm", "relation_acnn"):
        text = make_config(PRESETS[name].cell, vectors="some_vectors")
        assert check_complete(text)["paths"]["vectors"] == "some_vectors"
        assert "include_static_vectors = true" in text and "include_static_vectors = false" not in text
        assert "tune_vectors = true" in text and "word_width = 0" in text


@pytest.mark.parametrize("name", ["transformer_bilstm_crf", "span", "nested", "joint"])
def test_vectors_beside_a_transformer(name):
    """For the entities: relations gained nothing. What the encoder drops, it drops as without them."""
    config = check_complete(make_config(PRESETS[name].cell, vectors="some_vectors"))
    assert config["paths"]["vectors"] == "some_vectors"
    (features,) = find_blocks(config, "spacy_ner_arch.WordCharEmbed.v1")
    assert features["include_static_vectors"] and features["filters"] and not features["word_width"]
    assert all(encoder["dropout"] is None for encoder in find_blocks(config, "spacy_ner_arch.BiLSTM.v1"))


def find_blocks(block, architecture):
    """The blocks of an architecture within a block."""
    if block.get("@architectures") == architecture:
        yield block
    for inner in block.values():
        if isinstance(inner, dict):
            yield from find_blocks(inner, architecture)


@pytest.mark.parametrize("name", ["bilstm_crf", "joint_bilstm", "synlstm_crf", "relation_acnn"])
@pytest.mark.parametrize("vectors", [None, "some_vectors"])
def test_dropout_is_applied_once(name, vectors):
    """In the embedding, which treats the vectors apart, or in the encoder; trees and pair models keep their own."""
    config = check_complete(make_config(PRESETS[name].cell, vectors=vectors))
    (embedding,), encoders = (
        list(find_blocks(config, f"spacy_ner_arch.{key}.v1")) for key in ("WordCharEmbed", "BiLSTM")
    )
    in_embedding = bool(vectors and encoders)
    assert (embedding["dropout"], embedding["vector_dropout"]) == ((None, 0.2) if in_embedding else (0.0, 0.0))
    assert [block["dropout"] for block in encoders] == [0.0 if in_embedding else None] * len(encoders)


def test_width_of_shared_words_without_encoder():
    """The config of the listeners states it; spaCy does not check it."""
    config = load_config_from_str(make_config(Cell("words", "none", "crf", "bilstm")))
    assert config["components"]["sequence_ner"]["model"]["tok2vec"]["width"] == WORD_WIDTH
    nlp = load_model_from_config(config)
    examples = make_examples(nlp)
    tok2vec = nlp.get_pipe("tok2vec")
    tok2vec.initialize(lambda: examples, nlp=nlp)
    assert tok2vec.predict([examples[0].predicted])[0].shape[1] == WORD_WIDTH


def test_find_cell():
    assert find_cell() == PRESETS["bilstm_crf"].cell
    assert find_cell("joint") == PRESETS["joint"].cell
    assert find_cell("joint", encoder="bilstm", relations=None) == Cell("transformer", "bilstm", "crf", "softmax")
    assert find_cell(embedding="transformer") == PRESETS["transformer_crf"].cell
    assert find_cell(relations="softmax") == PRESETS["joint_bilstm"].cell
    assert find_cell(head="none", relations="acnn") == PRESETS["relation_acnn"].cell
    assert find_cell(head="none", relations="markers", embedding="words").encoder == "bilstm"


@pytest.mark.parametrize("name", PRESETS)
def test_described_options_give_the_same_cell(name):
    options = as_options(PRESETS[name].cell).split()
    choices = {key.removeprefix("--"): value for key, value in zip(options[::2], options[1::2], strict=True)}
    assert find_cell(**choices) == PRESETS[name].cell


@pytest.mark.parametrize(
    "choices, message",
    [
        ({"preset": "spam"}, "unknown --config spam; choose from bilstm_crf, bilstm"),
        ({"encoder": "roberta-base"}, "unknown --encoder roberta-base; choose from none, bilstm, synlstm"),
        ({"head": "spam"}, "unknown --head spam; choose from crf"),
        ({"trees": "gold"}, "--trees is for --encoder synlstm; the encoder is bilstm"),
    ],
)
def test_refused_choices(choices, message):
    with pytest.raises(ValueError, match=message):
        find_cell(**choices)


@pytest.mark.parametrize(
    "cell, options, message",
    [
        (Cell("words", "bilstm", "crf"), {"lang": "tlh"}, "spaCy has no language 'tlh'"),
        (Cell("words", "bilstm", "crf"), {"transformer": "x"}, "--transformer is for --embedding transformer"),
        (Cell("transformer", "none", "none", "softmax"), {"vectors": "x"}, "--vectors over a transformer is for ent"),
        (Cell("words", "none", "crf", "acnn"), {"vectors": "x"}, "needs an encoder: give --encoder bilstm"),
        (Cell("words", "bilstm", "crf"), {"consistency": -1.0}, "--consistency -1.0 must be finite and not negative"),
        (Cell("words", "bilstm", "crf"), {"dtype": "float64"}, "unknown --dtype float64; choose from float32, bfloat"),
        (
            Cell("transformer", "none", "crf", "markers"),
            {"consistency": 4},
            "cannot compare the marked copies of --rel",
        ),
    ],
)
def test_refused_options(cell, options, message):
    with pytest.raises(ValueError, match=message):
        make_config(cell, **options)


CHINESE = [
    ("王小明住在塔维克。", [(0, 3, "PER"), (5, 8, "LOC")]),
    ("今天下雨。", []),
    ("塔维克很安静。", [(0, 3, "LOC")]),
]


@pytest.mark.skipif(find_spec("pythainlp") is not None, reason="the package is there")
def test_a_missing_package_of_the_tokenizer_is_named(tmp_path):
    path = tmp_path / "th.cfg"
    output = run_in_line("init-config", path, "--lang", "th")
    assert "--lang th: training will need a package for the tokenizer" in output and "PyThaiNLP" in output
    DocBin(docs=[spacy.blank("en")("Anna")]).to_disk(tmp_path / "a.spacy")
    for command in ("debug-data", "train"):
        paths = ["--paths.train", tmp_path / "a.spacy", "--paths.dev", tmp_path / "a.spacy"]
        assert "requires the PyThaiNLP library" in run_in_line(command, path, *paths, code=1)


@pytest.mark.parametrize("inner", ["", "/model-best"])
def test_the_command_does_not_train_into_the_folder_of_an_input(inner, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = run_in_line("init-config", "first.cfg", "--vectors", f"training/first{inner}")
    assert "--output training/first_trained --paths.train" in output
    output = run_in_line("init-config", "second.cfg", "--vectors", f"training/first{inner}")
    assert "--output training/second --paths.train" in output


def test_other_languages_by_characters(tmp_path):
    """Without word segmentation: spaCy's Chinese tokenizer gives characters."""
    nlp = spacy.blank("zh")
    docs = [nlp(text) for text, _ in CHINESE]
    for doc, (_, spans) in zip(docs, CHINESE, strict=True):
        doc.set_ents([doc.char_span(start, end, label=label) for start, end, label in spans])
    DocBin(docs=docs).to_disk(tmp_path / "train.spacy")
    corpus = str(tmp_path / "train.spacy")
    config = load_config_from_str(make_config(PRESETS["bilstm_crf"].cell, lang="zh", train=corpus, dev=corpus))
    config["training"].update({"max_steps": 60, "eval_frequency": 30})
    trained, _ = train(init_nlp(config), tmp_path)
    loaded = spacy.load(tmp_path / "model-best")
    for text, spans in CHINESE:
        assert [(ent.start_char, ent.end_char, ent.label_) for ent in loaded(text).ents] == spans


def test_a_transformer_trains(tiny_transformers, tmp_path):
    examples = make_examples(spacy.blank("en"))
    DocBin(docs=[eg.reference for eg in examples]).to_disk(tmp_path / "train.spacy")
    corpus, folder = str(tmp_path / "train.spacy"), str(tiny_transformers["bert"])
    text = make_config(PRESETS["transformer_crf"].cell, transformer=folder, train=corpus, dev=corpus)
    config = load_config_from_str(text)
    config["training"].update({"max_steps": 150, "eval_frequency": 75})
    config["rates"].update({"transformer": 0.005, "head": 0.005, "warmup_steps": 10})
    train(init_nlp(Config(config)), tmp_path)
    nlp = spacy.load(tmp_path / "model-best")
    assert nlp.meta["performance"]["ents_f"] > 0.9
    doc = nlp(Doc(nlp.vocab, words=[token.text for token in examples[0].reference]))
    assert entities(doc) and doc._.trf_data is None
