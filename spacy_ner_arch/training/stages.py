"""Stages of training: which parameters are trained, from which step on, and at what rate."""

import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from spacy.language import Language
from spacy.util import registry
from thinc.schedules import constant

from ..bridge.layers import layers, shims
from ..bridge.optimizer import ParameterGroup
from ..bridge.shim import TorchShim
from ..nn.transformer import WordTransformer

STAGE_KEYS = {"steps", "groups"}
GROUP_KEYS = {"match", "learn_rate", "layer_decay", "weight_decay"}
# The number of a layer in the name of a parameter.
LAYER = re.compile(r"\.(\d+)\.")


@registry.callbacks("spacy_ner_arch.Stages.v1")
def create_stages(stages: dict[str, dict[str, Any]]) -> Callable[[Language, dict[str, Any]], None]:
    """For [training.before_update]: train in stages, each with its own groups of parameters and learning rates.

    One stage gives groups of parameters their own rates (discriminative fine-tuning). With several stages, parameters
    that the current stage does not mention are frozen. A frozen transformer runs in evaluation mode and its vectors are
    cached. Every stage starts with a fresh optimizer state, and its schedules start at their beginning.

    Stages control the torch modules of this package. Other components, such as spaCy's own and stock transformers, are
    always trained at the rate of [training.optimizer]. The settings of the last stage also hold for updates after
    training, until the pipeline is loaded again.

    stages: by any name, in order. Each has
        steps: number of updates; null for the rest of training.
        groups: by name. A group has
            match: regular expression that is searched in `component.layer.parameter`; null for all parameters of the
                component with the name of the group. A parameter belongs to the first group that it matches.
            learn_rate: number or schedule; null for that of [training.optimizer].
            layer_decay: in transformers, factor of the rate for each layer below the highest layer of the group, and
                once more for parameters below all layers, such as the embeddings; null for one rate.
            weight_decay: decay of weights, not of biases and normalization; null for L2 of [training.optimizer].
    The other settings of [training.optimizer] hold for all groups. Gradients are clipped by their norm over all
    parameters of a module (the transformer, or a head with its encoder).

    Raises ValueError before the first update if a group gets no parameter. Warns if it gets only constant or frozen
    parameters.
    Source: Howard and Ruder 2018; layer_decay: Clark et al. 2020; two stages for a transformer under a BiLSTM-CRF,
    NER-Research.
    """
    check(stages)
    return Stages(stages)


class Stages:
    """The callback of `spacy_ner_arch.Stages.v1`, with the current stage as its state."""

    def __init__(self, stages: dict[str, dict[str, Any]]) -> None:
        self.stages = stages
        self._starts: list[tuple[int, str]] = []
        self._current: str | None = None
        # Rates, and the groups of parameters that have them, each with its factor.
        self._running: list[tuple[Iterator[float], list[tuple[ParameterGroup, float]]]] = []

    def __call__(self, nlp: Language, info: dict[str, Any]) -> None:
        step = info["step"]
        if step == 0:
            self._begin(nlp)
        due = [name for start, name in self._starts if start <= step][-1]
        if due != self._current:
            self._current = due
            self._enter(nlp, due)
        for rates, groups in self._running:
            try:
                rate = next(rates)
            except TypeError as error:  # the rate inside a schedule is a schedule
                raise ValueError(
                    f"[training.before_update] stage {due!r}: a schedule of learn_rate needs a number as its rate "
                    f"({error}); if [training.optimizer] learn_rate is a schedule, set [rates] transformer to a number"
                ) from error
            for group, factor in groups:
                group.learn_rate = rate * factor

    def _begin(self, nlp: Language) -> None:
        """Compute the first step of each stage; check all stages before training."""
        self._current = None
        self._starts = []
        start = 0
        for name, stage in self.stages.items():
            warn_of_idle(nlp, name, find_groups(nlp, name, stage))
            self._starts.append((start, name))
            start += stage.get("steps") or 0
        begin, name = self._starts[-1]
        end = nlp.config.interpolate()["training"].get("max_steps") or 0
        if end and begin >= end:
            raise ValueError(
                f"stage {name!r} would begin at step {begin}, but training ends at {end}: lower the steps of the "
                "stages before it or raise [training] max_steps"
            )

    def _enter(self, nlp: Language, name: str) -> None:
        stage = self.stages[name]
        by_shim: dict[TorchShim, list[ParameterGroup]] = {shim: [] for _, shim in layer_shims(nlp)}
        self._running = []
        for group_name, parts in find_groups(nlp, name, stage).items():
            settings = stage["groups"][group_name]
            groups = []
            for shim, names in parts.items():
                for factor, own in by_layer(shim, names, settings.get("layer_decay")).items():
                    group = ParameterGroup(own, weight_decay=settings.get("weight_decay"))
                    by_shim[shim].append(group)
                    groups.append((group, factor))
            rate = settings.get("learn_rate")
            if rate is not None:
                self._running.append((iter(constant(rate) if isinstance(rate, (int, float)) else rate), groups))
        for shim, trained in by_shim.items():
            shim.train_groups(trained)


