"""Numbered lines and blocks of lines of a text file, read so that no character is lost.

Python's own notion of a line or of a blank is too wide for corpora: `str.splitlines` breaks at a
NEXT LINE or LINE SEPARATOR character, `str.split` at a NO-BREAK SPACE, and all of these occur
within tokens. Here only LF and CRLF end a line, and only space and tab are blank.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from spacy_ner_arch.formats.report import FormatError

BLANKS = " \t"
# Half of a character, which json can write and UTF-8 cannot.
SURROGATE = re.compile("[\ud800-\udfff]")


class Fault(NamedTuple):
    """Why a line cannot be read, and what to do about it."""

    reason: str
    remedy: str


class Line(NamedTuple):
    """A line without its end; `fault` is set if its text is not to be trusted."""

    number: int
    text: str
    fault: Fault | None = None


def read_lines(path: str | Path) -> Iterator[Line]:
    """Yield the lines of a UTF-8 file, with or without byte order mark, LF or CRLF.

    A line that is not UTF-8 or holds a stray carriage return is yielded with its fault, so that
    the caller can tell which sentence it spoils.
    """
    with Path(path).open("rb") as file:
        for number, raw in enumerate(file, start=1):
            content = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
            yield _make_line(number, content.rstrip(b"\r\n"))


def read_blocks(path: str | Path) -> Iterator[list[Line]]:
    """Yield the runs of lines between blank lines; no run is empty."""
    block: list[Line] = []
    for line in read_lines(path):
        if line.text.strip(BLANKS):
            block.append(line)
        elif block:
            yield block
            block = []
    if block:
        yield block


def raise_faults(path: str | Path, lines: Iterable[Line]) -> None:
    """Raise FormatError for the first line that has a fault."""
    for line in lines:
        if line.fault is not None:
            raise FormatError(path, line.number, line.text, *line.fault)


def _make_line(number: int, content: bytes) -> Line:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        text = content.decode("utf-8", errors="backslashreplace")
        reason = f"the line is not UTF-8: {error.reason} at byte {error.start + 1} of the line"
        return Line(number, text, Fault(reason, "convert the file to UTF-8"))
    if "\r" in text:
        fault = Fault("a carriage return within the line", "end all lines with LF or CRLF")
        return Line(number, text, fault)
    return Line(number, text)
