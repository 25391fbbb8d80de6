"""Read a corpus file as Docs: rename and select labels, group sentences, and compare entities with a tokenizer."""

import os
from bisect import bisect_right
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.vocab import Vocab

from ..annotation.alignment import find_misaligned
from ..annotation.relations import get_relations
from .counts import MISALIGNED, MISALIGNED_RELATION, SPLIT, Note, ReadReport, check_on_error
from .fields import DOCUMENT
from .labels import relabel_sentences
from .readers import FORMATS
from .sentence import SPANS_KEY, Sentence, make_doc
from .spans import DUPLICATE, select_labels
from .texts import check_align, describe_misalignment, split_finder
from .word_spans import align_words

Tokenizer = Callable[[str], Doc]


def read_docs(
    path: str | Path,
    vocab: Vocab,
    format: str,
    report: ReadReport,
    *,
    rename: Mapping[str, str] | None = None,
    labels: Collection[str] = (),
    n_sents: int = 1,
    documents: bool = False,
    tokenizer: Tokenizer | None = None,
    on_error: str = "raise",
    fields: Collection[str] = (),
    **options: Any,
) -> Iterator[Doc]:
    """Read a corpus file as Docs, with the sentence starts of the file.

    path, report, on_error: see `readers.py`.
    vocab: vocabulary of the pipeline that will use the Docs.
    format: a name in FORMATS.
    rename: new names of labels of entities, spans and relations by their old ones. First white space at the ends of
        labels is trimmed, then labels are renamed, then all else is done. A new name is not renamed again.
    labels: labels of entities to keep; others are left out and counted, with their relations. Empty: keep all.
    n_sents: number of consecutive sentences of a document that make one Doc.
    documents: make one Doc of each document of the source.
    tokenizer: tokenizer of that pipeline. If given, spans (in formats with spans, otherwise entities) and relations of
        Docs with known spaces are compared with its tokens. Those that do not align are counted; training loses them.
        In Docs with unknown spaces, tokens that it splits are counted.
    fields: fields of the records to keep in doc.user_data, for readers with this option. DOCUMENT is, in all formats,
        the name of the source document, unless the record has a field of this name.
    options: other options of the reader. `align`, see `texts.make_sentences`, is also for formats with `Format.spaces`,
        if a tokenizer is given: see `word_spans.align_words`. By default they keep all entities.
    Yields the Docs in the order of the file. No Doc is empty. `report.sources` tells which are of the same document.
    Raises FormatError while reading; ValueError for an unknown format or on_error, n_sents below 1 or together with
        documents, or a format of texts without a tokenizer; TypeError for an unknown option.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}; choose from {', '.join(sorted(FORMATS))}")
    if n_sents < 1:
        raise ValueError(f"n_sents is {n_sents}; it must be at least 1")
    if documents and n_sents != 1:
        raise ValueError("set n_sents or documents, not both")
    if FORMATS[format].has_texts:
        if tokenizer is None:
            raise ValueError(f"the format {format} needs a tokenizer")
        options["tokenizer"] = tokenizer
        # The reader itself tokenizes and counts entities that do not align.
        tokenizer = None
    # Entities of given tokens are kept as they are by default.
    align = check_align(options.pop("align")) if FORMATS[format].spaces and "align" in options else None
    if "fields" in FORMATS[format].options or {*fields} - {DOCUMENT}:
        options["fields"] = fields
    # These readers rename labels before they compare annotators.
    renames_itself = "rename" in FORMATS[format].options
    if renames_itself:
        options["rename"] = rename or {}
    source = FORMATS[format].read(path, report, on_error=check_on_error(on_error), **options)
    if not renames_itself:
        source = relabel_sentences(source, rename or {}, report)
    if labels:
        source = _select(source, labels, report)
    # Entities with other labels must not take tokens from the selected ones.
    if align is not None and tokenizer is not None:
        source = _align(source, tokenizer, align, report)
    name_in = Path(path) if DOCUMENT in fields else None
    return _make_docs(source, vocab, report, None if documents else n_sents, tokenizer, name_in)


def _align(
    source: Iterator[list[Sentence]], tokenizer: Tokenizer, align: str, report: ReadReport
) -> Iterator[list[Sentence]]:
    for document in source:
        for i, sentence in enumerate(document):
            if sentence.spaces is not None:
                document[i], notes = align_words(sentence, tokenizer, align)
                report.replace(sentence, document[i], notes)
                # Those that are left are counted with their Doc.
                report.checked[MISALIGNED] += sum(note.kind in (MISALIGNED, DUPLICATE) for note in notes)
        yield document


def _select(source: Iterator[list[Sentence]], labels: Collection[str], report: ReadReport) -> Iterator[list[Sentence]]:
    for document in source:
        selected = []
        for sentence in document:
            kept, notes = select_labels(sentence, labels)
            if kept is not sentence:
                report.replace(sentence, kept, notes)
                spans = {*sentence.spans, *(sentence.nested or ())}
                report.other_labels.update(label for _, _, label in spans if label not in labels)
            selected.append(kept)
        yield selected


def _make_docs(
    source: Iterator[list[Sentence]],
    vocab: Vocab,
    report: ReadReport,
    n_sents: int | None,
    tokenizer: Tokenizer | None,
    name_in: Path | None,
) -> Iterator[Doc]:
    describe_split = split_finder(tokenizer) if tokenizer is not None else None
    shown: set[str] = set()
    file = object()
    for number, document in enumerate(source, start=1):
        size = n_sents or len(document)
        own = document[0].document
        key = object() if own is None else (file, own)
        for first in range(0, len(document), size):
            group = document[first : first + size]
            doc = make_doc(vocab, group)
            if name_in is not None and DOCUMENT not in doc.user_data:
                doc.user_data[DOCUMENT] = _name_document(name_in, number if own is None else own)
                report.documents_with_field[DOCUMENT] += first == 0
            if any(sentence.relations is None for sentence in group):
                report.relations_dropped += sum(len(sentence.relations or ()) for sentence in group)
            if tokenizer is not None and not doc.has_unknown_spaces:
                _check_alignment(doc, tokenizer(doc.text), group, report)
            elif describe_split is not None:
                _count_split(group, describe_split, report, shown)
            report.sources.append(key)
            yield doc


def _name_document(path: Path, key: Hashable) -> str:
    """The name of a source document: its key if this is text, or else the file and its number."""
    # Keys of texts begin with the path of their file.
    return key.removeprefix(f"{path.parent}{os.sep}") if isinstance(key, str) else f"{path.name}:{key}"


def _count_split(
    sentences: list[Sentence], describe_split: Callable[[str], str], report: ReadReport, shown: set[str]
) -> None:
    """Count the words that the tokenizer splits.

    shown: descriptions of words that were counted, which are not shown as examples again.
    """
    for sentence in sentences:
        report.checked[SPLIT] += len(sentence.words)
        for split in filter(None, map(describe_split, sentence.words)):
            if sentence.line is not None:
                report.note(Note(sentence.line, SPLIT, "" if split in shown else split))
            shown.add(split)


def _check_alignment(doc: Doc, tokenized: Doc, sentences: list[Sentence], report: ReadReport) -> None:
    """Count spans or entities, and relations, whose bounds are not token bounds of the text tokenized again."""
    spans: Sequence[Span] = list(doc.spans[SPANS_KEY]) if SPANS_KEY in doc.spans else doc.ents
    example, text = Example(tokenized, doc), tokenized.text
    ends = list(accumulate(len(sentence.words) for sentence in sentences))

    def note(kind: str, start: int, detail: str) -> None:
        line = sentences[bisect_right(ends, start)].line
        if line is not None:
            report.note(Note(line, kind, detail))

    report.checked[MISALIGNED] += len(spans)
    for span in find_misaligned(example, spans):
        reason = describe_misalignment(tokenized, text, span.start_char, span.end_char, span.label_)
        note(MISALIGNED, span.start, reason)
    for head, tail, label, _ in get_relations(doc):
        report.checked[MISALIGNED_RELATION] += 1
        bounds = (head.start_char, head.end_char), (tail.start_char, tail.end_char)
        if any(tokenized.char_span(start, end) is None for start, end in bounds):
            note(MISALIGNED_RELATION, head.start, f"{head.text!r} {label} {tail.text!r}")
