"""The tokenizer of a transformer: documents as word pieces, and the pieces of each word."""

import json
import tempfile
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from spacy.attrs import IDX, IS_SPACE, LENGTH
from spacy.tokens import Doc
from thinc.api import Model, Shim
from tokenizers import Tokenizer

from .storage import NOT_INITIALIZED, pack, unpack
from .windows import PieceTypes, Windows, cover

# Files of a slow tokenizer besides its vocabulary.
TOKENIZER_FILES = {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}
# Formats that can contain code.
UNSAFE = {".py", ".pkl", ".pickle", ".bin", ".pt", ".pth"}


class Frame(NamedTuple):
    """Special pieces around every text, and the types of all pieces; types is None for a model that takes none."""

    prefix: list[int]
    suffix: list[int]
    types: PieceTypes | None


class WordPieces(Shim):
    """A Hugging Face tokenizer that is stored with a thinc model.

    A fast tokenizer reads the whole text, and a word has the pieces that overlap it. A piece may belong to several
    words. A slow tokenizer does not report the offsets of its pieces, so it reads each word alone, with the space
    before it. Special tokens that occur in a text are read as ordinary text.

    window: maximum number of pieces of an input of the transformer, special pieces included.
    overlap: pieces that neighboring windows share.
    """

    def __init__(self, window: int, overlap: int) -> None:
        super().__init__(None)
        self.window = window
        self.overlap = overlap

    @property
    def tokenizer(self) -> Any:
        """A Tokenizer of `tokenizers`, or a slow tokenizer of `transformers`; raises ValueError if not initialized."""
        if self._model is None:
            raise ValueError(NOT_INITIALIZED)
        return self._model

    @property
    def size(self) -> int:
        """Number of rows that the embedding table of the pieces must have."""
        vocabulary = self.tokenizer.get_vocab()
        return max(chain(vocabulary.values(), self.frame.prefix, self.frame.suffix), default=-1) + 1

    @property
    def room(self) -> int:
        """How many pieces of words fit into a window."""
        return self.window - len(self.frame.prefix) - len(self.frame.suffix)

    def initialize(self, tokenizer: Any) -> None:
        """Set the tokenizer, one of `transformers`."""
        typed = "token_type_ids" in tokenizer.model_input_names
        if tokenizer.is_fast:
            self._set(Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()), typed)
        else:
            self._set(tokenizer, typed)

    def _set(self, tokenizer: Any, typed: bool) -> None:
        """typed: whether the model is given the types of pieces."""
        self._model = tokenizer
        self._typed = typed
        if isinstance(tokenizer, Tokenizer):
            tokenizer.no_truncation()
            tokenizer.no_padding()
            tokenizer.encode_special_tokens = True
            self.frame = _fast_frame(tokenizer, typed)
        else:
            self.frame = _slow_frame(tokenizer, typed)

    # Documents to windows

    def windows(self, docs: Sequence[Doc]) -> Windows:
        """Cut all words of the documents into windows.

        Neighboring windows of a document share about `overlap` pieces, and a word takes its vector from the window
        where it is farther from the edge. A word with more pieces than a window has room for loses the last ones.
        """
        ids, ends_of_docs, starts, ends, spaces = self._align(docs)
        ends = np.minimum(ends, starts + self.room)
        context = np.array(self.frame.prefix), np.array(self.frame.suffix)
        pieces: list[np.ndarray] = []
        owners = np.empty(len(starts), dtype=np.int64)
        shifts = np.empty(len(starts), dtype=np.int64)
        word = piece = 0
        for doc, end_of_doc in zip(docs, ends_of_docs.tolist(), strict=True):
            words = slice(word, word + len(doc))
            for first, last, start, end in cover(
                starts[words] - piece, ends[words] - piece, end_of_doc - piece, self.room, self.overlap
            ):
                owners[word + first : word + last] = len(pieces)
                shifts[word + first : word + last] = len(context[0]) - piece - start
                pieces.append(np.concatenate([context[0], ids[piece + start : piece + end], context[1]]))
            word, piece = words.stop, end_of_doc
        starts, ends = _without_neighbors(starts, ends, spaces)
        return Windows(pieces, owners, starts + shifts, ends + shifts, self.frame.types)

    def _align(self, docs: Sequence[Doc]) -> tuple[np.ndarray, ...]:
        """Pieces of the documents, and the pieces that overlap each word.

        Returns the ids of all pieces; for each document, the number of pieces up to its end; for each word, its first
        piece, the one after its last, both non-decreasing, and whether the word is white space.
        """
        columns = np.concatenate([doc.to_array([IDX, LENGTH, IS_SPACE]) for doc in docs]).astype(np.int64)
        places, lengths, spaces = columns.T
        if not isinstance(self.tokenizer, Tokenizer):
            words = self._read_words(docs)
            ends = np.cumsum([len(pieces) for pieces in words])
            ids = np.fromiter(chain.from_iterable(words), dtype=np.int64)
            ends_of_docs = ends[np.cumsum([len(doc) for doc in docs]) - 1]
            return ids, ends_of_docs, np.concatenate([[0], ends[:-1]]), ends, spaces > 0
        texts = [doc.text for doc in docs]
        read = self.tokenizer.encode_batch(texts, add_special_tokens=False)
        counts = np.array([len(encoding) for encoding in read])
        ids = np.fromiter(chain.from_iterable(encoding.ids for encoding in read), dtype=np.int64)
        offsets = chain.from_iterable(chain.from_iterable(encoding.offsets for encoding in read))
        spans = np.fromiter(offsets, dtype=np.int64).reshape(-1, 2)
        # Offsets in the concatenated texts of the documents, so that all documents are aligned at once.
        before = np.cumsum([0, *map(len, texts)])[:-1]
        spans += np.repeat(before, counts)[:, None]
        places += np.repeat(before, [len(doc) for doc in docs])
        first, last = _monotone(spans)
        starts = np.searchsorted(last, places, side="right")
        ends = np.searchsorted(first, places + lengths, side="left")
        return ids, counts.cumsum(), starts, np.maximum(starts, ends), spaces > 0

    def _read_words(self, docs: Sequence[Doc]) -> list[list[int]]:
        """Pieces of each word, each read alone with the space before it."""
        texts = []
        for doc in docs:
            before = ["", *(token.whitespace_ for token in doc)]
            texts += [space + token.text for space, token in zip(before, doc, strict=False)]
        # Words repeat: tokenize each distinct word once.
        unique = list(dict.fromkeys(texts))
        options = {"add_special_tokens": False, "return_attention_mask": False, "return_token_type_ids": False}
        read = self.tokenizer(unique, **options, split_special_tokens=True, verbose=False)["input_ids"]
        found = dict(zip(unique, read, strict=True))
        return [found[text] for text in texts]

    # Methods of every shim

    def finish_update(self, optimizer: Any) -> None:
        """A tokenizer has no weights."""

    def to_device(self, device_type: str, device_id: int) -> None:
        """A tokenizer runs on the host."""

    def copy(self) -> "WordPieces":
        return WordPieces(self.window, self.overlap).from_bytes(self.to_bytes())

    def to_bytes(self) -> bytes:
        """The tokenizer as text, with a checksum; empty before initialization."""
        if self._model is None:
            return b""
        fast = isinstance(self._model, Tokenizer)
        if fast:
            files = {"tokenizer.json": self._model.to_str(pretty=False).encode("utf8")}
        else:
            with tempfile.TemporaryDirectory() as folder:
                self._model.save_pretrained(folder)
                files = {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir()) if path.is_file()}
        stored = {"files": files, "fast": fast, "typed": self._typed}
        return pack(stored)

    def from_bytes(self, data: bytes) -> "WordPieces":
        """Load what `to_bytes` stored. Nothing in it is executed. Raises ValueError if it is damaged."""
        if not data:
            self._model = None
            return self
        try:
            stored = unpack(data)
            files = stored["files"]
            read = Tokenizer.from_str(files["tokenizer.json"].decode("utf8")) if stored["fast"] else _load_slow(files)
            self._set(read, stored["typed"])
        except Exception as error:  # the tokenizers in Rust raise plain Exception
            raise ValueError(f"the stored tokenizer is damaged ({type(error).__name__}: {error})") from error
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (self.window, self.overlap, self.to_bytes())


