"""Choose the relations of a document from the scores of its pairs, by the settings of `relation_extractor`.

Letters: P pairs, C classes.
"""

from collections import defaultdict
from collections.abc import Collection, Hashable, Sequence
from typing import NamedTuple

import numpy as np
from spacy.tokens import Doc

from .alternatives import entities_and_alternatives, set_entities, span_gains
from .candidates import Candidates
from .graph_decoding import Graph, choose
from .pair_classes import PairClass
from .relations import Relation
from .type_pairs import have_types


class PairRules(NamedTuple):
    """What may be chosen.

    classes: of the pairs.
    type_pairs: of each class, the types of head and tail that its label may have; None for all.
    symmetric: labels that hold in both directions.
    multi_label: whether a pair may have several classes.
    threshold: least log odds.
    one_head, one_tail: labels of which an entity has at most one head, or at most one tail; for `choose_graph`.
    """

    classes: Sequence[PairClass]
    type_pairs: Sequence[set[tuple[str, str]] | None]
    symmetric: Collection[str]
    multi_label: bool
    threshold: float
    one_head: Collection[str] = ()
    one_tail: Collection[str] = ()

    @property
    def is_symmetric(self) -> np.ndarray:
        """(C,) bool."""
        return np.array([label in self.symmetric for label, _ in self.classes])


def pair_scores(
    yes: np.ndarray, no: np.ndarray, rules: PairRules, reverse: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Log odds and probabilities (P, C). Symmetric labels get the average of a pair and its reverse.

    yes, no: log probabilities (P, C) that a label holds, and that none (or not this one) holds.
    reverse: (P,) see `candidates.reverse_rows`.
    """
    symmetric = rules.is_symmetric
    if symmetric.any():
        averages = (np.logaddexp(part, part[reverse]) - np.log(2) for part in (yes, no))
        yes, no = (np.where(symmetric, both, part) for both, part in zip(averages, (yes, no), strict=True))
    return yes - no, np.exp(yes)


def choose_pairs(odds: np.ndarray, candidates: Candidates, rules: PairRules, reverse: np.ndarray) -> np.ndarray:
    """(P, C) bool: the classes of each pair by itself."""
    allowed = _are_allowed(candidates, rules)
    chosen = allowed & (odds > rules.threshold)
    if not rules.multi_label:
        # Without forbidden classes, which could otherwise be the best. A mirrored pair of a symmetric label still
        # competes.
        ranked = np.where(allowed, odds, -np.inf)
        chosen &= np.arange(odds.shape[1]) == ranked.argmax(1)[:, None]
    return chosen & _are_stored(candidates, rules, reverse)


def choose_graph(
    doc: Doc, odds: np.ndarray, candidates: Candidates, rules: PairRules, reverse: np.ndarray
) -> tuple[np.ndarray, int]:
    """(P, C) bool: the classes of each pair, chosen together with the entities, which are set. And `Choice.inexact`.

    candidates: pairs of the entities of the document and of the alternatives to them.
    """
    entities, probabilities = entities_and_alternatives(doc)
    gains = odds - rules.threshold
    allowed = _are_allowed(candidates, rules) & _are_stored(candidates, rules, reverse)
    possible = np.argwhere((gains > 0) & allowed).tolist()
    found = {(span.start, span.end, span.label_) for span in doc.ents}
    choice = choose(
        Graph(
            span_gains(candidates.bounds, probabilities).tolist(),
            [(span.start, span.end, span.label_) in found for span in entities],
            [range(span.start, span.end) for span in entities],
            _costs(gains, candidates, rules),
            *_possible_relations(gains, candidates, rules, reverse, possible),
        )
    )
    set_entities(doc, [entities[i] for i in choice.entities], probabilities[choice.entities].tolist())
    chosen = np.zeros(odds.shape, dtype=bool)
    for n in choice.relations:
        chosen[tuple(possible[n])] = True
    return chosen, choice.inexact


def make_relation(candidates: Candidates, pair: int, rules: PairRules, number: int, probability: float) -> Relation:
    """The relation of a pair with a class. The earlier entity is the head of a symmetric label."""
    first, second = (candidates.entities[i] for i in candidates.pairs[pair].tolist())
    label, inverse = rules.classes[number]
    if label in rules.symmetric:
        inverse = (second.start, second.end) < (first.start, first.end)
    return Relation(second, first, label, probability) if inverse else Relation(first, second, label, probability)


def overlapping(candidates: Candidates) -> np.ndarray:
    """(P,) bool: whether the entities of a pair overlap."""
    starts, ends = candidates.bounds.T
    first, second = candidates.pairs.T
    return (starts[first] < ends[second]) & (starts[second] < ends[first])


def _are_allowed(candidates: Candidates, rules: PairRules) -> np.ndarray:
    """(P, C) bool: whether the types of a pair are allowed for a class."""
    columns = [
        have_types(candidates, pairs, inverse=inverse, any_order=label in rules.symmetric)
        for (label, inverse), pairs in zip(rules.classes, rules.type_pairs, strict=True)
    ]
    return np.stack(columns, axis=1)


def _are_stored(candidates: Candidates, rules: PairRules, reverse: np.ndarray) -> np.ndarray:
    """(P, C) bool: not the mirrored pairs of symmetric labels, which are stored at their other order."""
    heads, tails = candidates.pairs.T
    mirrored = (heads > tails) & (reverse != np.arange(len(heads)))
    return ~(mirrored[:, None] & rules.is_symmetric)


def _costs(gains: np.ndarray, candidates: Candidates, rules: PairRules) -> dict[tuple[int, int], float]:
    """What the most probable relations of each two entities would add without rules, times -1; 0 is left out."""
    lost = np.maximum(gains, 0.0)
    lost = lost.sum(1) if rules.multi_label else lost.max(1)
    costs: dict[tuple[int, int], float] = defaultdict(float)
    rows = np.flatnonzero(lost)
    for (i, j), value in zip(candidates.pairs[rows].tolist(), lost[rows].tolist(), strict=True):
        costs[min(i, j), max(i, j)] -= value
    return costs


def _possible_relations(
    gains: np.ndarray, candidates: Candidates, rules: PairRules, reverse: np.ndarray, possible: list[list[int]]
) -> tuple[list[tuple[int, int, float]], list[set[Hashable]]]:
    """Relations (row of the pair and class) and their slots, as in Graph."""
    relations, slots = [], []
    for row, number in possible:
        label, inverse = rules.classes[number]
        head, tail = candidates.pairs[row].tolist()[:: -1 if inverse else 1]
        rows, heads, tails = {row}, {head}, {tail}
        if label in rules.symmetric:
            # It holds for both orders of the pair.
            rows.add(int(reverse[row]))
            heads = tails = {head, tail}
        relations.append((min(head, tail), max(head, tail), len(rows) * float(gains[row, number])))
        taken: set[Hashable] = set() if rules.multi_label else {*rows}
        if label in rules.one_head:
            taken |= {("head of", label, i) for i in tails}
        if label in rules.one_tail:
            taken |= {("tail of", label, i) for i in heads}
        slots.append(taken)
    return relations, slots
