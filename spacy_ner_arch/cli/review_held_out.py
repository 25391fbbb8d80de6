"""Compare annotation with pipelines that were not trained on it: for `ner-arch review`."""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from confection import Config
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.training.initialize import get_sourced_components, init_nlp
from spacy.training.loop import train
from spacy.util import dot_to_object, load_model
from wasabi import msg

from ..annotation.alternatives import ALTERNATIVES
from ..annotation.describe import Counted
from ..annotation.layers import symmetric_labels
from ..annotation.words import text_key
from ..evaluation.doubts import MIN_COMPARED, Doubt, entity_doubts, relation_doubts
from ..formats import write_docbin
from ..training.checks import unknown_settings
from .pipelines import GOLD_ENTITIES, check_word_vectors, config_text, parse_config, predict_corpus, with_tokens


def train_parts(
    docs: Sequence[Doc], config: Path, overrides: dict[str, Any], folds: int, seed: int, use_gpu: int, folder: Path
) -> Iterator[tuple[Language, list[int], Path]]:
    """Train a pipeline without each part of the documents. Yields it, the numbers of the part, and its corpus.

    The held-out part is the development corpus, which calibrates the probabilities. The last weights are used, not the
    best weights on this part. Documents with the same `text_key` are in the same part, since their annotation
    must not be in the training data.
    Raises ValueError for a config whose corpora cannot be replaced.
    """
    numbers = with_tokens(docs)
    random.Random(seed).shuffle(numbers)
    of_text = defaultdict[str, list[int]](list)
    for number in numbers:
        of_text[text_key(docs[number].text)].append(number)
    groups = list(of_text.values())
    if len(groups) < 2 * folds:
        raise ValueError(
            f"{len(groups)} different texts are too few for {folds} parts; give a lower --folds, or --model"
        )
    text = config_text(config)
    original = parse_config(text, overrides)
    names = corpus_settings(original)
    for unknown in unknown_settings(original):
        msg.warn(unknown)
    for fold in range(folds):
        msg.divider(f"Part {fold + 1} of {folds}")
        held_out = sorted(chain.from_iterable(groups[fold::folds]))
        chosen = set(held_out)
        paths = {"train": folder / f"train{fold}.spacy", "dev": folder / f"dev{fold}.spacy"}
        write_docbin([docs[i] for i in numbers if i not in chosen], paths["train"])
        write_docbin([docs[i] for i in held_out], paths["dev"])
        replaced = {name: str(path) for part, path in paths.items() for name in names[part]}
        complete = parse_config(text, {**overrides, **replaced})
        check_word_vectors(complete)
        output = folder / f"pipeline{fold}"
        output.mkdir()
        nlp = init_nlp(complete, use_gpu=use_gpu)
        if not fold:
            warn_of_sources(nlp, complete)
        train(nlp, output, use_gpu=use_gpu)
        yield load_model(output / "model-last"), held_out, paths["dev"]


def corpus_settings(config: Config) -> dict[str, list[str]]:
    """The settings of a config that name the file of its training corpus and of its development corpus.

    Raises ValueError if there is none.
    """
    training, corpora = config.get("training", {}), config.get("corpora", {})
    text, text_of_corpora = config.to_str(), Config({"corpora": corpora}).to_str()
    found: dict[str, list[str]] = {}
    for part in ("train", "dev"):
        name, variable = training.get(f"{part}_corpus", f"corpora.{part}"), f"paths.{part}"
        try:
            reader = dot_to_object(config, name)
        except KeyError:
            reader = None
        has_path = isinstance(reader, dict) and "path" in reader
        # spaCy fills in [corpora], with these variables.
        if not has_path and corpora and f"${{{variable}}}" not in text_of_corpora:
            raise ValueError(
                f"[{name}], the corpus of [training] {part}_corpus, has no path and does not refer to ${{{variable}}}, "
                "so it cannot be replaced by the parts of this corpus: give it a path, such as that of "
                "spacy_ner_arch.Corpus.v1"
            )
        # Other readers of the corpus in a config, such as Calibrate.v1, use the variable.
        names = [variable] if not corpora or f"${{{variable}}}" in text else []
        if has_path:
            names.append(f"{name}.path")
        if names[-1] in found.get("train", ()):
            raise ValueError(
                f"[{name}] is both the training and the development corpus, but they must be separate: set [training] "
                "dev_corpus to another section"
            )
        found[part] = names
    return found


def warn_of_sources(nlp: Language, config: Config) -> None:
    """Warn about components that check annotation and are sourced from another pipeline."""
    sourced = get_sourced_components(config)
    for name in sourced.keys() & {name for names in checking(nlp).values() for name in names}:
        msg.warn(
            f"{name} is sourced from {sourced[name]['source']}: if that was trained on this corpus, {name} has seen "
            "the annotation that it checks, and finds few errors"
        )


def checking(nlp: Language) -> dict[str, list[str]]:
    """Names of the components that check annotation, by their factory."""
    found: dict[str, list[str]] = {"sequence_ner": [], "relation_extractor": []}
    for name in nlp.pipe_names:
        found.get(nlp.get_pipe_meta(name).factory, []).append(name)
    return found


def compare(
    nlp: Language, numbers: list[int], corpus: Path, unchecked: Counted | None = None
) -> Iterator[tuple[int, Example, list[Doubt]]]:
    """Find the doubtful annotation in each document of a corpus. Changes the settings of the pipeline.

    unchecked: counts the gold relations that no component can check.
    """
    pipes: list[list[Any]] = [[nlp.get_pipe(name) for name in names] for names in checking(nlp).values()]
    taggers, extractors = pipes
    if not taggers and not extractors:
        raise ValueError(
            f"only sequence_ner and relation_extractor can check annotation; the pipeline has {nlp.pipe_names}"
        )
    if len(taggers) > 1:
        names = [pipe.name for pipe in taggers]
        raise ValueError(f"the pipeline has several sequence_ner: {names}; give one with a single sequence_ner")
    doubts: list[list[Doubt]] = [[] for _ in numbers]
    examples: list[Example] = []
    if taggers:
        taggers[0].cfg.update(alternatives=MIN_COMPARED, threshold=0.0)
        # Overwrite the spans of an entity ruler, which would have no probability.
        taggers[0].overwrite_ents = True
        with nlp.select_pipes(disable=[pipe.name for pipe in extractors]):
            examples = predict_corpus(nlp, corpus, [])
        for i, example in enumerate(examples):
            doubts[i] += entity_doubts(numbers[i], example, ALTERNATIVES)
    if extractors:
        for pipe in extractors:
            pipe.cfg["threshold"] = 0.0
        symmetric = symmetric_labels(nlp)
        # Relations are checked between gold entities.
        with_gold = predict_corpus(nlp, corpus, GOLD_ENTITIES)
        for i, example in enumerate(with_gold):
            doubts[i] += relation_doubts(numbers[i], example, symmetric, unchecked)
        examples = examples or with_gold
    yield from zip(numbers, examples, doubts, strict=True)
