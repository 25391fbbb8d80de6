"""Data-parallel training: several processes with the same pipeline, each on its share of every batch.

All processes draw the same batches. Their gradients, losses and word counts are added up before an update, so that all
of them make the same one, which is that of a single process but for the order of sums.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import torch
import torch.distributed as dist
from thinc.api import Model, Optimizer, torch2xp, xp2torch
from torch import Tensor

from ..bridge.shim import TorchShim
from .checkpoint import modules

T = TypeVar("T")
# The others wait while the first process evaluates and saves.
WAIT = timedelta(days=7)
# Seconds in which the end of a killed process is noticed.
GRACE = 5.0
# Numbers of a tensor from which on it gets a message of its own, which costs about 0.5 ms but no copies.
LARGE = 1 << 18
# Numbers of a tensor from which on blocks of zeros in it are looked for, and numbers of a block.
SPARSE, BLOCK = 1 << 14, 32


# Processes


def rank() -> int:
    """Number of this process in its group; 0 without a group."""
    return dist.get_rank() if in_group() else 0


def size() -> int:
    """Number of processes in the group; 1 without a group."""
    return dist.get_world_size() if in_group() else 1


def in_group() -> bool:
    return dist.is_available() and dist.is_initialized()


def join_group(gpu: int, **place: Any) -> None:
    """Join the group of processes that torchrun describes in environment variables, or that `place` describes.

    gpu: number of the GPU; -1 for the CPU.
    place: init_method, rank and world_size of torch.distributed.
    """
    # Its functions keep the group that exists when it is imported, even after `leave_group`.
    import torch.distributed.nn  # noqa: F401

    if gpu >= 0:
        torch.cuda.set_device(gpu)
    dist.init_process_group("gloo" if gpu < 0 else "cpu:gloo,cuda:nccl", timeout=WAIT, **place)
    if rank():  # only the first process prints; errors are written to stderr
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - until the process ends
        warnings.simplefilter("ignore")


def leave_group() -> None:
    """Leave the group at the end of the work, if there is one, and end its threads. A thread that still releases a
    tensor while the interpreter ends aborts the process."""
    if in_group():
        dist.destroy_process_group()


def run_group(work: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> None:
    """Run a function in several processes of this machine that form a group.

    work: a function of a module, called in each process with its arguments. It joins the group by `join_group`, with
        the keyword arguments that it gets. A process fails by an exception or sys.exit(1).
    arguments: of each process.
    Raises ChildProcessError when one has failed, after stopping the others.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        places = [
            {"init_method": f"file://{folder}/group", "rank": number, "world_size": len(arguments)}
            for number in range(len(arguments))
        ]
        processes = [
            context.Process(target=_run, args=(work, own, place)) for own, place in zip(arguments, places, strict=True)
        ]
        try:
            for process in processes:
                process.start()
            left = list(processes)
            while left:
                connection.wait([process.sentinel for process in left])
                if any(process.exitcode for process in left):
                    number = find_cause(processes)
                    how = describe_exit(processes[number].exitcode or 0)
                    raise ChildProcessError(f"process {number} of {len(processes)} {how}; all were stopped")
                left = [process for process in left if process.exitcode is None]
        finally:
            for process in processes:
                if process.is_alive():
                    process.kill()
            for process in processes:
                if process.pid is not None:
                    process.join()


def find_cause(processes: Sequence[BaseProcess]) -> int:
    """Number of the process that failed first, some of which have ended.

    When one is killed, the others fail since they lose its connection. Its own end can be noticed later than theirs.
    """
    end = time.monotonic() + GRACE
    while True:
        codes = [process.exitcode or 0 for process in processes]
        running = [process.sentinel for process in processes if process.exitcode is None]
        if min(codes) < 0 or not running or not connection.wait(running, max(0, end - time.monotonic())):
            return codes.index(min(codes) or max(codes))


