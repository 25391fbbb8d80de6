"""Syn-LSTM: a bidirectional LSTM with a second input, the tokens' neighbourhood in the dependency tree.

Letters: B documents, T tokens with padding, N tokens without, D width of a token vector, G width of a graph vector, H
width of a state.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .dropout import dropout
from .embed import unit_embedding
from .graph import GCN, tree_edges
from .syn_lstm_cell import ReadingOrder, SynLSTMRecurrence, reading_order


class SynLSTM(nn.Module):
    """One bidirectional layer; a cell of its own for each direction.

        i  = sigmoid([h;x])    u  = tanh([h;x])      f = sigmoid([h;x;m])
        i' = sigmoid([h;m])    u' = tanh([h;m])      o = sigmoid([h;x;m])
        c_t = f * c_{t-1} + i * u + i' * u'          h_t = o * tanh(c_t)

    with a weight matrix and a bias for each gate, h the state before (zero at the start), x the token and m what the
    graph says about it. The backward direction reads each document reversed within its own length.

    input_size, graph_size, hidden_size: D, G and H.

    The weights of both directions stand in input_weight (2, 4H, D), gates u, i, f, o; graph_weight (2, 4H, G), gates
    f, o, i', u'; hidden_weight (2, 6H, H) and bias (2, 6H), gates u, i, f, o, i', u'.

    Shape: x (B, T, D), m (B, T, G), mask (B, T) True on tokens, padding behind them -> (B, T, 2H), zero in the padding,
    in at least float32. The host reads the B lengths.
    Source: Xu et al. 2021 (Better Feature Integration for Named Entity Recognition).
    """

    def __init__(self, input_size: int, graph_size: int, hidden_size: int) -> None:
        super().__init__()
        if min(input_size, graph_size, hidden_size) < 1:
            raise ValueError(f"SynLSTM: sizes must be positive, got {input_size}, {graph_size} and {hidden_size}")
        self.output_size = 2 * hidden_size
        bound = hidden_size**-0.5

        def uniform(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound))

        self.input_weight = uniform(2, 4 * hidden_size, input_size)
        self.graph_weight = uniform(2, 4 * hidden_size, graph_size)
        self.hidden_weight = uniform(2, 6 * hidden_size, hidden_size)
        self.bias = uniform(2, 6 * hidden_size)

    def forward(self, x: Tensor, m: Tensor, mask: Tensor) -> Tensor:
        order = reading_order(mask)
        return self.read(without_padding(x, order), without_padding(m, order), order)

    def read(self, x: Tensor, m: Tensor, order: ReadingOrder) -> Tensor:
        """The same for tokens without padding, x (N, D) and m (N, G)."""
        kind = x.device.type
        dtype = torch.promote_types(torch.promote_types(x.dtype, m.dtype), self.input_weight.dtype)
        if torch.is_autocast_enabled(kind) and dtype != torch.float64:
            dtype = torch.get_autocast_dtype(kind)
        weights = self.input_weight.to(dtype), self.graph_weight.to(dtype)
        with torch.autocast(kind, enabled=False):
            return SynLSTMRecurrence.apply(order, x.to(dtype), m.to(dtype), *weights, self.hidden_weight, self.bias)


def without_padding(x: Tensor, order: ReadingOrder) -> Tensor:
    """(B, T, ...) -> (N, ...)"""
    flat = x.flatten(0, 1)
    return flat if len(flat) == len(order.rows) else flat.index_select(0, order.rows)


class Graph(NamedTuple):
    """Dependency trees of a batch; the padding may hold anything."""

    heads: Tensor  # (B, T) int64, number of the head within the document, a root's own number for a root
    deps: Tensor  # (B, T) int64, hashed relation to the head, below `label_rows`
    pos: Tensor | None = None  # (B, T) int64, hashed part of speech, below `label_rows`; needed if pos_size


class SynLSTMEncoder(nn.Module):
    """Graph convolutions over the dependency trees, and a Syn-LSTM that reads them beside the tokens.

        nodes = dropout([x ; E_dep[dep] ; E_pos[pos]])
        m = GCN(nodes, edges)
        output = dropout(SynLSTM(nodes, m))

    input_size: width D of the token vectors.
    hidden_size: width H of the state of each direction; the output is twice as wide.
    graph_layers: number of graph convolutions.
    graph_size: width G of all of them; None for input_size.
    edge_labels: what the convolutions make of the label and direction of an arc: `none`, a `bias`, or also a `gate`.
    dep_size: width of the embedding of each token's relation to its head; 0 leaves it out.
    pos_size: width of the embedding of parts of speech; 0 leaves it out.
    label_rows: rows of each table of hashed labels.
    dropout_rate: rate, or None for the rate of `[training] dropout`.

    Shape: x (B, T, D), mask (B, T) True on tokens, padding behind them, graph -> (B, T, 2H), zero in the padding.
    In between nodes (N, D + dep_size + pos_size) and m (N, G), N tokens without padding. The host reads the B lengths.
    """

    def __init__(
        self,
        input_size: int,
        *,
        hidden_size: int = 100,
        graph_layers: int = 2,
        graph_size: int | None = None,
        edge_labels: str = "bias",
        dep_size: int = 50,
        pos_size: int = 0,
        label_rows: int = 500,
        dropout_rate: float | None = None,
    ) -> None:
        super().__init__()
        self.dep = unit_embedding(label_rows, dep_size) if dep_size else None
        self.pos = unit_embedding(label_rows, pos_size) if pos_size else None
        width = input_size + dep_size + pos_size
        self.gcn = GCN(
            width,
            hidden_size=input_size if graph_size is None else graph_size,
            layers=graph_layers,
            edge_labels=edge_labels,
            relations=label_rows,
            dropout_rate=dropout_rate,
        )
        self.lstm = SynLSTM(width, self.gcn.output_size, hidden_size)
        self.dropout = dropout(dropout_rate)
        self.output_size = self.lstm.output_size

    def forward(self, x: Tensor, mask: Tensor, graph: Graph) -> Tensor:
        order = reading_order(mask)
        parts = [without_padding(x, order)]
        for table, rows in ((self.dep, graph.deps), (self.pos, graph.pos)):
            if table is not None:
                if rows is None:
                    raise ValueError("SynLSTMEncoder: pos_size needs parts of speech in the graph")
                parts.append(table(without_padding(rows, order)))
        nodes = self.dropout(torch.cat(parts, dim=-1))
        edges = tree_edges(graph.heads, graph.deps, mask, order.rows)
        return self.dropout(self.lstm.read(nodes, self.gcn(nodes, edges), order))
