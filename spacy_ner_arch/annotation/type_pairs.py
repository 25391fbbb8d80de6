"""Type pairs: the entity types of head and tail that a relation may have.

They are stored as one list of pairs for all labels, as lists by label, or as None if nothing is restricted. With lists
by label, a label without a list may have all pairs.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .by_label import ByLabel, by_label

# Form of stored type pairs: JSON values.
TypePairs = list[list[str]] | dict[str, list[list[str]]]
# Form of given type pairs: pairs for all labels, or by label.
GivenTypePairs = Iterable[Sequence[str]] | Mapping[str, Iterable[Sequence[str]]]
# Form for looking up pairs: (type of the head, type of the tail), for all labels or by label; None for all.
TypeSets = set[tuple[str, str]] | dict[str, set[tuple[str, str]]] | None


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


def as_sets(known: TypePairs | None) -> TypeSets:
    """Stored type pairs in the form for looking them up."""
    if isinstance(known, dict):
        return {label: {(head, tail) for head, tail in pairs} for label, pairs in known.items()}
    return None if known is None else {(head, tail) for head, tail in known}


def allowed_type_pairs(known: TypeSets, labels: Iterable[str]) -> set[tuple[str, str]] | None:
    """Types of head and tail that at least one of the labels may have; None for all."""
    if not isinstance(known, dict):
        return known
    sets = [known.get(label) for label in labels]
    restricted = [pairs for pairs in sets if pairs is not None]
    if not sets or len(restricted) < len(sets):
        return None
    return restricted[0] if len(restricted) == 1 else set().union(*restricted)


def types_of(known: TypePairs | None) -> set[str]:
    """All types in type pairs."""
    lists = known.values() if isinstance(known, dict) else [known or []]
    return {name for pairs in lists for pair in pairs for name in pair}


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
