"""Relations between spans of a document: `doc._.relations`, and how they are stored."""

import math
from collections.abc import Iterable
from numbers import Real
from reprlib import repr as short_repr
from typing import Any, NamedTuple

from spacy.tokens import Doc, Span
from spacy.training import Example

# The key has the form of an extension attribute of spaCy, which `Span.as_doc(copy_user_data=True)` does not copy: in
# the shorter text the offsets would be wrong.
USER_DATA_KEY: Any = ("._.", "spacy_ner_arch.relations", None, None)

RelationKey = tuple[int, int, str, int, int, str, str]
"""Start and end of the head in characters, its label, the same for the tail, and the label of the relation."""


class Relation(NamedTuple):
    """A directed relation.

    head, tail: the arguments; they may overlap or be the same span, and need not be in doc.ents or doc.spans.
    label: its label.
    score: its probability, or None, as for gold relations.
    """

    head: Span
    tail: Span
    label: str
    score: float | None = None


def get_relations(doc: Doc) -> list[Relation]:
    """Relations of a Doc in the order in which they were set; an empty list if they were never set.

    doc.user_data stores the bounds and labels of the arguments as plain numbers and strings, so that they survive
    `Doc.to_bytes`, `DocBin(store_user_data=True)`, copies and other processes. The bounds are character offsets, since
    token indices change when tokens are merged or split. Relations are lost in a DocBin without user data, in
    `Span.as_doc` and therefore where spaCy's corpus reader splits Docs (`max_length` above 0 or `gold_preproc`), and,
    with a warning, in `Doc.from_docs`.

    Raises ValueError if the bounds of an argument are not token bounds any more.
    """
    return [_make_relation(doc, row) for row in doc.user_data.get(USER_DATA_KEY, ())]


def set_relations(doc: Doc, relations: Iterable[Relation | tuple[Any, ...]]) -> None:
    """Replace the relations of a Doc. Duplicates are kept once, with the first score.

    relations: Relations or tuples (head, tail, label[, score]). An empty list means that the Doc is annotated and has
    no
        relation; see `has_relations`.
    Raises ValueError, and changes nothing, if an argument is empty or not a span of this text, a label is not a
        non-empty string, or a score is not finite.
    """
    rows: dict[RelationKey, float | None] = {}
    for item in relations:
        relation = Relation(*item)
        key = _make_key(doc, relation)
        rows.setdefault(key, None if relation.score is None else float(relation.score))
    # Set a new list, since copies of a Doc share the old one.
    doc.user_data[USER_DATA_KEY] = [[*key, score] for key, score in rows.items()]


def has_relations(doc: Doc) -> bool:
    """Whether relations were set, even an empty list."""
    return USER_DATA_KEY in doc.user_data


def relation_keys(doc: Doc) -> list[RelationKey]:
    """Stored relations without their scores, each once, not checked against the tokens."""
    # After DocBin the rows are tuples.
    return [tuple(row[:-1]) for row in doc.user_data.get(USER_DATA_KEY, ())]


def aligned_keys(example: Example) -> list[RelationKey]:
    """`relation_keys` of the gold side of an example, in characters of its predicted side.

    An argument that does not align with the predicted tokens gets negative offsets, so that its relation counts as gold
    but equals no prediction.
    """
    reference, predicted = example.reference, example.predicted
    keys = relation_keys(reference)
    same_text = reference.text == predicted.text

    def align(start: int, end: int) -> tuple[int, int]:
        span = (predicted if same_text else reference).char_span(start, end)
        if span is not None and not same_text:
            spans = example.get_aligned_spans_y2x([span], allow_overlap=True)
            span = spans[0] if spans else None
        return (-1 - start, -1 - end) if span is None else (span.start_char, span.end_char)

    return [(*align(*key[:2]), key[2], *align(*key[3:5]), key[5], key[6]) for key in keys]


def _make_relation(doc: Doc, row: list[Any]) -> Relation:
    head_start, head_end, head_label, tail_start, tail_end, tail_label, label, score = row
    head = doc.char_span(head_start, head_end, label=head_label)
    tail = doc.char_span(tail_start, tail_end, label=tail_label)
    if head is None or tail is None:
        raise ValueError(
            f"doc._.relations: {label} from {doc.text[head_start:head_end]!r} to {doc.text[tail_start:tail_end]!r} in "
            f"{short_repr(doc.text)}: the bounds of an argument are not token bounds any more. Set relations after "
            f"merging and splitting tokens, or read them as characters with "
            "spacy_ner_arch.annotation.relations.relation_keys"
        )
    return Relation(head, tail, label, score)


def _make_key(doc: Doc, relation: Relation) -> RelationKey:
    head, tail, label, score = relation

    def fail(reason: str) -> ValueError:
        return ValueError(f"doc._.relations: {label!r} from {head!r} to {tail!r}: {reason}")

    if not isinstance(label, str) or not label:
        raise fail("the label must be a non-empty string")
    if score is not None and not (isinstance(score, Real) and math.isfinite(score)):
        raise fail(f"the score {score!r} must be None or a finite number")
    for span in (head, tail):
        if not isinstance(span, Span):
            raise fail("an argument is not a Span; give doc[2:4] or one of doc.ents")
        if span.start_char >= span.end_char:
            raise fail("an argument is empty")
        if span.doc is not doc and span.doc.text != doc.text:
            raise fail("an argument is a span of another text; take it from this Doc")
        if span.doc is not doc and doc.char_span(span.start_char, span.end_char) is None:
            raise fail("an argument is a span of a Doc with other tokens; its bounds are not token bounds here")
    return head.start_char, head.end_char, head.label_, tail.start_char, tail.end_char, tail.label_, label


# Another package may have registered the name; the functions above work without it.
if not Doc.has_extension("relations"):
    Doc.set_extension("relations", getter=get_relations, setter=set_relations)
