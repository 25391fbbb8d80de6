"""The confidences of a pipeline in its predictions, and whether it was right."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from spacy.training import Example

from .matches import Kind, match


class Confidences(NamedTuple):
    """Parallel arrays over the predictions that have a score, and what stands beside them."""

    scores: np.ndarray
    right: np.ndarray
    # Number of gold entities.
    gold: int
    # Number of predictions without a score, which are in neither array.
    unscored: int


def confidences(examples: Iterable[Example]) -> Confidences:
    """Collect `ent._.score` of all predictions, and whether borders and label equal those of a gold entity.

    Predictions that touch a token without gold annotation are left out. Raises a ValueError for a score that is no
    probability.
    """
    scores: list[float] = []
    right: list[bool] = []
    gold = unscored = 0
    for example in examples:
        for pair in match(example):
            gold += pair.gold is not None
            if pair.predicted is None:
                continue
            score = pair.predicted.score
            if score is None:
                unscored += 1
                continue
            if not 0.0 <= score <= 1.0:
                text = pair.predicted.entity.text
                raise ValueError(f"the score of an entity must be a probability, but that of {text!r} is {score}")
            scores.append(score)
            right.append(pair.kind is Kind.RIGHT)
    return Confidences(np.array(scores, dtype=float), np.array(right, dtype=bool), gold, unscored)
