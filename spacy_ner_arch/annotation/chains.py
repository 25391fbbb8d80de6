"""What a teacher says about a document, from which a student learns: scores of all tag sequences.

The probability of a tag sequence is proportional to the exponential of its score, which is the sum of its emissions,
its transitions, a start score and an end score. Illegal sequences have probability 0.

Letters: T tokens, K tags of the teacher, U tags of teacher and student.
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from .tags import MISSING, OUTSIDE, legality, split_tag

# Score of what is impossible. It is finite, since 0 * inf is NaN.
IMPOSSIBLE = -1e30


class Chain(NamedTuple):
    """The scores of a teacher for a document.

    tags, scheme: names of the K tags, the first of which is O, and their scheme.
    start, end: (K,).
    transitions: (K, K), from row to column.
    emissions: (T, K).
    """

    tags: tuple[str, ...]
    scheme: str
    start: np.ndarray
    transitions: np.ndarray
    end: np.ndarray
    emissions: np.ndarray

    @property
    def labels(self) -> list[str]:
        """Labels of the tags, in their order."""
        return list(dict.fromkeys(split_tag(tag)[1] for tag in self.tags if tag != OUTSIDE))

    @property
    def teacher(self) -> tuple[Any, ...]:
        """Equal for documents of the same teacher."""
        return self.tags, self.scheme, *(part.tobytes() for part in (self.start, self.transitions, self.end))

    def without(self, labels: Collection[str]) -> "Chain":
        """The distribution given that the document has no entity of these labels."""
        kept = [i for i, tag in enumerate(self.tags) if tag == OUTSIDE or split_tag(tag)[1] not in labels]
        return Chain(
            tags=tuple(self.tags[i] for i in kept),
            scheme=self.scheme,
            start=self.start[kept],
            transitions=self.transitions[np.ix_(kept, kept)],
            end=self.end[kept],
            emissions=self.emissions[:, kept],
        )


class TagTarget(NamedTuple):
    """Gold annotation of a document for a tagger.

    tags: (T,) indices of the tags of the tagger, MISSING where the annotation is missing.
    chain: the teacher's, for what is missing; None without a teacher or if nothing is missing.
    """

    tags: np.ndarray
    chain: Chain | None = None


def union_tags(student: Sequence[str], chain: Chain) -> list[str]:
    """Tags of the student, then those that only the teacher has."""
    return [*student, *(tag for tag in chain.tags if tag not in student)]


def places_of(tags: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Place in `names` of each tag; that of O for tags that it does not have."""
    return np.array([names.index(tag if tag in names else OUTSIDE) for tag in tags])


def clamped_scores(chain: Chain, gold: np.ndarray, tags: Sequence[str], temperature: float = 1.0) -> np.ndarray:
    """The teacher's emissions given the gold tags, (T, U) float32; start and end scores are in the first and last row.

    Where the gold tag is known, no other one is possible. Where it is unknown, tags that the teacher does not have are
    impossible, and so is a tag that would make the entity before it longer. A tag that the teacher does not have counts
    as O for it.

    gold: (T,) indices into `tags`, or MISSING.
    tags: of teacher and student, see `union_tags`.
    temperature: divisor of the teacher's scores.
    """
    places = places_of(tags, chain.tags)
    legal = legality(tags, chain.scheme)
    scores = chain.emissions.astype(np.float32)[:, places]
    scores[0] += chain.start.astype(np.float32)[places]
    scores[-1] += chain.end.astype(np.float32)[places]
    scores /= temperature
    known = gold != MISSING
    possible = np.where(known[:, None], np.arange(len(tags)) == gold[:, None], [tag in chain.tags for tag in tags])
    follows = np.flatnonzero(~known[1:] & known[:-1])
    possible[follows + 1] &= ~legal.extends[gold[follows]]
    possible[0] &= legal.start
    possible[-1] &= legal.end
    return np.where(possible, scores, np.float32(IMPOSSIBLE))


def union_transitions(chain: Chain, tags: Sequence[str], temperature: float = 1.0) -> np.ndarray:
    """The teacher's transitions between the tags of teacher and student, (U, U) float32; see `clamped_scores`."""
    places = places_of(tags, chain.tags)
    scores = chain.transitions.astype(np.float32)[np.ix_(places, places)] / temperature
    return np.where(legality(tags, chain.scheme).transition, scores, np.float32(IMPOSSIBLE))
