"""How wide a text will be, estimated: a picture is made where no font can be measured."""

import unicodedata
from collections.abc import Iterator
from functools import lru_cache

# Widths in Arial, which Helvetica and Liberation Sans share, in hundredths of the font size.
WIDTHS = {
    character: width
    for width, characters in {
        19: "'|",
        22: "ijl‘’",
        28: " !,./:;I[]\\ft",
        30: "יוןזال",
        33: '()-`r"“”{}*',
        50: "ckszvxyJ",
        61: "FTZ",
        67: "ABEKPSVXY&",
        72: "wCDHNRU",
        78: "GOQ",
        84: "mM",
        90: "%",
        95: "W",
        100: "@—…",
    }.items()
    for character in characters
}
USUAL, WIDE, BOLD = 56, 100, 1.08
JOINER = "\u200d"
ELLIPSIS = "…"


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Width of a text in pixels. size: of the font, in pixels."""
    return sum(map(_hundredths, _visible(text))) / 100 * size * (BOLD if bold else 1)


def shorten(text: str, most: float, size: float, bold: bool = False) -> str:
    """A text cut to a width in pixels, with an ellipsis if anything was cut; one character is left in any case."""
    # Not for what is rounded.
    if text_width(text, size, bold) <= most + 0.01:
        return text
    first = next(split(text, most - text_width(ELLIPSIS, size, bold), size * (BOLD if bold else 1)))
    return first.rstrip() + ELLIPSIS


def split(text: str, most: float, size: float) -> Iterator[str]:
    """A text in pieces of at most a width in pixels, but never an accent apart from its letter."""
    start, width = 0, 0.0
    for i, character in enumerate(text):
        own = _hundredths(character) / 100 * size
        # Some accents take room, and still stay.
        joined = text[i - 1 : i] == JOINER or unicodedata.category(character).startswith("M")
        if i > start and own and width + own > most and not joined:
            yield text[start:i]
            start, width = i, 0.0
        width += own
    yield text[start:]


def is_right_to_left(text: str) -> bool:
    """Tell whether most letters of a text belong to scripts written from right to left."""
    # Most texts are told at once, without a look at each character.
    if text.isascii():
        return False
    directions = [unicodedata.bidirectional(character) for character in text]
    right = directions.count("R") + directions.count("AL")
    return right > directions.count("L")


def _visible(text: str) -> Iterator[str]:
    """The characters that take room: emoji behind a joiner melt into the one before."""
    before = ""
    for character in text:
        if before != JOINER:
            yield character
        before = character


@lru_cache(maxsize=4096)
def _hundredths(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf", "Cc") or "\U0001f3fb" <= character <= "\U0001f3ff":
        return 0
    if unicodedata.east_asian_width(character) in "WF":
        return WIDE
    # An accented letter is as wide as its letter; a syllable of Hangul is wide, and was told above.
    letter = unicodedata.normalize("NFD", character)[0]
    return WIDTHS.get(letter, 67 if letter.isupper() and not letter.isascii() else USUAL)
