"""Records of all input files, cut into shards."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .inputs import Input
from .raw_records import Raw, read_input

# A shard with more characters is closed, even if it has few records.
MAX_SHARD = 50_000_000


class Shard(NamedTuple):
    """Records that are annotated together and become one file.

    number: number of the shard, from 0.
    raws: the records.
    read: bytes of the input between the end of the previous shard and the end of this one.
    """

    number: int
    raws: list[Raw]
    read: int

    @property
    def place(self) -> str:
        return f"shard {self.number} ({self.raws[0].line.place} to {self.raws[-1].line.place})"


def read_shards(inputs: Iterable[Input], column: str, size: int) -> Iterator[Shard]:
    """Cut the records of all files into shards, which depend only on the files and the size.

    column: the column of csv and Parquet files that contains the text.
    size: number of records of a shard.
    Raises ValueError for a file that cannot be read.
    """
    raws: list[Raw] = []
    number = characters = before = read = 0
    for input in inputs:
        for raw in read_input(input, column):
            raws.append(raw)
            characters += raw.size
            if len(raws) >= size or characters >= MAX_SHARD:
                yield Shard(number, raws, before + raw.read - read)
                number, raws, characters, read = number + 1, [], 0, before + raw.read
        before += input.size
    if raws:
        yield Shard(number, raws, before - read)
