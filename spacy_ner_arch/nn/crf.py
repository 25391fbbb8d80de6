"""Linear-chain conditional random field: a faster and stricter `torchcrf.CRF` with the same signatures and state.

Letters: B sequences, T steps, K tags.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torchcrf
from torch import Tensor

from ..annotation.span_terms import SpanTerms
from ..annotation.tags import MISSING, legality, tag_places
from .forward_backward import (
    FORBIDDEN,
    expected_counts,
    log_alpha,
    log_beta,
    log_partition,
    scaled_messages,
    total_score,
)
from .numpy_crf import MOST_PRODUCTS, ChainParameters, NumpyCRF
from .viterbi import best_path, best_paths


class LinearChainCRF(torchcrf.CRF):
    """Score tag sequences by the sum of emissions, transitions, a start score and an end score.

    The parameters (`start_transitions`, `transitions`, `end_transitions`) and their initialization are those of
    pytorch-crf, so state dicts are interchangeable. The differences: the gradient of the loss is written in closed
    form, sequences may be empty, tags may be missing, and with `labels` illegal tag sequences have probability 0, in
    the loss and in decoding.

    num_tags: K.
    batch_first: whether tensors are (B, T, ...) instead of (T, B, ...), as in pytorch-crf.
    labels: names of the K tags in order (`O`, `B-PER`, ...); None allows all sequences.
    scheme: tag scheme of `labels`, a key of `annotation.tags.SCHEMES`.

    Masks are True on the steps of a sequence and False on the padding at its end. Padding between steps is an error
    (checked on the CPU only).
    Source: Lafferty, McCallum and Pereira 2001; Lample et al. 2016.
    """

    def __init__(
        self,
        num_tags: int,
        batch_first: bool = False,
        labels: Sequence[str] | None = None,
        scheme: str | None = None,
    ) -> None:
        super().__init__(num_tags, batch_first)
        if (labels is None) != (scheme is None):
            raise ValueError("LinearChainCRF: labels and scheme go together; give both or neither")
        if labels is not None and len(labels) != num_tags:
            raise ValueError(f"LinearChainCRF: {len(labels)} labels for {num_tags} tags")
        self.labels = None if labels is None else list(labels)
        self.scheme = scheme
        self.places: Tensor | None
        if self.labels is None or self.scheme is None:
            everything = torch.ones(num_tags, num_tags).bool()
            start, transition, end, extends = everything[0], everything, everything[0], ~everything
        else:
            start, transition, end, extends = map(torch.from_numpy, legality(self.labels, self.scheme))
        # Constants derived from the labels, so they are not stored in the state dict.
        for name, allowed in (("start", start), ("transition", transition), ("end", end)):
            self.register_buffer(f"{name}_penalty", torch.where(allowed, 0.0, FORBIDDEN), persistent=False)
        self.register_buffer("extends", extends, persistent=False)
        self.may_extend = bool(extends.any())
        places = None if labels is None or scheme is None else torch.from_numpy(tag_places(labels, scheme))
        self.register_buffer("places", places, persistent=False)

    def forward(
        self,
        emissions: Tensor,
        tags: Tensor,
        mask: Tensor | None = None,
        reduction: str = "sum",
        partial: bool = False,
        temperature: Tensor | float = 1.0,
    ) -> Tensor:
        """Log likelihood of the tags.

        emissions: (B, T, K) if batch_first; half precision is computed in float32.
        tags: (B, T) int64. With `partial`, -1 where the tag is missing; the likelihood is then the sum over all legal
            values of the missing tags that do not make a known entity longer.
        mask: (B, T), all True if None.
        reduction: `none` for (B,), `sum`, `mean` over sequences, or `token_mean`.
        partial: whether tags may be missing; costs a second forward-backward pass.
        temperature: divisor of all scores; above 1, probabilities become less extreme.
        """
        if reduction not in ("none", "sum", "mean", "token_mean"):
            raise ValueError(f"invalid reduction: {reduction}")
        emissions, mask = self._batch_first(emissions, mask)
        tags = tags if self.batch_first else tags.transpose(0, 1)
        if tags.shape != mask.shape:
            raise ValueError(f"tags have shape {tuple(tags.shape)}, emissions and mask {tuple(mask.shape)}")
        lengths = mask.sum(1)
        scores, transitions = self.potentials(emissions, lengths, temperature)
        if partial:
            compatible = (tags == MISSING).unsqueeze(-1) | (
                tags.unsqueeze(-1) == torch.arange(self.num_tags, device=tags.device)
            )
            ends = (tags[:, :-1] != MISSING) & (tags[:, 1:] == MISSING)
            compatible[:, 1:] &= ~(ends.unsqueeze(-1) & self.extends[tags[:, :-1].clamp_min(0)])
            known = scores.masked_fill(~compatible, FORBIDDEN)
            both = log_partition(torch.cat([scores, known]), transitions, lengths.repeat(2))
            all_paths, gold = both.chunk(2)
        else:
            all_paths = log_partition(scores, transitions, lengths)
            gold = self._path_scores(scores, transitions, tags, mask).double().sum(1)
        llh = (gold - all_paths).to(scores.dtype)
        if reduction == "none":
            return llh
        if reduction == "mean":
            return llh.mean()
        return llh.sum() if reduction == "sum" else llh.sum() / mask.sum()

    def expected_log_likelihood(
        self, emissions: Tensor, mask: Tensor, steps: Tensor, moves: Tensor, temperature: Tensor | float = 1.0
    ) -> Tensor:
        """Expected log likelihood of tags drawn from another chain, summed over the sequences.

        emissions, mask: as for `forward`, batch first.
        steps, moves: expected counts of the other chain, see forward_backward.expected_counts.
        temperature: divisor of all scores of this CRF.
        """
        emissions, mask = self._batch_first(emissions, mask)
        lengths = mask.sum(1)
        scores, transitions = self.potentials(emissions, lengths, temperature)
        of_steps = (steps * scores).masked_fill(~mask.unsqueeze(-1), 0.0)
        expected = of_steps.double().sum() + (moves * transitions).double().sum()
        return (expected - log_partition(scores, transitions, lengths).sum()).to(scores.dtype)

    def decode(self, emissions: Tensor, mask: Tensor | None = None) -> list[list[int]]:
        """Return the best tags of each sequence as lists, with one copy to the host."""
        _, lengths_mask = self._batch_first(emissions, mask)
        tags = self.best_tags(emissions, mask).tolist()
        return [row[:length] for row, length in zip(tags, lengths_mask.sum(1).tolist(), strict=True)]

    def best_tags(self, emissions: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the best tags of each sequence: (B, T) int64, always batch first, arbitrary in the padding."""
        with torch.no_grad():
            emissions, mask = self._batch_first(emissions, mask)
            lengths = mask.sum(1)
            if in_numpy := self._in_numpy(emissions):
                return torch.from_numpy(in_numpy.best_tags(*time_major(emissions, lengths)))
            return best_path(*self.potentials(emissions, lengths), lengths)

    def readings(self, emissions: Tensor, count: int, temperature: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
        """The most probable tag sequences of one sequence: tags (R, T), and their probabilities (R,).

        emissions: (T, K); T is at least 1.
        count: maximum number R of sequences.
        temperature: divisor of all scores.
        """
        with torch.no_grad():
            lengths = torch.tensor([len(emissions)], device=emissions.device)
            scores, transitions = self.potentials(emissions.unsqueeze(0), lengths, temperature)
            tags, totals = best_paths(scores[0], transitions, count)
            return tags, (totals - log_partition(scores, transitions, lengths)).exp().clamp(max=1.0)

    def entropy(self, emissions: Tensor, temperature: Tensor | float = 1.0) -> float:
        """Entropy in nats of the distribution over the tag sequences of one sequence.

        emissions: (T, K); T is at least 1.
        temperature: divisor of all scores.
        """
        with torch.no_grad():
            lengths = torch.tensor([len(emissions)], device=emissions.device)
            parts = self.potentials(emissions.double().unsqueeze(0), lengths, temperature)
            *counts, total = expected_counts(*parts, lengths)
            # Illegal tags have a large negative score, but a count of 0.
            expected = [float((n * part).sum()) for n, part in zip(counts, parts, strict=True)]
        return max(0.0, float(total) - sum(expected))

    def predict(
        self, emissions: Tensor, mask: Tensor | None = None, temperature: Tensor | float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Return `best_tags`, and the terms of the log probability of any span as an entity of any label.

        `annotation.span_terms` adds up the terms. The result is exact: the sum of the probabilities of all tag
        sequences that contain exactly this entity.

        temperature: divisor of all scores, for the terms.
        Returns the tags, and (B, T, 5, L) float64 for L labels in the order of their tags; always batch first,
        arbitrary in the padding.
        """
        if self.places is None:
            raise ValueError("LinearChainCRF.predict: spans have no meaning without labels and scheme")
        with torch.no_grad():
            emissions, mask = self._batch_first(emissions, mask)
            lengths = mask.sum(1)
            if in_numpy := self._in_numpy(emissions, temperature):
                found, terms = in_numpy.predict(*time_major(emissions, lengths))
                return torch.from_numpy(found), torch.from_numpy(terms)
            scores, transitions = self.potentials(emissions, lengths)
            tags = best_path(scores, transitions, lengths)
            return tags, self._span_log_terms(scores / temperature, transitions / temperature, lengths)

    def chain_parameters(self, temperature: Tensor | float = 1.0) -> ChainParameters:
        """The parameters as arrays; `places` is empty without labels."""
        return ChainParameters(
            start=(self.start_transitions + self.start_penalty).numpy(force=True),
            transitions=(self.transitions + self.transition_penalty).numpy(force=True),
            end=(self.end_transitions + self.end_penalty).numpy(force=True),
            places=np.zeros((4, 0), dtype=int) if self.places is None else self.places.numpy(force=True),
            extends=self.extends.numpy(force=True),
            temperature=torch.as_tensor(temperature).numpy(force=True),
        )

    def _in_numpy(self, emissions: Tensor, temperature: Tensor | float = 1.0) -> NumpyCRF | None:
        """The CRF with its current parameters in NumPy, if NumPy is faster for these emissions; else None."""
        if not emissions.is_cpu or emissions.shape[0] * self.num_tags**2 > MOST_PRODUCTS:
            return None
        return NumpyCRF(self.chain_parameters(temperature))

    def _span_log_terms(self, scores: Tensor, transitions: Tensor, lengths: Tensor) -> Tensor:
        assert self.places is not None
        first, inner, last, single = self.places
        messages = scaled_messages(scores, transitions, lengths)
        total = total_score(messages, lengths)[:, None, None]
        begun, alone = log_alpha(messages, torch.cat([first, single])).transpose(0, 1).chunk(2, -1)
        # Sums over all continuations of the tags: the entity continues, or ends with its last or single tag.
        ends = torch.cat([inner, last, single])
        allowed = None
        if self.may_extend:
            allowed = ~self.extends[ends]
            allowed[: len(inner)] = True
        inside, closed, closed_alone = (log_beta(messages, ends, allowed).transpose(0, 1) - total).chunk(3, -1)
        moves = transitions.double()
        stay = moves[inner, inner]
        onward, final = scores.index_select(-1, ends[: 2 * len(inner)]).double().chunk(2, -1)
        # No entity is open before step 0, where an inner tag has the large negative score of an illegal start.
        along = onward + stay
        along[:, 0] = 0.0
        along = along.cumsum(1)
        before = torch.nn.functional.pad(along[:, :-1], (0, 0, 1, 0))
        closing = before + moves[inner, last] + final + closed
        enter = moves[first, inner] - stay
        terms = SpanTerms(
            single=alone + closed_alone,
            opening=begun + enter - along,
            inner=along + inside,
            closing=closing,
            closing_two=closing + (moves[first, last] - enter - moves[inner, last]),
        )
        return torch.stack(terms, dim=2)

    def _path_scores(self, scores: Tensor, transitions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """(B, T): contribution of each step to the score of the given path, 0 in the padding."""
        tags = tags.masked_fill(~mask, 0)
        steps = scores.gather(2, tags.unsqueeze(-1)).squeeze(-1)
        moves = transitions[tags[:, :-1], tags[:, 1:]]
        return (steps + torch.nn.functional.pad(moves, (1, 0))).masked_fill(~mask, 0.0)

    def potentials(
        self, emissions: Tensor, lengths: Tensor, temperature: Tensor | float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Emissions and transitions, divided by the temperature, with a large negative score where they are illegal.

        The start and end scores are added to the emissions of the first and the last step.
        """
        batch, steps, tags = emissions.shape
        scores = emissions.clone(memory_format=torch.contiguous_format)
        scores[:, 0] += self.start_transitions + self.start_penalty
        # For an empty sequence this adds to the padding, which is never read.
        rows = (lengths - 1).clamp_min(0) + torch.arange(0, batch * steps, steps, device=lengths.device)
        ends = (self.end_transitions + self.end_penalty).to(scores.dtype).expand(batch, tags)
        scores.view(-1, tags).index_add_(0, rows, ends)
        transitions = (self.transitions + self.transition_penalty).to(scores.dtype)
        if isinstance(temperature, Tensor) or temperature != 1.0:
            return scores / temperature, transitions / temperature
        return scores, transitions

    def _batch_first(self, emissions: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        if emissions.dim() != 3 or emissions.shape[2] != self.num_tags:
            raise ValueError(f"emissions must be 3-d with {self.num_tags} tags last, got {tuple(emissions.shape)}")
        if not self.batch_first:
            emissions = emissions.transpose(0, 1)
            mask = None if mask is None else mask.transpose(0, 1)
        if mask is None:
            mask = torch.ones(emissions.shape[:2], dtype=torch.bool, device=emissions.device)
        if mask.shape != emissions.shape[:2]:
            raise ValueError(f"mask has shape {tuple(mask.shape)}, emissions {tuple(emissions.shape)}")
        mask = mask.bool()
        # On a GPU the check would make the host wait, so it is skipped.
        if mask.device.type == "cpu" and (mask[:, 1:] & ~mask[:, :-1]).any():
            raise ValueError("mask has a hole: padding must follow the last step of a sequence")
        wide = emissions if emissions.dtype == torch.float64 else emissions.float()
        return wide, mask


def time_major(emissions: Tensor, lengths: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Arguments of NumpyCRF: emissions (B, T, K) on the CPU as (T, B, K), and lengths (B,)."""
    return emissions.transpose(0, 1).numpy(force=True), lengths.numpy()
