"""The embedding of words, features and characters as a thinc model, and two embeddings side by side."""

import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import groupby, islice
from typing import Any, cast

import numpy as np
import torch
from spacy.attrs import IDS, ORTH
from spacy.strings import get_string_id
from spacy.tokens import Doc
from spacy.vectors import Mode, Vectors
from thinc.api import Model, get_array_module, xp2torch
from thinc.types import Floats2d

from ..annotation.describe import quote
from ..annotation.words import word_strings
from ..nn.batch import send
from ..nn.embed import CHARACTER_ROWS, WordEmbedding
from .device import default_device
from .rows import Tok2Vec, check_lengths, join, split
from .shim import TorchShim, get_shim, no_backprop
from .storage import Fixed

# Names of token attributes by their numbers.
NAMES = {str(number): name for name, number in IDS.items()}
# Maximum number of characters of a word that are read. A longer word is cut in the middle, to half from either end.
MAX_CHARACTERS = 24
SAME_VECTORS = (
    "make documents with nlp.make_doc, and set [initialize] vectors in a config that sources the component from "
    "another pipeline"
)


def word_embedding(attributes: list[int], vector_attributes: list[int], **settings: Any) -> Tok2Vec:
    """WordEmbedding over token attributes.

    attributes: spaCy's numbers of the word's own attribute and of its features.
    vector_attributes: attributes that look up the vectors of the vocabulary, see `find_rows`; empty for no vectors.
    settings: arguments of WordEmbedding.
    """
    return Model(
        "word_char_embed",
        embed_forward,
        init=embed_initialize,
        dims={"nO": None},
        shims=[TorchShim(partial(WordEmbedding, features=len(attributes) - 1, **settings))],
        attrs={
            "attributes": Fixed(
                attributes, "word_attr or features of spacy_ner_arch.WordCharEmbed.v1", attribute_names
            ),
            "vector_attributes": Fixed(
                vector_attributes,
                "include_static_vectors or vector_attrs of spacy_ner_arch.WordCharEmbed.v1",
                attribute_names,
            ),
            "dropout_rate": 0.0,
        },
    )


def attribute_names(numbers: Any) -> str:
    """The names of token attributes, as a list in a config. `numbers` may be anything if it is from a damaged file."""
    return str([NAMES.get(str(number), number) for number in numbers] if isinstance(numbers, list) else numbers)


def embed_initialize(model: Tok2Vec, X: list[Doc] | None = None, Y: Any = None) -> None:
    width = 0
    if model.attrs["vector_attributes"].value:
        if not X or not X[0].vocab.vectors_length:
            raise ValueError(
                "spacy_ner_arch.WordCharEmbed.v1: include_static_vectors is set but the pipeline has no vectors; set "
                "[paths] vectors to a pipeline that has, or include_static_vectors = false"
            )
        width = X[0].vocab.vectors_length
        warn_of_missing_vectors(X, static_vectors(X, width, model.attrs["vector_attributes"].value, default_device()))
    get_shim(model).initialize(vector_width=width)
    model.set_dim("nO", get_shim(model).output_size, force=True)


def embed_forward(model: Tok2Vec, docs: list[Doc], is_train: bool) -> tuple[list[Floats2d], Any]:
    shim, lengths = get_shim(model), [len(doc) for doc in docs]
    shim.check_initialized()
    if not any(lengths):
        return [model.ops.alloc2f(0, model.get_dim("nO")) for _ in docs], no_backprop
    has_characters = shim.module.characters is not None
    tensors = send(token_arrays(docs, model.attrs["attributes"].value, has_characters), shim.device)
    vector_attributes = model.attrs["vector_attributes"].value
    if vector_attributes:
        tensors.append(static_vectors(docs, shim.cfg["vector_width"], vector_attributes, shim.device))
    else:
        tensors.append(torch.zeros((sum(lengths), 0), device=shim.device))
    output, backprop_output = shim(tuple(tensors), is_train, model.attrs["dropout_rate"])

    def backprop(d_vectors: list[Floats2d]) -> list[Doc]:
        backprop_output(join(model, d_vectors))
        return []

    return split(model, output.detach(), lengths), backprop


