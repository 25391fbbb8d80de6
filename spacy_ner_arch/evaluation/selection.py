"""Choose which texts to annotate next: uncertain ones, unlike each other, with all labels."""

from collections.abc import Sequence

import numpy as np
from spacy.tokens import Doc

# Texts are chosen from this number of times as many candidates, the most uncertain texts.
POOL = 5
# Width of the vectors of texts; words share a column by chance.
WIDTH = 1024


def candidates(uncertainty: np.ndarray, count: int) -> np.ndarray:
    """Numbers of the most uncertain texts, the most uncertain first, from which `choose_texts` takes `count`."""
    return np.argsort(-uncertainty, kind="stable")[: POOL * count]


def text_vectors(docs: Sequence[Doc]) -> np.ndarray:
    """(N, WIDTH) float32 unit vectors: hashed counts of the lower-case words of each text, with more weight on rare
    words."""
    counts = np.zeros((len(docs), WIDTH), dtype=np.float32)
    for row, doc in zip(counts, docs, strict=True):
        row += np.bincount([token.lower % WIDTH for token in doc if not token.is_space], minlength=WIDTH)
    weights = np.log((1 + len(docs)) / (1 + (counts > 0).sum(0))) + 1
    vectors = np.log1p(counts) * weights
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)


def choose_texts(
    uncertainty: np.ndarray, vectors: np.ndarray | None, entities: np.ndarray | None, count: int
) -> list[int]:
    """Numbers of `count` texts, or of all if there are fewer, in the order in which they are chosen.

    At each step, the text with the highest product of three factors is chosen: its uncertainty, 1 minus its cosine
    similarity to the most similar chosen text, and its gain for the labels.

    uncertainty: uncertainty of each text, (N,), at least 0.
    vectors: (N, D), of length one; None to leave out the similarity.
    entities: expected number of entities of each label in each text, (N, L); None to leave out the labels. The gain of
        a text for a label is the increase of log(1 + number of its entities in the chosen texts).
    """
    left = np.ones(len(uncertainty), dtype=bool)
    nearest = np.zeros(len(uncertainty))
    total = np.zeros(entities.shape[1]) if entities is not None else None
    chosen: list[int] = []
    while left.any() and len(chosen) < count:
        values = uncertainty * (1 - nearest)
        if entities is not None and total is not None:
            values = values * (np.log1p(total + entities) - np.log1p(total)).sum(1)
        best = int(np.where(left, values, -1).argmax())
        chosen.append(best)
        left[best] = False
        if vectors is not None:
            nearest = np.maximum(nearest, (vectors @ vectors[best]).clip(0, 1))
        if entities is not None and total is not None:
            total += entities[best]
    return chosen
