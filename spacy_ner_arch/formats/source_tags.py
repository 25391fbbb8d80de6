"""Entity tags of corpus files: detect the scheme of a file, and decode its tags, including those that break the scheme.

The tags that models predict are in `annotation/tags.py`.

| scheme | single | first | inside | last | detected by |
|---|---|---|---|---|---|
| IOB1 | I | I | I | I | no end tags; I- starts entities, B- only follows an entity of the same label |
| IOB2 | B | B | I | I | no end tags, and not IOB1 |
| BILUO | U | B | I | L | end tags; most tags have these prefixes |
| BIOES | S | B | I | E | the same |
| BMES | S | B | M | E | the same; also called BMEOS or BMESO |
| BMEW | W | B | M | E | the same; also called BMEWO |

O is outside of entities; - means that the token is not annotated. The end tags are those with M, L, E, U, S or W.

The entities do not depend on the scheme. An entity starts at a first or single tag, and at any other one that cannot
continue the previous token. The scheme only decides which tags count as repairs:

- A file that mixes schemes is read in the scheme of most of its tags. The tags of other schemes are repairs.
- A file in which I- starts an entity, and B- stands where IOB1 writes I-, breaks IOB1 and IOB2. It is read as IOB2.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..annotation.tags import LabelledSpan

INSIDE, LAST, SINGLE = "IM", "LE", "USW"
PREFIXES = "B" + INSIDE + LAST + SINGLE
END_SCHEMES = {"BILUO": "BILU", "BIOES": "BIES", "BMES": "BMES", "BMEW": "BMEW"}

INSIDE_STARTS = "repaired: I- or M- that starts an entity"
LAST_STARTS = "repaired: L- or E- that starts an entity"
NOT_CLOSED = "repaired: entity without its L- or E-"
FOREIGN = "repaired: tag of another scheme"


class Tag(NamedTuple):
    """Prefix and label of a tag. The label of O and - is empty."""

    prefix: str
    label: str


OUTSIDE_TAG = Tag("O", "")
MISSING_TAG = Tag("-", "")


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
    return Tag(prefix, label) if len(prefix) == 1 and prefix in prefixes and label.strip() else None


def tag_remedy(prefixes: str = PREFIXES) -> str:
    """List the readable tags, for error messages."""
    forms = ", ".join(f"{prefix}-LABEL" for prefix in prefixes)
    return f"tags must be O, - (no annotation) or one of {forms}; check the column that is read"


def detect_scheme(sentences: Iterable[Sequence[Tag]]) -> str:
    """Detect the scheme from all tags of a file. Without entities it is IOB2."""
    used: Counter[str] = Counter()
    inside_starts = False
    breaks_iob1 = False
    for tags in sentences:
        for before, tag in zip([OUTSIDE_TAG, *tags], tags, strict=False):
            used[tag.prefix] += 1
            if tag.label != before.label:
                inside_starts |= tag.prefix == "I"
                breaks_iob1 |= tag.prefix == "B"
    if used.keys() & set("M" + LAST + SINGLE):
        return max(END_SCHEMES, key=lambda scheme: sum(used[prefix] for prefix in END_SCHEMES[scheme]))
    return "IOB1" if inside_starts and not breaks_iob1 else "IOB2"


def decode_with_repairs(tags: Sequence[Tag], scheme: str) -> Decoded:
    """Decode the tags of one sentence. The scheme decides what counts as a repair, not the entities."""
    decoded = Decoded([], [], [])
    start: int | None = None
    # The additional tag closes an entity at the end of the sentence.
    for i, (prefix, label) in enumerate([*tags, OUTSIDE_TAG]):
        continues = start is not None and prefix in INSIDE + LAST and label == tags[start].label
        if start is not None and not continues:
            decoded.spans.append((start, i, tags[start].label))
            if scheme in END_SCHEMES:
                decoded.repairs.append((i - 1, NOT_CLOSED))
            start = None
        if prefix == "-":
            decoded.missing.append(i)
        if not label:
            continue
        if not continues:
            start = i
            if prefix in INSIDE and scheme != "IOB1":
                decoded.repairs.append((i, INSIDE_STARTS))
            if prefix in LAST:
                decoded.repairs.append((i, LAST_STARTS))
        if prefix not in END_SCHEMES.get(scheme, "BI"):
            decoded.repairs.append((i, FOREIGN))
        if prefix in LAST + SINGLE:
            decoded.spans.append((i if start is None else start, i + 1, label))
            start = None
    return decoded
