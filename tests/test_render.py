"""Pictures of documents: they are valid, complete, and no text is drawn over another text."""

import re
import time
from itertools import combinations
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc, Span
from spacy.vocab import Vocab

from spacy_ner_arch.annotation.relations import Relation
from spacy_ner_arch.render import render_relations
from spacy_ner_arch.render.layout import lay_out, shorten, text_width
from spacy_ner_arch.render.svg import PALETTE, choose_colors

VOCAB = Vocab()
SVG = "{http://www.w3.org/2000/svg}"
WORDS = ["Anna", "Brandt", "met", "Olaf", "Quist", "in", "Tarvik", "."]
# Around parts of a text that are written in their own direction.
ISOLATE, END = "\u2068", "\u2069"
ENTITIES = [(0, 2, "PER"), (3, 5, "PER"), (6, 7, "LOC")]


def make_doc(words=WORDS, entities=ENTITIES, relations=None, spaces=None, ents=True):
    """Make a Doc. relations: (head, tail, label[, score]), head and tail as indices of entities; None sets none."""
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


def titles(picture, name):
    return [element.find(f"{SVG}title").text for element in group(picture, name)]


def text_boxes(picture):
    """Return left, top, right and bottom of each text, and the text."""
    boxes = []
    for name in ("words", "labels", "relations"):
        size = float(group(picture, name).get("font-size"))
        for element in group(picture, name).iter(f"{SVG}text"):
            x, y, width = (float(element.get(key, 0)) for key in ("x", "y", "textLength"))
            boxes.append((x - width / 2, y - 0.72 * size, x + width / 2, y + 0.2 * size, element.text))
    return boxes


def assert_readable(picture):
    """Check that no text is over another text or outside of the picture. Coordinates are rounded to tenths."""
    boxes = text_boxes(picture)
    for one, other in combinations(boxes, 2):
        beside = one[2] <= other[0] + 0.2 or other[2] <= one[0] + 0.2
        assert beside or one[3] <= other[1] + 0.1 or other[3] <= one[1] + 0.1, (one, other)
    width, height = float(picture.get("width")), float(picture.get("height"))
    for left, top, right, bottom, text in boxes:
        assert left >= -0.1 and right <= width + 0.1 and top >= 0 and bottom <= height, text


# Texts of several scripts, with characters that XML does not allow.
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


@settings(max_examples=150)
@given(documents(), st.sampled_from([200, 320, 900]))
def test_any_document_gives_a_valid_picture_with_no_text_over_another(doc, width):
    picture = draw(doc, width=width)
    assert picture.tag == f"{SVG}svg" and picture.get("role") == "img" and picture[0].tag == f"{SVG}title"
    assert float(picture.get("width")) <= width
    assert_readable(picture)
    page = ElementTree.fromstring(render_relations(doc, width=width, style="html", page=True))
    assert len(list(page.iter("tr"))) == (1 + len(doc._.relations) if doc._.relations else 0)


@settings(max_examples=60)
@given(documents(), st.sampled_from([200, 900]))
def test_arcs_and_boxes_of_a_row_do_not_overlap(doc, width):
    spans = list({span: None for relation in doc._.relations for span in (relation.head, relation.tail)})
    layout = lay_out(doc, spans, doc._.relations, width)
    for items in (layout.boxes, layout.arcs):
        for one, other in combinations(items, 2):
            if (one.line, one.row) == (other.line, other.row):
                assert one.right <= other.left or other.right <= one.left
    for relation in doc._.relations:
        arcs = [arc for arc in layout.arcs if arc.relation == relation]
        assert [arc.head_box.span for arc in arcs if arc.head_box] == [relation.head]
        assert [arc.tail_box.span for arc in arcs if arc.tail_box] == [relation.tail]
        assert len({arc.line for arc in arcs}) == len(arcs) <= 2


