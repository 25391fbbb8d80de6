"""Choose the entities and relations of a document together, by their log odds and under rules."""

import math
from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from spacy.tokens import Doc, Span

from .entities import ALTERNATIVES

# Smallest probability that nothing is in the place of an entity. It bounds the log odds of certain entities.
LEAST_NOTHING = 1e-6
# More connected items than this are chosen greedily. In others the search stops with the best choice so far after this
# number of steps, each in time proportional to the number of items.
MOST_CONNECTED = 500
MOST_STEPS = 10_000
# Differences of log odds up to this are rounding errors.
NEGLIGIBLE = 1e-6

Slots = Collection[Hashable]


class Graph(NamedTuple):
    """Entities and relations to choose from.

    Items that have a slot in common, such as entities with a token in common, cannot be chosen together.

    gains: (E,), log odds of the entities; inf for those that are certain.
    is_found: (E,), whether an entity is chosen if no rule speaks against it. Certain ones are.
    slots: (E,), slots of the entities. Two certain ones have none in common.
    costs: for two entities (i < j), the log odds of their best relations if there were no rules, times -1. Entities
        whose relations would add 0 may be left out.
    relations: both entities (i < j) of each relation that may be chosen, and its log odds, above 0.
    relation_slots: slots of the relations.
    """

    gains: Sequence[float]
    is_found: Sequence[bool]
    slots: Sequence[Slots]
    costs: Mapping[tuple[int, int], float]
    relations: Sequence[tuple[int, int, float]]
    relation_slots: Sequence[Slots]


class Choice(NamedTuple):
    """Indices of the chosen entities and relations.

    inexact: largest number of connected entities or relations for which there may be a better choice, or 0.
    """

    entities: list[int]
    relations: list[int]
    inexact: int


