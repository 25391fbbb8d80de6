"""The state of a pipeline and of its optimizers that updates change, with the same names in every process."""

from collections.abc import Iterator
from typing import Any

import torch
from spacy.language import Language
from thinc.api import Optimizer, get_current_ops, torch2xp, xp2torch
from torch import Tensor

from ..bridge.layers import layers, modules, shims
from ..bridge.shim import TorchShim
from ..bridge.storage import tensors_checksum
from .checkpoint import Checkpoint, TrainingError
from .loss_weights import LearnedWeight

# Attributes of thinc's optimizer that hold arrays by parameter.
MOMENTS = ("mom1", "mom2", "averages")


def weights(nlp: Language) -> dict[str, Tensor]:
    """All parameters and buffers of the pipeline by name; they share their memory with the models."""
    found: dict[str, Tensor] = {}
    known = set()
    for component, number, node in layers(nlp):
        own = {key: xp2torch(node.get_param(key)) for key in node.param_names if node.has_param(key)}
        for _, module in modules(node):
            own.update(module.state_dict())
        for key, tensor in own.items():
            place = (tensor.data_ptr(), tensor.shape)
            if place not in known or not tensor.numel():  # tied parameters have several names
                known.add(place)
                found[f"weights/{component}/{number}/{key}"] = tensor
    return found


def weights_checksum(nlp: Language) -> int:
    """CRC-32 of all weights."""
    return tensors_checksum({}, {name: tensor.cpu().contiguous() for name, tensor in weights(nlp).items()})


def set_weights(nlp: Language, tensors: dict[str, Tensor]) -> None:
    """Copy stored weights into the pipeline. Raises TrainingError if they do not fit its layers."""
    own = weights(nlp)
    stored = {f"weights/{name}": tensor for name, tensor in parts(tensors, "weights")}
    for name in sorted(own.keys() | stored.keys()):
        shapes = [list(found[name].shape) if name in found else "nothing" for found in (stored, own)]
        if shapes[0] != shapes[1]:
            raise TrainingError(
                f"the checkpoint has {shapes[0]} for {name.removeprefix('weights/')}, and the pipeline {shapes[1]}: "
                "config or labels have changed too much to resume; start again with --force instead of --resume"
            )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(stored[name])


def optimizer_keys(nlp: Language) -> dict[str, tuple[tuple[Any, str], torch.device | None]]:
    """Map stable names of parameters to their keys in thinc's optimizer, which differ between processes.

    The second value is the device of a parameter in a TorchShim, whose moments are torch tensors; None for a parameter
    of thinc, whose moments are arrays.
    """
    keys: dict[str, tuple[tuple[Any, str], torch.device | None]] = {}
    for component, number, node in layers(nlp):
        name = f"{component}/{number}"
        keys.update({f"{name}/{key}": ((node.id, key), None) for key in node.param_names})
        for shim, module in modules(node):
            for key, parameter in module.named_parameters():
                is_own = isinstance(shim, TorchShim)
                owner = shim.optimizer.name if is_own else shim.id
                keys[f"{name}/{key}"] = (owner, key), parameter.device if is_own else None
    return keys


def training_state(nlp: Language, optimizer: Optimizer) -> Checkpoint:
    """Weights, averages, states of all optimizers, and learned loss weights."""
    tensors = weights(nlp)
    optimizers = {}
    names = {key: name for name, (key, _) in optimizer_keys(nlp).items()}
    for kind in MOMENTS:
        for key, array in (getattr(optimizer, kind) or {}).items():
            tensors[f"{kind}/{names[key]}"] = array if isinstance(array, Tensor) else xp2torch(array)
    for name, shim in own_shims(nlp):
        held, optimizers[name] = shim.optimizer.state()
        tensors.update({f"shims/{name}/{key}": tensor for key, tensor in held.items()})
    values = {
        "updates": {names[key]: count for key, count in optimizer.nr_update.items()},
        "shims": optimizers,
        "loss_weights": {component: vars(weight) for component, weight in learned_weights(nlp)},
    }
    return Checkpoint(values, tensors)


def set_training_state(nlp: Language, optimizer: Optimizer, checkpoint: Checkpoint) -> None:
    """Restore a stored state of the pipeline and the optimizer.

    Raises TrainingError if it is the state of another pipeline.
    """
    values, tensors = checkpoint
    set_weights(nlp, tensors)
    keys = optimizer_keys(nlp)
    stored = {name for kind in MOMENTS for name, _ in parts(tensors, kind)} | values["updates"].keys()
    if unknown := sorted(stored - keys.keys()):
        raise TrainingError(
            f"the checkpoint has an optimizer state of {unknown[0]}, which this pipeline does not have: it is from "
            "another pipeline; start again with --force instead of --resume"
        )
    for kind in MOMENTS:
        held = getattr(optimizer, kind)
        for name, tensor in parts(tensors, kind) if held is not None else ():
            key, device = keys[name]
            held[key] = torch2xp(tensor, ops=get_current_ops()) if device is None else tensor.to(device)
    optimizer.nr_update.update({keys[name][0]: count for name, count in values["updates"].items()})
    for name, shim in own_shims(nlp):
        shim.optimizer.load_state(optimizer, dict(parts(tensors, f"shims/{name}")), values["shims"][name])
    for component, weight in learned_weights(nlp):
        vars(weight).update(values["loss_weights"].get(component, {}))


def own_shims(nlp: Language) -> Iterator[tuple[str, TorchShim]]:
    """The torch modules of this package by layer."""
    for component, number, node in layers(nlp):
        yield from ((f"{component}/{number}", shim) for shim in shims(node))


def learned_weights(nlp: Language) -> Iterator[tuple[str, LearnedWeight]]:
    """Learned weights of losses by component."""
    for component, pipe in nlp.pipeline:
        weight = getattr(pipe, "loss_weight", None)
        if isinstance(weight, LearnedWeight):
            yield component, weight


def parts(tensors: dict[str, Tensor], prefix: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors whose names begin with a prefix, under their names without the prefix."""
    for name, tensor in tensors.items():
        if name.startswith(f"{prefix}/"):
            yield name.removeprefix(f"{prefix}/"), tensor
