"""Rows of Parquet and Arrow files, or the values of JSON files in their place."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from reprlib import repr as short_repr
from typing import Any

from .json_files import read_items
from .lines import FormatError, Line

PARQUET, ARROW = ".parquet", ".arrow"


def read_rows(path: Path, remedy: str) -> Iterator[tuple[Line, dict[str, Any] | None]]:
    """Yield the rows of a Parquet or Arrow file; of a JSON file, the texts of its values, and None.

    The number of a row of Parquet and Arrow takes the place of the number of a line.
    """
    if path.suffix not in (PARQUET, ARROW):
        yield from ((line, None) for line in read_items(path, remedy))
        return
    number = 0
    with open_arrow(path) as (_, batches):
        for batch in batches:
            # A damaged Arrow file would crash the interpreter.
            batch.validate(full=True)
            for row in batch.to_pylist():
                number += 1
                yield Line(path, number, short_repr(row), part="row"), row


@contextmanager
def open_arrow(path: Path) -> Iterator[tuple[Any, Iterable[Any]]]:
    """Open a Parquet or Arrow file: its schema and its batches of rows."""
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise ImportError(f"{path} needs pyarrow: pip install 'spacy-ner-arch[parquet]'") from error
    try:
        if path.suffix == PARQUET:
            with ParquetFile(path) as file:
                yield file.schema_arrow, file.iter_batches()
        else:
            with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
                yield stream.schema, stream
    except (pa.ArrowException, OSError, ValueError) as error:
        raise FormatError(path, 1, "", f"pyarrow cannot read the file: {error}", "write the file again") from error
