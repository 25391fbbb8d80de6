"""Registered encoders: builders of torch modules that contextualize token vectors."""

import warnings
from dataclasses import dataclass
from functools import partial

from spacy.util import registry
from torch import nn

from ..annotation.trees import TREE_FALLBACKS, TreeSettings
from ..bridge.encoder import EncoderModel, encoder_model
from ..bridge.rows import Tok2Vec
from ..bridge.tok2vec_listener import TokenListener
from ..nn.head import EncoderBuilder
from ..nn.lstm import BiLSTM
from ..nn.syn_lstm import SynLSTMEncoder


@registry.architectures("spacy_ner_arch.BiLSTM.v1")
def bilstm(hidden_size: int = 200, depth: int = 1, dropout: float | None = None) -> EncoderBuilder:
    """Bidirectional LSTM. It computes in bfloat16 only on CPUs with units for it, and in float16 only on GPUs.

    hidden_size: width of the state of each direction; the output is twice as wide.
    depth: number of layers.
    dropout: rate before each layer; null for the rate of [training].
    Source: Graves and Schmidhuber 2005; Huang, Xu and Yu 2015.
    """
    return partial(BiLSTM, hidden_size=hidden_size, depth=depth, dropout_rate=dropout)


@dataclass(frozen=True)
class TreeEncoder:
    """Builder of an encoder that reads dependency trees."""

    build: EncoderBuilder
    trees: TreeSettings

    def __call__(self, input_size: int) -> nn.Module:
        return self.build(input_size)


def trees_of(encoder: EncoderBuilder | None) -> TreeSettings | None:
    """Settings for the dependency trees that an encoder reads; None if it reads none."""
    return encoder.trees if isinstance(encoder, TreeEncoder) else None


def warn_of_second_encoder(tok2vec: Tok2Vec, encoder: EncoderBuilder | None) -> None:
    """Warn if the embedding under an encoder has an encoder as well, such as that of a default model."""
    if encoder is not None and isinstance(tok2vec, EncoderModel):
        warnings.warn(
            f"[model] has an encoder, and its tok2vec, a {tok2vec.architecture}, has another one under it; to replace "
            "the encoder of a default model, set encoder in [model.tok2vec], or set tok2vec to an embedding, such as "
            "spacy_ner_arch.WordCharEmbed.v1",
            stacklevel=2,
        )


@registry.architectures("spacy_ner_arch.SynLSTM.v1")
def syn_lstm(
    hidden_size: int = 200,
    graph_layers: int = 2,
    graph_size: int | None = None,
    edge_labels: str = "bias",
    dep_size: int = 50,
    pos_size: int = 0,
    label_rows: int = 500,
    arc_dropout: float = 0.3,
    missing: str = "error",
    dropout: float | None = None,
) -> EncoderBuilder:
    """Bidirectional LSTM with graph convolutions over the dependency tree as a second input.

    The trees are those of the documents: gold trees copied by the reader, or set by a parser earlier in the pipeline,
    which must be an annotating component in training.

    hidden_size: width of the state of each direction; the output is twice as wide.
    graph_layers, graph_size: number and width of the convolutions; null for the width of the token vectors.
    edge_labels: how the convolutions use the label and direction of an arc: none, bias, or gate (bias and gate).
    dep_size: width of the embedding of each token's dependency label; 0 for none.
    pos_size: width of the embedding of parts of speech; 0 for none.
    label_rows: rows of each table of hashed labels.
    arc_dropout: probability in training that a token has no head and no dependency label.
    missing: treatment of a document without a tree: "error", or "chain", where each token depends on the previous one.
    dropout: rate before and between the convolutions and on the output; null for the rate of [training].

    Raises ValueError for an unknown `missing`.
    Source: Xu et al. 2021; edge labels: Marcheggiani and Titov 2017.
    """
    if missing not in TREE_FALLBACKS:
        raise ValueError(
            f"spacy_ner_arch.SynLSTM.v1: unknown missing = {missing!r}; choose from {', '.join(TREE_FALLBACKS)}"
        )
    build = partial(
        SynLSTMEncoder,
        hidden_size=hidden_size,
        graph_layers=graph_layers,
        graph_size=graph_size,
        edge_labels=edge_labels,
        dep_size=dep_size,
        pos_size=pos_size,
        label_rows=label_rows,
        arc_dropout=arc_dropout,
        dropout_rate=dropout,
    )
    return TreeEncoder(build, TreeSettings(missing, bool(pos_size)))


@registry.architectures("spacy_ner_arch.TorchTok2Vec.v1")
def torch_tok2vec(tok2vec: Tok2Vec, encoder: EncoderBuilder, dtype: str = "float32") -> Tok2Vec:
    """An encoder over an embedding as a tok2vec layer, to share between components or to use in spaCy's components.

    tok2vec: the embedding, any of spaCy's or a listener.
    encoder: for example spacy_ner_arch.BiLSTM.v1.
    dtype: float32; bfloat16, float16 or auto for mixed precision.
    """
    return encoder_model("torch_tok2vec", tok2vec, encoder, dtype, trees_of(encoder))


@registry.architectures("spacy_ner_arch.Tok2VecListener.v1")
def tok2vec_listener(width: int, upstream: str = "*") -> Tok2Vec:
    """The token vectors of the component `tok2vec`, for a head.

    Like spacy.Tok2VecListener.v1, but over spacy_ner_arch.TorchTok2Vec.v1 it passes back one gradient per batch. The
    component then computes no loss of its own, for which a GPU would have to be read once per document.

    width: width of the vectors of the component.
    upstream: name of the component, if there are several.
    """
    return TokenListener(upstream, width)
