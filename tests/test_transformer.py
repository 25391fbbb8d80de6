"""The transformer: pieces to words, windows, one crossing for a batch, the stock component and its listeners."""

import pickle
import weakref

import numpy as np
import pytest
import spacy
import torch
from conftest import LISTENERS, TRAIN, entities, make_examples, transformer_nlp
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc
from spacy.tokens.underscore import Underscore
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import Adam
from transformers import AutoModel

from spacy_ner_arch.architectures.transformer import transformer_model, transformer_tok2vec
from spacy_ner_arch.bridge.wordpieces import cover
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


def literal(model, doc, pooling="mean"):
    """Vectors of the words of a short document, from the tokenizer and the transformer as they come."""
    tokenizer, transformer = model.shims[1].tokenizer, model.shims[0].module.transformer.eval()
    pieces = [
        tokenizer.encode((" " if i and doc[i - 1].whitespace_ else "") + doc[i].text, add_special_tokens=False)
        for i in range(len(doc))
    ]
    ids = [tokenizer.cls_token_id, *(piece for word in pieces for piece in word), tokenizer.sep_token_id]
    with torch.no_grad():
        hidden = transformer(input_ids=torch.tensor([ids])).last_hidden_state[0]
    rows, at = [], 1
    for word in pieces:
        own = hidden[at : at + len(word)]
        at += len(word)
        none = hidden.new_zeros(hidden.shape[1])
        first, last, mean = (own[0], own[-1], own.mean(0)) if word else (none, none, none)
        rows.append({"mean": mean, "first": first, "first_last": torch.cat([first, last])}[pooling])
    return torch.stack(rows).numpy()


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
                np.testing.assert_allclose(vectors, literal(model, doc, pooling), atol=2e-6)


