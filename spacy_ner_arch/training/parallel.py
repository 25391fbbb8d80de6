"""Data-parallel training: several processes with the same pipeline, each on a share of every batch.

All processes draw the same batches. Their gradients, losses and word counts are summed before an update (`update_sum`),
so that all processes make the same update as a single process would, except for rounding.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")
# Timeout of the other processes while the first process evaluates and saves.
WAIT = timedelta(days=7)
# Seconds within which the end of a killed process is noticed.
GRACE = 5.0


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
    # Import this before there is a group: its functions keep the group at import, even after `leave_group`.
    import torch.distributed.nn  # noqa: F401 - as above

    if gpu >= 0:
        torch.cuda.set_device(gpu)
    dist.init_process_group("gloo" if gpu < 0 else "cpu:gloo,cuda:nccl", timeout=WAIT, **place)
    if rank():  # only the first process prints; errors are written to stderr
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - until the process ends
        warnings.simplefilter("ignore")


def leave_group() -> None:
    """Leave the group, if there is one, and end its threads. A thread that releases a tensor while the interpreter
    exits would abort the process."""
    if in_group():
        dist.destroy_process_group()


def run_group(work: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> None:
    """Run a function in several processes of this machine that form a group.

    work: a module-level function, called in each process with its arguments. It must call `join_group` with the keyword
        arguments that it gets. A process fails by an exception or sys.exit(1).
    arguments: arguments for each process.
    Raises ChildProcessError when a process has failed, after stopping the others.
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
                # Read the exit codes once, as in `find_cause`. Later ends are handled in the next round.
                ended = [process for process in left if process.exitcode is not None]
                if any(process.exitcode for process in ended):
                    number = find_cause(processes)
                    how = describe_exit(processes[number].exitcode or 0)
                    raise ChildProcessError(f"process {number} of {len(processes)} {how}; all were stopped")
                left = [process for process in left if process not in ended]
        finally:
            for process in processes:
                if process.is_alive():
                    process.kill()
            for process in processes:
                if process.pid is not None:
                    process.join()


def find_cause(processes: Sequence[BaseProcess]) -> int:
    """Number of the process that failed first. At least one process has ended.

    When a process is killed, the others fail since they lose the connection to it. Its end can be noticed after theirs.
    """
    end = time.monotonic() + GRACE
    while True:
        # Read the exit codes once: a process can end between two reads.
        found = [process.exitcode for process in processes]
        codes = [code or 0 for code in found]
        running = [process.sentinel for process, code in zip(processes, found, strict=True) if code is None]
        if min(codes) < 0 or not running or not connection.wait(running, max(0, end - time.monotonic())):
            return codes.index(min(codes) or max(codes))


def describe_exit(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"


def _run(work: Callable[..., None], arguments: tuple[Any, ...], place: dict[str, Any]) -> None:
    # Ignore Ctrl+C here: it also reaches the parent, which stops all processes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // place["world_size"]))
    work(*arguments, **place)
    leave_group()


def _end_with_parent() -> None:
    """End this process when its parent is killed. It would otherwise wait for other processes or run on unnoticed."""
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
    """Let the first process run the block before all others, so that downloads happen once.

    If the block fails there, the first process leaves the group, and the others end without a message.
    """
    if rank() and broadcast(False):
        leave_group()
        sys.exit(1)
    try:
        yield
    except BaseException:
        if not rank():
            broadcast(True)
            leave_group()
        raise
    if not rank():
        broadcast(False)


def broadcast_tensors(tensors: Sequence[Tensor]) -> None:
    """Overwrite the tensors with those of the first process."""
    if size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, 0)


def share(batch: Sequence[Any]) -> list[Any]:
    """This process's share of the documents of a batch, with a mix of lengths. Copies of a document stay together."""
    if size() == 1:
        return list(batch)
    copies = Counter(map(id, batch))
    unique = {id(item): item for item in batch}.values()
    return [item for item in sorted(unique, key=len)[rank() :: size()] for _ in range(copies[id(item)])]
