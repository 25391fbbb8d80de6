"""Which predicted entity belongs to which gold one: all that is counted in this folder is counted from these pairs."""

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from spacy.tokens import Span
from spacy.training import Example


class Kind(Enum):
    """What a match says about the prediction; the values are what readers see."""

    RIGHT = "right"
    LABEL = "label"
    BORDERS = "borders"
    BOTH = "borders and label"
    MISSED = "missed"
    SPURIOUS = "spurious"


class Prediction(NamedTuple):
    """A predicted entity and the gold tokens it lies on, from start to end (exclusive)."""

    start: int
    end: int
    entity: Span

    @property
    def label(self) -> str:
        return self.entity.label_

    @property
    def score(self) -> float | None:
        return score_of(self.entity)


class Match(NamedTuple):
    """A gold entity and the prediction that belongs to it; one of the two may be None."""

    gold: Span | None
    predicted: Prediction | None

    @property
    def kind(self) -> Kind:
        if self.gold is None:
            return Kind.SPURIOUS
        if self.predicted is None:
            return Kind.MISSED
        same_label = self.gold.label_ == self.predicted.label
        if (self.gold.start, self.gold.end) == self.predicted[:2]:
            return Kind.RIGHT if same_label else Kind.LABEL
        return Kind.BORDERS if same_label else Kind.BOTH

    @property
    def start(self) -> int:
        """The first gold token that either side touches."""
        return min(side.start for side in (self.gold, self.predicted) if side is not None)

    @property
    def end(self) -> int:
        """The gold token behind the last one that either side touches."""
        return max(side.end for side in (self.gold, self.predicted) if side is not None)


def score_of(entity: Span) -> float | None:
    """The model's probability of an entity; None for one that was set by a component that gives none."""
    return entity._.score if Span.has_extension("score") else None


def match(example: Example) -> list[Match]:
    """The matches of a document, in the order of the text; every gold entity and every prediction is in just one.

    Pairs are made of entities that share a token: first those with the same borders and label, then the same borders,
    then the same label, then the most tokens in common. Predictions that touch a token without gold annotation are left
    out, as `spacy evaluate` leaves them out: they are neither right nor wrong.
    """
    golds = list(example.reference.ents)
    predictions = list(judged(example))
    owners = {token: i for i, gold in enumerate(golds) for token in range(gold.start, gold.end)}
    candidates = []
    for j, predicted in enumerate(predictions):
        for i in {owners[token] for token in range(predicted.start, predicted.end) if token in owners}:
            gold = golds[i]
            common = min(gold.end, predicted.end) - max(gold.start, predicted.start)
            other_borders = (gold.start, gold.end) != (predicted.start, predicted.end)
            candidates.append((other_borders, gold.label_ != predicted.label, -common, i, j))
    partner: dict[int, int] = {}
    taken: set[int] = set()
    for *_, i, j in sorted(candidates):
        if i not in partner and j not in taken:
            partner[i] = j
            taken.add(j)
    matches = [Match(gold, predictions[partner[i]] if i in partner else None) for i, gold in enumerate(golds)]
    matches += [Match(None, predicted) for j, predicted in enumerate(predictions) if j not in taken]
    return sorted(matches, key=lambda pair: pair.start)


def judged(example: Example) -> Iterable[Prediction]:
    """The predictions that lie on gold tokens all of which are annotated."""
    to_gold = example.alignment.x2y
    for entity in example.predicted.ents:
        tokens = to_gold[entity.start : entity.end]
        if len(tokens):
            start, end = int(tokens[0]), int(tokens[-1]) + 1
            if all(token.ent_iob for token in example.reference[start:end]):
                yield Prediction(start, end, entity)
