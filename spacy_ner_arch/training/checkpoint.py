"""Checkpoints, from which a training run resumes after a crash.

A checkpoint is one safetensors file: tensors, and JSON values in its header. Schedules and the position in the corpus
are not in it, since a resumed training draws the same batches again (`training.loop`).
"""

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .. import __version__
from ..bridge.storage import tensors_checksum
from ..formats.files import sync_path

FILE = "checkpoint.safetensors"
# Increase with every change of the stored format.
VERSION = 2


class TrainingError(ValueError):
    """A training that cannot be saved, resumed or run in several processes, with a remedy for its user."""


class Checkpoint(NamedTuple):
    """State of a training after an update.

    values: JSON values, see `training.loop`.
    tensors: by name, on the CPU.
    """

    values: dict[str, Any]
    tensors: dict[str, Tensor]


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replace a checkpoint. The old one is kept if writing fails or the process is killed.

    Raises OSError if it cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    values = {**checkpoint.values, "version": VERSION, "package": __version__}
    values["checksum"] = tensors_checksum(values, tensors)
    # Write into a temporary folder: safetensors creates a file with a random name first, which a kill would leave.
    folder = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir()
        save_file(tensors, folder / path.name, {"values": json.dumps(values)})
        # safetensors makes the file readable only for its owner.
        (folder / path.name).chmod(stat.S_IMODE(folder.stat().st_mode) & 0o666)
        sync_path(folder / path.name)
        os.replace(folder / path.name, path)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint. Nothing in it is executed. Raises TrainingError if it is damaged or of another version."""
    remedy = "start again with --force instead of --resume"
    try:
        with safe_open(path, framework="pt") as file:
            values = json.loads(file.metadata()["values"])
            version, package = values["version"], values["package"]
            if version != VERSION:
                raise TrainingError(
                    f"{path} has version {version}, of spacy_ner_arch {package}; this is spacy_ner_arch {__version__} "
                    f"with version {VERSION}. Resume with that release, or {remedy}"
                )
            # Clone the tensors: they would keep the file open, and Windows does not replace an open file.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - no mapping
        if values.pop("checksum") != tensors_checksum(values, tensors):
            raise ValueError("its checksum is wrong")
    except TrainingError:
        raise
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise TrainingError(f"{path} is damaged ({error}): {remedy}") from error
    return Checkpoint(values, tensors)
