"""Factors of the losses of components that share an encoder."""

import math
from collections.abc import Iterable
from itertools import chain
from typing import Any, Protocol

from spacy.util import registry

# Bounds of s: without them a weight would grow without limit while its loss approaches zero.
LOW, HIGH = -3.0, 3.0
# Number of updates whose mean loss is the unit. A single update may have few or short documents.
FIRST = 10


class LossWeight(Protocol):
    """Factor of a component's loss in the next update."""

    def value(self) -> float:
        """The factor."""

    def learn(self, loss: float) -> None:
        """Learn from the loss of a whole update, without the factor."""

    def restart(self) -> None:
        """Begin a new training."""


class ScheduledWeight:
    """The numbers of a schedule in order; after the end, the last one."""

    def __init__(self, values: Iterable[float]) -> None:
        self._values = iter(values)
        # Numbers so far, for the next training run: generators cannot restart.
        self._past: list[float] = []
        if not self._advance():
            raise ValueError("loss_weight: the schedule is empty")

    def value(self) -> float:
        return self._value

    def learn(self, loss: float) -> None:
        self._advance()

    def restart(self) -> None:
        self._values = chain(self._past, self._values)
        self._past = []
        self._advance()

    def _advance(self) -> bool:
        """Go to the next number. Returns False if there is none."""
        value = next(self._values, None)
        if value is None:
            return False
        self._value = checked(value, least=0.0)
        self._past.append(self._value)
        return True

    def __getstate__(self) -> dict[str, Any]:
        # Generators cannot be copied or pickled: copies and other processes keep the current value.
        return {"_values": iter(()), "_past": [], "_value": self._value}


class LearnedWeight:
    """exp(-s), where s minimizes exp(-s) L + s: a larger loss gets a smaller weight.

    L is measured in units of the mean of the first losses: each model scales its loss by a different constant, and a
    loss that is always below exp(-3) would drive s to its bound.
    """

    def __init__(self, learn_rate: float) -> None:
        self.learn_rate = learn_rate
        self.restart()

    def restart(self) -> None:
        self.s = 0.0
        self._unit, self._seen = 0.0, 0

    def value(self) -> float:
        return math.exp(-self.s)

    def learn(self, loss: float) -> None:
        if loss <= 0:  # a batch without items
            return
        if self._seen < FIRST:
            self._seen += 1
            self._unit += (loss - self._unit) / self._seen
        # The gradient of exp(-s) L + s is 1 - exp(-s) L. Clamp s after the step: a clamp inside the loss would have no
        # gradient, and s would stay at its bound.
        gradient = 1.0 - math.exp(-self.s) * loss / self._unit
        self.s = min(HIGH, max(LOW, self.s - self.learn_rate * gradient))


@registry.misc("spacy_ner_arch.LearnedWeight.v1")
def create_learned_weight(learn_rate: float = 0.01) -> LearnedWeight:
    """For `loss_weight` of a component: a learned factor exp(-s) of its loss L, where s minimizes exp(-s) L + s.

    L is measured in units of the mean of its first ten values. The factor starts at 1, stays between exp(-3) and
    exp(3), and does not change in updates without items. When the losses fall, all factors grow, which also raises the
    effective learning rate, since Adam normalizes by the gradients of the last thousand updates. s is not stored with
    the pipeline.

    learn_rate: rate of s, by plain gradient descent.
    Source: Kendall, Gal and Cipolla 2018.
    """
    if not 0 < learn_rate < math.inf:
        raise ValueError(f"spacy_ner_arch.LearnedWeight.v1: learn_rate = {learn_rate} is not positive and finite")
    return LearnedWeight(learn_rate)


def make_loss_weight(setting: float | Iterable[float] | LearnedWeight) -> LossWeight:
    """The loss weight of a component.

    setting: a number above 0, a schedule of numbers, which may be 0 for a time, or spacy_ner_arch.LearnedWeight.v1.
    """
    if isinstance(setting, LearnedWeight):
        return setting
    return ScheduledWeight([checked(setting)] if isinstance(setting, (int, float)) else setting)


def checked(weight: float, least: float | None = None) -> float:
    """Return the weight; raise ValueError unless it is finite and positive, or not less than `least`."""
    if not math.isfinite(weight) or (weight <= 0 if least is None else weight < least):
        raise ValueError(
            f"loss_weight = {weight} is not positive and finite; to train without a component, leave it out"
        )
    return float(weight)
