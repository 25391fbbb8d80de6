"""Annotated texts with offsets in characters, and their tokenization."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from reprlib import repr as short_repr
from types import MappingProxyType
from typing import Any, NamedTuple
from unicodedata import normalize

from spacy.tokens import Doc, Token

from ..annotation.describe import quote
from ..annotation.tags import LabelledSpan
from .counts import MISALIGNED, Note, ReadReport
from .lines import Line
from .sentence import Sentence
from .spans import make_sentence, trim_spans

ALIGNMENTS = ("strict", "contract", "expand")

EMPTY = "left out: text without tokens"
MOVED = "repaired: entity moved to the bounds of tokens"
UNLABELLED = "left out: texts without annotation (unlabelled)"
TASK_WITHOUT_TEXT = "left out: tasks without a text, such as images"
NO_ENTITY = "texts without any entity, read as annotated with none"

LabelledIndices = tuple[int, int, str]
"""Positions of head and tail in the list of spans, and label of a relation."""


class TextAnnotation(NamedTuple):
    """An annotation of a text by one annotator.

    line: its place in the file.
    spans: start, exclusive end and label in characters (code points); None for a span that is left out.
    relations: relations between the spans, or None if they are not annotated.
    missing: start and end of the parts of the text that are not annotated, except entities in them; the whole text for
        an answer to a binary question about its entities.
    key: the same for all annotations of a text, or None if a text has only one.
    annotator: name, or "" if unknown.
    time: when it was made, to compare it with others by the same annotator.
    maybe_unseen: whether nothing is marked, and the format does not say whether the annotator has seen the text.
    fields: fields of the record that the document keeps, see `fields.select_fields`.
    is_ground_truth: whether it takes precedence over all other annotations of the text.
    is_withdrawal: whether the annotator left the text without annotation, which withdraws their earlier annotations.
    """

    line: Line
    text: str
    spans: Sequence[LabelledSpan | None]
    relations: Sequence[LabelledIndices] | None = None
    missing: Sequence[tuple[int, int]] = ()
    key: Hashable = None
    annotator: str = ""
    time: float = 0
    maybe_unseen: bool = False
    fields: Mapping[str, Any] = MappingProxyType({})
    is_ground_truth: bool = False
    is_withdrawal: bool = False

    @property
    def is_partial(self) -> bool:
        """Whether nothing but the entities is annotated."""
        return (0, len(self.text)) in self.missing


def complete_relations(annotations: Iterable[TextAnnotation]) -> list[TextAnnotation]:
    """Set relation annotation for tools that do not say whether a text without relations is annotated.

    If any text has relations, all other texts count as annotated with none.
    """
    annotations = list(annotations)
    if any(annotation.relations for annotation in annotations):
        return [annotation._replace(relations=annotation.relations or []) for annotation in annotations]
    return [annotation._replace(relations=None) for annotation in annotations]


def check_align(align: str) -> str:
    """Return the value; raise ValueError if it is not in ALIGNMENTS."""
    if align not in ALIGNMENTS:
        raise ValueError(f"align is {align!r}; it must be one of {', '.join(ALIGNMENTS)}")
    return align


def make_sentences(
    annotations: Iterable[TextAnnotation], report: ReadReport, tokenizer: Callable[[str], Doc], align: str
) -> Iterator[list[Sentence]]:
    """Tokenize annotated texts. Each text becomes a document, whose sentences are not stated.

    An entity that does not start and end at token boundaries cannot be learned. It is left out and counted, with its
    relations. The tokens that it overlaps are left without annotation, so that they are not learned as outside of
    entities.

    tokenizer: function from a text to a Doc. A text without tokens is left out and counted.
    align: treatment of such an entity: "strict" leaves it out, "contract" reduces it to the tokens inside of it,
        "expand" extends it to all tokens that it overlaps, see `Doc.char_span`. Moved entities are counted.
    Raises ValueError for an unknown `align`, and FormatError if the tokenizer changes a text.
    """
    check_align(align)
    places: dict[Hashable, str] = {}
    for annotation in annotations:
        line, text = annotation.line, annotation.text
        doc = tokenizer(text)
        if doc.text != text:
            reason = f"the tokenizer changes the text to {short_repr(doc.text)}, so that offsets would be wrong"
            raise line.error(reason, "use the tokenizer of another language, or the format spans")
        if not len(doc):
            report.note(Note(line, EMPTY))
            continue
        characters, notes = trim_spans(line, annotation.spans, text)
        spans, missing, more_notes = _align(doc, text, characters, align, line)
        for start, end in annotation.missing:
            missing.update(token.i for token in _overlapped(doc, start, end))
        report.checked[MISALIGNED] += len(spans)
        sentence, last_notes = make_sentence(
            line,
            [token.text for token in doc],
            spans,
            annotation.relations,
            [bool(token.whitespace_) for token in doc],
            missing,
        )
        report.documents += 1
        sentence.starts = None
        # A task may have several texts, and a text several annotations.
        own = annotation.key
        sentence.document = line.place if own is None else places.setdefault((own, text), line.place)
        sentence.fields = dict(annotation.fields)
        report.documents_with_field.update(sentence.fields.keys())
        report.add(sentence, notes + more_notes + last_notes)
        yield [sentence]


def _align(
    doc: Doc, text: str, entities: list[LabelledSpan | None], align: str, line: Line
) -> tuple[list[LabelledSpan | None], set[int], list[Note]]:
    """Convert spans in characters to spans in tokens, None for those left out.

    text: the text of the Doc, see `describe_misalignment`.
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
            reason = describe_misalignment(doc, text, start, end, label)
            notes.append(
                Note(line, MISALIGNED, reason) if span is None else Note(line, MOVED, f"{reason}: {span.text!r}")
            )
    return spans, missing, notes


def _overlapped(doc: Doc, start: int, end: int) -> list[Token]:
    """Tokens that overlap a span of characters."""
    span = doc.char_span(start, end, alignment_mode="expand")
    return [] if span is None else list(span)


def is_wording(quoted: str, part: str) -> bool:
    """Whether a part of a text equals a quoted text, apart from white space and Unicode normalization."""
    words, own = (normalize("NFC", each).split() for each in (part, quoted))
    return words == own


def describe_misalignment(doc: Doc, text: str, start: int, end: int, label: str) -> str:
    """Describe a span of characters, and the tokens inside of which it starts or ends.

    text: the text of the Doc. It is an argument because `Doc.text` joins all tokens at each access.
    """
    reasons = []
    for token in _overlapped(doc, start, end):
        if token.idx < start:
            reasons.append(f"starts inside of the token {token.text!r}")
        if token.idx + len(token) > end:
            reasons.append(f"ends inside of the token {token.text!r}")
    return f"{quote(text[start:end])} {label} {' and '.join(reasons) or 'has other tokens'}"


def split_finder(tokenizer: Callable[[str], Doc]) -> Callable[[str], str]:
    """A cached function that describes how the tokenizer splits a word; "" if it does not split it.

    Some tokenizers keep an elided word, such as the French `l'`, only before a letter.
    """

    @cache
    def describe_split(word: str) -> str:
        parts = [token.text for token in tokenizer(word)]
        if word.endswith(("'", "’")) and tokenizer(f"{word}a")[0].text == word:
            return ""
        return f"{quote(word)} into {' '.join(map(quote, parts))}" if len(parts) > 1 else ""

    return describe_split
