"""Format `argilla`: records of Argilla with spans, of version 2 (nested or flattened) and of version 1."""

from collections.abc import Callable, Iterator
from pathlib import Path
from reprlib import repr as short_repr
from typing import Annotated, Any

from pydantic import BeforeValidator, StrictInt, StrictStr
from spacy.tokens import Doc

from ..annotation.tags import LabelledSpan
from .annotators import choose_annotators
from .arrow_files import read_rows
from .counts import Note, ReadReport
from .lines import Line
from .records import Source, Text, Triple, check_bounds, entity_values, parse_object, text_of, validate
from .sentence import Sentence
from .texts import UNLABELLED, TextAnnotation, make_sentences
from .units import check_unit, to_characters

REMEDY = (
    'export with dataset.records.to_json(path): {"fields": {"text": "Anna left"}, "responses": '
    '{"spans": [{"value": [{"start": 0, "end": 4, "label": "PER"}], "user_id": "a"}]}} for each record'
)
NO_SPANS = "left out: answers to questions that are not about spans"
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
    """A record. A flattened one has its fields as keys of its own, and so has a record of version 1."""

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
    on_error: str = "raise",
) -> Iterator[list[Sentence]]:
    """Read records of Argilla: JSON of version 2, nested or flattened, and of version 1; also as Parquet or Arrow.

    All questions about spans are read together. The text is the field "text", or the only field that is a string.
    Records without an answer are left out and counted; suggestions are not read.

    unit: what start and end count; None for utf-16, as the page of Argilla counts.
    Other arguments, results and errors are those of `offsets.read_texts`.
    """
    unit = check_unit(unit or "utf-16")
    annotations = choose_annotators(_read(Path(path), report, unit, on_error), annotators, report)
    return make_sentences(annotations, report, tokenizer, align)


def _read(path: Path, report: ReadReport, unit: str, on_error: str) -> Iterator[TextAnnotation]:
    for line, columns in read_rows(path, REMEDY):
        found: list[TextAnnotation] = []
        with report.skipping(on_error):
            value = parse_object(line, REMEDY) if columns is None else columns
            record = validate(ArgillaRecord, value, line, REMEDY)
            text = _find_text(record, value, line)
            notes: list[Note] = []
            for user, spans in _answers(record, value, line, notes).items():
                try:
                    characters = to_characters(text, spans, unit)
                    check_bounds(characters, None, len(text), "characters")
                except ValueError as error:
                    raise line.error(str(error), REMEDY) from error
                found.append(TextAnnotation(line, text, characters, key=line.place, annotator=user))
            for note in notes if found else [*notes, Note(line, UNLABELLED)]:
                report.note(note)
        yield from found


def _find_text(record: ArgillaRecord, value: dict[str, Any], line: Line) -> str:
    fields = value if record.fields is None else record.fields
    texts = {name: field for name, field in fields.items() if isinstance(field, str)}
    name = "text"
    if record.fields is not None and len(texts) == 1:
        [name] = texts
    if name not in texts:
        raise line.error(f"no text: none of the fields {', '.join(map(short_repr, fields))} is text", REMEDY)
    return text_of(texts[name], line, REMEDY)


def _answers(
    record: ArgillaRecord, value: dict[str, Any], line: Line, notes: list[Note]
) -> dict[str, list[LabelledSpan]]:
    """The spans of each annotator."""
    found: dict[str, list[LabelledSpan]] = {}
    for answer in _all_answers(record, value, line):
        if answer.status in ("discarded", "draft"):
            notes.append(Note(line, DISCARDED))
        elif not isinstance(answer.value, list) or any(not isinstance(span, dict | list) for span in answer.value):
            notes.append(Note(line, NO_SPANS, short_repr(answer.value)))
        else:
            user = "" if answer.user_id is None else str(answer.user_id)
            found.setdefault(user, []).extend(validate(SpansOfAnswer, {"value": answer.value}, line, REMEDY).value)
    return found


def _label_last(span: Any) -> Any:
    """Convert [label, start, end], as version 1 has it, to [start, end, label]."""
    return [*span[1:3], span[0]] if isinstance(span, list) and span and isinstance(span[0], str) else span


def _all_answers(record: ArgillaRecord, value: dict[str, Any], line: Line) -> Iterator[Answer]:
    for answers in (record.responses or {}).values():
        yield from answers or ()
    if record.annotation is not None:
        # Of version 1, which has one answer to a record, and the status of the answer is that of the record.
        spans = record.annotation
        if isinstance(spans, list):
            spans = [_label_last(span) for span in spans]
        yield Answer(value=spans, user_id=record.annotation_agent, status=(record.status or "").lower())
    for name, answers in value.items():
        if name.endswith(".responses") and isinstance(answers, list):
            others = [value.get(f"{name}.{part}") or [None] * len(answers) for part in ("users", "status")]
            if any(not isinstance(other, list) or len(other) != len(answers) for other in others):
                raise line.error(f"{name} has {len(answers)} answers, but other numbers of users or states", REMEDY)
            for answer, user, status in zip(answers, *others, strict=True):
                yield validate(Answer, {"value": answer, "user_id": user, "status": status}, line, REMEDY)
