"""Rows with tokens and tags: format `datasets` (JSON, Parquet and Arrow files of Hugging Face) and format `csv`."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from reprlib import repr as short_repr
from typing import Any, NamedTuple

from pydantic import AliasChoices, BaseModel, Field, StrictInt, StrictStr, ValidationError, model_validator

from .counts import Note, ReadReport
from .json_files import read_items
from .json_spans import Token
from .lines import BLANKS, FormatError, Line, read_lines
from .records import Source, parse_json, validate
from .sentence import Sentence
from .source_tags import MISSING_TAG, Tag, detect_scheme, parse_tag, tag_remedy
from .spans import make_tagged_sentence
from .texts import EMPTY

PARQUET, ARROW = ".parquet", ".arrow"
# The number that tells a loss function of torch to ignore a token.
IGNORED = -100

REMEDY = (
    'write {"tokens": ["Ada", "left"], "ner_tags": ["B-PER", "O"]} for each sentence, as JSON or Parquet; for numbers, '
    "give the names of the tags with --tag-names"
)
NAMES_REMEDY = (
    "give the names of the tags in the order of their numbers, such as --tag-names O,B-PER,I-PER, or put the "
    "dataset_info.json of the data set beside the file"
)
TOKEN_COLUMNS = ("token", "tokens", "word", "words", "form", "text")
TAG_COLUMNS = ("ner_tags", "ner_tag", "ner", "tag", "tags", "label", "labels", "entity")
SENTENCE_COLUMNS = ("sentence #", "sentence_id", "sentence_idx", "sentence", "sent_id")
CSV_REMEDY = (
    f"the first line names the columns: the token (one of {', '.join(TOKEN_COLUMNS)}), its tag "
    f"({', '.join(TAG_COLUMNS)}) and, if there is one, the number of the sentence ({', '.join(SENTENCE_COLUMNS)}); "
    "without it, empty lines separate sentences"
)


class TaggedTokens(NamedTuple):
    """A sentence: its words and tags, and the line of each word."""

    lines: Sequence[Line]
    words: Sequence[str]
    tags: Sequence[Tag]


def _sentences(found: Sequence[TaggedTokens], report: ReadReport) -> Iterator[list[Sentence]]:
    """Decode the tags of a file in the scheme of most of them. Each sentence is a document."""
    scheme = detect_scheme(sentence.tags for sentence in found)
    report.schemes[scheme] += 1
    for lines, words, tags in found:
        sentence, notes = make_tagged_sentence(lines, words, tags, scheme)
        report.documents += 1
        report.add(sentence, notes)
        yield [sentence]


# Hugging Face datasets


class TaggedRow(Source):
    """A row of a data set."""

    tokens: list[Token] = Field(validation_alias=AliasChoices("tokens", "words"))
    tags: list[StrictInt | StrictStr] = Field(validation_alias=AliasChoices("ner_tags", "ner", "tags", "labels"))

    @model_validator(mode="after")
    def check_length(self) -> "TaggedRow":
        """Check the number of tags."""
        if len(self.tokens) != len(self.tags):
            raise ValueError(f"{len(self.tags)} tags for {len(self.tokens)} tokens")
        return self


def read_datasets(
    path: str | Path, report: ReadReport, *, tag_names: Sequence[str] = (), on_error: str = "raise"
) -> Iterator[list[Sentence]]:
    """Read sentences with "tokens" and "ner_tags", as Hugging Face datasets have them: JSON, Parquet or Arrow.

    Tags are strings in any scheme that `source_tags.py` knows, or numbers. The names of the numbers are those that are
    given, those in a Parquet or Arrow file, or those of a file dataset_info.json beside it. The number -100 and the tag
    - mean that a token is not annotated. Other columns are counted. Each row is a document of one sentence.

    tag_names: names of the tags in the order of their numbers.
    Other arguments, results and errors are those of all readers, see `readers.py`. The extra `parquet` reads Parquet
    and Arrow files; without it, ImportError is raised.
    """
    path = Path(path)
    names: Sequence[str] | None = None
    found = []
    for line, columns in read_rows(path, REMEDY):
        with report.skipping(on_error):
            value = parse_json(line, REMEDY) if columns is None else columns
            if not isinstance(value, dict):
                raise line.error("not a JSON object", REMEDY)
            row = validate(TaggedRow, value, line, REMEDY)
            if names is None:
                names = tag_names or _find_names(path)
            tags = [_read_tag(tag, names, line) for tag in row.tags]
            report.unread_keys.update(value.keys() - TaggedRow.known_keys())
            if tags:
                found.append(TaggedTokens([line] * len(tags), row.tokens, tags))
            else:
                report.note(Note(line, EMPTY))
    yield from _sentences(found, report)


def read_rows(path: Path, remedy: str) -> Iterator[tuple[Line, dict[str, Any] | None]]:
    """Yield the rows of a Parquet or Arrow file; of a JSON file, the texts of its values, and None.

    The number of a row of Parquet and Arrow takes the place of the number of a line.
    """
    if path.suffix not in (PARQUET, ARROW):
        yield from ((line, None) for line in read_items(path, remedy))
        return
    number = 0
    with _open_arrow(path) as (_, batches):
        for batch in batches:
            # A damaged Arrow file would crash the interpreter.
            batch.validate(full=True)
            for row in batch.to_pylist():
                number += 1
                yield Line(path, number, short_repr(row), part="row"), row


@contextmanager
def _open_arrow(path: Path) -> Iterator[tuple[Any, Iterable[Any]]]:
    """Open a Parquet or Arrow file: its schema and its batches of rows."""
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise ImportError(f"{path} needs pyarrow: pip install 'spacy-ner-arch[parquet]'") from error
    try:
        if path.suffix == PARQUET:
            with ParquetFile(path) as file:
                yield file.schema_arrow, file.iter_batches()
        else:
            with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
                yield stream.schema, stream
    except (pa.ArrowException, OSError, ValueError) as error:
        raise FormatError(path, 1, "", f"pyarrow cannot read the file: {error}", "write the file again") from error


def _find_names(path: Path) -> Sequence[str]:
    """Names of the tags in the description of a data set, in an Arrow or Parquet file or beside a file."""
    beside = path.with_name("dataset_info.json")
    descriptions: list[bytes] = [beside.read_bytes()] if beside.is_file() else []
    if path.suffix in (PARQUET, ARROW):
        with _open_arrow(path) as (schema, _):
            descriptions.insert(0, (schema.metadata or {}).get(b"huggingface", b"{}"))
    keys = TaggedRow.model_fields["tags"].validation_alias
    assert isinstance(keys, AliasChoices)
    for description in descriptions:
        try:
            features = _Description.model_validate_json(description).all_features
        except ValidationError as error:
            reason = f"the description of the data set is not one of Hugging Face: {error.errors()[0]['msg']}"
            raise FormatError(path, 1, "", reason, NAMES_REMEDY) from error
        for key in keys.choices:
            feature = features.get(str(key))
            names = feature and (feature.names or (feature.feature and feature.feature.names))
            if names:
                return names
    return ()


class _Feature(BaseModel):
    """The type of a column, or of the items of its lists."""

    names: list[str] | None = None
    feature: "_Feature | None" = None


class _Description(BaseModel):
    """The description of a data set; in a file of rows, it is under the key info."""

    features: dict[str, _Feature] | None = None
    info: "_Description | None" = None

    @property
    def all_features(self) -> dict[str, _Feature]:
        return self.features or (self.info.all_features if self.info else {})


def _read_tag(tag: int | str, names: Sequence[str], line: Line) -> Tag:
    if tag == IGNORED:
        return MISSING_TAG
    if isinstance(tag, int) and not names:
        raise line.error(f"the tag {tag} is a number without a name", NAMES_REMEDY)
    if isinstance(tag, int):
        if not 0 <= tag < len(names):
            raise line.error(f"there is no name for the tag {tag}, only for {len(names)} tags from 0", NAMES_REMEDY)
        tag = names[tag]
    parsed = parse_tag(tag)
    if parsed is None:
        raise line.error(f"{tag!r} is not an entity tag", tag_remedy())
    return parsed


# CSV


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
    columns = find_columns(header)
    found = []
    for rows in _group_rows(lines, columns):
        with report.skipping(on_error):
            found.append(_read_rows(rows, columns))
    yield from _sentences(found, report)


def find_columns(header: Line) -> Columns:
    """Find the separator and the columns of a CSV file in its first line. Raise FormatError if one is missing."""
    header.check()
    separator = max(",;\t", key=header.text.count)
    names = [cell.strip().lower() for cell in _cells(header, separator)]

    def find(known: Sequence[str]) -> int | None:
        return next((names.index(name) for name in known if name in names), None)

    token, tag = find(TOKEN_COLUMNS), find(TAG_COLUMNS)
    if token is None or tag is None:
        missing = "token" if token is None else "tag"
        raise header.error(f"none of the columns {', '.join(map(short_repr, names))} is the {missing}", CSV_REMEDY)
    return Columns(separator, len(names), token, tag, find(SENTENCE_COLUMNS))


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
        words.append(word)
        tags.append(_read_tag(cells[columns.tag].strip(BLANKS), (), line))
    return TaggedTokens(lines, words, tags)
