"""Count the annotation of a corpus, as plain data for `ner-arch debug-data`.

Every function takes examples whose predicted side has the tokens of the pipeline, and returns a dictionary: `labels`
with the number of items of each label, `counts` with other numbers by their names, and `examples` with the first
occurrences of some of these.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any
from unicodedata import is_normalized, normalize

import numpy as np
from spacy.tokens import Doc, Span
from spacy.training import Example

from ..annotation.alignment import align_each
from ..annotation.describe import describe_relation, describe_span, quote
from ..annotation.entities import annotated_tokens
from ..annotation.relations import aligned_keys, has_relations, relation_keys
from ..annotation.teachers import TEACHER
from ..annotation.words import text_key
from ..formats.texts import split_finder
from ..pipes.relation_extractor import RelationExtractor
from ..pipes.span_ner import count_words
from .pipelines import describe_misaligned

Counts = dict[str, Any]

KEPT_EXAMPLES = 5

# Names of counts.
NOT_NFC = "documents whose text is not in the Unicode form NFC"
IN_BOTH = "documents that are in both corpora"
CONTRADICTORY = "texts with different annotation in several documents"
WITHOUT_SPACES = "tokens of documents with unknown spaces"
SPLIT_TOKENS = "tokens of these that the tokenizer splits"
UNANNOTATED = "documents without this annotation"
NOT_ALIGNED = "not aligned with the tokenizer"
CROSSING = "across a sentence boundary"
OVERLAPPING = "overlapping another one"
SEVERAL_LABELS = "bounds with several labels"
MISSING_TOKENS = "tokens without annotation"
NO_ENTITY = "with an argument that is not in doc.ents"
BOTH_DIRECTIONS = "pairs related in both directions"
PAIRS_WITH_LABELS = "pairs with several labels"
CANDIDATES = "candidate pairs"
RELATED = "candidate pairs with a relation"
FOUND = "gold relations that are candidates"
LOST = "gold relations that are not candidates"


class Tally:
    """Numbers by name, with the first examples of some of them."""

    def __init__(self, *names: str) -> None:
        self.counts = Counter(dict.fromkeys(names, 0))
        self.examples: defaultdict[str, list[str]] = defaultdict(list)

    def note(self, name: str, describe: Callable[..., str], *args: Any) -> None:
        """Count an item. describe: function from `args` to a description, called for the first items."""
        self.counts[name] += 1
        if len(self.examples[name]) < KEPT_EXAMPLES:
            self.examples[name].append(describe(*args))

    def as_dict(self, **others: Any) -> Counts:
        return {**others, "counts": dict(self.counts), "examples": dict(self.examples)}


def count_documents(examples: Sequence[Example], other_texts: set[str], tokenizer: Callable[[str], Doc]) -> Counts:
    """Size of a corpus, its tokens, and its annotation of sentences and trees.

    spaCy's reader leaves out documents without tokens, so they are not counted, and documents are not numbered.

    other_texts: the `text_key` of each text of the other corpus.
    tokenizer: that of the pipeline.
    """
    tally = Tally()
    docs = [eg.reference for eg in examples]
    tally.counts["documents"] = len(docs)
    tally.counts["tokens"] = sum(len(eg.predicted) for eg in examples)
    count_splits(tally, docs, tokenizer)
    tally.counts["documents with sentence boundaries"] = sum(doc.has_annotation("SENT_START") for doc in docs)
    tally.counts["documents with dependency trees"] = sum(doc.has_annotation("DEP") for doc in docs)
    tally.counts["documents with a teacher's probabilities"] = sum(TEACHER in doc.user_data for doc in docs)
    tally.counts.update({"repeated texts": 0, CONTRADICTORY: 0, IN_BOTH: 0})
    tally.counts[NOT_NFC] = 0
    for doc in docs:
        if not is_normalized("NFC", doc.text):
            tally.note(NOT_NFC, quote, doc.text)
    for key, copies in find_copies(docs).items():
        tally.counts["repeated texts"] += len(copies) - 1
        if has_contradiction(copies):
            tally.note(CONTRADICTORY, describe_copies, copies)
        if key in other_texts:
            tally.note(IN_BOTH, repr, copies[0].text[:80])
            tally.counts[IN_BOTH] += len(copies) - 1
    return tally.as_dict()


def has_composed(doc: Doc) -> bool:
    """Whether a text is in NFC, and has characters that are several ones in NFD."""
    return is_normalized("NFC", doc.text) and not is_normalized("NFD", doc.text)


def count_splits(tally: Tally, docs: Iterable[Doc], tokenizer: Callable[[str], Doc]) -> None:
    """Count the tokens of documents with unknown spaces, and the tokens of these that the tokenizer would split."""
    words = Counter(token.text for doc in docs if doc.has_unknown_spaces for token in doc)
    tally.counts[WITHOUT_SPACES] = words.total()
    tally.counts[SPLIT_TOKENS] = 0
    describe_split = split_finder(tokenizer)
    for word, number in words.items():
        if split := describe_split(word):
            tally.note(SPLIT_TOKENS, str, split)
            tally.counts[SPLIT_TOKENS] += number - 1


def find_copies(docs: Iterable[Doc]) -> dict[str, list[Doc]]:
    """The documents of each text, by its `text_key`. Documents of white space alone are left out."""
    copies: defaultdict[str, list[Doc]] = defaultdict(list)
    for doc in docs:
        if key := text_key(doc.text):
            copies[key].append(doc)
    return copies


def has_contradiction(copies: Sequence[Doc]) -> bool:
    """Whether documents with the same text do not agree on its annotation.

    A layer that a document does not have, or has for some tokens only, is not compared.
    """
    layers: defaultdict[str, set[frozenset[Any]]] = defaultdict(set)
    for doc in copies if len(copies) > 1 else ():
        for layer, annotation in comparable_layers(doc):
            layers[layer].add(annotation)
    return any(len(annotations) > 1 for annotations in layers.values())


def comparable_layers(doc: Doc) -> Iterator[tuple[str, frozenset[Any]]]:
    """The completely annotated layers of a document, and their items.

    Their offsets are those in the Unicode form NFD without white space, which are the same in all copies of a text.
    """
    place = [0, *accumulate(0 if letter.isspace() else len(normalize("NFD", letter)) for letter in doc.text)]

    def keys(spans: Iterable[Span]) -> frozenset[Any]:
        return frozenset((place[span.start_char], place[span.end_char], span.label_) for span in spans)

    if TEACHER not in doc.user_data and annotated_tokens(doc).all():
        yield "doc.ents", keys(doc.ents)
    for name, group in doc.spans.items():
        if "scores" not in group.attrs:  # of a pipeline
            yield name, keys(group)
    if has_relations(doc):
        yield (
            "doc._.relations",
            frozenset(
                (place[start], place[end], label, place[tail_start], place[tail_end], *labels)
                for start, end, label, tail_start, tail_end, *labels in relation_keys(doc)
            ),
        )


def describe_copies(copies: Sequence[Doc]) -> str:
    return f"{copies[0].text[:80]!r} ({len(copies)} documents)"


def count_spans(examples: Sequence[Example], key: str | None = None) -> Counts:
    """Gold entities, or gold spans of a key of doc.spans. `widths` has the number of spans of each width in words."""
    names = (MISSING_TOKENS,) if key is None else (OVERLAPPING, SEVERAL_LABELS)
    tally = Tally(UNANNOTATED, *names, NOT_ALIGNED, CROSSING)
    labels: Counter[str] = Counter()
    widths: Counter[int] = Counter()
    for eg in examples:
        doc = eg.reference
        spans: Sequence[Span] = doc.ents if key is None else list(doc.spans.get(key, ()))
        if key is None and TEACHER in doc.user_data:
            pass  # the teacher's chain replaces missing annotation
        elif len(doc) and not (doc.has_annotation("ENT_IOB") if key is None else key in doc.spans):
            tally.counts[UNANNOTATED] += 1
        elif key is None:
            tally.counts[MISSING_TOKENS] += int((~annotated_tokens(doc)).sum())
        else:
            count_overlaps(tally, doc, spans)
        starts = sentence_starts(doc)
        for span, aligned in zip(spans, align_each(eg, spans), strict=True):
            labels[span.label_] += 1
            place = eg.predicted[slice(*aligned)] if aligned else span
            widths[count_words(place)] += 1
            if not aligned:
                tally.note(NOT_ALIGNED, describe_misaligned, eg, span)
            if starts[span.start + 1 : span.end].any():
                tally.note(CROSSING, describe_span, span)
    return tally.as_dict(labels=dict(labels), widths=dict(sorted(widths.items())))


def count_overlaps(tally: Tally, doc: Doc, spans: Sequence[Span]) -> None:
    cover = np.zeros(len(doc), dtype=np.int64)
    places = Counter((span.start, span.end) for span in spans)
    for start, end in places:
        cover[start:end] += 1
    tally.counts[OVERLAPPING] += sum(bool((cover[span.start : span.end] > 1).any()) for span in spans)
    tally.counts[SEVERAL_LABELS] += sum(number > 1 for number in places.values())


def sentence_starts(doc: Doc) -> np.ndarray:
    """(T,) bool; all False without sentence boundaries."""
    if not doc.has_annotation("SENT_START"):
        return np.zeros(len(doc), dtype=bool)
    return np.array([bool(token.is_sent_start) for token in doc], dtype=bool)


def count_relations(examples: Sequence[Example], chosen: Collection[str] | None = None) -> Counts:
    """Count gold relations. `types` has the number of each pair of argument types by label, `head_first` the number of
    relations of each label whose head is before its tail.

    chosen: the labels that count; None for all.
    """
    tally = Tally(UNANNOTATED, NO_ENTITY, NOT_ALIGNED, CROSSING, PAIRS_WITH_LABELS, BOTH_DIRECTIONS)
    labels: Counter[str] = Counter()
    head_first: Counter[str] = Counter()
    types: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for eg in examples:
        doc = eg.reference
        if len(doc) and not has_relations(doc):
            tally.counts[UNANNOTATED] += 1
        keys = zip(relation_keys(doc), aligned_keys(eg), strict=True)
        gold = [row for row in keys if chosen is None or row[0][6] in chosen]
        entities = {(ent.start_char, ent.end_char) for ent in doc.ents}
        sentences = [doc[i].idx for i in np.flatnonzero(sentence_starts(doc)).tolist()]
        for key, aligned in gold:
            head, tail, label = key[:2], key[3:5], key[6]
            labels[label] += 1
            head_first[label] += head < tail
            types[label][f"{key[2]} > {key[5]}"] += 1
            if not {head, tail} <= entities:
                tally.note(NO_ENTITY, describe_relation, doc, key)
            if aligned[0] < 0 or aligned[3] < 0:
                tally.note(NOT_ALIGNED, describe_relation, doc, key)
            if bisect_right(sentences, head[0]) != bisect_right(sentences, tail[0]):
                tally.note(CROSSING, describe_relation, doc, key)
        pairs = Counter[tuple]()
        for key, _ in gold:
            pair = (key[:2], key[3:5])
            pairs[pair] += 1
            if pairs[pair] == 2:
                tally.note(PAIRS_WITH_LABELS, describe_relation, doc, key)
        tally.counts[BOTH_DIRECTIONS] += sum(head < tail and (tail, head) in pairs for head, tail in pairs)
    return tally.as_dict(
        labels=dict(labels),
        head_first=dict(head_first),
        types={label: dict(pairs.most_common()) for label, pairs in types.items()},
    )


def count_candidates(pipe: RelationExtractor, examples: Sequence[Example]) -> Counts:
    """Candidate pairs of a component between gold entities, and the gold relations among them."""
    tally = Tally(CANDIDATES, RELATED, FOUND, LOST)
    for eg in examples:
        gold, candidates, found = pipe.find_gold(eg)
        tally.counts[CANDIDATES] += len(candidates.pairs)
        tally.counts[RELATED] += len({row for _, row, _ in found})
        numbers = {number for number, _, _ in found}
        tally.counts[FOUND] += len(numbers)
        for number, key in enumerate(gold):
            if number not in numbers:
                tally.note(LOST, describe_relation, eg.reference, key)
    return tally.as_dict()