def token_arrays(docs: Sequence[Doc], attributes: list[int], has_characters: bool) -> tuple[np.ndarray, ...]:
    """Attributes of the tokens (N, attributes), characters of the distinct words (U, L), word of each token (N,).

    has_characters: whether a model reads the characters; if not, there are no words.
    """
    columns = np.concatenate([doc.to_array([ORTH, *attributes]) for doc in docs])
    if not has_characters:
        return columns[:, 1:].astype(np.int64), np.zeros((0, 1), dtype=np.int64), np.zeros(0, dtype=np.int64)
    words, which = np.unique(columns[:, 0], return_inverse=True)
    characters = np.zeros((len(words), MAX_CHARACTERS), dtype=np.int64)
    for row, word in zip(characters, word_strings(docs, words.tolist()), strict=True):
        codes = character_codes(word)
        row[: len(codes)] = codes
    longest = max(1, int((characters != 0).sum(1).max()))
    return columns[:, 1:].astype(np.int64), characters[:, :longest], which.reshape(-1)


def static_vectors(docs: Sequence[Doc], width: int, attributes: list[int], device: torch.device) -> torch.Tensor:
    """Vectors (N, width) of the tokens, each from the vocabulary of its document."""
    parts = []
    for table, which in vector_tables(docs, width, attributes):
        (places,) = send([which], device)
        parts.append(xp2torch(table, device=device).float().index_select(0, places))
    return torch.cat(parts)


def vector_tables(docs: Sequence[Doc], width: int, attributes: list[int]) -> list[tuple[Any, np.ndarray]]:
    """The results of `vocabulary_vectors` for the documents of each vocabulary."""
    groups = [list(group) for _, group in groupby(docs, key=lambda doc: id(doc.vocab))]
    return [vocabulary_vectors(group, width, attributes) for group in groups]


def vocabulary_vectors(docs: Sequence[Doc], width: int, attributes: list[int]) -> tuple[Any, np.ndarray]:
    """Distinct vectors (V, width) of documents with the same vocabulary, zeros for words without a vector, and the row
    of each token (N,).

    Warns if the vocabulary has no vectors; raises ValueError if its vectors have another width.
    """
    vectors, found = docs[0].vocab.vectors, docs[0].vocab.vectors_length
    if not found:
        warnings.warn(
            f"the Vocab of the document {quote(docs[0].text)} has no vectors, so its words get zeros: {SAME_VECTORS}",
            stacklevel=2,
        )
        return np.zeros((1, width), dtype="f"), np.zeros(sum(map(len, docs)), dtype=np.int64)
    if found != width:
        raise ValueError(
            f"the Vocab of the document {quote(docs[0].text)} has vectors of width {found}, but the model was trained "
            f"with width {width}: {SAME_VECTORS}"
        )
    if isinstance(vectors, Vectors) and vectors.mode == Mode.default:
        rows, which = np.unique(find_rows(docs, vectors, attributes), return_inverse=True)
        rows = get_array_module(vectors.data).asarray(rows)  # the table can be on a GPU
        table = vectors.data[rows]
        table[rows < 0] = 0
    else:  # floret vectors exist for every word
        keys, which = np.unique(attribute_of(docs, getattr(vectors, "attr", ORTH)), return_inverse=True)
        table = vectors.get_batch(keys.tolist())
    return table, which.reshape(-1)


def warn_of_missing_vectors(docs: Sequence[Doc], found: torch.Tensor) -> None:
    """Warn if most tokens have no vector. found: (N, width), zeros for tokens without."""
    missing = (found == 0).all(1).tolist()
    if sum(missing) > len(missing) // 2:
        tokens = (token.text for doc in docs for token in doc)
        examples = dict.fromkeys(repr(text) for text, is_missing in zip(tokens, missing, strict=True) if is_missing)
        warnings.warn(
            f"spacy_ner_arch.WordCharEmbed.v1: {sum(missing)} of the {len(missing)} tokens of the first documents have "
            f"no vector, for example {', '.join(islice(examples, 5))}: check the language of the vectors, "
            "and vector_attrs",
            stacklevel=2,
        )


