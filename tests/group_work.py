"""What processes of a group do in tests, in a module of its own that is quick to import."""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import torch

from spacy_ner_arch.cli.train import TrainingJob, run_job
from spacy_ner_arch.training import parallel, update_sum


def join(pids: Path, **place) -> None:
    """Join the group, and leave the number of this process as a file name."""
    parallel.join_group(-1, **place)
    Path(pids, str(os.getpid())).touch()
    parallel.gather(None)


def die_or_wait(pids: Path, **place) -> None:
    """The second process is killed, while the first waits for it."""
    join(pids, **place)
    if parallel.rank():
        os.kill(os.getpid(), signal.SIGKILL)
    parallel.gather(None)


def fail_or_die(pids: Path, **place) -> None:
    """The first process fails, and the second one is killed after that."""
    join(pids, **place)
    has_joined = pids.with_suffix(".joined")
    if parallel.rank():
        has_joined.touch()
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)
    # An end during `join` would make the other one fail.
    while not has_joined.exists():
        time.sleep(0.01)
    os._exit(1)


def wait(pids: Path, **place) -> None:
    """One process sleeps, and the other one waits for it."""
    join(pids, **place)
    if parallel.rank():
        time.sleep(600)
    parallel.gather(None)


def leave(**place) -> None:
    """Fail if threads of the group are left when it is left."""
    parallel.join_group(-1, **place)
    import torch.distributed.nn  # noqa: F401 - as many libraries do

    parallel.gather(None)
    parallel.leave_group()
    threads = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    sys.exit(any("gloo" in name for name in threads))


def start_waiting(pids: Path) -> None:
    parallel.run_group(wait, [(pids,)] * 2)


def add_up_tensors(file: Path, **place) -> None:
    """Sums of a large embedding, of which each process uses other rows, of a large dense tensor and of small ones."""
    parallel.join_group(-1, **place)
    tensors = own_tensors(parallel.rank())
    sums = update_sum.add_up(tensors)
    if not parallel.rank():
        torch.save(sums, file)


def own_tensors(rank: int) -> list[torch.Tensor]:
    torch.manual_seed(rank)
    embedding = torch.zeros(2 * update_sum.LARGE // 16, 16)
    embedding[3 * rank : 3 * rank + 5] = torch.randn(5, 16)
    dense = torch.randn(update_sum.LARGE + 8)
    strided = torch.randn(8, update_sum.LARGE // 4).t() if rank else torch.randn(update_sum.LARGE // 4, 8)
    return [embedding, strided, dense, dense.view(-1, 8).clone(), torch.randn(3), torch.randn(2, 2), torch.tensor(rank)]


def train_quietly(job: TrainingJob, **place) -> None:
    """Train without output, in a process of a group or alone."""
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
        run_job(job, **place)


def train_in_pair(job: TrainingJob) -> None:
    """Train in two processes."""
    parallel.run_group(train_quietly, [(job,)] * 2)
