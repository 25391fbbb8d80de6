"""Heads and encoders read words, not white space: line breaks and blanks change neither predictions nor updates."""

from unicodedata import normalize

import numpy as np
import pytest
import spacy
import torch
from conftest import TRAIN, make_examples, related_examples, small_model, spaced, transformer_nlp
from hypothesis import example, given
from hypothesis import strategies as st
from spacy.tokens import Doc, Span
from spacy.training import Example

from spacy_ner_arch.annotation.relations import get_relations
from spacy_ner_arch.annotation.spans import GoldSpans
from spacy_ner_arch.annotation.trees import tree_in_words
from spacy_ner_arch.annotation.word_places import Words, in_words
from spacy_ner_arch.annotation.words import bare_text, find_words, text_key
from spacy_ner_arch.cli.select_texts import entropies_per_token
from spacy_ner_arch.evaluation.selection import text_vectors

DOCUMENT = {"@misc": "spacy_ner_arch.EntityPairs.v1", "within": "document"}
LISTENER = {"@architectures": "spacy_ner_arch.Tok2VecListener.v1", "width": 24}
SYNLSTM = {"@architectures": "spacy_ner_arch.SynLSTM.v1", "hidden_size": 12, "graph_layers": 1, "dep_size": 8}
SHARED = {"@architectures": "spacy_ner_arch.TorchTok2Vec.v1", **{k: small_model()[k] for k in ("tok2vec", "encoder")}}


def found_in(doc: Doc) -> dict:
    """Everything that was found, by words, with its probability."""
    place = {token.i: i for i, token in enumerate(token for token in doc if not token.is_space)}

    def bounds(span: Span) -> tuple:
        return place[span.start], place[span.end - 1], span.label_

    found = {("ent", *bounds(ent)): ent._.score for ent in doc.ents}
    for key, group in doc.spans.items():
        found |= {(key, *bounds(s)): float(p) for s, p in zip(group, group.attrs["scores"], strict=True)}
    return found | {(r.label, *bounds(r.head), *bounds(r.tail)): r.score for r in get_relations(doc)}


def alone(factory: str, head: str, encoder: dict | None = None, **settings):
    nlp = spacy.blank("en")
    model = small_model(head)
    if encoder:
        model["encoder"] = encoder
    nlp.add_pipe(factory, config={"model": model, **settings})
    return nlp


def related(pairs: str, max_distance: int | None = None, **settings):
    nlp = spacy.blank("en")
    block = {"@architectures": f"spacy_ner_arch.{pairs}.v1", **settings}
    model = {"@architectures": "spacy_ner_arch.Relations.v1", "tok2vec": SHARED, "pairs": block}
    candidates = {**DOCUMENT, "max_distance": max_distance}
    nlp.add_pipe("relation_extractor", config={"model": model, "candidates": candidates, "threshold": 0.1})
    return nlp


def joint():
    nlp = spacy.blank("en")
    nlp.add_pipe("tok2vec", config={"model": SHARED})
    nlp.add_pipe("sequence_ner", config={"model": {"@architectures": "spacy_ner_arch.CRF.v1", "tok2vec": LISTENER}})
    model = {"@architectures": "spacy_ner_arch.Relations.v1", "tok2vec": LISTENER}
    model["pairs"] = {"@architectures": "spacy_ner_arch.SoftmaxPairs.v1"}
    nlp.add_pipe("relation_extractor", config={"model": model, "candidates": DOCUMENT, "threshold": 0.1})
    return nlp


PIPELINES = {
    "crf": lambda _: alone("sequence_ner", "CRF", alternatives=0.05),
    "softmax": lambda _: alone("sequence_ner", "Softmax", scheme="BIO"),
    "span": lambda _: alone("span_ner", "Span", threshold=0.2),
    "nested": lambda _: alone("nested_ner", "Span", threshold=0.1),
    "synlstm": lambda _: alone("sequence_ner", "CRF", SYNLSTM),
    "pairs_softmax": lambda _: related("SoftmaxPairs"),
    "pairs_bilstm": lambda _: related("BiLSTMPairs"),
    "pairs_acnn": lambda _: related("ACNNPairs", filters=8),
    "pairs_multitask": lambda _: related("MultitaskPairs"),
    "pairs_markers": lambda _: related("MarkerPairs", context=2),
    "pairs_near": lambda _: related("SoftmaxPairs", max_distance=3),
    "joint": lambda _: joint(),
    "transformer": lambda folders: transformer_nlp(folders["bert"], dropout=0.0),
}


