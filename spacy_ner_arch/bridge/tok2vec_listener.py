"""A listener to spaCy's component `tok2vec`."""

from typing import cast

from spacy.pipeline.tok2vec import Tok2VecListener
from spacy.tokens import Doc
from thinc.types import Floats2d

from ..annotation.doc_vectors import tok2vec_vectors
from .listener import BatchListener, listen


class TokenListener(BatchListener, Tok2VecListener):
    """See spacy_ner_arch.Tok2VecListener.v1."""

    # spacy_ner_arch.TorchTok2Vec.v1 receives the gradient of each listener, even if the last one is frozen.
    leaves_gradient = True

    def __init__(self, upstream_name: str, width: int) -> None:
        super().__init__(upstream_name, width)
        self._func = listen

    def vectors_on(self, doc: Doc) -> Floats2d | None:
        return cast(Floats2d | None, tok2vec_vectors(doc))
