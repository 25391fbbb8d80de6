"""The parts of a document that writers write."""

import json
from collections.abc import Collection, Iterator, Sequence, Set
from itertools import chain
from typing import Any, NamedTuple

from spacy.tokens import Doc, Span

from ...annotation.alternatives import ALTERNATIVES
from ...annotation.entities import scored_entities, scored_spans
from ...annotation.relations import get_relations
from ...annotation.teachers import TEACHER
from ..spans import widest_apart


class Labels(NamedTuple):
    """Labels of spans and of relations."""

    spans: Set[str] = frozenset()
    relations: Set[str] = frozenset()

    def joined(self, other: "Labels") -> "Labels":
        """The labels of both."""
        return Labels(self.spans | other.spans, self.relations | other.relations)


class Content(NamedTuple):
    """The parts of a document that writers write.

    number: number of the document, from 1.
    spans_key: key of the group in doc.spans.
    spans: the entities, the spans of the group, and the arguments of relations, each once and sorted.
    scores: the probability of each span, or None.
    entities: spans that do not overlap.
    relations: positions of head and tail in the list of spans, label, and probability or None.
    without_label: descriptions of spans without a label, and of relations between them, which are not written.
    model: name of the model that predicted the annotation; None if it is gold, or of an unknown model.
    is_predicted: whether it is predicted, and to be reviewed.
    fields: see `get_fields`; only fields that JSON can represent.
    not_json: names of the other fields.
    """

    number: int
    spans_key: str
    doc: Doc
    spans: list[Span]
    scores: list[float | None]
    entities: list[Span]
    relations: list[tuple[int, int, str, float | None]]
    without_label: list[str]
    model: str | None
    is_predicted: bool
    fields: dict[str, Any]
    not_json: list[str]

    def renamed_fields(self, taken: Collection[str]) -> dict[str, Any]:
        """`rename` of the fields. taken: names that the tool has itself."""
        return rename(self.fields, taken)

    @property
    def is_labelled(self) -> bool:
        """Whether anything is annotated. An empty group means that there are no spans."""
        has_spans = bool(self.spans or self.relations) or self.spans_key in self.doc.spans
        return has_spans or any(token.ent_iob for token in self.doc)


def rename(fields: dict[str, Any], taken: Collection[str]) -> dict[str, Any]:
    """Prefix names of fields that are taken with `input_`, repeatedly until no other field has the new name."""
    renamed: dict[str, Any] = {}
    for name, value in fields.items():
        free = name
        while free in taken or free in renamed or (free != name and free in fields):
            free = f"input_{free}"
        renamed[free] = value
    return renamed


def get_fields(doc: Doc) -> dict[str, Any]:
    """The fields of the record that became a document, such as its id: entries of doc.user_data named by strings."""
    fields = {name: value for name, value in doc.user_data.items() if isinstance(name, str) and name != TEACHER}
    if fields.get("text") == doc.text:
        del fields["text"]
    return fields


def get_json_fields(doc: Doc) -> dict[str, Any]:
    """The fields of a document that JSON can represent, see `get_fields`."""
    return {name: value for name, value in get_fields(doc).items() if is_json(value)}


def is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def make_content(number: int, doc: Doc, spans_key: str, model: str | None) -> Content:
    """Collect the parts of a document to write."""
    found: dict[tuple[int, int, str], float | None] = {}
    for ent, score in scored_entities(doc):
        found[ent.start, ent.end, ent.label_] = score
    is_predicted = model is not None
    if spans_key in doc.spans:
        is_predicted |= "scores" in doc.spans[spans_key].attrs  # also of an empty group
        for span, score in scored_spans(doc.spans[spans_key]):
            key = span.start, span.end, span.label_
            found[key] = found.get(key) if score is None else score
    relations = get_relations(doc)
    for argument in chain.from_iterable((relation.head, relation.tail) for relation in relations):
        found.setdefault((argument.start, argument.end, argument.label_), None)
    spans = sorted(key for key in found if key[2])
    fields = get_fields(doc)
    content = Content(
        number,
        spans_key,
        doc,
        [Span(doc, start, end, label) for start, end, label in spans],
        [found[key] for key in spans],
        [ent for ent in doc.ents if ent.label_] or [Span(doc, *key[:2], key[2]) for key in widest_apart(spans)],
        [],
        [repr(doc[start:end].text) for start, end, label in found if not label],
        model,
        is_predicted or any(score is not None for score in [*found.values(), *(one.score for one in relations)]),
        {name: value for name, value in fields.items() if is_json(value)},
        [name for name, value in fields.items() if not is_json(value)],
    )
    places = {key: i for i, key in enumerate(spans)}
    for head, tail, label, score in relations:
        pair = [places.get((argument.start, argument.end, argument.label_)) for argument in (head, tail)]
        if pair[0] is not None and pair[1] is not None:
            content.relations.append((pair[0], pair[1], label, score))
        else:
            content.without_label.append(f"{head.text!r} {label} {tail.text!r}")
    return content


def contradictions(content: Content) -> Iterator[str]:
    """Describe the entities that spans of the group contradict, which are written as well.

    These entities are not in the group, and a span of the group crosses them or has another label at the same place.
    """
    doc = content.doc
    group = list(doc.spans.get(content.spans_key, ()))
    known = {(span.start, span.end, span.label) for span in group}
    entity_at = {i: ent for ent in doc.ents for i in range(ent.start, ent.end)}
    found: dict[int, str] = {}
    for span in group:
        for i in (span.start, span.end - 1):
            ent = entity_at.get(i)
            if ent is None or (ent.start, ent.end, ent.label) in known:
                continue
            crosses = (ent.start - span.start) * (ent.end - span.end) > 0
            if crosses or (ent.start, ent.end) == (span.start, span.end):
                found.setdefault(ent.start, f"{ent.text!r} {ent.label_} and {span.text!r} {span.label_}")
    yield from found.values()


def find_labels(contents: Sequence[Content]) -> Labels:
    """All labels that documents have."""
    spans = {span.label_ for content in contents for span in content.spans}
    return Labels(spans, {relation[2] for content in contents for relation in content.relations})


def alternative_labels(contents: Sequence[Content]) -> Labels:
    """Labels of the alternatives to the annotation, such as those that `ner-arch review` proposes."""
    groups = (content.doc.spans.get(ALTERNATIVES, ()) for content in contents)
    return Labels({span.label_ for group in groups for span in group if span.label_})


def count_sentences(doc: Doc) -> int:
    return len(list(doc.sents)) if doc.has_annotation("SENT_START") else 1
