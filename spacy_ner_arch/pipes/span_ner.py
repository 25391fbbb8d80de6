"""`span_ner`: entities by classifying spans, flat or nested."""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc, Span, SpanGroup
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import Config, Model

from ..annotation.entities import align, count_labels, entities_of, gold_entities, present_entities, touched_by_others
from ..annotation.spans import GoldSpans, decode_exact, decode_greedy
from .base import TorchPipe, log_odds

DECODE = ("exact", "greedy", "nested")

DEFAULT_MODEL = Config().from_str(
    """
[model]
@architectures = "spacy_ner_arch.Span.v1"

[model.tok2vec]
@architectures = "spacy_ner_arch.WordCharEmbed.v1"

[model.encoder]
@architectures = "spacy_ner_arch.BiLSTM.v1"
hidden_size = 200
"""
)["model"]


@Language.factory(
    "span_ner",
    assigns=["doc.ents", "token.ent_iob", "token.ent_type", "doc.spans", "span._.score"],
    default_config={
        "model": DEFAULT_MODEL,
        "decode": "exact",
        "max_width": 10,
        "threshold": 0.5,
        "spans_key": "sc",
        "suggester": None,
        "overwrite_ents": False,
        "loss_weight": 1.0,
        "scorer": {"@scorers": "spacy_ner_arch.span_scorer.v1"},
    },
    default_score_weights={"ents_f": 1.0, "ents_p": 0.0, "ents_r": 0.0, "ents_per_type": None},
)
def make_span_ner(
    nlp: Language,
    name: str,
    model: Model,
    decode: str,
    max_width: int,
    threshold: float,
    spans_key: str,
    suggester: Callable | None,
    overwrite_ents: bool,
    loss_weight: Any,
    scorer: Callable | None,
) -> "SpanNER":
    """Named entity recognition by classifying spans.

    model: spacy_ner_arch.Span.v1.
    decode: what becomes of spans that are likely entities.
        exact: the likeliest set of spans that do not overlap goes to doc.ents.
        greedy: spans go to doc.ents by falling probability, but for those that overlap one that is there already.
        nested: all go to doc.spans[spans_key], where they may overlap and carry several labels (the best one, and
            those at least half as likely), and their probabilities to `doc.spans[spans_key].attrs["scores"]`; gold
            spans are read from there as well.
    max_width: longest span in tokens. Longer gold spans cannot be found and count as missed.
    threshold: from 0 to 1, of the probability of a label against that of no label; `spacy find-threshold` tunes it.
    spans_key: for nested.
    suggester: a span suggester of spaCy that names the candidates; null for all spans of up to max_width tokens.
    overwrite_ents: for exact and greedy, whether to replace entities that are there already; if not, they stay, and
        nothing is predicted over them.
    loss_weight: factor of the loss where the component shares an encoder with others: a number, a schedule, or
        spacy_ner_arch.LearnedWeight.v1.
    """
    return SpanNER(
        nlp.vocab,
        model,
        name,
        decode=decode,
        max_width=max_width,
        threshold=threshold,
        spans_key=spans_key,
        suggester=suggester,
        overwrite_ents=overwrite_ents,
        loss_weight=loss_weight,
        scorer=scorer,
    )


