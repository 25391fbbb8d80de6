"""Dropout whose rate is set by `[training] dropout`, and the same samples once more."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

# States of the random numbers of the CPU, and of a GPU.
RandomState = tuple[Tensor, torch.device, Tensor | None]


class TrainingDropout(nn.Dropout):
    """Dropout with the rate of `[training] dropout`, which `set_dropout` sets before every update."""

    def __init__(self) -> None:
        super().__init__(0.0)


def dropout(rate: float | None) -> nn.Dropout:
    """Dropout of a fixed rate, or of the rate of `[training] dropout` if None."""
    return TrainingDropout() if rate is None else nn.Dropout(rate)


def set_dropout(module: nn.Module, rate: float) -> None:
    """Set the rate of every `TrainingDropout` in the module."""
    for layer in module.modules():
        if isinstance(layer, TrainingDropout):
            layer.p = rate


def sampling_state(device: torch.device) -> RandomState:
    """State of the random numbers of the CPU and, if it is another one, of the device."""
    on_gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), device, on_gpu


@contextlib.contextmanager
def sampling_again(state: RandomState) -> Iterator[None]:
    """Within the context, draw again the random numbers that were drawn from a state on. Then go on as without it."""
    on_cpu, device, on_gpu = state
    with torch.random.fork_rng(devices=[] if on_gpu is None else [device]):
        torch.set_rng_state(on_cpu)
        if on_gpu is not None:
            torch.cuda.set_rng_state(on_gpu, device)
        yield