def examples_for(nlp) -> list[Example]:
    """With entities, relations, spans and trees; what another component sets is on the predicted documents, too."""
    examples = related_examples(nlp, gold=nlp.has_pipe("relation_extractor"))
    for eg in examples:
        eg.reference.spans["sc"] = list(eg.reference.ents)
        tree = Doc(
            nlp.vocab,
            words=[token.text for token in eg.reference],
            heads=[max(token.i - 2, 0) for token in eg.reference],
            deps=["name" if token.is_title else "next" for token in eg.reference],
        )
        for doc in (eg.predicted, eg.reference):
            doc.from_array(["HEAD", "DEP"], tree.to_array(["HEAD", "DEP"]))
    return examples


def weights(nlp) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{key}": value.clone()
        for name, pipe in nlp.pipeline
        for number, node in enumerate(getattr(pipe, "model", None) and pipe.model.walk() or ())
        for shim in node.shims
        if hasattr(shim, "module")
        for key, value in shim.module.named_parameters(f"{number}")
    }


@pytest.mark.parametrize("kind", PIPELINES)
def test_white_space_changes_nothing(kind, tiny_transformers):
    nlp = PIPELINES[kind](tiny_transformers)
    examples = examples_for(nlp)
    optimizer = nlp.initialize(lambda: examples)
    optimizer.learn_rate = 0.01
    for _ in range(25):
        nlp.update(examples_for(nlp), sgd=optimizer, drop=0.0)
    plain = [eg.predicted for eg in examples_for(nlp)]
    for doc in plain if nlp.has_pipe("sequence_ner") else ():
        doc.set_ents([], default="missing")
    for every in (1, 3):
        texts = [spaced(doc, every) for doc in plain]
        assert all(any(token.is_space for token in doc) for doc in texts)
        for doc, expected in zip(nlp.pipe(texts), nlp.pipe([doc.copy() for doc in plain]), strict=True):
            assert found_in(doc) == pytest.approx(found_in(expected), abs=2e-5)
    assert sum(len(found_in(nlp(doc.copy()))) for doc in plain) >= 4
    # Losses, and the gradients of all parts with weights.
    before = nlp.to_bytes()
    results = []
    for white_space in (False, True):
        nlp.from_bytes(before)
        rows = examples_for(nlp)
        if white_space:
            rows = [Example(spaced(eg.predicted), spaced(eg.reference)) for eg in rows]
        sgd = nlp.resume_training()
        sgd.learn_rate = 0.01
        torch.manual_seed(0)
        losses = nlp.update(rows, sgd=sgd, drop=0.0)
        results.append((losses, weights(nlp)))
    (losses, expected), (with_space, moved) = results
    assert with_space == pytest.approx(losses, rel=1e-4)
    for name, value in expected.items():
        assert torch.allclose(moved[name], value, atol=2e-4), name


@pytest.mark.parametrize("factory", ["sequence_ner", "span_ner", "nested_ner"])
def test_documents_of_white_space_alone(factory):
    """Alone, beside others, and in an update."""
    nlp = alone(factory, "CRF" if factory == "sequence_ner" else "Span")
    examples = examples_for(nlp)
    sgd = nlp.initialize(lambda: examples)
    for texts in (["\n"], ["", "  \n"], ["\n", TRAIN[0][0], "\t"]):
        docs = list(nlp.pipe(texts))
        assert [doc.text for doc in docs] == texts and not docs[0].ents and not docs[0].spans.get("sc", ())
    blank = nlp.make_doc("\n \n")
    blank.set_ents([], default="outside")
    blank.spans["sc"] = []
    assert nlp.update([Example(blank.copy(), blank)], sgd=sgd)[factory] == 0.0
    nlp.update([*examples, Example(blank.copy(), blank)], sgd=sgd)


