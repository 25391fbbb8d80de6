"""A pretrained transformer with one vector per word, as a model for the component `transformer` of spacy-transformers.

Word pieces are pooled to words inside the torch module, so that one tensor crosses between torch and thinc for a whole
batch. Weights are stored by TorchShim, the tokenizer by WordPieces.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any, cast

import torch
from spacy.attrs import ORTH, SPACY
from spacy.tokens import Doc
from spacy_transformers.data_classes import FullTransformerBatch
from thinc.api import Model
from thinc.types import Floats2d
from torch import Tensor

from ..nn.transformer import POOLINGS, WordTransformer
from .head import get_shim, no_backprop, split
from .listener import WordBatch, replace_listener, replace_listener_cfg
from .shim import TorchShim
from .wordpieces import WordPieces


def word_transformer(
    name: str,
    *,
    pooling: str,
    window: int,
    overlap: int,
    dtype: str,
    frozen: bool,
    cache_mib: int,
    tokenizer_config: dict[str, Any],
    transformer_config: dict[str, Any],
) -> Model[list[Doc], FullTransformerBatch]:
    """The model of spacy_ner_arch.TransformerModel.v1, where the arguments are described."""
    if pooling not in POOLINGS:
        raise ValueError(f"unknown pooling {pooling!r}; known are {', '.join(POOLINGS)}")
    model: Model[list[Doc], FullTransformerBatch] = Model(
        "transformer",
        forward,
        init=partial(initialize, name, tokenizer_config, transformer_config),
        shims=[TorchShim(partial(WordTransformer, pooling=pooling), dtype=dtype, frozen=frozen), WordPieces()],
        dims={"nO": None},
        attrs={
            "window": window,
            "overlap": overlap,
            "cache": VectorCache(cache_mib * 2**20),
            # spaCy's nlp.replace_listeners looks for these two.
            "replace_listener": replace_listener,
            "replace_listener_cfg": replace_listener_cfg,
        },
    )
    return model


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
    tokenizer, pretrained = load_pretrained(name, tokenizer_config, transformer_config)
    if pretrained.config.is_encoder_decoder:
        raise ValueError(f"transformer {name}: it has a decoder; choose a model with an encoder only")
    # to_diff_dict leaves these out.
    rest = {key: value for key, value in transformer_config.items() if key == "attn_implementation"}
    config = pretrained.config.to_diff_dict() | {"model_type": pretrained.config.model_type} | rest
    shim.initialize(config=config)
    module = cast(WordTransformer, shim.module)
    missing = module.transformer.load_state_dict(pretrained.state_dict(), strict=False).missing_keys
    if missing:
        raise ValueError(f"transformer {name}: it has no weights for {', '.join(missing[:3])}; choose another model")
    pieces.initialize(tokenizer)
    window, overlap, limit = model.attrs["window"], model.attrs["overlap"], module.max_pieces
    if limit is not None and window > limit:
        raise ValueError(f"transformer {name}: window = {window}, but it takes at most {limit} word pieces")
    room = pieces.room(window)
    if not 0 <= overlap < room:
        raise ValueError(
            f"transformer {name}: overlap = {overlap} and window = {window}, with room for {room} pieces of words; "
            "overlap must be less than that, and not negative"
        )
    model.set_dim("nO", shim.output_size, force=True)


def load_pretrained(name: str, tokenizer_config: dict[str, Any], transformer_config: dict[str, Any]) -> tuple[Any, Any]:
    """Tokenizer and model of Hugging Face; raises ValueError with the reason if either cannot be loaded."""
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **tokenizer_config)
        pretrained = AutoModel.from_pretrained(name, torch_dtype=torch.float32, **transformer_config)
    except (OSError, ValueError, TypeError, AttributeError, ImportError) as error:
        if Path(name).is_dir():
            there = ", ".join(sorted(path.name for path in Path(name).iterdir())) or "nothing"
            what = f"the folder is not a complete Hugging Face model; it contains {there}"
        elif Path(name).is_absolute() or name.count("/") > 1:
            what = "there is no such folder"
        else:
            what = "it is not a folder, and the Hugging Face hub did not give it; check the name and the network"
        reason = shorten(str(error), 200) or type(error).__name__
        raise ValueError(f"transformer {name!r}: {what} ({reason}). Set [paths] encoder") from error
    return tokenizer, pretrained


def forward(model: Model, docs: list[Doc], is_train: bool) -> tuple[FullTransformerBatch, Callable]:
    shim = get_shim(model)
    lengths = [len(doc) for doc in docs]
    if is_train and not shim.frozen and any(lengths):
        model.attrs["cache"].clear()
        vectors, backprop_vectors = shim.begin_update(module_arguments(model, docs))

        def backprop(gradient: Tensor) -> list[Doc]:
            backprop_vectors(gradient)
            return docs

        return WordBatch(split(model, vectors.detach().float(), lengths)), backprop
    if is_train:
        return WordBatch(model.attrs["cache"].get(model, docs)), no_backprop
    return WordBatch(split(model, predict(model, docs), lengths)), no_backprop


def predict(model: Model, docs: Sequence[Doc]) -> Tensor:
    """Vectors (N, D) of all words."""
    if not any(len(doc) for doc in docs):
        return torch.zeros((0, model.get_dim("nO")), device=get_shim(model).device)
    return cast(Tensor, get_shim(model).predict(module_arguments(model, docs))).float()


def module_arguments(model: Model, docs: Sequence[Doc]) -> tuple[Any, ...]:
    """Arguments of the WordTransformer."""
    pieces = get_pieces(model)
    windows = pieces.windows([doc for doc in docs if len(doc)], model.attrs["window"], model.attrs["overlap"])
    return pieces.collate(windows, get_shim(model).device)


def get_pieces(model: Model) -> WordPieces:
    """The tokenizer of the model."""
    pieces = model.shims[1]
    assert isinstance(pieces, WordPieces)
    return pieces


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
        # The training loop makes new Docs for every update, so the key is the text.
        keys = [doc.to_array([ORTH, SPACY]).tobytes() for doc in docs]
        new = [i for i, key in enumerate(keys) if key not in self._vectors]
        found = {keys[i]: self._vectors[keys[i]] for i in range(len(docs)) if keys[i] in self._vectors}
        if new:
            computed = predict(model, [docs[i] for i in new])
            for i, vectors in zip(new, split(model, computed, [len(docs[i]) for i in new]), strict=True):
                found[keys[i]] = vectors
            size = computed.numel() * computed.element_size()
            if self._bytes + size <= self.limit:
                self._bytes += size
                self._vectors.update({keys[i]: found[keys[i]] for i in new})
        return [found[key] for key in keys]

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and other processes get an empty cache.
        return VectorCache, (self.limit,)
