"""The component `relation_extractor`: candidates, training, annotation, scores."""

import json
import re
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import spacy
import torch
from conftest import MODELS, TRAIN, make_examples, related_examples, relations, set_relations, set_trees, small_model
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc, Span, SpanGroup
from spacy.training import Example
from spacy.util import filter_spans, fix_random_seed, registry
from spacy.vocab import Vocab
from thinc.api import Config

from spacy_ner_arch.annotation.candidates import Candidates, EntityPairs, create_entity_pairs, reverse_rows
from spacy_ner_arch.annotation.entities import count_as_right, span_scores
from spacy_ner_arch.annotation.gold_relations import GoldPairs, sample_negatives
from spacy_ner_arch.annotation.relation_decoding import score_pairs
from spacy_ner_arch.annotation.sentences import set_sentences
from spacy_ner_arch.bridge import marked_copies
from spacy_ner_arch.bridge.layers import shims
from spacy_ner_arch.bridge.marked_copies import mark
from spacy_ner_arch.evaluation.scorers import score_relations
from spacy_ner_arch.nn.dropout import sampling_again, sampling_state
from spacy_ner_arch.pipes import base, relation_checks
from spacy_ner_arch.training.calibration import held_out_batches
from spacy_ner_arch.training.corpus import copy_spans
from spacy_ner_arch.training.labels import create_add_labels

BLOCKS = Config().from_str(
    """
[embedding]
@architectures = "spacy.MultiHashEmbed.v2"
width = 16
attrs = ["NORM", "SHAPE"]
rows = [200, 100]
include_static_vectors = false

[bilstm]
@architectures = "spacy_ner_arch.BiLSTM.v1"
hidden_size = 12

[synlstm]
@architectures = "spacy_ner_arch.SynLSTM.v1"
hidden_size = 12
graph_layers = 1
dep_size = 8

[softmax]
@architectures = "spacy_ner_arch.SoftmaxPairs.v1"
context = "sentences"
type_size = 8

[acnn]
@architectures = "spacy_ner_arch.ACNNPairs.v1"
filters = 32

[markers]
@architectures = "spacy_ner_arch.MarkerPairs.v1"
"""
)
ENCODED = {
    "@architectures": "spacy_ner_arch.TorchTok2Vec.v1",
    "tok2vec": BLOCKS["embedding"],
    "encoder": BLOCKS["bilstm"],
}
DOCUMENT = {"@misc": "spacy_ner_arch.EntityPairs.v1", "within": "document"}


def relation_model(pairs="softmax", tok2vec=ENCODED, **settings):
    return {"@architectures": "spacy_ner_arch.Relations.v1", "tok2vec": tok2vec, "pairs": BLOCKS[pairs], **settings}


def make_nlp(**settings):
    nlp = spacy.blank("en")
    nlp.add_pipe("relation_extractor", config={"model": relation_model(), "candidates": DOCUMENT, **settings})
    return nlp


def fit(nlp, examples, steps=60):
    optimizer = nlp.initialize(lambda: examples)
    optimizer.learn_rate = 0.01
    losses = {}
    for _ in range(steps):
        losses = nlp.update(examples, sgd=optimizer)
    return losses


def unannotated(nlp, examples):
    """Documents with the gold entities alone."""
    docs = []
    for eg in examples:
        doc = Doc(nlp.vocab, words=[token.text for token in eg.reference])
        doc.set_ents([Span(doc, ent.start, ent.end, ent.label_) for ent in eg.reference.ents])
        docs.append(doc)
    return docs


def predict(nlp, examples):
    return list(nlp.pipe(unannotated(nlp, examples)))


def assert_learned(docs, examples):
    assert [sorted(relations(doc)) for doc in docs] == [sorted(relations(eg.reference)) for eg in examples]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"direction": "labels"},
        {"symmetric": ["WITH"]},
        {"symmetric": ["WITH"], "direction": "labels"},
        {"multi_label": True},
        {"type_pairs": "learned"},
        {"negative_ratio": 2.0},
    ],
    ids=str,
)
def test_learning(settings, tmp_path):
    nlp = make_nlp(**settings)
    examples = related_examples(nlp)
    fit(nlp, examples, 120)
    nlp.to_disk(tmp_path)
    for trained in (nlp, spacy.load(tmp_path), make_nlp(**settings).from_bytes(nlp.to_bytes())):
        docs = predict(trained, examples)
        assert_learned(docs, examples)
        assert all(0.5 < relation.score <= 1 for doc in docs for relation in doc._.relations)


@pytest.mark.parametrize("pairs, encoder", [("softmax", "bilstm"), ("softmax", "synlstm"), ("markers", "bilstm")])
def test_encoders(pairs, encoder, tmp_path):
    """Relations.v1 with an encoder; the documents have trees for the one that reads them."""
    nlp = make_nlp(model=relation_model(pairs, BLOCKS["embedding"], encoder=BLOCKS[encoder]))
    examples = related_examples(nlp)
    set_trees([eg.predicted for eg in examples])
    fit(nlp, examples, 120)
    module = nlp.get_pipe("relation_extractor").head
    assert module.encoder.output_size == module.width == 24
    nlp.to_disk(tmp_path)
    for trained in (nlp, spacy.load(tmp_path)):
        docs = unannotated(trained, examples)
        set_trees(docs)
        assert_learned(list(trained.pipe(docs)), examples)


def test_an_encoder_without_its_trees_is_an_error():
    nlp = make_nlp(model=relation_model(tok2vec=BLOCKS["embedding"], encoder=BLOCKS["synlstm"]))
    examples = related_examples(nlp)
    nlp.initialize(lambda: examples)
    with pytest.raises(ValueError, match="relation_extractor: no dependency tree"):
        nlp.update(examples)


@pytest.mark.parametrize("settings", [{"pooling": "attention", "loss": "hinge"}, {"loss": "hinge"}, {}], ids=str)
def test_acnn(settings, tmp_path):
    """Its layers depend on the settings; test them on disk and with a new label."""
    nlp = make_nlp(model=relation_model(pairs="acnn") | {"pairs": {**BLOCKS["acnn"], **settings}})
    examples = related_examples(nlp)
    fit(nlp, examples, 120)
    nlp.to_disk(tmp_path)
    for trained in (nlp, spacy.load(tmp_path)):
        assert_learned(predict(trained, examples), examples)
    nlp.get_pipe("relation_extractor").add_label("NEW")
    assert_learned(predict(nlp, examples), examples)


def test_direction_of_a_relation():
    """The head may be the later entity."""
    nlp = make_nlp(direction="labels")
    data = [
        ("Anna likes Bert .", [(0, 1, "PER"), (2, 3, "PER")]),
        ("Anna fears Bert .", [(0, 1, "PER"), (2, 3, "PER")]),
    ]
    examples = make_examples(nlp, data)
    for eg, (head, tail) in zip(examples, ((0, 1), (1, 0)), strict=True):
        ents = eg.reference.ents
        eg.reference._.relations = [(ents[head], ents[tail], "MOVES")]
        eg.predicted.set_ents(eg.get_aligned_spans_y2x(ents), default="outside")
    fit(nlp, examples, 80)
    assert [relations(doc) for doc in predict(nlp, examples)] == [[(0, 1, 2, 3, "MOVES")], [(2, 3, 0, 1, "MOVES")]]


def test_symmetric_labels_are_scored_in_both_directions():
    nlp = make_nlp(symmetric=["WITH"])
    doc, other = (Doc(nlp.vocab, words=["Anna", "and", "Bert"]) for _ in range(2))
    for target, order in ((doc, (0, 2)), (other, (2, 0))):
        head, tail = (Span(target, i, i + 1, "PER") for i in order)
        target._.relations = [(head, tail, "WITH")]
    assert score_relations([Example(doc, other)], symmetric=["WITH"])["rel_strict_f"] == 1.0
    assert score_relations([Example(doc, other)])["rel_strict_f"] == 0.0


def set_with(doc):
    """Bert WITH Anna, with the later entity as head."""
    doc.ents = [Span(doc, 0, 1, "PER"), Span(doc, 2, 3, "PER")]
    doc._.relations = [(*doc.ents[::-1], "WITH")]
    return doc


@Language.component("symmetric_prediction")
def symmetric_prediction(doc):
    anna, bert = set_with(doc).ents
    doc._.relations = [(anna, bert, "WITH")]
    return doc


def test_each_of_several_extractors_scores_with_the_symmetric_labels_of_all(tmp_path):
    """The scores of the last one replaced those of the others, and it did not know their symmetric labels."""

    def score(nlp):
        examples = [Example(nlp.make_doc(text), set_with(nlp.make_doc(text))) for text in ["Anna and Bert"]]
        return nlp.evaluate(examples)["rel_strict_f"]

    nlp = spacy.blank("en")
    config = {"model": relation_model(), "candidates": DOCUMENT}
    nlp.add_pipe("relation_extractor", name="first", config={**config, "symmetric": ["WITH"]})
    nlp.add_pipe("relation_extractor", name="second", config=config)
    nlp.config["initialize"]["components"] = {"first": {"labels": ["WITH"]}, "second": {"labels": ["LEFT"]}}
    nlp.initialize(lambda: related_examples(nlp))
    for name in ("first", "second"):
        nlp.get_pipe(name).cfg["threshold"] = 1.0
    nlp.add_pipe("symmetric_prediction")
    assert score(nlp) == 1.0
    nlp.to_disk(tmp_path)
    assert score(spacy.load(tmp_path)) == 1.0
    alone = spacy.load(tmp_path, exclude=["first"])
    assert alone.get_pipe("second").scored_as_symmetric == set()
    # A sourced component that is not initialized.
    other = spacy.blank("en")
    other.add_pipe("relation_extractor", name="first", config={**config, "symmetric": ["WITH"]})
    other.add_pipe("second", source=alone)
    with other.select_pipes(disable=["second"]):
        other.initialize(lambda: related_examples(other))
    assert alone.get_pipe("second").scored_as_symmetric == {"WITH"}


def test_several_extractors_that_are_trained_further_know_the_labels_of_each_other(copy_of):
    """The warning advised to add the labels of the other extractor, which removes its relations."""
    nlp = spacy.blank("en")
    given = {"first": ["WITH", "LEFT"], "second": ["LIVES_IN", "WORKS_FOR"]}
    for name, labels in given.items():
        nlp.add_pipe("relation_extractor", name=name, config={"model": relation_model(), "candidates": DOCUMENT})
        nlp.config["initialize"]["components"][name] = {"labels": labels}
    nlp.initialize(lambda: related_examples(nlp))
    trained = copy_of(nlp)
    optimizer = trained.resume_training()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained.update(related_examples(trained), sgd=optimizer)


