"""Format `label-studio`: the exports JSON and JSON-MIN of Label Studio."""

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from reprlib import repr as short_repr
from typing import Any, NamedTuple

from pydantic import AliasChoices, BaseModel, Field, StrictBool, StrictInt, StrictStr
from spacy.tokens import Doc

from ..annotation.tags import LabelledSpan
from .annotators import choose_annotators
from .counts import Note, ReadReport
from .json_files import read_items
from .lines import Line
from .records import Label, Source, Text, check_bounds, parse_object, text_of, validate
from .sentence import Sentence
from .spans import RELATION_LEFT_OUT
from .texts import UNLABELLED, LabelledIndices, TextAnnotation, complete_relations, make_sentences
from .units import check_unit, to_characters

REMEDY = (
    "export the project as JSON or JSON-MIN; a text is a string under data, a region is "
    '{"id": "a", "type": "labels", "value": {"start": 0, "end": 4, "text": "Anna", "labels": ["PER"]}}, and a relation '
    '{"type": "relation", "from_id": "a", "to_id": "b", "labels": ["left"]}'
)
CANCELLED = "left out: annotations that the annotator cancelled"
NO_TEXT = "left out: tasks without a text, such as images"
OTHER_TYPE = "left out: results that are not labels of a text"
CHOSEN_TEXT = "tasks with several strings, of which one was taken for the text"
NO_LABEL = "left out: relations and regions without a label"
# Keys of JSON-MIN that are neither data nor results.
MIN_KEYS = frozenset(("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement"))

# Where a file is that Label Studio shows.
ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]*://|data:|/data/)\S*")

Id = StrictInt | StrictStr


class Region(Source):
    """A labelled part of a text."""

    start: StrictInt
    end: StrictInt
    text: Text | None = None
    labels: list[Label] = []


class Result(BaseModel):
    """A region, a relation, or another answer."""

    type: StrictStr
    id: Id | None = None
    value: Any = None
    from_id: Id | None = None
    to_id: Id | None = None
    to_name: StrictStr | None = None
    direction: StrictStr | None = None
    labels: list[Label] | None = None


# Regions and their ids, by the tag of their text in the configuration of the project.
Regions = dict[str | None, list[tuple[Id | None, Region]]]


class PlacedRegions(NamedTuple):
    """The regions of an annotation in their texts.

    spans: by the name of the text.
    places: for each region with a label, by its id: the name of its text, and the index of its first span there.
    clashes: ids of several regions.
    """

    spans: dict[str, list[LabelledSpan]]
    places: dict[Id, tuple[str, int]]
    clashes: set[Id]


class Annotation(Source):
    """What one annotator submitted for a task."""

    result: list[Result]
    was_cancelled: StrictBool | None = None
    ground_truth: StrictBool | None = None
    completed_by: Id | dict[str, Any] | None = None

    @property
    def annotator(self) -> str:
        """E-mail address or number of the annotator."""
        who = self.completed_by
        name = who.get("email") or who.get("id") if isinstance(who, dict) else who
        return "" if name is None else str(name)


class Task(Source):
    """A task of the export JSON."""

    id: Id | None = None
    data: dict[str, Any]
    annotations: list[Annotation] = Field(validation_alias=AliasChoices("annotations", "completions"))


class MinTask(Source):
    """What JSON-MIN says of one annotation."""

    id: Id | None = None
    annotator: Id | dict[str, Any] | None = None


def read_label_studio(
    path: str | Path,
    report: ReadReport,
    *,
    tokenizer: Callable[[str], Doc],
    align: str = "strict",
    unit: str | None = None,
    annotators: str = "first",
    on_error: str = "raise",
) -> Iterator[list[Sentence]]:
    """Read the exports JSON and JSON-MIN of Label Studio.

    Regions of the type `labels` become entities, one for each of their labels, and relations with a label become
    relations, in both directions if they have no direction. JSON-MIN has no relations. If no task has a relation, then
    relations are not annotated. Tasks without a text or an annotation, cancelled annotations and other types of results
    are left out and counted, with relations to them. Predictions are not read. An annotation that is marked as ground
    truth counts as the first of its task. If a task shows several texts, each with regions is a document.

    unit: what start and end count, one of `units.UNITS`. None: the unit in which start and end are those of the
        quoted text; newer versions of Label Studio count characters, older ones units of UTF-16.
    annotators: see `annotators.choose_annotators`.
    The other arguments, results and errors are those of `offsets.read_texts`.
    """
    units = ("characters", "utf-16") if unit is None else (check_unit(unit),)
    annotations = complete_relations(_read(path, report, units, on_error))
    return make_sentences(choose_annotators(annotations, annotators, report), report, tokenizer, align)


