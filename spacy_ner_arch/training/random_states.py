"""Random states of this process, as JSON values for checkpoints."""

import random
from typing import Any, NamedTuple

import numpy as np
import torch
from thinc.api import get_current_ops
from torch import Tensor

from ..bridge.cupy_seed import seed_cupy


class RandomState(NamedTuple):
    """Random states of Python, NumPy and torch on the CPU, in the formats of these packages."""

    python: tuple[Any, ...]
    numpy: dict[str, Any]
    torch: Tensor


def random_state() -> RandomState:
    """The current state."""
    numpy_state: Any = np.random.get_state(legacy=False)
    return RandomState(random.getstate(), numpy_state, torch.get_rng_state())


def set_random_state(state: RandomState) -> None:
    """Restore a state."""
    random.setstate(state.python)
    np.random.set_state(state.numpy)
    torch.set_rng_state(state.torch)


def to_json(state: RandomState) -> dict[str, Any]:
    """The state as JSON values."""
    version, numbers, gauss = state.python
    numbers_of_numpy = {**state.numpy["state"], "key": state.numpy["state"]["key"].tolist()}
    return {
        "python": [version, list(numbers), gauss],
        "numpy": {**state.numpy, "state": numbers_of_numpy},
        "torch": as_hex(state.torch),
    }


def from_json(values: dict[str, Any]) -> RandomState:
    """Inverse of `to_json`."""
    version, numbers, gauss = values["python"]
    numpy_state = values["numpy"]
    key = np.array(numpy_state["state"]["key"], dtype=np.uint32)
    return RandomState(
        (version, tuple(numbers), gauss),
        {**numpy_state, "state": {**numpy_state["state"], "key": key}},
        as_bytes(values["torch"]),
    )


def device_random_state() -> dict[str, Any]:
    """Random state of the GPU, as JSON values; empty on a CPU.

    CuPy cannot export its state: it gets a new seed here, so that a resumed training draws the same numbers.
    """
    seed = seed_cupy(get_current_ops())
    return {} if seed is None else {"cupy": seed, "cuda": as_hex(torch.cuda.get_rng_state())}


def set_device_random_state(state: dict[str, Any]) -> None:
    if state and seed_cupy(get_current_ops(), state["cupy"]) is not None:
        torch.cuda.set_rng_state(as_bytes(state["cuda"]))


def as_hex(numbers: Tensor) -> str:
    return bytes(numbers.tolist()).hex()


def as_bytes(text: str) -> Tensor:
    return torch.tensor(list(bytes.fromhex(text)), dtype=torch.uint8)