def describe_exit(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"


def _run(work: Callable[..., None], arguments: tuple[Any, ...], place: dict[str, Any]) -> None:
    # Ctrl+C reaches the parent, which stops all.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // place["world_size"]))
    work(*arguments, **place)
    leave_group()


def _end_with_parent() -> None:
    """End this process when its parent is killed. Otherwise it would wait for the others or go on unnoticed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


# Messages


def broadcast(value: T) -> T:
    """The value of the first process."""
    if size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, 0)
    return values[0]


def gather(value: T) -> list[T]:
    """The values of all processes."""
    if size() == 1:
        return [value]
    values: list[Any] = [None] * size()
    dist.all_gather_object(values, value)
    return values


@contextmanager
def first_before_others() -> Iterator[None]:
    """Let the first process run the block before all others, so that downloads and errors happen once."""
    if rank():
        broadcast(None)
    yield
    if not rank():
        broadcast(None)


def broadcast_tensors(tensors: Sequence[Tensor]) -> None:
    """Overwrite the tensors by those of the first process."""
    if size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, 0)


def share(batch: Sequence[Any]) -> list[Any]:
    """The documents of a batch that are for this process, some of each length."""
    if size() == 1:
        return list(batch)
    by_length = sorted(batch, key=len)
    return by_length[rank() :: size()]


# Updates


class Gradient(NamedTuple):
    """Gradient of a parameter.

    value: None if the parameter has none.
    """

    parameter: Tensor
    value: Tensor | None
    set: Callable[[Tensor], Any]


class UpdateSum:
    """Adds up over all processes what an update consists of.

    pipes: the components that are trained.

    `begin` must be called before every update of the components. Within the context `in_updates`, the sums are made
    before the first component is updated. (spaCy's loop leaves no other place for it.)
    """

    def __init__(self, pipes: Sequence[Any]) -> None:
        self.pipes = pipes
        self.counts: list[tuple[Tensor, Tensor]] | None = None

    def begin(self) -> None:
        """Remember the word counts before the update."""
        if size() > 1:
            self.counts = [(buffer, buffer.clone()) for buffer in self._counters()]

    @contextmanager
    def in_updates(self) -> Iterator[None]:
        """Within the context, all models of thinc add up their gradients before they are updated."""
        if size() == 1:
            yield
            return
        finish_update = Model.finish_update

        def sum_and_finish(model: Model, optimizer: Optimizer) -> None:
            self.finish()
            finish_update(model, optimizer)

        Model.finish_update = sum_and_finish  # type: ignore[method-assign,assignment]
        try:
            yield
        finally:
            Model.finish_update = finish_update  # type: ignore[method-assign]

    def finish(self) -> None:
        """Add up, unless that was done in this update."""
        if self.counts is None:
            return
        counts, self.counts = self.counts, None
        gradients = [gradient for pipe in self.pipes for node in pipe.model.walk() for gradient in find_gradients(node)]
        own = [pipe for pipe in self.pipes if hasattr(pipe, "update_loss")]
        found = [float(gradient.value is not None) for gradient in gradients]
        sums = torch.tensor(found + [pipe.update_loss for pipe in own], dtype=torch.float64)
        dist.all_reduce(sums)
        for pipe, loss in zip(own, sums[len(gradients) :].tolist(), strict=True):
            pipe.update_loss = loss
        # What no process has a gradient for is left alone, as in a single process.
        used = [gradient for gradient, number in zip(gradients, sums.tolist(), strict=False) if number]
        values = [torch.zeros_like(g.parameter) if g.value is None else g.value for g in used]
        summed = add_up(values + [buffer - before for buffer, before in counts])
        for gradient, value in zip(used, summed, strict=False):
            gradient.set(value)
        with torch.no_grad():
            for (buffer, before), added in zip(counts, summed[len(used) :], strict=True):
                torch.add(before, added, out=buffer)

    def _counters(self) -> Iterator[Tensor]:
        """Buffers of integers, which count."""
        for pipe in self.pipes:
            for node in pipe.model.walk():
                for _, module in modules(node):
                    yield from (b for b in module.buffers() if not b.is_floating_point() and b.dtype != torch.bool)


def find_gradients(node: Model) -> Iterator[Gradient]:
    """Gradients of a layer, of torch modules and of thinc's own parameters, without those that are frozen."""
    for shim, module in modules(node):
        if isinstance(shim, TorchShim):
            shim.flush()
        for parameter in module.parameters():
            if parameter.requires_grad:
                yield Gradient(parameter, parameter.grad, partial(setattr, parameter, "grad"))
    for name in node.param_names:
        if node.has_param(name):
            value = xp2torch(node.get_grad(name)) if node.has_grad(name) else None
            yield Gradient(xp2torch(node.get_param(name)), value, partial(set_gradient, node, name))


def set_gradient(node: Model, name: str, value: Tensor) -> None:
    """Set the gradient of a parameter of thinc."""
    node.set_grad(name, cast(Any, torch2xp(value, ops=node.ops)))


def add_up(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Sums of tensors over all processes. Small ones of the same type and device go in one message.

    Large tensors are overwritten, since copies of them take as long as the message. On a CPU, blocks of them that are
    zero in all processes are left out, such as the rows of an embedding that no process has used.
    """
    # The strides could differ between processes, which must send the same messages.
    summed = [tensor.detach().contiguous() for tensor in tensors]
    blocks = used_blocks(summed)
    sent = [tensor.view(-1, BLOCK)[blocks[i]] if i in blocks else tensor for i, tensor in enumerate(summed)]
    large = [dist.all_reduce(tensor, async_op=True) for tensor in sent if tensor.numel() > LARGE]
    groups: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    for i, tensor in enumerate(sent):
        if tensor.numel() <= LARGE:
            groups.setdefault((tensor.device, tensor.dtype), []).append(i)
    for group in groups.values():
        flat = torch.cat([sent[i].reshape(-1) for i in group])
        dist.all_reduce(flat)
        for i, part in zip(group, flat.split([sent[i].numel() for i in group]), strict=True):
            sent[i] = part.view(sent[i].shape)
    for work in large:
        work.wait()
    for i, used in blocks.items():
        summed[i].view(-1, BLOCK)[used] = sent[i]
        sent[i] = summed[i]
    return sent


def used_blocks(tensors: Sequence[Tensor]) -> dict[int, Tensor]:
    """Blocks that are not zero in all processes, for each large tensor on the CPU that has few of them."""
    large = [i for i, x in enumerate(tensors) if x.is_cpu and x.numel() > SPARSE and x.numel() % BLOCK == 0]
    if not large:
        return {}
    used = torch.cat([tensors[i].view(-1, BLOCK).any(1) for i in large]).to(torch.uint8)
    dist.all_reduce(used, dist.ReduceOp.MAX)
    parts = used.split([tensors[i].numel() // BLOCK for i in large])
    return {i: x.nonzero().squeeze(1) for i, x in zip(large, parts, strict=True) if 2 * x.count_nonzero() < len(x)}
