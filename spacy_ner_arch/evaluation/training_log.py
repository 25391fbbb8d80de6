"""Read the losses and scores of a training from the log that spaCy wrote."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# Columns are at least two spaces apart; their names contain single spaces.
GAP = re.compile(r"\s{2,}")
BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")
LOSS = "LOSS "


class TrainingLog(NamedTuple):
    """One value per evaluation in each list.

    steps: at which the pipeline was evaluated.
    losses: loss of each component; their units differ between components.
    scores: as logged, in percent except for speed.
    score: the final score, between 0 and 1.
    """

    steps: list[int]
    losses: dict[str, list[float]]
    scores: dict[str, list[float]]
    score: list[float]


def read_log(path: str | Path) -> TrainingLog:
    """Read a training log in one of the two formats of spaCy.

    path: the `output_file` of spacy.ConsoleLogger.v2 or v3 (JSON lines), or the output of `spacy train`, with or
        without colors. If a file contains several trainings, the last one counts.

    Raises ValueError, with the name of the file, if it has neither format or contains no evaluation.
    """
    data = Path(path).read_bytes()
    # Windows PowerShell redirects in UTF-16.
    encoding = "utf-16" if data[:2] in BYTE_ORDER_MARKS else "utf-8-sig"
    lines = [line for line in data.decode(encoding, errors="replace").splitlines() if line.strip()]
    try:
        return read_json(lines) if lines and lines[0].lstrip().startswith("{") else read_table(lines)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"{path} is not a training log: it has no evaluation in JSON lines (the output_file of "
            "spacy.ConsoleLogger.v3) or in the table that `spacy train` prints"
        ) from error


def read_json(lines: Sequence[str]) -> TrainingLog:
    """Read one JSON object per line. The last line may be cut off, because the training was interrupted."""
    complete = lines if lines[-1].rstrip().endswith("}") else lines[:-1]
    rows: list[dict[str, Any]] = [json.loads(line) for line in complete]

    def column(part: str) -> dict[str, list[float]]:
        return {name: [float(row[part][name]) for row in rows] for name in rows[0][part]}

    steps, score = [int(row["step"]) for row in rows], [float(row["score"]) for row in rows]
    return TrainingLog(steps, column("losses"), column("scores"), score)


def read_table(lines: Sequence[str]) -> TrainingLog:
    """Read the last table that `spacy train` printed. Raises LookupError if there is none."""
    names: list[str] = []
    rows: list[list[float]] = []
    for line in (ANSI.sub("", line).strip() for line in lines):
        cells = GAP.split(line)
        if cells[:2] == ["E", "#"] and cells[-1] == "SCORE":
            names, rows = cells, []
        elif names and len(numbers := as_numbers(line)) == len(names):
            rows.append(numbers)
    if not rows:
        raise LookupError("no table")
    _, steps, *columns, score = (list(column) for column in zip(*rows, strict=True))
    # spaCy cuts names to 13 characters, so that some are equal: number these.
    names = names[2:-1]
    unique = [
        name if names.count(name) == 1 else f"{name} ({names[:i].count(name) + 1})" for i, name in enumerate(names)
    ]
    series = dict(zip(unique, columns, strict=True))
    return TrainingLog(
        [int(step) for step in steps],
        {name.removeprefix(LOSS).lower(): values for name, values in series.items() if name.startswith(LOSS)},
        {name.lower(): values for name, values in series.items() if not name.startswith(LOSS)},
        score,
    )


def as_numbers(line: str) -> list[float]:
    """Return the numbers of a row of the table; none if the line contains anything else."""
    try:
        return [float(cell) for cell in line.split()]
    except ValueError:
        return []
