"""Format `argilla`: records of Argilla with spans, of version 2 (nested or flattened) and of version 1."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from reprlib import repr as short_repr
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import BeforeValidator, StrictInt, StrictStr
from spacy.tokens import Doc

from ..annotation.tags import LabelledSpan
from .annotators import choose_annotators
from .arrow_files import read_rows
from .counts import Note, ReadReport
from .fields import select_fields
from .labels import relabel_annotations
from .lines import Line
from .records import Source, Text, Triple, entity_values, parse_object, text_of, validate
from .sentence import Sentence
from .texts import UNLABELLED, TextAnnotation, make_sentences
from .units import check_unit, place_in_unit, to_characters

REMEDY = (
    'export with dataset.records.to_json(path): {"fields": {"text": "Anna left"}, "responses": '
    '{"spans": [{"value": [{"start": 0, "end": 4, "label": "PER"}], "user_id": "a"}]}} for each record'
)
SETTINGS_REMEDY = (
    'make an empty folder, export with dataset.to_disk("FOLDER"), and convert FOLDER/records.json: beside it, '
    ".argilla/settings.json names the field of each question"
)
NO_SPANS = "left out: answers to questions that are not about spans"
CHOSEN_TEXT = "records with several texts, of which one was taken for the one that the question is about"
# Keys of flattened records that are not fields.
OWN_KEYS = frozenset(("id", "status", "_server_id", "annotation", "annotation_agent"))
DISCARDED = "left out: answers that the annotator discarded or did not submit"


class SpansOfAnswer(Source):
    """An answer to a question about spans."""

    value: list[Annotated[Triple, BeforeValidator(entity_values)]]


class Answer(Source):
    """An answer to a question."""

    value: Any
    user_id: StrictStr | StrictInt | None = None
    status: StrictStr | None = None


class ArgillaRecord(Source):
    """A record. Flattened records and records of version 1 have the fields as top-level keys."""

    id: Any = None
    fields: dict[StrictStr, Any] | None = None
    responses: dict[StrictStr, list[Answer] | None] | None = None
    text: Text | None = None
    annotation: Any = None
    annotation_agent: StrictStr | None = None
    status: StrictStr | None = None


def read_argilla(
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
    """Read records of Argilla: JSON of version 2, nested or flattened, and of version 1; also as Parquet or Arrow.

    All questions about spans of the same text are read together. The text is the field that `.argilla/settings.json`
    beside the file names for the question; without it, the only field that is a string, or "text". If several questions
    may then be about several texts, that is an error. Records without an answer are left out and counted; suggestions
    are not read.

    unit: unit of start and end; None for utf-16, which the page of Argilla uses.
    fields: names of fields of the records to keep in doc.user_data, see `fields.select_fields`.
    Other arguments, results and errors are those of `offsets.read_texts`.
    """
    unit = check_unit(unit or "utf-16")
    annotations = relabel_annotations(_read(Path(path), report, unit, fields, on_error), rename, report)
    return make_sentences(choose_annotators(annotations, annotators, report), report, tokenizer, align)


def _read(path: Path, report: ReadReport, unit: str, fields: Sequence[str], on_error: str) -> Iterator[TextAnnotation]:
    field_of = _read_settings(path)
    for line, columns in read_rows(path, REMEDY):
        found: list[TextAnnotation] = []
        with report.skipping(on_error):
            value = parse_object(line, REMEDY) if columns is None else columns
            record = validate(ArgillaRecord, value, line, REMEDY)
            notes: list[Note] = []
            texts, default = _find_texts(record, value, bool(field_of), line)
            for (user, field), spans in _answers(record, value, texts, default, field_of, line, notes).items():
                text = text_of(texts[field], line, REMEDY)
                try:
                    kept = select_fields(value, fields)
                    characters = place_in_unit(partial(to_characters, text, spans), unit)
                except ValueError as error:
                    raise line.error(str(error), REMEDY) from error
                found.append(
                    TextAnnotation(line, text, characters, key=(line.place, field), annotator=user, fields=kept)
                )
            for note in notes if found else [*notes, Note(line, UNLABELLED)]:
                report.note(note)
        yield from found


def _read_settings(path: Path) -> dict[str, str]:
    """The field of each question about spans, from the settings that `Dataset.to_disk` writes beside the records."""
    settings = path.parent / ".argilla" / "settings.json"
    if not settings.is_file():
        return {}
    try:
        questions = json.loads(settings.read_text(encoding="utf-8"))["questions"]
        return {one["name"]: one["settings"]["field"] for one in questions if one["settings"]["type"] == "span"}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{settings} does not have the settings of a dataset of Argilla") from error


def _find_texts(record: ArgillaRecord, value: dict[str, Any], is_told: bool, line: Line) -> tuple[dict[str, str], str]:
    """The fields that are strings, and the name of the default field for questions whose field is not known.

    is_told: whether the field of questions is known.
    """
    fields = {name: field for name, field in value.items() if name not in OWN_KEYS and "." not in name}
    fields = fields if record.fields is None else record.fields
    texts = {name: field for name, field in fields.items() if isinstance(field, str)}
    default = next(iter(texts)) if record.fields is not None and len(texts) == 1 else "text"
    if default not in texts and not is_told:
        if len(texts) > 1:
            reason = f"the fields {_listed(texts)} are texts, and the file does not say which one is annotated"
            raise line.error(reason, SETTINGS_REMEDY)
        raise line.error(f"no text: none of the fields {', '.join(map(short_repr, fields))} is text", REMEDY)
    return texts, default


def _answers(
    record: ArgillaRecord,
    value: dict[str, Any],
    texts: dict[str, str],
    default: str,
    field_of: dict[str, str],
    line: Line,
    notes: list[Note],
) -> dict[tuple[str, str], list[LabelledSpan]]:
    """The spans of each annotator in each text. Also adds notes on annotation that is left out.

    texts, default: see `_find_texts`.
    field_of: the field of each question, if known.
    """
    found: dict[tuple[str, str], list[LabelledSpan]] = {}
    unknown: set[str] = set()
    for question, answer in _all_answers(record, value, line):
        if answer.status in ("discarded", "draft"):
            notes.append(Note(line, DISCARDED))
        elif not isinstance(answer.value, list) or any(not isinstance(span, dict | list) for span in answer.value):
            notes.append(Note(line, NO_SPANS, short_repr(answer.value)))
        else:
            user = "" if answer.user_id is None else str(answer.user_id)
            if question not in field_of:
                unknown.add(question)
            field = field_of.get(question, default)
            spans = validate(SpansOfAnswer, {"value": answer.value}, line, REMEDY).value
            found.setdefault((user, field), []).extend(spans)
            if field not in texts:
                raise line.error(f"the question {question!r} is about {field!r}, which is no text", REMEDY)
    if len(texts) > 1 and len(unknown) > 1:
        reason = f"the questions {_listed(unknown)} may be about several texts ({_listed(texts)})"
        raise line.error(f"{reason}, and the file does not say which is about which", SETTINGS_REMEDY)
    if len(texts) > 1 and unknown and record.fields is not None:
        notes.append(Note(line, CHOSEN_TEXT, f"{default!r} of {_listed(texts)}"))
    return found


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(short_repr, sorted(names)))


def _label_last(span: Any) -> Any:
    """Convert [label, start, end], as version 1 has it, to [start, end, label]."""
    return [*span[1:3], span[0]] if isinstance(span, list) and span and isinstance(span[0], str) else span


def _all_answers(record: ArgillaRecord, value: dict[str, Any], line: Line) -> Iterator[tuple[str, Answer]]:
    """All answers with the names of their questions."""
    for question, of_question in (record.responses or {}).items():
        yield from ((question, answer) for answer in of_question or ())
    if record.annotation is not None:
        # Version 1 has one answer per record. The status of the answer is the status of the record.
        spans = record.annotation
        if isinstance(spans, list):
            spans = [_label_last(span) for span in spans]
        yield "annotation", Answer(value=spans, user_id=record.annotation_agent, status=(record.status or "").lower())
    for name, answers in value.items():
        if name.endswith(".responses") and isinstance(answers, list):
            others = [value.get(f"{name}.{part}") or [None] * len(answers) for part in ("users", "status")]
            if any(not isinstance(other, list) or len(other) != len(answers) for other in others):
                raise line.error(f"{name} has {len(answers)} answers, but other numbers of users or states", REMEDY)
            for answer, user, status in zip(answers, *others, strict=True):
                parts = {"value": answer, "user_id": user, "status": status}
                yield name.removesuffix(".responses"), validate(Answer, parts, line, REMEDY)
