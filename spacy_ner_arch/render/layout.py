"""Compute where the words, entity boxes and relation arcs of a document go. All sizes are in pixels.

Text widths are estimates from the letter widths of Arial: no font can be measured where the picture is made.
"""

import re
import unicodedata
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, groupby, pairwise
from typing import NamedTuple

from spacy.tokens import Doc, Span

from ..annotation.relations import Relation

TEXT_SIZE, LABEL_SIZE, ARC_SIZE = 15.0, 10.0, 11.0
BOLD = 1.08  # width of bold letters relative to regular ones
MARGIN, EDGE = 22.0, 5.0  # left and right of the text; left and right of arcs that continue on another line
SPACE, PAD, SLOT = 5.0, 3.0, 11.0  # between words; between word and box; between the ends of arcs at one box
PARTNER, FAR = 110.0, 1e6  # maximum width of the name of an argument on another line; wider than any picture
LETTERS = {
    0.24: "'|ijl‘’ !,./:;I[]\\ft",
    0.33: '()-`r"“”{}*',
    0.5: "ckszvxyJ",
    0.74: "wCDHNRUGOQ",
    0.9: "mM%W@—…",
}
WIDTHS = {letter: width for width, letters in LETTERS.items() for letter in letters}


@dataclass
class Word:
    """A token. width: room for its text, which is centred. space: gap to the word before it on the same line.

    may_break, ends_line: whether a new line can start before it, and must start after it.
    """

    text: str
    width: float
    space: float
    may_break: bool
    ends_line: bool
    line: int = 0
    left: float = 0.0


@dataclass
class Box:
    """The part of an entity on one line. row: 0 is drawn around the words, higher rows are drawn below them."""

    span: Span
    line: int
    left: float
    right: float
    row: int = 0

    @property
    def middle(self) -> float:
        return (self.left + self.right) / 2


@dataclass
class Arc:
    """A relation, or the part of it on one line, which has one end at the margin.

    head, tail: x of the ends. head_box, tail_box: the boxes there, or None at the margin. middle: x of the centre of
    the label. left, right: borders of arc and label together. row: 0 is closest to the words.
    """

    relation: Relation
    line: int
    head: float
    tail: float
    label: str
    middle: float
    head_box: Box | None
    tail_box: Box | None
    left: float = 0.0
    right: float = 0.0
    row: int = 0


class Layout(NamedTuple):
    """What to draw, the width of the picture, and the direction of writing, "ltr" or "rtl"."""

    words: list[Word]
    boxes: list[Box]
    arcs: list[Arc]
    width: float
    direction: str


def lay_out(doc: Doc, spans: Sequence[Span], relations: Sequence[Relation], width: float) -> Layout:
    """Place words, entities and relations in at most `width` pixels. `spans` contains all arguments, no duplicates."""
    usable = width - 2 * MARGIN
    words = _make_words(doc, spans, relations, usable)
    _break_lines(words, usable)
    rtl = is_rtl(doc.text)
    for _, on_line in groupby(words, key=lambda word: word.line):
        _turn_runs(list(on_line), rtl)
    if not words or words[-1].line == 0:
        labels = [text_width(relation.label, ARC_SIZE) + 2 * EDGE for relation in relations]
        width = min(width, max([2 * MARGIN, *labels, *(word.left + word.width + 2 * MARGIN for word in words)]))
    for word in words:
        word.left = width - MARGIN - word.left - word.width if rtl else MARGIN + word.left
    boxes: dict[Span, list[Box]] = {span: [] for span in spans}
    for span in spans:
        for line, group in groupby(words[span.start : span.end], key=lambda word: word.line):
            edges = [x for word in group for x in (word.left, word.left + word.width)]
            boxes[span].append(Box(span, line, min(edges) - PAD, max(edges) + PAD))
    arcs = _make_arcs({span: boxes[span][0] for span in spans}, relations, width, rtl)
    layout = Layout(words, list(chain(*boxes.values())), arcs, width, "rtl" if rtl else "ltr")
    # Narrow items are closest to the words. Arcs that leave the line are above all others, so that fewer arcs cross.
    _set_rows(sorted(layout.boxes, key=lambda box: box.right - box.left))
    _set_rows(sorted(arcs, key=lambda arc: (not (arc.head_box and arc.tail_box), arc.right - arc.left)))
    return layout


