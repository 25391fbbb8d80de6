"""The best paths of a linear chain."""

import torch
from torch import Tensor

from .forward_backward import FORBIDDEN
from .fused import use_kernels
from .numpy_crf import RESCALE_EVERY


def best_path(emissions: Tensor, transitions: Tensor, lengths: Tensor) -> Tensor:
    """Tags of the highest-scoring path of each sequence: (B, T) int64, arbitrary in the padding.

    No back pointers are stored: finding the best predecessor again along the best path is cheaper than recording it for
    every tag of every step. The host reads nothing. On a CPU, NumpyCRF is faster for short batches.

    emissions: (B, T, K) with the start and end scores added to the first and last step.
    transitions: (K, K), from row to column.
    lengths: (B,) on the same device.
    """
    if use_kernels(emissions):
        from .crf_kernels import fused_best_path

        return fused_best_path(emissions, transitions, lengths)
    batch, steps, tags = emissions.shape
    into = transitions.t().contiguous()
    # The last column is the tag END, with index K, for the steps of the padding.
    scores = emissions.new_empty(steps, batch, tags + 1)
    reached = scores[..., :tags]
    reached[0] = emissions[:, 0]
    candidates = emissions.new_empty(batch, tags, tags)
    for step in range(1, steps):
        torch.add(reached[step - 1].unsqueeze(1), into, out=candidates)
        current = reached[step]
        torch.amax(candidates, -1, out=current)
        current += emissions[:, step]
        if step % RESCALE_EVERY == 0:
            current -= current.amax(-1, keepdim=True)

    # END wins in the padding and limits no tag before it, so each sequence is traced back from its own last step.
    padding = torch.arange(steps, device=lengths.device).unsqueeze(1) >= lengths
    reached.masked_fill_(padding.unsqueeze(-1), -torch.inf)
    scores[..., tags] = padding.to(scores.dtype).log_()
    into = torch.nn.functional.pad(into, (0, 1, 0, 1))
    path = [scores[-1].argmax(-1)]
    for score in scores[:-1].flip(0):
        path.append((into.index_select(0, path[-1]) + score).argmax(-1))
    return torch.stack(path[::-1], dim=1)


def best_paths(emissions: Tensor, transitions: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The highest-scoring paths of one sequence, the best first: tags (N, T) int64, scores (N,) float64.

    emissions: (T, K) with the start and end scores added to the first and last step; T is at least 1.
    transitions: (K, K), from row to column.
    count: maximum number N of paths. Only paths whose transitions are all legal are returned.
    """
    emissions, transitions = emissions.double(), transitions.double()
    # The best paths that end in each tag, (R, K) with R up to `count`.
    scores = emissions[:1]
    pointers = []
    for emission in emissions[1:]:
        ranks, tags = scores.shape
        candidates = (scores.unsqueeze(2) + transitions).flatten(0, 1)
        scores, chosen = candidates.topk(min(count, ranks * tags), dim=0)
        scores = scores + emission
        pointers.append(chosen)
    best, cell = scores.flatten().topk(min(count, scores.numel()))
    cell = cell[best > FORBIDDEN / 2]
    tags = scores.shape[1]
    path = [cell % tags]
    # A pointer is a cell of the step before: rank * tags + tag.
    for chosen in reversed(pointers):
        cell = chosen.flatten()[cell]
        path.append(cell % tags)
    return torch.stack(path[::-1], dim=1), best[: len(cell)]
