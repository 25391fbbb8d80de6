"""Gold entities aligned with the tokens of the pipeline, and entities and spans that components have set."""

from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from spacy.attrs import ENT_ID, ENT_IOB, ENT_TYPE
from spacy.tokens import Doc, Span, SpanGroup
from spacy.training import Example

from .alignment import align, misaligned_tokens, same_tokens
from .scores import get_score
from .tags import LabelledSpan
from .words import find_words

# Values of spaCy's ENT_IOB.
IOB_MISSING, IOB_INSIDE, IOB_BEGIN = 0, 1, 3


def annotated_tokens(doc: Doc) -> np.ndarray:
    """(T,) bool, mask of the tokens with entity annotation, including tokens annotated as outside of entities."""
    return doc.to_array(ENT_IOB) != IOB_MISSING


def gold_entities(eg: Example) -> tuple[list[LabelledSpan], np.ndarray]:
    """Gold entities on the predicted tokens, and which of these tokens are annotated, (T,) bool.

    White space at the ends of an entity is trimmed.
    """
    gold = eg.reference.ents
    if same_tokens(eg):
        spans = trim(eg.predicted, [(span.start, span.end, span.label_) for span in gold])
        return spans, annotated_tokens(eg.reference)
    return trim(eg.predicted, align(eg, gold)), np.array([tag is not None for tag in eg.get_aligned_ner()], dtype=bool)


def gold_group(eg: Example, key: str) -> tuple[list[LabelledSpan], np.ndarray]:
    """Gold spans of a group in doc.spans on the predicted tokens, and which of these tokens are annotated, (T,) bool.

    A document without the key is not annotated. In a document with gold entities, tokens without entity annotation are
    not annotated either, such as those of an entity that did not align when the corpus was converted.
    """
    gold = list(eg.reference.spans.get(key, ()))
    spans = trim(eg.predicted, align(eg, gold))
    annotated = ~misaligned_tokens(eg, gold)
    if key not in eg.reference.spans:
        annotated[:] = False
    elif eg.reference.has_annotation("ENT_IOB"):
        known = gold_entities(eg)[1]
        for start, end, _ in spans:  # doc.ents cannot have all of them
            known[start:end] = True
        annotated &= known
    return spans, annotated


def outside_tokens(spans: Iterable[LabelledSpan], annotated: np.ndarray) -> np.ndarray:
    """(T,) bool, mask of the annotated tokens outside of all gold spans."""
    outside = annotated.copy()
    for start, end, _ in spans:
        outside[start:end] = False
    return outside


def trim(doc: Doc, spans: Sequence[LabelledSpan]) -> list[LabelledSpan]:
    """Spans without the white space at their ends. Spans of white space only are left out."""
    if not any(doc[start].is_space or doc[end - 1].is_space for start, end, _ in spans):  # nearly always
        return list(spans)
    (words,) = find_words([doc])
    bounds = words.from_tokens(np.array([span[:2] for span in spans], dtype=np.int64).reshape(-1, 2)).tolist()
    rows = zip(bounds, spans, strict=True)
    return [(*words.to_tokens(start, end), label) for (start, end), (*_, label) in rows if start < end]


class PresentEntities(NamedTuple):
    """Entity annotation of a document by other components, which must be kept.

    entities: the entities.
    blocked: spans that are annotated as not being an entity.
    taken: (T,) bool, the tokens of both, where no other entity may be; None if there are none.
    """

    entities: list[Span]
    blocked: list[Span]
    taken: np.ndarray | None

    def is_free(self, start: int, end: int) -> bool:
        """Whether another entity may be at these tokens."""
        return self.taken is None or not self.taken[start:end].any()

    def without_predicted(self, labels: Container[str]) -> "PresentEntities":
        """Remove entities that have a probability and one of the labels. Their tokens become free."""
        predicted = {ent for ent in self.entities if get_score(ent) is not None and ent.label_ in labels}
        if self.taken is None or not predicted:
            return self
        taken = self.taken.copy()
        for span in predicted:
            taken[span.start : span.end] = False
        return self._replace(entities=[span for span in self.entities if span not in predicted], taken=taken)

    def set_with(self, doc: Doc, entities: list[Span]) -> None:
        """Set these entities and further ones. All other tokens become outside of entities."""
        remove_ids(doc, np.ones(len(doc), dtype=bool) if self.taken is None else ~self.taken)
        doc.set_ents(self.entities + entities, blocked=self.blocked, default="outside")


