"""Pictures of documents: they are valid, nothing in them is drawn over what can be read, and all of it is there."""

import re
import time
import unicodedata
from itertools import combinations
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc, Span
from spacy.vocab import Vocab

from spacy_ner_arch.annotation.relations import Relation
from spacy_ner_arch.render import render_relations
from spacy_ner_arch.render.arcs import Link, set_arcs
from spacy_ner_arch.render.colours import PALETTE, choose_colours
from spacy_ner_arch.render.lines import Entity, set_lines
from spacy_ner_arch.render.measure import is_right_to_left, shorten, split, text_width
from spacy_ner_arch.render.packing import pack

VOCAB = Vocab()
SVG = "{http://www.w3.org/2000/svg}"
WORDS = ["Anna", "Brandt", "met", "Olaf", "Quist", "in", "Tarvik", "."]
ENTITIES = [(0, 2, "PER"), (3, 5, "PER"), (6, 7, "LOC")]


def make_doc(words=WORDS, entities=ENTITIES, relations=None, spaces=None, ents=True):
    """relations: (head, tail, label[, score]), counting the entities; None sets none. ents: whether to set doc.ents."""
    doc = Doc(VOCAB, words=words, spaces=spaces)
    spans = [Span(doc, *entity) for entity in entities]
    if ents:
        doc.ents = spans
    if relations is not None:
        doc._.relations = [Relation(spans[head], spans[tail], *rest) for head, tail, *rest in relations]
    return doc


def draw(doc, **options):
    return ElementTree.fromstring(render_relations(doc, **options))


def group(picture, name):
    return next(element for element in picture.iter(f"{SVG}g") if element.get("class") == f"ner-arch-{name}")


def texts(picture, name):
    return [element.text for element in group(picture, name).iter(f"{SVG}text")]


def text_boxes(picture):
    """Left, top, right and bottom of each text, and the text."""
    boxes = []
    for name in ("words", "labels", "relations"):
        size = float(group(picture, name).get("font-size"))
        for element in group(picture, name).iter(f"{SVG}text"):
            x, y, width = (float(element.get(key, 0)) for key in ("x", "y", "textLength"))
            boxes.append((x - width / 2, y - 0.72 * size, x + width / 2, y + 0.2 * size, element.text))
    return boxes


def assert_apart(boxes):
    # Coordinates are rounded to tenths.
    for one, other in combinations(boxes, 2):
        assert (
            one[2] <= other[0] + 0.2 or other[2] <= one[0] + 0.2 or one[3] <= other[1] + 0.1 or other[3] <= one[1] + 0.1
        ), (one, other)


def assert_inside(picture):
    """Nothing is cut off at the edge."""
    width, height = float(picture.get("width")), float(picture.get("height"))
    for left, top, right, bottom, text in text_boxes(picture):
        assert left >= -0.1 and right <= width + 0.1 and top >= 0 and bottom <= height, text


def arc_heights(picture):
    """Of each arc its title, and the height at which it runs."""
    heights = []
    for arc in group(picture, "arcs"):
        path = arc.find(f"{SVG}path").get("d")
        heights.append((arc.find(f"{SVG}title").text, float(re.search(r"Q[-\d.]+ ([-\d.]+) ", path).group(1))))
    return heights


# Any text, of several scripts and of what XML does not allow.
TOKENS = st.text(min_size=1, max_size=12) | st.sampled_from(
    [*WORDS, "<b>&\"'", "北京", "שלום", "مدينة", "é́", "\n", "  ", "x" * 90, "\x00", "\u200b", "👩‍👩‍👧"]
)
LABELS = st.sampled_from(["PER", "LOC", "an_entity_with_a_very_long_label", "<&>", "", "人"])


@st.composite
def documents(draw_from):
    words = draw_from(st.lists(TOKENS.filter(lambda text: not re.search("[\ud800-\udfff]", text)), max_size=30))
    doc = Doc(VOCAB, words=words, spaces=[draw_from(st.booleans()) for _ in words])
    if not words:
        return doc
    spans = []
    for _ in range(draw_from(st.integers(0, 8))):
        start = draw_from(st.integers(0, len(words) - 1))
        end = draw_from(st.integers(start + 1, min(len(words), start + 5)))
        spans.append(Span(doc, start, end, label=draw_from(LABELS)))
    labels = st.sampled_from(["lives_in", "r", "a_relation:with_a_long_name", "<&>", "أخت"])
    scores = st.none() | st.floats(0, 1)
    pairs = st.tuples(st.sampled_from(spans), st.sampled_from(spans), labels, scores) if spans else st.nothing()
    doc._.relations = draw_from(st.lists(pairs, max_size=10)) if spans else []
    return doc


