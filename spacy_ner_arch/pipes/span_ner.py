"""`span_ner`: flat entities by classifying spans."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import Model, NumpyOps

from ..annotation.describe import Counted, describe_span, quote
from ..annotation.entities import gold_entities, outside_tokens, present_entities
from ..annotation.head_input import HeadInput
from ..annotation.layers import count_layers
from ..annotation.scores import log_odds, set_score
from ..annotation.spans import GoldSpans, decode_exact, decode_greedy
from ..annotation.tags import LabelledSpan
from ..annotation.word_places import Words, in_words
from ..annotation.words import find_words
from .base import DEFAULT_TOK2VEC, TorchPipe
from .gold_checks import SpanFaults, noting_unannotated, width_remedy

DECODE = ("exact", "greedy")

DEFAULT_MODEL = {"@architectures": "spacy_ner_arch.Span.v1", "tok2vec": DEFAULT_TOK2VEC}


@Language.factory(
    "span_ner",
    assigns=["doc.ents", "token.ent_iob", "token.ent_type", "span._.score"],
    default_config={
        "model": DEFAULT_MODEL,
        "decode": "exact",
        "max_width": 10,
        "threshold": 0.5,
        "suggester": None,
        "overwrite_ents": False,
        "loss_weight": 1.0,
        "scorer": {"@scorers": "spacy.ner_scorer.v1"},
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
    suggester: Callable | None,
    overwrite_ents: bool,
    loss_weight: Any,
    scorer: Callable | None,
) -> "SpanNER":
    """Named entity recognition by classifying spans, without overlaps.

    model: spacy_ner_arch.Span.v1.
    decode: how entities are chosen from overlapping candidates: "exact" for the most probable set without overlaps,
        "greedy" for order of decreasing probability, skipping spans that overlap a chosen one.
    max_width: longest span in words. Longer gold entities cannot be found and count as missed.
    threshold: minimum probability of a label against no label, from 0 to 1; `spacy find-threshold` tunes it.
    suggester: a span suggester of spaCy that gives the candidates; null for all spans of up to max_width words.
    overwrite_ents: whether to replace existing entities. If not, they are kept, and nothing is predicted over them.
    loss_weight: factor of the loss of a component that shares an encoder with others: a number, a schedule, or
        spacy_ner_arch.LearnedWeight.v1.
    scorer: scorer of entities.
    """
    return SpanNER(
        nlp.vocab,
        model,
        name,
        decode=decode,
        max_width=max_width,
        threshold=threshold,
        suggester=suggester,
        overwrite_ents=overwrite_ents,
        loss_weight=loss_weight,
        scorer=scorer,
    )


class SpanPipe(TorchPipe):
    """Base class of the components over a span classifier. A subclass reads gold spans (`gold_spans`)."""

    classifies = "spans"
    architectures = "spacy_ner_arch.Span.v1"
    fixed_settings: tuple[str, ...] = ("max_width",)

    def __init__(
        self,
        vocab: Vocab,
        model: Model,
        name: str,
        *,
        max_width: int,
        threshold: float,
        suggester: Callable | None,
        **settings: Any,
    ) -> None:
        if max_width < 1:
            raise ValueError(f"{name}: max_width = {max_width} must be at least 1")
        super().__init__(vocab, model, name, max_width=max_width, threshold=threshold, **settings)
        self.suggester = suggester

    def hyperparameters(self) -> dict[str, Any]:
        return {"labels": list(self.labels), "max_width": self.cfg["max_width"]}

    # Whether gold spans may overlap.
    may_overlap: bool

    def gold_spans(self, doc: Doc) -> Sequence[Span]:
        """Gold spans of a reference document."""
        raise NotImplementedError

    def aligned_gold(self, eg: Example) -> tuple[list[LabelledSpan], np.ndarray]:
        """Gold spans of an example, in predicted tokens, and which of these tokens are annotated, (T,) bool."""
        raise NotImplementedError

    def find_label_data(self, examples: Iterable[Example]) -> list[str]:
        """Labels of all gold spans, sorted. Warns about spans that cannot be learned."""
        labels, widths = set[str](), list[int]()
        faults, too_wide = SpanFaults(one_label=not self.cfg.get("multi_label", True)), Counted()
        for eg in noting_unannotated(self.name, self.gold_layer, examples):
            spans = self.gold_spans(eg.reference)
            labels.update(span.label_ for span in spans)
            faults.add(eg, spans, *self.aligned_gold(eg))
            widths += map(count_words, spans)
            too_wide.add(self.too_wide(spans), describe_span)
        faults.warn(self.name)
        if too_wide.count:
            self.warn_once(
                "too wide",
                f"{too_wide.count} of {len(widths)} gold spans are longer than max_width = {self.cfg['max_width']} "
                f"words, such as {too_wide.first}; they cannot be found and count as missed; "
                f"{width_remedy(self.name, widths)}",
            )
        return sorted(labels)

    def too_wide(self, spans: Sequence[Span]) -> list[Span]:
        """The spans of more than `max_width` words."""
        limit = self.cfg["max_width"]
        return [span for span in spans if len(span) > limit and count_words(span) > limit]

    def model_input(self, examples: Sequence[Example], sample: bool = False) -> HeadInput:
        inputs = super().model_input(examples, sample)
        gold = [eg.reference for eg in examples if len(eg.reference)]
        if sample and gold and not any(self.gold_layer in count_layers(doc) for doc in gold):
            self.warn_once(
                "annotated",
                f"no document of a batch has {self.gold_layer}, and nothing is learned from it (for example "
                f"{quote(gold[0].text)}); if the corpus has them, see gold_preproc and max_length of its reader",
            )
        # Initialization reports such spans, but a component that is sourced from another pipeline is not initialized.
        wide = self.too_wide([span for doc in gold for span in self.gold_spans(doc)]) if sample else []
        if wide:
            self.warn_once(
                "too wide",
                f"gold spans are longer than max_width = {self.cfg['max_width']} words, such as "
                f"{describe_span(wide[0])}; they cannot be found and count as missed; a trained component keeps its "
                "max_width: for a larger one, train it from the start",
            )
        return inputs

    def find_items(self, docs: Sequence[Doc]) -> list[np.ndarray] | None:
        """Start and end of the spans that the suggester gives for each document, (C, 2)."""
        if self.suggester is None:
            return None
        suggested = self.suggester(docs, ops=NumpyOps())
        spans = suggested.dataXd.reshape(-1, 2).astype(np.int64)
        found = np.split(spans, suggested.lengths.cumsum()[:-1]) if len(docs) else []
        for bounds in map(in_words, found, find_words(docs)):
            widest = int((bounds[:, 1] - bounds[:, 0]).max(initial=0))
            if widest > self.cfg["max_width"]:
                raise ValueError(
                    f"the suggester gives a span of {widest} words, more than max_width = {self.cfg['max_width']}: use "
                    "a suggester of shorter spans, or train with a larger max_width"
                )
        return found

    def find_targets(self, examples: Sequence[Example], items: list[np.ndarray] | None) -> list[GoldSpans]:
        """Gold spans of every example on its predicted tokens."""
        return [self._target(*self.aligned_gold(eg)) for eg in examples]

    def _target(self, spans: Sequence[LabelledSpan], annotated: np.ndarray) -> GoldSpans:
        numbers = {label: i for i, label in enumerate(self.labels, start=1)}
        self.warn_of_labels({label for _, _, label in spans})
        # A duplicate would count twice.
        rows = [(start, end - start, numbers[label]) for start, end, label in dict.fromkeys(spans) if label in numbers]
        closed = outside_tokens(spans, annotated) if self.may_overlap else annotated
        return GoldSpans(np.array(rows, dtype=np.int64).reshape(-1, 3), annotated, closed)


class SpanNER(SpanPipe):
    """Set `doc.ents`, and `span._.score` of each: the probability of the label for the span."""

    gold_layer = "doc.ents"
    may_overlap = False

    def __init__(
        self, vocab: Vocab, model: Model, name: str, *, decode: str, overwrite_ents: bool, **settings: Any
    ) -> None:
        if decode not in DECODE:
            remedy = "; use the factory nested_ner for overlapping spans" if decode == "nested" else ""
            raise ValueError(f"{name}: unknown decode {decode!r}; choose from {', '.join(DECODE)}{remedy}")
        super().__init__(vocab, model, name, **settings)
        self.decode = decode
        self.overwrite_ents = overwrite_ents

    def gold_spans(self, doc: Doc) -> Sequence[Span]:
        return doc.ents

    def aligned_gold(self, eg: Example) -> tuple[list[LabelledSpan], np.ndarray]:
        return gold_entities(eg)

    def set_annotations(self, docs: Iterable[Doc], scores: Any) -> None:
        """Write the entities and their probabilities onto the documents."""
        docs, (_, predictions) = list(docs), scores
        for doc, words, (log_probabilities,) in zip(docs, find_words(docs), predictions, strict=True):
            self.check_finite(doc, log_probabilities)
            self._set_entities(doc, words, log_probabilities)

    def _set_entities(self, doc: Doc, words: Words, log_probabilities: np.ndarray) -> None:
        present = present_entities(doc, self.overwrite_ents)
        classes = log_probabilities[..., 1:].argmax(-1)
        best = np.take_along_axis(log_probabilities[..., 1:], classes[..., None], -1)[..., 0]
        gains = best - log_probabilities[..., 0] - log_odds(self.cfg["threshold"])
        if present.taken is not None:
            gains[spans_with(present.taken, words, gains.shape[1])] = -np.inf
        found = decode_exact(classes, gains) if self.decode == "exact" else decode_greedy(classes, gains, best)
        entities = []
        for start, end, label in found:
            span = Span(doc, *words.to_tokens(start, end), label=self.labels[label])
            set_score(span, math.exp(best[start, end - start - 1]))
            entities.append(span)
        present.set_with(doc, entities)


def count_words(span: Span) -> int:
    """Number of tokens of a span that are not white space."""
    return sum(not token.is_space for token in span)


def spans_with(tokens: np.ndarray, words: Words, max_width: int) -> np.ndarray:
    """(N, W) bool: whether the span of w words that begins at word i contains any of the given tokens, (T,) bool."""
    before = np.concatenate([[0], tokens.cumsum()])
    last = np.minimum(np.arange(len(words))[:, None] + np.arange(max_width), len(words) - 1)
    return before[words.tokens[last] + 1] > before[words.tokens, None]
