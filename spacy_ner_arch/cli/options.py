"""Arguments and options of several commands."""

from pathlib import Path

from typer import Argument, BadParameter, Option


def check_code(path: Path | None) -> Path | None:
    """Raise BadParameter for a file that Python cannot import."""
    if path is not None and path.suffix != ".py":
        raise BadParameter(f"{path} cannot be imported, as its name does not end in .py: rename it")
    return path


MODEL = Argument(..., help="Model name or path")
SYSTEM = Argument(
    ..., metavar="MODEL", help="Model name or path; or predictions for the corpus: a .spacy file, or a folder of them"
)
CODE = Option(
    None,
    "--code",
    "-c",
    help="Python file with functions to register",
    exists=True,
    dir_okay=False,
    callback=check_code,
)
USE_GOLD_ENTITIES = Option(
    None,
    "--gold-entities/--no-gold-entities",
    help="Find relations between gold entities in gold sentences; the default if no component finds entities",
)
GPU_ID = Option(-1, "--gpu-id", "-g", help="GPU ID or -1 for CPU")


def split_names(text: str) -> list[str]:
    """Split the value of an option into names at commas."""
    return [name.strip() for name in text.split(",") if name.strip()]
