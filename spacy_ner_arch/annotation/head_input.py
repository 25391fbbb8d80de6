"""What a component passes to its model."""

from typing import Any, NamedTuple

from spacy.tokens import Doc


class HeadInput(NamedTuple):
    """Input of a head's model (`bridge.head.head_model`).

    docs: the documents.
    items: of each document, what the head classifies (candidate spans or pairs); None for its tokens.
    targets: gold annotation of each document, for the loss; None to predict.
    output: method of the head that predicts.
    """

    docs: list[Doc]
    items: list[Any] | None = None
    targets: list[Any] | None = None
    output: str = "predict"
