"""Checkpoints: all that a training needs to go on after a kill, and how files and folders replace older ones.

A checkpoint is one safetensors file: tensors, and JSON values in its header. Schedules and the position in the corpus
are not in it, since a resumed training draws the same batches again (`training.loop`).
"""

import ctypes
import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from spacy.language import Language
from thinc.api import Model, Optimizer, get_current_ops, torch2xp, xp2torch
from torch import Tensor, nn

from .. import __version__
from ..bridge.shim import TorchShim
from ..bridge.storage import tensors_checksum
from .loss_weights import LearnedWeight

FILE = "checkpoint.safetensors"
# Raised with every change of what is stored.
VERSION = 1
# Of the optimiser of thinc: arrays by parameter.
MOMENTS = ("mom1", "mom2", "averages")
# Arguments of Linux' renameat2: paths are relative to the current folder; exchange the two.
AT_FDCWD, RENAME_EXCHANGE = -100, 2


class TrainingError(ValueError):
    """A training that cannot be saved, resumed or run in several processes, with a remedy for its user."""


class Checkpoint(NamedTuple):
    """State of a training after an update.

    values: JSON values, see `training.loop`.
    tensors: by name, on the CPU.
    """

    values: dict[str, Any]
    tensors: dict[str, Tensor]


# Files


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in the place of an older one, which stays if this fails or is killed.

    Raises OSError if it cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    values = {**checkpoint.values, "version": VERSION, "package": __version__}
    values["checksum"] = tensors_checksum(values, tensors)
    # A folder, since safetensors writes a file with a name of its own first, which a kill would leave.
    folder = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir()
        save_file(tensors, folder / path.name, {"values": json.dumps(values)})
        # Windows flushes only files that are open for writing.
        with (folder / path.name).open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(folder / path.name, path)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint. Nothing in it is executed. Raises TrainingError if it is damaged or of another version."""
    remedy = "start again with --force instead of --resume"
    try:
        with safe_open(path, framework="pt") as file:
            values = json.loads(file.metadata()["values"])
            version, package = values["version"], values["package"]
            if version != VERSION:
                raise TrainingError(
                    f"{path} has version {version}, of spacy_ner_arch {package}; this is spacy_ner_arch {__version__} "
                    f"with version {VERSION}. Resume with that release, or {remedy}"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if values.pop("checksum") != tensors_checksum(values, tensors):
            raise ValueError("its checksum is wrong")
    except TrainingError:
        raise
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise TrainingError(f"{path} is damaged ({error}): {remedy}") from error
    return Checkpoint(values, tensors)


def replace_folder(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a folder in the place of an older one, which stays if this fails or is killed.

    write: writes the new folder, given a path beside the old one.
    """
    part = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(part, ignore_errors=True)
    try:
        write(part)
        if not path.exists():
            os.rename(part, path)
        elif not exchange(part, path):
            # Elsewhere a kill between these two can leave the older folder under its other name only.
            old = path.with_name(f"{path.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            os.rename(path, old)
            os.rename(part, path)
            shutil.rmtree(old)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def exchange(first: Path, second: Path) -> bool:
    """Exchange two folders atomically. Only Linux can, on most file systems; elsewhere return False."""
    if sys.platform != "linux":
        return False
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    paths = AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second)
    return renameat2 is not None and renameat2(*paths, RENAME_EXCHANGE) == 0


# Random numbers


def random_state() -> dict[str, Any]:
    """State of the random numbers of Python, NumPy and torch on the CPU, as JSON values."""
    version, numbers, gauss = random.getstate()
    state: Any = np.random.get_state(legacy=False)
    numbers_of_numpy = {**state["state"], "key": state["state"]["key"].tolist()}
    return {
        "python": [version, list(numbers), gauss],
        "numpy": {**state, "state": numbers_of_numpy},
        "torch": bytes(torch.get_rng_state().tolist()).hex(),
    }


def set_random_state(state: dict[str, Any]) -> None:
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    key = np.array(state["numpy"]["state"]["key"], dtype=np.uint32)
    np.random.set_state({**state["numpy"], "state": {**state["numpy"]["state"], "key": key}})
    torch.set_rng_state(as_bytes(state["torch"]))


def device_random_state() -> dict[str, Any]:
    """State of the random numbers of the GPU, as JSON values; empty on a CPU.

    CuPy cannot tell its state: it gets a new seed here, so that a resumed training goes on with the same numbers.
    """
    if get_current_ops().name != "cupy":
        return {}
    seed = int(np.random.randint(2**31))
    state = {"cupy": seed, "cuda": bytes(torch.cuda.get_rng_state().tolist()).hex()}
    set_device_random_state(state)
    return state


def set_device_random_state(state: dict[str, Any]) -> None:
    if state and get_current_ops().name == "cupy":
        get_current_ops().xp.random.seed(state["cupy"])
        torch.cuda.set_rng_state(as_bytes(state["cuda"]))


def as_bytes(text: str) -> Tensor:
    return torch.tensor(list(bytes.fromhex(text)), dtype=torch.uint8)


# Weights and optimisers


