"""Tasks of the exports JSON and JSON-MIN of Label Studio."""

import re
from collections.abc import Hashable, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, NamedTuple

from pydantic import AliasChoices, Field, StrictBool

from .fields import select_fields
from .label_studio_results import BARE, REMEDY, Id, Result, SortedResults, sort_results
from .lines import FormatError, Line
from .records import Source, parse_object, validate

# Keys of JSON-MIN that are neither data nor results.
MIN_KEYS = frozenset(("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement"))

# Address of a file that Label Studio shows.
ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]*://|data:|/data/)\S*")


class Annotation(Source):
    """The annotation that an annotator submitted for a task."""

    result: list[Result]
    was_cancelled: StrictBool | None = None
    ground_truth: StrictBool | None = None
    completed_by: Id | dict[str, Any] | None = None
    updated_at: Any = None
    created_at: Any = None

    @property
    def time(self) -> float:
        """Seconds since 1970 when it was made or changed, 0 if that is not known."""
        date = str(self.updated_at or self.created_at).replace("Z", "+00:00")
        with suppress(ValueError):
            moment = datetime.fromisoformat(date)
            return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
        return 0

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
    """An annotation in JSON-MIN."""

    id: Id | None = None
    annotator: Id | dict[str, Any] | None = None
    updated_at: Any = None
    created_at: Any = None


class AnnotationContent(NamedTuple):
    """The results of an annotation, who made it, when, and whether it is the ground truth, see `Annotation`."""

    results: SortedResults
    annotator: str
    time: float
    is_ground_truth: bool


class TaskContent(NamedTuple):
    """Content of a task of either export.

    line: its place in the file.
    texts: strings by the name of their data.
    has_files: whether other data are addresses, such as those of images.
    annotations: by several annotators, without cancelled ones.
    cancelled: the cancelled annotations, without results if these are malformed.
    key: the same for all annotations of a task, or None.
    unread: keys that are not read.
    data: keys that are read only if they name a text; each with the name of its data.
    fields: fields to keep, of the data or else of the task itself; the error if one cannot be kept.
    """

    line: Line
    texts: dict[str, str]
    has_files: bool
    annotations: list[AnnotationContent]
    cancelled: list[AnnotationContent]
    key: Hashable
    unread: set[str]
    data: dict[str, str]
    fields: dict[str, Any] | FormatError


def read_task(line: Line, fields: Sequence[str]) -> TaskContent:
    """Read a task of either export. Raises FormatError if it is not a task.

    fields: names of the fields to keep.
    """
    value = parse_object(line, REMEDY)
    return _read_task(value, line, fields) if "data" in value else _read_min_task(value, line, fields)


def _read_task(value: dict[str, Any], line: Line, fields: Sequence[str]) -> TaskContent:
    task = validate(Task, value, line, REMEDY)
    annotations = _contents(task.annotations, line)
    unread = {*value} - Task.known_keys()
    keys = {f"data.{name}": name for name in task.data}
    kept = _select_fields({**value, **task.data}, fields, line)
    return TaskContent(line, *_texts(task.data), *annotations, line.place, unread, keys, kept)


def _read_min_task(value: dict[str, Any], line: Line, fields: Sequence[str]) -> TaskContent:
    shared = validate(MinTask, value, line, REMEDY)
    data = {name: item for name, item in value.items() if name not in MIN_KEYS}
    regions = {
        name: [item for item in items if isinstance(item, dict)]
        for name, items in data.items()
        if isinstance(items, list)
    }
    results = [{"type": _type_of(item), "value": item} for items in regions.values() for item in items]
    dates = {"updated_at": shared.updated_at, "created_at": shared.created_at}
    annotation = validate(Annotation, {"result": results, "completed_by": shared.annotator, **dates}, line, REMEDY)
    # An empty list means that there are no regions.
    keys = {name: name for name, item in data.items() if not regions.get(name) and item != []}
    key = None if shared.id is None else f"task {shared.id}"
    kept = _select_fields(value, fields, line)
    return TaskContent(line, *_texts(data), *_contents([annotation], line), key, set(), keys, kept)


def _type_of(region: dict[str, Any]) -> str:
    """The type of a region of JSON-MIN, which has a key of that name."""
    return next((key for key in region if key.endswith("labels")), BARE)


def _texts(data: dict[str, Any]) -> tuple[dict[str, str], bool]:
    """Strings by name, and whether there are also addresses."""
    strings = {name: text for name, text in data.items() if isinstance(text, str)}
    texts = {name: text for name, text in strings.items() if not ADDRESS.fullmatch(text)}
    return texts, len(texts) < len(strings)


def _contents(annotations: Sequence[Annotation], line: Line) -> tuple[list[AnnotationContent], list[AnnotationContent]]:
    """Annotations that were not cancelled, and the others."""
    contents: list[AnnotationContent] = []
    cancelled: list[AnnotationContent] = []
    for one in annotations:
        if not one.was_cancelled:
            results = sort_results(one.result, line)
            contents.append(AnnotationContent(results, one.annotator, one.time, bool(one.ground_truth)))
            continue
        results = SortedResults({}, [], [])
        with suppress(FormatError):
            results = sort_results(one.result, line)
        cancelled.append(AnnotationContent(results, one.annotator, one.time, False))
    return contents, cancelled


def _select_fields(record: dict[str, Any], names: Sequence[str], line: Line) -> dict[str, Any] | FormatError:
    """The fields with these names, or the error: a task with an error still shows which strings are texts."""
    try:
        return select_fields(record, names)
    except ValueError as error:
        return line.error(str(error), REMEDY)
