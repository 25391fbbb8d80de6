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
    share: share of the pairs without a relation that were sampled, above 0; 1 if all pairs are candidates.
    """

    rows: np.ndarray
    classes: np.ndarray
    share: float = 1.0

    def in_words(self, words: Words) -> "GoldPairs":
        """Return self, which has no token indices."""
        return self


def sample_negatives(
    found: Sequence[Candidates], gold: Sequence[GoldPairs], ratio: float
) -> tuple[list[Candidates], list[GoldPairs]]:
    """Keep all related pairs of a batch and a random sample of unrelated pairs: at most `ratio` for each related pair,
    or for each document with pairs if there are more of these documents.

    ratio: above 0.
    """
    ends = np.cumsum([len(pairs.pairs) for pairs in found], dtype=np.int64)
    kept = np.zeros(ends[-1] if found else 0, dtype=bool)
    for end, pairs, own in zip(ends, found, gold, strict=True):
        kept[end - len(pairs.pairs) + own.rows] = True
    others = np.flatnonzero(~kept)
    documents = sum(len(pairs.pairs) > 0 for pairs in found)
    sampled = np.random.permutation(others)[: math.ceil(ratio * max(documents, kept.sum()))]
    kept[sampled] = True
    share = len(sampled) / len(others) if len(others) else 1.0
    masks = np.split(kept, ends)[:-1]
    return (
        [pairs.select(mask) for pairs, mask in zip(found, masks, strict=True)],
        [GoldPairs(mask.cumsum()[own.rows] - 1, own.classes, share) for own, mask in zip(gold, masks, strict=True)],
    )


def find_relations(
    gold: Sequence[RelationKey], candidates: Candidates, symmetric: Collection[str], unordered: bool
) -> Iterator[FoundRelation]:
    """Find the gold relations whose pairs are candidates.

    symmetric: labels that hold in both directions; they are found at both orders of a pair.
    unordered: whether two entities are one candidate, which covers both directions.
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