def _read(path: str | Path, report: ReadReport, units: Sequence[str], on_error: str) -> Iterator[TextAnnotation]:
    used: Counter[str] = Counter()
    for line in read_items(path, REMEDY):
        found: list[TextAnnotation] = []
        with report.skipping(on_error):
            task = _read_task(parse_object(line, REMEDY), line)
            made = [
                _make_annotations(one, task, units, used, line) for one in task.annotations if not one.was_cancelled
            ]
            found += chain.from_iterable(annotations for annotations, _ in made)
            for note in chain.from_iterable(notes for _, notes in made):
                report.note(note)
            for _ in range(len(task.annotations) - len(made)):
                report.note(Note(line, CANCELLED))
            if not task.annotations:
                report.note(Note(line, UNLABELLED))
            report.unread_keys.update(task.unread)
        yield from found


class TaskContent(NamedTuple):
    """What a task of either export has.

    texts: strings by the name of their data.
    annotations: by several annotators, with the ground truth first.
    key: the same for all annotations of a task, or None.
    unread: keys that are not read.
    """

    texts: dict[str, str]
    annotations: list[Annotation]
    key: Hashable
    unread: Iterable[str] = ()


def _read_task(value: dict[str, Any], line: Line) -> TaskContent:
    if "data" in value:
        task = validate(Task, value, line, REMEDY)
        annotations = sorted(task.annotations, key=lambda one: not one.ground_truth)
        return TaskContent(_texts(task.data), annotations, line.place, value.keys() - Task.known_keys())
    shared = validate(MinTask, value, line, REMEDY)
    results = [
        {"type": "labels" if "labels" in item else "other than labels", "value": item}
        for items in value.values()
        if isinstance(items, list)
        for item in items
        if isinstance(item, dict)
    ]
    annotation = validate(Annotation, {"result": results, "completed_by": shared.annotator}, line, REMEDY)
    data = {name: item for name, item in value.items() if name not in MIN_KEYS}
    return TaskContent(_texts(data), [annotation], None if shared.id is None else f"task {shared.id}")


def _texts(data: dict[str, Any]) -> dict[str, str]:
    return {name: text for name, text in data.items() if isinstance(text, str) and not ADDRESS.fullmatch(text)}


def _make_annotations(
    annotation: Annotation, task: TaskContent, units: Sequence[str], used: Counter[str], line: Line
) -> tuple[list[TextAnnotation], list[Note]]:
    """Convert an annotation, to one for each text with regions; none if there is no text.

    Also returns notes on what is left out.

    used: how often data with a name was the text of a task so far.
    """
    regions, notes = _read_regions(annotation.result, line)
    if not task.texts or (annotation.result and not regions and "text" not in task.texts):
        return [], [*notes, Note(line, NO_TEXT)]
    placed, notes_on_regions = _place_regions(regions, task.texts, units, used, line)
    relations, notes_on_relations = _find_relations(annotation.result, placed, line)
    spans = placed.spans
    used.update([*spans])
    made = [
        TextAnnotation(
            line,
            text_of(task.texts[name], line, REMEDY),
            spans[name],
            relations.get(name, []),
            key=task.key and (task.key, name),
            annotator=annotation.annotator,
            time=math.inf if annotation.ground_truth else 0,
        )
        for name in task.texts
        if name in spans
    ]
    return made, [*notes, *notes_on_regions, *notes_on_relations]


def _read_regions(results: Sequence[Result], line: Line) -> tuple[Regions, list[Note]]:
    """The regions of texts, and notes on other results, except relations."""
    regions: Regions = {}
    notes: list[Note] = []
    for result in results:
        if result.type == "labels" and isinstance(result.value, dict) and "channel" not in result.value:
            region = validate(Region, result.value, line, REMEDY)
            regions.setdefault(result.to_name, []).append((result.id, region))
        elif result.type != "relation":
            notes.append(Note(line, OTHER_TYPE, result.type))
    return regions, notes


