"""Tag schemes: names of the tags, legal sequences, and conversion between spans and tags.

BILUO: B-X I-X.. L-X for an entity of several tokens, U-X for one of a single token, O outside.
BIO (IOB2): B-X I-X.. , O outside.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

SCHEMES = ("BILUO", "BIO")
OUTSIDE = "O"
# Suffix of classes whose head is the second entity of the pair.
INVERSE = "^-1"
MISSING = -1
Span = tuple[int, int, str]


class Legality(NamedTuple):
    """Legal starts (K,), transitions (K, K) from row to column, and ends (K,) of K tags, all bool."""

    start: np.ndarray
    transition: np.ndarray
    end: np.ndarray


def check_scheme(scheme: str) -> str:
    """Return the scheme; raise ValueError if it is unknown."""
    if scheme not in SCHEMES:
        raise ValueError(f"unknown tag scheme {scheme!r}; known are {', '.join(SCHEMES)}")
    return scheme


def tag_names(labels: Iterable[str], scheme: str) -> list[str]:
    """All tags of the labels: O, then the prefixes of each label."""
    prefixes = "BILU" if check_scheme(scheme) == "BILUO" else "BI"
    return [OUTSIDE] + [f"{prefix}-{label}" for label in labels for prefix in prefixes]


def split_tag(name: str) -> tuple[str, str]:
    """Prefix and label of a tag: `B-PER` -> (`B`, `PER`), `O` -> (`O`, ``)."""
    prefix, _, label = name.partition("-")
    return prefix, label


def legality(names: Sequence[str], scheme: str) -> Legality:
    """Legality of the tags, in the order of `names`."""
    prefixes = np.array([split_tag(name)[0] for name in names])
    labels = np.array([split_tag(name)[1] for name in names])
    same_label = labels[:, None] == labels[None, :]
    if check_scheme(scheme) == "BILUO":
        opened, continuing = np.isin(prefixes, ["B", "I"]), np.isin(prefixes, ["I", "L"])
        # Only an open entity can be continued, and it must be, by its own label.
        transition = np.where(opened[:, None], continuing[None, :] & same_label, ~continuing[None, :])
        return Legality(~continuing, transition, ~opened)
    continuing = prefixes == "I"
    transition = ~continuing[None, :] | ((prefixes != OUTSIDE)[:, None] & same_label)
    return Legality(~continuing, transition, np.ones(len(names), dtype=bool))


def encode(length: int, spans: Iterable[Span], scheme: str) -> list[str]:
    """Tag names of a document of `length` tokens with these flat spans (start, exclusive end, label)."""
    tags = [OUTSIDE] * length
    for start, end, label in spans:
        if check_scheme(scheme) == "BILUO":
            prefixes = "U" if end - start == 1 else "B" + "I" * (end - start - 2) + "L"
        else:
            prefixes = "B" + "I" * (end - start - 1)
        tags[start:end] = [f"{prefix}-{label}" for prefix in prefixes]
    return tags


def decode(tags: np.ndarray, names: Sequence[str]) -> list[Span]:
    """Spans of a legal tag sequence, given as indices into `names`, whose first is O."""
    parts = [split_tag(name) for name in names]
    spans: list[Span] = []
    for i in np.flatnonzero(tags).tolist():
        prefix, label = parts[tags[i]]
        if prefix in "BU":
            spans.append((i, i + 1, label))
        else:
            spans[-1] = (spans[-1][0], i + 1, label)
    return spans
