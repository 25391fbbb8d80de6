"""JSON records of annotated texts: parsing and validation."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from reprlib import repr as short_repr
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    Field,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

from .counts import Note, ReadReport
from .fields import unread_keys
from .lines import FormatError, Line

# Keys of the list of entities in annotation tools.
ANNOTATION_KEYS = ("entities", "ents", "label", "labels", "spans")
# Keys that validators add to a record.
ADDED_KEYS = ("_shows_unit", "_kept_fields", "_rejected", "_left_out")
REJECTED = {
    "reject": "left out: texts that the annotator rejected",
    "ignore": "left out: texts that the annotator ignored",
}

# Half of a character. JSON can escape it.
SURROGATE = re.compile("[\ud800-\udfff]")
# Types of pydantic errors that are not about one value.
WITHOUT_VALUE = ("missing", "value_error")


def check_text(text: str) -> str:
    """Raise ValueError for a text that UTF-8 cannot encode."""
    if SURROGATE.search(text):
        raise ValueError(f"{short_repr(text)} has half of a character (a lone surrogate)")
    return text


def text_of(text: str, line: Line, remedy: str) -> str:
    """Return the text. Raise FormatError for one that UTF-8 cannot encode."""
    try:
        return check_text(text)
    except ValueError as error:
        raise line.error(str(error), remedy) from error


def check_label(label: str) -> str:
    """Raise ValueError for a label that is empty or white space."""
    if not label.strip():
        raise ValueError("the label is empty")
    return label


Text = Annotated[StrictStr, AfterValidator(check_text)]
Label = Annotated[Text, AfterValidator(check_label)]
Triple = tuple[StrictInt, StrictInt, Label]


def entity_values(item: Any) -> Any:
    """Convert an entity to [start, end, label], from a list, whose further items are ignored, or an object.

    Objects of Doccano have start_offset and end_offset; those of SpERT have type for label.
    """
    if isinstance(item, dict):
        keys = ("start", "start_offset"), ("end", "end_offset"), ("label", "type")
        return [item.get(key, item.get(other)) for key, other in keys]
    return item[:3] if isinstance(item, list) else item


def entity_id(item: Any) -> Any:
    """The id of an entity that is given as an object."""
    return item.get("id") if isinstance(item, dict) else None


def relation_values(items: list[Any], entities: list[Any]) -> list[Any]:
    """Convert relations given as objects to lists [head, tail, label] with positions in the list of entities.

    Their arguments are "head" and "tail", positions or objects with bounds and label of an entity; "from_id" and
    "to_id", ids of entities (Doccano); or "head_span" and "child_span", such objects (Prodigy, whose "head" and "child"
    count tokens).
    Raises ValueError if an argument is not exactly one of the entities.
    """

    @cache
    def places(describe: Callable[[Any], Any]) -> dict[Any, list[int]]:
        found = defaultdict(list)
        for i, entity in enumerate(entities):
            found[as_key(describe(entity))].append(i)
        return found

    def find(item: dict[str, Any], key: str, describe: Callable[[Any], Any]) -> int:
        value = item[key] if describe is entity_id else describe(item[key])
        found = places(describe).get(as_key(value), [])
        if value is None or not found:
            raise ValueError(f"the relation {short_repr(item)}: {key} is none of the {len(entities)} entities")
        if describe is entity_id and len(found) > 1:
            raise ValueError(f"the relation {short_repr(item)}: {key} is the id of several entities")
        return found[0]

    def convert(item: Any) -> Any:
        if not isinstance(item, dict):
            return item
        arguments = [
            find(item, key, entity_values) if isinstance(item.get(key), dict) else item.get(key)
            for key in ("head", "tail")
        ]
        for keys, describe in ((("from_id", "to_id"), entity_id), (("head_span", "child_span"), entity_values)):
            if item.keys() >= set(keys):
                arguments = [find(item, key, describe) for key in keys]
        return [*arguments, item.get("label", item.get("type"))]

    return [convert(item) for item in items]


def as_key(value: Any) -> Any:
    """A JSON value as a key of a dictionary; 1 and 1.0 are the same."""
    if isinstance(value, list):
        return tuple(map(as_key, value))
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else value


class Source(BaseModel):
    """The JSON value of an annotated text, with the keys of its format."""

    @classmethod
    def known_keys(cls) -> set[str]:
        """Keys that are read."""
        keys = {"answer"}
        for name, field in cls.model_fields.items():
            alias = field.validation_alias
            keys.update(map(str, alias.choices) if isinstance(alias, AliasChoices) else [str(alias or name)])
        return keys

    @classmethod
    def why_left_out(cls, value: dict[str, Any]) -> str | None:
        """The kind of the note for a value that is left out before it is checked; None for one that is read."""
        return None

    @classmethod
    def withdrawal(cls, value: dict[str, Any]) -> dict[str, Any] | None:
        """A rejected or ignored value without its annotation, if this withdraws earlier annotations; else None."""
        return None


class Record(Source):
    """An annotated text: spans, and relations between them, whose arguments are positions in the list of spans."""

    annotation_keys: ClassVar[tuple[str, ...]]
    """Keys of the spans that the format knows; each record has one of them."""

    spans: list[Annotated[Triple, BeforeValidator(entity_values)]] = Field(
        validation_alias=AliasChoices(*ANNOTATION_KEYS)
    )
    relations: list[Triple] | None = None

    @model_validator(mode="before")
    @classmethod
    def check_keys(cls, record: dict[str, Any]) -> dict[str, Any]:
        """Check that exactly one key has the spans, so that none are ignored, and convert relations that are objects.

        A key with null counts as absent.
        """
        given = {key: value for key, value in record.items() if value is not None or key not in ANNOTATION_KEYS}
        found = [key for key in ANNOTATION_KEYS if key in given]
        if len(found) != 1 or found[0] not in cls.annotation_keys:
            known = ", ".join(cls.annotation_keys)
            keys = ", ".join(short_repr(key) for key in record if key not in ADDED_KEYS)
            raise ValueError(
                f"the annotation belongs under exactly one key ({known}); found {' and '.join(found) or 'none'} "
                f"among the keys {keys or '(none)'}"
            )
        entities, relations = given[found[0]], given.get("relations")
        if isinstance(entities, list) and isinstance(relations, list):
            given["relations"] = relation_values(relations, entities)
        return given

    @classmethod
    def known_keys(cls) -> set[str]:
        """Keys that are read."""
        return super().known_keys() - set(ANNOTATION_KEYS) | set(cls.annotation_keys)


def check_bounds(
    spans: Iterable[Triple | None], relations: Iterable[Triple] | None, length: int, unit: str = "tokens"
) -> None:
    """Raise ValueError for a span outside of a text, and for the relations of `check_relations`.

    spans: [start, end, label], or None for a span that is left out.
    relations: [head, tail, label], where head and tail are positions among the spans.
    length: length of the text, in the unit.
    """
    spans = list(spans)
    for span in spans:
        if span is not None and not 0 <= span[0] < span[1] <= length:
            raise ValueError(f"the span {list(span)} is empty or outside of the {length} {unit}")
    check_relations(relations, len(spans))


def check_relations(relations: Iterable[Triple] | None, n_spans: int) -> None:
    """Raise ValueError for a relation with an argument that is not one of the spans."""
    for head, tail, label in relations or ():
        if not (0 <= head < n_spans and 0 <= tail < n_spans):
            raise ValueError(f"the relation {[head, tail, label]} has an argument outside of the {n_spans} spans")


R = TypeVar("R", bound=Source)


def read_records(
    lines: Iterable[Line],
    record_type: type[R],
    remedy: str,
    report: ReadReport,
    on_error: str,
    as_object: Callable[[Any], Any] | None = None,
    context: dict[str, Any] | None = None,
) -> Iterator[tuple[Line, R]]:
    """Yield the records of JSON lines, and their lines.

    Records with "answer": "reject" or "ignore", as Prodigy writes them, are left out and counted, and so are those that
    the type leaves out. Those that withdraw earlier annotations are then yielded without their annotation.

    as_object: converts a JSON value of another form to an object.
    context: context of the validation, see pydantic. "fields": names of the fields that are kept.

    Raises FormatError with the remedy for a malformed line, unless on_error is "skip".
    """
    for line in lines:
        with report.skipping(on_error):
            value = parse_object(line, remedy, as_object)
            answer = value.get("answer", "accept")
            if answer in list(REJECTED):
                report.note(Note(line, REJECTED[answer]))
                # A record that is left out need not be well-formed.
                with suppress(FormatError):
                    withdrawal = record_type.withdrawal(value)
                    if withdrawal is not None:
                        yield line, validate(record_type, withdrawal, line, remedy)
                continue
            if answer != "accept":
                raise line.error(
                    f"the answer is {short_repr(answer)}",
                    "answer states whether an annotator accepts the text: accept, reject or ignore",
                )
            kind = record_type.why_left_out(value)
            if kind is not None:
                report.note(Note(line, kind))
                continue
            record = validate(record_type, value, line, remedy, context)
            report.unread_keys.update(unread_keys(value, record_type.known_keys(), (context or {}).get("fields", ())))
            yield line, record


def parse_json(line: Line, remedy: str) -> Any:
    """Parse a line as JSON. Raise FormatError with the remedy if that fails, or if an object has a key twice."""
    line.check()
    try:
        return json.loads(line.text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise line.error(f"invalid JSON: {error}", remedy) from error


def parse_object(line: Line, remedy: str, as_object: Callable[[Any], Any] | None = None) -> dict[str, Any]:
    """Parse a line as a JSON object. Raise FormatError with the remedy if it is not an object.

    as_object: converts a JSON value of another form to an object.
    """
    value = parse_json(line, remedy)
    if as_object is not None:
        value = as_object(value)
    if not isinstance(value, dict):
        raise line.error("not a JSON object", remedy)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        [(key, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {short_repr(key)} is there twice")
    return value


def validate(
    record_type: type[R], value: dict[str, Any], line: Line, remedy: str, context: dict[str, Any] | None = None
) -> R:
    """Validate a JSON object. Raise FormatError with the remedy if it does not match the type."""
    try:
        return record_type.model_validate(value, context=context)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).removeprefix(".")
        reason = first["msg"].removeprefix("Value error, ")
        if first["type"] not in WITHOUT_VALUE:
            reason += f" (found {short_repr(first['input'])})"
        raise line.error(f"{place}: {reason}" if place else reason, remedy) from error
    except RecursionError as error:
        raise line.error("nested too deeply", remedy) from error
