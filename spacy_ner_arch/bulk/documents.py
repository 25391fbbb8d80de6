"""Records as documents, and the predictions on documents as plain data.

A record is a text with other fields: a line of a file, a row of a table, or a stored document.
"""

import math
from collections.abc import Iterator, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from itertools import chain, islice
from reprlib import repr as short_repr
from typing import Any
from uuid import UUID

from spacy.language import Language
from spacy.tokens import Doc, Span

from ..annotation.entities import scored_entities, scored_spans
from ..annotation.layers import assigning, gives_alternatives
from ..annotation.relations import get_relations_json
from ..formats.arrow_files import Nanoseconds, iso_duration
from ..formats.json_files import as_json
from ..formats.lines import BLANKS, Line
from ..formats.records import check_text, parse_object

# Layers of the annotation of a document, and the attribute in the `assigns` of components that set them.
LAYERS = {"entities": "doc.ents", "spans": "doc.spans", "relations": "doc._.relations"}
# Number of texts after which the vocabulary drops new words, in one process and in several, which are restarted.
ZONE, ZONE_OF_PROCESSES = 10_000, 100_000

REMEDY = (
    'write an object such as {{"{}": "Anna left Tarvik"}} on each line, with any other keys; for lines of plain text '
    "give --format txt"
)
TEXT_REMEDY = "correct or remove the text"

# The fields of a record, the text among them.
Record = dict[str, Any]


def find_layers(nlp: Language) -> list[str]:
    """The names in LAYERS that the pipeline sets. Raises ValueError if it sets none."""
    has_alternatives = any(gives_alternatives(pipe) for _, pipe in nlp.pipeline)
    layers = [
        name
        for name, attribute in LAYERS.items()
        if assigning(nlp, attribute) or (name == "spans" and has_alternatives)
    ]
    if not layers:
        raise ValueError("no component of this pipeline finds entities, spans or relations")
    return layers


def finds_relations_only(layers: Sequence[str]) -> bool:
    """Whether a pipeline that sets these layers needs entities from its input."""
    return [*layers] == ["relations"]


def parse(line: Line, format: str | None, new_keys: set[str], column: str = "text") -> Record:
    """The JSON object of a line; for a line of text, and for an empty line, an object with this text.

    format: jsonl for a JSON object; anything else for a text.
    new_keys: keys that the output adds to the object.
    column: key of the text.
    Raises FormatError for a bad line.
    """
    line.check()
    is_object = format == "jsonl" and line.text.strip(BLANKS)
    record = parse_object(line, REMEDY.format(column)) if is_object else {column: line.text}
    check_record(record, line, new_keys, column)
    return record


def check_record(record: Record, line: Line, new_keys: set[str], column: str) -> None:
    """Raise FormatError for a record without a text, or with a key that the output adds."""
    if not isinstance(record.get(column), str):
        found = f"{column} is {short_repr(record[column])}" if column in record else f"it has {short_repr([*record])}"
        raise line.error(f"no text under the key {column}: {found}", REMEDY.format(column))
    taken = sorted(new_keys & record.keys())
    if taken:
        reason = f"the object has the key {taken[0]!r}, which the output needs for the annotation"
        raise line.error(reason, "rename the key, or give another key for the annotation with --key")


def tokenize(nlp: Language, text: str, line: Line) -> Doc:
    """Tokenize the text of a line. Raises FormatError if it cannot be tokenized as it is."""
    try:
        doc = nlp.make_doc(check_text(text))
    except ValueError as error:  # of the tokenizer: for example, the text is too long
        raise line.error(str(error), TEXT_REMEDY) from error
    if doc.text != text:
        raise line.error("the tokenizer changes the text, so that positions would be wrong", TEXT_REMEDY)
    return doc


def predict_in_zones(
    nlp: Language, records: Iterator[tuple[Doc, Any]], batch_size: int, n_process: int = 1
) -> Iterator[tuple[Doc, Any]]:
    """Documents with predictions, each with its context. A document is only valid until the next one is taken.

    The vocabulary keeps every word that it has seen, so memory would grow with the input. At the end of a memory zone,
    it drops the new words.
    """
    for zone in zones(nlp, records, ZONE if n_process == 1 else ZONE_OF_PROCESSES):
        yield from nlp.pipe(zone, as_tuples=True, batch_size=batch_size, n_process=n_process)


def zones(nlp: Language, records: Iterator[tuple[Doc, Any]], size: int) -> Iterator[Iterator[tuple[Doc, Any]]]:
    """The documents in groups of a size, each in a memory zone that ends when the next group is taken."""
    for first in records:
        with nlp.memory_zone():
            yield chain([first], islice(records, size - 1))


def annotation(doc: Doc, layers: Sequence[str], digits: int | None = None) -> dict[str, Any]:
    """Entities, span groups and relations of a document as plain data; bounds are in characters.

    digits: decimals to which scores are rounded; None for all.
    """

    def rounded(score: float | None) -> float | None:
        return score if score is None or digits is None else round(score, digits)

    def place(span: Span, score: float | None) -> dict[str, Any]:
        return {"start": span.start_char, "end": span.end_char, "label": span.label_, "score": rounded(score)}

    found = {
        "entities": [place(*row) for row in scored_entities(doc)],
        "spans": {name: [place(*row) for row in scored_spans(group)] for name, group in doc.spans.items()},
        "relations": [{**row, "score": rounded(row["score"])} for row in get_relations_json(doc)],
    }
    return {name: found[name] for name in layers}


def dump(record: Record) -> str:
    """A record as JSON, see `as_json`.

    Dates, times, durations, decimal numbers and UUIDs, which Parquet has, become strings. NaN and infinite numbers,
    which JSON does not have, become null. Raises TypeError for bytes and the like.
    """
    try:
        return as_json(record, default=plain, allow_nan=False)
    except ValueError:
        return as_json(finite(record), default=plain)


def finite(value: Any) -> Any:
    """A value with None instead of NaN and infinite numbers."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def plain(value: Any) -> str:
    """A date, time, duration, decimal number or UUID as a string, for JSON and MessagePack.

    Raises TypeError for another type.
    """
    if isinstance(value, Nanoseconds):
        return value.text
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return iso_duration(value // timedelta(microseconds=1) * 1000)
    if isinstance(value, Decimal | UUID):
        return str(value)
    raise TypeError(f"values of the type {type(value).__name__} are not supported")
