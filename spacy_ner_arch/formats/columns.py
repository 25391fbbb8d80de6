"""How a file of columns is cut: into sentences at blank lines, into columns at tabs or spaces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import NamedTuple

from spacy_ner_arch.formats.lines import BLANKS, Line, raise_faults, read_blocks
from spacy_ner_arch.formats.report import FormatError
from spacy_ner_arch.formats.tags import Tag, parse_tag

DOCUMENT_MARK = "-DOCSTART-"
DOCUMENT_END: tuple[Line, ...] = ()
COMMENT_MARK = "# "

Shape = tuple[bool, int]
"""Whether tabs separate the columns of a line, and how many columns it has."""


class Layout(NamedTuple):
    """How the lines of a file look.

    shape: the shape that most of them have.
    tag: the index of the entity column, from the left.
    """

    shape: Shape
    tag: int

    @property
    def width(self) -> int:
        """The number of columns."""
        return self.shape[1]


def read_sentence_lines(path: Path) -> Iterator[tuple[Line, ...]]:
    """Yield the lines of each sentence, and DOCUMENT_END where a document ends."""
    for block in read_blocks(path):
        for is_mark, lines in groupby(block, key=_is_document_mark):
            yield DOCUMENT_END if is_mark else tuple(lines)


def _is_document_mark(line: Line) -> bool:
    return line.text.lstrip(" ").startswith(DOCUMENT_MARK)


def split_columns(text: str) -> list[str]:
    """Split a line at tabs if it has one, else at runs of spaces."""
    text = text.rstrip(BLANKS)
    if "\t" in text:
        return [cell.strip(" ") for cell in text.split("\t")]
    return [cell for cell in text.split(" ") if cell]


def find_layout(path: Path, column: int, on_error: str) -> Layout:
    """Find the layout that most lines of a file have.

    path: the file.
    column: the entity column, negative from the end.
    on_error: "raise" an error for a line that cannot be read, or "skip" it.
    Returns the layout; that of a file without readable lines has no columns.
    Raises FormatError if the lines have no such column besides the token, and see `on_error`.
    """
    shapes: Counter[Shape] = Counter()
    comment_shapes: Counter[Shape] = Counter()
    examples: dict[Shape, Line] = {}
    for line in chain.from_iterable(read_sentence_lines(path)):
        if on_error == "raise":
            raise_faults(path, [line])
        if line.fault is None:
            shape = _shape(line)
            may_be_comment = line.text.startswith(COMMENT_MARK)
            (comment_shapes if may_be_comment else shapes)[shape] += 1
            examples.setdefault(shape, line)
    common = (shapes or comment_shapes).most_common(1)
    if not common:
        return Layout((False, 0), 0)
    shape, _ = common[0]
    return Layout(shape, _tag_index(path, examples[shape], shape[1], column))


def _tag_index(path: Path, example: Line, width: int, column: int) -> int:
    index = column if column >= 0 else width + column
    if not 0 < index < width:
        reason = f"there is no entity column {column}: the lines have {width} columns"
        remedy = f"choose a column from 1 to {width - 1} or from {1 - width} to -1"
        if width == 1:
            remedy = "give each token a column with its entity tag"
        raise FormatError(path, example.number, example.text, reason, remedy)
    return index


def readable_tag(line: Line, layout: Layout) -> Tag | None:
    """Return the tag of a line; None if it has other columns than the file or no such tag."""
    cells = split_columns(line.text)
    return parse_tag(cells[layout.tag]) if len(cells) == layout.width else None


def count_comments(lines: Sequence[Line], layout: Layout) -> int:
    """Count the comments before the first token of a sentence.

    A comment starts with "# " and does not look like a token "#" with its tag.
    """
    for n, line in enumerate(lines):
        is_marked = line.fault is None and line.text.startswith(COMMENT_MARK)
        if not is_marked or (_shape(line) == layout.shape and readable_tag(line, layout)):
            return n
    return len(lines)


def _shape(line: Line) -> Shape:
    return "\t" in line.text.rstrip(BLANKS), len(split_columns(line.text))
