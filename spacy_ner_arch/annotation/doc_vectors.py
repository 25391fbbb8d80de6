"""The vectors that a shared encoder has set on a document."""

from typing import Any

from spacy.tokens import Doc


def tok2vec_vectors(doc: Doc) -> Any:
    """Array (words, D) of the component `tok2vec`; None if there is none. spaCy's doc_cleaner sets None."""
    return doc.tensor if doc.tensor is not None and doc.tensor.size else None


def transformer_data(doc: Doc) -> Any:
    """TransformerData of the component `transformer`; None if there is none."""
    return doc._.trf_data if doc.has_extension("trf_data") else None
