"""Set the sentence boundaries of documents."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from spacy.attrs import SENT_START
from spacy.pipeline import Sentencizer
from spacy.tokens import Doc


def set_sentences(doc: Doc, starts: Iterable[int]) -> None:
    """Let sentences begin at these tokens, and at no others. The document has no tree."""
    # `token.is_sent_start = ...` takes time that grows with the document.
    values: Any = np.full(len(doc), -1, dtype=np.int64)
    values[list(starts)] = 1
    doc.from_array([SENT_START], values.view(np.uint64))


def with_sentences(doc: Doc) -> Doc:
    """A gold document with sentence boundaries: those of punctuation if it has none, since a component may set them
    later."""
    return doc if doc.has_annotation("SENT_START") else Sentencizer()(doc.copy())
