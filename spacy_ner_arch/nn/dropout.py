"""Dropout that takes its rate from the pipeline's training settings."""

from torch import nn


class TrainingDropout(nn.Dropout):
    """Dropout whose rate is `[training] dropout`, set anew before every update (see `set_dropout`)."""

    def __init__(self) -> None:
        super().__init__(0.0)


def dropout(rate: float | None) -> nn.Dropout:
    """Dropout of a fixed rate, or of the rate of `[training] dropout` if None."""
    return TrainingDropout() if rate is None else nn.Dropout(rate)


def set_dropout(module: nn.Module, rate: float) -> None:
    """Give every `TrainingDropout` within the module the rate of this update."""
    for layer in module.modules():
        if isinstance(layer, TrainingDropout):
            layer.p = rate
