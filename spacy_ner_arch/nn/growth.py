"""Layers that grow with the labels of a trained model and keep what they learned."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import nn

Layer = TypeVar("Layer", nn.Linear, nn.Embedding)


def kept_rows(new: Sequence[str], old: Sequence[str]) -> tuple[list[int], list[int]]:
    """Indices of the names that stay, in the new and in the old names."""
    kept = [(new.index(name), i) for i, name in enumerate(old) if name in new]
    return [now for now, _ in kept], [before for _, before in kept]


def regrown(layer: Layer, new: Sequence[str], old: Sequence[str]) -> Layer:
    """Copy a linear layer or an embedding, with one row for each new name and the old rows of the names that stay."""
    grown: nn.Linear | nn.Embedding
    if isinstance(layer, nn.Linear):
        grown = nn.Linear(layer.in_features, len(new)).to(layer.weight)
    else:
        grown = nn.Embedding(len(new), layer.embedding_dim).to(layer.weight)
    now, before = kept_rows(new, old)
    with torch.no_grad():
        for parameter, known in zip(grown.parameters(), layer.parameters(), strict=True):
            parameter[now] = known[before]
    # mypy cannot tell that it has the type of `layer`.
    return grown  # type: ignore[return-value]
