"""The layers of a pipeline, and their torch modules."""

from collections.abc import Iterator
from typing import Any

import torch
from spacy.language import Language
from thinc.api import Model
from torch import nn

from .device import default_device
from .shim import TorchShim


def layers(nlp: Language) -> Iterator[tuple[str, int, Model]]:
    """All layers of a pipeline: component, number of the layer in its model (the same in every process), layer."""
    for component, pipe in nlp.pipeline:
        model = getattr(pipe, "model", None)
        for number, node in enumerate(model.walk()) if isinstance(model, Model) else ():
            yield component, number, node


def modules(node: Model) -> Iterator[tuple[Any, nn.Module]]:
    """The torch modules of a layer, with their shims: those of this package and thinc's."""
    for shim in node.shims:
        module = getattr(shim, "_model", None)
        if isinstance(module, nn.Module):
            yield shim, module


def shims(node: Model) -> Iterator[TorchShim]:
    """The initialized torch modules of this package in a layer."""
    yield from (shim for shim, _ in modules(node) if isinstance(shim, TorchShim))


def discard_gradients(model: Model) -> None:
    """Discard the gradients that a model has accumulated, in its torch modules and its parameters of thinc."""
    for node in model.walk():
        for _, module in modules(node):
            module.zero_grad()
        for name in node.grad_names:
            node.set_grad(name, node.ops.alloc(node.get_grad(name).shape))


def device_of(model: Model) -> torch.device:
    """Device of the first torch module of a model."""
    return next((shim.device for node in model.walk() for shim in shims(node)), None) or default_device()
