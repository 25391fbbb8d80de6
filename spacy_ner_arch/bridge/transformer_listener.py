"""Pass the vectors of a transformer to the heads, and their gradient back.

The component `transformer` passes a WordBatch to its listeners. A WordBatch has the fields that listeners of
spacy-transformers read, so these work as well.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from spacy.tokens import Doc
from spacy_transformers.data_classes import FullTransformerBatch, TransformerData, WordpieceBatch
from spacy_transformers.layers import TransformerListener
from thinc.api import xp2torch
from thinc.types import Floats2d, Ragged
from torch import Tensor
from transformers.file_utils import ModelOutput

from ..annotation.doc_vectors import transformer_data
from .device import default_device
from .listener import BatchListener, listen
from .shared_gradient import SharedGradient

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


class WordListener(BatchListener, TransformerListener):
    """See spacy_ner_arch.TransformerListener.v1."""

    def __init__(self, upstream_name: str) -> None:
        super().__init__(upstream_name)
        self._func = listen

    def received(self, outputs: Any) -> Sequence[Floats2d]:
        if not isinstance(outputs, DocVectors):
            raise ValueError(OTHER_MODEL)
        return outputs.vectors

    def vectors_on(self, doc: Doc) -> Floats2d | None:
        data: TransformerData | None = transformer_data(doc)
        if data is None or not data.model_output:
            return None
        if data.wordpieces.strings:
            raise ValueError(OTHER_MODEL)
        return cast(Floats2d, data.model_output["last_hidden_state"][0])
