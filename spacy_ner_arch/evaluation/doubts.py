"""Probable label errors: annotation that is less probable than an alternative in a model that has not seen it."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from spacy.training import Example

from ..annotation.describe import Counted, describe_relation
from .items import Item, Kind, Match, predicted_spans, relation_items

# Minimum probability of the spans that are compared; below it, there are too many spans.
MIN_COMPARED = 1e-4
# Added to probabilities before they are compared, since ratios of tiny probabilities say little about the annotation.
# benchmarks/label_errors.py finds most errors with 0.01 to 0.03.
SMOOTHING = 0.03
KINDS = {Kind.MISSED: "none there", Kind.SPURIOUS: "not annotated"}


class Doubt(NamedTuple):
    """A gold item that is less probable than an alternative, or a probable item that is not annotated.

    match: the gold item (None if there is none), with the alternative as prediction. The alternative to an entity is
        the most probable overlapping entity, or None if no entity is more probable. The alternative to a relation is
        the relation of the pair above 0.5 if the gold relation is below 0.5, else None.
    gold_score: probability of the gold item; None if it is not known.
    log_odds: logarithm of the probability of the alternative over that of the gold annotation, both plus SMOOTHING.
    """

    match: Match
    gold_score: float | None
    log_odds: float

    @property
    def kind(self) -> str:
        """Description of the kind of error for users."""
        gold, other = self.match.gold, self.match.predicted
        if gold and other and gold.places != other.places == gold.places[::-1]:
            return "wrong direction" if gold.label == other.label else "wrong label and direction"
        return KINDS.get(self.match.kind, self.match.kind.value)


def log_ratio(one: float, other: float) -> float:
    return math.log(one + SMOOTHING) - math.log(other + SMOOTHING)


def entity_doubts(document: int, example: Example, key: str) -> list[Doubt]:
    """Compare the gold entities of a document with the probabilities of all its spans.

    key: group in doc.spans of the predicted document that gets every span with at least MIN_COMPARED.
    """
    reference = example.reference
    gold = [Item(ent.label_, ((ent.start_char, ent.end_char),)) for ent in reference.ents]
    # Spans whose text differs from the gold text in more than white space have negative bounds.
    spans = [item for item in predicted_spans(example, key) if item.places[0][0] >= 0]
    scores = {item[:2]: item.score or 0.0 for item in spans}
    # For each character, the number of its gold entity from 1, and the sum of the scores of all spans over it.
    owner = np.zeros(len(reference.text), dtype=np.int64)
    covered = np.zeros(len(reference.text))
    for number, wanted in enumerate(gold, start=1):
        owner[slice(*wanted.places[0])] = number
    touching = defaultdict[int, list[Item]](list)
    for item in spans:
        place = slice(*item.places[0])
        covered[place] += item.score or 0.0
        for number in np.unique(owner[place]).tolist():
            touching[number].append(item)
    doubts = []
    for number, wanted in enumerate(gold, start=1):
        score = scores.get(wanted[:2], 0.0)
        others = [item for item in touching[number] if item[:2] != wanted[:2]]
        best = max(others, key=lambda item: item.score or 0.0, default=None)
        none = probability_of_none(covered[slice(*wanted.places[0])])
        if best is None or (best.score or 0.0) < none:
            best, chance = None, none
        else:
            chance = best.score or 0.0
        doubts.append(Doubt(Match(document, wanted, best), score, log_ratio(chance, score)))
    taken = owner > 0
    for item in sorted(spans, key=lambda item: -(item.score or 0.0)):
        place = slice(*item.places[0])
        if not taken[place].any() and is_annotated(example, item):
            taken[place] = True
            chance = log_ratio(item.score or 0.0, probability_of_none(covered[place]))
            doubts.append(Doubt(Match(document, None, item), None, chance))
    return doubts


def probability_of_none(covered: np.ndarray) -> float:
    """Probability that the most doubtful character of a place is in no entity.

    It is exact, since all spans over a character exclude each other. For the whole place it is an upper bound.

    covered: for each character of the place, the sum of the scores of all spans over it.
    """
    return max(0.0, 1 - float(covered.max()))


def is_annotated(example: Example, item: Item) -> bool:
    """Whether all tokens of a place have gold annotation of entities."""
    start, end = item.places[0]
    span = example.reference.char_span(start, end, alignment_mode="expand")
    return span is not None and all(token.ent_iob for token in span)


def relation_doubts(
    document: int, example: Example, symmetric: Sequence[str] = (), unjudged: Counted | None = None
) -> list[Doubt]:
    """Compare the gold relations of a document with the most probable label of every candidate pair.

    unjudged: counts the gold relations whose entities are not a candidate pair, which cannot be compared.
    """
    gold, predicted = relation_items(example, symmetric)
    # Group both directions of a pair: a component with direction = "labels" predicts one of them.
    by_pair = defaultdict[frozenset[tuple[int, int]], list[Item]](list)
    for item in predicted:
        if item.score is not None:
            by_pair[frozenset(item.places)].append(item)
    right = {item[:2] for item in gold}
    # Items that are annotated, or already the alternative to annotation.
    judged = set(right)
    doubts = []
    for wanted in gold:
        found = by_pair[frozenset(wanted.places)]
        if not found:
            if unjudged is not None:
                (head, tail), (head_type, tail_type) = wanted.places, wanted.types
                key = (*head, head_type, *tail, tail_type, wanted.label)
                unjudged.add([key], partial(describe_relation, example.predicted))
            continue
        same = next((item.score for item in found if item[:2] == wanted[:2]), None)
        # Compare both directions: the most probable item may have the gold label.
        others = [item for item in found if item[:2] not in right]
        best = max(others, key=lambda item: item.score or 0.0, default=None)
        chance = (best.score or 0.0) if best is not None else 0.0
        probability = same
        if probability is None:
            # The component has kept a more probable label of the pair, which bounds the probability of the gold label.
            at_places = [item for item in found if item.places == wanted.places] or found
            kept = max(at_places, key=lambda item: item.score or 0.0)
            if kept[:2] in right:  # a component with one label for a pair cannot find two that are annotated
                continue
            probability = min(kept.score or 0.0, 1 - (kept.score or 0.0))
        # It is an alternative only if it is probable and the gold label is not.
        if not probability < 0.5 < chance:
            best = None
        if best is not None:
            judged.add(best[:2])
            if best.label in symmetric:
                best = best._replace(places=wanted.places, types=wanted.types)
        doubts.append(Doubt(Match(document, wanted, best), same, log_ratio(1 - probability, probability)))
    for item in predicted:
        if item.score is not None and item[:2] not in judged:
            doubts.append(Doubt(Match(document, None, item), None, log_ratio(item.score, 1 - item.score)))
    return doubts


def ranked(doubts: Iterable[Doubt]) -> list[Doubt]:
    """The most probable error first."""
    return sorted(doubts, key=lambda doubt: -doubt.log_odds)
