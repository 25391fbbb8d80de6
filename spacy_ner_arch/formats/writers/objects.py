"""JSON with an object for each document."""

import json
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from ..files import write_text
from .content import Content

MakeObject = Callable[[Content], dict[str, Any]]


def write_list(make: MakeObject, path: Path, contents: Sequence[Content]) -> None:
    """Write a JSON list of the objects of the documents."""
    objects = (dump(make(content)) for content in contents)
    items = (text if i == 0 else f",\n {text}" for i, text in enumerate(objects))
    write_text(path, chain(["["], items, ["]\n"]))


def write_lines(make: MakeObject, path: Path, contents: Sequence[Content]) -> None:
    """Write the object of each document on a line."""
    write_text(path, (f"{dump(make(content))}\n" for content in contents))


def dump(value: dict[str, Any]) -> str:
    """An object as JSON. Half of a surrogate pair, which UTF-8 cannot encode but a field may have, is escaped."""
    text = json.dumps(value, ensure_ascii=False)
    is_text = text.encode("utf8", errors="ignore").decode("utf8") == text
    return text if is_text else json.dumps(value)


def with_score(value: dict[str, Any], score: float | None) -> dict[str, Any]:
    """An object with a score, if there is one."""
    return value if score is None else {**value, "score": score}