class SpanNER(TorchPipe):
    """Sets `doc.ents` with `span._.score`, or `doc.spans[key]` with `attrs["scores"]`: the probability of the label for
    the span, according to the model."""

    def __init__(
        self,
        vocab: Vocab,
        model: Model,
        name: str = "span_ner",
        *,
        decode: str = "exact",
        max_width: int = 10,
        threshold: float = 0.5,
        spans_key: str = "sc",
        suggester: Callable | None = None,
        overwrite_ents: bool = False,
        loss_weight: Any = 1.0,
        scorer: Callable | None = None,
    ) -> None:
        if decode not in DECODE:
            raise ValueError(f"{name}: unknown decode {decode!r}; known are {', '.join(DECODE)}")
        if max_width < 1 or not 0 <= threshold <= 1:
            raise ValueError(f"{name}: max_width = {max_width} and threshold = {threshold}; they are 1 or more, 0 to 1")
        settings = {"decode": decode, "max_width": max_width, "threshold": threshold, "spans_key": spans_key}
        super().__init__(vocab, model, name, scorer=scorer, loss_weight=loss_weight, **settings)
        self.overwrite_ents = overwrite_ents
        self.model.attrs["suggester"] = suggester
        self.model.attrs["max_width"] = max_width

    @property
    def is_nested(self) -> bool:
        return bool(self.cfg["decode"] == "nested")

    def hyperparameters(self) -> dict[str, Any]:
        return {"labels": list(self.labels), "max_width": self.cfg["max_width"]}

    # Learning

    def gold_spans(self, doc: Doc) -> Sequence[Span]:
        """Gold spans of a reference document."""
        if self.is_nested:
            return list(doc.spans.get(self.cfg["spans_key"], ()))
        return entities_of(doc)

    def find_labels(self, examples: Iterable[Example]) -> list[str]:
        """Labels of all gold spans, sorted; warns about spans that cannot be learned."""
        limit = self.cfg["max_width"]
        too_wide = 0

        def gold(doc: Doc) -> Sequence[Span]:
            nonlocal too_wide
            spans = self.gold_spans(doc)
            too_wide += sum(len(span) > limit for span in spans)
            return spans

        counts = count_labels(examples, gold, self.name)
        if too_wide:
            warnings.warn(
                f"{self.name}: {too_wide} of {sum(counts.values())} gold spans are longer than max_width = {limit} "
                "tokens; they cannot be found and count as missed",
                stacklevel=2,
            )
        return sorted(counts)

    def targets(self, examples: Sequence[Example]) -> list[GoldSpans]:
        """The gold spans of every example on its predicted tokens."""
        numbers = {label: i for i, label in enumerate(self.labels, start=1)}
        targets = []
        for eg in examples:
            if self.is_nested:
                gold = self.gold_spans(eg.reference)
                spans, annotated = align(eg, gold), ~touched_by_others(eg, gold)
                if self.cfg["spans_key"] not in eg.reference.spans:
                    annotated[:] = False
            else:
                spans, annotated = gold_entities(eg)
            self.warn_of_labels({label for _, _, label in spans})
            rows = [(start, end - start, numbers[label]) for start, end, label in spans if label in numbers]
            targets.append(GoldSpans(np.array(rows, dtype=np.int64).reshape(-1, 3), annotated))
        return targets

    # Predicting

    def set_annotations(self, docs: Iterable[Doc], scores: Sequence[tuple[np.ndarray, ...]]) -> None:
        """Write the spans and their probabilities onto the documents."""
        least = log_odds(self.cfg["threshold"])
        for doc, row in zip(docs, scores, strict=True):
            log_probabilities = row[0][: len(doc)] if row else np.zeros((0, 1, 2))
            self.check_finite(doc, log_probabilities)
            if self.is_nested:
                self._set_spans(doc, log_probabilities, least)
            else:
                self._set_entities(doc, log_probabilities, least)

    def _set_entities(self, doc: Doc, log_probabilities: np.ndarray, least: float) -> None:
        kept, blocked, free = ([], [], None) if self.overwrite_ents else present_entities(doc)
        classes = log_probabilities[..., 1:].argmax(-1)
        best = np.take_along_axis(log_probabilities[..., 1:], classes[..., None], -1)[..., 0]
        gains = best - log_probabilities[..., 0] - least
        if free is not None:
            gains[touches(~free, gains.shape[1])] = -np.inf
        exact = self.cfg["decode"] == "exact"
        found = decode_exact(classes, gains) if exact else decode_greedy(classes, gains, best)
        entities = []
        for start, end, label in found:
            span = Span(doc, start, end, label=self.labels[label])
            span._.score = math.exp(best[start, end - start - 1])
            entities.append(span)
        doc.set_ents(kept + entities, blocked=blocked, default="outside")

    def _set_spans(self, doc: Doc, log_probabilities: np.ndarray, least: float) -> None:
        labels = log_probabilities[..., 1:]
        likely = labels - log_probabilities[..., :1] > least
        # Several labels of one span share its probability in training: those nearly as likely as the best one belong.
        chosen = np.nonzero(likely & (labels >= labels.max(-1, keepdims=True) - math.log(2)))
        spans = [
            Span(doc, start, start + width + 1, label=self.labels[label])
            for start, width, label in zip(*(axis.tolist() for axis in chosen), strict=True)
        ]
        group = SpanGroup(doc, name=self.cfg["spans_key"], spans=spans)
        group.attrs["scores"] = np.exp(labels[chosen])
        doc.spans[self.cfg["spans_key"]] = group


def touches(tokens: np.ndarray, max_width: int) -> np.ndarray:
    """(T,) bool to (T, W): whether any of the tokens lies in the span of w tokens that begins at i."""
    before = np.concatenate([[0], tokens.cumsum()])
    starts = np.arange(len(tokens))[:, None]
    ends = np.minimum(starts + np.arange(1, max_width + 1), len(tokens))
    return before[ends] > before[starts]
