"""JSON with texts and character offsets: `offsets`, `prodigy`, `doccano`, `spacy-v2` and `cluener`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from reprlib import repr as short_repr
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import AliasChoices, Field, StrictBool, StrictInt, StrictStr, ValidationInfo, model_validator
from spacy.tokens import Doc

from ..annotation.tags import LabelledSpan
from .annotators import choose_annotators
from .counts import Note, ReadReport
from .fields import select_fields
from .json_files import read_items
from .labels import relabel_annotations
from .lines import Line
from .records import ANNOTATION_KEYS, Record, Text, Triple, check_relations, entity_values, read_records
from .sentence import Sentence
from .texts import NO_ENTITY, UNLABELLED, TextAnnotation, is_wording, make_sentences
from .units import UNCHECKED, check_unit, fits, is_wide, other_readings, place_in_unit, to_characters

Key = StrictInt | StrictStr | None


class OffsetsRecord(Record):
    """An object of the format `offsets`.

    The validation context has the unit of the offsets, and the names of the fields of the object that are kept.

    shows_unit: whether entities have keys "text" that fit in the unit, but not in UTF-16 code units.
    """

    remedy: ClassVar = (
        'write {"text": "Anna left Tarvik", "entities": [[0, 4, "PER"], [10, 16, "LOC"]]}, the ends exclusive, [] for '
        'a text without entities; relations, if any, as "relations": [[head, tail, label]], where head and tail are '
        "positions in the list of entities, from 0"
    )
    annotation_keys: ClassVar[tuple[str, ...]] = ANNOTATION_KEYS
    unit: ClassVar = "characters"
    knows_unit: ClassVar = False
    """Whether the format determines the unit of the offsets."""
    tells_empty: ClassVar = True
    """Whether the format distinguishes a text without entities from a text that nobody has annotated."""
    text: Text
    binary: StrictBool = Field(False, validation_alias="_is_binary")
    shows_unit: StrictBool = Field(False, validation_alias="_shows_unit")
    kept_fields: dict[str, Any] = Field({}, validation_alias="_kept_fields")

    @model_validator(mode="before")
    @classmethod
    def add_kept_fields(cls, record: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        """Add the fields to keep."""
        return {**record, "_kept_fields": select_fields(record, (info.context or {}).get("fields", ()))}

    @model_validator(mode="before")
    @classmethod
    def check_texts(cls, record: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        """Compare entities that have a key "text" with the text between their bounds; tell if that shows the unit."""
        text, unit = record.get("text"), _unit(cls, info)
        if not isinstance(text, str):
            return record
        lists = [value for key, value in record.items() if key in ANNOTATION_KEYS and isinstance(value, list)]
        spans, quoted = [], []
        for entity in chain.from_iterable(lists):
            if isinstance(entity, dict) and isinstance(entity.get("text"), str):
                start, end, label = entity_values(entity)
                if isinstance(start, int) and isinstance(end, int):
                    spans.append((start, end, str(label)))
                    quoted.append(entity["text"])
        check = partial(_check_quotes, text, spans, quoted)
        if spans:
            place_in_unit(check, unit)
        return {**record, "_shows_unit": unit == "characters" and is_wide(text) and not fits(check, "utf-16")}

    @model_validator(mode="after")
    def check_bounds(self, info: ValidationInfo) -> "OffsetsRecord":
        """Convert the spans to code points, and check the relations."""
        self.spans = self.to_code_points(self.spans, info)
        check_relations(self.relations, len(self.spans))
        return self

    def to_code_points(self, spans: list[Triple], info: ValidationInfo) -> list[Triple]:
        """Convert spans to code points, see `units.place_in_unit`."""
        return place_in_unit(partial(to_characters, self.text, spans), _unit(type(self), info))

    @property
    def is_labelled(self) -> bool:
        """Whether the text is annotated."""
        return True

    def notes(self, line: Line) -> list[Note]:
        """Notes on annotation that is left out."""
        return []

    def annotation(self, line: Line) -> TextAnnotation:
        """The annotation. With a binary question, the annotator saw only the entities."""
        missing = [(0, len(self.text))] if self.binary else []
        return TextAnnotation(line, self.text, self.spans, self.relations, missing, fields=self.kept_fields)


def _unit(record_type: type[OffsetsRecord], info: ValidationInfo) -> str:
    return (info.context or {}).get("unit") or record_type.unit


def _check_quotes(text: str, spans: Sequence[LabelledSpan], quoted: Sequence[str], unit: str) -> None:
    """Raise ValueError unless the text between the bounds of each span, in the unit, is the quoted one."""
    # Convert all spans together, since a conversion takes time linear in the text.
    places = to_characters(text, spans, unit)
    for (start, end, _), (first, last, _), own in zip(spans, places, quoted, strict=True):
        if not is_wording(own, text[first:last]):
            raise ValueError(
                f"the entity {start}-{end} is {short_repr(text[first:last])} in the text, but "
                f"{short_repr(own)} in its own key; start and end count {unit}"
            )


class ToolRecord(OffsetsRecord):
    """An annotation of a text that may have annotations by others, with the same key."""

    knows_unit: ClassVar = True
    key: Key = None
    annotator: Key = None

    def annotation(self, line: Line) -> TextAnnotation:
        name = "" if self.annotator is None else str(self.annotator)
        maybe_unseen = not (self.tells_empty or self.spans or self.relations)
        return super().annotation(line)._replace(key=self.key, annotator=name, maybe_unseen=maybe_unseen)


class DoccanoRecord(ToolRecord):
    """A text of doccano, with or without relations. doccano does not say whether a text without entities was seen."""

    remedy: ClassVar = (
        'export the project as JSONL or JSONL(relation): {"id": 1, "text": "Anna left", "label": [[0, 4, "PER"]]} or '
        '{"text": "Anna left", "entities": [{"id": 7, "start_offset": 0, "end_offset": 4, "label": "PER"}], '
        '"relations": [{"from_id": 7, "to_id": 7, "type": "self"}]} on each line'
    )
    annotation_keys: ClassVar = ("label", "labels", "entities")
    unit: ClassVar = "utf-16"
    tells_empty: ClassVar = False
    text: Text = Field(validation_alias=AliasChoices("text", "data"))
    key: Key = Field(None, validation_alias="id")


class PairRecord(OffsetsRecord):
    """An item of the training data of spaCy 2."""

    remedy: ClassVar = 'write a list of ["Anna left Tarvik", {"entities": [[0, 4, "PER"], [10, 16, "LOC"]]}]'
    annotation_keys: ClassVar = ("entities",)


class CluenerRecord(OffsetsRecord):
    """A text of CLUENER: its mentions by label and wording. The ends are inclusive."""

    remedy: ClassVar = (
        'write {"text": "Anna left Tarvik", "label": {"PER": {"Anna": [[0, 3]]}, "LOC": {"Tarvik": [[10, 15]]}}}, the '
        "ends inclusive"
    )
    annotation_keys: ClassVar = ("label",)

    @model_validator(mode="before")
    @classmethod
    def list_mentions(cls, record: dict[str, Any]) -> dict[str, Any]:
        """Convert the mentions to a list of entities with their texts."""
        return {**record, "label": list(_mentions(record.get("label")))}


def _mentions(labels: Any) -> Iterator[dict[str, Any]]:
    """The mentions as entities. Raises ValueError if the mentions are not bounds by wording by label."""
    try:
        for label, wordings in labels.items():
            for wording, mentions in wordings.items():
                for start, end in mentions:
                    yield {"start": start, "end": end + 1, "label": label, "text": wording}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{short_repr(labels)} are not bounds of mentions by wording by label") from error


def pair_values(value: Any) -> Any:
    """Convert [text, annotation], as spaCy 2 has it, to one object."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[1], dict) and "text" not in value[1]:
        return {"text": value[0], **value[1]}
    return value


