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
# Characters before an item of a JSON list.
BEFORE_ITEM = " \t\r\n,"
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
    content = path.read_bytes().removeprefix(BOM_UTF8)
    text = _read_text(path)

    def fail(number: int, reason: str, remedy: str) -> FormatError:
        return FormatError(path, number, text.split("\n")[number - 1], reason, remedy)

    try:
        content.decode("utf-8")
        bounds = _find_items(text)
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise fail(number, "the line is not UTF-8", remedy_of_encoding(content)) from error
    except (ValueError, RecursionError) as error:
        # Only errors of JSON syntax have a line number.
        raise fail(getattr(error, "lineno", 1), f"the file is not a JSON list: {error}", remedy) from error
    number = 1
    for i, (start, end) in enumerate(bounds):
        number += text.count("\n", bounds[i - 1][0] if i else 0, start)
        yield Line(path, number, text[start:end], part=f"object {i + 1}")


def _read_text(path: Path) -> str:
    return path.read_bytes().removeprefix(BOM_UTF8).decode("utf-8", errors="backslashreplace")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _find_items(text: str) -> list[tuple[int, int]]:
    """Start and end of each item in the text of a JSON list. Raise ValueError if it is none."""
    items = json.loads(text)
    if not isinstance(items, list):
        raise ValueError(f"it is {short_repr(items)}")
    bounds = []
    start = text.index("[") + 1
    for _ in items:
        while text[start] in BEFORE_ITEM:
            start += 1
        _, end = DECODER.raw_decode(text, start)
        bounds.append((start, end))
        start = end
    return bounds
