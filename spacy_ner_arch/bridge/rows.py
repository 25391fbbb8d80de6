"""The rows of documents, one per token, in one thinc array or one torch tensor for all documents of a batch."""

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any, TypeVar, cast

import numpy as np
import torch
from spacy.tokens import Doc
from thinc.api import Model, torch2xp, xp2torch
from thinc.types import Floats2d
from torch import Tensor

from ..annotation.describe import quote
from ..annotation.word_places import Words
from ..nn.batch import send
from .layers import device_of

# Documents to token vectors, (tokens, width) for each.
Tok2Vec = Model[list[Doc], list[Floats2d]]
ArrayT = TypeVar("ArrayT", bound=Any)


class DocRows(list[Floats2d]):
    """Rows of documents, all views of one array, so that `join` copies nothing.

    flat: the rows (N, D) of all documents.
    """

    def __init__(self, flat: Floats2d, lengths: Iterable[int]) -> None:
        super().__init__(cut_rows(flat, lengths))
        self.flat = flat


def check_tok2vec(name: str, tok2vec: Any) -> None:
    """Raise ValueError if the tok2vec of the model with this name is another part of a model, such as an encoder."""
    if isinstance(tok2vec, Model) and "replace_listener" in tok2vec.attrs:
        found, remedy = "a transformer for the component transformer", "spacy_ner_arch.TransformerTok2Vec.v1 around it"
    elif not isinstance(tok2vec, Model):
        found, remedy = "not a layer of thinc", "an embedding, such as spacy_ner_arch.WordCharEmbed.v1"
    else:
        return
    raise ValueError(
        f"{name}: its tok2vec is {found}: give {remedy}, or a listener. An encoder, such as spacy_ner_arch.BiLSTM.v1, "
        "belongs in [components.NAME.model.encoder]"
    )


def check_lengths(docs: Sequence[Doc], vectors: Sequence[Floats2d]) -> None:
    """Raise ValueError unless each document has as many vectors as tokens.

    The vectors of a shared encoder are kept on the documents, and a component after it can merge or split tokens.
    """
    for doc, rows in zip(docs, vectors, strict=True):
        if len(rows) != len(doc):
            raise ValueError(
                f"the shared encoder has read {len(rows)} tokens of {quote(doc.text)}, which now has {len(doc)}: a "
                "component after the encoder has merged or split tokens. Put it (such as merge_entities) after all "
                "components that listen to the encoder, or give this one its own copy with nlp.replace_listeners"
            )


def join(model: Model, arrays: Sequence[Floats2d]) -> Tensor:
    """One tensor (N, D) of the arrays of all documents."""
    flat = arrays.flat if isinstance(arrays, DocRows) else model.ops.flatten(arrays)
    return xp2torch(flat, device=device_of(model))


def split(model: Model, flat: Tensor, lengths: Iterable[int]) -> DocRows:
    """The rows (N, D) as one array per document; the arrays are views of the same memory."""
    return DocRows(to_array(model, flat), lengths)


def to_array(model: Model, flat: Tensor) -> Floats2d:
    """A tensor as an array of NumPy or CuPy with the same memory."""
    return cast(Floats2d, torch2xp(flat.contiguous(), ops=model.ops))


def cut_rows(flat: ArrayT, lengths: Iterable[int]) -> list[ArrayT]:
    """The rows of each document as a view."""
    ends = list(accumulate(lengths, initial=0))
    return [flat[start:end] for start, end in pairwise(ends)]


def word_rows(words: Sequence[Words], group: Sequence[int], device: torch.device) -> Tensor | None:
    """(N,) int64, the words of a group of documents among the tokens of all; None if they are all tokens in order.

    words: words of all documents. group: indices of documents; in order if it has all of them, see `cut`.
    """
    if len(group) == len(words) and all(own.has_no_space for own in words):
        return None
    starts = list(accumulate((own.token_count for own in words), initial=0))
    (rows,) = send([np.concatenate([starts[i] + words[i].tokens for i in group])], device)
    return rows


def pick_rows(flat: Tensor, rows: Tensor | None) -> Tensor:
    """The rows of a group from those (N, D) of all tokens, see `word_rows`."""
    return flat if rows is None else flat.index_select(0, rows)


def place_rows(parts: Sequence[tuple[Tensor | None, Tensor]], words: Sequence[Words]) -> Tensor:
    """The rows of the tokens of all documents, 0 for white space. parts: `word_rows` of each group, and its rows."""
    rows, flat = parts[0]
    if rows is None:
        return flat
    placed = flat.new_zeros(sum(own.token_count for own in words), flat.shape[1])
    for rows, flat in parts:
        placed.index_copy_(0, cast(Tensor, rows), flat)
    return placed


def pick(values: Sequence[Any] | None, group: Sequence[int]) -> list[Any] | None:
    """The values of the documents of a group."""
    return None if values is None else [values[i] for i in group]


def place(values: list[Any], group: Sequence[int], new: Sequence[Any]) -> None:
    """Set the values of the documents of a group."""
    for i, value in zip(group, new, strict=True):
        values[i] = value
