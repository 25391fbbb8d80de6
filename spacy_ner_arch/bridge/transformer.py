"""Registered transformer: the component of spacy-transformers over a model of ours, shared through listeners.

The component, `factory = "transformer"`, is that of spacy-transformers, and so is the wire between it and the heads:
its listeners work over our model, and our heads over its models. What is ours is what runs inside: word pieces are
pooled to words in the module, behind one border crossing for a whole batch instead of one for each document, and the
weights live in TorchShim.
"""

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any, cast

import numpy as np
import torch
from spacy.attrs import ORTH, SPACY
from spacy.tokens import Doc
from spacy.util import registry
from spacy_transformers.data_classes import FullTransformerBatch, TransformerData, WordpieceBatch
from spacy_transformers.layers import TransformerListener
from thinc.api import Model, Ops, chain, xp2torch
from thinc.types import Floats2d, Ragged
from torch import Tensor
from transformers.file_utils import ModelOutput

from ..architectures.embeddings import concatenate
from ..nn.transformer import POOLINGS, WordTransformer
from .head import Tok2Vec, get_shim, join, split_flat
from .shim import TorchShim, default_device
from .wordpieces import WordPieces

Backprop = Any
MISSING_VECTORS = (
    "a document has no vectors of the transformer: put the component `transformer` into the pipeline before the one "
    "that listens to it, and into annotating_components where that one is"
)
LISTENER = "spacy_ner_arch.TransformerListener.v1"


@registry.architectures("spacy_ner_arch.TransformerModel.v1")
def transformer_model(
    name: str,
    pooling: str = "mean",
    window: int = 256,
    overlap: int = 64,
    dtype: str = "float32",
    frozen: bool = False,
    cache_mib: int = 1024,
    tokenizer_config: dict[str, Any] = {},  # noqa: B006 - read from configs
    transformer_config: dict[str, Any] = {},  # noqa: B006
) -> Model[list[Doc], FullTransformerBatch]:
    """Pretrained transformer for the component `transformer`, one vector a word.

    name: of a model on the hub of Hugging Face, or a folder.
    pooling: what a word gets of its pieces: mean, first, or first_last (side by side, so twice as wide).
    window: word pieces that the transformer reads at a time, special ones included. Longer documents are read in
        overlapping windows; each word is taken from the one where it has more context.
    overlap: word pieces that neighbouring windows share.
    dtype: float32, or bfloat16 or float16 for mixed precision.
    frozen: use the transformer as it is. It then runs without dropout and without a graph.
    cache_mib: memory, on the device, for the vectors of training documents while the transformer is frozen, always or
        for a stage of training; documents beyond it are computed anew.
    tokenizer_config, transformer_config: settings for the tokenizer and the model, as Hugging Face knows them.
    """
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
            "replace_listener": replace_listener,
            "replace_listener_cfg": replace_listener_cfg,
        },
    )
    return model


@registry.architectures("spacy_ner_arch.TransformerListener.v1")
def transformer_listener(features: Tok2Vec | None = None, upstream: str = "*") -> Tok2Vec:
    """The vectors of the component `transformer`, for a head: what spacy-transformers' listener does, for the whole
    batch at once and without a copy for each document. Only over spacy_ner_arch.TransformerModel.v1.

    features: an embedding that is put beside the vectors, for example spacy_ner_arch.WordCharEmbed.v1, from which the
        head learns what the transformer cannot see: an uncased one gets its case back.
    upstream: name of the transformer component, if there are several.
    """
    listener = WordListener(upstream)
    return listener if features is None else concatenate(listener, features)


@registry.architectures("spacy_ner_arch.TransformerTok2Vec.v1")
def transformer_tok2vec(
    transformer: Model[list[Doc], FullTransformerBatch], features: Tok2Vec | None = None
) -> Tok2Vec:
    """A transformer of a component's own, in the place of its `tok2vec`, shared with nobody.

    transformer: spacy_ner_arch.TransformerModel.v1.
    features: as for spacy_ner_arch.TransformerListener.v1.
    """
    tok2vec = own_transformer(transformer)
    return tok2vec if features is None else concatenate(tok2vec, features)


# The model


def initialize(
    name: str,
    tokenizer_config: dict[str, Any],
    transformer_config: dict[str, Any],
    model: Model,
    X: Any = None,
    Y: Any = None,
) -> None:
    """Fetch the pretrained weights; nothing happens if the model has weights already."""
    shim, pieces = get_shim(model), model.shims[1]
    if shim.is_initialized:
        return
    tokenizer, pretrained = load_pretrained(name, tokenizer_config, transformer_config)
    if pretrained.config.is_encoder_decoder:
        raise ValueError(f"transformer {name}: it has a decoder, and words need an encoder alone; choose another one")
    # What the diff leaves out.
    rest = {key: value for key, value in transformer_config.items() if key == "attn_implementation"}
    config = pretrained.config.to_diff_dict() | {"model_type": pretrained.config.model_type} | rest
    shim.initialize(config=config)
    module = cast(WordTransformer, shim.module)
    missing = module.transformer.load_state_dict(pretrained.state_dict(), strict=False).missing_keys
    if missing:
        raise ValueError(f"transformer {name}: it has no weights for {', '.join(missing[:3])}; choose another one")
    cast(WordPieces, pieces).initialize(tokenizer)
    window, overlap, limit = model.attrs["window"], model.attrs["overlap"], module.max_pieces
    if limit is not None and window > limit:
        raise ValueError(f"transformer {name}: window = {window}, but it takes {limit} word pieces")
    room = cast(WordPieces, pieces).room(window)
    if not 0 <= overlap < room:
        raise ValueError(
            f"transformer {name}: overlap = {overlap} and window = {window}, in which {room} pieces of words have "
            "place; overlap must be less than that, and not negative"
        )
    model.set_dim("nO", shim.output_size, force=True)


