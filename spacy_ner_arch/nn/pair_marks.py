"""Pairs of entities classified by one vector each, which the embedding has already made."""

from collections.abc import Sequence

from torch import Tensor

from .pairs import PairClassifier, Pairs, wide


class PairMarks(PairClassifier):
    """A linear layer over the vector of a pair: logits = W Dropout(x) + b.

    The vector is made by a transformer from a copy of the sentence with marks around both entities: the vectors of the
    two opening marks. Entities and regions are not looked at.

    input_size: width of a pair's vector.
    Other arguments: see PairClassifier.

    Shape: x (B, most, input_size), where `slots` of the pairs say; mask (B, most).
    Source: Soares et al. 2019 (entity markers, entity start).
    """

    def __init__(
        self,
        input_size: int,
        *,
        labels: Sequence[str],
        types: Sequence[str],
        symmetric: Sequence[str] = (),
        multi_label: bool = False,
        dropout_rate: float | None = None,
        negative_weight: float = 1.0,
        class_weights: dict[str, float] | None = None,
        loss_scale: float = 0.001,
    ) -> None:
        super().__init__(
            input_size,
            labels=labels,
            types=types,
            symmetric=symmetric,
            multi_label=multi_label,
            dropout_rate=dropout_rate,
            negative_weight=negative_weight,
            class_weights=class_weights,
            loss_scale=loss_scale,
        )
        self.output = self.output_layer(input_size)

    def logits(self, x: Tensor, mask: Tensor, pairs: Pairs) -> Tensor:
        assert self.output is not None
        rows = x.flatten(0, 1).index_select(0, pairs.slots)
        return self.output(self.dropout(rows)).to(wide(x))
