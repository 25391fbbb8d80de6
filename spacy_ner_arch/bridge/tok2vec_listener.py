"""A listener to spaCy's component `tok2vec` that passes back one gradient for a whole batch.

spaCy's listener passes back one gradient per document. The component computes a loss from each of them, and on a GPU
the host waits for every loss.
"""

from collections.abc import Callable
from typing import Any, cast

from spacy.errors import Errors
from spacy.pipeline.tok2vec import Tok2VecListener
from spacy.tokens import Doc
from thinc.types import Floats2d

from .encoder import TokenVectors
from .rows import join
from .shim import no_backprop

# Attributes of a listener that hold the current batch of the shared encoder.
OF_BATCH = ("_batch_id", "_outputs", "_backprop")


class PicklableListener:
    """A listener that is pickled without the batch of the last update, whose callbacks cannot be pickled."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        reduced: Any = super().__reduce_ex__(protocol)
        make, arguments, (own, slots), *rest = reduced
        return make, arguments, ({**own, **dict.fromkeys(OF_BATCH)}, slots), *rest


class TokenListener(PicklableListener, Tok2VecListener):
    """See spacy_ner_arch.Tok2VecListener.v1."""

    # spacy_ner_arch.TorchTok2Vec.v1 receives the gradient of each listener, even if the last one is frozen.
    leaves_gradient = True

    def __init__(self, upstream_name: str, width: int) -> None:
        super().__init__(upstream_name, width)
        self._func = listen


def listen(model: TokenListener, docs: list[Doc], is_train: bool) -> tuple[list[Floats2d], Callable]:
    if not is_train or model._batch_id is None:
        return doc_vectors(model, docs, is_train), no_backprop
    if model._batch_id != model.get_batch_id(docs) and all(has_vectors(doc) for doc in docs if len(doc)):
        # The component of this listener was not updated with the batch of the encoder, so that batch is stale. The
        # encoder takes no part in this update.
        clear(model, model._outputs)
        return doc_vectors(model, docs, is_train), no_backprop
    model.verify_inputs(docs)
    vectors: Any = model._outputs
    backprop: Any = model._backprop

    def backprop_batch(gradients: list[Floats2d]) -> Any:
        clear(model, vectors)
        if not isinstance(vectors, TokenVectors):  # of another model
            return backprop(gradients)
        vectors.gradient.add(join(model, gradients))
        return backprop([])

    return vectors, backprop_batch


def clear(model: Any, outputs: Any) -> None:
    """Discard a batch, so that the next update can run without the encoder. A later batch is kept."""
    if model._outputs is outputs:
        for name in OF_BATCH:
            setattr(model, name, None)


def has_vectors(doc: Doc) -> bool:
    return doc.tensor is not None and doc.tensor.size > 0


def doc_vectors(model: TokenListener, docs: list[Doc], is_train: bool) -> list[Floats2d]:
    """Vectors that the shared component has set on the documents. In prediction, zeros for documents without them."""
    if is_train and not all(has_vectors(doc) for doc in docs if len(doc)):
        raise ValueError(Errors.E203.format(name="tok2vec" if model.upstream_name == "*" else model.upstream_name))
    width = model.get_dim("nO")
    return [cast(Floats2d, doc.tensor) if has_vectors(doc) else model.ops.alloc2f(len(doc), width) for doc in docs]