def load_pretrained(name: str, tokenizer_config: dict[str, Any], transformer_config: dict[str, Any]) -> tuple[Any, Any]:
    """Tokenizer and model of Hugging Face; raises ValueError in one sentence if either cannot be had."""
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **tokenizer_config)
        pretrained = AutoModel.from_pretrained(name, torch_dtype=torch.float32, **transformer_config)
    except (OSError, ValueError, TypeError, AttributeError, ImportError) as error:
        if Path(name).is_dir():
            there = ", ".join(sorted(path.name for path in Path(name).iterdir())) or "nothing"
            what = f"the folder is not a complete model of Hugging Face; it holds {there}"
        elif Path(name).is_absolute() or name.count("/") > 1:
            what = "there is no such folder"
        else:
            what = "it is no folder, and cannot be had from the hub of Hugging Face; check the name and the network"
        reason = shorten(str(error), 200) or type(error).__name__
        raise ValueError(f"transformer {name!r}: {what} ({reason}). Set [paths] encoder") from error
    return tokenizer, pretrained


def forward(model: Model, docs: list[Doc], is_train: bool) -> tuple[FullTransformerBatch, Backprop]:
    shim = get_shim(model)
    lengths = [len(doc) for doc in docs]
    if is_train and not shim.frozen and any(lengths):
        cache: VectorCache = model.attrs["cache"]
        cache.clear()
        vectors, backprop_vectors = shim.begin_update(arguments(model, docs))
        batch = WordBatch(split_flat(model, vectors.detach().float(), lengths))

        def backprop(gradient: Tensor) -> list[Doc]:
            backprop_vectors(gradient)
            return docs

        return batch, backprop
    if is_train:
        return WordBatch(model.attrs["cache"].get(model, docs)), _no_backprop
    return WordBatch(split_flat(model, predict(model, docs), lengths)), _no_backprop


def predict(model: Model, docs: Sequence[Doc]) -> Tensor:
    """Vectors (N, D) of all words."""
    if not any(len(doc) for doc in docs):
        return torch.zeros((0, model.get_dim("nO")), device=get_shim(model).device)
    return cast(Tensor, get_shim(model).predict(arguments(model, docs))).float()


def arguments(model: Model, docs: Sequence[Doc]) -> tuple[Any, ...]:
    """What the module has to know of the documents."""
    pieces = cast(WordPieces, model.shims[1])
    windows = pieces.windows([doc for doc in docs if len(doc)], model.attrs["window"], model.attrs["overlap"])
    return pieces.collate(windows, get_shim(model).device)


