"""One optimizer step for all parameters of a torch module, with the settings of thinc's optimizer."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from thinc.api import Optimizer
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from .host_copy import HostCopy

MAX_SKIPPED = 50


@dataclass
class ParameterGroup:
    """Parameters of one module with the same settings; None means the value of `[training.optimizer]`."""

    names: frozenset[str]
    learn_rate: float | None = None
    weight_decay: float | None = None


class ModuleOptimizer:
    """AdamW over the parameters of a module, and their running averages.

    The learning rate, betas, eps and L2 are those of `[training.optimizer]` (L2 as decoupled weight decay, without
    biases and normalization weights); groups can override rate and decay. Gradients are clipped by their norm over all
    parameters. A step with a gradient that is not finite changes nothing and is counted in `skipped_steps`. The next
    step then raises ValueError, under loss scaling only after MAX_SKIPPED such steps in a row.

    module: its parameters must stay the same tensors.
    names: unique name of the module, under which thinc's optimizer keeps its averages; then the names of the modules
        that it was copied from. A module without averages uses those of the first of these modules that has some.
    is_scaled: whether losses are scaled; float16 needs this.
    groups: parameters to train; None for all parameters that have a gradient.
    """

    def __init__(
        self,
        module: nn.Module,
        names: Sequence[str],
        *,
        is_scaled: bool,
        groups: Sequence[ParameterGroup] | None = None,
    ) -> None:
        self.module = module
        self.name, *self.originals = names
        self.is_scaled = is_scaled
        self.groups = groups
        # Collected once: to walk over the modules of a transformer takes longer than many of its kernels.
        self.parameters = dict(module.named_parameters())
        self.adamw: torch.optim.Optimizer | None = None
        self.skipped_steps = 0
        # Whether a gradient of the last step was not finite.
        self.overflow: HostCopy | None = None
        self._skipped_in_a_row = 0
        self._settings: Optimizer | None = None
        self._updates = 0
        self._scaler: torch.amp.GradScaler | None = None

    def restart(self, groups: Sequence[ParameterGroup]) -> None:
        """From the next step on, train these groups, with a fresh state."""
        self.groups = groups
        self.adamw = None

    def step(self, settings: Optimizer, frozen: bool) -> None:
        """Update the parameters by the gradients since the last step, and the averages, if thinc's optimizer has them.

        frozen: whether all parameters are frozen now.
        """
        self._check_last_step()
        parameters = {name: p for name, p in self.parameters.items() if p.grad is not None}
        averages: dict[Any, Any] = {} if settings.averages is None else settings.averages
        # Include parameters that are frozen in this stage; otherwise their averages would lag behind.
        known = {name: p for name, p in self.parameters.items() if self._key(name) in averages}
        if frozen or not parameters:
            if known:
                self._average(averages, known)
            return
        adamw: Any = self._get_adamw(settings)
        self._updates += 1
        if not self.module.training:
            # In parallel training, this process may have had no document. In training mode, modules discard the
            # converted weights that they cache for prediction.
            self.module.train()
        scaler = self.scaler(next(iter(parameters.values())).device) if self.is_scaled else None
        if scaler is not None:
            scaler.unscale_(adamw)
        limit = settings.grad_clip or float("inf")
        norm = nn.utils.clip_grad_norm_(parameters.values(), limit, foreach=True)
        overflow = (norm * 0 != 0).float()  # NaN unless it is finite; isfinite takes twice as many operations
        # The fused step reads this flag on the device and changes nothing if it is set.
        adamw.found_inf = overflow
        adamw.grad_scale = None
        adamw.step()
        adamw.zero_grad(set_to_none=True)
        if scaler is not None:
            scaler.update()
        self.overflow = HostCopy(overflow)
        if settings.averages is not None:
            self._average(averages, {**known, **parameters})

    def _check_last_step(self) -> None:
        """Raise ValueError if the last step was skipped, see the class.

        This does not wait for the GPU, since the host has read a loss since that step.
        """
        if self.overflow is None:
            return
        (flag,) = self.overflow.read()
        overflowed, self.overflow = bool(flag), None
        self._skipped_in_a_row = self._skipped_in_a_row + 1 if overflowed else 0
        self.skipped_steps += overflowed
        # With loss scaling, gradients may overflow until the scale has adapted.
        if self._skipped_in_a_row > (MAX_SKIPPED if self.is_scaled else 0):
            raise ValueError(
                f"a gradient of {type(self.module).__name__} was not finite in update {self._updates}, which was "
                "skipped: the weights are those of the update before; lower [training.optimizer] learn_rate or "
                "grad_clip, or look for extreme inputs"
            )

    def scaler(self, device: torch.device) -> torch.amp.GradScaler:
        """The scale of the losses."""
        if self._scaler is None:
            self._scaler = torch.amp.GradScaler(device.type)
            # A scaler initializes itself at its first use. In parallel training, a process may have had no document.
            self._scaler.scale(torch.ones((), device=device))
        return self._scaler

    def _set_settings(self, settings: Optimizer) -> None:
        """Use the settings of thinc's optimizer. If it is a new object, reset the state."""
        if self._settings is settings:
            return
        if settings.use_radam or not (settings.b1 and settings.b2) or not settings.L2_is_weight_decay:
            raise ValueError(
                "spacy_ner_arch trains only with Adam.v1 and L2_is_weight_decay = true: set them in "
                "[training.optimizer]"
            )
        self._settings, self.adamw, self._updates = settings, None, 0

    def _get_adamw(self, settings: Optimizer) -> torch.optim.Optimizer:
        """AdamW with the current rates of thinc's optimizer."""
        self._set_settings(settings)
        if self.adamw is None:
            trained = {name: p for name, p in self.parameters.items() if p.requires_grad}
            parts: list[dict[str, Any]] = []
            for group in self.groups or [ParameterGroup(frozenset(trained))]:
                own = [p for name, p in trained.items() if name in group.names]
                parts.append({"params": [p for p in own if p.dim() > 1], "group": group, "decays": True})
                parts.append({"params": [p for p in own if p.dim() <= 1], "group": group, "decays": False})
            self.adamw = torch.optim.AdamW([part for part in parts if part["params"]], fused=True)
        for part in self.adamw.param_groups:
            group = part["group"]
            part["lr"] = settings.learn_rate if group.learn_rate is None else group.learn_rate
            part["betas"] = (settings.b1, settings.b2)
            part["eps"] = settings.eps
            decay = settings.L2 if group.weight_decay is None else group.weight_decay
            part["weight_decay"] = decay if part["decays"] else 0.0
        return self.adamw

    # Averages

    def _average(self, averages: dict[Any, Any], parameters: dict[str, nn.Parameter]) -> None:
        """Update the running averages in thinc's optimizer, by thinc's formula, for all parameters at once."""
        decay = min((1.0 + self._updates) / (10.0 + self._updates), 0.9999)
        for name, parameter in parameters.items():
            kept = averages.get(self._key(name))
            if kept is None or kept.shape != parameter.shape:
                averages[self._key(name)] = parameter.detach().clone()
        kept = [averages[self._key(name)] for name in parameters]
        get_ema_multi_avg_fn(decay)(kept, [p.detach() for p in parameters.values()], self._updates)

    def _key(self, parameter: str) -> tuple[str, str]:
        return self.name, parameter

    @contextlib.contextmanager
    def use_averages(self, averages: dict[Any, Any]) -> Iterator[None]:
        """Use the averages of thinc's optimizer as weights within the context."""
        owner = next((each for each in (self.name, *self.originals) if any(key[0] == each for key in averages)), None)
        found = [(p, averages.get((owner, name))) for name, p in self.parameters.items()]
        swapped = [(p, average) for p, average in found if average is not None and p.shape == average.shape]
        own = [p.detach().clone() for p, _ in swapped]
        with torch.no_grad():
            for p, average in swapped:
                p.copy_(average)
        try:
            yield
        finally:
            with torch.no_grad():
                for (p, _), weight in zip(swapped, own, strict=True):
                    p.copy_(weight)

    # Checkpoints

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """State from which `load_state` resumes training: tensors by name, and JSON values."""
        names = {parameter: name for name, parameter in self.parameters.items()}
        held: Any = {} if self.adamw is None else self.adamw.state
        tensors = {f"{key}/{names[p]}": tensor for p, state in held.items() for key, tensor in state.items()}
        return tensors, {
            "updates": self._updates,
            "overflow": None if self.overflow is None else bool(self.overflow.read()[0]),
            "skipped": [self.skipped_steps, self._skipped_in_a_row],
            "scaler": None if self._scaler is None else self._scaler.state_dict(),
        }

    def load_state(self, settings: Optimizer, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Resume training from the result of `state`. The groups must be the same as when `state` was called."""
        if values["updates"]:
            self._set_settings(settings)
        for key, tensor in tensors.items():
            kind, name = key.split("/", 1)
            parameter = self.parameters.get(name)
            if parameter is not None and parameter.requires_grad:
                self._get_adamw(settings).state.setdefault(parameter, {})[kind] = tensor.to(parameter.device)
        self._updates = values["updates"]
        overflow = values["overflow"]
        self.overflow = None if overflow is None else HostCopy(torch.tensor(overflow))
        self.skipped_steps, self._skipped_in_a_row = values["skipped"]
        if values["scaler"] is not None:
            self.scaler(next(iter(self.parameters.values())).device).load_state_dict(values["scaler"])
