"""Candidates of relation extraction: the pairs of entities that are classified."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from spacy.attrs import SENT_START
from spacy.tokens import Doc, Span
from spacy.util import registry

from .describe import quote
from .word_places import Words
from .words import find_words

WITHIN = ("document", "sentence")
# For documents without sentences.
SENTENCE_REMEDY = (
    "put a sentencizer before it and into [training] annotating_components, or take the pairs of whole documents with "
    'within = "document" in its candidates. In Python: nlp.add_pipe("sentencizer", first=True) and '
    'nlp.update(..., annotates=["sentencizer"]), or nlp.add_pipe("relation_extractor", config={"candidates": '
    '{"within": "document"}})'
)


class Candidates(NamedTuple):
    """Entities and ordered pairs of a document.

    entities: in the order of the text.
    pairs: (P, 2) int64, head and tail as indices into `entities`.
    regions: (P, 2) int64, the tokens [start, end) from which a pair is classified, such as the sentences that it spans.
    bounds: (E, 2) int64, first token and exclusive end of the entities; see `for_model`.
    types: (E,) int64, numbers of the entity types for the model; see `for_model`.
    scores: (E,), probabilities of the entities, inf for certain ones; empty in training.
    """

    entities: Sequence[Span]
    pairs: np.ndarray
    regions: np.ndarray
    bounds: np.ndarray = np.zeros((0, 2), dtype=np.int64)
    types: np.ndarray = np.zeros(0, dtype=np.int64)
    scores: np.ndarray = np.zeros(0)

    def select(self, kept: np.ndarray) -> "Candidates":
        """Select pairs by index or mask; keep all entities."""
        return self._replace(pairs=self.pairs[kept], regions=self.regions[kept])

    def for_model(self, names: Sequence[str]) -> "Candidates":
        """Add the bounds of the entities and the numbers of their types: from 1 in the order of the names, 0 for other
        types."""
        numbers = {name: i for i, name in enumerate(names, start=1)}
        types = np.array([numbers.get(span.label_, 0) for span in self.entities], dtype=np.int64)
        return self._replace(bounds=token_bounds(self.entities), types=types)

    def in_words(self, words: Words) -> "Candidates":
        """Convert bounds and regions from token indices to word indices. An entity of white space only becomes the word
        after it."""
        starts, ends = words.from_tokens(self.bounds).T
        starts = starts.clip(max=max(0, len(words) - 1))
        bounds = np.stack([starts, np.maximum(ends, starts + 1)], axis=1)
        low, high = bounds[self.pairs, 0].min(1), bounds[self.pairs, 1].max(1)
        begins, stops = words.from_tokens(self.regions).T
        regions = np.stack([np.minimum(begins, low), np.maximum(stops, high)], axis=1)
        return self._replace(bounds=bounds, regions=regions)


def token_bounds(spans: Sequence[Span]) -> np.ndarray:
    """(n, 2) int64, first token and exclusive end of the spans."""
    return np.array([(span.start, span.end) for span in spans], dtype=np.int64).reshape(-1, 2)


@registry.misc("spacy_ner_arch.EntityPairs.v1")
def create_entity_pairs(
    within: str = "sentence", max_distance: int | None = None, spans_key: str | None = None
) -> "EntityPairs":
    """All ordered pairs of two different entities.

    within: "sentence" for pairs whose entities begin in the same sentence (sentences must be set by another component),
        "document" for all pairs. The model reads all sentences that a pair spans, so distant pairs are slow.
    max_distance: maximum number of words between the two entities; null for no limit.
    spans_key: take the entities from doc.spans[spans_key], where they may overlap, instead of doc.ents.
    """
    if within not in WITHIN:
        raise ValueError(f"spacy_ner_arch.EntityPairs.v1: unknown within = {within!r}; choose from {', '.join(WITHIN)}")
    if max_distance is not None and max_distance < 0:
        raise ValueError(f"spacy_ner_arch.EntityPairs.v1: max_distance = {max_distance} is negative")
    return EntityPairs(within, max_distance, spans_key)


@dataclass(frozen=True)
class EntityPairs:
    """Candidate generator of `spacy_ner_arch.EntityPairs.v1`: Doc -> Candidates. Time is linear in the number of
    pairs."""

    within: str = "sentence"
    max_distance: int | None = None
    spans_key: str | None = None

    def entities(self, doc: Doc) -> Sequence[Span]:
        """Entities of the document in the order of the text. Duplicates in doc.spans count as one entity."""
        if self.spans_key is None:
            return doc.ents
        spans = {(span.start, span.end, span.label_): span for span in doc.spans.get(self.spans_key, ())}
        return [spans[key] for key in sorted(spans)]

    def __call__(self, doc: Doc, entities: Sequence[Span] | None = None) -> Candidates:
        """The candidates of a document.

        entities: entities to pair, in the order of the text; None for those of the document.
        """
        if entities is None:
            entities = self.entities(doc)
        nothing = np.zeros((0, 2), dtype=np.int64)
        if len(entities) < 2:
            return Candidates(entities, nothing, nothing)
        starts, ends = token_bounds(entities).T
        begins, stops = self._sentences(doc)
        # The entities are sorted by start, so the later partners of each entity are one range.
        last = np.full(len(starts), len(starts))
        if self.within == "sentence":
            last = np.searchsorted(begins[starts], begins[starts], side="right")
        if self.max_distance is not None:
            (words,) = find_words([doc])
            first_words, end_words = words.from_tokens(np.stack([starts, ends], axis=1)).T
            last = np.minimum(last, np.searchsorted(first_words, end_words + self.max_distance, side="right"))
        here = np.arange(len(starts))
        counts = np.maximum(last - here - 1, 0)
        first = np.repeat(here, counts)
        second = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts) + first + 1
        pairs = np.stack([np.concatenate([first, second]), np.concatenate([second, first])], axis=1)
        pairs = pairs[np.lexsort(pairs.T[::-1])]
        low, high = starts[pairs].min(1), ends[pairs].max(1) - 1
        return Candidates(entities, pairs, np.stack([begins[low], stops[high]], axis=1))

    def _sentences(self, doc: Doc) -> tuple[np.ndarray, np.ndarray]:
        """For each token, the first token of its sentence and the exclusive end."""
        if not doc.has_annotation("SENT_START"):
            if self.within == "sentence":
                raise ValueError(
                    f"candidates are within a sentence, but {quote(doc.text)} has no sentences: {SENTENCE_REMEDY}"
                )
            return np.zeros(len(doc), dtype=np.int64), np.full(len(doc), len(doc), dtype=np.int64)
        opens = doc.to_array(SENT_START).astype(np.int64) == 1
        opens[:1] = True
        borders = np.append(np.flatnonzero(opens), len(doc))
        number = opens.cumsum() - 1
        return borders[number], borders[number + 1]


def reverse_rows(candidates: Candidates) -> np.ndarray:
    """(P,) row of each pair with head and tail exchanged, or its own row if that is not a candidate."""
    heads, tails = candidates.pairs.T
    own = np.arange(len(heads))
    number, mirrored = (first * len(candidates.entities) + second for first, second in ((heads, tails), (tails, heads)))
    order = np.argsort(number)
    place = order[np.searchsorted(number, mirrored, sorter=order).clip(max=max(0, len(own) - 1))]
    return np.where(number[place] == mirrored, place, own)
