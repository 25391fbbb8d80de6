"""What processes of a group do in tests, in a module of its own that is quick to import."""

import contextlib
import os
import signal
import time
from pathlib import Path

from spacy_ner_arch.cli.train import Job, run_job
from spacy_ner_arch.training import parallel


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
    if not parallel.rank():
        os._exit(1)
    time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)


def wait(pids: Path, **place) -> None:
    """One process sleeps, and the other one waits for it."""
    join(pids, **place)
    if parallel.rank():
        time.sleep(600)
    parallel.gather(None)


def start_waiting(pids: Path) -> None:
    parallel.run_group(wait, [(pids,)] * 2)


def train_quietly(job: Job, **place) -> None:
    """Train without output, in a process of a group or alone."""
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
        run_job(job, **place)


def train_in_pair(job: Job) -> None:
    """Train in two processes."""
    parallel.run_group(train_quietly, [(job,)] * 2)
