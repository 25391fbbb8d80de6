"""Find the teacher's chain of a document that is not fully annotated, and faults of such documents."""

import numpy as np
from spacy.training import Example

from ..annotation.alignment import same_tokens
from ..annotation.chains import Chain
from ..annotation.describe import quote
from ..annotation.teachers import get_chain

NOTHING_KNOWN = (
    "without an annotated token and without a teacher's chain, from which nothing is learned. Annotate them or leave "
    "them out. To distil, use `ner-arch annotate --soft`, and no max_length, gold_preproc and augmenter of a corpus "
    "reader, which remove the chain"
)
OTHER_TOKENS = (
    "with other tokens than the teacher's, whose chain is not used. Use a teacher with the tokenizer of this pipeline"
)


def find_chain(name: str, eg: Example, known: np.ndarray, scheme: str) -> tuple[Chain | None, str | None]:
    """The teacher's chain of an example, and the fault of the example: NOTHING_KNOWN, OTHER_TOKENS or None.

    name: name of the component that learns from the chain.
    known: (T,) bool, which tokens are annotated; not all of them.
    scheme: tag scheme of the student.
    Raises ValueError for a chain that is damaged or has another tag scheme.
    """
    chain = get_chain(eg.reference)
    if chain is None:
        return None, None if known.any() else NOTHING_KNOWN
    if chain.scheme != scheme:
        raise ValueError(
            f"its tag scheme is {scheme}, but that of the teacher of {quote(eg.reference.text)} is {chain.scheme}; set "
            f'scheme = "{chain.scheme}" in [components.{name}], or annotate the document with another teacher'
        )
    return (chain, None) if same_tokens(eg) else (None, OTHER_TOKENS)
