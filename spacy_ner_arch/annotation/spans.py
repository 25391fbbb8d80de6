"""Spans as arrays: gold spans, and decoding of span scores to non-overlapping entities.

Letters: T tokens, W longest span in tokens; [i, w - 1] is the span of w tokens that begins at token i.
"""

from typing import NamedTuple

import numpy as np

from .word_places import Words

# Start, end (exclusive) and class.
ClassifiedSpan = tuple[int, int, int]


class GoldSpans(NamedTuple):
    """Gold spans of one document."""

    spans: np.ndarray  # (n, 3) int64: first token, width in tokens, number of the label from 1
    annotated: np.ndarray  # (T,) bool, tokens with annotation
    closed: np.ndarray  # (T,) bool, tokens that are in no entity except the gold spans that contain them

    def in_words(self, words: Words) -> "GoldSpans":
        """Convert token indices to word indices. The spans must begin and end with words."""
        start, width, label = self.spans.T
        start, end = words.from_tokens(np.stack([start, start + width], axis=1)).T
        spans = np.stack([start, end - start, label], axis=1)
        return GoldSpans(spans, self.annotated[words.tokens], self.closed[words.tokens])


def decode_exact(labels: np.ndarray, gains: np.ndarray) -> list[ClassifiedSpan]:
    """Find the set of non-overlapping spans with the greatest sum of gains.

    With softmax scores this is the most probable assignment of a class to every span without overlaps. Only spans with
    a positive gain matter, and time is proportional to their number.

    labels: (T, W), class of each span.
    gains: (T, W), log odds of that class against no entity; -inf for positions that are not spans.
    Returns the entities in order of their starts.
    """
    starts, ends = positive(gains)
    # Sort spans by their ends, so that the best choice among the first n spans is known when span n needs it.
    order = np.lexsort((-starts, ends))
    starts, ends = starts[order], ends[order]
    compatible = np.searchsorted(ends, starts, side="right").tolist()
    best, taken = [0.0], []
    for n, gain in zip(compatible, gains[starts, ends - starts - 1].astype(np.float64).tolist(), strict=True):
        taken.append(best[n] + gain > best[-1])
        best.append(max(best[-1], best[n] + gain))
    chosen = []
    n = len(taken)
    while n:
        if taken[n - 1]:
            chosen.append(n - 1)
            n = compatible[n - 1]
        else:
            n -= 1
    return entities(labels, starts[chosen[::-1]], ends[chosen[::-1]])


def decode_greedy(labels: np.ndarray, gains: np.ndarray, probabilities: np.ndarray) -> list[ClassifiedSpan]:
    """Choose spans with a positive gain in order of decreasing probability, skipping spans that overlap a chosen one.

    labels, gains: as for `decode_exact`.
    probabilities: (T, W), of the class of each span, or their logarithms. Ties go to the earlier, then shorter span.
    Returns the entities in order of their starts.
    """
    starts, ends = positive(gains)
    order = np.argsort(-probabilities[starts, ends - starts - 1], kind="stable")
    occupied = bytearray(len(gains))
    chosen = []
    for n, start, end in zip(order.tolist(), starts[order].tolist(), ends[order].tolist(), strict=True):
        if occupied.find(1, start, end) < 0:
            occupied[start:end] = b"\1" * (end - start)
            chosen.append(n)
    chosen.sort()
    return entities(labels, starts[chosen], ends[chosen])


def positive(gains: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends of the spans with a positive gain, sorted by start and length."""
    starts, widths = np.nonzero(gains > 0)
    return starts, starts + widths + 1


def entities(labels: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> list[ClassifiedSpan]:
    """The given spans with their classes."""
    classes = labels[starts, ends - starts - 1]
    return list(zip(starts.tolist(), ends.tolist(), classes.tolist(), strict=True))
