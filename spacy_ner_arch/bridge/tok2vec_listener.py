"""A listener to spaCy's component `tok2vec` that passes back one gradient for a whole batch.

spaCy's listener passes back one for each document, and the component reads a loss from each of them, for which the host
waits on a GPU.
"""

from collections.abc import Callable
from typing import Any

from spacy.pipeline.tok2vec import Tok2VecListener, forward
from spacy.tokens import Doc
from thinc.types import Floats2d

from .encoder import TokenVectors
from .rows import join


class PicklableListener:
    """A listener that is pickled without the batch of the last update, whose callbacks cannot be pickled."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        reduced: Any = super().__reduce_ex__(protocol)
        make, arguments, (own, slots), *rest = reduced
        return make, arguments, ({**own, "_batch_id": None, "_outputs": None, "_backprop": None}, slots), *rest


class TokenListener(PicklableListener, Tok2VecListener):
    """See spacy_ner_arch.Tok2VecListener.v1."""

    # Over spacy_ner_arch.TorchTok2Vec.v1, the gradient of each listener arrives, also if the last one is frozen.
    leaves_gradient = True

    def __init__(self, upstream_name: str, width: int) -> None:
        super().__init__(upstream_name, width)
        self._func = listen


def listen(model: TokenListener, docs: list[Doc], is_train: bool) -> tuple[list[Floats2d], Callable]:
    vectors, backprop = forward(model, docs, is_train)
    if not isinstance(vectors, TokenVectors):  # of another model, or stored with the documents
        return vectors, backprop

    def backprop_batch(gradients: list[Floats2d]) -> Any:
        vectors.gradient.add(join(model, gradients))
        return backprop([])

    return vectors, backprop_batch
