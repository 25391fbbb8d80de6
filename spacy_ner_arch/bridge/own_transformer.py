"""A transformer that belongs to one component, by its config or because it replaces a listener."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from spacy.tokens import Doc
from spacy_transformers.data_classes import FullTransformerBatch
from spacy_transformers.layers import TransformerListener, split_trf_batch
from thinc.api import Model, chain
from thinc.types import Floats2d

from .rows import Tok2Vec, join
from .transformer_listener import WordBatch, WordListener

# Listeners that a component's own transformer can replace: the function that replaces each, and the settings it keeps.
REPLACED = {
    "spacy_ner_arch.TransformerListener.v1": ("spacy_ner_arch.TransformerTok2Vec.v1", ("features",)),
    "spacy-transformers.TransformerListener.v1": (
        "spacy_ner_arch.PooledTransformerTok2Vec.v1",
        ("pooling", "grad_factor"),
    ),
}


def own_transformer(transformer: Model[list[Doc], FullTransformerBatch]) -> Tok2Vec:
    """A transformer as the tok2vec of one component, not shared."""
    return chain(transformer, Model("word_vectors", word_vectors))


def word_vectors(model: Model, batch: WordBatch, is_train: bool) -> tuple[Sequence[Floats2d], Callable]:
    """Word vectors of a WordBatch."""
    return batch.vectors, partial(join, model)


def replace_listener(
    transformer: Model[list[Doc], FullTransformerBatch], listener: TransformerListener, component: Any
) -> Model:
    """The layer that replaces a listener in nlp.replace_listeners, ours or that of spacy-transformers."""
    return own_transformer(transformer) if isinstance(listener, WordListener) else chain(transformer, split_trf_batch())


def replace_listener_cfg(transformer: dict[str, Any], tok2vec: dict[str, Any]) -> dict[str, Any]:
    """The config block that replaces the block of the listener. That block is `tok2vec` or a block inside it."""
    listener = find_listener(tok2vec)
    if listener is None:
        raise ValueError(
            f"the transformer can only replace {' and '.join(REPLACED)}; use one of them in the component's config"
        )
    function, settings = REPLACED[listener["@architectures"]]
    kept = {name: listener[name] for name in settings if name in listener}
    return {"@architectures": function, "transformer": transformer, **kept}


def find_listener(block: dict[str, Any]) -> dict[str, Any] | None:
    """The config block of a listener in a block; None if there is none."""
    if block.get("@architectures") in REPLACED:
        return block
    inner = (find_listener(value) for value in block.values() if isinstance(value, dict))
    return next((listener for listener in inner if listener is not None), None)
