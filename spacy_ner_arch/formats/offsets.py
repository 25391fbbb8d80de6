"""Format `offsets`: JSON lines with texts, character offsets of entities and relations, as annotation tools export."""

from collections.abc import Callable, Iterator
from pathlib import Path
from reprlib import repr as short_repr
from typing import Annotated, Any, ClassVar

from pydantic import AliasChoices, BeforeValidator, Field, StrictBool, model_validator
from spacy.tokens import Doc, Token

from .counts import MISALIGNED, Note, ReadReport
from .json_spans import first_three
from .lines import BLANKS, Line, read_lines
from .records import ANNOTATION_KEYS, Record, Text, Triple, read_records
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


def entity_values(item: Any) -> Any:
    """Convert an entity given as an object to a list. The objects of Doccano have start_offset and end_offset."""
    if isinstance(item, dict):
        return [item.get("start", item.get("start_offset")), item.get("end", item.get("end_offset")), item.get("label")]
    return first_three(item)


def entity_id(item: Any) -> Any:
    """The id of an entity that is given as an object."""
    return item.get("id") if isinstance(item, dict) else None


def relation_values(item: Any, entities: list[Any]) -> Any:
    """Convert a relation given as an object to a list [head, tail, label] with positions in the list of entities.

    Its arguments are "head" and "tail", positions; "from_id" and "to_id", ids of entities (Doccano); or "head_span" and
    "child_span", objects with bounds and label of an entity (Prodigy, whose "head" and "child" count tokens).
    Raises ValueError if an argument is not exactly one of the entities.
    """
    if not isinstance(item, dict):
        return item
    arguments = [item.get("head"), item.get("tail")]
    for keys, describe in ((("from_id", "to_id"), entity_id), (("head_span", "child_span"), entity_values)):
        if item.keys() >= set(keys):
            known = [describe(entity) for entity in entities]
            wanted = [item[key] if describe is entity_id else describe(item[key]) for key in keys]
            for key, value in zip(keys, wanted, strict=True):
                if value is None or known.count(value) == 0:
                    raise ValueError(f"the relation {short_repr(item)}: {key} is none of the {len(known)} entities")
                if describe is entity_id and known.count(value) > 1:
                    raise ValueError(f"the relation {short_repr(item)}: {key} is the id of several entities")
            arguments = [known.index(value) for value in wanted]
    return [*arguments, item.get("label", item.get("type"))]


class OffsetsRecord(Record):
    """A line of the format."""

    annotation_keys: ClassVar = ANNOTATION_KEYS
    text: Text
    spans: list[Annotated[Triple, BeforeValidator(entity_values)]] = Field(
        validation_alias=AliasChoices(*ANNOTATION_KEYS)
    )
    relations: list[Triple] | None = None
    binary: StrictBool = Field(False, alias="_is_binary")

    @property
    def units(self) -> str:
        return self.text

    @model_validator(mode="before")
    @classmethod
    def check_entities(cls, record: dict[str, Any]) -> dict[str, Any]:
        """Compare entities with their own key "text", if they have one, and convert relations that are objects."""
        entities: list[Any] = next((record[key] for key in ANNOTATION_KEYS if isinstance(record.get(key), list)), [])
        text, relations = record.get("text"), record.get("relations")
        for entity in entities:
            if isinstance(entity, dict) and isinstance(text, str) and isinstance(entity.get("text"), str):
                start, end, label = entity_values(entity)
                if (
                    isinstance(start, int)
                    and isinstance(end, int)
                    and text[start:end].strip() != entity["text"].strip()
                ):
                    raise ValueError(
                        f"the entity {[start, end, label]} is {short_repr(text[start:end])} in the text, but "
                        f"{short_repr(entity['text'])} in its own key; start and end count characters (code points)"
                    )
        if isinstance(relations, list):
            record = {**record, "relations": [relation_values(item, entities) for item in relations]}
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
    points). White space at its ends is trimmed. "relations" lists relations, see `relation_values`; without the key,
    they are not annotated. Each line is a document of one sentence. Other keys are counted.

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
    unknown `align`.
    """
    if align not in ALIGNMENTS:
        raise ValueError(f"align is {align!r}; it must be one of {', '.join(ALIGNMENTS)}")
    lines = (line for line in read_lines(path) if line.text.strip(BLANKS))
    for line, record in read_records(lines, OffsetsRecord, REMEDY, report, on_error):
        doc = tokenizer(record.text)
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
