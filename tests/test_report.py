"""Scores, statistics and the report page of a trained pipeline."""

import json
import re
import sys
import time
from html.parser import HTMLParser

import numpy as np
import pytest
import spacy
import srsly
from conftest import TRAIN, make_examples, make_nlp
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2
from spacy.language import Language
from spacy.scorer import Scorer, get_ner_prf
from spacy.tokens import Doc, Span, SpanGroup
from spacy.training import Example
from spacy.vocab import Vocab

import spacy_ner_arch.pipes.base  # noqa: F401 - registers the extension `score`
from spacy_ner_arch.annotation.entities import gold_group, outside_tokens
from spacy_ner_arch.annotation.relations import Relation, set_relations
from spacy_ner_arch.annotation.spans import GoldSpans
from spacy_ner_arch.annotation.tags import encode
from spacy_ner_arch.annotation.words import find_words
from spacy_ner_arch.evaluation.items import (
    Item,
    Kind,
    entity_items,
    find_left_out,
    match,
    match_all,
    relation_items,
    span_items,
)
from spacy_ner_arch.evaluation.measures import calibration, confusion, probabilities, threshold_curve
from spacy_ner_arch.evaluation.report import excerpt, transitions, write_report
from spacy_ner_arch.evaluation.risk import f1_interval
from spacy_ner_arch.evaluation.score_tables import Row, entity_table, group_numbers, relation_table, span_tables
from spacy_ner_arch.evaluation.scorers import score_relations
from spacy_ner_arch.evaluation.tasks import compare
from spacy_ner_arch.evaluation.training_log import read_log

VOCAB = Vocab()
TABLE = """\x1b[38;5;4mℹ Pipeline: ['tok2vec', 'sequence_ner']\x1b[0m
E    #       LOSS TOK2VEC  LOSS SEQUE...  ENTS_F  ENTS_P  ENTS_R  SCORE
---  ------  ------------  -------------  ------  ------  ------  ------
\x1b[1m  0       0          0.00          10.50    0.00    0.00    0.00    0.00\x1b[0m
  1     100          1.25            nan   50.00   60.00   42.86    0.50
\x1b[38;5;2m✔ Saved pipeline to output directory\x1b[0m
training/model-last
"""
JSON_LINES = [
    {"epoch": 0, "step": 0, "losses": {"ner": 3.5}, "scores": {"ents_f": 0.0, "speed": 900.0}, "score": 0.0},
    {"epoch": 1, "step": 10, "losses": {"ner": 1.5}, "scores": {"ents_f": 50.0, "speed": 800.0}, "score": 0.5},
]


def document(length, entities, missing=()):
    """Return a document with entities (start, end, label[, score])."""
    doc = Doc(VOCAB, words=[f"w{i}" for i in range(length)])
    spans = []
    for start, end, label, *score in entities:
        spans.append(Span(doc, start, end, label=label))
        if score:
            spans[-1]._.score = score[0]
    doc.set_ents(spans, missing=[doc[i : i + 1] for i in missing], default="outside")
    return doc


def example(length, predicted, gold, missing=()):
    return Example(document(length, predicted), document(length, gold, missing))


def scored(pairs):
    """Return one document with an entity on every second token, from (score, whether it is right)."""
    predicted = [(2 * i, 2 * i + 1, "X", score) for i, (score, _) in enumerate(pairs)]
    gold = [(2 * i, 2 * i + 1, "X" if right else "Y") for i, (_, right) in enumerate(pairs)]
    return [example(2 * len(pairs), predicted, gold)]


def matches(*examples):
    return match_all(map(entity_items, examples))


def found(pairs):
    return probabilities(matches(*scored(pairs)))


def predictions(nlp, data=TRAIN):
    examples = make_examples(nlp, data)
    for eg in examples:
        eg.predicted = nlp(eg.predicted)
    return examples


# Matches


def spans_of(length, labels):
    """Return flat entities for a label or None per token; equal neighbors with equal flags form one entity."""
    spans, start = [], 0
    for i in range(1, length + 1):
        if i == length or labels[i] != labels[start]:
            if labels[start][0]:
                spans.append((start, i, labels[start][0]))
            start = i
    return spans


AVERAGES = ("micro avg", "macro avg", "weighted avg")
LABELS = st.lists(st.tuples(st.sampled_from([None, "X", "Y"]), st.booleans()), min_size=8, max_size=8)


