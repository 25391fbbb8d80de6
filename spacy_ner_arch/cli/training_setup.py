"""Set up the pipeline and the corpora of a config as training does, but without weights."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from spacy.language import Language
from spacy.schemas import ConfigSchemaInit, ConfigSchemaTraining
from spacy.training import Example
from spacy.training.initialize import get_sourced_components
from spacy.util import load_model_from_config, registry, resolve_dot_names

from ..annotation.layers import assigning
from ..training.checks import unknown_settings
from .pipelines import check_corpora, check_word_vectors, config_text, corpus_paths, naming_long_texts, parse_config

PARTS = ("train", "dev")


class Setup(NamedTuple):
    """A config and its corpora.

    examples: examples of each part.
    annotating: components that annotate training documents for other components.
    frozen: components that are not trained.
    sourced: components from other pipelines. They are trained further unless frozen.
    unknown: descriptions of settings that do not exist.
    """

    nlp: Language
    examples: dict[str, list[Example]]
    annotating: list[str]
    frozen: list[str]
    sourced: list[str]
    unknown: list[str]

    @property
    def train(self) -> list[Example]:
        return self.examples["train"]

    def is_set(self, attribute: str) -> bool:
        """Whether an annotating component sets an attribute of training documents."""
        return bool(set(self.annotating) & set(assigning(self.nlp, attribute)))


def set_up(path: Path, overrides: dict[str, Any]) -> Setup:
    """Make the pipeline of a config, without its weights, and read its corpora."""
    raw = parse_config(config_text(path), overrides)
    check_corpora(raw)
    check_word_vectors(raw)
    nlp = load_model_from_config(raw, auto_fill=True)
    config = nlp.config.interpolate()
    training = registry.resolve(config["training"], schema=ConfigSchemaTraining)
    readers = resolve_dot_names(config, [training["train_corpus"], training["dev_corpus"]])
    with naming_long_texts(corpus_paths(config)):
        initialize_tokenizer(nlp, lambda: readers[0](nlp))
        examples = {part: list(reader(nlp)) for part, reader in zip(PARTS, readers, strict=True)}
    sourced = list(get_sourced_components(raw))
    unknown = list(unknown_settings(raw))
    return Setup(nlp, examples, training["annotating_components"], training["frozen_components"], sourced, unknown)


def initialize_tokenizer(nlp: Language, get_examples: Callable[[], Iterable[Example]]) -> None:
    """Initialize only the parts of Language.initialize that determine the tokens, without the components.

    get_examples: examples of the training corpus.
    """
    initialize = registry.resolve(nlp.config.interpolate()["initialize"], schema=ConfigSchemaInit)
    if initialize["before_init"] is not None:
        initialize["before_init"](nlp)
    if hasattr(nlp.tokenizer, "initialize"):
        nlp.tokenizer.initialize(get_examples, nlp=nlp, **initialize["tokenizer"])
