"""The predictions of a system for a corpus: those of a pipeline, or stored ones."""

from pathlib import Path
from typing import Any, NamedTuple

from spacy.language import Language
from spacy.training import Example
from wasabi import msg

from ..annotation.layers import assigning, without_layer
from .messages import fail
from .pipelines import choose_copied, load, predict_corpus, setters
from .stored_predictions import is_stored, load_stored, stored_files, warn_of_left


class Inputs(NamedTuple):
    """A corpus, and the gold annotation from which a pipeline predicts it; see `ner-arch evaluate`."""

    corpus: Path
    gold_entities: bool | None = None
    gold_trees: bool = False
    gold_preproc: bool = False


class System(NamedTuple):
    """A pipeline, the examples with its predictions, and whether it got gold entities."""

    nlp: Language
    examples: list[Example]
    has_gold_entities: bool


def predict(model: str, inputs: Inputs, code: Path | None, use_gpu: int) -> System:
    """Predict a corpus, or take its stored predictions. Exits with a message on an error.

    model: name or path of a pipeline, or a file or folder with predictions.
    """
    is_file = is_stored(model)
    if is_file:
        try:
            nlp = load_stored(Path(model))
        except (ValueError, OSError) as error:
            fail(f"Cannot read the predictions {model}", error)
    else:
        nlp = load(model, use_gpu, code)
    if is_file and (inputs.gold_entities or inputs.gold_trees or inputs.gold_preproc):
        msg.fail(
            f"--gold-entities, --gold-trees and --gold-preproc are for pipelines; {model} has predictions", exits=1
        )
    finds_relations = bool(assigning(nlp, "doc._.relations"))
    copied = []
    if not is_file:
        copied = choose_copied(nlp, inputs.gold_entities, inputs.gold_trees, finds_relations=finds_relations)
    if inputs.gold_preproc and finds_relations:
        msg.fail("--gold-preproc would lose the gold relations, which spaCy drops: leave it out", exits=1)
    nlp.select_pipes(disable=setters(nlp, copied))  # so that they are not scored
    try:
        examples = predict_corpus(nlp, inputs.corpus, copied, inputs.gold_preproc)
    except ValueError as error:
        fail(f"Cannot predict {inputs.corpus}", error)
    if is_file:
        pipe: Any = nlp.get_pipe("stored_predictions")
        warn_of_left(pipe, inputs.corpus)
        warn_of_missing(nlp, model, examples)
    return System(nlp, examples, "ents" in copied)


def warn_of_missing(nlp: Language, name: str, examples: list[Example]) -> None:
    """Warn about stored documents that lack a layer which others have: its gold annotation counts as missed."""
    for layer in ("doc.ents", "doc._.relations"):
        missing = without_layer((eg.predicted for eg in examples), layer) if assigning(nlp, layer) else 0
        if missing:
            msg.warn(f"{name}: {missing} of {len(examples)} documents have no {layer}, which counts as missed")


def predict_other(model: str, inputs: Inputs, first: System, code: Path | None, use_gpu: int) -> System:
    """Predict the same corpus by another system, with gold entities if the first system got them.

    Warns if only one of both got gold entities.
    """
    if first.has_gold_entities and not is_stored(model):
        inputs = inputs._replace(gold_entities=True)
    other = predict(model, inputs, code, use_gpu)
    if other.has_gold_entities != first.has_gold_entities:
        msg.warn("Only one of the two systems got gold entities: do not compare their relations")
    return other


def check_system(model: str) -> None:
    """Raise ValueError if there is no pipeline and no file with predictions of this name."""
    from ..bulk.models import model_folder

    if is_stored(model):
        for file in stored_files(model):
            if not file.exists():
                raise ValueError(f"there is no {file}")
    else:
        model_folder(model)
