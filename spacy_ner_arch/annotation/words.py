"""Words of documents by their hashes."""

from collections.abc import Iterable, Sequence
from typing import Any

from spacy.tokens import Doc


def word_strings(docs: Sequence[Doc], hashes: Iterable[int]) -> list[str]:
    """Strings of hashes (ORTH) that occur in the documents, which may have different vocabularies."""
    # Any: StringStore looks up hashes as well, but its stub says that `in` takes strings only.
    stores: list[Any] = list({id(doc.vocab): doc.vocab.strings for doc in docs}.values())
    if len(stores) == 1:
        return [stores[0][key] for key in hashes]
    return [next((store for store in stores if key in store), stores[0])[key] for key in hashes]
