"""Spans of a sentence and relations between them: white space, duplicates, overlaps."""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ..annotation.tags import LabelledSpan
from .counts import Note
from .lines import Line
from .sentence import LabelledPair, Sentence
from .source_tags import Tag, decode_with_repairs

DUPLICATE = "repaired: duplicate span, kept once"
DUPLICATE_RELATION = "repaired: duplicate relation, kept once"
TRIMMED = "repaired: white space at the ends of a span, trimmed"
TRIMMED_LABEL = "repaired: white space at the ends of a label, trimmed"
BLANK = "left out: span of white space"
OTHER_LABEL = "left out: spans whose label is not in --labels"
RELATION_LEFT_OUT = "left out: relation with an argument that is left out"


def trim_spans(
    line: Line, spans: Iterable[LabelledSpan | None], units: Sequence[str]
) -> tuple[list[LabelledSpan | None], list[Note]]:
    """Trim white space at the ends of spans. None stays None.

    units: the characters or the tokens of the text, which the bounds of the spans count.
    Returns the spans, None for those of white space only, and a note on each change.
    """
    trimmed: list[LabelledSpan | None] = []
    notes: list[Note] = []
    shown: list[int] | None = None
    for span in spans:
        if span is None:
            trimmed.append(None)
            continue
        start, end, label = span
        if start < end and (units[start].isspace() or units[end - 1].isspace()):
            if shown is None:
                shown = [i for i, unit in enumerate(units) if not unit.isspace()]
            low, high = bisect_left(shown, start), bisect_left(shown, end)
            start, end = (shown[low], shown[high - 1] + 1) if low < high else (start, start)
        trimmed.append((start, end, label) if start < end else None)
        if trimmed[-1] != span:
            notes.append(Note(line, BLANK if trimmed[-1] is None else TRIMMED, str(list(span))))
    return trimmed, notes


def make_sentence(
    line: Line,
    words: list[str],
    spans: Sequence[LabelledSpan | None],
    relations: Sequence[tuple[int, int, str]] | None,
    spaces: list[bool] | None = None,
    missing: Iterable[int] = (),
) -> tuple[Sentence, list[Note]]:
    """Make a sentence of spans that may overlap, and relations between them.

    All spans become `Sentence.nested`, those that `widest_apart` selects also the entities.

    words, spaces: see `Sentence`.
    spans: spans in tokens; None for those that are left out.
    relations: [head, tail, label], where head and tail are positions in the list of spans, or None.
    missing: tokens without annotation, except those in entities.
    Returns the sentence, and notes on duplicates and on relations that lose an argument.
    """
    kept = list(dict.fromkeys(span for span in spans if span is not None))
    notes = [Note(line, DUPLICATE)] * (len(spans) - spans.count(None) - len(kept))
    pairs: list[LabelledPair] | None = None
    if relations is not None:
        pairs = []
        for head_index, tail_index, label in relations:
            head, tail = spans[head_index], spans[tail_index]
            if head is None or tail is None:
                notes.append(Note(line, RELATION_LEFT_OUT, str([head_index, tail_index, label])))
            else:
                pairs.append((head, tail, label))
        unique = list(dict.fromkeys(pairs))
        notes += [Note(line, DUPLICATE_RELATION)] * (len(pairs) - len(unique))
        pairs = unique
    entities = widest_apart(kept)
    # The part of an entity outside of a wider, crossing entity must not be learned as outside of entities.
    unknown = set(missing).union(*(range(start, end) for start, end, _ in kept))
    unknown = unknown.difference(*(range(start, end) for start, end, _ in entities))
    return Sentence(words, spaces, entities, sorted(unknown), nested=kept, relations=pairs, line=line), notes


def make_tagged_sentence(
    lines: Sequence[Line], words: Sequence[str], tags: Sequence[Tag], scheme: str
) -> tuple[Sentence, list[Note]]:
    """Make a sentence of entity tags.

    lines: the line of each word.
    tags: a tag for each word.
    scheme: tag scheme of the file, see `source_tags.py`.
    Returns the sentence, and notes on tags that break the scheme and on white space that is trimmed.
    """
    trimmed = [tag._replace(label=tag.label.strip()) for tag in tags]
    labels = [Note(lines[i], TRIMMED_LABEL, repr(tag.label)) for i, tag in enumerate(tags) if tag != trimmed[i]]
    decoded = decode_with_repairs(trimmed, scheme)
    spans, notes = trim_spans(lines[0], decoded.spans, words)
    sentence = Sentence(list(words), spans=list(filter(None, spans)), missing=decoded.missing, line=lines[0])
    return sentence, labels + notes + [Note(lines[i], kind) for i, kind in decoded.repairs]


def select_labels(sentence: Sentence, labels: Collection[str]) -> tuple[Sentence, list[Note]]:
    """Leave out spans with other labels, and relations that lose an argument.

    Returns the sentence, and notes on what is left out.
    """
    spans = dict.fromkeys([*sentence.spans, *(sentence.nested or ())])
    others = [span for span in spans if span[2] not in labels]
    if not others:
        return sentence, []
    line = sentence.line or Line(Path(), 0, "")
    notes = [
        Note(line, OTHER_LABEL, f"{' '.join(sentence.words[start:end])!r} {label}") for start, end, label in others
    ]

    def is_kept(span: LabelledSpan) -> bool:
        return span[2] in labels

    relations = sentence.relations
    if relations is not None:
        relations = [relation for relation in relations if is_kept(relation[0]) and is_kept(relation[1])]
        notes += [Note(line, RELATION_LEFT_OUT)] * (len(sentence.relations or ()) - len(relations))
    nested = None if sentence.nested is None else list(filter(is_kept, sentence.nested))
    if nested is not None and set(sentence.spans) <= set(sentence.nested or ()):
        entities = widest_apart(nested)
    else:
        entities = list(filter(is_kept, sentence.spans))
    missing = set(sentence.missing).difference(*(range(start, end) for start, end, _ in entities))
    kept = replace(sentence, spans=entities, missing=sorted(missing), nested=nested, relations=relations)
    return kept, notes


def widest_apart(spans: list[LabelledSpan]) -> list[LabelledSpan]:
    """Select spans that do not overlap, the widest first; of equally wide ones the first by start, end and label.

    Returns the selected spans, sorted.
    """
    selected: list[LabelledSpan] = []
    taken: set[int] = set()
    for start, end, label in sorted(spans, key=lambda span: (span[0] - span[1], span)):
        if taken.isdisjoint(range(start, end)):
            taken.update(range(start, end))
            selected.append((start, end, label))
    return sorted(selected)
