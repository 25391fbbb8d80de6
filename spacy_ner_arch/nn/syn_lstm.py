"""Syn-LSTM: a bidirectional LSTM whose second input is a graph convolution over the dependency tree.

Letters: B documents, T tokens with padding, N tokens without, D width of a token vector, G width of a graph vector, H
width of a state.
"""

import torch
from torch import Tensor, nn

from .batch import Batch, send
from .dropout import dropout
from .embed import unit_embedding
from .graph import GCN, tree_edges
from .syn_lstm_cell import SynLSTMRecurrence, reading_order


class SynLSTM(nn.Module):
    """One bidirectional layer, with separate cells for the two directions.

        i  = sigmoid([h;x])    u  = tanh([h;x])      f = sigmoid([h;x;m])
        i' = sigmoid([h;m])    u' = tanh([h;m])      o = sigmoid([h;x;m])
        c_t = f * c_{t-1} + i * u + i' * u'          h_t = o * tanh(c_t)

    Each gate has a weight matrix and a bias. h is the previous state (zero at the start), x the token vector and m the
    graph vector of the token. The backward direction reads each document reversed within its own length.

    input_size, graph_size, hidden_size: D, G and H.

    Parameters hold both directions: input_weight (2, 4H, D), gates u, i, f, o; graph_weight (2, 4H, G), gates f, o, i',
    u'; hidden_weight (2, 6H, H) and bias (2, 6H), gates u, i, f, o, i', u'.

    Shape: x (N, D), m (N, G) -> (B, T, 2H), zero in the padding, in at least float32.
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

    def forward(self, x: Tensor, m: Tensor, batch: Batch) -> Tensor:
        kind = x.device.type
        dtype = torch.promote_types(torch.promote_types(x.dtype, m.dtype), self.input_weight.dtype)
        if torch.is_autocast_enabled(kind) and dtype != torch.float64:
            dtype = torch.get_autocast_dtype(kind)
        weights = self.input_weight.to(dtype), self.graph_weight.to(dtype)
        order = reading_order(batch)
        with torch.autocast(kind, enabled=False):
            return SynLSTMRecurrence.apply(order, x.to(dtype), m.to(dtype), *weights, self.hidden_weight, self.bias)


class SynLSTMEncoder(nn.Module):
    """Graph convolutions over the dependency trees, and a Syn-LSTM over the tokens and the convolutions.

        nodes = dropout([x ; E_dep[dep] ; E_pos[pos]])
        m = GCN(nodes, edges)
        output = dropout(SynLSTM(nodes, m))

    input_size: width D of the token vectors.
    hidden_size: width H of the state of each direction; the output is twice as wide.
    graph_layers: number of graph convolutions.
    graph_size: width G of all of them; None for input_size.
    edge_labels: how the convolutions use the label and the direction of an arc: `none`, `bias`, or `gate` (bias and
        gate).
    dep_size: width of the embedding of each token's dependency label; 0 for none.
    pos_size: width of the embedding of parts of speech; 0 for none.
    label_rows: rows of each table of hashed labels.
    arc_dropout: probability in training that a token has no head and no dependency label.
    dropout_rate: rate, or None for the rate of `[training] dropout`.

    Shape: x (B, T, D), a batch with trees -> (B, T, 2H), zero in the padding; nodes (N, D + dep_size + pos_size), m (N,
    G).
    """

    def __init__(
        self,
        input_size: int,
        *,
        hidden_size: int = 200,
        graph_layers: int = 2,
        graph_size: int | None = None,
        edge_labels: str = "bias",
        dep_size: int = 50,
        pos_size: int = 0,
        label_rows: int = 500,
        arc_dropout: float = 0.3,
        dropout_rate: float | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= arc_dropout < 1:
            raise ValueError(f"SynLSTM: arc_dropout must be at least 0 and below 1, got {arc_dropout}")
        self.label_rows, self.arc_dropout = label_rows, arc_dropout
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

    def forward(self, x: Tensor, batch: Batch) -> Tensor:
        assert batch.trees is not None
        heads, deps, pos = batch.trees
        deps, pos = deps % self.label_rows, pos % self.label_rows
        kept = None
        if self.training and self.arc_dropout:
            kept = torch.rand(len(heads), device=x.device) >= self.arc_dropout
        parts = [batch.flatten(x)]
        if self.dep is not None:
            vectors = self.dep(deps)
            parts.append(vectors if kept is None else vectors * kept.unsqueeze(1))
        if self.pos is not None:
            parts.append(self.pos(pos))
        nodes = self.dropout(torch.cat(parts, dim=-1))
        (lengths,) = send([batch.lengths], x.device)
        edges = tree_edges(heads, deps, lengths, kept)
        return self.dropout(self.lstm(nodes, self.gcn(nodes, edges), batch))
