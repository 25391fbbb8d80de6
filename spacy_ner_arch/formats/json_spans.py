"""Formats `spans` and `spert`: JSON with tokens, spans that may overlap, and relations between the spans."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Annotated, ClassVar, TypeVar

from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr, model_validator

from .counts import ReadReport
from .json_files import read_items, read_list
from .lines import Line
from .records import Record, Text, Triple, check_bounds, read_records
from .sentence import Sentence
from .spans import make_sentence, trim_spans

REMEDY = (
    'write {"tokens": ["New", "York"], "spans": [[0, 2, "LOC"]]}, each span as [start, end, label], counted in tokens '
    'from 0, the end exclusive, [] if there is none; relations, if any, as "relations": [[head, tail, label]], where '
    "head and tail are positions in the list of spans, from 0"
)
SPERT_REMEDY = (
    'write a list of objects such as {"tokens": ["Ada", "left", "Tarn"], "entities": [{"type": "PER", "start": 0, '
    '"end": 1}, {"type": "LOC", "start": 2, "end": 3}], "relations": [{"type": "left", "head": 0, "tail": 1}]}, '
    "start and end counted in tokens, the end exclusive, head and tail as positions in the list of entities, from 0; "
    "[] if there is none"
)
SPERT_FILE_REMEDY = "give one JSON list of objects; for a file with one object a line, use the format spans"

R = TypeVar("R", bound="TokensRecord")


def check_token(token: str) -> str:
    """Raise ValueError for an empty token. White space can be a token: spaCy's tokenizer makes such tokens."""
    if not token:
        raise ValueError("the token is empty")
    return token


Token = Annotated[Text, AfterValidator(check_token)]


class TokensRecord(Record):
    """A sentence with tokens."""

    tokens: list[Token] = Field(min_length=1)

    @model_validator(mode="after")
    def check_bounds(self) -> "TokensRecord":
        """Check the spans against the tokens, and the relations against the spans."""
        check_bounds(self.spans, self.relations, len(self.tokens))
        return self


class SpansRecord(TokensRecord):
    """A line of the format `spans`."""

    annotation_keys: ClassVar = ("spans",)
    spaces: list[StrictBool] | None = None
    doc: StrictStr | StrictInt | None = None

    @model_validator(mode="after")
    def check_spaces(self) -> "SpansRecord":
        """Check the number of spaces."""
        if self.spaces is not None and len(self.spaces) != len(self.tokens):
            raise ValueError(f"{len(self.spaces)} spaces for {len(self.tokens)} tokens")
        return self


class SpertRecord(TokensRecord):
    """An object of the format `spert`."""

    annotation_keys: ClassVar = ("entities",)
    relations: list[Triple]


def read_spans(path: str | Path, report: ReadReport, *, on_error: str = "raise") -> Iterator[list[Sentence]]:
    """Read sentences such as {"tokens": ["New", "York"], "spans": [[0, 2, "LOC"]]}, one on each line or in a list.

    A span is [start, end, label] in tokens, with exclusive end, or an object with these keys. Spans may overlap and
    share their bounds: all are in `Sentence.nested`, and `Sentence.spans` has the outermost ones, see
    `spans.widest_apart`. White space at the ends of a span is trimmed.

    "relations" lists relations as [head, tail, label], where head and tail are positions in the list of spans, or as
    objects, see `records.relation_values`. An empty list means that there are none; without the key, relations are not
    annotated. Duplicate spans and relations are kept once and counted.

    Consecutive lines with the same "doc", a string or a whole number, are one document. A line without it is a document
    of its own. "spaces" states whether a space follows each token. Other keys are counted.

    Arguments, results and errors are those of all readers, see `readers.py`.
    """
    sentences = _read_sentences(read_items(path, REMEDY), SpansRecord, REMEDY, report, on_error)
    for _, group in groupby(sentences, key=lambda item: object() if item[0].doc is None else item[0].doc):
        report.documents += 1
        yield [replace(sentence, spaces=record.spaces, document=record.doc) for record, sentence in group]


def read_spert(path: str | Path, report: ReadReport, *, on_error: str = "raise") -> Iterator[list[Sentence]]:
    """Read a JSON list of objects with "tokens", "entities" and "relations", as SPERT_REMEDY shows.

    An entity is {"type", "start", "end"} in tokens, with exclusive end. A relation is {"type", "head", "tail"}, where
    head and tail are positions in the list of entities. Other keys are counted. Each object is a document of one
    sentence. Entities may overlap, so they are read like the spans of `read_spans`, also if none of them overlap.
    Spaces are unknown: spaCy trains on these tokens.

    Arguments, results and errors are those of all readers, see `readers.py`. The file is read into memory. If it is not
    a JSON list, FormatError is raised also with on_error = "skip".
    """
    for _, sentence in _read_sentences(
        read_list(Path(path), SPERT_FILE_REMEDY), SpertRecord, SPERT_REMEDY, report, on_error
    ):
        report.documents += 1
        yield [sentence]


def _read_sentences(
    lines: Iterable[Line], record_type: type[R], remedy: str, report: ReadReport, on_error: str
) -> Iterator[tuple[R, Sentence]]:
    for line, record in read_records(lines, record_type, remedy, report, on_error):
        spans, notes = trim_spans(line, record.spans, record.tokens)
        sentence, more_notes = make_sentence(line, record.tokens, spans, record.relations)
        report.add(sentence, notes + more_notes)
        yield record, sentence
