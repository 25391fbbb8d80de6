"""Registered encoders: builders of torch modules that turn token vectors into token vectors in context."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from spacy.tokens import Doc
from spacy.util import registry
from thinc.api import Model
from torch import nn

from ..annotation.trees import MISSING, read_trees
from ..bridge.head import Arguments, Context, Tok2Vec, tok2vec_model
from ..nn.batch import Padding
from ..nn.lstm import BiLSTM
from ..nn.syn_lstm import SynLSTMEncoder

# Width of the token vectors -> module (B, T, D), mask (B, T), graph -> (B, T, module.output_size).
Encoder = Callable[[int], nn.Module]


@registry.architectures("spacy_ner_arch.BiLSTM.v1")
def bilstm(hidden_size: int = 200, depth: int = 1, dropout: float | None = None) -> Encoder:
    """Bidirectional LSTM; in float32 where `dtype` is bfloat16, and on a CPU always.

    hidden_size: width of each direction's state; token vectors become twice as wide.
    depth: number of layers.
    dropout: rate before each layer; null takes that of [training].
    Source: Graves and Schmidhuber 2005; Huang, Xu and Yu 2015.
    """
    return partial(BiLSTM, hidden_size=hidden_size, depth=depth, dropout_rate=dropout)


@dataclass(frozen=True)
class TreeEncoder:
    """Builder of an encoder that reads dependency trees."""

    build: Encoder
    missing: str
    label_rows: int
    pos: bool

    def __call__(self, input_size: int) -> nn.Module:
        return self.build(input_size)


def encoder_context(encoder: Encoder | None, *others: Context) -> Context:
    """What a module with this encoder has to know of the documents: their trees, or None; then what others say."""
    return partial(_read_context, encoder, others)


def _read_context(
    encoder: Encoder | None, others: Sequence[Context], model: Model, docs: Sequence[Doc], shape: Padding
) -> Arguments:
    graph = None
    if isinstance(encoder, TreeEncoder):
        graph = read_trees(docs, shape, encoder.missing, encoder.label_rows, encoder.pos)
    return graph, *(argument for other in others for argument in other(model, docs, shape))


@registry.architectures("spacy_ner_arch.SynLSTM.v1")
def syn_lstm(
    hidden_size: int = 200,
    graph_layers: int = 2,
    graph_size: int | None = None,
    edge_labels: str = "bias",
    dep_size: int = 50,
    pos_size: int = 0,
    label_rows: int = 500,
    missing: str = "error",
    dropout: float | None = None,
) -> Encoder:
    """Bidirectional LSTM with a second input: what convolutions over the dependency tree have gathered for a token. The
    trees are those on the documents, from a parser that comes before, in training as an annotating component.

    hidden_size: width of each direction's state; token vectors become twice as wide.
    graph_layers: number of convolutions.
    graph_size: their width; null for that of the token vectors.
    edge_labels: what they make of the label and direction of an arc: none, a bias, or a gate as well.
    dep_size: width of the embedding of each token's relation to its head; 0 leaves it out.
    pos_size: the same of its part of speech.
    label_rows: labels are hashed to so many rows.
    missing: what becomes of a document without a tree: "error", or "chain", in which every token depends on the one
        before it.
    dropout: rate before the convolutions, between them, and at the output; null takes that of [training].
    Source: Xu et al. 2021; labels as in Marcheggiani and Titov 2017.
    """
    if missing not in MISSING:
        raise ValueError(f"spacy_ner_arch.SynLSTM.v1: unknown missing = {missing!r}; known are {', '.join(MISSING)}")
    build = partial(
        SynLSTMEncoder,
        hidden_size=hidden_size,
        graph_layers=graph_layers,
        graph_size=graph_size,
        edge_labels=edge_labels,
        dep_size=dep_size,
        pos_size=pos_size,
        label_rows=label_rows,
        dropout_rate=dropout,
    )
    return TreeEncoder(build, missing, label_rows, pos=bool(pos_size))


@registry.architectures("spacy_ner_arch.TorchTok2Vec.v1")
def torch_tok2vec(tok2vec: Tok2Vec, encoder: Encoder, dtype: str = "float32") -> Tok2Vec:
    """An encoder over an embedding as a tok2vec layer, for sharing it between components or using it in spaCy's own.

    tok2vec: the embedding, any of spaCy's or a listener.
    encoder: for example spacy_ner_arch.BiLSTM.v1.
    dtype: float32, or bfloat16 or float16 for mixed precision.
    """
    return tok2vec_model("torch_tok2vec", tok2vec, encoder, dtype, encoder_context(encoder))
