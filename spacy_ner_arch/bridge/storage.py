"""Storage of a model: weights of a torch module as safetensors, and other values as msgpack, with checksums.

Nothing is executed when they are read.
"""

import contextlib
import json
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import srsly
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from thinc.api import Model
from thinc.model import deserialize_attr, serialize_attr
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from .errors import ChangedSetting

# Slack of the size check, in numbers: masks, position ids, and layers that are not stored.
SMALL = 16 * 2**20
# Message of the error for a model without weights.
NOT_INITIALIZED = (
    "the model is not initialized: call nlp.initialize() or load a trained pipeline; in training, take a component of "
    "frozen_components from a trained pipeline ([components.NAME] source = PATH)"
)


def store(hyperparameters: dict[str, Any], weights: dict[str, Tensor]) -> bytes:
    """Weights, with the hyperparameters of their module as JSON in the header."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    # A single entry in the header: safetensors writes several entries in random order.
    stored = {**hyperparameters, "checksum": tensors_checksum(hyperparameters, weights)}
    return save(weights, {"hyperparameters": json.dumps(stored)})


def read_stored(data: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Hyperparameters and weights that `store` stored. Raises ValueError if they are damaged."""
    try:
        weights = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        hyperparameters = dict(json.loads(header["__metadata__"]["hyperparameters"]))
        if hyperparameters.pop("checksum") != tensors_checksum(hyperparameters, weights):
            raise ValueError("their checksum is wrong")
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"the weights of the model are damaged ({error}); train or download it again") from error
    return hyperparameters, weights


def class_names(module: nn.Module) -> str:
    """The classes of a module and of its encoder. Modules of other classes can have weights of equal shapes.

    Stored pipelines contain these names: a class that is renamed cannot load its weights.
    """
    encoder = getattr(module, "encoder", None)
    return type(module).__name__ + ("" if encoder is None else f" over {type(encoder).__name__}")


def check_fit(
    build: Callable[..., nn.Module], hyperparameters: dict[str, Any], weights: dict[str, Tensor], classes: str | None
) -> None:
    """Raise ValueError if the weights do not fit the module that the hyperparameters declare. Allocates no weights.

    classes: `class_names` of the module that had the weights; None if they are not known.

    Raises ChangedSetting if the classes or the size of a layer differ, because the config now declares others.
    """
    try:
        # Some layers of a transformer are not stored.
        numbers = sum(tensor.numel() for tensor in weights.values())
        with torch.device("meta"), limited_parameters(2 * numbers + SMALL, 2 * len(weights) + 100):
            empty = build(**hyperparameters).to("meta")
        if classes not in (None, class_names(empty)):
            raise ChangedSetting("the class of the network (@architectures)", str(classes), class_names(empty))
        if sum(buffer.numel() for buffer in empty.buffers()) > numbers + SMALL:
            raise ValueError("the config declares more computed numbers than there are weights")
        check_shapes(empty, weights)
        empty.load_state_dict({name: tensor.to("meta") for name, tensor in weights.items()})
    except ChangedSetting:
        raise
    except Exception as error:  # a file can contain any hyperparameters
        reason = " ".join(str(error).split())
        raise ValueError(f"the weights are not those of this model: {reason}") from error


def check_shapes(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Raise ChangedSetting if the weights have the names of those of the module, but one of them has another shape."""
    own = module.state_dict()
    if own.keys() != weights.keys():
        return
    for name, tensor in own.items():
        if tensor.shape != weights[name].shape:
            stored, configured = (" × ".join(map(str, shape)) for shape in (weights[name].shape, tensor.shape))
            raise ChangedSetting("the size of a layer", f"{stored} ({name})", configured)


def tensors_checksum(hyperparameters: dict[str, Any], weights: dict[str, Tensor]) -> int:
    """CRC-32 of hyperparameters and weights."""
    value = zlib.crc32(json.dumps(hyperparameters).encode("utf8"))
    for name in sorted(weights):
        value = zlib.crc32(name.encode("utf8"), value)
        value = zlib.crc32(weights[name].flatten().view(torch.uint8).numpy().data, value)
    return value


def pack(values: dict[str, Any]) -> bytes:
    """Values as msgpack, with their checksum."""
    return srsly.msgpack_dumps({**values, "checksum": zlib.crc32(srsly.msgpack_dumps(values))})


def unpack(data: bytes) -> dict[str, Any]:
    """Values that `pack` packed. Raises ValueError if their checksum is wrong, and errors of msgpack."""
    values = srsly.msgpack_loads(data)
    if values.pop("checksum") != zlib.crc32(srsly.msgpack_dumps(values)):
        raise ValueError("its checksum is wrong")
    return values


@dataclass(frozen=True)
class Fixed:
    """An attribute of a model that cannot be changed after training.

    Another value in the config of a stored pipeline raises ChangedSetting. Without this check, thinc would silently
    restore the old value, or the weights would be used with a value for which they were not trained.

    value: stored as msgpack.
    setting: name of the setting in the message.
    show: how an error shows a value.
    """

    value: Any
    setting: str
    show: Callable[[Any], str] = repr


@serialize_attr.register
def _serialize(_: Fixed, value: Fixed, name: str, model: Model) -> bytes:
    return bytes(srsly.msgpack_dumps(value.value))


@deserialize_attr.register
def _deserialize(own: Fixed, value: bytes, name: str, model: Model) -> Fixed:
    stored = srsly.msgpack_loads(value)
    if stored != own.value:
        raise ChangedSetting(own.setting, own.show(stored), own.show(own.value))
    return own


@contextlib.contextmanager
def limited_parameters(numbers: int, tensors: int = 100_000) -> Iterator[None]:
    """Within the context, raise ValueError before a module has more parameters than its file can contain.

    numbers, tensors: how many numbers in how many tensors are allowed.
    """
    thread = threading.get_ident()
    left = [numbers, tensors]

    def check(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is None or threading.get_ident() != thread:
            return
        left[0] -= parameter.numel()
        left[1] -= 1
        if min(left) < 0:
            raise ValueError("the config declares more or larger layers than the file of the weights can contain")

    handle = register_module_parameter_registration_hook(check)
    try:
        yield
    finally:
        handle.remove()
