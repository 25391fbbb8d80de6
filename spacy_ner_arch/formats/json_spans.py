"""Formats `spans` and `spert`: JSON with tokens, spans that may overlap, and relations between the spans."""

import json
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from reprlib import repr as short_repr
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

from .counts import ReadReport, Repair
from .lines import BLANKS, FormatError, Line, read_lines
from .sentence import LabelledSpan, Sentence

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
DUPLICATE = "duplicate span, kept once"
DUPLICATE_RELATION = "duplicate relation, kept once"

# Half of a character. JSON can escape it.
SURROGATE = re.compile("[\ud800-\udfff]")
# Types of pydantic errors that are not about one value.
WITHOUT_VALUE = ("missing", "value_error")

M = TypeVar("M", bound=BaseModel)


def first_three(item: Any) -> Any:
    """Drop the other items of a list."""
    return item[:3] if isinstance(item, list) else item


def from_keys(*keys: str) -> BeforeValidator:
    """Validator that converts an object with these keys to a list of their values."""

    def convert(item: Any) -> list[Any]:
        if not isinstance(item, dict) or not set(keys) <= set(item):
            raise ValueError(f"{short_repr(item)} is not an object with {', '.join(keys)}")
        return [item[key] for key in keys]

    return BeforeValidator(convert)


def check_text(text: str) -> str:
    """Raise ValueError for a text that UTF-8 cannot encode."""
    if SURROGATE.search(text):
        raise ValueError(f"{short_repr(text)} has half of a character (a lone surrogate)")
    return text


def check_token(token: str) -> str:
    """Raise ValueError for a token that is empty or blank."""
    if not token.strip(BLANKS):
        raise ValueError("the token is empty")
    return token


def check_label(label: str) -> str:
    """Raise ValueError for an empty label."""
    if not label:
        raise ValueError("the label is empty")
    return label


Text = Annotated[StrictStr, AfterValidator(check_text)]
Label = Annotated[Text, AfterValidator(check_label)]
Triple = tuple[StrictInt, StrictInt, Label]


class Record(BaseModel):
    """A sentence with tokens, spans and relations."""

    tokens: list[Annotated[Text, AfterValidator(check_token)]] = Field(min_length=1)
    spans: list[Triple]
    relations: list[Triple] | None = None

    @model_validator(mode="after")
    def check_bounds(self) -> "Record":
        """Check the spans against the tokens, and the relations against the spans."""
        n_tokens, n_spans = len(self.tokens), len(self.spans)
        for start, end, label in self.spans:
            if not 0 <= start < end <= n_tokens:
                raise ValueError(f"the span {[start, end, label]} is empty or outside of the {n_tokens} tokens")
        for head, tail, label in self.relations or ():
            if not (0 <= head < n_spans and 0 <= tail < n_spans):
                raise ValueError(f"the relation {[head, tail, label]} has an argument outside of the {n_spans} spans")
        return self


class SpansRecord(Record):
    """A line of the format `spans`."""

    spans: list[Annotated[Triple, BeforeValidator(first_three)]]
    spaces: list[StrictBool] | None = None
    doc: Any = None

    @model_validator(mode="after")
    def check_spaces(self) -> "SpansRecord":
        """Check the number of spaces."""
        if self.spaces is not None and len(self.spaces) != len(self.tokens):
            raise ValueError(f"{len(self.spaces)} spaces for {len(self.tokens)} tokens")
        return self


class SpertRecord(Record):
    """An object of the format `spert`."""

    spans: list[Annotated[Triple, from_keys("start", "end", "type")]] = Field(alias="entities")
    relations: list[Annotated[Triple, from_keys("head", "tail", "type")]]


def read_spans(path: str | Path, report: ReadReport, *, on_error: str = "raise") -> Iterator[list[Sentence]]:
    """Read JSON lines, one sentence a line, such as {"tokens": ["New", "York"], "spans": [[0, 2, "LOC"]]}.

    A span is [start, end, label] in tokens, with exclusive end; further items are ignored. Spans may overlap and share
    their bounds: all are in `Sentence.nested`, and `Sentence.spans` has the outermost ones, see `widest_apart`.

    "relations" lists relations as [head, tail, label], where head and tail are positions in the list of spans. An empty
    list means that there are none; without the key, relations are not annotated. Duplicate spans and relations are
    kept once and counted as repairs.

    Consecutive lines with the same "doc" are one document. A line without it is a document of its own. "spaces" states
    whether a space follows each token. Other keys are ignored.

    Arguments, results and errors are those of all readers, see `docs`.
    """
    for _, lines in groupby(_read_sentences(path, report, on_error), key=itemgetter(0)):
        document = [sentence for _, sentence in lines]
        report.documents += 1
        yield document


