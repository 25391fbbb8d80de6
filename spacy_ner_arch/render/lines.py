"""Tokens on lines, and boxes around entities: everything that has to do with the horizontal but the arcs."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from spacy.tokens import Doc

from .measure import shorten, split, text_width
from .packing import pack

# All in pixels.
TEXT_SIZE, LABEL_SIZE = 15.0, 10.0
MARGIN = 22.0
SPACE = 5.0
# Between the border of a box and what is in it, and between two boxes.
PAD, APART = 3.0, 4.0
# Between the ends of arcs at one box.
SLOT = 11.0
LINE_ENDS = frozenset("\n\r\v\f\x85\u2028\u2029")


@dataclass
class Entity:
    """A span to draw. start, end: in tokens, end exclusive. level: 0 touches the text, others enclose lower ones."""

    start: int
    end: int
    label: str
    level: int = 0
    arcs: int = 0


@dataclass
class Cell:
    """A token, or a piece of one that is wider than a line.

    text_width: of the text, which stands in the middle of `width`. space, opening, closing: room before it that a line
    does not begin with, and room for the borders of boxes before and behind it. ends_line: whether it ends its line.
    """

    text: str
    text_width: float
    width: float
    space: float = 0.0
    opening: float = 0.0
    closing: float = 0.0
    ends_line: bool = False
    line: int = 0
    left: float = 0.0

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def extent(self) -> float:
        return self.space + self.opening + self.width + self.closing


@dataclass
class Box:
    """The part of an entity on one line. starts, ends: whether the entity does so here. label: "" if it has no room."""

    entity: int
    line: int
    first: int
    last: int
    left: float
    right: float
    level: int
    label: str
    starts: bool
    ends: bool

    @property
    def label_width(self) -> float:
        return text_width(self.label, LABEL_SIZE, bold=True)


@dataclass
class Lines:
    """What stands where.

    boxes: outer ones before those they enclose. anchors: of each entity, its first box. lowest: of each cell, the
    lowest level of a box around it. levels: of each line, how many levels of boxes it has.
    """

    cells: list[Cell]
    boxes: list[Box] = field(default_factory=list)
    anchors: list[Box] = field(default_factory=list)
    lowest: list[int] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)

    @property
    def right(self) -> float:
        """How far the longest line reaches, in pixels."""
        return max((cell.right + cell.closing for cell in self.cells), default=MARGIN)


def set_lines(doc: Doc, entities: Sequence[Entity], width: float) -> Lines:
    """Put the tokens of a document onto lines, and find the boxes of its entities.

    entities: different from each other; their levels are set here.
    width: of the whole picture in pixels. Coordinates count from its left border, in the order of reading: whoever
        draws a script that is written from right to left has to mirror them.
    """
    usable = width - 2 * MARGIN
    for entity, level in zip(entities, pack([(entity.start, entity.end) for entity in entities]), strict=True):
        entity.level = level
    cells, firsts = _make_cells(doc, usable)
    _make_room(cells, firsts, entities, usable)
    _break_lines(cells, _breaks(doc, entities, firsts), usable)
    lines = Lines(cells)
    _make_boxes(lines, firsts, entities)
    return lines


def _make_cells(doc: Doc, usable: float) -> tuple[list[Cell], list[int]]:
    """Cells, and of each token, and of the end of the document, the first cell."""
    cells: list[Cell] = []
    firsts = []
    space = 0.0
    for token in doc:
        firsts.append(len(cells))
        # Not token.is_space, which a vocab without the functions of a language does not know.
        blank = token.text.isspace()
        for text in [""] if blank else split(token.text, usable, TEXT_SIZE):
            width = text_width(text, TEXT_SIZE)
            cells.append(Cell(text, width, width, space))
            space = 0.0
        cells[-1].ends_line = blank and not LINE_ENDS.isdisjoint(token.text)
        if token.whitespace_ or (blank and not cells[-1].ends_line):
            space = SPACE
    return cells, [*firsts, len(cells)]


def _make_room(cells: list[Cell], firsts: list[int], entities: Sequence[Entity], usable: float) -> None:
    """Widen cells so that each box has room for its border, its label and the ends of its arcs."""
    # From the inner to the outer ones, which profit from the room of the inner ones.
    for entity in sorted(entities, key=lambda entity: entity.level):
        border = PAD * (entity.level + 1)
        first, last = cells[firsts[entity.start]], cells[firsts[entity.end] - 1]
        first.opening, last.closing = max(first.opening, border), max(last.closing, border)
        label = shorten(entity.label, usable / 2, LABEL_SIZE, bold=True)
        needed = max(text_width(label, LABEL_SIZE, bold=True) + 2 * PAD, min(SLOT * entity.arcs, usable / 2))
        inside = cells[firsts[entity.start] : firsts[entity.end]]
        # A box that is broken over lines needs the room on its first one, wherever it breaks.
        if sum(cell.extent for cell in inside) > usable:
            inside = inside[:1]
        missing = needed - sum(cell.extent for cell in inside) + inside[0].space
        if missing > 0:
            for cell in inside:
                cell.width += missing / len(inside)
    for before, cell in zip(cells, cells[1:], strict=False):
        if before.closing and cell.opening:
            cell.space += APART


def _breaks(doc: Doc, entities: Sequence[Entity], firsts: list[int]) -> list[bool]:
    """Of each cell, whether a line may well end behind it: not within an entity, nor before a comma."""
    depth = [0] * (len(doc) + 1)
    for entity in entities:
        depth[entity.start] += 1
        depth[entity.end - 1] -= 1
    breaks = [False] * firsts[-1]
    inside = 0
    for i, token in enumerate(doc):
        inside += depth[i]
        following = doc[i + 1].text[:1] if i + 1 < len(doc) else ""
        glued = not token.whitespace_ and (_closes(following) or _opens(token.text[-1:]))
        breaks[firsts[i + 1] - 1] = not inside and not glued
    return breaks


def _opens(character: str) -> bool:
    return bool(character) and unicodedata.category(character) in ("Ps", "Pi")


def _closes(character: str) -> bool:
    return bool(character) and unicodedata.category(character) in ("Pe", "Pf", "Po")


def _break_lines(cells: list[Cell], breaks: list[bool], usable: float) -> None:
    """Give each cell its line and its place: as many as go onto a line, broken where it may end, or else anywhere."""
    line, x, start = 0, 0.0, 0
    for end, may_break in enumerate(breaks, 1):
        if not may_break and end < len(cells):
            continue
        stretch = cells[start:end]
        start = end
        extent = sum(cell.extent for cell in stretch)
        if x and x + extent > usable and extent - stretch[0].space <= usable:
            line, x = line + 1, 0.0
        for cell in stretch:
            # More than a line: not for what is rounded.
            if x and x + cell.extent > usable + 0.01:
                line, x = line + 1, 0.0
            x += (cell.space if x else 0.0) + cell.opening
            cell.line, cell.left = line, MARGIN + x
            x += cell.width + cell.closing
            if cell.ends_line and x:
                line, x = line + 1, 0.0


def _make_boxes(lines: Lines, firsts: list[int], entities: Sequence[Entity]) -> None:
    cells = lines.cells
    # The first cell of each line, and the end.
    bounds: list[int] = []
    for i, cell in enumerate(cells):
        if len(bounds) <= cell.line:
            bounds.append(i)
    lines.levels = [0] * max(len(bounds), 1)
    bounds.append(len(cells))
    lines.lowest = [len(entities)] * len(cells)
    for number, entity in enumerate(entities):
        first, last = firsts[entity.start], firsts[entity.end] - 1
        border = PAD * (entity.level + 1)
        for i in range(first, last + 1):
            lines.lowest[i] = min(lines.lowest[i], entity.level)
        for line in range(cells[first].line, cells[last].line + 1):
            low, high = max(first, bounds[line]), min(last, bounds[line + 1] - 1)
            left, right = cells[low].left - border, cells[high].right + border
            label = shorten(entity.label, right - left - 2 * PAD, LABEL_SIZE, bold=True)
            if label != entity.label and low != first:
                label = ""
            box = Box(number, line, low, high, left, right, entity.level, label, low == first, high == last)
            lines.boxes.append(box)
            lines.levels[line] = max(lines.levels[line], box.level + 1)
            if low == first:
                lines.anchors.append(box)
    lines.boxes.sort(key=lambda box: -box.level)
