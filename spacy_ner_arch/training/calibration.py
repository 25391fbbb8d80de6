"""Registered callback that calibrates probabilities before a pipeline is stored."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from spacy.language import Language
from spacy.training import Example
from spacy.util import dot_to_object, minibatch, registry, resolve_dot_names
from thinc.api import Config
from torch import Tensor

from ..bridge.errors import named_errors
from ..bridge.marked_copies import predict_copies
from ..bridge.shim import TorchShim
from ..nn.batch import Batch
from ..nn.head import Head

T = TypeVar("T")


@registry.callbacks("spacy_ner_arch.Calibrate.v1")
def create_calibrate(path: Path | None = None, limit: int = 1000) -> Callable[[Language], Language]:
    """For [training.before_to_disk]: calibrate the probabilities of this package's components before they are stored.

    Trained networks are overconfident. One temperature per component, and for relations also a bias of "no label", are
    set to maximize the likelihood of held-out documents. With the default settings, predictions stay the same. Other
    thresholds and alternatives apply to the calibrated probabilities, and decode = "greedy" and "graph" compare
    calibrated probabilities of different spans and components. Frozen components and other factories are not changed.
    Relations are calibrated on pairs of right entities, since their probabilities are multiplied with those of the
    entities; the threshold and the graph compare log odds without the bias. With a teacher's chain, missing
    annotation has the teacher's probabilities. Without a chain, a document in which only entities are annotated, and no
    token is known to be outside of entities, is ignored. If all documents are ignored, the temperature is not changed.

    path: held-out corpus in .spacy format, which is read with the settings of the development corpus; null for the
        development corpus itself.
    limit: maximum number of examples to use, sampled evenly over the corpus, which is read once; 0 for all, which are
        read once per component. A sample is enough, since only one or two numbers are fitted.
    Source: Guo et al. 2017; Alexandari et al. 2020 (bias).
    """
    return partial(calibrate, path, limit)


def calibrate(path: Path | None, limit: int, nlp: Language) -> Language:
    config = nlp.config.interpolate()
    frozen = config["training"].get("frozen_components", [])
    due = [name for name, pipe in nlp.pipeline if can_calibrate(pipe) and name not in frozen]
    if not due:
        return nlp
    corpus = held_out_corpus(config, path)
    sample = even_sample(corpus(nlp), limit) if limit > 0 else None
    for name in due:
        # The components write to the predicted documents.
        copies = (Example(eg.predicted.copy(), eg.reference) for eg in sample or ())
        pipe: Any = nlp.get_pipe(name)
        pipe.shim.calibrate(held_out_batches(nlp, name, corpus(nlp) if sample is None else copies))
    return nlp


def even_sample(items: Iterable[T], size: int) -> list[T]:
    """At most `size` items, evenly over an iterable of unknown length, in its order.

    A corpus may be sorted, by source or by length, so its first examples are no sample. At most 2 * size + 1 items are
    kept in memory.
    """
    kept: list[T] = []
    step = 1
    for i, item in enumerate(items):
        if i % step == 0:
            kept.append(item)
        if len(kept) > 2 * size:
            kept, step = kept[::2], 2 * step
    number = min(size, len(kept))
    return [kept[i * len(kept) // number] for i in range(number)]


def held_out_corpus(config: Config, path: Path | None) -> Callable[[Language], Iterable[Example]]:
    """The development corpus of a config, or the corpus of a path, read with the settings of the development corpus: a
    component may need the gold annotation that the reader copies.
    """
    name = config["training"]["dev_corpus"]
    reader: Any = None
    if registry.is_promise(config[name.split(".")[0]]):  # one function makes all corpora
        if path is None:
            (reader,) = resolve_dot_names(config, [name])
            return cast(Callable, reader)
    else:
        reader = dot_to_object(config, name)
    if path is None and isinstance(reader, dict) and reader.get("path", "") is None:
        raise ValueError(
            f"spacy_ner_arch.Calibrate.v1: [{name}] has no path: give it one, or give Calibrate.v1 the path of a "
            "held-out corpus"
        )
    if path is not None:
        has_path = isinstance(reader, dict) and "path" in reader
        reader = {**(reader if has_path else {"@readers": "spacy_ner_arch.Corpus.v1"}), "path": str(path)}
    # Resolve no other corpus; a reader may be slow to create.
    return cast(Callable, registry.resolve({"reader": reader})["reader"])


def can_calibrate(pipe: Any) -> bool:
    """Whether a component has a trained head with probabilities that can be calibrated."""
    shim = getattr(pipe, "shim", None)
    return isinstance(shim, TorchShim) and shim.is_initialized and isinstance(shim.module, Head)


def held_out_batches(nlp: Language, name: str, examples: Iterable[Example]) -> Iterator[tuple[Tensor, Batch]]:
    """Token vectors and batches of a component, after all earlier components have run. Keeps no documents."""
    pipe: Any = nlp.get_pipe(name)
    earlier = nlp.pipeline[: nlp.pipe_names.index(name)]
    for batch in minibatch(examples, nlp.batch_size):
        docs = [eg.predicted for eg in batch]
        for _, other in earlier:
            docs = list(other.pipe(docs)) if hasattr(other, "pipe") else [other(doc) for doc in docs]
        held_out = [Example(doc, eg.reference) for doc, eg in zip(docs, batch, strict=True)]
        with named_errors(name):
            yield from ((x, batch) for _, x, batch in predict_copies(pipe.model, pipe.held_out_input(held_out)))
