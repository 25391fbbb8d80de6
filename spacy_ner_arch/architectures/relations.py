"""Registered models of relation extraction: an embedding and a model of pairs."""

from collections.abc import Callable
from functools import partial

from spacy.util import registry
from thinc.api import Model
from torch import nn

from ..bridge.collate_pairs import pair_candidates, related_pairs
from ..bridge.head import Tok2Vec, head_model
from ..bridge.marked_copies import marked_pairs
from ..nn.pair_acnn import PairACNN
from ..nn.pair_bilstm import PairBiLSTM, PairBiLSTMAttention
from ..nn.pair_marks import PairMarks
from ..nn.pair_softmax import PairMultitask, PairSoftmax


def relation_model(name: str, tok2vec: Tok2Vec, build: Callable[..., nn.Module], dtype: str) -> Model:
    model = head_model(name, tok2vec, build, related_pairs, dtype, pair_candidates)
    # The component sets it.
    model.attrs["pair_finder"] = None
    return model


@registry.architectures("spacy_ner_arch.RelationSoftmax.v1")
def relation_softmax(
    tok2vec: Tok2Vec,
    dropout: float | None = None,
    hidden_size: int | None = None,
    context: str = "sentences",
    type_size: int = 50,
    negative_weight: float = 1.0,
    class_weights: dict[str, float] | None = None,
    loss_scale: float = 0.001,
    dtype: str = "float32",
) -> Model:
    """Relation extraction from the mean vectors of both entities, from their context, and from embeddings of their
    types, for `relation_extractor`.

    tok2vec: the embedding, any of spaCy's or a listener.
    dropout: rate; null takes that of [training].
    hidden_size: width of the hidden layer; null for that of the embedding.
    context: "sentences" for the mean of those that the entities stand in, "between" for the maximum over the words
        between them.
    type_size: width of the embedding of the types.
    negative_weight: factor of the loss of pairs without a relation.
    class_weights: factor of the loss by gold label; 1 for labels not named.
    loss_scale: constant factor of the loss, which is summed over the pairs.
    dtype: float32, or bfloat16 or float16 for mixed precision.
    Source: NERE (BERTSoftmax); Wu and He 2019; Eberts and Ulges 2020 (between).
    """
    build = partial(
        PairSoftmax,
        dropout_rate=dropout,
        hidden_size=hidden_size,
        context=context,
        type_size=type_size,
        negative_weight=negative_weight,
        class_weights=class_weights,
        loss_scale=loss_scale,
    )
    return relation_model("relation_softmax", tok2vec, build, dtype)


@registry.architectures("spacy_ner_arch.RelationMultitask.v1")
def relation_multitask(
    tok2vec: Tok2Vec,
    transe_weight: float = 1e-5,
    dropout: float | None = None,
    hidden_size: int | None = None,
    context: str = "sentences",
    type_size: int = 50,
    negative_weight: float = 1.0,
    class_weights: dict[str, float] | None = None,
    loss_scale: float = 0.001,
    dtype: str = "float32",
) -> Model:
    """spacy_ner_arch.RelationSoftmax.v1 with a second task: the vector of the tail is to be that of the head plus that
    of the label (TransE).

    transe_weight: factor of the second loss; its own scale is that of the first.
    The other arguments are those of spacy_ner_arch.RelationSoftmax.v1.
    Source: NERE (BERTMultitask); Bordes et al. 2013.
    """
    build = partial(
        PairMultitask,
        transe_weight=transe_weight,
        dropout_rate=dropout,
        hidden_size=hidden_size,
        context=context,
        type_size=type_size,
        negative_weight=negative_weight,
        class_weights=class_weights,
        loss_scale=loss_scale,
    )
    return relation_model("relation_multitask", tok2vec, build, dtype)


@registry.architectures("spacy_ner_arch.RelationBiLSTM.v1")
def relation_bilstm(
    tok2vec: Tok2Vec,
    hidden_size: int = 200,
    depth: int = 2,
    dropout: float | None = None,
    type_size: int = 50,
    negative_weight: float = 1.0,
    class_weights: dict[str, float] | None = None,
    loss_scale: float = 0.001,
    dtype: str = "float32",
) -> Model:
    """Relation extraction from a BiLSTM over the sentences of a pair: its last states, and its mean over each entity.

    hidden_size: width of each direction's state.
    depth: number of layers.
    The other arguments are those of spacy_ner_arch.RelationSoftmax.v1.
    Source: NERE (BiLSTM); Zhang et al. 2015.
    """
    build = partial(
        PairBiLSTM,
        hidden_size=hidden_size,
        depth=depth,
        dropout_rate=dropout,
        type_size=type_size,
        negative_weight=negative_weight,
        class_weights=class_weights,
        loss_scale=loss_scale,
    )
    return relation_model("relation_bilstm", tok2vec, build, dtype)


