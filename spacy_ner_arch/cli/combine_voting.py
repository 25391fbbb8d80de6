"""Let several systems vote about entities, weighted by a span model: for `ner-arch combine`."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.util import minibatch

from ..annotation.describe import Counted, quote
from ..annotation.entities import annotated_tokens
from ..annotation.replacement import annotated_places, clear_entities, remove_stale_relations
from ..annotation.scores import set_score
from ..annotation.spans import decode_exact
from ..annotation.tags import LabelledSpan
from ..annotation.words import bare_text, find_words

# Log odds of a span that all systems propose. No system then proposes a span that overlaps it.
UNANIMOUS = 50.0

# Function from a span of tokens [start, end) and labels (None for no entity) to the probabilities of these labels; None
# if the model cannot score all of them for this span.
SpanModel = Callable[[int, int, Sequence[str | None]], np.ndarray | None]


class Vote(NamedTuple):
    """A chosen span; the score is its share of all votes about the span, weighted by the span model."""

    start: int
    end: int
    label: str
    score: float


def vote(
    proposals: Sequence[Collection[LabelledSpan]],
    weights: Sequence[float],
    model: SpanModel | None = None,
    annotated: np.ndarray | None = None,
) -> list[Vote]:
    """Combine the entities that the systems propose for a document. Returns them in order and without overlaps.

    For each proposed span, the score of a label is the sum of the weights of the systems that propose it, times the
    probability of the label in the model. The score of no entity is the sum of the weights of the other systems that
    have annotated the span, times the probability of no entity. A span gets the label with the highest score (in a tie,
    the one proposed first) if this is higher than the score of no entity. Of overlapping spans, those with the greatest
    sum of log odds are chosen.

    weights: weight of each system, above 0.
    model: None for a majority vote, with equal probabilities. A span that the model cannot score also gets equal
        probabilities.
    annotated: (systems, T) bool, tokens that each system has annotated; None for all.
    """
    votes: dict[tuple[int, int], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for spans, weight in zip(proposals, weights, strict=True):
        for start, end, label in spans:
            votes[start, end][label] += weight
    length = max((end for _, end in votes), default=0)
    gains = np.full((length, max((end - start for start, end in votes), default=0)), -np.inf)
    best: dict[tuple[int, int], Vote] = {}
    for (start, end), of_label in votes.items():
        names = [None, *of_label]
        voting = weights if annotated is None else np.compress(annotated[:, start:end].all(axis=1), weights).tolist()
        scores = np.array([max(0.0, sum(voting) - sum(of_label.values())), *of_label.values()])
        known = None if model is None else model(start, end, names)
        if known is not None:
            scores = scores * np.maximum(known, np.finfo(float).tiny)
        number = int(scores[1:].argmax()) + 1
        best[start, end] = Vote(start, end, str(names[number]), float(scores[number] / scores.sum()))
        with np.errstate(divide="ignore"):
            gains[start, end - start - 1] = min(UNANIMOUS, np.log(scores[number]) - np.log(scores[0]))
    return [best[start, end] for start, end, _ in decode_exact(np.zeros(gains.shape, dtype=int), gains)]


def span_model(pipe: Any, doc: Doc, log_probabilities: np.ndarray, unknown: defaultdict[str, Counted]) -> SpanModel:
    """Make a SpanModel from the predictions of a span_ner for a document.

    log_probabilities: (N, W, K + 1) for its words, as the component predicts them.
    unknown: collects the spans that the component cannot score, by reason.
    """
    (words,) = find_words([doc])
    place = {None: 0, **{label: i for i, label in enumerate(pipe.labels, start=1)}}

    def probabilities(start: int, end: int, labels: Sequence[str | None]) -> np.ndarray | None:
        first, last = words.from_tokens(np.array([start, end])).tolist()
        missing = [label for label in labels if label not in place]
        if missing:
            unknown[f"the label {missing[0]}"].add([doc[start:end].text], quote)
        elif last - first > log_probabilities.shape[1]:
            unknown[f"more than {log_probabilities.shape[1]} words"].add([doc[start:end].text], quote)
        else:
            row = log_probabilities[first, last - first - 1]
            if (row[1:] > -np.inf).any():
                return np.exp(row[[place[label] for label in labels]].astype(np.float64))
            unknown["no candidate of its suggester"].add([doc[start:end].text], quote)
        return None

    return probabilities


def predict_spans(nlp: Language, pipe: Any, docs: Sequence[Doc]) -> Iterator[tuple[Doc, np.ndarray]]:
    """Documents with only the entities of a span_ner, and its log probabilities for the words, (N, W, K + 1).

    docs: documents whose tokens are used; their annotation is ignored.
    """
    later = nlp.pipe_names[nlp.pipe_names.index(pipe.name) :]
    bare = (
        Doc(nlp.vocab, words=[token.text for token in doc], spaces=[bool(token.whitespace_) for token in doc])
        for doc in docs
    )
    with nlp.select_pipes(disable=later):
        for batch in minibatch(nlp.pipe(bare), nlp.batch_size):
            items, predictions = pipe.predict(batch)
            pipe.set_annotations(batch, (items, predictions))
            yield from zip(batch, (rows for (rows,) in predictions), strict=True)


def move_entities(doc: Doc, other: Doc) -> tuple[Doc, list[Span]]:
    """The tokens of another document, with the entities of a document whose text is equal apart from white space.

    A token is annotated if all its characters are in annotated tokens of the document. Returns the new document, and
    the entities that begin or end within one of its tokens, which are left out.
    """
    (starts, ends), (other_starts, other_ends) = bare_bounds(doc), bare_bounds(other)
    words = np.flatnonzero(other_starts < other_ends).tolist()
    first, last = ({int(bounds[i]): i for i in words} for bounds in (other_starts, other_ends))
    annotated = annotated_tokens(doc)
    # Number of characters without annotation before each character.
    missing = np.cumsum([0, *np.repeat(~annotated, ends - starts)])
    is_missing = (missing[other_ends] > missing[other_starts]) | (not annotated.any())
    new = Doc(other.vocab, words=[token.text for token in other], spaces=[bool(token.whitespace_) for token in other])
    entities, left_out = [], []
    for ent in doc.ents:
        start, end = first.get(int(starts[ent.start])), last.get(int(ends[ent.end - 1]))
        if start is None or end is None or start > end:
            left_out.append(ent)
        else:
            entities.append(Span(new, start, end + 1, label=ent.label_))
    new.set_ents(entities, missing=[new[i : i + 1] for i in np.flatnonzero(is_missing).tolist()], default="outside")
    return new, left_out


def bare_bounds(doc: Doc) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of each token in the text without its white space, (T,) int64 each."""
    lengths = np.array([len(bare_text(token.text)) for token in doc], dtype=np.int64)
    ends = lengths.cumsum()
    return ends - lengths, ends


