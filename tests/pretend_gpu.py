"""A GPU for tests that need none: spaCy, thinc and torch run "on cuda:0", computed on the CPU.

    with pretend_gpu() as gpu:
        nlp.update(examples)
        print(gpu.waits, gpu.launches)

Tensors and arrays "on the GPU" are wrappers around those of the CPU. As on a real one:

- An operation that mixes them with tensors or arrays of the host raises DeviceMixing.
- What is copied to the host without waiting (`non_blocking=True`) holds NaN, or -77, until something waits.
- Every wait of the host, and every operation on the device, is counted by the line that calls it: the innermost one
  outside torch and thinc.

It does not run CUDA kernels or TorchScript, and knows no streams, no limit of memory and no speed. An operation counts
as one launch, while a real one may take several kernels.
"""

import contextlib
import os
import sys
import types
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import spacy.util
import thinc
import thinc.backends
import thinc.util
import torch
from thinc.api import CupyOps, NumpyOps, get_current_ops, set_current_ops
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only

from spacy_ner_arch.nn import fused

CUDA = torch.device("cuda:0")
HOST = torch.device("cpu")
POISON = -77
# Folders whose lines are not what calls an operation.
LIBRARIES = tuple(os.path.dirname(module.__file__) + os.sep for module in (torch, thinc, np, contextlib))
# Operations whose result the host has to read, to know its size or its value.
READ_BY_HOST = {
    "aten::_local_scalar_dense",
    "aten::_unique2",
    "aten::bincount",
    "aten::equal",
    "aten::is_nonzero",
    "aten::masked_select",
    "aten::nonzero",
    "aten::unique_consecutive",
    "aten::unique_dim",
}
INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index"}
# Operations between the host and the device.
COPIES = {"aten::copy_", "aten::_to_copy"}
# The autograd engine runs these by C++ code, which takes the wrappers for tensors of the CPU.
MADE_BY_ENGINE = {"aten::zeros", "aten::ones", "aten::full", "aten::empty", "aten::new_zeros", "aten::zeros_like"}


class DeviceMixing(RuntimeError):
    """An operation on the GPU was given something of the host."""


@dataclass(eq=False)
class UnfinishedCopy:
    """A copy to the host that is not finished, with the number of copies that were begun before."""

    number: int
    target: weakref.ref
    content: torch.Tensor


