"""Scores as tables."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

from spacy.scorer import PRFScore
from spacy.training import Example

from ..annotation.tags import OUTSIDE, encode
from .report.matches import Kind, match
from .scorers import count_relations


class Row(NamedTuple):
    """One line of a table: precision, recall and F1 between 0 and 1, and the number of gold items."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


def entity_table(examples: Iterable[Example]) -> list[Row]:
    """Entity scores per label, then micro, macro and weighted averages (seqeval, strict).

    Counted as `spacy evaluate` counts: a prediction is right if borders and label are right, and one that touches a
    token without gold annotation is neither right nor wrong. No rows if there is no entity, gold or predicted.
    """
    from seqeval.metrics import classification_report
    from seqeval.scheme import IOB2

    gold, predicted = [], []
    for example in examples:
        if example.reference.has_annotation("ENT_IOB"):
            gold_tags, predicted_tags = tag_rows(example)
            gold.append(gold_tags)
            predicted.append(predicted_tags)
    if all(tag == OUTSIDE for row in gold + predicted for tag in row):
        return []
    # The lenient mode, which is the default, would count a lone I- as an entity.
    table = classification_report(gold, predicted, mode="strict", scheme=IOB2, output_dict=True, zero_division=0)
    return [
        Row(name, float(row["precision"]), float(row["recall"]), float(row["f1-score"]), int(row["support"]))
        for name, row in table.items()
    ]


def span_tables(examples: Iterable[Example]) -> dict[str, list[Row]]:
    """For each key under which both gold and predicted documents have spans: scores per label, with micro and macro
    averages. Spans may nest and overlap; one is right if borders and label are."""
    found: dict[str, set[tuple[int, str, int, int]]] = {}
    wanted: dict[str, set[tuple[int, str, int, int]]] = {}
    for number, example in enumerate(examples):
        for key in set(example.predicted.spans) & set(example.reference.spans):
            for doc, spans in ((example.predicted, found), (example.reference, wanted)):
                places = ((number, s.label_, s.start_char, s.end_char) for s in doc.spans[key])
                spans.setdefault(key, set()).update(places)
    return {key: _rows(found[key], wanted[key]) for key in sorted(found) if found[key] or wanted[key]}


def _rows(found: set[tuple[int, str, int, int]], wanted: set[tuple[int, str, int, int]]) -> list[Row]:
    def row(name: str, label: str | None = None) -> Row:
        predicted, gold = ([span for span in spans if label in (None, span[1])] for spans in (found, wanted))
        right = len(set(predicted) & set(gold))
        precision, recall = right / max(1, len(predicted)), right / max(1, len(gold))
        return Row(name, precision, recall, 2 * right / max(1, len(predicted) + len(gold)), len(gold))

    labels = [row(label, label) for label in sorted({span[1] for span in found | wanted})]
    precision, recall, f1 = (sum(cast(float, line[i]) for line in labels) / len(labels) for i in (1, 2, 3))
    return [*labels, row("micro avg"), Row("macro avg", precision, recall, f1, len(wanted))]


def relation_table(examples: Iterable[Example], symmetric: Sequence[str] = ()) -> list[Row]:
    """Relation scores per label, then micro and macro averages, in which the borders of both entities must be right;
    `strict` is the micro average in which their types must be right, too. Every gold relation counts.

    symmetric: labels that hold in both directions.
    """
    per_type, strict = count_relations(examples, symmetric)
    if not per_type:
        return []

    def row(name: str, score: PRFScore) -> Row:
        return Row(name, score.precision, score.recall, score.fscore, score.tp + score.fn)

    labels = [row(label, score) for label, score in per_type.items()]
    precision, recall, f1 = (sum(cast(float, line[i]) for line in labels) / len(labels) for i in (1, 2, 3))
    micro = row("micro avg", sum(per_type.values(), PRFScore()))
    return [*labels, micro, Row("macro avg", precision, recall, f1, micro.support), row("strict", strict)]


def tag_rows(example: Example) -> tuple[list[str], list[str]]:
    """BIO tags of the gold tokens and of the predictions on them.

    A prediction that cannot be written there, for it overlaps another one once aligned, is a mistake all the same: it
    is put on a token of its own behind the end.
    """
    golds = [(ent.start, ent.end, ent.label_) for ent in example.reference.ents]
    placed: list[tuple[int, int, str]] = []
    homeless: list[str] = []
    taken: set[int] = set()
    # Right ones first, so that a wrong one never takes their place.
    for pair in sorted(match(example), key=lambda pair: pair.kind is not Kind.RIGHT):
        if pair.predicted is None:
            continue
        start, end, label = pair.predicted.start, pair.predicted.end, pair.predicted.label
        if taken.isdisjoint(range(start, end)):
            taken.update(range(start, end))
            placed.append((start, end, label))
        else:
            homeless.append(label)
    extra = [f"B-{label}" for label in homeless]
    length = len(example.reference)
    gold_tags = encode(length, golds, "BIO") + [OUTSIDE] * len(extra)
    return gold_tags, encode(length, placed, "BIO") + extra