def test_everything_is_there():
    picture = draw(make_doc(relations=[(0, 2, "lives_in", 0.875), (0, 1, "knows")]))
    assert texts(picture, "words") == WORDS
    assert texts(picture, "labels") == ["PER", "PER", "LOC"]
    assert titles(picture, "entities") == ["Anna Brandt (PER)", "Olaf Quist (PER)", "Tarvik (LOC)"]
    # The longer arc is drawn first and is above the other one.
    assert texts(picture, "relations") == ["lives_in", "knows"]
    assert titles(picture, "relations") == [
        "Anna Brandt (PER) → lives_in → Tarvik (LOC), score 0.875",
        "Anna Brandt (PER) → knows → Olaf Quist (PER)",
    ]
    long, short = (float(text.get("y")) for text in group(picture, "relations").iter(f"{SVG}text"))
    assert long < short
    # A dot is at the head, an arrowhead at the tail.
    boxes = [
        tuple(float(box.get(key)) for key in ("x", "width")) for box in group(picture, "entities").iter(f"{SVG}rect")
    ]
    for arc, head, tail in zip(group(picture, "relations"), (0, 0), (2, 1), strict=True):
        arrow = re.match("M([0-9.]+)", arc.findall(f"{SVG}path")[1].get("d")).group(1)
        for (left, width), x in ((boxes[head], arc.find(f"{SVG}circle").get("cx")), (boxes[tail], arrow)):
            assert left < float(x) < left + width


def test_arguments_outside_of_the_entities_are_drawn_once():
    doc = make_doc(relations=[(0, 2, "lives_in")], ents=False)
    assert texts(draw(doc), "labels") == ["PER", "LOC"]
    doc.ents = [Span(doc, 0, 2, "PER")]
    assert texts(draw(doc), "labels") == ["PER", "LOC"]
    # An argument without a label is the entity with the same boundaries.
    doc._.relations = [(doc[0:2], doc[6:7], "lives_in")]
    assert titles(draw(doc), "entities") == ["Anna Brandt (PER)", "Tarvik"]


def test_relations_of_a_pair_are_at_different_heights():
    picture = draw(
        make_doc(relations=[(0, 1, "spouse"), (1, 0, "spouse"), (0, 1, "knows"), (1, 0, "knows"), (0, 0, "x")])
    )
    assert len({top for _, top, _, _, text in text_boxes(picture) if text in ("spouse", "knows")}) == 4
    assert_readable(picture)


def test_overlapping_entities_are_bars_below_the_shortest_one():
    words = ["University", "of", "New", "York", "hired", "Anna"]
    entities = [(0, 4, "ORG"), (2, 4, "LOC"), (2, 4, "GPE"), (5, 6, "PER")]
    picture = draw(make_doc(words, entities, [(1, 0, "r"), (2, 3, "s")], ents=False))
    shapes = {}
    for entity in group(picture, "entities"):
        rect = entity.find(f"{SVG}rect")
        label = re.search(r"\((.*)\)", entity.find(f"{SVG}title").text).group(1)
        shapes[label] = [float(rect.get(key)) for key in ("x", "y", "width", "height")]
    outer, middle, inner = shapes["ORG"], shapes["LOC"], shapes["GPE"]
    assert inner[3] == shapes["PER"][3] > middle[3] == outer[3]
    assert inner[1] + inner[3] < middle[1] < outer[1]
    assert inner[0] == middle[0] > outer[0] and outer[2] > middle[2]
    # Arcs end at bars, too.
    feet = [float(dot.get("cy")) for dot in group(picture, "relations").iter(f"{SVG}circle")]
    assert sorted(feet) == [inner[1], middle[1]]


def test_long_text_is_wrapped_and_arcs_between_lines_name_both_arguments():
    words = ["Anna", *["word"] * 58, "Tarvik"]
    doc = make_doc(words, [(0, 1, "PER"), (59, 60, "LOC")], [(0, 1, "lives_in"), (1, 0, "home_of")])
    picture = draw(doc, width=300)
    assert len({element.get("y") for element in group(picture, "words")}) > 5
    assert float(picture.get("width")) == 300
    assert sorted(texts(picture, "relations")) == sorted(
        ["lives_in → Tarvik", "Anna → lives_in", "home_of ← Tarvik", "Anna ← home_of"]
    )
    assert_readable(picture)


def test_the_text_on_hover_is_bounded():
    """Each entity has it on each line: many long entities made pictures of 80 MB."""
    entities = [(0, 2000 - i, "X" * 3000) for i in range(20)]
    relations = [(0, i, "R" * 3000) for i in range(1, 20)]
    doc = make_doc(["Anna"] * 2000, entities, relations, ents=False)
    picture = draw(doc)
    shown = [element.text for element in picture.iter(f"{SVG}title")]
    assert len(shown) > 100 and max(map(len, shown)) < 3 * 1010
    assert any(text.startswith("Anna Anna") and text.endswith("… (" + "X" * 499 + "…)") for text in shown)


