"""Uncertainty and expected entities of texts without annotation, for `ner-arch select`."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc

from ..annotation.alternatives import ALTERNATIVES
from ..annotation.words import find_words, text_key
from ..bulk.documents import Record
from ..pipes.vector_cleaner import find_cleaners

# Minimum probability of a span that counts as an expected entity.
MIN_EXPECTED = 0.01


class Texts(NamedTuple):
    """Distinct texts with words, with their uncertainty and expected entities.

    records: the text and the other fields of each line.
    uncertainty: uncertainty of each text, (N,).
    entities: expected number of entities of each label in each text, (N, L).
    empty, repeated: number of texts that were left out because they have no words or are copies, see `text_key`.
    """

    records: list[Record]
    uncertainty: np.ndarray
    entities: np.ndarray
    empty: int
    repeated: int


def judge_texts(nlp: Language, pipe: Any, records: Iterator[tuple[Doc, Record]], by: str) -> Texts:
    """Predict texts, in constant memory except for the result.

    pipe: the sequence_ner whose uncertainty counts.
    records: texts with their tokens.
    by: a name in MEASURES.
    """
    kept: list[Record] = []
    uncertainty: list[float] = []
    entities: list[np.ndarray] = []
    seen: set[str] = set()
    empty = repeated = 0
    before, pipe.cfg["alternatives"] = pipe.cfg["alternatives"], MIN_EXPECTED
    # Keep the token vectors, from which the readings are found.
    with nlp.select_pipes(disable=find_cleaners(nlp)):
        for first in records:
            with nlp.memory_zone():
                new = []
                for doc, record in [first, *islice(records, nlp.batch_size - 1)]:
                    key = text_key(record["text"])
                    empty += not key
                    repeated += key in seen
                    if key and key not in seen:
                        seen.add(key)
                        kept.append(record)
                        new.append(doc)
                docs = list(nlp.pipe(new))
                uncertainty += MEASURES[by](pipe, docs)
                entities += [expected_entities(doc, pipe.labels) for doc in docs]
    pipe.cfg["alternatives"] = before
    return Texts(kept, np.array(uncertainty), np.array(entities), empty, repeated)


def entropies(pipe: Any, docs: list[Doc]) -> list[float]:
    """Entropy of the distribution over all readings of each text."""
    return list(pipe.entropies(docs))


def entropies_per_token(pipe: Any, docs: list[Doc]) -> list[float]:
    return [entropy / max(1, len(words)) for entropy, words in zip(pipe.entropies(docs), find_words(docs), strict=True)]


def margins(pipe: Any, docs: list[Doc]) -> list[float]:
    """1 minus the difference between the probabilities of the two best readings of each text."""
    best = [[reading.probability for reading in readings] for readings in pipe.readings(docs, 2)]
    return [1 - (row[0] - row[1]) if len(row) > 1 else 0.0 for row in best]


MEASURES: dict[str, Callable[[Any, list[Doc]], list[float]]] = {
    "entropy": entropies,
    "entropy-per-token": entropies_per_token,
    "margin": margins,
}


def expected_entities(doc: Doc, labels: tuple[str, ...]) -> np.ndarray:
    """Expected number of entities of each label, (L,). Alternatives of another component can have other labels."""
    group = doc.spans[ALTERNATIVES]
    expected = dict.fromkeys(labels, 0.0)
    for span, probability in zip(group, group.attrs["scores"], strict=True):
        if span.label_ in expected:
            expected[span.label_] += float(probability)
    return np.array(list(expected.values()))
