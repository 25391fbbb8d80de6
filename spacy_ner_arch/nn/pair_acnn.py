"""Pair model with an attention-based convolution (ACNN).

Letters: B documents, T tokens with padding, E entities, P pairs, G regions, L tokens of the longest region, D width of
a token vector, K labels, C classes, F filters.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .batch import Batch
from .embed import unit_embedding
from .growth import UNTRAINED, source_rows
from .pair_head import PairHead
from .pair_tensors import PairLayout, Pairs, Piece, distances, in_pieces, region_rows, steps_by_pair
from .precision import wide

# Maximum number of products of entities and tokens that are computed at once for a batch; above, once per piece.
PRODUCTS = 4_194_304
PRODUCTS_OF_STEP = 256


class ACNNPairs(PairHead):
    """A convolution over tokens that are weighted by attention to the entities, pooled by the maximum or by attention
    to the labels.

        x_t = [token; position to e1; position to e2]
        R_t = L alpha_t x_t     alpha_t = (softmax_t(token_t . e1 / sqrt(D)) + softmax_t(token_t . e2 / sqrt(D))) / 2
        C = tanh(conv(R))     (L, F), zeros around the region

    attention: A = softmax over the region of C U M^T     (L, K + 1), M the vectors of the relations, class 0 among them
        v = largest entry by class of C^T A     (F,)
    max: v = maximum of C over the region     (F,)

    hinge: d(y) = |v / |v| - M_y / |M_y||; loss max(0, 1 + d(gold) - min over the wrong y of d(y)); logits -d.
    cross_entropy: logits = W Dropout(v) + b.

    e is the mean of an entity's tokens, L here the number of tokens of the region. Without the factor L, the input of
    the convolution shrinks with the length of the region, and v hardly differs between pairs. Without the root, the
    softmax collapses onto the entities. The convolution is linear, so each token and each distance is projected once,
    and pairs sum weighted rows.

    filters: number F of filters.
    window: number of tokens that a filter covers; odd.
    position_size: width of the embedding of the distance to an entity; each entity has its own table.
    max_distance: longer distances, in tokens, are clamped to this one.
    pooling: `max`, or `attention`, as published.
    loss: `cross_entropy`, or `hinge`, as published, for one label a pair.
    dropout_rate: rate on the token vectors, sampled once per token, and on v (only with cross entropy, since the hinge
        depends only on the direction of v); None for the rate of `[training] dropout`.
    Other arguments and shapes: see PairHead. Entity types are not used.
    Source: Wang et al. 2016.
    """

    def __init__(
        self,
        input_size: int,
        *,
        filters: int = 500,
        window: int = 3,
        position_size: int = 25,
        max_distance: int = 50,
        pooling: str = "max",
        loss: str = "cross_entropy",
        **settings: Any,
    ) -> None:
        super().__init__(input_size, **settings)
        if pooling not in ("attention", "max"):
            raise ValueError(f"ACNNPairs: pooling must be 'attention' or 'max', got {pooling!r}")
        if loss not in ("hinge", "cross_entropy"):
            raise ValueError(f"ACNNPairs: loss must be 'hinge' or 'cross_entropy', got {loss!r}")
        if loss == "hinge" and self.multi_label:
            raise ValueError(
                "ACNNPairs: loss = 'hinge' allows one label per pair; set loss = 'cross_entropy' for multi_label"
            )
        if window < 1 or window % 2 == 0 or filters < 1 or position_size < 1 or max_distance < 1:
            raise ValueError(
                "ACNNPairs: window must be odd, filters, position_size and max_distance positive, "
                f"got {window}, {filters}, {position_size} and {max_distance}"
            )
        self.max_distance = max_distance
        self.position_size = position_size
        self.head_position = unit_embedding(2 * max_distance + 1, position_size)
        self.tail_position = unit_embedding(2 * max_distance + 1, position_size)
        self.convolution = nn.Conv1d(self.width + 2 * position_size, filters, window, padding=window // 2)
        self.hinge = loss == "hinge"
        attention = pooling == "attention"
        self.match = nn.Linear(filters, filters, bias=False) if attention else None  # its weight is U
        self.relations = nn.Embedding(1 + len(self.labels), filters) if attention or self.hinge else None  # M
        self.output = None if self.hinge else self.output_layer(filters)
        if self.hinge:
            # How often each class was gold in training, plus 1 for a class of the untrained model.
            self.gold_counts: Tensor
            self.register_buffer("gold_counts", torch.ones(1 + len(self.labels), dtype=torch.int64))

    def logits(self, x: Tensor, batch: Batch) -> Tensor:
        pairs: Pairs = batch.items
        # Compute in float32: products of whole token vectors lose too much precision otherwise.
        with torch.autocast(x.device.type, enabled=False):
            # Padding may hold NaN, which would spread through the product.
            x = x.to(wide(x)).masked_fill(~batch.mask.unsqueeze(-1), 0.0)
            entities, tokens = self.mean_entities(x, pairs) / math.sqrt(self.width), x.flatten(0, 1)
            small = len(entities) * len(tokens) <= PRODUCTS
            scores = [entities @ tokens.T] if small else []
            inputs = (entities, tokens, self._table(tokens), *scores)
            return in_pieces(self, pairs, steps_of_products, partial(self._piece, pairs), *inputs)

    def pair_loss(self, logits: Tensor, has_label: Tensor) -> Tensor:
        if not self.hinge:
            return super().pair_loss(logits, has_label)
        targets = self.target_weights(has_label)
        gold = torch.cat([has_label.sum(1, keepdim=True) == 0, has_label > 0], dim=1)
        assert self.relations is not None
        if self.training and self.relations.weight.requires_grad:
            self.gold_counts += gold.sum(0)
        nearest_wrong = logits.masked_fill(gold, -torch.inf).amax(1, keepdim=True)
        return (targets * F.relu(1 - logits + nearest_wrong)).sum()

    def _table(self, tokens: Tensor) -> Tensor:
        """Projections of each token, each distance to e1 and each distance to e2 for every position of the window,
        (window * (B * T + 2 * (2 * max_distance + 1)), F)."""
        sizes = [self.width, self.position_size, self.position_size]
        vectors = [self.dropout(tokens), self.head_position.weight, self.tail_position.weight]
        weights = self.convolution.weight.permute(2, 0, 1).split(sizes, dim=2)  # (window, F, size)
        return torch.cat([v @ w.mT for v, w in zip(vectors, weights, strict=True)], dim=1).flatten(0, 1)

    def _piece(
        self,
        pairs: Pairs,
        piece: Piece,
        entities: Tensor,
        tokens: Tensor,
        table: Tensor,
        scores: Tensor | None = None,
    ) -> Tensor:
        """Logits of some of the pairs, (p, C).

        entities: (E, D), scaled. tokens: (B * T, D). table: see `_table`. scores: products of all entities and tokens,
        or None to compute those of the piece.
        """
        columns = pairs.heads, pairs.tails, pairs.regions
        heads, tails, regions = (column.index_select(0, piece.rows) for column in columns)
        rows, inside = region_rows(pairs, regions, piece.longest)
        entity, token = 0, 0  # of the first row and column of scores
        if scores is None:
            entity, last_entity, token, last_token = ranges(pairs.layout, piece)
            scores = entities[entity:last_entity] @ tokens[token:last_token].T
        to_head, to_tail = (attention(scores, own - entity, rows - token, inside) for own in (heads, tails))
        alpha = inside.sum(1, keepdim=True) * (to_head + to_tail) / 2
        from_head, from_tail = (
            distances(pairs, regions, own, piece.longest, self.max_distance) for own in (heads, tails)
        )
        first, kinds = len(tokens), 2 * self.max_distance + 1
        parts = torch.stack([rows, first + from_head, first + kinds + from_tail], dim=-1)
        v = self._pool(self._convolve(table, parts, alpha), inside)
        if self.output is not None:
            return self.output(self.dropout(v))
        assert self.relations is not None
        apart = unit(v).unsqueeze(1) - unit(self.relations.weight)
        return -torch.linalg.vector_norm(apart, dim=-1) - UNTRAINED * self.temperature * (self.gold_counts == 0)

    def _convolve(self, table: Tensor, parts: Tensor, alpha: Tensor) -> Tensor:
        """C of some of the pairs, (p, L, F).

        table: see `_table`.
        parts: (p, L, 3), for each token the rows of its three parts at the first position of the window: the token, its
            distance to e1, its distance to e2.
        alpha: (p, L), weights of the tokens.
        """
        window = self.convolution.kernel_size[0]
        half = window // 2
        # Beyond the ends of a region the weight is 0.
        rows = F.pad(parts, (0, 0, half, half)).unfold(1, window, 1)  # (p, L, 3, window)
        rows = rows + len(table) // window * torch.arange(window, device=rows.device)
        weight = F.pad(alpha, (half, half)).unfold(1, window, 1).unsqueeze(2).expand(rows.shape)
        convolved = F.embedding_bag(
            rows.flatten(0, 1).flatten(1),
            table,
            mode="sum",
            per_sample_weights=weight.flatten(0, 1).flatten(1),
        )
        return (convolved + cast(Tensor, self.convolution.bias)).tanh().view(*alpha.shape, -1)

    def _pool(self, c: Tensor, inside: Tensor) -> Tensor:
        """v of some of the pairs, (p, F), from C (p, L, F). inside: (p, L), which tokens are in the region."""
        outside = ~inside.unsqueeze(-1)
        if self.match is None or self.relations is None:
            return c.masked_fill(outside, -torch.inf).amax(1)
        match = c @ self.match(self.relations.weight).T
        return (c.mT @ match.masked_fill(outside, -torch.inf).softmax(1)).amax(2)

    def _resize_labels(self, labels: Sequence[str]) -> None:
        """Initialize the vectors of new labels with that of class 0.

        Pooling by attention takes the maximum over all labels, so another vector would change v of every pair. The
        hinge has no bias: the score of a label is lower until it is gold in training.
        """
        super()._resize_labels(labels)
        rows = source_rows(["", *labels], ["", *self.labels])
        if self.relations is not None:
            self.relations = nn.Embedding.from_pretrained(self.relations.weight[rows].detach(), freeze=False)
        if self.hinge:
            is_new = [False, *(label not in self.labels for label in labels)]
            self.gold_counts = self.gold_counts[rows].masked_fill(torch.tensor(is_new).to(self.gold_counts.device), 0)


def attention(scores: Tensor, entities: Tensor, tokens: Tensor, inside: Tensor) -> Tensor:
    """For each pair, the softmax of the scores of one entity over the tokens of its region, (p, L).

    scores: (e, n), of entities and tokens.
    entities: (p,) row of scores. tokens: (p, L) column of scores. inside: (p, L), which tokens are in the region.
    """
    cells = scores.shape[1] * entities.unsqueeze(1) + tokens
    found = scores.flatten().index_select(0, cells.flatten()).view(cells.shape)
    return found.masked_fill(~inside, -torch.inf).softmax(1)


def ranges(layout: PairLayout, piece: Piece) -> tuple[int, int, int, int]:
    """Start and exclusive end of the entities, then of the B * T tokens, that the pairs of a piece read."""
    entities, tokens = layout.entities[piece.place], layout.tokens[piece.regions]
    return int(entities.min()), int(entities.max()) + 1, int(tokens.min()), int(tokens.max())


def steps_of_products(layout: PairLayout, place: slice) -> np.ndarray:
    """Like steps_by_pair, but PRODUCTS_OF_STEP products of an entity and a token also count as a step."""
    smallest, largest = layout.entities[place].T
    first, last = layout.tokens[layout.regions[place]].T
    entities = np.maximum.accumulate(largest) - np.minimum.accumulate(smallest) + 1
    products = entities * (np.maximum.accumulate(last) - first[0])
    return np.maximum(steps_by_pair(layout, place), products // PRODUCTS_OF_STEP)


def unit(x: Tensor) -> Tensor:
    """Normalize rows to length 1; rows of zeros stay zeros and have a finite gradient."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / length.masked_fill(length == 0, 1.0)
