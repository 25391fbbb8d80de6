"""Where a pipeline was most wrong: stretches of text, the gold entities and the predicted ones."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from spacy import displacy
from spacy.tokens import Doc, Span
from spacy.training import Example

from .matches import Kind, Match, match, score_of

# Longer sentences, and longer documents without sentences, are cut to the tokens around their mistakes.
MOST_TOKENS = 60
MARGIN = 12
# displaCy's own colours know few labels.
COLOURS = ("#9cc9e8", "#f6c48b", "#a8dca4", "#e9b3d2", "#d9cf85", "#c3b7ea", "#8fd8cf", "#f2aaa0", "#cbd3a9", "#b8c7d9")
ENTITY = (
    '<mark class="entity {state}" style="background: {bg}">{text}&nbsp;<span class="label">{label}</span>{note}</mark>'
)


@dataclass(frozen=True)
class Excerpt:
    """Gold tokens start..end (exclusive) of the document with this number, from 1, and the mistakes in them."""

    number: int
    example: Example
    start: int
    end: int
    mistakes: list[Match]

    @property
    def boldest(self) -> float:
        """The highest confidence of a wrong prediction; 0 if there is none or it has none."""
        return max((pair.predicted.score or 0.0 for pair in self.mistakes if pair.predicted is not None), default=0.0)


def worst(examples: Iterable[Example], limit: int = 50) -> list[Excerpt]:
    """The excerpts with the most mistakes; of those with equally many the one with the most confident wrong prediction,
    then the order of the corpus.

    An excerpt is a sentence, or a document whose gold side has no sentences; if that is long, part of it. A mistake is
    a match that is not right: wrong borders or a wrong label are one mistake, not a missed and a spurious entity.
    """
    excerpts = [part for number, example in enumerate(examples, 1) for part in excerpts_of(number, example)]
    return sorted(excerpts, key=lambda part: (-len(part.mistakes), -part.boldest))[:limit]


def excerpts_of(number: int, example: Example) -> Iterator[Excerpt]:
    wrong = [pair for pair in match(example) if pair.kind is not Kind.RIGHT]
    for start, end in stretches(example.reference) if wrong else ():
        for part in parts([pair for pair in wrong if start <= pair.start < end], end - start):
            first, last = part[0].start, max(pair.end for pair in part)
            if end - start > MOST_TOKENS:
                shown = max(start, first - MARGIN), max(last, min(end, last + MARGIN))
            else:
                shown = start, max(last, end)
            yield Excerpt(number, example, *shown, part)


def stretches(doc: Doc) -> Iterator[tuple[int, int]]:
    """The sentences of a document, or all of it."""
    if doc.has_annotation("SENT_START"):
        yield from ((sentence.start, sentence.end) for sentence in doc.sents)
    else:
        yield 0, len(doc)


def parts(mistakes: Sequence[Match], length: int) -> list[list[Match]]:
    """The mistakes of a stretch of this length, split so that each part fits into an excerpt."""
    result: list[list[Match]] = []
    for pair in mistakes:
        if result and (length <= MOST_TOKENS or pair.end - result[-1][0].start <= MOST_TOKENS - 2 * MARGIN):
            result[-1].append(pair)
        else:
            result.append([pair])
    return result


def palette(labels: Sequence[str]) -> dict[str, str]:
    """A colour for each label, for `render`."""
    return {escape(label): COLOURS[i % len(COLOURS)] for i, label in enumerate(labels)}


def render(excerpt: Excerpt, colours: dict[str, str]) -> tuple[str, str]:
    """Gold and predicted side of an excerpt as html, each on its own tokens."""
    example, start, end = excerpt.example, excerpt.start, excerpt.end
    matches = match(example)
    golds = {pair.gold.start: pair.kind for pair in matches if pair.gold is not None}
    predicted = {pair.predicted.entity.start: pair.kind for pair in matches if pair.predicted is not None}
    tokens = example.alignment.y2x[start:end]
    other = example.predicted[int(tokens.min()) : int(tokens.max()) + 1] if len(tokens) else example.predicted[:0]
    return marked(example.reference[start:end], golds, colours), marked(other, predicted, colours)


def marked(stretch: Span, kinds: dict[int, Kind], colours: dict[str, str]) -> str:
    """A stretch of a document with its entities; kinds: of each judged entity, by its first token."""
    doc = stretch.doc
    before, after = "… " if stretch.start else "", " …" if stretch.end < len(doc) else ""
    shift = stretch.start_char - len(before)
    ents: list[dict[str, Any]] = []
    for ent in doc.ents:
        if ent.end > stretch.start and ent.start < stretch.end:
            low, high = max(ent.start_char, stretch.start_char), min(ent.end_char, stretch.end_char)
            mark = remark(ent, kinds.get(ent.start))
            # displaCy escapes the text, not the label.
            ents.append({"start": low - shift, "end": high - shift, "label": escape(ent.label_), "params": mark})
    direction = doc.vocab.writing_system.get("direction", "ltr")
    parsed = {"text": before + stretch.text + after, "ents": ents, "settings": {"direction": direction}}
    options = {"colors": colours, "template": ENTITY}
    # Without jupyter=False it would display itself in a notebook and return nothing.
    return displacy.render(parsed, style="ent", page=False, manual=True, jupyter=False, options=options)


def remark(ent: Span, kind: Kind | None) -> dict[str, str]:
    """What is written behind a label: what is wrong, and the confidence."""
    score = score_of(ent)
    notes = [] if kind is Kind.RIGHT else ["not judged" if kind is None else f"✗ {kind.value}"]
    notes += [] if score is None else [f"{score:.2f}"]
    state = "open" if kind is None else "right" if kind is Kind.RIGHT else "wrong"
    note = f'&nbsp;<span class="note">{" · ".join(notes)}</span>' if notes else ""
    return {"state": state, "note": note}
