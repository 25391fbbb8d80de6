"""Entities and candidate pairs of a batch as tensors, and operations on the rows of their tokens.

Letters: B documents, T tokens with padding, E entities, P pairs, G regions, L tokens of the longest region.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .batch import send
from .dropout import sampling_again, sampling_state
from .precision import wide

# Maximum number of steps (pairs or regions times L), and of pairs, whose states are in memory at the same time.
CPU_STEPS, GPU_STEPS = 8_192, 131_072
CPU_PAIRS, GPU_PAIRS = 4_096, 65_536
# In training, the activations of the first KEPT_PIECES pieces are kept. Those of later pieces are recomputed in the
# backward pass, so that memory does not grow with the number of pairs.
KEPT_PIECES = 4


class PairLayout(NamedTuple):
    """Arrays on the host from which the pairs are cut into pieces. The pairs are in the order of their regions."""

    regions: np.ndarray  # (P,) row of G, ascending
    lengths: np.ndarray  # (G,) tokens of the regions
    tokens: np.ndarray  # (G, 2) first token and exclusive end of the regions among all B * T
    entities: np.ndarray  # (P, 2) smaller and larger row of E
    between: np.ndarray  # (P, 2) first token and exclusive end between the entities, among all B * T


class Pairs(NamedTuple):
    """Entities and candidate pairs of a batch, on the device of the token vectors; pairs in order of documents.

    A region is the context by which a pair is classified: a range of tokens that contains both entities, such as the
    sentences that they span. Entities may overlap and start at the same token.
    """

    documents: Tensor  # (E,) int64, number of the document
    starts: Tensor  # (E,) first token
    ends: Tensor  # (E,) exclusive
    types: Tensor  # (E,) number of the type from 1; 0 for a type that the model does not know
    heads: Tensor  # (P,) row of E
    tails: Tensor  # (P,) row of E
    regions: Tensor  # (P,) row of G
    order: Tensor  # (P,) row of P: the pairs in the order of their regions
    rank: Tensor  # (P,) position of each pair in that order
    region_documents: Tensor  # (G,) ascending
    region_starts: Tensor  # (G,) first token, ascending within a document
    region_ends: Tensor  # (G,) exclusive
    steps: int  # T
    widest: int  # tokens of the longest entity
    layout: PairLayout


class Piece(NamedTuple):
    """Some of the pairs, which follow each other in the order of their regions."""

    rows: Tensor  # (p,) row of P
    regions: slice  # rows of G
    longest: int  # tokens of the longest of these regions
    place: slice  # in the order of the regions


class PairTargets(NamedTuple):
    """Gold relations of a batch, each once."""

    rows: Tensor  # (g,) int64, row of P
    classes: Tensor  # (g,) int64, label from 0 to K - 1
    log_shares: Tensor | None = None  # (P,) log share of the pairs without a relation that were sampled; None for all


def make_pairs(candidates: Sequence[Any], steps: int, device: torch.device) -> Pairs:
    """Tensors of the candidates of all documents (annotation.candidates.Candidates), sent in one transfer.

    steps: T.
    """
    n_entities = np.array([len(found.types) for found in candidates])
    n_pairs = np.array([len(found.pairs) for found in candidates])
    documents = np.repeat(np.arange(len(candidates)), n_entities)
    starts, ends = np.concatenate([found.bounds for found in candidates]).T
    # Entities and pairs are numbered over all documents.
    before = np.repeat(n_entities.cumsum() - n_entities, n_pairs)
    heads, tails = np.concatenate([found.pairs for found in candidates]).T + before
    document_of_pair = np.repeat(np.arange(len(candidates)), n_pairs)
    spanned = np.column_stack([document_of_pair, np.concatenate([found.regions for found in candidates])])
    # Encode each row as one number, since sorting rows is slow.
    base = int(spanned.max(initial=0)) + 1
    key, region_of_pair = np.unique((spanned[:, 0] * base + spanned[:, 1]) * base + spanned[:, 2], return_inverse=True)
    regions = np.column_stack([key // base**2, key // base % base, key % base])
    region_of_pair = region_of_pair.reshape(-1)
    order = region_of_pair.argsort(kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    types = np.concatenate([found.types for found in candidates])
    columns = [documents, starts, ends, types, heads, tails, region_of_pair, order, rank, *regions.T]
    sent = send([column.astype(np.int64) for column in columns], device)
    widest = int((ends - starts).max(initial=1))
    first, second = heads[order], tails[order]
    between = np.column_stack([np.minimum(ends[first], ends[second]), np.maximum(starts[first], starts[second])])
    layout = PairLayout(
        regions=region_of_pair[order],
        lengths=regions[:, 2] - regions[:, 1],
        tokens=steps * regions[:, :1] + regions[:, 1:],
        entities=np.column_stack([np.minimum(first, second), np.maximum(first, second)]),
        between=steps * document_of_pair[order][:, None] + between,
    )
    return Pairs._make([*sent, steps, widest, layout])


def token_rows(numbers: Tensor, starts: Tensor, ends: Tensor, steps: int, longest: int) -> tuple[Tensor, Tensor]:
    """Rows of the tokens of spans in a table with `steps` rows per number.

    Returns the rows, (spans, longest), and whether each is inside its span. Rows outside repeat the last token of the
    span, so that padding is never read.
    """
    here = starts.unsqueeze(1) + torch.arange(longest, device=starts.device)
    end = ends.unsqueeze(1)
    return steps * numbers.unsqueeze(1) + here.minimum(end - 1), here < end


def mean_rows(table: Tensor, rows: Tensor, inside: Tensor) -> Tensor:
    """Mean of the rows inside each span, (spans, width) in at least float32."""
    table = table.to(wide(table))
    weight = inside.to(table.dtype)
    # embedding_bag sums rows without copying them; regions share their tokens.
    return F.embedding_bag(rows, table, mode="sum", per_sample_weights=weight / weight.sum(1, keepdim=True))


def max_rows(table: Tensor, starts: Tensor, lengths: Tensor, longest: int) -> Tensor:
    """Element-wise maximum over `lengths` (n,) rows from `starts` on, (n, width); zeros for ranges without a row.

    Uses a sparse table: level k contains the maximum over 2^k rows from each row on, and any range is covered by two of
    these, which may overlap. The time does not depend on the lengths.
    """
    levels = [table]
    while 2 ** len(levels) <= longest:
        half = 2 ** (len(levels) - 1)
        last = levels[-1]
        levels.append(torch.cat([last[:-half].maximum(last[half:]), last[-half:]]))
    # Compare with powers, which is exact for integers, unlike the logarithm of a float.
    powers = 2 ** torch.arange(1, len(levels), device=table.device)
    level = (lengths.unsqueeze(1) >= powers).sum(1)
    left = level * len(table) + starts
    right = left + lengths - 2**level
    nothing = lengths < 1
    every = torch.cat(levels)
    ends = [take(every, place.masked_fill(nothing, 0)) for place in (left, right)]
    return ends[0].maximum(ends[1]).masked_fill(nothing.unsqueeze(1), 0.0)


def take(table: Tensor, rows: Tensor) -> Tensor:
    """`table[rows]` for (n,) rows. On a CPU, the gradient of embedding_bag is several times as fast as that of an
    index."""
    return F.embedding_bag(rows.unsqueeze(1), table, mode="sum")


def region_rows(pairs: Pairs, regions: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """`token_rows` of the given regions, (n, longest), among all B * T tokens."""
    numbers, starts, ends = pairs.region_documents, pairs.region_starts, pairs.region_ends
    return token_rows(numbers[regions], starts[regions], ends[regions], pairs.steps, longest)


def distances(pairs: Pairs, regions: Tensor, entities: Tensor, longest: int, furthest: int) -> Tensor:
    """Distance in tokens from an entity to each token of a region, as rows of an embedding table, (n, longest).

    0 within the entity, negative before it, positive after it, clamped to +-furthest, plus furthest.
    """
    here = pairs.region_starts[regions].unsqueeze(1) + torch.arange(longest, device=regions.device)
    before = (here - pairs.starts[entities].unsqueeze(1)).clamp_max(0)
    behind = (here - pairs.ends[entities].unsqueeze(1) + 1).clamp_min(0)
    return (before + behind).clamp(-furthest, furthest) + furthest


# Pieces

# Steps that the first pair, the first two pairs, ... need: ascending, with the pairs in the order of their regions.
Cost = Callable[[PairLayout, slice], np.ndarray]


def steps_by_pair(layout: PairLayout, place: slice) -> np.ndarray:
    """Each pair reads its region, padded to the longest one."""
    lengths = np.maximum.accumulate(layout.lengths[layout.regions[place]])
    return lengths * np.arange(1, len(lengths) + 1)


def steps_by_region(layout: PairLayout, place: slice) -> np.ndarray:
    """Each region is read once, padded to the longest one. A single region costs nothing: it cannot be cut."""
    regions = layout.regions[place]
    others = regions - regions[0]
    return np.maximum.accumulate(layout.lengths[regions]) * (others + (others > 0))


def in_pieces(module: nn.Module, pairs: Pairs, cost: Cost, compute: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Rows (P, C) of all pairs, in order of documents, computed for a piece of the pairs at a time.

    module: owner of the parameters that `compute` reads.
    cost: how many pairs fit into a piece; each has at least one.
    compute: called with a piece and the inputs; returns the rows (p, C) of its pairs.
    inputs: all tensors besides the parameters that `compute` passes a gradient to.
    """
    every = list(pieces(pairs, cost))
    kept = every[:KEPT_PIECES] if torch.is_grad_enabled() else every
    results = [compute(piece, *inputs) for piece in kept]
    if len(kept) < len(every):
        rest = every[len(kept) :]
        results.append(Recomputed.apply(compute, rest, results[0], len(inputs), *inputs, *module.parameters()))
    rows = results[0] if len(results) == 1 else torch.cat(results)
    return rows.index_select(0, pairs.rank)


