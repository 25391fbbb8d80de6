"""`vector_cleaner`: removes the vectors of a transformer from the documents."""

from collections.abc import Callable

from spacy.language import Language
from spacy.tokens import Doc

# Factories of components that remove vectors: the one below and spaCy's.
CLEANERS = ("vector_cleaner", "doc_cleaner")


@Language.factory("vector_cleaner")
def make_vector_cleaner(nlp: Language, name: str) -> Callable[[Doc], Doc]:
    """A component that removes the vectors of a transformer from the documents."""
    return remove_vectors


def remove_vectors(doc: Doc) -> Doc:
    """Set `doc._.trf_data` to None, to free the memory of the vectors.

    spaCy's `doc_cleaner` also sets `doc.tensor` to None, which makes `Span.as_doc`, `doc.vector` and
    `token.has_vector` raise errors.
    """
    if doc.has_extension("trf_data"):
        doc._.trf_data = None
    return doc


def find_cleaners(nlp: Language) -> list[str]:
    """Names of the components that remove vectors."""
    return [name for name in nlp.pipe_names if nlp.get_pipe_meta(name).factory in CLEANERS]