@settings(max_examples=150, deadline=None)
@given(documents(), st.sampled_from([200, 320, 900]))
def test_any_document_gives_a_valid_picture_with_no_text_over_another(doc, width):
    picture = draw(doc, width=width)
    assert picture.tag == f"{SVG}svg" and picture.get("role") == "img" and picture[0].tag == f"{SVG}title"
    assert float(picture.get("width")) <= width
    assert_apart(text_boxes(picture))
    assert_inside(picture)
    page = ElementTree.fromstring(render_relations(doc, width=width, style="html", page=True))
    assert len(list(page.iter("tr"))) == (1 + len(doc._.relations) if doc._.relations else 0)


@settings(max_examples=60, deadline=None)
@given(documents(), st.sampled_from([200, 900]))
def test_arcs_of_a_lane_do_not_overlap(doc, width):
    spans = list({(s.start, s.end, s.label_): None for r in doc._.relations for s in (r.head, r.tail)})
    lines = set_lines(doc, [Entity(*span) for span in spans], width)
    number = {span: i for i, span in enumerate(spans)}
    links = [
        Link(*(number[s.start, s.end, s.label_] for s in (r.head, r.tail)), r.label, ("a", "b"))
        for r in doc._.relations
    ]
    arcs = set_arcs(lines, links, width)
    for one, other in combinations(arcs, 2):
        if (one.line, one.lane) == (other.line, other.lane):
            assert one.right.x < other.left.x or other.right.x < one.left.x
    for link, number in zip(links, range(len(links)), strict=True):
        ends = [end for arc in arcs if arc.relation == number for end in (arc.left, arc.right)]
        assert sum(end.level is not None and end.is_tail for end in ends) == 1
        assert sum(end.level is not None and not end.is_tail for end in ends) == 1
        same = lines.anchors[link.head].line == lines.anchors[link.tail].line
        assert len(ends) == (2 if same else 4)


def test_everything_is_there():
    doc = make_doc(relations=[(0, 2, "lives_in", 0.875), (0, 1, "knows")])
    picture = draw(doc)
    assert texts(picture, "words") == WORDS
    assert sorted(texts(picture, "labels")) == ["LOC", "PER", "PER"]
    assert texts(picture, "relations") == ["lives_in", "knows"]
    titles = [title for title, _ in arc_heights(picture)]
    assert titles == [
        "Anna Brandt (PER) → lives_in → Tarvik (LOC), score 0.875",
        "Anna Brandt (PER) → knows → Olaf Quist (PER)",
    ]
    (long, upper), (short, lower) = arc_heights(picture)
    assert upper < lower, "the longer one runs above"
    assert len(re.findall("<circle", render_relations(doc))) == 2, "a dot at each head"


def test_arguments_outside_of_the_entities_are_drawn_once():
    doc = make_doc(relations=[(0, 2, "lives_in")], ents=False)
    assert sorted(texts(draw(doc), "labels")) == ["LOC", "PER"]
    doc.ents = [Span(doc, 0, 2, "PER")]
    assert sorted(texts(draw(doc), "labels")) == ["LOC", "PER"]
    # Without a label, it is the entity there.
    doc._.relations = [(doc[0:2], doc[6:7], "lives_in")]
    assert texts(draw(doc), "labels") == ["PER"]


def test_relations_of_a_pair_run_at_different_heights():
    doc = make_doc(relations=[(0, 1, "spouse"), (1, 0, "spouse"), (0, 1, "knows"), (1, 0, "knows")])
    picture = draw(doc)
    assert len({height for _, height in arc_heights(picture)}) == 4
    assert_apart(text_boxes(picture))


def test_relation_of_an_entity_to_itself():
    picture = draw(make_doc(["I", "x"], [(0, 1, "P")], [(0, 0, "knows_itself")]))
    path = group(picture, "arcs")[0].find(f"{SVG}path").get("d")
    start, end = (
        re.match(r"M([\d.]+) ", path).group(1),
        re.search(r"Q([\d.]+) [\d.]+ [\d.]+ [\d.]+V", path[20:]).group(1),
    )
    assert float(end) - float(start) >= 5
    assert_inside(picture)


