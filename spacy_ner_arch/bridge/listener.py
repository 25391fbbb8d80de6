"""Listeners to a shared encoder that pass back one gradient for a whole batch.

The listeners of spaCy and spacy-transformers pass back one gradient per document. spaCy's component computes a loss
from each of them, and on a GPU the host waits for every loss.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

from spacy.tokens import Doc
from thinc.types import Floats2d

from .rows import join
from .shim import no_backprop

# Attributes of a listener that hold the current batch of the shared encoder.
OF_BATCH = ("_batch_id", "_outputs", "_backprop")


class BatchListener:
    """Base class of the listeners of this package, before that of spaCy or spacy-transformers.

    It is pickled without the batch of the last update, whose callbacks cannot be pickled.
    """

    name: str
    upstream_name: str

    def received(self, outputs: Any) -> Sequence[Floats2d]:
        """Vectors (words, D) of each document in the output of the shared encoder."""
        return cast(Sequence[Floats2d], outputs)

    def vectors_on(self, doc: Doc) -> Floats2d | None:
        """Vectors (words, D) that the shared encoder has set on a document; None if there are none."""
        raise NotImplementedError

    @property
    def encoder_name(self) -> str:
        """Name of the component of the shared encoder."""
        return self.name.removesuffix("-listener") if self.upstream_name == "*" else self.upstream_name

    def __reduce_ex__(self, protocol: Any) -> Any:
        reduced: Any = super().__reduce_ex__(protocol)
        make, arguments, (own, slots), *rest = reduced
        return make, arguments, ({**own, **dict.fromkeys(OF_BATCH)}, slots), *rest


def listen(model: Any, docs: list[Doc], is_train: bool) -> tuple[Sequence[Floats2d], Callable]:
    """Vectors of each document. In an update, those of the current batch of the encoder, which gets the gradient.

    model: a BatchListener. Raises ValueError in an update if the batch is of other documents than these, and these have
        no vectors either.
    """
    if not is_train or model._batch_id is None:
        return doc_vectors(model, docs, is_train), no_backprop
    outputs, backprop = model._outputs, model._backprop
    vectors = model.received(outputs)
    # The id is a sum over the words and does not depend on their order, so the lengths are compared as well.
    if model._batch_id != model.get_batch_id(docs) or list(map(len, vectors)) != list(map(len, docs)):
        if any(model.vectors_on(doc) is None for doc in docs if len(doc)):
            raise ValueError(
                f"{model.encoder_name!r} has passed on the vectors of other documents than those of this update: "
                f"update {model.encoder_name!r} and the components that listen to it with the same documents"
            )
        # The component of this listener was not updated with the batch of the encoder, so that batch is stale. The
        # encoder takes no part in this update.
        clear(model, outputs)
        return doc_vectors(model, docs, is_train), no_backprop

    def backprop_batch(gradients: list[Floats2d]) -> Any:
        clear(model, outputs)
        gradient = getattr(outputs, "gradient", None)
        if gradient is None:  # of another model
            return backprop(gradients)
        gradient.add(join(model, gradients))
        return backprop([])

    return vectors, backprop_batch


def clear(model: Any, outputs: Any) -> None:
    """Discard a batch, so that the next update can run without the encoder. A later batch is kept."""
    if model._outputs is outputs:
        for name in OF_BATCH:
            setattr(model, name, None)


def doc_vectors(model: Any, docs: list[Doc], is_train: bool) -> list[Floats2d]:
    """Vectors that the shared encoder has set on the documents.

    In prediction, zeros for documents without them, as spaCy's components run their models at initialization, too. The
    components of this package refuse such documents.
    """
    found = [model.vectors_on(doc) if len(doc) else None for doc in docs]
    if is_train and any(rows is None and len(doc) for doc, rows in zip(docs, found, strict=True)):
        raise ValueError(
            f"a document has no vectors of {model.encoder_name!r}: put this component into the pipeline before the one "
            "that listens to it, and also into annotating_components if the other is there"
        )
    width = model.get_dim("nO")
    return [model.ops.alloc2f(len(doc), width) if rows is None else rows for doc, rows in zip(docs, found, strict=True)]
