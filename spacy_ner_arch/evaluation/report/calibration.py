"""Whether entities with a confidence of 0.8 are right in 8 of 10 cases."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from spacy.training import Example

from .confidences import confidences


@dataclass(frozen=True)
class Calibration:
    """Confidence and accuracy of the predictions, bin by bin.

    edges: (bins + 1,); bin i has the confidences above edges[i] up to edges[i + 1], the first one also its lower edge.
    counts: (bins,) predictions in each bin.
    confidence, accuracy: (bins,) mean confidence and share of right predictions; NaN in an empty bin.
    ece: expected calibration error, the mean over all predictions of |accuracy - confidence| of their bin.
    brier: Brier score, the mean squared difference between a confidence and 1 (right) or 0 (wrong).
    unscored: predictions that have no confidence and are in none of these numbers.

    `ece` and `brier` are NaN if no prediction has a confidence.
    Source: Naeini, Cooper and Hauskrecht 2015; Guo et al. 2017; Brier 1950.
    """

    edges: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    ece: float
    brier: float
    unscored: int


def calibration(examples: Iterable[Example], bins: int = 15, *, equal_mass: bool = False) -> Calibration:
    """Compare the confidences of predicted entities (`ent._.score`) with how often they are right.

    examples: with predictions on their predicted side.
    bins: number of bins.
    equal_mass: bins with the same number of predictions, as far as possible, instead of bins of the same width; equal
        confidences always share a bin, so that there may be fewer.

    Raises a ValueError for a score that is no probability, or for no bin.
    """
    if bins < 1:
        raise ValueError(f"calibration needs a bin, got bins={bins}")
    scores, right, _, unscored = confidences(examples)
    edges = np.linspace(0.0, 1.0, bins + 1)
    if equal_mass and len(scores):
        upper = np.quantile(scores, np.arange(1, bins + 1) / bins, method="inverted_cdf")
        edges = np.concatenate([[0.0], np.unique(upper)])
    index = np.searchsorted(edges[1:-1], scores, side="left")
    counts = np.bincount(index, minlength=len(edges) - 1)
    # Where the denominator is 0, so is the numerator: NaN.
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(index, weights=scores, minlength=len(counts)) / counts
        accuracy = np.bincount(index, weights=right, minlength=len(counts)) / counts
    ece = brier = float("nan")
    if len(scores):
        ece = float(np.nansum(counts * np.abs(accuracy - confidence)) / len(scores))
        brier = float(np.mean((scores - right) ** 2))
    return Calibration(edges, counts, confidence, accuracy, ece, brier, unscored)
