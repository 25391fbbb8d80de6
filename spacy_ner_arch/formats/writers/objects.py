"""JSON with an object for each document."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..files import write_text
from ..json_files import as_json
from .content import Content, Labels

MakeObject = Callable[[Content], dict[str, Any]]


def make_list(make: MakeObject, contents: Sequence[Content]) -> Iterator[str]:
    """Yield the pieces of a JSON list of the objects of the documents."""
    yield "["
    for i, content in enumerate(contents):
        yield (",\n " if i else "") + as_json(make(content))
    yield "]\n"


def write_lines(make: MakeObject, path: Path, contents: Sequence[Content], _labels: Labels) -> None:
    """Write the object of each document on a line."""
    write_text(path, (f"{as_json(make(content))}\n" for content in contents))


def with_score(value: dict[str, Any], score: float | None) -> dict[str, Any]:
    """An object with a score, if there is one."""
    return value if score is None else {**value, "score": score}