def without_annotation(doc: Doc, annotated: np.ndarray) -> Doc:
    """A gold document without the entities that a system has not annotated, so that no score counts them.

    annotated: (T,) bool, tokens that the system has annotated.
    Returns a copy, or the same document if the system has annotated all of it.
    """
    if annotated.all():
        return doc
    known = annotated.copy()
    for ent in doc.ents:
        known[ent.start : ent.end] &= annotated[ent.start : ent.end].all()
    new = doc.copy()
    kept = [ent for ent in new.ents if known[ent.start]]
    new.set_ents(kept, missing=[new[i : i + 1] for i in np.flatnonzero(~known).tolist()], default="unmodified")
    return new


def with_entities(doc: Doc, votes: Sequence[Vote], annotated: np.ndarray | None = None) -> Doc:
    """A copy of a document with these entities and their scores instead of its own.

    annotated: (T,) bool, tokens with a vote. Entity annotation is missing at the other tokens. None for all.

    Data about the old entities are removed, see `clear_entities` and `remove_stale_relations`. All else is kept.
    """
    new = doc.copy()
    before = annotated_places(new)
    clear_entities(new)
    missing = [] if annotated is None else [new[i : i + 1] for i in np.flatnonzero(~annotated).tolist()]
    entities = [Span(new, start, end, label=label) for start, end, label, _ in votes]
    new.set_ents(entities, missing=missing, default="outside")
    for ent, found in zip(new.ents, votes, strict=True):
        set_score(ent, found.score)
    remove_stale_relations(new, before)
    return new
