"""Registered models of the components: an embedding, an optional encoder and a head."""

from functools import partial

from spacy.util import registry
from thinc.api import Model

from .bridge import Tok2Vec, head_model, token_tags
from .encoders import Encoder
from .nn.taggers import CRFTagger, SoftmaxTagger


@registry.architectures("spacy_ner_arch.CRF.v1")
def crf(
    tok2vec: Tok2Vec,
    encoder: Encoder | None = None,
    dropout: float | None = None,
    loss_scale: float = 0.001,
    dtype: str = "float32",
) -> Model:
    """Sequence labelling with a linear-chain CRF, for `sequence_ner`.

    tok2vec: the embedding, any of spaCy's or a listener.
    encoder: for example spacy_ner_arch.BiLSTM.v1, or null.
    dropout: rate before the output layer; null takes that of [training].
    loss_scale: constant factor of the negative log likelihood, which is summed over the sentences.
    dtype: float32, or bfloat16 or float16 for mixed precision; the CRF itself always computes in float32 or better.
    Source: Lample et al. 2016.
    """
    build = partial(CRFTagger, encoder=encoder, dropout_rate=dropout, loss_scale=loss_scale)
    return head_model("crf_tagger", tok2vec, build, token_tags, dtype)


@registry.architectures("spacy_ner_arch.Softmax.v1")
def softmax(
    tok2vec: Tok2Vec,
    encoder: Encoder | None = None,
    dropout: float | None = None,
    loss_scale: float = 0.001,
    label_smoothing: float = 0.0,
    class_weights: dict[str, float] | None = None,
    dtype: str = "float32",
) -> Model:
    """Sequence labelling with a softmax per token, decoded to the best well-formed tag sequence, for `sequence_ner`.

    label_smoothing: share of the target probability spread over all tags.
    class_weights: factor of the loss by gold label, `O` for tokens outside; 1 for labels not named.
    The other arguments are those of spacy_ner_arch.CRF.v1.
    """
    build = partial(
        SoftmaxTagger,
        encoder=encoder,
        dropout_rate=dropout,
        loss_scale=loss_scale,
        label_smoothing=label_smoothing,
        class_weights=class_weights,
    )
    return head_model("softmax_tagger", tok2vec, build, token_tags, dtype)
