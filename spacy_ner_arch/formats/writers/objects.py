"""JSON with an object for each document."""

from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from ..files import write_text
from ..json_files import as_json
from .content import Content

MakeObject = Callable[[Content], dict[str, Any]]


def write_list(make: MakeObject, path: Path, contents: Sequence[Content]) -> None:
    """Write a JSON list of the objects of the documents."""
    objects = (as_json(make(content)) for content in contents)
    items = (text if i == 0 else f",\n {text}" for i, text in enumerate(objects))
    write_text(path, chain(["["], items, ["]\n"]))


def write_lines(make: MakeObject, path: Path, contents: Sequence[Content]) -> None:
    """Write the object of each document on a line."""
    write_text(path, (f"{as_json(make(content))}\n" for content in contents))


def with_score(value: dict[str, Any], score: float | None) -> dict[str, Any]:
    """An object with a score, if there is one."""
    return value if score is None else {**value, "score": score}
