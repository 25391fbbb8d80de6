"""From places to a picture: heights, and svg."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from .arcs import ARC_SIZE, Arc, End
from .lines import LABEL_SIZE, TEXT_SIZE, Box, Lines

# Heights in pixels: of a word, of the label of a box, by how much an outer box is higher than an inner one,
# from the boxes to the lowest lane, of a lane, and between two lines.
WORD, LABEL, RISE, CLEAR, LANE, LEADING = 21.0, 12.0, 4.0, 15.0, 18.0, 16.0
BASELINE = 15.5
CORNER, ARROW, ROUND = 7.0, 6.0, 4.0
TEXT = "#1d2127"
FONT = "Arial, Helvetica, 'Liberation Sans', sans-serif"
# XML knows no control characters, and not these two.
UNKNOWN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass
class Captions:
    """What is said of the whole picture and of each entity and relation, by its number, and their colours."""

    title: str
    entities: Sequence[str]
    entity_colours: Sequence[str]
    relations: Sequence[str]
    relation_colours: Sequence[str]


def draw(
    lines: Lines, arcs: Sequence[Arc], captions: Captions, width: float, language: str, right_to_left: bool
) -> str:
    """The picture as one svg element. It is white, on dark pages too, and has no ids or styles that could meet others.

    width: in pixels, as it was given to `set_lines` and `set_arcs`. language: its code, or "".
    right_to_left: draw everything from right to left.
    """

    def across(x: float) -> float:
        return width - x if right_to_left else x

    roofs, height = _heights(lines, arcs)
    parts = [f'<title>{clean(captions.title)}</title><rect width="100%" height="100%" fill="#ffffff"/>']
    parts += [_draw_box(box, roofs[box.line], captions, across) for box in lines.boxes]
    direction = ' direction="rtl"' if right_to_left else ""
    parts.append(f'<g class="ner-arch-words" font-size="{number(TEXT_SIZE)}" fill="{TEXT}"{direction}>')
    parts += [
        _text(cell.text, across(cell.left + cell.width / 2), roofs[cell.line] + BASELINE, cell.text_width)
        for cell in lines.cells
        if cell.text
    ]
    parts.append(f'</g><g class="ner-arch-labels" font-size="{number(LABEL_SIZE)}" font-weight="bold" fill="{TEXT}">')
    for box in lines.boxes:
        if box.label:
            low = roofs[box.line] + WORD + LABEL * (box.level + 1) - 3.5
            parts.append(_text(box.label, across((box.left + box.right) / 2), low, box.label_width))
    parts.append('</g><g class="ner-arch-arcs" fill="none" stroke-width="1.4" stroke-linejoin="round">')
    parts += [_draw_arc(arc, roofs[arc.line], _lane(lines, arc, roofs), captions, across) for arc in arcs]
    # After all arcs: a label covers what comes down through it.
    parts.append(f'</g><g class="ner-arch-relations" font-size="{number(ARC_SIZE)}">')
    for arc in arcs:
        text = _text(arc.label, across(arc.middle), _lane(lines, arc, roofs) - 5, arc.width)
        parts.append(
            f'<g fill="{clean(captions.relation_colours[arc.relation])}" stroke="#ffffff" stroke-width="3" '
            f'paint-order="stroke" stroke-linejoin="round">'
            f"<title>{clean(captions.relations[arc.relation])}</title>{text}</g>"
        )
    parts.append("</g>")
    lang = f' lang="{clean(language)}"' if language else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img"{lang} width="{number(width)}" height="{number(height)}" '
        f'viewBox="0 0 {number(width)} {number(height)}" style="max-width:100%;height:auto" '
        f'font-family="{FONT}" text-anchor="middle" direction="ltr">{"".join(parts)}</svg>'
    )


def clean(text: str) -> str:
    """A text for svg and html, also within an attribute."""
    return escape(UNKNOWN.sub("\ufffd", text))


def number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _heights(lines: Lines, arcs: Sequence[Arc]) -> tuple[list[float], float]:
    """Of each line, where its words begin, and where the last one ends."""
    lanes, levels = [0] * len(lines.levels), lines.levels
    for arc in arcs:
        lanes[arc.line] = max(lanes[arc.line], arc.lane + 1)
    roofs, y = [], LEADING / 2
    for lane_count, level_count in zip(lanes, levels, strict=True):
        y += (CLEAR + LANE * lane_count if lane_count else 0) + RISE * level_count
        roofs.append(y)
        y += WORD + LABEL * level_count + LEADING
    return roofs, y - LEADING / 2


def _lane(lines: Lines, arc: Arc, roofs: Sequence[float]) -> float:
    """The height of an arc."""
    return roofs[arc.line] - RISE * lines.levels[arc.line] - CLEAR - LANE * arc.lane


def _top(roof: float, level: int) -> float:
    """The upper edge of a box."""
    return roof - RISE * (level + 1) + 2


def _draw_box(box: Box, roof: float, captions: Captions, across: Callable[[float], float]) -> str:
    left, right = sorted((across(box.left), across(box.right)))
    top, low = _top(roof, box.level), roof + WORD + LABEL * (box.level + 1)
    # As seen, not as read.
    mirrored = across(0) > across(1)
    open_left, open_right = (not box.ends, not box.starts) if mirrored else (not box.starts, not box.ends)
    west, west_in, east, east_in = map(number, (left, left + ROUND, right, right - ROUND))
    north, north_in, south, south_in = map(number, (top, top + ROUND, low, low - ROUND))
    # From the lower right corner round to it; where the entity goes on in another line its box has no border.
    border = f"M{east} {south}" if open_right else f"M{east} {south_in}Q{east} {south} {east_in} {south}"
    if open_left:
        border += f"H{west}M{west} {north}"
    else:
        border += f"H{west_in}Q{west} {south} {west} {south_in}V{north_in}Q{west} {north} {west_in} {north}"
    border += f"H{east}" if open_right else f"H{east_in}Q{east} {north} {east} {north_in}V{south_in}"
    corners = "" if open_left or open_right else f' rx="{number(ROUND)}"'
    area = f'x="{number(left)}" y="{number(top)}" width="{number(right - left)}" height="{number(low - top)}"{corners}'
    return (
        f'<g fill="{clean(captions.entity_colours[box.entity])}"><title>{clean(captions.entities[box.entity])}</title>'
        # White below the colour: a box within another is not darker for it, so that what it holds can be read.
        f'<rect {area} fill="#ffffff"/><rect {area} fill-opacity="0.16"/>'
        f'<path d="{border}" fill="none" stroke="{clean(captions.entity_colours[box.entity])}"/></g>'
    )


def _draw_arc(arc: Arc, roof: float, y: float, captions: Captions, across: Callable[[float], float]) -> str:
    ends = arc.left, arc.right
    (x, start), (other, end) = [(across(end.x), _foot(end, roof, y)) for end in ends]
    turn = min(CORNER, abs(other - x) / 2) * (1 if other > x else -1)
    path = f"M{number(x)} {number(start)}"
    if start != y:
        path += f"V{number(y + CORNER)}Q{number(x)} {number(y)} {number(x + turn)} {number(y)}"
    if end != y:
        path += f"H{number(other - turn)}Q{number(other)} {number(y)} {number(other)} {number(y + CORNER)}"
        path += f"V{number(end)}"
    else:
        path += f"H{number(other)}"
    colour = clean(captions.relation_colours[arc.relation])
    marks = "".join(_mark(across(end.x), _foot(end, roof, y), end, colour) for end in ends if end.level is not None)
    title = clean(captions.relations[arc.relation])
    return f'<g stroke="{colour}"><title>{title}</title><path d="{path}"/>{marks}</g>'


def _foot(end: End, roof: float, y: float) -> float:
    """The height of an end: at its box, or that of the arc itself at the margin."""
    return y if end.level is None else _top(roof, end.level)


def _mark(x: float, y: float, end: End, colour: str) -> str:
    """An arrow head at the tail, a dot at the head."""
    if end.is_tail:
        return (
            f'<path d="M{number(x)} {number(y)}l-{number(ARROW * 0.6)} -{number(ARROW)}h{number(ARROW * 1.2)}z" '
            f'fill="{colour}" stroke="none"/>'
        )
    return f'<circle cx="{number(x)}" cy="{number(y)}" r="2.4" fill="{colour}" stroke="none"/>'


def _text(text: str, x: float, y: float, width: float) -> str:
    """A text centred at x. Its width is fixed, since fonts differ, and only the layout knows what stands beside it."""
    length = f' textLength="{number(width)}" lengthAdjust="spacingAndGlyphs"' if width >= 1 else ""
    return f'<text x="{number(x)}" y="{number(y)}"{length}>{clean(text)}</text>'
