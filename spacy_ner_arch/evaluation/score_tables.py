"""Precision, recall, F1, support and number of predictions per label, with averages."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from spacy.scorer import PRFScore
from spacy.tokens import Doc
from spacy.training import Example

from ..annotation.tags import OUTSIDE, encode
from ..annotation.words import text_key
from ..formats.fields import DOCUMENT
from .items import Item, Sides, entity_items, relation_items, span_items
from .risk import Interval, f1_interval
from .scorers import label_counts, relation_counts, without_types

# Name of the row with the micro average, as seqeval gives it.
MICRO = "micro avg"


class Row(NamedTuple):
    """A line of a table: precision, recall and F1 between 0 and 1, and the numbers of gold items and of predictions.

    interval: 95 % interval of a micro average of F1, see `f1_interval`.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    predicted: int
    interval: Interval | None = None


def entity_table(examples: Iterable[Example]) -> list[Row]:
    """Return the scores of doc.ents per label, then the micro, macro and weighted averages, by seqeval (strict).

    An entity is right if its boundaries and its label are. Predictions that touch a token without gold annotation are
    left out, as in `spacy evaluate`. The table is empty if there is no entity, gold or predicted.
    """
    from seqeval.metrics import classification_report
    from seqeval.scheme import IOB2

    examples = [example for example in examples if example.reference.has_annotation("ENT_IOB")]
    sides = [entity_items(example) for example in examples]
    labels = sorted({item.label for both in sides for items in both for item in items})
    if not labels:
        return []
    # seqeval strips "-" from labels, so `A` would equal `A-`: give it numbers.
    codes = {label: f"{number:06}" for number, label in enumerate(labels)}
    gold, predicted = zip(*(tag_rows(*both, codes) for both in sides), strict=True)
    # Its default mode is lenient: it counts a lone I- as an entity.
    table = classification_report(
        list(gold), list(predicted), mode="strict", scheme=IOB2, output_dict=True, zero_division=0
    )
    names = {code: label for label, code in codes.items()}
    counts = Counter(item.label for _, found in sides for item in found)
    interval = micro_interval(sides, group_numbers(examples))
    return [
        Row(
            names.get(name, name),
            float(r["precision"]),
            float(r["recall"]),
            float(r["f1-score"]),
            int(r["support"]),
            counts[names[name]] if name in names else counts.total(),
            interval if name == MICRO else None,
        )
        for name, r in table.items()
    ]


def micro_average(predicted: Iterable[Doc], gold: Iterable[Doc]) -> Row:
    """Return the micro average of `entity_table`; zeros if it is empty."""
    examples = [Example(doc, reference) for doc, reference in zip(predicted, gold, strict=True)]
    table = {row.name: row for row in entity_table(examples)}
    return table.get(MICRO, Row(MICRO, 0.0, 0.0, 0.0, 0, 0))


def tag_rows(gold: list[Item], predicted: list[Item], codes: dict[str, str]) -> tuple[list[str], list[str]]:
    """Return the IOB2 tags of both sides over the segments between all boundaries of a document.

    Alignment to gold tokens can make predictions overlap. A prediction that overlaps another gets a segment after the
    end.
    """
    borders = {place: i for i, place in enumerate(sorted({end for item in gold + predicted for end in item.places[0]}))}
    right = {item[:2] for item in gold}
    sides = []
    for items in (gold, predicted):
        tags, extra = [OUTSIDE] * len(borders), []
        # Right predictions first, so that a wrong one never takes their segments.
        for item in sorted(items, key=lambda item: item[:2] not in right):
            start, end = (borders[place] for place in item.places[0])
            if all(tag == OUTSIDE for tag in tags[start:end]):
                tags[start:end] = encode(end - start, [(0, end - start, codes[item.label])], "BIO")
            else:
                extra += [f"B-{codes[item.label]}", OUTSIDE]
        sides.append((tags, extra))
    (gold_tags, _), (tags, extra) = sides
    return gold_tags + [OUTSIDE] * len(extra), tags + extra


