"""Candidates of relation extraction: the pairs of entities that a relation is looked for between."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from spacy.attrs import SENT_START
from spacy.tokens import Doc, Span
from spacy.util import registry

WITHIN = ("document", "sentence")


class Candidates(NamedTuple):
    """Entities and ordered pairs of a document.

    entities: in the order of the text.
    pairs: (P, 2) int64, head and tail as places in `entities`.
    regions: (P, 2) int64, the tokens [start, end) of the sentences that a pair spans; the document if it has none.
    """

    entities: Sequence[Span]
    pairs: np.ndarray
    regions: np.ndarray


@registry.misc("spacy_ner_arch.EntityPairs.v1")
def create_entity_pairs(
    within: str = "sentence", max_distance: int | None = None, spans_key: str | None = None
) -> "EntityPairs":
    """All ordered pairs of two different entities.

    within: "sentence" for pairs whose entities begin in the same one, which another component has to set; "document"
        for all. Models judge a pair by all the sentences that it spans, so distant ones are slow.
    max_distance: at most so many tokens lie between the two entities; null for any number.
    spans_key: take the entities from doc.spans[spans_key], where they may overlap, instead of doc.ents.
    """
    if within not in WITHIN:
        raise ValueError(f"spacy_ner_arch.EntityPairs.v1: unknown within = {within!r}; known are {', '.join(WITHIN)}")
    if max_distance is not None and max_distance < 0:
        raise ValueError(f"spacy_ner_arch.EntityPairs.v1: max_distance = {max_distance} is negative")
    return EntityPairs(within, max_distance, spans_key)


@dataclass(frozen=True)
class EntityPairs:
    """What `spacy_ner_arch.EntityPairs.v1` makes; called with a document."""

    within: str = "sentence"
    max_distance: int | None = None
    spans_key: str | None = None

    def entities(self, doc: Doc) -> Sequence[Span]:
        """Entities of the document, in the order of the text."""
        if self.spans_key is None:
            return doc.ents
        return sorted(doc.spans.get(self.spans_key, ()), key=lambda span: (span.start, span.end, span.label_))

    def __call__(self, doc: Doc) -> Candidates:
        entities = self.entities(doc)
        bounds = np.array([(span.start, span.end) for span in entities], dtype=np.int64).reshape(-1, 2)
        starts, ends = bounds.T
        begins, stops = self._sentences(doc)
        allowed = ~np.eye(len(bounds), dtype=bool)
        if self.within == "sentence":
            allowed &= begins[starts][:, None] == begins[starts]
        if self.max_distance is not None:
            between = np.maximum(starts[:, None], starts) - np.minimum(ends[:, None], ends)
            allowed &= between <= self.max_distance
        heads, tails = np.nonzero(allowed)
        first = np.minimum(starts[heads], starts[tails])
        last = np.maximum(ends[heads], ends[tails]) - 1
        return Candidates(entities, np.stack([heads, tails], 1), np.stack([begins[first], stops[last]], 1))

    def _sentences(self, doc: Doc) -> tuple[np.ndarray, np.ndarray]:
        """Of each token, the first token of its sentence and the one behind its last."""
        if not doc.has_annotation("SENT_START"):
            if self.within == "sentence" and len(doc):
                raise ValueError(
                    f"candidates within a sentence, but no sentences are set on {doc.text[:60]!r}: put a sentencizer "
                    "or a parser before this component (in training, also into annotating_components), or set within "
                    '= "document"'
                )
            return np.zeros(len(doc), dtype=np.int64), np.full(len(doc), len(doc), dtype=np.int64)
        opens = doc.to_array(SENT_START).astype(np.int64) == 1
        opens[:1] = True
        borders = np.append(np.flatnonzero(opens), len(doc))
        number = opens.cumsum() - 1
        return borders[number], borders[number + 1]


@dataclass
class PairFinder:
    """Candidates of a component: those of a generator, as far as its settings allow.

    generate: document -> Candidates.
    settings: of the component, read at every call, since loading changes them: `types` are the types of entities that
        the model knows, `type_pairs` those of head and tail that may be related (None for all), and `direction` is
        "labels" if each two entities are looked at once, the earlier one as head.
    """

    generate: Callable[[Doc], Candidates]
    settings: dict[str, Any]

    @property
    def once(self) -> bool:
        return bool(self.settings["direction"] == "labels")

    def __call__(self, doc: Doc) -> Candidates:
        candidates = self.generate(doc)
        pairs = candidates.pairs
        kept = pairs[:, 0] < pairs[:, 1] if self.once else np.ones(len(pairs), dtype=bool)
        if self.settings["type_pairs"] is not None:
            kept &= self.may_be_related(candidates) | (self.once and self.may_be_related(candidates, inverse=True))
        return Candidates(candidates.entities, pairs[kept], candidates.regions[kept])

    def may_be_related(self, candidates: Candidates, inverse: bool = False, symmetric: bool = False) -> np.ndarray:
        """(P,) bool: whether the types of a pair are allowed, the second entity being the head if `inverse`, or either
        of them if `symmetric`."""
        if self.settings["type_pairs"] is None or not len(candidates.pairs):
            return np.ones(len(candidates.pairs), dtype=bool)
        allowed = set(map(tuple, self.settings["type_pairs"]))
        names = sorted({span.label_ for span in candidates.entities})
        table = np.array([[(head, tail) in allowed for tail in names] for head in names], dtype=bool)
        if symmetric:
            table |= table.T
        numbers = np.array([names.index(span.label_) for span in candidates.entities], dtype=np.int64)
        heads, tails = candidates.pairs.T[::-1] if inverse else candidates.pairs.T
        return table[numbers[heads], numbers[tails]]

    def type_numbers(self, entities: Sequence[Span]) -> list[int]:
        """Numbers of the types, from 1; 0 for one that the model does not know."""
        numbers = {name: i for i, name in enumerate(self.settings["types"], start=1)}
        return [numbers.get(span.label_, 0) for span in entities]
