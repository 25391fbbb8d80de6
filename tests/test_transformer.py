"""The transformer: pieces to words, windows, one crossing for a batch, the stock component and its listeners."""

import gc
import json
import pickle
import re
import shutil
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import safetensors.torch
import spacy
import torch
from conftest import LISTENERS, MODELS, TRAIN, entities, make_examples, transformer_nlp
from families import make_family, reference
from hypothesis import given
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc
from spacy.tokens.underscore import Underscore
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import Adam
from transformers import AutoModel, AutoTokenizer

from spacy_ner_arch.annotation.head_input import HeadInput
from spacy_ner_arch.architectures.transformer import transformer_model, transformer_tok2vec
from spacy_ner_arch.bridge.storage import tensors_checksum
from spacy_ner_arch.bridge.windows import collate, cover
from spacy_ner_arch.nn.transformer import WordTransformer

ODD = ["Ana", "\x00", "\u200b", "ä" * 3, " ", "\ufffd", "你好", "end"]


def make_model(folder, **settings):
    model = transformer_model(str(folder), **{"window": 64, "overlap": 16, **settings})
    model.initialize()
    return model


def vectors_of(model, docs, is_train=False):
    batch, _ = model(docs, is_train)
    return [
        data.model_output.last_hidden_state[0] if len(doc) else None
        for doc, data in zip(docs, batch.doc_data, strict=True)
    ]


@pytest.mark.parametrize("pooling", ["mean", "first", "first_last"])
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_pooling(tiny_transformers, kind, pooling):
    vocab = spacy.blank("en").vocab
    docs = [Doc(vocab, words=text.split()) for text, _ in TRAIN]
    docs += [Doc(vocab), Doc(vocab, words=ODD, spaces=[True, False] * 4), Doc(vocab, words=["\x00"])]
    model = make_model(tiny_transformers[kind], pooling=pooling)
    for is_train in (False, True):
        model.shims[0].frozen = is_train  # without dropout
        for doc, vectors in zip(docs, vectors_of(model, docs, is_train), strict=True):
            if len(doc):
                assert vectors.shape == (len(doc), model.get_dim("nO"))
                np.testing.assert_allclose(vectors, reference(tiny_transformers[kind], doc, pooling), atol=2e-6)


