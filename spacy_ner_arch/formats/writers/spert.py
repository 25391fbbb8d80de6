"""Write JSON as published with SpERT."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..texts import EMPTY
from .content import Content
from .objects import write_list


def write_spert(path: Path, contents: Sequence[Content]) -> None:
    """Write a JSON list of the documents that have tokens, which an object must have."""
    write_list(make_object, path, [content for content in contents if len(content.doc)])


def find_spert_losses(content: Content) -> Iterator[tuple[str, str]]:
    """Yield the losses of SpERT besides layers: EMPTY."""
    if not len(content.doc):
        yield EMPTY, "it is empty"


def make_object(content: Content) -> dict[str, Any]:
    return {
        "tokens": [token.text for token in content.doc],
        "entities": [{"type": span.label_, "start": span.start, "end": span.end} for span in content.spans],
        "relations": [{"type": label, "head": head, "tail": tail} for head, tail, label, _ in content.relations],
    }
