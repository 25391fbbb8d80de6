"""The best paths of a linear chain."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .forward_backward import FORBIDDEN, small_steps
from .fused import use_kernels

# Cost of a sum and maximum in NumPy, in products of a matrix: its maximum is not vectorised along short rows.
MAXIMUM_COST = 25
# Subtracting a constant from a row changes no comparison and keeps the sums of long sequences exact in float32.
RESCALE_EVERY = 32


def best_path(emissions: Tensor, transitions: Tensor, lengths: Tensor) -> Tensor:
    """Tags of the highest-scoring path of each sequence: (B, T) int64, arbitrary in the padding.

    No back pointers are stored: finding the best predecessor again along the best path is cheaper than recording it for
    every tag of every step. The host reads nothing.

    emissions: (B, T, K) with the start and end scores added to the first and last step.
    transitions: (K, K), from row to column.
    lengths: (B,) on the same device.
    """
    if use_kernels(emissions):
        from .crf_kernels import fused_best_path

        return fused_best_path(emissions, transitions, lengths)
    batch, steps, tags = emissions.shape
    time_major = emissions.transpose(0, 1)
    into = transitions.t().contiguous()
    # The last column belongs to a tag END, with index K, for the steps of the padding.
    scores = emissions.new_empty(steps, batch, tags + 1)
    real_scores = scores[..., :tags]
    real_scores[0] = time_major[0]
    candidates = emissions.new_empty(batch, tags, tags)
    cost = MAXIMUM_COST * candidates.numel()
    xp, (moves, cells, *arrays) = small_steps(cost, into, candidates, time_major, real_scores, real_scores.unsqueeze(2))
    amax: Any = np.maximum.reduce if xp is np else torch.amax
    rows, reached, previous = map(list, arrays)
    for step, (before, current, emission) in enumerate(zip(previous, reached[1:], rows[1:], strict=False)):
        xp.add(before, moves, out=cells)
        amax(cells, axis=-1, out=current)
        current += emission
        if step % RESCALE_EVERY == 0:
            current -= amax(current, axis=-1, keepdims=True)

    # END wins in the padding and limits no tag before it, so each sequence is traced back from its own last step.
    padding = torch.arange(steps, device=lengths.device).unsqueeze(1) >= lengths
    real_scores.masked_fill_(padding.unsqueeze(-1), -torch.inf)
    scores[..., tags] = padding.to(scores.dtype).log_()
    path = torch.empty(scores.shape[:2], dtype=torch.long, device=scores.device)
    xp, (moves, *arrays) = small_steps(cost, torch.nn.functional.pad(into, (0, 1, 0, 1)), scores, path)
    reached, found = (list(array)[::-1] for array in arrays)
    take: Any = np.take if xp is np else lambda rows, index, axis: torch.index_select(rows, axis, index)
    xp.argmax(reached[0], axis=-1, out=found[0])
    for tag, predecessor, score in zip(found, found[1:], reached[1:], strict=False):
        candidate = take(moves, tag, axis=0)
        candidate += score
        xp.argmax(candidate, axis=-1, out=predecessor)
    return path.t()


def best_paths(emissions: Tensor, transitions: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The highest-scoring paths of one sequence, the best first: tags (N, T) int64, scores (N,) float64.

    emissions: (T, K) with the start and end scores added to the first and last step; T is at least 1.
    transitions: (K, K), from row to column.
    count: how many; N is smaller if there are fewer paths whose transitions are all legal.
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
