"""Format `prodigy`: tasks of Prodigy with answers."""

import re
from typing import Annotated, Any, ClassVar

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationInfo,
    model_validator,
)

from .annotators import UNNAMED
from .counts import Note
from .lines import Line
from .offsets import Key, ToolRecord
from .records import REJECTED, Triple, as_key, entity_values
from .texts import TASK_WITHOUT_TEXT, UNLABELLED, TextAnnotation

# Interfaces in which spans cannot be marked, and those that do not show the relations of a task.
WITHOUT_SPANS = frozenset(("choice", "html", "text", "text_input"))
WITHOUT_RELATIONS = WITHOUT_SPANS | {"ner", "ner_manual", "pos", "pos_manual", "spans", "spans_manual"}
# Interfaces whose answers and spans are never about entities of the text.
OF_OTHER_CONTENT = frozenset(
    ("audio", "audio_manual", "classification", "compare", "diff", "image", "image_manual", "llm_io", "pages")
)
# Interfaces in which a rejection is about the whole text; in others, it answers a question about a part of the text.
OF_WHOLE_TEXTS = ("blocks", "ner_manual", "pos_manual", "relations", "spans_manual", None)
# Keys of a rejected text that are read.
KEYS_OF_REJECTED = ("text", "answer", "_input_hash", "_annotator_id", "_session_id", "_timestamp")
# Keys of tasks about images and recordings.
MEDIA = ("image", "audio", "video")

# Start time of the server, which Prodigy writes as the name of an annotator without a named session.
START_TIME = re.compile(r"(.*-)?\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", re.DOTALL)

REJECTED_SPAN = "left out: spans that the annotator rejected or ignored, left without annotation"
OF_TOKENS = "left out: relations of tokens that are not entities"
NOT_SHOWN = "texts read without relations, as the annotator did not see them (_view_id)"
STALE = "left out: relations of an entity that the annotator removed or changed"
BESIDE_STALE = "left out: other relations of texts with a relation of a removed or changed entity"


class ProdigyRecord(ToolRecord):
    """A task of Prodigy. A task with an answer may have no spans. A task is not annotated if it has no answer, or if it
    has no spans and its interface does not show spans. All annotators without a name count as one, UNNAMED.

    rejected: spans with an individual answer that is not "accept".
    left_out: kind and detail of the notes on relations that are left out.
    """

    remedy: ClassVar = (
        'export with `prodigy db-out DATASET`: {"text": "Anna left", "spans": [{"start": 0, "end": 4, "label": "PER"}],'
        ' "answer": "accept"} on each line'
    )
    annotation_keys: ClassVar = ("spans",)
    key: Key = Field(None, validation_alias="_input_hash")
    annotator: Key = Field(None, validation_alias=AliasChoices("_annotator_id", "_session_id"))
    timestamp: StrictInt | StrictFloat = Field(0, validation_alias="_timestamp")
    view: StrictStr | None = Field(None, validation_alias="_view_id")
    answer: StrictStr | None = None
    rejected: list[Annotated[Triple, BeforeValidator(entity_values)]] = Field([], validation_alias="_rejected")
    left_out: list[tuple[str, str]] = Field([], validation_alias="_left_out")

    @property
    def is_labelled(self) -> bool:
        return self.answer is not None and not (self.view in WITHOUT_SPANS and not self.spans)

    @classmethod
    def withdrawal(cls, value: dict[str, Any]) -> dict[str, Any] | None:
        is_whole = not value.get("_is_binary") and _view(value) in OF_WHOLE_TEXTS and cls.why_left_out(value) is None
        return {key: value[key] for key in KEYS_OF_REJECTED if key in value} if is_whole else None

    @classmethod
    def why_left_out(cls, value: dict[str, Any]) -> str | None:
        """Leave out tasks without a text, and tasks whose answer is not about spans of the text.

        Answers in `blocks` may be about spans if the task has tokens.
        """
        view = _view(value)
        is_of_other = view in OF_OTHER_CONTENT
        if value.get("text") is None:
            is_of_other |= view == "blocks" or view in WITHOUT_SPANS or any(key in value for key in ("text", *MEDIA))
            return TASK_WITHOUT_TEXT if is_of_other else None
        is_other_block = view == "blocks" and value.get("spans") is None and "tokens" not in value
        return UNLABELLED if is_of_other or is_other_block else None

    @model_validator(mode="before")
    @classmethod
    def complete(cls, record: dict[str, Any]) -> dict[str, Any]:
        """Add an empty list of spans to a task without spans. Remove spans that were not accepted, and relations, see
        `select_relations`. A string under "label" is the label of the whole task.
        """
        record = {key: value for key, value in record.items() if not (key == "label" and isinstance(value, str))}
        record |= {"spans": [] if record.get("spans") is None else record["spans"], "_rejected": [], "_left_out": []}
        if record.get("_annotator_id", "") is None:
            del record["_annotator_id"]
        if record.get("_view_id") == "review":
            record["_view_id"] = _view(record)
        if isinstance(record["spans"], list):
            record["_rejected"] = [span for span in record["spans"] if _is_rejected(span)]
            record["spans"] = [span for span in record["spans"] if not _is_rejected(span)]
            if isinstance(record.get("relations"), list):
                record["relations"], record["_left_out"] = select_relations(record)
        return record

    @model_validator(mode="after")
    def check_rejected(self, info: ValidationInfo) -> "ProdigyRecord":
        """Convert the spans that were not accepted to code points."""
        self.rejected = self.to_code_points(self.rejected, info)
        return self

    def notes(self, line: Line) -> list[Note]:
        rejected = [(REJECTED_SPAN, f"{self.text[start:end]!r} {label}") for start, end, label in self.rejected]
        return [Note(line, *note) for note in [*rejected, *self.left_out]]

    def annotation(self, line: Line) -> TextAnnotation:
        annotation = super().annotation(line)
        missing = [*annotation.missing, *(span[:2] for span in self.rejected)]
        is_named = annotation.annotator and not START_TIME.fullmatch(annotation.annotator)
        name = annotation.annotator if is_named else UNNAMED
        is_withdrawal = self.answer in REJECTED
        return annotation._replace(annotator=name, time=self.timestamp, missing=missing, is_withdrawal=is_withdrawal)


