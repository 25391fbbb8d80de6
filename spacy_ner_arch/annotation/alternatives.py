"""The entities of a document and the alternatives to them: their probabilities, log odds, and a choice among them.

The alternatives are all spans that are probable enough, with their probabilities; they may overlap. See `sequence_ner`.
"""

from collections.abc import Container, Iterable, Sequence

import numpy as np
from spacy.tokens import Doc, Span, SpanGroup

from .describe import quote
from .entities import remove_ids, scored_spans
from .scores import get_score, set_score

# Key of the alternatives in doc.spans. Their probabilities are in attrs["scores"] of the group.
ALTERNATIVES = "alternatives"

# Minimum probability that there is no entity at a position. It bounds the log odds of certain entities.
LEAST_NOTHING = 1e-6


def set_alternatives(doc: Doc, found: Iterable[tuple[Span, float]], labels: Container[str]) -> list[Span]:
    """Replace the alternatives with these labels. Keep those with other labels, which another component has set.

    found: the new alternatives and their probabilities, in the order of the text.
    Returns the spans with other labels that were removed because they have no probability.
    """
    present = scored_spans(doc.spans[ALTERNATIVES]) if ALTERNATIVES in doc.spans else []
    others = [(span, score) for span, score in present if span.label_ not in labels]
    rows = list(found)
    if others:
        rows += [(span, score) for span, score in others if score is not None]
        rows.sort(key=lambda row: (row[0].start, row[0].end))
    group = SpanGroup(doc, name=ALTERNATIVES, spans=[span for span, _ in rows])
    group.attrs["scores"] = np.array([score for _, score in rows])
    doc.spans[ALTERNATIVES] = group
    return [span for span, score in others if score is None]


def entities_and_alternatives(doc: Doc) -> tuple[list[Span], np.ndarray]:
    """Entities of a document and the spans of doc.spans["alternatives"], in the order of the text, and their
    probabilities.

    An entity without a probability, such as one of an entity ruler, is certain: its probability is inf, and spans that
    overlap it are left out. Raises ValueError for alternatives without probabilities.
    """
    found = {(span.start, span.end, span.label_): (span, get_score(span)) for span in doc.ents}
    if ALTERNATIVES in doc.spans:
        group = doc.spans[ALTERNATIVES]
        scores = group.attrs.get("scores", ())
        if len(scores) != len(group):
            raise ValueError(
                f'doc.spans["{ALTERNATIVES}"] of {quote(doc.text)} has {len(group)} spans, but its attrs["scores"] has '
                f"{len(scores)} probabilities; give one for each span, or use another key than that of sequence_ner"
            )
        for span, score in zip(group, scores, strict=True):
            found.setdefault((span.start, span.end, span.label_), (span, float(score)))
    taken = np.zeros(len(doc), dtype=bool)
    for span, score in found.values():
        if score is None:
            taken[span.start : span.end] = True
    kept = [row for _, row in sorted(found.items()) if row[1] is None or not taken[row[0].start : row[0].end].any()]
    return [span for span, _ in kept], np.array([np.inf if score is None else score for _, score in kept])


def span_gains(bounds: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Log odds of each span against no entity in its place. For spans that do not overlap, the sum is the log odds of
    all of them against none.

    An isolated span has the log odds of its probability. Of spans that share a token, at most one is right, so the
    probability of none is 1 minus their sum. Spans that are connected only through other spans are treated as
    conditionally independent given these.

    bounds: (n, 2), first token and exclusive end.
    probabilities: (n,) that the span is an entity with its label; inf for a certain one, which overlaps no other.
    """
    starts, ends = bounds.T
    certain = np.isinf(probabilities)
    shares = np.where(certain, 0.0, probabilities).astype(np.float64)

    def log_nothing(stops: np.ndarray) -> np.ndarray:
        """Cumulative sums of the log probability that no span covers a position."""
        covered = np.zeros(int(bounds.max(initial=0)) + 1)
        np.add.at(covered, starts, shares)
        np.subtract.at(covered, stops, shares)
        left = np.log(np.maximum(1 - covered.cumsum(), LEAST_NOTHING))
        return np.concatenate([[0.0], left.cumsum()])

    # As in a junction tree: the product over the tokens of a span, divided by that over its pairs of neighbors.
    tokens, pairs = log_nothing(ends), log_nothing(ends - 1)
    nothing = tokens[ends] - tokens[starts] - (pairs[ends - 1] - pairs[starts])
    return np.where(certain, np.inf, np.log(np.maximum(shares, LEAST_NOTHING)) - nothing)


def set_entities(doc: Doc, entities: Sequence[Span], probabilities: Sequence[float]) -> None:
    """Replace the entities of a document, and keep its annotation of other tokens.

    probabilities: values for `span._.score`; inf for entities that keep their value.
    """
    kept = {(span.start, span.end, span.label_): span for span in doc.ents}
    covered = {token for span in entities for token in range(span.start, span.end)}
    dropped = [doc[i : i + 1] for span in doc.ents for i in range(span.start, span.end) if i not in covered]
    spans = [kept.get((span.start, span.end, span.label_), span) for span in entities]
    if len(spans) == len(kept) and not set(spans) - set(kept.values()):
        return
    replaced = np.zeros(len(doc), dtype=bool)
    for span in set(kept.values()) - set(spans):
        replaced[span.start : span.end] = True
    remove_ids(doc, replaced)
    doc.set_ents(spans, outside=dropped, default="unmodified")
    for span, probability in zip(spans, probabilities, strict=True):
        if probability < np.inf:
            set_score(span, float(probability))
