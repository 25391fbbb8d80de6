"""Choose the relations of a document from the scores of its pairs, as set in `relation_extractor`.

Letters: P pairs, C classes.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterator
from typing import NamedTuple

import numpy as np
from spacy.tokens import Doc

from .alternatives import set_entities, span_gains
from .candidates import Candidates, reverse_rows
from .graph_decoding import Graph, choose
from .relation_rules import RelationRules
from .relations import Relation


class ScoredPairs(NamedTuple):
    """The candidate pairs of a document, with the scores of their classes.

    reverse: (P,), row of each pair with head and tail exchanged, for symmetric labels; its own row if there is none.
    odds: (P, C), log odds that a class holds for a pair whose entities are right.
    probabilities: (P, C), that both entities are right and the class holds.
    """

    candidates: Candidates
    reverse: np.ndarray
    odds: np.ndarray
    probabilities: np.ndarray


def score_pairs(
    candidates: Candidates, log_probabilities: np.ndarray, odds: np.ndarray, rules: RelationRules
) -> ScoredPairs:
    """Combine the scores of pairs and entities. Symmetric labels get the mean log odds of a pair and its reverse.

    The temperature scales log odds, and so their mean, but not the mean of probabilities. With log odds, calibration
    does not change the choice between pairs.

    candidates: with the probabilities of their entities.
    log_probabilities: (P, C), that the class holds.
    odds: (P, C), log odds by which classes are chosen: without the calibrated bias.
    """
    symmetric = rules.is_symmetric
    reverse = np.arange(len(candidates.pairs))
    probabilities = np.exp(log_probabilities)
    if symmetric.any():
        reverse = reverse_rows(candidates)
        odds = np.where(symmetric, (odds + odds[reverse]) / 2, odds)
        logits = log_probabilities - np.log(np.maximum(-np.expm1(log_probabilities), 1e-7))
        mean = (logits + logits[reverse]) / 2
        probabilities = np.where(symmetric, np.exp(-np.logaddexp(0, -mean)), probabilities)
    both_right = np.minimum(candidates.scores, 1)[candidates.pairs].prod(1)[:, None]  # a certain entity has inf
    return ScoredPairs(candidates, reverse, odds, probabilities * both_right)


def choose_pairs(pairs: ScoredPairs, rules: RelationRules) -> np.ndarray:
    """(P, C) bool: the classes of each pair, chosen independently of other pairs."""
    odds = pairs.odds
    allowed = rules.may_have(pairs.candidates, rules.classes)
    chosen = allowed & (odds > rules.threshold)
    if not rules.multi_label:
        # Leave out forbidden classes, which could otherwise be the best. A mirrored pair of a symmetric label still
        # competes.
        ranked = np.where(allowed, odds, -np.inf)
        chosen &= np.arange(odds.shape[1]) == ranked.argmax(1)[:, None]
    return chosen & _are_stored(pairs, rules)


def choose_graph(doc: Doc, pairs: ScoredPairs, rules: RelationRules) -> tuple[np.ndarray, int]:
    """Choose classes and entities jointly, and set the entities. Returns the classes (P, C), bool, and `inexact`.

    pairs: scored pairs of the entities of the document and of the alternatives to them.
    """
    candidates = pairs.candidates
    entities, probabilities = candidates.entities, candidates.scores
    gains = pairs.odds - rules.threshold
    allowed = rules.may_have(candidates, rules.classes) & _are_stored(pairs, rules)
    possible = np.argwhere((gains > 0) & allowed).tolist()
    found = {(span.start, span.end, span.label_) for span in doc.ents}
    choice = choose(
        Graph(
            span_gains(candidates.bounds, probabilities).tolist(),
            [(span.start, span.end, span.label_) in found for span in entities],
            [range(span.start, span.end) for span in entities],
            _costs(gains, _are_doubtful(candidates), candidates, rules),
            *_possible_relations(gains, pairs, rules, possible),
        )
    )
    set_entities(doc, [entities[i] for i in choice.entities], probabilities[choice.entities].tolist())
    chosen = np.zeros(gains.shape, dtype=bool)
    for n in choice.relations:
        chosen[tuple(possible[n])] = True
    return chosen, choice.inexact


def make_relations(pairs: ScoredPairs, chosen: np.ndarray, rules: RelationRules) -> Iterator[Relation]:
    """The relations of the chosen classes, (P, C) bool. The earlier entity is the head of a symmetric label."""
    for row, number in np.argwhere(chosen).tolist():
        head, tail = (pairs.candidates.entities[i] for i in pairs.candidates.pairs[row].tolist())
        label, inverse = rules.classes[number]
        if label in rules.symmetric:
            inverse = (tail.start, tail.end) < (head.start, head.end)
        if inverse:
            head, tail = tail, head
        yield Relation(head, tail, label, float(pairs.probabilities[row, number]))


def overlapping(candidates: Candidates) -> np.ndarray:
    """(P,) bool: whether the entities of a pair overlap."""
    starts, ends = candidates.bounds.T
    first, second = candidates.pairs.T
    return (starts[first] < ends[second]) & (starts[second] < ends[first])


def _are_stored(pairs: ScoredPairs, rules: RelationRules) -> np.ndarray:
    """(P, C) bool: False for mirrored pairs of symmetric labels, which are stored in the other order."""
    heads, tails = pairs.candidates.pairs.T
    mirrored = (heads > tails) & (pairs.reverse != np.arange(len(heads)))
    return ~(mirrored[:, None] & rules.is_symmetric)


def _are_doubtful(candidates: Candidates) -> np.ndarray:
    """(P,) bool: whether a probable relation that the rules forbid is evidence against the entities of a pair.

    It is no evidence if one of the entities is certain or has a type that the model does not know. Such an entity with
    a wrong type would remove right entities.
    """
    doubtful = np.isfinite(candidates.scores) & (candidates.types > 0)
    return doubtful[candidates.pairs].all(1)


def _costs(
    gains: np.ndarray, doubtful: np.ndarray, candidates: Candidates, rules: RelationRules
) -> dict[tuple[int, int], float]:
    """Gain of the most probable relations of each pair of entities without rules, times -1; zeros are left out."""
    lost = np.where(doubtful[:, None], np.maximum(gains, 0.0), 0.0)
    lost = lost.sum(1) if rules.multi_label else lost.max(1)
    costs: dict[tuple[int, int], float] = defaultdict(float)
    rows = np.flatnonzero(lost)
    for (i, j), value in zip(candidates.pairs[rows].tolist(), lost[rows].tolist(), strict=True):
        costs[min(i, j), max(i, j)] -= value
    return costs


def _possible_relations(
    gains: np.ndarray, pairs: ScoredPairs, rules: RelationRules, possible: list[list[int]]
) -> tuple[list[tuple[int, int, float]], list[list[Hashable]]]:
    """Relations (row of the pair and class) and their slots, as in Graph."""
    relations, slots = [], []
    for row, number in possible:
        label, inverse = rules.classes[number]
        head, tail = pairs.candidates.pairs[row].tolist()[:: -1 if inverse else 1]
        rows, heads, tails = [row], [head], [tail]
        if label in rules.symmetric:
            # A symmetric label holds for both orders of the pair.
            rows = sorted({row, int(pairs.reverse[row])})
            heads = tails = [head, tail]
        relations.append((min(head, tail), max(head, tail), len(rows) * float(gains[row, number])))
        # Slots of rules come first: more relations share them, and the search groups relations by their first slot.
        taken: list[Hashable] = []
        if label in rules.one_head:
            taken += [("head of", label, i) for i in tails]
        if label in rules.one_tail:
            taken += [("tail of", label, i) for i in heads]
        if not rules.multi_label:
            taken += rows
        slots.append(taken)
    return relations, slots
