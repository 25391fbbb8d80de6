"""Warnings about settings of [training] that have no effect."""

import warnings
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from spacy.language import Language
from spacy.schemas import ConfigSchemaTraining
from spacy.util import is_package

# Transformer of new configs. project.yml sets it in all configs, including those without a transformer.
DEFAULT_TRANSFORMER = "roberta-base"

# Warnings that were shown for a pipeline, since each of its components and the logger check its settings.
_shown: WeakKeyDictionary[Language, set[str]] = WeakKeyDictionary()


def warn_of_settings(nlp: Language) -> None:
    """Warn about settings of the config that have no effect on the pipeline. Each warning is shown once."""
    shown = _shown.setdefault(nlp, set())
    config = nlp.config.interpolate()
    frozen = set(config["training"].get("frozen_components") or ())
    # Frozen and resumed components are disabled while the others are initialized.
    for message in [
        *useless_settings(config, nlp.config.to_str(), nlp.component_names),
        *untrained_encoders(nlp, frozen),
        *unequal_losses(nlp, frozen),
        *entities_not_scored(nlp, config),
    ]:
        if message not in shown:
            shown.add(message)
            warnings.warn(message, stacklevel=3)


def unknown_settings(config: dict[str, Any]) -> Iterator[str]:
    """Descriptions of names in [training] that are not settings.

    config: config of the user. The config of a pipeline lacks these names, since spaCy drops unknown settings.
    """
    known = list(ConfigSchemaTraining.__annotations__)
    for name in config.get("training", {}):
        if name not in known:
            near = "".join(f"; use {other}" for other in get_close_matches(name, known, 1))
            yield f"[training] {name} is not a setting and has no effect{near}"


def untrained_encoders(nlp: Language, frozen: set[str]) -> Iterator[str]:
    """Descriptions of `tok2vec` components that are not trained, since their last listener is frozen.

    spaCy passes all gradients to the encoder when the last listener is updated. The transformers of this package
    receive them in any case, and so does spacy_ner_arch.TorchTok2Vec.v1 if its listeners are from this package.
    """
    pipe: Any
    for name, pipe in nlp.components:
        if nlp.get_pipe_meta(name).factory != "tok2vec" or name in frozen:
            continue
        listeners: dict[str, list[Any]] = getattr(pipe, "listener_map", {})
        last = next(reversed(listeners), None)
        trained = [node for each, nodes in listeners.items() if each not in frozen for node in nodes]
        arrives = pipe.model.shims and all(getattr(node, "leaves_gradient", False) for node in trained)
        if last in frozen and trained and not arrives:
            yield (
                f"[training] frozen_components has {last!r}, the last component that listens to {name!r}: "
                f"{name!r} gets no gradient and is not trained; move {last!r} before the other listeners in "
                "[nlp] pipeline, or freeze it with a stage of spacy_ner_arch.Stages.v1"
            )


def unequal_losses(nlp: Language, frozen: set[str]) -> Iterator[str]:
    """Descriptions of encoders that components of this package share with other components that have far larger
    losses."""
    pipe: Any
    for name, pipe in nlp.components:
        resting = {*frozen, *nlp.disabled}
        listeners = {other: nlp.get_pipe(other) for other in getattr(pipe, "listener_map", {}) if other not in resting}
        ours = [other for other, component in listeners.items() if getattr(component, "is_weighted", None) is False]
        theirs = [other for other, component in listeners.items() if not hasattr(component, "is_weighted")]
        if ours and theirs:
            yield (
                f"{ours} share {name!r} with {theirs}, whose losses are about 1,000 times as large, so that {name!r} "
                f"learns little for {ours}: set loss_weight = 1000 in the block of each of them"
            )


def entities_not_scored(nlp: Language, config: dict[str, Any]) -> Iterator[str]:
    """Descriptions of components whose entities are not scored, since the reader sets gold entities first."""
    corpus = config["training"].get("dev_corpus") or ""
    reader = config.get("corpora", {}).get(corpus.removeprefix("corpora."))
    if (
        not isinstance(reader, dict)
        or reader.get("@readers") != "spacy_ner_arch.Corpus.v1"
        or "ents" not in (reader.get("copy") or ())
    ):
        return
    names = [
        name
        for name in config["nlp"]["pipeline"]
        if "doc.ents" in nlp.get_pipe_meta(name).assigns and not config["components"][name].get("overwrite_ents")
    ]
    if names:
        yield (
            f'[{corpus}] copy has "ents": the gold entities replace those of {names}, so that ents_f is 1 and '
            'relations are scored between gold entities; remove "ents" from copy'
        )


def useless_settings(config: dict[str, Any], source: str, names: Sequence[str]) -> Iterator[str]:
    """Descriptions of settings without effect, with their remedies.

    config: the config with its variables filled in.
    source: the text of the config, with variables.
    names: names of the components of the pipeline.
    """
    training = config["training"]
    steps, frequency = training.get("max_steps") or 0, training.get("eval_frequency") or 0
    if 0 < steps < frequency:
        yield (
            f"[training] eval_frequency = {frequency} is above max_steps = {steps}: the pipeline is scored only before "
            "the first update, and model-best is the untrained pipeline; lower eval_frequency to a divisor of "
            f"{steps}"
        )
    # Training may end before max_steps with max_epochs or patience.
    elif frequency and steps % frequency and not (training.get("max_epochs") or training.get("patience")):
        last = steps - steps % frequency
        yield (
            f"[training] max_steps = {steps} is no multiple of eval_frequency = {frequency}: the last evaluation is at "
            f"step {last}, and model-best does not have the later updates; set max_steps to {last} or "
            f"{last + frequency}"
        )
    models = [block.get("model") or {} for block in config.get("components", {}).values()]
    has_r_drop = (training.get("batcher") or {}).get("@batchers") == "spacy_ner_arch.RDrop.v1"
    if has_r_drop and not any(model.get("consistency") for model in models):
        yield (
            "[training.batcher] spacy_ner_arch.RDrop.v1 gives each document twice, but consistency is 0 in all models: "
            "set it in the model of a component, or use the inner batcher alone"
        )
    pretrained = (config.get("initialize") or {}).get("init_tok2vec")
    if pretrained and not config.get("pretraining"):
        yield (
            f"[initialize] init_tok2vec = {pretrained!r} has no effect without a [pretraining] block: add one with "
            "`python -m spacy init fill-config CONFIG OUTPUT --pretraining`"
        )
    for setting in ("annotating_components", "frozen_components"):
        unknown = sorted(set(training.get(setting) or ()) - set(names))
        if unknown:
            yield f"[training] {setting} names {unknown}, which the pipeline does not have; it has {list(names)}"
    if "${" not in source:  # the variables are filled in, so nothing shows what is used
        return
    for name, value in config.get("paths", {}).items():
        if (name, value) == ("encoder", DEFAULT_TRANSFORMER):
            continue
        # The config of a pipeline no longer shows the pipelines from which its components were sourced.
        is_used = f"${{paths.{name}}}" in source or is_pipeline(value)
        if value and name not in ("train", "dev") and not is_used:
            yield f"[paths] {name} = {value!r} is not used in the config; choose a config with such a component"
    for name, value in config.get("rates", {}).items():
        if f"${{rates.{name}}}" not in source and f"${{rates.{name}." not in source:
            yield f"[rates] {name} = {value!r} is not used in the config; remove it, or use it as ${{rates.{name}}}"


def is_pipeline(value: Any) -> bool:
    """Whether a value of a config names a pipeline: a package or a folder."""
    return isinstance(value, str) and (is_package(value) or (Path(value) / "meta.json").exists())
