"""`sequence_ner`: entities by labelling tokens."""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from spacy.attrs import ENT_IOB, ENT_TYPE, ORTH
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import Config, Model

from ..tags import MISSING, OUTSIDE, check_scheme, decode, encode, tag_names
from ..tags import Span as TagSpan
from .base import TorchPipe

# Values of spaCy's ENT_IOB.
IOB_MISSING, IOB_INSIDE, IOB_BEGIN = 0, 1, 3

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
        "scorer": {"@scorers": "spacy.ner_scorer.v1"},
    },
    default_score_weights={"ents_f": 1.0, "ents_p": 0.0, "ents_r": 0.0, "ents_per_type": None},
)
def make_sequence_ner(
    nlp: Language, name: str, model: Model, scheme: str, overwrite_ents: bool, scorer: Callable | None
) -> "SequenceNER":
    """Named entity recognition by labelling every token.

    model: spacy_ner_arch.CRF.v1 or spacy_ner_arch.Softmax.v1.
    scheme: BILUO or BIO, the tags of an entity's tokens.
    overwrite_ents: whether to replace entities that are there already (from an entity ruler, say); if not, they stay,
        and predictions that overlap them are dropped.
    scorer: spaCy's scorer of entities.
    """
    return SequenceNER(nlp.vocab, model, name, scheme=scheme, overwrite_ents=overwrite_ents, scorer=scorer)


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
        scorer: Callable | None = None,
    ) -> None:
        super().__init__(vocab, model, name, scorer=scorer, scheme=check_scheme(scheme))
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
        counts: Counter[str] = Counter()
        misaligned = 0
        for eg in examples:
            gold = eg.reference.ents
            counts.update(ent.label_ for ent in gold)
            if gold and not same_tokens(eg):
                misaligned += len(gold) - len(eg.get_aligned_spans_y2x(gold))
        if misaligned:
            warnings.warn(
                f"{self.name}: {misaligned} of {sum(counts.values())} gold entities do not align with the tokens of "
                "the pipeline's tokenizer; their tokens are treated as not annotated",
                stacklevel=2,
            )
        return sorted(counts)

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
            if not np.isfinite(opening[: len(doc)]).all():
                raise ValueError(f"{self.name}: scores are not finite for {doc.text[:60]!r}; the weights are broken")
            kept, blocked, free = self._present(doc)
            entities = []
            for start, end, label in decode(tags[: len(doc)], names):
                if free is None or free[start:end].all():
                    span = Span(doc, start, end, label=label)
                    span._.score = min(1.0, math.exp(opening[start] + closing[end - 1]))
                    entities.append(span)
            doc.set_ents(kept + entities, blocked=blocked, default="outside")

    def _present(self, doc: Doc) -> tuple[list[Span], list[Span], np.ndarray | None]:
        """Entities and blocked tokens that another component has set and that stay, and which tokens are left free;
        None for all of them, the common case."""
        if self.overwrite_ents or not doc.has_annotation("ENT_IOB"):
            return [], [], None
        iob, label = doc.to_array([ENT_IOB, ENT_TYPE]).T
        taken = (iob == IOB_INSIDE) | (iob == IOB_BEGIN)
        blocked = [doc[i : i + 1] for i in np.flatnonzero((iob == IOB_BEGIN) & (label == 0)).tolist()]
        return list(doc.ents), blocked, ~taken


def gold_entities(eg: Example) -> tuple[list[TagSpan], np.ndarray]:
    """Gold entities on the predicted tokens, and which of these tokens are annotated at all."""
    if same_tokens(eg):
        spans = [(ent.start, ent.end, ent.label_) for ent in eg.reference.ents]
        return spans, eg.reference.to_array(ENT_IOB) != IOB_MISSING
    spans = [(ent.start, ent.end, ent.label_) for ent in eg.get_aligned_spans_y2x(eg.reference.ents)]
    return spans, np.array([tag is not None for tag in eg.get_aligned_ner()], dtype=bool)


def same_tokens(eg: Example) -> bool:
    """Whether both sides have the same tokens, so that nothing need be aligned."""
    return np.array_equal(eg.predicted.to_array(ORTH), eg.reference.to_array(ORTH))
