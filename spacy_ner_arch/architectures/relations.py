"""Registered model of relations, and the pair models that plug into it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from spacy.util import registry
from thinc.api import Model

from ..annotation.by_label import by_label
from ..bridge.errors import named_errors
from ..bridge.head import head_model
from ..bridge.marked_copies import with_marked_copies
from ..bridge.rows import Tok2Vec
from ..bridge.storage import Fixed
from ..nn.head import EncoderBuilder
from ..nn.pair_acnn import ACNNPairs
from ..nn.pair_bilstm import BiLSTMAttentionPairs, BiLSTMPairs
from ..nn.pair_head import PairHead
from ..nn.pair_markers import MarkerPairs
from ..nn.pair_softmax import MultitaskPairs, SoftmaxPairs
from .encoders import trees_of, warn_of_second_encoder


@dataclass(frozen=True)
class PairBuilder:
    """A pair model for Relations.v1.

    build: function that makes the head from the arguments that all pair models share.
    marks: words around head and tail if the head runs on marked copies of the text; else None.
    context: number of words that are kept on either side of a pair in a marked copy.
    fixed: settings by name that cannot be changed after training, although the shapes of the weights stay the same.
    """

    build: Callable[..., PairHead]
    marks: tuple[str, ...] | None = None
    context: int = 0
    fixed: dict[str, Fixed] = field(default_factory=dict)


@registry.architectures("spacy_ner_arch.Relations.v1")
def relations(
    tok2vec: Tok2Vec,
    pairs: PairBuilder,
    encoder: EncoderBuilder | None = None,
    dropout: float | None = None,
    negative_weight: float = 1.0,
    class_weights: dict[str, float] | list[list[Any]] | None = None,
    loss_scale: float = 0.001,
    consistency: float = 0.0,
    dtype: str = "float32",
) -> Model:
    """Classify candidate pairs of entities, for `relation_extractor`.

    tok2vec: the embedding, any of spaCy's or a listener.
    pairs: the pair model, for example spacy_ner_arch.SoftmaxPairs.v1.
    encoder: an encoder over tok2vec, for example spacy_ner_arch.BiLSTM.v1; null for none.
    dropout: rate in the pair model; null for the rate of [training].
    negative_weight: factor of the loss of pairs without a relation.
    class_weights: factor of the loss by gold label; 1 for labels not named. A dictionary, or a list of [label, factor]
        for labels with `:` or `=`, which cannot be keys of a config.
    loss_scale: constant factor of the loss, which is summed over the pairs.
    consistency: factor of the divergence between the predictions for both copies of a document that
        spacy_ner_arch.RDrop.v1 gives; 0 for none.
    dtype: float32; bfloat16, float16 or auto for mixed precision.
    """
    if pairs.marks is not None and consistency:
        raise ValueError(
            "spacy_ner_arch.MarkerPairs.v1: consistency cannot compare marked copies; set it to 0, or use another pair "
            "model"
        )
    with named_errors("spacy_ner_arch.Relations.v1"):
        weights = by_label("class_weights", class_weights or {}, float)
    build = partial(
        pairs.build,
        encoder=encoder,
        dropout_rate=dropout,
        negative_weight=negative_weight,
        class_weights=weights,
        loss_scale=loss_scale,
        consistency=consistency,
    )
    warn_of_second_encoder(tok2vec, encoder)
    model = head_model("pair_classifier", tok2vec, build, "pairs", dtype, trees_of(encoder))
    model.attrs.update(pairs.fixed)
    return model if pairs.marks is None else with_marked_copies(model, pairs.marks, pairs.context)


@registry.architectures("spacy_ner_arch.SoftmaxPairs.v1")
def softmax_pairs(hidden_size: int | None = None, context: str = "between", type_size: int = 50) -> PairBuilder:
    """A hidden layer over the mean vectors of both entities and their context, and the types of both entities.

    hidden_size: width of the hidden layer; null for the width of the token vectors.
    context: "between" for the maximum over the tokens between the entities, "sentences" for the mean of their
        sentences.
    type_size: width of the embedding of entity types; 0 for none.
    Source: NERE (BERTSoftmax); Wu and He 2019; Eberts and Ulges 2020 (between).
    """
    build = partial(SoftmaxPairs, hidden_size=hidden_size, context=context, type_size=type_size)
    return PairBuilder(build, fixed={"context": Fixed(context, "context of spacy_ner_arch.SoftmaxPairs.v1")})


@registry.architectures("spacy_ner_arch.MultitaskPairs.v1")
def multitask_pairs(
    transe_weight: float = 1e-5, hidden_size: int | None = None, context: str = "between", type_size: int = 50
) -> PairBuilder:
    """SoftmaxPairs.v1 with TransE as a second task: head plus label should be near the tail.

    transe_weight: factor of the second loss, which has the scale of the first.
    Other arguments: see spacy_ner_arch.SoftmaxPairs.v1.
    Source: NERE (BERTMultitask); Bordes et al. 2013.
    """
    settings: dict[str, Any] = {"hidden_size": hidden_size, "context": context, "type_size": type_size}
    build = partial(MultitaskPairs, transe_weight=transe_weight, **settings)
    return PairBuilder(build, fixed={"context": Fixed(context, "context of spacy_ner_arch.MultitaskPairs.v1")})


@registry.architectures("spacy_ner_arch.BiLSTMPairs.v1")
def bilstm_pairs(hidden_size: int = 200, depth: int = 2, type_size: int = 50) -> PairBuilder:
    """A BiLSTM over the sentences of a pair: its last states, and the mean of its states over each entity.

    hidden_size: width of the state of each direction.
    depth: number of layers.
    type_size: width of the embedding of entity types; 0 for none.
    Source: NERE (BiLSTM); Zhang et al. 2015.
    """
    return PairBuilder(partial(BiLSTMPairs, hidden_size=hidden_size, depth=depth, type_size=type_size))


@registry.architectures("spacy_ner_arch.BiLSTMAttentionPairs.v1")
def bilstm_attention_pairs(
    hidden_size: int = 200, position_size: int = 25, max_distance: int = 50, type_size: int = 50
) -> PairBuilder:
    """A BiLSTM over tokens and their distances to both entities, pooled by attention.

    hidden_size: width of the state of each direction.
    position_size: width of the embedding of the distance of a token to an entity.
    max_distance: longer distances, in words, are clamped to this one.
    type_size: width of the embedding of entity types; 0 for none.
    Source: Zhou et al. 2016.
    """
    settings = {"position_size": position_size, "max_distance": max_distance, "type_size": type_size}
    return PairBuilder(partial(BiLSTMAttentionPairs, hidden_size=hidden_size, **settings))


@registry.architectures("spacy_ner_arch.ACNNPairs.v1")
def acnn_pairs(
    filters: int = 500,
    window: int = 3,
    position_size: int = 25,
    max_distance: int = 50,
    pooling: str = "max",
    loss: str = "cross_entropy",
) -> PairBuilder:
    """A convolution over tokens that are weighted by attention to the entities.

    filters, window: number of filters, and number of words that each filter covers.
    position_size, max_distance: see spacy_ner_arch.BiLSTMAttentionPairs.v1.
    pooling: "max", the maximum of each filter, or "attention" to the labels, as published. The maximum learns faster.
    loss: "cross_entropy", which learns faster, or "hinge" on the distances to the vectors of the labels, as published.
    Source: Wang et al. 2016.
    """
    settings: dict[str, Any] = {"position_size": position_size, "max_distance": max_distance}
    return PairBuilder(partial(ACNNPairs, filters=filters, window=window, pooling=pooling, loss=loss, **settings))


@registry.architectures("spacy_ner_arch.MarkerPairs.v1")
def marker_pairs(
    marks: list[str] = ["@", "@", "#", "#"],  # noqa: B006 - config defaults are lists
    context: int = 128,
) -> PairBuilder:
    """The vectors of marks around both entities, in one copy of the text for each pair.

    The slowest pair model: the tok2vec reads as many copies as there are pairs. The tok2vec must be unshared, such as
    spacy_ner_arch.TransformerTok2Vec.v1, not a listener.

    marks: words before and after the head, before and after the tail; in the vocabulary of the transformer.
    context: words of the sentences that are kept before and after the pair.
    Source: Soares et al. 2019; Wu and He 2019.
    """
    return PairBuilder(MarkerPairs, tuple(marks), context)
