"""Entities and candidate pairs of a batch, and the rows of their tokens in a table.

Letters: B documents, T tokens with padding, E entities, P pairs, G regions, L tokens of the longest region.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

# Steps (pairs or regions times L) whose states exist at the same time.
CPU_STEPS, GPU_STEPS = 16_384, 131_072


class Pairs(NamedTuple):
    """Entities and candidate pairs of a batch, on the device of the token vectors, the pairs in order of documents.

    A region is the sentences that a pair spans, or whatever else it is to be judged by: it holds both entities.
    Entities may overlap, and share starts.
    """

    documents: Tensor  # (E,) int64, number of the document
    starts: Tensor  # (E,) first token
    ends: Tensor  # (E,) behind the last token
    types: Tensor  # (E,) 0 for a type that is unknown, else 1 + its number
    heads: Tensor  # (P,) row of E
    tails: Tensor  # (P,) row of E
    regions: Tensor  # (P,) row of G
    region_documents: Tensor  # (G,)
    region_starts: Tensor  # (G,) first token
    region_ends: Tensor  # (G,) behind the last token
    reverse: Tensor  # (P,) the pair with both exchanged, or the pair itself if that is no candidate
    slots: Tensor  # (P,) place among B * most
    most: int  # largest number of pairs of a document, at least 1
    widest: int  # tokens of the longest entity
    longest: int  # L

    def select(self, kept: Tensor) -> "Pairs":
        """Only these pairs, of the same entities and regions. They keep their `slots`, places among all the pairs;
        `reverse` has no meaning any more."""
        pairs = (self.heads, self.tails, self.regions, self.reverse, self.slots)
        heads, tails, regions, reverse, slots = (column.index_select(0, kept) for column in pairs)
        return self._replace(heads=heads, tails=tails, regions=regions, reverse=reverse, slots=slots)


def wide(x: Tensor) -> torch.dtype:
    """At least float32."""
    return torch.promote_types(x.dtype, torch.float32)


def token_rows(numbers: Tensor, starts: Tensor, ends: Tensor, steps: int, longest: int) -> tuple[Tensor, Tensor]:
    """Places of the tokens of some spans in a table of `steps` rows for each number, both (spans, longest).

    Returns the rows, and which of them are inside their span. The others repeat its last token: padding, which may hold
    anything, is never looked at.
    """
    here = starts.unsqueeze(1) + torch.arange(longest, device=starts.device)
    end = ends.unsqueeze(1)
    return steps * numbers.unsqueeze(1) + here.minimum(end - 1), here < end


def mean_rows(table: Tensor, rows: Tensor, inside: Tensor) -> Tensor:
    """Means of the rows that are inside, (spans, width) in at least float32."""
    table = table.to(wide(table))
    weight = inside.to(table.dtype)
    # A bag sums rows of the table without a copy of each of them: regions share their tokens.
    return F.embedding_bag(rows, table, mode="sum", per_sample_weights=weight / weight.sum(1, keepdim=True))


def max_rows(table: Tensor, starts: Tensor, lengths: Tensor, longest: int) -> Tensor:
    """Element-wise maximum over `lengths` (n,) rows from `starts` on, (n, width); zeros where there are none.

    A sparse table: level k holds the maximum over 2^k rows from each row on, and any number of rows is two of these,
    which may overlap. The time does not depend on the lengths.
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
    """Distance in tokens from an entity to each place of a region, (n, L): 0 within the entity, negative before it,
    positive behind it, at most `furthest`, to which it is added: these are rows of a table of 2 * furthest + 1."""
    here = pairs.region_starts[regions].unsqueeze(1) + torch.arange(pairs.longest, device=regions.device)
    before = (here - pairs.starts[entities].unsqueeze(1)).clamp_max(0)
    behind = (here - pairs.ends[entities].unsqueeze(1) + 1).clamp_min(0)
    return (before + behind).clamp(-furthest, furthest) + furthest


def pieces(count: int, longest: int, device: torch.device) -> Iterator[slice]:
    """Cut so many rows of `longest` steps into pieces, for their states would need GiBs at once."""
    size = max(1, (CPU_STEPS if device.type == "cpu" else GPU_STEPS) // max(1, longest))
    return (slice(first, first + size) for first in range(0, count, size))
