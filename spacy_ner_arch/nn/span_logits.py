"""The spans of a batch, and a hidden layer over them that is computed a few hundred spans at a time.

The hidden layer has a row for each span, so it is never kept: the backward pass recomputes it.

Letters: B documents, T tokens with padding, N tokens without, D width of a token vector, W longest span in tokens, S
spans, H width of the hidden layer, C classes.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .batch import Batch, send

# Number of spans that a CPU or a GPU computes at the same time.
CPU_SPANS, GPU_SPANS = 320, 2_048


class Block(NamedTuple):
    """Consecutive spans of a SpanList, and the range of tokens that they cover. Ends are exclusive."""

    first: int
    last: int
    low: int
    high: int


def list_spans(
    lengths: np.ndarray, max_width: int, candidates: Sequence[np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """First token and width of the candidate spans, (S,) each; see SpanList. lengths: (B,), tokens of each document."""
    ends = lengths.cumsum()
    if candidates is None:
        tokens = np.arange(lengths.sum())
        capacity = np.minimum(np.repeat(ends, lengths) - tokens, max_width)
        token = np.repeat(tokens, capacity)
        before = np.repeat(capacity.cumsum() - capacity, capacity)
        return token, np.arange(len(token)) - before + 1
    counts = [len(spans) for spans in candidates]
    start, end = np.concatenate(candidates).astype(np.int64).reshape(-1, 2).T
    width = end - start
    if ((start < 0) | (width < 1) | (width > max_width) | (end > np.repeat(lengths, counts))).any():
        raise ValueError(f"candidates must lie within their documents and have 1 to {max_width} tokens")
    keys = np.unique((np.repeat(ends - lengths, counts) + start) * (max_width + 1) + width)
    # Each width from 1 to max_width has a different remainder.
    return keys // (max_width + 1), keys % (max_width + 1)


def cut_spans(token: np.ndarray, end: np.ndarray, first: int, last: int, size: int, reach: int) -> Iterator[Block]:
    """See SpanList.cut. token, end: (S,), first token of each span, and the one after its last."""
    while first < last:
        low = int(token[first])
        stop = min(first + size, last, int(np.searchsorted(token, low + reach)))
        yield Block(first, stop, low, int(end[first:stop].max()))
        first = stop


class SpanList:
    """The candidate spans of a batch without duplicates, sorted by start and width.

    Tokens are numbered over all documents, without padding.

    batch: the documents.
    max_width: longest span in tokens.
    candidates: for each document, start and end (exclusive) of its candidates, (C, 2); None for all spans of up to
        max_width tokens.
    """

    token: Tensor  # (S,) int64, first token of each span
    width: Tensor  # (S,) int64

    def __init__(self, batch: Batch, max_width: int, candidates: Sequence[np.ndarray] | None = None) -> None:
        token, width = list_spans(batch.lengths, max_width, candidates)
        # Each span has one number as its key; widths from 0 to max_width + 1 fit into it.
        self.base = max_width + 2
        self._token, self._end = token, token + width
        self.token, self.width = send([token, width], batch.device)
        self.keys = self.token * self.base + self.width
        self.tokens, self.longest = int(batch.lengths.sum()), min(max_width, batch.mask.shape[1])

    def __len__(self) -> int:
        return len(self._token)

    def cut(self, first: int, last: int, size: int, reach: int) -> Iterator[Block]:
        """Cut a range of spans into blocks of at most `size` spans that begin within `reach` tokens."""
        return cut_spans(self._token, self._end, first, last, size, reach)

    def find(self, token: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
        """The row of each of these spans, and whether it is in the list."""
        keys = token * self.base + width.clamp(0, self.base - 1)
        row = torch.searchsorted(self.keys, keys).clamp(max=len(self) - 1)
        return row, self.keys[row] == keys

    def touched(self, tokens: Tensor) -> Tensor:
        """(S,) bool: whether the span contains any of the given tokens, (N,) bool."""
        before = F.pad(tokens.cumsum(0), (1, 0))
        return before[self.token + self.width] > before[self.token]

    def scatter(self, values: Tensor, fill: Tensor) -> Tensor:
        """(S, ...) -> (N, W, ...), W the longest width of the batch, with `fill` where there is no span."""
        filled = fill.expand(self.tokens * self.longest, *values.shape[1:])
        cells = self.token * self.longest + self.width - 1
        return filled.index_copy(0, cells, values).view(self.tokens, self.longest, *values.shape[1:])


class Chunk(NamedTuple):
    """A block for SpanLogits: tensors on the device, tokens counted from the first one of the block."""

    start: Tensor  # (m,) int64, first token of each span
    width: Tensor  # (m,) int64
    tokens: slice  # the tokens of the block in the tables

    def window(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The inputs of SpanLogits for this block: the first three, and its rows of the tables."""
        return [*inputs[:3], *(table[self.tokens] for table in inputs[3:])]


