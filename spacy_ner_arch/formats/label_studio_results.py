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


class Region(Source):
    """A part of a text."""

    start: StrictInt
    end: StrictInt
    text: Text | None = None
    labels: list[Label] = []


class TypedRegion(NamedTuple):
    """A region, its id, and the type of its result."""

    id: Id | None
    type: str
    region: Region

    @property
    def must_fit(self) -> bool:
        """Whether it is an error if the region fits no text."""
        return self.type == LABELS


# By the tag of their text in the configuration of the project.
Regions = dict[str | None, list[TypedRegion]]


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
        """Ids of what relations can be about."""
        of_regions = (region.id for region in chain.from_iterable(self.regions.values()))
        return {id for id in chain(of_regions, (result.id for result in self.others)) if id is not None}


def sort_results(results: Iterable[Result], line: Line) -> SortedResults:
    """Read the regions among the results. Raises FormatError for a malformed one of the type `labels`."""
    found = SortedResults({}, [], [])
    for result in results:
        if result.type == "relation":
            found.relations.append(result)
        elif (region := _read_region(result, line)) is None:
            found.others.append(result)
        else:
            found.regions.setdefault(result.to_name, []).append(TypedRegion(result.id, result.type, region))
    return found


def _read_region(result: Result, line: Line) -> Region | None:
    """The region of a text that a result is; None for other results."""
    value = result.value
    if not isinstance(value, dict) or "channel" in value:
        return None
    if result.type == LABELS:
        return validate(Region, value, line, REMEDY)
    if result.type in MARKUP:
        # They count in the text without its markup. Whether that is the text of the task shows what they quote.
        if not isinstance(value.get("text"), str) or not isinstance(value.get("globalOffsets"), dict):
            return None
        value = {**value, **value["globalOffsets"], "labels": value.get(result.type) or []}
    else:
        quoted = value.get("text")  # or the answer of a textarea
        if not isinstance(quoted, str) and result.type not in (BARE, *ANSWERS):
            return None
        value = {**value, "text": quoted if isinstance(quoted, str) else None, "labels": []}
    with suppress(FormatError):
        return validate(Region, value, line, REMEDY)
    return None
