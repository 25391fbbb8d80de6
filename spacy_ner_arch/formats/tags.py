"""Entity tags: which scheme a file uses, and the entities that a row of tags means.

| scheme | one word | first | inside | last | told from the others by |
|---|---|---|---|---|---|
| IOB1 | I | I | I | I | no end tags; I- starts entities, B- only after an entity of its label |
| IOB2 | B | B | I | I | no end tags; everything else |
| BILUO | U | B | I | L | L- or U- occurs |
| BIOES | S | B | I | E | E- or S- occurs |

"O" is outside of entities. "-" means that nothing is known about the word.

The entities do not depend on the scheme: `decode` reads all of them by one rule, that an entity
starts at a B-, U- or S-, and at an I-, L- or E- that cannot continue the word before, and goes on
as long as it is continued. What depends on the scheme is which of these tags is a mistake, that
is a repair. In particular:

- A file in which I- starts an entity and a B- stands where IOB1 would write I- breaks IOB1 as well
  as IOB2. It is taken for IOB2 with mistakes.
- A file fits both IOB1 and IOB2 only if it has no entity: the first word of a file's first entity
  is I- in the one and B- in the other.
- A file that joins sentences of several schemes is read by the scheme of its end tags if it has
  any. The entities are those that each part means by itself; the tags that do not belong to the
  scheme are counted as repairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from spacy_ner_arch.formats.sentence import LabelledSpan

Scheme = Literal["IOB1", "IOB2", "BILUO", "BIOES"]

PREFIXES = "BILUES"
_END_TAGS = {"BILUO": "LU", "BIOES": "ES"}

INSIDE_STARTS = "I- that starts an entity"
END_STARTS = "L- or E- that starts an entity"
NOT_CLOSED = "entity without its L- or E-"
FOREIGN_END = "end tag of another scheme"


class Tag(NamedTuple):
    """A tag in two parts; the prefix of "O" and "-" is the tag itself, their label is empty."""

    prefix: str
    label: str


OUTSIDE = Tag("O", "")
MISSING = Tag("-", "")


class Decoded(NamedTuple):
    """What a row of tags means.

    spans: the entities.
    missing: the indices of the words without annotation.
    repairs: index of the word and kind of the repair.
    """

    spans: list[LabelledSpan]
    missing: list[int]
    repairs: list[tuple[int, str]]


def parse_tag(text: str, prefixes: str = PREFIXES) -> Tag | None:
    """Take a tag apart; None if it is not "O", "-" or one of the prefixes with a label."""
    if text in ("O", "-"):
        return Tag(text, "")
    prefix, _, label = text.partition("-")
    is_known = len(prefix) == 1 and prefix in prefixes
    return Tag(prefix, label) if is_known and label else None


def tag_remedy(prefixes: str = PREFIXES) -> str:
    """Say which tags can be read, for the message of an error."""
    forms = ", ".join(f"{prefix}-LABEL" for prefix in prefixes)
    return f"tags must be O, - (no annotation) or one of {forms}; check the column that is read"


def detect_scheme(sentences: Iterable[Sequence[Tag]]) -> Scheme:
    """Tell the scheme of a file from all of its tags, by the table above.

    With end tags of both kinds, the more frequent kind decides. Without any evidence (no
    entities) the answer is IOB2.
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
    biluo, bioes = (sum(used[prefix] for prefix in ends) for ends in _END_TAGS.values())
    if biluo or bioes:
        return "BILUO" if biluo >= bioes else "BIOES"
    return "IOB1" if inside_starts and not breaks_iob1 else "IOB2"


def decode(tags: Sequence[Tag], scheme: Scheme) -> Decoded:
    """Read the entities of one sentence, repairing what breaks the scheme.

    tags: the tags of the words.
    scheme: the scheme of the file; it decides what counts as a repair, not the entities.
    Returns entities, words without annotation, and repairs.
    """
    decoded = Decoded([], [], [])
    start: int | None = None
    # The tag after the last closes an entity that reaches the end of the sentence.
    for i, (prefix, label) in enumerate([*tags, OUTSIDE]):
        goes_on = start is not None and prefix in "ILE" and label == tags[start].label
        if start is not None and not goes_on:
            decoded.spans.append((start, i, tags[start].label))
            if scheme in _END_TAGS:
                decoded.repairs.append((i - 1, NOT_CLOSED))
            start = None
        if prefix == "-":
            decoded.missing.append(i)
        if not label:
            continue
        if not goes_on:
            start = i
        decoded.repairs.extend((i, kind) for kind in _mistakes(prefix, scheme, goes_on))
        if prefix in "LUES":
            decoded.spans.append((i if start is None else start, i + 1, label))
            start = None
    return decoded


def _mistakes(prefix: str, scheme: Scheme, goes_on: bool) -> list[str]:
    """Tell what is wrong with a tag of an entity, given whether it continues one."""
    mistakes = []
    if not goes_on and prefix == "I" and scheme != "IOB1":
        mistakes.append(INSIDE_STARTS)
    if not goes_on and prefix in "LE":
        mistakes.append(END_STARTS)
    if prefix in "LUES" and prefix not in _END_TAGS.get(scheme, ""):
        mistakes.append(FOREIGN_END)
    return mistakes