class PretendGPU:
    """What has happened on the device: waits of the host and launches, by line."""

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()
        self.launches: Counter[str] = Counter()
        self.copies = 0
        self._unfinished: list[UnfinishedCopy] = []

    def wait(self) -> None:
        """The host waits, after which all copies are finished."""
        self.waits[calling_line()] += 1
        self._finish(self._unfinished)

    def wait_for_copies(self, begun: int) -> None:
        """The host waits until so many copies are finished, counted from the first one, unless they are."""
        copies = [copy for copy in self._unfinished if copy.number < begun]
        if copies:
            self.waits[calling_line()] += 1
            self._finish(copies)

    def _finish(self, copies: list["UnfinishedCopy"]) -> None:
        for copy in copies:
            tensor = copy.target()
            if tensor is not None:
                tensor.detach().copy_(copy.content)
        self._unfinished = [copy for copy in self._unfinished if copy not in copies]

    def launch(self) -> None:
        """An operation on the device, for which the host does not wait."""
        self.launches[calling_line()] += 1

    def copy_later(self, content: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Fill a tensor of the host with poison, and with the content when the host waits. Returns the tensor."""
        target.fill_(float("nan") if content.is_floating_point() else POISON)
        self._unfinished.append(UnfinishedCopy(self.copies, weakref.ref(target), content.clone()))
        self.copies += 1
        return target

    @contextlib.contextmanager
    def counting(self) -> Iterator["PretendGPU"]:
        """Counts of the context alone."""
        before = self.waits.copy(), self.launches.copy()
        counted = PretendGPU()
        yield counted
        counted.waits, counted.launches = self.waits - before[0], self.launches - before[1]


def calling_line() -> str:
    """`folder/file.py:line` of the innermost frame outside this file, torch and thinc."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith((__file__, "<", *LIBRARIES)):
        frame = frame.f_back
    return "/".join(frame.f_code.co_filename.split(os.sep)[-2:]) + f":{frame.f_lineno}"


# Tensors


class DeviceTensor(torch.Tensor):
    """A tensor on the device: the tensor `host` of the CPU, which nobody else can reach."""

    __slots__ = ("host",)
    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    @staticmethod
    def __new__(cls, host: torch.Tensor) -> "DeviceTensor":
        assert not isinstance(host, DeviceTensor)
        layout = {"strides": host.stride(), "storage_offset": host.storage_offset(), "dtype": host.dtype}
        tensor = torch.Tensor._make_wrapper_subclass(cls, host.size(), **layout)
        tensor.host = host
        return tensor

    def __repr__(self, **kwargs: Any) -> str:
        return f"DeviceTensor({self.host!r})"

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    def __deepcopy__(self, memo: dict) -> "DeviceTensor":
        return memo.setdefault(id(self), DeviceTensor(self.host.clone()).requires_grad_(self.requires_grad))

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError("an operation on the pretend GPU outside of its context")


class Dispatch(TorchDispatchMode):
    """Runs all operations of torch, and knows which of them are on the device."""

    def __init__(self, gpu: PretendGPU) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = {key: value for key, value in (kwargs or {}).items() if key != "pin_memory"}
        name = func._schema.name
        on_device = any(isinstance(x, DeviceTensor) for x in tree_iter((args, kwargs)))
        target = kwargs.get("device")
        if target is not None and target.type == "cpu" and is_engine() and (on_device or name in MADE_BY_ENGINE):
            target = CUDA
        if target is not None and target.type == "cuda":
            kwargs["device"], on_device = HOST, True
        if not on_device:
            return func(*args, **kwargs)
        if name in COPIES:
            return self.copy(func, args, kwargs, target)
        self.check(func, name, args, kwargs)
        if name in READ_BY_HOST or (name == "aten::repeat_interleave" and kwargs.get("output_size") is None):
            self.gpu.wait()
        to_host = target is not None and target.type == "cpu"
        result = func(*on_host(args), **on_host(kwargs))
        returns = [
            (r.alias_info is not None, r.alias_info is not None and r.alias_info.is_write) for r in func._schema.returns
        ]
        if not any(is_view and not is_written for is_view, is_written in returns) and "empty" not in name:
            self.gpu.launch()
        if to_host:
            return result
        if any(is_written for _, is_written in returns):
            return same_tensors(func, args, kwargs, result)
        return tree_map_only(torch.Tensor, DeviceTensor, result)

    def copy(self, func, args, kwargs, target):
        """A copy within the device, or between the device and the host."""
        if func._schema.name == "aten::copy_":
            into, source, *rest = args
            crosses = isinstance(into, DeviceTensor) != isinstance(source, DeviceTensor)
            non_blocking = bool(rest and rest[0])
            self.gpu.launch()
            func(*on_host(args), **kwargs)
            if crosses and not non_blocking:
                self.gpu.wait()
            elif crosses and not isinstance(into, DeviceTensor):
                self.gpu.copy_later(into.clone(), into)
            return into
        source = args[0]
        was_there = isinstance(source, DeviceTensor)
        is_there = was_there if target is None else target.type == "cuda"
        waits = was_there != is_there and not kwargs.get("non_blocking", False)
        result = func(on_host(source), **kwargs)
        if waits:
            self.gpu.wait()
        if is_there:
            self.gpu.launch()
            return DeviceTensor(result)
        return result if waits or not was_there else self.gpu.copy_later(result, torch.empty_like(result))

    def check(self, func, name, args, kwargs) -> None:
        """Raise DeviceMixing for tensors of the host, but where CUDA takes them: scalars, and indices (by a copy)."""
        host = [x for x in tree_iter((args, kwargs)) if type(x) is not DeviceTensor and isinstance(x, torch.Tensor)]
        if name in INDEXING:
            indices = [x for x in args[1] if x is not None]
            if any(x.dtype == torch.bool or not isinstance(x, DeviceTensor) for x in indices):
                self.gpu.wait()
            host = [x for x in host if not any(x is index for index in indices)]
        scalars_allowed = torch.Tag.pointwise in func.tags or name in INDEXING or name == "aten::fill_"
        if host and not (scalars_allowed and all(x.dim() == 0 for x in host) and not writes_to_host(func, args)):
            raise DeviceMixing(
                f"{name} on cuda:0 with a tensor of the CPU, {tuple(host[0].shape)}, in {calling_line()}"
            )


def on_host(values: Any) -> Any:
    return tree_map_only(DeviceTensor, lambda x: x.host, values)


def writes_to_host(func, args) -> bool:
    first = func._schema.arguments[0].alias_info
    return first is not None and first.is_write and not isinstance(args[0], DeviceTensor)


def same_tensors(func, args, kwargs, result):
    """For operations in place: the tensors that were given, not new wrappers."""
    given = {}
    for number, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[number] if number < len(args) else kwargs.get(argument.name)
            given.update({id(x.host): x for x in tree_iter(value) if isinstance(x, DeviceTensor)})
    return tree_map_only(torch.Tensor, lambda x: given[id(x)] if id(x) in given else DeviceTensor(x), result)


def is_engine() -> bool:
    """Whether the C++ code of the autograd engine, and no Python code, calls an operation."""
    frame = sys._getframe(2)
    while frame.f_code.co_filename.endswith(("_compile.py", "_python_dispatch.py", "eval_frame.py")):
        frame = frame.f_back
    return frame.f_code.co_filename.endswith(os.path.join("autograd", "graph.py"))


class ToDevice(torch.autograd.Function):
    """Copies between devices: C++ code takes the wrappers for tensors of the CPU, and would not copy."""

    @staticmethod
    def forward(ctx, x, device, dtype, non_blocking):
        ctx.device = x.device
        return torch.ops.aten._to_copy(x.detach(), dtype=dtype, device=device, non_blocking=non_blocking)

    @staticmethod
    def backward(ctx, gradient):
        return torch.ops.aten._to_copy(gradient, device=ctx.device), None, None, None


def torch_patches(gpu: PretendGPU) -> Iterator[Any]:
    """Patches of what C++ code decides by the device before an operation is dispatched."""
    tensor = torch.Tensor
    plain_to, plain_parse, plain_list, plain_numpy = tensor.to, torch._C._nn._parse_to, tensor.tolist, tensor.numpy
    plain_tensor = torch.tensor

    def parse_to(*args, **kwargs):
        if args and isinstance(args[0], DeviceTensor):
            args = (args[0].device, args[0].dtype, *args[1:])
        return plain_parse(*args, **kwargs)

    def to(self, *args, **kwargs):
        rest = {key: value for key, value in kwargs.items() if key != "copy"}
        device, dtype, non_blocking, _ = parse_to(*args, **rest)
        if device is None or device.type == self.device.type:
            return plain_to(self, dtype=dtype or self.dtype, copy=kwargs.get("copy", False))
        return ToDevice.apply(self, device, dtype, non_blocking)

    def tolist(self):
        return plain_list(to(self, HOST))

    def numpy(self, *args, **kwargs):
        if isinstance(self, DeviceTensor):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
        return plain_numpy(self, *args, **kwargs)

    def make_tensor(data, *, dtype=None, device=None, **kwargs):
        return to(plain_tensor(data, dtype=dtype, **kwargs), HOST if device is None else device)

    def as_tensor(data, dtype=None, device=None):
        if not isinstance(data, tensor):
            return make_tensor(data, dtype=dtype, device=device)
        return to(data, data.device if device is None else device, dtype or data.dtype)

    def new_tensor(self, data, *, dtype=None, device=None):
        return make_tensor(data, dtype=dtype or self.dtype, device=device or self.device)

    for name, function in {
        "to": to,
        "type_as": lambda self, other: to(self, other.device, other.dtype),
        "new_tensor": new_tensor,
        "cpu": lambda self: to(self, HOST),
        "cuda": lambda self, device=None, non_blocking=False: to(self, CUDA, non_blocking=non_blocking),
        "pin_memory": lambda self: self,
        "tolist": tolist,
        "numpy": numpy,
    }.items():
        yield patch.object(tensor, name, function)
    yield patch.object(torch._C._nn, "_parse_to", parse_to)
    yield patch.object(torch, "tensor", make_tensor)
    yield patch.object(torch, "as_tensor", as_tensor)
    # Views of wrappers cannot be made in inference mode.
    yield patch.object(torch, "inference_mode", lambda mode=True: torch.no_grad() if mode else contextlib.nullcontext())

    class Stream:
        def synchronize(self) -> None:
            gpu.wait()

    class Event:
        def record(self, stream=None) -> None:
            self.copies = gpu.copies

        def synchronize(self) -> None:
            gpu.wait_for_copies(self.copies)

    for name, value in {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "get_device_capability": lambda device=None: (8, 0),
        "get_device_name": lambda device=None: "pretend GPU",
        "is_bf16_supported": lambda *args, **kwargs: True,
        "manual_seed_all": lambda seed: None,
        "get_rng_state": lambda device=None: torch.get_rng_state(),
        "set_rng_state": lambda state, device=None: torch.set_rng_state(state),
        "synchronize": lambda device=None: gpu.wait(),
        "current_stream": lambda device=None: Stream(),
        "Event": Event,
        # Optimizers ask, and a torch that is built for CUDA asks the driver.
        "is_current_stream_capturing": lambda: False,
    }.items():
        yield patch.object(torch.cuda, name, value)
    yield patch.object(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    # Optimizers ask the accelerator for its stream, which a torch that is built for CUDA asks the driver for. No
    # torch before 2.6 has accelerators.
    if hasattr(torch, "accelerator"):
        yield patch.object(torch.accelerator, "current_accelerator", lambda check_available=False: None)
    # Triton may be installed or not: counts are those of a CRF that runs step by step.
    yield patch.object(fused, "kernels_compile", lambda device: False)
    generator = torch.Generator
    yield patch.object(torch, "Generator", lambda device=None: generator())

    # Mixed precision by the rules of the CPU.
    plain_autocast, is_enabled, get_dtype = torch.autocast.__init__, torch.is_autocast_enabled, torch.get_autocast_dtype

    def autocast(self, device_type, dtype=None, enabled=True, cache_enabled=None):
        half = dtype if dtype in (torch.bfloat16, torch.float16) else torch.bfloat16
        plain_autocast(self, "cpu", half, enabled and dtype in (None, half), cache_enabled)

    yield patch.object(torch.autocast, "__init__", autocast)
    yield patch.object(torch, "is_autocast_enabled", lambda kind="cpu": is_enabled("cpu"))
    yield patch.object(torch, "get_autocast_dtype", lambda kind="cpu": get_dtype("cpu"))

    # Optimizers group their tensors in C++.
    plain_group = torch._C._group_tensors_by_device_and_dtype

    def group(lists, with_indices=False):
        groups = plain_group(lists, with_indices).items()
        return {(next(x for x in value[0][0] if x is not None).device, dtype): value for (_, dtype), value in groups}

    yield patch.object(torch._C, "_group_tensors_by_device_and_dtype", group)

    def from_dlpack(x, **kwargs):
        return DeviceTensor(torch.from_numpy(x.host)) if isinstance(x, DeviceArray) else plain_from(x, **kwargs)

    def to_dlpack(x):
        if x.requires_grad or x.dtype == torch.bfloat16:
            raise BufferError(f"cupy takes no gradient and no bfloat16: {x.dtype}, requires_grad {x.requires_grad}")
        return DeviceArray(plain_numpy(x.host)) if isinstance(x, DeviceTensor) else plain_to_dlpack(x)

    plain_from, plain_to_dlpack = torch.utils.dlpack.from_dlpack, torch.utils.dlpack.to_dlpack
    yield patch.object(torch.utils.dlpack, "from_dlpack", from_dlpack)
    yield patch.object(torch.utils.dlpack, "to_dlpack", to_dlpack)


# Arrays


class DeviceArray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of cupy: the array `host` of numpy, which nobody else can reach."""

    gpu: PretendGPU  # set by the context

    def __init__(self, host: np.ndarray) -> None:
        self.host = host

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "host":
            raise AttributeError(name)
        value = getattr(self.host, name)
        return launched(value) if callable(value) else wrapped(value)

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        return launched(getattr(ufunc, method))(*inputs, **kwargs)

    def __array_function__(self, function, types, args, kwargs):
        return launched(function)(*args, **kwargs)

    def __getitem__(self, index):
        return DeviceArray(np.asarray(self.host[unwrapped(index)]))

    def __setitem__(self, index, value) -> None:
        self.host[unwrapped(index)] = unwrapped(value)

    def __len__(self) -> int:
        return len(self.host)

    def __iter__(self):
        return (DeviceArray(np.asarray(row)) for row in self.host)

    def toDlpack(self) -> "DeviceArray":
        return self

    def get(self, stream=None) -> np.ndarray:
        self.gpu.wait()
        return self.host.copy()

    def item(self):
        return self.get().item()

    def tolist(self) -> list:
        return self.get().tolist()

    def __float__(self) -> float:
        return float(self.get())

    def __int__(self) -> int:
        return int(self.get())

    __index__ = __int__

    def __bool__(self) -> bool:
        return bool(self.get())


def unwrapped(value: Any) -> Any:
    """Arrays of numpy instead of those of cupy. Those of numpy raise, but for integers: lengths and indices."""
    if isinstance(value, DeviceArray):
        return value.host
    if isinstance(value, np.ndarray) and value.ndim and value.dtype.kind == "f":
        raise DeviceMixing(f"an array of numpy, {value.shape}, given to cupy in {calling_line()}")
    if isinstance(value, (list, tuple)):
        return (list if isinstance(value, list) else tuple)(map(unwrapped, value))
    return value


def wrapped(value: Any) -> Any:
    """Arrays of cupy instead of those of numpy."""
    if isinstance(value, (np.ndarray, np.generic)):
        return DeviceArray(np.asarray(value))
    if isinstance(value, (list, tuple)):
        return (list if isinstance(value, list) else tuple)(map(wrapped, value))
    return value


def launched(function: Any) -> Any:
    """A function of numpy as one of cupy."""

    def call(*args, **kwargs):
        kwargs = {key: unwrapped(value) for key, value in kwargs.items()}
        result = function(*map(unwrapped, args), **kwargs)
        if getattr(result, "base", None) is None:  # else a view
            DeviceArray.gpu.launch()
        return wrapped(result)

    return call


class PretendCupy:
    """The module cupy, or a module inside it, by that of numpy."""

    ndarray = DeviceArray

    def __init__(self, module: Any = np) -> None:
        self.module = module

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.module, name)
        if isinstance(value, types.ModuleType):
            return PretendCupy(value)
        return value if isinstance(value, type) or not callable(value) else launched(value)

    @staticmethod
    def array(data, dtype=None, copy=True):
        data = data if isinstance(data, (DeviceArray, np.ndarray)) else np.array(data)
        return DeviceArray((np.array if copy else np.asarray)(getattr(data, "host", data), dtype=dtype))

    @staticmethod
    def asarray(data, dtype=None):
        return PretendCupy.array(data, dtype, copy=not isinstance(data, DeviceArray))


class PretendRandom:
    """The module cupy.random: random numbers of its own, whose state nobody can get or set."""

    def __init__(self) -> None:
        self.numbers = np.random.RandomState(0)

    def __getattr__(self, name: str) -> Any:
        if name.endswith("_state"):
            raise AttributeError(f"module 'cupy.random' has no attribute {name!r}")
        return launched(getattr(self.numbers, name))


class PretendOps(CupyOps):
    """The operations of thinc on the device, by those of the CPU."""

    xp = PretendCupy()

    def asarray(self, data, dtype=None):
        if isinstance(data, (list, tuple)) and data and isinstance(data[0], DeviceArray):
            return self.xp.stack(data)
        return self.xp.asarray(data, dtype)

    def to_numpy(self, data, *, byte_order=None):
        return data if isinstance(data, np.ndarray) else data.get()


def add_operations() -> None:
    host = NumpyOps()
    for name in dir(host):
        function = getattr(host, name)
        if (
            callable(function)
            and not name.startswith(("_", "asarray", "reshape"))
            and name not in ("to_numpy", "minibatch", "xp", "get_dropout_mask")
        ):
            setattr(PretendOps, name, staticmethod(launched(function)))


add_operations()


def thinc_patches() -> Iterator[Any]:
    """Patches of what thinc knows of cupy."""
    for name, value in {
        "cupy": PretendOps.xp,
        "has_cupy": True,
        "has_cupy_gpu": True,
        "has_gpu": True,
        "cupy_from_dlpack": lambda array: array,
        "set_active_gpu": lambda gpu_id: None,
        "fix_random_seed": lambda seed=0: torch.manual_seed(seed),
    }.items():
        yield patch.object(thinc.util, name, value)
    yield patch.object(thinc.backends, "CupyOps", PretendOps)
    yield patch.object(PretendCupy, "random", PretendRandom(), create=True)
    yield patch.object(spacy.util, "get_async", lambda stream, array: DeviceArray(array.copy()))


@contextlib.contextmanager
def pretend_gpu() -> Iterator[PretendGPU]:
    """Within the context, thinc and torch have a GPU, and thinc uses it."""
    gpu = PretendGPU()
    ops = get_current_ops()
    # A wrapper cannot move to another device in place.
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
    with contextlib.ExitStack() as stack:
        for patched in (*torch_patches(gpu), *thinc_patches()):
            stack.enter_context(patched)
        stack.enter_context(patch.object(DeviceArray, "gpu", gpu, create=True))
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrites)
        set_current_ops(PretendOps())
        stack.callback(set_current_ops, ops)
        stack.enter_context(Dispatch(gpu))
        yield gpu