def test_training_gives_the_same_without_dropout(tiny_transformers):
    docs = [eg.x for eg in make_examples(spacy.blank("en"))]
    model = make_model(
        tiny_transformers["bert"], transformer_config={"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    )
    for a, b in zip(vectors_of(model, docs, True), vectors_of(model, docs), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


def test_a_word_without_pieces_keeps_its_place(tiny_transformers):
    """It has a vector of zeros, and its neighbours have theirs."""
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
    np.testing.assert_allclose(alone, literal(model, short), atol=2e-6)
    windows = model.shims[1].windows([doc], 64, 16)
    assert max(len(window.pieces) for window in windows) <= 64
    assert [w.first for w in windows] == list(np.cumsum([0, *(len(w.counts) for w in windows[:-1])]))
    second = windows[1]
    inside = Doc(nlp.vocab, words=words[second.first - 4 : second.first + 20])
    assert second.start > 4, "context before the first word that it gives a vector to"
    assert not np.allclose(literal(model, inside)[4], long[second.first], atol=1e-3)


def test_a_word_longer_than_the_window(tiny_transformers):
    doc = Doc(spacy.blank("en").vocab, words=["ana", "b" * 500, "sang"])
    vectors = vectors_of(make_model(tiny_transformers["bert"]), [doc])[0]
    assert np.abs(vectors).sum(1).min() > 0


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(9, 30), st.integers(0, 8))
def test_windows_cover_every_word_once(counts, room, overlap):
    windows = cover(counts, room, overlap)
    assert [i for first, last, _, _ in windows for i in range(first, last)] == list(range(len(counts)))
    for first, last, start, end in windows:
        assert start <= first <= last <= end
        assert sum(counts[start:end]) <= room


def test_windows_of_like_length_are_read_together(tiny_transformers):
    """Short words are no reason for as much padding as the longest has pieces."""
    nlp = spacy.blank("en")
    docs = [Doc(nlp.vocab, words=["a" * n]) for n in (1, 50, 2, 1) * 20]
    pieces = make_model(tiny_transformers["bert"]).shims[1]
    order, batches = pieces.collate(pieces.windows(docs, 64, 16), torch.device("cpu"))
    assert sorted(order.tolist()) == list(range(80)) and len(batches) > 1
    padding = sum(int((~batch.mask).sum()) for batch in batches)
    assert padding < 200 < sum(batch.mask.numel() for batch in batches)


def test_components_of_spacy_listen_too(tiny_transformers):
    nlp = transformer_nlp(tiny_transformers["bert"], "ours", dropout=0.0)
    tagger = {"@architectures": "spacy.Tagger.v2", "nO": None, "normalize": False, "tok2vec": LISTENERS["ours"]}
    nlp.add_pipe("tagger", config={"model": tagger}, before="doc_cleaner")
    examples = make_examples(nlp)
    for eg in examples:
        for token in eg.reference:
            token.tag_ = "A" if token.is_title else "B"
    with pytest.warns(UserWarning, match="zeros are taken"):  # spaCy runs the model once, before any transformer
        optimizer = nlp.initialize(lambda: examples)
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


def test_bad_window_is_refused(tiny_transformers):
    with pytest.raises(ValueError, match="window = 1000, but it takes at most 128 word pieces"):
        make_model(tiny_transformers["roberta"], window=1000)
    with pytest.raises(ValueError, match="unknown pooling 'last'; known are mean, first, first_last"):
        transformer_model("x", pooling="last")


@pytest.mark.parametrize(
    "missing, message",
    [
        ("model.safetensors", "is not a complete Hugging Face model; it contains .*config.json"),
        ("config.json", "is not a complete Hugging Face model"),
        ("vocab.txt tokenizer.json", "is not a complete Hugging Face model"),
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
    message = "'no-such-model': it is not a folder, and the Hugging Face hub did not give it"
    with pytest.raises(ValueError, match=message):
        make_model("no-such-model")
    with pytest.raises(ValueError, match="there is no such folder"):
        make_model("/no/such/folder")


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
    nlp.add_pipe("sequence_ner", name="second", config={"model": model}, before="doc_cleaner")
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
    alone = [loaded(doc) for doc in texts(loaded)]
    assert [entities(doc) for doc in alone] == [spans for _, spans in TRAIN]
    with pytest.raises(ValueError, match="can only replace spacy_ner_arch.TransformerListener.v1"):
        nlp.get_pipe("transformer").model.attrs["replace_listener_cfg"]({}, LISTENERS["stock"])
    loaded.replace_listeners("transformer", "sequence_ner", ["model.tok2vec"])
    loaded.remove_pipe("transformer")
    assert [entities(doc) for doc in loaded.pipe(texts(loaded))] == [spans for _, spans in TRAIN]
    loaded.to_disk(tmp_path / "replaced")
    replaced = spacy.load(tmp_path / "replaced")
    assert [entities(doc) for doc in replaced.pipe(texts(replaced))] == [spans for _, spans in TRAIN]


def test_the_transformer_must_have_run(tiny_transformers):
    nlp = transformer_nlp(tiny_transformers["bert"], "ours")
    nlp.initialize(lambda: make_examples(nlp))
    with pytest.raises(ValueError, match="sequence_ner listens to the component 'transformer'"):
        nlp.get_pipe("sequence_ner")(texts(nlp)[0])
    with pytest.raises(ValueError, match="put the component `transformer` into the pipeline before"):
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
        with pytest.raises(ValueError, match="sequence_ner listens to the component 'transformer', .* Keep it in"):
            nlp("Anna left")


def test_our_listener_refuses_another_model(tiny_transformers):
    nlp = transformer_nlp(tiny_transformers["bert"], "ours", model="stock")
    nlp.initialize(lambda: make_examples(nlp))
    with pytest.raises(ValueError, match="use spacy-transformers.TransformerListener.v1"):
        nlp.update(make_examples(nlp))


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
    first = vectors_of(model, texts(nlp), True)
    assert sum(calls) == 5
    again = vectors_of(model, texts(nlp)[::-1], True)[::-1]
    assert sum(calls) == 5
    for a, b in zip(first, again, strict=True):
        assert (a == b).all()
    with_empty = vectors_of(model, [Doc(nlp.vocab), *texts(nlp)], True)
    assert sum(calls) == 5 and (with_empty[1] == first[0]).all()
    model.from_bytes(make_model(tiny_transformers["bert"], frozen=True).to_bytes())
    vectors_of(model, texts(nlp), True)
    assert sum(calls) == 10, "other weights"
    calls.clear()
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
    loaded = transformer_model("nowhere").from_bytes(model.to_bytes())
    for shim in (model.shims[0], loaded.shims[0]):
        assert shim.module.transformer.config._attn_implementation == "eager"
    default = make_model(tiny_transformers["bert"])
    assert default.shims[0].module.transformer.config._attn_implementation != "eager"
    np.testing.assert_allclose(vectors_of(model, docs)[0], vectors_of(default, docs)[0], atol=2e-6)
    # On a machine that lacks it, another one with the same weights.
    config = {**model.shims[0].cfg["config"], "attn_implementation": "flash_attention_2"}
    with pytest.warns(UserWarning, match="'flash_attention_2' is not available"):
        WordTransformer(config, "mean")
