"""Decide whether a CRF runs in the fused kernels of crf_kernels.py."""

import functools
import importlib.util
import warnings

import torch
from torch import Tensor

# The matrix of transitions stays in registers, and a back pointer is one byte.
MAX_TAGS = 128


def use_kernels(emissions: Tensor) -> bool:
    """Whether emissions (B, T, K) are on a GPU for which Triton compiles, with at most MAX_TAGS tags."""
    return emissions.is_cuda and emissions.shape[2] <= MAX_TAGS and kernels_compile(emissions.device)


@functools.cache
def kernels_compile(device: torch.device) -> bool:
    """Try both kernels on a tiny batch; warn and return False if they do not compile.

    torch for CUDA includes Triton on Linux, but Triton needs a C compiler and a GPU that it supports.
    """
    if importlib.util.find_spec("triton") is None:
        return False
    from .crf_kernels import fused_best_path, fused_messages

    emissions, transitions = torch.zeros(1, 1, 1, device=device), torch.zeros(1, 1, device=device)
    matrix, shift = torch.ones(2, 2, device=device).double(), torch.zeros((), device=device).double()
    lengths = torch.ones(1, device=device).long()
    try:
        fused_messages(emissions, matrix, shift, lengths)
        fused_best_path(emissions, transitions, lengths)
    except Exception as error:  # Triton raises errors of the C compiler, of ptxas and of the driver
        warnings.warn(
            f"the CRF runs step by step on {device}, which is slower, since Triton cannot compile its kernels "
            f"({type(error).__name__}: {error}). Install a C compiler (gcc) and the headers of Python.",
            stacklevel=2,
        )
        return False
    return True
