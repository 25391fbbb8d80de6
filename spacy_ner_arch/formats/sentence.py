"""The common currency of the readers: one annotated sentence, and the way into a spaCy Doc."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeVar

from spacy.tokens import Doc, Span
from spacy.vocab import Vocab

from spacy_ner_arch.annotation.relations import Relation, set_relations

T = TypeVar("T")
LabelledSpan = tuple[int, int, str]
LabelledPair = tuple[LabelledSpan, LabelledSpan, str]

# The key that spaCy's own components for spans read and write.
SPANS_KEY = "sc"


@dataclass
class Sentence:
    """One sentence as its source annotates it, whatever the format.

    words: the tokens, none of them empty.
    spaces: for each word, whether a space follows it; None if the source does not say.
    spans: the entities as (start, end, label), end exclusive, in order, none overlapping.
    missing: the words for which the source says nothing about entities; outside all spans.
    heads: for each word the index of its head; the root points to itself.
    deps, pos, tags, lemmas: one value for each word, "" where the source has none.
    nested: all spans in any order, each once. They may overlap and carry several labels; `spans` are some of them.
    relations: the relations as (head, tail, label), each once; head and tail are spans, not always among `spans`.
        This, `nested`, `heads`, `deps`, `pos`, `tags` and `lemmas` are None if the source has no such layer.
    """

    words: list[str]
    spaces: list[bool] | None = None
    spans: list[LabelledSpan] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    heads: list[int] | None = None
    deps: list[str] | None = None
    pos: list[str] | None = None
    tags: list[str] | None = None
    lemmas: list[str] | None = None
    nested: list[LabelledSpan] | None = None
    relations: list[LabelledPair] | None = None


def make_doc(vocab: Vocab, sentences: Sequence[Sentence]) -> Doc:
    """Join sentences into one Doc that keeps their tokens and where each of them starts.

    Spaces decide what spaCy trains on. Its training corpus keeps the tokens of a Doc whose spaces
    are unknown (`doc.has_unknown_spaces`), and tokenises the text anew when they are known. So
    the spaces are known only if every sentence knows its own; a guess would hand the model a text
    that never was, tokenised in a way the source did not mean.

    Every token gets an entity annotation ("O" outside of entities) except those in `missing`,
    which stay without one: a model is neither rewarded nor punished for them.

    A layer (tree, part of speech, tag, lemma, nested spans, relations) is set if all sentences have it, else left out.
    The relation "root" is written "ROOT", the name that spaCy's parser gives it.
    Nested spans stand in `doc.spans[SPANS_KEY]`, by start, end and label. (DocBin keeps them; `Span.as_doc` does not,
    so that spaCy's corpus reader loses them where it splits Docs, with `max_length` or `gold_preproc`.)
    Relations stand in `doc._.relations`, see `spacy_ner_arch.annotation.relations`.

    vocab: the vocabulary of the pipeline that will use the Doc.
    sentences: the sentences in order; none gives an empty Doc.
    Returns the Doc.
    """
    heads = _joined([_shifted(s.heads, start) for start, s in _with_starts(sentences)])
    deps = _joined([s.deps for s in sentences])
    has_trees = heads is not None and deps is not None
    doc = Doc(
        vocab,
        words=list(chain.from_iterable(s.words for s in sentences)),
        spaces=_joined([s.spaces for s in sentences]),
        sent_starts=[i == 0 for s in sentences for i in range(len(s.words))],
        heads=heads if has_trees else None,
        deps=["ROOT" if dep == "root" else dep for dep in deps or []] if has_trees else None,
        pos=_joined([s.pos for s in sentences]),
        tags=_joined([s.tags for s in sentences]),
        lemmas=_joined([s.lemmas for s in sentences]),
    )
    entities: list[Span] = []
    missing: list[Span] = []
    for offset, sentence in _with_starts(sentences):
        entities += [Span(doc, offset + start, offset + end, label=label) for start, end, label in sentence.spans]
        missing += [Span(doc, offset + i, offset + i + 1) for i in sentence.missing]
    doc.set_ents(entities, missing=missing, default="outside")
    nested = _joined([_shifted_spans(s.nested, start) for start, s in _with_starts(sentences)])
    if nested is not None:
        # Also without any span: then nothing in the Doc is one, whereas a Doc without the key tells nothing.
        doc.spans[SPANS_KEY] = [Span(doc, start, end, label=label) for start, end, label in sorted(nested)]
    relations = _joined([_placed_relations(doc, s.relations, start) for start, s in _with_starts(sentences)])
    if relations is not None:
        set_relations(doc, relations)
    return doc


def _with_starts(sentences: Sequence[Sentence]) -> list[tuple[int, Sentence]]:
    """Pair each sentence with the index of its first word in the joined text."""
    pairs = []
    start = 0
    for sentence in sentences:
        pairs.append((start, sentence))
        start += len(sentence.words)
    return pairs


def _shifted(heads: list[int] | None, offset: int) -> list[int] | None:
    return None if heads is None else [head + offset for head in heads]


def _shifted_spans(spans: list[LabelledSpan] | None, offset: int) -> list[LabelledSpan] | None:
    return None if spans is None else [(offset + start, offset + end, label) for start, end, label in spans]


def _placed_relations(doc: Doc, relations: list[LabelledPair] | None, offset: int) -> list[Relation] | None:
    if relations is None:
        return None

    def place(span: LabelledSpan) -> Span:
        start, end, label = span
        return Span(doc, offset + start, offset + end, label=label)

    return [Relation(place(head), place(tail), label) for head, tail, label in relations]


def _joined(layers: Sequence[list[T] | None]) -> list[T] | None:
    """Join one layer over all sentences; None if there are none or one of them lacks it."""
    present = [layer for layer in layers if layer is not None]
    if not present or len(present) < len(layers):
        return None
    return list(chain.from_iterable(present))
