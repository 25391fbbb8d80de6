"""Annotated sentences, the common output of the readers, and their conversion to a Doc."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain
from typing import Any, TypeVar

from spacy.tokens import Doc, Span
from spacy.vocab import Vocab

from ..annotation.layers import SPANS_KEY
from ..annotation.relations import Relation, set_relations
from ..annotation.tags import LabelledSpan
from .lines import Line

T = TypeVar("T")
LabelledPair = tuple[LabelledSpan, LabelledSpan, str]
"""Head, tail and label of a relation."""


@dataclass
class Sentence:
    """Annotation of one sentence, or of a text of several sentences whose annotation crosses their borders.

    words: the tokens; none is empty.
    spaces: whether a space follows each token, or None if unknown.
    spans: the entities, sorted and without overlaps.
    missing: indices of tokens without entity annotation, outside of all entities.
    heads: index of the head of each token; the root is its own head.
    deps, pos, tags, lemmas: a value for each token, "" if there is none.
    nested: all spans, each once, in any order. They may overlap; the entities are among them.
    relations: the relations, each once. Their arguments need not be entities.
    The layers heads, deps, pos, tags, lemmas, nested and relations are None if the source does not annotate them.
    starts: indices of the tokens that begin a sentence, [0] for a single one. None for a text whose source does not say
        where its sentences begin.
    fields: fields of the record, such as its id, which the Doc keeps in doc.user_data.
    document: key of the source document in its file, if a reader yields the document in several lists; otherwise None.
    line: line on which the sentence begins, for messages, or None.
    The last two are not compared for equality.
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
    starts: list[int] | None = field(default_factory=lambda: [0])
    fields: dict[str, Any] = field(default_factory=dict)
    document: Hashable = field(default=None, compare=False, repr=False)
    line: Line | None = field(default=None, compare=False, repr=False)

    def shifted(self, offset: int) -> "Sentence":
        """A copy whose indices count from `offset`."""

        def shift(span: LabelledSpan) -> LabelledSpan:
            return span[0] + offset, span[1] + offset, span[2]

        return replace(
            self,
            spans=[shift(span) for span in self.spans],
            missing=[i + offset for i in self.missing],
            starts=self.starts and [i + offset for i in self.starts],
            heads=self.heads and [head + offset for head in self.heads],
            nested=self.nested and [shift(span) for span in self.nested],
            relations=self.relations and [(shift(head), shift(tail), label) for head, tail, label in self.relations],
        )


def make_doc(vocab: Vocab, sentences: list[Sentence]) -> Doc:
    """Join sentences into one Doc.

    Spaces are set only if all sentences state them. spaCy's corpus reader trains on the tokens of a Doc with unknown
    spaces and tokenizes the text of all others again, so guessed spaces would change the tokens.

    A layer (sentence starts, tree, part of speech, tag, lemma, spans, relations) is set only if all sentences have it.
    Spans are stored in doc.spans[SPANS_KEY], sorted; relations in doc._.relations. DocBin keeps both, but `Span.as_doc`
    does not: spaCy's corpus reader loses them with `max_length` above 0 or `gold_preproc`.
    All tokens have entity annotation except those in `missing`. The label "root" becomes "ROOT", as in spaCy's parser.

    vocab: vocabulary of the pipeline that will use the Doc.
    sentences: the sentences in order. Without any, the Doc is empty.
    """
    offsets = accumulate((len(sentence.words) for sentence in sentences), initial=0)
    parts = [sentence.shifted(offset) for sentence, offset in zip(sentences, offsets, strict=False)]
    heads, deps = _join(part.heads for part in parts), _join(part.deps for part in parts)
    has_tree = heads is not None and deps is not None
    starts = _join(part.starts for part in parts)
    firsts = set(starts or ())
    n_words = sum(len(part.words) for part in parts)
    doc = Doc(
        vocab,
        words=[word for part in parts for word in part.words],
        spaces=_join(part.spaces for part in parts),
        sent_starts=None if starts is None else [i in firsts for i in range(n_words)],
        heads=heads if has_tree else None,
        deps=["ROOT" if dep == "root" else dep for dep in deps or ()] if has_tree else None,
        pos=_join(part.pos for part in parts),
        tags=_join(part.tags for part in parts),
        lemmas=_join(part.lemmas for part in parts),
    )

    for part in parts:
        doc.user_data.update(part.fields)

    def make_span(span: LabelledSpan) -> Span:
        return Span(doc, span[0], span[1], label=span[2])

    doc.set_ents(
        [make_span(span) for part in parts for span in part.spans],
        missing=[doc[i : i + 1] for part in parts for i in part.missing],
        default="outside",
    )
    nested = _join(part.nested for part in parts)
    if nested is not None:
        # An empty group states that there are no spans. Without the key, spans are not annotated.
        doc.spans[SPANS_KEY] = [make_span(span) for span in sorted(nested)]
    relations = _join(part.relations for part in parts)
    if relations is not None:
        set_relations(doc, [Relation(make_span(head), make_span(tail), label) for head, tail, label in relations])
    return doc


def _join(layers: Iterable[list[T] | None]) -> list[T] | None:
    """Concatenate a layer of all sentences. Return None if a sentence lacks it or there is no sentence."""
    given = list(layers)
    present = [layer for layer in given if layer is not None]
    return list(chain.from_iterable(present)) if given and len(present) == len(given) else None