@settings(max_examples=60)
@given(LABELS, LABELS, st.lists(st.integers(1, 3), min_size=4, max_size=8), st.sets(st.integers(0, 7), max_size=2))
def test_all_counts_equal_those_of_spacy(gold, predicted, cuts, missing):
    """The tokens differ from the gold ones, and some tokens have no annotation."""
    reference = Doc(VOCAB, words=list("abcdefgh"), spaces=[False] * 8)
    golds = [span for span in spans_of(8, gold) if missing.isdisjoint(range(*span[:2]))]
    blanks = [reference[i : i + 1] for i in sorted(missing)]
    reference.set_ents([Span(reference, *span) for span in golds], missing=blanks, default="outside")
    words, rest = [], "abcdefgh"
    for cut in cuts:
        words, rest = words + [rest[:cut]], rest[cut:]
    words = [word for word in [*words, rest] if word]
    other = Doc(VOCAB, words=words, spaces=[False] * len(words))
    other.set_ents([Span(other, *span) for span in spans_of(len(words), predicted[: len(words)])])
    eg = Example(other, reference)
    pairs = matches(eg)
    kinds = [pair.kind for pair in pairs]
    judged = sum(pair.predicted is not None for pair in pairs)
    assert sum(pair.gold is not None for pair in pairs) == len(golds)
    labels, counts = confusion(pairs)
    assert counts[: len(labels)].sum() == len(golds) and counts[:, : len(labels)].sum() == judged
    scores = get_ner_prf([eg])
    if scores["ents_p"] is not None:
        right = kinds.count(Kind.RIGHT)
        assert scores["ents_p"] == pytest.approx(right / judged if judged else 0.0)
        assert scores["ents_r"] == pytest.approx(right / len(golds) if golds else 0.0)
    micro = {row.name: row for row in entity_table([eg])}.get("micro avg")
    if micro is not None:
        assert (micro.precision, micro.recall) == pytest.approx((scores["ents_p"], scores["ents_r"]))


def test_confusion_of_each_kind():
    eg = example(
        24,
        predicted=[
            (0, 2, "A"),
            (3, 4, "B"),
            (5, 8, "A"),
            (9, 12, "B"),
            (16, 17, "B"),
            (18, 22, "A"),
            (23, 24, "A"),
        ],
        gold=[
            (0, 2, "A"),  # right
            (3, 4, "A"),  # taken for B
            (6, 8, "A"),  # wrong boundaries
            (10, 13, "A"),  # wrong label and boundaries
            (14, 15, "B"),  # missed; the prediction at 16 is spurious
            (18, 19, "B"),  # under one prediction with the next: missed,
            (20, 22, "A"),  # because the label of this one is right
        ],
        missing=[23],  # so that the prediction there is not judged
    )
    labels, counts = confusion(matches(eg))
    assert labels == ["A", "B"]
    assert counts.tolist() == [
        # A, B, wrong boundaries, wrong label and boundaries, missed
        [1, 1, 2, 1, 0],
        [0, 0, 0, 0, 2],
        [2, 0, 0, 0, 0],
        [0, 1, 0, 0, 0],
        [0, 1, 0, 0, 0],
    ]
    kinds = [pair.kind for pair in matches(eg)]
    assert {kind: kinds.count(kind) for kind in Kind} == {
        Kind.RIGHT: 1,
        Kind.TYPE: 0,
        Kind.LABEL: 1,
        Kind.BOUNDARIES: 2,
        Kind.BOTH: 1,
        Kind.MISSED: 2,
        Kind.SPURIOUS: 1,
    }
    assert confusion([]).labels == []


# Tables


def test_labels_are_compared_exactly():
    """seqeval strips "-" from labels."""
    eg = example(4, [(0, 1, "A-"), (2, 3, "B")], [(0, 1, "A"), (2, 3, "B")])
    rows = {row.name: row for row in entity_table([eg])}
    assert rows["A"] == Row("A", 0.0, 0.0, 0.0, 1, 0) and rows["A-"] == Row("A-", 0.0, 0.0, 0.0, 0, 1)
    assert rows["B"] == Row("B", 1.0, 1.0, 1.0, 1, 1) and rows["micro avg"].f1 == pytest.approx(0.5)


@settings(max_examples=60)
@given(st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=3))
def test_entity_table_agrees_with_seqeval(documents):
    sides = [[spans_of(8, side) for side in document] for document in documents]
    table = entity_table([example(8, predicted, gold) for gold, predicted in sides])
    if not any(spans for document in sides for spans in document):
        assert table == []
        return
    gold, predicted = ([encode(8, spans, "BIO") for spans in side] for side in zip(*sides, strict=True))
    expected = classification_report(gold, predicted, mode="strict", scheme=IOB2, output_dict=True, zero_division=0)
    assert [row.name for row in table] == list(expected)
    for row in table:
        assert row[1:5] == pytest.approx(tuple(expected[row.name].values()))
        labels = [span[2] for side in sides for span in side[1] if row.name in (span[2], *AVERAGES)]
        assert row.predicted == len(labels)


def test_a_second_prediction_on_the_same_gold_token_is_wrong():
    gold = Doc(VOCAB, words=["ab", "c"])
    gold.set_ents([Span(gold, 0, 1, "X")], default="outside")
    predicted = Doc(VOCAB, words=["a", "b", "c"], spaces=[False, True, False])
    predicted.set_ents([Span(predicted, 0, 1, "X"), Span(predicted, 1, 2, "X")])
    eg = Example(predicted, gold)
    micro = next(row for row in entity_table([eg]) if row.name == "micro avg")
    assert micro.precision == pytest.approx(get_ner_prf([eg])["ents_p"]) == pytest.approx(0.5)
    assert micro.predicted == 2
    assert [pair.kind for pair in matches(eg)] == [Kind.RIGHT, Kind.SPURIOUS]


def with_spans(spans, scores=None):
    doc = Doc(VOCAB, words=[f"w{i}" for i in range(8)])
    doc.spans["sc"] = SpanGroup(doc, spans=[Span(doc, *span) for span in spans])
    if scores is not None:
        doc.spans["sc"].attrs["scores"] = np.array(scores)
    return doc


