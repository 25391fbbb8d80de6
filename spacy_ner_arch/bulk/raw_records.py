"""Records of input files in order: lines, rows and stored documents."""

import csv
import lzma
import zlib
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple

from spacy.vocab import Vocab

from ..formats.arrow_files import VALUE_REMEDY, batch_rows, import_parquet
from ..formats.docbins import parse_docbin
from ..formats.files import CHUNK
from ..formats.lines import FormatError, Line, make_line
from ..formats.packing import docs_with_user_data
from .inputs import Input, decompress

# Maximum length of a line in bytes. Longer lines are rejected and not kept in memory.
MAX_LINE = 10_000_000
# Maximum size in bytes of a decompressed file that must be read as a whole.
MAX_WHOLE = 4 << 30
# Number of rows of a Parquet file in memory.
ROWS = 256


class Raw(NamedTuple):
    """A record as stored in its file. It is not parsed yet: workers parse in parallel.

    line: the place of the record, and its text if it is a line.
    format: format of the file, one of FORMATS.
    value: the fields of a row of csv or Parquet; the stored Doc of a .spacy file; None for a line.
    size: approximate size in characters.
    read: approximate number of bytes of the file that were read up to here.
    """

    line: Line
    format: str
    value: dict[str, Any] | bytes | None
    size: int
    read: int


def read_input(input: Input, column: str) -> Iterator[Raw]:
    """The records of a file; none if it is empty. Raises ValueError if the file as a whole cannot be read."""
    if not input.size:
        return
    with naming_damage(input.path), input.path.open("rb") as file:
        content = decompress(input.path, file)
        if input.format == "csv":
            yield from csv_records(input, file, content, column)
        else:
            yield from READERS[input.format](input, file, content)


@contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """Turn the errors of a damaged file into a ValueError with the name of the file."""
    try:
        yield
    except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the system, not of the content
            raise
        raise ValueError(f"{path}: the file is damaged ({error}); download or create it again") from error


def check_inputs(inputs: Iterable[Input], column: str) -> None:
    """Raise ValueError for a table without this column, and ImportError for a file that needs a missing package.

    Without this check, the run would stop only when it reaches the file.
    """
    for input in inputs:
        with naming_damage(input.path), input.path.open("rb") as file:
            content = decompress(input.path, file)
            if input.format == "csv":
                read_header(input.path, csv_rows(input.path, content), column)
            elif input.format == "parquet":
                check_columns(input.path, open_parquet(input.path, content).schema_arrow.names, column)


def line_records(input: Input, file: IO[bytes], content: IO[bytes]) -> Iterator[Raw]:
    """Lines of .txt and .jsonl.

    file: the open file, whose position is known.
    content: the decompressed content of the file.
    """
    for number, (start, length) in enumerate(bounded_lines(content), start=1):
        line = make_line(input.path, number, start)
        if length > len(start):
            fault = too_long(line, length)
            line = line._replace(text=fault.line, fault=fault)
        yield Raw(line, input.format, None, len(start), file.tell())


