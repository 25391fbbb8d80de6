"""Replace the entities and spans of a document together with their scores, ids, alternatives and relations."""

from collections.abc import Set

import numpy as np
from spacy.tokens import Doc

from .alternatives import ALTERNATIVES
from .entities import label_spans, remove_ids
from .layers import SPANS_KEY
from .relations import keep_relations
from .scores import remove_scores
from .teachers import TEACHER

# Start and end of an entity or a span in characters, and its label.
Place = tuple[int, int, str]


def clear_entities(doc: Doc) -> None:
    """Remove the entities of a document before new entities are set, and all data about them: scores, ids,
    alternatives, the chain of a teacher, and the group in which `ner-arch convert` repeats the entities.

    Other groups of spans are kept. For relations, call `annotated_places` before, and `remove_stale_relations` when the
    new entities are set.
    """
    if repeats_entities(doc):
        del doc.spans[SPANS_KEY]
    if ALTERNATIVES in doc.spans:
        del doc.spans[ALTERNATIVES]
    remove_scores(doc)
    remove_ids(doc, np.ones(len(doc), dtype=bool))
    doc.user_data.pop(TEACHER, None)
    doc.set_ents([], default="missing")


def repeats_entities(doc: Doc) -> bool:
    """Whether the span group of `ner-arch convert` has exactly the entities of a document."""
    if SPANS_KEY not in doc.spans or not doc.has_annotation("ENT_IOB"):
        return False
    return label_spans(doc.ents) == label_spans(doc.spans[SPANS_KEY])


def annotated_places(doc: Doc) -> set[Place]:
    """The entities of a document and the spans of its groups, without the alternatives to entities."""
    groups = [group for key, group in doc.spans.items() if key != ALTERNATIVES]
    return {(span.start_char, span.end_char, span.label_) for spans in (doc.ents, *groups) for span in spans}


def remove_stale_relations(doc: Doc, before: Set[Place]) -> None:
    """Remove the relations with an argument that was an entity or a span before and is no longer one with this label.

    Relations between other spans are kept: their arguments need not be annotated. A document whose last relation is
    removed still counts as annotated, with no relations.

    before: `annotated_places` of the document when the relations were annotated.
    """
    gone = before - annotated_places(doc)
    if gone:
        keep_relations(doc, lambda key: gone.isdisjoint((key[:3], key[3:6])))
