"""Classification of pairs of entities: what all the models of relations share.

A model gives logits (P, C) for the pairs; classes, loss, predictions and growth are the same for all of them. With one
label a pair, C = K + 1 and class 0 is "no relation"; with any number of labels, C = K.

Letters as in `pairs.py`, and D width of a token, n pairs to learn from, K labels, C classes.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..annotation.tags import INVERSE
from .dropout import dropout
from .growth import regrown
from .pairs import Pairs, mean_rows, take, token_rows, wide


class PairClassifier(nn.Module):
    """Base of the models of relations; a model adds `logits`.

    input_size: width D of the token vectors.
    labels: names of the K labels.
    types: names of the entity types.
    symmetric: labels that hold in both directions; their predictions are those of a pair and of its reverse, averaged.
    multi_label: whether a pair may have several labels, one sigmoid each, or has one of the labels or none.
    dropout_rate: None for the rate of `[training] dropout`.
    type_size: width of the embedding of entity types, for models that look at them; 0 for none.
    negative_weight: factor of the loss of pairs without a relation.
    class_weights: factor by gold label, in both of its directions; 1 for labels not named. With `multi_label`, of the
        label's own term.
    loss_scale: constant factor of the loss.

    Shape: x (B, T, D), mask (B, T) True on tokens. With `kept`, returns the loss, summed over these pairs: cross
    entropy, or binary cross entropy summed over labels; `loss_parts` then has what else is in it, by name. Without,
    returns odds log p_k - log p_0 (with `multi_label` log p_k - log(1 - p_k)) and probabilities p_k, both (B, most, K),
    in which a document's pairs stand where `slots` says; elsewhere -inf and 0.
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
        dropout_rate: float | None = None,
        type_size: int = 0,
        negative_weight: float = 1.0,
        class_weights: dict[str, float] | None = None,
        loss_scale: float = 0.001,
    ) -> None:
        super().__init__()
        if not labels:
            raise ValueError(f"{type(self).__name__}: labels must not be empty")
        if not 0.0 <= negative_weight < math.inf:
            raise ValueError(f"{type(self).__name__}: negative_weight must be finite and not negative")
        self.input_size = input_size
        self.multi_label = multi_label
        self.dropout = dropout(dropout_rate)
        self.type_size = type_size
        self.type_vectors = nn.Embedding(1 + len(types), type_size) if type_size else None
        if self.type_vectors is not None:
            # Of a type that is unknown, about which training says nothing.
            nn.init.zeros_(self.type_vectors.weight[0])
        self.output: nn.Linear | None = None
        self.negative_weight = negative_weight
        self.class_weights = class_weights or {}
        self.loss_scale = loss_scale
        self.loss_parts: dict[str, Tensor] = {}
        self.weights: Tensor
        self.both_ways: Tensor
        self.types = list(types)
        self._check(labels, symmetric)
        self._set_constants(labels, symmetric)

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        pairs: Pairs,
        kept: Tensor | None = None,
        rows: Tensor | None = None,
        classes: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Predictions, or the loss when `kept` is given.

        kept: (n,) int64, the pairs to learn from.
        rows, classes: (g,) int64, the gold relations, none of them twice: place of the pair in `kept`, label from 0 to
            K - 1. Several labels of one pair share its target probability equally, or are all on.
        """
        self.loss_parts = {}
        if kept is None:
            return self.predict(x, mask, pairs)
        assert rows is not None and classes is not None
        pairs = pairs.select(kept)
        if not len(kept):
            # No loss, but a gradient: an encoder that others share waits for it.
            nothing = x.flatten()[:0].sum(dtype=wide(x))
            self.loss_parts = dict.fromkeys(self.terms, nothing.detach())
            return nothing
        logits = self.logits(x, mask, pairs)
        with torch.autocast(x.device.type, enabled=False):
            held = logits.new_zeros(len(kept), len(self.labels))
            held = held.index_put((rows, classes), logits.new_ones(len(rows)))
            terms = self.additional_losses(x, pairs, rows, classes, held)
            terms = {name: term * self.loss_scale for name, term in terms.items()}
            self.loss_parts = {name: term.detach() for name, term in terms.items()}
            return sum(terms.values(), self.loss(logits, held) * self.loss_scale)

    def logits(self, x: Tensor, mask: Tensor, pairs: Pairs) -> Tensor:
        """Logits (P, C) in at least float32; there is at least one pair."""
        raise NotImplementedError

    def loss(self, logits: Tensor, held: Tensor) -> Tensor:
        """Weighted loss, summed over pairs; held (n, K) is 1 where a pair has a label and 0 elsewhere."""
        if not self.multi_label:
            return -(self.targets(held) * logits.log_softmax(-1)).sum()
        on = held * self.weights * F.logsigmoid(logits)
        off = (1 - held) * F.logsigmoid(-logits)
        weight = torch.where(held.any(1, keepdim=True), 1.0, self.negative_weight)
        return -(weight * (on + off)).sum()

    def targets(self, held: Tensor) -> Tensor:
        """Target probabilities of the classes (n, K + 1), each times the weight of its class."""
        count = held.sum(1, keepdim=True)
        nothing = self.negative_weight * (count == 0)
        return torch.cat([nothing, self.weights * held / count.clamp_min(1)], dim=1)

    def additional_losses(
        self, x: Tensor, pairs: Pairs, rows: Tensor, classes: Tensor, held: Tensor
    ) -> dict[str, Tensor]:
        """Further terms of the loss, weighted, summed over pairs; their names are `terms`."""
        return {}

    def predict(self, x: Tensor, mask: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        shape = (len(mask), pairs.most, len(self.labels))
        odds = x.new_full((shape[0] * shape[1], shape[2]), -torch.inf, dtype=wide(x))
        probabilities = torch.zeros_like(odds)
        if len(pairs.heads):
            logits = self.logits(x, mask, pairs)
            with torch.autocast(x.device.type, enabled=False):
                yes, no = self._log_probabilities(logits, pairs)
                odds = odds.index_copy(0, pairs.slots, yes - no)
                probabilities = probabilities.index_copy(0, pairs.slots, yes.exp())
        return odds.view(shape), probabilities.view(shape)

    def _log_probabilities(self, logits: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """log p_k and log p_0 (or log(1 - p_k)) of the labels, (P, K)."""
        if self.multi_label:
            yes, no = F.logsigmoid(logits), F.logsigmoid(-logits)
        else:
            classes = logits.log_softmax(-1)
            yes, no = classes[:, 1:], classes[:, :1].expand(-1, len(self.labels))
        if not self.symmetric:
            return yes, no

        def average(y: Tensor) -> Tensor:
            both = torch.logaddexp(y, y.index_select(0, pairs.reverse)) - math.log(2)
            return torch.where(self.both_ways, both, y)

        return average(yes), average(no)

    # Growing

    def resize(self, labels: Sequence[str], types: Sequence[str], symmetric: Sequence[str], multi_label: bool) -> None:
        """Grow (or reorder) labels and types; what was learned about those that stay is kept exactly."""
        if multi_label != self.multi_label:
            raise ValueError(f"the model was built with multi_label = {self.multi_label}, which cannot change")
        self._check(labels, symmetric)
        self._resize_labels(labels)
        if self.type_vectors is not None:
            self.type_vectors = regrown(self.type_vectors, ["", *types], ["", *self.types])
        self.types = list(types)
        self._set_constants(labels, symmetric)

    def _resize_labels(self, labels: Sequence[str]) -> None:
        if self.output is not None:
            first = [] if self.multi_label else [""]
            self.output = regrown(self.output, [*first, *labels], [*first, *self.labels])

    def _check(self, labels: Sequence[str], symmetric: Sequence[str]) -> None:
        known = {label.removesuffix(INVERSE) for label in labels}
        for name, given in (("class_weights", self.class_weights), ("symmetric", symmetric)):
            unknown = sorted(set(given) - known)
            if unknown:
                raise ValueError(f"{name} names {unknown}, which are no labels; labels are {sorted(labels)}")
        for label, weight in self.class_weights.items():
            if not 0.0 <= weight < math.inf:
                raise ValueError(f"class_weights must be finite and not negative, got {weight} for {label!r}")

    def _set_constants(self, labels: Sequence[str], symmetric: Sequence[str]) -> None:
        self.labels, self.symmetric = list(labels), list(symmetric)
        like = next(self.parameters(), torch.zeros(()))
        weights = like.new_tensor([self.class_weights.get(label.removesuffix(INVERSE), 1.0) for label in labels])
        self.register_buffer("weights", weights, persistent=False)
        both_ways = torch.tensor([label in symmetric for label in labels], device=like.device)
        self.register_buffer("both_ways", both_ways, persistent=False)

    # What models need

    def output_layer(self, width: int) -> nn.Linear:
        """A layer to the logits."""
        return nn.Linear(width, len(self.labels) + (not self.multi_label))

    def type_parts(self, pairs: Pairs) -> list[Tensor]:
        """Embeddings of the types of both entities, (P, type_size) each; nothing if there are none."""
        if self.type_vectors is None:
            return []
        ends = (pairs.heads, pairs.tails)
        return [take(self.type_vectors.weight, pairs.types.index_select(0, end)) for end in ends]

    def mean_entities(self, x: Tensor, pairs: Pairs) -> Tensor:
        """Means of the tokens of the entities, (E, D) in at least float32."""
        rows, inside = token_rows(pairs.documents, pairs.starts, pairs.ends, x.shape[1], pairs.widest)
        return mean_rows(x.flatten(0, 1), rows, inside)
