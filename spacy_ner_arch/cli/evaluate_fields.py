"""`ner-arch evaluate --by`: scores of the documents that share a value of a field."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from spacy.tokens import Doc
from spacy.training import Example
from wasabi import Printer, msg

from .messages import COLUMNS, cells

if TYPE_CHECKING:
    from ..evaluation.score_tables import Row

# Maximum number of values of a field that are printed.
MOST_VALUES = 20
# Value of the documents without the field.
NO_VALUE = "(none)"


class Group(NamedTuple):
    """The number of documents with a value, and their tables of scores by name."""

    documents: int
    tables: dict[str, list["Row"]]


def check_fields(fields: Sequence[str], docs: Iterable[Doc]) -> None:
    """Raise ValueError for a field that no document has."""
    from ..formats.writers.content import get_fields

    known = sorted(set().union(*map(get_fields, docs)))
    for field in fields:
        if field not in known:
            raise ValueError(
                f"--by: no document has the field {field!r}. Fields of the corpus: {', '.join(known) or 'none'}. "
                f"`ner-arch convert --fields {field}` keeps a field of the records"
            )


def group_by(field: str, examples: Iterable[Example]) -> dict[str, list[Example]]:
    """The examples by the value of a field of their gold documents, most examples first.

    A value that is no text becomes JSON.
    """
    groups = defaultdict[str, list[Example]](list)
    for eg in examples:
        value = eg.reference.user_data.get(field)
        if not isinstance(value, str):
            value = NO_VALUE if value is None else json.dumps(value, ensure_ascii=False, default=str)
        groups[value].append(eg)
    return dict(sorted(groups.items(), key=lambda group: len(group[1]), reverse=True))


def score_groups(
    field: str, examples: Iterable[Example], make_tables: Callable[[list[Example]], dict[str, list["Row"]]]
) -> dict[str, Group]:
    """The scores of the examples by the value of a field, most examples first."""
    return {value: Group(len(group), make_tables(group)) for value, group in group_by(field, examples).items()}


def print_groups(field: str, groups: Mapping[str, Group], names: Sequence[str]) -> None:
    """Print the micro average of each value of a field, in a table for each of the named tables of scores."""
    from ..evaluation.score_tables import MICRO

    for name in names:
        msg.divider(f"{name.removesuffix('_table')} by {field}")
        lines = []
        for value, group in list(groups.items())[:MOST_VALUES]:
            average = next((row for row in group.tables.get(name, ()) if row.name == MICRO), None)
            scores = cells(average) if average else [""] * (len(COLUMNS) - 2) + ["0", "0"]
            lines.append((value, group.documents, *scores))
        Printer().table(lines, header=("", "documents", *COLUMNS), aligns=("l", "r", *"r" * len(COLUMNS)))
    if len(groups) > MOST_VALUES:
        msg.info(f"{field}: the {MOST_VALUES} of {len(groups)} values with most documents are shown; -o writes all")


def as_json(groups: Mapping[str, Group]) -> dict[str, Any]:
    """The scores of the groups for the JSON file."""
    return {value: {"documents": group.documents, **rows_as_json(group.tables)} for value, group in groups.items()}


def rows_as_json(tables: Mapping[str, Sequence["Row"]]) -> dict[str, list[dict[str, Any]]]:
    return {name: [row._asdict() for row in rows] for name, rows in tables.items()}