def nodes(nlp: Language) -> Iterator[tuple[str, Model]]:
    """All layers of the pipeline, with names that are the same in another process."""
    for component, pipe in nlp.pipeline:
        model = getattr(pipe, "model", None)
        for number, node in enumerate(model.walk()) if isinstance(model, Model) else ():
            yield f"{component}/{number}", node


def modules(node: Model) -> Iterator[tuple[Any, nn.Module]]:
    """The torch modules of a layer, with the shims that hold them: those of this package, and thinc's."""
    for shim in node.shims:
        module = getattr(shim, "_model", None)
        if isinstance(module, nn.Module):
            yield shim, module


def weights(nlp: Language) -> dict[str, Tensor]:
    """All parameters and buffers of the pipeline by name; they share their memory with the models."""
    found: dict[str, Tensor] = {}
    known = set()
    for name, node in nodes(nlp):
        own = {key: xp2torch(node.get_param(key)) for key in node.param_names if node.has_param(key)}
        for _, module in modules(node):
            own.update(module.state_dict())
        for key, tensor in own.items():
            place = (tensor.data_ptr(), tensor.shape)
            if place not in known or not tensor.numel():  # tied parameters have several names
                known.add(place)
                found[f"weights/{name}/{key}"] = tensor
    return found


def weights_checksum(nlp: Language) -> int:
    """CRC-32 of all weights."""
    return tensors_checksum({}, {name: tensor.cpu().contiguous() for name, tensor in weights(nlp).items()})


def set_weights(nlp: Language, tensors: dict[str, Tensor]) -> None:
    """Copy stored weights into the pipeline. Raises TrainingError if they are those of other layers."""
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
    """Map stable names of parameters to their keys in thinc's optimiser, which differ between processes.

    With the device of parameters of this package, for which the optimiser has tensors; None for others.
    """
    keys: dict[str, tuple[tuple[Any, str], torch.device | None]] = {}
    for name, node in nodes(nlp):
        keys.update({f"{name}/{key}": ((node.id, key), None) for key in node.param_names})
        for shim, module in modules(node):
            for key, parameter in module.named_parameters():
                is_own = isinstance(shim, TorchShim)
                owner = shim.optimizer.name if is_own else shim.id
                keys[f"{name}/{key}"] = (owner, key), parameter.device if is_own else None
    return keys


def training_state(nlp: Language, optimizer: Optimizer) -> Checkpoint:
    """Weights, averages, states of all optimisers, and learned loss weights."""
    tensors = weights(nlp)
    shims = {}
    names = {key: name for name, (key, _) in optimizer_keys(nlp).items()}
    for kind in MOMENTS:
        for key, array in (getattr(optimizer, kind) or {}).items():
            tensors[f"{kind}/{names[key]}"] = array if isinstance(array, Tensor) else xp2torch(array)
    for name, shim in torch_shims(nlp):
        held, shims[name] = shim.optimizer.state()
        tensors.update({f"shims/{name}/{key}": tensor for key, tensor in held.items()})
    values = {
        "updates": {names[key]: count for key, count in optimizer.nr_update.items()},
        "shims": shims,
        "loss_weights": {component: vars(weight) for component, weight in learned_weights(nlp)},
    }
    return Checkpoint(values, tensors)


def set_training_state(nlp: Language, optimizer: Optimizer, checkpoint: Checkpoint) -> None:
    """Put the pipeline and the optimiser into a stored state.

    Raises TrainingError if it is that of another pipeline.
    """
    values, tensors = checkpoint
    set_weights(nlp, tensors)
    keys = optimizer_keys(nlp)
    stored = {name for kind in MOMENTS for name, _ in parts(tensors, kind)} | values["updates"].keys()
    if unknown := sorted(stored - keys.keys()):
        raise TrainingError(
            f"the checkpoint has an optimizer state of {unknown[0]}, which this pipeline does not have: it is that of "
            "another pipeline"
        )
    for kind in MOMENTS:
        held = getattr(optimizer, kind)
        for name, tensor in parts(tensors, kind) if held is not None else ():
            key, device = keys[name]
            held[key] = torch2xp(tensor, ops=get_current_ops()) if device is None else tensor.to(device)
    optimizer.nr_update.update({keys[name][0]: count for name, count in values["updates"].items()})
    for name, shim in torch_shims(nlp):
        shim.optimizer.load_state(optimizer, dict(parts(tensors, f"shims/{name}")), values["shims"][name])
    for component, weight in learned_weights(nlp):
        vars(weight).update(values["loss_weights"].get(component, {}))


def torch_shims(nlp: Language) -> Iterator[tuple[str, TorchShim]]:
    """The torch modules of this package."""
    for name, node in nodes(nlp):
        for shim, _ in modules(node):
            if isinstance(shim, TorchShim):
                yield name, shim


def learned_weights(nlp: Language) -> Iterator[tuple[str, LearnedWeight]]:
    """Learned weights of losses by component."""
    for component, pipe in nlp.pipeline:
        weight = getattr(pipe, "loss_weight", None)
        if isinstance(weight, LearnedWeight):
            yield component, weight


def parts(tensors: dict[str, Tensor], prefix: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors whose names begin with a prefix, without it."""
    for name, tensor in tensors.items():
        if name.startswith(f"{prefix}/"):
            yield name.removeprefix(f"{prefix}/"), tensor
