"""Format `label-studio`: the exports JSON and JSON-MIN of Label Studio."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from spacy.tokens import Doc

from ..annotation.tags import LabelledSpan
from .annotators import choose_annotators
from .counts import Note, ReadReport
from .json_files import read_items
from .label_studio_results import ANSWERS, LABELS, MARKUP, REMEDY, Id, Region, Regions, SortedResults
from .label_studio_tasks import AnnotationContent, TaskContent, read_task
from .label_studio_texts import Bounds, Placement, TextFinder, find_bounds
from .labels import relabel_annotations
from .lines import FormatError, Line
from .records import text_of
from .sentence import Sentence
from .spans import RELATION_LEFT_OUT
from .texts import (
    TASK_WITHOUT_TEXT,
    UNLABELLED,
    LabelledIndices,
    TextAnnotation,
    complete_relations,
    make_sentences,
)
from .units import UNCHECKED, check_unit, fits, other_readings

# Annotations that are left out as a whole.
CANCELLED = "left out: annotations that the annotator cancelled"
UNPLACED_REGION = "left out: annotations with a region whose place in the text is not known"
# Results that are left out. OTHER_RESULT includes regions that are not in the text and answers about a labelled region.
OTHER_RESULT = "left out: results that are not labels of a text"
REGION_OF_OTHER_TYPE = "left out: regions of a text that are no labels; their tokens are left without annotation"
WITHOUT_LABEL = "left out: relations and regions without a label; tokens of the regions are left without annotation"
DANGLING_RELATION = "left out: relations with an argument that is not there, such as a region that was deleted"
# Annotation that is read but may be wrong.
CHOSEN_TEXT = "tasks with several strings, of which one was taken for the text"


class Marks(NamedTuple):
    """Spans and missing parts of a text, from the regions of an annotation.

    spans: a span for each label of each region.
    missing: parts of the text that are not annotated.
    places: index of the first span of each region with a label, by its id and its bounds.
    """

    spans: list[LabelledSpan]
    missing: list[Bounds]
    places: dict[Id, dict[Bounds, int]]

    def add_spans(self, region: Region, bounds: Bounds) -> None:
        """Add a region with labels."""
        if region.id is not None:
            self.places.setdefault(region.id, {}).setdefault(bounds, len(self.spans))
        self.spans.extend((*bounds, label) for label in region.labels)


class Converted(NamedTuple):
    """A converted annotation of a task: one annotation for each text with regions, by the text's name, and notes."""

    texts: dict[str, TextAnnotation]
    notes: list[Note]


