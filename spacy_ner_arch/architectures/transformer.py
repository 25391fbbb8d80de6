"""Registered transformers: shared through a component, or owned by one head."""

from functools import partial
from typing import Any

from spacy.tokens import Doc
from spacy.util import registry
from spacy_transformers.data_classes import FullTransformerBatch
from spacy_transformers.layers import split_trf_batch, trfs2arrays
from thinc.api import Model, chain
from thinc.types import Floats2d, Ragged

from ..bridge.own_transformer import own_transformer
from ..bridge.pretrained import check_safe_settings
from ..bridge.rows import Tok2Vec
from ..bridge.shim import TorchShim
from ..bridge.storage import Fixed
from ..bridge.transformer import initialize, word_transformer
from ..bridge.transformer_listener import WordListener
from ..bridge.word_embedding import concatenate
from ..bridge.wordpieces import WordPieces
from ..nn.transformer import ATTENTION, POOLINGS, WordTransformer


@registry.architectures("spacy_ner_arch.TransformerModel.v1")
def transformer_model(
    name: str,
    pooling: str = "mean",
    window: int = 256,
    overlap: int = 64,
    dtype: str = "float32",
    frozen: bool = False,
    cache_mib: int = 1024,
    tokenizer_config: dict[str, Any] = {},  # noqa: B006 - config defaults are dictionaries
    transformer_config: dict[str, Any] = {},  # noqa: B006 - as above
) -> Model[list[Doc], FullTransformerBatch]:
    """A pretrained transformer with one vector per word, for the component `transformer` of spacy-transformers.

    name: name of a model on the Hugging Face hub, or a folder.
    pooling: how the word pieces of a word are pooled: mean, first, or first_last (side by side, so twice as wide).
    window: word pieces per input of the transformer, special ones included. Longer documents are split into overlapping
        windows; each word takes its vector from the window where it has more context.
    overlap: word pieces that neighboring windows share.
    dtype: float32; bfloat16 or float16 for mixed precision; or auto, which is bfloat16 where the CPU or GPU that runs
        the model has units for it, else float32.
    frozen: do not train the transformer. It then runs without dropout and without a graph.
    cache_mib: memory on the device for vectors of training documents while the transformer is frozen, always or in a
        stage of training; other documents are computed again.
    tokenizer_config, transformer_config: settings of the Hugging Face tokenizer and network.
        Settings that choose outputs (output_attentions) or run code (trust_remote_code) are refused.

    Raises ValueError for an unknown pooling or a refused setting; at initialization for a model that cannot be loaded,
    whose vectors depend on the batch, or that does not fit its tokenizer, window or overlap. For a model with a
    decoder, only the encoder is used.
    """
    own = "spacy_ner_arch.TransformerModel.v1"
    if pooling not in POOLINGS:
        raise ValueError(f"{own}: unknown pooling {pooling!r}; choose from {', '.join(POOLINGS)}")
    check_safe_settings(tokenizer_config, transformer_config)
    build = partial(WordTransformer, pooling=pooling, attention=transformer_config.get(ATTENTION))
    # All implementations of the attention use the same weights, so this setting can be changed after training.
    network = {key: value for key, value in transformer_config.items() if key != ATTENTION}
    fixed = {"pooling": pooling, "tokenizer_config": tokenizer_config, "transformer_config": network}
    return word_transformer(
        TorchShim(build, dtype=dtype, frozen=frozen),
        WordPieces(window, overlap),
        partial(initialize, name, tokenizer_config, transformer_config),
        cache_mib,
        {key: Fixed(value, key) for key, value in fixed.items()},
    )


@registry.architectures("spacy_ner_arch.TransformerListener.v1")
def transformer_listener(features: Tok2Vec | None = None, upstream: str = "*") -> Tok2Vec:
    """The word vectors of the component `transformer`, for a head. Only over spacy_ner_arch.TransformerModel.v1.

    features: an embedding whose vectors are appended, for example spacy_ner_arch.WordCharEmbed.v1; it shows the head
        properties of words that the transformer ignores, such as their case with an uncased one.
    upstream: name of the transformer component, if there are several.
    """
    listener = WordListener(upstream)
    return listener if features is None else concatenate(listener, features)


@registry.architectures("spacy_ner_arch.TransformerTok2Vec.v1")
def transformer_tok2vec(
    transformer: Model[list[Doc], FullTransformerBatch],
    features: Tok2Vec | None = None,
) -> Tok2Vec:
    """A transformer as the tok2vec of one component, not shared.

    transformer: spacy_ner_arch.TransformerModel.v1.
    features: see spacy_ner_arch.TransformerListener.v1.
    """
    tok2vec = own_transformer(transformer)
    return tok2vec if features is None else concatenate(tok2vec, features)


@registry.architectures("spacy_ner_arch.PooledTransformerTok2Vec.v1")
def pooled_transformer_tok2vec(
    transformer: Model[list[Doc], FullTransformerBatch], pooling: Model[Ragged, Floats2d], grad_factor: float = 1.0
) -> Tok2Vec:
    """A transformer that is not shared, which nlp.replace_listeners sets in place of a listener of spacy-transformers.

    transformer: spacy_ner_arch.TransformerModel.v1.
    pooling: pooling layer of the replaced listener. Its input has one vector per word.
    grad_factor: that of the listener.
    """
    return chain(chain(transformer, split_trf_batch()), trfs2arrays(pooling, grad_factor))
