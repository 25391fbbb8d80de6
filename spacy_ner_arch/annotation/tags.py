"""Tags of tokens: names, legal sequences, and conversion between spans and tags.

A tag is a prefix and a label (`B-PER`), or O outside of all entities. To add a scheme, add its prefixes to SCHEMES.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

OUTSIDE = "O"
MISSING = -1
# Start, exclusive end and label, in tokens.
LabelledSpan = tuple[int, int, str]


class Scheme(NamedTuple):
    """Prefixes of the tokens of an entity.

    A scheme may give two positions the same prefix, but not one that begins an entity and one that does not.
    """

    first: str
    inner: str
    last: str
    single: str  # the only token of an entity

    @property
    def prefixes(self) -> str:
        """Different prefixes, in the order of the positions."""
        return "".join(dict.fromkeys(self))


# BIO is also known as IOB2.
SCHEMES = {"BILUO": Scheme("B", "I", "L", "U"), "BIO": Scheme("B", "I", "I", "B")}


class Legality(NamedTuple):
    """Legal starts (K,), transitions (K, K) from row to column, and ends (K,) of K tags, all bool.

    extends: (K, K), whether the column continues an entity that could also have ended with the row.
    """

    start: np.ndarray
    transition: np.ndarray
    end: np.ndarray
    extends: np.ndarray


def find_scheme(scheme: str) -> Scheme:
    """Return the scheme of that name; raise ValueError if it is unknown."""
    if scheme not in SCHEMES:
        raise ValueError(f"unknown tag scheme {scheme!r}; choose from {', '.join(SCHEMES)}")
    return SCHEMES[scheme]


def tag_names(labels: Iterable[str], scheme: str) -> list[str]:
    """All tags of the labels: O, then the prefixes of each label."""
    prefixes = find_scheme(scheme).prefixes
    return [OUTSIDE] + [f"{prefix}-{label}" for label in labels for prefix in prefixes]


def split_tag(name: str) -> tuple[str, str]:
    """Prefix and label of a tag: `B-PER` -> (`B`, `PER`), `O` -> (`O`, ``)."""
    prefix, _, label = name.partition("-")
    return prefix, label


def tag_places(names: Sequence[str], scheme: str) -> np.ndarray:
    """Indices in `names` of the first, inner, last and single tag of each label: (4, L), labels in order of tags."""
    labels = dict.fromkeys(split_tag(name)[1] for name in names if name != OUTSIDE)
    place = {name: i for i, name in enumerate(names)}
    return np.array([[place[f"{prefix}-{label}"] for label in labels] for prefix in find_scheme(scheme)], int)


def legality(names: Sequence[str], scheme: str) -> Legality:
    """Legality of the tags, in the order of `names`."""
    first, inner, last, single = find_scheme(scheme)
    prefixes = np.array([split_tag(name)[0] for name in names])
    labels = np.array([split_tag(name)[1] for name in names])
    continues = np.isin(prefixes, [inner, last])
    goes_on = np.isin(prefixes, [first, inner])
    may_end = np.isin(prefixes, [last, single, OUTSIDE])
    onward = goes_on[:, None] & continues & (labels[:, None] == labels)
    return Legality(~continues, onward | may_end[:, None] & ~continues, may_end, onward & may_end[:, None])


def encode(length: int, spans: Iterable[LabelledSpan], scheme: str) -> list[str]:
    """Tag names of a document of `length` tokens with these flat spans (start, exclusive end, label)."""
    first, inner, last, single = find_scheme(scheme)
    tags = [OUTSIDE] * length
    for start, end, label in spans:
        prefixes = [single] if end - start == 1 else [first, *inner * (end - start - 2), last]
        tags[start:end] = [f"{prefix}-{label}" for prefix in prefixes]
    return tags


def decode(tags: np.ndarray, names: Sequence[str], scheme: str) -> list[LabelledSpan]:
    """Spans of a legal tag sequence, given as indices into `names`, whose first is O."""
    first, _, _, single = find_scheme(scheme)
    spans: list[LabelledSpan] = []
    for i in np.flatnonzero(tags).tolist():
        prefix, label = split_tag(names[tags[i]])
        if prefix in (first, single):
            spans.append((i, i + 1, label))
        else:
            spans[-1] = (spans[-1][0], i + 1, label)
    return spans
