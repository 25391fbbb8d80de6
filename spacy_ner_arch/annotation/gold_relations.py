"""Gold relations among the candidate pairs of a document, as the head collates them."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .candidates import Candidates
from .word_places import Words


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
