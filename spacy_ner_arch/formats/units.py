"""Units in which a file counts the characters of a text.

| unit | counts | used by |
|---|---|---|
| characters | code points, as Python does | brat, Prodigy, spaCy, newer versions of Label Studio |
| utf-16 | code units of UTF-16, as JavaScript does: two for a character such as an emoji | doccano, Argilla |
| graphemes | what a reader sees as one character, of one or more code points | doccano, if its project says so |
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from itertools import accumulate
from typing import TypeVar

from ..annotation.describe import quote
from ..annotation.tags import LabelledSpan

T = TypeVar("T")
# Offsets in code points by offsets in units.
Places = dict[int, int] | range

UNCHECKED = "entities behind a character beyond U+FFFF, read as characters"
UNITS = ("characters", "utf-16", "graphemes")
# A flag is two regional indicators. The time of \X alone is quadratic in the length of a run of them.
GRAPHEME = r"\p{GCB=RI}{2}[\p{GCB=EX}\p{GCB=ZWJ}\p{GCB=SM}]*|\X"


def check_unit(unit: str) -> str:
    """Return the unit. Raise ValueError if it is not in UNITS."""
    if unit not in UNITS:
        raise ValueError(f"unit is {unit!r}; it must be one of {', '.join(UNITS)}")
    return unit


def unit_places(text: str, unit: str) -> list[tuple[int, int]]:
    """Offsets, in units and in code points, of the start of each character of the unit and of the end of the text.

    unit: utf-16 or graphemes.
    """
    if unit == "graphemes":
        import regex  # transformers needs it, too

        return list(enumerate([0, *(match.end() for match in regex.finditer(GRAPHEME, text))]))
    sizes = (1 + (character > "\uffff") for character in text)
    return list(zip(accumulate(sizes, initial=0), range(len(text) + 1), strict=True))


def to_characters(text: str, spans: Iterable[LabelledSpan], unit: str) -> list[LabelledSpan]:
    """Convert spans that a file counts in a unit to spans in code points.

    Raises ValueError for a span that is empty, outside of the text, or has a bound within a character.
    """
    return convert_spans(spans, find_places(text, unit), unit)


def find_places(text: str, unit: str) -> Places:
    """The offset in code points of each offset in units at which a character of the unit begins or the text ends."""
    return range(len(text) + 1) if check_unit(unit) == "characters" else dict(unit_places(text, unit))


def convert_spans(spans: Iterable[LabelledSpan], places: Places, unit: str) -> list[LabelledSpan]:
    """Convert spans, see `to_characters`. places: those of the text, see `find_places`."""
    converted = []
    for start, end, label in spans:
        if not (start < end and start in places and end in places):
            size = next(reversed(places))  # `max` would read all places
            fault = f"is empty or outside of the {size} characters"
            if unit != "characters":
                fault = f"has a bound within a character, is empty, or is outside of the {size} units ({unit})"
            raise ValueError(f"the span {[start, end, label]} {fault} of the text")
        converted.append((places[start], places[end], label))
    return converted


def is_wide(text: str) -> bool:
    """Whether a text has characters of two UTF-16 code units."""
    return not text.isascii() and max(text) > "\uffff"


def other_readings(text: str, spans: Sequence[LabelledSpan]) -> list[str]:
    """Describe the spans, in characters, that are elsewhere in the text if they count UTF-16 code units.

    Returns nothing if not all spans fit the text in that unit.
    """
    if not is_wide(text):
        return []
    with suppress(ValueError):
        return [
            f"{quote(text[start:end])} {label}; in utf-16, it would be {quote(text[first:last])}"
            for (start, end, label), (first, last, _) in zip(spans, to_characters(text, spans, "utf-16"), strict=True)
            if (start, end) != (first, last)
        ]
    return []


def place_in_unit(place: Callable[[str], T], unit: str) -> T:
    """Place spans in a text.

    place: function of a unit, which raises ValueError if the spans do not fit the text in it.
    Raises this error. It names another unit in which the spans fit, if there is one.
    """
    try:
        return place(unit)
    except ValueError as error:
        raise ValueError(f"{error}{other_unit(place, [unit])}") from error


def fits(place: Callable[[str], object], unit: str) -> bool:
    """Whether spans fit the text in a unit. place: see `place_in_unit`."""
    try:
        place(unit)
    except ValueError:
        return False
    return True


def other_unit(place: Callable[[str], object], tried: Collection[str]) -> str:
    """The end of a message about spans that fit in none of the tried units; "" if they fit in no other."""
    for unit in UNITS:
        if unit not in tried and fits(place, unit):
            return f"; they fit in {unit}: give --unit {unit} if start and end count that"
    return ""
