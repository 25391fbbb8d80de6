"""Type pairs: the entity types of head and tail that a relation may have.

They are stored as one list of pairs for all labels, as lists by label, or as None if nothing is restricted. With lists
by label, a label without a list may have all pairs.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from .by_label import ByLabel, by_label
from .candidates import Candidates
from .pair_classes import PairClass

# Form of stored type pairs: JSON values.
TypePairs = list[list[str]] | dict[str, list[list[str]]]
# Form of given type pairs: pairs for all labels, or by label.
GivenTypePairs = Iterable[Sequence[str]] | Mapping[str, Iterable[Sequence[str]]]


def as_type_pairs(given: ByLabel) -> TypePairs:
    """Copy type pairs from a config, pairs for all labels or by label, to the form in which they are stored.

    Raises ValueError for a value that is not a pair, and for keys that a config cannot store.
    """
    if isinstance(given, Mapping) or _are_by_label(given):
        return by_label("type_pairs", given, _as_pairs)
    return _as_pairs(given)


def add_type_pairs(known: TypePairs, new: GivenTypePairs) -> None:
    """Add type pairs in place. Pairs by label can also be added to one list for all labels.

    Raises ValueError for a value that is not a pair, and for pairs that are not by label if the known pairs are.
    """
    if isinstance(known, list):
        if isinstance(new, Mapping):
            new = sorted({(head, tail) for pairs in new.values() for head, tail in pairs})
        _extend(known, new)
    elif isinstance(new, Mapping):
        for label, pairs in new.items():
            _extend(known.setdefault(label, []), pairs)
    elif new:
        raise ValueError("the type_pairs of the component are by label; give the new ones as lists by label")


def allowed_type_pairs(known: TypePairs | None, labels: Iterable[str]) -> set[tuple[str, str]] | None:
    """Types of head and tail that at least one of the labels may have; None for all."""
    if isinstance(known, dict):
        lists: list[Any] = [known.get(label) for label in labels]
        known = None if not lists or None in lists else list(chain(*lists))
    return None if known is None else {(head, tail) for head, tail in known}


def types_of(known: TypePairs | None) -> set[str]:
    """All types in type pairs."""
    lists = known.values() if isinstance(known, dict) else [known or []]
    return {name for pairs in lists for pair in pairs for name in pair}


def have_types(
    candidates: Candidates,
    type_pairs: Collection[tuple[str, str]] | None,
    *,
    inverse: bool = False,
    any_order: bool = False,
) -> np.ndarray:
    """(P,) bool: whether the entities of each candidate pair have the types of one of the type pairs.

    type_pairs: (type of the head, type of the tail); None for all.
    inverse: the second entity of a candidate pair is the head.
    any_order: either of its entities may be the head.
    """
    if type_pairs is None or not len(candidates.pairs):
        return np.ones(len(candidates.pairs), dtype=bool)
    names = sorted({span.label_ for span in candidates.entities})
    table = np.array([[(head, tail) in type_pairs for tail in names] for head in names], dtype=bool)
    if any_order:
        table |= table.T
    number = {name: i for i, name in enumerate(names)}
    types = np.array([number[span.label_] for span in candidates.entities], dtype=np.int64)
    heads, tails = candidates.pairs.T[::-1] if inverse else candidates.pairs.T
    return table[types[heads], types[tails]]


def may_have(
    candidates: Candidates,
    pair_class: PairClass,
    type_pairs: Collection[tuple[str, str]] | None,
    symmetric: Collection[str],
) -> np.ndarray:
    """(P,) bool: whether the entities of each candidate pair have types that are allowed for a class.

    type_pairs: allowed for the label of the class, (type of the head, type of the tail); None for all.
    symmetric: labels that hold in both directions.
    """
    label, inverse = pair_class
    return have_types(candidates, type_pairs, inverse=inverse, any_order=label in symmetric)


def _are_by_label(rows: Sequence[Any]) -> bool:
    """Whether all rows are [label, pairs], not pairs of types. An empty list is not by label."""
    kinds = (list, tuple)
    return bool(rows) and all(isinstance(row, kinds) and len(row) == 2 and isinstance(row[1], kinds) for row in rows)


def _as_pairs(pairs: Any) -> list[list[str]]:
    if not isinstance(pairs, (list, tuple)):
        raise ValueError(f'{pairs!r} is not a list of pairs, such as [["PER", "ORG"]]')
    return [_as_pair(pair) for pair in pairs]


def _as_pair(pair: Any) -> list[str]:
    is_list = isinstance(pair, (list, tuple))
    if not is_list or len(pair) != 2 or not all(isinstance(name, str) for name in pair):
        by_label = ". To restrict a label, give its pairs by label" if is_list and len(pair) > 2 else ""
        raise ValueError(f"type_pairs has {pair!r}; a pair is [type of the head, type of the tail]{by_label}")
    return list(pair)


def _extend(known: list[list[str]], new: Iterable[Sequence[str]]) -> None:
    known += [pair for pair in map(_as_pair, new) if pair not in known]
