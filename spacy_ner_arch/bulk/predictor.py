"""Predictions of a pipeline: for `ner-arch annotate` without --soft."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc, SpanGroup

from ..annotation.relations import stored_relations
from .documents import find_layers, finds_relations_only, predict_in_zones

# Name of the count of entities from the input.
GIVEN = "given_entities"


class Predictor:
    """A pipeline that predicts entities, spans or relations.

    layers: names in `documents.LAYERS` of the annotation to write.
    counted: names of the counts. For a pipeline that finds relations only, GIVEN is one: the entities and spans of the
        input, without which there are no relations.
    Raises ValueError if the pipeline finds nothing.
    """

    def __init__(self, nlp: Language) -> None:
        self.nlp = nlp
        self.layers = find_layers(nlp)
        self.counted = [*self.layers, *([GIVEN] if finds_relations_only(self.layers) else [])]

    def prepare(self, doc: Doc) -> list[str]:
        """Labels of the entities that are removed: none."""
        return []

    def predict(self, records: Iterator[tuple[Doc, Any]], batch_size: int) -> Iterator[tuple[Doc, Any]]:
        """See `documents.predict_in_zones`."""
        return predict_in_zones(self.nlp, records, batch_size)

    def counts(self, doc: Doc, given: Sequence[SpanGroup] = ()) -> dict[str, int]:
        """Number of entities, spans and relations of a document.

        given: the groups of spans before the prediction, which do not count as spans. A component that sets a group
            replaces it.
        """
        groups = doc.spans.values()
        found = {
            "entities": len(doc.ents),
            "spans": sum(len(group) for group in groups if not any(group is other for other in given)),
            "relations": len(stored_relations(doc)),
            GIVEN: len(doc.ents) + sum(map(len, groups)),
        }
        return {name: found[name] for name in self.counted}


def lacks_entities(counts: Mapping[str, int]) -> bool:
    """Whether there are documents, but no relations because there are no entities. counts: of a Predictor, and
    documents."""
    return GIVEN in counts and counts["documents"] > 0 and not counts[GIVEN] and not counts["relations"]