def nested():
    """A nested span that is right, two labels on one span of which one is right, and a missed span."""
    predicted = with_spans([(0, 4, "A"), (1, 3, "B"), (1, 3, "A"), (5, 6, "A")], [0.9, 0.8, 0.6, 0.3])
    return Example(predicted, with_spans([(0, 4, "A"), (1, 3, "B"), (4, 7, "A"), (7, 8, "B")]))


@pytest.mark.parametrize(
    "words", [["Anna", " ", "Brandt", "left", "Tarvik"], ["Anna", "\n\n", "Brandt", "left", "Tar", "vik"]]
)
def test_spans_where_white_space_differs_score_as_in_spacy(words):
    gold = Doc(VOCAB, words=["Anna", "Brandt", "left", "Tarvik"])
    gold.spans["sc"] = [Span(gold, 0, 2, "PER"), Span(gold, 3, 4, "LOC")]
    predicted = Doc(VOCAB, words=words)
    predicted.spans["sc"] = [Span(predicted, 0, 3, "PER"), Span(predicted, 4, len(words), "LOC")]
    examples = [Example(predicted, gold)]
    official = Scorer.score_spans(examples, "spans_sc", getter=lambda doc, _: doc.spans["sc"], allow_overlap=True)
    # spaCy does not align a span with a line break in it.
    assert official["spans_sc_f"] == (1.0 if words[1] == " " else pytest.approx(2 / 3))
    assert next(row for row in span_tables(examples)["sc"] if row.name == "micro avg").f1 == 1.0
    # A span that cuts a gold token is wrong.
    predicted.spans["sc"] = [Span(predicted, 0, 3, "PER"), Span(predicted, 4, 5, "LOC")]
    f1 = next(row for row in span_tables(examples)["sc"] if row.name == "micro avg").f1
    assert f1 == (1.0 if len(words) == 5 else 0.5)


def test_spans():
    unannotated = Example(with_spans([(0, 1, "A")]), Doc(VOCAB, words=["w"] * 8))
    examples = [nested(), unannotated]
    tables = span_tables(examples)
    rows = {row.name: row for row in tables.pop("sc")}
    assert not tables
    scores = Scorer.score_spans(
        examples,
        "spans_sc",
        getter=lambda doc, _: doc.spans.get("sc", []),
        has_annotation=lambda doc: "sc" in doc.spans,
        allow_overlap=True,
    )
    assert rows["micro avg"][1:4] == pytest.approx([scores[f"spans_sc_{name}"] for name in "prf"])
    assert rows["A"][:6] == pytest.approx(("A", 1 / 3, 1 / 2, 2 / 5, 2, 3))
    assert all((rows[name].support, rows[name].predicted) == (4, 4) for name in AVERAGES)
    pairs = match(0, *span_items(nested(), "sc"))
    assert [pair.kind for pair in pairs] == [Kind.RIGHT, Kind.RIGHT, Kind.BOUNDARIES, Kind.MISSED, Kind.SPURIOUS]
    assert probabilities(pairs).scores.tolist() == [0.9, 0.8, 0.3, 0.6]


SPANS = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4), st.sampled_from("AB")), max_size=4)


@settings(max_examples=60)
@given(SPANS, SPANS, st.lists(st.sampled_from("-OB "), min_size=10, max_size=10))
def test_spans_that_partial_annotation_leaves_open_are_left_out(gold, predicted, tokens):
    """By the rule of training. Tokens: without annotation, outside, an entity, white space."""
    sides = []
    for rows in (gold, predicted):
        doc = Doc(VOCAB, words=[" " if tag == " " else "w" for tag in tokens])
        spans = [Span(doc, start, start + width, label) for start, width, label in dict.fromkeys(rows)]
        doc.spans["sc"] = [span for span in spans if span.text.strip(" ") == span.text]
        doc.spans["sc"].attrs["scores"] = [0.5] * len(doc.spans["sc"])
        sides.append(doc)
    reference, found = sides
    ents = [Span(reference, i, i + 1, "E") for i, tag in enumerate(tokens) if tag == "B"]
    outside = [reference[i : i + 1] for i, tag in enumerate(tokens) if tag in "O "]
    if {"O", "B"} & {*tokens}:
        reference.set_ents(ents, outside=outside, default="missing")
    eg = Example(found, reference)
    group = list(found.spans["sc"])
    items = [Item(span.label_, ((span.start_char, span.end_char),), score=0.5) for span in group]
    spans, annotated = gold_group(eg, "sc")
    targets = GoldSpans(np.zeros((0, 3), dtype=int), annotated, outside_tokens(spans, annotated))
    (words,) = find_words([found])
    targets = targets.in_words(words)

    def is_known(span):
        inside = slice(*words.from_tokens(np.array([span.start, span.end])))
        return targets.annotated[inside].all() or targets.closed[inside].any()

    expected = [item for span, item in zip(group, items, strict=True) if is_known(span)]
    assert span_items(eg, "sc")[1] == expected
    # Every prediction that is right counts, even over tokens without annotation.
    right = {item[:2] for item in span_items(eg, "sc")[0]}
    assert {item[:2] for item in items if item[:2] in right} <= {item[:2] for item in expected}
    left_out = find_left_out([eg])
    assert len(items) - len(expected) == len(left_out["doc.spans['sc']"].predictions if left_out else [])
    rows = {row.name: row.predicted for row in span_tables([eg]).get("sc", [])}
    assert rows.get("micro avg", 0) == len(expected)


