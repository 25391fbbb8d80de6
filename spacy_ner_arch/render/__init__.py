"""A picture of a document: its text, its entities as boxes and its relations as arcs."""

from collections.abc import Mapping
from string import Template

from spacy.tokens import Doc, Span

from ..annotation.relations import Relation, get_relations, has_relations
from .arcs import ARC_SIZE, Link, set_arcs
from .colours import choose_colours
from .drawing import Captions, clean, draw
from .lines import MARGIN, Entity, set_lines
from .measure import is_right_to_left, text_width

STYLES = ("svg", "html")
NARROWEST = 200
CELL = "padding:.2em .8em .2em 0;text-align:start;border-bottom:1px solid #8888"
# A url must not make the table wider than the page.
NAME = f"{CELL};overflow-wrap:anywhere"

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>$title</title>
<style>
:root { color-scheme: light dark; }
body { margin: 0 auto; padding: 1.5rem; max-width: ${width}px; font: 16px/1.5 system-ui, Arial, sans-serif; }
svg { border-radius: 6px; }
</style>
</head>
<body>
$content
</body>
</html>
""")


def render_relations(
    doc: Doc, *, style: str = "svg", page: bool = False, width: int = 900, colors: Mapping[str, str] | None = None
) -> str:
    """Draw the tokens of a document, its entities as boxes, and above them its relations as arcs from head to tail.

    Entities are those of doc.ents and the arguments of doc._.relations; outer ones enclose inner ones. A relation
    between two lines leaves the one at the margin and comes in on the other, with its label and its other argument on
    both. A score is shown when the pointer rests on a relation. If most letters are of a script that is written from
    right to left, so is the whole picture, token by token.

    style: "svg" for one svg element; "html" for a div with it and a table of the relations, for who cannot see it.
    page: whether to wrap it into a whole html document.
    width: of a line, in pixels, at least 200. A document of one short line makes a narrower picture.
    colors: css colours by the labels of entities and relations, such as {"PER": "#1f5fa8"}. Texts stay dark on them.
        Other labels get one of twelve colours, in all documents the same as far as possible.
    Returns the picture, which needs no other file.
    Raises ValueError for an unknown style, a smaller width, or, as doc._.relations does, if tokens were merged or split
        so that the bounds of an argument are no token bounds any more.
    """
    if style not in STYLES:
        raise ValueError(f"unknown style {style!r}; known are {', '.join(map(repr, STYLES))}")
    if width < NARROWEST:
        raise ValueError(f"a width of {width} pixels is too narrow; at least {NARROWEST} are needed")
    relations = get_relations(doc)
    picture = _draw(doc, relations, float(width), colors)
    if style == "html":
        picture = f'<div class="ner-arch-relations">\n{picture}\n{_describe(doc, relations)}\n</div>'
    if not page:
        return picture
    return PAGE.substitute(title=clean(_title(doc, relations)), content=picture, width=width + 60)


def _draw(doc: Doc, relations: list[Relation], width: float, colors: Mapping[str, str] | None) -> str:
    spans, numbers = _find_entities(doc, relations)
    entities = [Entity(span.start, span.end, span.label_) for span in spans]
    links = []
    for relation, (head, tail) in zip(relations, numbers, strict=True):
        entities[head].arcs += 1
        entities[tail].arcs += 1
        links.append(Link(head, tail, relation.label, (_inline(relation.head), _inline(relation.tail))))
    right_to_left = is_right_to_left(doc.text)
    lines = set_lines(doc, entities, width)
    if len(lines.levels) == 1:
        # Nothing leaves the only line: no more room than it takes, with the labels of its arcs.
        longest = max((text_width(link.label, ARC_SIZE) for link in links), default=0.0)
        width = min(width, max(lines.right + MARGIN, longest + 2 * MARGIN))
    arcs = set_arcs(lines, links, width, right_to_left)
    entity_colours = choose_colours([entity.label for entity in entities], colors)
    relation_colours = choose_colours([relation.label for relation in relations], colors)
    captions = Captions(
        title=_title(doc, relations),
        entities=[_name(span) for span in spans],
        entity_colours=[entity_colours[entity.label] for entity in entities],
        relations=[
            f"{_name(relation.head)} → {relation.label} → {_name(relation.tail)}{_score(relation, ', score ')}"
            for relation in relations
        ],
        relation_colours=[relation_colours[relation.label] for relation in relations],
    )
    language = "" if doc.lang_ == "xx" else doc.lang_
    return draw(lines, arcs, captions, width, language, right_to_left)


def _find_entities(doc: Doc, relations: list[Relation]) -> tuple[list[Span], list[tuple[int, int]]]:
    """The entities to draw, each once, and of each relation the numbers of its head and its tail among them."""
    spans = {(span.start, span.end, span.label_): span for span in doc.ents}
    labels = {(start, end): label for start, end, label in spans}

    def key(span: Span) -> tuple[int, int, str]:
        # An argument without a label is the entity there, if there is one.
        return span.start, span.end, span.label_ or labels.get((span.start, span.end), "")

    for relation in relations:
        for span in (relation.head, relation.tail):
            spans.setdefault(key(span), span)
    order = {name: i for i, name in enumerate(sorted(spans))}
    return [spans[name] for name in order], [(order[key(r.head)], order[key(r.tail)]) for r in relations]


def _inline(span: Span) -> str:
    return " ".join(span.text.split())


def _name(span: Span) -> str:
    return _inline(span) + (f" ({span.label_})" if span.label_ else "")


def _score(relation: Relation, before: str = "") -> str:
    return "" if relation.score is None else f"{before}{relation.score:.4g}"


def _title(doc: Doc, relations: list[Relation]) -> str:
    if not len(doc):
        return "A document without tokens"
    known = str(len(relations)) if has_relations(doc) else "not annotated"
    return f"Entities and relations of a document. Tokens: {len(doc)}, relations: {known}"


def _describe(doc: Doc, relations: list[Relation]) -> str:
    """The relations as a table."""
    if not relations:
        return "<p>No relations.</p>" if has_relations(doc) else "<p>Relations are not annotated.</p>"
    header = "".join(f'<th scope="col" style="{CELL}">{name}</th>' for name in ("Head", "Relation", "Tail", "Score"))
    lines = ['<table style="border-collapse:collapse">', f"<thead><tr>{header}</tr></thead>", "<tbody>"]
    for relation in relations:
        cells = ((_name(relation.head), NAME), (relation.label, CELL), (_name(relation.tail), NAME))
        # Each has a direction of writing of its own.
        row = "".join(f'<td dir="auto" style="{style}">{clean(cell)}</td>' for cell, style in cells)
        row += f'<td style="{CELL}">{_score(relation)}</td>'
        lines.append(f"<tr>{row}</tr>")
    return "\n".join([*lines, "</tbody>", "</table>"])
