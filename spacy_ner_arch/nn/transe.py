"""TransE: a relation as a translation from the vector of its head to the vector of its tail."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TransE(nn.Module):
    """Margin loss between the gold label and a corrupt one, by squared distance.

        d(r) = ||e1 + LN(l_r) - e2||^2        hinge = max(0, d(gold) - d(corrupt) + 1)

    labels: number K of labels.
    size: width D of an entity.

    Shape: difference e1 - e2 (g, D), gold and corrupt (g,) int64 -> hinge (g,).
    Source: Bordes et al. 2013; the LayerNorm is that of NERE.
    """

    def __init__(self, labels: int, size: int) -> None:
        super().__init__()
        self.labels = nn.Embedding(labels, size)
        self.norm = nn.LayerNorm(size)

    def forward(self, difference: Tensor, gold: Tensor, corrupt: Tensor) -> Tensor:
        translations = self.norm(self.labels.weight)

        def distance(label: Tensor) -> Tensor:
            return (difference + translations.index_select(0, label)).square().sum(-1)

        return F.relu(distance(gold) - distance(corrupt) + 1)


def corrupt_labels(held: Tensor) -> tuple[Tensor, Tensor]:
    """Sample a negative label for each row, uniformly from the labels that the pair does not have.

    held: (g, K), 1 where a pair has a label, else 0.
    Returns the labels (g,), and whether there is such a label (g,) bool.
    """
    draw = torch.rand_like(held).masked_fill(held > 0, -1.0)
    best = draw.max(1)
    return best.indices, best.values >= 0
