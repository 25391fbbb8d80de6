"""Results of Label Studio: regions of texts, relations between them, and other answers."""

from collections.abc import Iterable
from contextlib import suppress
from itertools import chain
from typing import Any, NamedTuple

from pydantic import BaseModel, StrictInt, StrictStr

from .lines import FormatError, Line
from .records import Label, Source, Text, validate

REMEDY = (
    "export the project as JSON or JSON-MIN; a text is a string under data, a region is "
    '{"id": "a", "type": "labels", "value": {"start": 0, "end": 4, "text": "Anna", "labels": ["PER"]}}, and a relation '
    '{"type": "relation", "from_id": "a", "to_id": "b", "labels": ["left"]}'
)
# The type of the labels of a text.
LABELS = "labels"
# Types of regions of texts with a markup or of paragraphs, whose bounds may be paths.
MARKUP = ("hypertextlabels", "paragraphlabels")
# Types of answers about a whole task, or about a region, which then has a result of another type with the same id.
ANSWERS = frozenset(("choices", "taxonomy", "rating", "textarea", "number", "datetime", "pairwise", "ranker"))
# The type of a region of JSON-MIN without labels.
BARE = "region without labels"

Id = StrictInt | StrictStr


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


class RegionValue(Source):
    """The value of a result that is a part of a text."""

    start: StrictInt
    end: StrictInt
    text: Text | None = None
    labels: list[Label] = []


class Region(NamedTuple):
    """A part of a text.

    id, type: id and type of its result.
    start, end: bounds in an unknown unit.
    quoted: the quoted text between the bounds; None if the result has none.
    labels: empty for a region of another type.
    """

    id: Id | None
    type: str
    start: int
    end: int
    quoted: str | None
    labels: list[str]

    @property
    def must_fit(self) -> bool:
        """Whether it is an error if the region fits no text."""
        return self.type == LABELS


# Regions by the tag of their text in the configuration of the project.
Regions = dict[str | None, list[Region]]


class SortedResults(NamedTuple):
    """The results of an annotation: regions of texts, relations, and all others."""

    regions: Regions
    relations: list[Result]
    others: list[Result]

    @property
    def is_empty(self) -> bool:
        return not (self.regions or self.relations or self.others)

    @property
    def ids(self) -> set[Id]:
        """Ids that relations can refer to."""
        of_regions = (region.id for region in chain.from_iterable(self.regions.values()))
        return {id for id in chain(of_regions, (result.id for result in self.others)) if id is not None}


def sort_results(results: Iterable[Result], line: Line) -> SortedResults:
    """Read the regions among the results. Raises FormatError for a malformed one of the type `labels`."""
    found = SortedResults({}, [], [])
    for result in results:
        if result.type == "relation":
            found.relations.append(result)
        elif (value := _read_value(result, line)) is None:
            found.others.append(result)
        else:
            region = Region(result.id, result.type, value.start, value.end, value.text, value.labels)
            found.regions.setdefault(result.to_name, []).append(region)
    return found


def _read_value(result: Result, line: Line) -> RegionValue | None:
    """The value of a region of a text; None for other results."""
    value = result.value
    if not isinstance(value, dict) or "channel" in value:
        return None
    if result.type == LABELS:
        return validate(RegionValue, value, line, REMEDY)
    if result.type in MARKUP:
        # These bounds refer to the text without its markup. The quoted text shows whether that is the text of the task.
        if not isinstance(value.get("text"), str) or not isinstance(value.get("globalOffsets"), dict):
            return None
        value = {**value, **value["globalOffsets"], "labels": value.get(result.type) or []}
    else:
        quoted = value.get("text")  # or the answer of a textarea
        if not isinstance(quoted, str) and result.type not in (BARE, *ANSWERS):
            return None
        value = {**value, "text": quoted if isinstance(quoted, str) else None, "labels": []}
    with suppress(FormatError):
        return validate(RegionValue, value, line, REMEDY)
    return None
