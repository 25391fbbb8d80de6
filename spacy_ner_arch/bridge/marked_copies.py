"""Marked copies of documents: one copy of the text around a pair, with marks before and after both entities."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from spacy.tokens import Doc, Span
from thinc.api import Model

from ..annotation.candidates import Candidates
from ..annotation.gold_relations import GoldPairs
from .head import HeadInput, Predictions, no_backprop

# Copies that are encoded at the same time in prediction.
CHUNK = 256


def with_marked_copies(head: Model[HeadInput, Any], marks: Sequence[str], context: int) -> Model[HeadInput, Any]:
    """Run a head on one marked copy for each candidate pair. In a copy, the opening marks stand in for the entities.

    head: a model of bridge.head. Its tok2vec reads the copies, so it cannot be a listener.
    marks: words before and after the head, and before and after the tail.
    context: tokens of the pair's region that are kept on either side of it.
    """
    if len(marks) != 4 or not all(word.strip() for word in marks):
        raise ValueError(f"spacy_ner_arch.MarkerPairs.v1: marks = {list(marks)}; give four words")
    if any(node.name.endswith("-listener") for node in head.walk()):
        raise ValueError(
            "spacy_ner_arch.MarkerPairs.v1: the tok2vec must read marked copies, which a shared component never sees; "
            "use spacy_ner_arch.TransformerTok2Vec.v1 instead of a listener"
        )
    return Model(
        "marked_copies", forward, init=initialize, layers=[head], attrs={"marks": list(marks), "context": context}
    )


def initialize(model: Model[HeadInput, Any], X: list[Doc] | None = None, Y: Any = None) -> None:
    model.layers[0].initialize(X=X, Y=Y)


def forward(model: Model[HeadInput, Any], inputs: HeadInput, is_train: bool) -> tuple[Any, Callable]:
    head = model.layers[0]
    docs, items, targets = inputs
    found: list[Candidates] = items or []
    copies = [copy for doc, pairs in zip(docs, found, strict=True) for copy in mark(doc, pairs, **model.attrs)]
    marked = [mark_candidates(copy, opening, types) for copy, opening, types in copies]
    texts = [copy for copy, _, _ in copies]
    if targets is not None:
        gold = [one for pairs, gold in zip(found, targets, strict=True) for one in split_targets(pairs, gold)]
        loss, backprop_loss = head(HeadInput(texts, marked, gold), is_train)

        def backprop(weight: float = 1.0) -> list[Doc]:
            backprop_loss(weight)
            return docs

        return loss, backprop
    rows: Predictions = []
    for first in range(0, len(copies), CHUNK):
        rows += head.predict(HeadInput(texts[first : first + CHUNK], marked[first : first + CHUNK]))
    ends = np.cumsum([len(pairs.pairs) for pairs in found])
    return [join_rows(rows[end - len(pairs.pairs) : end]) for pairs, end in zip(found, ends, strict=True)], no_backprop


def join_rows(rows: Predictions) -> tuple[np.ndarray, ...]:
    """Predictions of a document from those of its copies."""
    return tuple(np.concatenate(parts) for parts in zip(*rows, strict=True))


def mark_candidates(copy: Doc, opening: tuple[int, int], types: np.ndarray) -> Candidates:
    """The only candidate of a copy: its opening marks, and the whole copy as their region."""
    marks = [Span(copy, place, place + 1) for place in opening]
    return Candidates(marks, np.array([[0, 1]]), np.array([[0, len(copy)]]), types)


def split_targets(candidates: Candidates, gold: GoldPairs) -> list[GoldPairs]:
    """The gold relations of each pair alone."""
    classes = [gold.classes[gold.rows == pair] for pair in range(len(candidates.pairs))]
    return [GoldPairs(np.zeros_like(own), own) for own in classes]


def mark(
    doc: Doc, candidates: Candidates, marks: Sequence[str], context: int
) -> list[tuple[Doc, tuple[int, int], np.ndarray]]:
    """For each pair, a copy of its region, the places of both opening marks, and the types of both entities."""
    words, spaces = [token.text for token in doc], [bool(token.whitespace_) for token in doc]
    bounds = candidates.bounds.tolist()
    copies = []
    for pair, region in zip(candidates.pairs.tolist(), candidates.regions.tolist(), strict=True):
        ends = [bounds[i] for i in pair]
        first = max(region[0], min(start for start, _ in ends) - context)
        last = min(region[1], max(end for _, end in ends) + context)
        # At one place: closing marks first, the inner entity's before the outer's; then opening marks, the outer's
        # first.
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
        copy = Doc(doc.vocab, words=copy_words, spaces=copy_spaces)
        copies.append((copy, (places[0], places[1]), candidates.types[pair]))
    return copies
