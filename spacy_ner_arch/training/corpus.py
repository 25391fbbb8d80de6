"""Corpus reader that copies gold annotation to the predicted documents."""

import random
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Corpus, Example
from spacy.util import registry

from ..annotation.describe import quote
from ..annotation.layers import count_layers
from ..annotation.relations import get_relations, has_relations, set_relations
from ..annotation.sentences import set_sentences
from ..formats.docbins import find_docbins, read_docbin


@registry.readers("spacy_ner_arch.Corpus.v1")
def create_corpus(
    path: Path | None,
    copy: list[str] = [],  # noqa: B006 - config defaults are lists
    share: float = 1.0,
    gold_preproc: bool = False,
    max_length: int = 0,
    limit: int = 0,
    augmenter: Callable | None = None,
) -> Callable[[Language], Iterator[Example]]:
    """spacy.Corpus.v1 that also copies gold annotation to the predicted documents, as if a component had set it.

    Use it for components that read the annotation of other components, or to score them independently of these.

    path: .spacy file or folder with .spacy files.
    copy: any of "ents" (entities), "spans" (all of doc.spans), "heads" (dependency tree, parts of speech and sentence
        starts) and "sents" (sentence starts alone, unless "heads" copies a tree).
    share: share of the documents that get the annotation; the others are left to annotating components. The documents
        are sampled whenever the corpus is read: once for the whole training, or in every pass with [training]
        max_epochs = -1.
    The other arguments are those of spacy.Corpus.v1. Relations and sentence starts are kept if the augmenter keeps the
    number of words.
    """
    unknown = sorted(set(copy) - set(COPIERS))
    if unknown:
        raise ValueError(f"spacy_ner_arch.Corpus.v1 cannot copy {unknown}; choose from {sorted(COPIERS)}")
    if not 0 <= share <= 1:
        raise ValueError(f"spacy_ner_arch.Corpus.v1: share = {share} must be between 0 and 1")
    if path is None:
        raise ValueError(
            "spacy_ner_arch.Corpus.v1: path is missing; set [paths] train and dev, or --paths.train and --paths.dev"
        )
    corpus = GoldCorpus(
        path,
        gold_preproc=gold_preproc,
        max_length=max_length,
        limit=limit,
        augmenter=augmenter and partial(augment, augmenter),
    )
    return partial(read_examples, corpus, copy, share)


class GoldCorpus(Corpus):
    """spaCy's corpus. Warns if a split document loses relations or doc.spans that a component reads."""

    def __call__(self, nlp: Language) -> Iterator[Example]:
        """The examples of all files that `find_docbins` finds, even if the name of the folder begins with a dot."""
        self._layers = {getattr(pipe, "gold_layer", "doc.ents") for _, pipe in nlp.components} - {"doc.ents"}
        docs = self.read_docbin(nlp.vocab, find_docbins(self.path))
        make_examples = self.make_examples_gold_preproc if self.gold_preproc else self.make_examples
        for example in make_examples(nlp, docs):
            yield from self.augmenter(nlp, example)

    def read_docbin(self, vocab: Any, locs: Any) -> Iterator[Doc]:
        """The documents of the files, except empty ones. Warns about the first document that loses annotation."""
        docs = filter(len, chain.from_iterable(read_docbin(path, vocab) for path in locs))
        for doc in islice(docs, self.limit if self.limit >= 1 else None):
            is_split = (self.gold_preproc and doc.has_annotation("SENT_START")) or 0 < self.max_length <= len(doc)
            if self._layers and is_split:
                lost = self._layers & count_layers(doc).keys()
                if lost:
                    self._layers = set()
                    setting = "gold_preproc = true" if self.gold_preproc else f"max_length = {self.max_length}"
                    warnings.warn(
                        f"spacy_ner_arch.Corpus.v1: {setting} drops documents of {self.path}, or splits them into "
                        f"sentences without their {', '.join(sorted(lost))} (for example {quote(doc.text)}); set "
                        "max_length = 0 and gold_preproc = false, or store each sentence as a document",
                        stacklevel=2,
                    )
            yield doc


def augment(
    augmenter: Callable[[Language, Example], Iterator[Example]], nlp: Language, example: Example
) -> Iterator[Example]:
    """The examples that an augmenter makes from one example. Copies what the augmenters of spaCy lose: relations, and
    sentence starts of documents without a tree.
    """
    for augmented in augmenter(nlp, example):
        source, target = example.reference, augmented.reference
        if has_relations(source) and not has_relations(target):
            copy_relations(source, target)
        # Partly unknown starts are not copied, since they would become false.
        if source.has_annotation("SENT_START", require_complete=True) and not target.has_annotation("SENT_START"):
            copy_sentences(source, target)
        yield augmented


