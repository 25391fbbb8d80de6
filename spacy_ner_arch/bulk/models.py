"""The folders of pipelines, and fingerprints of their contents."""

from pathlib import Path

from spacy.util import get_package_path, is_package

from ..formats.files import checksum


def model_folder(model: str) -> Path:
    """The folder of a pipeline. Raises ValueError if there is none."""
    try:
        folder = get_package_path(model) if is_package(model) else Path(model)  # in the order of load_model
    except ModuleNotFoundError as error:
        raise ValueError(no_pipeline(model)) from error
    if not (folder / "meta.json").is_file():
        raise ValueError(no_pipeline(model))
    return folder


def no_pipeline(model: str) -> str:
    """Error message for a name that is not a pipeline, with the package or the folder that may be meant."""
    if is_package(model) and "-" in model:  # pip knows a package by both names
        return f"{model} is the name of a package for pip: give that for Python, {model.replace('-', '_')}"
    best = Path(model) / "model-best"
    return f"{model} is not a pipeline: give a folder such as {best if best.is_dir() else 'training/model-best'}"


def fingerprint(model: str) -> str:
    """A checksum of the names and contents of all files of a pipeline, except hidden files."""
    return checksum(model_folder(model))