def test_long_words_and_labels_are_cut_and_complete_on_hover():
    word, label = "x" * 200, "L" * 200
    picture = draw(make_doc([word, "b"], [(0, 1, label), (1, 2, "B")], [(0, 1, label)]), width=300)
    for name, full in (("words", word), ("labels", label)):
        element = next(group(picture, name).iter(f"{SVG}text"))
        assert element.text[-1] == "…" and full.startswith(element.text[:-1]) and len(element.text) > 10
        assert element.find(f"{SVG}title").text == full
    assert all(label in title for title in titles(picture, "relations"))
    assert_readable(picture)


def test_line_breaks_of_the_text_end_lines():
    doc = make_doc(["one", "\n\n", "two", "\n", "three"], [], spaces=[False] * 5)
    rows = [element.get("y") for element in group(draw(doc), "words")]
    assert len(rows) == len(set(rows)) == 3


def test_a_line_neither_starts_with_a_comma_nor_breaks_an_entity():
    words = ["wordword", ","] * 40
    picture = draw(make_doc(words, [(8, 11, "X"), (30, 33, "X")], spaces=[False, True] * 40), width=250)
    leftmost = {}
    for element in group(picture, "words"):
        leftmost.setdefault(element.get("y"), element.text)
    assert len(leftmost) > 5 and set(leftmost.values()) == {"wordword"}
    assert len(group(picture, "labels")) == 2


def test_text_is_escaped():
    nasty = "<script>alert('&\")</script>"
    doc = make_doc([nasty, "b"], [(0, 1, nasty), (1, 2, "B")], [(0, 1, nasty, 0.5)])
    for style in ("svg", "html"):
        for page in (False, True):
            text = render_relations(doc, style=style, page=page, colors={nasty: '"><script>'})
            assert "<script" not in text
            ElementTree.fromstring(text)
    assert texts(draw(doc), "words") == [nasty, "b"]


