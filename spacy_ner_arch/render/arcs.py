"""Where the arcs of relations run: from which point of a box to which, in which lane, and where their labels stand."""

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .lines import MARGIN, PAD, SLOT, Box, Lines
from .measure import is_right_to_left, shorten, text_width
from .packing import pack

# All in pixels.
ARC_SIZE = 11.0
EDGE = 5.0
# Between what stands side by side in a lane.
APART = 8.0
# Between a label and a line that passes it.
BESIDE = 5.0
# Of the other argument of a relation, beside its label where the arc leaves the line.
PARTNER = 110.0
# More than the width of any picture.
FAR = 1e6


class Link(NamedTuple):
    """A relation to draw. head, tail: numbers of entities. partners: texts of both, for an arc in two pieces."""

    head: int
    tail: int
    label: str
    partners: tuple[str, str]


class End(NamedTuple):
    """One end of an arc. level: of the box it touches, or None at the margin."""

    x: float
    level: int | None
    is_tail: bool


@dataclass
class Arc:
    """An arc, or one of the two pieces of one between two lines.

    relation: its number. left, right: its ends, in the order of reading. lane: 0 is nearest to the text.
    middle, width: of the label.
    """

    relation: int
    line: int
    left: End
    right: End
    label: str
    width: float
    middle: float
    lane: int = 0

    @property
    def stays(self) -> bool:
        """Tell whether both ends are on this line."""
        return self.left.level is not None and self.right.level is not None

    @property
    def length(self) -> float:
        return self.right.x - self.left.x


def set_arcs(lines: Lines, links: Sequence[Link], width: float, right_to_left: bool = False) -> list[Arc]:
    """Find a way for each relation. Relations of one line never share a lane where they overlap.

    width: of the picture in pixels. right_to_left: whether it will be mirrored, for the arrows in labels.
    """
    stems = _spread(lines, links)
    of_lines = defaultdict(list)
    for number, link in enumerate(links):
        head, tail = lines.anchors[link.head], lines.anchors[link.tail]
        start = End(stems[number, False], head.level, False)
        end = End(stems[number, True], tail.level, True)
        if head.line == tail.line:
            left, right = sorted((start, end))
            of_lines[head.line].append(_make_arc(number, head.line, left, right, [link.label], width, right_to_left))
            continue
        forward = head.line < tail.line
        for here, box, other in ((start, head, 1), (end, tail, 0)):
            partner = shorten(link.partners[other], PARTNER, ARC_SIZE)
            # The end of a line leads on to the next one, its beginning back to the one before.
            at_end = (here is start) == forward
            margin = End(width - EDGE if at_end else EDGE, None, not here.is_tail)
            left, right = (here, margin) if at_end else (margin, here)
            parts = [link.label, partner] if at_end else [partner, link.label]
            arrow = "→" if (right.is_tail) != right_to_left else "←"
            parts.insert(1, arrow)
            of_lines[box.line].append(_make_arc(number, box.line, left, right, parts, width, right_to_left))
    for arcs in of_lines.values():
        _shift_wide_labels(arcs, width)
        _stack(arcs)
        _clear_labels(arcs)
    return [arc for line in sorted(of_lines) for arc in of_lines[line]]


def _spread(lines: Lines, links: Sequence[Link]) -> dict[tuple[int, bool], float]:
    """Where at its box each arc begins and ends, by the number of its relation and whether it is the end.

    Ends at one box stand side by side in such an order that arcs nest instead of crossing.
    """
    edges = [_free_edge(lines, box) for box in lines.anchors]
    ends = defaultdict(list)
    for number, link in enumerate(links):
        for here, there, is_tail in ((link.head, link.tail, False), (link.tail, link.head, True)):
            box, other = lines.anchors[here], lines.anchors[there]
            # An arc to another line is longer than any on this one.
            far = FAR * (other.line - box.line)
            distance = far or sum(edges[there]) / 2 - sum(edges[here]) / 2
            if here == there or distance == 0:
                order = (1.0, float(number), float(is_tail))
            elif distance < 0:
                # To the left: the longer an arc is, the further right it ends, and encloses the shorter ones.
                order = (0.0, -distance, float(-number))
            else:
                order = (2.0, -distance, float(number))
            ends[box.line, edges[here]].append((order, number, is_tail))
    stems = {}
    for (_, (left, right)), wanting in ends.items():
        step = min(SLOT, (right - left) / (len(wanting) + 1))
        x = (left + right) / 2 - step * (len(wanting) - 1) / 2
        for _, number, is_tail in sorted(wanting):
            stems[number, is_tail] = x
            x += step
    return stems


