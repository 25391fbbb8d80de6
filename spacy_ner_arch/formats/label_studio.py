"""Format `label-studio`: the exports JSON and JSON-MIN of Label Studio."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from spacy.tokens import Doc

from ..annotation.tags import LabelledSpan
from .annotators import choose_annotators
from .counts import Note, ReadReport
from .fields import keep_fields
from .json_files import read_items
from .label_studio_tasks import REMEDY, Annotation, Id, Result, TaskContent, read_task
from .label_studio_texts import (
    ANSWERS,
    MARKUP,
    Evidence,
    Regions,
    TypedRegion,
    deciding,
    find_text,
    misfit,
    region_of,
)
from .lines import FormatError, Line
from .records import parse_object, text_of
from .sentence import Sentence
from .spans import RELATION_LEFT_OUT
from .texts import UNLABELLED, LabelledIndices, TextAnnotation, complete_relations, make_sentences
from .units import check_unit

CANCELLED = "left out: annotations that the annotator cancelled"
NO_TEXT = "left out: tasks without a text, such as images"
OTHER_TYPE = "left out: results that are not labels of a text"
OTHER_REGION = "left out: regions of a text that are no labels; their tokens are left without annotation"
UNPLACED = "left out: annotations with a region whose place in the text is not known"
CHOSEN_TEXT = "tasks with several strings, of which one was taken for the text"
NO_LABEL = "left out: relations and regions without a label; tokens of the regions are left without annotation"
DANGLING = "left out: relations with an argument that is not there, such as a region that was deleted"


class PlacedRegions(NamedTuple):
    """The regions of an annotation in their texts.

    spans: by the name of the text.
    missing: parts of the text that are not annotated, by its name.
    places: for each region with a label, by its id: the name of its text, and the index of its first span there.
    clashes: ids of several regions.
    tags: tags of the regions that are in a text.
    """

    spans: dict[str, list[LabelledSpan]]
    missing: dict[str, list[tuple[int, int]]]
    places: dict[Id, tuple[str, int]]
    clashes: set[Id]
    tags: set[str | None]


def read_label_studio(
    path: str | Path,
    report: ReadReport,
    *,
    tokenizer: Callable[[str], Doc],
    align: str = "strict",
    unit: str | None = None,
    annotators: str = "first",
    fields: Sequence[str] = (),
    on_error: str = "raise",
) -> Iterator[list[Sentence]]:
    """Read the exports JSON and JSON-MIN of Label Studio.

    Regions of the type `labels` become entities, one for each of their labels, and relations with a label become
    relations, in both directions if they have no direction. So do `hypertextlabels` if the text between their
    `globalOffsets` is what they quote; otherwise the annotation is left out. Regions of a text that have no label, or
    another type, leave their tokens without annotation. JSON-MIN has no relations. If no task has a relation, then
    relations are not annotated. Tasks without a text or an annotation, cancelled annotations and other types of results
    are left out and counted, with relations to them. Predictions are not read. An annotation that is marked as ground
    truth counts as the first of its task. If a task shows several texts, each with regions is a document. A task with
    several strings and without regions has its text where the regions of other tasks are.

    The file is read into memory.

    unit: what start and end count, one of `units.UNITS`. None: the unit in which start and end are those of the
        quoted text; newer versions of Label Studio count characters, older ones units of UTF-16.
    annotators: see `annotators.choose_annotators`.
    fields: names of fields to keep in doc.user_data, those of the data of a task before its own.
    The other arguments, results and errors are those of `offsets.read_texts`.
    """
    units = ("characters", "utf-16") if unit is None else (check_unit(unit),)
    annotations = complete_relations(_read(path, report, units, fields, on_error))
    return make_sentences(choose_annotators(annotations, annotators, report), report, tokenizer, align)


def _read(
    path: str | Path, report: ReadReport, units: Sequence[str], fields: Sequence[str], on_error: str
) -> Iterator[TextAnnotation]:
    lines = list(read_items(path, REMEDY))
    evidence = _find_evidence(lines, units)
    for line in lines:
        found: list[TextAnnotation] = []
        with report.skipping(on_error):
            task = read_task(parse_object(line, REMEDY), line)
            shown = [one for one in task.annotations if not one.was_cancelled]
            made = [_make_annotations(one, task, units, evidence, line) for one in shown]
            names = {name for one in made for name in one.texts}
            try:
                kept = keep_fields(task.fields, fields)
            except ValueError as error:
                raise line.error(str(error), REMEDY) from error
            found += [text._replace(fields=kept) for one in made for text in one.texts.values()]
            for note in chain.from_iterable(one.notes for one in made):
                report.note(note)
            for _ in range(len(task.annotations) - len(shown)):
                report.note(Note(line, CANCELLED))
            if not task.annotations:
                report.note(Note(line, UNLABELLED))
            report.unread_keys.update(task.unread.difference(fields))
            read = {*names, *fields}
            report.unread_keys.update(key for key, name in task.data.items() if names and name not in read)
        yield from found


def _find_evidence(lines: Iterable[Line], units: Sequence[str]) -> Evidence:
    """Find which data have the texts of the regions. Tasks that cannot be read are left out."""
    evidence = Evidence()
    for line in lines:
        try:
            task = read_task(parse_object(line, REMEDY), line)
            all_regions = [_read_regions(one.result, line)[0] for one in task.annotations]
        except FormatError:
            continue
        for regions in all_regions:
            evidence.add(task.texts, regions, units)
    return evidence


class Made(NamedTuple):
    """What becomes of an annotation of a task: one for each text with regions, by its name, and notes."""

    texts: dict[str, TextAnnotation]
    notes: list[Note]


def _make_annotations(
    annotation: Annotation, task: TaskContent, units: Sequence[str], evidence: Evidence, line: Line
) -> Made:
    """Convert an annotation, to one for each text with regions; none if there is no text."""
    regions, others = _read_regions(annotation.result, line)
    notes = [Note(line, OTHER_TYPE, result.type) for result in others]
    if not task.texts:
        return Made({}, [*notes, Note(line, NO_TEXT)])
    placed, unplaced, notes_on_regions = _place_regions(regions, task.texts, units, evidence, line)
    notes += notes_on_regions
    unplaced |= {result.to_name for result in others if result.type in MARKUP}
    if unplaced and (not placed.tags or unplaced.intersection(placed.tags)):
        return Made({}, [*notes, Note(line, UNPLACED)])
    if not placed.spans:
        if annotation.result and not _is_about_text(task, others, evidence):
            return Made({}, [*notes, Note(line, NO_TEXT)])
        notes += _place_none(placed, task.texts, units, evidence, line)
    relations, notes_on_relations = _find_relations(annotation.result, placed, line)
    made = {
        name: TextAnnotation(
            line,
            text_of(task.texts[name], line, REMEDY),
            placed.spans[name],
            relations.get(name, []),
            placed.missing[name],
            key=task.key and (task.key, name),
            annotator=annotation.annotator,
            time=annotation.time,
        )
        for name in task.texts
        if name in placed.spans
    }
    return Made(made, notes + notes_on_relations)


def _is_about_text(task: TaskContent, others: Sequence[Result], evidence: Evidence) -> bool:
    """Whether an annotation without regions of a text may say that there are none.

    Not if it is about an image, to which a string is a remark.
    """
    if "text" in task.texts or any(evidence.fits[None, name] for name in task.texts):
        return True
    return not task.has_files and all(result.type in ANSWERS for result in others)


def _read_regions(results: Sequence[Result], line: Line) -> tuple[Regions, list[Result]]:
    """The regions of texts, and other results, except relations."""
    regions: Regions = {}
    others: list[Result] = []
    for result in results:
        region = region_of(result, line)
        if region is not None:
            regions.setdefault(result.to_name, []).append(TypedRegion(result.id, result.type, region))
        elif result.type != "relation":
            others.append(result)
    return regions, others


def _place_regions(
    regions: Regions, texts: dict[str, str], units: Sequence[str], evidence: Evidence, line: Line
) -> tuple[PlacedRegions, set[str | None], list[Note]]:
    """Find the text of each region.

    Also returns the tags with regions of texts that fit none, and notes on regions that are not read, and on texts that
    were chosen among several.
    """
    placed = PlacedRegions({}, {}, {}, set(), set())
    unplaced: set[str | None] = set()
    notes: list[Note] = []
    # Those that reach farthest fit the fewest texts.
    for tag in sorted(regions, key=lambda tag: max(one.region.end for one in regions[tag]), reverse=True):
        of_tag = regions[tag]
        found = find_text(texts, tag, deciding(of_tag), units, placed.spans, evidence)
        if found is None and any(one.must_fit for one in of_tag):
            raise misfit(texts, deciding(of_tag), units, line)
        if found is not None and found.is_guess:
            notes.append(_note_choice(found.name, texts, line))
        labelled = {(one.region.start, one.region.end) for one in of_tag if one.region.labels}
        all_bounds = [None] * len(of_tag) if found is None else found.place(of_tag, texts[found.name])
        for one, bounds in zip(of_tag, all_bounds, strict=True):
            if found is not None and bounds is not None:
                placed.tags.add(tag)
                notes += _place(one, bounds, found.name, texts[found.name], placed, labelled, line)
            else:
                notes.append(Note(line, OTHER_TYPE, one.type))
                if one.type in MARKUP:
                    unplaced.add(tag)
    return placed, unplaced, notes


def _place(
    one: TypedRegion,
    bounds: tuple[int, int],
    name: str,
    text: str,
    placed: PlacedRegions,
    labelled: set[tuple[int, int]],
    line: Line,
) -> Iterator[Note]:
    """Add a region to those of its text. Yields notes on what is not read.

    labelled: start and end of the regions of the tag that have a label.
    """
    spans = placed.spans.setdefault(name, [])
    missing = placed.missing.setdefault(name, [])
    labels, quoted = one.region.labels, text[slice(*bounds)]
    if labels:
        if one.id is not None:
            found, first = placed.places.setdefault(one.id, (name, len(spans)))
            if found != name or (first < len(spans) and spans[first][:2] != bounds):
                placed.clashes.add(one.id)
        spans += [(*bounds, label) for label in labels]
    elif one.type in ("labels", *MARKUP):
        missing.append(bounds)
        yield Note(line, NO_LABEL, quoted)
    elif (one.region.start, one.region.end) in labelled:
        yield Note(line, OTHER_TYPE, one.type)
    else:
        missing.append(bounds)
        yield Note(line, OTHER_REGION, f"{one.type} of {quoted!r}")


def _place_none(
    placed: PlacedRegions, texts: dict[str, str], units: Sequence[str], evidence: Evidence, line: Line
) -> Iterator[Note]:
    """Add the text of a task without regions. Yields a note if it was chosen among several."""
    found = find_text(texts, None, [], units, (), evidence)
    if found is not None:
        placed.spans[found.name], placed.missing[found.name] = [], []
        if found.is_guess:
            yield _note_choice(found.name, texts, line)


def _note_choice(name: str, texts: dict[str, str], line: Line) -> Note:
    return Note(line, CHOSEN_TEXT, f"{name!r} of {', '.join(map(repr, texts))}")


def _find_relations(
    results: Sequence[Result], placed: PlacedRegions, line: Line
) -> tuple[dict[str, list[LabelledIndices]], list[Note]]:
    """The relations of each text, and notes on what is left out."""
    ids = {result.id for result in results if result.type != "relation" and result.id is not None}
    relations: dict[str, list[LabelledIndices]] = {}
    notes: list[Note] = []
    for result in results:
        if result.type != "relation":
            continue
        arguments = f"from {result.from_id} to {result.to_id}"
        if not {result.from_id, result.to_id} <= ids:
            notes.append(Note(line, DANGLING, arguments))
            continue
        for id in (result.from_id, result.to_id):
            if id in placed.clashes:
                raise line.error(f"a relation refers to {id!r}, which is the id of several regions", REMEDY)
        head, tail = (placed.places.get(id) for id in (result.from_id, result.to_id) if id is not None)
        if head is None or tail is None or head[0] != tail[0]:
            notes.append(Note(line, RELATION_LEFT_OUT, arguments))
            continue
        if not result.labels:
            notes.append(Note(line, NO_LABEL, f"relation {arguments}"))
        found = relations.setdefault(head[0], [])
        for label in result.labels or ():
            if result.direction != "left":
                found.append((head[1], tail[1], label))
            if result.direction in ("left", "bi"):
                found.append((tail[1], head[1], label))
    return relations, notes
