"""JSON lines of tokenised sentences with spans that may nest and overlap, and relations between them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from reprlib import repr as short_repr
from typing import Any

from spacy_ner_arch.formats.lines import BLANKS, SURROGATE, Line, raise_faults, read_lines
from spacy_ner_arch.formats.report import FormatError, Report, check_on_error, skipped_if_bad
from spacy_ner_arch.formats.sentence import LabelledPair, LabelledSpan, Sentence

REMEDY = (
    'write {"tokens": ["New", "York"], "spans": [[0, 2, "LOC"]]}: each span [start, end, label], '
    "counted in tokens from 0, the end being the token behind the last one; "
    'relations, if any, as "relations": [[head, tail, label]], head and tail counting the spans from 0'
)
DUPLICATE = "span that stands twice, kept once"
DUPLICATE_RELATION = "relation that stands twice, kept once"


def read_spans(path: str | Path, report: Report, *, on_error: str = "raise") -> Iterator[list[Sentence]]:
    """Read JSON lines, one sentence a line, such as {"tokens": ["New", "York"], "spans": [[0, 2, "LOC"]]}.

    A span is [start, end, label] in tokens, its end exclusive; further items are ignored. Spans may nest, overlap and
    carry several labels: all of them become `Sentence.nested`. Entities cannot overlap: `Sentence.spans` has the
    outermost spans, see `widest_apart`. The report tells how many spans are not among these. A span that stands twice
    with the same label is kept once and counted as a repair.

    "relations" may hold relations between the spans, such as [0, 2, "lives_in"]: head, tail, label, where head and tail
    count the spans from 0, as they stand in the file. An empty list says that there is none, a line without the key
    nothing. A relation that stands twice is kept once and counted as a repair.

    Consecutive lines of the same "doc" are one document, a line without it is a document of its own. "spaces" may say
    of each token whether a space follows it. Other keys are ignored.

    path: the file, UTF-8.
    report: what is read is counted here.
    on_error: "raise" an error for a malformed line, or "skip" it and count it.
    Yields the sentences of one document after the other; no document is empty.
    Raises FormatError for a line that is not such an object, has a span that is no sequence of its tokens or a relation
    between what are not its spans; ValueError if `on_error` is neither of the two.
    """
    check_on_error(on_error)
    return _read_documents(Path(path), report, on_error)


def widest_apart(spans: list[LabelledSpan]) -> list[LabelledSpan]:
    """Choose spans that do not overlap, the widest first.

    Of spans of one width the first goes first, of several labels of one span the first by name.

    spans: in any order.
    Returns the chosen spans in the order of the sentence.
    """
    chosen: list[LabelledSpan] = []
    taken: set[int] = set()
    for start, end, label in sorted(spans, key=lambda span: (span[0] - span[1], span)):
        tokens = range(start, end)
        if taken.isdisjoint(tokens):
            taken.update(tokens)
            chosen.append((start, end, label))
    return sorted(chosen)


def make_sentence(record: dict[str, Any]) -> tuple[Sentence, list[str]]:
    """Make a Sentence of a line in which `find_fault` finds none.

    record: the keys of a line, see `read_spans`.
    Returns the sentence, and the kinds of the repairs made.
    """
    given: list[LabelledSpan] = [(start, end, label) for start, end, label, *_ in record["spans"]]
    spans = list(dict.fromkeys(given))
    repairs = [DUPLICATE] * (len(given) - len(spans))
    relations: list[LabelledPair] | None = None
    if record.get("relations") is not None:
        pairs = [(given[head], given[tail], label) for head, tail, label in record["relations"]]
        relations = list(dict.fromkeys(pairs))
        repairs += [DUPLICATE_RELATION] * (len(pairs) - len(relations))
    sentence = Sentence(record["tokens"], record.get("spaces"), widest_apart(spans), nested=spans, relations=relations)
    return sentence, repairs


def _read_documents(path: Path, report: Report, on_error: str) -> Iterator[list[Sentence]]:
    for _, lines in groupby(_read_sentences(path, report, on_error), key=itemgetter(0)):
        document = [sentence for _, sentence in lines]
        report.documents += 1
        yield document


def _read_sentences(path: Path, report: Report, on_error: str) -> Iterator[tuple[Any, Sentence]]:
    """Yield the sentences, each with its document; without one, with an object that equals no other."""
    for line in read_lines(path):
        if not line.text.strip(BLANKS):
            continue
        with skipped_if_bad(report, on_error):
            record = _parse(path, line)
            sentence, repairs = make_sentence(record)
            report.add_sentence(sentence)
            report.add_repairs(path, [(line.number, kind) for kind in repairs])
            document = record.get("doc")
            yield (object() if document is None else document), sentence


def _parse(path: Path, line: Line) -> dict[str, Any]:
    raise_faults(path, [line])
    try:
        record = json.loads(line.text)
    except ValueError as error:
        raise FormatError(path, line.number, line.text, f"not json: {error}", REMEDY) from error
    fault = find_fault(record)
    if fault is not None:
        raise FormatError(path, line.number, line.text, fault, REMEDY)
    return record


def find_fault(record: Any) -> str | None:
    """Tell why something is no annotated sentence as a line of the format has it; None if it is one."""
    if not isinstance(record, dict):
        return "no object with tokens and spans"
    words, spaces, spans = record.get("tokens"), record.get("spaces"), record.get("spans")
    relations = record.get("relations")
    if not isinstance(words, list) or not words:
        return 'no "tokens", or none in the list'
    for i, word in enumerate(words):
        if not isinstance(word, str):
            return f"the token {i}, {short_repr(word)}, is no text"
        if not word.strip(BLANKS):
            return f"the token {i} is empty"
        if SURROGATE.search(word):
            return f"the token {i}, {word!r}, has half of a character (a lone surrogate)"
    if spaces is not None:
        if not isinstance(spaces, list) or not all(type(space) is bool for space in spaces):
            return '"spaces" is not a list of true and false'
        if len(spaces) != len(words):
            return f"{len(spaces)} spaces for {len(words)} tokens"
    # A file with another name for its spans would else be read as one without any.
    if not isinstance(spans, list):
        return 'no list of "spans"; that of a sentence without any is []'
    for span in spans:
        fault = _find_span_fault(span, len(words))
        if fault is not None:
            return f"the span {short_repr(span)} {fault}"
    if relations is not None and not isinstance(relations, list):
        return '"relations" is no list'
    for relation in relations or ():
        fault = _find_relation_fault(relation, len(spans))
        if fault is not None:
            return f"the relation {short_repr(relation)} {fault}"
    return None


def _find_span_fault(span: Any, n_words: int) -> str | None:
    """Tell why something is no span of a sentence of so many words; None if it is one."""
    if not isinstance(span, list) or len(span) < 3:
        return "is not [start, end, label]"
    start, end, label = span[:3]
    # bool is an int to Python, but no offset.
    if type(start) is not int or type(end) is not int:
        return "has a start or an end that is no whole number"
    if not _is_label(label):
        return "has a label that is no text"
    if start < 0 or end < 0:
        return "has a negative start or end"
    if start >= end:
        return "has no token: the end is to be greater than the start"
    if end > n_words:
        return f"reaches past the end of the sentence of {n_words} tokens"
    return None


def _find_relation_fault(relation: Any, n_spans: int) -> str | None:
    """Tell why something is no relation between so many spans; None if it is one."""
    if not isinstance(relation, list) or len(relation) != 3:
        return "is not [head, tail, label]"
    head, tail, label = relation
    if type(head) is not int or type(tail) is not int:
        return "has a head or a tail that is no whole number"
    if not _is_label(label):
        return "has a label that is no text"
    if not 0 <= head < n_spans or not 0 <= tail < n_spans:
        return f"has a head or a tail that is none of the {n_spans} spans, counted from 0"
    return None


def _is_label(label: Any) -> bool:
    return isinstance(label, str) and label != "" and not SURROGATE.search(label)