def test_scores_count_every_gold_relation():
    """One correct, one with a wrong type, one with a wrong label, one missed; and a document without annotation."""
    nlp = spacy.blank("en")
    words = list("abcdefgh")
    gold, predicted, plain = (Doc(nlp.vocab, words=words) for _ in range(3))

    def spans(doc, *items):
        return [(Span(doc, h, h + 1, ht), Span(doc, t, t + 1, tt), label) for h, ht, t, tt, label in items]

    gold._.relations = spans(
        gold, (0, "P", 1, "L", "IN"), (2, "P", 3, "L", "IN"), (4, "P", 5, "L", "IN"), (6, "P", 7, "L", "AT")
    )
    predicted._.relations = spans(
        predicted, (0, "P", 1, "L", "IN"), (2, "O", 3, "L", "IN"), (4, "P", 5, "L", "AT"), (7, "L", 6, "P", "AT")
    )
    scores = score_relations([Example(predicted, gold), Example(predicted.copy(), plain)])
    assert scores["rel_micro_p"] == scores["rel_micro_r"] == scores["rel_micro_f"] == 0.5
    assert scores["rel_strict_f"] == 0.25
    assert scores["rel_per_type"]["IN"] == {"p": 1.0, "r": pytest.approx(2 / 3), "f": pytest.approx(0.8)}
    assert scores["rel_per_type"]["AT"]["f"] == 0.0 and scores["rel_macro_f"] == pytest.approx(0.4)
    assert set(score_relations([Example(predicted, plain)]).values()) == {None}


# Candidates


def test_candidates():
    nlp = spacy.blank("en")
    doc = Doc(nlp.vocab, words=list("abcdefgh"), sent_starts=[True, False, False, False, True, False, False, False])
    doc.set_ents([Span(doc, 0, 2, "P"), Span(doc, 3, 4, "L"), Span(doc, 6, 7, "L")])
    found = create_entity_pairs(within="document")(doc)
    assert found.pairs.tolist() == [[0, 1], [0, 2], [1, 0], [1, 2], [2, 0], [2, 1]]
    assert found.regions.tolist() == [[0, 4], [0, 8], [0, 4], [0, 8], [0, 8], [0, 8]]
    assert found.for_model(["L"]).bounds.tolist() == [[0, 2], [3, 4], [6, 7]]
    assert found.for_model(["L"]).types.tolist() == [0, 1, 1]
    assert create_entity_pairs()(doc).pairs.tolist() == [[0, 1], [1, 0]]
    assert create_entity_pairs("document", max_distance=2)(doc).pairs.tolist() == [[0, 1], [1, 0], [1, 2], [2, 1]]
    doc.spans["sc"] = [Span(doc, 1, 2, "Y"), Span(doc, 0, 2, "X"), Span(doc, 0, 2, "Y")]
    overlapping = create_entity_pairs("document", spans_key="sc", max_distance=0)(doc)
    assert [(e.start, e.end, e.label_) for e in overlapping.entities] == [(0, 2, "X"), (0, 2, "Y"), (1, 2, "Y")]
    assert len(overlapping.pairs) == 6
    assert create_entity_pairs(spans_key="other")(doc).pairs.shape == (0, 2)


def test_duplicates_in_a_group_of_spans_are_one_entity():
    """The relation was found at the first of them, and the pairs of the others counted as unrelated."""
    nlp = make_nlp(candidates={**DOCUMENT, "spans_key": "sc"})
    doc = Doc(nlp.vocab, words=["a", "b", "c"])
    doc.spans["sc"] = [Span(doc, 0, 1, "P"), Span(doc, 2, 3, "L"), Span(doc, 0, 1, "P")]
    doc._.relations = [(doc.spans["sc"][0], doc.spans["sc"][1], "in")]
    component = nlp.get_pipe("relation_extractor")
    component.add_label("in")
    component.add_types(["P", "L"])
    candidates = component.find_items([doc])
    assert candidates[0].pairs.tolist() == [[0, 1], [1, 0]]
    assert component.find_targets([Example(doc, doc)], candidates)[0].rows.tolist() == [0]


def test_sentences_are_needed_for_two_entities_only():
    doc = Doc(Vocab(), words=["a", "b", "c"])
    find = create_entity_pairs(within="sentence")
    assert find(Doc(doc.vocab)).pairs.shape == find(doc).pairs.shape == (0, 2)
    doc.set_ents([Span(doc, 0, 1, "P")])
    lonely = find(doc)
    assert len(lonely.entities) == 1 and lonely.pairs.shape == lonely.regions.shape == (0, 2)
    doc.set_ents([Span(doc, 0, 1, "P"), Span(doc, 2, 3, "P")])
    with pytest.raises(ValueError, match="has no sentences: .*sentencizer"):
        find(doc)
    nlp = make_nlp(candidates={**DOCUMENT, "within": "sentence"})
    examples = related_examples(nlp)
    for token in (token for eg in examples for token in eg.predicted):
        token.is_sent_start = token.i == 0
    fit(nlp, examples, 1)
    # A trained pipeline takes plain text.
    assert nlp("Anna lives in Tarvik . She left .")._.relations == ()
    two = Doc(nlp.vocab, words=["Anna", "Brandt"])
    two.set_ents([Span(two, 0, 1, "PER"), Span(two, 1, 2, "PER")])
    with pytest.raises(ValueError, match="relation_extractor: candidates are within a sentence"):
        nlp(two)


def test_both_remedies_for_missing_sentences_work_as_written():
    nlp = spacy.blank("en")
    nlp.add_pipe("relation_extractor", config={"model": relation_model()})

    def unsplit_examples():
        examples = make_examples(nlp)
        set_relations([eg.reference for eg in examples])
        for eg in examples:
            eg.predicted.set_ents(eg.get_aligned_spans_y2x(eg.reference.ents), default="outside")
        return examples

    with pytest.raises(ValueError, match="no component before it sets sentences") as raised:
        nlp.initialize(unsplit_examples)
    add_pipe, annotates, config = (
        re.search(pattern, str(raised.value))[1]
        for pattern in (r"In Python: (nlp\.add_pipe\([^)]*\))", r"annotates=(\[.*?\])", r"config=(\{.*\})\)")
    )
    exec(add_pipe, {"nlp": nlp})
    optimizer = nlp.initialize(unsplit_examples)
    with pytest.raises(ValueError, match=f"has no sentences: .*annotates={re.escape(annotates)}"):
        nlp.update(unsplit_examples(), sgd=optimizer)
    assert nlp.update(unsplit_examples(), sgd=optimizer, annotates=json.loads(annotates))["relation_extractor"] > 0
    nlp = spacy.blank("en")
    nlp.add_pipe("relation_extractor", config={"model": relation_model(), **json.loads(config)})
    optimizer = nlp.initialize(unsplit_examples)
    assert nlp.update(unsplit_examples(), sgd=optimizer)["relation_extractor"] > 0


@st.composite
def documents(draw):
    """A Doc with sentences or none, flat doc.ents, and doc.spans that may overlap and repeat their bounds."""
    length = draw(st.integers(1, 12))
    starts = draw(st.none() | st.lists(st.booleans(), min_size=length, max_size=length))
    doc = Doc(Vocab(), words=["w"] * length, sent_starts=starts and [True, *starts[1:]])
    bounds = st.tuples(st.integers(0, length - 1), st.integers(1, 4), st.sampled_from("AB"))
    spans = [Span(doc, i, min(length, i + n), label) for i, n, label in draw(st.lists(bounds, max_size=7))]
    doc.spans["sc"] = spans
    doc.set_ents(filter_spans(spans))
    return doc


def brute_force(doc, within, max_distance, spans_key):
    """Pairs of bounds and regions, from the definition."""
    spans = doc.spans[spans_key] if spans_key else doc.ents
    spans = {(span.start, span.end, span.label_): span for span in spans}
    spans = [span for _, span in sorted(spans.items())]
    sentences = list(doc.sents) if doc.has_annotation("SENT_START") else [doc[:]]

    def sentence(token):
        return next(sent for sent in sentences if sent.start <= token < sent.end)

    found = []
    for i, head in enumerate(spans):
        for j, tail in enumerate(spans):
            between = max(head.start, tail.start) - min(head.end, tail.end)
            together = sentence(head.start) == sentence(tail.start) or within == "document"
            if i != j and together and (max_distance is None or between <= max_distance):
                first, last = min(head.start, tail.start), max(head.end, tail.end) - 1
                found.append([i, j, sentence(first).start, sentence(last).end])
    return [(span.start, span.end, span.label_) for span in spans], found


@hypothesis_settings(max_examples=300)
@given(
    doc=documents(),
    within=st.sampled_from(["document", "sentence"]),
    max_distance=st.none() | st.integers(0, 5),
    spans_key=st.sampled_from([None, "sc"]),
)
def test_candidates_equal_their_definition(doc, within, max_distance, spans_key):
    if within == "sentence" and not doc.has_annotation("SENT_START"):
        within = "document"
    spans, expected = brute_force(doc, within, max_distance, spans_key)
    found = create_entity_pairs(within, max_distance, spans_key)(doc)
    assert [(span.start, span.end, span.label_) for span in found.entities] == spans
    assert np.concatenate([found.pairs, found.regions], axis=1).tolist() == expected
    assert found.pairs.dtype == found.regions.dtype == found.for_model([]).bounds.dtype == np.int64


def test_candidates_are_generated_once_per_document():
    nlp = make_nlp(negative_ratio=1.0)
    examples = related_examples(nlp)
    nlp.initialize(lambda: examples)
    pipe = nlp.get_pipe("relation_extractor")
    generate, calls = pipe.generate_candidates, []

    def count(doc):
        calls.append(doc)
        return generate(doc)

    pipe.generate_candidates = count
    pipe.update(examples)
    assert len(calls) == len(examples) and {id(doc) for doc in calls} == {id(eg.predicted) for eg in examples}
    calls.clear()
    docs = predict(nlp, examples)
    assert len(calls) == len(docs) and {id(doc) for doc in calls} == {id(doc) for doc in docs}


def test_sampling_of_negative_pairs():
    """Of the pairs of all documents together."""
    pairs = np.stack([np.arange(10), np.arange(10) + 1], axis=1)
    found = [Candidates([], pairs[rows], pairs[rows] + 5) for rows in (slice(0, 6), slice(6, 6), slice(6, 10))]
    gold = [GoldPairs(np.array(rows, dtype=np.int64), np.arange(len(rows))) for rows in ([2, 2], [], [1])]

    def sample(ratio):
        some, kept = sample_negatives(found, gold, ratio)
        for i, own in ((0, [2, 2]), (1, []), (2, [7])):
            assert (np.diff(some[i].pairs[:, 0]) > 0).all() and (some[i].regions == some[i].pairs + 5).all()
            assert some[i].pairs[kept[i].rows, 0].tolist() == own and kept[i].classes is gold[i].classes
        (share,) = {own.share for own in kept}
        return np.concatenate([own.pairs[:, 0] for own in some]).tolist(), share

    seen = set()
    for _ in range(200):
        rows, share = sample(1.5)
        assert len(rows) == 2 + 3 and {2, 7} < set(rows) and share == 3 / 8
        seen |= set(rows)
    assert seen == set(range(10)), "the sample is random"
    assert sample(99.0) == (list(range(10)), 1.0)
    some, (kept,) = sample_negatives(found[:1], [GoldPairs(*np.zeros((2, 0), dtype=np.int64))], 3.0)
    assert len(some[0].pairs) == 3 and kept.share == 0.5
    assert sample_negatives([], [], 3.0) == ([], [])


