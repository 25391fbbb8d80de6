"""Files of a shard: documents with predictions and the fields of their records, as bytes.

The same documents always result in the same bytes.
"""

from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import Any, NamedTuple, Protocol

from spacy.tokens import Doc, DocBin
from srsly.msgpack import unpackb

from ..formats.arrow_files import Nanoseconds, import_parquet
from ..formats.packing import add_with_user_data, pack
from .documents import Record, annotation, dump, plain
from .inputs import Input, decompress
from .raw_records import csv_rows, open_parquet, read_header

# The formats, which are the extensions of the files.
OUTPUTS = ("jsonl", "parquet", "spacy")
# Decimals of the scores in json lines and Parquet. Further decimals depend on the other documents of the batch.
DIGITS = 4
# Column of a Parquet file for fields of records whose types are not known in advance.
FIELDS = "fields"


class InputColumns(NamedTuple):
    """The columns of a Parquet file for the fields of the records.

    schema: a schema of pyarrow.
    packed: whether the fields are JSON in the column FIELDS.
    """

    schema: Any
    packed: bool


class Output(Protocol):
    """Collects the documents of a shard, see `make_output`."""

    def check(self, record: Record) -> None:
        """Raise ValueError, TypeError or OverflowError for fields that the file cannot store."""

    def add(self, doc: Doc, record: Record) -> None:
        """Add a document with predictions, and its record."""

    def to_bytes(self) -> bytes:
        """The content of the file."""


class JsonLines:
    """A JSON object for each document: the fields of its record, and the annotation as `ner-arch label` writes it."""

    def __init__(self, layers: Sequence[str], key: str | None) -> None:
        self.layers, self.key = layers, key
        self.lines: list[str] = []

    def check(self, record: Record) -> None:
        dump(record)

    def add(self, doc: Doc, record: Record) -> None:
        found = annotation(doc, self.layers, DIGITS)
        self.lines.append(dump({**record, **({self.key: found} if self.key else found)}) + "\n")

    def to_bytes(self) -> bytes:
        return "".join(self.lines).encode("utf8")


class Parquet:
    """A row for each document, with one schema for all files of the output."""

    def __init__(self, column: str, layers: Sequence[str], key: str | None, columns: InputColumns) -> None:
        self.column, self.layers, self.key, self.columns = column, layers, key, columns
        self.rows: list[Record] = []

    def check(self, record: Record) -> None:
        if self.columns.packed:
            dump(record)

    def add(self, doc: Doc, record: Record) -> None:
        found: Record = annotation(doc, self.layers, DIGITS)
        if "spans" in found:
            found["spans"] = [{"key": key, **span} for key, spans in found["spans"].items() for span in spans]
        if self.columns.packed:
            others = {key: value for key, value in record.items() if key != self.column}
            record = {self.column: record[self.column], FIELDS: dump(others)}
        else:
            record = {key: value.count if isinstance(value, Nanoseconds) else value for key, value in record.items()}
        self.rows.append({**record, **({self.key: found} if self.key else found)})

    def to_bytes(self) -> bytes:
        import pyarrow as pa

        added = [pa.field(name, annotation_types()[name]) for name in self.layers]
        added = [pa.field(self.key, pa.struct(added))] if self.key else added
        file = BytesIO()
        table = pa.Table.from_pylist(self.rows, schema=pa.schema([*self.columns.schema, *added]))
        import_parquet("--to parquet").write_table(table, file, compression="zstd")
        return file.getvalue()


class DocBinFile:
    """A .spacy file with the documents; the fields are in `doc.user_data`, the scores are not rounded.

    It can store more than JSON, such as bytes. Dates, times, durations, decimal numbers and UUIDs become strings.
    """

    def __init__(self, column: str) -> None:
        self.column = column
        self.docs = DocBin()

    def check(self, record: Record) -> None:
        pack(record, as_string)

    def add(self, doc: Doc, record: Record) -> None:
        # With a hook, srsly does not look up decoders, see formats.packing.
        fields = unpackb(pack(record, as_string), raw=False, object_pairs_hook=dict)
        del fields[self.column]
        doc.user_data.update(fields)
        add_with_user_data(self.docs, doc)

    def to_bytes(self) -> bytes:
        self.docs.store_user_data = True
        return self.docs.to_bytes()


def as_string(value: Any) -> str:
    """`plain` of a value that MessagePack cannot store. Raises TypeError, and OverflowError for a large integer."""
    if isinstance(value, int):
        raise OverflowError(f"the integer {value} has more than 64 bits")
    return plain(value)


def make_output(to: str, column: str, layers: Sequence[str], key: str | None, columns: InputColumns | None) -> Output:
    """An output without documents.

    to: format, one of OUTPUTS.
    column: key or column of the text.
    layers: names in LAYERS to write.
    key: key or column for the annotation; None for one per layer.
    columns: columns of a Parquet file, see `common_columns`; None for other files.
    """
    if to == "jsonl":
        return JsonLines(layers, key)
    if to == "spacy":
        return DocBinFile(column)
    assert columns is not None
    return Parquet(column, layers, key, columns)


def annotation_types() -> dict[str, Any]:
    """The types of the columns for entities, spans and relations."""
    import pyarrow as pa

    place = [("start", pa.int32()), ("end", pa.int32()), ("label", pa.string())]
    scored = [*place, ("score", pa.float64())]
    relation = [("head", pa.struct(place)), ("tail", pa.struct(place)), ("label", pa.string()), ("score", pa.float64())]
    return {
        "entities": pa.list_(pa.struct(scored)),
        "spans": pa.list_(pa.struct([("key", pa.string()), *scored])),
        "relations": pa.list_(pa.struct(relation)),
    }


def common_columns(inputs: Iterable[Input], column: str) -> InputColumns:
    """The columns for the fields of all inputs, for output in Parquet.

    Columns of Parquet keep their types, and columns of csv are strings. In other formats, each record may have other
    fields: these become a JSON object in one column.
    Raises ValueError if the inputs have different columns.
    """
    import_parquet("--to parquet")
    import pyarrow as pa

    first: tuple[Input, InputColumns] | None = None
    for input in inputs:
        with input.path.open("rb") as file:
            content = decompress(input.path, file)
            if input.format == "parquet":
                columns = InputColumns(open_parquet(input.path, content).schema_arrow.remove_metadata(), packed=False)
            elif input.format == "csv":
                header = read_header(input.path, csv_rows(input.path, content), column)
                if not header:  # an empty file
                    continue
                columns = InputColumns(pa.schema([(name, pa.string()) for name in header]), packed=False)
            elif input.format == "txt":
                columns = InputColumns(pa.schema([(column, pa.string())]), packed=False)
            else:
                columns = InputColumns(pa.schema([(column, pa.string()), (FIELDS, pa.string())]), packed=True)
        if first is not None and columns != first[1]:
            now, before = (
                ", ".join(f"{field.name} ({field.type})" for field in found.schema) for found in (columns, first[1])
            )
            raise ValueError(
                f"{input.path} has the columns {now}, but {first[0].path} has {before}; annotate them separately, or "
                "write --to jsonl"
            )
        first = first or (input, columns)
    return first[1] if first else InputColumns(pa.schema([(column, pa.string())]), packed=False)
