"""Registered scorers: examples to scores with the keys that spaCy prints."""

from collections.abc import Callable, Iterable
from typing import Any

from spacy.pipeline.spancat import spancat_score
from spacy.scorer import get_ner_prf
from spacy.training import Example
from spacy.util import registry


@registry.scorers("spacy_ner_arch.span_scorer.v1")
def make_span_scorer() -> Callable[..., dict[str, Any]]:
    """Scores of `span_ner`: `ents_*` where it sets doc.ents, `spans_KEY_*` where it sets doc.spans[KEY]."""
    return score_spans


def score_spans(examples: Iterable[Example], *, decode: str, **settings: Any) -> dict[str, Any]:
    return (spancat_score if decode == "nested" else get_ner_prf)(examples, **settings)