def _place_regions(
    regions: Regions, texts: dict[str, str], units: Sequence[str], used: Counter[str], line: Line
) -> tuple[PlacedRegions, list[Note]]:
    """Find the text of each region; without regions, the text of the task.

    Also returns notes on regions without a label, and on texts that were chosen among several.
    """
    placed = PlacedRegions({}, {}, set())
    notes: list[Note] = []
    # Those that reach farthest fit the fewest texts.
    tags = sorted(regions, key=lambda tag: max(region.end for _, region in regions[tag]), reverse=True)
    for tag in tags or [None]:
        of_tag = regions.get(tag, [])
        name, bounds = _find_text(texts, tag, [region for _, region in of_tag], units, placed.spans, used, line)
        if len(texts) > 1 and name != "text" and not any(region.text for _, region in of_tag):
            notes.append(Note(line, CHOSEN_TEXT, f"{name!r} of {', '.join(map(repr, texts))}"))
        found = placed.spans.setdefault(name, [])
        for (id, region), (start, end) in zip(of_tag, bounds, strict=True):
            if not region.labels:
                notes.append(Note(line, NO_LABEL, texts[name][start:end]))
            elif id is not None:
                text, first = placed.places.setdefault(id, (name, len(found)))
                if text != name or (first < len(found) and found[first][:2] != (start, end)):
                    placed.clashes.add(id)
            found += [(start, end, label) for label in region.labels]
    return placed, notes


def _find_relations(
    results: Sequence[Result], placed: PlacedRegions, line: Line
) -> tuple[dict[str, list[LabelledIndices]], list[Note]]:
    """The relations of each text, and notes on what is left out."""
    ids = {result.id for result in results if result.type != "relation"}
    relations: dict[str, list[LabelledIndices]] = {}
    notes: list[Note] = []
    for result in results:
        if result.type != "relation":
            continue
        for id in (result.from_id, result.to_id):
            if id is None or id not in ids:
                raise line.error(f"a relation refers to {id!r}, which is the id of no region", REMEDY)
            if id in placed.clashes:
                raise line.error(f"a relation refers to {id!r}, which is the id of several regions", REMEDY)
        head, tail = (placed.places.get(id) for id in (result.from_id, result.to_id) if id is not None)
        if head is None or tail is None or head[0] != tail[0]:
            notes.append(Note(line, RELATION_LEFT_OUT, f"from {result.from_id} to {result.to_id}"))
            continue
        if not result.labels:
            notes.append(Note(line, NO_LABEL, f"relation from {result.from_id} to {result.to_id}"))
        found = relations.setdefault(head[0], [])
        for label in result.labels or ():
            if result.direction != "left":
                found.append((head[1], tail[1], label))
            if result.direction in ("left", "bi"):
                found.append((tail[1], head[1], label))
    return relations, notes


def _find_text(
    texts: dict[str, str],
    tag: str | None,
    regions: list[Region],
    units: Sequence[str],
    taken: Collection[str],
    used: Counter[str],
    line: Line,
) -> tuple[str, list[tuple[int, int]]]:
    """Find which string of the data the regions belong to, and which unit their offsets have.

    The first that fits is taken: one that the regions of another tag have not taken, the one with the name of the tag,
    with the name "text", those of earlier tasks, then the longest.
    Returns the name of the text, and the bounds of the regions in code points.
    """

    def rank(name: str) -> tuple[bool, bool, bool, int, int]:
        return name not in taken, name == tag, name == "text", used[name], len(texts[name])

    faults = []
    for name in sorted(texts, key=rank, reverse=True):
        for unit in units:
            try:
                return name, _find_bounds(texts[name], regions, unit)
            except ValueError as error:
                faults.append(f"data[{name!r}] in {unit}: {error}")
    raise line.error(f"the regions fit no text; {'; '.join(faults[:3])}", REMEDY)


def _find_bounds(text: str, regions: list[Region], unit: str) -> list[tuple[int, int]]:
    spans = to_characters(text, [(region.start, region.end, "region") for region in regions], unit)
    check_bounds(spans, None, len(text), "characters")
    for region, (start, end, _) in zip(regions, spans, strict=True):
        # Label Studio changes the line ends of what it quotes.
        if region.text is not None and _words(region.text) != _words(text[start:end]):
            raise ValueError(
                f"the region {region.start}-{region.end} is {short_repr(text[start:end])}, "
                f"not {short_repr(region.text)}"
            )
    return [(start, end) for start, end, _ in spans]


def _words(text: str) -> list[str]:
    return text.replace("\\n", "\n").split()
