"""Words of documents as word pieces of a transformer, in windows of limited length."""

import tempfile
from collections.abc import Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import srsly
import torch
from spacy.attrs import ORTH, SPACY
from spacy.tokens import Doc
from thinc.api import Shim
from torch import Tensor

from ..annotation.words import word_strings
from ..nn.batch import cut, send
from ..nn.transformer import Pieces

# Padded pieces that cost as much time on a CPU as another batch.
CPU_PADDING = 64
# Words whose pieces are cached.
MAX_CACHED = 500_000


class Window(NamedTuple):
    """One input of the transformer, and the words that take their vectors from it."""

    pieces: list[int]
    start: int  # index in `pieces` of the first piece of these words
    first: int  # index of the first of these words among all words of the batch
    counts: list[int]  # pieces of each of these words


class WordPieces(Shim):
    """A Hugging Face tokenizer that is stored with a thinc model.

    Each word is tokenized on its own, with the space before it. So no piece belongs to two words, words and pieces
    cannot get misaligned, and the pieces of a word can be cached.
    """

    def __init__(self) -> None:
        super().__init__(None)
        self._cached: dict[tuple[int, bool], tuple[int, ...]] = {}

    @property
    def tokenizer(self) -> Any:
        """The tokenizer; raises ValueError before initialization."""
        if self._model is None:
            raise ValueError("the model is not initialized: call nlp.initialize() or load a trained pipeline")
        return self._model

    def initialize(self, tokenizer: Any) -> None:
        """Set the tokenizer."""
        self._model = tokenizer
        self._cached = {}
        alone = tokenizer.encode("a", add_special_tokens=False)
        framed = tokenizer.encode("a")
        start = next(i for i in range(len(framed)) if framed[i : i + len(alone)] == alone)
        self.prefix, self.suffix = framed[:start], framed[start + len(alone) :]

    def room(self, size: int) -> int:
        """How many pieces of words fit into a window of `size` pieces, special ones included."""
        return size - len(self.prefix) - len(self.suffix)

    def windows(self, docs: Sequence[Doc], size: int, overlap: int) -> list[Window]:
        """All words of the documents in windows of at most `size` pieces, special ones included.

        Neighbouring windows of a document share about `overlap` pieces, and a word is taken from the window where it is
        farther from the edge. A word that is longer than a window is cut off.
        """
        room = self.room(size)
        windows = []
        before = 0  # words of the documents before
        for doc, words in zip(docs, self._cut(docs), strict=True):
            words = [pieces[:room] for pieces in words]
            counts = [len(pieces) for pieces in words]
            for first, last, start, end in cover(counts, room, overlap):
                pieces = [*self.prefix, *chain.from_iterable(words[start:end]), *self.suffix]
                context = len(self.prefix) + sum(counts[start:first])
                windows.append(Window(pieces, context, before + first, counts[first:last]))
            before += len(doc)
        return windows

    def _cut(self, docs: Sequence[Doc]) -> list[list[tuple[int, ...]]]:
        """Pieces of each word of each document."""
        keys = []
        for doc in docs:
            array = doc.to_array([ORTH, SPACY])
            keys.append(list(zip(array[:, 0].tolist(), [False, *map(bool, array[:-1, 1].tolist())], strict=False)))
        if len(self._cached) > MAX_CACHED:
            self._cached = {}
        cached = self._cached
        new = list({key for row in keys for key in row if key not in cached})
        if new:
            words = word_strings(docs, [orth for orth, _ in new])
            texts = [" " * space + word for (_, space), word in zip(new, words, strict=True)]
            options = {"add_special_tokens": False, "return_attention_mask": False, "return_token_type_ids": False}
            cut = self.tokenizer(texts, **options)["input_ids"]
            cached.update(zip(new, map(tuple, cut), strict=True))
        return [[cached[key] for key in row] for row in keys]

    def collate(self, windows: Sequence[Window], device: torch.device) -> tuple[Tensor, list[Pieces]]:
        """Arguments of a WordTransformer: the order of the words, and the windows in batches with little padding."""
        groups = cut([len(window.pieces) for window in windows], device, CPU_PADDING)
        batches = [self._pad([windows[i] for i in group], device) for group in groups]
        chosen = [windows[i] for group in groups for i in group]
        order = np.concatenate([np.arange(window.first, window.first + len(window.counts)) for window in chosen])
        return send(order.argsort(), device), batches

    def _pad(self, windows: Sequence[Window], device: torch.device) -> Pieces:
        """One batch; its words are those of the windows in their order."""
        lengths = np.array([len(window.pieces) for window in windows])
        mask = np.arange(lengths.max()) < lengths[:, None]
        pieces = np.full(mask.shape, self.tokenizer.pad_token_id or 0, dtype=np.int64)
        pieces[mask] = list(chain.from_iterable(window.pieces for window in windows))
        counts = np.array(list(chain.from_iterable(window.counts for window in windows)), dtype=np.int64)
        # The pieces of the words of a window are consecutive.
        owned = np.array([sum(window.counts) for window in windows])
        starts = np.arange(len(windows)) * mask.shape[1] + [window.start for window in windows]
        rows = np.arange(owned.sum()) + np.repeat(starts - (owned.cumsum() - owned), owned)
        words = np.repeat(np.arange(len(counts)), counts)
        arrays = (pieces, mask, rows, words, counts)
        return Pieces(*(send(array, device) for array in arrays))

    # Methods of every shim

    def finish_update(self, optimizer: Any) -> None:
        """A tokenizer has no weights."""

    def to_device(self, device_type: str, device_id: int) -> None:
        """A tokenizer runs on the host."""

    def copy(self) -> "WordPieces":
        return WordPieces().from_bytes(self.to_bytes())

    def to_bytes(self) -> bytes:
        """The files of the tokenizer; empty before initialization."""
        if self._model is None:
            return b""
        with tempfile.TemporaryDirectory() as folder:
            self._model.save_pretrained(folder)
            files = {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}
        return srsly.msgpack_dumps({"files": files, "fast": self._model.is_fast})

    def from_bytes(self, data: bytes) -> "WordPieces":
        if not data:
            self._model = None
            return self
        from transformers import AutoTokenizer

        stored = srsly.msgpack_loads(data)
        with tempfile.TemporaryDirectory() as folder:
            for name, content in stored["files"].items():
                (Path(folder) / Path(name).name).write_bytes(content)
            self.initialize(AutoTokenizer.from_pretrained(folder, use_fast=stored["fast"], local_files_only=True))
        return self


def cover(counts: Sequence[int], room: int, overlap: int) -> list[tuple[int, int, int, int]]:
    """Cut words into windows of at most `room` pieces.

    counts: pieces of each word, none of more than `room`.
    Returns (first, last, start, end) of each window: it contains the words [start, end), and the words [first, last)
    take their vectors from it. Every word is in exactly one [first, last).
    """
    ends = [0, *accumulate(counts)]  # pieces before each word
    total = len(counts)
    if ends[-1] <= room:
        return [(0, total, 0, total)]
    spans = []
    start = 0
    while True:
        end = int(np.searchsorted(ends, ends[start] + room, side="right")) - 1
        spans.append((start, end))
        if end == total:
            break
        # The next window shares the last `overlap` pieces, but begins at least one word later.
        start = max(start + 1, int(np.searchsorted(ends, ends[end] - overlap, side="left")))
        start = min(start, end)
    borders = [0]
    for (_, end), (start, _) in zip(spans, spans[1:], strict=False):
        middle = (ends[start] + ends[end]) / 2
        borders.append(min(end, max(start, int(np.searchsorted(ends, middle, side="left")))))
    borders.append(total)
    return [(borders[i], borders[i + 1], start, end) for i, (start, end) in enumerate(spans)]
