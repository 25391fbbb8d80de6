"""`span._.score`, the probability of a span with its label, and the log odds of probability thresholds.

spaCy stores an attribute only by the offsets of a span, so the label is stored as well. A span with another label at
these offsets, such as an entity of a ruler, has no score.
"""

import math
from typing import Any

from spacy.tokens import Doc, Span

from .extensions import register

# Names in doc.user_data.
SCORE, LABEL = "score", "score_label"


def get_score(span: Span) -> float | None:
    """The score that was set for the offsets and the label of a span; without a label, the score of the offsets.

    None if there is none.
    """
    stored: dict[Any, Any] = span.doc.user_data
    is_of_label = not span.label or stored.get(_key(LABEL, span)) in (None, span.label_)
    return stored.get(_key(SCORE, span)) if is_of_label else None


def set_score(span: Span, score: float | None) -> None:
    """Set the score of a span with its label. This removes the score of another label at the same offsets.

    A score that is set for a span without a label, as `Doc.from_json` does, counts for every label.
    """
    stored: dict[Any, Any] = span.doc.user_data
    stored[_key(SCORE, span)], stored[_key(LABEL, span)] = score, span.label_ or None


def remove_scores(doc: Doc) -> None:
    """Remove the scores of all spans."""
    for key in [key for key in doc.user_data if isinstance(key, tuple) and key[:2] in (("._.", SCORE), ("._.", LABEL))]:
        del doc.user_data[key]


def log_odds(threshold: float) -> float:
    """Log odds of a probability threshold from 0 to 1; 0 and 1 become very large numbers."""
    return math.log(max(threshold, 1e-30)) - math.log(max(1 - threshold, 1e-30))


def _key(name: str, span: Span) -> tuple[str, str, int, int]:
    """The key of an attribute in doc.user_data, as spaCy makes it."""
    return "._.", name, span.start_char, span.end_char


register(Span, SCORE, get_score, set_score)
