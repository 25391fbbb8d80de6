"""Pair models over the mean vectors of both entities and their context.

The first layer is linear in the parts of a pair, so each part is projected once per entity and per context, and pairs
only add rows.

Letters: B documents, T tokens with padding, E entities, P pairs, G regions, L tokens of the longest region, D width of
a token vector, K labels, C classes, H width of the hidden layer.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .batch import Batch
from .growth import grown_embedding
from .head import check_factors
from .pair_head import PairHead
from .pair_tensors import (
    PairLayout,
    Pairs,
    PairTargets,
    Piece,
    in_pieces,
    max_rows,
    mean_rows,
    region_rows,
    steps_by_region,
)
from .precision import wide

# Number of steps per token in steps_between, since max_rows keeps several rows per token.
LEVELS = 2


class SoftmaxPairs(PairHead):
    """A hidden layer over both entities and their context, and a linear layer over it and the entity types.

        f = LN(GELU(W LN([Dropout(e1); Dropout(e2); Dropout(c)]) + b))
        logits = W' Dropout([LN([t1; t2]); f]) + b'

    e is the mean of an entity's tokens, t the embedding of an entity's type. The context c is the mean of the region or
    the element-wise maximum over the tokens between the two entities (zeros without such a token). Dropout is sampled
    once per entity and per context (of a piece of the pairs, see `pair_tensors.pieces`), so that with gain g and bias s
    of the first LN

        W LN(z) = (W diag(g) z - mean(z) W g) / sigma(z) + W s

    only mean(z) and sigma(z) are computed for each pair, from those of its parts.

    hidden_size: width H of the hidden layer; None for D.
    context: `sentences` or `between`.
    Other arguments and shapes: see PairHead.
    Source: BERTSoftmax of NERE, and Wu and He 2019 (R-BERT) is much like it; `between` from Eberts and Ulges 2020.
    """

    def __init__(
        self,
        input_size: int,
        *,
        hidden_size: int | None = None,
        context: str = "between",
        type_size: int = 50,
        **settings: Any,
    ) -> None:
        super().__init__(input_size, type_size=type_size, **settings)
        if context not in ("sentences", "between"):
            raise ValueError(f"{type(self).__name__}: context must be 'sentences' or 'between', got {context!r}")
        self.context = context
        hidden_size = self.width if hidden_size is None else hidden_size
        self.norm = nn.LayerNorm(3 * self.width)
        self.hidden = nn.Linear(3 * self.width, hidden_size)
        self.hidden_norm = nn.LayerNorm(hidden_size)
        self.type_norm = nn.LayerNorm(2 * type_size) if type_size else None
        self.output = self.output_layer(2 * type_size + hidden_size)

    def logits(self, x: Tensor, batch: Batch) -> Tensor:
        pairs: Pairs = batch.items
        # Compute in float32: there are few products, one row per entity and context, and subtracting means needs it.
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(wide(x))
            entities = self.dropout(self.mean_entities(x, pairs))
            weight = self.hidden.weight * self.norm.weight
            gain = weight.sum(1) / 3
            head, tail, context = weight.split(self.width, dim=1)
            table = torch.cat([project(entities, part, gain) for part in (head, tail)])
            cost = steps_by_region if self.context == "sentences" else steps_between
            inputs = (x.flatten(0, 1), entities, table, context, gain)
            return in_pieces(self, pairs, cost, partial(self._piece, pairs), *inputs)

    def _piece(self, pairs: Pairs, piece: Piece, *inputs: Tensor) -> Tensor:
        """Logits of some of the pairs, (p, C). inputs: see `_hidden`."""
        assert self.output is not None
        f = self.hidden_norm(F.gelu(self._hidden(pairs, piece, *inputs)))
        type_weight, weight = self.output.weight.split([2 * self.type_size, f.shape[1]], dim=1)
        # The gradient of a slice that is not contiguous takes ten times as long.
        logits = F.linear(self.dropout(f), weight.contiguous(), self.output.bias)
        if self.type_norm is None:
            return logits
        types = self.type_norm(torch.cat(self.type_parts(pairs, piece.rows), dim=1))
        return logits + F.linear(self.dropout(types), type_weight.contiguous())

    def _hidden(
        self,
        pairs: Pairs,
        piece: Piece,
        tokens: Tensor,
        entities: Tensor,
        table: Tensor,
        weight: Tensor,
        gain: Tensor,
    ) -> Tensor:
        """W LN(z) + b of some of the pairs, (p, H).

        tokens: (B * T, D). entities: means (E, D). table: projections (2 * E, H) of all entities as heads, then as
        tails. weight, gain: arguments of `project` for contexts.
        """
        heads, tails = pairs.heads.index_select(0, piece.rows), pairs.tails.index_select(0, piece.rows)
        contexts, own = self._contexts(tokens, pairs, piece)
        contexts = self.dropout(contexts)
        rows = torch.stack([heads, len(entities) + tails, 2 * len(entities) + own], dim=1)
        table = torch.cat([table, project(contexts, weight, gain)])

        both = torch.cat([entities, entities, contexts])
        mean = both.mean(1).index_select(0, rows.flatten()).view(rows.shape)
        within = both.var(1, correction=0).index_select(0, rows.flatten()).view(rows.shape)
        variance = within.mean(1, keepdim=True) + mean.var(1, correction=0, keepdim=True)
        scale = (variance + self.norm.eps).rsqrt().expand(rows.shape).contiguous()
        constant = F.linear(self.norm.bias, self.hidden.weight, self.hidden.bias)
        return F.embedding_bag(rows, table, mode="sum", per_sample_weights=scale) + constant

    def _contexts(self, tokens: Tensor, pairs: Pairs, piece: Piece) -> tuple[Tensor, Tensor]:
        """Contexts (., D), and the row of the context of each pair of the piece (p,)."""
        if self.context == "sentences":
            every = torch.arange(piece.regions.start, piece.regions.stop, device=tokens.device)
            means = mean_rows(tokens, *region_rows(pairs, every, piece.longest))
            return means, pairs.regions.index_select(0, piece.rows) - piece.regions.start
        spans = pairs.layout.between[piece.place]
        longest = int((spans[:, 1] - spans[:, 0]).max())
        low = min(int(spans.min()), len(tokens) - 1)  # there is at least one token, to be masked
        high = max(int(spans.max()), low + 1)
        heads, tails = pairs.heads.index_select(0, piece.rows), pairs.tails.index_select(0, piece.rows)
        first = pairs.ends[heads].minimum(pairs.ends[tails])
        last = pairs.starts[heads].maximum(pairs.starts[tails])
        offset = pairs.steps * pairs.documents[heads] - low
        between = max_rows(tokens[low:high], offset + first, last - first, longest)
        return between, torch.arange(len(heads), device=tokens.device)


def project(vectors: Tensor, weight: Tensor, gain: Tensor) -> Tensor:
    """W diag(g) z - mean(z) W g for a z that is zero outside one of its three parts, (n, H).

    vectors: (n, D), the part. weight: (H, D), W diag(g) there. gain: (H,), W g / 3.
    """
    return F.linear(vectors, weight) - torch.outer(vectors.mean(1), gain)


def steps_between(layout: PairLayout, place: slice) -> np.ndarray:
    """Number of tokens between the first and the last token of the piece, each read once, less those of the widest
    pair."""
    first, last = layout.between[place].T
    reach = np.maximum.accumulate(last) - np.minimum.accumulate(first)
    return LEVELS * np.maximum.accumulate(reach - np.maximum.accumulate(last - first))


class MultitaskPairs(SoftmaxPairs):
    """SoftmaxPairs with TransE as a second task: the tail's vector should be the head's plus the label's.

    For each gold relation, with e without dropout:

        d(r) = ||e1 + LN(l_r) - e2||^2        hinge = max(0, d(gold) - d(corrupt) + 1)

    The corrupt label is sampled from the labels that the pair does not have. Symmetric labels are left out, since their
    vector would have to point in both directions. With only one label there is no hinge.

    transe_weight: factor of the hinge. Hinge and cross entropy are sums times `loss_scale`; several labels of one pair
        share its hinge. The published weights (1e-5 alone, 0.01 joint) relate a mean over pairs with a relation to a
        mean over all pairs: multiply them by the number of pairs per related pair.
    Other arguments and shapes: see SoftmaxPairs. The training log shows the term as `NAME_transe`.
    Source: BERTMultitask of NERE; Bordes et al. 2013 (TransE).
    """

    terms = ("transe",)

    def __init__(self, input_size: int, *, transe_weight: float = 1e-5, **settings: Any) -> None:
        super().__init__(input_size, **settings)
        check_factors(transe_weight=transe_weight)
        self.transe_weight = transe_weight
        self.transe = TransE(len(self.labels), self.width)

    def additional_losses(self, x: Tensor, pairs: Pairs, targets: PairTargets, has_label: Tensor) -> dict[str, Tensor]:
        rows, classes, _ = targets
        entities = self.mean_entities(x, pairs)
        difference = entities.index_select(0, pairs.heads[rows]) - entities.index_select(0, pairs.tails[rows])
        corrupt, exists = corrupt_labels(has_label.index_select(0, rows))
        weight = (exists & ~self.both_ways[classes]) / has_label.sum(1)[rows]
        # Use a sum, like the loss: a mean would depend on how batches are cut.
        return {"transe": self.transe_weight * (weight * self.transe(difference, classes, corrupt)).sum()}

    def _resize_labels(self, labels: Sequence[str]) -> None:
        super()._resize_labels(labels)
        self.transe.labels = grown_embedding(self.transe.labels, labels, self.labels)


class TransE(nn.Module):
    """Margin loss between the gold label and a corrupt one, by squared distance.

        d(r) = ||e1 + LN(l_r) - e2||^2        hinge = max(0, d(gold) - d(corrupt) + 1)

    labels: number K of labels.
    size: width D of an entity.

    Shape: difference e1 - e2 (g, D), gold and corrupt (g,) int64 -> hinge (g,).
    Source: Bordes et al. 2013; the LayerNorm is that of NERE.
    """

    def __init__(self, labels: int, size: int) -> None:
        super().__init__()
        self.labels = nn.Embedding(labels, size)
        self.norm = nn.LayerNorm(size)

    def forward(self, difference: Tensor, gold: Tensor, corrupt: Tensor) -> Tensor:
        translations = self.norm(self.labels.weight)

        def distance(label: Tensor) -> Tensor:
            return (difference + translations.index_select(0, label)).square().sum(-1)

        return F.relu(distance(gold) - distance(corrupt) + 1)


def corrupt_labels(has_label: Tensor) -> tuple[Tensor, Tensor]:
    """Sample a negative label for each row, uniformly from the labels that the pair does not have.

    has_label: (g, K), 1 where a pair has a label, else 0.
    Returns the labels (g,), and whether there is such a label (g,) bool.
    """
    draw = torch.rand_like(has_label).masked_fill(has_label > 0, -1.0)
    best = draw.max(1)
    return best.indices, best.values >= 0
