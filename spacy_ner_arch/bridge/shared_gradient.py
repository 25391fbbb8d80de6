"""The gradient of the vectors that an encoder passes to several components."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from .shim import TorchShim


class SharedGradient:
    """Sum of the gradients (N, D) that listeners pass back for all tokens of a batch.

    Each listener of this package adds one tensor. The last listener of the pipeline starts the backward pass of the
    encoder, unless the component of that listener is frozen.
    """

    def __init__(self) -> None:
        self._parts: list[Tensor] = []
        self._pending: Callable[[], bool] | None = None

    def add(self, part: Tensor) -> None:
        self._parts.append(part)

    def total(self) -> Tensor:
        """Sum of the gradients that were added since the last call; there must be at least one."""
        parts, self._parts = self._parts, []
        return sum(parts[1:], start=parts[0])

    def defer(self, shim: TorchShim, backprop: Callable[[Tensor], Any]) -> None:
        """Let the encoder run this backward pass when it is used next, if a gradient has been added by then.

        A listener that starts the backward pass itself calls `withdraw`.
        """
        shim.pending = self._pending = partial(self._run, backprop)

    def withdraw(self, shim: TorchShim) -> None:
        """Cancel the deferred backward pass of this batch, unless a later batch has replaced it."""
        if shim.pending is self._pending:
            shim.pending = None

    def _run(self, backprop: Callable[[Tensor], Any]) -> bool:
        if not self._parts:
            return False
        backprop(self.total())
        return True