class Recomputed(torch.autograd.Function):
    """Compute the rows of pieces without a graph. The backward pass rebuilds the graph of one piece at a time.

    This is like torch.utils.checkpoint, which however keeps the graph nodes of all pieces. These fragment the memory
    between large tensors: 1.8 instead of 0.2 GB for 9,900 pairs of ACNNPairs.
    """

    @staticmethod
    def forward(
        ctx: Any, compute: Callable[..., Tensor], pieces: Sequence[Piece], like: Tensor, count: int, *tensors: Tensor
    ) -> Tensor:
        """like: rows of another piece. tensors: `count` inputs, then the parameters."""
        ctx.compute, ctx.pieces, ctx.count = compute, pieces, count
        ctx.save_for_backward(*tensors)
        kind = like.device.type
        ctx.autocast = kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
        ctx.random = sampling_state(like.device)
        first = pieces[0].place.start
        rows = like.new_empty(pieces[-1].place.stop - first, like.shape[1])
        for piece in pieces:
            rows[piece.place.start - first : piece.place.stop - first] = compute(piece, *tensors[:count])
        return rows

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, parameters = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        inputs = [x.detach().requires_grad_(x.requires_grad) for x in inputs]
        sources = [x for x in (*inputs, *parameters) if x.requires_grad]
        sums: list[Tensor | None] = [None] * len(sources)
        kind, dtype, enabled = ctx.autocast
        parts = gradient.split([len(piece.rows) for piece in ctx.pieces])
        # The pieces sample the same dropout as before, in the same order.
        with sampling_again(ctx.random):
            for piece, own in zip(ctx.pieces, parts, strict=True):
                with torch.enable_grad(), torch.autocast(kind, dtype, enabled=enabled):
                    rows = ctx.compute(piece, *inputs)
                for i, found in enumerate(torch.autograd.grad(rows, sources, own, allow_unused=True)):
                    total = sums[i]
                    sums[i] = found if total is None else total if found is None else total.add_(found)
        found_sums = iter(sums)
        return (None,) * 4 + tuple(next(found_sums) if x.requires_grad else None for x in (*inputs, *parameters))


def pieces(pairs: Pairs, cost: Cost) -> Iterator[Piece]:
    """Cut the pairs into pieces, since all their states at once would need gigabytes."""
    layout, on_cpu = pairs.layout, pairs.heads.device.type == "cpu"
    most_steps, most_pairs = (CPU_STEPS, CPU_PAIRS) if on_cpu else (GPU_STEPS, GPU_PAIRS)
    count, first = len(layout.regions), 0
    while first < count:
        steps = cost(layout, slice(first, min(count, first + most_pairs)))
        place = slice(first, first + max(1, int(np.searchsorted(steps, most_steps, side="right"))))
        regions = slice(int(layout.regions[place][0]), int(layout.regions[place][-1]) + 1)
        yield Piece(pairs.order[place], regions, int(layout.lengths[regions].max()), place)
        first = place.stop