def related(gold, predicted):
    """A document with entities at tokens 0, 2 and 4, and relations (head, tail, label[, score])."""
    docs = [document(6, [(0, 1, "P"), (2, 3, "Q"), (4, 5, "P")]) for _ in range(2)]
    for doc, relations in zip(docs, (gold, predicted), strict=True):
        doc._.relations = [(doc.ents[head], doc.ents[tail], *rest) for head, tail, *rest in relations]
    return Example(docs[1], docs[0])


def test_long_documents_take_linear_time():
    words = [f"w{i}" for i in range(8_000)]
    docs = [Doc(Vocab(), words=words) for _ in range(2)]
    for doc in docs:
        doc.ents = [Span(doc, i, i + 1, label="PER") for i in range(len(words))]
        doc.spans["sc"] = list(doc.ents)
    start = time.process_time()
    tables = [entity_table([Example(*docs)]), span_tables([Example(*docs)])["sc"]]
    # About a second on an idle machine.
    assert time.process_time() - start < 10
    assert all(table[0][1:6] == (1.0, 1.0, 1.0, len(words), len(words)) for table in tables)


def test_many_relations_of_one_head_are_matched_in_linear_time():
    items = [Item("R", ((0, 9), (10 * i, 10 * i + 9))) for i in range(1, 3_000)]
    start = time.process_time()
    pairs = match(0, items, items)
    # A fraction of a second on an idle machine.
    assert time.process_time() - start < 5
    assert [pair.gold for pair in pairs] == items and all(pair.kind is Kind.RIGHT for pair in pairs)


def test_relations():
    eg = related(
        [(0, 1, "R"), (1, 2, "R"), (2, 0, "S")],
        [(0, 1, "R", 0.9), (1, 2, "T", 0.7), (0, 2, "S", 0.6), (1, 0, "R", 0.2)],
    )
    pairs = match(0, *relation_items(eg))
    assert [pair.kind for pair in pairs] == [Kind.RIGHT, Kind.LABEL, Kind.MISSED, Kind.SPURIOUS, Kind.SPURIOUS]
    assert pairs[0].gold.types == ("P", "Q")
    rows = {row.name: row for row in relation_table([eg])}
    assert rows["micro avg"][:6] == pytest.approx(("micro avg", 1 / 4, 1 / 3, 2 / 7, 3, 4))
    assert rows["strict"][:6] == pytest.approx(("strict", 1 / 4, 1 / 3, 2 / 7, 3, 4))
    assert {row.name for row in relation_table([eg])} >= {"R", "S", "T", "macro avg", "weighted avg"}
    # A symmetric relation is right in both directions.
    symmetric = match(0, *relation_items(eg, ["S"]))
    assert [pair.kind for pair in symmetric].count(Kind.RIGHT) == 2
    assert {row.name: row.f1 for row in relation_table([eg], ["S"])}["S"] == pytest.approx(1.0)
    without = Example(eg.predicted, document(6, []))
    assert relation_items(without) == ([], []) and relation_table([without]) == []


def test_relations_with_a_wrong_type_of_an_entity(tmp_path):
    """The probability of a relation is that of its entities, too: such a relation is wrong, as in `strict`."""
    eg = related([(0, 1, "R"), (1, 2, "R")], [])
    head, *tails = (Span(eg.predicted, i, i + 1, label) for i, label in ((0, "P"), (2, "P"), (2, "Q")))
    other = Span(eg.predicted, 2, 3, "P"), Span(eg.predicted, 4, 5, "P")
    # The relation with the wrong type comes first, and is more probable.
    eg.predicted._.relations = [(head, tails[0], "R", 0.9), (head, tails[1], "R", 0.8), (*other, "R", 0.7)]
    pairs = match(0, *relation_items(eg))
    assert [pair.kind for pair in pairs] == [Kind.RIGHT, Kind.TYPE, Kind.SPURIOUS]
    scores = probabilities(pairs)
    assert dict(zip(scores.scores.tolist(), scores.right.tolist(), strict=True)) == {0.8: True, 0.7: False, 0.9: False}
    strict = next(row for row in relation_table([eg]) if row.name == "strict")
    curve = threshold_curve(scores)
    assert (curve.precision[0], curve.recall[0], curve.f1[0]) == pytest.approx(strict[1:4])
    # The confusion table is about labels.
    assert confusion(pairs).counts.tolist() == [[2, 0, 0, 0], [0] * 4, [0] * 4, [1, 0, 0, 0]]
    Language.component("fixed_relations", func=lambda doc: doc, assigns=["doc._.relations"])
    nlp = spacy.blank("en")
    nlp.add_pipe("fixed_relations")
    text = write_report(nlp, [eg], tmp_path).read_text(encoding="utf-8")
    assert "wrong type of an entity, document 1" in text and "Wrong, the most probable first (2 of 2)" in text


