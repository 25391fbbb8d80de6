"""Conversion between spans and tags, and legal tag sequences."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_ner_arch.annotation.tags import SCHEMES, Scheme, decode, encode, legality, tag_names

# BIS is not shipped: a new scheme needs no more than an entry in SCHEMES.
NAMES = [*SCHEMES, "BIS"]


@pytest.fixture(scope="module", autouse=True)
def new_scheme():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SCHEMES, "BIS", Scheme("B", "I", "I", "S"))
        yield


@st.composite
def flat_spans(draw):
    length = draw(st.integers(0, 12))
    borders = sorted(draw(st.sets(st.integers(0, length), max_size=8)))
    spans = [(a, b, draw(st.sampled_from(["X", "Y-Z"]))) for a, b in zip(borders, borders[1:], strict=False)]
    return length, draw(st.lists(st.sampled_from(spans), unique=True)) if spans else []


@given(flat_spans(), st.sampled_from(NAMES))
def test_round_trip(document, scheme):
    length, spans = document
    names = tag_names(["X", "Y-Z"], scheme)
    tags = np.array([names.index(tag) for tag in encode(length, spans, scheme)], dtype=np.int64)
    assert decode(tags, names, scheme) == sorted(spans)


@pytest.mark.parametrize("scheme", NAMES)
def test_a_sequence_is_legal_if_it_encodes_spans(scheme):
    """Checked over all sequences of three (BILUO) or four (BIO) tokens."""
    names = tag_names(["X", "Y"], scheme)
    legal = legality(names, scheme)
    for tags in itertools.product(range(len(names)), repeat=4 if scheme == "BIO" else 3):
        array = np.array(tags)
        is_legal = legal.start[tags[0]] and legal.end[tags[-1]] and legal.transition[array[:-1], array[1:]].all()
        try:
            rebuilt = encode(len(tags), decode(array, names, scheme), scheme)
        except IndexError:  # an inside tag without a first tag
            rebuilt = []
        assert is_legal == ([names[tag] for tag in tags] == rebuilt)


def test_unknown_scheme():
    with pytest.raises(ValueError, match="'IOBES'; choose from BILUO, BIO, BIS"):
        tag_names(["X"], "IOBES")
