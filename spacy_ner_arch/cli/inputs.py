"""Inputs of `ner-arch label`: texts, and lines of text or of JSON from files and standard input."""

import os.path
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import typer
from spacy.language import Language
from spacy.tokens import Doc

from ..formats.counts import ReadReport
from ..formats.lines import BLANKS, Line, make_lines, read_lines
from ..formats.records import check_text, parse_json

FORMATS = ("txt", "jsonl")
STDIN = "-"
REMEDY = (
    'write an object such as {"text": "Anna left Tarvik"} on each line, with any other keys; for lines of plain text '
    "give --format txt"
)
SKIP_REMEDY = "correct or remove the line, or give --on-error skip"

# The JSON object of a line.
Record = dict[str, Any]


class Source(NamedTuple):
    """An input.

    name: path of a file, "-" for standard input, or a text.
    format: of the lines, one of FORMATS; None for a text, and for standard input whose first line shows its format.
    is_text: whether the name is the text itself.
    """

    name: str
    format: str | None = None
    is_text: bool = False


def find_source(name: str, format: str | None) -> Source:
    """What an argument of the command names.

    format: of all files and of standard input; None to find out.
    Raises ValueError for an unknown format, a file that does not exist, and a file of which the format is unknown.
    """
    if format not in (None, *FORMATS):
        raise ValueError(f"--format is {format!r}; it must be one of {', '.join(FORMATS)}")
    suffix = Path(name).suffix.lower().removeprefix(".")
    if name == STDIN:
        return Source(name, format)
    if os.path.isfile(name):
        if format is None and suffix not in FORMATS:
            raise ValueError(f"{name} is a file, but neither .txt nor .jsonl: give --format txt or --format jsonl")
        return Source(name, format or suffix)
    if suffix in FORMATS:
        raise ValueError(f"{name}: there is no such file. If it is a text, give it on standard input")
    if format is not None:
        raise ValueError(f"{name}: there is no such file; --format is for files and standard input")
    return Source(name, is_text=True)


def read_records(
    nlp: Language, sources: Iterable[Source], new_keys: set[str], report: ReadReport, on_error: str
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
            made.append((make_doc(nlp, record["text"], line), record))
        yield from made


def read_sources(sources: Iterable[Source]) -> Iterator[tuple[Line, str | None]]:
    """Lines of all inputs, each with its format. A text is one line without a format."""
    for number, source in enumerate(sources, start=1):
        format = source.format
        if source.is_text:
            yield Line(Path("argument"), number, source.name), None
        elif source.name != STDIN:
            yield from ((line, format) for line in read_lines(source.name))
        else:
            for line in make_lines(Path("standard input"), typer.get_binary_stream("stdin")):
                if format is None and line.text.strip(BLANKS):
                    format = "jsonl" if line.text.lstrip(BLANKS).startswith("{") else "txt"
                yield line, format


def parse(line: Line, format: str | None, new_keys: set[str]) -> Record:
    """The JSON object of a line; for a line of text, and for an empty line, an object with this text."""
    line.check()
    if format != "jsonl" or not line.text.strip(BLANKS):
        return {"text": line.text}
    record = parse_json(line, REMEDY)
    if not isinstance(record, dict) or not isinstance(record.get("text"), str):
        raise line.error("not a JSON object with a text under the key text", REMEDY)
    taken = sorted(new_keys & record.keys())
    if taken:
        reason = f"the object has the key {taken[0]!r}, under which the output would have the annotation"
        raise line.error(reason, "rename the key, or give another one for the annotation with --key")
    return record


def make_doc(nlp: Language, text: str, line: Line) -> Doc:
    """Tokenize the text of a line. Raises FormatError if it cannot be tokenized as it is."""
    try:
        doc = nlp.make_doc(check_text(text))
    except ValueError as error:  # of the tokenizer: for example, the text is too long
        raise line.error(str(error), SKIP_REMEDY) from error
    if doc.text != text:
        raise line.error("the tokenizer changes the text, so that positions would be wrong", SKIP_REMEDY)
    return doc