def test_training_gives_the_same_without_dropout(tiny_transformers):
    docs = [eg.x for eg in make_examples(spacy.blank("en"))]
    model = make_model(
        tiny_transformers["bert"], transformer_config={"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    )
    for a, b in zip(vectors_of(model, docs, True), vectors_of(model, docs), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


def test_a_word_without_pieces_keeps_its_place(tiny_transformers):
    """It has a vector of zeros, and its neighbors have theirs."""
    vocab = spacy.blank("en").vocab
    model = make_model(tiny_transformers["bert"])
    plain, odd = Doc(vocab, words=["ana", "sang"]), Doc(vocab, words=["ana", "\x00", "sang"])
    with_odd, without = vectors_of(model, [odd])[0], vectors_of(model, [plain])[0]
    assert (with_odd[1] == 0).all()
    np.testing.assert_allclose(with_odd[[0, 2]], without, atol=2e-6)


def test_documents_of_another_vocabulary(tiny_transformers):
    """Same vectors as those of a document of the pipeline, alone and in a batch."""
    nlp = transformer_nlp(tiny_transformers["bert"])
    nlp.initialize(lambda: make_examples(nlp))
    words = ["zorblax", "left", "tarvik"]
    docs = [nlp.make_doc("anna left"), Doc(Vocab(), words=words)]
    model = nlp.get_pipe("transformer").model
    together, alone, own = model.predict(docs), model.predict(docs[1:]), model.predict([Doc(nlp.vocab, words=words)])
    rows = [batch.doc_data[-1].model_output.last_hidden_state[0] for batch in (together, alone, own)]
    assert np.allclose(rows[0], rows[1], atol=1e-5) and np.allclose(rows[0], rows[2], atol=1e-5)
    assert len(list(nlp.pipe([nlp.make_doc("anna left"), Doc(Vocab(), words=["quuxville"])]))) == 2


def test_long_documents_lose_nothing(tiny_transformers):
    """10,000 words, each with a vector; those in the middle of a window as if the window stood alone."""
    nlp = spacy.blank("en")
    words = [f"{'abcdefgh'[i % 8]}{'ijklm'[i % 5]}" for i in range(10_000)]
    doc, short = Doc(nlp.vocab, words=words), Doc(nlp.vocab, words=words[:5])
    model = make_model(tiny_transformers["bert"])
    long, alone = vectors_of(model, [doc, short])
    assert long.shape == (10_000, 32) and np.abs(long).sum(1).min() > 0
    np.testing.assert_allclose(alone, reference(tiny_transformers["bert"], short), atol=2e-6)
    windows = model.shims[1].windows([doc])
    assert max(len(pieces) for pieces in windows.pieces) <= 64
    assert (np.diff(windows.owners) >= 0).all() and len(windows.owners) == 10_000
    first = int(np.searchsorted(windows.owners, 1))
    assert windows.starts[first] > 4, "context before the first word that it gives a vector to"
    inside = Doc(nlp.vocab, words=words[first - 4 : first + 20])
    assert not np.allclose(reference(tiny_transformers["bert"], inside)[4], long[first], atol=1e-3)


def test_a_word_longer_than_the_window(tiny_transformers):
    doc = Doc(spacy.blank("en").vocab, words=["ana", "b" * 500, "sang"])
    vectors = vectors_of(make_model(tiny_transformers["bert"]), [doc])[0]
    assert np.abs(vectors).sum(1).min() > 0


@given(st.lists(st.tuples(st.integers(-2, 3), st.integers(0, 9)), max_size=60), st.integers(9, 30), st.integers(0, 8))
def test_windows_cover_every_word_once(words, room, overlap):
    """Words may share pieces, and there may be pieces between words."""
    starts, ends = [0], [0]
    for gap, count in words:
        starts.append(max(starts[-1], ends[-1] + gap))
        ends.append(max(ends[-1], starts[-1] + min(count, room)))
        starts[-1] = max(starts[-1], ends[-1] - room)
    starts, ends = np.array(starts[1:], dtype=int), np.array(ends[1:], dtype=int)
    total = int(max([0, *ends])) + 2
    windows = cover(starts, ends, total, room, overlap)
    assert [i for first, last, _, _ in windows for i in range(first, last)] == list(range(len(words)))
    for first, last, start, end in windows:
        assert 0 <= end - start <= room and end <= total
        assert (starts[first:last] >= start).all() and (ends[first:last] <= end).all()


def test_windows_of_like_length_are_read_together(tiny_transformers):
    """Short words are no reason for as much padding as the longest has pieces."""
    nlp = spacy.blank("en")
    docs = [Doc(nlp.vocab, words=["a" * n]) for n in (1, 50, 2, 1) * 20]
    pieces = make_model(tiny_transformers["bert"]).shims[1]
    order, batches = collate(pieces.windows(docs), 0, torch.device("cpu"))
    assert sorted(order.tolist()) == list(range(80)) and len(batches) > 1
    padding = sum(int((~batch.mask).sum()) for batch in batches)
    assert padding < 200 < sum(batch.mask.numel() for batch in batches)


# Tokenizers

TEXTS = [
    "Zoë Brandt said: \u201cI won't leave Tarvik!\u201d 北京很远,是吗?  It is 1,000 km\n\naway.",
    "don't",
    " \t ",
    "a</s>b <s> [SEP] <mask>",
    "\u0301x \u200d \u00bd \ufb01n 🙂🙂 İstanbul",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder of a tiny transformer of a family."""
    made = {}

    def get(kind):
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            make_family(kind, made[kind])
        return made[kind]

    return get


def edited(folder, tmp_path, name, change):
    """Copy of a folder with a changed JSON file."""
    shutil.copytree(folder, tmp_path / "edited")
    content = json.loads((tmp_path / "edited" / name).read_text())
    (tmp_path / "edited" / name).write_text(json.dumps(change(content) or content))
    return tmp_path / "edited"


@pytest.mark.parametrize("pooling", ["mean", "first", "first_last"])
@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "xlnet", "modernbert"])
def test_a_word_has_the_pieces_that_overlap_it(folder, kind, pooling):
    """Word pieces, bytes, SentencePiece, special tokens behind the text with a type of their own, BPE."""
    nlp = spacy.blank("en")
    docs = [nlp(text) for text in TEXTS]
    model = make_model(folder(kind), pooling=pooling)
    for doc, vectors in zip(docs, vectors_of(model, docs), strict=True):
        np.testing.assert_allclose(vectors, reference(folder(kind), doc, pooling), atol=2e-6)


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "t5", "xlnet"])
def test_a_text_is_read_as_its_tokenizer_reads_it(folder, kind):
    """Not word by word: SentencePiece would read each comma as a space and a comma, and Chinese twice."""
    tokenizer = AutoTokenizer.from_pretrained(folder(kind))
    model = make_model(folder(kind), window=256)
    nlp = spacy.blank("en")
    docs = [nlp(text) for text in TEXTS]
    for doc, pieces in zip(docs, model.shims[1].windows(docs).pieces, strict=True):
        assert pieces.tolist() == tokenizer(doc.text, split_special_tokens=True)["input_ids"]


def test_every_word_of_a_long_text_has_its_own_pieces(folder):
    """Also where windows meet, with a tokenizer that joins spaces to words."""
    nlp = spacy.blank("en")
    doc = nlp("Zoë won't leave Tarvik, 北京 is far (1,000 km). " * 800)
    assert len(doc) > 10_000
    pieces = make_model(folder("xlm-roberta")).shims[1]
    windows = pieces.windows([doc])
    assert len(windows.owners) == len(doc) and max(map(len, windows.pieces)) <= 64
    pieces.window = 10**6
    whole = pieces.windows([doc])
    assert len(whole.pieces) == 1 and len(windows.pieces) > 200
    for i in range(len(doc)):
        own = windows.pieces[windows.owners[i]][windows.starts[i] : windows.ends[i]]
        assert len(own) and own.tolist() == whole.pieces[0][whole.starts[i] : whole.ends[i]].tolist()


def test_pieces_of_a_tokenizer_without_common_letters(tiny_transformers, tmp_path):
    """Special tokens stand around the text although the tokenizer does not know the letter a."""

    def without_letters(content):
        del content["model"]["vocab"]
        content["model"] |= {"vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "7": 5, "##7": 6}}
        content["normalizer"] = {"type": "Replace", "pattern": {"Regex": "[a-z]"}, "content": ""}

    model = make_model(edited(tiny_transformers["bert"], tmp_path, "tokenizer.json", without_letters))
    windows = model.shims[1].windows([Doc(spacy.blank("en").vocab, words=["a", "77"])])
    assert windows.pieces[0].tolist() == [2, 5, 6, 3]
    assert (windows.starts[1], windows.ends[1]) == (1, 3) and windows.starts[0] == windows.ends[0]


def test_a_slow_tokenizer_reads_words(tiny_transformers, tmp_path):
    slow = {"tokenizer_config": {"use_fast": False}}
    model = make_model(tiny_transformers["bert"], **slow)
    fast = make_model(tiny_transformers["bert"])
    docs = [*texts(spacy.blank("en")), spacy.blank("en")("ana  won't\n sing")]
    loaded = transformer_model("nowhere", window=64, overlap=16, **slow).from_bytes(model.to_bytes())
    for ours, again, reference_vectors in zip(
        vectors_of(model, docs), vectors_of(loaded, docs), vectors_of(fast, docs[:5]), strict=False
    ):
        np.testing.assert_allclose(ours, reference_vectors, atol=2e-6)
        np.testing.assert_array_equal(ours, again)
    own = model.shims[1].windows(docs[5:])
    words = [own.pieces[0][start:end].tolist() for start, end in zip(own.starts, own.ends, strict=True)]
    tokenizer = model.shims[1].tokenizer
    assert words == [tokenizer.encode(token.text, add_special_tokens=False) for token in docs[5]]


@pytest.mark.parametrize("listener", ["ours", "stock"])
def test_a_transformer_that_is_frozen_before_it_is_initialized(tiny_transformers, listener):
    nlp = transformer_nlp(tiny_transformers["bert"], listener=listener)
    message = r"sequence_ner listens to 'transformer', .*frozen_components.* frozen = true in \[components.transformer"
    with nlp.select_pipes(disable=["transformer"]), pytest.raises(ValueError, match=message):
        nlp.initialize(lambda: make_examples(nlp))


def test_nothing_is_said_of_long_texts_and_nothing_is_kept(tiny_transformers, caplog):
    """Texts are cut into windows, so a warning of indexing errors would be wrong. Words are not cached."""
    doc = Doc(spacy.blank("en").vocab, words=["ana", "sang"] * 1000)
    for use_fast in (True, False):
        model = make_model(tiny_transformers["bert"], tokenizer_config={"use_fast": use_fast, "model_max_length": 50})
        before = pickle.dumps(model.shims[1])
        with caplog.at_level("WARNING", logger="transformers"):
            vectors_of(model, [doc])
        assert not caplog.records and pickle.dumps(model.shims[1]) == before


# Families


@pytest.mark.parametrize("kind", ["bart", "t5", "umt5", "mbart", "longt5", "byt5"])
def test_the_encoder_of_a_model_with_a_decoder(folder, kind):
    """Only the encoder is kept, and it gives what it gives in the whole model."""
    nlp = spacy.blank("en")
    docs = [nlp(text) for text in TEXTS]
    model = make_model(folder(kind), window=256)
    names = list(model.shims[0].module.state_dict())
    assert not [name for name in names if "decoder" in name or "shared" in name or "lm_head" in name]
    loaded = transformer_model("nowhere", window=256).from_bytes(model.to_bytes())
    for doc, vectors, again in zip(docs, vectors_of(model, docs), vectors_of(loaded, docs), strict=True):
        np.testing.assert_array_equal(vectors, again)
        if kind != "byt5":  # without offsets there is no reference
            np.testing.assert_allclose(vectors, reference(folder(kind), doc), atol=2e-6)


@pytest.mark.parametrize("kind", ["albert", "deberta", "layoutlm", "mpnet", "squeezebert", "xlm-roberta"])
def test_no_pooler(folder, kind):
    """Some families cannot run without their pooler; its weights are not kept all the same."""
    model = make_model(folder(kind))
    assert not [name for name in model.shims[0].module.state_dict() if "pooler" in name]
    doc = spacy.blank("en")(TEXTS[0])
    np.testing.assert_allclose(vectors_of(model, [doc])[0], reference(folder(kind), doc), atol=2e-6)


@pytest.mark.parametrize("kind", ["fnet", "convbert", "funnel", "yoso"])
def test_families_whose_vectors_depend_on_the_batch_are_refused(folder, kind):
    with pytest.raises(ValueError, match=f"vectors of a text depend on the other texts of its batch.*{kind} does not"):
        make_model(folder(kind))


@pytest.mark.parametrize("dtype", ["bfloat16", "auto"])
def test_a_family_that_runs_in_float32_alone(folder, dtype):
    with pytest.raises(ValueError, match=f'deberta does not run with dtype = "{dtype}" .*; set dtype = "float32"'):
        make_model(folder("deberta"), dtype=dtype)


def test_a_family_with_vectors_of_another_width_is_refused(folder):
    with pytest.raises(ValueError, match="does not give one vector for each word piece"):
        make_model(folder("reformer"))


def test_a_family_that_needs_a_kernel_is_refused_without_it(folder):
    """MRA returns zeros for all attention on a CPU."""
    with pytest.raises(ValueError, match="do not depend on the words around them, as mra does not work on this"):
        make_model(folder("mra"))


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_windows_that_are_shorter_than_the_text_of_the_check(tiny_transformers, kind):
    """Words in other windows than those that were exchanged have the same vectors, which was taken for a fault."""
    for window in range(4, 17):
        model = make_model(tiny_transformers[kind], window=window, overlap=0)
        assert len(vectors_of(model, [Doc(spacy.blank("en").vocab, words=["ana", "sang"] * 20)])[0]) == 40


def test_more_pieces_than_embeddings(tiny_transformers):
    extra = {"tokenizer_config": {"additional_special_tokens": ["<e1>", "<e2>"]}}
    with pytest.raises(ValueError, match="its tokenizer has 61 pieces, but there are embeddings for 59 only"):
        make_model(tiny_transformers["bert"], **extra)


def test_training_after_prediction(folder):
    """Some families keep tensors of a prediction for later, which must not belong to inference_mode."""
    for kind in ("roformer", "xlnet", "modernbert", "longformer"):
        model = make_model(folder(kind))
        docs = texts(spacy.blank("en"))
        vectors_of(model, docs)
        _, backprop = model.begin_update(docs)
        backprop(torch.ones(sum(map(len, docs)), model.get_dim("nO")))
        model.finish_update(Adam(0.001))
        assert not any(parameter.is_inference() for parameter in model.shims[0].module.buffers())


# Settings and other versions


@pytest.mark.parametrize("setting", ["output_attentions", "output_hidden_states", "return_dict", "torch_dtype"])
def test_settings_without_effect_are_refused(setting):
    with pytest.raises(ValueError, match=f"transformer_config has {setting}, which has no effect"):
        transformer_model("x", transformer_config={setting: True})


@pytest.mark.parametrize("block", ["tokenizer_config", "transformer_config"])
@pytest.mark.parametrize("setting", ["trust_remote_code", "weights_only", "code_revision"])
def test_settings_that_run_code_are_refused(block, setting):
    with pytest.raises(ValueError, match=f"{block} has {setting}; a model that needs code of its own"):
        transformer_model("x", **{block: {setting: True}})


def test_attention_from_the_hub_is_refused(tiny_transformers, tmp_path):
    with pytest.raises(ValueError, match="attn_implementation = 'someone/kernels:attention'; choose from eager"):
        transformer_model("x", transformer_config={"attn_implementation": "someone/kernels:attention"})
    crafted = edited(
        tiny_transformers["bert"], tmp_path, "config.json", lambda c: c | {"_attn_implementation": "someone/kernels:x"}
    )
    with pytest.raises(ValueError, match="its config.json cannot be read.*someone/kernels:x"):
        make_model(crafted)


def rewritten(model, change_config=None, change_weights=None):
    """What a pipeline of another version could have stored."""
    shim = model.shims[0]
    config, weights = dict(shim.cfg["config"]), dict(shim.module.state_dict())
    for change, content in ((change_config, config), (change_weights, weights)):
        if change is not None:
            change(content)
    stored = {"config": config}
    stored["checksum"] = tensors_checksum(stored, weights)
    return safetensors.torch.save(weights, {"hyperparameters": json.dumps(stored)})


def test_the_whole_config_is_stored(folder):
    """Also what the family's config does not declare, and what happens to be the default of this version."""
    config = make_model(folder("deberta-v2")).shims[0].cfg["config"]
    assert config["share_att_key"] is True and config["norm_rel_ebd"] == "layer_norm"
    assert config["layer_norm_eps"] == 1e-7 and config["hidden_act"] == "gelu"
    assert not {"_name_or_path", "transformers_version", "torch_dtype"} & set(config)


def test_pipelines_of_another_version_of_transformers(folder):
    model = make_model(folder("roberta"))
    docs = [spacy.blank("en")(text) for text in TEXTS]
    buffer = "transformer.embeddings.position_ids"
    for change_config, change_weights in [
        (lambda c: c.update(from_the_future=[1]), None),
        (lambda c: c.pop("use_cache"), None),
        (None, lambda w: w.update({buffer: torch.arange(400)[None]})),
    ]:
        loaded = transformer_model("nowhere", window=64, overlap=16).from_bytes(model.to_bytes())
        loaded.shims[0].from_bytes(rewritten(model, change_config, change_weights))
        for a, b in zip(vectors_of(model, docs), vectors_of(loaded, docs), strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.warns(UserWarning, match=r"not allow are ignored: \['use_return_dict'\]"):
        loaded.shims[0].from_bytes(rewritten(model, lambda c: c.update(use_return_dict=False)))


def test_missing_and_unknown_weights_are_errors(folder):
    model = make_model(folder("roberta"))
    name = "transformer.encoder.layer.1.output.dense.weight"
    for change in (lambda w: w.pop(name), lambda w: w.update({"transformer.extra.weight": torch.ones(2)})):
        with pytest.raises(ValueError, match="the weights are not those of this model: .*(output.dense|extra).weight"):
            model.shims[0].from_bytes(rewritten(model, None, change))


def test_a_checkpoint_without_some_weights_is_refused(tiny_transformers, tmp_path):
    """Hugging Face would take random numbers for them."""
    shutil.copytree(tiny_transformers["bert"], tmp_path / "some")
    weights = safetensors.torch.load_file(tmp_path / "some" / "model.safetensors")
    del weights["encoder.layer.0.output.dense.weight"]
    safetensors.torch.save_file(weights, tmp_path / "some" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="no weights for encoder.layer.0.output.dense.weight"):
        make_model(tmp_path / "some")


# With components of spaCy


def add_tagger(nlp, listener):
    """Add spaCy's tagger over a listener. Returns examples for it and for the entities."""
    model = {"@architectures": "spacy.Tagger.v2", "nO": None, "normalize": False, "tok2vec": LISTENERS[listener]}
    nlp.add_pipe("tagger", config={"model": model}, before="vector_cleaner")
    examples = make_examples(nlp)
    for eg in examples:
        for token in eg.reference:
            token.tag_ = "A" if token.is_title else "B"
    return examples


def test_components_of_spacy_listen_too(tiny_transformers):
    nlp = transformer_nlp(tiny_transformers["bert"], "ours", dropout=0.0)
    examples = add_tagger(nlp, "ours")
    with pytest.warns(UserWarning, match="set loss_weight = 1000") as caught:
        optimizer = nlp.initialize(lambda: examples)
    assert len(caught) == 1  # none about missing vectors: spaCy runs the model once, before any transformer
    nlp.update(examples, sgd=optimizer)
    assert nlp.get_pipe("transformer").listening_components == ["sequence_ner", "tagger"]
    assert nlp(texts(nlp)[0])[0].tag_ in ("A", "B")


@pytest.mark.parametrize("window, overlap", [(2, 0), (1, 0), (64, 62), (64, -1)])
def test_a_window_without_room(tiny_transformers, window, overlap):
    with pytest.raises(ValueError, match=f"overlap = {overlap} and window = {window}"):
        make_model(tiny_transformers["bert"], window=window, overlap=overlap)


def test_nothing_holds_a_batch(tiny_transformers):
    """Memory of a batch is free when the last document lets go of it, not when the garbage collector comes by."""
    model = make_model(tiny_transformers["bert"])
    batch, _ = model(texts(spacy.blank("en")), False)
    gone = weakref.ref(batch)
    del batch
    assert gone() is None


def test_a_document_owns_its_vectors(tiny_transformers):
    """A document that is kept does not keep the vectors of its batch."""
    model = make_model(tiny_transformers["bert"])
    for vectors in vectors_of(model, texts(spacy.blank("en"))):
        owner = vectors
        while owner.base is not None:
            owner = owner.base
        assert owner.size == vectors.size


def test_bad_window_is_refused(tiny_transformers):
    with pytest.raises(ValueError, match="window = 1000, but it takes at most 128 word pieces"):
        make_model(tiny_transformers["roberta"], window=1000)
    with pytest.raises(
        ValueError, match=r"^spacy_ner_arch.TransformerModel.v1: unknown pooling 'last'; choose from mean"
    ):
        transformer_model("x", pooling="last")


@pytest.mark.parametrize(
    "missing, message",
    [
        ("model.safetensors", "model: its weights cannot be read; it contains config.json"),
        ("config.json", "model: its config.json cannot be read"),
        ("vocab.txt tokenizer.json", "model: its tokenizer cannot be read"),
    ],
)
def test_incomplete_folder(tiny_transformers, tmp_path, missing, message):
    for path in tiny_transformers["bert"].iterdir():
        if path.name not in missing.split():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match=message) as caught:
        make_model(tmp_path)
    assert len(str(caught.value)) < 900 and "\n" not in str(caught.value)


def test_unknown_name(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    message = "'no-such-model': it is not a folder, and cannot be loaded from the Hugging Face hub"
    with pytest.raises(ValueError, match=message):
        make_model("no-such-model")
    with pytest.raises(ValueError, match="there is no such folder"):
        make_model("/no/such/folder")
    with pytest.raises(ValueError, match="transformer '': it has no name"):
        make_model("")
    with pytest.raises(ValueError, match="it is a file, not the folder"):
        make_model(__file__)


@pytest.mark.parametrize("settings", [{"hidden_dropout": 0.3}, {"hidden_dropout_prob": 3}])
def test_settings_that_the_transformer_does_not_take(tiny_transformers, settings):
    message = re.escape(
        f"its weights cannot be read with transformer_config = {settings}; the folder contains config.json"
    )
    with pytest.raises(ValueError, match=f"{message}.*Correct transformer_config"):
        make_model(tiny_transformers["bert"], transformer_config=settings)


def test_weights_are_the_pretrained_ones(tiny_transformers):
    model = make_model(tiny_transformers["bert"])
    pretrained = AutoModel.from_pretrained(tiny_transformers["bert"]).state_dict()
    own = model.shims[0].module.transformer.state_dict()
    assert own and all((pretrained[name] == weight).all() for name, weight in own.items())
    assert not [name for name in own if name.startswith("pooler")]


# With the component


def texts(nlp):
    return [Doc(nlp.vocab, words=text.split()) for text, _ in TRAIN]


def losses_and_gradient(nlp, examples, parts=1):
    """Gradients of the transformer after an update cut into so many parts."""
    losses: dict = {}
    for i in range(parts):
        nlp.update(examples[i::parts], sgd=False, losses=losses, drop=0.0)
    module = nlp.get_pipe("transformer").model.shims[0].module
    return losses, {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def test_gradients_do_not_hang_on_the_listener_or_the_sub_batches(tiny_transformers):
    """Ours or that of spacy-transformers; whole batches or four parts; an empty document among them."""
    results = []
    for listener in ("ours", "stock"):
        torch.manual_seed(0)
        nlp = transformer_nlp(tiny_transformers["bert"], listener, dropout=0.0)
        nlp.initialize(lambda nlp=nlp: make_examples(nlp))
        for parts in (1, 4):
            results.append(
                losses_and_gradient(nlp, [*make_examples(nlp), Example(Doc(nlp.vocab), Doc(nlp.vocab))], parts)
            )
            nlp.get_pipe("transformer").model.shims[0].module.zero_grad()
    (losses, reference), *others = results
    assert len(reference) > 10 and sum(g.abs().sum() for g in reference.values()) > 0
    for other_losses, gradients in others:
        assert other_losses["sequence_ner"] == pytest.approx(losses["sequence_ner"], rel=1e-4)
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, reference[name], atol=1e-7, rtol=1e-3)


@pytest.mark.parametrize("listeners", [("ours", "stock"), ("stock", "ours"), ("ours", "ours")])
def test_two_components_share_one_transformer(tiny_transformers, listeners):
    """The gradient that reaches it is the sum of theirs."""
    nlp = transformer_nlp(tiny_transformers["bert"], listeners[0], dropout=0.0)
    model = {**nlp.config["components"]["sequence_ner"]["model"], "tok2vec": LISTENERS[listeners[1]]}
    nlp.add_pipe("sequence_ner", name="second", config={"model": model}, before="vector_cleaner")
    nlp.initialize(lambda: make_examples(nlp))

    def gradient(silent=None):
        kept = None
        if silent:
            weight = nlp.get_pipe(silent).model.shims[0].module.output.weight
            kept = weight.detach().clone()
            torch.nn.init.zeros_(weight)  # nothing passes it backwards
        _, gradients = losses_and_gradient(nlp, make_examples(nlp))
        nlp.get_pipe("transformer").model.shims[0].module.zero_grad()
        if kept is not None:
            weight.data.copy_(kept)
        return gradients["transformer.encoder.layer.0.attention.self.query.weight"]

    both, first, second = gradient(), gradient("second"), gradient("sequence_ner")
    assert first.abs().sum() > 0 and second.abs().sum() > 0
    torch.testing.assert_close(both, first + second, atol=1e-7, rtol=1e-3)


def test_trains_stores_and_loads(tiny_transformers, tmp_path):
    nlp = transformer_nlp(tiny_transformers["roberta"], "ours")
    examples = make_examples(nlp)
    optimizer = nlp.initialize(lambda: examples)
    optimizer.learn_rate = 0.005
    for _ in range(80):
        nlp.update(make_examples(nlp), sgd=False, drop=0.0)
        for _, pipe in nlp.pipeline:
            if hasattr(pipe, "finish_update"):
                pipe.finish_update(optimizer)
    assert [entities(doc) for doc in nlp.pipe(texts(nlp))] == [spans for _, spans in TRAIN]
    nlp.to_disk(tmp_path)
    # Neither the folder of the transformer nor its name is needed any more.
    loaded = spacy.load(tmp_path, config={"components.transformer.model.name": "/nowhere"})
    docs = list(loaded.pipe(texts(loaded)))
    assert [entities(doc) for doc in docs] == [spans for _, spans in TRAIN]
    assert all(doc._.trf_data is None for doc in docs)
    # The number format can be changed at load (docs/serving.md).
    half = spacy.load(tmp_path, config={"components.transformer.model.dtype": "bfloat16"})
    dtypes = [s.dtype for node in half.get_pipe("transformer").model.walk() for s in node.shims if hasattr(s, "dtype")]
    assert dtypes == ["bfloat16"]
    assert [entities(doc) for doc in half.pipe(texts(half))] == [spans for _, spans in TRAIN]
    alone = [loaded(doc) for doc in texts(loaded)]
    assert [entities(doc) for doc in alone] == [spans for _, spans in TRAIN]
    with pytest.raises(ValueError, match="can only replace spacy_ner_arch.TransformerListener.v1 and spacy-transf"):
        nlp.get_pipe("transformer").model.attrs["replace_listener_cfg"]({}, {"@architectures": "another.v1"})
    loaded.replace_listeners("transformer", "sequence_ner", ["model.tok2vec"])
    loaded.remove_pipe("transformer")
    assert [entities(doc) for doc in loaded.pipe(texts(loaded))] == [spans for _, spans in TRAIN]
    loaded.to_disk(tmp_path / "replaced")
    replaced = spacy.load(tmp_path / "replaced")
    assert [entities(doc) for doc in replaced.pipe(texts(replaced))] == [spans for _, spans in TRAIN]


@pytest.mark.parametrize("component", ["sequence_ner", "tagger"])
def test_a_listener_of_spacy_transformers_is_replaced(tiny_transformers, tmp_path, component):
    """In our component and in spaCy's; the result predicts the same, trains, and is stored."""
    nlp = transformer_nlp(tiny_transformers["bert"], "stock", dropout=0.0)
    examples = add_tagger(nlp, "stock")
    optimizer = nlp.initialize(lambda: examples)
    nlp.update(examples, sgd=optimizer)
    pipe = nlp.get_pipe(component)

    def prediction(nlp):
        docs = texts(nlp)
        if "transformer" in nlp.pipe_names:
            docs = [nlp.get_pipe("transformer")(doc) for doc in docs]
        return nlp.get_pipe(component).model.predict(HeadInput(docs) if component == "sequence_ner" else docs)

    expected = prediction(nlp)
    nlp.replace_listeners("transformer", component, ["model.tok2vec"])
    nlp.to_disk(tmp_path)
    loaded = spacy.load(tmp_path, exclude=[name for name in nlp.pipe_names if name != component])
    for pipeline in (nlp, loaded):
        for a, b in zip(prediction(pipeline), expected, strict=True):
            np.testing.assert_allclose(np.asarray(a[0]), np.asarray(b[0]), atol=1e-6)
    before = loaded.get_pipe(component).model.to_bytes()
    loaded.update(examples, sgd=optimizer)
    (module,) = [s for node in loaded.get_pipe(component).model.walk() for s in node.shims if hasattr(s, "windows")]
    assert loaded.get_pipe(component).model.to_bytes() != before and module.window == 64
    assert pipe.model.to_bytes() == before


def test_an_error_of_loading_names_the_transformer(tiny_transformers, tmp_path):
    nlp = spacy.blank("en")
    nlp.add_pipe("transformer", config={"model": {**MODELS["ours"], "name": str(tiny_transformers["bert"])}})
    nlp.initialize(lambda: make_examples(nlp))
    nlp.to_disk(tmp_path)
    stored = nlp.get_pipe("transformer").to_bytes()
    file = tmp_path / "transformer" / "model"
    message = "^spacy_ner_arch.TransformerModel.v1: the stored model of a component with this architecture is damaged"
    for damaged in (file.read_bytes()[:-9], file.read_bytes()[:100], b"", b"\xff" * 50):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=message):
            spacy.load(tmp_path)
        assert gc.isenabled()
    with pytest.raises(ValueError, match=message):
        nlp.get_pipe("transformer").from_bytes(stored.replace(b"[SEP]", b"[SAP]"))


@pytest.mark.parametrize(
    "name, setting, value",
    [
        ("transformer_config", "transformer_config.hidden_dropout_prob", False),
        ("tokenizer_config", "tokenizer_config.do_lower_case", False),
        ("pooling", "pooling", "first"),
        ("pooling", "pooling", "first_last"),
    ],
)
def test_settings_of_a_transformer_that_cannot_change_after_training(tiny_transformers, tmp_path, name, setting, value):
    """The stored ones replaced those for Hugging Face; another pooling was used with weights that do not fit it."""
    nlp = transformer_nlp(tiny_transformers["bert"], tokenizer_config={"do_lower_case": True})
    nlp.initialize(lambda: make_examples(nlp))
    nlp.to_disk(tmp_path)
    spacy.load(tmp_path)
    with pytest.raises(
        ValueError, match=f"^spacy_ner_arch.TransformerModel.v1: {name} cannot be changed after training: it was "
    ):
        spacy.load(tmp_path, config={f"components.transformer.model.{setting}": value})


def test_the_transformer_must_have_run(tiny_transformers):
    nlp = transformer_nlp(tiny_transformers["bert"], "ours")
    nlp.initialize(lambda: make_examples(nlp))
    with pytest.raises(ValueError, match="sequence_ner listens to the component 'transformer'"):
        nlp.get_pipe("sequence_ner")(texts(nlp)[0])
    with pytest.raises(ValueError, match="has no vectors of 'transformer': put this component into"):
        nlp.get_pipe("sequence_ner").update(make_examples(nlp))


def test_prediction_without_the_transformer_is_an_error(tiny_transformers, monkeypatch):
    """Also in a process where nothing has loaded spacy-transformers, so that documents cannot have its vectors."""
    nlp = transformer_nlp(tiny_transformers["bert"])
    nlp.initialize(lambda: make_examples(nlp))
    nlp.remove_pipe("transformer")
    assert nlp("").text == ""
    for has_extension in (True, False):
        if not has_extension:
            monkeypatch.setattr(Underscore, "doc_extensions", {})
        with pytest.raises(
            ValueError,
            match="sequence_ner listens to the component 'transformer', .* Keep 'transformer' .* pass each Doc",
        ):
            nlp("Anna left")


def test_our_listener_refuses_another_model(tiny_transformers):
    nlp = transformer_nlp(tiny_transformers["bert"], "ours", model="stock")
    nlp.initialize(lambda: make_examples(nlp))
    for annotates in ([], ["transformer"]):
        with pytest.raises(ValueError, match="use spacy-transformers.TransformerListener.v1"):
            nlp.update(make_examples(nlp), exclude=annotates, annotates=annotates)
    with pytest.raises(ValueError, match="use spacy-transformers.TransformerListener.v1"):
        nlp("Anna left")


def test_our_listener_refuses_vectors_of_other_documents(tiny_transformers):
    nlp = transformer_nlp(tiny_transformers["bert"], "ours")
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    nlp.get_pipe("transformer").update(examples)
    text, spans = TRAIN[1]
    same_lengths = [*examples[:1], *make_examples(nlp, [(text.replace("quiet", "loud"), spans)]), *examples[2:]]
    for others in (examples[::-1], same_lengths):
        with pytest.raises(ValueError, match="has passed on the vectors of other documents"):
            nlp.get_pipe("sequence_ner").update(others)
    nlp.get_pipe("sequence_ner").update(examples)


@Language.component("merge_first_two")
def merge_first_two(doc):
    with doc.retokenize() as retokenizer:
        retokenizer.merge(doc[:2])
    return doc


@pytest.mark.parametrize("listener, features", [("ours", False), ("ours", True), ("stock", False)])
def test_tokens_that_were_merged_behind_the_transformer(tiny_transformers, listener, features):
    """Their vectors would be taken for those of other tokens."""
    nlp = transformer_nlp(tiny_transformers["bert"], listener)
    if features:
        block = {**LISTENERS["ours"], "features": {"@architectures": "spacy_ner_arch.WordCharEmbed.v1"}}
        nlp.remove_pipe("sequence_ner")
        head = {"@architectures": "spacy_ner_arch.CRF.v1", "tok2vec": block}
        nlp.add_pipe("sequence_ner", after="transformer", config={"model": head})
    nlp.add_pipe("merge_first_two", after="transformer")
    examples = make_examples(nlp)
    optimizer = nlp.initialize(lambda: examples)
    with pytest.raises(ValueError, match="sequence_ner: .* read 6 tokens of 'Anna Brandt .*, which now has 5"):
        nlp(examples[0].text)
    with pytest.raises(ValueError, match="which now has"):
        nlp.update(examples, sgd=optimizer, exclude=["transformer"], annotates=["transformer", "merge_first_two"])
    nlp.replace_listeners("transformer", "sequence_ner", ["model.tok2vec"])
    assert len(nlp(examples[0].text)) == 5


def test_stock_model_under_our_head(tiny_transformers):
    nlp = transformer_nlp(tiny_transformers["bert"], "stock", model="stock")
    examples = make_examples(nlp)
    optimizer = nlp.initialize(lambda: examples)
    before = nlp.get_pipe("transformer").model.transformer.encoder.layer[0].output.dense.weight.detach().clone()
    nlp.update(make_examples(nlp), sgd=optimizer)
    nlp.update(make_examples(nlp), sgd=optimizer)
    after = nlp.get_pipe("transformer").model.transformer.encoder.layer[0].output.dense.weight
    assert not torch.equal(before, after)


def test_frozen_vectors_are_computed_once(tiny_transformers, monkeypatch):
    model = make_model(tiny_transformers["bert"], frozen=True)
    calls = []
    monkeypatch.setattr(
        WordTransformer,
        "forward",
        lambda self, order, batches, forward=WordTransformer.forward: (
            calls.append(sum(len(batch.ids) for batch in batches)) or forward(self, order, batches)
        ),
    )
    nlp = spacy.blank("en")
    first = vectors_of(model, texts(nlp) * 2, True)[: len(texts(nlp))]
    assert sum(calls) == 5, "copies, as of spacy_ner_arch.RDrop.v1"
    again = vectors_of(model, texts(nlp)[::-1], True)[::-1]
    assert sum(calls) == 5
    for a, b in zip(first, again, strict=True):
        assert (a == b).all()
    with_empty = vectors_of(model, [Doc(nlp.vocab), *texts(nlp)], True)
    assert sum(calls) == 5 and (with_empty[1] == first[0]).all()
    calls.clear()
    model.from_bytes(model.to_bytes())
    vectors_of(model, texts(nlp), True)
    assert sum(calls) == 5, "other weights"
    full = make_model(tiny_transformers["bert"], frozen=True, cache_mib=0)
    calls.clear()
    vectors_of(full, texts(nlp), True)
    vectors_of(full, texts(nlp), True)
    assert sum(calls) == 10


def test_averages_reach_the_transformer(tiny_transformers):
    model = make_model(tiny_transformers["bert"])
    docs = texts(spacy.blank("en"))
    optimizer = Adam(0.01, use_averages=True)
    for _ in range(3):
        batch, backprop = model.begin_update(docs)
        backprop(torch.ones(sum(map(len, docs)), 32))
        model.finish_update(optimizer)
    last = vectors_of(model, docs)
    with model.use_params(optimizer.averages):
        averaged = vectors_of(model, docs)
    assert not np.allclose(last[0], averaged[0], atol=1e-4)
    np.testing.assert_array_equal(vectors_of(model, docs)[0], last[0])


def test_half_precision(tiny_transformers):
    docs = texts(spacy.blank("en"))
    full, half = (make_model(tiny_transformers["bert"], dtype=dtype) for dtype in ("float32", "bfloat16"))
    a, b = vectors_of(full, docs)[0], vectors_of(half, docs)[0]
    assert b.dtype == np.float32 and not np.array_equal(a, b)
    np.testing.assert_allclose(a, b, atol=0.1)


def test_a_transformer_without_linear_layers_predicts_in_half_precision():
    """GPT-2 has convolutions in their place, so that nothing is converted."""
    module = WordTransformer({"model_type": "gpt2", "n_embd": 32, "n_layer": 1, "n_head": 2}, "mean").eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert module._convert() is module.transformer


def test_converted_weights_are_those_of_autocast(tiny_transformers, monkeypatch):
    """Prediction in bfloat16 keeps converted weights. They follow updates, averages and loading."""
    nlp = transformer_nlp(tiny_transformers["bert"])
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    optimizer = Adam(0.01, use_averages=True, L2_is_weight_decay=True)
    model = nlp.get_pipe("transformer").model
    model.shims[0].dtype = "bfloat16"
    docs, module = texts(nlp), model.shims[0].module

    def check():
        kept = vectors_of(model, docs)
        pairs = zip(module.transformer.modules(), module._converted.transformer.modules(), strict=True)
        for own, converted in pairs:
            for mine, other in zip(own.parameters(False), converted.parameters(False), strict=True):
                assert other.dtype == torch.bfloat16 if isinstance(own, torch.nn.Linear) else other is mine
        with monkeypatch.context() as patch:
            patch.setattr(WordTransformer, "_convert", lambda self: self.transformer)
            plain = vectors_of(model, docs)
        for a, b in zip(kept, plain, strict=True):
            np.testing.assert_array_equal(a, b)
        return kept[0]

    before = check()
    for _ in range(3):  # the output layer begins with zeros, through which no gradient passes
        nlp.update(examples, sgd=optimizer)
    trained = check()
    assert np.abs(trained - before).max() > 0
    stored = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with nlp.use_params(optimizer.averages):
        assert np.abs(check() - trained).max() > 0
    np.testing.assert_array_equal(check(), trained)
    nlp.update(examples, sgd=optimizer)
    vectors_of(model, docs)
    module.load_state_dict(stored)
    np.testing.assert_array_equal(check(), trained)


def test_threads_predict_at_the_same_time(tiny_transformers):
    """In bfloat16. The first one ends while the second one is within the transformer."""
    nlp = transformer_nlp(tiny_transformers["bert"], dtype="bfloat16")
    nlp.initialize(lambda: make_examples(nlp))
    module = nlp.get_pipe("transformer").model.shims[0].module
    weights = dict(module.named_parameters())
    is_inside, is_over = [threading.Event(), threading.Event()], threading.Event()
    numbers = iter(range(2))

    def wait(*args):
        number = next(numbers)
        is_inside[number].set()
        assert is_over.wait(60) if number else is_inside[1].wait(60)

    hook = module.transformer.encoder.layer[0].register_forward_pre_hook(wait)
    module.eval()  # forgets a copy without the hook
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(nlp, TRAIN[0][0])
        assert is_inside[0].wait(60)
        second = pool.submit(nlp, TRAIN[0][0])
        first.result()
        is_over.set()
        second.result()
    hook.remove()
    assert all(weights[name] is weight for name, weight in module.named_parameters())


def test_copies(tiny_transformers):
    docs = texts(spacy.blank("en"))
    model = transformer_tok2vec(make_model(tiny_transformers["bert"]))
    model.initialize(X=docs)
    for other in (model.copy(), pickle.loads(pickle.dumps(model))):
        for a, b in zip(model.predict(docs), other.predict(docs), strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_attention_that_was_asked_for_is_kept(tiny_transformers):
    docs = texts(spacy.blank("en"))
    settings = {"transformer_config": {"attn_implementation": "eager"}}
    model = make_model(tiny_transformers["bert"], **settings)
    loaded = transformer_model("nowhere", **settings).from_bytes(model.to_bytes())
    for shim in (model.shims[0], loaded.shims[0]):
        assert shim.module.transformer.config._attn_implementation == "eager"
    default = make_model(tiny_transformers["bert"])
    assert default.shims[0].module.transformer.config._attn_implementation != "eager"
    np.testing.assert_allclose(vectors_of(model, docs)[0], vectors_of(default, docs)[0], atol=2e-6)
    # The config of a trained pipeline may choose another one.
    for trained, chosen in ((default, settings), (model, {})):
        changed = transformer_model("nowhere", **{"window": 64, "overlap": 16, **chosen}).from_bytes(trained.to_bytes())
        attention = changed.shims[0].module.transformer.config._attn_implementation
        assert (attention == "eager") == bool(chosen)
    # On a machine that lacks it, another one with the same weights.
    with pytest.warns(UserWarning, match="'flash_attention_2' is not available"):
        WordTransformer(model.shims[0].cfg["config"], "mean", "flash_attention_2")


@pytest.mark.parametrize("model", ["ours", "stock"])
def test_empty_texts_alone_over_a_listener_of_spacy_transformers(model, tiny_transformers):
    nlp = transformer_nlp(tiny_transformers["bert"], "stock", model=model)
    nlp.initialize(lambda: make_examples(nlp))
    assert [len(doc) for doc in nlp.pipe(["", ""])] == [0, 0]
    assert [doc.text for doc in nlp.pipe(["Anna left.", "", "\n"], batch_size=1)] == ["Anna left.", "", "\n"]
    blank = nlp.make_doc("")
    blank.spans["sc"] = []
    assert nlp.evaluate([Example(blank.copy(), blank)])["ents_f"] is None


@pytest.mark.parametrize("model", ["ours", "stock"])
def test_documents_without_vectors_are_whole(tiny_transformers, model):
    """spaCy's doc_cleaner makes all these calls fail."""
    nlp = transformer_nlp(tiny_transformers["bert"], listener=model, model=model)
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    nlp = pickle.loads(pickle.dumps(nlp))
    doc, other = nlp.pipe([eg.x.text for eg in examples[:2]])
    assert doc._.trf_data is None
    assert len(doc[1:].as_doc()) == len(doc) - 1 and not doc[1:].as_doc(copy_user_data=True).has_vector
    assert not doc.has_vector and not doc[0].has_vector and doc[0].vector.shape == doc[:2].vector.shape == (0,)
    assert len(Doc.from_docs([doc, other])[2:].as_doc()) == len(doc) + len(other) - 2
