"""Registered embeddings: models of documents to one vector a token, in place of spaCy's MultiHashEmbed."""

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from spacy.attrs import ORTH, intify_attr
from spacy.tokens import Doc
from spacy.util import registry
from spacy.vectors import Mode, Vectors
from thinc.api import Model, xp2torch
from thinc.types import Floats2d

from ..bridge.head import Tok2Vec, check_initialized, get_shim, join, split_flat
from ..bridge.shim import TorchShim
from ..nn.embed import CHARACTER_ROWS, WordEmbedding

# Of a longer word, the first and the last half of these.
MAX_CHARACTERS = 24


@registry.architectures("spacy_ner_arch.WordCharEmbed.v1")
def word_char_embed(
    word_width: int = 100,
    word_rows: int = 20_000,
    features: list[str] = ["SHAPE", "PREFIX", "SUFFIX"],  # noqa: B006 - read from configs, where it is written as a list
    feature_width: int = 32,
    feature_rows: int = 4_000,
    character_width: int = 30,
    filters: int = 64,
    unknown_rate: float = 1.0,
    word_attr: str = "NORM",
    include_static_vectors: bool = False,
) -> Tok2Vec:
    """Words, some of their attributes, and their characters, with a vector of its own for words not seen in training.

    word_width, word_rows: width and rows of the hashed table of words; a width of 0 leaves it out.
    word_attr: attribute of the token that is its identity, for example NORM, LOWER or ORTH.
    features: further attributes of the token, each with a hashed table of `feature_rows` rows, `feature_width` wide.
    character_width, filters: width of a character, and filters of the CNN over them; 0 filters leave them out.
    unknown_rate: in training, a word that occurs n times in 100,000 is taken for an unknown one with the probability
        unknown_rate / (unknown_rate + n).
    include_static_vectors: append the vectors of [initialize] vectors, as they are.
    Source: Ma and Hovy 2016; the replacement of rare words Kiperwasser and Goldberg 2016.
    """
    attributes = {name: intify_attr(name) for name in (word_attr, *features)}
    unknown = [name for name, attribute in attributes.items() if attribute is None]
    if unknown:
        raise ValueError(f"spacy_ner_arch.WordCharEmbed.v1: tokens have no such attributes in spaCy: {unknown}")
    build = partial(
        WordEmbedding,
        word_width=word_width,
        word_rows=word_rows,
        features=len(features),
        feature_width=feature_width,
        feature_rows=feature_rows,
        character_width=character_width,
        filters=filters,
        unknown_rate=unknown_rate,
    )
    return Model(
        "word_char_embed",
        forward,
        init=initialize,
        dims={"nO": None},
        shims=[TorchShim(build)],
        attrs={
            "attributes": list(attributes.values()),
            "static_vectors": include_static_vectors,
        },
    )


def initialize(model: Tok2Vec, X: list[Doc] | None = None, Y: Any = None) -> None:
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


def forward(model: Tok2Vec, docs: list[Doc], is_train: bool) -> tuple[list[Floats2d], Any]:
    shim, lengths = get_shim(model), [len(doc) for doc in docs]
    check_initialized(model)
    if not any(lengths):
        return [model.ops.alloc2f(0, model.get_dim("nO")) for _ in docs], _no_input
    arrays = token_arrays(docs, model.attrs["attributes"])
    tensors = [torch.from_numpy(array).to(shim.device, non_blocking=True) for array in arrays]
    if model.attrs["static_vectors"]:
        tensors.append(static_vectors(docs, shim.device))
    else:
        tensors.append(torch.zeros((sum(lengths), 0), device=shim.device))
    if not is_train:
        return split_flat(model, shim.predict(tuple(tensors)), lengths), _no_input
    output, backprop_output = shim.begin_update(tuple(tensors))

    def backprop(d_vectors: list[Floats2d]) -> list[Doc]:
        backprop_output(join(model, d_vectors))
        return []

    return split_flat(model, output.detach(), lengths), backprop


def token_arrays(docs: Sequence[Doc], attributes: list[int]) -> tuple[np.ndarray, ...]:
    """What is to be known of the tokens, one array each for the whole batch: keys of the attributes; characters of the
    different words; which of these each token is."""
    columns = np.concatenate([doc.to_array([ORTH, *attributes]) for doc in docs])
    words, which = np.unique(columns[:, 0], return_inverse=True)
    vocab = docs[0].vocab
    characters = np.zeros((len(words), MAX_CHARACTERS), dtype=np.int64)
    for row, word in zip(characters, words.tolist(), strict=True):
        codes = character_codes(vocab.strings[word])
        row[: len(codes)] = codes
    longest = max(1, int((characters != 0).sum(1).max()))
    return columns[:, 1:].astype(np.int64), characters[:, :longest], which.reshape(-1)


def static_vectors(docs: Sequence[Doc], device: torch.device) -> torch.Tensor:
    """The vectors (N, D) that the vocabulary has for the tokens of the batch; zeros for words that it has none for."""
    vectors = docs[0].vocab.vectors
    attribute = getattr(vectors, "attr", ORTH)
    keys, which = np.unique(np.concatenate([doc.to_array([attribute]) for doc in docs]), return_inverse=True)
    if isinstance(vectors, Vectors) and vectors.mode == Mode.default:
        rows = vectors.find(keys=keys.tolist())
        table = vectors.data[rows]
        table[rows < 0] = 0
    else:  # of a kind that has a vector for every word
        table = vectors.get_batch(keys.tolist())
    return xp2torch(table, device=device).float()[torch.from_numpy(which.reshape(-1)).to(device)]


def character_codes(word: str) -> list[int]:
    """Codes of the characters, 1 to CHARACTER_ROWS - 1: common scripts as they are, all others folded onto the rest."""
    if len(word) > MAX_CHARACTERS:
        word = word[: MAX_CHARACTERS // 2] + word[-MAX_CHARACTERS // 2 :]
    half = CHARACTER_ROWS // 2
    return [code if 0 < code < half else half + code % half for code in map(ord, word)]


def concatenate(first: Tok2Vec, second: Tok2Vec) -> Tok2Vec:
    """Two embeddings side by side."""
    return Model(
        "concatenate_vectors", concatenate_forward, init=initialize_layers, layers=[first, second], dims={"nO": None}
    )


def initialize_layers(model: Tok2Vec, X: list[Doc] | None = None, Y: Any = None) -> None:
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
            d_docs = backprop_layer(split_flat(model, d_part, lengths))
        return d_docs

    return split_flat(model, torch.cat(parts, dim=1), lengths), backprop


def _no_input(d_vectors: Any) -> list[Doc]:
    return []