def entities_and_alternatives(doc: Doc) -> tuple[list[Span], np.ndarray]:
    """Entities of a document and the spans of doc.spans["alternatives"], in the order of the text, and their
    probabilities.

    An entity without a probability, such as one of an entity ruler, is certain: its probability is inf, and spans that
    overlap it are left out. Raises ValueError for alternatives without probabilities.
    """
    found = {(span.start, span.end, span.label_): (span, span._.score) for span in doc.ents}
    if ALTERNATIVES in doc.spans:
        group = doc.spans[ALTERNATIVES]
        scores = group.attrs.get("scores", ())
        if len(scores) != len(group):
            raise ValueError(
                f'doc.spans["{ALTERNATIVES}"] of {doc.text[:60]!r} has {len(group)} spans, but its attrs["scores"] has '
                f"{len(scores)} probabilities; give one for each span, or leave this key to sequence_ner"
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
    """Log odds of spans against nothing in their place. For spans without overlaps, their sum is the log odds of all of
    them against none.

    A span alone has the log odds of its probability. Of spans with a token in common at most one is right, so the
    probability of none is what all of them leave. For spans that overlap in a chain, what these probabilities leave
    open is taken as independent.

    bounds: (n, 2), first token and exclusive end.
    probabilities: (n,) that the span is an entity with its label; inf for a certain one, which overlaps no other.
    """
    starts, ends = bounds.T
    certain = np.isinf(probabilities)
    shares = np.where(certain, 0.0, probabilities).astype(np.float64)

    def log_nothing(ends: np.ndarray) -> np.ndarray:
        """Sums before each place of the log probability that no span covers it."""
        covered = np.zeros(int(bounds.max(initial=0)) + 1)
        np.add.at(covered, starts, shares)
        np.subtract.at(covered, ends, shares)
        left = np.log(np.maximum(1 - covered.cumsum(), LEAST_NOTHING))
        return np.concatenate([[0.0], left.cumsum()])

    # As in a junction tree: over the tokens of a span, and over the neighbouring pairs of them, by the first one.
    tokens, pairs = log_nothing(ends), log_nothing(ends - 1)
    nothing = tokens[ends] - tokens[starts] - (pairs[ends - 1] - pairs[starts])
    return np.where(certain, np.inf, np.log(np.maximum(shares, LEAST_NOTHING)) - nothing)


def set_entities(doc: Doc, entities: Sequence[Span], probabilities: Sequence[float]) -> None:
    """Replace the entities of a document, and keep what it says about other tokens.

    probabilities: for `span._.score`; inf for entities that keep what they have.
    """
    kept = {(span.start, span.end, span.label_): span for span in doc.ents}
    covered = {token for span in entities for token in range(span.start, span.end)}
    dropped = [doc[i : i + 1] for span in doc.ents for i in range(span.start, span.end) if i not in covered]
    spans = [kept.get((span.start, span.end, span.label_), span) for span in entities]
    if len(spans) == len(kept) and not set(spans) - set(kept.values()):
        return
    doc.set_ents(spans, outside=dropped, default="unmodified")
    for span, probability in zip(spans, probabilities, strict=True):
        if probability < np.inf:
            span._.score = float(probability)


def choose(graph: Graph) -> Choice:
    """Choose entities, then relations between them.

    The value of two entities is the log odds that the rules cost: those of the best relations that are allowed between
    them, less those of the best relations without rules. Where a value is below 0, the entities that are connected with
    it are chosen for the greatest sum of gains and values. All other entities stay as they were found. Then the
    relations between the chosen entities are chosen for the greatest sum of gains.
    """
    of_pair: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, (i, j, _) in enumerate(graph.relations):
        of_pair[i, j].append(number)

    def best_relations(numbers: Sequence[int]) -> Best:
        return best_items([graph.relations[n][2] for n in numbers], [graph.relation_slots[n] for n in numbers])

    values = {pair: cost + best_relations(of_pair.get(pair, ())).total for pair, cost in graph.costs.items()}
    values = {pair: value for pair, value in values.items() if value < -NEGLIGIBLE}
    entities = best_items(graph.gains, graph.slots, values, graph.is_found)
    chosen = set(entities.items)
    numbers = [n for n, (i, j, _) in enumerate(graph.relations) if i in chosen and j in chosen]
    relations = best_relations(numbers)
    return Choice(entities.items, [numbers[n] for n in relations.items], max(entities.inexact, relations.inexact))


class Best(NamedTuple):
    """Indices of the chosen items, their total, and as in Choice."""

    items: list[int]
    total: float
    inexact: int


def best_items(
    gains: Sequence[float],
    slots: Sequence[Slots],
    values: Mapping[tuple[int, int], float] = MappingProxyType({}),
    is_found: Sequence[bool] | None = None,
) -> Best:
    """The items with the greatest total of gains, no two of which have a slot in common.

    values: what two items (i < j) add to the total if both are chosen, below 0.
    is_found: whether to choose an item that is not connected with a value; None to choose by the gains.
    """
    best = Best([], 0.0, 0)
    valued = {i for pair in values for i in pair}
    for part in connected(slots, values):
        if is_found is not None and valued.isdisjoint(part):
            best = best._replace(items=best.items + [i for i in part if is_found[i]])
            continue
        place = {item: i for i, item in enumerate(part)}
        local = {(place[i], place[j]): value for (i, j), value in values.items() if i in place}
        found, total, is_exact = search([gains[i] for i in part], [slots[i] for i in part], local)
        inexact = 0 if is_exact else len(part)
        best = Best(best.items + [part[i] for i in found], best.total + total, max(best.inexact, inexact))
    return best._replace(items=sorted(best.items))


def connected(slots: Sequence[Slots], pairs: Collection[tuple[int, int]]) -> list[list[int]]:
    """Parts of the items with no slot and no pair in common, each in order."""
    parent = list(range(len(slots)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[Hashable, int] = {}
    links = [(first.setdefault(slot, i), i) for i, taken in enumerate(slots) for slot in taken]
    for i, j in (*links, *pairs):
        parent[root(i)] = root(j)
    parts: dict[int, list[int]] = defaultdict(list)
    for i in range(len(parent)):
        parts[root(i)].append(i)
    return list(parts.values())


def search(
    gains: Sequence[float],
    slots: Sequence[Slots],
    values: Mapping[tuple[int, int], float],
) -> tuple[list[int], float, bool]:
    """As `best_items` for connected items, by branch and bound; returns whether the result is certainly the best.

    Items are decided by falling gain. A branch ends when even the greatest gains of what is undecided, one for each
    first slot, cannot make it better than the best choice so far, which is a greedy one at first.
    """
    count = len(gains)
    order = sorted(range(count), key=lambda i: -gains[i])
    takers: dict[Hashable, list[int]] = defaultdict(list)
    for i, taken in enumerate(slots):
        for slot in taken:
            takers[slot].append(i)
    rivals = [{j for slot in taken for j in takers[slot]} - {i} for i, taken in enumerate(slots)]
    partners: list[list[tuple[int, float]]] = [[] for _ in range(count)]
    for (i, j), value in values.items():
        partners[i].append((j, value))
        partners[j].append((i, value))
    first_slot = [next(iter(taken), None) for taken in slots]

    # A state: number of decided items, their total, and what each item adds given them, -inf if it cannot be chosen any
    # more. Decided items are chosen unless that is -inf.
    State = tuple[int, float, list[float]]

    def without(state: State) -> State:
        depth, total, adds = state
        adds = list(adds)
        adds[order[depth]] = -math.inf
        return depth + 1, total, adds

    def with_next(state: State) -> State:
        depth, total, adds = state
        item = order[depth]
        if adds[item] < math.inf:
            total += adds[item]
        adds = list(adds)
        for j in rivals[item]:
            adds[j] = -math.inf
        for j, value in partners[item]:
            adds[j] += value
        return depth + 1, total, adds

    def bound(state: State) -> float:
        depth, total, adds = state
        most: dict[Hashable, float] = {}
        for i in order[depth:]:
            if adds[i] > 0:
                key = i if first_slot[i] is None else (first_slot[i],)
                most[key] = max(adds[i], most.get(key, 0.0))
        return total + sum(most.values())

    def finish(state: State) -> tuple[list[int], float]:
        _, total, adds = state
        return [i for i in range(count) if adds[i] > -math.inf], total

    start: State = (0, 0.0, list(gains))
    while start[0] < count and gains[order[start[0]]] == math.inf:
        start = with_next(start)
    state = start
    while state[0] < count:
        state = with_next(state) if state[2][order[state[0]]] > 0 else without(state)
    best, best_total = finish(state)
    if count > MOST_CONNECTED:
        return best, best_total, False
    stack = [start]
    steps = 0
    while stack and steps < MOST_STEPS:
        steps += 1
        state = stack.pop()
        if bound(state) <= best_total:
            continue
        depth, _, adds = state
        if depth == count:
            best, best_total = finish(state)
            continue
        added = adds[order[depth]]
        branches = [without(state)]
        if added > -math.inf:
            branches.append(with_next(state))
        stack += branches if added > 0 else branches[::-1]
    return best, best_total, not stack
