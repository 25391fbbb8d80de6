"""Heads that label tokens: an encoder, a linear layer, and a CRF or a softmax over tags.

Letters: B documents, T tokens with padding, N tokens without, D width of a token vector, K tags.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..annotation.tags import MISSING, OUTSIDE, split_tag
from .batch import Batch, send
from .crf import LinearChainCRF
from .dropout import dropout
from .forward_backward import log_partition
from .growth import kept_rows, output_layer, regrown
from .head import EncoderBuilder, Head, HeldOut, Loss
from .viterbi import best_paths


class CRFTagger(Head):
    """Score tag sequences with a linear-chain CRF over emissions from a linear layer.

    input_size: width D of the token vectors.
    tags, scheme: names of the K tags, and their scheme (BILUO or BIO).
    encoder: builder of the encoder; None for none.
    dropout_rate: rate before the linear layer; None for the rate of `[training] dropout`.
    loss_scale: constant factor of the loss, which is the negative log likelihood summed over the documents.

    Shape: x (B, T, D); targets are tag indices (B, T) int64, MISSING where the tag is unknown, and whether any is
    missing. Predictions are tags (N,) and the terms (N, 5, L) of LinearChainCRF.span_log_terms.
    Source: Lample et al. 2016.
    """

    def __init__(
        self,
        input_size: int,
        tags: Sequence[str],
        scheme: str,
        *,
        encoder: EncoderBuilder | None = None,
        dropout_rate: float | None = None,
        loss_scale: float = 0.001,
    ) -> None:
        super().__init__(input_size, encoder)
        self.dropout = dropout(dropout_rate)
        # The first tag is O.
        self.output = output_layer(self.width, len(tags) - 1)
        self.crf = LinearChainCRF(len(tags), batch_first=True, labels=tags, scheme=scheme)
        self.loss_scale = loss_scale

    def collate(self, batch: Batch, items: Sequence[Any] | None, targets: Sequence[np.ndarray] | None) -> Batch:
        if targets is not None:
            flat = np.concatenate(targets)
            (tags,) = send([flat], batch.device)
            batch.targets = batch.pad(tags, fill=MISSING), bool((flat == MISSING).any())
        return batch

    def emissions(self, x: Tensor, batch: Batch) -> Tensor:
        """Scores of the tags of every token, (B, T, K) float32."""
        return self.output(self.dropout(self.encode(x, batch))).float()

    def loss(self, x: Tensor, batch: Batch) -> Loss:
        emissions = self.emissions(x, batch)
        with torch.autocast(x.device.type, enabled=False):
            return Loss(self.negative_log_likelihood(emissions, batch) * self.loss_scale, {})

    def negative_log_likelihood(self, emissions: Tensor, batch: Batch) -> Tensor:
        tags, partial = batch.targets
        return -self.crf(emissions, tags, batch.mask, partial=partial)

    def predict(self, x: Tensor, batch: Batch) -> tuple[Tensor, ...]:
        emissions = self.emissions(x, batch)
        with torch.autocast(x.device.type, enabled=False):
            tags, terms = self.crf.predict(emissions, batch.mask, self.temperature)
        return batch.flatten(tags), batch.flatten(terms)

    def predict_emissions(self, x: Tensor, batch: Batch) -> tuple[Tensor, ...]:
        """Scores (N, K) of the tags, from which `readings` finds tag sequences."""
        return (batch.flatten(self.emissions(x, batch)),)

    def readings(self, emissions: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The most probable tag sequences of a document: tags (R, T), and their probabilities (R,).

        emissions: (T, K); T is at least 1.
        count: how many; R is smaller if there are fewer sequences.
        """
        with torch.no_grad():
            rows = torch.from_numpy(emissions).to(self.temperature.device).unsqueeze(0)
            lengths = torch.tensor([len(emissions)], device=rows.device)
            scores, transitions = self.crf.potentials(rows, lengths, self.temperature)
            tags, totals = best_paths(scores[0], transitions, count)
            probabilities = (totals - log_partition(scores, transitions, lengths)).exp().clamp(max=1.0)
            return tags.cpu().numpy(), probabilities.cpu().numpy()

    def entropy(self, emissions: np.ndarray) -> float:
        """Entropy in nats of the distribution over the tag sequences of a document.

        emissions: (T, K); T is at least 1.
        """
        with torch.no_grad():
            rows = torch.from_numpy(emissions).to(self.temperature.device).double().unsqueeze(0)
            lengths = torch.tensor([len(emissions)], device=rows.device)
            scores, transitions = self.crf.potentials(rows, lengths, self.temperature)
        with torch.enable_grad():
            parts = scores.requires_grad_(), transitions.requires_grad_()
            total = log_partition(*parts, lengths).sum()
            # Of a sequence, the log probability is its score minus the total. The gradients are the expected counts.
            counts = torch.autograd.grad(total, parts)
        expected = [
            float(torch.where(n > 0, n * part.detach(), 0.0).sum()) for n, part in zip(counts, parts, strict=True)
        ]
        return max(0.0, float(total.detach()) - sum(expected))

    def held_out(self, x: Tensor, batch: Batch) -> HeldOut:
        emissions, (tags, partial) = self.emissions(x, batch), batch.targets
        is_known = bool((tags[batch.mask] != MISSING).any())

        def loss(temperature: Tensor) -> Tensor:
            return -self.crf(emissions, tags, batch.mask, partial=partial, temperature=temperature)

        return HeldOut(loss, int(batch.mask.sum()) if is_known else 0)

    def resize(self, tags: Sequence[str], scheme: str) -> None:  # type: ignore[override]
        before = self.crf.labels or []
        crf = LinearChainCRF(len(tags), batch_first=True, labels=tags, scheme=scheme).to(self.output.weight)
        new, old = map(torch.tensor, kept_rows(tags, before))
        with torch.no_grad():
            crf.start_transitions[new] = self.crf.start_transitions[old]
            crf.end_transitions[new] = self.crf.end_transitions[old]
            crf.transitions[new[:, None], new] = self.crf.transitions[old[:, None], old]
        self.output, self.crf = regrown(self.output, tags, before), crf


