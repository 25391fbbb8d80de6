"""Graph convolutions over dependency trees, as lists of edges: time and memory are linear in the tokens.

Letters: B documents, N tokens of all of them, M edges, K relations, D and G input and output width of a layer.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .dropout import dropout
from .precision import wide

EDGE_LABELS = ("none", "bias", "gate")


class Edges(NamedTuple):
    """Edges between the N tokens of a batch, sorted by target.

    Every token has an edge from itself (label 0), from its head (label 1 + 2k, k the relation of the token to its head)
    and from each of its dependents (label 2 + 2k, k the relation of that dependent). M is always 3N: the two edges that
    a root lacks have the target N, which is not a token. The host thus need not know the number of roots.
    """

    sources: Tensor  # (M,) int64 in 0..N-1
    targets: Tensor  # (M,) int64 in 0..N, ascending
    labels: Tensor  # (M,) int64 in 0..2K
    offsets: Tensor  # (N + 1,) int64, the first edge of each target
    sizes: Tensor  # (N, 1) int64, number of edges of each token: its degree + 1


def tree_edges(heads: Tensor, relations: Tensor, lengths: Tensor, kept: Tensor | None = None) -> Edges:
    """Both directions of every arc, and an edge from each token to itself.

    heads: (N,) int64, index of the head within the document; a root is its own head. A head outside the document is an
        error (checked on the CPU only). No two tokens may be each other's head.
    relations: (N,) int64 from 0 to K - 1, of each token to its head.
    lengths: (B,) int64, tokens of each document.
    kept: (N,) bool, whether the arc of a token to its head remains; None for all arcs.
    """
    token = torch.arange(len(heads), device=heads.device)
    first = (lengths.cumsum(0) - lengths).repeat_interleave(lengths, output_size=len(heads))
    head = heads + first
    if heads.device.type == "cpu" and ((heads < 0) | (heads >= lengths.repeat_interleave(lengths))).any():
        raise ValueError("a head lies outside its document")
    relation = 2 * relations
    root = head == token
    if kept is not None:
        root = root | ~kept
    targets = torch.cat([token, token.masked_fill(root, len(heads)), head.masked_fill(root, len(heads))])
    targets, order = targets.sort(stable=True)
    offsets = torch.searchsorted(targets, torch.arange(len(heads) + 1, device=heads.device))
    return Edges(
        sources=torch.cat([token, head, token])[order],
        targets=targets,
        labels=torch.cat([torch.zeros_like(token), relation + 1, relation + 2])[order],
        offsets=offsets,
        sizes=offsets.diff().unsqueeze(1),
    )


class GraphConvolution(nn.Module):
    """One layer: ReLU of the mean of the linear projections of a token and its neighbors.

        none:  h'_i = ReLU((sum over j in N(i) and i of h_j W + b) / (degree_i + 1))
        bias:  h'_i = ReLU( sum over j in N(i) and i of (h_j W + b_l) / (degree_i + 1))
        gate:  h'_i = ReLU( sum over j in N(i) and i of sigmoid(h_j v + c_l) (h_j W + b_l) / (degree_i + 1))

    where l is the label of the edge from j to i.

    input_size, output_size: widths D and G.
    edge_labels: `none`, `bias` or `gate`.
    relations: number K of relations; there are 2K + 1 labels.

    Shape: x (N, D), edges -> (N, G), at least float32 also under autocast.
    Source: Kipf and Welling 2017; Marcheggiani and Titov 2017 (biases and gates by label and direction).
    """

    def __init__(self, input_size: int, output_size: int, *, edge_labels: str = "none", relations: int = 1) -> None:
        super().__init__()
        if edge_labels not in EDGE_LABELS:
            raise ValueError(f"edge_labels must be one of {', '.join(EDGE_LABELS)}, got {edge_labels}")
        labels = 1 if edge_labels == "none" else 2 * relations + 1
        bound = input_size**-0.5  # as in nn.Linear
        self.weight = nn.Parameter(torch.empty(output_size, input_size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(labels, output_size).uniform_(-bound, bound))
        self.gate_weight = self.gate_bias = None
        if edge_labels == "gate":
            self.gate_weight = nn.Parameter(torch.empty(input_size).uniform_(-bound, bound))
            self.gate_bias = nn.Parameter(torch.zeros(labels))

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        h = F.linear(x, self.weight)
        with torch.autocast(x.device.type, enabled=False):
            dtype = wide(h)
            gates = self._gates(x.to(dtype), edges)
            total = sum_edges(h.to(dtype), edges.sources, edges, gates)
            if len(self.bias) == 1:
                total = total + self.bias
            else:
                total = total + sum_edges(self.bias.to(dtype), edges.labels, edges, gates)
            return (total / edges.sizes).relu()

    def _gates(self, x: Tensor, edges: Edges) -> Tensor | None:
        if self.gate_weight is None or self.gate_bias is None:
            return None
        scores = (x @ self.gate_weight.to(x.dtype)).index_select(0, edges.sources)
        return (scores + self.gate_bias.to(x.dtype).index_select(0, edges.labels)).sigmoid()


def sum_edges(table: Tensor, rows: Tensor, edges: Edges, weights: Tensor | None) -> Tensor:
    """(N, G): for each token the sum, over its edges, of rows of the table, each times the weight of its edge.

    rows: (M,) int64, the row for each edge.
    weights: (M,); None for ones.

    The edges are sorted by target, so embedding_bag can sum them. It is four times as fast as index_add and does not
    store a row for each edge.
    """
    sums = F.embedding_bag(rows, table, edges.offsets, mode="sum", per_sample_weights=weights)
    return sums[:-1]  # the last row holds the missing edges of the roots


class GCN(nn.Module):
    """`layers` graph convolutions, dropout between them.

    input_size: width of the nodes.
    hidden_size: width of every layer.
    layers: number of layers, which is also the number of arcs over which information travels.
    edge_labels, relations: see GraphConvolution.
    dropout_rate: rate, or None for the rate of `[training] dropout`.

    Shape: x (N, input_size), edges -> (N, hidden_size), not negative.
    """

    def __init__(
        self,
        input_size: int,
        *,
        hidden_size: int,
        layers: int = 2,
        edge_labels: str = "none",
        relations: int = 1,
        dropout_rate: float | None = None,
    ) -> None:
        super().__init__()
        if hidden_size < 1 or layers < 1 or relations < 1:
            raise ValueError(
                f"GCN: hidden_size, layers and relations must be positive, got {hidden_size}, {layers}, {relations}"
            )
        self.output_size = hidden_size
        widths = [input_size] + [hidden_size] * (layers - 1)
        self.layers = nn.ModuleList(
            GraphConvolution(width, hidden_size, edge_labels=edge_labels, relations=relations) for width in widths
        )
        self.dropout = dropout(dropout_rate)

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = layer(self.dropout(x) if i else x, edges)
        return x
