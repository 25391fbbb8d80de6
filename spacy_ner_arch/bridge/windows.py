"""Cut documents into windows of word pieces, the inputs of a transformer, and batch the windows."""

from collections.abc import Sequence
from itertools import chain, islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..nn.batch import cut, send
from ..nn.transformer import Pieces

# Number of padding pieces that take as much time on a CPU as one more batch.
CPU_PADDING = 64

# Types (`token_type_ids`) of the special pieces before a text, of its own pieces, and of the special pieces after it.
PieceTypes = tuple[list[int], int, list[int]]


class Windows(NamedTuple):
    """Inputs of the transformer for N words. Neighboring windows of a document overlap.

    pieces: ids of the pieces of each window, special pieces included.
    owners: (N,) the window that each word takes its vector from. Non-decreasing.
    starts, ends: (N,) the pieces of each word, in its window.
    types: types of the pieces, for all windows; None if the model takes none.
    """

    pieces: list[np.ndarray]
    owners: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    types: PieceTypes | None


def collate(
    windows: Windows, pad: int, device: torch.device, groups: Sequence[Sequence[int]] | None = None
) -> tuple[Tensor, list[Pieces]]:
    """Arguments of a WordTransformer: the order of the words, and the windows in batches.

    pad: id of the piece for padding.
    groups: numbers of the windows of each batch; batches with little padding if None.
    """
    places, batches = window_batches(windows, pad, device, groups)
    order, *sent = send([places, *chain.from_iterable(batches)], device)
    tensors = iter(sent)
    return order, [Pieces(*islice(tensors, len(arrays))) for arrays in batches]


def window_batches(
    windows: Windows, pad: int, device: torch.device, groups: Sequence[Sequence[int]] | None = None
) -> tuple[np.ndarray, list[list[np.ndarray]]]:
    """The arrays that `collate` sends to the device: the order of the words, and the arrays of each batch."""
    if groups is None:
        groups = cut([len(pieces) for pieces in windows.pieces], device, CPU_PADDING)
    firsts = np.searchsorted(windows.owners, np.arange(len(windows.pieces) + 1))
    words = [np.concatenate([np.arange(firsts[i], firsts[i + 1]) for i in group]) for group in groups]
    batches = [_pad(windows, group, own, pad) for group, own in zip(groups, words, strict=True)]
    return np.concatenate(words).argsort(), batches


def _pad(windows: Windows, group: Sequence[int], words: np.ndarray, pad: int) -> list[np.ndarray]:
    """Pad the windows of a group: the arrays of its Pieces. words: words that take their vectors from these windows."""
    pieces = [windows.pieces[i] for i in group]
    lengths = np.array([len(ids) for ids in pieces])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(mask.shape, pad, dtype=np.int64)
    ids[mask] = np.concatenate(pieces)
    line = np.empty(len(windows.pieces), dtype=np.int64)
    line[list(group)] = np.arange(len(group))
    counts = windows.ends[words] - windows.starts[words]
    places = windows.starts[words] + line[windows.owners[words]] * mask.shape[1]
    starts = counts.cumsum() - counts
    rows = np.arange(counts.sum()) + np.repeat(places - starts, counts)
    types = [] if windows.types is None else [_fill_types(*windows.types, lengths, mask.shape)]
    return [ids, mask, rows, starts, counts, *types]


def _fill_types(
    prefix: list[int], text: int, suffix: list[int], lengths: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """Types of the pieces of a batch."""
    types = np.full(shape, text, dtype=np.int64)
    types[:, : len(prefix)] = prefix
    for number, kind in enumerate(suffix):
        types[np.arange(len(lengths)), lengths - len(suffix) + number] = kind
    return types


def cover(starts: np.ndarray, ends: np.ndarray, total: int, room: int, overlap: int) -> list[tuple[int, int, int, int]]:
    """Cut a document into windows of at most `room` pieces.

    starts, ends: pieces of each word, both non-decreasing; no word has more than `room`.
    total: number of pieces.
    Returns (first, last, start, end) of each window: it contains the pieces [start, end), and the words [first, last)
    take their vectors from it. Every word is in exactly one [first, last). Pieces of no word may be in no window.
    """
    if total <= room:
        return [(0, len(starts), 0, total)]
    spans = []
    start = 0
    while True:
        # All words before this one end inside the window.
        word = int(np.searchsorted(ends, start + room, side="right"))
        if word == len(starts):
            spans.append((start, min(start + room, total), word))
            break
        end = min(start + room, int(starts[word]))
        end = max(end, int(ends[word - 1])) if word else end
        spans.append((start, end, word))
        # The next window shares `overlap` pieces, begins with a word, and contains all pieces of the next word.
        least = max(end - overlap, int(ends[word]) - room)
        start = int(starts[min(word, int(np.searchsorted(starts, least)))])
    borders = [0]
    for (_, end, word), (start, _, _) in zip(spans, spans[1:], strict=False):
        middle, first = np.searchsorted(starts, [(start + end) / 2, start]).tolist()
        borders.append(min(word, max(first, middle)))
    borders.append(len(starts))
    windows = [(borders[i], borders[i + 1], start, end) for i, (start, end, _) in enumerate(spans)]
    return [window for window in windows if window[0] < window[1]]
