"""The embedding of words, features and characters as a thinc model, and two embeddings side by side."""

import warnings
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import Any, cast

import numpy as np
import torch
from spacy.attrs import ORTH
from spacy.tokens import Doc
from spacy.vectors import Mode, Vectors
from thinc.api import Model, xp2torch
from thinc.types import Floats2d

from ..annotation.words import word_strings
from ..nn.batch import send
from ..nn.embed import CHARACTER_ROWS, WordEmbedding
from .head import Tok2Vec, get_shim, join, no_backprop, split
from .shim import TorchShim

# Longest word in characters; of a longer one, the first and the last half are used.
MAX_CHARACTERS = 24


def word_embedding(attributes: list[int], include_static_vectors: bool, **settings: Any) -> Tok2Vec:
    """WordEmbedding over token attributes.

    attributes: spaCy's numbers of the word's own attribute and of its features.
    include_static_vectors: append the vectors of the vocabulary.
    settings: of WordEmbedding.
    """
    return Model(
        "word_char_embed",
        embed_forward,
        init=embed_initialize,
        dims={"nO": None},
        shims=[TorchShim(partial(WordEmbedding, features=len(attributes) - 1, **settings))],
        attrs={"attributes": attributes, "static_vectors": include_static_vectors},
    )


def embed_initialize(model: Tok2Vec, X: list[Doc] | None = None, Y: Any = None) -> None:
    width = 0
    if model.attrs["static_vectors"]:
        if not X or not X[0].vocab.vectors_length:
            raise ValueError(
                "spacy_ner_arch.WordCharEmbed.v1: include_static_vectors is set but the pipeline has no vectors; set "
                "[paths] vectors to a pipeline that has, or include_static_vectors = false"
            )
        width = X[0].vocab.vectors_length
    get_shim(model).initialize(vector_width=width)
    model.set_dim("nO", get_shim(model).output_size, force=True)


def embed_forward(model: Tok2Vec, docs: list[Doc], is_train: bool) -> tuple[list[Floats2d], Any]:
    shim, lengths = get_shim(model), [len(doc) for doc in docs]
    shim.check_initialized()
    if not any(lengths):
        return [model.ops.alloc2f(0, model.get_dim("nO")) for _ in docs], no_backprop
    tensors = send(token_arrays(docs, model.attrs["attributes"]), shim.device)
    if model.attrs["static_vectors"]:
        tensors.append(static_vectors(docs, shim.cfg["vector_width"], shim.device))
    else:
        tensors.append(torch.zeros((sum(lengths), 0), device=shim.device))
    if not is_train:
        return split(model, shim.predict(tuple(tensors)), lengths), no_backprop
    output, backprop_output = shim.begin_update(tuple(tensors))

    def backprop(d_vectors: list[Floats2d]) -> list[Doc]:
        backprop_output(join(model, d_vectors))
        return []

    return split(model, output.detach(), lengths), backprop


def token_arrays(docs: Sequence[Doc], attributes: list[int]) -> tuple[np.ndarray, ...]:
    """Attributes of the tokens (N, attributes), characters of the different words (U, L), word of each token (N,)."""
    columns = np.concatenate([doc.to_array([ORTH, *attributes]) for doc in docs])
    words, which = np.unique(columns[:, 0], return_inverse=True)
    characters = np.zeros((len(words), MAX_CHARACTERS), dtype=np.int64)
    for row, word in zip(characters, word_strings(docs, words.tolist()), strict=True):
        codes = character_codes(word)
        row[: len(codes)] = codes
    longest = max(1, int((characters != 0).sum(1).max()))
    return columns[:, 1:].astype(np.int64), characters[:, :longest], which.reshape(-1)


def static_vectors(docs: Sequence[Doc], width: int, device: torch.device) -> torch.Tensor:
    """Vectors (N, width) of the tokens, each from the vocabulary of its document."""
    groups = [list(group) for _, group in groupby(docs, key=lambda doc: id(doc.vocab))]
    return torch.cat([vocabulary_vectors(group, width, device) for group in groups])


def vocabulary_vectors(docs: Sequence[Doc], width: int, device: torch.device) -> torch.Tensor:
    """Vectors (N, width) of documents with the same vocabulary; zeros for words without one.

    Warns if the vocabulary has no vectors; raises ValueError if they have another width.
    """
    vectors, found = docs[0].vocab.vectors, docs[0].vocab.vectors_length
    if not found:
        warnings.warn(
            f"the Vocab of the document {docs[0].text[:60]!r} has no vectors, so its words get zeros: make documents "
            "with nlp.make_doc",
            stacklevel=2,
        )
        return torch.zeros((sum(map(len, docs)), width), device=device)
    if found != width:
        raise ValueError(
            f"the Vocab of the document {docs[0].text[:60]!r} has vectors of width {found}, but the model was trained "
            f"with width {width}: make documents with nlp.make_doc"
        )
    attribute = getattr(vectors, "attr", ORTH)
    keys, which = np.unique(np.concatenate([doc.to_array([attribute]) for doc in docs]), return_inverse=True)
    if isinstance(vectors, Vectors) and vectors.mode == Mode.default:
        rows = vectors.find(keys=keys.tolist())
        table = vectors.data[rows]
        table[rows < 0] = 0
    else:  # floret vectors exist for every word
        table = vectors.get_batch(keys.tolist())
    (rows,) = send([which.reshape(-1)], device)
    return xp2torch(table, device=device).float().index_select(0, rows)


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
            f"the width of {model.layers[widths.index(None)].name} is unknown: the component that it listens to must "
            "stand before this one in the pipeline"
        )
    model.set_dim("nO", sum(cast(list[int], widths)), force=True)


def concatenate_forward(model: Tok2Vec, docs: list[Doc], is_train: bool) -> tuple[list[Floats2d], Any]:
    lengths = [len(doc) for doc in docs]
    outputs, backprops = zip(*(layer(docs, is_train) for layer in model.layers), strict=True)
    parts = [join(model, output) for output in outputs]

    def backprop(d_vectors: list[Floats2d]) -> Any:
        d_parts = join(model, d_vectors).split([part.shape[1] for part in parts], dim=1)
        for backprop_layer, d_part in zip(backprops, d_parts, strict=True):
            d_docs = backprop_layer(split(model, d_part, lengths))
        return d_docs

    return split(model, torch.cat(parts, dim=1), lengths), backprop
