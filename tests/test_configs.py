"""Every shipped config: complete, and fit for all that spaCy does with a pipeline."""

import io
from fnmatch import fnmatch
from pathlib import Path

import pytest
import spacy
from conftest import TRAIN, entities, make_examples, relations, run_command, set_relations, set_trees
from spacy.cli.init_config import fill_config
from spacy.tokens import Doc, DocBin, Span
from spacy.training.initialize import init_nlp
from spacy.training.loop import train
from spacy.util import load_config, load_model_from_config, set_dot_to_object

from spacy_ner_arch.cli.cells import Cell, as_options
from spacy_ner_arch.cli.configs import make_config
from spacy_ner_arch.cli.presets import PRESETS, make_preset
from spacy_ner_arch.training.checks import useless_settings
from spacy_ner_arch.training.loggers import create_console_logger

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.cfg"))
# Settings of all configs that have them.
SMALL = {
    "components.*.tok2vec.word_width": 16,
    "components.*.unknown_rate": 0.0,
    "components.*.hidden_size": 12,
    "components.*.tok2vec.width": 24,
    "components.*.filters": 12,
    "components.*.depth": 1,
    "components.transformer.model.window": 64,
    "components.transformer.model.overlap": 16,
    "components.transformer.model.transformer_config": {"hidden_dropout_prob": 0.0},
    "training.optimizer.learn_rate": 0.01,
    "rates.head": 0.01,
    "rates.warmup_steps": 5,
    "training.before_update.stages.new_layers.steps": 20,
    "training.before_update.stages.all.steps": 80,
    "training.dropout": 0.1,
    "training.max_steps": 100,
    "training.eval_frequency": 50,
}
# All their torch modules are those of Syn-LSTMs, or of pair models with encoders of their own.
NOT_EXPORTED = {
    *("synlstm_crf", "synlstm_span", "relation_acnn", "relation_bilstm", "relation_bilstm_att", "relation_markers"),
}


def small_config(path, corpus, transformer, **settings):
    """A shipped config with small layers and few steps."""
    config = load_config(path, interpolate=False)
    paths = {"paths.train": str(corpus), "paths.dev": str(corpus), "paths.encoder": str(transformer)}
    for pattern, value in {**SMALL, **paths, **settings}.items():
        for key, old in list(leaves(config)):
            if fnmatch(key, pattern) and not (old is None and key != pattern):
                set_dot_to_object(config, key, value)
    return config


def leaves(section, prefix=""):
    for key, value in section.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@pytest.fixture(scope="module", name="corpus")
def make_corpus(tmp_path_factory):
    """Entities, the same entities as spans with others nested in them, relations and trees."""
    path = tmp_path_factory.mktemp("corpus") / "train.spacy"
    docs = gold_docs(spacy.blank("en"))
    for doc in docs:
        nested = [Span(doc, ent.end - 1, ent.end, "LAST") for ent in doc.ents if len(ent) > 1]
        doc.spans["sc"] = [*doc.ents, *nested]
    DocBin(docs=docs, store_user_data=True).to_disk(path)
    return path


def gold_docs(nlp):
    docs = [eg.reference for eg in make_examples(nlp)]
    set_relations(docs)
    set_trees(docs)
    return docs


def found(nlp, doc):
    """What the pipeline finds."""
    if "relation_extractor" in nlp.pipe_names:
        return entities(doc), sorted(relations(doc))
    return entities(doc) or [(s.start, s.end, s.label_) for s in doc.spans.get("sc", ()) if s.label_ != "LAST"]


def given(nlp):
    """Input documents: with entities only for a pipeline that finds relations between given entities."""
    docs = [Doc(nlp.vocab, words=text.split(" ")) for text, _ in TRAIN]
    if not {"sequence_ner", "span_ner", "nested_ner"} & set(nlp.pipe_names):
        for doc, (_, spans) in zip(docs, TRAIN, strict=True):
            doc.set_ents([Span(doc, *span) for span in spans])
    return docs


# Of each kind of model one, for the fast tests that train.
FEW = {
    "bilstm_crf",
    "transformer_crf",
    "span",
    "nested",
    "synlstm_crf",
    "joint_transe",
    "relation_softmax",
    "relation_acnn",
}


@pytest.fixture(scope="module", params=CONFIGS, ids=[path.stem for path in CONFIGS])
def config_path(request):
    return request.param


@pytest.fixture(scope="module")
def trained_folder(config_path, corpus, tiny_transformers, tmp_path_factory):
    """Train as `spacy train` does, until the pipeline overfits the corpus."""
    output = tmp_path_factory.mktemp(config_path.stem)
    train(init_nlp(small_config(config_path, corpus, tiny_transformers["bert"])), output)
    return output


