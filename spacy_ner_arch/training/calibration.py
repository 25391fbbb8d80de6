"""Registered callback that fits probabilities before a model is stored."""

from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from spacy.language import Language
from spacy.training import Corpus, Example
from spacy.util import dot_to_object, registry


@registry.callbacks("spacy_ner_arch.Calibrate.v1")
def create_calibrate(path: Path | None = None, limit: int = 0) -> Callable[[Language], Language]:
    """For [training.before_to_disk]: fit the probabilities of the `sequence_ner` components before they are stored,
    except frozen ones. (Those of `span_ner` and `relation_extractor` stay as the model gives them.)

    A trained network is surer of itself than it should be. One number per component, the temperature, is set so that
    documents not trained on become most likely. It changes no prediction, only `span._.score`.

    path: a corpus in .spacy format; null for the development corpus of the config, as its own reader gives it.
    limit: use at most so many examples of it; 0 for all.
    Source: Guo et al. 2017.
    """
    return partial(calibrate, path, limit)


def calibrate(path: Path | None, limit: int, nlp: Language) -> Language:
    config = nlp.config.interpolate()
    frozen = config["training"].get("frozen_components", [])
    due = [name for name, pipe in nlp.pipeline if hasattr(pipe, "calibrate") and name not in frozen]
    if not due:
        return nlp
    # Of the corpora no other: a reader may be slow to make.
    reader = {} if path else {"reader": dot_to_object(config, config["training"]["dev_corpus"])}
    corpus: Any = Corpus(path) if path else registry.resolve(reader)["reader"]
    examples = list(islice(corpus(nlp), limit if limit > 0 else None))
    docs = [eg.predicted for eg in examples]
    pipe: Any
    for name, pipe in nlp.pipeline:
        if name in due:
            pipe.calibrate([Example(doc, eg.reference) for doc, eg in zip(docs, examples, strict=True)])
            due.remove(name)
        if not due:
            break
        # What the components behind this one build on.
        docs = list(pipe.pipe(docs)) if hasattr(pipe, "pipe") else [pipe(doc) for doc in docs]
    return nlp
