"""Trim and rename labels of entities, spans and relations."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from ..annotation.tags import LabelledSpan
from .counts import Note, ReadReport
from .lines import Line
from .sentence import Sentence
from .spans import DUPLICATE, DUPLICATE_RELATION, TRIMMED_LABEL, widest_apart
from .texts import TextAnnotation


def relabel_annotations(
    annotations: Iterable[TextAnnotation], names: Mapping[str, str], report: ReadReport
) -> Iterator[TextAnnotation]:
    """Trim white space at the ends of labels, then rename labels. Both are counted.

    names: new names of labels by their old ones. A new name is not renamed again.
    """
    for one in annotations:
        spans = [span and (*span[:2], _relabel(span[2], one.line, names, report)) for span in one.spans]
        relations = one.relations
        if relations is not None:
            relations = [(*relation[:2], _relabel(relation[2], one.line, names, report)) for relation in relations]
        yield one._replace(spans=spans, relations=relations)


def relabel_sentences(
    documents: Iterable[list[Sentence]], names: Mapping[str, str], report: ReadReport
) -> Iterator[list[Sentence]]:
    """Like `relabel_annotations`, for counted sentences. Spans and relations that become equal are kept once."""
    for document in documents:
        yield [_relabel_sentence(sentence, names, report) for sentence in document]


def find_similar(counts: Mapping[str, int]) -> list[list[str]]:
    """Groups of labels that differ only in case or white space, each with the most frequent label first."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for label in sorted(counts, key=lambda label: (-counts[label], label)):
        groups["".join(label.split()).casefold()].append(label)
    return [group for group in groups.values() if len(group) > 1]


def _relabel(label: str, line: Line, names: Mapping[str, str], report: ReadReport) -> str:
    trimmed = label.strip()
    if trimmed != label:
        report.note(Note(line, TRIMMED_LABEL, repr(label)))
    if trimmed in names:
        report.renamed[trimmed] += 1
    return names.get(trimmed, trimmed)


def _relabel_sentence(sentence: Sentence, names: Mapping[str, str], report: ReadReport) -> Sentence:
    relations = sentence.relations or ()
    arguments = (span for head, tail, _ in relations for span in (head, tail))
    old = dict.fromkeys([*sentence.spans, *(sentence.nested or ()), *arguments])
    labels = {label for _, _, label in (*old, *relations)}
    if all(label == label.strip() and label not in names for label in labels):
        return sentence
    line = sentence.line or Line(Path(), 0, "")
    new: dict[LabelledSpan, LabelledSpan] = {span: (*span[:2], _relabel(span[2], line, names, report)) for span in old}
    nested = None if sentence.nested is None else list(dict.fromkeys(new[span] for span in sentence.nested))
    pairs = [(new[head], new[tail], _relabel(label, line, names, report)) for head, tail, label in relations]
    pairs = list(dict.fromkeys(pairs))
    is_selected = nested is not None and set(sentence.spans) <= set(sentence.nested or ())
    kept = replace(
        sentence,
        spans=widest_apart(nested or []) if is_selected else [new[span] for span in sentence.spans],
        nested=nested,
        relations=None if sentence.relations is None else pairs,
    )
    lost = len(sentence.nested or ()) - len(nested or ())
    notes = [Note(line, DUPLICATE)] * lost + [Note(line, DUPLICATE_RELATION)] * (len(relations) - len(pairs))
    report.replace(sentence, kept, notes)
    return kept
