"""Registered callback that adds labels to a trained component before further training."""

from collections.abc import Callable
from functools import partial
from typing import Any

from spacy.language import Language
from spacy.util import registry

# Keys of the dictionary for a relation_extractor.
KEYS = {"labels", "types", "type_pairs"}


@registry.callbacks("spacy_ner_arch.AddLabels.v1")
def create_add_labels(labels: dict[str, list[str] | dict[str, Any]]) -> Callable[[Language], Language]:
    """For [initialize.before_init]: add labels to components that come from a trained pipeline (`source`).

    spaCy does not initialize such components, so they get no labels from the corpus. The weights of the other labels of
    a component are kept.

    labels: new labels of each component, by its name. For a relation_extractor they can be a dictionary with labels,
        types and type_pairs: new entity types, and new type pairs if they are restricted (lists by label if they are
        restricted by label). With type_pairs = "learned", a relation between types without a type pair is not learned.
    Raises ValueError for a component that the pipeline does not have, or that has no labels, and for other keys.
    """
    return partial(add_labels, labels)


def add_labels(labels: dict[str, list[str] | dict[str, Any]], nlp: Language) -> Language:
    for name, new in labels.items():
        # Sourced components are disabled while the others are initialized.
        pipe: Any = nlp.get_pipe(name) if name in nlp.component_names else None
        if not hasattr(pipe, "add_label"):
            raise ValueError(
                f"[initialize.before_init] labels names {name!r}, which is not a component with labels; the pipeline "
                f"has {nlp.component_names}"
            )
        if isinstance(new, dict):
            if not hasattr(pipe, "add_types") or new.keys() - KEYS:
                raise ValueError(
                    f"[initialize.before_init] labels.{name} = {new}: give a list of labels, or for a "
                    f"relation_extractor a dictionary with the keys {', '.join(sorted(KEYS))}"
                )
            pipe.add_types(as_list(name, "types", new), new.get("type_pairs") or ())
            new = as_list(name, "labels", new)
        for label in new:
            pipe.add_label(label)
    return nlp


def as_list(name: str, key: str, block: dict[str, Any]) -> list[str]:
    """The list of strings under a key of a component's block; empty if the key is missing. Raises ValueError for any
    other value."""
    value = block.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"[initialize.before_init] labels.{name}.{key} = {value!r} is not a list of strings")
    return value