class SpanLogits(torch.autograd.Function):
    """Logits (S, C) of the spans of all chunks, computed chunk by chunk in both passes.

    Plain autograd would keep the hidden layer of all spans, and allocate a gradient of the size of the tables per
    chunk.

    rate, seed: rate and random seed of the dropout.
    inputs: `length` (W, H), `weight` (C, H), `bias` (C), then the tables of `hidden_layer`.
    """

    @staticmethod
    def forward(ctx: Any, chunks: list[Chunk], rate: float, seed: int, *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(*inputs)
        ctx.chunks, ctx.rate, ctx.seed = chunks, rate, seed
        logits = [chunk_logits(chunk, rate, seed + i, *chunk.window(inputs)) for i, chunk in enumerate(chunks)]
        return torch.cat(logits) if logits else inputs[2].new_zeros((0, len(inputs[2])))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        inputs, needed = ctx.saved_tensors, ctx.needs_input_grad[3:]
        totals = [torch.zeros_like(tensor, memory_format=torch.contiguous_format) for tensor in inputs]
        done = 0
        for i, chunk in enumerate(ctx.chunks):
            with torch.enable_grad():
                local = [x.detach().requires_grad_(need) for x, need in zip(chunk.window(inputs), needed, strict=True)]
                logits = chunk_logits(chunk, ctx.rate, ctx.seed + i, *local)
                logits.backward(grad[done : done + len(logits)])
            done += len(logits)
            for total, x in zip(chunk.window(totals), local, strict=True):
                if x.grad is not None:
                    total += x.grad
        return None, None, None, *(total if need else None for total, need in zip(totals, needed, strict=True))


def chunk_logits(
    chunk: Chunk, rate: float, seed: int, length: Tensor, weight: Tensor, bias: Tensor, *tables: Tensor
) -> Tensor:
    """Logits (m, C) of the m spans of a chunk."""
    hidden = F.gelu(hidden_layer(chunk, length, *tables))
    if not rate:
        return torch.addmm(bias, hidden, weight.t())
    # Sampling 16-bit integers takes a quarter of the time of sampling floats, which would be a third of the whole
    # layer.
    dropped = min(round(rate * 65_536), 65_535)
    generator = torch.Generator(hidden.device).manual_seed(seed)
    bits = torch.empty((hidden.numel() + 3) // 4, dtype=torch.int64, device=hidden.device)
    numbers = bits.random_(-(2**63), None, generator=generator).view(torch.int16)[: hidden.numel()]
    hidden = hidden.mul_((numbers.view_as(hidden) >= dropped - 32_768).to(hidden.dtype))
    return torch.addmm(bias, hidden, weight.t(), alpha=65_536 / (65_536 - dropped))


def hidden_layer(
    chunk: Chunk,
    length: Tensor,
    start: Tensor,
    end: Tensor,
    mean: Tensor | None = None,
    scores: Tensor | None = None,
) -> Tensor:
    """W1 v + b1 of the m spans of a chunk, (m, H).

    length: (W, H), the part of W1 v that depends on the length of the span, with b1.
    start, end, mean: (n, H), the parts that depend on the first token, the last token, and the mean of the tokens.
    scores: (n,), attention scores of the tokens; None (like `mean`) to leave out the mean.
    """
    hidden = start.index_select(0, chunk.start)
    hidden += end.index_select(0, chunk.start + chunk.width - 1)
    hidden += length.index_select(0, chunk.width - 1)
    if mean is None or scores is None:
        return hidden
    # The spans of a chunk are close to each other, so one small matrix of attention weights is the fastest way to pool.
    place = torch.arange(scores.shape[0], device=scores.device) - chunk.start.unsqueeze(1)
    inside = (place >= 0) & (place < chunk.width.unsqueeze(1))
    return hidden.addmm_(torch.where(inside, scores, -torch.inf).softmax(1), mean)