# Training


def test_documents_without_candidates():
    """Documents without a token, without an entity and with one entity do not disturb the others."""
    nlp = make_nlp()
    examples = related_examples(nlp)
    fit(nlp, examples)
    docs = list(nlp.pipe([Doc(nlp.vocab), Doc(nlp.vocab, words=["Anna"]), predict(nlp, examples)[1]]))
    assert [doc._.relations for doc in docs] == [(), (), ()]
    lonely = [eg for eg in examples if len(eg.predicted.ents) < 2]
    before = nlp.get_pipe("relation_extractor").loss_on(examples)
    assert nlp.get_pipe("relation_extractor").loss_on(lonely) == 0.0
    assert nlp.update(lonely, sgd=nlp.resume_training())["relation_extractor"] == 0.0
    assert nlp.get_pipe("relation_extractor").loss_on(examples) == pytest.approx(before, rel=0.5)


def test_a_shared_encoder_is_trained_in_updates_without_candidates(tiny_transformers):
    """The last listener passes on the gradients of all, so it must do so without a pair of its own."""
    nlp = spacy.blank("en")
    block = {"@architectures": "spacy_ner_arch.TransformerModel.v1", "name": str(tiny_transformers["bert"])}
    nlp.add_pipe("transformer", config={"model": {**block, "window": 64, "overlap": 16}})
    listener = {"@architectures": "spacy_ner_arch.TransformerListener.v1"}
    nlp.add_pipe("sequence_ner", config={"model": {"@architectures": "spacy_ner_arch.CRF.v1", "tok2vec": listener}})
    nlp.add_pipe("relation_extractor", config={"model": relation_model(tok2vec=listener), "candidates": DOCUMENT})
    examples = related_examples(nlp)
    optimizer = nlp.initialize(lambda: examples)
    module = nlp.get_pipe("transformer").model.shims[0].module
    lonely = [eg for eg in examples if len(eg.predicted.ents) < 2]
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    losses = nlp.update(lonely, sgd=False)
    nlp.get_pipe("transformer").finish_update(optimizer)
    assert losses["relation_extractor"] == 0.0 and losses["sequence_ner"] > 0
    assert any(not p.equal(before[name]) for name, p in module.named_parameters())


def test_documents_without_annotation_are_not_negative():
    nlp = make_nlp()
    examples = related_examples(nlp)
    fit(nlp, examples)
    silent = make_examples(nlp)
    for eg in silent:
        eg.predicted.set_ents(eg.get_aligned_spans_y2x(eg.reference.ents), default="outside")
    pipe = nlp.get_pipe("relation_extractor")
    assert pipe.loss_on(silent) == 0.0
    for eg in silent:
        eg.reference._.relations = []
    assert pipe.loss_on(silent) > pipe.loss_on(examples) > 0


def test_warnings_about_gold_relations_that_cannot_be_learned():
    """An argument that is not an entity, a pair that is too distant, an entity with itself, an unknown label."""
    nlp = make_nlp(candidates={**DOCUMENT, "max_distance": 1})
    examples = related_examples(nlp)
    reference = examples[0].reference
    ents = reference.ents
    reference._.relations = [(ents[0], ents[1], "FAR"), (ents[0], ents[0], "SELF"), (ents[0], reference[5:6], "NONE")]
    with pytest.warns(
        UserWarning, match="4 of 6 gold relations are not candidates, such as \\w+ from '.* head and tail at once"
    ):
        optimizer = nlp.initialize(lambda: examples)
    with pytest.warns(UserWarning, match=r"gold labels that the component does not have .*\['NEW'\]"):
        examples[2].reference._.relations = [(*examples[2].reference.ents, "NEW")]
        nlp.update(examples, sgd=optimizer)
    nlp.get_pipe("relation_extractor").add_label("LIVES_IN")  # of the next batch
    with pytest.warns(
        UserWarning, match='a batch has 4 gold relations, but its documents have no entity.*copy = ."ents"'
    ):
        nlp.update(related_examples(nlp, gold=False), sgd=optimizer)


def test_calibration_while_no_entity_is_found():
    """As at the first evaluation of a joint training, which stores a pipeline."""
    nlp = make_nlp()
    nlp.initialize(lambda: related_examples(nlp))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(held_out_batches(nlp, "relation_extractor", related_examples(nlp, gold=False)))


