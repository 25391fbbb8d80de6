"""Gold relations among the candidates of a document."""

import math
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from spacy.tokens import Doc

from .candidates import Candidates
from .relations import RelationKey

# Number of a gold relation, place of its pair among the candidates, its label, and whether the second entity of the
# pair is the head.
Found = tuple[int, int, tuple[str, bool]]


class GoldPairs(NamedTuple):
    """What is taught about the candidates of a document.

    total: number of candidates P.
    kept: (n,) those to learn from.
    rows, classes: (g,) gold relations: place among `kept`, number of the class.
    """

    total: int
    kept: np.ndarray
    rows: np.ndarray
    classes: np.ndarray

    def sample(self, ratio: float) -> "GoldPairs":
        """With no more pairs without a relation than `ratio` for each one with a relation, at least for one."""
        related = np.unique(self.rows)
        others = np.setdiff1d(self.kept, related)
        chosen = np.random.permutation(others)[: math.ceil(ratio * max(1, len(related)))]
        kept = np.union1d(related, chosen)
        return self._replace(kept=kept, rows=np.searchsorted(kept, self.rows))


def find_relations(
    gold: Sequence[RelationKey], candidates: Candidates, symmetric: Collection[str], once: bool
) -> Iterator[Found]:
    """Those gold relations that are candidates.

    symmetric: labels that hold in both directions; they are found at both orders of a pair.
    once: whether every two entities are one candidate only, which then stands for both directions.
    """
    if not gold:
        return
    row = {pair: i for i, pair in enumerate(map(tuple, candidates.pairs.tolist()))}
    entities: dict[tuple[int, int], list[int]] = {}
    for i, span in enumerate(candidates.entities):
        entities.setdefault((span.start_char, span.end_char), []).append(i)

    def entity(start: int, end: int, label: str) -> int | None:
        """The entity with these borders, if possible with this label."""
        there = entities.get((start, end), [])
        return min(there, key=lambda i: candidates.entities[i].label_ != label, default=None)

    for number, key in enumerate(gold):
        head, tail, label = entity(*key[:3]), entity(*key[3:6]), key[6]
        if (head, tail) in row:
            yield number, row[head, tail], (label, False)
        if (tail, head) in row and (once or label in symmetric):
            yield number, row[tail, head], (label, label not in symmetric)


def with_sentences(doc: Doc) -> Doc:
    """A gold document, one sentence if it does not say where its sentences begin; the pipeline may know more."""
    if doc.has_annotation("SENT_START"):
        return doc
    doc = doc.copy()
    for token in doc:
        token.is_sent_start = token.i == 0
    return doc
