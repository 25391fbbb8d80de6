"""Heads that label tokens: an encoder, a linear layer, and a CRF or a softmax over tags.

Letters: B documents, T tokens with padding, N tokens without, D width of a token vector, K tags.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..annotation.chains import Lattice, TagTarget
from ..annotation.tags import MISSING, OUTSIDE, split_tag
from .batch import Batch, send
from .crf import LinearChainCRF
from .dropout import dropout
from .forward_backward import expected_counts, log_partition
from .growth import kept_rows, output_layer, regrown
from .head import EncoderBuilder, Head, HeldOut, Loss, check_class_weights, check_factors
from .viterbi import best_paths


class Taught(NamedTuple):
    """Documents of a batch that a teacher has annotated, R of them. U tags of teacher and student, see `Lattice`.

    rows: (R,) int64, which documents.
    emissions: (R, T, U) float32, the teacher's given the gold tags, with start and end scores; 0 in the padding.
    transitions: (U, U) float32.
    to_student: (U, K) float32, 1 where the column is the student's tag for the row.
    """

    rows: Tensor
    emissions: Tensor
    transitions: Tensor
    to_student: Tensor

    def counts(self, mask: Tensor) -> tuple[Tensor, Tensor]:
        """How often the teacher expects the student's tags (R, T, K) and transitions (K, K).

        mask: (R, T).
        """
        steps, moves, _ = expected_counts(self.emissions, self.transitions, mask.sum(1))
        return steps @ self.to_student, self.to_student.t() @ moves @ self.to_student


class TagTargets(NamedTuple):
    """Targets of a batch.

    tags: (B, T) int64, MISSING where the tag is unknown.
    partial: whether any is missing in the documents without a teacher.
    gold: (R,) int64, the documents without a teacher; None for all.
    taught: the other documents, by teacher.
    """

    tags: Tensor
    partial: bool
    gold: Tensor | None = None
    taught: Sequence[Taught] = ()


class CRFTagger(Head):
    """Score tag sequences with a linear-chain CRF over emissions from a linear layer.

    input_size: width D of the token vectors.
    tags, scheme: names of the K tags, and their scheme (BILUO or BIO).
    encoder: builder of the encoder; None for none.
    dropout_rate: rate before the linear layer; None for the rate of `[training] dropout`.
    loss_scale: constant factor of the loss, which is the negative log likelihood summed over the documents.
    teacher_weight: factor of the loss of documents with a teacher. It is the mean negative log likelihood of the tags
        over the teacher's distribution given the gold tags.
    teacher_temperature: divisor of the teacher's scores.
    consistency: factor of the divergence between the distributions over tag sequences of both copies of a document. Its
        gradient takes the expected tags of the other copy as given.

    Shape: x (B, T, D); targets see TagTargets. Predictions are tags (N,) and the terms (N, 5, L) of
    LinearChainCRF.span_log_terms.
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
            flat = np.concatenate([target.tags for target in targets])
            is_taught = [target.chain is not None for target in targets]
            if not any(is_taught):
                (tags,) = send([flat], batch.device)
                batch.targets = TagTargets(batch.pad(tags, fill=MISSING), bool((flat == MISSING).any()))
            else:
                gold = np.flatnonzero(~np.array(is_taught))
                tags, rows = send([flat, gold], batch.device)
                partial = any((targets[i].tags == MISSING).any() for i in gold.tolist())
                batch.targets = TagTargets(
                    batch.pad(tags, fill=MISSING), partial, rows, self._collate_taught(batch, targets)
                )
        return batch

    def _collate_taught(self, batch: Batch, targets: Sequence[TagTarget]) -> list[Taught]:
        names = self.crf.labels or []
        teachers: dict[Any, list[int]] = {}
        for i, target in enumerate(targets):
            if target.chain is not None:
                teachers.setdefault(target.chain.teacher, []).append(i)
        taught = []
        for rows in teachers.values():
            chains = [chain for i in rows if (chain := targets[i].chain) is not None]
            lattice = Lattice(names, chains[0], self.teacher_temperature)
            emissions = np.zeros((len(rows), batch.mask.shape[1], len(lattice.tags)), dtype=np.float32)
            for row, chain, i in zip(emissions, chains, rows, strict=True):
                row[: len(chain.emissions)] = lattice.emissions(chain, targets[i].tags)
            to_student = np.eye(len(names), dtype=np.float32)[lattice.to_student]
            arrays = [np.array(rows), emissions, lattice.transitions, to_student]
            taught.append(Taught(*send(arrays, batch.device)))
        return taught

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
            rows = batch.copied_rows(batch.lengths)
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
        """Mean negative log likelihood of the tags over the distribution of a teacher, whose counts are given."""
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
            parts = self.crf.potentials(rows, lengths, self.temperature)
            *counts, total = expected_counts(*parts, lengths)
            # The score of what is illegal is a large number, and its count is 0.
            expected = [float((n * part).sum()) for n, part in zip(counts, parts, strict=True)]
        return max(0.0, float(total) - sum(expected))

    def chain_scores(self) -> dict[str, np.ndarray]:
        """Start scores, transitions and end scores, divided by the calibrated temperature."""
        parts = {
            "start": self.crf.start_transitions,
            "transitions": self.crf.transitions,
            "end": self.crf.end_transitions,
        }
        return {name: (part / self.temperature).detach().cpu().numpy() for name, part in parts.items()}

    def held_out(self, x: Tensor, batch: Batch) -> HeldOut:
        emissions, tags = self.emissions(x, batch), batch.targets.tags
        known = tags[batch.mask] != MISSING
        is_known, partial = bool(known.any()), not bool(known.all())

        def loss(temperature: Tensor) -> Tensor:
            return -self.crf(emissions, tags, batch.mask, partial=partial, temperature=temperature)

        return HeldOut(loss, int(batch.mask.sum()) if is_known else 0)

    def resize(self, tags: Sequence[str], scheme: str) -> None:
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
        teacher_weight: float = 1.0,
        teacher_temperature: float = 1.0,
        consistency: float = 0.0,
    ) -> None:
        super().__init__(
            input_size,
            tags,
            scheme,
            encoder=encoder,
            dropout_rate=dropout_rate,
            loss_scale=loss_scale,
            teacher_weight=teacher_weight,
            teacher_temperature=teacher_temperature,
            consistency=consistency,
        )
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing = {label_smoothing} must be at least 0 and below 1")
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
        # cross_entropy would smooth the padding, too.
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
        check_class_weights(self.class_weights, labels)
        weights = self.output.weight.new_tensor([self.class_weights.get(label, 1.0) for label in labels])
        self.register_buffer("weights", weights, persistent=False)
