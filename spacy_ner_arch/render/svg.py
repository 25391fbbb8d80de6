"""Draw a layout as SVG."""

import re
import zlib
from collections.abc import Iterable, Mapping
from html import escape

from spacy.tokens import Span

from .layout import ARC_SIZE, BOLD, LABEL_SIZE, TEXT_SIZE, Arc, Box, Layout, isolate, shorten, text_width

# In pixels: height of a word, a label, a bar with its label, a row of arcs; gap below arcs, between lines; radius.
WORD, LABEL, BAR, ROW, CLEAR, LEADING, CORNER = 21.0, 12.0, 16.0, 18.0, 15.0, 16.0, 7.0
# Readable on white as text: brown, blue, pink, teal, slate, green, magenta, olive, violet, orange, indigo, red.
PALETTE = (
    *("#7c4a21", "#1f5fa8", "#be185d", "#0f766e", "#475569", "#2c7a4b"),
    *("#a21caf", "#6b6a00", "#7b3fb5", "#b4530a", "#4338ca", "#c0272d"),
)
# With this salt, the labels of CoNLL-2003, CoNLL-2004 and SciERC and the usual ones of OntoNotes differ in color.
SALT = 57577
ROOT = {"xmlns": "http://www.w3.org/2000/svg", "role": "img", "style": "max-width:100%;height:auto", "direction": "ltr"}
ROOT |= {"text_anchor": "middle", "fill": "#1d2127", "font_family": "Arial, Helvetica, Liberation Sans, sans-serif"}
OUTLINE = {"stroke": "#ffffff", "stroke_width": "3", "paint_order": "stroke"}
# Characters of a text that is shown on hover. An entity has it on each line of the picture.
MOST = 500
NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")


def draw(layout: Layout, title: str, language: str, colors: Mapping[str, str] | None) -> str:
    """Draw a layout as one svg element on white. title: for screen readers. language: code or "". colors: by label."""
    box_colors = choose_colors((box.span.label_ for box in layout.boxes), colors)
    arc_colors = choose_colors((arc.relation.label for arc in layout.arcs), colors)
    tops, height = _place_lines(layout)
    boxes, labels = [], []
    for box in layout.boxes:
        boxes.append(_draw_box(box, tops[box.line], box_colors[box.span.label_]))
        baseline = tops[box.line] + WORD + LABEL + BAR * box.row - 3.5
        labels.append(_text(box.span.label_, box.middle, baseline, box.right - box.left, LABEL_SIZE * BOLD))
    # Lines of a higher row cross the labels of lower rows. Draw the labels later: their white outline hides the lines.
    ordered = sorted(layout.arcs, key=lambda arc: -arc.row)
    arcs = [_draw_arc(arc, tops[arc.line], arc_colors[arc.relation.label]) for arc in ordered]
    words = [_text(w.text, w.left + w.width / 2, tops[w.line] + 15.5, w.width, TEXT_SIZE) for w in layout.words]
    return tag(
        "svg",
        tag("title", clean(title)),
        tag("rect", width="100%", height="100%", fill="#ffffff"),
        tag("g", *boxes, class_="ner-arch-entities"),
        tag("g", *arcs, class_="ner-arch-relations", font_size=ARC_SIZE),
        tag("g", *labels, class_="ner-arch-labels", font_size=LABEL_SIZE, font_weight="bold"),
        tag("g", *words, class_="ner-arch-words", font_size=TEXT_SIZE, direction=layout.direction),
        width=layout.width,
        height=height,
        viewBox=f"0 0 {layout.width:.1f} {height:.1f}",
        lang=language,
        **ROOT,
    )


def choose_colors(labels: Iterable[str], chosen: Mapping[str, str] | None = None) -> dict[str, str]:
    """Add colors for `labels` to those `chosen`: the same in every document, unless two labels would share one."""
    colors = dict(chosen or {})
    free: list[str] = []
    for label in sorted(set(labels) - set(colors)):
        free = free or list(PALETTE)
        wanted = zlib.crc32(label.encode(), SALT) % len(PALETTE)
        colors[label] = min(free, key=lambda color: (PALETTE.index(color) - wanted) % len(PALETTE))
        free.remove(colors[label])
    return colors


def span_caption(span: Span) -> str:
    """Return the text of a span, without line breaks, and its label, both cut to MOST characters."""
    return cut(" ".join(span.text.split())) + (f" ({cut(span.label_)})" if span.label_ else "")


