"""Thresholds for a guaranteed recall on new documents, or for a precision, and intervals of scores."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Number of samples of the documents for an interval of F1.
RESAMPLES = 1000
BLOCKS = 10
# Minimum number of documents with items for such an interval. In simulations, an interval of fewer documents contained
# the F1 of other documents much less often than in 95 % of the cases: 51 % with 2 documents, 82 % with 5, 91 % with 10.
FEWEST = 10
# Number of standard deviations on either side of the mean that contain 95 % of a normal distribution.
Z_95 = 1.96


class Interval(NamedTuple):
    low: float
    high: float


def recall_threshold(scores: Sequence[np.ndarray], missed: float) -> float | None:
    """Largest threshold at which the expected share of missed entities of a new document is at most `missed`.

    scores: for each held-out document with a gold entity, the scores of its gold entities, 0 for those that cannot be
        found. A gold entity with a score below the threshold is missed.
    missed: from 0 to 1.

    Returns None if no threshold above 0 gives this guarantee: there are too few documents (see `documents_needed`) or
    too many entities that cannot be found. The guarantee holds on average for new documents from the distribution of
    the held-out documents, for any scores.
    Source: conformal risk control, Angelopoulos et al. 2022.
    """
    count = len(scores)
    # Contribution of each entity to the sum of the shares of missed entities, in the order in which they are missed.
    values = np.concatenate([np.empty(0), *scores])
    shares = np.concatenate([np.empty(0), *(np.full(len(row), 1 / len(row)) for row in scores)])
    order = np.argsort(values, kind="stable")
    values = values[order]
    sum_if_first_missed = np.concatenate([[0.0], shares[order].cumsum()])
    # A threshold equal to a value misses exactly the smaller ones; above all values, it misses everything.
    below = np.searchsorted(values, values, side="left")
    kept = (sum_if_first_missed[below] + 1) / (count + 1) <= missed
    return float(values[kept].max()) if kept.any() and values[kept].max() > 0 else None


def documents_needed(missed: float) -> int:
    """Minimum number of held-out documents for which `recall_threshold` can give its guarantee."""
    return math.ceil(1 / missed - 1e-9) - 1


def precision_threshold(scores: np.ndarray, right: np.ndarray, precision: float) -> float | None:
    """Least threshold above which at least this share of the predictions is right; None if there is none.

    scores, right: score of each prediction, and whether it is right, (N,).
    """
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order], right[order]
    share = right.cumsum() / np.arange(1, len(right) + 1)
    # Predictions of equal score are kept together.
    whole = np.append(scores[1:] < scores[:-1], True)[: len(scores)]
    enough = np.flatnonzero(whole & (share >= precision))
    return float(scores[enough[-1]]) if len(enough) else None


def wilson(successes: int, trials: int) -> Interval:
    """95 % interval of a proportion. Source: Wilson 1927."""
    if not trials:
        return Interval(0.0, 1.0)
    share, square = successes / trials, Z_95 * Z_95
    centre = (share + square / (2 * trials)) / (1 + square / trials)
    half = Z_95 / (1 + square / trials) * math.sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def f1_interval(right: np.ndarray, items: np.ndarray) -> Interval | None:
    """95 % interval of the micro F1 on other documents like these; None if fewer than FEWEST documents have items, or
    if the samples do not vary, for example if all is right.

    It comes from samples of the documents with replacement, with a fixed seed: the items of a document depend on each
    other. It does not cover the difference between two trainings.

    right, items: number of right predictions of each document, or group of documents that depend on each other, and
        that of its gold items and predictions, (N,) int.
    Source: percentile bootstrap, Efron 1979.
    """
    counts = np.stack([right, items], axis=1)
    if np.count_nonzero(counts[:, 1]) < FEWEST:
        return None
    return _middle(_f1(*_resample(counts)))


def difference_interval(counts: np.ndarray) -> Interval | None:
    """95 % interval of the difference of the micro F1 of two systems, first minus second; see `f1_interval`.

    counts: right predictions and items of the first system, then of the second one, for each document, (N, 4).
    Source: paired bootstrap, Koehn 2004.
    """
    if np.count_nonzero(counts[:, [1, 3]].sum(1)) < FEWEST:
        return None
    right, items, other_right, other_items = _resample(counts)
    return _middle(_f1(right, items) - _f1(other_right, other_items))


def _resample(counts: np.ndarray) -> np.ndarray:
    """The sum of each column over RESAMPLES samples of the rows with replacement, (columns, RESAMPLES)."""
    # Sample how often each kind of document occurs: there are few kinds, even in a large corpus.
    kinds, numbers = np.unique(counts, axis=0, return_counts=True)
    random, shares = np.random.default_rng(0), numbers / len(counts)
    # In blocks, which bounds the memory where there are many kinds.
    blocks = [random.multinomial(len(counts), shares, size=RESAMPLES // BLOCKS) @ kinds for _ in range(BLOCKS)]
    return np.concatenate(blocks).T


def _f1(right: np.ndarray, items: np.ndarray) -> np.ndarray:
    return 2 * right / np.maximum(1, items)


def _middle(values: np.ndarray) -> Interval | None:
    """The interval that contains 95 % of the values; None if it has only one value."""
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(low), float(high)) if low < high else None
