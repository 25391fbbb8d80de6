"""The relations that a component may find: its classes of pairs, and the pairs that may have them."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .candidates import Candidates
from .pair_classes import PairClass, make_classes
from .relations import RelationKey
from .type_pairs import TypeSets, allowed_type_pairs

# Index of a gold relation, row of its pair among the candidates, and its class.
FoundRelation = tuple[int, int, PairClass]


@dataclass(frozen=True)
class RelationRules:
    """Constraints on the relations of a document.

    labels: labels of the component, in order.
    symmetric: labels that hold in both directions.
    unordered: whether two entities are one candidate for both directions.
    multi_label: whether a pair may have several labels.
    type_pairs: types of head and tail that a relation may have, see `type_pairs`; None for all.
    threshold: minimum log odds.
    one_head, one_tail: labels of which an entity has at most one head, or at most one tail; for `choose_graph`.
    """

    labels: Sequence[str]
    symmetric: Collection[str] = ()
    unordered: bool = False
    multi_label: bool = False
    type_pairs: TypeSets = None
    threshold: float = 0.0
    one_head: Collection[str] = ()
    one_tail: Collection[str] = ()

    @cached_property
    def classes(self) -> list[PairClass]:
        """The classes of the model, in order."""
        return make_classes(self.labels, self.symmetric, self.unordered)

    @cached_property
    def is_symmetric(self) -> np.ndarray:
        """(C,) bool."""
        return np.array([label in self.symmetric for label, _ in self.classes])

    @cached_property
    def related_types(self) -> set[tuple[str, str]] | None:
        """Types of head and tail that some label may have; None for all."""
        return allowed_type_pairs(self.type_pairs, self.labels)

    def allowed_types(self, label: str) -> set[tuple[str, str]] | None:
        """Types of head and tail that a label may have; None for all."""
        return allowed_type_pairs(self.type_pairs, [label])

    def select(self, candidates: Candidates, any_types: bool = False) -> Candidates:
        """The candidates whose types are allowed for some label, or all; with `unordered`, one for each two entities.

        any_types: whether all types are allowed.
        """
        if self.unordered:
            candidates = candidates.select(candidates.pairs[:, 0] < candidates.pairs[:, 1])
        if any_types or self.related_types is None:
            return candidates
        return candidates.select(TypedPairs(candidates).have(self.related_types, any_order=self.unordered))

    def may_have(self, candidates: Candidates, classes: Sequence[PairClass]) -> np.ndarray:
        """(P, C) bool: whether the entities of each candidate pair have types that are allowed for each class."""
        pairs = TypedPairs(candidates)
        allowed = np.ones((len(candidates.pairs), len(classes)), dtype=bool)
        for column, (label, inverse) in enumerate(classes):
            types = self.allowed_types(label)
            if types is not None:
                allowed[:, column] = pairs.have(types, inverse=inverse, any_order=label in self.symmetric)
        return allowed

    def find(self, gold: Sequence[RelationKey], candidates: Candidates) -> Iterator[FoundRelation]:
        """Find the gold relations whose pairs are candidates, whatever types their labels allow.

        A symmetric label is found at both orders of a pair.
        """
        if not gold:
            return
        row_of_pair = {pair: i for i, pair in enumerate(map(tuple, candidates.pairs.tolist()))}
        entities_at: dict[tuple[int, int], list[int]] = {}
        for i, span in enumerate(candidates.entities):
            entities_at.setdefault((span.start_char, span.end_char), []).append(i)

        def find_entity(start: int, end: int, label: str) -> int | None:
            """The entity with these bounds, preferably with this label."""
            there = entities_at.get((start, end), [])
            return min(there, key=lambda i: candidates.entities[i].label_ != label, default=None)

        for number, key in enumerate(gold):
            head, tail, label = find_entity(*key[:3]), find_entity(*key[3:6]), key[6]
            if (head, tail) in row_of_pair:
                yield number, row_of_pair[head, tail], (label, False)
            if (tail, head) in row_of_pair and (self.unordered or label in self.symmetric):
                yield number, row_of_pair[tail, head], (label, label not in self.symmetric)

    def find_allowed(self, gold: Sequence[RelationKey], candidates: Candidates) -> list[FoundRelation]:
        """Find the gold relations whose pairs are candidates and may have their classes."""
        found = list(self.find(gold, candidates))
        classes = sorted({pair_class for _, _, pair_class in found})
        allowed = self.may_have(candidates, classes)
        return [row for row in found if allowed[row[1], classes.index(row[2])]]


class TypedPairs:
    """Candidate pairs by the types of their entities."""

    def __init__(self, candidates: Candidates) -> None:
        labels = [span.label_ for span in candidates.entities]
        self.names = sorted(set(labels))
        number = {name: i for i, name in enumerate(self.names)}
        self.types = np.array([number[label] for label in labels], dtype=np.int64)[candidates.pairs]

    def have(
        self, type_pairs: Collection[tuple[str, str]], *, inverse: bool = False, any_order: bool = False
    ) -> np.ndarray:
        """(P,) bool: whether the entities of each pair have the types of one of the type pairs.

        type_pairs: (type of the head, type of the tail).
        inverse: the second entity of a candidate pair is the head.
        any_order: either of its entities may be the head.
        """
        table = np.array([[(head, tail) in type_pairs for tail in self.names] for head in self.names], dtype=bool)
        table = table.reshape(len(self.names), len(self.names))
        if any_order:
            table |= table.T
        heads, tails = self.types.T[::-1] if inverse else self.types.T
        return table[heads, tails]
