"""Pair models with a BiLSTM over the region of a pair. Letters as in `pair_head.py`."""

from typing import Any

import torch
from torch import Tensor, nn

from .batch import Batch
from .embed import unit_embedding
from .lstm import BiLSTM
from .pair_head import PairHead
from .pair_tensors import Pairs, distances, mean_rows, pieces, region_rows, take, token_rows, wide


class BiLSTMPairs(PairHead):
    """A BiLSTM over the region of a pair, and a linear layer.

        z = [t1; t2; last state of each direction; mean of e1's states; mean of e2's states]
        logits = W Dropout(z) + b

    t is the embedding of an entity's type. Each region is encoded once, however many pairs it has.

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
        assert self.output is not None
        pairs: Pairs = batch.items
        states = self._states(x, pairs)
        with torch.autocast(x.device.type, enabled=False):
            states = states.to(wide(states))
            last = pairs.region_ends - pairs.region_starts - 1
            first = pairs.longest * torch.arange(len(last), device=x.device)
            forward, backward = states.chunk(2, dim=1)
            lasts = torch.cat([forward.index_select(0, first + last), backward.index_select(0, first)], dim=1)
            means = [mean_rows(states, *state_rows(pairs, end, pairs.regions)) for end in (pairs.heads, pairs.tails)]
            z = torch.cat([*self.type_parts(pairs), take(lasts, pairs.regions), *means], dim=1)
            return self.output(self.dropout(z)).to(wide(x))

    def _states(self, x: Tensor, pairs: Pairs) -> Tensor:
        """States of all regions, (G * L, 2 * hidden_size), arbitrary behind the end of a region."""
        flat, states = x.flatten(0, 1), []
        everything = torch.arange(len(pairs.region_starts), device=x.device)
        for piece in pieces(len(everything), pairs.longest, x.device):
            rows, inside = region_rows(pairs, everything[piece], x.shape[1])
            tokens = flat.index_select(0, rows.flatten()).view(*rows.shape, -1)
            states.append(self.lstm.read(tokens, inside).flatten(0, 1))
        return states[0] if len(states) == 1 else torch.cat(states)


class BiLSTMAttentionPairs(PairHead):
    """A BiLSTM over the region of a pair with positions relative to both entities, attention over its states, a linear
    layer.

        H = BiLSTM([token; position to e1; position to e2])
        r = tanh(sum_t alpha_t H_t)     alpha = softmax over the region of w . tanh(H_t)
        z = [t1; t2; r; mean of e1's states; mean of e2's states]
        logits = W Dropout(z) + b

    t is the embedding of an entity's type. Each pair has its own pass over the region; a piece of the pairs is computed
    at a time.

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
        assert self.output is not None
        pairs: Pairs = batch.items
        cuts = pieces(len(pairs.heads), pairs.longest, x.device)
        z = torch.cat([self._piece(x, pairs, piece) for piece in cuts])
        with torch.autocast(x.device.type, enabled=False):
            return self.output(self.dropout(torch.cat([*self.type_parts(pairs), z], dim=1))).to(wide(x))

    def _piece(self, x: Tensor, pairs: Pairs, piece: slice) -> Tensor:
        """z without the types, (p, 6 * hidden_size), for p of the pairs."""
        heads, tails, regions = pairs.heads[piece], pairs.tails[piece], pairs.regions[piece]
        rows, inside = region_rows(pairs, regions, x.shape[1])
        parts = [x.flatten(0, 1).index_select(0, rows.flatten())]
        for ends, table in ((heads, self.head_position), (tails, self.tail_position)):
            parts.append(take(table.weight, distances(pairs, regions, ends, self.max_distance).flatten()))
        states = self.lstm.read(torch.cat(parts, dim=1).view(*rows.shape, -1), inside)
        with torch.autocast(x.device.type, enabled=False):
            states = states.to(wide(states))
            score = self.query(states.tanh()).squeeze(2).masked_fill(~inside, -torch.inf)
            seen = (score.softmax(1).unsqueeze(1) @ states).squeeze(1).tanh()
            own = torch.arange(len(regions), device=x.device)
            flat = states.flatten(0, 1)
            means = [mean_rows(flat, *state_rows(pairs, ends, regions, own)) for ends in (heads, tails)]
            return torch.cat([seen, *means], dim=1)


def state_rows(pairs: Pairs, entities: Tensor, regions: Tensor, numbers: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """`token_rows` of entities in a table of L rows for each region, or for each of the given numbers."""
    offset = pairs.region_starts[regions]
    starts, ends = pairs.starts[entities] - offset, pairs.ends[entities] - offset
    return token_rows(regions if numbers is None else numbers, starts, ends, pairs.longest, pairs.widest)
