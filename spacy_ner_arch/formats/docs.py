"""From a corpus file to Docs: which sentences make one Doc, and which Docs make the dev part."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.vocab import Vocab

from spacy_ner_arch.annotation.relations import relation_keys
from spacy_ner_arch.formats.conll import read_conll
from spacy_ner_arch.formats.conllu import read_conllu
from spacy_ner_arch.formats.offsets import read_offsets
from spacy_ner_arch.formats.report import Report
from spacy_ner_arch.formats.semeval import read_semeval
from spacy_ner_arch.formats.sentence import SPANS_KEY, Sentence, make_doc
from spacy_ner_arch.formats.spans import read_spans
from spacy_ner_arch.formats.spert import read_spert

Reader = Callable[..., Iterator[list[Sentence]]]
Tokenizer = Callable[[str], Doc]

FORMATS: dict[str, Reader] = {
    "conll": read_conll,
    "conllu": read_conllu,
    "offsets": read_offsets,
    "semeval": read_semeval,
    "spans": read_spans,
    "spert": read_spert,
}


def read_docs(
    path: str | Path,
    vocab: Vocab,
    format: str,
    report: Report,
    *,
    n_sents: int = 1,
    documents: bool = False,
    tokenizer: Tokenizer | None = None,
    **options: Any,
) -> Iterator[Doc]:
    """Read a corpus file as Docs. The Docs keep where their sentences start.

    path: the file.
    vocab: the vocabulary of the pipeline that will use the Docs.
    format: a name in FORMATS.
    report: what is read is counted here.
    n_sents: up to so many consecutive sentences of one document make one Doc.
    documents: each document of the source makes one Doc, however long.
    tokenizer: the tokenizer of that pipeline. If given, entities (or spans, where the format has them) and relations of
        Docs with known spaces are compared with its tokens, and those that do not align are counted: training loses
        them.
    options: options of the reader of the format.
    Yields the Docs in the order of the file, none of them empty.
    Raises FormatError while reading, see the readers; ValueError for an unknown format, for
    `n_sents` below 1 or together with `documents`; TypeError for an option the reader lacks.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}; known are {', '.join(sorted(FORMATS))}")
    if n_sents < 1:
        raise ValueError(f"n_sents is {n_sents}; it must be at least 1")
    if documents and n_sents != 1:
        raise ValueError("give n_sents or documents, not both")
    if format == "offsets":
        # This format has no tokens of its own. Its reader counts what does not align with those it is given.
        if tokenizer is None:
            raise ValueError("the format offsets needs a tokenizer")
        source = read_offsets(path, report, tokenizer=tokenizer, **options)
        return _make_docs(source, vocab, report, 1, None)
    source = FORMATS[format](path, report, **options)
    return _make_docs(source, vocab, report, None if documents else n_sents, tokenizer)


def _make_docs(
    source: Iterator[list[Sentence]],
    vocab: Vocab,
    report: Report,
    n_sents: int | None,
    tokenizer: Tokenizer | None,
) -> Iterator[Doc]:
    for document in source:
        for group in _group(document, n_sents or len(document)):
            doc = make_doc(vocab, group)
            if any(sentence.relations is None for sentence in group):
                report.relations_dropped += sum(len(sentence.relations or ()) for sentence in group)
            if tokenizer is not None and not doc.has_unknown_spaces:
                report.alignment_checked += len(_annotated_spans(doc))
                report.misaligned += count_misaligned(doc, tokenizer)
                report.relations_checked += len(relation_keys(doc))
                report.relations_misaligned += count_misaligned_relations(doc, tokenizer)
            yield doc


def _group(sentences: list[Sentence], size: int) -> Iterator[list[Sentence]]:
    for start in range(0, len(sentences), size):
        yield sentences[start : start + size]


def count_misaligned(doc: Doc, tokenizer: Tokenizer) -> int:
    """Count the entities whose bounds are no token bounds once the text is tokenised anew.

    doc: a Doc with known spaces. If it has spans that may overlap, these are counted; its entities are among them.
    tokenizer: makes a Doc from the text.
    Returns their number.
    """
    example = Example(tokenizer(doc.text), doc)
    spans = _annotated_spans(doc)
    return len(spans) - len(example.get_aligned_spans_y2x(spans, allow_overlap=True))


def count_misaligned_relations(doc: Doc, tokenizer: Tokenizer) -> int:
    """Count the relations with an argument whose bounds are no token bounds once the text is tokenised anew.

    doc: a Doc with known spaces.
    tokenizer: makes a Doc from the text.
    Returns their number.
    """
    keys = relation_keys(doc)
    if not keys:
        return 0
    anew = tokenizer(doc.text)
    return sum(
        anew.char_span(head_start, head_end) is None or anew.char_span(tail_start, tail_end) is None
        for head_start, head_end, _, tail_start, tail_end, _, _ in keys
    )


def _annotated_spans(doc: Doc) -> Sequence[Span]:
    return list(doc.spans[SPANS_KEY]) if SPANS_KEY in doc.spans else doc.ents


def split_docs(docs: Iterable[Doc], share: float, seed: int) -> tuple[list[Doc], list[Doc]]:
    """Cut a share of Docs off as dev part; the same input gives the same parts everywhere.

    docs: the Docs.
    share: the share of the dev part, between 0 and 1, rounded to whole Docs. Of two Docs or more,
        each part gets at least one.
    seed: another seed gives other parts.
    Returns the Docs that stay and the dev part, both in the order of the input.
    Raises ValueError if the share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share of the dev part is {share}; it must be between 0 and 1")
    docs = list(docs)
    # A hash instead of a random generator: its order is the same in every version of Python.
    order = sorted(range(len(docs)), key=lambda i: hashlib.sha256(f"{seed}:{i}".encode()).digest())
    n_dev = max(1, min(round(share * len(docs)), len(docs) - 1)) if len(docs) > 1 else 0
    dev = set(order[:n_dev])
    return (
        [doc for i, doc in enumerate(docs) if i not in dev],
        [doc for i, doc in enumerate(docs) if i in dev],
    )
