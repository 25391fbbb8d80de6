"""Probabilities of spans as entities, from terms of a linear chain for every token."""

from typing import Any, NamedTuple

import numpy as np

SpanProbability = tuple[int, int, int, float]


class SpanTerms(NamedTuple):
    """Terms of the log probability that tokens a..b (inclusive) are exactly one entity of a label, (T, L) each.

    It is single[a] for one token, opening[a] + closing_two[b] for two, and opening[a] + closing[b] for more.
    opening[a] + inner[b] is the log probability that an entity begins with a, and b > a continues it.
    """

    single: Any
    opening: Any
    inner: Any
    closing: Any
    closing_two: Any


def log_probability(terms: SpanTerms, start: int, end: int, label: int) -> float:
    """Log probability of a span with an exclusive end, as an entity of a label, given by its index."""
    if end - start == 1:
        return float(terms.single[start, label])
    closing = terms.closing_two if end - start == 2 else terms.closing
    return float(terms.opening[start, label] + closing[end - 1, label])


def likely_spans(terms: SpanTerms, least: np.ndarray) -> list[SpanProbability]:
    """All spans (start, exclusive end, index of the label, probability) of at least some probability, in text order.

    least: (L,), the minimum probability for each label, above 0; inf for labels that are not wanted.

    Spans of any width are found: a start is followed as long as the probability that its entity continues is at least
    `least`, which holds for at most 1 / least starts at each token.
    """
    least = np.log(least)
    found: list[SpanProbability] = []

    def collect(starts: np.ndarray, labels: np.ndarray, width: int, scores: np.ndarray) -> None:
        likely = scores >= least[labels]
        columns = starts[likely], starts[likely] + width, labels[likely], np.minimum(np.exp(scores[likely]), 1.0)
        found.extend(zip(*(column.tolist() for column in columns), strict=True))

    steps, count = terms.single.shape
    starts, labels = (axis.ravel() for axis in np.indices((steps, count)))
    collect(starts, labels, 1, terms.single[starts, labels])
    for width in range(2, steps + 1):
        fits = starts + width <= steps
        starts, labels = starts[fits], labels[fits]
        if not len(starts):
            break
        end = starts + width - 1
        closing = terms.closing_two if width == 2 else terms.closing
        opening = terms.opening[starts, labels]
        collect(starts, labels, width, opening + closing[end, labels])
        goes_on = opening + terms.inner[end, labels] >= least[labels]
        starts, labels = starts[goes_on], labels[goes_on]
    return sorted(found)
