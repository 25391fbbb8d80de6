"""Relations between spans of a document: `doc._.relations`, and how they are stored."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Real
from operator import itemgetter
from reprlib import repr as short_repr
from typing import Any, NamedTuple

from spacy.tokens import Doc, Span
from spacy.training import Example

from .alignment import align_each
from .extensions import register

# Relations are stored in doc.user_data like an extension attribute of a span: under a key with the character offsets
# of the text that their arguments cover. `Doc.from_docs` and `Span.as_doc` shift the offsets of such keys, so the
# offsets of the arguments are stored relative to those of the key.
STORED_AS = "spacy_ner_arch.relations"

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


def get_relations(doc: Doc) -> tuple[Relation, ...]:
    """Relations of a Doc in the order of the text; empty if they were never set.

    An argument with the bounds and the label of an entity in doc.ents is this entity, with its `kb_id_` and `id_`.

    The result is a tuple, since appending to a list would not change the Doc: set `doc._.relations` instead.

    doc.user_data stores the bounds and labels of the arguments as plain numbers and strings, so that they survive
    `Doc.to_bytes`, `DocBin(store_user_data=True)`, copies, other processes, `Doc.from_docs`, and
    `Span.as_doc(copy_user_data=True)` if the span contains both arguments. The bounds are character offsets, since
    token indices change when tokens are merged or split. Relations are lost in a DocBin without user data, in
    `Span.as_doc` without user data, and where spaCy's corpus reader splits Docs (`max_length` above 0 or
    `gold_preproc`).

    Raises ValueError if the bounds of an argument are not token bounds any more.
    """
    rows = stored_relations(doc)
    entities = {(ent.start_char, ent.end_char, ent.label_): ent for ent in (doc.ents if rows else ())}
    return tuple(_make_relation(doc, entities, key, score) for key, score in rows)


def set_relations(doc: Doc, relations: Iterable[Relation | tuple[Any, ...]]) -> None:
    """Replace the relations of a Doc. Duplicates are kept once, with the first score.

    relations: Relations or tuples (head, tail, label[, score]). An empty list means that the Doc is annotated and has
        no relation; see `has_relations`.
    Raises ValueError, and changes nothing, if this is not a list of such tuples, an argument is empty or not a span of
        this text, a label is empty or not a string, or a score is not finite.
    """
    rows: dict[RelationKey, float | None] = {}
    same_text = [doc]
    try:
        found = [Relation(*item) for item in relations]
    except TypeError as error:
        raise ValueError(
            f"doc._.relations = {short_repr(relations)}: give a list of (head, tail, label) or (head, tail, label, "
            "score); an empty list means that the document has no relation"
        ) from error
    for relation in found:
        key = _make_key(doc, relation, same_text)
        rows.setdefault(key, None if relation.score is None else float(relation.score))
    _store(doc, rows)


def keep_relations(doc: Doc, is_kept: Callable[[RelationKey], bool]) -> None:
    """Remove the relations of a Doc for which a function returns False. Their arguments need no token bounds.

    A Doc that had relations still counts as annotated, see `has_relations`.
    """
    rows = stored_relations(doc)
    kept = {key: score for key, score in rows if is_kept(key)}
    if len(kept) < len(rows):
        _store(doc, kept)


def _store(doc: Doc, rows: Mapping[RelationKey, float | None]) -> None:
    """Replace the relations in doc.user_data."""
    user_data: dict[Any, Any] = doc.user_data
    for stored in list(_storage(doc)):
        del user_data[stored]
    # This key marks the Doc as annotated, even without relations.
    user_data["._.", STORED_AS, 0, 0] = []
    for key, score in sorted(rows.items(), key=lambda row: row[0]):
        head_start, head_end, head_label, tail_start, tail_end, tail_label, label = key
        low, high = min(head_start, tail_start), max(head_end, tail_end)
        head, tail = [head_start - low, head_end - low, head_label], [tail_start - low, tail_end - low, tail_label]
        user_data.setdefault(("._.", STORED_AS, low, high), []).append([*head, *tail, label, score])


def has_relations(doc: Doc) -> bool:
    """Whether relations were set, even an empty list."""
    return any(True for _ in _storage(doc))


def stored_relations(doc: Doc) -> list[tuple[RelationKey, float | None]]:
    """Relations of a Doc with their scores, as stored: each once, in the order of the text, not checked against the
    tokens.

    Raises ValueError if other code has stored something else under their key.
    """
    rows: dict[RelationKey, float | None] = {}
    length = len(doc.text)
    key: Any = None
    try:
        for key in _storage(doc):
            _, _, low, high = key
            # Skip relations outside of the text, which `Span.as_doc` keeps.
            if low < 0 or high > length:
                continue
            for start, end, head_label, tail_start, tail_end, tail_label, label, score in doc.user_data[key]:
                if not (
                    0 <= start < end <= high - low >= tail_end > tail_start >= 0
                    and type(low + start + end + tail_start + tail_end) is int
                    and isinstance(head_label + tail_label + label, str)
                    and (score is None or -math.inf < score < math.inf)
                ):
                    raise ValueError("not a relation")
                row = (low + start, low + end, head_label, low + tail_start, low + tail_end, tail_label, label)
                rows.setdefault(row, score)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the stored relations of the document {short_repr(doc.text)} are damaged: doc.user_data[{key!r}] is "
            f"{short_repr(doc.user_data[key])}; convert the source of the corpus again, or set doc._.relations = [] to "
            "remove them"
        ) from error
    return sorted(rows.items(), key=itemgetter(0))


def relation_keys(doc: Doc) -> list[RelationKey]:
    """`stored_relations` without the scores."""
    return [key for key, _ in stored_relations(doc)]


def _storage(doc: Doc) -> Iterator[Any]:
    """Keys of doc.user_data that store relations."""
    return (key for key in doc.user_data if isinstance(key, tuple) and key[:2] == ("._.", STORED_AS))


def get_relations_json(doc: Doc) -> list[dict[str, Any]]:
    """Relations of a Doc as plain data: `head` and `tail` (`start` and `end` in characters, `label`), `label`, `score`.

    `doc.to_json(underscore=["relations_json"])` writes them, and `Doc.from_json` reads them.
    """
    return [
        {
            "head": dict(zip(("start", "end", "label"), key[:3], strict=True)),
            "tail": dict(zip(("start", "end", "label"), key[3:6], strict=True)),
            "label": key[6],
            "score": score,
        }
        for key, score in stored_relations(doc)
    ]


def set_relations_json(doc: Doc, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace the relations of a Doc by plain data in the form of `get_relations_json`; the score may be missing.

    Raises ValueError if the bounds of an argument are not token bounds.
    """

    def argument(place: Mapping[str, Any]) -> Span:
        span = doc.char_span(place["start"], place["end"], label=place.get("label", ""))
        if span is None:
            raise ValueError(f"doc._.relations_json: {place} does not match token bounds in {short_repr(doc.text)}")
        return span

    set_relations(doc, [(argument(r["head"]), argument(r["tail"]), r["label"], r.get("score")) for r in rows])


