"""Values of JSON files: the items of a list, a single object, or one value a line."""

import json
import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from reprlib import repr as short_repr
from typing import Any

from .lines import BLANKS, FormatError, Line, read_lines, remedy_of_encoding

DECODER = json.JSONDecoder()
WHITE_SPACE = re.compile(r"[ \t\r\n]*")
# The start of a line with a list that is one value: [text, annotation].
PAIR = re.compile(r'[ \t]*\[[ \t]*"')


def as_json(value: Any, **options: Any) -> str:
    """A value as JSON. Half of a surrogate pair, which UTF-8 cannot encode, is escaped.

    options: those of json.dumps.
    """
    text = json.dumps(value, ensure_ascii=False, **options)
    is_text = text.encode("utf8", errors="ignore").decode("utf8") == text
    return text if is_text else json.dumps(value, **options)


def read_items(path: str | Path, remedy: str) -> Iterator[Line]:
    """Yield the values of a JSON file: the items of one list, one object on several lines, or one value a line.

    remedy: remedy in the error for any other file.
    """
    lines = (line for line in read_lines(path) if line.text.strip(BLANKS))
    first = next(lines, None)
    if first is None:
        return
    opening = first.text.lstrip(BLANKS)[:1]
    if opening == "[" and not PAIR.match(first.text):
        yield from read_list(Path(path), remedy)
    elif opening == "{" and not _is_json(first.text) and _is_json(whole := _read_text(Path(path))):
        yield Line(first.path, first.number, whole)
    else:
        yield from chain([first], lines)


def read_list(path: Path, remedy: str) -> Iterator[Line]:
    """Yield the items of the JSON list in a file, each with the number of the line on which it starts."""
    text = _check_text(path)
    try:
        bounds = _find_items(text)
    except (ValueError, RecursionError) as error:
        # Only errors of JSON syntax have a line number.
        number = getattr(error, "lineno", 1)
        reason = f"the file is not a JSON list: {error}"
        raise FormatError(path, number, text.split("\n")[number - 1], reason, remedy) from error
    number = 1
    for i, (start, end) in enumerate(bounds):
        number += text.count("\n", bounds[i - 1][0] if i else 0, start)
        yield Line(path, number, text[start:end], part=f"object {i + 1}")


def _check_text(path: Path) -> str:
    """The text of a file. Raises FormatError if it is not UTF-8."""
    content = path.read_bytes().removeprefix(BOM_UTF8)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        line = _read_text(path).split("\n")[number - 1]
        raise FormatError(path, number, line, "the line is not UTF-8", remedy_of_encoding(content)) from error


def _read_text(path: Path) -> str:
    return path.read_bytes().removeprefix(BOM_UTF8).decode("utf-8", errors="backslashreplace")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _find_items(text: str) -> list[tuple[int, int]]:
    """Start and end of each item in the text of a JSON list. Raise ValueError if it is none.

    The items are parsed one by one, since the values of a large list take several times the memory of its text.
    """
    place = _skip(text, 0)
    if not text.startswith("[", place):
        raise ValueError(f"it is {short_repr(json.loads(text))}")
    place = _skip(text, place + 1)
    bounds: list[tuple[int, int]] = []
    is_closed = text.startswith("]", place)
    while not is_closed:
        _, end = DECODER.raw_decode(text, place)
        bounds.append((place, end))
        place = _skip(text, end)
        is_closed = text.startswith("]", place)
        if not is_closed:
            if not text.startswith(",", place):
                raise json.JSONDecodeError("Expecting ',' delimiter", text, place)
            place = _skip(text, place + 1)
    place = _skip(text, place + 1)
    if place < len(text):
        raise json.JSONDecodeError("Extra data", text, place)
    return bounds


def _skip(text: str, place: int) -> int:
    """The place behind white space."""
    match = WHITE_SPACE.match(text, place)
    return place if match is None else match.end()
