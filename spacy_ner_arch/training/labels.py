"""Registered callback that adds labels to a trained component before its training goes on."""

from collections.abc import Callable
from functools import partial
from typing import Any

from spacy.language import Language
from spacy.util import registry


@registry.callbacks("spacy_ner_arch.AddLabels.v1")
def create_add_labels(labels: dict[str, list[str]]) -> Callable[[Language], Language]:
    """For [initialize.before_init]: add labels to components that come from a trained pipeline (`source`).

    spaCy does not initialize such components, so that they get no labels from the corpus. What a component has learned
    about its other labels stays.

    labels: new labels of each component, by its name.
    Raises ValueError for a component that the pipeline does not have, or that has no labels.
    """
    return partial(add_labels, labels)


def add_labels(labels: dict[str, list[str]], nlp: Language) -> Language:
    for name, new in labels.items():
        # Sourced components are disabled while the others are initialized.
        pipe: Any = nlp.get_pipe(name) if name in nlp.component_names else None
        if not hasattr(pipe, "add_label"):
            raise ValueError(
                f"[initialize.before_init] labels names {name!r}, which is not a component with labels; the pipeline "
                f"has {nlp.component_names}"
            )
        for label in new:
            pipe.add_label(label)
    return nlp
