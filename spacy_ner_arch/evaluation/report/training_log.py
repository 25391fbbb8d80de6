"""Losses and scores over a training, from the log that spaCy left."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# Columns are at least two blanks apart, names of columns have single ones in them.
GAP = re.compile(r"\s{2,}")
BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")


class Series(NamedTuple):
    """One column of a log."""

    name: str
    values: list[float]


@dataclass(frozen=True)
class TrainingLog:
    """steps: at which the pipeline was evaluated.
    losses: of each component, in the unit of that component.
    scores: those that make up the final score, as logged: percent, except for speed.
    score: the final score, between 0 and 1.
    """

    steps: list[int]
    losses: list[Series]
    scores: list[Series]
    score: list[float]


def read_log(path: str | Path) -> TrainingLog:
    """Read either kind of log that spaCy makes of a training.

    path: the `output_file` of spacy.ConsoleLogger.v2 or v3, or what `spacy train` printed, with or without colours; of
        several trainings in one file the last counts.

    Raises a ValueError that names the file if it is neither of them, or has no evaluation in it.
    """
    data = Path(path).read_bytes()
    # Windows PowerShell redirects in UTF-16.
    encoding = "utf-16" if data[:2] in BYTE_ORDER_MARKS else "utf-8-sig"
    lines = [line for line in data.decode(encoding, errors="replace").splitlines() if line.strip()]
    try:
        log = read_json(lines) if lines and lines[0].lstrip().startswith("{") else read_table(lines)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
        log = None
    if log is None or not log.steps:
        raise ValueError(
            f"{path} is no training log: neither json lines (the output_file of spacy.ConsoleLogger.v3) nor the table "
            "that `spacy train` prints, or one without any evaluation"
        )
    return log


def read_json(lines: Sequence[str]) -> TrainingLog:
    """One object a line, as spacy.ConsoleLogger writes them; the last one may be cut off, as the training was."""
    complete = lines if lines[-1].rstrip().endswith("}") else lines[:-1]
    rows: list[dict[str, Any]] = [json.loads(line) for line in complete]
    losses, scores = rows[0]["losses"], rows[0]["scores"]
    return TrainingLog(
        [int(row["step"]) for row in rows],
        [Series(name, [float(row["losses"][name]) for row in rows]) for name in losses],
        [Series(name, [float(row["scores"][name]) for row in rows]) for name in scores],
        [float(row["score"]) for row in rows],
    )


def read_table(lines: Sequence[str]) -> TrainingLog | None:
    """The last table among the lines that `spacy train` printed; None if there is none."""
    names: list[str] = []
    rows: list[list[float]] = []
    for line in (ANSI.sub("", line).strip() for line in lines):
        cells = GAP.split(line)
        if cells[:2] == ["E", "#"] and cells[-1] == "SCORE":
            names, rows = cells, []
        elif names and len(numbers := as_numbers(line)) == len(names):
            rows.append(numbers)
    if not rows:
        return None
    _, steps, *series, score = (list(column) for column in zip(*rows, strict=True))
    columns = [Series(name, values) for name, values in zip(unique(names[2:-1]), series, strict=True)]
    return TrainingLog(
        [int(step) for step in steps],
        [Series(name.removeprefix("LOSS ").lower(), values) for name, values in columns if name.startswith("LOSS ")],
        [Series(name.lower(), values) for name, values in columns if not name.startswith("LOSS ")],
        score,
    )


def as_numbers(line: str) -> list[float]:
    """The numbers of a row of the table; none if there is anything else in the line."""
    try:
        return [float(cell) for cell in line.split()]
    except ValueError:
        return []


def unique(names: Sequence[str]) -> list[str]:
    """Names of columns, numbered where they are the same; spaCy cuts them to 13 characters."""
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return result
