"""Marked copies of documents: one copy of the text around a pair, with marks before and after both entities."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from spacy.tokens import Doc, Span
from thinc.api import Model

from ..annotation.candidates import Candidates, token_bounds
from ..annotation.gold_relations import GoldPairs
from ..annotation.head_input import HeadInput, as_input
from ..annotation.words import find_words
from .head import HeadBatch, predict_batches
from .head_output import Predictions, UpdateLoss, add_up
from .layers import discard_gradients
from .shim import no_backprop
from .storage import Fixed

# Maximum number of copies that exist at the same time, and of their tokens.
CHUNK, CHUNK_TOKENS = 256, 8_192
NAME = "marked_copies"


def with_marked_copies(head: Model[HeadInput, Any], marks: Sequence[str], context: int) -> Model[HeadInput, Any]:
    """Run a head on one marked copy for each candidate pair. In a copy, the opening marks represent the entities.

    In training, `backprop` runs both passes and sets the loss, which is NaN before. If the loss is not finite, it
    discards all accumulated gradients.

    head: a model of bridge.head. Its tok2vec reads the copies, so the tok2vec cannot be a listener or read trees.
    marks: words before and after the head, and before and after the tail.
    context: words of the pair's region that are kept on either side of it.
    """
    if len(marks) != 4 or not all(word.strip() for word in marks):
        raise ValueError(f"spacy_ner_arch.MarkerPairs.v1: marks = {list(marks)}; give four words")
    if any(node.name.endswith("-listener") for node in head.walk()):
        raise ValueError(
            "spacy_ner_arch.MarkerPairs.v1: the tok2vec must read marked copies, which a shared component never sees; "
            "use spacy_ner_arch.TransformerTok2Vec.v1 instead of a listener"
        )
    if any(node.attrs.get("tree_settings") for node in head.walk()):
        raise ValueError(
            "spacy_ner_arch.MarkerPairs.v1: marked copies have no dependency trees; use another encoder or pair model"
        )
    settings = {"marks": list(marks), "context": context}
    attrs = {name: Fixed(value, f"{name} of spacy_ner_arch.MarkerPairs.v1") for name, value in settings.items()}
    return Model(NAME, marked_forward, init=initialize, layers=[head], attrs=attrs)


def initialize(model: Model[HeadInput, Any], X: list[Doc] | None = None, Y: Any = None) -> None:
    model.layers[0].initialize(X=X, Y=Y)


def marked_forward(model: Model[HeadInput, Any], inputs: HeadInput, is_train: bool) -> tuple[Any, Callable]:
    head = model.layers[0]
    docs, items, targets, method, _ = as_input(inputs, needs_pairs=True)
    docs, found = of_words(docs, items or [])
    chunks = list(cut_copies(found, model.attrs["context"].value))

    def read(chunk: slice) -> HeadInput:
        return mark_chunk(docs, found, targets, chunk, model.attrs)._replace(method=method)

    if targets is None:
        # On a GPU, all chunks start before the host waits for the first one.
        found_rows = [head.predict(read(chunk)) for chunk in chunks]
        rows = [row for chunk_rows in found_rows for row in chunk_rows]
        ends = np.cumsum([len(pairs.pairs) for pairs in found])
        own = [rows[end - len(pairs.pairs) : end] for pairs, end in zip(found, ends, strict=True)]
        return [join_rows(one) for one in own], no_backprop
    if not is_train:
        return UpdateLoss(*add_up([head.predict(read(chunk)) for chunk in chunks])), no_backprop
    total = UpdateLoss(torch.tensor([math.nan]))

    def backprop(weight: float = 1.0) -> list[Doc]:
        """Run both passes of one chunk after the other, so that only one is in memory, and set the loss."""
        total.set(*add_up([update(head, read(chunk), weight) for chunk in chunks]))
        if not total.is_finite:
            discard_gradients(model)
        return docs

    return total, backprop


def update(head: Model[HeadInput, Any], inputs: HeadInput, weight: float) -> Any:
    """Run both passes and return the loss. Nothing else stays in memory."""
    loss, backprop = head.begin_update(inputs)
    backprop(weight)
    return loss


def predict_copies(model: Model, inputs: HeadInput) -> Iterator[HeadBatch]:
    """Run `predict_batches` on the documents, or on their marked copies if the head reads marked copies."""
    if model.name != NAME:
        yield from predict_batches(model, inputs)
        return
    docs, found = of_words(inputs.docs, inputs.items or [])
    for chunk in cut_copies(found, model.attrs["context"].value):
        copies = mark_chunk(docs, found, inputs.targets, chunk, model.attrs)
        yield from predict_batches(model.layers[0], copies)


def of_words(docs: Sequence[Doc], found: Sequence[Candidates]) -> tuple[list[Doc], list[Candidates]]:
    """The documents without white space, and their candidates. A document of white space only is left unchanged."""
    bare, moved = list(docs), list(found)
    for i, words in enumerate(find_words(docs)):
        if words.has_no_space or not len(words) or not found:
            continue
        doc, tokens = docs[i], words.tokens.tolist()
        spaces = [bool(doc[t].whitespace_) or b > t + 1 for t, b in zip(tokens, [*tokens[1:], 0], strict=True)]
        bare[i] = Doc(doc.vocab, words=[doc[t].text for t in tokens], spaces=spaces)
        places = found[i].in_words(words)
        moved[i] = places._replace(entities=[Span(bare[i], *bounds) for bounds in places.bounds.tolist()])
    return bare, moved


def cut_copies(found: Sequence[Candidates], context: int) -> Iterator[slice]:
    """Cut the pairs, numbered across all documents, into chunks whose copies have at most CHUNK_TOKENS tokens."""
    if not found:
        return
    tokens = np.concatenate([np.diff(copy_bounds(pairs, context))[:, 0] + 4 for pairs in found]).cumsum()
    first, before = 0, 0
    while first < len(tokens):
        last = min(int(np.searchsorted(tokens, before + CHUNK_TOKENS, side="right")), first + CHUNK)
        last = max(last, first + 1)
        yield slice(first, last)
        first, before = last, int(tokens[last - 1])


def mark_chunk(
    docs: Sequence[Doc],
    found: Sequence[Candidates],
    targets: Sequence[GoldPairs] | None,
    chunk: slice,
    settings: dict[str, Fixed],
) -> HeadInput:
    """Marked copies of the pairs of a chunk, each with its single candidate and its target.

    chunk: numbers of the pairs, counted across all documents.
    """
    marks, context = settings["marks"].value, settings["context"].value
    copies, gold = [], []
    before = 0
    for i, (doc, pairs) in enumerate(zip(docs, found, strict=True)):
        rows = np.arange(max(chunk.start - before, 0), min(chunk.stop - before, len(pairs.pairs)))
        before += len(pairs.pairs)
        if not len(rows):
            continue
        copies += mark(doc, pairs.select(rows), marks, context)
        if targets is not None:
            gold += split_targets(targets[i], rows)
    texts = [copy for copy, _, _ in copies]
    marked = [mark_candidates(copy, opening, types) for copy, opening, types in copies]
    return HeadInput(texts, marked, None if targets is None else gold)


def join_rows(rows: Predictions) -> tuple[np.ndarray, ...]:
    """Predictions of a document from those of its copies."""
    return tuple(np.concatenate(parts) for parts in zip(*rows, strict=True))


def mark_candidates(copy: Doc, opening: tuple[int, int], types: np.ndarray) -> Candidates:
    """The only candidate of a copy: the pair of its opening marks, with the whole copy as region."""
    marks = [Span(copy, place, place + 1) for place in opening]
    return Candidates(marks, np.array([[0, 1]]), np.array([[0, len(copy)]]), token_bounds(marks), types)


def split_targets(gold: GoldPairs, rows: np.ndarray) -> list[GoldPairs]:
    """Gold relations of single pairs: one GoldPairs for each of the pairs `rows`."""
    classes = [gold.classes[gold.rows == row] for row in rows.tolist()]
    return [GoldPairs(np.zeros_like(own), own, gold.share) for own in classes]


def copy_bounds(candidates: Candidates, context: int) -> np.ndarray:
    """(P, 2) int64, first token and exclusive end of the text that is copied for each pair."""
    bounds = candidates.bounds[candidates.pairs]  # (P, 2, 2)
    first = np.maximum(candidates.regions[:, 0], bounds[..., 0].min(1) - context)
    last = np.minimum(candidates.regions[:, 1], bounds[..., 1].max(1) + context)
    return np.stack([first, last], axis=1)


def mark(
    doc: Doc, candidates: Candidates, marks: Sequence[str], context: int
) -> list[tuple[Doc, tuple[int, int], np.ndarray]]:
    """For each pair, a copy of its region, the positions of both opening marks, and the types of both entities."""
    words, spaces = [token.text for token in doc], [bool(token.whitespace_) for token in doc]
    bounds = candidates.bounds.tolist()
    copies = []
    copied = copy_bounds(candidates, context).tolist()
    for pair, (first, last) in zip(candidates.pairs.tolist(), copied, strict=True):
        ends = [bounds[i] for i in pair]
        # Order of the marks at one position: closing marks first, the inner entity's before the outer's; then opening
        # marks, the outer's first. Each event: sort key, number of the entity, and whether the mark opens it.
        events = [((end, 0, -start, -i), i, False) for i, (start, end) in enumerate(ends)]
        events += [((start, 1, -end, i), i, True) for i, (start, end) in enumerate(ends)]
        places = [0, 0]
        copy_words: list[str] = []
        copy_spaces: list[bool] = []
        done = first
        for (place, *_), i, opens in sorted(events):
            copy_words += words[done:place]
            copy_spaces += spaces[done:place]
            if copy_spaces:
                copy_spaces[-1] = True
            done = place
            if opens:
                places[i] = len(copy_words)
            copy_words.append(marks[2 * i] if opens else marks[2 * i + 1])
            copy_spaces.append(True)
        copy_words += words[done:last]
        copy_spaces += spaces[done:last]
        copy = Doc(doc.vocab, words=copy_words, spaces=copy_spaces)
        copies.append((copy, (places[0], places[1]), candidates.types[pair]))
    return copies
