"""Words of documents."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from spacy.attrs import IS_SPACE
from spacy.tokens import Doc

from .word_places import Words


def find_words(doc: Doc) -> Words:
    """The words of a document."""
    return Words(np.flatnonzero(doc.to_array(IS_SPACE) == 0), len(doc))


def word_strings(docs: Sequence[Doc], hashes: Iterable[int]) -> list[str]:
    """Strings of hashes (ORTH) that occur in the documents, which may have different vocabularies."""
    # Any: StringStore looks up hashes as well, but its stub says that `in` takes strings only.
    stores: list[Any] = list({id(doc.vocab): doc.vocab.strings for doc in docs}.values())
    if len(stores) == 1:
        return [stores[0][key] for key in hashes]
    return [next((store for store in stores if key in store), stores[0])[key] for key in hashes]
