"""Fields of records, such as their ids, that documents keep."""

from collections.abc import Collection, Iterator
from datetime import date
from typing import Any

from .packing import pack

# Field of a document with the name of its source document.
DOCUMENT = "document"
# Keys under which tools store the fields of the record from which a task was made.
CONTAINERS = ("meta", "metadata", "data", "fields")


def select_fields(record: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The fields of a record with these names, from its own keys or else from one of CONTAINERS.

    Dates become text. Raises ValueError for a value that a .spacy file cannot store.
    """
    sources = [record, *(record[key] for key in CONTAINERS if isinstance(record.get(key), dict))]
    kept = {name: source[name] for name in names for source in reversed(sources) if name in source}
    for name, value in kept.items():
        if isinstance(value, date):
            kept[name] = value.isoformat()
        try:
            pack(kept[name])
        except (TypeError, OverflowError, ValueError) as error:
            raise ValueError(f"the field {name} cannot be stored in a .spacy file ({error})") from error
    return kept


def unread_keys(record: dict[str, Any], read: Collection[str], kept: Collection[str]) -> Iterator[str]:
    """The keys of a record that are neither read nor kept.

    If some keys of one of CONTAINERS are kept, its other keys are named one by one.
    """
    for key, value in record.items():
        if key in read or key in kept:
            continue
        inner = value if key in CONTAINERS and isinstance(value, dict) else {}
        if inner.keys() & kept:
            yield from (f"{key}.{name}" for name in inner if name not in kept)
        else:
            yield key
