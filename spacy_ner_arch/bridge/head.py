"""Documents on one side, a torch module on the other: padding, one border crossing each way, and the gradient back.

A model of this package is a thinc model with one layer, the embedding (`tok2vec`), and one shim, the module with
encoder and head. Everything behind the embedding is one autograd graph.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from spacy.tokens import Doc
from thinc.api import Model, torch2xp, xp2torch
from thinc.types import Floats2d, Ints1d
from torch import Tensor, nn

from ..nn.batch import Padding, padding
from ..nn.batching import chunks
from .shim import TorchShim, default_device

Tok2Vec = Model[list[Doc], list[Floats2d]]
# Of each document, its rows of what the module returns.
Prediction = list[tuple[np.ndarray, ...]]
# What a collate function makes of the targets of a batch: further arguments of the module.
Arguments = tuple[Any, ...]


# (model, docs, padding) -> what the module has to know of the documents besides their vectors.
Context = Callable[[Model, Sequence[Doc], Padding], Arguments]


def no_context(model: Model, docs: Sequence[Doc], shape: Padding) -> Arguments:
    """Nothing but the vectors."""
    return ()


def head_model(
    name: str,
    tok2vec: Tok2Vec,
    build: Callable[..., nn.Module],
    collate: Callable[..., Arguments],
    dtype: str,
    context: Context = no_context,
) -> Model:
    """A trainable head over an embedding.

    build: makes the module from `input_size` and the hyperparameters that the component gives at initialization. The
        module takes (x, mask, *context) for predictions, a tuple of tensors with one row per document, and (x, mask,
        *context, *arguments) for the loss.
    collate: (targets, padding) -> arguments.
    context: further arguments that follow from the documents.

    The model is used as
        predict(docs) -> Prediction
        predict((docs, targets)) -> loss
        begin_update((docs, targets)) -> loss, backprop(weight of the loss)
        initialize(X=docs, Y=hyperparameters)
    A loss is a tensor that stays on its device until somebody reads it.
    """
    return Model(
        name,
        head_forward,
        init=initialize,
        layers=[tok2vec],
        shims=[TorchShim(build, dtype=dtype)],
        refs={"tok2vec": tok2vec},
        attrs={
            "dropout_rate": 0.0,
            "collate": collate,
            "context": context,
            "change": change,
            "calibrate": calibrate,
            "read_loss": read_loss,
        },
    )


def tok2vec_model(
    name: str, tok2vec: Tok2Vec, build: Callable[..., nn.Module], dtype: str, context: Context = no_context
) -> Tok2Vec:
    """An encoder over an embedding as a tok2vec of its own; the module takes (x, mask, *context)."""
    return Model(
        name,
        tok2vec_forward,
        init=initialize,
        layers=[tok2vec],
        shims=[TorchShim(build, dtype=dtype)],
        refs={"tok2vec": tok2vec},
        dims={"nO": None},
        attrs={"dropout_rate": 0.0, "context": context},
    )


def initialize(model: Model, X: list[Doc] | None = None, Y: dict[str, Any] | None = None) -> None:
    """Initialize the embedding, then build the module for its width."""
    tok2vec: Tok2Vec = model.layers[0]
    tok2vec.initialize(X=X)
    width = tok2vec.maybe_get_dim("nO")
    if width is None:
        if not X:
            raise ValueError(f"{model.name}: the width of the embedding is unknown; initialize with some documents")
        width = tok2vec.predict(X[:1])[0].shape[1]
    shim = get_shim(model)
    shim.initialize(input_size=int(width), **(Y or {}))
    if "nO" in model.dim_names:
        model.set_dim("nO", shim.output_size, force=True)


def change(model: Model, method: str, **hyperparameters: Any) -> None:
    """Change the shape of a module that may be trained already; before initialization there is nothing to change."""
    if get_shim(model).is_initialized:
        get_shim(model).change(method, **hyperparameters)


def read_loss(model: Model, loss: Tensor) -> tuple[float, dict[str, float]]:
    """The loss of an update, and what the module says that it holds besides, by name: all in one trip to the host."""
    module: Any = get_shim(model).module
    parts: dict[str, Tensor] = getattr(module, "loss_parts", {})
    module.loss_parts = {}
    value, *others = torch.stack([loss.float(), *(part.float() for part in parts.values())]).tolist()
    return value, dict(zip(parts, others, strict=True))


def calibrate(model: Model, docs: list[Doc], targets: Sequence[Any]) -> None:
    """Fit what turns the scores of a tagger into probabilities on documents that it was not trained on."""
    shim, batches = get_shim(model), []
    order = sorted((i for i in range(len(docs)) if len(docs[i])), key=lambda i: len(docs[i]))
    for chunk in chunks([len(docs[i]) for i in order], shim.device.type != "cpu"):
        batch = [docs[i] for i in order[chunk]]
        flat = join(model, model.layers[0].predict(batch))
        shape = padding([len(doc) for doc in batch], flat.device)
        context = model.attrs["context"](model, batch, shape)
        # Cloned, for autograd takes no tensor that was made in inference mode.
        emissions = shim.run("emissions", (shape.pad(flat), shape.mask, *context)).clone()
        batches.append((emissions, shape.mask, *model.attrs["collate"]([targets[i] for i in order[chunk]], shape)))
    if batches:
        cast(Any, shim.module).calibrate(batches)


def get_shim(model: Model) -> TorchShim:
    """The torch side of a model of this package."""
    shim = model.shims[0]
    assert isinstance(shim, TorchShim)
    return shim


def device_of(model: Model) -> torch.device:
    """Where the first torch module of the model is."""
    shims = (shim for node in model.walk() for shim in node.shims if isinstance(shim, TorchShim))
    return next((shim.device for shim in shims if shim.is_initialized), default_device())


def check_initialized(model: Model) -> None:
    """Raise before the embedding does, whose own message would not say what to do."""
    assert get_shim(model).module is not None


def head_forward(
    model: Model, X: list[Doc] | tuple[list[Doc], Any], is_train: bool
) -> tuple[Any, Callable[[float], Any]]:
    check_initialized(model)
    if not isinstance(X, tuple):
        return predict(model, X), _no_backprop
    docs, targets = X
    shim = get_shim(model)
    if not any(len(doc) for doc in docs):
        return torch.zeros(()), _no_backprop
    vectors, backprop_vectors = model.layers[0](docs, is_train)
    lengths = [len(rows) for rows in vectors]
    flat = join(model, vectors)
    shape = padding(lengths, flat.device)
    context = model.attrs["context"](model, docs, shape)
    arguments = (shape.pad(flat), shape.mask, *context, *model.attrs["collate"](targets, shape))
    if not is_train:
        return shim.predict(arguments), _no_backprop
    loss, backprop_loss = shim.begin_update(arguments, model.attrs["dropout_rate"])

    def backprop(weight: float = 1.0) -> Any:
        d_padded = backprop_loss(weight)
        return backprop_vectors(split_flat(model, shape.flatten(cast(Tensor, d_padded)), lengths))

    return loss.detach(), backprop


def tok2vec_forward(
    model: Tok2Vec, docs: list[Doc], is_train: bool
) -> tuple[list[Floats2d], Callable[[list[Floats2d]], Any]]:
    shim, lengths = get_shim(model), [len(doc) for doc in docs]
    check_initialized(model)
    if not any(lengths):
        return [model.ops.alloc2f(0, model.get_dim("nO")) for _ in docs], _no_backprop
    vectors, backprop_vectors = model.layers[0](docs, is_train)
    flat = join(model, vectors)
    shape = padding(lengths, flat.device)
    arguments = (shape.pad(flat), shape.mask, *model.attrs["context"](model, docs, shape))
    if is_train:
        encoded, backprop_encoded = shim.begin_update(arguments, model.attrs["dropout_rate"])
    else:
        encoded, backprop_encoded = shim.predict(arguments), _no_backprop

    def backprop(d_encoded: list[Floats2d]) -> Any:
        gradient = shape.pad(join(model, d_encoded))
        d_padded = cast(Tensor, backprop_encoded(gradient))
        return backprop_vectors(split_flat(model, shape.flatten(d_padded), lengths))

    return split_flat(model, shape.flatten(encoded.detach().float()), lengths), backprop


def predict(model: Model, docs: list[Doc]) -> Prediction:
    """Predictions of all documents, in order, each as a tuple of arrays with the document's own row."""
    shim, tok2vec = get_shim(model), model.layers[0]
    vectors = tok2vec.predict(docs)
    order = sorted(range(len(docs)), key=lambda i: len(vectors[i]))
    lengths = [len(vectors[i]) for i in order]
    if not any(lengths):
        flat = torch.zeros((0, int(shim.cfg["input_size"])), device=shim.device)
    else:
        flat = join(model, [vectors[i] for i in order])
    outputs: list[tuple[Tensor, ...]] = []
    done = 0
    for chunk in chunks(lengths, flat.device.type != "cpu"):
        shape = padding(lengths[chunk], flat.device)
        rows = flat[done : done + sum(lengths[chunk])]
        done += len(rows)
        context = model.attrs["context"](model, [docs[i] for i in order[chunk]], shape)
        output = shim.predict((shape.pad(rows), shape.mask, *context))
        outputs.append(tuple(tensor.to("cpu", non_blocking=True) for tensor in output))
    if flat.is_cuda:
        torch.cuda.synchronize()
    by_length = [row for output in outputs for row in zip(*(tensor.numpy() for tensor in output), strict=True)]
    predictions: Prediction = [()] * len(docs)
    for i, row in zip(order, by_length, strict=True):
        predictions[i] = row
    return predictions


def join(model: Model, arrays: list[Floats2d]) -> Tensor:
    """One tensor (N, D) of the arrays of all documents."""
    return xp2torch(model.ops.flatten(arrays), device=device_of(model))


def split_flat(model: Model, flat: Tensor, lengths: list[int]) -> list[Floats2d]:
    """The rows (N, D) as one array per document, views of one piece of memory."""
    array = cast(Floats2d, torch2xp(flat.contiguous(), ops=model.ops))
    return model.ops.unflatten(array, cast(Ints1d, lengths))


def _no_backprop(*args: Any) -> None:
    return None
