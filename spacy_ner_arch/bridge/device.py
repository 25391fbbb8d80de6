"""The device on which torch modules run, and processes that cannot use it."""

import functools
import os

import torch
from thinc.api import get_torch_default_device
from torch import nn

# Id of the process that had started CUDA before it was forked. Its children cannot use the GPU.
_started_cuda: int | None = None


def _before_fork() -> None:
    global _started_cuda
    if torch.cuda.is_initialized():
        _started_cuda = os.getpid()


if hasattr(os, "register_at_fork"):
    # OpenMP threads do not survive a fork: nlp.pipe(n_process=2) would hang in a child that uses more than one thread.
    os.register_at_fork(before=_before_fork, after_in_child=functools.partial(torch.set_num_threads, 1))


def check_process(module: nn.Module) -> None:
    """Raise ValueError in a process that cannot use the GPU with the weights of the module."""
    if _started_cuda not in (None, os.getpid()) and any(p.is_cuda for p in module.parameters()):
        raise ValueError(
            "the model is on a GPU, which a forked process cannot use: set n_process = 1 (more processes do not "
            "make a GPU faster), or use the CPU (load the pipeline without spacy.require_gpu)"
        )


def default_device() -> torch.device:
    """thinc's current device, or the CPU instead of Apple's GPU, which has no float64."""
    try:
        device = get_torch_default_device()
    except (AssertionError, RuntimeError) as error:  # spaCy has a GPU, but torch finds none
        raise ValueError(
            f"spaCy uses a GPU, but PyTorch cannot ({error}): run `python -m spacy ner-arch doctor --gpu-id 0`"
        ) from error
    return device if device.type == "cuda" else torch.device("cpu")
