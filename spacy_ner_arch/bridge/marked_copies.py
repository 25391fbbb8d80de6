"""One row for each candidate pair of entities, from a copy of its sentences with marks around both."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from spacy.tokens import Doc
from thinc.api import Model
from thinc.types import Floats2d

from ..annotation.candidates import Candidates
from .head import Tok2Vec

# Copies that are read at the same time in prediction.
CHUNK = 256


def marked_pairs(tok2vec: Tok2Vec, marks: Sequence[str], context: int) -> Tok2Vec:
    """Vectors of the opening marks of both entities, side by side, for each candidate pair: (P, 2D) for each document,
    as if the pairs were its tokens.

    tok2vec: reads the marked copies, so it cannot be shared with a component that reads the text as it is.
    marks: words that stand before and behind the head, and before and behind the tail.
    context: tokens of a pair's sentences that are kept on either side of it.
    """
    if len(marks) != 4 or not all(word.strip() for word in marks):
        raise ValueError(f"spacy_ner_arch.RelationMarkers.v1: marks = {list(marks)}; give four words")
    if any(node.name.endswith("-listener") for node in tok2vec.walk()):
        raise ValueError(
            "spacy_ner_arch.RelationMarkers.v1: its tok2vec reads marked copies, which no other component knows; take "
            "spacy_ner_arch.TransformerTok2Vec.v1 instead of a listener"
        )
    return Model(
        "marked_pairs",
        forward,
        init=initialize,
        layers=[tok2vec],
        dims={"nO": None},
        # The component sets it.
        attrs={"pair_finder": None, "marks": list(marks), "context": context},
    )


def initialize(model: Tok2Vec, X: list[Doc] | None = None, Y: Any = None) -> None:
    tok2vec: Tok2Vec = model.layers[0]
    tok2vec.initialize(X=X)
    width = tok2vec.maybe_get_dim("nO")
    if width is None:
        width = tok2vec.predict((X or [])[:1])[0].shape[1]
    model.set_dim("nO", 2 * width)


def forward(model: Tok2Vec, docs: list[Doc], is_train: bool) -> tuple[list[Floats2d], Callable]:
    found = [model.attrs["pair_finder"](doc) for doc in docs]
    counts = [len(candidates.pairs) for candidates in found]
    marked = [
        copy
        for doc, candidates in zip(docs, found, strict=True)
        for copy in mark(doc, candidates, model.attrs["marks"], model.attrs["context"])
    ]
    if not marked:
        return [model.ops.alloc2f(0, model.get_dim("nO")) for _ in docs], lambda gradients: docs
    rows: Any
    backprop_rows = None
    if is_train:
        rows, backprop_rows = read(model, marked, True)
    else:
        pieces = [marked[first : first + CHUNK] for first in range(0, len(marked), CHUNK)]
        rows = model.ops.xp.concatenate([read(model, piece, False)[0] for piece in pieces])

    def backprop(gradients: list[Floats2d]) -> list[Doc]:
        assert backprop_rows is not None
        backprop_rows(model.ops.flatten(gradients))
        return docs

    return model.ops.unflatten(rows, cast(Any, counts)), backprop


def read(model: Tok2Vec, marked: Sequence[tuple[Doc, int, int]], is_train: bool) -> tuple[Floats2d, Callable]:
    """Vectors (copies, 2D) of the opening marks."""
    vectors, backprop_vectors = model.layers[0]([copy for copy, _, _ in marked], is_train)
    lengths = np.array([len(copy) for copy, _, _ in marked])
    opening = np.array([(head, tail) for _, head, tail in marked]) + (lengths.cumsum() - lengths)[:, None]
    places = model.ops.asarray(opening.reshape(-1))
    flat = model.ops.flatten(vectors)
    rows = flat[places].reshape(len(marked), -1)

    def backprop(d_rows: Floats2d) -> None:
        d_flat: Any = model.ops.alloc2f(*flat.shape)
        # No token is an opening mark twice.
        d_flat[places] = d_rows.reshape((-1, flat.shape[1]))
        backprop_vectors(model.ops.unflatten(d_flat, cast(Any, lengths.tolist())))

    return rows, backprop


def mark(doc: Doc, candidates: Candidates, marks: Sequence[str], context: int) -> list[tuple[Doc, int, int]]:
    """A copy of its sentences for each pair, and the places of both opening marks in it."""
    words, spaces = [token.text for token in doc], [bool(token.whitespace_) for token in doc]
    bounds = [(span.start, span.end) for span in candidates.entities]
    copies = []
    for pair, region in zip(candidates.pairs.tolist(), candidates.regions.tolist(), strict=True):
        ends = [bounds[i] for i in pair]
        first = max(region[0], min(start for start, _ in ends) - context)
        last = min(region[1], max(end for _, end in ends) + context)
        # At one place: closing marks, the inner entity's first, then opening ones, the wider entity's first.
        events = [(end, 0, -start, -i) for i, (start, end) in enumerate(ends)]
        events += [(start, 1, -end, i) for i, (start, end) in enumerate(ends)]
        places = [0, 0]
        copy_words: list[str] = []
        copy_spaces: list[bool] = []
        done = first
        for place, opens, _, i in sorted(events):
            copy_words += words[done:place]
            copy_spaces += spaces[done:place]
            copy_spaces[-1:] = [True] * bool(copy_spaces)
            done = place
            if opens:
                places[abs(i)] = len(copy_words)
            copy_words.append(marks[2 * abs(i) + (1 - opens)])
            copy_spaces.append(True)
        copy_words += words[done:last]
        copy_spaces += spaces[done:last]
        copies.append((Doc(doc.vocab, words=copy_words, spaces=copy_spaces), places[0], places[1]))
    return copies
