"""Find thresholds on a held-out corpus, for `ner-arch tune`."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from spacy.tokens import Span
from spacy.training import Example
from wasabi import Printer, msg

from ..annotation.alignment import find_misaligned
from ..annotation.alternatives import ALTERNATIVES
from ..annotation.describe import quote
from ..annotation.entities import scored_entities
from ..annotation.tags import LabelledSpan
from ..evaluation.items import annotated_touched_tokens
from ..evaluation.risk import documents_needed, precision_threshold, recall_threshold, wilson

# Minimum probability of the spans that are considered. An entity below it cannot be found at any threshold.
MIN_FOUND = 1e-8
# One-sided 95 % quantile of the normal distribution.
QUANTILE = 1.645


class FoundEntities(NamedTuple):
    """Gold and found entities of a document: spans (start, end, label) in tokens of the pipeline.

    gold: gold entities. Bounds within a token are moved to those of the token.
    spans: probabilities of all spans with a probability of at least MIN_FOUND. Spans of a component without
        probabilities, such as an entity ruler, have 1, since they are kept at any threshold.
    entities: probabilities of the predicted entities.
    moved: texts of the gold entities whose bounds were moved.

    Spans and entities that touch a token without gold annotation are left out, since they may be right or wrong.
    """

    gold: list[LabelledSpan]
    spans: dict[LabelledSpan, float]
    entities: dict[LabelledSpan, float]
    moved: Sequence[str] = ()

    def gold_scores(self, label: str | None = None) -> np.ndarray:
        """Probabilities of the gold entities (of a label); 0 for entities that were not found at all."""
        return np.array([self.spans.get(span, 0.0) for span in self.gold if label in (None, span[2])])


def found_in(example: Example) -> FoundEntities:
    doc, entities = example.predicted, example.reference.ents
    gold = covering(example, entities)
    moved = [ent.text for ent in find_misaligned(example, entities)]
    group = doc.spans[ALTERNATIVES]
    spans = known_scores(example, zip(group, group.attrs["scores"], strict=True))
    scored = list(scored_entities(doc))
    certain = known_scores(example, ((ent, 1.0) for ent, score in scored if score is None))
    probable = known_scores(example, ((ent, score) for ent, score in scored if score is not None))
    return FoundEntities(gold, spans | certain, probable | certain, moved)


def covering(example: Example, gold: Sequence[Span]) -> list[LabelledSpan]:
    """The predicted tokens that each gold entity touches; an empty span for white space without predicted tokens."""
    to_predicted = example.alignment.y2x
    tokens = [to_predicted[span.start : span.end].tolist() or [0, -1] for span in gold]
    return [(here[0], here[-1] + 1, span.label_) for span, here in zip(gold, tokens, strict=True)]


def report_moved(documents: Iterable[FoundEntities]) -> None:
    """Print how many gold entities do not match token bounds."""
    moved = [wording for document in documents for wording in document.moved]
    if moved:
        examples = ", ".join(map(quote, moved[:3]))
        msg.info(
            f"{len(moved)} gold entities begin or end within a token, such as {examples}. They count as found if the "
            "tokens that they touch are"
        )


def known_scores(example: Example, scored: Iterable[tuple[Span, float]]) -> dict[LabelledSpan, float]:
    """Scores of predicted spans, without those that touch a token without gold annotation."""
    gold_tokens = annotated_touched_tokens(example)
    return {
        (span.start, span.end, span.label_): float(score) for span, score in scored if gold_tokens(span) is not None
    }


class LabelThreshold(NamedTuple):
    """The threshold of a label that keeps a recall, and its cost on the corpus.

    label: the label; None for the entities of all labels.
    threshold: the minimum probability of the spans to keep.
    documents: number of documents with such entities.
    entities: number of gold entities.
    spans: number of spans with at least this probability.
    missed: share of the entities of a document with a lower probability, on average over the documents.
    lost: the same share for entities that are not found at any threshold.
    lost_error: standard error of `lost`.
    """

    label: str | None
    threshold: float
    documents: int
    entities: int
    spans: int
    missed: float
    lost: float
    lost_error: float


def label_threshold(documents: Sequence[FoundEntities], label: str | None, recall: float) -> LabelThreshold:
    """The threshold of a label, or of all labels if it is None. Raises ValueError if the recall cannot be kept."""
    what = entities_of(label)
    needed = documents_needed(1 - recall)
    scores = [row for row in (document.gold_scores(label) for document in documents) if len(row)]
    if len(scores) < needed:
        raise ValueError(
            f"--min-recall {recall} needs at least {needed} documents with {what}, and the corpus has "
            f"{len(scores)}; give more documents, or a lower recall{', or no --per-label' if label else ''}"
        )
    shares = [np.mean(row == 0) for row in scores]
    lost = float(np.mean(shares))
    threshold = recall_threshold(scores, 1 - recall)
    if threshold is None:
        raise ValueError(
            f"--min-recall {recall} cannot be kept: on average, {lost:.1%} of the {what} of a document have a "
            f"label that the component does not have, a probability below {MIN_FOUND}, begin or end with white "
            "space, or overlap an entity of an earlier component; give a lower recall, or train it further"
        )
    threshold = round_down(threshold)
    spans = sum(
        probability >= threshold and label in (None, key[2])
        for document in documents
        for key, probability in document.spans.items()
    )
    missed = float(np.mean([np.mean(row < threshold) for row in scores]))
    lost_error = float(np.std(shares)) / math.sqrt(len(shares))
    return LabelThreshold(label, threshold, len(scores), sum(map(len, scores)), spans, missed, lost, lost_error)


def for_recall(
    documents: Sequence[FoundEntities], labels: Sequence[str], recall: float, per_label: bool
) -> float | dict[str, float]:
    """The threshold, or thresholds by label. Prints their cost. Raises ValueError if the recall cannot be kept."""
    found = [label_threshold(documents, label, recall) for label in (sorted(labels) if per_label else [None])]
    for each in found:
        if each.lost + QUANTILE * each.lost_error > 1 - recall:
            msg.warn(
                f"{each.lost:.1%} of the {entities_of(each.label)} of a document cannot be found at any threshold, "
                f"close to the {1 - recall:.1%} that may be missed. On another corpus the recall could be out of "
                "reach: give a lower --min-recall, more documents, or train the pipeline further"
            )
    rows = [
        (
            each.label or "all",
            f"{each.threshold}",
            each.documents,
            each.entities,
            f"{each.missed:.2%}",
            f"{each.spans / each.entities:.2f}",
        )
        for each in found
    ]
    header = ("label", "threshold", "documents", "entities", "missed here", "spans per entity")
    Printer().table(rows, header=header, aligns=("l", *"rrrrr"))
    return {str(each.label): each.threshold for each in found} if per_label else found[0].threshold


def entities_of(label: str | None) -> str:
    return f"entities of {label}" if label else "entities"


def for_precision(documents: Sequence[FoundEntities], precision: float) -> float:
    """The threshold; prints its precision with an interval, and its recall."""
    scores = np.array([score for document in documents for score in document.entities.values()])
    right = np.array([key in document.gold for document in documents for key in document.entities], dtype=bool)
    threshold = precision_threshold(scores, right, precision)
    if threshold is None:
        raise ValueError(f"--min-precision {precision} is not reached at any threshold; give a lower precision")
    # A prediction below the threshold must stay below the rounded one.
    threshold = round_down(threshold, above=scores[scores < threshold].max(initial=0.0))
    kept = scores >= threshold
    low, high = wilson(int(right[kept].sum()), int(kept.sum()))
    gold = sum(len(document.gold) for document in documents)
    msg.info(
        f"precision {right[kept].mean():.1%} (95 % interval {low:.1%} to {high:.1%}) of {kept.sum()} entities, "
        f"recall {right[kept].sum() / gold:.1%}"
    )
    return threshold


def round_down(threshold: float, above: float = 0.0) -> float:
    """Round down to four digits, so that small differences of the score between runs do not matter.

    above: the result stays above this number, with more digits if necessary.
    """
    least = 3 - math.floor(math.log10(threshold))
    for digits in range(least, 15):
        rounded = math.floor(threshold * 10**digits - 0.5) / 10**digits
        if rounded > above:
            return rounded
    return threshold
