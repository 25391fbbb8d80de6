"""`nested_ner`: nested and overlapping entities by classifying spans."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc, Span, SpanGroup
from spacy.training import Example
from thinc.api import Model

from ..annotation.entities import gold_group
from ..annotation.layers import spans_layer
from ..annotation.scores import log_odds
from ..annotation.tags import LabelledSpan
from ..annotation.words import find_words
from .span_ner import DEFAULT_MODEL, SpanPipe
from .upstream_checks import setting_before


@Language.factory(
    "nested_ner",
    assigns=["doc.spans"],
    default_config={
        "model": DEFAULT_MODEL,
        "max_width": 10,
        "multi_label": False,
        "threshold": 0.5,
        "spans_key": "sc",
        "suggester": None,
        "loss_weight": 1.0,
        "scorer": {"@scorers": "spacy.spancat_scorer.v1"},
    },
    default_score_weights={"spans_sc_f": 1.0, "spans_sc_p": 0.0, "spans_sc_r": 0.0, "spans_sc_per_type": None},
)
def make_nested_ner(
    nlp: Language,
    name: str,
    model: Model,
    max_width: int,
    multi_label: bool,
    threshold: float,
    spans_key: str,
    suggester: Callable | None,
    loss_weight: Any,
    scorer: Callable | None,
) -> "NestedNER":
    """Named entity recognition by classifying spans, which may overlap.

    model: spacy_ner_arch.Span.v1.
    multi_label: whether a span may have several labels: those whose own probability is above threshold. If not, it
        gets its most probable label or none.
    spans_key: key of doc.spans, for gold spans and predictions. With another key than "sc", set spans_sc_f = null and
        spans_KEY_f = 1.0 in [training.score_weights]; otherwise training reports a score of 0.
    Other arguments: see `span_ner`.
    """
    return NestedNER(
        nlp.vocab,
        model,
        name,
        max_width=max_width,
        multi_label=multi_label,
        threshold=threshold,
        spans_key=spans_key,
        suggester=suggester,
        loss_weight=loss_weight,
        scorer=scorer,
    )


class NestedNER(SpanPipe):
    """Set `doc.spans[key]`, and its `attrs["scores"]`: the probabilities of the labels for the spans."""

    may_overlap = True
    fixed_settings = ("max_width", "multi_label")

    def hyperparameters(self) -> dict[str, Any]:
        return {**super().hyperparameters(), "multi_label": self.cfg["multi_label"]}

    @property
    def gold_layer(self) -> str:  # type: ignore[override]  # a class attribute elsewhere
        return spans_layer(self.cfg["spans_key"])

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Language | None = None,
        labels: Any = None,
    ) -> None:
        """Collect the labels and build the model. Warn if the score weights are those of another spans_key, or if an
        earlier component sets spans under the same key."""
        super().initialize(get_examples, nlp=nlp, labels=labels)
        key = self.cfg["spans_key"]
        weights = {} if nlp is None else nlp.config["training"]["score_weights"]
        if key != "sc" and weights.get("spans_sc_f"):
            warnings.warn(
                f"{self.name}: spans_key = {key!r}, but [training.score_weights] has spans_sc_f; set spans_sc_f = null "
                f"and spans_{key}_f = 1.0",
                stacklevel=2,
            )
        # A suggester may read them.
        replaced = setting_before(nlp, self.name, self.gold_layer) if nlp and self.suggester is None else []
        if replaced:
            warnings.warn(
                f"{self.name} replaces {self.gold_layer}, which the earlier component {replaced} sets: give one of the "
                "components another spans_key",
                stacklevel=2,
            )

    def gold_spans(self, doc: Doc) -> Sequence[Span]:
        return list(doc.spans.get(self.cfg["spans_key"], ()))

    def aligned_gold(self, eg: Example) -> tuple[list[LabelledSpan], np.ndarray]:
        return gold_group(eg, self.cfg["spans_key"])

    def set_annotations(self, docs: Iterable[Doc], scores: Any) -> None:
        """Write the spans and their probabilities onto the documents."""
        least = log_odds(self.cfg["threshold"])
        docs, (_, predictions) = list(docs), scores
        for doc, words, (rows,) in zip(docs, find_words(docs), predictions, strict=True):
            self.check_finite(doc, rows)
            if self.cfg["multi_label"]:  # log odds of each label
                chosen = np.nonzero(rows > least)
                log_probabilities = -np.logaddexp(0, -rows[chosen])
            else:
                labels = rows[..., 1:]
                is_best = np.arange(len(self.labels)) == labels.argmax(-1)[..., None]
                chosen = np.nonzero((labels - rows[..., :1] > least) & is_best)
                log_probabilities = labels[chosen]
            spans = [
                Span(doc, *words.to_tokens(start, start + width + 1), label=self.labels[label])
                for start, width, label in zip(*(column.tolist() for column in chosen), strict=True)
            ]
            group = SpanGroup(doc, name=self.cfg["spans_key"], spans=spans)
            group.attrs["scores"] = np.exp(log_probabilities)
            doc.spans[self.cfg["spans_key"]] = group
