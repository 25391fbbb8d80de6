"""The layers of annotation that a pipeline sets, with their scores and items, and two systems compared by them."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from spacy.language import Language
from spacy.training import Example

from ..annotation.layers import assigning, spans_layer, symmetric_labels
from .items import Sides, entity_items, relation_items, span_items
from .risk import Interval, difference_interval
from .score_tables import MICRO, Row, common_keys, entity_table, relation_table, span_tables
from .scorers import without_types

ENTITIES, RELATIONS = "doc.ents", "doc._.relations"


class Task(NamedTuple):
    """A layer of annotation, its table of scores, and the items of each document."""

    title: str
    noun: str
    layer: str
    rows: list[Row]
    items: list[Sides]


def find_items(
    nlp: Language, examples: Sequence[Example], symmetric: Sequence[str] | None = None
) -> dict[str, list[Sides]]:
    """The items of each document, by the layer of annotation, for the layers that the components declare to set.

    symmetric: labels of relations that hold in both directions; None for those of the extractors.
    """
    found = {}
    if assigning(nlp, ENTITIES):
        found[ENTITIES] = [entity_items(example) for example in examples]
    if assigning(nlp, "doc.spans"):
        for key in common_keys(examples):
            found[spans_layer(key)] = [span_items(example, key) for example in examples]
    if assigning(nlp, RELATIONS):
        symmetric = symmetric_labels(nlp) if symmetric is None else symmetric
        found[RELATIONS] = [relation_items(example, symmetric) for example in examples]
    return found


def find_tasks(nlp: Language, examples: Sequence[Example]) -> Iterator[Task]:
    """Yield each layer of `find_items`, except groups of spans without a gold or predicted span."""
    titles = {spans_layer(key): (f"Spans “{key}”", rows) for key, rows in span_tables(examples).items()}
    for layer, items in find_items(nlp, examples).items():
        if layer == ENTITIES:
            yield Task("Entities", "entity", layer, entity_table(examples), items)
        elif layer == RELATIONS:
            yield Task("Relations", "relation", layer, relation_table(examples, symmetric_labels(nlp)), items)
        elif layer in titles:
            title, rows = titles[layer]
            yield Task(title, "span", layer, rows, items)


class Difference(NamedTuple):
    """Two systems on the same documents. An item is right if its label and its places are.

    f1: that of the first system and of the second one.
    interval: 95 % interval of the first F1 minus the second one, see `difference_interval`.
    found_by_one: number of gold items that only the first system has found, and that only the second one has.
    """

    f1: tuple[float, float]
    interval: Interval | None
    found_by_one: tuple[int, int]


def compare(first: Sequence[Sides], second: Sequence[Sides], groups: Sequence[int]) -> dict[str, Difference]:
    """Compare two systems, whose gold items are the same: the micro average, then each label, sorted.

    groups: number of the group of each document, see `group_numbers`.
    """
    # Of each group: right predictions and items of each system, and gold items that only one has found.
    counts = defaultdict[str, np.ndarray](lambda: np.zeros((len({*groups}), 6), dtype=np.int64))
    for group, *pair in zip(groups, first, second, strict=True):
        (wanted, one), (_, other) = map(without_types, pair)
        gold, *found = (Counter((item.label, item.places) for item in side) for side in (wanted, one, other))
        for key in gold | found[0] | found[1]:
            items = [gold[key] + own[key] for own in found]
            right = [min(gold[key], own[key]) for own in found]
            only = [max(0, right[0] - right[1]), max(0, right[1] - right[0])]
            counts[key[0]][group] += [right[0], items[0], right[1], items[1], *only]
    rows = {MICRO: np.sum([*counts.values()], axis=0), **dict(sorted(counts.items()))} if counts else {}
    return {name: _difference(row) for name, row in rows.items()}


def _difference(counts: np.ndarray) -> Difference:
    right, items, other_right, other_items, *only = counts.sum(0).tolist()
    f1 = 2 * right / max(1, items), 2 * other_right / max(1, other_items)
    return Difference(f1, difference_interval(counts[:, :4]), (only[0], only[1]))
