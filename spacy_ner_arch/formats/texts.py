"""Annotated texts with offsets in characters: the choice between annotators, and tokenization."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from reprlib import repr as short_repr
from typing import NamedTuple

from spacy.tokens import Doc, Token

from ..annotation.describe import quote
from ..annotation.tags import LabelledSpan
from .counts import MISALIGNED, Note, ReadReport
from .lines import Line
from .sentence import Sentence
from .spans import make_sentence, trim_spans

ALIGNMENTS = ("strict", "contract", "expand")
ANNOTATORS = ("first", "all", "merge")

EMPTY = "left out: text without tokens"
MOVED = "repaired: entity moved to the bounds of tokens"
UNLABELLED = "left out: texts without annotation (unlabelled)"
NO_ENTITY = "texts without any entity, read as annotated with none"
OTHER_ANNOTATORS = "left out: annotations of a text by other annotators, see --annotators"
DISAGREEMENT = "spans on which the annotators do not agree, left without annotation"
RELATION_DISAGREEMENT = "left out: relations on which the annotators do not agree"
CLASH = "texts with the id of another text, read as texts of their own"

LabelledIndices = tuple[int, int, str]
"""Positions of head and tail in the list of spans, and label of a relation."""


class TextAnnotation(NamedTuple):
    """An annotation of a text by one annotator.

    line: its place in the file.
    spans: start, exclusive end and label in characters (code points); None for a span that is left out.
    relations: relations between the spans, or None if they are not annotated.
    missing: start and end of the parts of the text that are not annotated, except entities in them.
    key: the same for all annotations of a text, or None if a text has only one.
    annotator: name, or "" if unknown.
    """

    line: Line
    text: str
    spans: Sequence[LabelledSpan | None]
    relations: Sequence[LabelledIndices] | None = None
    missing: Sequence[tuple[int, int]] = ()
    key: Hashable = None
    annotator: str = ""


def complete_relations(annotations: Iterable[TextAnnotation]) -> list[TextAnnotation]:
    """State for tools that only write the relations that there are whether a text is annotated with relations.

    If any text has relations, then all others are annotated with none.
    """
    annotations = list(annotations)
    if any(annotation.relations for annotation in annotations):
        return [annotation._replace(relations=annotation.relations or []) for annotation in annotations]
    return [annotation._replace(relations=None) for annotation in annotations]


def choose_annotators(
    annotations: Iterable[TextAnnotation], choice: str, report: ReadReport
) -> Iterator[TextAnnotation]:
    """Choose between several annotations of a text, or merge them.

    choice: "first" keeps the first annotation of each text, and "all" keeps all of them as separate texts. "merge"
        keeps what more than half of the annotators of a text agree on, and leaves other spans without annotation.
        Any other value is the name of the one annotator to keep.
    Yields the annotations in the order in which the texts first occur. What is left out is counted.
    Raises ValueError if no annotator has the name.
    """
    groups: defaultdict[Hashable, list[TextAnnotation]] = defaultdict(list)
    for annotation in annotations:
        key = object() if annotation.key is None else annotation.key
        if key in groups and groups[key][0].text != annotation.text:
            report.note(Note(annotation.line, CLASH, f"{short_repr(key)}, first at {groups[key][0].line.place}"))
            key = object()
        groups[key].append(annotation)
    names = {annotation.annotator for group in groups.values() for annotation in group}
    if choice not in ANNOTATORS and choice not in names:
        known = ", ".join(sorted(filter(None, names))) or "none is named"
        raise ValueError(
            f"annotators is {choice!r}; it must be one of {', '.join(ANNOTATORS)} or the name of an annotator ({known})"
        )
    for group in map(_join_partial, groups.values()):
        if choice == "merge" and len(group) > 1:
            yield _merge(group, report)
            continue
        wanted = choice if choice not in ANNOTATORS else group[0].annotator
        chosen = group if choice == "all" else [one for one in group if one.annotator == wanted][:1]
        yield from chosen
        for other in group:
            if not any(other is one for one in chosen):
                report.note(Note(other.line, OTHER_ANNOTATORS, f"annotator {other.annotator or 'without name'}"))


def _join_partial(group: Sequence[TextAnnotation]) -> list[TextAnnotation]:
    """Join the partial annotations of a text by the same annotator, such as answers to binary questions."""
    joined: list[TextAnnotation] = []
    places: dict[str, int] = {}
    for one in group:
        if one.missing and one.annotator in places:
            first = joined[places[one.annotator]]
            shift = len(first.spans)
            relations = [(head + shift, tail + shift, label) for head, tail, label in one.relations or ()]
            relations = [*(first.relations or ()), *relations]
            is_related = first.relations is not None or one.relations is not None
            joined[places[one.annotator]] = first._replace(
                spans=[*first.spans, *one.spans], relations=relations if is_related else None
            )
        else:
            if one.missing:
                places[one.annotator] = len(joined)
            joined.append(one)
    return joined


def _merge(group: Sequence[TextAnnotation], report: ReadReport) -> TextAnnotation:
    votes = Counter(span for one in group for span in set(filter(None, one.spans)))
    spans = sorted(span for span, count in votes.items() if 2 * count > len(group))
    # What one annotator did not see, another one has annotated.
    missing = list(group[0].missing) if all(one.missing for one in group) else []
    for span in sorted(votes.keys() - set(spans)):
        missing.append(span[:2])
        report.note(Note(group[0].line, DISAGREEMENT, f"{group[0].text[span[0] : span[1]]!r} {span[2]}"))
    related = [one for one in group if one.relations is not None]
    relation_votes = Counter(
        relation
        for one in related
        for relation in {(one.spans[head], one.spans[tail], label) for head, tail, label in one.relations or ()}
    )
    relations = []
    places = {span: i for i, span in enumerate(spans)}
    for (head, tail, label), count in relation_votes.items():
        if head in places and tail in places and 2 * count > len(related):
            relations.append((places[head], places[tail], label))
        else:
            report.note(Note(group[0].line, RELATION_DISAGREEMENT, label))
    return group[0]._replace(spans=spans, relations=relations if related else None, missing=missing)


def make_sentences(
    annotations: Iterable[TextAnnotation], report: ReadReport, tokenizer: Callable[[str], Doc], align: str
) -> Iterator[list[Sentence]]:
    """Tokenize annotated texts. Each text becomes a document, whose sentences are not stated.

    An entity that does not start and end at token boundaries cannot be learned. It is left out and counted, with its
    relations. The tokens that it overlaps are left without annotation, so that they are not learned as outside of
    entities.

    tokenizer: makes a Doc of a text. A text without tokens is left out and counted.
    align: what to do with such an entity: "strict" leaves it out, "contract" reduces it to the tokens inside of it,
        "expand" extends it to all tokens that it overlaps, see `Doc.char_span`. Moved entities are counted.
    Raises ValueError for an unknown `align`, and FormatError if the tokenizer changes a text.
    """
    if align not in ALIGNMENTS:
        raise ValueError(f"align is {align!r}; it must be one of {', '.join(ALIGNMENTS)}")
    for line, text, text_spans, relations, not_annotated, _, _ in annotations:
        doc = tokenizer(text)
        if doc.text != text:
            reason = f"the tokenizer changes the text to {short_repr(doc.text)}, so that offsets would be wrong"
            raise line.error(reason, "use the tokenizer of another language, or the format spans")
        if not len(doc):
            report.note(Note(line, EMPTY))
            continue
        characters, notes = trim_spans(line, text_spans, text)
        spans, missing, more_notes = _align(doc, characters, align, line)
        for start, end in not_annotated:
            missing.update(token.i for token in _overlapped(doc, start, end))
        report.checked[MISALIGNED] += len(spans)
        sentence, last_notes = make_sentence(
            line,
            [token.text for token in doc],
            spans,
            relations,
            [bool(token.whitespace_) for token in doc],
            missing,
        )
        report.documents += 1
        sentence.starts = None
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
    return f"{quote(doc.text[start:end])} {label} {' and '.join(reasons) or 'has other tokens'}"