def test_readings_entropies_and_chains_of_a_text_with_white_space():
    nlp = alone("sequence_ner", "CRF")
    examples = examples_for(nlp)
    sgd = nlp.initialize(lambda: examples)
    for _ in range(20):
        nlp.update(examples, sgd=sgd)
    pipe = nlp.get_pipe("sequence_ner")
    plain = [eg.predicted for eg in examples]
    texts = [spaced(doc) for doc in plain]
    assert pipe.entropies(texts) == pytest.approx(pipe.entropies(plain), abs=1e-4)
    for doc, ours, theirs in zip(texts, pipe.readings(texts, 3), pipe.readings(plain, 3), strict=True):
        assert [r.probability for r in ours] == pytest.approx([r.probability for r in theirs], abs=1e-5)
        assert [[ent.text.split() for ent in r.entities] for r in ours] == [
            [ent.text.split() for ent in r.entities] for r in theirs
        ]
        assert not any(ent[0].is_space or ent[-1].is_space for r in ours for ent in r.entities)
        assert all(r.entities == () or r.entities[0].doc is doc for r in ours)
    for doc, ours, theirs in zip(texts, pipe.chains(texts), pipe.chains(plain), strict=True):
        assert ours.emissions.shape[0] == len(doc)
        kept = find_words([doc])[0].tokens
        assert np.allclose(ours.emissions[kept], theirs.emissions, atol=1e-4)
        assert not np.delete(ours.emissions, kept, axis=0).any()


def test_a_gold_entity_is_learned_without_the_white_space_at_its_ends():
    nlp = alone("sequence_ner", "CRF")
    words = ["\n", "Anna", "\n", "Brandt", "  ", "left", "\n", "Tarvik"]
    reference = Doc(nlp.vocab, words=words)
    spans = [(0, 5, "PER"), (6, 7, "LOC"), (7, 8, "LOC")]
    reference.set_ents([Span(reference, *span) for span in spans], default="outside")
    example = Example(Doc(nlp.vocab, words=words), reference)
    with pytest.warns(UserWarning, match=r"2 of 3 gold entities begin or end with white space, such as .*Anna"):
        sgd = nlp.initialize(lambda: [example])
    sgd.learn_rate = 0.01
    for _ in range(40):
        nlp.update([example], sgd=sgd)
    doc = nlp(Doc(nlp.vocab, words=words))
    assert [(ent.start, ent.end, ent.label_) for ent in doc.ents] == [(1, 4, "PER"), (7, 8, "LOC")]


def test_an_entity_of_white_space_by_another_component_keeps_its_place():
    """Ours cannot reach over it."""
    for factory, head in (("sequence_ner", "CRF"), ("span_ner", "Span")):
        nlp = alone(factory, head)
        examples = make_examples(nlp)
        sgd = nlp.initialize(lambda examples=examples: examples)
        sgd.learn_rate = 0.01
        for _ in range(60):
            nlp.update(examples, sgd=sgd)
        doc = Doc(nlp.vocab, words=["Anna", "\n", "Brandt", "lives", "in", "Tarvik", "."])
        assert [ent.text for ent in nlp(doc.copy()).ents] == ["Anna \n Brandt", "Tarvik"]
        doc.set_ents([Span(doc, 1, 2, "BREAK")], default="missing")
        assert [ent.text for ent in nlp(doc).ents] == ["\n", "Tarvik"]


def test_relations_with_an_entity_of_white_space():
    nlp = related("SoftmaxPairs")
    examples = examples_for(nlp)
    nlp.initialize(lambda: examples)
    for words, ents in (
        (["Anna", "\n", "Tarvik", "  "], [(0, 1), (1, 2), (2, 3), (3, 4)]),
        (["\n", " ", "\t"], [(0, 1), (2, 3)]),
    ):
        doc = Doc(nlp.vocab, words=words)
        doc.set_ents([Span(doc, *bounds, "PER") for bounds in ents])
        nlp.get_pipe("relation_extractor").cfg["threshold"] = 0.0
        pairs = {(r.head.start, r.tail.start) for r in get_relations(nlp(doc))}
        assert len(pairs) == len(ents) * (len(ents) - 1)


