"""A head over an embedding as a thinc model.

The embedding (`tok2vec`, the only layer) turns each document into token vectors. The vectors of all tokens except white
space are padded into one tensor, on which the torch module runs. In training, the gradient of this tensor is split per
document and passed to the embedding.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from spacy.tokens import Doc
from thinc.api import Model
from torch import Tensor

from ..annotation.head_input import HeadInput, as_input
from ..annotation.trees import TreeSettings, read_tree, tree_in_words
from ..annotation.word_places import Words, in_words
from ..annotation.words import find_words
from ..nn.batch import Batch, cut, make_batch, send
from ..nn.head import Head, Loss
from .head_output import HeadPredictions, Predictions, UpdateLoss, sum_losses
from .layers import device_of
from .rows import (
    Tok2Vec,
    check_lengths,
    check_tok2vec,
    join,
    pick,
    pick_rows,
    place_rows,
    split,
    word_rows,
)
from .shim import TorchShim, get_shim, no_backprop

# Indices of the documents of a batch, their padded word vectors (B, T, D), and the batch.
HeadBatch = tuple[list[int], Tensor, Batch]


def head_model(
    name: str,
    tok2vec: Tok2Vec,
    build: Callable[..., Head],
    classifies: str,
    dtype: str,
    trees: TreeSettings | None = None,
) -> Model[HeadInput, Any]:
    """A trainable head over an embedding.

    build: function that makes the head from `input_size` and the hyperparameters of the component, at initialization.
    classifies: tokens, spans or pairs. A component refuses a model that classifies another kind of item.
    dtype: float32; bfloat16, float16 or auto for mixed precision.
    trees: how the encoder reads dependency trees; None if it does not.

    The model is used as
        predict(HeadInput(docs, items)) -> Predictions
        predict(HeadInput(docs, items, method=name of a method of the head)) -> Predictions
        predict(HeadInput(docs, items, targets)) -> UpdateLoss
        begin_update(HeadInput(docs, items, targets)) -> UpdateLoss, backprop(weight of the loss)
            If the loss is not finite, backprop passes no gradient on, and the head discards its accumulated gradients.
        initialize(X=docs, Y=hyperparameters)
    A plain list of documents is read as HeadInput(docs), since generic spaCy tools pass such a list.

    Raises ValueError if tok2vec is not an embedding.
    """
    check_tok2vec(name, tok2vec)
    return Model(
        name,
        head_forward,
        init=initialize,
        layers=[tok2vec],
        shims=[TorchShim(build, dtype=dtype)],
        refs={"tok2vec": tok2vec},
        attrs={"classifies": classifies, "dropout_rate": 0.0, "tree_settings": trees},
    )


def initialize(model: Model, X: list[Doc] | None = None, Y: Any = None) -> None:
    """Initialize the embedding, then build the module of a head or encoder for the width of the embedding.

    Y: hyperparameters of a head that depend on the labels. thinc gives each layer the Y of the whole model, such as the
        tags of a tagger, which an encoder ignores.
    """
    tok2vec: Tok2Vec = model.layers[0]
    tok2vec.initialize(X=X)
    width = tok2vec.maybe_get_dim("nO")
    if width is None:
        if not X:
            raise ValueError(f"{model.name}: the width of the embedding is unknown; initialize with some documents")
        width = tok2vec.predict(X[:1])[0].shape[1]
    shim = get_shim(model)
    is_encoder = "nO" in model.dim_names
    shim.initialize(input_size=int(width), **({} if is_encoder else Y or {}))
    if is_encoder:
        model.set_dim("nO", shim.output_size, force=True)


def head_forward(model: Model[HeadInput, Any], inputs: HeadInput, is_train: bool) -> tuple[Any, Callable[[float], Any]]:
    shim = get_shim(model)
    shim.check_initialized()
    inputs = as_input(inputs, needs_pairs=model.attrs["classifies"] == "pairs")
    if inputs.targets is None:
        return predict_docs(model, inputs), no_backprop
    words = find_words(inputs.docs)
    if not any(map(len, words)):
        return UpdateLoss(torch.zeros(1)), no_backprop
    vectors, backprop_vectors = model.layers[0](inputs.docs, is_train)
    check_lengths(inputs.docs, vectors)
    losses: list[Loss] = []
    backprops = []
    for _, x, batch in make_batches(model, inputs, words, join(model, vectors)):
        part, backprop_loss = shim((x, batch), is_train, model.attrs["dropout_rate"])
        losses.append(part)
        backprops.append((batch, backprop_loss))

    loss = sum_losses(losses)

    def backprop(weight: float = 1.0) -> Any:
        gradients = [
            (batch.tokens, batch.flatten(cast(Tensor, backprop_loss(weight)))) for batch, backprop_loss in backprops
        ]
        # A GPU computes the loss while the host starts the backward pass of the head.
        if not loss.is_finite:
            shim.module.zero_grad()
            return None
        return backprop_vectors(split(model, place_rows(gradients, words), map(len, inputs.docs)))

    return loss, backprop


def predict_docs(model: Model, inputs: HeadInput) -> Predictions:
    """Predictions for each document."""
    if not inputs.docs:  # not every embedding takes an empty list
        return []
    outputs = []
    for group, x, batch in predict_batches(model, inputs):
        outputs.append((group, batch.counts, get_shim(model).predict((x, batch, inputs.method))))
    return HeadPredictions(len(inputs.docs), outputs)


def predict_batches(model: Model, inputs: HeadInput) -> Iterator[HeadBatch]:
    """Batches of the head, see `make_batches`, with the embedding in evaluation mode."""
    words = find_words(inputs.docs)
    return make_batches(model, inputs, words, predict_vectors(model, inputs.docs, words))


def predict_vectors(model: Model, docs: Sequence[Doc], words: Sequence[Words]) -> Tensor:
    """The vectors (N, D) of the tokens of all documents, with the embedding in evaluation mode."""
    if not any(map(len, words)):  # not every embedding takes documents without words alone
        count = sum(own.token_count for own in words)
        return torch.zeros(count, get_shim(model).cfg["input_size"], device=device_of(model))
    vectors = model.layers[0].predict(docs)
    check_lengths(docs, vectors)
    return join(model, vectors)


def make_batches(model: Model, inputs: HeadInput, words: Sequence[Words], flat: Tensor) -> Iterator[HeadBatch]:
    """Cut documents into batches with little padding.

    words: words of each document.
    flat: vectors (N, D) of the tokens of all documents.
    """
    shim = get_shim(model)
    docs, copies = inputs.docs, inputs.copies
    lengths = [len(own) for own in words]
    items, targets = (
        None if values is None else [in_words(*row) for row in zip(values, words, strict=True)]
        for values in (inputs.items, inputs.targets)
    )
    for group in cut(lengths, shim.device, copies=copies):
        batch = make_batch([lengths[i] for i in group], shim.device)
        if copies is not None:
            rows = {i: row for row, i in enumerate(group)}
            batch.copies = np.array([rows[copies[i]] for i in group])
        settings: TreeSettings | None = model.attrs["tree_settings"]
        if settings is not None:
            trees = [tree_in_words(read_tree(docs[i], settings.missing, settings.needs_pos), words[i]) for i in group]
            (batch.trees,) = send([np.concatenate(trees, axis=1)], shim.device)
        if isinstance(shim.module, Head):
            batch = shim.module.collate(batch, pick(items, group), pick(targets, group))
        batch.tokens = word_rows(words, group, shim.device)
        yield group, batch.pad(pick_rows(flat, batch.tokens)), batch