def _unpickle(window: int, overlap: int, data: bytes) -> WordPieces:
    return WordPieces(window, overlap).from_bytes(data)


def get_pieces(model: Model) -> WordPieces:
    """The tokenizer of a transformer's model."""
    pieces = model.shims[1]
    assert isinstance(pieces, WordPieces)
    return pieces


def _fast_frame(tokenizer: Tokenizer, typed: bool) -> Frame:
    # A tokenizer may not know the letter, but it knows its own pieces.
    texts: Iterable[str] = chain("a", tokenizer.get_vocab())
    read = (tokenizer.encode(text, add_special_tokens=False) for text in texts)
    text = next((encoding for encoding in read if encoding.ids), None)
    if text is None:
        raise ValueError("the tokenizer has no pieces")
    framed = tokenizer.post_process(text)
    inside = np.flatnonzero(np.array(framed.special_tokens_mask) == 0)
    first, last = int(inside[0]), int(inside[-1]) + 1
    types = (framed.type_ids[:first], framed.type_ids[first], framed.type_ids[last:]) if typed else None
    return Frame(framed.ids[:first], framed.ids[last:], types)


def _slow_frame(tokenizer: Any, typed: bool) -> Frame:
    some = -1  # no piece has this id
    framed = tokenizer.build_inputs_with_special_tokens([some])
    place = framed.index(some)
    types = tokenizer.create_token_type_ids_from_sequences([some]) if typed else None
    parts = None if types is None else (types[:place], types[place], types[place + 1 :])
    return Frame(framed[:place], framed[place + 1 :], parts)


