"""The output folder of `ner-arch train`: check that it may be written, lock it, and find the checkpoint in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spacy.training.loop import DIR_MODEL_BEST
from wasabi import msg


def check_pipelines(folder: Path, resume: bool, force: bool) -> None:
    """Raise TrainingError if the folder of a training to resume has pipelines of another command but no checkpoint.

    A folder of this command has a lock file, which is made before anything else is written.
    """
    from ..formats.files import LOCK
    from ..training.checkpoint import FILE, TrainingError

    is_new = not (folder / FILE).exists() and not (folder / LOCK).exists()
    if resume and not force and is_new and (folder / DIR_MODEL_BEST).exists():
        raise TrainingError(
            f"{folder} has pipelines but no checkpoint, as `spacy train` leaves it, so the training cannot be "
            "resumed: give another --output, or --force to replace them"
        )


@contextmanager
def locked_folder(path: Path) -> Iterator[None]:
    """Make the output folder if it does not exist, and lock it within the context.

    Raises TrainingError if that is not possible, or if another training writes to it.
    """
    from ..formats.files import lock_folder
    from ..training.checkpoint import TrainingError

    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"cannot make the folder {path} ({error}): give another --output") from error
    try:
        lock = lock_folder(path)
    except (ValueError, OSError) as error:
        raise TrainingError(f"cannot write to the folder: {error}") from error
    try:
        yield
    finally:
        lock.release()


def find_checkpoint(folder: Path, conditions: dict[str, Any], resume: bool, force: bool) -> Any:
    """The checkpoint to resume from; None to start from the beginning and replace it.

    Raises TrainingError if it must not be overwritten, or if it cannot be resumed.
    """
    from ..training.checkpoint import FILE, TrainingError, read_checkpoint
    from ..training.conditions import find_differences

    path = folder / FILE
    if not resume:
        if force:
            return None
        raise TrainingError(
            f"{path} is the checkpoint of a training: give --resume to continue it, --force to start again, or "
            "another --output"
        )
    if not path.exists():
        raise TrainingError(f"{path} is not there in this process: --output must be on a disk that all machines share")
    saved = read_checkpoint(path)
    differences = find_differences(saved.values["conditions"], conditions)
    if differences and not force:
        raise TrainingError(
            "\n  ".join([f"{path} is the checkpoint of another training:", *differences])
            + "\nUndo the changes, give --force to resume with them, or --force without --resume to start again"
        )
    for difference in differences:
        msg.warn(f"Resuming although {difference}")
    best = folder / DIR_MODEL_BEST
    if saved.values["scores"] and not (best / "meta.json").is_file() and not force:
        raise TrainingError(
            f"{best} is missing, and would be written again only for a better score: put it back (a kill can leave it "
            f"as {best.name}.old), or give --force to continue without it"
        )
    return saved
