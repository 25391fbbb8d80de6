"""Colours of labels."""

import zlib
from collections.abc import Iterable, Mapping

# Each can be read on white, as a text too, and differs from the others also where it is mixed with much white.
PALETTE = (
    "#7c4a21",  # brown
    "#1f5fa8",  # blue
    "#be185d",  # pink
    "#0f766e",  # teal
    "#475569",  # slate
    "#2c7a4b",  # green
    "#a21caf",  # magenta
    "#6b6a00",  # olive
    "#7b3fb5",  # violet
    "#b4530a",  # orange
    "#4338ca",  # indigo
    "#c0272d",  # red
)
# With it, the labels of CoNLL-2003, CoNLL-2004 and SciERC and the usual ones of OntoNotes fall on different colours.
SALT = 57577


def choose_colours(labels: Iterable[str], chosen: Mapping[str, str] | None = None) -> dict[str, str]:
    """A colour for each label: the same in every document, unless two labels of one document would share it.

    chosen: colours by label, that are taken as they are.
    """
    colours = dict(chosen or {})
    free = list(PALETTE)
    for label in sorted(set(labels) - set(colours)):
        wanted = zlib.crc32(label.encode(), SALT) % len(PALETTE)
        # More labels than colours: from the beginning again.
        free = free or list(PALETTE)
        colour = min(free, key=lambda colour: (PALETTE.index(colour) - wanted) % len(PALETTE))
        free.remove(colour)
        colours[label] = colour
    return colours
