"""The rows of a CoNLL-U sentence: its words, and the multi-word ranges that tell their spacing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from spacy_ner_arch.formats.lines import BLANKS, Line
from spacy_ner_arch.formats.report import FormatError

WIDTH = 10
ID, FORM, LEMMA, UPOS, XPOS, HEAD, DEPREL, MISC = 0, 1, 2, 3, 4, 6, 7, 9

NUMBER = re.compile(r"[0-9]{1,9}")
RANGE_ID = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")
EMPTY_NODE_ID = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}")


class Row(NamedTuple):
    """A line of the ten columns."""

    line: Line
    cells: list[str]


class Range(NamedTuple):
    """A multi-word range: its words from index `start` to `end`, exclusive."""

    row: Row
    start: int
    end: int


def row_error(path: Path, row: Row, reason: str, remedy: str) -> FormatError:
    """Make the error of a row."""
    return FormatError(path, row.line.number, row.line.text, reason, remedy)


def read_rows(path: Path, lines: Sequence[Line]) -> tuple[list[Row], list[Range]]:
    """Split the lines of a sentence, leaving out empty nodes.

    path: the file, for errors.
    lines: at least one line, without the comments.
    Returns words and ranges.
    Raises FormatError if a line has not ten columns, or the ids do not count up.
    """
    words: list[Row] = []
    ranges: list[Range] = []
    for line in lines:
        row = _split(path, line)
        word_id = row.cells[ID]
        if EMPTY_NODE_ID.fullmatch(word_id):
            continue
        if bounds := RANGE_ID.fullmatch(word_id):
            ranges.append(Range(row, int(bounds[1]) - 1, int(bounds[2])))
        elif NUMBER.fullmatch(word_id) and int(word_id) == len(words) + 1:
            words.append(row)
        else:
            reason = f"the id {word_id!r} where {len(words) + 1} is due"
            raise row_error(path, row, reason, "number the words of a sentence 1, 2, 3 and so on")
    if not words:
        row = Row(lines[0], [])
        raise row_error(path, row, "a sentence without words", "remove it, or complete it")
    _check_ranges(path, words, ranges)
    return words, ranges


def _split(path: Path, line: Line) -> Row:
    row = Row(line, line.text.rstrip(BLANKS).split("\t"))
    if len(row.cells) != WIDTH:
        reason = f"{len(row.cells)} columns where CoNLL-U has {WIDTH}"
        raise row_error(path, row, reason, "separate ten columns by single tabs, _ for no value")
    if not all(row.cells):
        raise row_error(path, row, "an empty column", "write _ for a column without value")
    return row


def _check_ranges(path: Path, words: Sequence[Row], ranges: Sequence[Range]) -> None:
    """Check that every range stands right before its words and that none overlap."""
    taken = 0
    for row, start, end in ranges:
        is_in_place = taken <= start < end <= len(words)
        if not is_in_place or row.line.number > words[start].line.number:
            reason = f"the range {row.cells[ID]} does not match the words after it"
            raise row_error(path, row, reason, "put a range before its words, and none in another")
        taken = end


def read_spaces(words: Sequence[Row], ranges: Sequence[Range]) -> tuple[list[bool], list[Row]]:
    """Tell after which words a space follows, and which ranges their words do not spell.

    The words of a range stand together if they spell it, else with spaces between them. After
    the last of them there is a space if there is one after the range.
    """
    spaces = [_space_after(word) for word in words]
    respelled = []
    for row, start, end in ranges:
        is_spelled = "".join(word.cells[FORM] for word in words[start:end]) == row.cells[FORM]
        if not is_spelled:
            respelled.append(row)
        spaces[start:end] = [not is_spelled] * (end - start - 1) + [_space_after(row)]
    return spaces, respelled


def _space_after(row: Row) -> bool:
    return "SpaceAfter=No" not in row.cells[MISC].split("|")
