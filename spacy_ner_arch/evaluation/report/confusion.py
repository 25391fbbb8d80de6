"""What entities of one label are taken for."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from spacy.training import Example

from .matches import Kind, Match, match

# What stands in place of the other side's label where no entity of it has the same borders.
ELSEWHERE = ("borders wrong, same label", "borders wrong, other label", "nothing there")


@dataclass(frozen=True)
class Confusion:
    """Counts of gold labels against predicted labels.

    labels: gold and predicted ones, sorted.
    counts: (K + 3, K + 3), gold labels down, predicted labels across. Entities with the same borders on both sides are
        in the first K rows and columns. The last three rows are about predictions to which no gold entity has the same
        borders: one with the same label overlaps, one with another label overlaps, none does (spurious); the last three
        columns likewise about gold entities (the last one: missed).

    Every gold entity is counted once in the row of its label, every judged prediction once in the column of its label:
    rows sum to the support, columns to the number of predictions.
    """

    labels: list[str]
    counts: np.ndarray


def confusion(examples: Iterable[Example]) -> Confusion:
    """Count which label entities are given, and which are missed, spurious or have wrong borders.

    examples: with predictions on their predicted side. One prediction at most is taken to be about one gold entity, by
        the rules of `match`; a second one that overlaps the same gold entity is spurious.
    """
    matches = [pair for example in examples for pair in match(example)]
    sides = [side.label_ for side, _ in matches if side is not None]
    sides += [side.label for _, side in matches if side is not None]
    labels = sorted(set(sides))
    index = {label: i for i, label in enumerate(labels)}
    counts = np.zeros((len(labels) + len(ELSEWHERE),) * 2, dtype=int)
    for pair in matches:
        for cell in cells(pair, index):
            counts[cell] += 1
    return Confusion(labels, counts)


def cells(pair: Match, index: dict[str, int]) -> list[tuple[int, int]]:
    """Where a match is counted: once if the borders agree, otherwise once for each entity in it."""
    gold, predicted = pair
    if pair.kind in (Kind.RIGHT, Kind.LABEL):
        assert gold is not None and predicted is not None
        return [(index[gold.label_], index[predicted.label])]
    elsewhere = len(index) + {Kind.BORDERS: 0, Kind.BOTH: 1}.get(pair.kind, 2)
    found = [] if gold is None else [(index[gold.label_], elsewhere)]
    return found + ([] if predicted is None else [(elsewhere, index[predicted.label])])
