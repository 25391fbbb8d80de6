"""Format `prodigy`: tasks of Prodigy with answers."""

from typing import Any, ClassVar

from pydantic import AliasChoices, Field, StrictFloat, StrictInt, StrictStr, model_validator

from .lines import Line
from .offsets import Key, ToolRecord
from .records import entity_values
from .texts import TextAnnotation


class ProdigyRecord(ToolRecord):
    """A task of Prodigy. One that was answered need not have spans; one that was not is not annotated."""

    remedy: ClassVar = (
        'export with `prodigy db-out DATASET`: {"text": "Anna left", "spans": [{"start": 0, "end": 4, "label": "PER"}],'
        ' "answer": "accept"} on each line'
    )
    annotation_keys: ClassVar = ("spans",)
    key: Key = Field(None, validation_alias="_input_hash")
    annotator: Key = Field(None, validation_alias=AliasChoices("_annotator_id", "_session_id"))
    timestamp: StrictInt | StrictFloat = Field(0, validation_alias="_timestamp")
    answer: StrictStr | None = None
    left_out: list[Any] = []

    @property
    def is_labelled(self) -> bool:
        return self.answer is not None

    @property
    def relations_of_tokens(self) -> int:
        return len(self.left_out)

    @model_validator(mode="before")
    @classmethod
    def complete(cls, record: dict[str, Any]) -> dict[str, Any]:
        """Add an empty list of spans to a task that has none, and take out relations of tokens without a label."""
        record = {**record, "spans": [] if record.get("spans") is None else record["spans"], "left_out": []}
        if isinstance(record.get("relations"), list):
            record["left_out"] = [relation for relation in record["relations"] if _is_of_tokens(relation)]
            record["relations"] = [relation for relation in record["relations"] if not _is_of_tokens(relation)]
        return record

    def annotation(self, line: Line) -> TextAnnotation:
        return super().annotation(line)._replace(time=self.timestamp)


def _is_of_tokens(relation: Any) -> bool:
    """Whether an argument of a relation of Prodigy is a token that is not an entity, which has no label."""
    arguments = [relation.get(key) for key in ("head_span", "child_span")] if isinstance(relation, dict) else []
    return any(isinstance(argument, dict) and entity_values(argument)[2] is None for argument in arguments)