def _make_words(doc: Doc, spans: Sequence[Span], relations: Sequence[Relation], usable: float) -> list[Word]:
    """Make a word for each token. Widen entities until their label and the ends of their arcs fit."""
    words: list[Word] = []
    inside = {i for span in spans for i in range(span.start + 1, span.end)}
    space, before = 0.0, ""
    for token in doc:
        blank = token.text.isspace()
        text = "" if blank else token.text
        ends_line = blank and len(f"{token.text}.".splitlines()) > 1
        may_break = token.i not in inside and (space > 0 or (before[-1:].isalnum() and text[:1].isalnum()))
        words.append(Word(text, min(text_width(text, TEXT_SIZE), usable), space, may_break, ends_line))
        space, before = SPACE if token.whitespace_ or blank else 0.0, text
    arc_counts = Counter(span for relation in relations for span in (relation.head, relation.tail))
    for span in spans:
        span_words = words[span.start : span.end]
        # An entity over several lines has its label on the first one.
        if any(word.ends_line for word in span_words):
            span_words = span_words[:1]
        needed = max(text_width(span.label_, LABEL_SIZE * BOLD), SLOT * arc_counts[span])
        missing = min(needed, usable / 2) - sum(word.width + word.space for word in span_words) + span_words[0].space
        for word in span_words:
            word.width += max(missing, 0.0) / len(span_words)
    starts, ends = {span.start for span in spans}, {span.end for span in spans}
    for i, word in enumerate(words):
        word.space += (PAD + 1) * ((i in starts) + (i in ends))
    return words


def _break_lines(words: list[Word], usable: float) -> None:
    """Set the line and the place of each word. If a line has no word that may break, break it at any word."""
    line, x = 0, 0.0
    starts = [0, *(i for i, word in enumerate(words) if i and word.may_break), len(words)]
    for start, end in pairwise(starts):
        chunk = words[start:end]
        needed = sum(word.space + word.width for word in chunk)
        if x and x + needed > usable >= needed - chunk[0].space:
            line, x = line + 1, 0.0
        for word in chunk:
            # The tolerance is for rounding errors.
            if x and x + word.space + word.width > usable + 0.01:
                line, x = line + 1, 0.0
            word.line, word.left = line, x + (word.space if x else 0.0)
            x = word.left + word.width
            if word.ends_line and x:
                line, x = line + 1, 0.0


def is_rtl(text: str) -> bool:
    """Whether most letters of a text are written from right to left."""
    directions = Counter(map(unicodedata.bidirectional, text))
    return directions["R"] + directions["AL"] > directions["L"]


def _turn_runs(words: Sequence[Word], rtl: bool) -> None:
    """Reverse the runs of words of a line that are not written in the direction of the text.

    Words without letters belong to a run between two words of it, and numbers also behind one.
    """
    directions = "".join(_direction(word.text) for word in words)
    for run in re.finditer("l( *[ln])*" if rtl else "r( *[rn])*", directions):
        turned = words[run.start() : run.end()]
        ends = turned[0].left + turned[-1].left + turned[-1].width
        for word in turned:
            word.left = ends - word.left - word.width


def _direction(text: str) -> str:
    """`l` or `r`; for a text without letters `n` if it has a digit, or else a blank."""
    kinds = set(map(unicodedata.bidirectional, text))
    if kinds & {"L", "R", "AL"}:
        return "lr"[is_rtl(text)]
    return "n" if kinds & {"EN", "AN"} else " "


def isolate(text: str) -> str:
    """A part of a longer text, whose direction must not change that of its neighbours."""
    has_rtl = any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in text)
    return f"\u2068{text}\u2069" if has_rtl else text


