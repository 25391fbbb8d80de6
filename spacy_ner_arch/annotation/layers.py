"""Layers of annotation that the documents of a corpus have and that the components of a pipeline set."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc

from .relations import has_relations, relation_keys

# The default key of spaCy's span components in doc.spans.
SPANS_KEY = "sc"


def describe_layers(docs: Iterable[Doc]) -> str:
    """Describe how many entities, spans and relations there are, and how many documents have them."""
    documents = 0
    annotated, found = Counter[str](), Counter[str]()
    for doc in docs:
        documents += 1
        layers = count_layers(doc)
        annotated.update(layers.keys())
        found.update(layers)
    parts = [f"{found[layer]} in {layer} of {annotated[layer]}" for layer in sorted(annotated)]
    return f"{documents} documents, with " + (", ".join(parts) or "no entities, spans or relations")


def count_layers(doc: Doc) -> dict[str, int]:
    """Size of each layer of annotation of a document. Layers have the names of `gold_layer` of components."""
    layers = {spans_layer(key): len(group) for key, group in doc.spans.items()}
    if doc.has_annotation("ENT_IOB"):
        layers["doc.ents"] = len(doc.ents)
    if has_relations(doc):
        layers["doc._.relations"] = len(relation_keys(doc))
    return layers


def without_layer(docs: Iterable[Doc], layer: str) -> int:
    """The number of documents without a layer of annotation, which scores ignore."""
    return sum(layer not in count_layers(doc) for doc in docs)


def spans_layer(key: str) -> str:
    """Name of a group in doc.spans."""
    return f"doc.spans[{key!r}]"


def layers_set(pipe: Any, assigns: Iterable[str]) -> set[str]:
    """Layers that a component sets, with the key of the group in doc.spans if it is known.

    assigns: `assigns` of its factory.
    """
    layers = set(assigns)
    key = getattr(pipe, "key", None) or getattr(pipe, "cfg", {}).get("spans_key")
    if key and "doc.spans" in layers:
        layers = layers - {"doc.spans"} | {spans_layer(key)}
    if getattr(pipe, "annotate_ents", False):  # of a span_ruler
        layers.add("doc.ents")
    return layers


def assigning(nlp: Language, attribute: str) -> list[str]:
    """Names of the components that declare that they set an attribute."""
    return [name for name in nlp.pipe_names if attribute in nlp.get_pipe_meta(name).assigns]


def labels_of(nlp: Language, *attributes: str) -> set[str]:
    """The labels of all components that declare that they set one of these attributes."""
    names = {name for attribute in attributes for name in assigning(nlp, attribute)}
    return {label for name in names for label in getattr(nlp.get_pipe(name), "labels", ()) if label}


def symmetric_labels(nlp: Language) -> list[str]:
    """Labels of relations that hold in both directions, of all extractors of a pipeline, sorted."""
    return sorted({label for _, pipe in nlp.pipeline for label in getattr(pipe, "cfg", {}).get("symmetric", ())})


def gives_alternatives(pipe: Any) -> bool:
    """Whether a component writes alternatives to its entities into doc.spans, see `sequence_ner`."""
    return getattr(pipe, "cfg", {}).get("alternatives") is not None


def find_pipe(nlp: Language, factory: str, name: str | None) -> Any:
    """The component of a factory with this name, or the only one.

    Raises ValueError with a message about the option --component if there is no such component or more than one.
    """
    names = [each for each in nlp.pipe_names if nlp.get_pipe_meta(each).factory == factory]
    if not names:
        raise ValueError(f"This command needs a pipeline with {factory}; this one has {nlp.pipe_names}")
    if name is None and len(names) > 1:
        raise ValueError(f"This pipeline has several {factory}: give --component, one of {names}")
    if name not in (None, *names):
        raise ValueError(f"--component {name} is not a {factory} of this pipeline, which has {names}")
    return nlp.get_pipe(name or names[0])
