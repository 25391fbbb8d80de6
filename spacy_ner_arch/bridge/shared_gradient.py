"""The gradient of the vectors that an encoder passes to several components."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .shim import TorchShim


class SharedGradient:
    """Sum of the gradients (N, D) that listeners pass back for all tokens of a batch.

    Our listeners add theirs as one tensor each. The last listener of the pipeline starts the backward pass of the
    encoder, unless it is frozen.
    """

    def __init__(self) -> None:
        self._parts: list[Tensor] = []

    def add(self, part: Tensor) -> None:
        self._parts.append(part)

    def total(self) -> Tensor:
        """Sum of the gradients, of which there must be one."""
        return sum(self._parts[1:], start=self._parts[0])

    def defer(self, shim: TorchShim, backprop: Callable[[Tensor], Any]) -> None:
        """Let the encoder run this backward pass when it is used next, if it has a gradient by then.

        A listener that starts the backward pass itself sets `shim.pending` to None.
        """
        shim.pending = lambda: backprop(self.total()) if self._parts else None