def test_filling_changes_nothing(config_path, tmp_path):
    filled = tmp_path / "filled.cfg"
    fill_config(filled, config_path, silent=True)
    assert load_config(filled) == load_config(config_path)


def test_is_generated_from_the_template(config_path):
    """`make configs` writes the files."""
    assert config_path.read_text(encoding="utf8") == make_preset(config_path.stem)


def test_every_preset_is_shipped():
    assert {path.stem for path in CONFIGS} == set(PRESETS)


def test_default_paths_are_those_of_the_workflows(config_path):
    config = load_config(config_path)
    folder = "nested" if config_path.stem == "nested" else "sample"
    folder += "_relations" * config_path.stem.startswith(("relation", "joint"))
    assert config["paths"]["train"] == f"corpus/{folder}/train.spacy"
    assert config["paths"]["dev"] == f"corpus/{folder}/dev.spacy"
    assert {"encoder", "vectors"} <= set(config["paths"])


def test_the_last_step_is_scored(config_path):
    training = load_config(config_path)["training"]
    assert training["max_steps"] % training["eval_frequency"] == 0


WITH_RATES = [path for path in CONFIGS if "Transformer" in path.read_text(encoding="utf8")]
LEAF = "training.before_update.stages.all.groups.transformer.learn_rate.initial_rate"


@pytest.mark.parametrize("path", WITH_RATES, ids=lambda path: path.stem)
@pytest.mark.parametrize("name", ["rates.transformer", "training.optimizer.learn_rate"])
def test_short_names_of_rates_set_those_of_all_groups(path, name):
    rates = {name: 0.25, "rates.head": 0.5, "rates.warmup_steps": 7}
    training = load_config(path, overrides=rates, interpolate=True)["training"]
    for stage in training["before_update"]["stages"].values():
        for group_name, group in stage["groups"].items():
            schedule = group["learn_rate"]
            found = schedule["initial_rate"] if isinstance(schedule, dict) else schedule
            assert found == (0.25 if group_name == "transformer" else 0.5)
            assert not isinstance(schedule, dict) or schedule["warmup_steps"] == 7
    config = load_config(path, overrides={**rates, LEAF: 0.125}, interpolate=True)
    assert f"initial_rate = {0.125}" in config.to_str()


def test_updates_in_python_have_the_rate_of_the_config(config_path, tiny_transformers):
    """spaCy makes their optimizer from a block in which it does not fill in variables."""
    config = load_config(config_path, overrides={"paths.encoder": str(tiny_transformers["bert"])})
    rate = 0.00005 if config_path in WITH_RATES else 0.002
    nlp = load_model_from_config(config)
    assert nlp.create_optimizer().learn_rate == nlp.resume_training().learn_rate == rate


def test_the_rates_are_stored_and_shown(tiny_transformers):
    config = small_config(ROOT / "configs" / "joint.cfg", "none", tiny_transformers["bert"], **{"rates.head": 0.25})
    nlp = load_model_from_config(config)
    assert nlp.config["rates"]["head"] == 0.25 and "${rates.head}" in nlp.config.to_str()
    shown = io.StringIO()
    create_console_logger()(nlp, shown, shown)
    assert "transformer 0.01 (warmup_linear.v1), sequence_ner 0.25 (warmup_linear.v1)" in shown.getvalue()


def test_a_rate_that_nothing_refers_to():
    config = load_config(ROOT / "configs" / "transformer_crf.cfg", overrides={"rates.head": 0.5, "rates.warmup": 7})
    (message,) = useless_settings(config.interpolate(), config.to_str(), config["nlp"]["pipeline"])
    assert "[rates] warmup = 7 is not used" in message
    filled = config.interpolate()
    assert not list(useless_settings(filled, filled.to_str(), config["nlp"]["pipeline"]))


def test_a_rate_inside_another_section_of_the_rates():
    config = load_config(ROOT / "configs" / "transformer_crf.cfg")
    config["rates"]["slow"] = {"head": 0.5}
    config["training"]["dropout"] = "${rates.slow.head}"
    assert not list(useless_settings(config.interpolate(), config.to_str(), config["nlp"]["pipeline"]))


