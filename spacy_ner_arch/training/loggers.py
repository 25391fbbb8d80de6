"""Training log with parts of losses and loss weights."""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

from spacy.language import Language
from spacy.training.loggers import console_logger_v3
from spacy.util import registry

from .checks import warn_of_settings

Log = Callable[[dict[str, Any] | None], None]


@registry.loggers("spacy_ner_arch.ConsoleLogger.v1")
def create_console_logger(
    progress_bar: str | None = None, console_output: bool = True, output_file: Path | str | None = None
) -> Callable[..., tuple[Log, Callable[[], None]]]:
    """spacy.ConsoleLogger.v3, with learn rates, parts of losses and loss weights.

    The learn rates of spacy_ner_arch.Stages.v1 replace the initial learn rate that spaCy prints. Parts of losses (such
    as `relation_extractor_transe`) and loss weights are in a line below each row.

    The arguments are those of spacy.ConsoleLogger.v3.
    """
    table = console_logger_v3(progress_bar, console_output, output_file)
    return partial(_set_up, table, console_output)


def _set_up(
    table: Callable, console_output: bool, nlp: Language, stdout: IO = sys.stdout, stderr: IO = sys.stderr
) -> tuple[Log, Callable[[], None]]:
    warn_of_settings(nlp)  # sourced components are not initialized, and only initialization would show these warnings
    if console_output:
        stdout.writelines(f"{line}\n" for line in stage_rates(nlp.config.interpolate()["training"]))
    log_row, finish = table(nlp, stdout, stderr)

    def log(info: dict[str, Any] | None) -> None:
        log_row(info)
        others = {key: value for key, value in (info or {}).get("losses", {}).items() if key not in nlp.pipe_names}
        if others and console_output:
            stdout.write("         " + ", ".join(f"{key} {value:.4g}" for key, value in others.items()) + "\n")

    return log, finish


def stage_rates(training: dict[str, Any]) -> Iterator[str]:
    """One line per stage with the learn rate of each group; of a schedule, the first rate."""
    callback = training.get("before_update") or {}
    if callback.get("@callbacks") != "spacy_ner_arch.Stages.v1":
        return
    for name, stage in callback["stages"].items():
        rates = (f"{group} {show_rate(settings.get('learn_rate'))}" for group, settings in stage["groups"].items())
        yield f"  Learn rates of the stage {name}: {', '.join(rates)}"


def show_rate(rate: Any) -> str:
    if rate is None:
        return "that of [training.optimizer]"
    if isinstance(rate, dict):
        return f"{rate.get('initial_rate', '')} ({rate.get('@schedules')})".strip()
    return str(rate)
