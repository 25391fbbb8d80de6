"""Choose entities and relations jointly, by their log odds and under rules."""

import math
from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

# A larger number of connected items is chosen greedily. For fewer items, the search stops after this number of steps
# with the best choice so far. The time of a step is proportional to the number of items.
MOST_CONNECTED = 500
MOST_STEPS = 10_000
# Differences of log odds up to this are rounding errors.
NEGLIGIBLE = 1e-6

# Slots must have the same order in every run: the search groups items by their first slots.
Slots = Sequence[Hashable]


class Graph(NamedTuple):
    """Entities and relations to choose from.

    Items that have a slot in common, such as entities with a token in common, cannot be chosen together.

    gains: (E,), log odds of the entities; inf for certain entities.
    is_found: (E,), whether an entity is chosen if no rule forbids it. True for certain entities.
    slots: (E,), slots of the entities. Two certain entities have no slot in common.
    costs: for two entities (i < j), the log odds of their best relations without rules, times -1. Pairs of entities
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

    inexact: largest number of connected entities or relations for which the choice may not be the best; 0 if all are.
    """

    entities: list[int]
    relations: list[int]
    inexact: int


def choose(graph: Graph) -> Choice:
    """Choose entities, then relations between them.

    The value of two entities is the log odds of their best allowed relations minus the log odds of their best relations
    without rules. Entities that are connected with a value below 0 are chosen for the greatest sum of gains and values.
    All other entities stay as they were found. Then the relations between the chosen entities are chosen for the
    greatest sum of gains.
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
    """Indices of the chosen items, their total, and `inexact` as in Choice."""

    items: list[int]
    total: float
    inexact: int


def best_items(
    gains: Sequence[float],
    slots: Sequence[Slots],
    values: Mapping[tuple[int, int], float] = MappingProxyType({}),
    is_found: Sequence[bool] | None = None,
) -> Best:
    """The items with the greatest total of gains and values, no two of which have a slot in common.

    values: value, below 0, that is added to the total if both items (i < j) are chosen.
    is_found: whether to choose an item that is not connected with a value; None to choose by the gains.
    """
    parts = connected(slots, values)
    part_of = {item: number for number, part in enumerate(parts) for item in part}
    values_of: dict[int, list[tuple[int, int, float]]] = defaultdict(list)
    for (i, j), value in values.items():
        values_of[part_of[i]].append((i, j, value))
    items: list[int] = []
    total, inexact = 0.0, 0
    for number, part in enumerate(parts):
        own = values_of.get(number, ())
        if is_found is not None and not own:
            items += [i for i in part if is_found[i]]
            continue
        place = {item: i for i, item in enumerate(part)}
        local = {(place[i], place[j]): value for i, j, value in own}
        found = Search([gains[i] for i in part], [slots[i] for i in part], local).run()
        items += [part[i] for i in found.items]
        total += found.total
        inexact = max(inexact, found.inexact)
    return Best(sorted(items), total, inexact)


def connected(slots: Sequence[Slots], pairs: Collection[tuple[int, int]]) -> list[list[int]]:
    """Connected components of the items by common slots and by pairs, each in order."""
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


class State(NamedTuple):
    """A branch of a search.

    depth: number of decided items.
    total: total of the chosen items.
    adds: value that each item adds to the total, given the decisions; -inf if it cannot be chosen. A decided item is
        chosen unless its value is -inf.
    """

    depth: int
    total: float
    adds: list[float]


class Search:
    """Branch and bound over connected items, in order of decreasing gain. Arguments: see `best_items`."""

    def __init__(self, gains: Sequence[float], slots: Sequence[Slots], values: Mapping[tuple[int, int], float]) -> None:
        takers: dict[Hashable, list[int]] = defaultdict(list)
        for i, taken in enumerate(slots):
            for slot in taken:
                takers[slot].append(i)
        self.gains = list(gains)
        self.order = sorted(range(len(gains)), key=lambda i: -gains[i])
        # For each item, the items that cannot be chosen together with it, and the items with which it has a value.
        self.rivals = [{j for slot in taken for j in takers[slot]} - {i} for i, taken in enumerate(slots)]
        self.partners: list[list[tuple[int, float]]] = [[] for _ in gains]
        for (i, j), value in values.items():
            self.partners[i].append((j, value))
            self.partners[j].append((i, value))
        # A group has the items with the same first slot, of which at most one can be chosen.
        self.groups: list[Hashable] = [next(((slot,) for slot in taken), i) for i, taken in enumerate(slots)]

    def run(self) -> Best:
        """The best items. Starts with a greedy choice, and ends a branch whose bound is not above the best choice."""
        start = State(0, 0.0, self.gains)
        while not self.is_complete(start) and self.next_adds(start) == math.inf:
            start = self.with_next(start)
        best = self.greedy(start)
        stack = [start]
        steps_left = MOST_STEPS if len(self.order) <= MOST_CONNECTED else 0
        while stack and steps_left:
            steps_left -= 1
            state = stack.pop()
            if self.bound(state) <= best.total:
                continue
            if self.is_complete(state):
                best = state
            else:
                stack += self.branches(state)
        items = [i for i, adds in enumerate(best.adds) if adds > -math.inf]
        return Best(items, best.total, len(self.order) if stack else 0)

    def greedy(self, state: State) -> State:
        """Decide all other items in order: choose those that add to the total."""
        # Change one list in place: a copy for each item, as in `with_next`, would take quadratic time.
        total, adds = state.total, list(state.adds)
        for item in self.order[state.depth :]:
            if adds[item] > 0:
                total += self.choose(item, adds)
            else:
                adds[item] = -math.inf
        return State(len(self.order), total, adds)

    def branches(self, state: State) -> list[State]:
        """Both decisions about the next item, the more promising one last."""
        adds = self.next_adds(state)
        if adds == -math.inf:
            return [self.without_next(state)]
        branches = [self.without_next(state), self.with_next(state)]
        return branches if adds > 0 else branches[::-1]

    def bound(self, state: State) -> float:
        """Upper bound of the total in a branch: add the greatest gain of each group of undecided items."""
        most: dict[Hashable, float] = {}
        for i in self.order[state.depth :]:
            if state.adds[i] > 0:
                most[self.groups[i]] = max(state.adds[i], most.get(self.groups[i], 0.0))
        return state.total + sum(most.values())

    def is_complete(self, state: State) -> bool:
        """Whether all items are decided."""
        return state.depth == len(self.order)

    def next_adds(self, state: State) -> float:
        """Value that the next item adds to the total."""
        return state.adds[self.order[state.depth]]

    def without_next(self, state: State) -> State:
        """Do not choose the next item."""
        adds = list(state.adds)
        adds[self.order[state.depth]] = -math.inf
        return State(state.depth + 1, state.total, adds)

    def with_next(self, state: State) -> State:
        """Choose the next item."""
        adds = list(state.adds)
        gain = self.choose(self.order[state.depth], adds)
        return State(state.depth + 1, state.total + gain, adds)

    def choose(self, item: int, adds: list[float]) -> float:
        """Update `adds` for the choice of an item. Return the value that the item itself adds: 0 if it is certain."""
        gain = adds[item]
        for j in self.rivals[item]:
            adds[j] = -math.inf
        for j, value in self.partners[item]:
            adds[j] += value
        return gain if gain < math.inf else 0.0
