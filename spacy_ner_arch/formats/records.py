"""JSON records of annotated texts: parsing, validation, and the sentences that they describe."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from reprlib import repr as short_repr
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, BaseModel, StrictInt, StrictStr, ValidationError, model_validator

from .counts import Note, ReadReport
from .lines import Line
from .sentence import LabelledPair, LabelledSpan, Sentence

# What annotation tools call the list of entities.
ANNOTATION_KEYS = ("entities", "ents", "label", "labels", "spans")
REJECTED = ("reject", "ignore")

DUPLICATE = "repaired: duplicate span, kept once"
DUPLICATE_RELATION = "repaired: duplicate relation, kept once"
TRIMMED = "repaired: white space at the ends of a span, trimmed"
BLANK = "left out: span of white space"
RELATION_LEFT_OUT = "left out: relation with an argument that is left out"
REJECTED_RECORD = "left out: texts that the annotator rejected or ignored"

# Half of a character. JSON can escape it.
SURROGATE = re.compile("[\ud800-\udfff]")
# Types of pydantic errors that are not about one value.
WITHOUT_VALUE = ("missing", "value_error")


def check_text(text: str) -> str:
    """Raise ValueError for a text that UTF-8 cannot encode."""
    if SURROGATE.search(text):
        raise ValueError(f"{short_repr(text)} has half of a character (a lone surrogate)")
    return text


def check_label(label: str) -> str:
    """Raise ValueError for an empty label."""
    if not label:
        raise ValueError("the label is empty")
    return label


Text = Annotated[StrictStr, AfterValidator(check_text)]
Label = Annotated[Text, AfterValidator(check_label)]
Triple = tuple[StrictInt, StrictInt, Label]


class Record(BaseModel):
    """An annotated text: spans, and relations between them, whose arguments are positions in the list of spans."""

    annotation_keys: ClassVar[tuple[str, ...]]
    """Keys of the spans that the format knows; each record has one of them."""

    spans: list[Triple]
    relations: list[Triple] | None = None

    @property
    def units(self) -> Sequence[str]:
        """What the bounds of spans count: tokens or characters."""
        raise NotImplementedError

    @model_validator(mode="before")
    @classmethod
    def check_keys(cls, record: dict[str, Any]) -> dict[str, Any]:
        """Check that exactly one key has the spans, so that none are ignored. A key with null counts as absent."""
        given = {key: value for key, value in record.items() if value is not None or key not in ANNOTATION_KEYS}
        found = [key for key in ANNOTATION_KEYS if key in given]
        if len(found) != 1 or found[0] not in cls.annotation_keys:
            known = " or ".join(cls.annotation_keys)
            raise ValueError(
                f"the annotation must be under one key, {known}, but is under {' and '.join(found) or 'none'}; "
                f"the keys are {', '.join(map(str, record)) or 'missing'}"
            )
        return given

    @model_validator(mode="after")
    def check_bounds(self) -> "Record":
        """Check the spans against the text, and the relations against the spans."""
        length, n_spans = len(self.units), len(self.spans)
        unit = "characters" if isinstance(self.units, str) else "tokens"
        for start, end, label in self.spans:
            if not 0 <= start < end <= length:
                raise ValueError(f"the span {[start, end, label]} is empty or outside of the {length} {unit}")
        for head, tail, label in self.relations or ():
            if not (0 <= head < n_spans and 0 <= tail < n_spans):
                raise ValueError(f"the relation {[head, tail, label]} has an argument outside of the {n_spans} spans")
        return self

    @classmethod
    def known_keys(cls) -> set[str]:
        """Keys that are read."""
        return {"answer", *cls.annotation_keys, *(field.alias or name for name, field in cls.model_fields.items())}

    def trim(self, line: Line) -> tuple[list[LabelledSpan | None], list[Note]]:
        """Spans without white space at their ends; None for those of nothing else."""
        spans: list[LabelledSpan | None] = []
        notes: list[Note] = []
        for span in self.spans:
            start, end, label = span
            while start < end and self.units[start].isspace():
                start += 1
            while start < end and self.units[end - 1].isspace():
                end -= 1
            spans.append((start, end, label) if start < end else None)
            if spans[-1] != span:
                notes.append(Note(line, BLANK if spans[-1] is None else TRIMMED, str(list(span))))
        return spans, notes


R = TypeVar("R", bound=Record)


def read_records(
    lines: Iterable[Line], record_type: type[R], remedy: str, report: ReadReport, on_error: str
) -> Iterator[tuple[Line, R]]:
    """Yield the records of JSON lines, and their lines.

    Records with "answer": "reject" or "ignore", as Prodigy writes them, are left out and counted.

    Raises FormatError with the remedy for a malformed line, unless on_error is "skip".
    """
    for line in lines:
        with report.skipping(on_error):
            value = parse_json(line, remedy)
            if not isinstance(value, dict):
                raise line.error("not a JSON object", remedy)
            answer = value.get("answer", "accept")
            if answer in REJECTED:
                report.note(Note(line, REJECTED_RECORD, answer))
                continue
            if answer != "accept":
                raise line.error(
                    f"the answer is {short_repr(answer)}",
                    "answer states whether an annotator accepts the text: accept, reject or ignore",
                )
            record = validate(record_type, value, line, remedy)
            report.unread_keys.update(value.keys() - record_type.known_keys())
            yield line, record


def parse_json(line: Line, remedy: str) -> Any:
    """Parse a line as JSON. Raise FormatError with the remedy if that fails, or if an object has a key twice."""
    line.check()
    try:
        return json.loads(line.text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise line.error(f"invalid JSON: {error}", remedy) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {short_repr(max(keys, key=keys.count))} is there twice")
    return value


def validate(record_type: type[R], value: dict[str, Any], line: Line, remedy: str) -> R:
    """Validate a JSON object. Raise FormatError with the remedy if it does not match the type."""
    try:
        return record_type.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else part for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        if first["type"] not in WITHOUT_VALUE:
            reason += f" (found {short_repr(first['input'])})"
        raise line.error(f"{place}: {reason}" if place else reason, remedy) from error
    except RecursionError as error:
        raise line.error("nested too deeply", remedy) from error


def make_sentence(
    line: Line,
    words: list[str],
    spans: Sequence[LabelledSpan | None],
    relations: Sequence[tuple[int, int, str]] | None,
    spaces: list[bool] | None = None,
    missing: Iterable[int] = (),
) -> tuple[Sentence, list[Note]]:
    """Make a sentence of spans that may overlap, and relations between them.

    All spans become `Sentence.nested`, those that `widest_apart` selects also the entities.

    words, spaces: see `Sentence`.
    spans: spans in tokens; None for those that are left out.
    relations: [head, tail, label], where head and tail are positions in the list of spans, or None.
    missing: tokens without annotation, except those in entities.
    Returns the sentence, and notes on duplicates and on relations that lose an argument.
    """
    kept = list(dict.fromkeys(span for span in spans if span is not None))
    notes = [Note(line, DUPLICATE)] * (len(spans) - spans.count(None) - len(kept))
    pairs: list[LabelledPair] | None = None
    if relations is not None:
        pairs = []
        for head_index, tail_index, label in relations:
            head, tail = spans[head_index], spans[tail_index]
            if head is None or tail is None:
                notes.append(Note(line, RELATION_LEFT_OUT, str([head_index, tail_index, label])))
            else:
                pairs.append((head, tail, label))
        unique = list(dict.fromkeys(pairs))
        notes += [Note(line, DUPLICATE_RELATION)] * (len(pairs) - len(unique))
        pairs = unique
    entities = widest_apart(kept)
    outside = set(missing).difference(*(range(start, end) for start, end, _ in entities))
    return Sentence(words, spaces, entities, sorted(outside), nested=kept, relations=pairs, line=line), notes


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
