"""Registered models that find entities: an embedding, an optional encoder and a head."""

from functools import partial
from typing import Any

from spacy.util import registry
from thinc.api import Model

from ..annotation.by_label import by_label
from ..bridge.errors import named_errors
from ..bridge.head import head_model
from ..bridge.rows import Tok2Vec
from ..nn.head import EncoderBuilder
from ..nn.spans import SpanClassifier
from ..nn.taggers import CRFTagger, SoftmaxTagger
from .encoders import trees_of, warn_of_second_encoder


@registry.architectures("spacy_ner_arch.CRF.v1")
def crf(
    tok2vec: Tok2Vec,
    encoder: EncoderBuilder | None = None,
    dropout: float | None = None,
    loss_scale: float = 0.001,
    teacher_weight: float = 1.0,
    teacher_temperature: float = 1.0,
    consistency: float = 0.0,
    dtype: str = "float32",
) -> Model:
    """Label tokens with a linear-chain CRF, for `sequence_ner`.

    tok2vec: the embedding, any of spaCy's or a listener.
    encoder: an encoder over tok2vec, for example spacy_ner_arch.BiLSTM.v1; null for none.
    dropout: rate before the output layer; null for the rate of [training].
    loss_scale: constant factor of the negative log likelihood, which is summed over the documents.
    teacher_weight: factor of the loss of documents with a teacher's chain, see `ner-arch annotate --soft`.
    teacher_temperature: divisor of the teacher's scores; above 1, its probabilities become less extreme.
    consistency: factor of the divergence between the predictions for both copies of a document that
        spacy_ner_arch.RDrop.v1 gives; 0 for none.
    dtype: float32; bfloat16, float16 or auto for mixed precision. The CRF itself computes in float32 and float64.
    Source: Lample et al. 2016.
    """
    build = partial(
        CRFTagger,
        encoder=encoder,
        dropout_rate=dropout,
        loss_scale=loss_scale,
        teacher_weight=teacher_weight,
        teacher_temperature=teacher_temperature,
        consistency=consistency,
    )
    warn_of_second_encoder(tok2vec, encoder)
    return head_model("crf_tagger", tok2vec, build, "tokens", dtype, trees_of(encoder))


@registry.architectures("spacy_ner_arch.Softmax.v1")
def softmax(
    tok2vec: Tok2Vec,
    encoder: EncoderBuilder | None = None,
    dropout: float | None = None,
    loss_scale: float = 0.001,
    label_smoothing: float = 0.0,
    class_weights: dict[str, float] | list[list[Any]] | None = None,
    teacher_weight: float = 1.0,
    teacher_temperature: float = 1.0,
    consistency: float = 0.0,
    dtype: str = "float32",
) -> Model:
    """Label tokens with a softmax each, and decode to the best legal tag sequence, for `sequence_ner`.

    label_smoothing: share of the target probability that is spread over all tags.
    class_weights: factor of the loss by gold label, `O` for tokens outside; 1 for labels not named. A dictionary, or a
        list of [label, factor] for labels with `:` or `=`, which cannot be keys of a config.
    Other arguments: see spacy_ner_arch.CRF.v1.
    """
    with named_errors("spacy_ner_arch.Softmax.v1"):
        weights = by_label("class_weights", class_weights or {}, float)
    build = partial(
        SoftmaxTagger,
        encoder=encoder,
        dropout_rate=dropout,
        loss_scale=loss_scale,
        label_smoothing=label_smoothing,
        class_weights=weights,
        teacher_weight=teacher_weight,
        teacher_temperature=teacher_temperature,
        consistency=consistency,
    )
    warn_of_second_encoder(tok2vec, encoder)
    return head_model("softmax_tagger", tok2vec, build, "tokens", dtype, trees_of(encoder))


@registry.architectures("spacy_ner_arch.Span.v1")
def span(
    tok2vec: Tok2Vec,
    encoder: EncoderBuilder | None = None,
    dropout: float | None = None,
    hidden_size: int | None = None,
    attention: bool = True,
    length_size: int = 50,
    relu_length_size: int = 0,
    negative_weight: float = 0.5,
    boundary_smoothing: float = 0.0,
    loss_scale: float = 0.001,
    consistency: float = 0.0,
    dtype: str = "float32",
) -> Model:
    """Classify every span, for `span_ner` and `nested_ner`.

    A span is represented by its first and last token and, optionally, the attention-weighted mean of its tokens and its
    length. SpanSynLSTM uses attention and length_size; SpanNER length_size and relu_length_size, without attention.

    dropout: rate on the hidden layer; null for the rate of [training].
    hidden_size: width of the hidden layer; null for the width of the span's representation.
    attention: include the attention-weighted mean of the tokens.
    length_size: width of an embedding of the length; 0 for none.
    relu_length_size: width of a second embedding of the length, followed by a ReLU; 0 for none.
    negative_weight: factor of the loss of spans that are not entities.
    boundary_smoothing: share of an entity's target probability that is moved to spans one token longer or shorter.
    Other arguments: see spacy_ner_arch.CRF.v1.
    Source: Fu, Huang and Liu 2021; Zhu and Li 2022.
    """
    build = partial(
        SpanClassifier,
        encoder=encoder,
        dropout_rate=dropout,
        hidden_size=hidden_size,
        attention=attention,
        length_size=length_size,
        relu_length_size=relu_length_size,
        negative_weight=negative_weight,
        boundary_smoothing=boundary_smoothing,
        loss_scale=loss_scale,
        consistency=consistency,
    )
    warn_of_second_encoder(tok2vec, encoder)
    return head_model("span_classifier", tok2vec, build, "spans", dtype, trees_of(encoder))
