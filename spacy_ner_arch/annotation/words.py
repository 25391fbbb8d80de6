"""Words of documents."""

from collections.abc import Iterable, Sequence
from typing import Any
from unicodedata import normalize

import numpy as np
from spacy.attrs import IS_SPACE
from spacy.tokens import Doc

from .word_places import Words


def find_words(docs: Sequence[Doc]) -> list[Words]:
    """The words of each document."""
    spaces = [doc.to_array(IS_SPACE) for doc in docs]
    if not spaces or not np.concatenate(spaces).any():  # nearly always
        return [Words(len(doc)) for doc in docs]
    return [Words(len(own), own.astype(bool)) for own in spaces]


def has_words(doc: Doc) -> bool:
    """Whether a document has more than white space."""
    return not doc.to_array(IS_SPACE).all()


def bare_text(text: str) -> str:
    """The text without its white space. Places in texts with the same bare text can be compared."""
    return "".join(text.split())


def text_key(text: str) -> str:
    """The text without its white space, in the Unicode form NFC. Texts with the same key count as copies."""
    return normalize("NFC", bare_text(text))


def word_strings(docs: Sequence[Doc], hashes: Iterable[int]) -> list[str]:
    """Strings of hashes (ORTH) that occur in the documents, which may have different vocabularies."""
    # Any: StringStore looks up hashes as well, but its stub says that `in` takes strings only.
    stores: list[Any] = list({id(doc.vocab): doc.vocab.strings for doc in docs}.values())
    if len(stores) == 1:
        return [stores[0][key] for key in hashes]
    return [next((store for store in stores if key in store), stores[0])[key] for key in hashes]
