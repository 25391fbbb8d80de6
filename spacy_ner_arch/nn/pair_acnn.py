"""Pairs of entities classified by a convolution with attention. Letters as in `pair_classifier.py`, F filters."""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .embed import unit_embedding
from .growth import regrown
from .pair_classifier import PairClassifier
from .pairs import Pairs, distances, pieces, region_rows, wide


class PairACNN(PairClassifier):
    """A convolution over tokens weighted by the attention of the entities; pooling by the attention of the relations,
    or by the maximum.

        x_t = [token; position to e1; position to e2]
        R_t = L alpha_t x_t     alpha_t = (softmax_t(token_t . e1 / sqrt(D)) + softmax_t(token_t . e2 / sqrt(D))) / 2
        C = tanh(conv(R))     (L, F), zeros around the region

    attention: A = softmax over the region of C U M^T     (L, K + 1), M the vectors of the relations, class 0 among them
        v = largest entry by class of C^T A     (F,)
    max: v = maximum of C over the region     (F,)

    hinge: d(y) = |v / |v| - M_y / |M_y||; loss max(0, 1 + d(gold) - min over the wrong y of d(y)); logits -d.
    cross_entropy: logits = W Dropout(v) + b.

    e is the mean of an entity's tokens, L here the tokens of the region. The factor L keeps the scale of what the
    convolution sees independent of that length: without it, v hardly differs between pairs. The root keeps the softmax
    from collapsing onto the entities themselves. The convolution is linear: it projects each token and each distance
    once, and pairs add up what they weigh.

    filters: number F of filters.
    window: tokens that a filter sees, an odd number.
    position_size: width of the embedding of a distance to an entity, one table for each of the two.
    max_distance: tokens from which on all distances are the same.
    pooling: `attention`, as published, or `max`.
    loss: `hinge`, for one label a pair, or `cross_entropy`.
    dropout_rate: on what the convolution sees of the tokens, drawn once per token, and on v (only for cross entropy: a
        hinge looks at nothing but its direction); None for the rate of `[training] dropout`.
    Other arguments and shapes: see PairClassifier. It does not see the types of entities.
    Source: Wang et al. 2016.
    """

    def __init__(
        self,
        input_size: int,
        *,
        filters: int = 200,
        window: int = 3,
        position_size: int = 25,
        max_distance: int = 50,
        pooling: str = "attention",
        loss: str = "hinge",
        **settings: Any,
    ) -> None:
        super().__init__(input_size, **settings)
        if pooling not in ("attention", "max"):
            raise ValueError(f"PairACNN: pooling must be 'attention' or 'max', got {pooling!r}")
        if loss not in ("hinge", "cross_entropy"):
            raise ValueError(f"PairACNN: loss must be 'hinge' or 'cross_entropy', got {loss!r}")
        if loss == "hinge" and self.multi_label:
            raise ValueError("PairACNN: a hinge knows one label a pair; multi_label needs loss = 'cross_entropy'")
        if window < 1 or window % 2 == 0 or filters < 1 or position_size < 1 or max_distance < 1:
            raise ValueError(
                "PairACNN: window must be odd, filters, position_size and max_distance positive, "
                f"got {window}, {filters}, {position_size} and {max_distance}"
            )
        self.max_distance = max_distance
        self.position_size = position_size
        self.head_position = unit_embedding(2 * max_distance + 1, position_size)
        self.tail_position = unit_embedding(2 * max_distance + 1, position_size)
        self.convolution = nn.Conv1d(input_size + 2 * position_size, filters, window, padding=window // 2)
        self.hinge = loss == "hinge"
        attention = pooling == "attention"
        self.match = nn.Linear(filters, filters, bias=False) if attention else None  # its weight is U
        self.relations = nn.Embedding(1 + len(self.labels), filters) if attention or self.hinge else None  # M
        self.output = None if self.hinge else self.output_layer(filters)

    def logits(self, x: Tensor, mask: Tensor, pairs: Pairs) -> Tensor:
        # In single precision throughout: attention by products of whole token vectors needs it.
        with torch.autocast(x.device.type, enabled=False):
            # What is multiplied must be a number, in padding too.
            x = x.to(wide(x)).masked_fill(~mask.unsqueeze(-1), 0.0)
            scores = self.mean_entities(x, pairs) @ x.flatten(0, 1).T / math.sqrt(self.input_size)
            table = self._table(x)
            cuts = pieces(len(pairs.heads), pairs.longest, x.device)
            pooled = torch.cat([self._piece(scores, table, x.shape[1], pairs, piece) for piece in cuts])
            if self.output is not None:
                return self.output(self.dropout(pooled))
            assert self.relations is not None
            apart = unit(pooled).unsqueeze(1) - unit(self.relations.weight)
            return -torch.linalg.vector_norm(apart, dim=-1)

    def loss(self, logits: Tensor, held: Tensor) -> Tensor:
        if not self.hinge:
            return super().loss(logits, held)
        targets = self.targets(held)
        gold = torch.cat([held.sum(1, keepdim=True) == 0, held > 0], dim=1)
        nearest_wrong = logits.masked_fill(gold, -torch.inf).amax(1, keepdim=True)
        return (targets * F.relu(1 - logits + nearest_wrong)).sum()

    def _table(self, x: Tensor) -> Tensor:
        """What each token, each distance to e1 and each distance to e2 adds to the convolution at every place of the
        window, (window * (B * T + 2 * (2 * max_distance + 1)), F)."""
        sizes = [self.input_size, self.position_size, self.position_size]
        vectors = [self.dropout(x.flatten(0, 1)), self.head_position.weight, self.tail_position.weight]
        weights = self.convolution.weight.permute(2, 0, 1).split(sizes, dim=2)  # (window, F, size)
        return torch.cat([v @ w.mT for v, w in zip(vectors, weights, strict=True)], dim=1).flatten(0, 1)

    def _piece(self, scores: Tensor, table: Tensor, steps: int, pairs: Pairs, piece: slice) -> Tensor:
        """v of some of the pairs, (p, F). scores (E, B * T): products of the entities with all tokens."""
        heads, tails, regions = pairs.heads[piece], pairs.tails[piece], pairs.regions[piece]
        rows, inside = region_rows(pairs, regions, steps)

        def attention(entities: Tensor) -> Tensor:
            places = scores.shape[1] * entities.unsqueeze(1) + rows
            own = scores.flatten().index_select(0, places.flatten()).view(rows.shape)
            return own.masked_fill(~inside, -torch.inf).softmax(1)

        alpha = inside.sum(1, keepdim=True) * (attention(heads) + attention(tails)) / 2
        # Rows of the table that stand for a place: token, distance to e1, distance to e2.
        first, kinds = scores.shape[1], 2 * self.max_distance + 1
        to_head = distances(pairs, regions, heads, self.max_distance)
        to_tail = distances(pairs, regions, tails, self.max_distance)
        there = torch.stack([rows, first + to_head, first + kinds + to_tail], dim=-1)
        # The same for all places of the window around each place, beyond the ends with weight 0.
        window = self.convolution.kernel_size[0]
        half = window // 2
        there = F.pad(there, (0, 0, half, half)).unfold(1, window, 1)  # (p, L, 3, window)
        there = there + (first + 2 * kinds) * torch.arange(window, device=rows.device)
        weight = F.pad(alpha, (half, half)).unfold(1, window, 1).unsqueeze(2).expand(there.shape)
        convolved = F.embedding_bag(
            there.flatten(0, 1).flatten(1),
            table,
            mode="sum",
            per_sample_weights=weight.flatten(0, 1).flatten(1),
        )
        c = (convolved + cast(Tensor, self.convolution.bias)).tanh().view(*rows.shape, -1)
        outside = ~inside.unsqueeze(-1)
        if self.match is None or self.relations is None:
            return c.masked_fill(outside, -torch.inf).amax(1)
        match = c @ self.match(self.relations.weight).T
        return (c.mT @ match.masked_fill(outside, -torch.inf).softmax(1)).amax(2)

    def _resize_labels(self, labels: Sequence[str]) -> None:
        """The vectors of new relations, if there are any, begin as that of class 0: pooling by attention asks all
        relations, and with another vector v of every pair would be another. Without a label that was known, v may
        change."""
        super()._resize_labels(labels)
        if self.relations is None:
            return
        nothing = self.relations.weight[0].detach()
        relations = regrown(self.relations, ["", *labels], ["", *self.labels])
        with torch.no_grad():
            for row, label in enumerate(labels, 1):
                if label not in self.labels:
                    relations.weight[row] = nothing
        self.relations = relations


def unit(x: Tensor) -> Tensor:
    """Rows of length 1; zeros stay zeros, with a gradient that is a number."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / length.masked_fill(length == 0, 1.0)