def _read_sentences(path: str | Path, report: ReadReport, on_error: str) -> Iterator[tuple[Any, Sentence]]:
    """Yield the document of each sentence, and the sentence. Without one, yield an object that equals no other."""
    for line in read_lines(path):
        if line.text.strip(BLANKS):
            with report.skipping(on_error):
                record = validate(SpansRecord, parse_json(line, REMEDY), partial(line.error, remedy=REMEDY))
                sentence, repairs = _make_sentence(line, record, record.spaces)
                report.add(sentence, repairs)
                yield (object() if record.doc is None else record.doc), sentence


def read_spert(path: str | Path, report: ReadReport, *, on_error: str = "raise") -> Iterator[list[Sentence]]:
    """Read a JSON list of objects with "tokens", "entities" and "relations", as SPERT_REMEDY shows.

    An entity is {"type", "start", "end"} in tokens, with exclusive end. A relation is {"type", "head", "tail"}, where
    head and tail are positions in the list of entities. Other keys are ignored. Each object is a document of one
    sentence. Entities may overlap, so they are read like the spans of `read_spans`, also if none of them overlap.
    Spaces are unknown: spaCy trains on these tokens.

    Arguments, results and errors are those of all readers, see `docs`. The file is read into memory. If it is not a
    JSON list, FormatError is raised also with on_error = "skip". The line number of an error in an object is the
    position of the object in the list, from 1.
    """
    path = Path(path)
    for number, item in enumerate(_load_list(path), start=1):
        with report.skipping(on_error):
            line = Line(path, number, json.dumps(item))
            record = validate(SpertRecord, item, partial(_spert_error, line))
            sentence, repairs = _make_sentence(line, record)
            report.documents += 1
            report.add(sentence, repairs)
            yield [sentence]


def _spert_error(line: Line, reason: str) -> FormatError:
    return line.error(f"object {line.number}: {reason}", SPERT_REMEDY)


def _load_list(path: Path) -> list[Any]:
    content = path.read_bytes().removeprefix(BOM_UTF8)
    lines = content.decode("utf-8", errors="backslashreplace").split("\n")

    def fail(number: int, reason: str, remedy: str = SPERT_FILE_REMEDY) -> FormatError:
        return FormatError(path, number, lines[number - 1], reason, remedy)

    try:
        items = json.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise fail(number, "the line is not UTF-8", "convert the file to UTF-8") from error
    except (ValueError, RecursionError) as error:
        # Only errors of JSON syntax have a line number.
        raise fail(getattr(error, "lineno", 1), f"invalid JSON: {error}") from error
    if not isinstance(items, list):
        raise fail(1, "the file is not a JSON list")
    return items


def parse_json(line: Line, remedy: str) -> Any:
    """Parse a line as JSON. Raise FormatError with the remedy if that fails."""
    line.check()
    try:
        return json.loads(line.text)
    except (ValueError, RecursionError) as error:
        raise line.error(f"invalid JSON: {error}", remedy) from error


def validate(model: type[M], value: Any, fail: Callable[[str], FormatError]) -> M:
    """Validate parsed JSON. If it does not match the model, raise the error that `fail` makes of the reason."""
    if not isinstance(value, dict):
        raise fail("not a JSON object")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else part for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        if first["type"] not in WITHOUT_VALUE:
            reason += f" (found {short_repr(first['input'])})"
        raise fail(f"{place}: {reason}" if place else reason) from error


def _make_sentence(line: Line, record: Record, spaces: list[bool] | None = None) -> tuple[Sentence, list[Repair]]:
    spans = list(dict.fromkeys(record.spans))
    repairs = [(line, DUPLICATE)] * (len(record.spans) - len(spans))
    relations = None
    if record.relations is not None:
        pairs = [(record.spans[head], record.spans[tail], label) for head, tail, label in record.relations]
        relations = list(dict.fromkeys(pairs))
        repairs += [(line, DUPLICATE_RELATION)] * (len(pairs) - len(relations))
    return Sentence(record.tokens, spaces, widest_apart(spans), nested=spans, relations=relations), repairs


def widest_apart(spans: list[LabelledSpan]) -> list[LabelledSpan]:
    """Select spans that do not overlap, the widest first; of equally wide ones the first by start, end and label.

    Returns the selected spans, sorted.
    """
    selected: list[LabelledSpan] = []
    taken: set[int] = set()
    for start, end, label in sorted(spans, key=lambda span: (span[0] - span[1], span)):
        if taken.isdisjoint(range(start, end)):
            taken.update(range(start, end))
            selected.append((start, end, label))
    return sorted(selected)