def _free_edge(lines: Lines, box: Box) -> tuple[float, float]:
    """The widest part of the upper edge of a box that has no box of a lower level in it; all of it if there is none."""
    best = start = box.first
    best_end = box.first
    for i in range(box.first, box.last + 2):
        if i > box.last or lines.lowest[i] < box.level:
            if i > start and (best_end == best or _length(lines, start, i) > _length(lines, best, best_end)):
                best, best_end = start, i
            start = i + 1
    if best_end == best:
        # The same as that of a box with the very same tokens, so that the ends at both stand side by side.
        best, best_end = box.first, box.last + 1
    return lines.cells[best].left, lines.cells[best_end - 1].right


def _length(lines: Lines, start: int, end: int) -> float:
    return lines.cells[end - 1].right - lines.cells[start].left


def _make_arc(
    number: int, line: int, left: End, right: End, parts: list[str], width: float, right_to_left: bool
) -> Arc:
    if right_to_left:
        parts = parts[::-1]
    if len(parts) > 1:
        # Else parts of another direction of writing would change places.
        parts = [f"\u2068{part}\u2069" if is_right_to_left(part) else part for part in parts]
    label = shorten(" ".join(parts), width - 2 * EDGE, ARC_SIZE)
    extent = text_width(label, ARC_SIZE)
    if left.level is None:
        middle = max(left.x + extent / 2, min(right.x - extent / 2 - PAD, MARGIN + extent / 2))
    elif right.level is None:
        middle = min(right.x - extent / 2, max(left.x + extent / 2 + PAD, right.x + EDGE - MARGIN - extent / 2))
    else:
        middle = (left.x + right.x) / 2
    middle = min(max(middle, EDGE + extent / 2), width - EDGE - extent / 2)
    return Arc(number, line, left, right, label, extent, middle)


def _shift_wide_labels(arcs: list[Arc], width: float) -> None:
    """Move labels that are wider than their arcs to the side where fewer longer arcs, that run above, come down."""
    stems = sorted((end.x, arc.length) for arc in arcs for end in (arc.left, arc.right) if end.level is not None)
    for arc in arcs:
        if arc.length >= arc.width or not arc.stays:
            continue
        half = arc.width / 2
        best = None
        for wanted in (arc.middle, arc.right.x + PAD - half, arc.left.x - PAD + half):
            middle = min(max(wanted, EDGE + half), width - EDGE - half)
            low, high = middle - half - PAD, middle + half + PAD
            within = stems[bisect_left(stems, (low, 0.0)) : bisect_right(stems, (high, math.inf))]
            met = sum(length > arc.length for _, length in within)
            if best is None or met < best:
                best, arc.middle = met, middle


def _stack(arcs: list[Arc]) -> None:
    """Give the arcs of one line their lanes: those to other lines above all others, so that few stems meet labels."""
    half = APART / 2
    room = [
        (min(arc.left.x, arc.middle - arc.width / 2) - half, max(arc.right.x, arc.middle + arc.width / 2) + half)
        for arc in arcs
    ]
    ranks = [end - start if arc.stays else FAR + arc.length for arc, (start, end) in zip(arcs, room, strict=True)]
    for arc, lane in zip(arcs, pack(room, ranks), strict=True):
        arc.lane = lane


def _clear_labels(arcs: list[Arc]) -> None:
    """Move labels along their arcs to where no arc of a higher lane comes down through them, if there is such a place.

    Where there is none, the label is drawn over the line that it meets.
    """
    stems = sorted((end.x, arc.lane) for arc in arcs for end in (arc.left, arc.right) if end.level is not None)
    for arc in arcs:
        half = arc.width / 2 + BESIDE
        low, high = arc.left.x + half, arc.right.x - half
        if low > high:
            continue
        between = stems[bisect_left(stems, (arc.left.x, -1)) : bisect_right(stems, (arc.right.x, len(arcs)))]
        walls = [arc.left.x, *(x for x, lane in between if lane > arc.lane), arc.right.x]
        places = [
            min(max(arc.middle, left + half), right - half)
            for left, right in zip(walls, walls[1:], strict=False)
            if right - left >= 2 * half
        ]
        if places:
            arc.middle = min(places, key=lambda place: abs(place - arc.middle))
