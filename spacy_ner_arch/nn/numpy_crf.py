"""Prediction of a linear-chain CRF in NumPy: for short batches on a CPU, and in exported pipelines, without torch.

A NumPy call has about a third of the overhead of a torch call. In a short batch, this overhead exceeds the arithmetic
of a step.

The recursions are those of `viterbi.py` and `forward_backward.py`. The batch is the last axis here, so that NumPy
computes along it, and both directions of the sums run in one loop. Letters: B sequences, T steps, K tags, L labels. All
steps of the padding have a tag END, with index K.
"""

from typing import Any, NamedTuple

import numpy as np

from ..annotation.span_terms import SpanTerms

# Up to this number of sequences times pairs of tags, NumPy is faster than torch on a CPU.
MOST_PRODUCTS = 60_000
# Number of candidates of best paths that are compared at once.
CANDIDATES = 131_072
# Subtracting a constant from the scores of a step changes no comparison and keeps the sums of long sequences exact in
# float32.
RESCALE_EVERY = 32


class ChainParameters(NamedTuple):
    """Constants of a CRF. Forbidden tags and transitions have large negative scores."""

    start: np.ndarray  # (K,)
    transitions: np.ndarray  # (K, K), from row to column
    end: np.ndarray  # (K,)
    places: np.ndarray  # (4, L), first, inner, last and single tag of each label
    extends: np.ndarray  # (K, K) bool, whether the column continues an entity that could have ended with the row
    temperature: np.ndarray  # (), divisor of all scores for the probabilities