@registry.architectures("spacy_ner_arch.RelationBiLSTMAttention.v1")
def relation_bilstm_att(
    tok2vec: Tok2Vec,
    hidden_size: int = 200,
    position_size: int = 25,
    max_distance: int = 50,
    dropout: float | None = None,
    type_size: int = 50,
    negative_weight: float = 1.0,
    class_weights: dict[str, float] | None = None,
    loss_scale: float = 0.001,
    dtype: str = "float32",
) -> Model:
    """Relation extraction from a BiLSTM that knows how far each token is from both entities, summed up by attention.

    hidden_size: width of each direction's state.
    position_size: width of the embedding of the distance of a token to an entity.
    max_distance: in tokens; all farther ones are the same.
    The other arguments are those of spacy_ner_arch.RelationSoftmax.v1.
    Source: Zhou et al. 2016.
    """
    build = partial(
        PairBiLSTMAttention,
        hidden_size=hidden_size,
        position_size=position_size,
        max_distance=max_distance,
        dropout_rate=dropout,
        type_size=type_size,
        negative_weight=negative_weight,
        class_weights=class_weights,
        loss_scale=loss_scale,
    )
    return relation_model("relation_bilstm_attention", tok2vec, build, dtype)


@registry.architectures("spacy_ner_arch.RelationACNN.v1")
def relation_acnn(
    tok2vec: Tok2Vec,
    filters: int = 200,
    window: int = 3,
    position_size: int = 25,
    max_distance: int = 50,
    pooling: str = "attention",
    loss: str = "hinge",
    dropout: float | None = None,
    negative_weight: float = 1.0,
    class_weights: dict[str, float] | None = None,
    loss_scale: float = 0.001,
    dtype: str = "float32",
) -> Model:
    """Relation extraction with a convolution over the tokens, weighted by the attention of the entities.

    filters: of the convolution.
    window: tokens that a filter sees.
    pooling: "attention" of the labels to the places, as published, or "max", the maximum of each filter.
    loss: "hinge" on the distances to the vectors of the labels, as published, or "cross_entropy".
    The other arguments are those of spacy_ner_arch.RelationBiLSTMAttention.v1.
    Source: Wang et al. 2016.
    """
    build = partial(
        PairACNN,
        filters=filters,
        window=window,
        position_size=position_size,
        max_distance=max_distance,
        pooling=pooling,
        loss=loss,
        dropout_rate=dropout,
        negative_weight=negative_weight,
        class_weights=class_weights,
        loss_scale=loss_scale,
    )
    return relation_model("relation_acnn", tok2vec, build, dtype)


@registry.architectures("spacy_ner_arch.RelationMarkers.v1")
def relation_markers(
    tok2vec: Tok2Vec,
    marks: list[str] = ["@", "@", "#", "#"],  # noqa: B006 - read from configs, where a default is written as a list
    context: int = 128,
    dropout: float | None = None,
    negative_weight: float = 1.0,
    class_weights: dict[str, float] | None = None,
    loss_scale: float = 0.001,
    dtype: str = "float32",
) -> Model:
    """Relation extraction from a copy of the sentences for each pair, with marks around its two entities: the vectors
    of the marks before them are classified. The slowest of these models: its transformer reads as many copies as there
    are pairs.

    tok2vec: reads the copies, so it is a model of its own and no listener: spacy_ner_arch.TransformerTok2Vec.v1.
    marks: words before and behind the head, before and behind the tail, which the transformer should know.
    context: tokens of the sentences that are kept before the pair and behind it.
    The other arguments are those of spacy_ner_arch.RelationSoftmax.v1.
    Source: Soares et al. 2019; Wu and He 2019.
    """
    build = partial(
        PairMarks,
        dropout_rate=dropout,
        negative_weight=negative_weight,
        class_weights=class_weights,
        loss_scale=loss_scale,
    )
    return relation_model("relation_markers", marked_pairs(tok2vec, marks, context), build, dtype)