def _view(record: dict[str, Any]) -> str | None:
    """The interface of a task, if it is known; for a reviewed task, the interface of the annotations."""
    view = record.get("view_id" if record.get("_view_id") == "review" else "_view_id")
    return view if isinstance(view, str) else None


def _is_rejected(span: Any) -> bool:
    return isinstance(span, dict) and span.get("answer") in list(REJECTED)


def select_relations(record: dict[str, Any]) -> tuple[list[Any] | None, list[tuple[str, str]]]:
    """The annotated relations of a task (None if not annotated), and kind and detail of the relations left out.

    Relations between tokens are left out. Prodigy keeps the relations of a task when its spans are edited in an
    interface without relations. So relations are not annotated if the interface did not show them, or if an argument is
    no longer an entity.
    """
    view, relations = record.get("_view_id"), record["relations"]
    if isinstance(view, str) and view in WITHOUT_RELATIONS:
        return None, [(NOT_SHOWN, f"{view} with {len(relations)} relations")]
    of_entities = [relation for relation in relations if not _is_of_tokens(relation)]
    left_out = [(OF_TOKENS, "")] * (len(relations) - len(of_entities))
    entities = {as_key(entity_values(span)) for span in record["spans"]}
    stale = [any(as_key(entity_values(one)) not in entities for one in _arguments(each)) for each in of_entities]
    if not any(stale):
        return of_entities, left_out
    for relation, is_stale in zip(of_entities, stale, strict=True):
        left_out.append((STALE if is_stale else BESIDE_STALE, _describe(relation, record.get("text"))))
    return None, left_out


def _arguments(relation: Any) -> list[dict[str, Any]]:
    """Head and tail of a relation, if they are given with their bounds."""
    arguments = [relation.get(key) for key in ("head_span", "child_span")] if isinstance(relation, dict) else []
    return [argument for argument in arguments if isinstance(argument, dict)]


def _is_of_tokens(relation: Any) -> bool:
    """Whether an argument of a relation is a token that is not an entity, which has no label."""
    return any(entity_values(argument)[2] is None for argument in _arguments(relation))


def _describe(relation: Any, text: Any) -> str:
    wordings = []
    for argument in _arguments(relation):
        start, end, label = entity_values(argument)
        is_known = isinstance(text, str) and isinstance(start, int) and isinstance(end, int)
        wordings.append(f"{text[start:end]!r} {label}" if is_known else str([start, end, label]))
    label = relation.get("label") if isinstance(relation, dict) else relation
    return f" {label} ".join(wordings)