def find_rows(docs: Sequence[Doc], vectors: Vectors, attributes: list[int]) -> np.ndarray:
    """Rows (N,) of the tokens in a table of vectors, by the first attribute whose value is in the table; -1 for none.

    If no value is in the table, the `composed` values are looked up. The attribute of the table itself is ignored,
    since spaCy does not store it.
    """
    names: list[Any] = list(attributes)
    columns = np.concatenate([doc.to_array(names).reshape(len(doc), len(names)) for doc in docs])
    rows = np.full(len(columns), -1)
    for compose in (False, True):
        for column in columns.T:
            (missing,) = np.nonzero(rows < 0)
            if not len(missing):
                return rows
            keys, which = np.unique(column[missing], return_inverse=True)
            wanted: Iterable[int | None] = keys.tolist()
            if compose:
                words = word_strings(docs, keys.tolist())
                wanted = (None if word.isascii() else get_string_id(composed(word)) for word in words)
            found = np.array([vectors.key2row.get(key, -1) for key in wanted], dtype=np.int64)
            rows[missing] = found[which.reshape(-1)]
    return rows


def composed(word: str) -> str:
    """The word with one code point for each letter with accents, as most vectors have it.

    In texts from macOS, accents are often code points of their own, as is the dot of `i` when Python lowers the Turkish
    letter `İ`.
    """
    return unicodedata.normalize("NFC", word).replace("i\u0307", "i")


def attribute_of(docs: Sequence[Doc], attribute: int) -> np.ndarray:
    """An attribute (N,) of the tokens."""
    return np.concatenate([doc.to_array([attribute]) for doc in docs])


def character_codes(word: str) -> list[int]:
    """Codes of the characters, 1 to CHARACTER_ROWS - 1. Common scripts keep their codes, others are hashed."""
    if len(word) > MAX_CHARACTERS:
        word = word[: MAX_CHARACTERS // 2] + word[-MAX_CHARACTERS // 2 :]
    half = CHARACTER_ROWS // 2
    return [code if 0 < code < half else half + code % half for code in map(ord, word)]


def concatenate(first: Tok2Vec, second: Tok2Vec) -> Tok2Vec:
    """Two embeddings side by side."""
    layers = [first, second]
    return Model(
        "concatenate_vectors", concatenate_forward, init=concatenate_initialize, layers=layers, dims={"nO": None}
    )


def concatenate_initialize(model: Tok2Vec, X: list[Doc] | None = None, Y: Any = None) -> None:
    for layer in model.layers:
        layer.initialize(X=X)
    widths = [layer.maybe_get_dim("nO") for layer in model.layers]
    if None in widths:
        raise ValueError(
            f"the width of {model.layers[widths.index(None)].name} is unknown: put the component that it listens to "
            "before this one in the pipeline"
        )
    model.set_dim("nO", sum(cast(list[int], widths)), force=True)


def concatenate_forward(model: Tok2Vec, docs: list[Doc], is_train: bool) -> tuple[list[Floats2d], Any]:
    lengths = [len(doc) for doc in docs]
    outputs, backprops = zip(*(layer(docs, is_train) for layer in model.layers), strict=True)
    for output in outputs:
        check_lengths(docs, output)
    parts = [join(model, output) for output in outputs]

    def backprop(d_vectors: list[Floats2d]) -> Any:
        d_parts = join(model, d_vectors).split([part.shape[1] for part in parts], dim=1)
        for backprop_layer, d_part in zip(backprops, d_parts, strict=True):
            d_docs = backprop_layer(split(model, d_part, lengths))
        return d_docs

    return split(model, torch.cat(parts, dim=1), lengths), backprop