def remove_ids(doc: Doc, tokens: np.ndarray) -> None:
    """Remove the ids of replaced entities: `Doc.set_ents` would give them to the new entities at these tokens.

    tokens: (T,) bool, the tokens of these entities.
    """
    ids = doc.to_array(ENT_ID)
    for i in np.flatnonzero((ids != 0) & tokens).tolist() if ids.any() else ():
        doc[i].ent_id = 0


def present_entities(doc: Doc, overwrite: bool) -> PresentEntities:
    """Entity annotation of a document by other components; nothing if it is to be overwritten."""
    if overwrite or not doc.has_annotation("ENT_IOB"):
        return PresentEntities([], [], None)
    iob, label = doc.to_array([ENT_IOB, ENT_TYPE]).T
    taken = (iob == IOB_INSIDE) | (iob == IOB_BEGIN)
    blocked = [doc[i : i + 1] for i in np.flatnonzero((iob == IOB_BEGIN) & (label == 0)).tolist()]
    return PresentEntities(list(doc.ents), blocked, taken)


def scored_entities(doc: Doc) -> list[tuple[Span, float | None]]:
    """Entities with their probabilities; None for entities without a probability."""
    return [(ent, get_score(ent)) for ent in doc.ents]


def scored_spans(group: SpanGroup) -> list[tuple[Span, float | None]]:
    """Spans of a group with their probabilities, as for `scored_entities`."""
    scores = [float(score) for score in group.attrs.get("scores", ())]
    return list(zip(group, scores if len(scores) == len(group) else [None] * len(group), strict=True))


def span_scores(doc: Doc, spans: Sequence[Span], key: str | None = None) -> np.ndarray:
    """(n,) probabilities of spans that are in doc.ents or doc.spans; inf for those without one, which are certain.

    key: see `find_scores`.
    """
    found = find_scores(doc, spans, key)
    return np.array([np.inf if score is None else score for score in found], dtype=np.float64)


def find_scores(doc: Doc, spans: Sequence[Span], key: str | None = None) -> list[float | None]:
    """Probabilities of spans that are in doc.ents or doc.spans; None for those without one, which are certain.

    key: the group in doc.spans that the spans come from; None for doc.ents. For a span in several layers, the
        probability in this group counts.
    """
    own = scored_spans(doc.spans[key]) if key is not None and key in doc.spans else scored_entities(doc)
    others = [row for group in doc.spans.values() for row in scored_spans(group)] + scored_entities(doc)
    known = [(span, score) for span, score in others if score is not None] + own
    scores = {(span.start, span.end, span.label): score for span, score in known}
    return [scores.get((span.start, span.end, span.label)) for span in spans]


def label_spans(spans: Iterable[Span]) -> set[LabelledSpan]:
    return {(span.start, span.end, span.label_) for span in spans}


def count_as_right(eg: Example, spans: Sequence[Span], key: str | None = None) -> np.ndarray:
    """(n,) bool, which spans of the predicted document are right. Spans without gold annotation may be right.

    Spans without a probability count as right, since they are certain. So do spans from a candidate generator that are
    in no layer of the document.

    key: the group in doc.spans that the spans come from; None for doc.ents.
    """
    gold, annotated = gold_entities(eg) if key is None else gold_group(eg, key)
    closed = annotated if key is None else outside_tokens(gold, annotated)
    right = {*gold}
    if key is None:
        right |= label_spans(spans) - label_spans(eg.predicted.ents)
    known = zip(spans, find_scores(eg.predicted, spans, key), strict=True)

    def may_be_right(span: Span) -> bool:
        tokens = slice(span.start, span.end)
        return not annotated[tokens].all() and not closed[tokens].any()

    return np.array(
        [score is None or (span.start, span.end, span.label_) in right or may_be_right(span) for span, score in known],
        dtype=bool,
    )
