"""Layers that grow with the labels of a trained model, and keep what they have learned."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import nn

Layer = TypeVar("Layer", nn.Linear, nn.Embedding)


def kept_rows(new: Sequence[str], old: Sequence[str]) -> tuple[list[int], list[int]]:
    """Where the names that stay stand now, and where they stood."""
    kept = [(new.index(name), i) for i, name in enumerate(old) if name in new]
    return [now for now, _ in kept], [before for _, before in kept]


def regrown(layer: Layer, new: Sequence[str], old: Sequence[str]) -> Layer:
    """A linear layer or an embedding with a row for each of the new names; rows of names that stay are the same."""
    grown: nn.Linear | nn.Embedding
    if isinstance(layer, nn.Linear):
        grown = nn.Linear(layer.in_features, len(new)).to(layer.weight)
    else:
        grown = nn.Embedding(len(new), layer.embedding_dim).to(layer.weight)
    now, before = kept_rows(new, old)
    with torch.no_grad():
        for parameter, known in zip(grown.parameters(), layer.parameters(), strict=True):
            parameter[now] = known[before]
    # Of the kind of `layer`, which the branches do not tell mypy.
    return grown  # type: ignore[return-value]
