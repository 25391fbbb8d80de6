"""Gold relations among the candidate pairs of a document."""

import math
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .candidates import Candidates
from .pair_classes import PairClass
from .relations import RelationKey
from .word_places import Words

# Index of a gold relation, row of its pair among the candidates, and its class.
FoundRelation = tuple[int, int, PairClass]


class GoldPairs(NamedTuple):
    """Gold relations of a document, each once.

    rows: (g,) int64, row of the pair among the candidates.
    classes: (g,) int64, class from 0.
    """

    rows: np.ndarray
    classes: np.ndarray

    def in_words(self, words: Words) -> "GoldPairs":
        """The same: it has no places."""
        return self


def sample_negatives(candidates: Candidates, gold: GoldPairs, ratio: float) -> tuple[Candidates, GoldPairs]:
    """Keep all related pairs, and at most `ratio` random unrelated pairs for each related one (at least for one)."""
    related = np.unique(gold.rows)
    others = np.setdiff1d(np.arange(len(candidates.pairs)), related)
    sampled = np.random.permutation(others)[: math.ceil(ratio * max(1, len(related)))]
    kept = np.union1d(related, sampled)
    return candidates.select(kept), gold._replace(rows=np.searchsorted(kept, gold.rows))


def find_relations(
    gold: Sequence[RelationKey], candidates: Candidates, symmetric: Collection[str], unordered: bool
) -> Iterator[FoundRelation]:
    """Find the gold relations whose pairs are candidates.

    symmetric: labels that hold in both directions; they are found at both orders of a pair.
    unordered: whether each two entities are one candidate, which covers both directions.
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
        if (tail, head) in row_of_pair and (unordered or label in symmetric):
            yield number, row_of_pair[tail, head], (label, label not in symmetric)
