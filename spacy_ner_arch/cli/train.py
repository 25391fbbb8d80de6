"""`ner-arch train`: spacy train in one or several processes, with checkpoints."""

import logging
import os
import sys
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import typer
from spacy.cli._util import import_code, parse_config_overrides, setup_gpu, show_validation_error
from spacy.language import Language
from thinc.api import Config
from typer import Argument, Option
from wasabi import msg

from .messages import fail, printable
from .options import CODE, GPU_ID
from .pipelines import check_corpora, check_word_vectors, config_text, corpus_paths, naming_long_texts, parse_config
from .train_output import check_pipelines, find_checkpoint, locked_folder


class TrainingJob(NamedTuple):
    """Arguments of the command for one process; `config` is the text of the file.

    gpu: number of the GPU of this process; -1 for the CPU.
    """

    config_path: Path
    config: str
    overrides: dict[str, Any]
    output: Path | None
    code: Path | None
    verbose: bool
    gpu: int
    resume: bool
    force: bool
    minutes: float | None


def train(
    context: typer.Context,
    config: Path = Argument(..., help="Config file, or - for standard input", allow_dash=True, dir_okay=False),
    output: Path | None = Option(
        None, "--output", "--output-path", "-o", help="Folder for the pipelines and the checkpoint", file_okay=False
    ),
    code: Path | None = CODE,
    verbose: bool = Option(False, "--verbose", "-V", "-VV", help="Show more information"),
    use_gpu: int = GPU_ID,
    gpus: str | None = Option(None, "--gpus", help="Numbers of several GPUs, such as 0,1, each with a process"),
    workers: int | None = Option(None, "--workers", help="Number of processes on the CPU", min=1),
    resume: bool = Option(False, "--resume", help="Resume from the checkpoint in the output folder, if there is one"),
    force: bool = Option(
        False, "--force", help="Resume although config, corpus or processes differ; without --resume, start again"
    ),
    minutes: float | None = Option(
        None, "--checkpoint-minutes", help="Also write a checkpoint after this number of minutes", min=0.0
    ),
) -> None:
    """Train a pipeline as `spacy train` does, with checkpoints.

    A checkpoint is written at every evaluation. Settings of the config can be overridden: --paths.train FILE. --resume
    continues a training that was killed, with the same final weights. --gpus and --workers train in several processes,
    each on a share of every batch, with the same result as a single process. Under torchrun, the command joins its
    group of processes.
    """
    try:
        chosen = find_devices(gpus, use_gpu, workers)
        if output is None and (resume or minutes is not None):
            raise ValueError("--resume and --checkpoint-minutes need the folder of the checkpoint: give --output")
        text = config_text(config)
    except (ValueError, OSError) as error:
        fail("Cannot train", error)
    overrides = parse_config_overrides(context.args)
    jobs = [TrainingJob(config, text, overrides, output, code, verbose, gpu, resume, force, minutes) for gpu in chosen]
    if is_torchrun():
        run_job(jobs[int(os.environ["LOCAL_RANK"]) if len(jobs) > 1 else 0], from_environment=True)
    elif len(jobs) == 1:
        run_job(jobs[0])
    else:
        from ..training.parallel import run_group

        try:
            run_group(run_job, [(job,) for job in jobs])
        except ChildProcessError as error:
            fail("Training has stopped", f"{error}. Saved files are intact.")


def is_torchrun() -> bool:
    """Whether torchrun has started this process as one of a group."""
    return {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"} <= os.environ.keys()


def find_devices(gpus: str | None, use_gpu: int, workers: int | None) -> list[int]:
    """Number of the GPU of each process on this machine, -1 for the CPU.

    Raises ValueError for options that exclude each other, and GPUs that do not exist.
    """
    options = {"--gpus": gpus is not None, "--gpu-id": use_gpu >= 0, "--workers": workers is not None}
    given = [option for option, is_given in options.items() if is_given]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} exclude each other: give one of them")
    if workers is not None and is_torchrun():
        raise ValueError("--workers is not for torchrun, which has started the processes itself: leave it out")
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if is_torchrun() else 1
    if gpus is None:
        if use_gpu >= 0 and local > 1:
            raise ValueError(f"--gpu-id is for one process, but torchrun has started {local} here: give --gpus")
        return [use_gpu] * (workers or 1)
    numbers = [int(part) if part.strip().isdecimal() else -1 for part in gpus.split(",")]
    if -1 in numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"--gpus is {gpus!r}; give different numbers with commas between them, such as 0,1")
    import torch

    there = torch.cuda.device_count()
    if max(numbers) >= there:
        has = f"this machine has {there} GPU{'s' * (there != 1)} that torch can use"
        numbers_there = "the number 0" if there == 1 else f"the numbers 0 to {there - 1}"
        remedy = f", with {numbers_there}" if there else ": see docs/gpu.md, or train with --workers"
        raise ValueError(f"--gpus is {gpus!r}, but {has}{remedy}")
    if local > len(numbers):
        raise ValueError(f"--gpus is {gpus!r}, but torchrun has started {local} processes on this machine")
    return numbers


