"""States of the random numbers of this process, as JSON values for a checkpoint."""

import random
from typing import Any

import numpy as np
import torch
from thinc.api import get_current_ops
from torch import Tensor


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
