"""Pair models with a BiLSTM over the region of a pair.

Letters: B documents, T tokens with padding, E entities, P pairs, G regions, L tokens of the longest region, D width of
a token vector, K labels, C classes.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .batch import Batch
from .embed import unit_embedding
from .lstm import BiLSTM
from .pair_head import PairHead
from .pair_tensors import (
    Pairs,
    Piece,
    distances,
    in_pieces,
    mean_rows,
    region_rows,
    steps_by_pair,
    steps_by_region,
    take,
    token_rows,
)
from .precision import wide


class BiLSTMPairs(PairHead):
    """A BiLSTM over the region of a pair, and a linear layer.

        z = [t1; t2; last state of each direction; mean of e1's states; mean of e2's states]
        logits = W Dropout(z) + b

    t is the embedding of an entity's type. A region is encoded once, or once for each piece of its pairs (see
    `pair_tensors.pieces`).

    hidden_size: width of the state of each direction.
    depth: number of layers.
    Other arguments and shapes: see PairHead. Dropout is also applied before each layer.
    Source: the BiLSTM of NERE; Zhang et al. 2015 (bidirectional LSTM for relations).
    """

    def __init__(
        self,
        input_size: int,
        *,
        dropout_rate: float | None = None,
        hidden_size: int = 200,
        depth: int = 2,
        type_size: int = 50,
        **settings: Any,
    ) -> None:
        super().__init__(input_size, dropout_rate=dropout_rate, type_size=type_size, **settings)
        self.lstm = BiLSTM(self.width, hidden_size=hidden_size, depth=depth, dropout_rate=dropout_rate)
        self.output = self.output_layer(2 * type_size + 6 * hidden_size)

    def logits(self, x: Tensor, batch: Batch) -> Tensor:
        pairs: Pairs = batch.items
        return in_pieces(self, pairs, steps_by_region, partial(self._piece, pairs), x)

    def _piece(self, pairs: Pairs, piece: Piece, x: Tensor) -> Tensor:
        """Logits of some of the pairs, (p, C)."""
        assert self.output is not None
        every = torch.arange(piece.regions.start, piece.regions.stop, device=x.device)
        rows, inside = region_rows(pairs, every, piece.longest)
        tokens = x.flatten(0, 1).index_select(0, rows.flatten()).view(*rows.shape, -1)
        states = self.lstm.read(tokens, inside).flatten(0, 1)
        with torch.autocast(x.device.type, enabled=False):
            states = states.to(wide(states))
            first = piece.longest * torch.arange(len(every), device=x.device)
            last = first + inside.sum(1) - 1
            forward, backward = states.chunk(2, dim=1)
            lasts = torch.cat([forward.index_select(0, last), backward.index_select(0, first)], dim=1)
            own = pairs.regions.index_select(0, piece.rows) - piece.regions.start
            means = entity_means(states, pairs, piece, own)
            z = torch.cat([*self.type_parts(pairs, piece.rows), take(lasts, own), *means], dim=1)
            return self.output(self.dropout(z))


class BiLSTMAttentionPairs(PairHead):
    """A BiLSTM over the region of a pair with positions relative to both entities, attention over its states, a linear
    layer.

        H = BiLSTM([token; position to e1; position to e2])
        r = tanh(sum_t alpha_t H_t)     alpha = softmax over the region of w . tanh(H_t)
        z = [t1; t2; r; mean of e1's states; mean of e2's states]
        logits = W Dropout(z) + b

    t is the embedding of an entity's type. Each pair has its own pass over the region.

    hidden_size: width of the state of each direction.
    position_size: width of the embedding of the distance to an entity; each entity has its own table.
    max_distance: longer distances, in tokens, are clamped to this one.
    Other arguments and shapes: see PairHead. Dropout is also applied before the BiLSTM.
    Source: Zhou et al. 2016.
    """

    def __init__(
        self,
        input_size: int,
        *,
        dropout_rate: float | None = None,
        hidden_size: int = 200,
        position_size: int = 25,
        max_distance: int = 50,
        type_size: int = 50,
        **settings: Any,
    ) -> None:
        super().__init__(input_size, dropout_rate=dropout_rate, type_size=type_size, **settings)
        if position_size < 1 or max_distance < 1:
            raise ValueError(
                "BiLSTMAttentionPairs: position_size and max_distance must be positive, "
                f"got {position_size} and {max_distance}"
            )
        self.max_distance = max_distance
        self.head_position = unit_embedding(2 * max_distance + 1, position_size)
        self.tail_position = unit_embedding(2 * max_distance + 1, position_size)
        self.lstm = BiLSTM(self.width + 2 * position_size, hidden_size=hidden_size, dropout_rate=dropout_rate)
        self.query = nn.Linear(2 * hidden_size, 1, bias=False)
        self.output = self.output_layer(2 * type_size + 6 * hidden_size)

    def logits(self, x: Tensor, batch: Batch) -> Tensor:
        pairs: Pairs = batch.items
        return in_pieces(self, pairs, steps_by_pair, partial(self._piece, pairs), x)

    def _piece(self, pairs: Pairs, piece: Piece, x: Tensor) -> Tensor:
        """Logits of some of the pairs, (p, C)."""
        assert self.output is not None
        regions = pairs.regions.index_select(0, piece.rows)
        rows, inside = region_rows(pairs, regions, piece.longest)
        parts = [x.flatten(0, 1).index_select(0, rows.flatten())]
        for ends, table in ((pairs.heads, self.head_position), (pairs.tails, self.tail_position)):
            places = distances(pairs, regions, ends.index_select(0, piece.rows), piece.longest, self.max_distance)
            parts.append(take(table.weight, places.flatten()))
        states = self.lstm.read(torch.cat(parts, dim=1).view(*rows.shape, -1), inside)
        with torch.autocast(x.device.type, enabled=False):
            states = states.to(wide(states))
            score = self.query(states.tanh()).squeeze(2).masked_fill(~inside, -torch.inf)
            seen = (score.softmax(1).unsqueeze(1) @ states).squeeze(1).tanh()
            means = entity_means(states.flatten(0, 1), pairs, piece, torch.arange(len(regions), device=x.device))
            return self.output(self.dropout(torch.cat([*self.type_parts(pairs, piece.rows), seen, *means], dim=1)))


def entity_means(states: Tensor, pairs: Pairs, piece: Piece, own: Tensor) -> list[Tensor]:
    """Means of the states of both entities of some pairs, (p, width) each.

    states: (n * piece.longest, width), the states of n regions.
    own: (p,) which of the n regions is that of each pair.
    """
    offset = pairs.region_starts[pairs.regions.index_select(0, piece.rows)]
    means = []
    for ends in (pairs.heads, pairs.tails):
        entities = ends.index_select(0, piece.rows)
        starts, stops = pairs.starts[entities] - offset, pairs.ends[entities] - offset
        means.append(mean_rows(states, *token_rows(own, starts, stops, piece.longest, pairs.widest)))
    return means
