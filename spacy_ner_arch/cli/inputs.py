"""Inputs of `ner-arch label` and `select`: texts, and lines of text or of JSON from files and standard input."""

import os.path
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import typer
from spacy.language import Language
from spacy.tokens import Doc

from ..bulk.documents import REMEDY, Record, parse, tokenize
from ..formats.counts import ReadReport
from ..formats.lines import BLANKS, Line, make_lines, read_lines

FORMATS = ("txt", "jsonl")
# An argument of one word with such an extension is a mistyped file name, not a text.
FILES = ("json", "csv", "tsv", "parquet", "spacy", "gz", "bz2", "xz", "zst")
STDIN = "-"


class TextSource(NamedTuple):
    """An input.

    name: path of a file, "-" for standard input, or a text.
    format: format of the lines, one of FORMATS; None for a text, and for standard input whose first line shows it.
    is_text: whether the name is the text itself.
    """

    name: str
    format: str | None = None
    is_text: bool = False

    @property
    def is_file(self) -> bool:
        return not self.is_text and self.name != STDIN


def find_source(name: str, format: str | None) -> TextSource:
    """Find the input that an argument of the command names.

    format: format of all files and of standard input; None to detect it.
    Raises ValueError for an unknown format, a file that does not exist, and a file whose format is unknown.
    """
    if format not in (None, *FORMATS):
        raise ValueError(f"--format is {format!r}; it must be one of {', '.join(FORMATS)}")
    suffix = Path(name).suffix.lower().removeprefix(".")
    if name == STDIN:
        return TextSource(name, format)
    if os.path.isfile(name):
        if format is None and suffix not in FORMATS:
            raise ValueError(
                f"{name} is a file, but neither .txt nor .jsonl: give --format txt or --format jsonl if its lines are "
                "texts or JSON objects. `ner-arch annotate` also reads .csv, .parquet and .spacy files"
            )
        return TextSource(name, format or suffix)
    if os.path.isdir(name):
        raise ValueError(
            f"{name} is a folder: name its files, or use `ner-arch annotate`. If it is a text, use standard input"
        )
    if suffix in FORMATS or (suffix in FILES and len(name.split()) == 1):
        raise ValueError(f"{name}: there is no such file. If it is a text, give it on standard input")
    if format is not None:
        raise ValueError(f"{name}: there is no such file; --format is for files and standard input")
    return TextSource(name, is_text=True)


def tokenize_records(
    nlp: Language, sources: Iterable[TextSource], new_keys: set[str], report: ReadReport, on_error: str
) -> Iterator[tuple[Doc, Record]]:
    """Tokenized text and JSON object of each line of the inputs.

    new_keys: keys that the output adds to the objects.
    report: counts the lines, and those that are skipped.
    Raises FormatError for a bad line, unless on_error is "skip".
    """
    for line, format in read_sources(sources):
        made = []
        with report.skipping(on_error):
            record = parse(line, format, new_keys)
            made.append((tokenize(nlp, record["text"], line), record))
        yield from made


def read_sources(sources: Iterable[TextSource]) -> Iterator[tuple[Line, str | None]]:
    """Lines of all inputs, each with its format. A text is one line without a format."""
    for number, source in enumerate(sources, start=1):
        format = source.format
        if source.is_text:
            yield Line(Path("argument"), number, source.name), None
        elif source.name != STDIN:
            yield from ((line, format) for line in read_lines(source.name))
        else:
            opened: Line | None = None  # line with a bracket that may open a JSON list
            start = ""
            for line in make_lines(Path("standard input"), typer.get_binary_stream("stdin")):
                content = line.text.strip(BLANKS)
                if format is None and content:
                    format = "jsonl" if content.startswith("{") else "txt"
                    opened = line if content.startswith("[") else None
                    start = content.removeprefix("[").lstrip(BLANKS) if opened else ""
                elif opened and content:
                    start = content
                if opened and start:
                    if start.startswith(("{", '"')):
                        items = "objects" if start.startswith("{") else "texts"
                        raise opened.error(f"the input is a list of {items} in JSON", REMEDY.format("text"))
                    opened = None
                yield line, format
