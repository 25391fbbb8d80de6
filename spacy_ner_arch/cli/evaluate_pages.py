"""HTML pages of predictions: entities and spans as displaCy draws them, relations as arcs."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from spacy import displacy
from spacy.language import Language
from spacy.tokens import Doc

from ..annotation.layers import assigning
from ..formats.files import write_text
from ..render import PAGE, render_relations
from ..render.svg import clean

WIDTH = 900


def write_pages(nlp: Language, docs: Sequence[Doc], folder: Path) -> list[tuple[Path, str]]:
    """Write one page for each layer of annotation that the components of the pipeline declare that they set.

    The pages are entities.html, spans-KEY.html for each key of doc.spans, and relations.html. Older pages of these
    names are replaced.

    Returns the path of each page and a description of its content.
    """
    written = []
    for name, content, page in make_pages(nlp, docs):
        path = folder / f"{name}.html"
        write_text(path, [page])
        written.append((path, content))
    return written


def make_pages(nlp: Language, docs: Sequence[Doc]) -> Iterator[tuple[str, str, str]]:
    """Name, content and markup of each page."""
    if assigning(nlp, "doc.ents"):
        yield "entities", count("entities", [len(doc.ents) for doc in docs]), draw(docs, "ent")
    if assigning(nlp, "doc.spans"):
        for key in sorted({key for doc in docs for key in doc.spans}):
            number = [len(doc.spans.get(key, ())) for doc in docs]
            # A key may have characters that a file name cannot have.
            yield f"spans-{quote(key, safe='')}", count(f"spans of {key!r}", number), draw(docs, "span", spans_key=key)
    if assigning(nlp, "doc._.relations"):
        pictures = "\n<hr/>\n".join(render_relations(doc, style="html", width=WIDTH) for doc in docs)
        page = PAGE.format(title="Relations", content=pictures, width=WIDTH + 60)
        yield "relations", count("relations", [len(doc._.relations) for doc in docs]), page


def draw(docs: Sequence[Doc], style: str, **options: str) -> str:
    """A page of displaCy, which escapes texts, but not labels, ids of knowledge bases and titles."""
    parse, layer = {"ent": (displacy.parse_ents, "ents"), "span": (displacy.parse_spans, "spans")}[style]
    with warnings.catch_warnings():
        # displaCy warns of each document without annotation.
        warnings.filterwarnings("ignore", message=r"\[W(006|117)\]")
        parsed: Any = [parse(doc, options) for doc in docs]
        for one in parsed:
            one["title"] = clean(str(one["title"] or ""))
            for place in one[layer]:
                place.update(label=clean(place["label"]), kb_id=clean(place["kb_id"]))
        page = displacy.render(parsed, style=style, page=True, jupyter=False, options=options, manual=True)
    # displaCy does not declare the encoding, so a browser would guess it.
    return page.replace("<head>", '<head><meta charset="utf-8"/>', 1)


def count(name: str, numbers: Sequence[int]) -> str:
    return f"{sum(numbers)} {name} in {len(numbers)} documents"
