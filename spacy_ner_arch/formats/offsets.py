"""Format `offsets`: JSON lines with texts and character offsets of entities, as annotation tools export them."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, model_validator
from spacy.tokens import Doc

from .counts import ReadReport
from .json_spans import Text, Triple, first_three, parse_json, validate
from .lines import read_lines
from .sentence import LabelledSpan, Sentence

ENTITY_KEYS = ("entities", "spans", "label", "labels")
REMEDY = 'write {"text": "Anna left", "entities": [[0, 4, "PER"]]}, with exclusive ends'
EMPTY = "text without tokens, left out"


def entity_values(item: Any) -> Any:
    """Convert an entity given as an object to a list."""
    return [item.get(key) for key in ("start", "end", "label")] if isinstance(item, dict) else first_three(item)


class OffsetsRecord(BaseModel):
    """A line of the format."""

    text: Text
    entities: list[Annotated[Triple, BeforeValidator(entity_values)]]

    @model_validator(mode="before")
    @classmethod
    def find_entities(cls, record: dict[str, Any]) -> dict[str, Any]:
        """Find the key of the entities: the first one with a value."""
        entities: Any = next((record[key] for key in ENTITY_KEYS if record.get(key) is not None), [])
        return {**record, "entities": entities}

    @model_validator(mode="after")
    def check_bounds(self) -> "OffsetsRecord":
        """Check that the entities are inside of the text and do not overlap. Sort them."""
        self.entities.sort()
        for start, end, label in self.entities:
            if not 0 <= start < end <= len(self.text):
                raise ValueError(
                    f"the entity {start}-{end} {label} is empty or outside of the text of {len(self.text)} characters"
                )
        for (_, end, label), (start, _, other) in pairwise(self.entities):
            if start < end:
                raise ValueError(f"the entities {label} and {other} overlap at character {start}")
        return self


def read_offsets(
    path: str | Path, report: ReadReport, *, tokenizer: Callable[[str], Doc], on_error: str = "raise"
) -> Iterator[list[Sentence]]:
    """Read JSON lines such as {"text": "Anna left", "entities": [[0, 4, "PER"]]}.

    The key of the entities is "entities", "spans", "label" or "labels"; the first one with a value counts. An entity is
    [start, end, label] or an object with these keys, with exclusive end. Each line is a document of one sentence.

    An entity that does not start and end at token boundaries cannot be learned. It is counted, and the tokens that it
    overlaps are left without annotation, so that they are not learned as outside of entities.

    tokenizer: makes a Doc of a text. A text without tokens is left out and counted as a repair.
    The other arguments, results and errors are those of all readers, see `docs`.
    """
    for line in read_lines(path):
        if line.text.strip():
            with report.skipping(on_error):
                record = validate(OffsetsRecord, parse_json(line, REMEDY), partial(line.error, remedy=REMEDY))
                doc = tokenizer(record.text)
                if not len(doc):
                    report.add_repairs([(line, EMPTY)])
                    continue
                sentence = _align(doc, record.entities, report)
                report.documents += 1
                report.add(sentence)
                yield [sentence]


def _align(doc: Doc, entities: list[LabelledSpan], report: ReadReport) -> Sentence:
    spans: list[LabelledSpan] = []
    missing: set[int] = set()
    for start, end, label in entities:
        exact = doc.char_span(start, end)
        if exact is not None:
            spans.append((exact.start, exact.end, label))
        else:
            overlapped = doc.char_span(start, end, alignment_mode="expand")
            missing.update(range(overlapped.start, overlapped.end) if overlapped is not None else ())
    report.alignment_checked += len(entities)
    report.misaligned += len(entities) - len(spans)
    annotated = {i for start, end, _ in spans for i in range(start, end)}
    return Sentence(
        words=[token.text for token in doc],
        spaces=[bool(token.whitespace_) for token in doc],
        spans=spans,
        missing=sorted(missing - annotated),
    )
