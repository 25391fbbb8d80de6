"""`sequence_ner`: entities by labelling tokens."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import Config, Model

from ..annotation.entities import count_labels, entities_of, gold_entities, present_entities
from ..annotation.tags import MISSING, OUTSIDE, check_scheme, decode, encode, tag_names
from .base import TorchPipe

DEFAULT_MODEL = Config().from_str(
    """
[model]
@architectures = "spacy_ner_arch.CRF.v1"

[model.tok2vec]
@architectures = "spacy_ner_arch.WordCharEmbed.v1"

[model.encoder]
@architectures = "spacy_ner_arch.BiLSTM.v1"
hidden_size = 200
"""
)["model"]


@Language.factory(
    "sequence_ner",
    assigns=["doc.ents", "token.ent_iob", "token.ent_type", "span._.score"],
    default_config={
        "model": DEFAULT_MODEL,
        "scheme": "BILUO",
        "overwrite_ents": False,
        "loss_weight": 1.0,
        "scorer": {"@scorers": "spacy.ner_scorer.v1"},
    },
    default_score_weights={"ents_f": 1.0, "ents_p": 0.0, "ents_r": 0.0, "ents_per_type": None},
)
def make_sequence_ner(
    nlp: Language,
    name: str,
    model: Model,
    scheme: str,
    overwrite_ents: bool,
    loss_weight: Any,
    scorer: Callable | None,
) -> "SequenceNER":
    """Named entity recognition by labelling every token.

    model: spacy_ner_arch.CRF.v1 or spacy_ner_arch.Softmax.v1.
    scheme: BILUO or BIO, the tags of an entity's tokens.
    overwrite_ents: whether to replace entities that are there already (from an entity ruler, say); if not, they stay,
        and predictions that overlap them are dropped.
    loss_weight: factor of the loss where the component shares an encoder with others: a number, a schedule, or
        spacy_ner_arch.LearnedWeight.v1.
    scorer: spaCy's scorer of entities.
    """
    return SequenceNER(
        nlp.vocab,
        model,
        name,
        scheme=scheme,
        overwrite_ents=overwrite_ents,
        loss_weight=loss_weight,
        scorer=scorer,
    )


class SequenceNER(TorchPipe):
    """Sets `doc.ents`, and on each of them `span._.score`: the probability that this entity, with exactly these borders
    and this label, is in the text, according to the model."""

    def __init__(
        self,
        vocab: Vocab,
        model: Model,
        name: str = "sequence_ner",
        *,
        scheme: str = "BILUO",
        overwrite_ents: bool = False,
        loss_weight: Any = 1.0,
        scorer: Callable | None = None,
    ) -> None:
        super().__init__(vocab, model, name, scorer=scorer, loss_weight=loss_weight, scheme=check_scheme(scheme))
        self.overwrite_ents = overwrite_ents

    @property
    def tags(self) -> list[str]:
        """Names of the model's tags, in order."""
        return tag_names(self.labels, self.cfg["scheme"])

    def hyperparameters(self) -> dict[str, Any]:
        return {"tags": self.tags, "scheme": self.cfg["scheme"]}

    # Learning

    def find_labels(self, examples: Iterable[Example]) -> list[str]:
        """Labels of all gold entities, sorted; warns about entities that the tokenizer makes unlearnable."""
        return sorted(count_labels(examples, entities_of, self.name))

    def targets(self, examples: Sequence[Example]) -> list[np.ndarray]:
        """Indices of the gold tags of every example, MISSING where nothing is known."""
        index = {tag: i for i, tag in enumerate(self.tags)}
        targets = []
        for eg in examples:
            spans, known = gold_entities(eg)
            names = encode(len(eg.predicted), spans, self.cfg["scheme"])
            self.warn_of_labels({label for _, _, label in spans})
            # An entity of a label that is not ours is certainly none of ours.
            tags = np.array([index.get(name, index[OUTSIDE]) for name in names], dtype=np.int64)
            tags[~known] = MISSING
            targets.append(tags)
        return targets

    def calibrate(self, examples: Iterable[Example]) -> None:
        """Fit the probabilities, not the predictions, on examples that were not trained on."""
        examples = list(examples)
        self.model.attrs["calibrate"](self.model, [eg.predicted for eg in examples], self.targets(examples))

    # Predicting

    def set_annotations(self, docs: Iterable[Doc], scores: Sequence[tuple[np.ndarray, ...]]) -> None:
        """Write the entities and their probabilities onto the documents."""
        names = self.tags
        for doc, (tags, opening, closing) in zip(docs, scores, strict=True):
            self.check_finite(doc, opening[: len(doc)])
            kept, blocked, free = ([], [], None) if self.overwrite_ents else present_entities(doc)
            entities = []
            for start, end, label in decode(tags[: len(doc)], names):
                if free is None or free[start:end].all():
                    span = Span(doc, start, end, label=label)
                    span._.score = min(1.0, math.exp(opening[start] + closing[end - 1]))
                    entities.append(span)
            doc.set_ents(kept + entities, blocked=blocked, default="outside")
