"""Draw a document as a picture: its text, its entities as boxes and its relations as arcs."""

from collections.abc import Mapping

from spacy.tokens import Doc, Span

from ..annotation.relations import Relation, get_relations, has_relations
from .layout import lay_out
from .svg import clean, draw, span_caption, tag

CELL = "padding:.2em .8em .2em 0;text-align:start;border-bottom:1px solid #8888;overflow-wrap:anywhere"
PAGE = """<!DOCTYPE html>
<html lang="en" style="color-scheme: light dark">
<head><meta charset="utf-8"/><meta name="viewport" content="width=device-width"/><title>{title}</title></head>
<body style="max-width: {width}px; margin: 0 auto; padding: 1.5rem; font: 16px/1.5 system-ui, Arial, sans-serif">
{content}
</body>
</html>
"""


def render_relations(
    doc: Doc, *, style: str = "svg", page: bool = False, width: int = 900, colors: Mapping[str, str] | None = None
) -> str:
    """Draw a document with its entities as boxes and its relations as arcs from head (dot) to tail (arrowhead).

    Entities are those of doc.ents and the arguments of doc._.relations. Where entities overlap, the shortest one gets
    the box, the others get bars below the words. A relation between two lines is drawn on both, up to the margin, and
    its label names the argument on the other line. Words and labels that are too long for a line or a box are cut;
    up to 500 characters of their text are shown on hover, as is the score of a relation.
    A text that is mostly in a right-to-left script is drawn from right to left.

    style: "svg" for an svg element, "html" for a div with the svg element and a table of the relations.
    page: whether to return a complete html document.
    width: maximum width of the picture in pixels, at least 200. Short texts make narrower pictures.
    colors: css colors by entity or relation label, such as {"PER": "#1f5fa8"}. Other labels get one of twelve colors,
        the same one in every document unless two labels would share it.
    Returns the markup. It loads no other files.
    Raises ValueError if it is not given a Doc, the style is unknown or the width is below 200, and, like
        doc._.relations, if the boundaries of an argument no longer match the tokens.
    """
    if not isinstance(doc, Doc):
        raise ValueError(
            f"render_relations draws one Doc, not a {type(doc).__name__}; call it for each Doc of a list, and give "
            "span.as_doc(copy_user_data=True) of a Span"
        )
    if style not in ("svg", "html"):
        raise ValueError(f"unknown style {style!r}; choose from 'svg', 'html'")
    if width < 200:
        raise ValueError(f"a width of {width} pixels is too narrow; at least 200 are needed")
    spans, relations = _find_entities(doc)
    known = str(len(relations)) if has_relations(doc) else "not annotated"
    title = f"Entities and relations of a document. Tokens: {len(doc)}, relations: {known}"
    picture = draw(lay_out(doc, spans, relations, width), title, doc.lang_.replace("xx", ""), colors)
    if style == "html":
        picture = f'<div class="ner-arch-relations">\n{picture}\n{_make_table(doc, relations)}\n</div>'
    return PAGE.format(title=clean(title), content=picture, width=width + 60) if page else picture


def _find_entities(doc: Doc) -> tuple[list[Span], list[Relation]]:
    """Return the entities to draw, each once, and the relations with their arguments replaced by these spans."""
    spans = {(span.start, span.end, span.label_): span for span in doc.ents}
    labels = {(span.start, span.end): span.label_ for span in doc.ents}

    def find(span: Span) -> Span:
        # An argument without a label is the entity with the same boundaries, if there is one.
        label = span.label_ or labels.get((span.start, span.end), "")
        return spans.setdefault((span.start, span.end, label), span)

    relations = [
        relation._replace(head=find(relation.head), tail=find(relation.tail)) for relation in get_relations(doc)
    ]
    return list(spans.values()), relations


def _make_table(doc: Doc, relations: list[Relation]) -> str:
    if not relations:
        return "<p>No relations.</p>" if has_relations(doc) else "<p>Relations are not annotated.</p>"
    rows = [tag("tr", *(tag("th", title, style=CELL) for title in ("Head", "Relation", "Tail", "Score")))]
    for relation in relations:
        score = "" if relation.score is None else f"{relation.score:.4g}"
        cells = (span_caption(relation.head), relation.label, span_caption(relation.tail), score)
        rows.append(tag("tr", *(tag("td", clean(cell), dir="auto", style=CELL) for cell in cells)))
    return tag("table", "\n".join(rows), style="border-collapse:collapse")
