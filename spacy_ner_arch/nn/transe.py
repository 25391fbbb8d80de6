"""TransE: a relation as the way from one entity to the other."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TransE(nn.Module):
    """How much nearer, in squared distance, the right label leads from the first entity to the second than a wrong one.

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
        ways = self.norm(self.labels.weight)

        def distance(label: Tensor) -> Tensor:
            return (difference + ways.index_select(0, label)).square().sum(-1)

        return F.relu(distance(gold) - distance(corrupt) + 1)


def corrupt_labels(held: Tensor) -> tuple[Tensor, Tensor]:
    """For each row of held (g, K), 1 where a pair has a label, a label that it has not, each as likely as any other,
    and whether there is any."""
    draw = torch.rand_like(held).masked_fill(held > 0, -1.0)
    best = draw.max(1)
    return best.indices, best.values >= 0
