"""Outputs of the model of a head: losses and predictions. The host waits for the GPU only when it reads them."""

import math
from collections.abc import Sequence
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..nn.head import Loss
from .host_copy import HostCopy
from .rows import cut_rows, place

# For each document, the arrays that the head predicts, with one row for each word, span of words or pair.
Predictions = Sequence[tuple[np.ndarray, ...]]


class UpdateLoss:
    """Loss of an update, and its named terms.

    On a GPU the host waits for them when it first reads one.

    values: the loss and its terms, (1 + number of names,).
    names: names of the terms of the loss.
    """

    def __init__(self, values: Tensor, names: Sequence[str] = ()) -> None:
        self.set(values, names)

    def set(self, values: Tensor, names: Sequence[str] = ()) -> None:
        """Set the loss and its terms again, if the backward pass computes them."""
        self._copy = HostCopy(values)
        self._names = list(names)

    @property
    def total(self) -> float:
        return float(self._read()[0])

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.total)

    @property
    def parts(self) -> dict[str, float]:
        return dict(zip(self._names, self._read()[1:].tolist(), strict=True))

    def _read(self) -> Tensor:
        (values,) = self._copy.read()
        return values


class HeadPredictions(Sequence[tuple[np.ndarray, ...]]):
    """Predictions for a batch of documents.

    On a GPU the host waits for them when it first reads one. Until then it can start the next batch.

    count: number of documents.
    outputs: for each group of documents: their indices, the number of rows of each document, and the rows of all.
    """

    def __init__(self, count: int, outputs: Sequence[tuple[list[int], np.ndarray, tuple[Tensor, ...]]]) -> None:
        self._count = count
        self._groups = [(group, counts, len(parts)) for group, counts, parts in outputs]
        self._copy = HostCopy(*(part for _, _, parts in outputs for part in parts))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, i: Any) -> Any:
        return self._rows[i]

    @cached_property
    def _rows(self) -> list[tuple[np.ndarray, ...]]:
        copied = iter(self._copy.read())
        found: list[tuple[np.ndarray, ...]] = [()] * self._count
        for group, counts, parts in self._groups:
            rows = [cut_rows(part.numpy(), counts.tolist()) for part in islice(copied, parts)]
            place(found, group, list(zip(*rows, strict=True)))
        return found


def sum_losses(losses: Sequence[Loss]) -> UpdateLoss:
    """Sum of the losses of all batches of an update."""
    names = list(losses[0].parts)
    rows = [torch.stack([loss.total.detach().float(), *(loss.parts[key].float() for key in names)]) for loss in losses]
    return UpdateLoss(torch.stack(rows).sum(0), names)


def add_up(losses: Sequence[UpdateLoss]) -> tuple[Tensor, list[str]]:
    """Sums of the losses of parts of an update, and of their terms by name; see UpdateLoss. Waits for the GPU."""
    names = list(losses[0].parts) if losses else []
    sums = [sum(loss.total for loss in losses), *(sum(loss.parts[name] for loss in losses) for name in names)]
    return torch.tensor(sums), names
