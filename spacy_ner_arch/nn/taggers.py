"""Heads that label tokens: an encoder, a linear layer, and a CRF or a softmax over tags.

Letters: B documents, T tokens with padding, N tokens without, D width of a token vector, K tags.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..annotation.chains import TagTarget
from ..annotation.tags import MISSING, OUTSIDE, split_tag
from .batch import Batch
from .crf import LinearChainCRF
from .distillation import TagTargets, collate_tags
from .dropout import dropout
from .forward_backward import expected_counts
from .growth import grown_output, output_layer, source_rows
from .head import EncoderBuilder, Head, HeldOut, Loss, check_factors


class CRFTagger(Head):
    """Score tag sequences with a linear-chain CRF over emissions from a linear layer.

    input_size: width D of the token vectors.
    tags, scheme: names of the K tags, and their scheme (BILUO or BIO).
    encoder: builder of the encoder; None for none.
    dropout_rate: rate before the linear layer; None for the rate of `[training] dropout`.
    loss_scale: constant factor of the loss, which is the negative log likelihood summed over the documents.
    teacher_weight: factor of the loss of documents with a teacher, which is the expected negative log likelihood of the
        tags under the teacher's distribution given the gold tags.
    teacher_temperature: divisor of the teacher's scores.
    consistency: factor of the divergence between the distributions over tag sequences of both copies of a document. Its
        gradient treats the expected tags of the other copy as constant.

    Shape: x (B, T, D); targets see TagTargets. Predictions are tags (N,) and the terms (N, 5, L) of
    LinearChainCRF.predict.
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
        teacher_weight: float = 1.0,
        teacher_temperature: float = 1.0,
        consistency: float = 0.0,
    ) -> None:
        super().__init__(input_size, encoder, loss_scale, consistency)
        check_factors(teacher_weight=teacher_weight)
        if not teacher_temperature > 0:
            raise ValueError(f"teacher_temperature = {teacher_temperature} must be above 0")
        self.dropout = dropout(dropout_rate)
        # The first tag is O.
        self.output = output_layer(self.width, len(tags) - 1)
        self.crf = LinearChainCRF(len(tags), batch_first=True, labels=tags, scheme=scheme)
        self.teacher_weight = teacher_weight
        self.teacher_temperature = teacher_temperature

    def collate(self, batch: Batch, items: Sequence[Any] | None, targets: Sequence[TagTarget] | None) -> Batch:
        if targets is not None:
            batch.targets = collate_tags(batch, targets, self.crf.labels or [], self.teacher_temperature)
        return batch

    def emissions(self, x: Tensor, batch: Batch) -> Tensor:
        """Scores of the tags of every token, (B, T, K) float32."""
        return self.output(self.dropout(self.encode(x, batch))).float()

    def loss(self, x: Tensor, batch: Batch) -> Loss:
        emissions = self.emissions(x, batch)
        targets: TagTargets = batch.targets
        with torch.autocast(x.device.type, enabled=False):
            total = self.targets_loss(emissions, batch.mask, targets) * self.loss_scale
            if batch.copies is None:
                return Loss(total, {})
            rows = batch.copied_rows()
            scores, expected = batch.flatten(emissions), batch.flatten(self.expected_tags(emissions, batch))
            term = self.consistency_term(scores, expected, rows)
            return Loss(total + term, {"consistency": term.detach()})

    def targets_loss(self, emissions: Tensor, mask: Tensor, targets: TagTargets) -> Tensor:
        """Loss of documents with gold tags and of documents with a teacher."""
        if targets.gold is None:
            return self.gold_loss(emissions, targets.tags, mask, targets.partial)
        losses = []
        if len(targets.gold):
            gold, tags, known = (part.index_select(0, targets.gold) for part in (emissions, targets.tags, mask))
            losses.append(self.gold_loss(gold, tags, known, targets.partial))
        for taught in targets.taught:
            own = mask.index_select(0, taught.rows)
            loss = self.taught_loss(emissions.index_select(0, taught.rows), own, *taught.counts(own))
            losses.append(loss * self.teacher_weight)
        return torch.stack(losses).sum()

    def expected_tags(self, emissions: Tensor, batch: Batch) -> Tensor:
        """Marginals of the tags, (B, T, K) float32, without a gradient."""
        lengths = batch.mask.sum(1)
        with torch.no_grad():
            steps, _, _ = expected_counts(*self.crf.potentials(emissions, lengths), lengths)
        return steps.to(emissions.dtype)

    def gold_loss(self, emissions: Tensor, tags: Tensor, mask: Tensor, partial: bool) -> Tensor:
        """Negative log likelihood of gold tags.

        emissions, tags, mask: (B, T, K), (B, T), (B, T).
        partial: whether tags may be missing.
        """
        return -self.crf(emissions, tags, mask, partial=partial)

    def taught_loss(self, emissions: Tensor, mask: Tensor, steps: Tensor, moves: Tensor) -> Tensor:
        """Expected negative log likelihood of the tags under the distribution of a teacher, given by its counts."""
        return -self.crf.expected_log_likelihood(emissions, mask, steps, moves)

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
        count: maximum number R of sequences.
        """
        rows = torch.from_numpy(emissions).to(self.temperature.device)
        tags, probabilities = self.crf.readings(rows, count, self.temperature)
        return tags.cpu().numpy(), probabilities.cpu().numpy()

    def entropy(self, emissions: np.ndarray) -> float:
        """Entropy in nats of the distribution over the tag sequences of a document.

        emissions: (T, K); T is at least 1.
        """
        return self.crf.entropy(torch.from_numpy(emissions).to(self.temperature.device), self.temperature)

    def chain_scores(self) -> dict[str, np.ndarray]:
        """Start scores, transitions and end scores, divided by the calibrated temperature."""
        parts = {
            "start": self.crf.start_transitions,
            "transitions": self.crf.transitions,
            "end": self.crf.end_transitions,
        }
        return {name: (part / self.temperature).detach().cpu().numpy() for name, part in parts.items()}

    def held_out(self, x: Tensor, batch: Batch) -> HeldOut:
        """The likelihood of the gold tags, for `calibrate`.

        For documents with a teacher, it is the expected likelihood under the teacher's distribution given the gold
        tags. `teacher_temperature` is not applied, since it makes that distribution less certain than the teacher.

        Other documents with missing tags count only if a token is known to be outside of entities. Without such a
        token, the document cannot show that a probability is too high.
        """
        emissions, mask, targets = self.emissions(x, batch), batch.mask, batch.targets
        is_missing = ((targets.tags == MISSING) & mask).any(1)
        # The first tag is O.
        is_used = (targets.tags == 0).any(1) | ~is_missing
        taught = [part.rows for part in targets.taught]
        counts = [part.counts(mask[part.rows], self.teacher_temperature) for part in targets.taught]
        for rows in taught:
            is_used[rows] = False
        gold = is_used.nonzero().squeeze(1)
        partial = bool(is_missing[gold].any())

        def loss(temperature: Tensor) -> Tensor:
            parts = [-self.crf(emissions[gold], targets.tags[gold], mask[gold], "sum", partial, temperature)]
            for rows, (steps, moves) in zip(taught, counts, strict=True):
                likelihood = self.crf.expected_log_likelihood(emissions[rows], mask[rows], steps, moves, temperature)
                parts.append(-likelihood)
            return torch.stack(parts).sum()

        return HeldOut(loss, int(mask[torch.cat([gold, *taught])].sum()))

    def resize(self, tags: Sequence[str], scheme: str) -> None:
        """Change the tags. New ones copy all scores of O, so a path through them scores as the path through O, less
        `UNTRAINED` per token."""
        before = self.crf.labels or []
        crf = LinearChainCRF(len(tags), batch_first=True, labels=tags, scheme=scheme).to(self.output.weight)
        rows = source_rows(tags, before)
        with torch.no_grad():
            crf.start_transitions.copy_(self.crf.start_transitions[rows])
            crf.end_transitions.copy_(self.crf.end_transitions[rows])
            crf.transitions.copy_(self.crf.transitions[rows][:, rows])
        self.output, self.crf = grown_output(self.output, tags, before, self.temperature), crf


class SoftmaxTagger(CRFTagger):
    """Label each token independently with a softmax; decode to the best legal tag sequence.

    The transitions of the CRF are constant zeros. The CRF only applies the rules of the tag scheme, in decoding and for
    the exact probability of each entity among the legal sequences.

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
        label_smoothing: float = 0.0,
        class_weights: dict[str, float] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(input_size, tags, scheme, **settings)
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing = {label_smoothing} must be at least 0 and below 1")
        check_factors(class_weights)
        self.label_smoothing = label_smoothing
        self.class_weights = class_weights or {}
        self.weights: Tensor
        self._set_constants(tags)

    def gold_loss(self, emissions: Tensor, tags: Tensor, mask: Tensor, partial: bool) -> Tensor:
        return F.cross_entropy(
            emissions.flatten(0, 1),
            tags.flatten(),
            weight=self.weights,
            ignore_index=MISSING,
            label_smoothing=self.label_smoothing,
            reduction="sum",
        )

    def expected_tags(self, emissions: Tensor, batch: Batch) -> Tensor:
        """Probabilities of the tags of each token alone, (B, T, K)."""
        return emissions.softmax(-1)

    def taught_loss(self, emissions: Tensor, mask: Tensor, steps: Tensor, moves: Tensor) -> Tensor:
        # F.cross_entropy would also smooth the padding.
        smooth = self.label_smoothing / emissions.shape[2]
        target = steps * (1 - self.label_smoothing) + smooth * mask.unsqueeze(-1)
        loss = -(self.weights * target * emissions.log_softmax(-1)).sum(-1)
        return loss.masked_fill(~mask, 0.0).sum()

    def resize(self, tags: Sequence[str], scheme: str) -> None:
        super().resize(tags, scheme)
        self._set_constants(tags)

    def _set_constants(self, tags: Sequence[str]) -> None:
        for parameter in self.crf.parameters():
            parameter.requires_grad_(False).zero_()
        labels = [split_tag(tag)[1] or OUTSIDE for tag in tags]
        weights = self.output.weight.new_tensor([self.class_weights.get(label, 1.0) for label in labels])
        self.register_buffer("weights", weights, persistent=False)
