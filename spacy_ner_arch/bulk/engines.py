"""Engines: run an Annotator on shards, in this process, in several processes, or on a Ray cluster.

Each engine takes a job and shards, and yields the results in the order in which they are ready.
"""

import multiprocessing
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from .annotator import Annotator, Job, ShardResult
from .shards import Shard
from .user_code import describe_error

# Number of workers that may die over the same shard before the run ends.
MAX_DEATHS = 3


class WorkerDied(Exception):
    """A worker ended without a message, for example because it was killed or had no memory."""


class Worker(Protocol):
    """A process with an Annotator, which is made when the worker starts. The first result is None: it is ready."""

    def send(self, shard: Shard) -> None:
        """Start annotating a shard."""

    def receive(self) -> ShardResult | None:
        """The next result. Raises WorkerDied, and ValueError with the message of an error of the Annotator."""

    def stop(self) -> None:
        """End the process."""


def run(job: Job, shards: Iterable[Shard], n_process: int, engine: str, address: str | None) -> Iterator[ShardResult]:
    """Annotate in `n_process` processes: of a Ray cluster for the engine "ray", else of this machine."""
    if engine == "ray":
        yield from run_ray(job, shards, n_process, address)
    elif n_process > 1:
        yield from run_workers(lambda: LocalWorker(job), wait_local, shards, n_process)
    else:
        yield from map(Annotator(job).annotate, shards)


def run_ray(job: Job, shards: Iterable[Shard], n_process: int, address: str | None) -> Iterator[ShardResult]:
    """Annotate in actors of a Ray cluster, which is started on this machine if there is no address.

    This uses plain actors instead of Ray Data: the shards are cut already, and with actors as workers, retries, order
    and files are the same as without Ray.
    Raises ValueError if the package is missing or there is no cluster at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError('--engine ray needs the package ray: pip install "spacy-ner-arch[ray]"') from error
    own: dict[str, Any] = {"num_cpus": n_process, "include_dashboard": False} if address is None else {}
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level="error", **own)
    except ConnectionError as error:
        raise ValueError(
            f"{error}. Check that Ray runs at this --address, and set RAY_AUTH_TOKEN if it asks for a token"
        ) from error
    try:
        yield from run_workers(lambda: RayWorker(job), wait_ray, shards, n_process)
    finally:
        ray.shutdown()


def run_workers(
    start: Callable[[], Any],
    wait_for: Callable[[Sequence[Any]], Any],
    shards: Iterable[Shard],
    n_workers: int,
) -> Iterator[ShardResult]:
    """Give shards to workers. The shard of a worker that died goes to another worker.

    start: function that makes a Worker.
    wait_for: function that waits until one of the busy workers has a result or has died, and returns this worker.
    n_workers: maximum number of workers.
    """
    shards = iter(shards)
    # Contains at most the next shard and the shards of workers that died.
    pending: list[Shard] = []
    idle: list[Worker] = []
    busy: dict[Worker, Shard | None] = {}
    deaths = Counter[int | None]()
    try:
        while True:
            pending = pending or list(islice(shards, 1))
            if not pending and not any(busy.values()):
                return
            if pending and idle:
                worker, shard = idle.pop(), pending.pop()
                worker.send(shard)
                busy[worker] = shard
            elif pending and len(busy) < n_workers:
                busy[start()] = None
            else:
                worker = wait_for(list(busy))
                try:
                    result = worker.receive()
                except WorkerDied as error:
                    worker.stop()
                    lost = busy.pop(worker)
                    pending += [lost] if lost else []
                    deaths[lost and lost.number] += 1
                    if max(deaths.values()) == MAX_DEATHS:
                        raise ValueError(
                            f"{lost.place if lost else 'the start'}: a worker died {MAX_DEATHS} times ({error}). If "
                            "memory is short, give fewer processes (--n-process) or remove very long texts"
                        ) from error
                    continue
                del busy[worker]
                idle.append(worker)
                if result is None:
                    deaths.pop(None, None)  # a worker has started
                else:
                    yield result
    finally:
        for worker in [*idle, *busy]:
            worker.stop()


class LocalWorker:
    """A process of this machine."""

    def __init__(self, job: Job) -> None:
        # A forked process would inherit the threads of torch, which may hang, and the pipes of the other workers, which
        # would then not close when a worker dies.
        context = multiprocessing.get_context("spawn")
        self.pipe, other_end = context.Pipe()
        self.process = context.Process(target=serve, args=(other_end, job), daemon=True)
        self.process.start()
        other_end.close()

    def send(self, shard: Shard) -> None:
        # `receive` reports a dead worker.
        with suppress(OSError):
            self.pipe.send(shard)

    def receive(self) -> ShardResult | None:
        try:
            reply = self.pipe.recv()
        except (EOFError, OSError) as error:
            self.process.join()
            raise WorkerDied(f"exit code {self.process.exitcode}") from error
        if isinstance(reply, str):
            raise ValueError(reply)
        return reply

    def stop(self) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.join()


def wait_local(workers: Sequence[LocalWorker]) -> LocalWorker:
    """The first worker whose pipe has something to read, or is closed."""
    [ready, *_] = wait([worker.pipe for worker in workers])
    return next(worker for worker in workers if worker.pipe is ready)


def serve(pipe: Connection, job: Job) -> None:
    """Annotate the shards that come through a pipe until it is closed. An error is sent as a string."""
    # Ignore keyboard interrupts, which the parent handles.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, OSError):
        try:
            annotator = Annotator(job)
        except Exception as error:
            pipe.send(describe_error(error))
            return
        pipe.send(None)
        while True:
            shard = pipe.recv()
            try:
                reply: ShardResult | str = annotator.annotate(shard)
            except Exception as error:
                reply = describe_error(error)
            pipe.send(reply)


class RayWorker:
    """An actor of Ray."""

    def __init__(self, job: Job) -> None:
        import ray

        # Ray shows an actor its own GPU as number 0.
        job = job._replace(gpu=min(job.gpu, 0))
        actor = ray.remote(num_cpus=1, num_gpus=int(job.gpu >= 0))(RayAnnotator)
        self.actor = actor.remote()
        self.future = self.actor.load.remote(job)

    def send(self, shard: Shard) -> None:
        self.future = self.actor.annotate.remote(shard)

    def receive(self) -> ShardResult | None:
        import ray

        try:
            reply = ray.get(self.future)
        except ray.exceptions.RayActorError as error:
            raise WorkerDied(f"{error}") from error
        if isinstance(reply, str):
            raise ValueError(reply)
        return reply

    def stop(self) -> None:
        import ray

        ray.kill(self.actor)


class RayAnnotator:
    """An Annotator that returns its errors as strings."""

    def load(self, job: Job) -> str | None:
        try:
            self.annotator = Annotator(job)
        except Exception as error:
            return describe_error(error)
        return None

    def annotate(self, shard: Shard) -> ShardResult | str:
        try:
            return self.annotator.annotate(shard)
        except Exception as error:
            return describe_error(error)


def wait_ray(workers: Sequence[RayWorker]) -> RayWorker:
    """The first worker whose future is ready."""
    import ray

    [ready], _ = ray.wait([worker.future for worker in workers])
    return next(worker for worker in workers if worker.future == ready)
