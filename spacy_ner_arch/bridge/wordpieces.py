"""Words of documents to the word pieces of a transformer, in windows that it can take."""

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

from ..nn.batching import chunks
from ..nn.transformer import Pieces

# Words whose pieces are remembered.
MAX_REMEMBERED = 500_000


class Window(NamedTuple):
    """One input of the transformer, and which words take their vectors from it."""

    pieces: list[int]
    start: int  # place in `pieces` of the first piece of the first of these words
    first: int  # number of the first of these words, among all words of the batch
    counts: list[int]  # pieces of each of these words


class WordPieces(Shim):
    """A tokenizer of Hugging Face, to be kept in a thinc model: it is stored with it.

    Every word is cut up on its own, with the space that stands before it, as Hugging Face does with words. So no
    piece belongs to two words, no word can be shifted against its pieces, and words are cut only once.
    """

    def __init__(self) -> None:
        super().__init__(None)
        self._remembered: dict[tuple[int, bool], tuple[int, ...]] = {}

    @property
    def tokenizer(self) -> Any:
        """The tokenizer; raises before initialization."""
        if self._model is None:
            raise ValueError("the model is not initialized: call nlp.initialize() or load a trained pipeline")
        return self._model

    def initialize(self, tokenizer: Any) -> None:
        """Take a tokenizer into use."""
        self._model = tokenizer
        self._remembered = {}
        alone = tokenizer.encode("a", add_special_tokens=False)
        framed = tokenizer.encode("a")
        start = next(i for i in range(len(framed)) if framed[i : i + len(alone)] == alone)
        self.prefix, self.suffix = framed[:start], framed[start + len(alone) :]

    def room(self, size: int) -> int:
        """Pieces of words that have place in a window of so many, special ones included."""
        return size - len(self.prefix) - len(self.suffix)

    def windows(self, docs: Sequence[Doc], size: int, overlap: int) -> list[Window]:
        """All words of the documents in windows of at most `size` pieces, special ones included.

        The windows of a document share about `overlap` pieces, and a word is taken from the window where it stands
        farther from the edge. Only of a word that is longer than a window, the rest is cut off.
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
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered = {}
        remembered = self._remembered
        new = list({key for row in keys for key in row if key not in remembered})
        if new:
            strings = docs[0].vocab.strings
            texts = [" " * space + strings[orth] for orth, space in new]
            options = {"add_special_tokens": False, "return_attention_mask": False, "return_token_type_ids": False}
            cut = self.tokenizer(texts, **options)["input_ids"]
            remembered.update(zip(new, map(tuple, cut), strict=True))
        return [[remembered[key] for key in row] for row in keys]

    def collate(self, windows: Sequence[Window], device: torch.device) -> tuple[Tensor, list[Pieces]]:
        """Arguments of a WordTransformer: the windows in batches of like length, and the place of each word in them."""
        windows = sorted(windows, key=lambda window: len(window.pieces))
        lengths = [len(window.pieces) for window in windows]
        batches = [self._pad(windows[chunk], device) for chunk in chunks(lengths, device.type != "cpu")]
        order = np.concatenate([np.arange(window.first, window.first + len(window.counts)) for window in windows])
        return torch.from_numpy(order.argsort()).to(device, non_blocking=True), batches

    def _pad(self, windows: Sequence[Window], device: torch.device) -> Pieces:
        """One batch, its words being those of the windows in their order."""
        lengths = np.array([len(window.pieces) for window in windows])
        mask = np.arange(lengths.max()) < lengths[:, None]
        pieces = np.full(mask.shape, self.tokenizer.pad_token_id or 0, dtype=np.int64)
        pieces[mask] = list(chain.from_iterable(window.pieces for window in windows))
        counts = np.array(list(chain.from_iterable(window.counts for window in windows)), dtype=np.int64)
        # The pieces of a window's words stand in one row, one after the other.
        owned = np.array([sum(window.counts) for window in windows])
        starts = np.arange(len(windows)) * mask.shape[1] + [window.start for window in windows]
        rows = np.arange(owned.sum()) + np.repeat(starts - (owned.cumsum() - owned), owned)
        words = np.repeat(np.arange(len(counts)), counts)
        arrays = (pieces, mask, rows, words, counts)
        return Pieces(*(torch.from_numpy(array).to(device, non_blocking=True) for array in arrays))

    # What thinc asks of a shim

    def finish_update(self, optimizer: Any) -> None:
        """Nothing to learn."""

    def to_device(self, device_type: str, device_id: int) -> None:
        """Works on the host."""

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
    """Windows over words with so many pieces, none of more than `room`: for each (first, last, start, end), the words
    [start, end) it holds and the words [first, last) that take their vectors from it.

    Every word is in exactly one [first, last).
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
        # The next one shares the last `overlap` pieces, but always gets on.
        start = max(start + 1, int(np.searchsorted(ends, ends[end] - overlap, side="left")))
        start = min(start, end)
    borders = [0]
    for (_, end), (start, _) in zip(spans, spans[1:], strict=False):
        middle = (ends[start] + ends[end]) / 2
        borders.append(min(end, max(start, int(np.searchsorted(ends, middle, side="left")))))
    borders.append(total)
    return [(borders[i], borders[i + 1], start, end) for i, (start, end) in enumerate(spans)]
