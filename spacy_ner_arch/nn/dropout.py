"""Dropout whose rate is set by `[training] dropout`."""

from torch import nn


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