def test_relations_are_compared_after_merging_tokens():
    eg = related([(0, 1, "R"), (1, 2, "R")], [(0, 1, "R", 0.9), (1, 2, "R", 0.8)])
    with eg.predicted.retokenize() as retokenizer:
        retokenizer.merge(eg.predicted[0:2])
    # The first one has a longer entity now.
    assert [pair.kind for pair in match(0, *relation_items(eg))] == [Kind.BOUNDARIES, Kind.RIGHT]


@pytest.mark.parametrize("space", [" ", "\n"], ids=["same-text", "other-white-space"])
def test_a_relation_is_right_if_its_entities_are(space):
    """Also where gold tokens are coarser than those of the pipeline. In the scorer, too."""
    gold = Doc(VOCAB, words=["Anna", "read", "Gazette."], spaces=[True, True, False])
    words = ["Anna", *([] if space == " " else ["\n"]), "read", "Gazette", "."]
    found = Doc(VOCAB, words=words, spaces=[space == " ", *([] if space == " " else [False]), True, False, False])
    for doc, last in ((gold, 1), (found, 2)):
        doc.set_ents([Span(doc, 0, 1, "P"), Span(doc, len(doc) - last, len(doc) - last + 1, "Q")])
        set_relations(doc, [Relation(*doc.ents, "R")])
    eg = Example(found, gold)
    assert [row.f1 for table in (entity_table([eg]), relation_table([eg])) for row in table] == [1.0] * 10
    assert score_relations([eg])["rel_strict_f"] == 1.0
    # A longer entity stays wrong.
    found.set_ents([Span(found, 0, 1, "P"), Span(found, len(found) - 3, len(found), "Q")])
    set_relations(found, [Relation(*found.ents, "R")])
    assert score_relations([eg])["rel_micro_f"] == 0.0


# Probabilities


def test_the_interval_of_f1_is_that_of_resampled_documents():
    right = np.random.default_rng(0).random(400) < 0.8
    interval = f1_interval(right, np.full(400, 2))  # a gold item and a prediction in each document
    half = 1.96 * np.sqrt(0.8 * 0.2 / 400)
    assert interval == pytest.approx((right.mean() - half, right.mean() + half), abs=0.01)
    assert interval == f1_interval(right, np.full(400, 2))
    # In documents of ten items that are right or wrong together, as many items tell less.
    low, high = f1_interval(10 * right[:40], np.full(40, 20))
    assert 2 * (interval.high - interval.low) < high - low


