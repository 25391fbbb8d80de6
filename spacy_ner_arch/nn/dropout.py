"""Dropout with the rate of `[training] dropout`, and a way to repeat its samples."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn


class SamplingState(NamedTuple):
    """States of the random number generators of torch on the CPU and of a GPU.

    on_gpu: None if the device is not a GPU.
    """

    on_cpu: Tensor
    device: torch.device
    on_gpu: Tensor | None


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


def sampling_state(device: torch.device) -> SamplingState:
    """State of the random number generators of the CPU and of the device."""
    on_gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return SamplingState(torch.get_rng_state(), device, on_gpu)


@contextlib.contextmanager
def sampling_again(state: SamplingState) -> Iterator[None]:
    """Within the context, repeat the random numbers that were drawn from a state on. Then restore the current state."""
    with torch.random.fork_rng(devices=[] if state.on_gpu is None else [state.device]):
        torch.set_rng_state(state.on_cpu)
        if state.on_gpu is not None:
            torch.cuda.set_rng_state(state.on_gpu, state.device)
        yield
