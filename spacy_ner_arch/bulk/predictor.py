"""Predictions of a pipeline: for `ner-arch annotate` without --soft."""

from collections.abc import Iterator
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc

from .documents import annotation, find_layers, predict_in_zones


class Predictor:
    """A pipeline that predicts entities, spans or relations.

    layers: names in `documents.LAYERS` of what is written.
    counted: names of the counts.
    Raises ValueError if the pipeline finds nothing.
    """

    def __init__(self, nlp: Language) -> None:
        self.nlp = nlp
        self.layers = self.counted = find_layers(nlp)

    def prepare(self, doc: Doc) -> list[str]:
        """Labels of the entities that are removed: none."""
        return []

    def predict(self, records: Iterator[tuple[Doc, Any]], batch_size: int) -> Iterator[tuple[Doc, Any]]:
        """See `documents.predict_in_zones`."""
        return predict_in_zones(self.nlp, records, batch_size)

    def counts(self, doc: Doc) -> dict[str, int]:
        """Number of entities, spans and relations of a document."""
        found = annotation(doc, self.layers)
        return {
            layer: sum(map(len, each.values())) if isinstance(each, dict) else len(each)
            for layer, each in found.items()
        }
