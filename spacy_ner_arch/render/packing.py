"""Which intervals go into which row."""

from bisect import bisect
from collections.abc import Sequence


def pack(intervals: Sequence[tuple[float, float]], ranks: Sequence[float] | None = None) -> list[int]:
    """A row for each interval (start, end), counted from 0, so that none of a row overlap; ends may touch.

    Each takes the lowest row with room, first those of lower ranks, by default the shorter ones. Therefore an interval
    that encloses another of lower rank is in a higher row: what kept the inner one from lower rows keeps it from them.
    """
    if ranks is None:
        ranks = [end - start for start, end in intervals]
    order = sorted(range(len(intervals)), key=lambda i: (ranks[i], intervals[i][0], i))
    starts: list[list[float]] = []
    ends: list[list[float]] = []
    rows = [0] * len(intervals)
    for i in order:
        start, end = intervals[i]
        for row, taken in enumerate(starts):
            # Nothing in a row overlaps, so both lists are sorted, and only two neighbours matter.
            place = bisect(taken, start)
            if (place == 0 or ends[row][place - 1] <= start) and (place == len(taken) or end <= taken[place]):
                break
        else:
            row, place = len(starts), 0
            starts.append([])
            ends.append([])
        starts[row].insert(place, start)
        ends[row].insert(place, end)
        rows[i] = row
    return rows
