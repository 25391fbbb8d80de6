"""Tag schemes of corpus files: detect the scheme of a file, and decode its tags with repairs.

| scheme | single | first | inside | last | detected by |
|---|---|---|---|---|---|
| IOB1 | I | I | I | I | no end tags; I- starts entities, B- only follows an entity of the same label |
| IOB2 | B | B | I | I | no end tags, and not IOB1 |
| BILUO | U | B | I | L | L- or U- |
| BIOES | S | B | I | E | E- or S- |

O is outside of entities; - means that the token is not annotated.

The entities do not depend on the scheme. An entity starts at B-, U- or S-, and at any I-, L- or E- that cannot continue
the previous token. The scheme only decides which tags count as repairs:

- A file that mixes schemes is read in the scheme of its end tags. The tags of other schemes are repairs.
- A file in which I- starts an entity, and B- stands where IOB1 writes I-, breaks IOB1 and IOB2. It is read as IOB2.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .sentence import LabelledSpan

PREFIXES = "BILUES"
END_TAGS = {"BILUO": "LU", "BIOES": "ES"}

INSIDE_STARTS = "I- that starts an entity"
END_STARTS = "L- or E- that starts an entity"
NOT_CLOSED = "entity without its L- or E-"
FOREIGN_END = "end tag of another scheme"


class Tag(NamedTuple):
    """Prefix and label of a tag. The label of O and - is empty."""

    prefix: str
    label: str


OUTSIDE = Tag("O", "")
MISSING = Tag("-", "")


class Decoded(NamedTuple):
    """Entities, indices of tokens without annotation, and (index of the token, kind) of each repair."""

    spans: list[LabelledSpan]
    missing: list[int]
    repairs: list[tuple[int, str]]


def parse_tag(text: str, prefixes: str = PREFIXES) -> Tag | None:
    """Split a tag; None unless it is O, - or one of the prefixes with a label."""
    if text in ("O", "-"):
        return Tag(text, "")
    prefix, _, label = text.partition("-")
    return Tag(prefix, label) if len(prefix) == 1 and prefix in prefixes and label else None


def tag_remedy(prefixes: str = PREFIXES) -> str:
    """List the readable tags, for error messages."""
    forms = ", ".join(f"{prefix}-LABEL" for prefix in prefixes)
    return f"tags must be O, - (no annotation) or one of {forms}; check the column that is read"


def detect_scheme(sentences: Iterable[Sequence[Tag]]) -> str:
    """Detect the scheme from all tags of a file.

    If both kinds of end tags occur, the more frequent one decides. Without entities the scheme is IOB2.
    """
    used: Counter[str] = Counter()
    inside_starts = False
    breaks_iob1 = False
    for tags in sentences:
        for before, tag in zip([OUTSIDE, *tags], tags, strict=False):
            used[tag.prefix] += 1
            if tag.label != before.label:
                inside_starts |= tag.prefix == "I"
                breaks_iob1 |= tag.prefix == "B"
    biluo, bioes = used["L"] + used["U"], used["E"] + used["S"]
    if biluo or bioes:
        return "BILUO" if biluo >= bioes else "BIOES"
    return "IOB1" if inside_starts and not breaks_iob1 else "IOB2"


def decode(tags: Sequence[Tag], scheme: str) -> Decoded:
    """Decode the tags of one sentence. The scheme decides what counts as a repair, not the entities."""
    decoded = Decoded([], [], [])
    start: int | None = None
    # The additional tag closes an entity at the end of the sentence.
    for i, (prefix, label) in enumerate([*tags, OUTSIDE]):
        continues = start is not None and prefix in "ILE" and label == tags[start].label
        if start is not None and not continues:
            decoded.spans.append((start, i, tags[start].label))
            if scheme in END_TAGS:
                decoded.repairs.append((i - 1, NOT_CLOSED))
            start = None
        if prefix == "-":
            decoded.missing.append(i)
        if not label:
            continue
        if not continues:
            start = i
            if prefix == "I" and scheme != "IOB1":
                decoded.repairs.append((i, INSIDE_STARTS))
            if prefix in "LE":
                decoded.repairs.append((i, END_STARTS))
        if prefix in "LUES":
            if prefix not in END_TAGS.get(scheme, ""):
                decoded.repairs.append((i, FOREIGN_END))
            decoded.spans.append((i if start is None else start, i + 1, label))
            start = None
    return decoded