def run_job(job: TrainingJob, from_environment: bool = False, **place: Any) -> None:
    """Train in this process.

    from_environment: join the group that torchrun describes in environment variables.
    place: place of this process in another group, see `training.parallel.join_group`.
    """
    from ..bulk.user_code import is_of_user
    from ..training import parallel
    from ..training.checkpoint import TrainingError

    if from_environment or place:
        parallel.join_group(job.gpu, **place)
    is_one_of_several = parallel.size() > 1
    try:
        with ExitStack() as stack:
            with parallel.first_before_others():
                # The first process writes the pipelines and the checkpoint.
                if job.output is not None and not parallel.rank():
                    check_pipelines(job.output, job.resume, job.force)
                    stack.enter_context(locked_folder(job.output))
            train_pipeline(job)
    except TrainingError as error:
        if is_one_of_several and is_of_user(error):
            raise
        report_error(error)
    if from_environment:
        parallel.leave_group()


def train_pipeline(job: TrainingJob) -> None:
    """Train, alone or as one process of a group. Raises TrainingError."""
    from ..training import parallel
    from ..training.checkpoint import FILE, TrainingError
    from ..training.loop import Training

    if job.verbose:
        logging.getLogger("spacy").setLevel(logging.DEBUG)
    setup_gpu(job.gpu)
    import_code(job.code)
    config, conditions = read_config(job)
    # The first process decides, since it writes the checkpoint.
    is_there = job.output is not None and parallel.broadcast((job.output / FILE).exists())
    with parallel.first_before_others():
        saved = None
        if job.output is not None and is_there:
            saved = find_checkpoint(job.output, conditions, job.resume, job.force)
        if job.resume and saved is None:
            msg.info(f"No checkpoint in {job.output}: training begins")
        msg.divider("Initializing pipeline")
        nlp = initialize(job, config)
    msg.good("Initialized pipeline")
    msg.divider("Training pipeline")
    training = Training(nlp, job.output, conditions, use_gpu=job.gpu, saved=saved, force=job.force, minutes=job.minutes)
    with naming_long_texts(corpus_paths(config), TrainingError):
        training.run(sys.stdout, sys.stderr)


def read_config(job: TrainingJob) -> tuple[Config, dict[str, Any]]:
    """The config with the overrides, and the conditions that must not change before the training is resumed."""
    from ..training.conditions import find_conditions

    with show_validation_error(job.config_path):
        config = parse_config(job.config, job.overrides)
        return config, find_conditions(config, job.code, job.output)


def initialize(job: TrainingJob, config: Config) -> Language:
    """The initialized pipeline. Raises TrainingError if a setting or a corpus prevents that."""
    from spacy.training.initialize import init_nlp

    from ..training.checkpoint import TrainingError
    from ..training.checks import unknown_settings

    try:
        if "training" not in config:
            raise ValueError(
                f"{job.config_path} has no [training]: complete it with `python -m spacy init fill-config "
                f"{job.config_path} NEW.cfg`, or write a config with `python -m spacy ner-arch init-config`"
            )
        for text in unknown_settings(config):
            warnings.warn(text, stacklevel=2)
        check_corpora(config)
        check_word_vectors(config)
        with naming_long_texts(corpus_paths(config)), show_validation_error(job.config_path, hint_fill=False):
            return init_nlp(config, use_gpu=job.gpu)
    except (ValueError, OSError, ImportError) as error:
        if job.verbose:
            raise
        # The cause is a setting, a corpus or a missing package, so show only the message, without a traceback.
        raise TrainingError(str(error)) from error


def report_error(error: Exception) -> NoReturn:
    """Exit with the message of an error. In a group, it names the process."""
    from ..training import parallel

    if parallel.size() > 1:
        print(printable(f"Process {parallel.rank()}: {error}"), file=sys.stderr, flush=True)
        sys.exit(1)
    fail("Cannot train", error)