def test_few_documents_and_equal_ones_have_no_interval():
    items = np.array([2] * 10 + [0])
    right = np.array([1] * 9 + [0, 0])
    low, high = f1_interval(right, items)
    assert low < 0.9 < high == 1
    # A document without items does not count.
    assert f1_interval(right[1:], items[1:]) is None and f1_interval(right[:0], items[:0]) is None
    for equal in (items // 2, 0 * items):
        assert f1_interval(equal, items) is None


def test_an_interval_is_that_of_source_documents():
    """The interval of sentences is that of documents with their sums; copies of a text are one document."""

    rights = np.random.default_rng(0).random((20, 10)) < np.linspace(0.5, 1, 20)[:, None]
    expected = f1_interval(rights.sum(1), 10 + rights.sum(1))
    assert expected.high - expected.low > 0.05

    def make(right, length, name):
        """An example with one entity, which is also a span and the head of a relation."""
        eg = example(length, [(0, 1, "X")] if right else [], [(0, 1, "X")])
        for doc in (eg.predicted, eg.reference):
            doc.spans["sc"] = list(doc.ents)
            set_relations(doc, [Relation(ent, ent, "R") for ent in doc.ents])
        eg.reference.user_data |= {} if name is None else {"document": name}
        return eg

    numbered = [(i, j, right) for i, row in enumerate(rights) for j, right in enumerate(row)]
    for examples in (
        [make(right, 1 + 10 * i + j, {"id": i}) for i, j, right in numbered],  # sentences of documents
        [make(right, 1 + i, None) for i, _, right in numbered],  # copies of texts
        [make(right, 1 + i % 2, f"d{i}") for i, _, right in numbered],  # copies in several documents
    ):
        tables = [entity_table(examples), span_tables(examples)["sc"], relation_table(examples)]
        assert [row.interval for table in tables for row in table if row.name == "micro avg"] == [expected] * 3
        nothing = [(gold, []) for gold, _ in map(entity_items, examples)]
        (found, *_) = compare([entity_items(eg) for eg in examples], nothing, group_numbers(examples)).values()
        assert found.interval == expected


def test_calibration_by_hand():
    """In bins of width 1/15, without the empty ones."""
    result = calibration(found([(0.42, False), (0.46, True), (0.94, True), (0.97, True), (1.0, False)]))
    assert result.lower == pytest.approx([6 / 15, 14 / 15]) and result.width == 1 / 15
    assert result.counts.tolist() == [2, 3]
    assert result.confidence == pytest.approx([0.44, 0.97])
    assert result.accuracy == pytest.approx([0.5, 2 / 3])
    assert result.ece == pytest.approx(2 / 5 * 0.06 + 3 / 5 * (0.97 - 2 / 3))
    assert result.brier == pytest.approx((0.42**2 + 0.54**2 + 0.06**2 + 0.03**2 + 1.0) / 5)


def test_a_bin_contains_its_upper_edge():
    result = calibration(found([(0.15, False), (0.2, True), (0.21, True)]))
    assert result.counts.tolist() == [2, 1]


def test_perfect_calibration():
    pairs = [(share / 10, i < share) for share in range(1, 11) for i in range(10)]
    assert calibration(found(pairs)).ece == pytest.approx(0)


def test_predictions_without_probability_are_counted_separately():
    eg = example(6, [(0, 1, "X", 0.5), (2, 3, "X")], [(0, 1, "X"), (2, 3, "X")])
    result = probabilities(matches(eg))
    assert result.unscored == 1 and result.scores.tolist() == [0.5] and result.gold == 2


@pytest.mark.parametrize("score", [1.5, -0.1, float("nan")])
def test_scores_that_are_no_probabilities_are_refused(score):
    with pytest.raises(ValueError, match="must be a probability, but document 1 has"):
        found([(score, True)])


def test_thresholds():
    curve = threshold_curve(found([(0.2, False), (0.412, True), (0.6, False), (0.8, True), (0.8, True), (0.9, True)]))
    assert curve.thresholds.tolist() == [0.2, 0.412, 0.6, 0.8, 0.9]
    assert curve.kept.tolist() == [6, 5, 4, 3, 1]
    assert curve.precision == pytest.approx([4 / 6, 4 / 5, 3 / 4, 1, 1])
    assert curve.recall == pytest.approx([4 / 6, 4 / 6, 3 / 6, 3 / 6, 1 / 6])
    assert curve.f1 == pytest.approx([8 / 12, 8 / 11, 6 / 10, 6 / 9, 2 / 7])
    assert [curve.at_precision(target) for target in (0.5, 0.75, 1.0, 1.1)] == [0, 1, 3, None]


# Errors


def test_excerpts_are_cut_at_spaces():
    text = "word " * 100 + "Anna" + " between" * 50 + " Tarvik" + " word" * 100
    anna, tarvik = text.index("Anna"), text.index("Tarvik")
    pieces = excerpt(text, [(anna, anna + 4, "gold head"), (tarvik, tarvik + 6, "gold tail")])
    assert [classes for _, classes in pieces] == ["", "gold head", "", "gold tail", ""]
    texts = [piece for piece, _ in pieces]
    assert texts[1] == "Anna" and texts[3] == "Tarvik"
    assert texts[0].startswith(" … word word") and texts[0].endswith("word ") and len(texts[0]) < 100
    assert texts[2].startswith(" between") and " … between" in texts[2] and texts[2].endswith("between ")
    assert texts[4].startswith(" word") and texts[4].endswith("word … ")


@pytest.mark.parametrize("space", ["", " "])
def test_excerpts_of_scripts_with_few_spaces_keep_the_context(space):
    text = f"{'很' * 200}{space}王小明{space}{'好' * 200}"
    start = text.index("王")
    before, place, after = (piece for piece, _ in excerpt(text, [(start, start + 3, "gold")]))
    assert (before, place, after) == (
        f" … {'很' * (90 - len(space))}{space}",
        "王小明",
        f"{space}{'好' * (90 - len(space))} … ",
    )


def test_excerpts_mark_overlapping_places():
    assert excerpt("Anna Brandt left .", [(0, 11, "gold"), (5, 16, "predicted")]) == [
        ("Anna ", "gold"),
        ("Brandt", "gold predicted"),
        (" left", "predicted"),
        (" .", ""),
    ]


# Logs


def test_table_of_a_log(tmp_path):
    path = tmp_path / "log.txt"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        # The last of two trainings counts.
        path.write_text(TABLE.replace("10.50", "99.00") + TABLE, encoding=encoding)
        log = read_log(path)
        assert log.steps == [0, 100] and log.score == [0.0, 0.5]
        assert list(log.losses) == ["tok2vec", "seque..."]
        assert log.losses["seque..."] == pytest.approx([10.5, float("nan")], nan_ok=True)
        assert log.scores == {"ents_f": [0.0, 50.0], "ents_p": [0.0, 60.0], "ents_r": [0.0, 42.86]}


def test_equal_names_of_columns_are_numbered(tmp_path):
    path = tmp_path / "log.txt"
    path.write_text(TABLE.replace("LOSS TOK2VEC", "LOSS SEQUE..."), encoding="utf-8")
    assert list(read_log(path).losses) == ["seque... (1)", "seque... (2)"]


def test_json_lines_of_a_log(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(map(json.dumps, JSON_LINES)) + '\n{"epoch": 2, "st')
    log = read_log(str(path))
    assert log.steps == [0, 10] and log.score == [0.0, 0.5]
    assert log.losses == {"ner": [3.5, 1.5]}
    assert log.scores["ents_f"] == [0.0, 50.0]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"Once upon a time\n1 2 3\n",
        b"\x00\xff\xfe\x80",
        b"\xff\xfe\x00",
        b"{",
        b'{"step": 1}\n',
        b'{"step": 1, "losses": [], "scores": {}, "score": null}',
        b"[1, 2]",
        "".join(TABLE.splitlines(keepends=True)[:3]).encode(),
    ],
)
def test_files_that_are_no_log_are_refused(tmp_path, content, trained):
    path = tmp_path / "story.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="story.txt is not a training log"):
        read_log(path)
    with pytest.raises(ValueError, match="story.txt"):
        write_report(trained, [], tmp_path / "out", path)
    assert not (tmp_path / "out").exists()