def read_label_studio(
    path: str | Path,
    report: ReadReport,
    *,
    tokenizer: Callable[[str], Doc],
    align: str = "strict",
    unit: str | None = None,
    annotators: str = "first",
    rename: Mapping[str, str] = MappingProxyType({}),
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

    unit: unit of start and end, one of `units.UNITS`. None for the unit in which start and end match the quoted text:
        newer versions of Label Studio count characters, older versions units of UTF-16.
    annotators: see `annotators.choose_annotators`.
    rename: see `labels.relabel_annotations`.
    fields: names of fields to keep in doc.user_data; fields in the data of a task precede those of the task itself.
    The other arguments, results and errors are those of `offsets.read_texts`.
    """
    units = ("characters", "utf-16") if unit is None else (check_unit(unit),)
    annotations = complete_relations(relabel_annotations(_read(path, report, units, fields, on_error), rename, report))
    return make_sentences(choose_annotators(annotations, annotators, report), report, tokenizer, align)


def _read(
    path: str | Path, report: ReadReport, units: Sequence[str], fields: Sequence[str], on_error: str
) -> Iterator[TextAnnotation]:
    tasks = [_try_to_read(line, fields) for line in read_items(path, REMEDY)]
    finder = TextFinder(units)
    for task in tasks:
        if not isinstance(task, FormatError):
            # Cancelled annotations also show which string is the text.
            for one in (*task.annotations, *task.cancelled):
                finder.learn(task.texts, one.results.regions)
    for task in tasks:
        found: list[TextAnnotation] = []
        with report.skipping(on_error):
            if isinstance(task, FormatError):
                raise task
            found = _convert_task(task, finder, fields, report)
        yield from found


def _try_to_read(line: Line, fields: Sequence[str]) -> TaskContent | FormatError:
    """A task, or its error, which is raised only when the task is converted."""
    try:
        return read_task(line, fields)
    except FormatError as error:
        return error.with_traceback(None)


def _convert_task(
    task: TaskContent, finder: TextFinder, fields: Sequence[str], report: ReadReport
) -> list[TextAnnotation]:
    """Convert each annotation of a task to one annotation per text with regions. Counts annotation that is left out.

    Raises FormatError for a field that cannot be kept, and the errors of `_convert_annotation`.
    """
    if isinstance(task.fields, FormatError):
        raise task.fields
    kept = task.fields
    converted = [_convert_annotation(one, task, finder, kept) for one in task.annotations]
    for note in chain.from_iterable(one.notes for one in converted):
        report.note(note)
    for _ in task.cancelled:
        report.note(Note(task.line, CANCELLED))
    if not task.annotations and not task.cancelled:
        report.note(Note(task.line, UNLABELLED))
    names = dict.fromkeys(name for one in converted for name in one.texts)
    report.unread_keys.update(task.unread.difference(fields))
    if names:
        report.unread_keys.update(key for key, name in task.data.items() if name not in {*names, *fields})
    withdrawals = [
        TextAnnotation(
            task.line,
            task.texts[name],
            [],
            key=task.key and (task.key, name),
            annotator=one.annotator,
            time=one.time,
            is_withdrawal=True,
        )
        for one in task.cancelled
        for name in names
        if one.time
    ]
    return [*(text for one in converted for text in one.texts.values()), *withdrawals]


def _convert_annotation(
    annotation: AnnotationContent, task: TaskContent, finder: TextFinder, fields: dict[str, Any]
) -> Converted:
    """Convert an annotation to one annotation per text with regions; none if there is no text.

    fields: fields to keep with the texts.
    """
    results, line = annotation.results, task.line
    notes = [Note(line, OTHER_RESULT, result.type) for result in results.others]
    if not task.texts:
        return Converted({}, [*notes, Note(line, TASK_WITHOUT_TEXT)])
    placements = _place_regions(results.regions, task, finder)
    marks, notes_on_regions = _mark_texts(results.regions, placements, task)
    notes += notes_on_regions
    if len(finder.units) > 1:
        notes += _note_unchecked(results.regions, placements, task)
    if _lacks_regions(results, placements):
        return Converted({}, [*notes, Note(line, UNPLACED_REGION)])
    if not marks:
        if not results.is_empty and not _is_about_text(results, task, finder):
            return Converted({}, [*notes, Note(line, TASK_WITHOUT_TEXT)])
        no_regions: Regions = {None: []}  # of any tag: the text has none
        marks, notes_on_text = _mark_texts(no_regions, _place_regions(no_regions, task, finder), task)
        notes += notes_on_text
    relations, notes_on_relations = _find_relations(results, marks, line)
    texts = {
        name: TextAnnotation(
            line,
            text_of(text, line, REMEDY),
            marks[name].spans,
            relations.get(name, []),
            marks[name].missing,
            key=task.key and (task.key, name),
            annotator=annotation.annotator,
            time=annotation.time,
            fields=fields,
            is_ground_truth=annotation.is_ground_truth,
        )
        for name, text in task.texts.items()
        if name in marks
    }
    return Converted(texts, notes + notes_on_relations)


def _place_regions(regions: Regions, task: TaskContent, finder: TextFinder) -> dict[str | None, Placement]:
    """Find the text of the regions of each tag, and their bounds in it. Raises FormatError for labels that fit none."""
    placements: dict[str | None, Placement] = {}
    # Start with the regions that reach farthest, which fit the fewest texts.
    for tag in sorted(regions, key=lambda tag: max((one.end for one in regions[tag]), default=0), reverse=True):
        taken = {placement.text for placement in placements.values() if placement.text is not None}
        placements[tag] = finder.find(task.texts, tag, regions[tag], taken)
        if placements[tag].text is None and any(region.must_fit for region in regions[tag]):
            raise finder.misfit(task.texts, regions[tag], task.line)
    return placements


def _lacks_regions(results: SortedResults, placements: dict[str | None, Placement]) -> bool:
    """Whether markup regions with unknown bounds are missing in a text that would be read as annotated.

    If no region has known bounds, they may belong to any text.
    """
    lost = {result.to_name for result in results.others if result.type in MARKUP}
    for tag, placement in placements.items():
        places = zip(results.regions[tag], placement.bounds, strict=True)
        lost |= {tag for region, bounds in places if bounds is None and region.type in MARKUP}
    placed = {tag for tag, placement in placements.items() if placement.text is not None}
    return bool(lost) and (not placed or not lost.isdisjoint(placed))


def _is_about_text(results: SortedResults, task: TaskContent, finder: TextFinder) -> bool:
    """Whether an annotation without regions of a text may mean that there are none.

    False if the annotation is about an image and the string is a remark.
    """
    if "text" in task.texts or any(finder.has_fitted(name) for name in task.texts):
        return True
    return not task.has_files and all(result.type in ANSWERS for result in results.others)


def _mark_texts(
    regions: Regions, placements: dict[str | None, Placement], task: TaskContent
) -> tuple[dict[str, Marks], list[Note]]:
    """The Marks of each text, by its name. Also returns notes on regions that are left out, and on texts that were
    chosen among several."""
    marks: dict[str, Marks] = {}
    notes: list[Note] = []
    for tag, (name, all_bounds, is_guess) in placements.items():
        if name is None:
            notes += [Note(task.line, OTHER_RESULT, region.type) for region in regions[tag]]
            continue
        if is_guess:
            notes.append(Note(task.line, CHOSEN_TEXT, f"{name!r} of {', '.join(map(repr, task.texts))}"))
        of_text = marks.setdefault(name, Marks([], [], {}))
        notes += _mark(regions[tag], all_bounds, task.texts[name], of_text, task.line)
    return marks, notes


def _mark(
    regions: Sequence[Region], all_bounds: Sequence[Bounds | None], text: str, marks: Marks, line: Line
) -> Iterator[Note]:
    """Add the regions of a tag to the Marks of their text. Yields notes on regions that are left out.

    all_bounds: bounds of each region, None for a region that is not in the text.
    """
    labelled = {(region.start, region.end) for region in regions if region.labels}
    for region, bounds in zip(regions, all_bounds, strict=True):
        if bounds is None:
            yield Note(line, OTHER_RESULT, region.type)
        elif region.labels:
            marks.add_spans(region, bounds)
        elif region.type in (LABELS, *MARKUP):
            marks.missing.append(bounds)
            yield Note(line, WITHOUT_LABEL, text[slice(*bounds)])
        elif (region.start, region.end) in labelled:  # an answer about an entity
            yield Note(line, OTHER_RESULT, region.type)
        else:
            marks.missing.append(bounds)
            yield Note(line, REGION_OF_OTHER_TYPE, f"{region.type} of {text[slice(*bounds)]!r}")


def _note_unchecked(regions: Regions, placements: dict[str | None, Placement], task: TaskContent) -> Iterator[Note]:
    """Notes on the regions that could count another unit. Those of a tag count in the same unit.

    Quoted texts show the unit only if they do not fit in the other one as well.
    """
    for tag, (name, all_bounds, _) in placements.items():
        placed = [region for region, bounds in zip(regions[tag], all_bounds, strict=True) if bounds is not None]
        as_read = [(region.start, region.end) for region in placed]
        if name is None or as_read != [bounds for bounds in all_bounds if bounds is not None]:
            continue
        text = task.texts[name]
        readings = other_readings(text, [(one.start, one.end, label) for one in placed for label in one.labels])
        if readings and fits(partial(find_bounds, text, placed), "utf-16"):
            yield from (Note(task.line, UNCHECKED, reading) for reading in readings)


def _find_relations(
    results: SortedResults, marks: dict[str, Marks], line: Line
) -> tuple[dict[str, list[LabelledIndices]], list[Note]]:
    """The relations of each text, and notes on relations that are left out."""
    relations: dict[str, list[LabelledIndices]] = {}
    notes: list[Note] = []
    ids = results.ids
    for result in results.relations:
        arguments = f"from {result.from_id} to {result.to_id}"
        if result.from_id not in ids or result.to_id not in ids:
            notes.append(Note(line, DANGLING_RELATION, arguments))
            continue
        head, tail = (_find_span(id, marks, line) for id in (result.from_id, result.to_id))
        if head is None or tail is None or head[0] != tail[0]:
            notes.append(Note(line, RELATION_LEFT_OUT, arguments))
            continue
        if not result.labels:
            notes.append(Note(line, WITHOUT_LABEL, f"relation {arguments}"))
        found = relations.setdefault(head[0], [])
        for label in result.labels or ():
            if result.direction != "left":
                found.append((head[1], tail[1], label))
            if result.direction in ("left", "bi"):
                found.append((tail[1], head[1], label))
    return relations, notes


def _find_span(id: Id, marks: dict[str, Marks], line: Line) -> tuple[str, int] | None:
    """The text of the region with an id, and the index of its first span there; None for a region without a label.

    Raises FormatError if there are several.
    """
    found = [(name, span) for name, of_text in marks.items() for span in of_text.places.get(id, {}).values()]
    if len(found) > 1:
        raise line.error(f"a relation refers to {id!r}, which is the id of several regions", REMEDY)
    return found[0] if found else None
