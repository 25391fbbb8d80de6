"""Write JSON as published with SpERT."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..files import write_text
from ..texts import EMPTY
from .content import Content, Labels
from .objects import make_list


def write_spert(path: Path, contents: Sequence[Content], _labels: Labels) -> None:
    """Write a JSON list of the documents that have tokens, which an object must have."""
    write_text(path, make_list(make_object, [content for content in contents if len(content.doc)]))


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
