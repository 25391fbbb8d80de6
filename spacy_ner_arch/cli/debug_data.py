"""`ner-arch debug-data`: contents of the corpora of a config, and annotation that the config cannot learn."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import srsly
import typer
from click import ClickException
from confection import Config
from spacy.cli._util import import_code, parse_config_overrides, show_validation_error
from typer import Argument, Option
from wasabi import msg

from .messages import fail, writing
from .options import CODE
from .pipelines import check_output

# Number of pairs of argument types that are shown for a relation.
SHOWN_TYPES = 3

# Results of debug_data_counts for train and for dev.
Parts = Mapping[str, Any]


def debug_data(
    context: typer.Context,
    config: Path = Argument(..., help="Config file", exists=True, dir_okay=False),
    json_path: Path | None = Option(
        None, "--json", help="JSON file for all numbers, examples and problems", dir_okay=False
    ),
    code: Path | None = CODE,
) -> None:
    """Check the corpora of a config before training.

    Shows the contents of the corpora, and the annotation that the components of the config cannot learn. Settings of
    the config can be overridden, as in `spacy train`: --paths.train FILE. Nothing is trained, and no transformer is
    loaded. Exits with 1 if training cannot succeed.
    """
    from ..formats.files import write_text
    from .debug_data_checks import inspect_corpora
    from .training_setup import set_up

    import_code(code)
    try:
        with show_validation_error(config):
            setup = set_up(config, parse_config_overrides(context.args))
        if json_path is not None:
            check_output(json_path, [config, *files_of_config(setup.nlp.config.interpolate())])
        data, problems = inspect_corpora(setup)
    except (ValueError, OSError, ImportError, ClickException) as error:
        fail(f"Cannot check {config}", error)
    print_corpora(data)
    msg.divider("Problems")
    for problem in problems:
        if problem.level == "error":
            msg.fail(problem.text, problem.remedy)
        else:
            msg.warn(problem.text, problem.remedy)
    errors = sum(problem.level == "error" for problem in problems)
    print(f"{errors} errors, {len(problems) - errors} warnings")
    if json_path is not None:
        with writing(json_path):
            text = srsly.json_dumps({**data, "problems": [problem._asdict() for problem in problems]}, indent=2)
            write_text(json_path, [text])
        msg.good(f"Saved numbers and problems to {json_path}")
    if errors:
        raise typer.Exit(1)


def files_of_config(config: Config) -> Iterator[Path]:
    """Files that the paths and the corpora of a config name."""
    from ..formats.files import find_files

    readers = [reader for reader in config["corpora"].values() if isinstance(reader, dict)]
    for value in (*config["paths"].values(), *(reader.get("path") for reader in readers)):
        if isinstance(value, (str, Path)) and Path(value).exists():
            yield from find_files(Path(value), "*.spacy") if Path(value).is_dir() else [Path(value)]


def print_corpora(data: Mapping[str, Any]) -> None:
    print_counts("Documents", data["documents"])
    layers = {"Entities": data["entities"], **{f"Spans {key!r}": parts for key, parts in data["spans"].items()}}
    for title, parts in layers.items():
        if any(part["labels"] for part in parts.values()):
            longest = [max(part["widths"], default=0) for part in parts.values()]
            print_counts(title, parts, [*label_rows(parts), ("longest, in words", *longest)])
    relations = data["relations"]
    if any(part["labels"] for part in relations.values()):
        print_counts("Relations", relations, label_rows(relations))
        print_types(relations)
    for name, component in data["components"].items():
        if "candidates" in component:
            print_counts(f"Candidates of {name}", component["candidates"])


def label_rows(parts: Parts) -> list[tuple]:
    """A row for each label, and one for all."""
    labels = sorted({label for part in parts.values() for label in part["labels"]})
    rows = [(label, *(part["labels"].get(label, 0) for part in parts.values())) for label in labels]
    return [*rows, ("all labels", *(sum(part["labels"].values()) for part in parts.values()))]


def print_counts(title: str, parts: Parts, rows: Sequence[tuple] = ()) -> None:
    """Print rows and the counts of all parts side by side."""
    msg.divider(title)
    names = dict.fromkeys(name for part in parts.values() for name in part["counts"])
    counts = [(name, *(part["counts"].get(name, 0) for part in parts.values())) for name in names]
    msg.table([*rows, *counts], header=("", *parts), aligns=("l", *("r" for _ in parts)), max_col=60)


def print_types(relations: Parts) -> None:
    """For each label, print how often the head is before the tail, and the types of the arguments, in all parts."""
    rows = []
    for label in sorted({label for part in relations.values() for label in part["labels"]}):
        total = sum(part["labels"].get(label, 0) for part in relations.values())
        head_first = sum(part["head_first"].get(label, 0) for part in relations.values())
        types = sum((Counter(part["types"].get(label, {})) for part in relations.values()), Counter[str]())
        shown = [f"{pair} ({number})" for pair, number in types.most_common(SHOWN_TYPES)]
        more = [f"{len(types) - len(shown)} more"] if len(types) > len(shown) else []
        rows.append((label, f"{100 * head_first / total:.0f} %", ", ".join(shown + more)))
    msg.table(rows, header=("relation", "head first", "types of head and tail"), aligns=("l", "r", "l"), max_col=90)
