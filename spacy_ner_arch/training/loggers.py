"""Training log with the parts of losses and their weights."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

from spacy.language import Language
from spacy.training.loggers import console_logger_v3
from spacy.util import registry

Log = Callable[[dict[str, Any] | None], None]


@registry.loggers("spacy_ner_arch.ConsoleLogger.v1")
def create_console_logger(
    progress_bar: str | None = None, console_output: bool = True, output_file: Path | str | None = None
) -> Callable[..., tuple[Log, Callable[[], None]]]:
    """spacy.ConsoleLogger.v3, with a further line per row for parts of losses such as `transe`, and loss weights.

    The arguments are those of spacy.ConsoleLogger.v3.
    """
    table = console_logger_v3(progress_bar, console_output, output_file)
    return partial(_set_up, table, console_output)


def _set_up(
    table: Callable, console_output: bool, nlp: Language, stdout: IO = sys.stdout, stderr: IO = sys.stderr
) -> tuple[Log, Callable[[], None]]:
    log_row, finish = table(nlp, stdout, stderr)

    def log(info: dict[str, Any] | None) -> None:
        log_row(info)
        others = {key: value for key, value in (info or {}).get("losses", {}).items() if key not in nlp.pipe_names}
        if others and console_output:
            stdout.write("         " + ", ".join(f"{key} {value:.4g}" for key, value in others.items()) + "\n")

    return log, finish
