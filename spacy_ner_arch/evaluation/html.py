"""Templates of the HTML pages, and texts with marked parts."""

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from spacy.tokens import Doc

from .items import Match

# Characters of text shown before and after a place.
MARGIN = 90
# Maximum number of these that are dropped to cut at a space, since some scripts have few spaces.
LONGEST_CUT = 20
# Start, end and CSS classes of a part of a text.
Mark = tuple[int, int, str]


def render(template: str, **values: Any) -> str:
    """Return a page from a template of this folder."""
    environment = Environment(
        loader=PackageLoader("spacy_ner_arch", "evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def language(docs: Iterable[Doc]) -> str:
    """The code of the language of texts, for their markup; "" if it is unknown."""
    return next((doc.lang_ for doc in docs if doc.lang_ != "xx"), "")


def marks(pair: Match) -> Iterator[Mark]:
    """Yield the places of both sides of a match."""
    for side, item in (("gold", pair.gold), ("predicted", pair.predicted)):
        places = () if item is None else item.places
        roles = (" head", " tail") if len(places) == 2 else ("",)
        for (start, end), role in zip(places, roles, strict=False):
            # Places that do not align with the other side have negative offsets.
            yield (start, end, side + role) if start >= 0 else (-1 - start, -1 - end, side + role)


def excerpt(text: str, places: Iterable[Mark]) -> list[tuple[str, str]]:
    """Return the text around some places, cut into pieces with the CSS classes of the places that cover each piece."""
    places = list(places)
    cuts = sorted({0, len(text), *(start for start, _, _ in places), *(end for _, end, _ in places)})
    pieces = []
    for start, end in pairwise(cuts):
        classes = {name for low, high, role in places if low <= start and end <= high for name in role.split()}
        pieces.append((cut_at_spaces(text[start:end], start > 0, end < len(text)), " ".join(sorted(classes))))
    return pieces


def cut_at_spaces(piece: str, keep_start: bool, keep_end: bool) -> str:
    """Cut a long piece of text, at spaces if there are any; keep the ends that other pieces follow."""
    if len(piece) <= MARGIN * (keep_start + keep_end):
        return piece
    start = re.sub(rf"\s+\S{{0,{LONGEST_CUT}}}$", "", piece[:MARGIN]) if keep_start else ""
    end = re.sub(rf"^\S{{0,{LONGEST_CUT}}}\s+", "", piece[-MARGIN:]) if keep_end else ""
    return f"{start} … {end}"
