"""Flat rows of a batch, and the same rows padded to the longest document."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Padding(NamedTuple):
    """Where the tokens of a batch stand: flat rows (N, D) on one side, (B, T, D) on the other."""

    mask: Tensor  # (B, T) bool
    rows: Tensor  # (N,) place of each token among the B * T

    def pad(self, flat: Tensor, fill: float = 0) -> Tensor:
        """(N, ...) -> (B, T, ...)"""
        padded = flat.new_full((self.mask.numel(), *flat.shape[1:]), fill)
        return padded.index_copy(0, self.rows, flat).view(*self.mask.shape, *flat.shape[1:])

    def flatten(self, padded: Tensor) -> Tensor:
        """(B, T, ...) -> (N, ...)"""
        return padded.flatten(0, 1).index_select(0, self.rows)


def padding(lengths: Sequence[int], device: torch.device) -> Padding:
    """Padding of documents of these lengths, at least one step wide, so that empty ones are no special case."""
    mask = np.arange(max(1, *lengths)) < np.asarray(lengths, dtype=np.int64).reshape(-1, 1)
    rows = torch.from_numpy(np.flatnonzero(mask))
    return Padding(torch.from_numpy(mask).to(device, non_blocking=True), rows.to(device, non_blocking=True))