# Page

VOID = {"meta", "br"}


class Page(HTMLParser):
    """Collect tags with their attributes, and texts. Fails if elements are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.texts = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def sections(self):
        return [attributes["id"] for tag, attributes in self.tags if tag == "section"]


@pytest.fixture
def wrong(trained):
    """Predictions that do not fit the gold side, with characters that HTML and matplotlib treat specially."""
    data = [(text, [(*span[:2], span[2].replace("PER", "ORG")) for span in spans]) for text, spans in TRAIN]
    return predictions(trained, [*data, ("<script>alert(1)</script> met Tarvik & Anna .", [(0, 1, "<b>$x_")])])


def test_page(trained, wrong, tmp_path):
    (tmp_path / "log.txt").write_text(TABLE, encoding="utf-8")
    path = write_report(trained, wrong, tmp_path / "new" / "out", tmp_path / "log.txt")
    assert path == tmp_path / "new" / "out" / "index.html" and {path, path.with_name("errors.jsonl")} == {
        *path.parent.iterdir()
    }
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.sections() == ["task0", "transitions", "training"]
    # The page loads nothing, runs nothing and does not contain the date.
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "img", "object")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith("#") or (tag, attributes[name]) == ("a", "errors.jsonl")
    assert not re.search(r"url\((?!#)|@import", text)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {attributes["href"] for _, attributes in page.tags if "href" in attributes}
    assert links <= {"errors.jsonl", *(f"#{id}" for id in ids)} and "errors.jsonl" in links
    assert "<script>alert(1)</script>" in "".join(page.texts) and "<b>$x_" in page.texts
    assert sum(tag == "svg" for tag, _ in page.tags) == 3
    # The text of figures is kept as text.
    assert "B-PER" in page.texts and "perfectly calibrated" in page.texts
    # Texts and labels can have another direction than the page.
    texts = [attributes for tag, attributes in page.tags if attributes.get("dir")]
    assert texts and all(attributes == {"dir": "auto", "lang": "en"} for attributes in texts)
    assert "<b><bdi>PER</bdi></b>" in text
    marks = [attributes["class"] for tag, attributes in page.tags if tag == "mark"]
    assert marks.count("gold predicted") >= 3


def test_page_on_spans_and_relations(tmp_path):
    Language.component("fixed_spans", func=lambda doc: doc, assigns=["doc.spans"])
    Language.component("fixed_relations", func=lambda doc: doc, assigns=["doc._.relations"])
    nlp = spacy.blank("en")
    nlp.add_pipe("fixed_spans")
    nlp.add_pipe("fixed_relations")
    eg = related([(0, 1, "R"), (1, 2, "R"), (2, 0, "S")], [(0, 1, "R", 0.9), (1, 2, "<i>T", 0.7), (1, 0, "R", 0.2)])
    page = Page(write_report(nlp, [nested(), eg], tmp_path).read_text(encoding="utf-8"))
    assert page.sections() == ["task0", "task1"] and {"Spans “sc”", "Relations", "<i>T"} <= set(page.texts)
    marks = [attributes["class"] for tag, attributes in page.tags if tag == "mark"]
    assert {"predicted", "gold", "gold head predicted", "gold predicted tail", "gold head", "gold tail"} <= set(marks)


def test_all_errors_as_json_lines(tmp_path):
    nlp = ruler()
    Language.component("fixed_relations", func=lambda doc: doc, assigns=["doc._.relations"])
    nlp.add_pipe("fixed_relations")
    eg = related([(0, 1, "R"), (2, 0, "S")], [(0, 1, "T", 0.75)])
    many = [example(2, [(0, 1, "X")], [(1, 2, "Y")]) for _ in range(30)]
    many[29].reference.user_data |= {"id": 7, "not json": {1, 2}}
    page = write_report(nlp, [*many, eg], tmp_path, numbers=[*range(30), 35]).read_text(encoding="utf-8")
    assert "Wrong (25 of 30)" in page and "Wrong, the most probable first (1 of 1)" in page
    rows = list(srsly.read_jsonl(tmp_path / "errors.jsonl"))
    assert len(rows) == 30 + 30 + 2
    assert rows[29] == {
        "layer": "doc.ents",
        "kind": "spurious",
        "document": 30,
        "fields": {"id": 7},
        "text": "w0 w1 ",
        "gold": None,
        "predicted": {"start": 0, "end": 2, "label": "X", "score": None},
    }
    assert rows[59]["kind"] == "missed" and rows[59]["gold"] == {"start": 3, "end": 5, "label": "Y", "score": None}
    *_, wrong, missed = rows
    assert [wrong["layer"], wrong["kind"], wrong["document"]] == ["doc._.relations", "wrong label", 36]
    ends = [{"start": item.start_char, "end": item.end_char, "label": item.label_} for item in eg.reference.ents]
    assert wrong["predicted"] == {"head": ends[0], "tail": ends[1], "label": "T", "score": 0.75}
    assert missed["kind"] == "missed" and missed["predicted"] is None
    assert missed["gold"] == {"head": ends[2], "tail": ends[0], "label": "S", "score": None}


def test_same_page_twice(trained, wrong, tmp_path):
    (tmp_path / "matplotlibrc").write_text("font.size: 20")
    first = write_report(trained, wrong, tmp_path / "a").read_bytes()
    import matplotlib

    with matplotlib.rc_context(fname=str(tmp_path / "matplotlibrc")):
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "index.html").write_text("old")
        (tmp_path / "b" / "errors.jsonl").write_text("old")
        assert write_report(trained, iter(wrong), str(tmp_path / "b")).read_bytes() == first
        assert matplotlib.rcParams["font.size"] == 20
    assert (tmp_path / "b" / "errors.jsonl").read_bytes() == (tmp_path / "a" / "errors.jsonl").read_bytes()


def test_old_page_stays_after_an_error(trained, tmp_path):
    (tmp_path / "index.html").write_text("old")
    with pytest.raises(ValueError, match="must be a probability"):
        write_report(trained, scored([(7.0, True)]), tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("index.html", "old")]


def spacy_ner():
    nlp = spacy.blank("en")
    nlp.add_pipe("ner")
    nlp.initialize(lambda: make_examples(nlp))
    return nlp


def ruler():
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "LOC", "pattern": "Tarvik"}])
    return nlp


@pytest.mark.parametrize("make", [spacy_ner, ruler], ids=["ner", "ruler"])
def test_pipelines_without_probabilities_and_transitions(make, tmp_path):
    nlp = make()
    text = write_report(nlp, predictions(nlp), tmp_path).read_text(encoding="utf-8")
    assert Page(text).sections() == ["task0"]
    assert "No prediction has a probability" in text


def test_pipeline_that_sets_nothing(tmp_path):
    nlp = spacy.blank("en")
    text = write_report(nlp, predictions(nlp), tmp_path).read_text(encoding="utf-8")
    assert Page(text).sections() == [] and "set no entities, spans or relations" in text


def test_probabilities_that_are_all_wrong(tmp_path):
    text = write_report(ruler(), scored([(0.5, False), (0.7, False)]), tmp_path).read_text(encoding="utf-8")
    page = Page(text)
    assert sum(tag == "svg" for tag, _ in page.tags) == 1 and "threshold" not in text.split("<main>")[1]


def test_empty_corpus(trained, tmp_path):
    text = write_report(trained, [], tmp_path).read_text(encoding="utf-8")
    assert "The corpus has no gold annotation in <code>doc.ents</code>" in text
    Page(text)


def test_documents_without_gold_annotation_are_counted(tmp_path):
    """They can have predictions, which nobody can score."""

    def page(*gold):
        examples = [Example(document(2, [(0, 1, "X", 0.9)] if doc.ents else []), doc) for doc in gold]
        examples.append(Example(document(2, [(0, 1, "X", 0.9)]), Doc(VOCAB, words=["w0", "w1"])))
        return " ".join(write_report(ruler(), examples, tmp_path).read_text(encoding="utf-8").split())

    assert "The corpus has no gold annotation in <code>doc.ents</code>: nothing can be scored" in page()
    assert "documents with gold annotation have no entity, neither gold nor predicted" in page(document(2, []))
    text = page(document(2, [(0, 1, "X")]))
    assert "1 of 2 documents are without gold annotation in <code>doc.ents</code>, and not scored" in text
    nlp = ruler()
    assert "are without gold" not in write_report(nlp, predictions(nlp), tmp_path).read_text(encoding="utf-8")


def test_no_errors(trained, tmp_path):
    text = write_report(trained, predictions(trained), tmp_path).read_text(encoding="utf-8")
    assert "There is no error" in text and "<mark" not in text


def test_learned_transitions(trained):
    ((component, tags, scores),) = transitions(trained)
    crf = trained.get_pipe("sequence_ner").head.crf
    assert component == "sequence_ner" and tags == crf.labels
    size = len(crf.labels)
    assert scores.shape == (size + 1, size + 1) and np.isnan(scores[0, -1])
    begin, last = tags.index("B-PER"), tags.index("L-PER")
    assert scores[1 + begin, last] == pytest.approx(crf.transitions[begin, last].item())
    assert scores[0, begin] == pytest.approx(crf.start_transitions[begin].item())
    assert scores[1 + last, -1] == pytest.approx(crf.end_transitions[last].item())
    # Entering the middle of an entity, leaving it there, and ending the text there.
    assert np.isnan([scores[0, last], scores[1 + begin, 0], scores[1 + begin, -1]]).all()


def test_softmax_and_uninitialized_models_have_no_transitions():
    nlp = make_nlp("Softmax")
    assert list(transitions(nlp)) == []
    nlp.initialize(lambda: make_examples(nlp))
    assert list(transitions(nlp)) == []


@pytest.mark.parametrize("package", ["matplotlib", "sklearn"])
def test_missing_package(trained, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf'{package}: pip install "spacy-ner-arch\[viz\]"'):
        write_report(trained, [], tmp_path / "out")
    assert not (tmp_path / "out").exists()
