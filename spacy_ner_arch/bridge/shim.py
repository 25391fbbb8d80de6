"""A torch module inside a thinc model.

thinc updates each parameter array on its own. The shim updates all parameters of a module together: one optimiser step
with the settings of thinc's optimiser, clipping by the global gradient norm, mixed precision.
"""

import contextlib
import copy
import functools
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple, cast

import torch
from thinc.api import Optimizer, Shim, get_torch_default_device
from torch import Tensor, nn

from ..nn.dropout import set_dropout
from ..nn.precision import AUTO, DTYPES, autocast
from .storage import check_fit, read_stored, store

MAX_SKIPPED = 50

# Process that was forked after it had started CUDA. Its children cannot use the GPU.
_started_cuda: int | None = None


def _before_fork() -> None:
    global _started_cuda
    if torch.cuda.is_initialized():
        _started_cuda = os.getpid()


if hasattr(os, "register_at_fork"):
    # OpenMP threads do not survive a fork: without one thread nlp.pipe(n_process=2) would hang.
    os.register_at_fork(before=_before_fork, after_in_child=functools.partial(torch.set_num_threads, 1))


@dataclass
class ParameterGroup:
    """Parameters of one module with the same settings; None means the value of `[training.optimizer]`."""

    names: frozenset[str]
    learn_rate: float | None = None
    weight_decay: float | None = None


class Overflow(NamedTuple):
    """The flag that a gradient of a step was not finite, while it is copied to the host.

    copied: event after which it is there; None on a CPU.
    """

    flag: Tensor
    copied: torch.cuda.Event | None

    @classmethod
    def copy(cls, flag: Tensor) -> "Overflow":
        """Begin to copy the flag to the host."""
        sent = flag.to("cpu", non_blocking=True)
        if not flag.is_cuda:
            return cls(sent, None)
        copied = torch.cuda.Event()
        copied.record(torch.cuda.current_stream(flag.device))
        return cls(sent, copied)

    def read(self) -> bool:
        """Wait for the copy and return the flag."""
        if self.copied is not None:
            self.copied.synchronize()
        return bool(self.flag)


