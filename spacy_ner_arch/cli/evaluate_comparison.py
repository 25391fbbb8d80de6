"""`ner-arch evaluate --compare`: the differences between the scores of two systems."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from spacy.language import Language
from spacy.training import Example
from wasabi import Printer, msg

from ..annotation.layers import symmetric_labels

if TYPE_CHECKING:
    from ..evaluation.tasks import Difference

COLUMNS = ("F", "other F", "difference", "95 %", "found here only", "by the other only")


# Differences by label of a layer of annotation, and that of the micro average.
Differences = dict[str, "Difference"]


def find_differences(
    nlp: Language, examples: Sequence[Example], other: Language, others: Sequence[Example]
) -> dict[str, Differences]:
    """The differences by layer of annotation, for the layers that both systems set.

    examples, others: the same gold documents, with the predictions of each system.
    """
    from ..evaluation.score_tables import group_numbers
    from ..evaluation.tasks import compare, find_items

    symmetric = sorted({*symmetric_labels(nlp), *symmetric_labels(other)})
    first, second = find_items(nlp, examples, symmetric), find_items(other, others, symmetric)
    groups = group_numbers(examples)
    return {layer: compare(first[layer], second[layer], groups) for layer in first if layer in second}


def print_differences(name: str, differences: Mapping[str, Differences]) -> None:
    """Print a table for each layer of annotation.

    name: that of the other system.
    """
    msg.divider(f"compared with {name}")
    if not differences:
        msg.warn(f"{name} sets no layer of annotation that the first system sets: nothing to compare")
    for layer, rows in differences.items():
        lines = [(label, *cells(found)) for label, found in rows.items()]
        Printer().table(lines, header=(layer, *COLUMNS), aligns=("l", *"r" * len(COLUMNS)))


def cells(found: "Difference") -> list[str]:
    """A row of the table: see COLUMNS."""
    first, second = found.f1
    interval = "" if found.interval is None else " to ".join(f"{100 * bound:+.1f}" for bound in found.interval)
    scores = [f"{100 * first:.2f}", f"{100 * second:.2f}", f"{100 * (first - second):+.2f}"]
    return [*scores, interval, *map(str, found.found_by_one)]


def differences_as_json(name: str, differences: Mapping[str, Differences]) -> dict[str, Any]:
    """The differences for the JSON file."""
    tables = {
        layer: [{"name": label, **found._asdict()} for label, found in rows.items()]
        for layer, rows in differences.items()
    }
    return {"with": name, **tables}
