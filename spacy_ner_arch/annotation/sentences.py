"""Set the sentence boundaries of documents."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from spacy.attrs import SENT_START
from spacy.tokens import Doc


def set_sentences(doc: Doc, starts: Iterable[int]) -> None:
    """Let sentences begin at these tokens, and at no others. The document has no tree."""
    # `token.is_sent_start = ...` takes time that grows with the document.
    values: Any = np.full(len(doc), -1, dtype=np.int64)
    values[list(starts)] = 1
    doc.from_array([SENT_START], values.view(np.uint64))


def with_sentences(doc: Doc, sentencizer: Callable[[Doc], Doc] | None = None) -> Doc:
    """A gold document with sentence boundaries. One without them is copied.

    sentencizer: sets the boundaries of the copy; None takes it as one sentence, since a component may set them later.
    """
    if doc.has_annotation("SENT_START"):
        return doc
    doc = doc.copy()
    if sentencizer is not None:
        return sentencizer(doc)
    set_sentences(doc, [0])
    return doc
