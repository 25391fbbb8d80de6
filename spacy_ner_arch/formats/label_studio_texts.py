"""Texts of Label Studio: find the string of a task that the regions of a tag belong to, and their bounds in it."""

from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial
from reprlib import repr as short_repr
from typing import Any, NamedTuple

from .label_studio_results import REMEDY, Region, Regions
from .lines import FormatError, Line
from .texts import is_wording
from .units import Places, find_places, other_unit, to_characters

Bounds = tuple[int, int]


class Fit(NamedTuple):
    """The unit in which the deciding regions fit a text, and their bounds in code points."""

    unit: str
    bounds: list[Bounds]


class Placement(NamedTuple):
    """Text and bounds of the regions of a tag.

    text: the name of their text; None if they fit none.
    bounds: of each region in code points, None for a region that does not fit the text.
    is_guess: whether they fit other texts as well.
    """

    text: str | None
    bounds: Sequence[Bounds | None]
    is_guess: bool


class TextFinder:
    """Find the text of regions among the strings of a task, by statistics of all tasks of a file.

    units: possible units of the offsets, see `units.UNITS`. The first unit in which the regions fit a text is used.
    """

    def __init__(self, units: Sequence[str]) -> None:
        self.units = units
        # How often the regions of a tag fitted data with a name, and the length of these data; None is for all tags.
        self._fits: Counter[tuple[str | None, str]] = Counter()
        self._lengths: Counter[tuple[str | None, str]] = Counter()

    def learn(self, texts: dict[str, str], regions: Regions) -> None:
        """Count the texts of a task that its regions fit."""
        for tag, of_tag in regions.items():
            for name, text in texts.items():
                if self._fit(text, of_tag) is not None:
                    for key in {(tag, name), (None, name)}:
                        self._fits[key] += 1
                        self._lengths[key] += len(text)

    def has_fitted(self, name: str) -> bool:
        """Whether any regions fitted data with this name."""
        return self._fits[None, name] > 0

    def find(
        self, texts: dict[str, str], tag: str | None, regions: Sequence[Region], taken: Collection[str]
    ) -> Placement:
        """Find the string of the data that the regions of a tag belong to, and their bounds in it.

        The first that fits is taken: one that the regions of another tag have not taken, the one with the name of the
        tag, with the name "text", the one that regions fitted in most tasks, then the longest.
        """

        def rank(name: str) -> tuple[Any, ...]:
            counts = self._fits[tag, name], self._lengths[tag, name]
            return name not in taken, name == tag, name == "text", counts, len(texts[name])

        fitting = [
            (name, fit)
            for name in sorted(texts, key=rank, reverse=True)
            if (fit := self._fit(texts[name], regions)) is not None
        ]
        if not fitting:
            return Placement(None, [None] * len(regions), is_guess=False)
        name, fit = fitting[0]
        rivals = [other for other, _ in fitting if (other in taken) == (name in taken)]
        return Placement(name, _place_all(regions, texts[name], fit), len(rivals) > 1 and name not in ("text", tag))

    def misfit(self, texts: dict[str, str], regions: Sequence[Region], line: Line) -> FormatError:
        """The error about regions that fit no text."""
        faults = []
        for name, text in texts.items():
            for unit in self.units:
                try:
                    find_bounds(text, _deciding(regions), unit)
                except ValueError as error:
                    other = other_unit(partial(find_bounds, text, _deciding(regions)), self.units)
                    faults.append(f"data[{name!r}] in {unit}: {error}{other}")
        return line.error(f"the regions fit no text; {'; '.join(faults[:3])}", REMEDY)

    def _fit(self, text: str, regions: Sequence[Region]) -> Fit | None:
        """The unit and the bounds with which the regions fit a text; None if they do not fit."""
        for unit in self.units:
            with suppress(ValueError):
                return Fit(unit, find_bounds(text, _deciding(regions), unit))
        return None


def _deciding(of_tag: Sequence[Region]) -> list[Region]:
    """The regions of a tag that determine its text: those that must fit it, if there are any."""
    return [region for region in of_tag if region.must_fit] or [*of_tag]


def find_bounds(text: str, regions: list[Region], unit: str) -> list[Bounds]:
    """The bounds of the regions in code points. Raises ValueError if they do not fit the text."""
    spans = to_characters(text, [(region.start, region.end, "region") for region in regions], unit)
    for region, (start, end, _) in zip(regions, spans, strict=True):
        if not _is_quoted(region, text[start:end]):
            raise ValueError(
                f"the region {region.start}-{region.end} is {short_repr(text[start:end])}, "
                f"not {short_repr(region.quoted)}"
            )
    return [(start, end) for start, end, _ in spans]


def _place_all(regions: Sequence[Region], text: str, fit: Fit) -> Sequence[Bounds | None]:
    """The bounds of all regions of a tag in code points, None for those that do not fit. All count in the same unit."""
    if len(fit.bounds) == len(regions):
        return fit.bounds
    decided = iter(fit.bounds)
    places = find_places(text, fit.unit)
    return [next(decided) if region.must_fit else _place(region, text, places) for region in regions]


def _place(region: Region, text: str, places: Places) -> Bounds | None:
    """The bounds of a region in code points, None if it does not fit the text.

    places: offsets in code points, by those in the unit of the region.
    """
    if not (region.start < region.end and region.start in places and region.end in places):
        return None
    start, end = places[region.start], places[region.end]
    return (start, end) if _is_quoted(region, text[start:end]) else None


def _is_quoted(region: Region, part: str) -> bool:
    """Whether a part of a text equals the quoted text of the region, if there is one."""
    # Label Studio changes the line ends of quoted texts.
    return region.quoted is None or is_wording(*(text.replace("\\n", "\n") for text in (region.quoted, part)))