def _load_slow(files: dict[str, bytes]) -> Any:
    """A slow tokenizer from its files. Raises ValueError for files that are not those of a tokenizer."""
    import transformers

    settings = json.loads(files["tokenizer_config.json"])
    kind = getattr(transformers, str(settings.get("tokenizer_class")), None)
    if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedTokenizer)):
        raise ValueError(f"tokenizer_class {settings.get('tokenizer_class')!r} is not a tokenizer of transformers")
    known = TOKENIZER_FILES | set(kind.vocab_files_names.values())
    unknown = sorted(name for name in files if name not in known or Path(name).suffix in UNSAFE)
    if unknown:
        raise ValueError(f"unknown files {', '.join(map(repr, unknown))}")
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _monotone(spans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and end offsets of pieces, both non-decreasing.

    spans: (P, 2) character offsets of each piece, the end exclusive. The offsets of a normalized text can decrease. A
        piece without characters gets the end of the piece before it.
    """
    first, last = spans.T
    empty = first >= last
    last = np.maximum.accumulate(np.where(empty, 0, last))
    first = np.where(empty, last, first)
    return np.minimum.accumulate(first[::-1])[::-1], last


def _without_neighbors(starts: np.ndarray, ends: np.ndarray, spaces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Remove pieces of other words from words that are white space: SentencePiece joins a space to the next word."""
    if not spaces.any():
        return starts, ends
    before = np.maximum.accumulate(np.where(spaces, 0, ends))
    behind = np.minimum.accumulate(np.where(spaces, ends.max(), starts)[::-1])[::-1]
    starts = np.where(spaces, np.maximum(starts, before), starts)
    ends = np.where(spaces, np.maximum(starts, np.minimum(ends, behind)), ends)
    return starts, ends