def _place_ends(boxes: dict[Span, Box], relations: Sequence[Relation], rtl: bool) -> dict[tuple[int, str], float]:
    """Return the x of the "head" and "tail" of each relation. Ends at one box stand side by side, so that arcs nest."""
    far = -FAR if rtl else FAR
    ends = defaultdict(list)
    for number, (head, tail, *_) in enumerate(relations):
        for here, there, kind in ((boxes[head], boxes[tail], "head"), (boxes[tail], boxes[head], "tail")):
            distance = there.middle - here.middle + far * (there.line - here.line)
            # From left to right: short arcs to the left, long ones to the left, long ones to the right, short ones.
            order = (distance > 0, -distance, number if distance > 0 else -number, kind)
            # Different entities can have the same middle.
            ends[here.line, round(here.middle)].append((order, number, here))
    places = {}
    for at_box in ends.values():
        box = at_box[0][2]
        step = min(SLOT, (box.right - box.left) / (len(at_box) + 1))
        for i, (order, number, _) in enumerate(sorted(at_box, key=lambda end: end[0])):
            places[number, order[-1]] = box.middle + step * (i - (len(at_box) - 1) / 2)
    return places


def _make_arcs(boxes: dict[Span, Box], relations: Sequence[Relation], width: float, rtl: bool) -> list[Arc]:
    """Make one arc for a relation within a line, and two arcs with an end at the margin for one between lines."""
    places = _place_ends(boxes, relations, rtl)
    arcs = []
    for number, relation in enumerate(relations):
        label, head, tail = isolate(relation.label), places[number, "head"], places[number, "tail"]
        head_box, tail_box = boxes[relation.head], boxes[relation.tail]
        if head_box.line == tail_box.line:
            arcs.append(Arc(relation, head_box.line, head, tail, label, (head + tail) / 2, head_box, tail_box))
            continue
        spans = (relation.head, relation.tail)
        names = [isolate(shorten(" ".join(span.text.split()), PARTNER, ARC_SIZE)) for span in spans]
        if (head_box.line < tail_box.line) != rtl:
            labels, out, back = (f"{label} → {names[1]}", f"{names[0]} → {label}"), width - EDGE, EDGE
        else:
            labels, out, back = (f"{names[1]} ← {label}", f"{label} ← {names[0]}"), EDGE, width - EDGE
        arcs.append(Arc(relation, head_box.line, head, out, labels[0], out, head_box, None))
        arcs.append(Arc(relation, tail_box.line, back, tail, labels[1], back, None, tail_box))
    for arc in arcs:
        arc.label = shorten(arc.label, width - 2 * EDGE, ARC_SIZE)
        half = text_width(arc.label, ARC_SIZE) / 2
        arc.middle = min(max(arc.middle, EDGE + half), width - EDGE - half)
        arc.left = min(arc.head, arc.tail, arc.middle - half) - 4
        arc.right = max(arc.head, arc.tail, arc.middle + half) + 4
    return arcs


def _set_rows(items: Sequence[Box] | Sequence[Arc]) -> None:
    """Give each item, in this order, the lowest row of its line where it overlaps no other."""
    taken: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for item in items:
        while any(item.left < right and left < item.right for left, right in taken[item.line, item.row]):
            item.row += 1
        taken[item.line, item.row].append((item.left, item.right))


def text_width(text: str, size: float) -> float:
    """Estimate the width of a text in pixels. size: of the font, in pixels."""
    return size * sum(_widths(text))


def shorten(text: str, most: float, size: float) -> str:
    """Cut a text to `most` pixels and add an ellipsis. Return "" if there is no room for one character."""
    # The tolerance is for rounding errors.
    if text_width(text, size) <= most + 0.01:
        return text
    kept = bisect_right(list(accumulate(_widths(f"…{text}"))), most / size) - 1
    return text[:kept].rstrip() + "…" if kept > 0 else ""


def _widths(text: str) -> Iterator[float]:
    """Yield the width of each character relative to the font size."""
    for before, character in zip(f" {text}", text, strict=False):
        # Accents, control characters, vowels and final consonants of decomposed Hangul, skin tones, and emoji joined to
        # the one before take no room.
        category = unicodedata.category(character)
        joined = before == "\u200d" and category == "So"
        jamo = "\u1160" <= character <= "\u11ff"
        if category in ("Mn", "Me", "Cf", "Cc") or joined or jamo or "\U0001f3fb" <= character <= "\U0001f3ff":
            yield 0.0
        elif unicodedata.east_asian_width(character) in "WF":
            yield 1.0
        else:
            yield WIDTHS.get(unicodedata.normalize("NFD", character)[0], 0.67 if character.isupper() else 0.56)
