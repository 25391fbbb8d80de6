"""Entities and candidate pairs of a batch as tensors, and operations on the rows of their tokens.

Letters: B documents, T tokens with padding, E entities, P pairs, G regions, L tokens of the longest region.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .batch import send

# Steps (pairs or regions times L) whose states exist at the same time.
CPU_STEPS, GPU_STEPS = 16_384, 131_072


class Pairs(NamedTuple):
    """Entities and candidate pairs of a batch, on the device of the token vectors; pairs in order of documents.

    A region is the range of tokens that a pair is judged by, such as the sentences that it spans; it contains both
    entities. Entities may overlap and start at the same token.
    """

    documents: Tensor  # (E,) int64, number of the document
    starts: Tensor  # (E,) first token
    ends: Tensor  # (E,) exclusive
    types: Tensor  # (E,) number of the type from 1; 0 for a type that the model does not know
    heads: Tensor  # (P,) row of E
    tails: Tensor  # (P,) row of E
    regions: Tensor  # (P,) row of G
    region_documents: Tensor  # (G,)
    region_starts: Tensor  # (G,) first token
    region_ends: Tensor  # (G,) exclusive
    widest: int  # tokens of the longest entity
    longest: int  # L


class PairTargets(NamedTuple):
    """Gold relations of a batch, each once."""

    rows: Tensor  # (g,) int64, row of P
    classes: Tensor  # (g,) int64, label from 0 to K - 1


def make_pairs(candidates: Sequence[Any], device: torch.device) -> Pairs:
    """Tensors of the candidates of all documents (annotation.candidates.Candidates), sent in one transfer."""
    n_entities = np.array([len(found.types) for found in candidates])
    n_pairs = np.array([len(found.pairs) for found in candidates])
    documents = np.repeat(np.arange(len(candidates)), n_entities)
    starts, ends = np.concatenate([found.bounds for found in candidates]).T
    # Entities and pairs are numbered over all documents.
    before = np.repeat(n_entities.cumsum() - n_entities, n_pairs)
    heads, tails = np.concatenate([found.pairs for found in candidates]).T + before
    document_of_pair = np.repeat(np.arange(len(candidates)), n_pairs)
    spanned = np.column_stack([document_of_pair, np.concatenate([found.regions for found in candidates])])
    regions, region_of_pair = np.unique(spanned, axis=0, return_inverse=True)
    types = np.concatenate([found.types for found in candidates])
    columns = [documents, starts, ends, types, heads, tails, region_of_pair.reshape(-1), *regions.T]
    sent = send(np.concatenate(columns).astype(np.int64), device).split([len(column) for column in columns])
    widest = int((ends - starts).max(initial=1))
    longest = int((regions[:, 2] - regions[:, 1]).max(initial=1))
    return Pairs._make([*sent, widest, longest])


def wide(x: Tensor) -> torch.dtype:
    """At least float32."""
    return torch.promote_types(x.dtype, torch.float32)


def token_rows(numbers: Tensor, starts: Tensor, ends: Tensor, steps: int, longest: int) -> tuple[Tensor, Tensor]:
    """Rows of the tokens of spans in a table with `steps` rows per number.

    Returns the rows, (spans, longest), and whether each is inside its span. The others repeat the last token of the
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
    # Exact for integers, unlike the logarithm of a float.
    powers = 2 ** torch.arange(1, len(levels), device=table.device)
    level = (lengths.unsqueeze(1) >= powers).sum(1)
    left = level * len(table) + starts
    right = left + lengths - 2**level
    nothing = lengths < 1
    every = torch.cat(levels)
    ends = [take(every, place.masked_fill(nothing, 0)) for place in (left, right)]
    return ends[0].maximum(ends[1]).masked_fill(nothing.unsqueeze(1), 0.0)


def take(table: Tensor, rows: Tensor) -> Tensor:
    """`table[rows]` for (n,) rows. The gradient of a bag is several times as fast as that of an index on a CPU."""
    return F.embedding_bag(rows.unsqueeze(1), table, mode="sum")


def region_rows(pairs: Pairs, regions: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """`token_rows` of the given regions, (n, L), in a table of `steps` rows for each document."""
    numbers, starts, ends = pairs.region_documents, pairs.region_starts, pairs.region_ends
    return token_rows(numbers[regions], starts[regions], ends[regions], steps, pairs.longest)


def distances(pairs: Pairs, regions: Tensor, entities: Tensor, furthest: int) -> Tensor:
    """Distance in tokens from an entity to each token of a region, as rows of an embedding table, (n, L).

    0 within the entity, negative before it, positive after it, clamped to +-furthest, plus furthest.
    """
    here = pairs.region_starts[regions].unsqueeze(1) + torch.arange(pairs.longest, device=regions.device)
    before = (here - pairs.starts[entities].unsqueeze(1)).clamp_max(0)
    behind = (here - pairs.ends[entities].unsqueeze(1) + 1).clamp_min(0)
    return (before + behind).clamp(-furthest, furthest) + furthest


def pieces(count: int, longest: int, device: torch.device) -> Iterator[slice]:
    """Cut `count` rows of `longest` steps into pieces, since all their states at once would need gigabytes."""
    size = max(1, (CPU_STEPS if device.type == "cpu" else GPU_STEPS) // max(1, longest))
    return (slice(first, first + size) for first in range(0, count, size))
