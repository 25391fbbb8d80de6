"""Format `offsets`: JSON lines with texts, character offsets of entities and relations, as annotation tools export."""

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from reprlib import repr as short_repr
from typing import Any, ClassVar

from pydantic import Field, StrictBool, model_validator
from spacy.tokens import Doc, Token

from .counts import MISALIGNED, Note, ReadReport
from .lines import BLANKS, Line, read_lines
from .records import ANNOTATION_KEYS, Record, Text, entity_values, read_records
from .sentence import LabelledSpan, Sentence
from .spans import make_sentence, trim_spans

REMEDY = (
    'write {"text": "Anna left Tarvik", "entities": [[0, 4, "PER"], [10, 16, "LOC"]]}, the ends exclusive, [] for a '
    'text without entities; relations, if any, as "relations": [[head, tail, label]], where head and tail are '
    "positions in the list of entities, from 0"
)
ALIGNMENTS = ("strict", "contract", "expand")
EMPTY = "left out: text without tokens"
MOVED = "repaired: entity moved to the bounds of tokens"


class OffsetsRecord(Record):
    """A line of the format."""

    annotation_keys: ClassVar = ANNOTATION_KEYS
    text: Text
    binary: StrictBool = Field(False, alias="_is_binary")

    @property
    def units(self) -> str:
        return self.text

    @model_validator(mode="before")
    @classmethod
    def check_texts(cls, record: dict[str, Any]) -> dict[str, Any]:
        """Compare entities that have a key "text" with the text between their bounds."""
        text = record.get("text")
        lists = [value for key, value in record.items() if key in ANNOTATION_KEYS and isinstance(value, list)]
        for entity in chain.from_iterable(lists):
            if isinstance(entity, dict) and isinstance(text, str) and isinstance(entity.get("text"), str):
                start, end, _ = entity_values(entity)
                bounds_are_numbers = isinstance(start, int) and isinstance(end, int)
                if bounds_are_numbers and text[start:end].strip() != entity["text"].strip():
                    raise ValueError(
                        f"the entity {start}-{end} is {short_repr(text[start:end])} in the text, but "
                        f"{short_repr(entity['text'])} in its own key; start and end count characters (code points)"
                    )
        return record


def read_offsets(
    path: str | Path,
    report: ReadReport,
    *,
    tokenizer: Callable[[str], Doc],
    align: str = "strict",
    on_error: str = "raise",
) -> Iterator[list[Sentence]]:
    """Read JSON lines such as {"text": "Anna left", "entities": [[0, 4, "PER"]]}.

    Exactly one key has the entities: "entities", "ents" (as spaCy's `Doc.to_json` writes them), "spans", "label" or
    "labels". An entity is [start, end, label] or an object with these keys, with exclusive end, in characters (code
    points). White space at its ends is trimmed. "relations" lists relations, see `records.relation_values`; without the
    key, they are not annotated. Each line is a document of one sentence. Other keys are counted.

    Entities may overlap: all are in `Sentence.nested`, and `Sentence.spans` has the outermost ones, see
    `spans.widest_apart`. Duplicates are kept once and counted.

    An entity that does not start and end at token boundaries cannot be learned. It is left out and counted, with its
    relations. The tokens that it overlaps are left without annotation, so that they are not learned as outside of
    entities. With "_is_binary": true, as Prodigy writes it, the annotator saw only the entities of the line: all other
    tokens are left without annotation.

    tokenizer: makes a Doc of a text. A text without tokens is left out and counted.
    align: what to do with such an entity: "strict" leaves it out, "contract" reduces it to the tokens inside of it,
        "expand" extends it to all tokens that it overlaps, see `Doc.char_span`. Moved entities are counted.
    The other arguments, results and errors are those of all readers, see `readers.py`. Also raises ValueError for an
    unknown `align`, and FormatError, whatever `on_error` is, if the tokenizer changes a text.
    """
    if align not in ALIGNMENTS:
        raise ValueError(f"align is {align!r}; it must be one of {', '.join(ALIGNMENTS)}")
    lines = (line for line in read_lines(path) if line.text.strip(BLANKS))
    for line, record in read_records(lines, OffsetsRecord, REMEDY, report, on_error):
        doc = tokenizer(record.text)
        if doc.text != record.text:
            reason = f"the tokenizer changes the text to {short_repr(doc.text)}, so that offsets would be wrong"
            raise line.error(reason, "use the tokenizer of another language, or the format spans")
        if not len(doc):
            report.note(Note(line, EMPTY))
            continue
        characters, notes = trim_spans(line, record.spans, record.text)
        spans, missing, more_notes = _align(doc, characters, align, line)
        report.checked[MISALIGNED] += len(spans)
        sentence, last_notes = make_sentence(
            line,
            [token.text for token in doc],
            spans,
            record.relations,
            [bool(token.whitespace_) for token in doc],
            range(len(doc)) if record.binary else missing,
        )
        report.documents += 1
        report.add(sentence, notes + more_notes + last_notes)
        yield [sentence]


def _align(
    doc: Doc, entities: list[LabelledSpan | None], align: str, line: Line
) -> tuple[list[LabelledSpan | None], set[int], list[Note]]:
    """Convert spans in characters to spans in tokens, None for those left out.

    Returns them, the tokens of all entities that do not align, and a note on each of these.
    """
    spans: list[LabelledSpan | None] = []
    missing: set[int] = set()
    notes: list[Note] = []
    for entity in entities:
        if entity is None:
            spans.append(None)
            continue
        start, end, label = entity
        exact = doc.char_span(start, end)
        span = exact if exact is not None else doc.char_span(start, end, alignment_mode=align)
        spans.append(None if span is None else (span.start, span.end, label))
        if exact is None:
            missing.update(token.i for token in _overlapped(doc, start, end))
            reason = describe_misalignment(doc, start, end, label)
            notes.append(
                Note(line, MISALIGNED, reason) if span is None else Note(line, MOVED, f"{reason}: {span.text!r}")
            )
    return spans, missing, notes


def _overlapped(doc: Doc, start: int, end: int) -> list[Token]:
    """Tokens that overlap a span of characters."""
    span = doc.char_span(start, end, alignment_mode="expand")
    return [] if span is None else list(span)


def describe_misalignment(doc: Doc, start: int, end: int, label: str) -> str:
    """Describe a span of characters, and the tokens inside of which it starts or ends."""
    reasons = []
    for token in _overlapped(doc, start, end):
        if token.idx < start:
            reasons.append(f"starts inside of the token {token.text!r}")
        if token.idx + len(token) > end:
            reasons.append(f"ends inside of the token {token.text!r}")
    return f"{doc.text[start:end]!r} {label} {' and '.join(reasons) or 'has other tokens'}"