def span_tables(examples: Iterable[Example]) -> dict[str, list[Row]]:
    """Return a table for each key of doc.spans that occurs in gold and in predicted documents.

    Spans may be nested and may overlap. A span is right if its boundaries and its label are. Documents whose gold side
    does not have the key are left out, and so are keys without any span, and predictions that partial annotation leaves
    open.
    """
    examples = list(examples)
    items = {key: [span_items(example, key) for example in examples] for key in common_keys(examples)}
    groups = group_numbers(examples)
    tables = {key: rows(label_counts(sides), micro_interval(sides, groups)) for key, sides in items.items()}
    return {key: table for key, table in tables.items() if table}


def common_keys(examples: Iterable[Example]) -> list[str]:
    """Return the keys of doc.spans that occur in gold and in predicted documents, sorted."""
    gold, predicted = set[str](), set[str]()
    for example in examples:
        gold.update(example.reference.spans)
        predicted.update(example.predicted.spans)
    return sorted(gold & predicted)


def relation_table(examples: Iterable[Example], symmetric: Sequence[str] = ()) -> list[Row]:
    """Return the scores of doc._.relations per label, then the micro, macro and weighted averages, then `strict`.

    A relation is right if its label and the boundaries of both entities are. `strict` is the micro average that also
    requires the types of both entities. All gold relations count, including those whose entities were not found.

    symmetric: labels that hold in both directions.
    """
    examples = list(examples)
    per_label, strict = relation_counts(examples, symmetric)
    sides = (without_types(relation_items(example, symmetric)) for example in examples)
    interval = micro_interval(sides, group_numbers(examples))
    return [*rows(per_label, interval), row("strict", strict)] if per_label else []


def micro_interval(documents: Iterable[Sides], groups: Sequence[int]) -> Interval | None:
    """Return the interval of the micro F1 of the gold and predicted items of documents, by label and places.

    groups: number of the group of each document, see `group_numbers`.
    """
    counts = np.zeros((len({*groups}), 2), dtype=np.int64)
    for group, sides in zip(groups, documents, strict=True):
        counts[group] += micro_counts(*sides)
    return f1_interval(counts[:, 0], counts[:, 1])


def group_numbers(examples: Iterable[Example]) -> list[int]:
    """Return the number, from 0, of the group of each example, whose items can depend on each other.

    A group has the same value of the field DOCUMENT of the gold documents, or without it the same `text_key`.
    """
    numbers: dict[tuple[bool, str], int] = {}

    def number(doc: Doc) -> int:
        name = doc.user_data.get(DOCUMENT)
        key = (False, text_key(doc.text)) if name is None else (True, str(name))
        return numbers.setdefault(key, len(numbers))

    return [number(example.reference) for example in examples]


def micro_counts(gold: Iterable[Item], predicted: Iterable[Item]) -> tuple[int, int]:
    """Return the number of right predictions, by label and places, and that of gold items and predictions."""
    sides = [Counter((item.label, item.places) for item in side) for side in (gold, predicted)]
    return (sides[0] & sides[1]).total(), sides[0].total() + sides[1].total()


def rows(per_label: dict[str, PRFScore], interval: Interval | None) -> list[Row]:
    """Return the rows of the labels, sorted by name, then the averages; no row if there is no label."""
    if not per_label:
        return []
    labels = [row(label, score) for label, score in sorted(per_label.items())]
    micro = row(MICRO, sum(per_label.values(), PRFScore()))._replace(interval=interval)
    macro = average("macro avg", labels, [1] * len(labels))
    return [*labels, micro, macro, average("weighted avg", labels, [label.support for label in labels])]


def row(name: str, score: PRFScore) -> Row:
    return Row(name, score.precision, score.recall, score.fscore, score.tp + score.fn, score.tp + score.fp)


def average(name: str, labels: Sequence[Row], weights: Sequence[int]) -> Row:
    """Return the weighted mean of the rows; 0 if all weights are."""
    shares = [weight / max(1, sum(weights)) for weight in weights]
    return Row(
        name,
        sum(share * label.precision for share, label in zip(shares, labels, strict=True)),
        sum(share * label.recall for share, label in zip(shares, labels, strict=True)),
        sum(share * label.f1 for share, label in zip(shares, labels, strict=True)),
        sum(label.support for label in labels),
        sum(label.predicted for label in labels),
    )
