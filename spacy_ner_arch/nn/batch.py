"""Batches of documents of different lengths.

Letters: B documents, T tokens of the longest one, N tokens of all of them together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Maximum number of padded tokens of a batch, and the amount of padding from which another batch is cheaper. On a GPU,
# each batch costs its kernel launches, whatever its size.
CPU_TOKENS, CPU_PADDING = 8_192, 192
GPU_TOKENS, GPU_PADDING = 32_768, 4_096
ALIGNMENT = 16  # bytes between the starts of arrays that are sent together


@dataclass
class Batch:
    """A batch of documents. Modules take the token vectors as a separate argument.

    lengths: (B,) int64 on the host, so that the host need not wait for the device to read them.
    mask: (B, T) bool, True on tokens and False on the padding after them.
    rows: (N,) int64, the index of each token in the flattened (B * T) tokens.
    counts: (B,) rows that the head predicts for each document; the lengths unless `collate` sets others.
    trees: (3, N) int64, see `annotation.trees.read_tree`; None unless the encoder reads trees.
    items: what the head classifies, in its own form (spans, pairs); None for the tokens.
    targets: the gold annotation, in the head's own form; None in prediction.
    tokens: (N,) int64, the place of each token among those of all documents that are cut into batches; None if the
        batch has all of them in order.
    copies: (B,) in an update with copies of documents, the number of the other copy; None without copies.
    """

    lengths: np.ndarray
    mask: Tensor
    rows: Tensor
    counts: np.ndarray
    trees: Tensor | None = None
    items: Any = None
    targets: Any = None
    tokens: Tensor | None = None
    copies: np.ndarray | None = None

    @property
    def device(self) -> torch.device:
        return self.mask.device

    @property
    def is_padded(self) -> bool:
        return self.rows.numel() != self.mask.numel()

    def copied_rows(self) -> Tensor:
        """For each of the M rows that the head predicts, the same row of the other copy of its document, (M,) int64.

        For a document without a copy, it is the row itself. Both copies have the same count.
        """
        assert self.copies is not None
        starts = self.counts.cumsum() - self.counts
        own = np.arange(self.counts.sum())
        (rows,) = send([np.repeat(starts[self.copies] - starts, self.counts) + own], self.device)
        return rows

    def pad(self, flat: Tensor, fill: float = 0) -> Tensor:
        """(N, ...) -> (B, T, ...); a view if nothing is padding."""
        if not self.is_padded:
            return flat.view(*self.mask.shape, *flat.shape[1:])
        padded = flat.new_full((self.mask.numel(), *flat.shape[1:]), fill)
        return padded.index_copy(0, self.rows, flat).view(*self.mask.shape, *flat.shape[1:])

    def flatten(self, padded: Tensor) -> Tensor:
        """(B, T, ...) -> (N, ...); a view if nothing is padding."""
        if not self.is_padded:
            return padded.flatten(0, 1)
        return padded.flatten(0, 1).index_select(0, self.rows)


def make_batch(lengths: Sequence[int], device: torch.device) -> Batch:
    """Batch of documents with these lengths. T is at least 1, so that empty documents need no special case."""
    sizes = np.asarray(lengths, dtype=np.int64)
    mask = np.arange(max(1, *lengths)) < sizes.reshape(-1, 1)
    sent, rows = send([mask, np.flatnonzero(mask)], device)
    return Batch(sizes, sent, rows, counts=sizes)


def send(arrays: Sequence[np.ndarray], device: torch.device) -> list[Tensor]:
    """Copy arrays to the device: to a GPU in one transfer from pinned memory, for which the host does not wait.

    The tensors share one block of memory.
    """
    arrays = [np.ascontiguousarray(array) for array in arrays]
    tensors = [torch.from_numpy(array) for array in arrays]
    if device.type != "cuda":
        return [tensor.to(device) for tensor in tensors]
    starts = np.cumsum([0, *(-(-array.nbytes // ALIGNMENT) * ALIGNMENT for array in arrays)]).tolist()
    places = [slice(start, start + array.nbytes) for start, array in zip(starts, arrays, strict=False)]
    packed = torch.empty(starts[-1], dtype=torch.uint8, pin_memory=True)
    for place, array in zip(places, arrays, strict=True):
        packed.numpy()[place] = array.reshape(-1).view(np.uint8)
    sent = packed.to(device, non_blocking=True)
    return [sent[place].view(like.dtype).view(like.shape) for place, like in zip(places, tensors, strict=True)]


def cut(
    lengths: Sequence[int],
    device: torch.device,
    cpu_padding: int = CPU_PADDING,
    copies: Sequence[int] | None = None,
) -> list[list[int]]:
    """Split documents into groups with little padding.

    cpu_padding: number of padding tokens that cost as much on a CPU as one more batch.
    copies: for each document, the number of its other copy, which stays in the same group; None without copies.
    Returns the indices of the documents of each group; no group for no documents. A single group keeps the order of the
    documents; several groups are sorted by length.
    """
    limit, slack = (CPU_TOKENS, cpu_padding) if device.type == "cpu" else (GPU_TOKENS, GPU_PADDING)

    def fits(longest: int, count: int, total: int) -> bool:
        return longest * count <= limit and longest * count - total <= slack + total // 10

    if lengths and fits(max(lengths), len(lengths), sum(lengths)):
        return [list(range(len(lengths)))]
    together = [[i] for i in range(len(lengths))]
    if copies is not None:
        together = [sorted({i, other}) for i, other in enumerate(copies) if i <= other]
    groups: list[list[int]] = []
    total = 0
    for docs in sorted(together, key=lambda docs: lengths[docs[0]]):
        longest = lengths[docs[0]]
        added = longest * len(docs)
        if groups and fits(longest, len(groups[-1]) + len(docs), total + added):
            groups[-1] += docs
            total += added
        else:
            groups.append(docs)
            total = added
    return groups
