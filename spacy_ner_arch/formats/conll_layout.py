"""Layout of a file of columns: which column has the tokens, and which one the tags."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import NamedTuple

from .lines import BLANKS, Line
from .source_tags import MISSING_TAG, Tag, parse_tag

NO_VALUE = "_"
# Share of the cells of a column that must be tags.
TAG_SHARE = 0.9
# Share of the lines whose numbers must count the tokens. The others may follow a lost line.
COUNTED_SHARE = 0.9
NUMBER = re.compile(r"\d{1,9}")
# Numbers of a range of words, and of a word that is not in the text, as CoNLL-U has them.
NO_TOKEN = re.compile(r" *\d+[-.]\d+(?=[ \t]|$)")

Shape = tuple[bool, int]
"""Whether tabs separate the columns of a line, and the number of columns."""


class FileLayout(NamedTuple):
    """Layout of a file: the shape of most lines, and the indices of the columns of the tag and the token.

    numbered: a line with a number in the first column, which counts the tokens of each sentence; None if there is no
        such column.
    empty_end: a line of a file whose tags are in an earlier column because the last one is empty; None if they are not.
    """

    shape: Shape
    tag: int
    token: int
    numbered: Line | None = None
    empty_end: Line | None = None

    def tag_of(self, line: Line) -> Tag | None:
        """The tag of a line; None if it cannot be read."""
        cells = split_columns(line)
        return parse_tag(cells[self.tag]) if len(cells) == self.shape[1] else None

    def count_comments(self, lines: Iterable[Line]) -> int:
        """Count the comments before the first token of a sentence."""

        def is_before(line: Line) -> bool:
            return is_comment(line) and not (shape_of(line) == self.shape and self.tag_of(line))

        return sum(1 for _ in takewhile(is_before, lines))

    def is_token(self, line: Line) -> bool:
        """Whether a line is a token: in a file with numbers, not a range of words."""
        return self.numbered is None or not is_range(line)


class Columns:
    """The lines of one shape: the cells of each column that are tags, and the lines whose numbers count the tokens."""

    def __init__(self, line: Line) -> None:
        self.example = line
        self.lines = 0
        self.tags: Counter[int] = Counter()
        self.no_value: Counter[int] = Counter()
        self.annotated: Counter[int] = Counter()
        self.counted = 0
        self.counted_on = 0
        self.inside = 0
        self.repeats: Counter[int] = Counter()

    def add(self, cells: list[str], before: list[str] | None = None) -> None:
        """Count a line. before: the cells of the token before it; None at the start of a sentence."""
        self.lines += 1
        for i, cell in enumerate(cells):
            tag = parse_tag(cell)
            self.no_value[i] += cell == NO_VALUE
            if tag is not None:
                self.tags[i] += 1
                self.annotated[i] += tag != MISSING_TAG
        if before is not None:
            self.inside += 1
            self.repeats.update(i for i, (cell, above) in enumerate(zip(cells, before, strict=False)) if cell == above)
        number = _number(cells)
        if number is not None:
            counts_on = before is not None and _number(before) == number - 1
            self.counted += before is None or counts_on
            self.counted_on += counts_on

    def are_numbered(self, width: int) -> bool:
        """Whether the first of at least three columns counts the tokens of each sentence, or of each document."""
        return width > 2 and self.counted_on > 0 and self.counted >= COUNTED_SHARE * self.lines

    def has_words(self, i: int) -> bool:
        """Whether a column can be the words: its cells are not tags, and differ from the cells above in most lines.

        Otherwise, they describe words that are numbers, such as those of a list ("1 CD O", "2 CD O", "3 CD O").
        """
        return not self.has_tags(i) and 2 * self.repeats[i] <= self.inside

    def has_tags(self, i: int) -> bool:
        """Whether nearly all cells of a column are tags."""
        return self.tags[i] > TAG_SHARE * self.lines

    def is_empty(self, i: int, numbered: bool) -> bool:
        """Whether a column has no values: only "_", and in files with numbers, such as those of UNER, also "-".

        In other files, "-" are tags: the tokens are not annotated.
        """
        not_annotated = self.tags[i] - self.annotated[i] if numbered else 0
        return self.no_value[i] + not_annotated == self.lines

    def tag_column(self, width: int, numbered: bool = False) -> int:
        """The last column, the first one if more of its cells are tags, or the last one with tags if that is empty."""
        first, last = int(numbered), width - 1
        if self.tags[first] > self.tags[last]:
            return first
        if self.is_empty(last, numbered):
            return max((i for i in range(width) if self.annotated[i] and self.has_tags(i)), default=last)
        return last

    def tag_and_token(self, width: int, column: int | None, numbered: bool) -> tuple[int, int]:
        """The indices of the columns of the tag and the token. The first one is not checked if a column is given."""
        if column is None:
            column = self.tag_column(width, numbered)
        index = column if column >= 0 else width + column
        first = int(numbered)
        return index, width - 1 if index == first else first


def find_layout(sentences: Iterable[tuple[Line, ...]], column: int | None, on_error: str) -> FileLayout:
    """Find the layout of most lines of a file. Without readable lines, it has no columns.

    sentences: the lines of each sentence.
    column: index of the tag column, see `read_conll`.
    on_error: "raise" an error for an unreadable line, or "skip" it.
    Raises FormatError if most lines have no such column, or no other one.
    """
    found: dict[Shape, Columns] = {}
    # Ranges of words need no tags, comments no columns. They count only if there are no other lines.
    ranges: dict[Shape, Columns] = {}
    comments: dict[Shape, Columns] = {}
    for line, cells, before in _with_cells(sentences):
        if on_error == "raise":
            line.check()
        if line.fault is None:
            columns_of = comments if is_comment(line) else ranges if is_range(line) else found
            shape = _has_tabs(line), len(cells)
            if shape not in columns_of:
                columns_of[shape] = Columns(line)
            columns_of[shape].add(cells, before)
    found = found or ranges or comments
    if not found:
        return FileLayout((False, 0), 0, 0)
    shape, columns = max(found.items(), key=lambda item: item[1].lines)
    width = shape[1]
    numbered = columns.are_numbered(width)
    index, token = columns.tag_and_token(width, column, numbered)
    if numbered and not columns.has_words(token):
        numbered = False
        index, token = columns.tag_and_token(width, column, numbered)
    if not 0 <= index < width or width == 1:
        remedy = f"choose a column from 0 to {width - 1} or from {-width} to -1"
        if width == 1:
            remedy = "give each token a column with its entity tag"
        wrong = -1 if column is None else column
        raise columns.example.error(f"there is no tag column {wrong}: the lines have {width} columns", remedy)
    example = columns.example
    is_earlier = column is None and int(numbered) < index < width - 1
    return FileLayout(shape, index, token, example if numbered else None, example if is_earlier else None)


def _with_cells(sentences: Iterable[tuple[Line, ...]]) -> Iterator[tuple[Line, list[str], list[str] | None]]:
    """Each line, its cells, and those of the token before it in its sentence; None if there is none."""
    for lines in sentences:
        before = None
        for line in lines:
            cells = split_columns(line)
            yield line, cells, before
            if not (is_comment(line) or is_range(line)):
                before = cells


def _number(cells: list[str]) -> int | None:
    return int(cells[0]) if NUMBER.fullmatch(cells[0]) else None


def is_comment(line: Line) -> bool:
    """Whether a line looks like a comment: it starts with "#" and white space."""
    return line.fault is None and line.text[:1] == "#" and line.text[1:2].isspace()


def is_range(line: Line) -> bool:
    """Whether a line has the number of a range of words, or of a word that is not in the text."""
    return line.fault is None and NO_TOKEN.match(line.text) is not None


def split_columns(line: Line) -> list[str]:
    """The columns of a line."""
    text = line.text.rstrip(BLANKS)
    if "\t" in text:
        # A token can be a space: spaCy's tokenizer makes such tokens.
        return [cell.strip(" ") or cell[:1] for cell in text.split("\t")]
    return [cell for cell in text.split(" ") if cell]


def shape_of(line: Line) -> Shape:
    """The shape of a line."""
    return _has_tabs(line), len(split_columns(line))


def _has_tabs(line: Line) -> bool:
    return "\t" in line.text.rstrip(BLANKS)
