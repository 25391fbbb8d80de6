"""Sequence labelling heads: an encoder, a linear layer, and a CRF or a softmax over tags."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..annotation.tags import MISSING, OUTSIDE, split_tag
from .crf import LinearChainCRF
from .dropout import dropout
from .growth import kept_rows, regrown

# Bounds of what calibration may set: a few sentences that are all right would make a model absolutely sure.
TEMPERATURES = (0.5, 10.0)

Encoder = Callable[[int], nn.Module]
# Tags (B, T), then `opening` and `closing` of LinearChainCRF.entity_log_marginals, (B, T).
Prediction = tuple[Tensor, Tensor, Tensor]


class CRFTagger(nn.Module):
    """Emissions from a linear layer over the encoder's output, scored as sequences by a linear-chain CRF.

    input_size: width D of the token vectors.
    tags, scheme: names of the K tags, and how to read them.
    encoder: builder of a module (B, T, D), mask, graph -> (B, T, `output_size`); None for none.
    dropout_rate: before the linear layer; None for the rate of `[training] dropout`.
    loss_scale: constant factor of the loss.

    Shape: x (B, T, D), mask (B, T), graph as the encoder takes it; targets (B, T) int64, MISSING where unknown.
    Returns the loss, summed over the sequences, when targets are given; a Prediction when not.
    """

    def __init__(
        self,
        input_size: int,
        tags: Sequence[str],
        scheme: str,
        *,
        encoder: Encoder | None = None,
        dropout_rate: float | None = None,
        loss_scale: float = 0.001,
    ) -> None:
        super().__init__()
        self.encoder = None if encoder is None else encoder(input_size)
        width = input_size if self.encoder is None else cast(int, self.encoder.output_size)
        self.dropout = dropout(dropout_rate)
        self.output = nn.Linear(width, len(tags))
        self.crf = LinearChainCRF(len(tags), batch_first=True, labels=tags, scheme=scheme)
        self.loss_scale = loss_scale
        self.temperature: Tensor
        self.register_buffer("temperature", torch.ones(()))

    def forward(
        self, x: Tensor, mask: Tensor, graph: Any = None, targets: Tensor | None = None, partial: bool = False
    ) -> Tensor | Prediction:
        emissions = self.emissions(x, mask, graph)
        with torch.autocast(x.device.type, enabled=False):
            if targets is None:
                return self.predict(emissions, mask)
            return self.loss(emissions, mask, targets, partial) * self.loss_scale

    def emissions(self, x: Tensor, mask: Tensor, graph: Any = None) -> Tensor:
        """Scores of the tags at every token, (B, T, K) float32."""
        if self.encoder is not None:
            x = self.encoder(x, mask, graph)
        return self.output(self.dropout(x)).float()

    def loss(self, emissions: Tensor, mask: Tensor, targets: Tensor, partial: bool) -> Tensor:
        return -self.crf(emissions, targets, mask, partial=partial)

    def predict(self, emissions: Tensor, mask: Tensor) -> Prediction:
        tags = self.crf.best_tags(emissions, mask)
        return (tags, *self.crf.entity_log_marginals(emissions, tags, mask, self.temperature))

    def calibrate(self, batches: Sequence[tuple[Tensor, Tensor, Tensor, bool]]) -> None:
        """Set the temperature to that at which the given sequences are most likely. It changes no prediction, only how
        sure the model is of it.

        batches: emissions, mask, targets and whether any target is missing, of data that was not trained on. Without a
            known target everything stays as it is.
        Source: Guo et al. 2017.
        """
        batches = [batch for batch in batches if (batch[2][batch[1]] != MISSING).any()]
        if not batches:
            return
        log_temperature = torch.zeros((), device=self.temperature.device, requires_grad=True)
        optimizer = torch.optim.LBFGS([log_temperature], max_iter=20, line_search_fn="strong_wolfe")
        tokens = sum(int(mask.sum()) for _, mask, _, _ in batches)

        def closure() -> float:
            optimizer.zero_grad()
            total = 0.0
            for emissions, mask, targets, partial in batches:
                temperature = log_temperature.exp()
                loss = -self.crf(emissions, targets, mask, partial=partial, temperature=temperature) / tokens
                loss.backward()
                total += float(loss.detach())
            return total

        with torch.enable_grad():
            optimizer.step(closure)
        self.crf.zero_grad()
        if log_temperature.isfinite():
            self.temperature.copy_(log_temperature.detach().exp().clamp(*TEMPERATURES))

    def resize(self, tags: Sequence[str], scheme: str) -> None:
        """Grow (or reorder) the output to other tags; what was learned about the tags that stay is kept exactly."""
        before = self.crf.labels or []
        crf = LinearChainCRF(len(tags), batch_first=True, labels=tags, scheme=scheme).to(self.output.weight)
        new, old = map(torch.tensor, kept_rows(tags, before))
        with torch.no_grad():
            crf.start_transitions[new] = self.crf.start_transitions[old]
            crf.end_transitions[new] = self.crf.end_transitions[old]
            crf.transitions[new[:, None], new] = self.crf.transitions[old[:, None], old]
        self.output, self.crf = regrown(self.output, tags, before), crf


class SoftmaxTagger(CRFTagger):
    """The same with an independent softmax for every token; predictions are the best legal tag sequence all the same.

    The CRF has constant zero transitions here: what remains of it are the rules of the tag scheme, by which it decodes
    and gives the exact probability of each entity among the well-formed sequences.

    label_smoothing: share of the target probability that is spread over all tags.
    class_weights: factor of a token's loss by the label of its gold tag (`O` outside); 1 for labels not named.
    """

    def __init__(
        self,
        input_size: int,
        tags: Sequence[str],
        scheme: str,
        *,
        encoder: Encoder | None = None,
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

    def loss(self, emissions: Tensor, mask: Tensor, targets: Tensor, partial: bool) -> Tensor:
        return F.cross_entropy(
            emissions.flatten(0, 1),
            targets.masked_fill(~mask, MISSING).flatten(),
            weight=self.weights,
            ignore_index=MISSING,
            label_smoothing=self.label_smoothing,
            reduction="sum",
        )

    def resize(self, tags: Sequence[str], scheme: str) -> None:
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
