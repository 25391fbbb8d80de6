"""A torch module inside a thinc model.

thinc updates each parameter array on its own. The shim updates all parameters of a module together, see `optimizer.py`.
"""

import contextlib
import copy
import functools
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, cast

import torch
from thinc.api import Model, Optimizer, Shim
from torch import Tensor, nn

from ..nn.dropout import set_dropout
from ..nn.precision import AUTO, DTYPES, autocast
from .device import check_process, default_device
from .optimizer import ModuleOptimizer, ParameterGroup
from .storage import NOT_INITIALIZED, check_fit, class_names, read_stored, store


class TorchShim(Shim):
    """A torch module that is built at initialization and stored as safetensors.

    build: module-level function, class, or partial that makes the module from the hyperparameters given to
        `initialize`. They are stored with the weights, so that loading builds the same module.
    dtype: `float32`, or `bfloat16` or `float16` for autocast, or `auto`; float16 uses loss scaling. See
        `nn.precision.autocast`.
    frozen: do not train the weights. If the input needs no gradient either, run in evaluation mode without a graph.

    groups: parameters that are trained, with their settings, see `train_groups`; None for all but the constant ones.
    constants: names of the parameters that are never trained.
    pending: a deferred backward pass, see `flush`. It returns whether it had a gradient.
    names: name of the module, then of the modules that it was copied from; see ModuleOptimizer.
    """

    def __init__(self, build: Callable[..., nn.Module], *, dtype: str = "float32", frozen: bool = False) -> None:
        super().__init__(None)
        if dtype not in (*DTYPES, AUTO):
            raise ValueError(f"unknown dtype {dtype!r}; choose from {', '.join((*DTYPES, AUTO))}")
        self.build = build
        self.dtype = dtype
        self.frozen = self._always_frozen = frozen
        self.groups: Sequence[ParameterGroup] | None = None
        self.constants = frozenset[str]()
        self.pending: Callable[[], bool] | None = None
        self.names: tuple[str, ...] = (new_name(),)
        self._forget_parameters()

    # Building

    @property
    def is_initialized(self) -> bool:
        return self._model is not None

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments of the module that do not depend on the hyperparameters, such as those of a config."""
        return dict(getattr(self.build, "keywords", {}))

    @property
    def module(self) -> nn.Module:
        """The module; raises ValueError before initialization."""
        self.check_initialized()
        module: nn.Module = self._model
        return module

    def check_initialized(self) -> None:
        """Raise ValueError before initialization, and in a process that cannot use the GPU with the weights."""
        if self._model is None:
            raise ValueError(NOT_INITIALIZED)
        check_process(self._model)

    @property
    def device(self) -> torch.device:
        """Device of the module. (thinc's current device differs between threads.)"""
        tensor = next(chain(self.optimizer.parameters.values(), self.module.buffers()), None)
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
        self._forget_parameters()

    def resize(self, **hyperparameters: Any) -> None:
        """Call `resize` of a head, which changes its shape, and store the new hyperparameters.

        Frozen parameters stay frozen, even if new tensors replace them.
        """
        trained = {name: parameter.requires_grad for name, parameter in self.module.named_parameters()}
        cast(Any, self.module).resize(**hyperparameters)
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad_(trained.get(name, parameter.requires_grad))
        self.cfg.update(hyperparameters)
        self._forget_parameters()

    def _forget_parameters(self) -> None:
        """Discard the values that belong to the previous layers of the module."""
        self._optimizer: ModuleOptimizer | None = None
        self._rate: float | None = None  # of the dropout

    @property
    def optimizer(self) -> ModuleOptimizer:
        """The optimizer of the parameters of the module."""
        if self._optimizer is None:
            is_scaled = self.dtype == "float16"
            self._optimizer = ModuleOptimizer(self.module, self.names, is_scaled=is_scaled, groups=self.groups)
        return self._optimizer

    # Running

    def __call__(
        self, args: tuple[Any, ...], is_train: bool, dropout: float = 0.0
    ) -> tuple[Any, Callable[[Any], Tensor | None]]:
        """The output of the module, and its backward pass; see `begin_update` and `predict`."""
        return self.begin_update(args, dropout) if is_train else (self.predict(args), no_backprop)

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
        self.pending = None  # vectors of an earlier update get no more gradient
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
        if not isinstance(gradient, Tensor):  # fill a scalar on the device: a copy from the host would wait
            gradient = torch.full((), gradient, dtype=torch.float32, device=output.device)
        if self.dtype != "float16":
            output.backward(gradient.to(output.dtype).expand_as(output))
            return x.grad
        scale = self.optimizer.scaler(x.device).scale(output.new_ones((), dtype=torch.float32))
        output.backward((gradient * scale).to(output.dtype).expand_as(output))
        # Unscale the gradient for thinc now, with zeros where it overflowed. The gradients of the weights are unscaled
        # in finish_update.
        return None if x.grad is None else (x.grad / scale).nan_to_num(0.0, 0.0, 0.0)

    # Learning

    def train_groups(self, groups: Sequence[ParameterGroup]) -> None:
        """From the next update on, train only these parameters, with a fresh optimizer state."""
        trained = frozenset[str]().union(*(group.names for group in groups)) - self.constants
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad_(name in trained)
        self.groups = groups
        self.frozen = not trained
        self.optimizer.restart(groups)

    def flush(self) -> None:
        """Run the deferred backward pass in `pending`, unless it has no gradient yet."""
        if self.pending is not None and self.pending():
            self.pending = None

    def finish_update(self, optimizer: Optimizer) -> None:
        """Update all parameters by the gradients since the last step."""
        self.flush()
        self.optimizer.step(optimizer, self.frozen)

    @contextlib.contextmanager
    def use_params(self, params: dict[Any, Any]) -> Iterator[None]:
        """Use the averages in `params` as weights within the context."""
        with contextlib.nullcontext() if self._model is None else self.optimizer.use_averages(params):
            yield

    # Moving and storing

    def copy(self) -> "TorchShim":
        """A copy for another component, as for nlp.replace_listeners. Averages of the original do not reach it."""
        copied = copy.deepcopy(self)
        copied.names = copied.names[:1]
        for module in () if self._model is None else copied.module.modules():
            if isinstance(module, nn.RNNBase):  # the weights of a copy are not contiguous
                module.flatten_parameters()
        return copied

    def to_device(self, device_type: str, device_id: int) -> None:
        if self._model is None:
            return
        self.module.to("cpu" if device_type == "cpu" else f"cuda:{device_id}")
        self._forget_parameters()

    def __getstate__(self) -> dict[str, Any]:
        # A spawned process gets the weights but no optimizer state.
        return {**self.__dict__, "_optimizer": None, "pending": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A copy needs a new id: in this process, another module may have the id of the original.
        self.__dict__.update(state)
        self.id = Shim(None).id
        self.names = (new_name(), *self.names)

    def to_bytes(self) -> bytes:
        """Weights as safetensors, with hyperparameters and classes in the header; empty before initialization."""
        if self._model is None:
            return b""
        return store({**self.cfg, "class": class_names(self.module)}, self.module.state_dict())

    def from_bytes(self, data: bytes) -> "TorchShim":
        """Load weights, after a check that they are intact and those of the module that the hyperparameters declare."""
        if not data:
            self._model = None
            return self
        hyperparameters, weights = read_stored(data)
        check_fit(self.build, hyperparameters, weights, hyperparameters.pop("class", None))
        self.initialize(**hyperparameters)
        self.module.load_state_dict(weights)
        return self


def new_name() -> str:
    """A name that is unique across processes. It cannot equal a key of a thinc model, which begins with a number."""
    return f"torch-{uuid.uuid4()}"


def no_backprop(*args: Any) -> None:
    """Backward pass of a prediction, or of a call with all weights frozen. Does nothing."""
    return None


def get_shim(model: Model) -> TorchShim:
    """The shim of a model of this package."""
    shim = model.shims[0]
    assert isinstance(shim, TorchShim)
    return shim