class NumpyCRF:
    """The best tags and the exact probabilities of entities, as in `LinearChainCRF.predict`."""

    def __init__(self, parameters: ChainParameters) -> None:
        self.start, self.end = parameters.start.astype(float), parameters.end.astype(float)
        moves = parameters.transitions.astype(float)
        self.temperature = float(parameters.temperature)
        self.tags = tags = len(moves)
        self.moves = np.zeros((tags + 1, tags + 1))
        self.moves[:tags, :tags] = moves
        self.into = np.ascontiguousarray(self.moves.T)

        moves = moves / self.temperature
        self.shift = moves.max()
        matrix = np.zeros((tags + 1, tags + 1))
        matrix[:tags, :tags] = np.exp(moves - self.shift)
        matrix[:, tags] = 1.0
        self.matrices = np.stack([matrix.T, matrix])

        first, self.inner, last, single = parameters.places
        self.begins, self.finals = np.concatenate([first, single]), np.concatenate([self.inner, last])
        self.ends = np.concatenate([self.inner, last, single])
        # Transitions from the tags that end an entity to tags that do not continue it.
        self.onward = None
        if parameters.extends.any():
            allowed = ~parameters.extends[self.ends]
            allowed[: len(self.inner)] = True
            self.onward = matrix[self.ends]
            self.onward[:, :tags] *= allowed
        self.stay = moves[self.inner, self.inner][:, None]
        self.to_last = moves[self.inner, last][:, None]
        self.enter = moves[first, self.inner][:, None] - self.stay
        self.two = moves[first, last][:, None] - self.enter - self.to_last

    def predict(self, emissions: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tags (B, T) of the best paths, and the terms (B, T, 5, L) of `SpanTerms`; both arbitrary in the padding.

        emissions: (T, B, K); the padding may hold anything.
        lengths: (B,), steps of each sequence.
        """
        scores, padding = self._scores(emissions, lengths)
        with np.errstate(divide="ignore", invalid="ignore"):
            tags = self._best_tags(scores, padding)
            exact = np.ascontiguousarray(scores.transpose(0, 2, 1), dtype=float)
            terms = self._terms(exact / self.temperature, padding, lengths)
        return tags, terms.transpose(3, 0, 1, 2)

    def best_tags(self, emissions: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Only the tags of `predict`."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._best_tags(*self._scores(emissions, lengths))

    def _scores(self, emissions: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores (T, B, K) including start and end scores, and the mask of the padding, (T, B) bool."""
        steps, batch, _ = emissions.shape
        scores = emissions.copy()
        scores[0] += self.start
        # For an empty sequence this adds to the padding, which is never read.
        scores[np.maximum(lengths - 1, 0), np.arange(batch)] += self.end
        return scores, np.arange(steps)[:, None] >= lengths

    def _best_tags(self, scores: np.ndarray, padding: np.ndarray) -> np.ndarray:
        """Viterbi without back pointers: finding the best predecessor again along the path is cheaper."""
        steps, batch, tags = scores.shape
        moves, into = self.moves[:tags, None, :tags].astype(scores.dtype), self.into.astype(scores.dtype)
        best = np.empty((steps, batch, tags + 1), dtype=scores.dtype)
        reached = best[..., :tags]
        reached[0] = scores[0]
        # Process some sequences at a time, so that all candidates (from, sequence, to) stay in the cache.
        width = max(1, min(batch, CANDIDATES // tags**2))
        candidates = np.empty((tags, width, tags), dtype=scores.dtype)
        parts = [slice(first, first + width) for first in range(0, batch, width)]
        from_all = reached.transpose(0, 2, 1)[..., None]
        for step, (before, current, score) in enumerate(zip(from_all, reached[1:], scores[1:], strict=False)):
            for part in parts:
                sums = candidates[:, : batch - part.start]
                np.add(before[:, part], moves, out=sums)
                np.maximum.reduce(sums, axis=0, out=current[part])
            current += score
            if step % RESCALE_EVERY == 0:
                current -= np.maximum.reduce(current, axis=-1, keepdims=True)
        # END wins in the padding and limits no tag before it, so each sequence is traced back from its own last step.
        np.copyto(reached, -np.inf, where=padding[..., None])
        best[..., tags] = np.log(padding)
        path = np.empty((steps, batch), dtype=np.int64)
        found = path[::-1]
        best[-1].argmax(axis=-1, out=found[0])
        for tag, predecessor, score in zip(found, found[1:], best[-2::-1], strict=False):
            sums = into.take(tag, axis=0)
            sums += score
            sums.argmax(axis=-1, out=predecessor)
        return path.T

    def _terms(self, scores: np.ndarray, padding: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Terms (T, 5, L, B), from the sums over all paths up to each step and over all paths from it on."""
        steps, tags, batch = scores.shape
        largest = scores.max(axis=1)
        # Second axis: the order of time, and the reverse.
        factors = np.empty((steps, 2, tags + 1, batch))
        forward = factors[:, 0]
        np.exp(scores - largest[:, None], out=forward[:, :tags])
        np.copyto(forward[:, :tags], 0.0, where=padding[:, None])
        forward[:, tags] = padding
        factors[:, 1] = forward[::-1]
        incoming, outgoing = np.ones_like(factors), np.empty_like(factors)
        totals = np.empty((steps, 2, 1, batch))
        _pass_messages(self.matrices, factors, incoming, outgoing, totals)
        alpha, gamma, beta = outgoing[:, 0], outgoing[::-1, 1], incoming[::-1, 1]

        # The first step has no transition, so subtract `shift` once.
        offset = np.where(padding, 0.0, largest + self.shift)
        onward, backward = np.log(totals[:, 0, 0]) + offset, np.log(totals[::-1, 1, 0]) + offset
        until = onward.cumsum(axis=0)
        total = (until[-1] - self.shift * (lengths > 0))[None, None]
        beyond = backward.sum(axis=0) - backward.cumsum(axis=0)
        begun = np.log(alpha[:, self.begins]) + (until - self.shift)[:, None]
        if self.onward is None:
            after = beta[:, self.ends]
        else:
            after = np.concatenate([self.onward @ gamma[1:], beta[-1:, self.ends]])
        ended = np.log(after) + beyond[:, None] - total

        labels = len(self.inner)
        begun, alone = begun[:, :labels], begun[:, labels:]
        inside, closed, closed_alone = ended[:, :labels], ended[:, labels : 2 * labels], ended[:, 2 * labels :]
        ends = scores[:, self.finals]
        # No entity is open before step 0, where an inner tag has the large negative score of an illegal start.
        along = ends[:, :labels] + self.stay
        along[0] = 0.0
        along = along.cumsum(axis=0)
        closing = ends[:, labels:] + self.to_last + closed
        closing[1:] += along[:-1]
        terms = SpanTerms(
            single=alone + closed_alone,
            opening=begun + self.enter - along,
            inner=along + inside,
            closing=closing,
            closing_two=closing + self.two,
        )
        return np.stack(terms, axis=1)


def _pass_messages(matrices: Any, factors: Any, incoming: Any, outgoing: Any, totals: Any) -> None:
    """Pass both messages through all steps.

    matrices: (2, K + 1, K + 1), to the tags of a step (rows) from those of the step before, in both orders of time.
    factors: (T, 2, K + 1, B), exponentials of the emissions.
    incoming: output, (T, 2, K + 1, B): message into each step but the first.
    outgoing: output, (T, 2, K + 1, B): message times the emission of the step, divided by its sum.
    totals: output, (T, 2, 1, B): that sum.
    """
    state = None
    for factor, before, after, total in zip(factors, incoming, outgoing, totals, strict=True):
        if state is None:
            state = factor
        else:
            np.matmul(matrices, state, out=before)
            state = np.multiply(before, factor, out=after)
        np.add.reduce(state, axis=1, keepdims=True, out=total)
        state = np.divide(state, total, out=after)