class SoftmaxTagger(CRFTagger):
    """Label each token independently with a softmax; decode to the best legal tag sequence.

    The CRF has constant zero transitions: only the rules of the tag scheme are left of it, for decoding and for the
    exact probability of each entity among the legal sequences.

    label_smoothing: share of the target probability that is spread over all tags.
    class_weights: factor of a token's loss by the label of its gold tag (`O` for tokens outside); 1 for other labels.
    Other arguments and shapes: see CRFTagger.
    """

    def __init__(
        self,
        input_size: int,
        tags: Sequence[str],
        scheme: str,
        *,
        encoder: EncoderBuilder | None = None,
        dropout_rate: float | None = None,
        loss_scale: float = 0.001,
        label_smoothing: float = 0.0,
        class_weights: dict[str, float] | None = None,
    ) -> None:
        super().__init__(input_size, tags, scheme, encoder=encoder, dropout_rate=dropout_rate, loss_scale=loss_scale)
        self.label_smoothing = label_smoothing
        self.class_weights = class_weights or {}
        self.weights: Tensor
        self._set_constants(tags)

    def negative_log_likelihood(self, emissions: Tensor, batch: Batch) -> Tensor:
        tags, _ = batch.targets
        return F.cross_entropy(
            emissions.flatten(0, 1),
            tags.flatten(),
            weight=self.weights,
            ignore_index=MISSING,
            label_smoothing=self.label_smoothing,
            reduction="sum",
        )

    def resize(self, tags: Sequence[str], scheme: str) -> None:  # type: ignore[override]
        super().resize(tags, scheme)
        self._set_constants(tags)

    def _set_constants(self, tags: Sequence[str]) -> None:
        for parameter in self.crf.parameters():
            parameter.requires_grad_(False).zero_()
        labels = [split_tag(tag)[1] or OUTSIDE for tag in tags]
        unknown = sorted(set(self.class_weights) - set(labels))
        if unknown:
            raise ValueError(f"class_weights names {unknown}, which are no labels; labels are {sorted(set(labels))}")
        weights = self.output.weight.new_tensor([self.class_weights.get(label, 1.0) for label in labels])
        self.register_buffer("weights", weights, persistent=False)
