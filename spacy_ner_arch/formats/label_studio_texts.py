"""Regions of Label Studio: which text of a task they belong to, and where they are in it."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from reprlib import repr as short_repr
from typing import Any, NamedTuple

from pydantic import StrictInt

from .label_studio_tasks import BARE, REMEDY, Id, Result
from .lines import FormatError, Line
from .records import Label, Source, Text, check_bounds, validate
from .units import to_characters, unit_places

# Types of answers about a whole task, or about a region, which then has a result of another type with the same id.
ANSWERS = frozenset(("choices", "taxonomy", "rating", "textarea", "number", "datetime", "pairwise", "ranker"))
# Types of regions of texts with a markup or of paragraphs, whose bounds may be paths.
MARKUP = ("hypertextlabels", "paragraphlabels")

Bounds = list[tuple[int, int]]


class Region(Source):
    """A part of a text."""

    start: StrictInt
    end: StrictInt
    text: Text | None = None
    labels: list[Label] = []


class TypedRegion(NamedTuple):
    """A region, its id, and the type of its result. Those of the type `labels` must fit a text."""

    id: Id | None
    type: str
    region: Region

    @property
    def must_fit(self) -> bool:
        return self.type == "labels"


# By the tag of their text in the configuration of the project.
Regions = dict[str | None, list[TypedRegion]]


def region_of(result: Result, line: Line) -> Region | None:
    """The region of a text that a result is; None for other results.

    Raises FormatError for a malformed region of the type `labels`.
    """
    value = result.value
    if not isinstance(value, dict) or "channel" in value or result.type == "relation":
        return None
    if result.type == "labels":
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


class Evidence:
    """How often the regions of a tag fit the data with a name, in all tasks of a file.

    The tag None stands for all tags.
    """

    def __init__(self) -> None:
        self.fits: Counter[tuple[str | None, str]] = Counter()
        self.lengths: Counter[tuple[str | None, str]] = Counter()

    def add(self, texts: dict[str, str], regions: Regions, units: Sequence[str]) -> None:
        """Count the texts of a task that its regions fit."""
        for tag, of_tag in regions.items():
            for name in texts:
                if fit(texts[name], deciding(of_tag), units) is not None:
                    for key in {(tag, name), (None, name)}:
                        self.fits[key] += 1
                        self.lengths[key] += len(texts[name])

    def rank(self, tag: str | None, name: str) -> tuple[int, int]:
        """Greater for the name that is more probably that of the text."""
        return self.fits[tag, name], self.lengths[tag, name]


class Fit(NamedTuple):
    """The unit in which regions fit a text, and their bounds in code points."""

    unit: str
    bounds: Bounds


class FoundText(NamedTuple):
    """The name of the text that regions belong to, how they fit it, and whether others fit as well."""

    name: str
    fit: Fit
    is_guess: bool

    def place(self, regions: Sequence[TypedRegion], text: str) -> list[tuple[int, int] | None]:
        """The bounds of all regions of the tag in code points, None for those that do not fit.

        All count in the same unit.
        """
        deciding_bounds = iter(self.fit.bounds)
        all_decide = not any(one.must_fit for one in regions)
        places = dict(unit_places(text, self.fit.unit))
        bounds: list[tuple[int, int] | None] = []
        for one in regions:
            region = one.region
            if all_decide or one.must_fit:
                bounds.append(next(deciding_bounds))
                continue
            start, end = places.get(region.start), places.get(region.end)
            if start is None or end is None or start >= end:
                bounds.append(None)
            else:
                fits = region.text is None or _words(region.text) == _words(text[start:end])
                bounds.append((start, end) if fits else None)
        return bounds


def deciding(of_tag: Iterable[TypedRegion]) -> list[Region]:
    """The regions of a tag that show its text: those that must fit it, if there are any."""
    return [one.region for one in of_tag if one.must_fit] or [one.region for one in of_tag]


def find_text(
    texts: dict[str, str],
    tag: str | None,
    regions: list[Region],
    units: Sequence[str],
    taken: Collection[str],
    evidence: Evidence,
) -> FoundText | None:
    """Find which string of the data the regions belong to, and which unit their offsets have. None if none fits.

    The first that fits is taken: one that the regions of another tag have not taken, the one with the name of the tag,
    with the name "text", the one that regions fit in most tasks, then the longest.
    """

    def rank(name: str) -> tuple[Any, ...]:
        return name not in taken, name == tag, name == "text", evidence.rank(tag, name), len(texts[name])

    fitting = [
        (name, found)
        for name in sorted(texts, key=rank, reverse=True)
        if (found := fit(texts[name], regions, units)) is not None
    ]
    if not fitting:
        return None
    name, found = fitting[0]
    rivals = [other for other, _ in fitting if (other in taken) == (name in taken)]
    return FoundText(name, found, len(rivals) > 1 and name not in ("text", tag))


def misfit(texts: dict[str, str], regions: list[Region], units: Sequence[str], line: Line) -> FormatError:
    """The error about regions that fit no text."""
    faults = []
    for name in texts:
        for unit in units:
            try:
                find_bounds(texts[name], regions, unit)
            except ValueError as error:
                faults.append(f"data[{name!r}] in {unit}: {error}")
    return line.error(f"the regions fit no text; {'; '.join(faults[:3])}", REMEDY)


def fit(text: str, regions: list[Region], units: Sequence[str]) -> Fit | None:
    """How the regions fit a text, in the first unit in which they do; None if they do not."""
    for unit in units:
        with suppress(ValueError):
            return Fit(unit, find_bounds(text, regions, unit))
    return None


def find_bounds(text: str, regions: list[Region], unit: str) -> Bounds:
    """The bounds of the regions in code points. Raises ValueError if they do not fit the text."""
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
