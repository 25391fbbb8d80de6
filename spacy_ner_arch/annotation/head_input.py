"""Input of a component's model."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from spacy.tokens import Doc
from spacy.training import Example


class HeadInput(NamedTuple):
    """Input of a head's model (`bridge.head.head_model`).

    docs: the documents.
    items: for each document, the items to classify (candidate spans or pairs); None for all tokens or all spans.
    targets: gold annotation of each document, for the loss; None to predict.
    method: name of the method of the head that predicts.
    copies: for each document, the number of its other copy in an update, see `find_copies`; None without copies.
    """

    docs: list[Doc]
    items: list[Any] | None = None
    targets: list[Any] | None = None
    method: str = "predict"
    copies: list[int] | None = None

    def take(self, rows: Sequence[int]) -> "HeadInput":
        """The documents with these numbers, which may repeat, with their items and targets."""
        items, targets = (
            None if column is None else [column[row] for row in rows] for column in (self.items, self.targets)
        )
        return HeadInput([self.docs[row] for row in rows], items, targets, self.method)


def as_input(inputs: HeadInput | list[Doc], needs_pairs: bool = False) -> HeadInput:
    """Convert a plain list of documents, as generic spaCy tools pass it, to the input for a prediction.

    needs_pairs: raise ValueError for an input without items.
    """
    whole = inputs if isinstance(inputs, HeadInput) else HeadInput(inputs)
    if needs_pairs and whole.items is None:
        raise ValueError("a relation model needs candidate pairs, which its component finds: call the pipeline instead")
    return whole


def find_copies(examples: Sequence[Example]) -> list[int]:
    """Index of the other copy of each example, which has the same reference; its own index if there is no copy."""
    copies = list(range(len(examples)))
    single: dict[int, int] = {}
    for i, eg in enumerate(examples):
        other = single.pop(id(eg.reference), None)
        if other is None:
            single[id(eg.reference)] = i
        else:
            copies[i], copies[other] = other, i
    return copies