@pytest.mark.parametrize(
    "config_path",
    [pytest.param(path, marks=[pytest.mark.slow] * (path.stem not in FEW), id=path.stem) for path in CONFIGS],
    indirect=True,
)
def test_trained_pipeline(trained_folder):
    nlp = spacy.load(trained_folder / "model-best")
    scores = nlp.meta["performance"]
    # The scores by which the best model was chosen.
    chosen_by = [key for key, weight in nlp.config["training"]["score_weights"].items() if weight]
    assert {scores[key] for key in chosen_by} == {1.0}
    wanted = [found(nlp, doc) for doc in gold_docs(nlp)]
    assert [found(nlp, doc) for doc in nlp.pipe(given(nlp))] == wanted
    other = spacy.blank("en").from_config(nlp.config).from_bytes(nlp.to_bytes())
    assert [found(nlp, doc) for doc in other.pipe(given(nlp), n_process=2)] == wanted
    assert not any(found(nlp, nlp(""))) and len(nlp("Anna")) == 1
    for shared in {"transformer", "tok2vec"} & set(nlp.pipe_names):
        without = spacy.load(trained_folder / "model-best", exclude=[shared])
        with pytest.raises(ValueError, match=f"listens to the component '{shared}', .* Keep '{shared}' in the pipe"):
            without(given(without)[0])


def test_an_untrained_pipeline_finds_nothing(config_path, corpus, tiny_transformers):
    nlp = init_nlp(small_config(config_path, corpus, tiny_transformers["bert"]))
    given_entities = [entities(doc) for doc in given(nlp)]
    docs = list(nlp.pipe(given(nlp)))
    assert [entities(doc) for doc in docs] == given_entities
    assert not any(relations(doc) for doc in docs) and not any(doc.spans.get("sc") for doc in docs)


# Cells that no shipped config has. They pass through other branches of the template.
OTHER_CELLS = [
    Cell("words", "bilstm", "nested", "softmax"),
    Cell("words", "synlstm", "span", "bilstm", trees="gold"),
    Cell("transformer", "synlstm", "crf", "softmax"),
    Cell("transformer", "bilstm", "crf", "markers"),
]


@pytest.mark.slow
@pytest.mark.parametrize("cell", OTHER_CELLS, ids=as_options)
def test_other_cells_train(cell, corpus, tiny_transformers, tmp_path):
    (tmp_path / "made.cfg").write_text(make_config(cell), encoding="utf8")
    train(init_nlp(small_config(tmp_path / "made.cfg", corpus, tiny_transformers["bert"])), tmp_path)
    nlp = spacy.load(tmp_path / "model-best")
    chosen_by = [key for key, weight in nlp.config["training"]["score_weights"].items() if weight]
    assert {nlp.meta["performance"][key] for key in chosen_by} == {1.0}


def test_averages_are_what_is_stored(config_path, corpus, tiny_transformers, tmp_path):
    """The stored weights are the averages, not the weights of the last step."""
    settings = {"training.max_steps": 4, "training.eval_frequency": 2, "training.optimizer.use_averages": True}
    stages = {"training.before_update.stages.new_layers.steps": 2}
    config = small_config(config_path, corpus, tiny_transformers["bert"], **settings, **stages)
    nlp, _ = train(init_nlp(config), tmp_path)
    loaded = spacy.load(tmp_path / "model-last")
    for name in {"transformer", "sequence_ner", "span_ner", "nested_ner", "relation_extractor"} & set(nlp.pipe_names):
        shims = [next(shim for node in p.get_pipe(name).model.walk() for shim in node.shims) for p in (loaded, nlp)]
        stored, last = (shim.module.state_dict() for shim in shims)
        assert any(not stored[key].equal(last[key]) for key in stored), name


def test_a_loss_that_is_not_finite_stops_training_and_keeps_the_last_good_model(corpus, tmp_path):
    """`spacy train` with a rate that becomes huge after some good steps."""
    config = small_config(ROOT / "configs" / "bilstm_crf.cfg", corpus, None, **{"training.eval_frequency": 20})
    config["training"]["optimizer"]["learn_rate"] = [0.01] * 41 + [1e30] * 1000
    nlp = init_nlp(config)
    with pytest.raises(
        ValueError, match=r"sequence_ner: .*not finite|sequence_ner: the loss is (nan|inf) in update 4\d"
    ):
        train(nlp, tmp_path)
    best = spacy.load(tmp_path / "model-best")
    assert best.meta["performance"]["ents_f"] > 0.5
    assert all(p.isfinite().all() for p in best.get_pipe("sequence_ner").model.shims[0].module.parameters())


@pytest.mark.slow
def test_export_predicts_the_same(config_path, trained_folder, corpus, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    folder, exported = trained_folder / "model-best", tmp_path / "exported"
    is_refused = config_path.stem in NOT_EXPORTED
    output = run_command("export", folder, exported, "--check", corpus, code=int(is_refused))
    if is_refused:
        assert "there is no export of" in output
    else:
        blocks = load_config(exported / "config.cfg")["components"].values()
        assert "spacy_ner_arch.Onnx.v1" in [block["model"]["@architectures"] for block in blocks if "model" in block]
