"""Set the sentence boundaries of documents."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from spacy.attrs import SENT_START
from spacy.tokens import Doc


def set_sentences(doc: Doc, starts: Iterable[int]) -> None:
    """Set the sentence starts of a document to exactly these tokens. The document must not have a tree."""
    # `token.is_sent_start = ...` takes time that grows with the length of the document.
    values: Any = np.full(len(doc), -1, dtype=np.int64)
    values[list(starts)] = 1
    doc.from_array([SENT_START], values.view(np.uint64))


def with_sentences(doc: Doc, sentencizer: Callable[[Doc], Doc] | None = None) -> Doc:
    """Return a gold document with sentence boundaries. A document without boundaries is copied.

    sentencizer: sets the boundaries of the copy; None makes it one sentence, since a component may set them later.
    """
    if doc.has_annotation("SENT_START"):
        return doc
    doc = doc.copy()
    if sentencizer is not None:
        return sentencizer(doc)
    set_sentences(doc, [0])
    return doc