def aligned_keys(example: Example) -> list[RelationKey]:
    """`relation_keys` of the reference of an example, with character offsets in its predicted document.

    An argument that does not align with the predicted tokens gets negative offsets, so that its relation counts as gold
    but equals no prediction.
    """
    reference, predicted = example.reference, example.predicted
    keys = relation_keys(reference)
    same_text = reference.text == predicted.text

    places = {place for key in keys for place in (key[:2], key[3:5])}
    spans = {place: (predicted if same_text else reference).char_span(*place) for place in places}
    if not same_text:
        found = {place: span for place, span in spans.items() if span is not None}
        for place, bounds in zip(found, align_each(example, found.values()), strict=True):
            spans[place] = predicted[slice(*bounds)] if bounds else None

    def align(start: int, end: int) -> tuple[int, int]:
        span = spans[start, end]
        return (-1 - start, -1 - end) if span is None else (span.start_char, span.end_char)

    return [(*align(*key[:2]), key[2], *align(*key[3:5]), key[5], key[6]) for key in keys]


def _make_relation(
    doc: Doc, entities: Mapping[tuple[int, int, str], Span], key: RelationKey, score: float | None
) -> Relation:
    """The relation of a key. entities: doc.ents by bounds and label."""
    label = key[6]
    head, tail = (entities.get(place) or doc.char_span(*place[:2], label=place[2]) for place in (key[:3], key[3:6]))
    if head is None or tail is None:
        raise ValueError(
            f"doc._.relations: {label} from {doc.text[slice(*key[:2])]!r} to {doc.text[slice(*key[3:5])]!r} in "
            f"{short_repr(doc.text)}: the bounds of an argument are not token bounds any more. Set relations after "
            f"merging and splitting tokens, or read them as characters with "
            "spacy_ner_arch.annotation.relations.relation_keys"
        )
    return Relation(head, tail, label, score)


def _make_key(doc: Doc, relation: Relation, same_text: list[Doc]) -> RelationKey:
    """Check a relation. same_text: documents that are known to have the text of `doc`; the function adds to it."""
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
        if all(span.doc is not other for other in same_text):
            if span.doc.text != doc.text:
                raise fail("an argument is a span of another text; take it from this Doc")
            same_text.append(span.doc)
        if span.doc is not doc and doc.char_span(span.start_char, span.end_char) is None:
            raise fail("an argument is a span of a Doc with other tokens; its bounds are not token bounds here")
    return head.start_char, head.end_char, head.label_, tail.start_char, tail.end_char, tail.label_, label


register(Doc, "relations", get_relations, set_relations)
register(Doc, "relations_json", get_relations_json, set_relations_json)