def test_nested_entities_lie_in_each_other():
    words = ["University", "of", "New", "York", "hired", "Anna"]
    doc = make_doc(
        words, [(0, 4, "ORG"), (2, 4, "LOC"), (2, 4, "GPE"), (5, 6, "PER")], [(1, 0, "r"), (2, 3, "s")], ents=False
    )
    boxes = {}
    for element in draw(doc).iter(f"{SVG}rect"):
        if element.get("fill-opacity"):
            left, top, width, height = (float(element.get(key)) for key in ("x", "y", "width", "height"))
            boxes[len(boxes)] = (left, top, left + width, top + height)
    outer, middle, inner = (boxes[i] for i in range(3))
    for one, other in ((outer, middle), (middle, inner)):
        assert one[0] < other[0] and one[1] < other[1] and one[2] > other[2] and one[3] > other[3]


def test_long_text_is_wrapped_and_arcs_between_lines_name_both_sides():
    words = ["word"] * 60
    words[0], words[59] = "Anna", "Tarvik"
    doc = make_doc(words, [(0, 1, "PER"), (59, 60, "LOC")], [(0, 1, "lives_in"), (1, 0, "home_of")])
    picture = draw(doc, width=300)
    rows = {element.get("y") for element in group(picture, "words")}
    assert len(rows) > 5 and float(picture.get("width")) == 300
    assert sorted(texts(picture, "relations")) == sorted(
        ["lives_in → Tarvik", "Anna → lives_in", "home_of ← Tarvik", "Anna ← home_of"]
    )
    assert_inside(picture)
    assert_apart(text_boxes(picture))


def test_line_ends_of_the_text_end_lines():
    doc = make_doc(["one", "\n\n", "two", "\n", "three"], [], spaces=[False] * 5)
    rows = [element.get("y") for element in group(draw(doc), "words")]
    assert len(rows) == len(set(rows)) == 3


def test_a_line_neither_begins_with_a_comma_nor_breaks_an_entity():
    words = ["wordword", ","] * 40
    doc = make_doc(words, [(8, 11, "X"), (30, 33, "X")], spaces=[False, True] * 40)
    picture = draw(doc, width=250)
    leftmost = {}
    for element in group(picture, "words"):
        x = float(element.get("x"))
        leftmost[element.get("y")] = min(leftmost.get(element.get("y"), (9e9, "")), (x, element.text))
    assert len(leftmost) > 5 and {text for _, text in leftmost.values()} == {"wordword"}
    assert len(group(picture, "labels")) == 2


def test_text_is_escaped():
    nasty = "<script>alert('&\")</script>"
    doc = make_doc([nasty, "b"], [(0, 1, nasty), (1, 2, "B")], [(0, 1, nasty, 0.5)])
    for style in ("svg", "html"):
        for page in (False, True):
            text = render_relations(doc, style=style, page=page, colors={nasty: '"><script>'})
            assert "<script" not in text
            ElementTree.fromstring(text)
    assert "<script>" in "".join(texts(draw(doc), "words"))


