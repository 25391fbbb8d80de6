"""An encoder over an embedding as a thinc model, which can be shared by several components."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast

from spacy.tokens import Doc
from thinc.types import Floats2d
from torch import Tensor, nn

from ..annotation.head_input import HeadInput
from ..annotation.trees import TreeSettings
from ..annotation.words import find_words
from ..nn.head import build_encoder, check_width
from .head import initialize, make_batches
from .rows import (
    DocRows,
    Tok2Vec,
    check_lengths,
    check_tok2vec,
    join,
    pick_rows,
    place_rows,
    split,
    to_array,
)
from .shared_gradient import SharedGradient
from .shared_model import SharedModel
from .shim import TorchShim, get_shim, no_backprop


class TokenVectors(DocRows):
    """Vectors of documents from an encoder.

    gradient: sum of the gradients from the listeners of this package. Listeners of spaCy pass theirs to the component.
    """

    def __init__(self, flat: Floats2d, lengths: Iterable[int]) -> None:
        super().__init__(flat, lengths)
        self.gradient = SharedGradient()


class EncoderModel(SharedModel[list[Doc], list[Floats2d]]):
    """The thinc model of an encoder over an embedding."""

    architecture = "spacy_ner_arch.TorchTok2Vec.v1"


def encoder_model(
    name: str, tok2vec: Tok2Vec, build: Callable[..., nn.Module], dtype: str, trees: TreeSettings | None = None
) -> Tok2Vec:
    """An encoder over an embedding as a tok2vec layer; arguments as for `head_model`."""
    check_tok2vec(name, tok2vec)
    return EncoderModel(
        name,
        encoder_forward,
        init=initialize,
        layers=[tok2vec],
        shims=[TorchShim(partial(build_encoder, build), dtype=dtype)],
        refs={"tok2vec": tok2vec},
        dims={"nO": None},
        attrs={"dropout_rate": 0.0, "tree_settings": trees},
    )


def encoder_forward(
    model: Tok2Vec, docs: list[Doc], is_train: bool
) -> tuple[list[Floats2d], Callable[[list[Floats2d]], Any]]:
    shim = get_shim(model)
    shim.check_initialized()
    words = find_words(docs)
    if not any(map(len, words)):
        return [model.ops.alloc2f(len(doc), model.get_dim("nO")) for doc in docs], no_backprop
    vectors, backprop_vectors = model.layers[0](docs, is_train)
    check_lengths(docs, vectors)
    encoded = []
    backprops = []
    for _, x, batch in make_batches(model, HeadInput(docs), words, join(model, vectors)):
        states, backprop_states = shim((x, batch), is_train, model.attrs["dropout_rate"])
        check_width(cast(nn.Module, shim.module), states)
        encoded.append((batch.tokens, batch.flatten(states.detach().float())))
        backprops.append((batch, backprop_states))
    output = TokenVectors(to_array(model, place_rows(encoded, words)), map(len, docs))

    def backprop_tokens(gradient: Tensor) -> Any:
        gradients = []
        for batch, backprop_states in backprops:
            x = batch.pad(pick_rows(gradient, batch.tokens))
            gradients.append((batch.tokens, batch.flatten(cast(Tensor, backprop_states(x)))))
        return backprop_vectors(split(model, place_rows(gradients, words), map(len, docs)))

    def backprop(d_encoded: list[Floats2d]) -> Any:
        """d_encoded: gradient from the layer above, or the sum over all listeners of spaCy; empty if there is none."""
        output.gradient.withdraw(shim)
        if d_encoded:
            output.gradient.add(join(model, d_encoded))
        return backprop_tokens(output.gradient.total())

    if is_train:
        output.gradient.defer(shim, backprop_tokens)
    return output, backprop