def bounded_lines(content: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Each line with its length in bytes. A line longer than MAX_LINE is truncated."""
    while start := content.readline(MAX_LINE):
        length = len(start)
        more = start
        while not more.endswith(b"\n") and (more := content.readline(MAX_LINE)):
            length += len(more)
        yield start, length


def too_long(line: Line, length: int) -> FormatError:
    """The error for a truncated line."""
    line = line._replace(text=line.text[:1000])
    return line.error(f"the line has {length:,} bytes, more than {MAX_LINE:,}", "split the text into documents")


def csv_records(input: Input, file: IO[bytes], content: IO[bytes], column: str) -> Iterator[Raw]:
    """Rows of a .csv file whose first row has the names of the columns. Empty lines are skipped."""
    rows = csv_rows(input.path, content)
    header = read_header(input.path, rows, column)
    for line, cells in rows:
        if cells == []:
            continue
        if cells is not None and len(cells) != len(header):
            reason = f"the row has {len(cells)} cells, but the first row has {len(header)}"
            line = line._replace(fault=line.error(reason, "correct the row; quote cells with commas"))
        value = dict(zip(header, cells or [], strict=False))
        yield Raw(line, input.format, value, sum(map(len, cells or [])), file.tell())


def csv_rows(path: Path, content: IO[bytes]) -> Iterator[tuple[Line, list[str] | None]]:
    """Each row with its first line, which contains the fault of the row; the cells are None if they cannot be read."""
    first: Line | None = None
    length = 0
    number = 0

    def lines() -> Iterator[str]:
        """Lines as text, which remembers the first line of the current row and its fault."""
        nonlocal first, length, number
        for start, full_length in bounded_lines(content):
            number += 1
            line = make_line(path, number, start)
            length += full_length
            if full_length > len(start) or length > MAX_LINE:
                fault = too_long(line, length)
                line = line._replace(text=fault.line, fault=fault)
            first = first or line
            if line.fault is not None and first.fault is None:
                first = first._replace(fault=line.fault)
            # Line ends within quotes belong to the cell. A line with a fault is cut, and its row is rejected.
            yield line.text if line.fault else start.removeprefix(BOM_UTF8).decode("utf8")

    csv.field_size_limit(MAX_LINE)
    reader = csv.reader(lines(), strict=True)
    while True:
        first, length = None, 0
        try:
            cells: list[str] | None = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            cells = None
            if first is not None and first.fault is None:
                reason = f"malformed csv from here to line {number}: {error}"
                remedy = "correct the quotes of the row, and separate cells by commas"
                first = first._replace(fault=first.error(reason, remedy))
        if first is not None:
            yield first, cells


def read_header(path: Path, rows: Iterator[tuple[Line, list[str] | None]], column: str) -> list[str]:
    """The names of the columns of a csv file; none for an empty file. Raises ValueError for invalid names."""
    line, header = next(rows, (None, []))
    while line is not None and line.fault is None and not any(header or []):  # empty lines before the header
        line, header = next(rows, (None, []))
    if line is None:
        return []
    line.check()
    check_columns(path, header or [], column)
    return header or []


def parquet_records(input: Input, file: IO[bytes], content: IO[bytes]) -> Iterator[Raw]:
    """Rows of a Parquet file, a few at a time."""
    table = open_parquet(input.path, content)
    total, number = table.metadata.num_rows, 0
    for batch in table.iter_batches(batch_size=ROWS):
        size = batch.nbytes // max(1, batch.num_rows)
        for row, fault in batch_rows(batch):
            number += 1
            line = Line(input.path, number, "")
            if row is None:
                line = line._replace(fault=line.error(fault, VALUE_REMEDY))
            yield Raw(line, input.format, row or {}, size, input.size * number // total)


def open_parquet(path: Path, content: IO[bytes]) -> Any:
    """A pyarrow.parquet.ParquetFile. Raises ValueError if the file is not a Parquet file, see also `import_parquet`."""
    parquet = import_parquet(str(path))
    try:
        # A Parquet file is read from its end, so it must be seekable.
        return parquet.ParquetFile(content if content.seekable() else BytesIO(read_bounded(path, content)))
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is not a Parquet file, or it is damaged: {error}") from error


def read_bounded(path: Path, content: IO[bytes]) -> bytes:
    """All of a decompressed file. Raises ValueError for more than MAX_WHOLE bytes: a few MB can become any size."""
    found = BytesIO()
    # One call with the maximum would reserve that memory.
    while part := content.read(CHUNK):
        found.write(part)
        if found.tell() > MAX_WHOLE:
            raise ValueError(
                f"{path} has more than {MAX_WHOLE:,} bytes when it is decompressed, which would all be in memory; if "
                "you trust its source, decompress it, and annotate the decompressed file"
            )
    return found.getvalue()


def check_columns(path: Path, names: Sequence[str], column: str) -> None:
    """Raise ValueError if a table has no column with this name, or two columns with one name."""
    if column not in names and len(names) == 1 and any(mark in names[0] for mark in ";\t"):
        raise ValueError(f"{path}: the first row is {names[0]!r}; separate the cells by commas")
    if column not in names:
        raise ValueError(f"{path} has no column {column!r}; give one of {', '.join(names)} as --text-column")
    if len(set(names)) < len(names):
        [(name, _)] = Counter(names).most_common(1)
        raise ValueError(f"{path} has two columns {name!r}; rename one of them")


def spacy_records(input: Input, file: IO[bytes], content: IO[bytes]) -> Iterator[Raw]:
    """Documents of a .spacy file, which is read as a whole."""
    docs = parse_docbin(content.read() if content is file else read_bounded(input.path, content), input.path)
    total = len(docs)
    for number, doc in enumerate(docs_with_user_data(docs, Vocab()), start=1):
        stored = doc.to_bytes()
        line = Line(input.path, number, doc.text[:1000])
        yield Raw(line, input.format, stored, len(stored), input.size * number // total)


# The readers of all formats except csv, whose header is checked.
READERS = {
    "txt": line_records,
    "jsonl": line_records,
    "parquet": parquet_records,
    "spacy": spacy_records,
}
