"""What is gained and lost by trusting only entities above a confidence."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from spacy.training import Example

from .confidences import confidences


class Point(NamedTuple):
    """Scores, between 0 and 1, of the `kept` predictions whose confidence is at least the threshold."""

    threshold: float
    precision: float
    recall: float
    f1: float
    kept: int


@dataclass(frozen=True)
class ThresholdCurve:
    """Scores of the predictions that remain above each threshold.

    thresholds: every confidence that occurs, ascending. Entry i of the other arrays is about the predictions with at
        least this confidence.
    precision, recall, f1: between 0 and 1. Recall is of all gold entities.
    kept: number of predictions.
    unscored: predictions that have no confidence and count as not made.
    """

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    kept: np.ndarray
    unscored: int

    def at_precision(self, target: float) -> Point | None:
        """The lowest threshold with at least this precision, which has the most recall; None if no threshold does."""
        reached = np.flatnonzero(self.precision >= target)
        return self.point(int(reached[0])) if len(reached) else None

    def best(self) -> Point | None:
        """The lowest threshold with the best F1; None if there is no prediction with a confidence."""
        return self.point(int(np.argmax(self.f1))) if len(self.f1) else None

    def point(self, i: int) -> Point:
        """Entry i, its threshold written with as few digits as keep the same predictions."""
        below = float(self.thresholds[i - 1]) if i else -math.inf
        threshold = shortest(below, float(self.thresholds[i]))
        return Point(threshold, float(self.precision[i]), float(self.recall[i]), float(self.f1[i]), int(self.kept[i]))


def threshold_curve(examples: Iterable[Example]) -> ThresholdCurve:
    """Precision, recall and F1 of the predicted entities over a threshold on their confidence (`ent._.score`).

    examples: with predictions on their predicted side.

    Predictions without a confidence are left out and counted, those on tokens without gold annotation left out, gold
    entities all counted. Raises a ValueError for a score that is no probability.
    """
    scores, right, gold, unscored = confidences(examples)
    thresholds = np.unique(scores)
    kept = len(scores) - np.searchsorted(np.sort(scores), thresholds)
    right_kept = right.sum() - np.searchsorted(np.sort(scores[right]), thresholds)
    recall = right_kept / gold if gold else np.zeros(len(thresholds))
    return ThresholdCurve(thresholds, right_kept / kept, recall, 2 * right_kept / (kept + gold), kept, unscored)


def shortest(below: float, above: float) -> float:
    """The number with the fewest decimals that is greater than `below` and at most `above`."""
    for digits in range(17):
        rounded = math.floor(above * 10**digits) / 10**digits
        if below < rounded <= above:
            return rounded
    return above
