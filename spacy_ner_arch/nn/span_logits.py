"""The hidden layer over spans, and the list of the spans it is for.

What is as long as there are spans, the hidden layer, exists for a few hundred spans at a time, in training too: the
backward pass computes it again. Letters as in `spans.py`.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

# Document, start and width in tokens of each candidate, (C,) int64 each.
Candidates = tuple[Tensor, Tensor, Tensor]


class Block(NamedTuple):
    """Consecutive spans of a SpanList, and the tokens that they are on."""

    first: int  # the spans are those from `first` up to, not including, `last`
    last: int
    low: int  # likewise
    high: int


class SpanList:
    """The candidate spans of a batch, sorted by start and width, each of them once.

    Tokens are counted over all documents, padding left out.
    """

    token: Tensor  # (S,) int64, first token of each span
    width: Tensor  # (S,) int64
    rows: Tensor  # (N,) int64, place of each token among the B * T
    offsets: Tensor  # (B,) int64, first token of each document

    def __init__(self, mask: Tensor, max_width: int, candidates: Candidates | None = None) -> None:
        documents, steps = mask.shape
        lengths = mask.sum(1).cpu()
        offsets = lengths.cumsum(0) - lengths
        tokens = torch.arange(int(lengths.sum()))
        rows = tokens + (torch.arange(documents) * steps - offsets).repeat_interleave(lengths)
        # One number for a span; widths from 0 to max_width + 1 have their place in it.
        self.base = max_width + 2
        if candidates is None:
            capacity = ((offsets + lengths).repeat_interleave(lengths) - tokens).clamp(max=max_width)
            token = tokens.repeat_interleave(capacity)
            before = (capacity.cumsum(0) - capacity).repeat_interleave(capacity)
            width = torch.arange(len(token)) - before + 1
        else:
            document, start, width = (tensor.cpu() for tensor in candidates)
            if ((start < 0) | (width < 1) | (width > max_width) | (start + width > lengths[document])).any():
                raise ValueError(f"candidates must lie within their documents and have 1 to {max_width} tokens")
            keys = ((offsets[document] + start) * self.base + width).unique()
            token, width = keys // self.base, keys % self.base
        self._token, self._end = token, token + width
        self.token, self.width, self.rows, self.offsets = (
            tensor.to(mask.device, non_blocking=True) for tensor in (token, width, rows, offsets)
        )
        self.keys = self.token * self.base + self.width
        self.shape = (documents, steps, min(max_width, steps))

    def __len__(self) -> int:
        return len(self._token)

    def cut(self, first: int, last: int, size: int, reach: int) -> Iterator[Block]:
        """Blocks of at most `size` spans which begin within `reach` tokens."""
        while first < last:
            low = int(self._token[first])
            stop = min(first + size, last, int(torch.searchsorted(self._token, low + reach)))
            yield Block(first, stop, low, int(self._end[first:stop].max()))
            first = stop

    def find(self, token: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
        """The number of each of these spans, and whether it is in the list at all."""
        keys = token * self.base + width.clamp(0, self.base - 1)
        row = torch.searchsorted(self.keys, keys).clamp(max=len(self) - 1)
        return row, self.keys[row] == keys

    def touched(self, tokens: Tensor) -> Tensor:
        """(S,) bool: whether any of the given tokens, (B, T) bool, lies in the span."""
        before = F.pad(tokens.flatten().index_select(0, self.rows).cumsum(0), (1, 0))
        return before[self.token + self.width] > before[self.token]

    def scatter(self, values: Tensor, fill: Tensor | float) -> Tensor:
        """(S, ...) -> (B, T, W, ...) with `fill` where there is no span."""
        places = self.shape[0] * self.shape[1] * self.shape[2]
        filled = torch.as_tensor(fill, dtype=values.dtype, device=values.device).expand(places, *values.shape[1:])
        cells = self.rows[self.token] * self.shape[2] + self.width - 1
        return filled.index_copy(0, cells, values).view(*self.shape, *values.shape[1:])


class Chunk(NamedTuple):
    """A block as SpanLogits wants it: all that is on the device, and counted from its first token."""

    start: Tensor  # (m,) int64, first token of each span
    width: Tensor  # (m,) int64
    tokens: slice  # place of the block's tokens in the tables

    def window(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Of the inputs of SpanLogits, what the block needs: the first three, and its rows of the tables."""
        return [*inputs[:3], *(table[self.tokens] for table in inputs[3:])]


class SpanLogits(torch.autograd.Function):
    """Logits (S, K + 1) of the spans of all chunks, one chunk after the other, and in the backward pass again.

    Autograd alone would keep the hidden layer of all spans, and make a gradient as large as the tables for every chunk.

    rate, seed: of the dropout.
    inputs: `length` (W, H), `weight` (K + 1, H), `bias` (K + 1), then the tables of `hidden_layer`.
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
    """Logits (m, K + 1) of the m spans of a chunk."""
    hidden = F.gelu(hidden_layer(chunk, length, *tables))
    if not rate:
        return torch.addmm(bias, hidden, weight.t())
    # Drawing from 65,536 numbers takes a quarter of the time of drawing floats, which would be a third of everything.
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

    length: (W, H), by the length of a span; holds b1.
    start, end, mean: (n, H), what each of the n tokens of the chunk adds as first and as last token, and to the mean.
    scores: (n,), attention of the tokens; without it (and `mean`) there is no mean.
    """
    hidden = start.index_select(0, chunk.start)
    hidden += end.index_select(0, chunk.start + chunk.width - 1)
    hidden += length.index_select(0, chunk.width - 1)
    if mean is None or scores is None:
        return hidden
    # The spans of a chunk lie close together, so that one small matrix of their weights is the fastest way to pool.
    place = torch.arange(len(scores), device=scores.device) - chunk.start.unsqueeze(1)
    inside = (place >= 0) & (place < chunk.width.unsqueeze(1))
    return hidden.addmm_(torch.where(inside, scores, -torch.inf).softmax(1), mean)
