"""Units in which a file counts the characters of a text.

| unit | counts | used by |
|---|---|---|
| characters | code points, as Python does | brat, Prodigy, spaCy, newer versions of Label Studio |
| utf-16 | code units of UTF-16, as JavaScript does: two for a character such as an emoji | doccano, Argilla |
| graphemes | what a reader sees as one character, of one or more code points | doccano, if its project says so |
"""

from collections.abc import Iterable
from itertools import accumulate

from ..annotation.tags import LabelledSpan

UNITS = ("characters", "utf-16", "graphemes")
# A flag is two regional indicators. The time of \X alone is quadratic in the length of a run of them.
GRAPHEME = r"\p{GCB=RI}{2}[\p{GCB=EX}\p{GCB=ZWJ}\p{GCB=SM}]*|\X"


def check_unit(unit: str) -> str:
    """Return the unit. Raise ValueError if it is not in UNITS."""
    if unit not in UNITS:
        raise ValueError(f"unit is {unit!r}; it must be one of {', '.join(UNITS)}")
    return unit


def unit_places(text: str, unit: str) -> list[tuple[int, int]]:
    """Offsets, in units and in code points, of the start of each character of the unit and of the end of the text."""
    sizes = [(1 + (character > "\uffff"), 1) for character in text]
    if check_unit(unit) == "characters":
        sizes = [(1, 1)] * len(text)
    elif unit == "graphemes":
        import regex  # transformers needs it, too

        sizes = [(1, len(match[0])) for match in regex.finditer(GRAPHEME, text)]
    counts = accumulate((count for count, _ in sizes), initial=0)
    places = accumulate((size for _, size in sizes), initial=0)
    return list(zip(counts, places, strict=True))


def to_characters(text: str, spans: Iterable[LabelledSpan], unit: str) -> list[LabelledSpan]:
    """Convert spans that a file counts in a unit to spans in code points.

    Raises ValueError for a bound that is outside of the text or within a character.
    """
    if check_unit(unit) == "characters":
        return list(spans)
    places = dict(unit_places(text, unit))
    converted = []
    for start, end, label in spans:
        if start not in places or end not in places:
            raise ValueError(
                f"the span {[start, end, label]} has a bound within a character or outside of the {max(places)} units "
                f"({unit}) of the text; --unit names what start and end count"
            )
        converted.append((places[start], places[end], label))
    return converted
