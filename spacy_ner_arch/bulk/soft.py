"""Write a teacher's chains instead of its predictions: for `ner-arch annotate --soft`."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from spacy.language import Language
from spacy.tokens import Doc, SpanGroup
from spacy.util import minibatch

from ..annotation.layers import assigning, find_pipe
from ..annotation.scores import remove_scores
from ..annotation.teachers import set_chain
from ..pipes.vector_cleaner import find_cleaners
from .documents import ZONE, zones


class Soft(NamedTuple):
    """The options of `--soft`.

    component: name of the teacher, a sequence_ner; None for the only one.
    gold_labels: the labels for which the annotation of the input is gold; None for all labels and for tokens annotated
        as outside of entities.
    """

    component: str | None
    gold_labels: tuple[str, ...] | None


class Teacher:
    """A `sequence_ner` that stores its chain on each document, and the components before it.

    The teacher and these components do not set entities: annotation that the input lacks stays missing.

    layers, counted: see `predictor.Predictor`.
    Raises ValueError for an exported pipeline, and for one without the teacher.
    """

    layers: list[str] = []
    counted = ["chains", "gold_entities"]

    def __init__(self, nlp: Language, soft: Soft) -> None:
        self.nlp, self.soft = nlp, soft
        self.tagger = find_pipe(nlp, "sequence_ner", soft.component)
        self.tagger.chains([])  # raise here if the pipeline is exported, instead of rejecting documents
        self.cleaners = [nlp.get_pipe(name) for name in find_cleaners(nlp)]
        earlier = nlp.pipe_names[: nlp.pipe_names.index(self.tagger.name)]
        nlp.select_pipes(enable=[name for name in earlier if name not in assigning(nlp, "doc.ents")])

    def prepare(self, doc: Doc) -> list[str]:
        """Remove the annotation of a document that is not gold. Returns the labels of the entities that were removed.

        Gold entities are certain, so their scores are removed, too.
        If the annotation is gold only for some labels, a token outside of the gold entities may belong to an entity of
        another label, so its annotation becomes missing.
        """
        remove_scores(doc)
        if self.soft.gold_labels is None:
            return []
        kept = [ent for ent in doc.ents if ent.label_ in self.soft.gold_labels]
        removed = [ent.label_ for ent in doc.ents if ent.label_ not in self.soft.gold_labels]
        doc.set_ents(kept, default="missing")
        return removed

    def predict(self, records: Iterator[tuple[Doc, Any]], batch_size: int) -> Iterator[tuple[Doc, Any]]:
        """Documents with their chains, each with its context, like `documents.predict_in_zones`."""
        for zone in zones(self.nlp, records, ZONE):
            stream = self.nlp.pipe(zone, as_tuples=True, batch_size=batch_size)
            for batch in minibatch(stream, batch_size):
                docs = [doc for doc, _ in batch]
                for doc, chain in zip(docs, self.tagger.chains(docs), strict=True):
                    set_chain(doc, chain.without(self.soft.gold_labels or ()))
                    for cleaner in self.cleaners:
                        cleaner(doc)
                yield from batch

    def counts(self, doc: Doc, given: Sequence[SpanGroup] = ()) -> dict[str, int]:
        """Number of chains and gold entities of a document. given: not used, see `predictor.Predictor`."""
        return {"chains": 1, "gold_entities": len(doc.ents)}
