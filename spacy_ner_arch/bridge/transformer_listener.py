"""Pass the vectors of a transformer to the heads, and their gradient back.

The component `transformer` passes a WordBatch to its listeners. A WordBatch has the fields that listeners of
spacy-transformers read, so these work as well. The listeners of this package pass back one gradient for a whole batch
instead of one per document.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from spacy.tokens import Doc
from spacy_transformers.data_classes import FullTransformerBatch, TransformerData, WordpieceBatch
from spacy_transformers.layers import TransformerListener
from thinc.api import Ops, xp2torch
from thinc.types import Floats2d, Ragged
from torch import Tensor
from transformers.file_utils import ModelOutput

from .rows import join
from .shared_gradient import SharedGradient
from .shim import default_device, no_backprop
from .tok2vec_listener import PicklableListener, clear

MISSING_VECTORS = (
    "a document has no vectors of the transformer: put the component `transformer` into the pipeline before the one "
    "that listens to it, and also into annotating_components if the other is there"
)
OTHER_MODEL = (
    "spacy_ner_arch.TransformerListener.v1 listens to spacy_ner_arch.TransformerModel.v1 only; over another model use "
    "spacy-transformers.TransformerListener.v1"
)
# Shared by all documents: word pieces are not passed on.
NO_PIECES = WordpieceBatch.empty()


class WordBatch(FullTransformerBatch):
    """Output of the transformer: the fields that spacy-transformers uses for word pieces, with one row per word.

    vectors: (words, D) of each document.
    gradient: sum of the gradients from the listeners of this package.
    """

    def __init__(self, vectors: Sequence[Floats2d]) -> None:
        self.gradient = SharedGradient()
        self.vectors = vectors
        super().__init__(
            spans=[],
            wordpieces=NO_PIECES,
            model_output=ModelOutput(),
            align=_alignment(0),
            cached_doc_data=cast(Any, DocVectors(self.gradient, vectors)),
        )

    def unsplit_by_doc(self, arrays: list[list[Any]]) -> Tensor:  # type: ignore[override]  # theirs is for word pieces
        """The gradient (N, D) of all words.

        arrays: from listeners of spacy-transformers, (1, words, D) for each document with a word.
        """
        if arrays:
            self.gradient.add(torch.cat([xp2torch(array[0][0], device=default_device()) for array in arrays]))
        return self.gradient.total()


class DocVectors(Sequence[TransformerData]):
    """Vectors of documents in the form that listeners of spacy-transformers expect. An item is made when it is read.

    gradient: gradient of the batch. A reference to the batch itself would be a cycle, which keeps its memory until the
        garbage collector runs.
    """

    def __init__(self, gradient: SharedGradient, vectors: Sequence[Floats2d]) -> None:
        self.gradient = gradient
        self.vectors = vectors

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, i: Any) -> Any:
        return _doc_data(self.vectors[i])


def _doc_data(vectors: Floats2d) -> TransformerData:
    if not len(vectors):
        return TransformerData.empty()
    output = ModelOutput()
    output["last_hidden_state"] = vectors.reshape((1, *vectors.shape))
    return TransformerData(NO_PIECES, output, _alignment(len(vectors)))


def _alignment(words: int) -> Ragged:
    return Ragged(cast(Any, np.arange(words)), cast(Any, np.ones(words, dtype="i")))


class WordListener(PicklableListener, TransformerListener):
    """A listener that passes back the gradient of a whole batch at once."""

    def __init__(self, upstream_name: str) -> None:
        super().__init__(upstream_name)
        self._func = listen


def listen(model: WordListener, docs: list[Doc], is_train: bool) -> tuple[Sequence[Floats2d], Callable]:
    if not is_train or model._batch_id is None:
        return doc_vectors(model, docs, is_train), no_backprop
    received: Any = model._outputs
    if not isinstance(received, DocVectors):
        raise ValueError(OTHER_MODEL)
    lengths = [len(doc) for doc in docs]
    # The id is a sum over the words and does not depend on their order, so the lengths are compared as well.
    if model._batch_id != model.get_batch_id(docs) or [len(rows) for rows in received.vectors] != lengths:
        raise ValueError(
            "the transformer has passed on the vectors of other documents than those of this update: update the "
            "transformer and the components that listen to it with the same documents"
        )

    backprop_received: Any = model._backprop

    def backprop(gradients: list[Floats2d]) -> Any:
        received.gradient.add(join(model, gradients))
        clear(model, received)
        return backprop_received([])

    return received.vectors, backprop


def doc_vectors(model: WordListener, docs: list[Doc], is_train: bool) -> list[Floats2d]:
    """Vectors that the component `transformer` has set on the documents."""
    datas = [doc._.trf_data for doc in docs]
    if any(data is None and len(doc) for doc, data in zip(docs, datas, strict=True)):
        if is_train:
            raise ValueError(MISSING_VECTORS)
        # spaCy's components run their models at initialization, on documents without vectors.
        warnings.warn(f"{MISSING_VECTORS}; zeros are used instead", stacklevel=2)
    if any(data is not None and data.wordpieces.strings for data in datas):
        raise ValueError(OTHER_MODEL)
    width = model.get_dim("nO")
    return [word_rows(data, model.ops, width, len(doc)) for data, doc in zip(datas, docs, strict=True)]


def word_rows(data: TransformerData | None, ops: Ops, width: int, words: int) -> Floats2d:
    """Vectors (words, D) of one document; zeros without data."""
    if data is None or not data.model_output:
        return ops.alloc2f(words, width)
    return cast(Floats2d, data.model_output["last_hidden_state"][0])
