"""Format `csv`: a token and its tag on each line, and the names of the columns on the first one."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from reprlib import repr as short_repr
from typing import NamedTuple

from .counts import ReadReport
from .lines import BLANKS, FormatError, Line, read_lines
from .sentence import Sentence
from .tagged_tokens import TaggedTokens, read_tag, tagged_sentences

TOKEN_COLUMNS = ("token", "tokens", "word", "words", "form", "text")
TAG_COLUMNS = ("ner_tags", "ner_tag", "ner", "tag", "tags", "label", "labels", "entity")
SENTENCE_COLUMNS = ("sentence #", "sentence_id", "sentence_idx", "sentence", "sent_id")
CSV_REMEDY = (
    f"the first line names the columns: the token (one of {', '.join(TOKEN_COLUMNS)}), its tag "
    f"({', '.join(TAG_COLUMNS)}) and, if there is one, the number of the sentence ({', '.join(SENTENCE_COLUMNS)}); "
    "without it, empty lines separate sentences"
)
# Columns of an export of Label Studio, which has one row for each annotation.
LABEL_STUDIO_COLUMNS = frozenset(("annotation_id", "annotator"))
LABEL_STUDIO = "an export of Label Studio as CSV, with the regions of a text in one cell"
LABEL_STUDIO_REMEDY = "export the project as JSON"


class Columns(NamedTuple):
    """The separator of a CSV file, and the positions of its columns."""

    separator: str
    width: int
    token: int
    tag: int
    sentence: int | None


def read_csv(path: str | Path, report: ReadReport, *, on_error: str = "raise") -> Iterator[list[Sentence]]:
    """Read a CSV file with a token and its tag on each line, and a first line with the names of the columns.

    Commas, semicolons or tabs separate the columns. A new value in the column of sentences begins a sentence; an empty
    one continues it. Empty lines also end a sentence. The tags may have any scheme that `source_tags.py` knows. Each
    sentence is a document.

    Arguments, results and errors are those of all readers, see `readers.py`.
    """
    lines = read_lines(path)
    header = next((line for line in lines if line.text.strip(BLANKS)), None)
    if header is None:
        return
    if is_label_studio(header):
        raise header.error(LABEL_STUDIO, LABEL_STUDIO_REMEDY)
    columns = find_columns(header)
    found = []
    for rows in _group_rows(lines, columns):
        with report.skipping(on_error):
            found.append(_read_rows(rows, columns))
    yield from tagged_sentences(found, report)


def find_columns(header: Line) -> Columns:
    """Find the separator and the columns of a CSV file in its first line. Raise FormatError if one is missing."""
    separator, names = _column_names(header)

    def find(known: Sequence[str]) -> int | None:
        return next((names.index(name) for name in known if name in names), None)

    token, tag = find(TOKEN_COLUMNS), find(TAG_COLUMNS)
    if token is None or tag is None:
        missing = "token" if token is None else "tag"
        raise header.error(f"none of the columns {', '.join(map(short_repr, names))} is the {missing}", CSV_REMEDY)
    return Columns(separator, len(names), token, tag, find(SENTENCE_COLUMNS))


def is_label_studio(header: Line) -> bool:
    """Whether a CSV file is an export of Label Studio, by its first line. Raises FormatError if it is not CSV."""
    return LABEL_STUDIO_COLUMNS.issubset(_column_names(header)[1])


def _column_names(header: Line) -> tuple[str, list[str]]:
    """The separator of a CSV file, and the names of its columns in lower case."""
    header.check()
    separator = max(",;\t", key=header.text.count)
    return separator, [cell.strip().lower() for cell in _cells(header, separator)]


def _cells(line: Line, separator: str) -> list[str]:
    line.check()
    try:
        [cells] = csv.reader([line.text], delimiter=separator, strict=True)
    except (csv.Error, ValueError) as error:
        raise line.error(f"not a line of CSV: {error}", 'write " in a cell as """", and no line break') from error
    return cells


def _group_rows(lines: Iterable[Line], columns: Columns) -> Iterator[list[Line]]:
    """The lines of each sentence."""
    group: list[Line] = []
    current = ""
    for line in lines:
        number = ""
        if columns.sentence is not None and line.fault is None and line.text.strip(BLANKS):
            # A line that cannot be read stays in its sentence, which is then skipped as a whole.
            with suppress(FormatError):
                cells = _cells(line, columns.separator)
                number = cells[columns.sentence].strip() if len(cells) == columns.width else ""
        is_empty = not line.text.strip(BLANKS + columns.separator)
        if group and (is_empty or (number and number != current)):
            yield group
            group = []
        current = number or current
        if not is_empty:
            group.append(line)
    if group:
        yield group


def _read_rows(lines: Sequence[Line], columns: Columns) -> TaggedTokens:
    words, tags = [], []
    for line in lines:
        cells = _cells(line, columns.separator)
        if len(cells) != columns.width:
            raise line.error(f"{len(cells)} columns where the first line has {columns.width}", CSV_REMEDY)
        word = cells[columns.token].strip(BLANKS) or cells[columns.token][:1]
        if not word:
            raise line.error("the token is empty", "write the token, or leave out the line")
        tag = cells[columns.tag].strip(BLANKS)
        if tag.startswith("[{"):
            raise line.error("the regions of a text in one cell, where a tag should be", LABEL_STUDIO_REMEDY)
        words.append(word)
        tags.append(read_tag(tag, line))
    return TaggedTokens(lines, words, tags)
