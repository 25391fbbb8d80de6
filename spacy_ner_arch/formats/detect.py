"""Detect the format of a file."""

from collections.abc import Collection, Iterable
from contextlib import suppress
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from reprlib import repr as short_repr
from typing import Any

from .arrow_files import ARROW, PARQUET, read_rows
from .conll import DOCUMENT_MARK
from .conll_layout import Columns, is_comment, is_range, split_columns
from .csv_tokens import find_columns, is_label_studio
from .files import find_files
from .json_files import read_items
from .lines import BLANKS, FormatError, Line, read_lines
from .readers import FORMATS
from .records import parse_json, parse_object
from .semeval import TEXT as SEMEVAL_TEXT

NOT_ANNOTATED = "for texts without annotation, use `ner-arch annotate` or `ner-arch label`"
JSON_REMEDY = "correct the JSON, or name the format with --format"
READ_LINES = 100
CONLLU_COLUMNS = 10
# Keys of texts that only doccano has.
DOCCANO_KEYS = frozenset(("Comments", "cats", "annotation_approver"))


def detect_format(path: str | Path) -> str:
    """Detect the format of a file from its name and its beginning.

    Returns a name in FORMATS.
    Raises ValueError, with the apparent content of the file and the nearest format, if the file has no known format.
    """
    path = Path(path)
    if path.is_dir():
        if find_files(path, "*.ann"):
            return "brat"
        raise _unknown(path, "a folder without .ann files", "brat", "give the files in it, one by one")
    if path.suffix == ".ann" or (path.suffix == ".txt" and path.with_suffix(".ann").exists()):
        return "brat"
    if path.suffix == ".spacy":
        raise ValueError(f"{path} looks like a corpus of spaCy, which needs no conversion")
    if path.suffix in (PARQUET, ARROW):
        columns = next((row for _, row in read_rows(path, "")), None) or {}
        formats = [name for name, format in FORMATS.items() if format.tables]
        return _format_of_keys(path, columns, formats, f"a table with the columns {_listed(columns)}")
    lines = list(islice((line for line in read_lines(path) if line.text.strip(BLANKS)), READ_LINES))
    if not lines:
        raise ValueError(f"{path} is empty")
    lines[0].check()
    if "\0" in lines[0].text:
        raise _unknown(path, "a binary file", "datasets", "name a Parquet file NAME.parquet")
    if lines[0].text.lstrip(BLANKS)[0] in "[{":
        return _json_format(path)
    return _lines_format(path, [line for line in lines if line.fault is None])


def _unknown(path: Path, looks_like: str, nearest: str, reason: str) -> ValueError:
    content = FORMATS[nearest].content
    return ValueError(f"{path} looks like {looks_like}; the nearest format is {nearest} ({content}): {reason}")


def _listed(keys: Collection[str]) -> str:
    return ", ".join(map(str, islice(keys, 10))) + (" and more" if len(keys) > 10 else "") or "(none)"


def _json_format(path: Path) -> str:
    line = next(read_items(path, JSON_REMEDY), None)
    if line is None:
        raise ValueError(f"{path} is an empty JSON list")
    value: Any = parse_json(line, JSON_REMEDY)
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], dict):
        return "spacy-v2"
    if not isinstance(value, dict):
        raise _unknown(path, f"JSON with values such as {short_repr(value)}", "offsets", "each value must be an object")
    if "text" in value and isinstance(value.get("label"), dict):
        return "cluener"
    if value.keys() == {"text"}:
        reason = f'add "entities": [] to a text that has none, and its entities to any other; {NOT_ANNOTATED}'
        raise _unknown(path, "JSON with the key text alone", "offsets", reason)
    name = _format_of_keys(path, value, FORMATS, f"JSON with the keys {_listed(value)}")
    return "offsets" if name == "doccano" and not _is_doccano(path) else name


def _is_doccano(path: Path) -> bool:
    """Whether a file with the keys of doccano is from doccano, which counts units of UTF-16. True in doubt.

    doccano has keys that other tools do not have, and writes entities as lists under "label" only.
    """
    for line in read_items(path, JSON_REMEDY):
        with suppress(FormatError):
            value = parse_object(line, JSON_REMEDY)
            if value.keys() & DOCCANO_KEYS:
                return True
            for key, own_key in (("label", "start_offset"), ("entities", "start_offset"), ("relations", "from_id")):
                items = value.get(key)
                if isinstance(items, list) and items:
                    return own_key in items[0] if isinstance(items[0], dict) else key == "label"
    return True


def _format_of_keys(path: Path, value: Collection[str], formats: Iterable[str], looks_like: str) -> str:
    """The first of the formats whose keys an object has."""
    wanted = [(name, keys.split()) for name in formats for keys in FORMATS[name].keys]

    def has(pattern: str) -> bool:
        return any(fnmatchcase(key, pattern) for key in value)

    for name, keys in wanted:
        if all(map(has, keys)):
            return name
    name, keys = max(wanted, key=lambda one: sum(map(has, one[1])) / len({*one[1], *value}))
    raise _unknown(path, looks_like, name, f"files of it have the keys {' and '.join(keys)}")


def _lines_format(path: Path, lines: list[Line]) -> str:
    first = lines[0]
    if SEMEVAL_TEXT.fullmatch(first.text.strip(BLANKS)):
        return "semeval"
    rows = [line.text.split("\t") for line in lines if not line.text.startswith("#")]
    if rows and all(len(row) == CONLLU_COLUMNS and row[0][:1].isdigit() for row in rows):
        return "conllu"
    with suppress(FormatError):
        if is_label_studio(first):
            return "csv"  # its reader says what to do
        find_columns(first)
        return "csv"
    lines = [line for line in lines if not (is_comment(line) or line.text.startswith(DOCUMENT_MARK))]
    # Ranges of words need no tags.
    cells = [split_columns(line) for line in lines if not is_range(line)] or list(map(split_columns, lines))
    width = max(map(len, cells), key=[len(row) for row in cells].count, default=0)
    if width < 2:
        raise _unknown(path, "plain text", "offsets", f"a text needs its annotation; {NOT_ANNOTATED}")
    columns = Columns(lines[0])
    for row in cells:
        if len(row) == width:
            columns.add(row)
    if columns.has_tags(columns.tag_column(width)):
        return "conll"
    best = max(range(width), key=lambda i: columns.tags[i])
    if columns.has_tags(best):
        reason = f"the tags are in column {best}: give --format conll --column {best}"
    else:
        last = next(row[-1] for row in cells if len(row) == width)
        reason = f"no column has tags such as B-PER and O; the last one has {short_repr(last)}; {NOT_ANNOTATED}"
    raise _unknown(path, f"columns, {width} on most lines", "conll", reason)