def test_places_of_words():
    words = Words(7, ~np.isin(np.arange(7), [1, 2, 5]))
    assert len(words) == 3 and not words.has_no_space
    bounds = np.array([[0, 2], [1, 3], [2, 6], [3, 5], [6, 7]])
    assert words.from_tokens(bounds).tolist() == [[0, 1], [0, 2], [1, 3], [2, 2], [3, 3]]
    assert words.to_tokens(0, 1) == (1, 2) and words.to_tokens(1, 3) == (2, 6)
    assert in_words(bounds, words).tolist() == [[0, 1], [0, 2], [1, 3]]
    annotated, closed = np.array([[0, 1, 0, 1, 1, 1, 0], [0, 0, 1, 1, 0, 1, 1]], dtype=bool)
    gold = GoldSpans(np.array([[1, 1, 1], [1, 5, 2]]), annotated, closed)
    converted = in_words(gold, words)
    assert converted.spans.tolist() == [[0, 1, 1], [0, 3, 2]] and converted.annotated.tolist() == [True, False, True]
    assert converted.closed.tolist() == [False, True, True]
    whole = Words(3)
    assert whole.has_no_space and in_words(gold, whole) is gold
    assert whole.tokens.tolist() == [0, 1, 2] and whole.to_tokens(1, 3) == (1, 3)


def test_a_tree_of_words():
    words = Words(6, ~np.isin(np.arange(6), [1, 2, 4]))
    # 1 and 2 hang on white space, which hangs on 4; 4 on white space that is a root.
    heads = np.array([4, 0, 3, 4, 5, 5])
    tree = np.stack([heads, np.arange(6) * 10, np.arange(6)])
    assert tree_in_words(tree, words).tolist() == [[2, 2, 2], [10, 20, 40], [1, 2, 4]]


def test_a_suggester_at_max_width_in_a_text_with_white_space():
    nlp = alone("span_ner", "Span", max_width=2, suggester={"@misc": "spacy.ngram_suggester.v1", "sizes": [1, 2, 3]})
    docs = [Doc(nlp.vocab, words=words) for words in (["Anna", "\n", "Brandt"], ["Anna", "Brandt", "lives"])]
    pipe = nlp.get_pipe("span_ner")
    assert [0, 3] in pipe.find_items(docs[:1])[0].tolist()
    with pytest.raises(ValueError, match="the suggester gives a span of 3 words, more than max_width = 2"):
        pipe.find_items(docs)


def test_the_best_entities_around_blocked_white_space():
    """The most probable one reaches over it. The next ones take its place."""
    nlp = alone("span_ner", "Span", threshold=0.3, max_width=4)
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    pipe = nlp.get_pipe("span_ner")
    probabilities = np.full((3, 4, len(pipe.labels) + 1), 1e-9)
    probabilities[..., 0] = 1.0
    person = pipe.labels.index("PER") + 1
    for (start, width), value in {(0, 2): 0.6, (0, 1): 0.45, (1, 1): 0.4}.items():
        probabilities[start, width - 1, [0, person]] = 1 - value, value
    found = {}
    for blocked in (False, True):
        doc = Doc(nlp.vocab, words=["Anna", "\n", "Brandt", "left"])
        doc.set_ents([], blocked=[doc[1:2]] if blocked else [], default="missing")
        pipe.set_annotations([doc], (None, [(np.log(probabilities),)]))
        found[blocked] = {ent.text: round(ent._.score, 2) for ent in doc.ents}
    assert found == {False: {"Anna \n Brandt": 0.6}, True: {"Anna": 0.45, "Brandt": 0.4}}


def test_white_space_does_not_count_in_the_choice_of_texts(trained):
    texts = ["Quist left Brenna .", "Quist\nleft\n\nBrenna\t."]
    plain, broken = entropies_per_token(trained.get_pipe("sequence_ner"), list(map(trained.make_doc, texts)))
    assert broken == pytest.approx(plain, rel=1e-3)
    vectors = text_vectors([trained.make_doc(text) for text in ("Anna\nhappened\n", "Quist\nleft\n", "\n")])
    assert np.allclose(vectors @ vectors.T, np.diag([1, 1, 0]), atol=1e-6)


@given(st.text(st.one_of(st.sampled_from("e\u0301\u0323 \n\u2000\u1100\u1161\u1fef"), st.characters())))
@example("e \u0301")
def test_keys_of_texts_do_not_depend_on_white_space(text: str) -> None:
    key = text_key(text)
    assert key == text_key(bare_text(text)) == text_key(key) == text_key(normalize("NFD", text))
