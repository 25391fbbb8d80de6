"""Collect the gold and predicted entities, spans and relations of an example, and match them."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from functools import cache
from typing import NamedTuple

from spacy.tokens import Span
from spacy.training import Example

from ..annotation.alignment import same_tokens
from ..annotation.entities import annotated_tokens, scored_entities, scored_spans
from ..annotation.layers import spans_layer
from ..annotation.relations import RelationKey, has_relations, relation_keys, stored_relations


class Item(NamedTuple):
    """An entity, a span or a relation.

    label: its label.
    places: character offsets (start and end); for a relation, those of the head and of the tail.
    types: labels of head and tail; empty for entities and spans.
    score: probability of a prediction; None if the component sets none.
    """

    label: str
    places: tuple[tuple[int, int], ...]
    types: tuple[str, ...] = ()
    score: float | None = None


# Gold and predicted items of one document.
Sides = tuple[list[Item], list[Item]]


class Kind(Enum):
    """Result of comparing a gold item with a prediction. The report shows the values."""

    RIGHT = "right"
    TYPE = "wrong type of an entity"
    LABEL = "wrong label"
    BOUNDARIES = "wrong boundaries"
    BOTH = "wrong label and boundaries"
    MISSED = "missed"
    SPURIOUS = "spurious"


class Match(NamedTuple):
    """A gold item and the prediction paired with it; at most one of them is None.

    A relation is right if its label, its places and its types are, as its score is the probability of all of them.

    document: index of the document in the corpus.
    """

    document: int
    gold: Item | None
    predicted: Item | None

    @property
    def kind(self) -> Kind:
        if self.gold is None:
            return Kind.SPURIOUS
        if self.predicted is None:
            return Kind.MISSED
        same_label = self.gold.label == self.predicted.label
        if self.gold.places == self.predicted.places:
            if not same_label:
                return Kind.LABEL
            return Kind.RIGHT if self.gold.types == self.predicted.types else Kind.TYPE
        return Kind.BOUNDARIES if same_label else Kind.BOTH


def entity_items(example: Example) -> Sides:
    """Return the gold and predicted entities, compared the way `spacy evaluate` compares them.

    Predictions are extended to whole gold tokens. A prediction that touches a token without gold annotation is neither
    right nor wrong and is left out.
    """
    gold_tokens = annotated_touched_tokens(example)
    predicted = []
    for ent, score in scored_entities(example.predicted):
        span = gold_tokens(ent)
        if span is not None:
            predicted.append(Item(ent.label_, ((span.start_char, span.end_char),), score=score))
    return [Item(ent.label_, ((ent.start_char, ent.end_char),)) for ent in example.reference.ents], predicted


def left_out_entities(example: Example) -> list[Span]:
    """Predicted entities that touch a token without gold annotation, so that they are neither right nor wrong."""
    touched_by = touched_tokens(example)
    return [ent for ent in example.predicted.ents if not all(token.ent_iob for token in touched_by(ent) or ())]


def left_out_spans(example: Example, key: str) -> list[Span]:
    """Predicted spans of `doc.spans[key]` that the gold annotation leaves open: neither right nor wrong.

    The rule is that of the loss, see `gold_group` and `SpanTargets.unknown`: a span is open if the tokens in it that no
    gold span contains have no annotation of entities. No span is open in a document without any such annotation.
    """
    gold, predicted = example.reference, example.predicted
    if key not in gold.spans or key not in predicted.spans or not gold.has_annotation("ENT_IOB"):
        return []
    covered = {index for span in gold.spans[key] for index in range(span.start, span.end)}
    touched_by = touched_tokens(example)

    def is_open(span: Span) -> bool:
        others = [t.ent_iob for t in touched_by(span) or () if t.i not in covered and not t.is_space]
        return bool(others) and not any(others)

    return [span for span in predicted.spans[key] if is_open(span)]


class LeftOut(NamedTuple):
    """Predictions that are left out of the scores, since they touch tokens without gold annotation.

    predictions: these predictions.
    unannotated, tokens: number of gold tokens without annotation of entities, and of all, in the documents with some.
    """

    predictions: list[Span]
    unannotated: int
    tokens: int


def find_left_out(examples: Iterable[Example]) -> dict[str, LeftOut]:
    """The predictions that are left out, by layer of annotation; no layers where there is none.

    Documents without any annotation of entities are not counted.
    """
    examples = [example for example in examples if example.reference.has_annotation("ENT_IOB")]
    predictions = {"doc.ents": [ent for example in examples for ent in left_out_entities(example)]}
    for key in sorted({key for example in examples for key in example.reference.spans}):
        predictions[spans_layer(key)] = [span for example in examples for span in left_out_spans(example, key)]
    unannotated = sum(int((~annotated_tokens(example.reference)).sum()) for example in examples)
    tokens = sum(len(example.reference) for example in examples)
    return {layer: LeftOut(spans, unannotated, tokens) for layer, spans in predictions.items() if spans}


def touched_tokens(example: Example) -> Callable[[Span], Span | None]:
    """A function from predicted spans to the gold tokens that they touch; None for a span that touches none."""
    # Access the alignment once: at every access, spaCy checks whether the tokens have changed.
    to_gold = cache(lambda: example.alignment.x2y)

    def find(span: Span) -> Span | None:
        tokens = to_gold()[span.start : span.end]
        return example.reference[int(tokens[0]) : int(tokens[-1]) + 1] if len(tokens) else None

    return find


def annotated_touched_tokens(example: Example) -> Callable[[Span], Span | None]:
    """Like `touched_tokens`, but None also for a span that touches a token without gold annotation."""
    touched_by = touched_tokens(example)

    def find(span: Span) -> Span | None:
        touched = touched_by(span)
        return touched if touched is not None and all(token.ent_iob for token in touched) else None

    return find


def span_items(example: Example, key: str) -> Sides:
    """Return the gold and predicted spans of `doc.spans[key]`; none if the gold document does not have the key.

    Predictions that partial annotation leaves open are left out, see `left_out_spans`.
    """
    if key not in example.reference.spans:
        return [], []
    gold = [Item(span.label_, ((span.start_char, span.end_char),)) for span in example.reference.spans[key]]
    return unique(gold), predicted_spans(example, key, left_out_spans(example, key))


def predicted_spans(example: Example, key: str, left_out: Iterable[Span] = ()) -> list[Item]:
    """Return the spans of `doc.spans[key]` of the predicted document, whatever the gold document has.

    left_out: spans of this group that are not returned.
    """
    if key not in example.predicted.spans:
        return []
    place = places_in_gold(example)
    left_out = set(left_out)
    rows = [row for row in scored_spans(example.predicted.spans[key]) if row[0] not in left_out]
    return unique(Item(span.label_, (place(span),), score=score) for span, score in rows)


def places_in_gold(example: Example) -> Callable[[Span], tuple[int, int]]:
    """A function from predicted spans to their bounds in the characters of the gold text.

    Where the texts differ in white space, these are the bounds of the gold tokens with the same characters. A span
    without such tokens gets negative bounds, which equal those of no gold span.
    """
    if example.predicted.text == example.reference.text:
        return lambda span: (span.start_char, span.end_char)
    touched_by = touched_tokens(example)

    def find(span: Span) -> tuple[int, int]:
        aligned = touched_by(span)
        # `get_aligned_spans_x2y` does not find a span with a line break in it.
        if aligned is not None and "".join(aligned.text.split()) == "".join(span.text.split()):
            return aligned.start_char, aligned.end_char
        return -1 - span.start_char, -1 - span.end_char

    return find


def extend_to_gold(example: Example) -> Callable[[int, int], tuple[int, int]]:
    """A function from bounds in the predicted text to those of the gold tokens that they touch, in the gold text.

    Bounds without such tokens become negative.
    """
    if example.predicted.text == example.reference.text and same_tokens(example):
        return lambda start, end: (start, end)
    touched_by = touched_tokens(example)

    def find(start: int, end: int) -> tuple[int, int]:
        # Tokens may have been merged since.
        span = example.predicted.char_span(start, end, alignment_mode="expand")
        touched = None if span is None else touched_by(span)
        return (-1 - start, -1 - end) if touched is None else (touched.start_char, touched.end_char)

    return cache(find)


def relation_items(example: Example, symmetric: Sequence[str] = ()) -> Sides:
    """Return the gold and predicted relations; none if the gold document has no annotation of relations.

    The arguments of predicted relations are extended to whole gold tokens, like entities.

    symmetric: labels that hold in both directions. The earlier argument becomes the head of such a relation.
    """
    if not has_relations(example.reference):
        return [], []

    extend = extend_to_gold(example)

    def extended(key: RelationKey) -> RelationKey:
        return (*extend(*key[:2]), key[2], *extend(*key[3:5]), key[5], key[6])

    def item(key: RelationKey, score: float | None = None) -> Item:
        arguments = [key[:3], key[3:6]]
        if key[6] in symmetric:
            arguments.sort()
        return Item(key[6], tuple(a[:2] for a in arguments), tuple(a[2] for a in arguments), score)

    # Do not use `get_relations`, which raises if tokens were merged after the relations were set.
    predicted = [item(extended(key), score) for key, score in stored_relations(example.predicted)]
    return unique(map(item, relation_keys(example.reference))), unique(predicted)


def unique(items: Iterable[Item]) -> list[Item]:
    """Drop items that differ from an earlier item only in their score."""
    kept: dict[tuple, Item] = {}
    for item in items:
        kept.setdefault(item[:3], item)
    return list(kept.values())


def match_all(documents: Iterable[Sides]) -> list[Match]:
    """Match the items of every document of a corpus."""
    return [pair for i, sides in enumerate(documents) for pair in match(i, *sides)]


def match(document: int, gold: Sequence[Item], predicted: Sequence[Item]) -> list[Match]:
    """Pair the gold items of a document with overlapping predictions; each item is in exactly one match.

    The best pairs come first: same boundaries before other boundaries, then the same label, then the longest overlap,
    then the same types.
    """
    # Gold items by the number of a place and its characters.
    touching = defaultdict(set)
    for i, wanted in enumerate(gold):
        for number, place in enumerate(wanted.places):
            for character in range(*place):
                touching[number, character].add(i)
    candidates = []
    for j, found in enumerate(predicted):
        near = [[touching[n, character] for character in range(*place)] for n, place in enumerate(found.places)]
        # An entity can be the head of most relations of a document: take the place that has fewer.
        for i in set[int]().union(*min(near, key=lambda sets: sum(map(len, sets)))):
            wanted = gold[i]
            if common := overlap(wanted, found):
                order = wanted.places != found.places, wanted.label != found.label, -common, wanted.types != found.types
                candidates.append((*order, i, j))
    partner: dict[int, int] = {}
    taken: set[int] = set()
    for *_, i, j in sorted(candidates):
        if i not in partner and j not in taken:
            partner[i] = j
            taken.add(j)
    matches = [Match(document, item, predicted[partner[i]] if i in partner else None) for i, item in enumerate(gold)]
    return matches + [Match(document, None, item) for j, item in enumerate(predicted) if j not in taken]


def overlap(one: Item, other: Item) -> int:
    """Return the number of shared characters; 0 unless each place of one item overlaps that of the other."""
    common = [min(a[1], b[1]) - max(a[0], b[0]) for a, b in zip(one.places, other.places, strict=True)]
    return sum(common) if min(common) > 0 else 0