def cut(text: str) -> str:
    """Cut a text to MOST characters with an ellipsis."""
    return text if len(text) <= MOST else text[: MOST - 1] + "…"


def clean(text: str) -> str:
    """Escape a text for svg and html. Replace characters that XML does not allow."""
    return escape(NOT_XML.sub("\ufffd", text))


def tag(name: str, *content: str, **attributes: str | float) -> str:
    """Write an element. content: markup. attributes: unescaped values; their names have "_" for "-"."""
    texts = {key: value if isinstance(value, str) else f"{value:.1f}" for key, value in attributes.items()}
    start = "".join(f' {key.rstrip("_").replace("_", "-")}="{clean(text)}"' for key, text in texts.items())
    return f"<{name}{start}>{''.join(content)}</{name}>"


def _text(text: str, x: float, y: float, most: float, size: float, **attributes: str | float) -> str:
    """Write a text centred at `x`. Cut it to `most` pixels; more of the text is shown on hover."""
    shown = shorten(text, most, size)
    hover = tag("title", clean(cut(text))) if shown != text else ""
    # The reader's font may have other widths than those of the layout.
    width = text_width(shown, size)
    if width >= 1:
        attributes |= {"textLength": width, "lengthAdjust": "spacingAndGlyphs"}
    return tag("text", clean(shown), hover, x=x, y=y, **attributes) if shown else ""


def _place_lines(layout: Layout) -> tuple[list[float], float]:
    """Return the y of the top of the words of each line, and the height of the picture."""
    lines = layout.words[-1].line + 1 if layout.words else 0
    boxes, arcs = [0.0] * lines, [2.0] * lines
    for box in layout.boxes:
        boxes[box.line] = max(boxes[box.line], LABEL + BAR * box.row)
    for arc in layout.arcs:
        arcs[arc.line] = max(arcs[arc.line], CLEAR + ROW * (arc.row + 1))
    tops, y = [], LEADING / 2
    for above, below in zip(arcs, boxes, strict=True):
        tops.append(y + above)
        y = tops[-1] + WORD + below + LEADING
    return tops, max(y - LEADING / 2, LEADING)


def _draw_box(box: Box, top: float, color: str) -> str:
    """Draw a box around the words. Above row 0, where boxes would overlap, draw a bar below the words instead."""
    y, width = _box_top(box, top), box.right - box.left
    height, opacity = (WORD + LABEL + 2, "0.16") if box.row == 0 else (2, "1")
    shape = tag("rect", x=box.left, y=y, width=width, height=height, rx=4, stroke=color, fill_opacity=opacity)
    return tag("g", tag("title", clean(span_caption(box.span))), shape, fill=color)


def _box_top(box: Box, top: float) -> float:
    """Return the y of the upper edge of a box, where arcs end. top: of the words of its line."""
    return top - 2 if box.row == 0 else top + WORD + BAR * box.row - 2


def _draw_arc(arc: Arc, top: float, color: str) -> str:
    """Draw an arc with its label, a dot at the head and an arrowhead at the tail."""
    y = top - CLEAR - ROW * arc.row
    turn = min(CORNER, abs(arc.tail - arc.head) / 2) * (1 if arc.tail > arc.head else -1)
    start, end, marks = f"M{arc.head:.1f} {y:.1f}", f"H{arc.tail:.1f}", ""
    if arc.head_box:
        foot = _box_top(arc.head_box, top)
        start = f"M{arc.head:.1f} {foot:.1f}V{y + CORNER:.1f}q0 {-CORNER} {turn:.1f} {-CORNER}"
        marks += tag("circle", cx=arc.head, cy=foot, r=2.4)
    if arc.tail_box:
        foot = _box_top(arc.tail_box, top)
        end = f"H{arc.tail - turn:.1f}q{turn:.1f} 0 {turn:.1f} {CORNER}V{foot:.1f}"
        marks += tag("path", d=f"M{arc.tail:.1f} {foot:.1f}l-3.6 -6h7.2z")
    line = tag("path", d=start + end, fill="none", stroke=color, stroke_width=1.4)
    label = _text(arc.label, arc.middle, y - 5, arc.right - arc.left, ARC_SIZE, **OUTLINE)
    relation = arc.relation
    parts = (span_caption(relation.head), cut(relation.label), span_caption(relation.tail))
    title = " → ".join(map(isolate, parts))
    if relation.score is not None:
        title += f", score {relation.score:.4g}"
    return tag("g", tag("title", clean(title)), line, marks, label, fill=color)
