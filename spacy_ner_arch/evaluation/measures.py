"""Statistics of the matches of a corpus: confusion of labels, calibration of the probabilities, thresholds."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from .items import Kind, Match

# Rows and columns of a confusion matrix after those of the labels; the last row is "spurious".
OTHERS = (Kind.BOUNDARIES, Kind.BOTH, Kind.MISSED)
# Number of bins of the probabilities from 0 to 1.
BINS = 15


class Confusion(NamedTuple):
    """Counts of gold labels (rows) against predicted labels (columns).

    labels: the K gold and predicted labels, sorted.
    counts: (K + 3, K + 3). Pairs with the same boundaries are counted in the first K rows and columns; the types of
        relations do not matter. The last three columns count the other gold items: a prediction with the same label
        overlaps, one with another label does, or none does (missed). The last three rows count the other predictions in
        the same way (last row: spurious).
    """

    labels: list[str]
    counts: np.ndarray


def confusion(matches: Iterable[Match]) -> Confusion:
    """Count each gold item once in the row of its label, and each prediction once in the column of its label."""
    matches = list(matches)
    labels = sorted({item.label for pair in matches for item in (pair.gold, pair.predicted) if item is not None})
    index = {label: i for i, label in enumerate(labels)}
    counts = np.zeros((len(labels) + len(OTHERS),) * 2, dtype=int)
    for pair in matches:
        other = len(labels) + (OTHERS.index(pair.kind) if pair.kind in OTHERS else len(OTHERS) - 1)
        row = other if pair.gold is None else index[pair.gold.label]
        column = other if pair.predicted is None else index[pair.predicted.label]
        same_boundaries = pair.kind in (Kind.RIGHT, Kind.TYPE, Kind.LABEL)
        for cell in [(row, column)] if same_boundaries else {(row, other), (other, column)} - {(other, other)}:
            counts[cell] += 1
    return Confusion(labels, counts)


class Probabilities(NamedTuple):
    """Probabilities of the predictions.

    scores: (N,) of the predictions that have one.
    right: (N,) whether these predictions are right; relations also need the right types of both entities.
    gold: number of gold items.
    unscored: number of predictions without a probability.
    """

    scores: np.ndarray
    right: np.ndarray
    gold: int
    unscored: int


def probabilities(matches: Iterable[Match]) -> Probabilities:
    """Collect the probabilities of the predictions. Raises ValueError for a score outside 0 to 1."""
    matches = list(matches)
    predicted = [(pair, pair.predicted.score) for pair in matches if pair.predicted is not None]
    scored = [(pair, score) for pair, score in predicted if score is not None]
    for pair, score in scored:
        if not 0.0 <= score <= 1.0:
            raise ValueError(
                f"the score of a prediction must be a probability, but document {pair.document + 1} has {score}"
            )
    scores = np.array([score for _, score in scored], dtype=float)
    right = np.array([pair.kind is Kind.RIGHT for pair, _ in scored], dtype=bool)
    gold = sum(pair.gold is not None for pair in matches)
    return Probabilities(scores, right, gold, len(predicted) - len(scored))


class Calibration(NamedTuple):
    """Mean probability and accuracy of the predictions in bins of equal width; empty bins are left out.

    lower: (n,) lower edges of the bins. A bin contains its upper edge; the first one also contains 0.
    counts: (n,) predictions in the bin.
    confidence, accuracy: (n,) mean probability, and share of right predictions.
    width: width of a bin.
    ece: expected calibration error, the mean of |accuracy - confidence| weighted by the counts.
    brier: mean squared difference between a probability and 1 (right) or 0 (wrong).
    Source: Guo et al. 2017 (ECE); Brier 1950.
    """

    lower: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    width: float
    ece: float
    brier: float


def calibration(found: Probabilities) -> Calibration:
    """Compare the probabilities with how often the predictions are right. There must be at least one probability."""
    from sklearn.calibration import calibration_curve

    accuracy, confidence = calibration_curve(found.right, found.scores, n_bins=BINS)
    edges = np.linspace(0.0, 1.0, BINS + 1)
    counts = np.bincount(np.searchsorted(edges[1:-1], found.scores), minlength=BINS)
    used = counts > 0
    ece = float(np.average(np.abs(accuracy - confidence), weights=counts[used]))
    brier = float(np.mean((found.scores - found.right) ** 2))
    return Calibration(edges[:-1][used], counts[used], confidence, accuracy, 1 / BINS, ece, brier)


class ThresholdCurve(NamedTuple):
    """Scores of the predictions whose probability is at least a threshold.

    thresholds: (n,) all probabilities that occur, ascending.
    precision, recall, f1: (n,) between 0 and 1. Recall is relative to all gold items.
    kept: (n,) number of predictions.
    """

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    kept: np.ndarray

    def at_precision(self, target: float) -> int | None:
        """Return the index of the lowest threshold with at least this precision, which has the best recall, or None."""
        reached = np.flatnonzero(self.precision >= target)
        return int(reached[0]) if len(reached) else None


def threshold_curve(found: Probabilities) -> ThresholdCurve:
    """Return precision, recall and F1 by threshold on the probability. At least one prediction must be right."""
    from sklearn.metrics import precision_recall_curve

    # The last entries of precision and recall belong to no threshold; this recall is relative to the right predictions.
    precision, recall, thresholds = precision_recall_curve(found.right, found.scores)
    precision, recall = precision[:-1], recall[:-1] * found.right.sum() / found.gold
    kept = len(found.scores) - np.searchsorted(np.sort(found.scores), thresholds)
    return ThresholdCurve(thresholds, precision, recall, 2 * precision * kept / (kept + found.gold), kept)
