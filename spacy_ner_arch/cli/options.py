"""Arguments and options of several commands."""

from typer import Argument, Option

MODEL = Argument(..., help="Model name or path")
CODE = Option(None, "--code", "-c", help="Python file with functions to register", exists=True, dir_okay=False)
GPU_ID = Option(-1, "--gpu-id", "-g", help="GPU ID or -1 for CPU")


def split_names(text: str) -> list[str]:
    """The names in the value of an option, which commas separate."""
    return [name.strip() for name in text.split(",") if name.strip()]
