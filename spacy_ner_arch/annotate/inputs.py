"""Input files, and their records in order, cut into shards."""

import bz2
import csv
import glob
import gzip
import lzma
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple

from spacy.vocab import Vocab

from ..formats.docbins import parse_docbin
from ..formats.lines import FormatError, Line, make_line

FORMATS = ("txt", "jsonl", "csv", "parquet", "spacy")
COMPRESSIONS = ("gz", "bz2", "xz", "zst")
# Longer lines are rejected. They are not kept in memory.
MAX_LINE = 10_000_000
# A shard with more characters is closed, however few records it has.
MAX_SHARD = 50_000_000
# Rows of a Parquet file in memory.
ROWS = 256
CHUNK = 1 << 20


class Input(NamedTuple):
    """An input file.

    path: as the user gave it.
    format: one of FORMATS.
    size: in bytes.
    """

    path: Path
    format: str
    size: int


class Raw(NamedTuple):
    """A record as it lies in its file. Its text is not parsed yet, since parsing takes time that a worker has.

    line: the place of the record, and its text if it is a line.
    format: of the file, one of FORMATS.
    value: the fields of a row of csv or Parquet; the stored Doc of a .spacy file; None for a line.
    size: in characters, roughly.
    read: bytes of the file that are read up to here, roughly.
    """

    line: Line
    format: str
    value: dict[str, Any] | bytes | None
    size: int
    read: int


class Shard(NamedTuple):
    """Records that are annotated together and become one file.

    number: of the shard, from 0.
    raws: the records.
    read: bytes of the input between the end of the previous shard and the end of this one.
    """

    number: int
    raws: list[Raw]
    read: int

    @property
    def place(self) -> str:
        return f"shard {self.number} ({self.raws[0].line.place} to {self.raws[-1].line.place})"


def find_inputs(names: Sequence[str], format: str | None, output: Path) -> tuple[list[Input], list[Path]]:
    """The files that the arguments of the command name: files, folders and patterns such as "texts/*.jsonl.gz".

    format: of all files; None to take it from their names.
    output: the folder of the output, which must not be an input too.
    Returns the files in the order of the arguments, those of a folder or pattern sorted by name, and the files of
    folders that are left out, since their names show no known format.
    Raises ValueError for a name without a file, a file of an unknown format, and a file that is named twice.
    """
    if format not in (None, *FORMATS):
        raise ValueError(f"--format is {format!r}; it must be one of {', '.join(FORMATS)}")
    inputs: dict[Path, Input] = {}
    left_out = []
    for name in names:
        is_file = Path(name).is_file()
        if Path(name).is_dir() and output.resolve().is_relative_to(Path(name).resolve()):
            raise ValueError(f"{output}: the output folder lies in the input {name}; give another output folder")
        for path in [Path(name)] if is_file else _expand(name):
            found = format or find_format(path)
            if path.resolve().is_relative_to(output.resolve()):
                raise ValueError(f"{path}: the input lies in the output folder; give another output folder")
            if path.resolve() in inputs:
                raise ValueError(f"{path} is named twice by the inputs; name it once")
            if found is not None:
                inputs[path.resolve()] = Input(path, found, path.stat().st_size)
            elif is_file:
                known = ", ".join(f".{known}" for known in FORMATS)
                raise ValueError(f"{path}: the name ends in none of {known}; give its --format")
            else:
                left_out.append(path)
    if not inputs:
        raise ValueError(f"{' '.join(names)}: no file with one of the endings {', '.join(FORMATS)}; give --format")
    return list(inputs.values()), left_out


def _expand(name: str) -> list[Path]:
    """The files of a folder, without hidden ones, or those that match a pattern, in order."""
    if Path(name).is_dir():
        paths = [path for path in Path(name).rglob("*") if path.is_file()]
        paths = [path for path in paths if not any(part.startswith(".") for part in path.relative_to(name).parts)]
    else:
        paths = [Path(path) for path in glob.glob(name, recursive=True) if Path(path).is_file()]
    if not paths:
        raise ValueError(f"{name}: there is no such file, no folder with files, and no file that matches")
    return sorted(paths)


def find_format(path: Path) -> str | None:
    """The format that the name of a file shows, also before the ending of a compression."""
    endings = [ending.lower().removeprefix(".") for ending in path.suffixes]
    if endings and endings[-1] in COMPRESSIONS:
        endings.pop()
    return endings[-1] if endings and endings[-1] in FORMATS else None


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    digest = sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def decompress(path: Path, file: IO[bytes]) -> Any:
    """An open binary file, decompressed if its name says that it is compressed."""
    ending = path.suffix.lower()
    if ending == ".gz":
        return gzip.open(file)
    if ending == ".bz2":
        return bz2.open(file)
    if ending == ".xz":
        return lzma.open(file)
    if ending == ".zst":
        try:
            from zstandard import ZstdDecompressor
        except ImportError as error:
            raise ValueError(f'{path} needs the package zstandard: pip install "spacy-ner-arch[zst]"') from error
        return BufferedReader(ZstdDecompressor().stream_reader(file, read_across_frames=True))
    return file