def read_texts(
    record_type: type[OffsetsRecord],
    path: str | Path,
    report: ReadReport,
    *,
    tokenizer: Callable[[str], Doc],
    align: str = "strict",
    unit: str | None = None,
    annotators: str = "first",
    rename: Mapping[str, str] = MappingProxyType({}),
    fields: Sequence[str] = (),
    on_error: str = "raise",
) -> Iterator[list[Sentence]]:
    """Read a JSON list of objects such as {"text": "Anna left", "entities": [[0, 4, "PER"]]}, or one on each line.

    Exactly one key of those that the format has (`annotation_keys` of its record) lists the entities. An entity is
    [start, end, label] or an object with these keys, with exclusive end, in characters. White space at its ends is
    trimmed. "relations" lists relations, see `records.relation_values`; without the key, they are not annotated. Each
    object is a document of one sentence. Other keys are counted.

    Entities may overlap: all are in `Sentence.nested`, and `Sentence.spans` has the outermost ones, see
    `spans.widest_apart`. Duplicates are kept once and counted. With "_is_binary": true, as Prodigy writes it, the
    annotator saw only the entities of the text: all other tokens are left without annotation.

    record_type: a format.
    tokenizer, align: see `texts.make_sentences`.
    unit: unit of start and end, one of `units.UNITS`; None for the unit of the format.
    annotators: see `annotators.choose_annotators`.
    rename: see `labels.relabel_annotations`.
    fields: names of fields of the objects to keep in doc.user_data, see `fields.select_fields`.
    The other arguments, results and errors are those of all readers, see `readers.py`. Also raises ValueError for an
    unknown `align`, `unit` or annotator, and FormatError, whatever `on_error` is, if the tokenizer changes a text.
    """
    items = read_items(path, record_type.remedy)
    context = {"unit": unit and check_unit(unit), "fields": fields}
    as_object = pair_values if record_type is PairRecord else None
    records = read_records(items, record_type, record_type.remedy, report, on_error, as_object, context)
    annotations = relabel_annotations(_annotations(records, report, unit), rename, report)
    if issubclass(record_type, ToolRecord):
        annotations = _note_empty(choose_annotators(annotations, annotators, report), report)
    return make_sentences(annotations, report, tokenizer, align)


def _annotations(
    records: Iterator[tuple[Line, OffsetsRecord]], report: ReadReport, unit: str | None
) -> Iterator[TextAnnotation]:
    for line, record in records:
        if not record.is_labelled:
            report.note(Note(line, UNLABELLED))
            continue
        for note in record.notes(line):
            report.note(note)
        if unit is None and not record.knows_unit and not record.shows_unit:
            for reading in other_readings(record.text, record.spans):
                report.note(Note(line, UNCHECKED, reading))
        yield record.annotation(line)


def _note_empty(annotations: Iterable[TextAnnotation], report: ReadReport) -> Iterator[TextAnnotation]:
    for annotation in annotations:
        if annotation.maybe_unseen:
            report.note(Note(annotation.line, NO_ENTITY))
        yield annotation
