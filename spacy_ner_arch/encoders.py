"""Registered encoders: builders of torch modules that turn token vectors into token vectors in context."""

from collections.abc import Callable
from functools import partial

from spacy.util import registry
from torch import nn

from .bridge import Tok2Vec, tok2vec_model
from .nn.lstm import BiLSTM

# Width of the token vectors -> module (B, T, D), mask (B, T) -> (B, T, module.output_size).
Encoder = Callable[[int], nn.Module]


@registry.architectures("spacy_ner_arch.BiLSTM.v1")
def bilstm(hidden_size: int = 200, depth: int = 1, dropout: float | None = None) -> Encoder:
    """Bidirectional LSTM.

    hidden_size: width of each direction's state; token vectors become twice as wide.
    depth: number of layers.
    dropout: rate before each layer; null takes that of [training].
    Source: Graves and Schmidhuber 2005; Huang, Xu and Yu 2015.
    """
    return partial(BiLSTM, hidden_size=hidden_size, depth=depth, dropout_rate=dropout)


@registry.architectures("spacy_ner_arch.TorchTok2Vec.v1")
def torch_tok2vec(tok2vec: Tok2Vec, encoder: Encoder, dtype: str = "float32") -> Tok2Vec:
    """An encoder over an embedding as a tok2vec layer, for sharing it between components or using it in spaCy's own.

    tok2vec: the embedding, any of spaCy's or a listener.
    encoder: for example spacy_ner_arch.BiLSTM.v1.
    dtype: float32, or bfloat16 or float16 for mixed precision.
    """
    return tok2vec_model("torch_tok2vec", tok2vec, encoder, dtype)