def test_nothing_is_loaded_or_run():
    text = render_relations(make_doc(relations=[(0, 1, "r")]), style="html", page=True)
    assert set(re.findall(r'https?://[^"\s]+', text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\bon\w+=|<script|<link|@import|url\(|\bid=", text)


@pytest.mark.parametrize(
    "words, entities, relations, expected",
    [
        (WORDS, ENTITIES, None, "Relations are not annotated."),
        (WORDS, ENTITIES, [], "No relations."),
        ([], [], [], "No relations."),
    ],
)
def test_without_relations_or_tokens(words, entities, relations, expected):
    doc = make_doc(words, entities, relations)
    picture, html = draw(doc), draw(doc, style="html")
    assert len(texts(picture, "labels")) == len(entities) and not len(group(picture, "relations"))
    assert float(picture.get("height")) > 0
    assert html.tag == "div" and html.find("p").text == expected and html.find("table") is None


def test_table_of_relations():
    html = draw(make_doc(relations=[(0, 2, "lives_in", 1 / 3), (1, 0, "knows")]), style="html")
    assert [[cell.text for cell in row] for row in html.iter("tr")] == [
        ["Head", "Relation", "Tail", "Score"],
        ["Anna Brandt (PER)", "lives_in", "Tarvik (LOC)", "0.3333"],
        ["Olaf Quist (PER)", "knows", "Anna Brandt (PER)", None],
    ]


def test_right_to_left_text_runs_from_right_to_left():
    words = ["דוד", "כהן", "גר", "בעיר", "עכו"]
    picture = draw(make_doc(words, [(0, 2, "PER"), (4, 5, "LOC")], [(0, 1, "lives_in")]))
    places = [float(element.get("x")) for element in group(picture, "words")]
    assert places == sorted(places, reverse=True) and texts(picture, "words") == words
    assert_readable(picture)
    # The arrow points along the arc, which leaves at the left margin and continues from the right one.
    words[2:3] = ["גר"] * 40
    doc = make_doc(words, [(0, 2, "PER"), (43, 44, "LOC")], [(0, 1, "lives_in")])
    assert sorted(texts(draw(doc, width=300), "relations")) == [
        f"lives_in ← {ISOLATE}דוד כהן{END}",
        f"{ISOLATE}עכו{END} ← lives_in",
    ]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        # Names of the other direction run in their own one, over numbers between their words.
        (["התגורר", "בין", "N", "Y", "4", "C", "7", "שמה"], ["שמה", "N", "Y", "4", "C", "7", "בין", "התגורר"]),
        (["Olaf", "met", "בן", "7", "דוד", "8", "."], ["Olaf", "met", "8", "דוד", "7", "בן", "."]),
        (["12", "בן", "דוד", "met", "me", "too", "."], ["12", "דוד", "בן", "met", "me", "too", "."]),
    ],
)
def test_names_of_the_other_direction_of_writing(words, shown):
    start = 2
    picture = draw(make_doc(words, [(start, start + 2, "PER")]))
    at = {element.text: float(element.get("x")) for element in group(picture, "words")}
    assert sorted(at, key=at.get) == shown
    assert_readable(picture)


def test_names_and_labels_do_not_change_the_direction_of_their_neighbours():
    doc = make_doc(["דוד", "met", "Olaf", "in", "Tarvik"], [(0, 1, "שם"), (2, 3, "PER")], [(0, 1, "פגש", 0.5)])
    names = [f"{ISOLATE}{text}{END}" for text in ("דוד (שם)", "פגש")]
    assert titles(draw(doc), "relations") == [f"{names[0]} → {names[1]} → Olaf (PER), score 0.5"]


def test_long_documents_take_linear_time():
    words = [f"word{i}" for i in range(10_000)]
    entities = [(i, i + 2, "PER") for i in range(0, 9_990, 5)]
    relations = [(i, (i + step) % len(entities), "knows") for i in range(len(entities)) for step in (1, 2, 500)]
    doc = make_doc(words, entities, relations)
    start = time.process_time()
    text = render_relations(doc, style="html")
    # About a second on an idle machine.
    assert time.process_time() - start < 15
    assert len(ElementTree.fromstring(text).findall(".//tr")) == len(relations) + 1


def test_wrong_arguments():
    for wrong, kind in (([make_doc()] * 2, "list"), (make_doc()[:2], "Span")):
        with pytest.raises(ValueError, match=f"draws one Doc, not a {kind}; call it for each"):
            render_relations(wrong)
    with pytest.raises(ValueError, match="'pdf'; choose from 'svg', 'html'"):
        render_relations(make_doc(), style="pdf")
    with pytest.raises(ValueError, match="too narrow; at least 200"):
        render_relations(make_doc(), width=50)


def test_colors():
    labels = ["PER", "ORG", "LOC", "MISC", "GPE", "DATE"]
    together = choose_colors(labels)
    assert all(choose_colors([label])[label] == color for label, color in together.items())
    many = [f"label {i}" for i in range(len(PALETTE))]
    assert len(set(choose_colors(many).values())) == len(PALETTE)
    assert len(choose_colors([*many, "one more"])) == len(PALETTE) + 1
    assert choose_colors(labels, {"PER": "navy"}) == {**together, "PER": "navy"}
    text = render_relations(make_doc(relations=[(0, 1, "knows")]), colors={"PER": "navy", "knows": "#012345"})
    assert text.count('stroke="navy"') == 2 and 'stroke="#012345"' in text and 'fill="#012345"' in text


@pytest.mark.parametrize("color", PALETTE)
def test_colors_are_readable_on_white(color):
    """WCAG 2 asks for a contrast of 4.5 for small text."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    assert 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05) >= 4.5


@given(st.text(min_size=1, max_size=40), st.integers(20, 80))
def test_shortened_texts_fit(text, most):
    short = shorten(text, most, 10)
    assert text_width(short, 10) <= most + 0.01
    assert short == text or (short.endswith("…") and text.startswith(short[:-1]))


def test_widths():
    assert text_width("北京", 10) == 20
    assert text_width("e\u0301", 10) == text_width("é", 10) == text_width("e", 10)
    assert text_width("👩‍👩‍👧", 10) == text_width("👍🏽", 10) == text_width("👩", 10) == 10
    assert text_width("한", 10) == text_width("\u1112\u1161\u11ab", 10) == 10
    assert text_width("क्\u200dष", 10) == text_width("क्ष", 10) > text_width("क", 10)
    assert text_width("W", 10) > text_width("w", 10) > text_width("i", 10) > text_width("\u200b", 10) == 0
