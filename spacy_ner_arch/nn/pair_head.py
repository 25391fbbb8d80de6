"""Classification of pairs of entities: classes, loss, predictions and growth, the same for all pair models.

A pair model is a subclass that computes logits (P, C). With one label a pair, C = K + 1 and class 0 is "no relation";
with several labels a pair, C = K.

Letters: B documents, T tokens with padding, E entities, P pairs, G regions, L tokens of the longest region, D width of
a token vector, K labels, C classes.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..annotation.pair_classes import INVERSE
from .batch import Batch, send
from .dropout import dropout
from .growth import grown_embedding, grown_output, output_layer
from .head import EncoderBuilder, Head, HeldOut, Loss, add_to_none, check_factors, found_held_out, shared_targets
from .pair_tensors import Pairs, PairTargets, make_pairs, mean_rows, take, token_rows
from .precision import wide


class PairHead(Head):
    """Base class of the pair models; a subclass adds `logits`.

    input_size: width of the token vectors.
    labels: names of the K labels.
    types: names of the entity types.
    symmetric: labels that hold in both directions.
    multi_label: whether a pair may have several labels (one sigmoid each) or at most one (softmax).
    encoder: builder of the encoder; None for none. With an encoder, D is its output width.
    dropout_rate: rate, or None for the rate of `[training] dropout`.
    type_size: width of the embedding of entity types, in models that use them; 0 for none.
    negative_weight: factor of the loss of pairs without a relation.
    class_weights: factor of the loss by gold label, in both directions; 1 for labels that are not named. With
        `multi_label`, the factor applies to the term of that label.
    loss_scale: constant factor of the loss, which is summed over the pairs.
    consistency: factor of the divergence between the predictions for both copies of a pair.

    Shape: x (B, T, D); items are the candidates of each document, targets its gold relations
    (annotation.gold_relations.GoldPairs). Predictions are (P, K) each: the log probability of a label, and its log
    odds against no label (with `multi_label`, against its absence). The calibrated `none_bias` changes the
    probabilities, but not these odds, by which labels are chosen.
    """

    # Names of the additional terms of the loss.
    terms: tuple[str, ...] = ()

    def __init__(
        self,
        input_size: int,
        *,
        labels: Sequence[str],
        types: Sequence[str],
        symmetric: Sequence[str] = (),
        multi_label: bool = False,
        encoder: EncoderBuilder | None = None,
        dropout_rate: float | None = None,
        type_size: int = 0,
        negative_weight: float = 1.0,
        class_weights: dict[str, float] | None = None,
        loss_scale: float = 0.001,
        consistency: float = 0.0,
    ) -> None:
        super().__init__(input_size, encoder, loss_scale, consistency)
        self.register_buffer("none_bias", torch.zeros(()))
        if not labels:
            raise ValueError(f"{type(self).__name__}: labels must not be empty")
        check_factors(class_weights, negative_weight=negative_weight)
        self.multi_label = multi_label
        self.dropout = dropout(dropout_rate)
        self.type_size = type_size
        self.type_vectors = nn.Embedding(1 + len(types), type_size) if type_size else None
        if self.type_vectors is not None:
            # The row of unknown types, which are never trained.
            nn.init.zeros_(self.type_vectors.weight[0])
        self.output: nn.Linear | None = None
        self.negative_weight = negative_weight
        self.class_weights = class_weights or {}
        self.weights: Tensor
        self.both_ways: Tensor
        self.types = list(types)
        self._set_constants(labels, symmetric)

    def collate(self, batch: Batch, items: Sequence[Any] | None, targets: Sequence[Any] | None) -> Batch:
        assert items is not None
        batch.items = make_pairs(items, batch.mask.shape[1], batch.device)
        batch.counts = np.array([len(found.pairs) for found in items])
        if targets is not None:
            offsets = np.repeat(batch.counts.cumsum() - batch.counts, [len(gold.rows) for gold in targets])
            rows = np.concatenate([gold.rows for gold in targets]) + offsets
            classes = np.concatenate([gold.classes for gold in targets])
            columns = [rows.astype(np.int64), classes.astype(np.int64)]
            if any(gold.share < 1 for gold in targets):
                columns.append(np.repeat(np.log([gold.share for gold in targets], dtype=np.float32), batch.counts))
            batch.targets = PairTargets(*send(columns, batch.device))
        return batch

    def loss(self, x: Tensor, batch: Batch) -> Loss:
        pairs: Pairs = batch.items
        if not len(pairs.heads):
            # Return a loss with a zero gradient, since a shared encoder waits for the gradient.
            nothing = x.flatten()[:0].sum(dtype=wide(x))
            names = self.terms if batch.copies is None else (*self.terms, "consistency")
            return Loss(nothing, dict.fromkeys(names, nothing.detach()))
        x = self.encode(x, batch)
        logits = self._wide_logits(x, batch)
        with torch.autocast(x.device.type, enabled=False):
            has_label = self.label_matrix(logits, batch.targets)
            terms = self.additional_losses(x, pairs, batch.targets, has_label)
            terms = {name: term * self.loss_scale for name, term in terms.items()}
            if batch.copies is not None:
                expected = logits.sigmoid() if self.multi_label else logits.softmax(-1)
                terms["consistency"] = self.consistency_term(logits, expected, batch.copied_rows())
            if batch.targets.log_shares is None:
                total = self.pair_loss(logits, has_label)
            else:
                total = self.sampled_loss(logits, has_label, batch.targets.log_shares.to(logits.dtype))
            total = sum(terms.values(), total * self.loss_scale)
            return Loss(total, {name: term.detach() for name, term in terms.items()})

    def logits(self, x: Tensor, batch: Batch) -> Tensor:
        """Logits (P, C) from encoded tokens; there is at least one pair."""
        raise NotImplementedError

    def _wide_logits(self, x: Tensor, batch: Batch) -> Tensor:
        """Logits in at least float32, since mixed precision may compute them in a smaller type."""
        logits = self.logits(x, batch)
        return logits.to(wide(logits))

    def pair_loss(self, logits: Tensor, has_label: Tensor) -> Tensor:
        """Weighted loss, summed over the pairs; has_label (P, K) is 1 where a pair has a label and 0 elsewhere."""
        if not self.multi_label:
            return -(self.target_weights(has_label) * logits.log_softmax(-1)).sum()
        on = has_label * self.weights * F.logsigmoid(logits)
        off = (1 - has_label) * F.logsigmoid(-logits)
        weight = torch.where(has_label.any(1, keepdim=True), 1.0, self.negative_weight)
        return -(weight * (on + off)).sum()

    def sampled_loss(self, logits: Tensor, has_label: Tensor, log_shares: Tensor) -> Tensor:
        """Loss corrected for the sampling of pairs without a relation, so that probabilities hold for all pairs.

        In the sample, a pair has the labels S with the probability P(S) s(S) / (sum over T of P(T) s(T)), where s is
        the share that was sampled, 1 for pairs with a label. With one label a pair, the correction adds log s to the
        logit of "no relation".

        log_shares: (P,) log s of pairs without a label.
        Source: King and Zeng 2001 (prior correction).
        """
        if not self.multi_label:
            return self.pair_loss(torch.cat([logits[:, :1] + log_shares.unsqueeze(1), logits[:, 1:]], dim=1), has_label)
        p_none = F.logsigmoid(-logits).sum(1).exp()
        log_sum = torch.log1p(p_none * log_shares.expm1())
        negative = self.negative_weight * (log_sum - log_shares)
        return self.pair_loss(logits, has_label) + torch.where(has_label.any(1), log_sum, negative).sum()

    def target_weights(self, has_label: Tensor) -> Tensor:
        """Target probabilities of the classes, (P, K + 1), each times the weight of its class."""
        return shared_targets(has_label) * F.pad(self.weights, (1, 0), value=self.negative_weight)

    def additional_losses(self, x: Tensor, pairs: Pairs, targets: PairTargets, has_label: Tensor) -> dict[str, Tensor]:
        """Further weighted terms of the loss, summed over the pairs, by the names in `terms`."""
        return {}

    def predict(self, x: Tensor, batch: Batch) -> tuple[Tensor, ...]:
        if not len(batch.items.heads):
            return (x.new_zeros((0, len(self.labels)), dtype=wide(x)),) * 2
        logits = self._wide_logits(self.encode(x, batch), batch)
        with torch.autocast(x.device.type, enabled=False):
            logits = logits / self.temperature
            none_bias = cast(Tensor, self.none_bias)
            if self.multi_label:
                return F.logsigmoid(logits - none_bias), logits
            log_probabilities = add_to_none(logits, none_bias).log_softmax(-1)
            return log_probabilities[:, 1:], logits[:, 1:] - logits[:, :1]

    def label_matrix(self, logits: Tensor, targets: PairTargets) -> Tensor:
        """(P, K), 1 where a pair has a label and 0 elsewhere."""
        has_label = logits.new_zeros(len(logits), len(self.labels))
        return has_label.index_put((targets.rows, targets.classes), logits.new_ones(len(targets.rows)))

    def held_out(self, x: Tensor, batch: Batch) -> HeldOut:
        pairs: Pairs = batch.items
        if not len(pairs.heads):
            return HeldOut(torch.zeros_like, 0)
        logits = self._wide_logits(self.encode(x, batch), batch)
        return found_held_out(logits, self.label_matrix(logits, batch.targets), self.multi_label)

    # Growing

    def resize(self, labels: Sequence[str], types: Sequence[str], symmetric: Sequence[str], multi_label: bool) -> None:
        if multi_label != self.multi_label:
            raise ValueError(f"the model was built with multi_label = {self.multi_label}, which cannot change")
        self._resize_labels(labels)
        if self.type_vectors is not None:
            # None is the unknown type; "" would not do, since a span may have an empty label.
            self.type_vectors = grown_embedding(self.type_vectors, [None, *types], [None, *self.types])
        self.types = list(types)
        self._set_constants(labels, symmetric)

    def _resize_labels(self, labels: Sequence[str]) -> None:
        if self.output is not None:
            first = [] if self.multi_label else [""]
            names = [*first, *labels], [*first, *self.labels]
            self.output = grown_output(self.output, *names, self.temperature, has_none=not self.multi_label)

    def _set_constants(self, labels: Sequence[str], symmetric: Sequence[str]) -> None:
        self.labels, self.symmetric = list(labels), list(symmetric)
        like = next(self.parameters(), torch.zeros(()))
        weights = like.new_tensor([self.class_weights.get(label.removesuffix(INVERSE), 1.0) for label in labels])
        self.register_buffer("weights", weights, persistent=False)
        both_ways = torch.tensor([label in symmetric for label in labels], device=like.device)
        self.register_buffer("both_ways", both_ways, persistent=False)

    # Parts of pair models

    def output_layer(self, width: int) -> nn.Linear:
        """Linear layer to the logits."""
        return output_layer(width, len(self.labels), has_none=not self.multi_label)

    def type_parts(self, pairs: Pairs, rows: Tensor) -> list[Tensor]:
        """Embeddings of the types of both entities of pairs, (p, type_size) each; an empty list if type_size is 0."""
        if self.type_vectors is None:
            return []
        ends = (pairs.heads.index_select(0, rows), pairs.tails.index_select(0, rows))
        return [take(self.type_vectors.weight, pairs.types.index_select(0, end)) for end in ends]

    def mean_entities(self, x: Tensor, pairs: Pairs) -> Tensor:
        """Means of the tokens of the entities, (E, D) in at least float32."""
        rows, inside = token_rows(pairs.documents, pairs.starts, pairs.ends, pairs.steps, pairs.widest)
        return mean_rows(x.flatten(0, 1), rows, inside)