class TorchShim(Shim):
    """A torch module that is built at initialization and stored as safetensors.

    build: module-level function, class, or partial that makes the module from the hyperparameters given to
        `initialize`. They are stored with the weights, so that loading builds the same module.
    dtype: `float32`, or `bfloat16` or `float16` for autocast, or `auto`; float16 uses loss scaling. See
        `nn.precision.autocast`.
    frozen: do not train the weights. If the input needs no gradient either, run in evaluation mode without a graph.

    The optimiser is AdamW with the rate, betas, eps and L2 of `[training.optimizer]` (as decoupled weight decay,
    without biases and normalization weights); `train_groups` can override rate and decay. Gradients are clipped by
    their norm over all parameters of the module. A step with a gradient that is not finite changes nothing and is
    counted in `skipped_steps`; the next update raises ValueError, under float16 only after MAX_SKIPPED such steps in a
    row.
    """

    def __init__(self, build: Callable[..., nn.Module], *, dtype: str = "float32", frozen: bool = False) -> None:
        super().__init__(None)
        if dtype not in (*DTYPES, AUTO):
            raise ValueError(f"unknown dtype {dtype!r}; known are {', '.join((*DTYPES, AUTO))}")
        self.build = build
        self.dtype = dtype
        self.frozen = self._always_frozen = frozen
        self.groups: Sequence[ParameterGroup] | None = None
        self.constants = frozenset[str]()
        self.pending: Callable[[], None] | None = None
        self.skipped_steps = 0
        self._forget_optimizer()

    # Building

    @property
    def is_initialized(self) -> bool:
        return self._model is not None

    @property
    def module(self) -> nn.Module:
        """The module; raises ValueError before initialization."""
        self.check_initialized()
        module: nn.Module = self._model
        return module

    def check_initialized(self) -> None:
        """Raise ValueError before initialization, and in a process that cannot use the GPU with the weights."""
        if self._model is None:
            raise ValueError("the model is not initialized: call nlp.initialize() or load a trained pipeline")
        if _started_cuda not in (None, os.getpid()) and any(p.is_cuda for p in self._model.parameters()):
            raise ValueError(
                "the model is on a GPU, which a forked process cannot use: set n_process = 1. A GPU gains nothing by "
                "more processes; on the CPU they work (load the pipeline without spacy.require_gpu)"
            )

    @property
    def device(self) -> torch.device:
        """Device of the module. (thinc's current device differs between threads.)"""
        tensor = next(chain(self._parameters.values(), self.module.buffers()), None)
        return default_device() if tensor is None else tensor.device

    @property
    def output_size(self) -> int:
        """Output width of an encoder or embedding."""
        return cast(int, self.module.output_size)

    def initialize(self, **hyperparameters: Any) -> None:
        """Build the module; the hyperparameters must be JSON values."""
        if self.dtype == "float16" and default_device().type == "cpu":
            warnings.warn(
                'dtype = "float16" has no effect on a CPU, where the model runs in float32: use "bfloat16" or a GPU',
                stacklevel=2,
            )
        self.cfg = hyperparameters
        self._model = self.build(**hyperparameters).to(default_device())
        self.frozen = self._always_frozen
        if self.frozen:
            self.module.requires_grad_(False)
        # Parameters that are constant from the start stay constant in all stages of training.
        self.constants = frozenset(name for name, p in self.module.named_parameters() if not p.requires_grad)
        self.groups = None
        self._forget_optimizer()

    def change(self, method: str, **hyperparameters: Any) -> None:
        """Call a method of the module that changes its shape, and store the new hyperparameters.

        Parameters that are frozen stay so, although new tensors may take their place.
        """
        trained = {name: parameter.requires_grad for name, parameter in self.module.named_parameters()}
        getattr(self.module, method)(**hyperparameters)
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad_(trained.get(name, parameter.requires_grad))
        self.cfg.update(hyperparameters)
        self._forget_optimizer()

    def _forget_optimizer(self) -> None:
        self._optimizer: torch.optim.Optimizer | None = None
        self._settings: Optimizer | None = None
        self._updates = 0
        self._overflow: Overflow | None = None
        self._scaler: torch.amp.GradScaler | None = None
        self._skipped_in_a_row = 0
        self._rate: float | None = None  # of the dropout
        self._named: dict[str, nn.Parameter] | None = None

    @property
    def _parameters(self) -> dict[str, nn.Parameter]:
        """Parameters by name. To walk over a transformer in every update would take longer than many of its kernels."""
        if self._named is None:
            self._named = dict(self.module.named_parameters())
        return self._named

    # Running

    def predict(self, args: tuple[Any, ...]) -> Any:
        """Run the module in evaluation mode, without a graph."""
        # inference_mode saves time on small tensors. Some transformers keep tensors for later calls; those of
        # inference_mode would break the next update.
        is_fast = args[0].is_cpu and not getattr(self.module, "keeps_tensors", False)
        return self._predict(args, torch.inference_mode() if is_fast else torch.no_grad())

    def _predict(self, args: tuple[Any, ...], mode: contextlib.AbstractContextManager) -> Any:
        if self.module.training:
            self.module.eval()
        with mode, autocast(self.dtype, args[0].device):
            return self.module(*args)

    def calibrate(self, batches: Iterable[Any]) -> None:
        """Call `calibrate` of a head, in evaluation mode."""
        self.module.eval()
        with torch.no_grad(), autocast(self.dtype, self.device):
            cast(Any, self.module).calibrate(batches)

    def begin_update(self, args: tuple[Any, ...], dropout: float = 0.0) -> tuple[Any, Callable[[Any], Tensor | None]]:
        """Run the module in training mode.

        args: arguments of the module. The first one is a tensor; its gradient is computed if it is floating point.
        dropout: rate of this update for every `TrainingDropout`.
        Returns the output, and a callback from its gradient (a number for a loss, else a tensor) to the gradient of the
        first argument. If the output is a tuple, such as a Loss, its first element has the gradient. Gradients of the
        weights add up until `finish_update`.
        """
        self.flush()
        if self.frozen and not args[0].is_floating_point():
            return self._predict(args, torch.no_grad()), no_backprop
        if not self.module.training:
            self.module.train()
        if dropout != self._rate:
            set_dropout(self.module, dropout)
            self._rate = dropout
        x = args[0].detach().requires_grad_(args[0].is_floating_point())
        with autocast(self.dtype, x.device):
            output = self.module(x, *args[1:])
        source = output[0] if isinstance(output, tuple) else output
        if not source.requires_grad:  # everything is frozen
            return output, no_backprop
        return output, functools.partial(self._backprop, x, source)

    def _backprop(self, x: Tensor, output: Tensor, gradient: Any) -> Tensor | None:
        self._raise_if_overflowed()
        if not isinstance(gradient, Tensor):  # fill a scalar on the device: a copy from the host would wait
            gradient = torch.full((), gradient, dtype=torch.float32, device=output.device)
        if self.dtype != "float16":
            output.backward(gradient.to(output.dtype).expand_as(output))
            return x.grad
        scale = self._get_scaler(x.device).scale(output.new_ones((), dtype=torch.float32))
        output.backward((gradient * scale).to(output.dtype).expand_as(output))
        # Unscale the gradient for thinc now, with zeros where it overflowed; that of the weights waits for
        # finish_update.
        return None if x.grad is None else (x.grad / scale).nan_to_num(0.0, 0.0, 0.0)

    def _get_scaler(self, device: torch.device) -> torch.amp.GradScaler:
        if self._scaler is None:
            self._scaler = torch.amp.GradScaler(device.type)
            # It is only complete after a first use, and in parallel training a process may have no document for that.
            self._scaler.scale(torch.ones((), device=device))
        return self._scaler

    # Learning

    def train_groups(self, groups: Sequence[ParameterGroup]) -> None:
        """From the next update on, train only these parameters, with a fresh optimiser state."""
        trained = frozenset[str]().union(*(group.names for group in groups)) - self.constants
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad_(name in trained)
        self.groups = groups
        self.frozen = not trained
        self._optimizer = None

    def flush(self) -> None:
        """Run the backward pass that a caller has left for later in `pending`, if any."""
        pending, self.pending = self.pending, None
        if pending is not None:
            pending()

    def finish_update(self, optimizer: Optimizer) -> None:
        """Update all parameters by the gradients since the last step."""
        self.flush()
        parameters = {name: p for name, p in self._parameters.items() if p.grad is not None}
        if optimizer.averages is not None:
            # Include parameters that are frozen in this stage; otherwise their averages would lag behind.
            known = {n: p for n, p in self._parameters.items() if self._key(n) in optimizer.averages}
        if self.frozen or not parameters:
            if optimizer.averages is not None and known:
                self._average(optimizer.averages, known)
            return
        step: Any = self._get_optimizer(optimizer)
        self._updates += 1
        if not self.module.training:  # a process without documents; modules may keep what they make of weights
            self.module.train()
        scaler = self._get_scaler(self.device) if self.dtype == "float16" else None
        if scaler is not None:
            scaler.unscale_(step)
        limit = optimizer.grad_clip or float("inf")
        norm = nn.utils.clip_grad_norm_(parameters.values(), limit, foreach=True)
        overflow = (~norm.isfinite()).float()
        # The fused step reads this flag on the device and changes nothing if it is set.
        step.found_inf = overflow
        step.grad_scale = None
        step.step()
        step.zero_grad(set_to_none=True)
        if scaler is not None:
            scaler.update()
        self._overflow = Overflow.copy(overflow)
        if optimizer.averages is not None:
            self._average(optimizer.averages, {**known, **parameters})

    def _set_settings(self, settings: Optimizer) -> None:
        """Use the settings of thinc's optimiser; begin anew if it is another object than before."""
        if self._settings is settings:
            return
        if settings.use_radam or not (settings.b1 and settings.b2) or not settings.L2_is_weight_decay:
            raise ValueError(
                "spacy_ner_arch trains with Adam.v1 and L2_is_weight_decay = true only; change [training.optimizer]"
            )
        self._settings, self._optimizer, self._updates = settings, None, 0

    def _get_optimizer(self, settings: Optimizer) -> torch.optim.Optimizer:
        """AdamW with the current rates of thinc's optimiser."""
        self._set_settings(settings)
        if self._optimizer is None:
            named = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
            parameters: list[dict[str, Any]] = []
            for group in self.groups or [ParameterGroup(frozenset(named))]:
                own = [named[name] for name in named if name in group.names]
                parameters.append({"params": [p for p in own if p.dim() > 1], "group": group, "decays": True})
                parameters.append({"params": [p for p in own if p.dim() <= 1], "group": group, "decays": False})
            self._optimizer = torch.optim.AdamW([g for g in parameters if g["params"]], fused=True)
        for part in self._optimizer.param_groups:
            group = part["group"]
            part["lr"] = settings.learn_rate if group.learn_rate is None else group.learn_rate
            part["betas"] = (settings.b1, settings.b2)
            part["eps"] = settings.eps
            decay = settings.L2 if group.weight_decay is None else group.weight_decay
            part["weight_decay"] = decay if part["decays"] else 0.0
        return self._optimizer

    def _raise_if_overflowed(self) -> None:
        """Check the flag of the last step. The host has read a loss since, so it hardly ever waits here."""
        if self._overflow is None:
            return
        overflowed, self._overflow = self._overflow.read(), None
        self._skipped_in_a_row = self._skipped_in_a_row + 1 if overflowed else 0
        self.skipped_steps += overflowed
        # Under float16 the loss scale must adapt first.
        if self._skipped_in_a_row > (MAX_SKIPPED if self.dtype == "float16" else 0):
            raise ValueError(
                f"a gradient was not finite in update {self._updates}, which was skipped: the weights are those of the "
                "update before; lower [training.optimizer] learn_rate or grad_clip, or look for extreme inputs"
            )

    def _average(self, averages: dict[Any, Any], parameters: dict[str, nn.Parameter]) -> None:
        """Update the running averages in thinc's optimiser, by thinc's formula, for all parameters at once."""
        share = 1.0 - min((1.0 + self._updates) / (10.0 + self._updates), 0.9999)
        for name, parameter in parameters.items():
            kept = averages.get(self._key(name))
            if kept is None or kept.shape != parameter.shape:
                averages[self._key(name)] = parameter.detach().clone()
        kept = [averages[self._key(name)] for name in parameters]
        torch._foreach_lerp_(kept, [p.detach() for p in parameters.values()], share)

    def _key(self, name: str) -> tuple[str, str]:
        # thinc's keys begin with the number of a node; a string cannot collide with them.
        return f"torch-{self.id}", name

    def training_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What `load_training_state` needs to go on with training: tensors by name, and JSON values."""
        names = {parameter: name for name, parameter in self.module.named_parameters()}
        held: Any = {} if self._optimizer is None else self._optimizer.state
        tensors = {f"{key}/{names[p]}": tensor for p, state in held.items() for key, tensor in state.items()}
        if self.device.type == "cuda":  # the flag of the last step is on its way to the host
            torch.cuda.current_stream(self.device).synchronize()
        return tensors, {
            "updates": self._updates,
            "overflow": None if self._overflow is None else self._overflow.read(),
            "skipped": [self.skipped_steps, self._skipped_in_a_row],
            "scaler": None if self._scaler is None else self._scaler.state_dict(),
        }

    def load_training_state(self, settings: Optimizer, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Go on with training where `training_state` was called. The groups must be those of that moment."""
        if values["updates"]:
            self._set_settings(settings)
        trained = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        for key, tensor in tensors.items():
            kind, name = key.split("/", 1)
            if name in trained:
                state = self._get_optimizer(settings).state.setdefault(trained[name], {})
                state[kind] = tensor.to(trained[name].device)
        self._updates = values["updates"]
        overflow = values["overflow"]
        self._overflow = None if overflow is None else Overflow(torch.tensor(overflow), None)
        self.skipped_steps, self._skipped_in_a_row = values["skipped"]
        if values["scaler"] is not None:
            self._get_scaler(self.device).load_state_dict(values["scaler"])

    @contextlib.contextmanager
    def use_params(self, params: dict[Any, Any]) -> Iterator[None]:
        """Use the averages in `params` as weights within the context."""
        named = [] if self._model is None else list(self.module.named_parameters())
        swapped = [(p, params[self._key(name)]) for name, p in named if self._key(name) in params]
        swapped = [(p, average) for p, average in swapped if p.shape == average.shape]
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

    # Moving and storing

    def copy(self) -> "TorchShim":
        copied = TorchShim(self.build, dtype=self.dtype, frozen=self._always_frozen)
        copied.cfg = copy.deepcopy(self.cfg)
        copied._model = copy.deepcopy(self._model)
        for module in () if self._model is None else copied.module.modules():
            if isinstance(module, nn.RNNBase):  # its weights lie in one piece of memory, but not those of a copy
                module.flatten_parameters()
        copied.groups, copied.constants, copied.frozen = self.groups, self.constants, self.frozen
        return copied

    def to_device(self, device_type: str, device_id: int) -> None:
        if self._model is None:
            return
        self.module.to("cpu" if device_type == "cpu" else f"cuda:{device_id}")
        self._forget_optimizer()

    def __getstate__(self) -> dict[str, Any]:
        # A spawned process gets the weights but no optimiser state.
        state = {
            **self.__dict__,
            "_optimizer": None,
            "_settings": None,
            "_overflow": None,
            "_named": None,
            "_scaler": None,
            "pending": None,
        }
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A copy needs an id of its own: that of the original can belong to another module here, and an optimiser keeps
        # its averages by this id.
        self.__dict__.update(state)
        self.id = Shim(None).id

    def to_bytes(self) -> bytes:
        """Weights as safetensors, with the hyperparameters as JSON in the header; empty before initialization."""
        return b"" if self._model is None else store(self.cfg, self._model.state_dict())

    def from_bytes(self, data: bytes) -> "TorchShim":
        """Load weights, after a check that they are intact and have the sizes that the hyperparameters declare."""
        if not data:
            self._model = None
            return self
        hyperparameters, weights = read_stored(data)
        check_fit(self.build, hyperparameters, weights)
        self.initialize(**hyperparameters)
        self.module.load_state_dict(weights)
        return self


def default_device() -> torch.device:
    """thinc's current device, or the CPU instead of Apple's GPU, which has no float64."""
    try:
        device = get_torch_default_device()
    except (AssertionError, RuntimeError) as error:  # spaCy has a GPU, but torch finds none
        raise ValueError(
            f"spaCy uses a GPU, but PyTorch cannot ({error}): `python -m spacy ner-arch doctor --gpu-id 0` says why"
        ) from error
    return device if device.type == "cuda" else torch.device("cpu")


def no_backprop(*args: Any) -> None:
    """The backward pass of a call that changes nothing: in prediction, or with all weights frozen."""
    return None
