"""A pretrained transformer with one vector per word, as a model for the component `transformer` of spacy-transformers.

Word pieces are pooled to words inside the torch module, so that one tensor crosses between torch and thinc for a whole
batch. Weights are stored by TorchShim, the tokenizer by WordPieces.
"""

from collections.abc import Callable, Sequence
from textwrap import shorten
from typing import Any, cast

import torch
from spacy.attrs import ORTH, SPACY
from spacy.tokens import Doc
from spacy_transformers.data_classes import FullTransformerBatch
from thinc.api import Model
from thinc.types import Floats2d
from torch import Tensor

from ..nn.transformer import WordTransformer, stored_config
from .own_transformer import replace_listener, replace_listener_cfg
from .pretrained import check_dtype, check_independence, check_sizes, load_pretrained
from .rows import split
from .shared_model import SharedModel
from .shim import TorchShim, get_shim, no_backprop
from .storage import Fixed
from .transformer_listener import WordBatch
from .windows import collate
from .wordpieces import WordPieces, get_pieces


class TransformerModel(SharedModel[list[Doc], FullTransformerBatch]):
    """The thinc model of a WordTransformer and its tokenizer."""

    architecture = "spacy_ner_arch.TransformerModel.v1"

    def check_loaded(self) -> None:
        shim = self.shims[0]
        if isinstance(shim, TorchShim) and shim.is_initialized:
            check_sizes(cast(WordTransformer, shim.module), get_pieces(self))
            self.set_dim("nO", shim.output_size)


def word_transformer(
    module: TorchShim, pieces: WordPieces, init: Callable, cache_mib: int, fixed: dict[str, Fixed]
) -> Model[list[Doc], FullTransformerBatch]:
    """A transformer as a model for the component `transformer`.

    module: a WordTransformer.
    init: `initialize` with the name and the settings of the pretrained model.
    cache_mib: see VectorCache.
    fixed: settings that cannot be changed after training.
    """
    # spaCy's nlp.replace_listeners looks for these two.
    replaced = {"replace_listener": replace_listener, "replace_listener_cfg": replace_listener_cfg}
    return TransformerModel(
        "transformer",
        forward,
        init=init,
        shims=[module, pieces],
        dims={"nO": None},
        attrs={**fixed, "cache": VectorCache(cache_mib * 2**20), **replaced},
    )


def initialize(
    name: str,
    tokenizer_config: dict[str, Any],
    transformer_config: dict[str, Any],
    model: Model,
    X: Any = None,
    Y: Any = None,
) -> None:
    """Load the pretrained weights, unless the model has weights already."""
    shim, pieces = get_shim(model), get_pieces(model)
    if shim.is_initialized:
        return
    tokenizer, pretrained, random = load_pretrained(name, tokenizer_config, transformer_config)
    try:
        shim.initialize(config=stored_config(pretrained.config))
        module = cast(WordTransformer, shim.module)
        encoder = pretrained.get_encoder() if pretrained.config.is_encoder_decoder else pretrained
        weights = module.transformer.state_dict()
        random = [weight for weight in random if weight in weights or weight.removeprefix("encoder.") in weights]
        if random:
            raise ValueError(f"its files have no weights for {', '.join(random[:3])}; choose another model")
        module.transformer.load_state_dict(
            {weight: tensor for weight, tensor in encoder.state_dict().items() if weight in weights}
        )
        pieces.initialize(tokenizer)
        check_sizes(module, pieces)
        check_independence(module, pieces, shim.device)
        check_dtype(module, pieces, shim.device, shim.dtype)
    except Exception as error:  # the code of a family can raise any error
        shim.from_bytes(b"")
        raise ValueError(f"transformer {name!r}: {shorten(str(error), 500) or type(error).__name__}") from error
    model.set_dim("nO", shim.output_size, force=True)


def forward(model: Model, docs: list[Doc], is_train: bool) -> tuple[FullTransformerBatch, Callable]:
    shim = get_shim(model)
    lengths = [len(doc) for doc in docs]
    if is_train and not shim.frozen and any(lengths):
        model.attrs["cache"].clear()
        vectors, backprop_vectors = shim.begin_update(module_arguments(model, docs))

        batch = WordBatch(split(model, vectors.detach().float(), lengths))

        def backprop(gradient: Tensor) -> list[Doc]:
            batch.gradient.withdraw(shim)
            backprop_vectors(gradient)
            return docs

        batch.gradient.defer(shim, backprop_vectors)
        return batch, backprop
    if is_train:
        return WordBatch(model.attrs["cache"].get(model, docs)), no_backprop
    # Copy the vectors of each document: a view would keep the vectors of the whole batch in memory.
    vectors = split(model, transformer_vectors(model, docs), lengths)
    return WordBatch([rows.copy() for rows in vectors]), no_backprop


def transformer_vectors(model: Model, docs: Sequence[Doc]) -> Tensor:
    """Vectors (N, D) of all words."""
    if not any(len(doc) for doc in docs):
        return torch.zeros((0, model.get_dim("nO")), device=get_shim(model).device)
    return cast(Tensor, get_shim(model).predict(module_arguments(model, docs))).float()


def module_arguments(model: Model, docs: Sequence[Doc]) -> tuple[Any, ...]:
    """Arguments of the WordTransformer."""
    shim, pieces = get_shim(model), get_pieces(model)
    windows = pieces.windows([doc for doc in docs if len(doc)])
    return collate(windows, cast(WordTransformer, shim.module).padding, shim.device)


class VectorCache:
    """Vectors that a frozen transformer computed for training documents, up to a number of bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.clear()

    def clear(self, module: Any = None) -> None:
        self._module = module
        self._vectors: dict[bytes, Floats2d] = {}
        self._bytes = 0

    def get(self, model: Model, docs: Sequence[Doc]) -> list[Floats2d]:
        """Vectors of the documents; computes those that are not in the cache."""
        if self._module is not get_shim(model).module:  # new weights were loaded
            self.clear(get_shim(model).module)
        keys = [self._key(doc) for doc in docs]
        # One document for each text: a batch can have copies of a document.
        new = {key: doc for key, doc in zip(keys, docs, strict=True) if key not in self._vectors}
        found: dict[bytes, Floats2d] = {}
        if new:
            computed = transformer_vectors(model, list(new.values()))
            found = dict(zip(new, split(model, computed, map(len, new.values())), strict=True))
            size = computed.numel() * computed.element_size()
            if self._bytes + size <= self.limit:
                self._bytes += size
                self._vectors.update(found)
        return [found[key] if key in found else self._vectors[key] for key in keys]

    def refill(self, model: Model, docs: Sequence[Doc]) -> None:
        """Recompute the vectors of a resumed training, none beyond the limit.

        docs: the documents of one call of `get`, so that the vectors are the same to the last digit.
        """
        lengths = {self._key(doc): len(doc) for doc in docs}
        words = sum(length for key, length in lengths.items() if key not in self._vectors)
        if words and self._bytes + words * model.get_dim("nO") * 4 <= self.limit:
            self.get(model, docs)

    def __bool__(self) -> bool:
        return bool(self._vectors)

    @staticmethod
    def _key(doc: Doc) -> bytes:
        # The training loop makes new Docs for every update, so the key is the text.
        return doc.to_array([ORTH, SPACY]).tobytes()

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and other processes get an empty cache.
        return VectorCache, (self.limit,)
