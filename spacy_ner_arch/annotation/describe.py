"""Descriptions of annotation in messages."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from spacy.tokens import Doc, Span

from .relations import RelationKey

# Maximum number of characters of a text that a message quotes.
MOST_QUOTED = 120

Item = TypeVar("Item")


class Counted:
    """Number of items, and the description of the first item."""

    def __init__(self) -> None:
        self.count = 0
        self.first = ""

    def add(self, items: Sequence[Item], describe: Callable[[Item], str]) -> None:
        """Count items. Describe the first item if there was none before."""
        if items and not self.count:
            self.first = describe(items[0])
        self.count += len(items)


def quote(text: str) -> str:
    """A text in quotes; the middle of a long one is left out."""
    return repr(text if len(text) <= MOST_QUOTED else f"{text[: MOST_QUOTED // 2]} … {text[-MOST_QUOTED // 3 :]}")


def describe_span(span: Span) -> str:
    """Text and label."""
    return f"{quote(span.text)} {span.label_}"


def describe_relation(doc: Doc, key: RelationKey) -> str:
    """Label, and text and type of head and tail."""
    head_start, head_end, head_label, tail_start, tail_end, tail_label, label = key
    text = doc.text
    head, tail = text[head_start:head_end], text[tail_start:tail_end]
    return f"{label} from {quote(head)} {head_label} to {quote(tail)} {tail_label}"
