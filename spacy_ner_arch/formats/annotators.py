"""Choose between several annotations of a text, or merge them."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import reduce
from reprlib import repr as short_repr
from typing import TypeVar

from ..annotation.tags import LabelledSpan
from .counts import Note, ReadReport
from .sentence import LabelledPair
from .spans import RELATION_LEFT_OUT, trim_spans
from .texts import LabelledIndices, TextAnnotation

T = TypeVar("T", LabelledSpan, LabelledPair)

ANNOTATORS = ("first", "all", "merge")
# Name of all annotators without a name, if a tool does not distinguish them.
UNNAMED = "unnamed"
# Field of a text that has the name of its annotator.
ANNOTATOR = "annotator"

OTHER_ANNOTATORS = "left out: annotations of a text by other annotators, see --annotators"
NOT_SEEN = "left out: empty annotations of texts in which another annotator marked something"
SUPERSEDED = "left out: answers that a later or complete answer of the same annotator replaces"
WITHDRAWN = "left out: answers that the same annotator withdrew later (rejected, ignored or cancelled the text)"
DISAGREEMENT = "spans on which the annotators do not agree, left without annotation"
RELATION_DISAGREEMENT = "left out: relations on which the annotators do not agree"
BESIDE_DISAGREEMENT = "left out: agreed relations of texts with a disputed relation"
CLASH = "texts with the id of another text, read as texts of their own"


def choose_annotators(
    annotations: Iterable[TextAnnotation], choice: str, report: ReadReport
) -> Iterator[TextAnnotation]:
    """Choose between several annotations of a text, or merge them.

    Before that, empty annotations that are `maybe_unseen` are left out if another annotator has marked something in the
    text, and each annotator is reduced to one annotation of a text: the latest complete one, or else all partial ones
    together. None is left of an annotator whose latest answer is a withdrawal.

    choice: "first" keeps the annotation of the first annotator of each text, and "all" keeps all of them as separate
        texts, with the name of the annotator as the field ANNOTATOR, unless they have this field. "merge" keeps
        annotation that more than half of the annotators of a text agree on, see `_merge`. If a text has a ground truth,
        "first" and "merge" keep only this. Any other value is the name of the annotator to keep.
    Yields the annotations in the order in which the texts first occur. Counts annotations that are left out.
    Raises ValueError if no annotator has the name.
    """
    groups: defaultdict[tuple[Hashable, str], list[TextAnnotation]] = defaultdict(list)
    firsts: dict[Hashable, TextAnnotation] = {}
    for annotation in annotations:
        key = object() if annotation.key is None else annotation.key
        first = firsts.setdefault(key, annotation)
        if first.text != annotation.text and (key, annotation.text) not in groups:
            report.note(Note(annotation.line, CLASH, f"{short_repr(key)}, first at {first.line.place}"))
        groups[key, annotation.text].append(annotation)
    names = {annotation.annotator for group in groups.values() for annotation in group}
    if choice not in ANNOTATORS and choice not in names:
        known = ", ".join(sorted(filter(None, names))) or "none is named"
        raise ValueError(
            f"annotators is {choice!r}; it must be one of {', '.join(ANNOTATORS)} or the name of an annotator ({known})"
        )
    for annotated in groups.values():
        group = _one_for_each(_leave_out_unseen(annotated, report), report)
        if not group:
            continue
        group.sort(key=lambda one: not one.is_ground_truth)
        if choice == "merge" and len(group) > 1 and not group[0].is_ground_truth:
            yield _merge(group, report)
            continue
        wanted = choice if choice not in ANNOTATORS else group[0].annotator
        if choice == "all":
            group = [_add_name(one) for one in group]
        chosen = group if choice == "all" else [one for one in group if one.annotator == wanted][:1]
        yield from chosen
        for other in group:
            if not any(other is one for one in chosen):
                report.note(Note(other.line, OTHER_ANNOTATORS, _name(other)))


def _add_name(annotation: TextAnnotation) -> TextAnnotation:
    if annotation.annotator in ("", UNNAMED):
        return annotation
    return annotation._replace(fields={ANNOTATOR: annotation.annotator, **annotation.fields})


def _name(annotation: TextAnnotation) -> str:
    return f"annotator {annotation.annotator or 'without name'}"


def _leave_out_unseen(group: list[TextAnnotation], report: ReadReport) -> list[TextAnnotation]:
    seen = [one for one in group if not one.maybe_unseen]
    if not seen:
        return group
    for one in group:
        if one.maybe_unseen:
            report.note(Note(one.line, NOT_SEEN, _name(one)))
    return seen


def _one_for_each(group: Sequence[TextAnnotation], report: ReadReport) -> list[TextAnnotation]:
    """Reduce the annotations of a text to one for each annotator, in the order of their first ones.

    Complete annotations by annotators without a name count as those of different annotators. Annotations before the
    last withdrawal of their annotator are left out. A ground truth counts as the latest.
    """
    by_annotator: defaultdict[Hashable, list[TextAnnotation]] = defaultdict(list)
    order: dict[Hashable, None] = {}
    for one in group:
        key = one.annotator if one.annotator or one.is_partial else object()
        by_annotator[key].append(one)
        if not one.is_withdrawal:
            order.setdefault(key)
    reduced = []
    for own in map(by_annotator.__getitem__, order):
        # Annotations of the same time keep the order of the file.
        own.sort(key=lambda one: (one.is_ground_truth, one.time))
        withdrawn = max((i for i, one in enumerate(own, 1) if one.is_withdrawal), default=0)
        for one in own[:withdrawn]:
            if not one.is_withdrawal:
                report.note(Note(one.line, WITHDRAWN, _name(one)))
        valid = own[withdrawn:]
        complete = [one for one in valid if not one.is_partial]
        if complete:
            reduced.append(complete[-1])
        elif valid:
            reduced.append(_join(valid))
        for one in valid if complete else ():
            if one is not complete[-1]:
                report.note(Note(one.line, SUPERSEDED, _name(one)))
    return reduced


def _join(parts: Sequence[TextAnnotation]) -> TextAnnotation:
    """Join the partial annotations of a text by the same annotator, such as answers to binary questions."""
    joined = parts[0]
    for one in parts[1:]:
        shift = len(joined.spans)
        relations = [(head + shift, tail + shift, label) for head, tail, label in one.relations or ()]
        is_related = joined.relations is not None or one.relations is not None
        joined = joined._replace(
            spans=[*joined.spans, *one.spans],
            relations=[*(joined.relations or ()), *relations] if is_related else None,
        )
    return joined


def _merge(group: Sequence[TextAnnotation], report: ReadReport) -> TextAnnotation:
    """Keep spans and relations that were marked by more than half of the annotators who saw their place.

    An annotator of a part of the text saw only the marked parts; the others saw the whole text. The tokens of spans
    without a majority are left without annotation.
    """
    line, text = group[0].line, group[0].text
    group = [_trim(one, report) for one in group]
    agreed, disputed = _vote(group, [set(filter(None, one.spans)) for one in group])
    for start, end, label in disputed:
        report.note(Note(line, DISAGREEMENT, f"{text[start:end]!r} {label}"))
    # A part is only missing if no annotator has seen it.
    missing = reduce(_intersect, (one.missing for one in group))
    return group[0]._replace(
        spans=agreed,
        relations=_merge_relations(group, {span: i for i, span in enumerate(agreed)}, report),
        missing=[*missing, *(span[:2] for span in disputed)],
    )


def _trim(annotation: TextAnnotation, report: ReadReport) -> TextAnnotation:
    """Trim white space at the ends of spans, so that it does not count as disagreement."""
    spans, notes = trim_spans(annotation.line, annotation.spans, annotation.text)
    for note in notes:
        report.note(note)
    return annotation._replace(spans=spans)


def _vote(group: Sequence[TextAnnotation], marked: Sequence[set[T]]) -> tuple[list[T], list[T]]:
    """Divide marked items into those with a majority and those without, both sorted."""
    complete = sum(not one.is_partial for one in group)
    votes = Counter(item for own in marked for item in own)
    partial = Counter(item for one, own in zip(group, marked, strict=True) if one.is_partial for item in own)
    agreed = {item for item, count in votes.items() if 2 * count > complete + partial[item]}
    return sorted(agreed), sorted(votes.keys() - agreed)


def _intersect(first: Sequence[tuple[int, int]], second: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    parts = [(max(start, start_2), min(end, end_2)) for start, end in first for start_2, end_2 in second]
    return [(start, end) for start, end in parts if start < end]


def _merge_relations(
    group: Sequence[TextAnnotation], places: dict[LabelledSpan, int], report: ReadReport
) -> list[LabelledIndices] | None:
    """The relations with a majority, or None if a relation without majority is marked: it would be learned as negative.

    group: annotations without white space at the ends of spans.
    places: positions of the spans that have a majority.
    """
    related = [one for one in group if one.relations is not None]
    if not related:
        return None
    text, marked = group[0].text, []
    for one in related:
        marked.append(set[LabelledPair]())
        for head_index, tail_index, label in one.relations or ():
            head, tail = one.spans[head_index], one.spans[tail_index]
            if head is None or tail is None:
                report.note(Note(one.line, RELATION_LEFT_OUT, str([head_index, tail_index, label])))
            else:
                marked[-1].add((head, tail, label))
    agreed, disputed = _vote(related, marked)
    disputed += [one for one in agreed if one[0] not in places or one[1] not in places]
    agreed = [one for one in agreed if one[0] in places and one[1] in places]
    lost = [(BESIDE_DISAGREEMENT, one) for one in agreed if disputed]
    for kind, (head, tail, label) in [*((RELATION_DISAGREEMENT, one) for one in disputed), *lost]:
        detail = f"{text[head[0] : head[1]]!r} {label} {text[tail[0] : tail[1]]!r}"
        report.note(Note(group[0].line, kind, detail))
    return None if disputed else [(places[head], places[tail], label) for head, tail, label in agreed]
