"""Layers that grow with the labels of a trained model and keep the weights of the old labels."""

from collections.abc import Sequence
from typing import TypeVar, cast

import torch
from torch import nn

Layer = TypeVar("Layer", nn.Linear, nn.Embedding)


def kept_rows(new: Sequence[str | None], old: Sequence[str | None]) -> tuple[list[int], list[int]]:
    """Indices of the names that are in both lists, in the new and in the old list."""
    kept = [(new.index(name), i) for i, name in enumerate(old) if name in new]
    return [now for now, _ in kept], [before for _, before in kept]


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


def regrown(layer: Layer, new: Sequence[str | None], old: Sequence[str | None]) -> Layer:
    """Copy a linear layer or an embedding, with one row for each new name and the old rows of the names that stay.

    New rows of a linear layer are zero, so that a new label is not found before it is trained.
    """
    grown: nn.Linear | nn.Embedding
    if isinstance(layer, nn.Linear):
        grown = nn.Linear(layer.in_features, len(new)).to(layer.weight)
    else:
        grown = nn.Embedding(len(new), layer.embedding_dim).to(layer.weight)
    now, before = kept_rows(new, old)
    with torch.no_grad():
        for parameter, known in zip(grown.parameters(), layer.parameters(), strict=True):
            if isinstance(grown, nn.Linear):
                parameter.zero_()
            parameter[now] = known[before]
    return cast(Layer, grown)