def import_parquet() -> Any:
    """pyarrow.parquet. Raises ValueError without the package."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError('Parquet needs the package pyarrow: pip install "spacy-ner-arch[parquet]"') from error
    return pyarrow.parquet


def check_inputs(inputs: Iterable[Input], column: str) -> None:
    """Raise ValueError for a table without this column, or a file that needs a package that is missing.

    Without this check, the run would stop only when it comes to the file.
    """
    for input in inputs:
        with input.path.open("rb") as file:
            content = decompress(input.path, file)
            if input.format == "csv":
                read_header(input.path, csv_rows(input.path, content), column)
            elif input.format == "parquet":
                check_columns(input.path, open_parquet(input.path, content).schema_arrow.names, column)


def read_shards(inputs: Iterable[Input], column: str, size: int) -> Iterator[Shard]:
    """Cut the records of all files into shards, which depend on nothing but the files and the size.

    column: the column of csv and Parquet files that has the text.
    size: records of a shard.
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


def read_input(input: Input, column: str) -> Iterator[Raw]:
    """The records of a file, none of one without a byte. Raises ValueError if the file as a whole cannot be read."""
    if not input.size:
        return
    try:
        with input.path.open("rb") as file:
            yield from READERS[input.format](input, file, decompress(input.path, file), column)
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
        raise ValueError(f"{input.path}: the file is damaged ({error}); fetch or make it again") from error


def read_lines(input: Input, file: IO[bytes], content: IO[bytes], column: str) -> Iterator[Raw]:
    """Lines of .txt and .jsonl.

    file, content: the open file as it is, of which the position is known, and decompressed.
    """
    for number, (start, length) in enumerate(bounded_lines(content), start=1):
        line = make_line(input.path, number, start)
        if length > len(start):
            fault = too_long(line, length)
            line = line._replace(text=fault.line, fault=fault)
        yield Raw(line, input.format, None, len(start), file.tell())


def bounded_lines(content: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Each line with its length in bytes. Of a line that is longer than MAX_LINE, only the start is kept."""
    while start := content.readline(MAX_LINE):
        length = len(start)
        more = start
        while not more.endswith(b"\n") and (more := content.readline(MAX_LINE)):
            length += len(more)
        yield start, length


def too_long(line: Line, length: int) -> FormatError:
    """The error about a line of which only the start was read."""
    line = line._replace(text=line.text[:1000])
    return line.error(f"the line has {length:,} bytes, more than {MAX_LINE:,}", "split the text into documents")


def read_csv(input: Input, file: IO[bytes], content: IO[bytes], column: str) -> Iterator[Raw]:
    """Rows of a .csv file whose first row has the names of the columns. Empty lines are no rows."""
    rows = csv_rows(input.path, content)
    header = read_header(input.path, rows, column)
    for line, cells in rows:
        if cells == []:
            continue
        if cells is not None and len(cells) != len(header):
            reason = f"the row has {len(cells)} cells, the first row has {len(header)}"
            line = line._replace(fault=line.error(reason, "correct the row; quote cells with commas"))
        value = dict(zip(header, cells or [], strict=False))
        yield Raw(line, input.format, value, sum(map(len, cells or [])), file.tell())


def csv_rows(path: Path, content: IO[bytes]) -> Iterator[tuple[Line, list[str] | None]]:
    """Each row with its first line, which has the fault of the row; the cells are None if they cannot be read."""
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
                first = first._replace(fault=first.error(reason, "correct the quotes of the row"))
        if first is not None:
            yield first, cells


def read_header(path: Path, rows: Iterator[tuple[Line, list[str] | None]], column: str) -> list[str]:
    """The names of the columns of a csv file; none for an empty file. Raises ValueError if they are not usable."""
    line, header = next(rows, (None, []))
    while line is not None and not any(header or []):  # empty lines before the header
        line, header = next(rows, (None, []))
    if line is None:
        return []
    line.check()
    check_columns(path, header or [], column)
    return header or []


def check_columns(path: Path, names: Sequence[str], column: str) -> None:
    """Raise ValueError if a table has no column with this name, or two columns with one name."""
    if column not in names and len(names) == 1 and any(mark in names[0] for mark in ";\t"):
        raise ValueError(f"{path}: the first row is {names[0]!r}; separate the cells by commas")
    if column not in names:
        raise ValueError(f"{path} has no column {column!r}; give one of {', '.join(names)} as --text-column")
    if len(set(names)) < len(names):
        raise ValueError(f"{path} has two columns {max(names, key=list(names).count)!r}; rename one of them")


def read_parquet(input: Input, file: IO[bytes], content: IO[bytes], column: str) -> Iterator[Raw]:
    """Rows of a Parquet file, a few at a time."""
    table = open_parquet(input.path, content)
    total, number = table.metadata.num_rows, 0
    for batch in table.iter_batches(batch_size=ROWS):
        size = batch.nbytes // max(1, batch.num_rows)
        for row in batch.to_pylist():
            number += 1
            yield Raw(Line(input.path, number, ""), input.format, row, size, input.size * number // total)


def open_parquet(path: Path, content: IO[bytes]) -> Any:
    """A pyarrow.parquet.ParquetFile. Raises ValueError if the file is none."""
    parquet = import_parquet()
    try:
        # A Parquet file is read from its end.
        return parquet.ParquetFile(content if content.seekable() else BytesIO(content.read()))
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is no Parquet file, or damaged: {error}") from error


def read_spacy(input: Input, file: IO[bytes], content: IO[bytes], column: str) -> Iterator[Raw]:
    """Documents of a .spacy file, which is read as a whole."""
    docs = parse_docbin(content.read(), input.path)
    total = len(docs)
    for number, doc in enumerate(docs.get_docs(Vocab()), start=1):
        stored = doc.to_bytes()
        line = Line(input.path, number, doc.text[:1000])
        yield Raw(line, input.format, stored, len(stored), input.size * number // total)


READERS = {"txt": read_lines, "jsonl": read_lines, "csv": read_csv, "parquet": read_parquet, "spacy": read_spacy}
