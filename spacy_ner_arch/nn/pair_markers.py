"""Pair model over marked copies of the text: one copy per pair, with marks around both entities."""

from typing import Any

import torch
from torch import Tensor

from .batch import Batch
from .pair_head import PairHead
from .pair_tensors import Pairs


class MarkerPairs(PairHead):
    """A linear layer over the vectors of the opening marks of both entities: logits = W Dropout([m1; m2]) + b.

    Each document is a marked copy (bridge.marked_copies), in which the opening marks represent the entities.

    input_size: width of the token vectors.
    Other arguments and shapes: see PairHead.
    Source: Soares et al. 2019 (entity markers, entity start); Wu and He 2019.
    """

    def __init__(self, input_size: int, **settings: Any) -> None:
        super().__init__(input_size, **settings)
        self.output = self.output_layer(2 * self.width)

    def logits(self, x: Tensor, batch: Batch) -> Tensor:
        assert self.output is not None
        pairs: Pairs = batch.items
        places = x.shape[1] * pairs.documents + pairs.starts
        marks = x.flatten(0, 1).index_select(0, places)
        both = torch.cat([marks.index_select(0, pairs.heads), marks.index_select(0, pairs.tails)], dim=1)
        return self.output(self.dropout(both))