def word_map(source: Doc, target: Doc) -> dict[int, int] | None:
    """Map each word of `source` to the word of `target` with the same index; None if the numbers of words differ.
    White space is not a word.
    """
    words, others = ([token.i for token in doc if not token.is_space] for doc in (source, target))
    return dict(zip(words, others, strict=True)) if len(words) == len(others) else None


def copy_sentences(source: Doc, target: Doc) -> None:
    """Copy sentence starts to a document with the same number of words. Warns if the numbers differ."""
    place = word_map(source, target)
    if place is None:
        warnings.warn(
            "spacy_ner_arch.Corpus.v1: the augmenter changes the number of words, and sentence starts are lost; make "
            "the augmenter set them",
            stacklevel=2,
        )
        return
    firsts = (next((token.i for token in sent if token.i in place), None) for sent in source.sents)
    starts = [place[first] for first in firsts if first is not None]
    set_sentences(target, [0, *starts[1:]])


def copy_relations(source: Doc, target: Doc) -> None:
    """Copy relations to a document with the same number of words. Warns if relations are lost."""
    relations = get_relations(source)
    place = word_map(source, target) or {}

    def move(span: Span) -> Span | None:
        tokens = [place[token.i] for token in span if token.i in place]
        return Span(target, tokens[0], tokens[-1] + 1, label=span.label) if tokens else None

    moved = []
    for relation in relations:
        head, tail = move(relation.head), move(relation.tail)
        if head is not None and tail is not None:
            moved.append(relation._replace(head=head, tail=tail))
    if len(moved) < len(relations):
        # A constant message, so that Python shows the warning once.
        warnings.warn(
            "spacy_ner_arch.Corpus.v1: the augmenter changes the number of words, or a relation has an argument of "
            "white space only, and relations are lost; make the augmenter set doc._.relations of its documents",
            stacklevel=2,
        )
    if moved or not relations:
        set_relations(target, moved)


def read_examples(corpus: Corpus, copy: list[str], share: float, nlp: Language) -> Iterator[Example]:
    for example in corpus(nlp):
        for name in copy if share == 1 or random.random() < share else ():
            COPIERS[name](example)
        yield example


def copy_ents(example: Example) -> None:
    """Copy gold entities that align with the predicted tokens."""
    example.predicted.set_ents(example.get_aligned_spans_y2x(example.reference.ents), default="outside")


def copy_spans(example: Example) -> None:
    """Copy gold spans of all keys that align with the predicted tokens."""
    for key, group in example.reference.spans.items():
        example.predicted.spans[key] = example.get_aligned_spans_y2x(group, allow_overlap=True)


def copy_heads(example: Example) -> None:
    """Copy the gold tree and parts of speech where they align; a token that does not align becomes a root. Without a
    gold tree, copy nothing, so that a component that needs a tree raises its error."""
    reference, predicted = example.reference, example.predicted
    if not reference.has_annotation("DEP"):
        return
    heads, deps = example.get_aligned_parse(projectivize=False)
    heads = [i if head is None else head for i, head in enumerate(heads)]
    annotated: Any = Doc(
        predicted.vocab,
        words=[token.text for token in predicted],
        spaces=[bool(token.whitespace_) for token in predicted],
        heads=heads,
        pos=[pos or "" for pos in example.get_aligned("POS", as_string=True)],
        # Give every token a label, so that the tree counts as annotation even if nothing aligns.
        deps=[dep or ("ROOT" if head == i else "dep") for i, (head, dep) in enumerate(zip(heads, deps, strict=True))],
    )
    columns: list[int | str] = ["HEAD", "DEP", *(["POS"] if reference.has_annotation("POS") else [])]
    predicted.from_array(columns, annotated.to_array(columns))


def copy_sents(example: Example) -> None:
    """Copy gold sentence starts where they align; a sentence that starts within a predicted token is joined to the
    previous one. Copy nothing without gold sentence starts, or onto a tree, which has its own."""
    reference, predicted = example.reference, example.predicted
    if not reference.has_annotation("SENT_START") or predicted.has_annotation("DEP"):
        return
    to_predicted, to_reference = example.alignment.y2x, example.alignment.x2y
    starts = {0}
    for sent in reference.sents:
        # If a gold token aligns with several predicted tokens, take the first. If a predicted token aligns with several
        # gold tokens, take it only if the sentence starts at the first of these.
        first = to_predicted[sent.start][:1]
        if len(first) and to_reference[int(first[0])][0] == sent.start:
            starts.add(int(first[0]))
    set_sentences(predicted, starts)


COPIERS: dict[str, Callable[[Example], None]] = {
    "ents": copy_ents,
    "spans": copy_spans,
    "heads": copy_heads,
    "sents": copy_sents,
}