def test_an_entity_component_behind_is_a_warning():
    """Trained on gold entities, the pipeline would find no relation in new text."""
    nlp = make_nlp(decode="graph")
    nlp.add_pipe("entity_ruler")
    with pytest.warns(UserWarning, match="relation_extractor is before 'entity_ruler'|but no component sets") as caught:
        nlp.initialize(lambda: related_examples(nlp))
    # Both point at the caller of the component, not into the package.
    assert len(caught) == 2 and {Path(warning.filename).name for warning in caught} == {"language.py"}
    nlp = make_nlp()
    nlp.add_pipe("entity_ruler")
    nlp.add_pipe("entity_ruler", name="first", first=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nlp.initialize(lambda: related_examples(nlp))


@registry.misc("test_own_pairs.v1")
def own_pairs():
    """A generator that does not say where its entities come from."""
    return partial(EntityPairs("document").__call__)


@Language.component("test_own_entities")
def own_entities(doc):
    return doc


SPANS = {"candidates": {**DOCUMENT, "spans_key": "gold"}}


@pytest.mark.parametrize(
    "settings, before, behind, warns",
    [
        ({"candidates": {"@misc": "test_own_pairs.v1"}}, None, {"factory_name": "entity_ruler"}, False),
        (SPANS, None, {"factory_name": "span_ruler", "config": {"spans_key": "other"}}, False),
        (SPANS, None, {"factory_name": "spancat", "config": {"spans_key": "gold"}}, True),
        (SPANS, {"factory_name": "span_ruler"}, {"factory_name": "nested_ner", "config": {"spans_key": "gold"}}, True),
        (SPANS, {"factory_name": "span_ruler", "config": {"spans_key": "gold"}}, {"factory_name": "spancat"}, False),
        ({}, {"factory_name": "test_own_entities"}, {"factory_name": "entity_ruler"}, False),
        ({}, {"factory_name": "span_ruler", "config": {"annotate_ents": True}}, {"factory_name": "ner"}, False),
        ({}, {"factory_name": "span_ruler"}, {"factory_name": "span_ruler", "config": {"annotate_ents": True}}, True),
    ],
)
def test_entities_that_may_be_there_are_no_warning(settings, before, behind, warns):
    nlp = make_nlp(**settings)
    if before is not None:
        nlp.add_pipe(**before, name="before", first=True)
    nlp.add_pipe(**behind, name="behind")
    examples = related_examples(nlp)
    for eg in examples:
        eg.reference.spans["gold"] = eg.reference.ents
    with warnings.catch_warnings(record=True) as caught:
        nlp.get_pipe("relation_extractor").initialize(lambda: examples, nlp=nlp)
    assert ["is before 'behind' in the pipeline" in str(warning.message) for warning in caught] == [True] * warns


@pytest.mark.filterwarnings("ignore:.*are not candidates", "ignore:.*are treated as unknown")
@pytest.mark.parametrize("key", [None, "sc"])
def test_calibration_leaves_out_pairs_of_wrong_entities(key):
    """The probability of a relation has those of its entities as factors, so they were counted twice."""
    nlp = make_nlp(candidates={**DOCUMENT, "spans_key": key})
    nlp.initialize(lambda: related_examples(nlp))
    words = ["Anna", "lives", "in", "Tarvik", "near", "Brenna"]
    gold, found = Doc(nlp.vocab, words=words), Doc(nlp.vocab, words=words)
    gold.set_ents([Span(gold, 0, 1, "PER"), Span(gold, 3, 4, "LOC")], default="outside")
    gold._.relations = [(*gold.ents, "LIVES_IN")]
    spans = [Span(found, 0, 1, "PER"), Span(found, 3, 4, "LOC"), Span(found, 5, 6, "LOC")]
    found.set_ents(spans)
    if key is not None:
        gold.spans[key] = gold.ents

    def pairs(*scores):
        for span, score in zip(spans, scores, strict=True):
            span._.score = score
        if key is not None:
            found.spans[key] = SpanGroup(found, spans=spans, attrs={"scores": scores} if None not in scores else {})
        [(_, batch)] = held_out_batches(nlp, "relation_extractor", [Example(found, gold)])
        return batch.counts.tolist(), len(batch.targets.rows)

    assert pairs(0.9, 0.8, 0.7) == ([2], 1)
    assert pairs(None, None, None) == ([6], 1)
    # Nothing is known of a span whose tokens have no annotation of entities, as after `convert`.
    gold.set_ents([Span(gold, 0, 1, "PER"), Span(gold, 3, 4, "LOC")], outside=[gold[1:3]], default="missing")
    assert pairs(0.9, 0.8, 0.7) == ([6], 1)
    gold.spans.clear()
    assert pairs(0.9, 0.8, 0.7) == ([6], 1)


@pytest.mark.parametrize("key", [None, "sc"])
def test_an_entity_on_other_tokens_than_the_gold_one_may_be_right(key):
    words = ["Anna", "lives", "in", "Tarvik"]
    gold = Doc(Vocab(), words=[*words[:3], "Tar", "vik"], spaces=[True, True, True, False, False])
    found = Doc(gold.vocab, words=words, spaces=[True, True, True, False])
    gold.set_ents([Span(gold, 0, 1, "PER"), Span(gold, 3, 4, "LOC")])
    found.set_ents([Span(found, 0, 1, "LOC"), Span(found, 3, 4, "LOC")])
    for ent in found.ents:
        ent._.score = 0.5
    if key is not None:
        for doc in (gold, found):
            doc.spans[key] = doc.ents
            doc.spans[key].attrs["scores"] = [0.5, 0.5]
    assert count_as_right(Example(found, gold), found.ents, key).tolist() == [False, True]


def test_a_wrong_entity_with_probability_1_is_not_right():
    """Only spans without a probability are certain; a head can be as sure of a wrong one."""
    gold, found = (Doc(Vocab(), words=["Anna", "lives", "in", "Tarvik"]) for _ in range(2))
    gold.set_ents([Span(gold, 0, 1, "PER")])
    found.set_ents([Span(found, 0, 1, "LOC"), Span(found, 3, 4, "LOC")])
    found.ents[0]._.score = 1.0
    assert span_scores(found, found.ents).tolist() == [1, np.inf]
    assert count_as_right(Example(found, gold), found.ents).tolist() == [False, True]


@pytest.mark.parametrize("key", [None, "sc"])
def test_entities_over_known_and_unknown_tokens(key):
    """What contains a token outside of entities is wrong. Only entities cannot overlap others."""
    gold, found = (Doc(Vocab(), words=["the", "Anna", "Vell", "Museum"]) for _ in range(2))
    gold.set_ents([Span(gold, 1, 2, "PER")], outside=[gold[0:1]], default="missing")
    spans = [(0, 4), (1, 3), (2, 4), (0, 1)]
    found.spans["sc"] = [Span(found, *bounds, "ORG") for bounds in spans]
    found.spans["sc"].attrs["scores"] = [0.5] * len(spans)
    gold.spans["sc"] = gold.ents
    candidates = list(found.spans["sc"])
    expected = [False, key is not None, True, False]
    for span, right in zip(candidates, expected, strict=True):
        if key is None:
            found.set_ents([span], default="outside")
            found.ents[0]._.score = 0.5
        assert count_as_right(Example(found, gold), [span], key).tolist() == [right], span


def test_gold_entities_tell_nothing_about_spans_from_elsewhere():
    """As from a candidate generator of one's own."""
    gold, found = (Doc(Vocab(), words=["Anna", "lives", "in", "Tarvik"]) for _ in range(2))
    for doc, spans in ((gold, []), (found, [Span(found, 0, 1, "PER")])):
        doc.set_ents(spans, default="outside")
    found.ents[0]._.score = 0.5
    found.spans["own"] = SpanGroup(found, spans=[Span(found, 3, 4, "LOC")], attrs={"scores": [0.5]})
    spans = [*found.ents, *found.spans["own"]]
    assert count_as_right(Example(found, gold), spans).tolist() == [False, True]


@pytest.mark.parametrize(
    "settings, crowded",
    [
        ({}, 1),  # two labels from Anna to Tarvik
        ({"direction": "labels"}, 2),  # and one back
        ({"direction": "labels", "type_pairs": "learned"}, 2),
        ({"multi_label": True}, 0),
        ({"direction": "labels", "multi_label": True}, 0),
    ],
)
def test_gold_relations_of_which_only_one_can_be_found(settings, crowded):
    nlp = make_nlp(**settings)
    examples = related_examples(nlp)
    reference = examples[0].reference
    head, tail = reference.ents
    reference._.relations = [(head, tail, "IN"), (head, tail, "NEAR"), (tail, head, "OF")]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        nlp.initialize(lambda: examples)
    messages = [str(w.message) for w in caught if "cannot be found, since their two entities" in str(w.message)]
    assert len(messages) == bool(crowded)
    if crowded:
        assert f"{crowded} of 6 gold relations" in messages[0] and "such as NEAR from" in messages[0]
        assert "multi_label = true" in messages[0]
        assert ("in both directions" in messages[0]) == ("direction" in settings)


@pytest.mark.parametrize(("labels", "crowded"), [(["IN", "NEAR"], 1), (["IN", "OF"], 0)])
def test_gold_relations_of_other_labels_are_no_fault(labels, crowded):
    """Those of another extractor were counted as relations that cannot be found."""
    nlp = make_nlp(candidates={**DOCUMENT, "max_distance": 3})
    reference = related_examples(nlp)[0].reference
    head, tail = reference.ents
    reference._.relations = [(head, tail, "IN"), (head, tail, "NEAR"), (tail, head, "OF"), (head, head, "SELF")]
    examples = [Example(reference.copy(), reference)]
    pipe = nlp.get_pipe("relation_extractor")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pipe.initialize(lambda: examples, labels=labels)
        pipe.update(examples)
    messages = [str(w.message) for w in caught]
    assert not any("not candidates" in message for message in messages)
    found = [message for message in messages if "cannot be found, since their two entities" in message]
    assert len(found) == crowded and all("1 of 2 gold relations" in message for message in found)


@pytest.mark.parametrize("direction", ["pairs", "labels"])
def test_forbidden_directions_are_no_candidates(direction):
    nlp = make_nlp(direction=direction, type_pairs=[["LOC", "PER"]])
    examples = related_examples(nlp)
    total = sum(len(eg.reference._.relations) for eg in examples)
    forbidden = sum(r.head.label_ == "PER" for eg in examples for r in eg.reference._.relations)
    assert forbidden
    with pytest.warns(UserWarning, match=f"{forbidden} of {total} gold relations are not candidates"):
        nlp.initialize(lambda: examples)


def test_unknown_entity_types():
    nlp = make_nlp()
    examples = related_examples(nlp)
    fit(nlp, examples)
    doc = Doc(nlp.vocab, words=TRAIN[0][0].split(" "))
    doc.set_ents([Span(doc, 0, 2, "ALIEN"), Span(doc, 4, 5, "PLANET")])
    with pytest.warns(UserWarning, match="not in the training corpus .*ALIEN.*PLANET"):
        assert isinstance(nlp(doc)._.relations, tuple)


def test_a_label_and_an_entity_type_of_one_name_are_both_warned_about():
    nlp = make_nlp()
    fit(nlp, related_examples(nlp))
    pipe = nlp.get_pipe("relation_extractor")
    doc = Doc(nlp.vocab, words=TRAIN[0][0].split(" "))
    doc.set_ents([Span(doc, 0, 2, "NEW"), Span(doc, 4, 5, "NEW")])
    doc._.relations = [(doc.ents[0], doc.ents[1], "NEW")]
    with pytest.warns(UserWarning) as caught:
        for _ in range(2):
            pipe.find_targets([Example(doc, doc)], pipe.find_items([doc]))
    messages = [str(warning.message) for warning in caught]
    assert ["gold labels" in message for message in messages] == [True, False]
    assert "entity types that are not in the training corpus" in messages[1]


def test_learned_type_pairs(tmp_path):
    nlp = make_nlp(type_pairs="learned")
    examples = related_examples(nlp)
    fit(nlp, examples, 1)
    pairs = nlp.get_pipe("relation_extractor").cfg["type_pairs"]
    assert sorted(map(tuple, pairs)) == [("PER", "LOC"), ("PER", "ORG"), ("PER", "PER")]
    nlp.to_disk(tmp_path)
    loaded = spacy.load(tmp_path).get_pipe("relation_extractor")
    assert len(loaded.find_items(predict(nlp, examples)[2:3])[0].pairs) == 1


def test_type_pairs_are_learned_of_the_labels_that_the_component_learns():
    nlp = make_nlp(type_pairs="learned")
    nlp.config["initialize"]["components"] = {"relation_extractor": {"labels": ["LIVES_IN"]}}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        nlp.initialize(lambda: related_examples(nlp))
    pipe = nlp.get_pipe("relation_extractor")
    assert pipe.cfg["type_pairs"] == [["PER", "LOC"]] and pipe.labels == ("LIVES_IN",)
    assert any("does not have count as negative: ['LEFT', 'WITH', 'WORKS_FOR']" in str(w.message) for w in caught)


def test_learned_type_pairs_grow_in_another_initialization():
    nlp = make_nlp(type_pairs="learned")
    examples = related_examples(nlp)
    nlp.initialize(lambda: examples[:1])
    pipe = nlp.get_pipe("relation_extractor")
    assert pipe.cfg["type_pairs"] == [["PER", "LOC"]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no gold relation is outside of the type pairs, since these are learned
        nlp.initialize(lambda: examples)
    assert pipe.cfg["type_pairs"] == [["PER", "LOC"], ["PER", "ORG"], ["PER", "PER"]]


@pytest.mark.parametrize(
    "type_pairs, expected",
    [
        ("all", None),
        ("learned", [["PER", "LOC"], ["PER", "ORG"], ["PER", "PER"]]),
        ([["PER", "LOC"], ["PER", "PER"]], [["PER", "LOC"], ["PER", "PER"]]),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:relation_extractor. 1 of 4 gold relations are not candidates")
def test_label_data(type_pairs, expected):
    """Label data make up for what the examples of an initialization lack, as with a streamed corpus."""
    nlp = make_nlp(type_pairs=type_pairs)
    examples = related_examples(nlp)
    nlp.initialize(lambda: examples)
    data = nlp.get_pipe("relation_extractor").label_data
    assert data == {
        "labels": ["LEFT", "LIVES_IN", "WITH", "WORKS_FOR"],
        "types": ["LOC", "ORG", "PER"],
        "type_pairs": expected,
    }
    streaming = make_nlp(type_pairs=type_pairs)
    streaming.config["initialize"]["components"] = {"relation_extractor": {"labels": json.loads(json.dumps(data))}}
    shown = related_examples(streaming)
    optimizer = streaming.initialize(lambda: shown[:1])
    pipe = streaming.get_pipe("relation_extractor")
    assert pipe.label_data == data
    module = pipe.head
    assert module.labels == data["labels"] and module.types == data["types"]
    optimizer.learn_rate = 0.01
    if isinstance(type_pairs, list):  # they exclude the relation between an organization and a person
        shown[2].reference._.relations = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # every label and type is known
        for _ in range(120):
            streaming.update(shown, sgd=optimizer)
    assert_learned(predict(streaming, shown), shown)


def test_label_data_may_have_learned_type_pairs_of_other_labels(copy_of):
    """As those of `spacy init labels`, after its list of labels was shortened."""
    nlp = make_nlp(type_pairs="learned_by_label")
    data = {"labels": ["LIVES_IN"], "types": ["LOC", "PER"], "type_pairs": {"LIVES_IN": [["PER", "LOC"]], "WITH": []}}
    nlp.config["initialize"]["components"] = {"relation_extractor": {"labels": data}}
    nlp.initialize(lambda: related_examples(nlp)[:1])
    assert copy_of(nlp).get_pipe("relation_extractor").labels == ("LIVES_IN",)


def test_label_data_do_not_widen_given_type_pairs():
    nlp = make_nlp(type_pairs=[["PER", "LOC"]])
    pipe = nlp.get_pipe("relation_extractor")
    examples = related_examples(nlp)[:1]
    data = {"labels": ["LIVES_IN"], "types": ["LOC", "PER"], "type_pairs": [["LOC", "LOC"]]}
    pipe.initialize(lambda: examples, labels=data)
    assert pipe.cfg["type_pairs"] == [["PER", "LOC"]]


@pytest.mark.parametrize("pairs", [[["PER", "LOC"], ["PERS", "ORG"]], {"LIVES_IN": [["PER", "LOC"], ["PERS", "ORG"]]}])
def test_entity_types_that_the_corpus_lacks_are_named(pairs):
    """A pair with a typo would exclude the relations of the right one without a word."""
    nlp = make_nlp(type_pairs=pairs)
    with pytest.warns(
        UserWarning, match=r"type_pairs has entity types that are not .*: \['PERS'\]; its types are \['LOC"
    ):
        nlp.initialize(lambda: related_examples(nlp))


def test_label_data_that_are_given_stay():
    """Examples are read for warnings only, also about its relations between types that are not in the label data."""
    nlp = make_nlp(type_pairs="learned")
    pipe = nlp.get_pipe("relation_extractor")
    examples = related_examples(nlp)
    data = {"labels": ["LIVES_IN", "WORKS_FOR"], "types": ["PER"], "type_pairs": [["PER", "LOC"]]}
    with (
        pytest.warns(UserWarning, match="gold labels that the component does not have"),
        pytest.warns(UserWarning, match="1 of 2 gold relations are not candidates"),
    ):
        pipe.initialize(lambda: examples, labels=data)
    assert pipe.label_data == data


def test_type_pairs_are_learned_anew():
    """At a second initialization, whose corpus has others."""
    nlp = make_nlp(type_pairs="learned")
    pipe = nlp.get_pipe("relation_extractor")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nlp.initialize(lambda: related_examples(nlp)[:1])
        assert pipe.cfg["type_pairs"] == [["PER", "LOC"]]
        nlp.initialize(lambda: related_examples(nlp)[2:3])
    assert pipe.cfg["type_pairs"] == [["PER", "ORG"]]


def dated(nlp):
    """An example with a relation to an entity of a type that no other example has."""
    doc = Doc(nlp.vocab, words=["Anna", "Brandt", "lives", "in", "Tarvik", "since", "March", "."])
    doc.set_ents([Span(doc, 0, 2, "PER"), Span(doc, 4, 5, "LOC"), Span(doc, 6, 7, "DATE")])
    reference = doc.copy()
    person, place, date = reference.ents
    reference._.relations = [(person, place, "LIVES_IN"), (person, date, "SINCE")]
    return Example(doc, reference)


@pytest.mark.parametrize("type_pairs", ["learned", "learned_by_label"])
def test_a_new_label_between_other_types_is_learned_or_warned_of(type_pairs, copy_of):
    """A trained component is not initialized again. Without the type pair of the new label, the loss was 0."""
    nlp = make_nlp(type_pairs=type_pairs)
    fit(nlp, related_examples(nlp), 1)
    first, second = copy_of(nlp), copy_of(nlp)
    create_add_labels({"relation_extractor": ["SINCE"]})(first)
    pipe = first.get_pipe("relation_extractor")
    pipe.add_types(["DATE"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            first.update([dated(first)])
    messages = [str(warning.message) for warning in caught if "candidates" in str(warning.message)]
    assert len(messages) == (type_pairs == "learned")  # by label, a label without a list may have all pairs
    for message in messages:
        assert "cannot be found: ['SINCE (PER > DATE)'], such as SINCE from 'Anna Brandt' PER to 'March'" in message
    assert [number for number, *_ in pipe.find_gold(dated(first))[2]] == ([0] if messages else [0, 1])

    pairs = [["PER", "DATE"]] if type_pairs == "learned" else {"SINCE": [["PER", "DATE"]]}
    create_add_labels({"relation_extractor": {"labels": ["SINCE"], "types": ["DATE"], "type_pairs": pairs}})(second)
    optimizer = second.resume_training()
    optimizer.learn_rate = 0.01
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(40):
            second.update([dated(second)], sgd=optimizer)
    assert relations(second.get_pipe("relation_extractor")(dated(second).predicted)) == [
        (0, 2, 4, 5, "LIVES_IN"),
        (0, 2, 6, 7, "SINCE"),
    ]
    for value in ("SINCE", [1]):
        with pytest.raises(ValueError, match=r"labels.relation_extractor.labels = .* is not a list of strings"):
            create_add_labels({"relation_extractor": {"labels": value}})(second)
    with pytest.raises(ValueError, match=r"labels.relation_extractor = .*: give a list of labels, or for a relation_e"):
        create_add_labels({"relation_extractor": {"label": ["SINCE"]}})(second)


def test_calibration_warns_of_no_relation():
    """The development corpus may have relations between types that the training corpus does not have."""
    nlp = make_nlp(type_pairs="learned")
    fit(nlp, related_examples(nlp)[:1], 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nlp.get_pipe("relation_extractor").held_out_input(related_examples(nlp)[:1])
        nlp.get_pipe("relation_extractor").loss_on(related_examples(nlp)[:1])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        nlp.get_pipe("relation_extractor").held_out_input(related_examples(nlp))
    assert not any("candidates" in str(warning.message) for warning in caught)


def test_relations_of_old_labels_between_other_types_are_warned_of(copy_of):
    """By label, the pair is a candidate, but the label is never predicted for it."""
    nlp = make_nlp(type_pairs="learned_by_label")
    fit(nlp, related_examples(nlp), 1)
    example = related_examples(nlp)[2]
    person, company = reversed(example.reference.ents)
    example.reference._.relations = [(person, company, "WORKS_FOR"), (person, company, "LIVES_IN")]
    with pytest.warns(UserWarning, match=r"cannot be found: \['LIVES_IN \(PER > ORG\)'\]"):
        nlp.update([example])


def test_extractors_with_the_same_label_are_warned_of():
    nlp = spacy.blank("en")
    for name in ("first", "second"):
        nlp.add_pipe("relation_extractor", name=name, config={"model": relation_model(), "candidates": DOCUMENT})
    with pytest.warns(UserWarning, match=r"first and second both have the labels \['LEFT', .*second removes the relat"):
        nlp.initialize(lambda: related_examples(nlp))
    nlp = spacy.blank("en")
    blocks = nlp.config["initialize"]["components"]
    for name, labels in {"first": ["LEFT", "WITH"], "second": ["LIVES_IN", "WORKS_FOR"]}.items():
        nlp.add_pipe("relation_extractor", name=name, config={"model": relation_model(), "candidates": DOCUMENT})
        blocks[name] = {"labels": labels}
    nlp.config["initialize"]["components"] = blocks
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        nlp.initialize(lambda: related_examples(nlp))
    assert not any("labels" in str(warning.message) for warning in caught)
    assert nlp.get_pipe("first").labels == ("LEFT", "WITH")


@pytest.mark.parametrize("given", [{"types": ["PER", "LOC", "ORG"], "type_pairs": None}, {"types": ["PER"]}, {}])
def test_label_data_that_are_not_all_are_completed(monkeypatch, given):
    """Those of a config without type pairs, for one that learns them."""
    monkeypatch.setattr(base, "LABEL_SAMPLE", 1)
    nlp = make_nlp(type_pairs="learned")
    examples = related_examples(nlp)
    pipe = nlp.get_pipe("relation_extractor")
    pipe.initialize(lambda: examples)
    expected = pipe.label_data
    pipe = (nlp := make_nlp(type_pairs="learned")).get_pipe("relation_extractor")
    pipe.initialize(lambda: examples, labels={"labels": expected["labels"], **given})
    assert pipe.label_data == {**expected, "types": given.get("types", expected["types"])}


def test_a_list_of_labels(monkeypatch):
    """Entity types are read from all examples, unless they are given."""
    monkeypatch.setattr(base, "LABEL_SAMPLE", 1)
    nlp = make_nlp()
    pipe = nlp.get_pipe("relation_extractor")
    examples = related_examples(nlp)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipe.initialize(lambda: examples, labels={"labels": ["LIVES_IN"], "types": ["PER"], "type_pairs": None})
    assert pipe.cfg["types"] == ["PER"]
    pipe = (nlp := make_nlp()).get_pipe("relation_extractor")
    with pytest.warns(UserWarning, match=r"gold labels that the component does not have .*\['LEFT', 'WITH'\]"):
        pipe.initialize(lambda: examples, labels=["WORKS_FOR", "LIVES_IN"])
    assert pipe.labels == ("WORKS_FOR", "LIVES_IN") and pipe.cfg["types"] == ["LOC", "ORG", "PER"]


@pytest.mark.parametrize("labels", ["LIVES_IN", {"0": {}, "1": {"PER": 7}}, {"labels": "LIVES_IN"}])
def test_what_is_no_label_data(labels):
    pipe = make_nlp().get_pipe("relation_extractor")
    with pytest.raises(ValueError, match=r"relation_extractor: .* are not its label data"):
        pipe.add_label_data(labels)
    assert pipe.labels == ()


def test_types_are_a_list():
    """A string would be taken apart into letters."""
    pipe = make_nlp().get_pipe("relation_extractor")
    with pytest.raises(ValueError, match=r"relation_extractor: types = 'PER' is not a list; give \['PER'\]"):
        pipe.add_types("PER")


def test_types_can_be_added(copy_of):
    nlp = make_nlp(type_pairs="learned")
    examples = related_examples(nlp)
    fit(nlp, examples, 120)
    pipe = nlp.get_pipe("relation_extractor")
    before = [odds for odds, _ in pipe.predict([eg.predicted for eg in examples])[1]]
    pipe.add_types(["PER", "ANIMAL", "AGE"], [("ANIMAL", "LOC"), ("PER", "LOC")])
    assert pipe.cfg["types"] == pipe.head.types == ["LOC", "ORG", "PER", "ANIMAL", "AGE"]
    assert pipe.cfg["type_pairs"] == [["PER", "LOC"], ["PER", "ORG"], ["PER", "PER"], ["ANIMAL", "LOC"]]
    after = [odds for odds, _ in pipe.predict([eg.predicted for eg in examples])[1]]
    for a, b in zip(before, after, strict=True):
        assert np.allclose(a, b, atol=1e-5)
    animal = {"words": ["Rex", "lives", "in", "Tarvik", "."], "ents": ["B-ANIMAL", "O", "O", "B-LOC", "O"]}
    reference, predicted = (Doc(nlp.vocab, **animal) for _ in range(2))
    reference._.relations = [(*reference.ents, "LIVES_IN")]
    row = pipe.head.type_vectors.weight[4].detach().clone()
    optimizer = nlp.resume_training()
    optimizer.learn_rate = 0.01
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the type is known now
        for _ in range(30):
            nlp.update([*examples, Example(predicted, reference)], sgd=optimizer)
    assert not row.equal(pipe.head.type_vectors.weight[4])
    for trained in (nlp, copy_of(nlp)):
        assert relations(trained(Doc(trained.vocab, **animal))) == [(0, 1, 3, 4, "LIVES_IN")]


def test_a_type_that_is_given_twice_is_one():
    """Its two rows were mixed up when the model grew again, and what it had learned was lost."""
    nlp = make_nlp()
    fit(nlp, related_examples(nlp), 1)
    pipe = nlp.get_pipe("relation_extractor")
    doc = Doc(nlp.vocab, words=["Rex", "barks"], ents=["B-ANIMAL", "O"])

    def type_vector():
        (number,) = pipe.find_items([doc])[0].types
        return pipe.head.type_vectors.weight[number].detach().clone()

    pipe.add_types(["ANIMAL", "PER", "ANIMAL"])
    before = type_vector()
    pipe.add_types(["AGE"])
    assert pipe.cfg["types"] == pipe.head.types == ["LOC", "ORG", "PER", "ANIMAL", "AGE"]
    assert type_vector().equal(before)


def test_an_empty_type_is_not_the_unknown_one():
    """A span in doc.spans may have no label. What its type had learned was lost when the model grew."""
    nlp = make_nlp()
    fit(nlp, related_examples(nlp), 1)
    pipe = nlp.get_pipe("relation_extractor")
    pipe.add_types([""])
    before = pipe.head.type_vectors.weight.detach().clone()
    pipe.add_types(["AGE"])
    assert pipe.head.type_vectors.weight[:-1].equal(before)


def test_label_data_that_name_something_twice():
    pipe = make_nlp().get_pipe("relation_extractor")
    pipe.add_label_data({"labels": ["LEFT", "WITH", "LEFT"], "types": ["PER", "LOC", "PER"]})
    assert pipe.label_data == {"labels": ["LEFT", "WITH"], "types": ["PER", "LOC"], "type_pairs": None}


def test_no_label_is_an_error():
    nlp = make_nlp()
    examples = make_examples(nlp)
    with pytest.raises(ValueError, match="relation_extractor: no label"):
        nlp.initialize(lambda: examples)


def test_labels_can_be_added(copy_of):
    nlp = make_nlp()
    examples = related_examples(nlp)
    fit(nlp, examples, 120)
    before = predict(nlp, examples)
    assert nlp.get_pipe("relation_extractor").add_label("NEW") == 1
    after = predict(nlp, examples)
    assert list(map(relations, after)) == list(map(relations, before))
    assert copy_of(nlp).get_pipe("relation_extractor").labels[-1] == "NEW"


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"direction": "up"}, "unknown direction 'up'"),
        ({"type_pairs": "some"}, "type_pairs = 'some'"),
        ({"type_pairs": [["PER", "IN", "LOC"]]}, r"relation_extractor: type_pairs has \['PER', 'IN', 'LOC'\]; a pair"),
        (
            {"type_pairs": {"IN": [["PER"]]}},
            r"type_pairs of 'IN': type_pairs has \['PER'\]; a pair",
        ),
        ({"threshold": 2.0}, "threshold = 2.0"),
        ({"negative_ratio": -1.0}, "negative_ratio = -1.0"),
        ({"candidates": {"@misc": "spacy_ner_arch.EntityPairs.v1", "within": "page"}}, "unknown within = 'page'"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        make_nlp(**settings)


def test_behind_an_entity_component():
    nlp = spacy.blank("en")
    nlp.add_pipe("sequence_ner", config={"model": small_model()})
    nlp.add_pipe("relation_extractor", config={"model": relation_model(), "candidates": DOCUMENT})
    fit(nlp, related_examples(nlp), 120)
    docs = list(nlp.pipe([Doc(nlp.vocab, words=text.split(" ")) for text, _ in TRAIN]))
    gold = [eg.reference for eg in related_examples(nlp)]
    assert [sorted(relations(doc)) for doc in docs] == [sorted(relations(doc)) for doc in gold]
    scores = nlp.evaluate(related_examples(nlp, gold=False))
    assert scores["ents_f"] == scores["rel_strict_f"] == 1.0


# Annotation


def chosen(nlp, odds, spans, words=5):
    """Relations that the component sets for given odds (P, classes)."""
    pipe = nlp.get_pipe("relation_extractor")
    doc = Doc(nlp.vocab, words=["w"] * words)
    doc.set_ents([Span(doc, *span) for span in spans])
    odds = np.array(odds, dtype="f")
    pipe.set_annotations([doc], (pipe.find_items_to_predict([doc]), [(-np.logaddexp(0, -odds), odds)]))
    return relations(doc)


PEOPLE = [(0, 1, "PER"), (2, 3, "PER")]


def with_labels(*labels, types=("LOC", "PER"), **settings):
    pipe_nlp = make_nlp(**settings)
    pipe = pipe_nlp.get_pipe("relation_extractor")
    pipe.cfg["types"] = list(types)
    for label in labels:
        pipe.add_label(label)
    return pipe_nlp


def test_a_symmetric_label_wins_both_orders_of_a_pair():
    """The second best label of the mirrored pair is not a relation."""
    nlp = with_labels("LIKES", "WITH", symmetric=["WITH"])
    assert chosen(nlp, [[0.4, 5.0], [0.4, 5.0]], PEOPLE) == [(0, 1, 2, 3, "WITH")]
    assert chosen(nlp, [[6.0, 5.0], [0.4, 5.0]], PEOPLE) == [(0, 1, 2, 3, "LIKES")]
    both = with_labels("LIKES", "WITH", symmetric=["WITH"], multi_label=True)
    assert chosen(both, [[-1, 5.0], [0.4, 5.0]], PEOPLE) == [(0, 1, 2, 3, "WITH"), (2, 3, 0, 1, "LIKES")]


@pytest.mark.parametrize("multi_label", [False, True])
def test_symmetric_labels_get_the_average_of_both_orders(multi_label):
    nlp = with_labels("LIKES", "WITH", symmetric=["WITH"], multi_label=multi_label)
    pipe = nlp.get_pipe("relation_extractor")
    doc = Doc(nlp.vocab, words=["w"] * 5)
    doc.set_ents([Span(doc, i, i + 1, "PER") for i in (0, 2, 4)])
    found = pipe.find_items_to_predict([doc])[0].select(np.array([0, 1, 2, 3, 5]))  # the last pair has no reverse
    pairs = found.pairs.tolist()
    turned = [pairs.index([tail, head]) if [tail, head] in pairs else i for i, (head, tail) in enumerate(pairs)]
    assert reverse_rows(found).tolist() == turned and turned[4] != 4 and len({*turned} & {1, 3}) > 0
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(5, 2 if multi_label else 3))
    yes, no = 1 / (1 + np.exp(-logits)), 1 / (1 + np.exp(logits))
    if not multi_label:
        shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        yes, no = shares[:, 1:], np.repeat(shares[:, :1], 2, axis=1)
    _, _, odds, probabilities = score_pairs(found, np.log(yes), np.log(yes / no), pipe.rules)
    for i, other in enumerate(turned):
        assert probabilities[i, 0] == pytest.approx(yes[i, 0])
        assert odds[i, 0] == pytest.approx(np.log(yes[i, 0] / no[i, 0]))
        assert odds[i, 1] == pytest.approx(np.log(yes[[i, other], 1] / no[[i, other], 1]).mean())
        of_both = (yes / (1 - yes))[[i, other], 1]
        assert probabilities[i, 1] == pytest.approx(1 / (1 + 1 / np.sqrt(of_both.prod())))


def test_one_certain_order_does_not_decide_for_the_other():
    """In float32 the probability of odds of 40 is 1, and its logit is infinite."""
    nlp = with_labels("WITH", symmetric=["WITH"])
    pipe = nlp.get_pipe("relation_extractor")
    doc = Doc(nlp.vocab, words=["w"] * 3)
    doc.set_ents([Span(doc, i, i + 1, "PER") for i in (0, 2)])
    odds = np.array([[40.0], [-300.0]], dtype="f")
    pairs = score_pairs(pipe.find_items_to_predict([doc])[0], -np.logaddexp(0, -odds), odds, pipe.rules)
    assert (pairs.odds == -130).all() and (pairs.probabilities < 1e-6).all()


@pytest.mark.parametrize("multi_label", [False, True])
def test_calibration_changes_no_relation(multi_label):
    """The mean of the probabilities of both orders is above that of no relation at one temperature and not another."""
    nlp = with_labels("LIKES", "WITH", symmetric=["WITH"], multi_label=multi_label)
    pipe = nlp.get_pipe("relation_extractor")
    doc = Doc(nlp.vocab, words=["w"] * 7)
    doc.set_ents([Span(doc, i, i + 1, "PER") for i in (0, 2, 4, 6)])
    items = pipe.find_items_to_predict([doc])

    def found(logits, temperature):
        scores = torch.from_numpy(logits / temperature)
        if multi_label:
            log_probabilities, odds = torch.nn.functional.logsigmoid(scores[:, 1:]), scores[:, 1:]
        else:
            log_probabilities, odds = scores.log_softmax(1)[:, 1:], scores[:, 1:] - scores[:, :1]
        pipe.set_annotations([doc], (items, [(log_probabilities.numpy(), odds.numpy())]))
        return relations(doc)

    tables = np.random.default_rng(0).normal(-1, 2.5, (100, len(items[0].pairs), 3))
    expected = [found(logits, 1.0) for logits in tables]
    assert {relation[4] for one in expected for relation in one} == {"LIKES", "WITH"}
    for temperature in (0.5, 0.7, 3.0):
        assert [found(logits, temperature) for logits in tables] == expected


@pytest.mark.parametrize("multi_label, expected", [(False, [0.56, 0.48]), (True, [0.08, 0.56, 0.08, 0.48])])
def test_a_relation_is_as_uncertain_as_its_entities(multi_label, expected):
    """Its score is the probability that both entities are right and related. The threshold is for the pair alone."""
    nlp = with_labels("LIKES", "KNOWS", multi_label=multi_label)
    pipe = nlp.get_pipe("relation_extractor")
    doc = Doc(nlp.vocab, words=["w"] * 3)
    doc.set_ents([Span(doc, i, i + 1, "PER") for i in (0, 2)])
    doc.ents[0]._.score = 0.8  # the other one is certain
    candidates = pipe.find_items_to_predict([doc])[0]
    yes = np.array([[0.7, 0.1], [0.6, 0.1]])
    no = 1 - yes if multi_label else np.repeat(1 - yes.sum(1, keepdims=True), 2, axis=1)

    def scores(threshold):
        pipe.cfg["threshold"] = threshold
        pipe.set_annotations([doc], ([candidates], [(np.log(yes), np.log(yes / no))]))
        return [round(relation.score, 6) for relation in doc._.relations]

    assert scores(0.0) == expected and scores(0.5) == [0.56, 0.48]


def test_a_relation_of_spans_counts_their_probabilities():
    nlp = make_nlp(candidates={"@misc": "spacy_ner_arch.EntityPairs.v1", "spans_key": "sc"})
    pipe = nlp.get_pipe("relation_extractor")
    pipe.add_label("LIKES")
    doc = Doc(nlp.vocab, words=["w"] * 3, sent_starts=[True, False, False])
    doc.spans["sc"] = [Span(doc, 0, 1, "PER"), Span(doc, 0, 2, "PER")]
    doc.spans["sc"].attrs["scores"] = np.array([0.5, 0.9])
    candidates = pipe.find_items_to_predict([doc])[0]
    yes = np.array([[0.8], [0.3]])
    pipe.set_annotations([doc], ([candidates], [(np.log(yes), np.log(yes / (1 - yes)))]))
    assert [relation.score for relation in doc._.relations] == pytest.approx([0.8 * 0.5 * 0.9])


@pytest.mark.parametrize("key, expected", [("sc", 0.8 * 0.5 * 0.9), (None, 0.8 * 0.4), ("given", 0.8)])
def test_the_probability_of_an_entity_is_that_of_where_it_comes_from(key, expected):
    """The same spans are entities, one of them of an entity ruler, and are in two groups, one without scores."""
    nlp = make_nlp(candidates={"@misc": "spacy_ner_arch.EntityPairs.v1", "spans_key": key})
    pipe = nlp.get_pipe("relation_extractor")
    pipe.add_label("LIKES")
    doc = Doc(nlp.vocab, words=["w"] * 3, sent_starts=[True, False, False])
    spans = [Span(doc, 0, 1, "PER"), Span(doc, 2, 3, "PER")]
    doc.set_ents(spans)
    doc.ents[0]._.score = 0.4
    doc.spans["sc"], doc.spans["given"] = spans, spans
    doc.spans["sc"].attrs["scores"] = np.array([0.5, 0.9])
    candidates = pipe.find_items_to_predict([doc])[0]
    yes = np.array([[0.8], [0.3]])
    pipe.set_annotations([doc], ([candidates], [(np.log(yes), np.log(yes / (1 - yes)))]))
    assert [relation.score for relation in doc._.relations] == pytest.approx([expected])


BACKWARDS = [(0, 1, "LOC"), (2, 3, "PER")]


def test_type_pairs_apply_to_each_direction():
    """A forbidden direction never wins, and does not keep an allowed label above the threshold from winning."""
    nlp = with_labels("IN", type_pairs=[["PER", "LOC"]], direction="labels")
    assert chosen(nlp, [[5.0, -1.0]], BACKWARDS) == []
    assert chosen(nlp, [[5.0, 1.0]], BACKWARDS) == chosen(nlp, [[1.0, 5.0]], BACKWARDS) == [(2, 3, 0, 1, "IN")]
    near = with_labels("NEAR", type_pairs=[["PER", "LOC"]], direction="labels", symmetric=["NEAR"])
    assert chosen(near, [[5.0]], BACKWARDS) == [(0, 1, 2, 3, "NEAR")]


def test_type_pairs_apply_to_each_direction_of_several_labels():
    """Classes: IN, inverse of IN, NEAR, AT, inverse of AT."""
    pairs = {"type_pairs": [["PER", "LOC"]], "direction": "labels", "symmetric": ["NEAR"]}
    nlp = with_labels("IN", "NEAR", "AT", **pairs)
    assert chosen(nlp, [[9.0, 0.5, 1.0, 9.0, 0.7]], BACKWARDS) == [(0, 1, 2, 3, "NEAR")]
    assert chosen(nlp, [[9.0, 0.5, 0.4, 9.0, 0.7]], BACKWARDS) == [(2, 3, 0, 1, "AT")]
    assert chosen(nlp, [[9.0, -0.5, -0.4, 9.0, -0.7]], BACKWARDS) == []
    several = with_labels("IN", "NEAR", "AT", **pairs, multi_label=True)
    found = chosen(several, [[9.0, 0.5, 1.0, 9.0, 0.7]], BACKWARDS)
    assert found == [(0, 1, 2, 3, "NEAR"), (2, 3, 0, 1, "AT"), (2, 3, 0, 1, "IN")]
    # No direction is allowed: the two entities are not a candidate.
    pipe = nlp.get_pipe("relation_extractor")
    doc = Doc(nlp.vocab, words=["w"] * 5, ents=["B-PER", "O", "B-PER", "O", "O"])
    assert len(pipe.find_items([doc])[0].pairs) == 0


def test_relations_of_other_labels_stay():
    nlp = with_labels("LIKES")
    doc = Doc(nlp.vocab, words=["w"] * 5)
    doc.set_ents([Span(doc, *span) for span in PEOPLE])
    doc._.relations = [(*doc.ents, "LIKES"), (*doc.ents, "KNOWS")]
    pipe = nlp.get_pipe("relation_extractor")
    pipe.set_annotations([doc], (pipe.find_items_to_predict([doc]), [(np.full((2, 1), -9.0), np.full((2, 1), -0.1))]))
    assert relations(doc) == [(0, 1, 2, 3, "KNOWS")]


def test_class_weights_apply_to_both_directions():
    nlp = make_nlp(model=relation_model(class_weights={"LEFT": 5.0}), direction="labels")
    fit(nlp, related_examples(nlp), 1)
    module = nlp.get_pipe("relation_extractor").head
    assert dict(zip(module.labels, module.weights.tolist(), strict=True))["LEFT^-1"] == 5.0


def test_gold_relations_on_other_tokens_and_other_spaces():
    """Arguments that align are used; a relation with one that does not is reported and counts as missed."""
    nlp = make_nlp()
    reference = Doc(nlp.vocab, words=["Anna", ",", "of", "Rome", "-", "based", "Acme"], spaces=[True] * 7)
    reference.set_ents([Span(reference, 0, 1, "PER"), Span(reference, 3, 4, "LOC"), Span(reference, 6, 7, "ORG")])
    person, place, company = reference.ents
    reference._.relations = [(person, company, "FOR"), (company, place, "IN")]
    words, spaces = ["Anna", ",", "of", "Rome-based", "Acme"], [False, True, True, True, False]
    example = Example(Doc(nlp.vocab, words=words, spaces=spaces), reference)
    example.predicted.set_ents([Span(example.predicted, 0, 1, "PER"), Span(example.predicted, 4, 5, "ORG")])
    with pytest.warns(
        UserWarning, match="1 of 2 gold relations are not candidates, such as IN from 'Acme' ORG to 'Rome' LOC:"
    ):
        nlp.initialize(lambda: [example])
    _, (found,), (gold,), *_ = nlp.get_pipe("relation_extractor").model_input([example])
    assert (len(found.pairs), gold.rows.tolist(), gold.classes.tolist()) == (2, [0], [0])
    head, tail = example.predicted.ents
    example.predicted._.relations = [(head, tail, "FOR")]
    scores = score_relations([example])
    assert (scores["rel_strict_p"], scores["rel_strict_r"]) == (1.0, 0.5)


@pytest.mark.parametrize("punctuation", [None, ["\n"]])
def test_gold_documents_without_sentences_have_those_of_the_sentencizer(punctuation):
    """A relation across them is reported."""
    nlp = make_nlp(candidates={"@misc": "spacy_ner_arch.EntityPairs.v1"})
    nlp.add_pipe("sentencizer", first=True, config={"punct_chars": punctuation})
    reference = Doc(nlp.vocab, words=["Anna", "left", ".", "Acme", "is", "in", "Rome", "."])
    reference.set_ents([Span(reference, 0, 1, "PER"), Span(reference, 3, 4, "ORG"), Span(reference, 6, 7, "LOC")])
    person, company, place = reference.ents
    reference._.relations = [(person, company, "FOR"), (company, place, "IN")]
    example = Example(reference.copy(), reference)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        nlp.initialize(lambda: [example])
    is_lost = any(
        "1 of 2 gold relations are not candidates, such as FOR from 'Anna'" in str(warning.message)
        and "the entities are in different sentences" in str(warning.message)
        for warning in caught
    )
    assert not reference.has_annotation("SENT_START") and is_lost is (punctuation is None)
    (gold, candidates, found) = nlp.get_pipe("relation_extractor").find_gold(example)
    numbers = [number for number, *_ in found]
    assert (len(gold), len(candidates.pairs), numbers) == ((2, 2, [1]) if is_lost else (2, 6, [0, 1]))


@pytest.mark.parametrize("before", ["nothing", "ruler", "sentencizer", "frozen", "silent"])
def test_sentences_that_no_component_sets_end_the_initialization(before):
    nlp = make_nlp(candidates={"@misc": "spacy_ner_arch.EntityPairs.v1"})
    if before == "ruler":
        nlp.add_pipe("entity_ruler", first=True)
    elif before == "silent":
        nlp.add_pipe("test_own_entities", first=True)
    elif before != "nothing":
        nlp.add_pipe("sentencizer", first=True)
    examples = related_examples(nlp)
    for eg in examples:
        eg.predicted = eg.reference.copy()
    with nlp.select_pipes(disable=["sentencizer"] if before == "frozen" else []):
        if before in ("nothing", "ruler"):
            with pytest.raises(ValueError, match="relation_extractor: .* the corpus has none for 'Anna.*annotating"):
                nlp.initialize(lambda: examples)
            for eg in examples:
                set_sentences(eg.predicted, [0])
        nlp.initialize(lambda: examples)


def test_entities_from_doc_spans():
    """Entities inside other entities."""
    nlp = make_nlp(candidates={**DOCUMENT, "spans_key": "sc"})
    examples = make_examples(nlp)
    for eg in examples:
        doc = eg.reference
        doc.spans["sc"] = [span for ent in doc.ents for span in (ent, Span(doc, ent.end - 1, ent.end, "LAST"))]
        doc._.relations = [(ent, Span(doc, ent.end - 1, ent.end, "LAST"), "ENDS") for ent in doc.ents if len(ent) > 1]
        copy_spans(eg)
    fit(nlp, examples)
    predicted = [eg.predicted.copy() for eg in examples]
    assert_learned(list(nlp.pipe(predicted)), examples)


def test_negative_ratio_applies_to_updates_only():
    nlp = make_nlp(negative_ratio=1.0)
    examples = related_examples(nlp)
    fit(nlp, examples, 1)
    pipe = nlp.get_pipe("relation_extractor")
    _, every, gold, *_ = pipe.model_input(examples)
    assert [len(found.pairs) for found in every] == [2, 0, 2, 0, 12]
    _, some, kept, *_ = pipe.model_input(examples, sample=True)
    assert sum(len(found.pairs) for found in some) == 2 * sum(len(np.unique(own.rows)) for own in gold) == 8
    for whole, part, before, after in zip(every, some, gold, kept, strict=True):
        assert whole.pairs[before.rows].tolist() == part.pairs[after.rows].tolist()
    assert pipe.loss_on(examples) == pipe.loss_on(examples)


@pytest.mark.parametrize("pairs", ["softmax", "markers"])
def test_probabilities_hold_for_all_pairs(pairs):
    """Also if only some of those without a relation are sampled. Entities are related in a tenth of the same texts."""
    nlp = make_nlp(model=relation_model(pairs), negative_ratio=1.0, threshold=0.0)
    examples = []
    for number in range(20):
        reference = Doc(nlp.vocab, words=["Anna", "saw", "Brandt"])
        reference.set_ents([Span(reference, 0, 1, "PER"), Span(reference, 2, 3, "PER")])
        first, last = reference.ents
        reference._.relations = [(first, last, "SAW")] if number < 2 else []
        examples.append(Example(reference.copy(), reference))
    fit(nlp, examples, 200)
    doc = nlp(examples[0].predicted.copy())
    (score,) = (relation.score for relation in doc._.relations if relation.head.start == 0)
    assert score == pytest.approx(0.1, abs=0.03)


def test_markers_copy_sampled_pairs_only(monkeypatch):
    nlp = make_nlp(model=relation_model("markers"), negative_ratio=1.0)
    examples = related_examples(nlp)
    optimizer = nlp.initialize(lambda: examples)
    copies = []

    def count(*args, **settings):
        copies.append(mark(*args, **settings))
        return copies[-1]

    monkeypatch.setattr(marked_copies, "mark", count)
    nlp.update(examples, sgd=optimizer)
    assert sum(len(made) for made in copies) == 8
    copies.clear()
    nlp.get_pipe("relation_extractor").loss_on(examples)
    assert [len(made) for made in copies] == [2, 2, 12]


def test_many_pairs_are_classified_with_one_warning(monkeypatch):
    monkeypatch.setattr(relation_checks, "MANY_PAIRS", 11)
    nlp = make_nlp()
    examples = related_examples(nlp)
    nlp.initialize(lambda: examples)
    pipe = nlp.get_pipe("relation_extractor")
    with pytest.warns(UserWarning, match="'Quist left .* has 12 candidate pairs.* set max_distance") as caught:
        found = pipe.find_items([eg.predicted for eg in examples])
        assert [len(pairs.pairs) for pairs in found] == [2, 0, 2, 0, 12]
        pipe.find_items([eg.predicted for eg in examples])
    assert len(caught) == 1 and pipe.find_items([]) == []


def test_bad_labels():
    nlp = make_nlp(symmetric=["TYPO"])
    examples = related_examples(nlp)
    with pytest.raises(ValueError, match=r"symmetric names \['TYPO'\], which are not labels"):
        nlp.initialize(lambda: examples)
    with pytest.raises(ValueError, match=r"'x\^-1' ends in"):
        make_nlp(direction="labels").get_pipe("relation_extractor").add_label("x^-1")


EMBED_CNN = {
    "@architectures": "spacy.HashEmbedCNN.v2",
    "width": 8,
    "depth": 1,
    "embed_size": 50,
    "window_size": 1,
    "maxout_pieces": 2,
    "subword_features": True,
    "pretrained_vectors": None,
}
OVER_OUR_ENCODER = {
    "@architectures": "spacy.Tagger.v2",
    "tok2vec": {
        "@architectures": "spacy_ner_arch.TorchTok2Vec.v1",
        "tok2vec": EMBED_CNN,
        "encoder": {"@architectures": "spacy_ner_arch.BiLSTM.v1", "hidden_size": 4},
    },
}


@pytest.mark.parametrize("model", [EMBED_CNN, OVER_OUR_ENCODER, small_model("CRF")])
def test_a_model_that_does_not_fit_is_an_error(model):
    message = "relation_extractor: its model .* does not classify pairs; .*spacy_ner_arch.Relations.v1"
    with pytest.raises(ValueError, match=message):
        make_nlp(model=model)


# Markers


@pytest.mark.parametrize(
    "marks, tok2vec, message",
    [
        (["@"], ENCODED, "marks = .* give four words"),
        (["@", " ", "#", "#"], ENCODED, "marks = .* give four words"),
        (["@"] * 4, {"@architectures": "spacy_ner_arch.TransformerListener.v1"}, "instead of a listener"),
    ],
)
def test_bad_markers(marks, tok2vec, message):
    pairs = {**BLOCKS["markers"], "marks": marks}
    with pytest.raises(ValueError, match=message):
        make_nlp(model=relation_model(tok2vec=tok2vec) | {"pairs": pairs})


@pytest.mark.parametrize(
    "settings", [{"encoder": BLOCKS["synlstm"]}, {"tok2vec": {**ENCODED, "encoder": BLOCKS["synlstm"]}}]
)
def test_markers_cannot_read_trees(settings):
    """Neither in the encoder nor in the tok2vec."""
    with pytest.raises(ValueError, match="MarkerPairs.v1: marked copies have no dependency trees"):
        make_nlp(model=relation_model("markers", **settings))


def test_predictions_of_markers_do_not_depend_on_other_documents(monkeypatch):
    nlp = make_nlp(model=relation_model("markers"), symmetric=["WITH"])
    examples = related_examples(nlp)
    fit(nlp, examples, 5)
    pipe = nlp.get_pipe("relation_extractor")
    docs = [eg.predicted for eg in examples]
    together = pipe.predict(docs)[1]
    alone = [pipe.predict([doc])[1][0] for doc in docs]
    monkeypatch.setattr(marked_copies, "CHUNK", 3)
    for whole, own, cut in zip(together, alone, pipe.predict(docs)[1], strict=True):
        assert len(whole) == len(own) == len(cut)
        for parts in zip(whole, own, cut, strict=True):
            assert np.allclose(parts[0], parts[1], atol=1e-5) and np.allclose(parts[0], parts[2], atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "roberta", "words", "spacy"])
def test_chunks_of_marked_copies_change_nothing(monkeypatch, tiny_transformers, kind):
    """Neither the loss nor gradients and counts of words."""
    embedding = {"@architectures": "spacy_ner_arch.WordCharEmbed.v1", "unknown_rate": 0.0}
    tok2vec = {**ENCODED, "tok2vec": embedding}
    if kind == "spacy":
        tok2vec = EMBED_CNN
    if kind in tiny_transformers:
        rates = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)
        transformer = {**MODELS["ours"], "name": str(tiny_transformers[kind]), "transformer_config": rates}
        tok2vec = {
            "@architectures": "spacy_ner_arch.TransformerTok2Vec.v1",
            "transformer": transformer,
            "features": embedding,
        }
    nlp = make_nlp(model=relation_model("markers", tok2vec=tok2vec))
    examples = related_examples(nlp)
    nlp.initialize(lambda: examples)
    pipe = nlp.get_pipe("relation_extractor")
    mark_chunk, sizes = marked_copies.mark_chunk, []

    def note_size(*args):
        sizes.append(len(mark_chunk(*args).docs))
        return mark_chunk(*args)

    monkeypatch.setattr(marked_copies, "mark_chunk", note_size)

    def update():
        fix_random_seed(3)
        sizes.clear()
        model = pipe.model.copy()
        loss, backprop = model.begin_update(pipe.model_input(examples))
        assert not loss.is_finite and not sizes  # the backward pass runs both passes
        backprop(0.5)
        modules = [shim.module for node in model.walk() for shim in shims(node)]
        gradients = [parameter.grad for module in modules for parameter in module.parameters()]
        own = [torch.from_numpy(node.get_grad(name)) for node in model.walk() for name in node.grad_names]
        buffers = [buffer for module in modules for buffer in module.buffers()]
        return [torch.tensor([loss.total, *loss.parts.values()]), *gradients, *own, *buffers]

    whole = update()
    assert sizes == [16] and whole[0].isfinite().all()
    predicted = pipe.loss_on(examples)
    monkeypatch.setattr(marked_copies, "CHUNK", 4)
    assert pipe.loss_on(examples) == pytest.approx(predicted)
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(whole, update(), strict=True))
    assert sizes == [4, 4, 4, 4]


def test_a_chunk_whose_loss_is_not_finite_discards_the_gradients_of_all(monkeypatch):
    nlp = make_nlp(model=relation_model("markers", tok2vec=EMBED_CNN))
    examples = related_examples(nlp)
    optimizer = nlp.initialize(lambda: examples)
    monkeypatch.setattr(marked_copies, "CHUNK", 4)
    pipe = nlp.get_pipe("relation_extractor")
    (head,) = pipe.model.layers
    read, chunks = head._func, []
    before = pipe.model.to_bytes()

    def fail_once(*args, **settings):
        loss, backprop = read(*args, **settings)
        chunks.append(found_gradients())
        if len(chunks) == 3:
            loss.set(torch.tensor([float("nan")]), list(loss.parts))
        return loss, backprop

    def found_gradients():
        """Whether a module of torch, and a layer of thinc, has a gradient that is not 0."""
        own = [node.get_grad(name) for node in pipe.model.walk() for name in node.grad_names]
        return any(p.grad is not None for p in pipe.head.parameters()), any(map(np.any, own))

    monkeypatch.setattr(head, "_func", fail_once)
    with pytest.raises(ValueError, match="relation_extractor: the loss is nan in update 1"):
        nlp.update(examples, sgd=optimizer)
    assert chunks == [(False, False), (True, True), (True, True), (False, True)]
    assert found_gradients() == (False, False) and pipe.model.to_bytes() == before
    nlp.update(examples, sgd=optimizer)
    assert pipe.model.to_bytes() != before


def test_sampling_again_leaves_no_trace():
    def draw():
        return float(torch.rand(()))

    fix_random_seed(0)
    expected = [draw() for _ in range(3)]
    fix_random_seed(0)
    state = sampling_state(torch.device("cpu"))
    found = [draw(), draw()]
    with sampling_again(state):
        assert [draw() for _ in range(3)] == expected
    assert [*found, draw()] == expected


def test_marks():
    """Overlapping entities, and the context of a pair."""
    vocab = spacy.blank("en").vocab
    doc = Doc(vocab, words=list("abcdefgh"))
    doc.set_ents([Span(doc, 2, 4, "P"), Span(doc, 5, 6, "L")])
    found = create_entity_pairs("document")(doc).for_model(["P", "L"])
    (first, (head, tail), types), (second, _, turned) = mark(doc, found, ["<", ">", "[", "]"], 1)
    assert first.text.strip() == "b < c d > e [ f ] g" and (first[head].text, first[tail].text) == ("<", "[")
    assert second.text.strip() == "b [ c d ] e < f > g"
    assert types.tolist() == [1, 2] and turned.tolist() == [2, 1]
    doc.spans["sc"] = [Span(doc, 2, 4, "P"), Span(doc, 3, 4, "L")]
    nested = create_entity_pairs("document", spans_key="sc")(doc).for_model(["P", "L"])
    assert [copy.text.strip() for copy, *_ in mark(doc, nested, ["<", ">", "[", "]"], 1)] == [
        "b < c [ d ] > e",
        "b [ c < d > ] e",
    ]


def test_learns_from_predicted_entities():
    nlp = spacy.blank("en")
    nlp.add_pipe("sequence_ner", config={"model": small_model()})
    nlp.add_pipe("relation_extractor", config={"model": relation_model(), "candidates": DOCUMENT})
    optimizer = nlp.initialize(lambda: related_examples(nlp))
    optimizer.learn_rate = 0.01
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the first updates have no entity
        for _ in range(120):
            nlp.update(related_examples(nlp, gold=False), sgd=optimizer, annotates=["sequence_ner"])
    assert nlp.evaluate(related_examples(nlp, gold=False))["rel_strict_f"] == 1.0


def test_probabilities_of_spans_in_several_layers():
    """That of the layer the spans are from counts, else that of any layer that has one."""
    doc = Doc(Vocab(), words=["Anna", "left"])
    span = Span(doc, 0, 1, "PER")
    doc.spans["sc"] = SpanGroup(doc, attrs={"scores": [0.5]}, spans=[span])
    doc.spans["z"] = [span]
    assert span_scores(doc, [span]).tolist() == span_scores(doc, [span], "sc").tolist() == [0.5]
    assert span_scores(doc, [span], "z").tolist() == [np.inf]
    doc.set_ents([span])
    assert span_scores(doc, [span]).tolist() == [np.inf]
