"""Scores of a teacher for all tag sequences of a document, from which a student learns.

The probability of a tag sequence is proportional to the exponential of its score, which is the sum of its emissions,
its transitions, a start score and an end score. Illegal sequences have probability 0.

Letters: T tokens, K tags of the teacher, U tags of teacher and student.
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from .tags import MISSING, OUTSIDE, legality, split_tag
from .word_places import Words

# Score of impossible tags and transitions. It is finite, since 0 * inf is NaN.
IMPOSSIBLE = -1e30


class Chain(NamedTuple):
    """The scores of a teacher for a document.

    tags, scheme: names of the K tags, the first of which is O, and their scheme.
    start, end: (K,).
    transitions: (K, K), from row to column.
    emissions: (T, K). Those of white space are not read.
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
        """Key that is equal for documents of the same teacher."""
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
    chain: the teacher's chain for missing annotation; None without a teacher or if nothing is missing.
    """

    tags: np.ndarray
    chain: Chain | None = None

    def in_words(self, words: Words) -> "TagTarget":
        """Keep only the rows of words. Without a word, there is no chain to learn from."""
        chain = self.chain if len(words) else None
        chain = chain and chain._replace(emissions=chain.emissions[words.tokens])
        return TagTarget(self.tags[words.tokens], chain)


class Lattice:
    """All tags of a student and its teacher, and the teacher's scores between them.

    A tag that only one of the two has counts as O for the other.

    student: names of the student's tags.
    teacher: a chain of the teacher, whose emissions are not used.
    temperature: divisor of the teacher's scores.

    tags: names of the U tags, those of the student first.
    to_student: (U,), place of each tag in the student's.
    transitions: (U, U) float32, with a large negative score where they are illegal.
    """

    def __init__(self, student: Sequence[str], teacher: Chain, temperature: float = 1.0) -> None:
        self.tags = [*student, *(tag for tag in teacher.tags if tag not in student)]
        self.temperature = temperature
        self.legal = legality(self.tags, teacher.scheme)
        self.to_student = places_of(self.tags, student)
        self.to_teacher = places_of(self.tags, teacher.tags)
        self.is_known_to_teacher = np.array([tag in teacher.tags for tag in self.tags])
        self.start, self.end = (self._scale(part[self.to_teacher]) for part in (teacher.start, teacher.end))
        transitions = self._scale(teacher.transitions[np.ix_(self.to_teacher, self.to_teacher)])
        self.transitions = np.where(self.legal.transition, transitions, np.float32(IMPOSSIBLE))

    def _scale(self, scores: np.ndarray) -> np.ndarray:
        return scores.astype(np.float32) / self.temperature

    def emissions(self, chain: Chain, gold: np.ndarray) -> np.ndarray:
        """The teacher's emissions given the gold tags, (T, U) float32, with start and end scores in the outer rows.

        Where the gold tag is known, no other tag is possible. Where it is unknown, only tags of the teacher are
        possible, except tags that would extend the known entity before it.

        chain: chain of the document, from the same teacher.
        gold: (T,) indices of the student's tags, MISSING where they are unknown; T is at least 1.
        """
        scores = self._scale(chain.emissions[:, self.to_teacher])
        scores[0] += self.start
        scores[-1] += self.end
        known = gold != MISSING
        possible = np.where(known[:, None], np.arange(len(self.tags)) == gold[:, None], self.is_known_to_teacher)
        last_known = np.flatnonzero(known[:-1] & ~known[1:])
        possible[last_known + 1] &= ~self.legal.extends[gold[last_known]]
        possible[0] &= self.legal.start
        possible[-1] &= self.legal.end
        return np.where(possible, scores, np.float32(IMPOSSIBLE))


def places_of(tags: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Index in `names` of each tag; the index of O for tags that are not in `names`."""
    place = {name: i for i, name in enumerate(names)}
    return np.array([place.get(tag, place[OUTSIDE]) for tag in tags])
