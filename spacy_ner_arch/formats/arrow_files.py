"""Read rows of Parquet and Arrow files, or values of JSON files."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from pathlib import Path
from reprlib import repr as short_repr
from typing import Any

from .json_files import read_items
from .lines import FormatError, Line

PARQUET, ARROW = ".parquet", ".arrow"
VALUE_REMEDY = "correct the value, leave out the column, or write it with another type"


@dataclass(frozen=True)
class Nanoseconds:
    """A timestamp, time or duration with nanoseconds, which Python's types cannot represent.

    count: nanoseconds, as in the file; of a timestamp since 1970, of a time since midnight.
    text: in the form of ISO 8601.
    """

    count: int
    text: str


def read_rows(path: Path, remedy: str) -> Iterator[tuple[Line, dict[str, Any] | None]]:
    """Yield the rows of a Parquet or Arrow file; of a JSON file, the texts of its values, and None.

    For Parquet and Arrow, the line number is the number of the row. A row that cannot be read is also None, and its
    line has the fault.
    """
    if path.suffix not in (PARQUET, ARROW):
        yield from ((line, None) for line in read_items(path, remedy))
        return
    number = 0
    with open_arrow(path) as (_, batches):
        for batch in batches:
            # A damaged Arrow file would crash the interpreter.
            batch.validate(full=True)
            for row, fault in batch_rows(batch):
                number += 1
                line = Line(path, number, "" if row is None else short_repr(row), part="row")
                if row is None:
                    line = line._replace(fault=line.error(fault, VALUE_REMEDY))
                yield line, row


def batch_rows(batch: Any) -> list[tuple[dict[str, Any] | None, str]]:
    """The rows of a batch of pyarrow; None and the reason for a row with a value that Python cannot represent."""
    columns = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            columns.append(column_values(column))
        except Exception as error:  # of all kinds, since each type has its own
            if batch.num_rows == 1:
                return [(None, f"the column {name!r} has a value of {column.type} that cannot be read: {error}")]
            return [row for number in range(batch.num_rows) for row in batch_rows(batch.slice(number, 1))]
    names = batch.schema.names
    return [(dict(zip(names, values, strict=True)), "") for values in zip(*columns, strict=True)]


def column_values(column: Any) -> list[Any]:
    """The values of an array of pyarrow. Those with nanoseconds become objects of the type Nanoseconds.

    Raises errors of all kinds for a value that Python cannot represent, such as nanoseconds in a list or a structure.
    """
    import pyarrow as pa

    kind = column.type
    if pa.types.is_timestamp(kind):
        coarse = pa.timestamp("us", kind.tz)
    elif pa.types.is_time64(kind):
        coarse = pa.time64("us")
    elif pa.types.is_duration(kind):
        coarse = pa.duration("us")
    else:
        return column.to_pylist()
    if kind.unit != "ns":
        return column.to_pylist()
    counts = column.cast(pa.int64()).to_pylist()
    values = pa.array([None if count is None else count // 1000 for count in counts], coarse).to_pylist()
    return [
        Nanoseconds(count, _iso_text(count, value)) if count is not None and count % 1000 else value
        for count, value in zip(counts, values, strict=True)
    ]


def _iso_text(count: int, value: datetime | time | timedelta) -> str:
    """ISO 8601 of a number of nanoseconds.

    value: the same value, truncated to microseconds.
    """
    if isinstance(value, timedelta):
        return iso_duration(count)
    text = value.isoformat(timespec="microseconds")
    # The offset of a time zone may follow the microseconds.
    end = text.index(".") + 7
    return f"{text[:end]}{count % 1000:03}{text[end:]}"


def iso_duration(nanoseconds: int) -> str:
    """ISO 8601 of a duration, in seconds, such as PT1.5S."""
    seconds, rest = divmod(abs(nanoseconds), 10**9)
    fraction = f".{rest:09}".rstrip("0").removesuffix(".")
    return f"{'-' if nanoseconds < 0 else ''}PT{seconds}{fraction}S"


def import_parquet(need: str) -> Any:
    """Import pyarrow.parquet. Raises ImportError if the package is missing.

    need: what needs it, for the error.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(f'{need} needs the package pyarrow: pip install "spacy-ner-arch[parquet]"') from error
    return pyarrow.parquet


@contextmanager
def open_arrow(path: Path) -> Iterator[tuple[Any, Iterable[Any]]]:
    """Open a Parquet or Arrow file: its schema and its batches of rows."""
    parquet = import_parquet(str(path))
    import pyarrow as pa

    try:
        if path.suffix == PARQUET:
            with parquet.ParquetFile(path) as file:
                yield file.schema_arrow, file.iter_batches()
        else:
            with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
                yield stream.schema, stream
    except (pa.ArrowException, OSError, ValueError) as error:
        raise FormatError(path, 1, "", f"pyarrow cannot read the file: {error}", "write the file again") from error
