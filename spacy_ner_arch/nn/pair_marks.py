"""Pairs of entities classified by one vector each, which the embedding has already made."""

from typing import Any

from torch import Tensor

from .pair_classifier import PairClassifier
from .pairs import Pairs, wide


class PairMarks(PairClassifier):
    """A linear layer over the vector of a pair: logits = W Dropout(x) + b.

    The vector is made by a transformer from a copy of the sentence with marks around both entities: the vectors of the
    two opening marks. Entities and regions are not looked at.

    input_size: width of a pair's vector.
    Other arguments: see PairClassifier.

    Shape: x (B, most, input_size), where `slots` of the pairs say; mask (B, most).
    Source: Soares et al. 2019 (entity markers, entity start).
    """

    def __init__(self, input_size: int, **settings: Any) -> None:
        super().__init__(input_size, **settings)
        self.output = self.output_layer(input_size)

    def logits(self, x: Tensor, mask: Tensor, pairs: Pairs) -> Tensor:
        assert self.output is not None
        rows = x.flatten(0, 1).index_select(0, pairs.slots)
        return self.output(self.dropout(rows)).to(wide(x))