def check(stages: dict[str, dict[str, Any]]) -> None:
    """Raise ValueError for invalid stages."""
    if not stages:
        raise ValueError("spacy_ner_arch.Stages.v1: no stage; add a block [training.before_update.stages.NAME]")
    *earlier, _ = stages
    for name, stage in stages.items():
        where = f"[training.before_update.stages.{name}]"
        unknown = set(stage) - STAGE_KEYS
        if unknown or not stage.get("groups"):
            raise ValueError(
                f"{where}: a stage has steps and groups; {'unknown:' if unknown else 'missing:'} "
                f"{', '.join(sorted(unknown)) or 'groups'}"
            )
        steps = stage.get("steps")
        if steps is None and name in earlier or steps is not None and (not isinstance(steps, int) or steps < 1):
            raise ValueError(f"{where}: steps = {steps}; only the last stage may be null, for the rest of training")
        for group_name, group in stage["groups"].items():
            unknown = set(group) - GROUP_KEYS
            at = f"{where[:-1]}.groups.{group_name}]"
            if unknown:
                raise ValueError(f"{at}: unknown settings {', '.join(sorted(unknown))}")
            decay = group.get("layer_decay")
            is_factor = isinstance(decay, (int, float)) and 0 < decay <= 1
            if decay is not None and not (is_factor and group.get("learn_rate") is not None):
                raise ValueError(f"{at}: layer_decay = {decay!r} must be above 0 and at most 1, and needs a learn_rate")


def layer_shims(nlp: Language) -> Iterator[tuple[str, TorchShim]]:
    """All torch modules of the pipeline with their names, `component.layer`."""
    for component, _, node in layers(nlp):
        yield from ((f"{component}.{node.name}", shim) for shim in shims(node))


def find_groups(nlp: Language, name: str, stage: dict[str, Any]) -> dict[str, dict[TorchShim, frozenset[str]]]:
    """For each group of a stage, the names of its parameters in the modules of the pipeline."""
    patterns = {}
    for group, settings in stage["groups"].items():
        try:
            patterns[group] = re.compile(settings.get("match") or rf"^{re.escape(group)}\.")
        except re.error as error:
            where = f"[training.before_update.stages.{name}.groups.{group}]"
            raise ValueError(f"{where}: match is not a regular expression: {error}") from error
    found: dict[str, dict[TorchShim, frozenset[str]]] = {group: {} for group in patterns}
    earlier: dict[str, str] = {}  # for a group, an earlier group that gets a parameter which both match
    names = set()
    for layer, shim in layer_shims(nlp):
        names.add(layer)
        own: dict[str, list[str]] = {}
        for parameter, _ in shim.module.named_parameters():
            group, *others = [g for g, pattern in patterns.items() if pattern.search(f"{layer}.{parameter}")] or [None]
            if group is not None:
                own.setdefault(group, []).append(parameter)
                earlier.update(dict.fromkeys(filter(None, others), group))
        for group, parameters in own.items():
            found[group][shim] = frozenset(parameters)
    for group, parts in found.items():
        decay = stage["groups"][group].get("layer_decay")
        if decay is not None and not any(isinstance(shim.module, WordTransformer) for shim in parts):
            raise ValueError(
                f"[training.before_update.stages.{name}.groups.{group}]: layer_decay needs layers of a transformer of "
                "this package, and the group has none; remove layer_decay"
            )
        if not parts and group in earlier:
            raise ValueError(
                f"[training.before_update.stages.{name}.groups.{group}] gets no parameter: those that it matches "
                f"belong to earlier groups, such as {earlier[group]}; put {group} before them"
            )
        if not parts:
            raise ValueError(
                f"[training.before_update.stages.{name}.groups.{group}] matches no parameter; there are "
                f"{', '.join(sorted(names)) or 'no layers of spacy_ner_arch'}"
            )
    return found


def by_layer(shim: TorchShim, names: frozenset[str], decay: float | None) -> dict[float, frozenset[str]]:
    """The parameters of a group in one module, by the factor of their rate."""
    if decay is None or not isinstance(shim.module, WordTransformer):
        return {1.0: names}
    numbers = {name: int(found[1]) for name in names if (found := LAYER.search(f".{name}"))}
    if not numbers:
        return {1.0: names}
    lowest, highest = min(numbers.values()), max(numbers.values())
    factors: dict[float, set[str]] = {}
    below = True  # In the order of the module, embeddings precede the layers; parameters after the layers are above.
    for name, _ in shim.module.named_parameters():
        if name in names:
            below = below and name not in numbers
            depth = highest - numbers.get(name, lowest - 1 if below else highest)
            factors.setdefault(decay**depth, set()).add(name)
    return {factor: frozenset(own) for factor, own in factors.items()}


def warn_of_idle(nlp: Language, name: str, groups: dict[str, dict[TorchShim, frozenset[str]]]) -> None:
    """Warn about groups of a stage whose parameters are all never trained."""
    frozen = nlp.config.interpolate()["training"].get("frozen_components") or ()
    layer_names = {shim: layer for layer, shim in layer_shims(nlp)}
    excluded = {shim for component in frozen for layer, shim in layer_shims(nlp) if layer.startswith(f"{component}.")}
    for group, parts in groups.items():
        if all(shim in excluded or names <= shim.constants for shim, names in parts.items()):
            examples = ", ".join(f"{layer_names[shim]}.{min(names)}" for shim, names in parts.items())
            warnings.warn(
                f"[training.before_update.stages.{name}.groups.{group}] trains nothing: all that it matches, such as "
                f"{examples}, is constant or frozen. Check its match, [training] frozen_components, and the setting "
                "`frozen` of the transformer, or remove the group",
                stacklevel=4,
            )