class VectorCache:
    """Vectors of documents that a frozen transformer has read already, while they fit into so many bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.clear()

    def clear(self, module: Any = None) -> None:
        self._module = module
        self._vectors: dict[bytes, Floats2d] = {}
        self._bytes = 0

    def get(self, model: Model, docs: Sequence[Doc]) -> list[Floats2d]:
        """Vectors of the documents, computed where they are not known."""
        if self._module is not get_shim(model).module:  # other weights were loaded
            self.clear(get_shim(model).module)
        # The training loop makes new documents for every update: what makes two of them the same is their text.
        keys = [doc.to_array([ORTH, SPACY]).tobytes() for doc in docs]
        new = [i for i, key in enumerate(keys) if key not in self._vectors]
        found = {keys[i]: self._vectors[keys[i]] for i in range(len(docs)) if keys[i] in self._vectors}
        if new:
            computed = predict(model, [docs[i] for i in new])
            for i, vectors in zip(new, split_flat(model, computed, [len(docs[i]) for i in new]), strict=True):
                found[keys[i]] = vectors
            size = computed.numel() * computed.element_size()
            if self._bytes + size <= self.limit:
                self._bytes += size
                self._vectors.update({keys[i]: found[keys[i]] for i in new})
        return [found[key] for key in keys]

    def __reduce__(self) -> tuple[Any, ...]:
        # Neither copies nor other processes get the vectors.
        return VectorCache, (self.limit,)


# Between the component and the heads


class WordBatch(FullTransformerBatch):
    """What the component hands on: the same fields that spacy-transformers has for word pieces, with one row a word.

    vectors: (words, D) of each document.
    """

    def __init__(self, vectors: Sequence[Floats2d]) -> None:
        self.gradients: list[Tensor] = []
        self.width = vectors[0].shape[1] if vectors else 0
        super().__init__(
            spans=[],
            wordpieces=WordpieceBatch.empty(),
            model_output=ModelOutput(),
            align=_alignment(0),
            cached_doc_data=DocVectors(self.gradients, vectors),
        )

    def unsplit_by_doc(self, arrays: list[list[Any]]) -> Tensor:  # type: ignore[override]
        """The gradient (N, D) of all words: from our listeners, which left it here, and from those of
        spacy-transformers, which give (1, words, D) for each document with a word."""
        gradients = self.gradients
        if arrays:
            gradients = [*gradients, torch.cat([xp2torch(array[0][0], device=default_device()) for array in arrays])]
        return cast(Tensor, sum(gradients[1:], start=gradients[0]))


class DocVectors(list[TransformerData]):
    """Vectors of documents, in the form that the listeners of spacy-transformers expect.

    gradients: where our listeners leave theirs, for the whole batch. Not the batch itself: a circle of references
        would hold its memory until the garbage collector comes by.
    """

    def __init__(self, gradients: list[Tensor], vectors: Sequence[Floats2d]) -> None:
        super().__init__(map(_doc_data, vectors))
        self.gradients = gradients


def _doc_data(vectors: Floats2d) -> TransformerData:
    if not len(vectors):
        return TransformerData.empty()
    output = ModelOutput()
    output["last_hidden_state"] = vectors.reshape((1, *vectors.shape))
    return TransformerData(WordpieceBatch.empty(), output, _alignment(len(vectors)))


def _alignment(words: int) -> Ragged:
    return Ragged(cast(Any, np.arange(words)), cast(Any, np.ones(words, dtype="i")))


class WordListener(TransformerListener):
    """Stands in a head for the transformer, and carries the gradient of a whole batch back at once."""

    def __init__(self, upstream_name: str) -> None:
        super().__init__(upstream_name)
        self._func = listen


def listen(model: WordListener, docs: list[Doc], is_train: bool) -> tuple[list[Floats2d], Backprop]:
    received = is_train and model._batch_id is not None
    datas: Any = model._outputs if received else [doc._.trf_data for doc in docs]
    if any(data is None and len(doc) for doc, data in zip(docs, datas, strict=True)):
        if is_train:
            raise ValueError(MISSING_VECTORS)
        # spaCy's components run their models once when they are initialized, on documents that no transformer has read.
        warnings.warn(f"{MISSING_VECTORS}; zeros are taken for them", stacklevel=2)
    width = model.get_dim("nO")
    vectors = [word_rows(data, model.ops, width, len(doc)) for data, doc in zip(datas, docs, strict=True)]
    if not received:
        return vectors, _no_backprop
    model.verify_inputs(docs)
    if not isinstance(datas, DocVectors):
        raise ValueError(
            "spacy_ner_arch.TransformerListener.v1 listens to spacy_ner_arch.TransformerModel.v1 only; over another "
            "model use spacy-transformers.TransformerListener.v1"
        )

    def backprop(gradients: list[Floats2d]) -> Any:
        datas.gradients.append(join(model, gradients))
        return model.backprop_and_clear([])

    return vectors, backprop


# A transformer for one head alone


def own_transformer(transformer: Model[list[Doc], FullTransformerBatch]) -> Tok2Vec:
    return chain(transformer, Model("word_vectors", word_vectors))


def word_vectors(model: Model, batch: WordBatch, is_train: bool) -> tuple[list[Floats2d], Backprop]:
    """The vectors of the words out of what is meant for listeners."""
    width = batch.width
    return [word_rows(data, model.ops, width) for data in batch.doc_data], partial(join, model)


def word_rows(data: TransformerData | None, ops: Ops, width: int, words: int = 0) -> Floats2d:
    """(words, D) of one document; zeros if there is nothing."""
    if data is None or not data.model_output:
        return ops.alloc2f(words, width)
    return cast(Floats2d, data.model_output["last_hidden_state"][0])


def replace_listener(model: Model[list[Doc], FullTransformerBatch]) -> Tok2Vec:
    return own_transformer(model)


def replace_listener_cfg(transformer: dict[str, Any], tok2vec: dict[str, Any]) -> dict[str, Any]:
    """The block that takes the place of the listener's, which is `tok2vec` or somewhere in it."""
    listener = find_listener(tok2vec)
    if listener is None:
        raise ValueError(
            f"the transformer can only take the place of {LISTENER}; use it in the config of the component"
        )
    return {
        "@architectures": "spacy_ner_arch.TransformerTok2Vec.v1",
        "transformer": transformer,
        "features": listener.get("features"),
    }


def find_listener(block: dict[str, Any]) -> dict[str, Any] | None:
    if block.get("@architectures") == LISTENER:
        return block
    inner = (find_listener(value) for value in block.values() if isinstance(value, dict))
    return next((listener for listener in inner if listener is not None), None)


def _no_backprop(gradient: Any) -> list[Doc]:
    return []