def test_nothing_is_loaded_or_run():
    text = render_relations(make_doc(relations=[(0, 1, "r")]), style="html", page=True)
    assert set(re.findall(r'https?://[^"\s]+', text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\bon\w+=|<script|<link|@import|url\(|\bid=", text)


@pytest.mark.parametrize("relations, words", [(None, "Relations are not annotated."), ([], "No relations.")])
def test_without_relations(relations, words):
    doc = make_doc(relations=relations)
    assert len(texts(draw(doc), "labels")) == 3 and not len(group(draw(doc), "arcs"))
    html = draw(doc, style="html")
    assert html.tag == "div" and html.find("p").text == words and html.find("table") is None


def test_without_tokens():
    picture = draw(make_doc([], [], []))
    assert picture[0].text == "A document without tokens" and float(picture.get("height")) > 0


def test_table_of_relations():
    html = draw(make_doc(relations=[(0, 2, "lives_in", 1 / 3), (1, 0, "knows")]), style="html")
    rows = [[cell.text for cell in row] for row in html.iter("tr")]
    assert rows == [
        ["Head", "Relation", "Tail", "Score"],
        ["Anna Brandt (PER)", "lives_in", "Tarvik (LOC)", "0.3333"],
        ["Olaf Quist (PER)", "knows", "Anna Brandt (PER)", None],
    ]


def test_right_to_left_text_runs_from_right_to_left():
    words = ["דוד", "כהן", "גר", "בעיר", "עכו"]
    doc = make_doc(words, [(0, 2, "PER"), (4, 5, "LOC")], [(0, 1, "lives_in")])
    picture = draw(doc)
    places = [float(element.get("x")) for element in group(picture, "words")]
    assert places == sorted(places, reverse=True) and texts(picture, "words") == words
    assert_inside(picture)
    # On two lines: the arrow points along the arc, out to the left and in from the right.
    words[2:3] = ["גר"] * 40
    doc = make_doc(words, [(0, 2, "PER"), (43, 44, "LOC")], [(0, 1, "lives_in")])
    labels = [re.sub("[\u2066-\u2069]", "", text) for text in texts(draw(doc, width=300), "relations")]
    assert labels == ["עכו ← lives_in", "lives_in ← דוד כהן"]


def test_long_documents_cost_no_more_a_token():
    words = [f"word{i}" for i in range(10_000)]
    entities = [(i, i + 2, "PER") for i in range(0, 9_990, 5)]
    relations = [(i, (i + step) % len(entities), "knows") for i in range(len(entities)) for step in (1, 2, 500)]
    doc = make_doc(words, entities, relations)
    start = time.perf_counter()
    text = render_relations(doc, style="html")
    # A second or so on a machine that has nothing else to do.
    assert time.perf_counter() - start < 15
    assert len(ElementTree.fromstring(text).findall(".//tr")) == len(relations) + 1


def test_wrong_arguments():
    doc = make_doc()
    with pytest.raises(ValueError, match="'pdf'; known are 'svg', 'html'"):
        render_relations(doc, style="pdf")
    with pytest.raises(ValueError, match="too narrow; at least 200"):
        render_relations(doc, width=50)


def test_colours():
    labels = ["PER", "ORG", "LOC", "MISC", "GPE", "DATE"]
    together = choose_colours(labels)
    assert all(choose_colours([label])[label] == colour for label, colour in together.items())
    many = [f"label {i}" for i in range(len(PALETTE))]
    assert len(set(choose_colours(many).values())) == len(PALETTE)
    assert len(choose_colours([*many, "one more"])) == len(PALETTE) + 1
    assert choose_colours(labels, {"PER": "navy"}) == {**together, "PER": "navy"}
    text = render_relations(make_doc(relations=[(0, 1, "knows")]), colors={"PER": "navy", "knows": "#012345"})
    assert text.count('stroke="navy"') == 2 and 'stroke="#012345"' in text and 'fill="#012345"' in text


@pytest.mark.parametrize("colour", PALETTE)
def test_colours_can_be_read_on_white(colour):
    """The contrast that WCAG 2 asks of small text: 4.5 for arcs' labels, and for dark texts on the pale colour."""
    assert contrast(colour, "#ffffff") >= 4.5
    pale = "#" + "".join(f"{round(0.84 * 255 + 0.16 * int(colour[i : i + 2], 16)):02x}" for i in (1, 3, 5))
    assert contrast(pale, "#1d2127") >= 7


def contrast(one, other):
    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)).map(lambda pair: (pair[0], sum(pair))), max_size=12))
def test_packing(intervals):
    rows = pack(intervals)
    assert sorted(set(rows)) == list(range(len(set(rows))))
    for (one, row), (other, other_row) in combinations(zip(intervals, rows, strict=True), 2):
        if one[0] < other[1] and other[0] < one[1]:
            assert row != other_row
        if one != other and one[0] <= other[0] and other[1] <= one[1]:
            assert row > other_row


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40), st.integers(8, 80))
def test_splitting_and_shortening(text, most):
    pieces = list(split(text, most, 15))
    assert "".join(pieces) == text
    assert all(len(piece) == 1 or text_width(piece, 15) <= most + 1e-6 or len(set(piece)) > 1 for piece in pieces)
    assert not any(unicodedata.combining(piece[0]) for piece in pieces[1:])
    short = shorten(text, most, 10)
    assert short == text or short.endswith("…")


def test_widths():
    assert text_width("北京", 10) == 20
    assert text_width("e\u0301", 10) == text_width("é", 10) == text_width("e", 10)
    assert text_width("👩‍👩‍👧", 10) == text_width("👍🏽", 10) == text_width("👩", 10) == 10
    assert text_width("W", 10) > text_width("w", 10) > text_width("i", 10) > text_width("\u200b", 10) == 0
    assert text_width("MM", 10, bold=True) > text_width("MM", 10)


@pytest.mark.parametrize(
    "text, expected",
    [("", False), ("abc", False), ("שלום", True), ("مدينة x", True), ("Anna met דוד", False), ("北京", False)],
)
def test_direction(text, expected):
    assert is_right_to_left(text) is expected
