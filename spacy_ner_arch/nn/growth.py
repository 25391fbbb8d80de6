"""Layers that grow with the labels of a trained model and keep the weights of the old labels.

An untrained label must not be found. A new row of an output layer is a copy of the row of "no label" with a bias that
is lower by `UNTRAINED`, so its score is below that of "no label" for every input. New parameters without a bias, such
as the transitions of a tag, are copies of those of "no label".
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

# Log odds of "no label" against a label that has not been trained: a probability below 0.7 %. A larger number delays
# learning (one text alone: 67 updates with 3, 105 with 5, 159 with 8). With a smaller one, the tags of a new label take
# more of the probability of O: 5 % with 3.
UNTRAINED = 5.0


def source_rows(new: Sequence[str], old: Sequence[str]) -> list[int]:
    """Row of each new name in the old list; 0, the row of "no label", for a name that is not in it."""
    return [old.index(name) if name in old else 0 for name in new]


def output_layer(width: int, labels: int, has_none: bool = True) -> nn.Linear:
    """Linear layer to the logits of labels, initialized so that an untrained model predicts nothing.

    has_none: whether the first logit stands for no label; if not, a label holds if its own logit is positive.
    """
    layer = nn.Linear(width, labels + has_none)
    with torch.no_grad():
        layer.weight *= 0.1  # small compared with the bias; with 0, the first update would not reach the layers below
    nn.init.constant_(layer.bias, 0.0 if has_none else -1.0)
    if has_none:
        nn.init.ones_(layer.bias[:1])
    return layer


def grown_output(
    layer: nn.Linear, new: Sequence[str], old: Sequence[str], temperature: Tensor, has_none: bool = True
) -> nn.Linear:
    """Copy an output layer, with a row for each new name and the old rows of the names that stay.

    A row of a name that is new starts as described above; without a row of "no label", its weights start at 0.

    new, old: names of all rows, the first of which is "no label" if there is one.
    temperature: divisor of the logits, which the bias of a new row makes up for.
    has_none: see `output_layer`.
    """
    grown = nn.Linear(layer.in_features, len(new)).to(layer.weight)
    rows = source_rows(new, old)
    is_new = torch.tensor([name not in old for name in new], device=layer.weight.device)
    with torch.no_grad():
        weight, bias = layer.weight[rows], layer.bias[rows]
        if not has_none:
            weight, bias = weight.masked_fill(is_new[:, None], 0.0), bias.masked_fill(is_new, 0.0)
        grown.weight.copy_(weight)
        grown.bias.copy_(bias - UNTRAINED * temperature * is_new)
    return grown


def grown_embedding(table: nn.Embedding, new: Sequence[str | None], old: Sequence[str | None]) -> nn.Embedding:
    """Copy an embedding, with a row for each new name and the old rows of the names that stay.

    New rows are random, as in an untrained model: copies of one row could not tell new names apart. The score of a new
    label does not depend on such a row: the rows are entity types, or are read only by the loss.
    """
    grown = nn.Embedding(len(new), table.embedding_dim).to(table.weight)
    with torch.no_grad():
        for row, name in enumerate(new):
            if name in old:
                grown.weight[row] = table.weight[old.index(name)]
    return grown
