"""Json files of tokenised sentences with entities and relations, as SpERT reads them (CoNLL04, SciERC)."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from reprlib import repr as short_repr
from typing import Any

from spacy_ner_arch.formats.report import FormatError, Report, check_on_error, skipped_if_bad
from spacy_ner_arch.formats.sentence import Sentence
from spacy_ner_arch.formats.spans import find_fault, make_sentence

REMEDY = (
    'write a list of objects such as {"tokens": ["Ada", "left", "Tarn"], "entities": [{"type": "PER", "start": 0, '
    '"end": 1}, {"type": "LOC", "start": 2, "end": 3}], "relations": [{"type": "left", "head": 0, "tail": 1}]}: '
    "start and end in tokens, the end being the token behind the last one, head and tail counting the entities from 0"
)
FILE_REMEDY = "give one json list of objects; a file with an object on each line is one for the format spans"


def read_spert(path: str | Path, report: Report, *, on_error: str = "raise") -> Iterator[list[Sentence]]:
    """Read a json file that is one list of objects with "tokens", "entities" and "relations", as REMEDY shows.

    An entity is {"type", "start", "end"} in tokens, its end exclusive, a relation {"type", "head", "tail"}, where head
    and tail count the entities from 0. Each object is a document of one sentence. Other keys are ignored.

    The format allows entities that overlap, so all of them become `Sentence.nested`, in every file, so that the parts
    of a corpus are alike; `Sentence.spans` has those that do not overlap, see `spans.widest_apart`. An entity or a
    relation that stands twice is kept once and counted as a repair. Spaces are unknown: spaCy trains on these tokens.

    path: the file, UTF-8. It is read as a whole.
    report: what is read is counted here.
    on_error: "raise" an error for a malformed object, or "skip" it and count it.
    Yields one list of one sentence for each object.
    Raises FormatError for a file that is no json list, whatever `on_error` says, and for a malformed object, whose
    number in the list, from 1, takes the place of the number of a line; ValueError if `on_error` is neither of the two.
    """
    check_on_error(on_error)
    return _read(Path(path), report, on_error)


def _read(path: Path, report: Report, on_error: str) -> Iterator[list[Sentence]]:
    for number, item in enumerate(_load(path), start=1):
        with skipped_if_bad(report, on_error):
            record, fault = _convert(item)
            fault = fault or find_fault(record)
            if fault is not None:
                raise FormatError(path, number, json.dumps(item), f"object {number}: {fault}", REMEDY)
            sentence, repairs = make_sentence(record)
            report.documents += 1
            report.add_sentence(sentence)
            report.add_repairs(path, [(number, kind) for kind in repairs])
            yield [sentence]


def _load(path: Path) -> list[Any]:
    content = path.read_bytes().removeprefix(BOM_UTF8)
    lines = content.decode("utf-8", errors="backslashreplace").split("\n")
    try:
        items = json.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise FormatError(
            path, number, lines[number - 1], "the line is not UTF-8", "convert the file to UTF-8"
        ) from error
    except ValueError as error:
        # Not every error of json is one with a place.
        number = getattr(error, "lineno", 1)
        raise FormatError(path, number, lines[number - 1], f"not json: {error}", FILE_REMEDY) from error
    if not isinstance(items, list):
        raise FormatError(path, 1, lines[0], "the file is no json list", FILE_REMEDY)
    return items


def _convert(item: Any) -> tuple[dict[str, Any], str | None]:
    """The keys and values of the format `spans`, and why that cannot be done; what the values are is left open."""
    if not isinstance(item, dict):
        return {}, 'no object with "tokens", "entities" and "relations"'
    converted: dict[str, Any] = {"tokens": item.get("tokens")}
    for key, name, fields in (
        ("entities", "spans", ("start", "end", "type")),
        ("relations", "relations", ("head", "tail", "type")),
    ):
        values = item.get(key)
        # Without the key the object may be one of another format, whose annotation would be lost.
        if not isinstance(values, list):
            return {}, f'no list of "{key}"; that of a sentence without any is []'
        for value in values:
            if not isinstance(value, dict) or not set(fields) <= set(value):
                return {}, f'{short_repr(value)} in "{key}" is no object with {", ".join(fields)}'
        converted[name] = [[value[field] for field in fields] for value in values]
    return converted, None
