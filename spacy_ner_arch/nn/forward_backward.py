"""Sums over all paths of a linear chain: the log partition with its gradient, and the two log messages.

Both recursions run in probability space, in float64, rescaled at every step: one small matrix product a step serves
both directions. A tag END, with index K, stands on all steps of the padding: every sequence then has T steps, the
second recursion may begin in the padding, and nothing after the recursions needs a mask. The gradient is written in
closed form (marginals), so no autograd tape grows with the length.

Letters: B sequences, T steps, K tags. The emissions already contain the start and end scores in the first and last
step; forbidden tags and transitions are large negative constants (finite, since autograd through -inf gives NaN).
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .fused import use_kernels

FORBIDDEN = -1e30
# Products in a step of a recursion up to which NumPy takes less time than torch. Its BLAS uses one thread for them.
SMALL_STEP = 100_000


class Messages(NamedTuple):
    """Scaled messages of a batch, time major and float64, over the K tags and END.

    Up to a factor per row, alpha[t, k] sums all paths over steps <= t that end in k, gamma[t, k] all paths over steps
    >= t that begin in k, and beta[t, k] the continuations of k over steps > t (gamma without the emission of t).
    """

    alpha: Tensor  # (T, B, K + 1), rows sum to one
    gamma: Tensor  # (T, B, K + 1), rows sum to one
    beta: Tensor  # (T, B, K + 1)
    alpha_scale: Tensor  # (T, B), sum by which alpha was divided at this step alone
    gamma_scale: Tensor  # (T, B), likewise
    offset: Tensor  # (T, B), logarithm of what the emissions and the transition of this step were divided by
    shift: Tensor  # (), logarithm of what the transitions were divided by
    matrix: Tensor  # (K + 1, K + 1), exponentials of the transitions


def small_steps(products: int, *tensors: Tensor) -> tuple[Any, list[Any]]:
    """The module for a loop over the steps, `numpy` or `torch`, and the tensors as its arrays, which share memory.

    A call of NumPy costs about a third of one of torch, which is more than the arithmetic of a small step.

    products: how many each step computes.
    """
    if products <= SMALL_STEP and tensors[0].is_cpu:
        return np, [tensor.numpy() for tensor in tensors]
    return torch, list(tensors)


def scaled_messages(emissions: Tensor, transitions: Tensor, lengths: Tensor) -> Messages:
    """Run both recursions.

    emissions: (B, T, K); the padding may hold anything.
    transitions: (K, K), from row to column.
    lengths: (B,), steps of each sequence.

    Exact while the scores of the tags of one step differ by less than about 300 nats, far more than a trained model
    gives; beyond that the sums may underflow to NaN.
    """
    batch, steps, tags = emissions.shape
    shift = transitions.amax().double()
    matrix = emissions.new_zeros(tags + 1, tags + 1, dtype=torch.float64)
    matrix[:tags, :tags] = (transitions.double() - shift).exp_()
    matrix[:, tags] = 1.0
    if use_kernels(emissions):
        from .crf_kernels import fused_messages

        return fused_messages(emissions, matrix, shift, lengths)
    padding = torch.arange(steps, device=lengths.device).unsqueeze(1) >= lengths
    row_max = emissions.amax(-1).t().double()

    # Index 0 of the second dimension is the forward recursion, index 1 the backward one, which reads the steps in
    # reverse.
    factors = emissions.new_empty(steps, 2, batch, tags + 1, dtype=torch.float64)
    forward = factors[:, 0]
    real_tags = forward[..., :tags]
    real_tags.copy_(emissions.transpose(0, 1))
    real_tags.sub_(row_max.unsqueeze(-1)).exp_().masked_fill_(padding.unsqueeze(-1), 0.0)
    forward[..., tags] = padding
    factors[:, 1] = forward.flip(0)

    matrices = torch.stack([matrix, matrix.t()])
    before, after = torch.empty_like(factors), torch.empty_like(factors)
    scale = factors.new_empty(steps, 2, batch, 1)
    before[0] = 1.0
    state = None
    ones = factors.new_ones(2, tags + 1, 1)
    xp, (onward, add_up, *rows) = small_steps(2 * batch * tags**2, matrices, ones, factors, before, after, scale)
    for factor, before_emission, after_emission, total in zip(*rows, strict=True):
        if state is not None:
            xp.matmul(state, onward, out=before_emission)
        xp.multiply(before_emission, factor, out=after_emission)
        xp.matmul(after_emission, add_up, out=total)
        state = xp.divide(after_emission, total, out=after_emission)

    scale = scale.squeeze(-1)
    return Messages(
        alpha=after[:, 0],
        gamma=after[:, 1].flip(0),
        beta=before[:, 1].flip(0),
        alpha_scale=scale[:, 0],
        gamma_scale=scale[:, 1].flip(0),
        offset=(row_max + shift).masked_fill_(padding, 0.0),
        shift=shift,
        matrix=matrix,
    )


def total_score(messages: Messages, lengths: Tensor) -> Tensor:
    """(B,): log partition, 0 for an empty sequence."""
    # The first step has no transition, so `shift` is in the sum once too often.
    log_scale = messages.alpha_scale.log() + messages.offset
    return log_scale.sum(0) - messages.shift * (lengths > 0)


class LogPartition(torch.autograd.Function):
    """log Z with its closed-form gradient: the marginals for the emissions, the expected counts for the transitions."""

    @staticmethod
    def forward(ctx: Any, emissions: Tensor, transitions: Tensor, lengths: Tensor) -> Tensor:
        messages = scaled_messages(emissions, transitions, lengths)
        log_partition = total_score(messages, lengths)
        # Both products overwrite a message that is not read again.
        marginals = messages.beta.mul_(messages.alpha)
        total = marginals.sum(-1, keepdim=True)
        marginals.div_(total)
        # i -> j at step t is used alpha[t-1, i] * matrix[i, j] * gamma[t, j] / (its sum over i and j) times.
        scale = messages.gamma_scale[1:] / messages.alpha_scale[1:]
        right = messages.gamma[1:].mul_(scale.unsqueeze(-1) / total[1:])
        ctx.save_for_backward(marginals, messages.alpha[:-1], right, messages.matrix)
        ctx.dtypes = emissions.dtype, transitions.dtype
        return log_partition

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        marginals, left, right, matrix = ctx.saved_tensors
        emissions_dtype, transitions_dtype = ctx.dtypes
        tags = len(matrix) - 1
        weight = grad.unsqueeze(-1)
        by_emission = (marginals[..., :tags] * weight).transpose(0, 1)
        by_transition = left.reshape(-1, tags + 1).t() @ (right * weight).reshape(-1, tags + 1) * matrix
        return by_emission.to(emissions_dtype), by_transition[:tags, :tags].to(transitions_dtype), None


def log_partition(emissions: Tensor, transitions: Tensor, lengths: Tensor) -> Tensor:
    """log of the sum over all paths of exp(score), (B,) float64, 0 for an empty sequence; differentiable once.

    emissions: (B, T, K) with the start and end scores added to the first and last step.
    transitions: (K, K), from row to column.
    lengths: (B,) on the same device.
    """
    result: Tensor = LogPartition.apply(emissions, transitions, lengths)
    return result


def log_alpha(messages: Messages, tags: Tensor) -> Tensor:
    """(T, B, len(tags)): log sum of all paths over steps <= t that end in the tag; undefined in the padding."""
    until = (messages.alpha_scale.log() + messages.offset).cumsum(0) - messages.shift
    return messages.alpha.index_select(-1, tags).log() + until.unsqueeze(-1)


def log_beta(messages: Messages, tags: Tensor, allowed: Tensor | None = None) -> Tensor:
    """(T, B, len(tags)): log sum of all continuations of the tag over steps > t; undefined in the padding.

    allowed: (len(tags), K), bool: tags that may follow each of `tags` at the next step; None for all.
    """
    if allowed is None:
        beta = messages.beta.index_select(-1, tags)
    else:
        onward = messages.matrix.index_select(0, tags)
        onward[:, :-1] *= allowed
        beta = torch.cat([messages.gamma[1:] @ onward.t(), messages.beta[-1:].index_select(-1, tags)])
    scale = messages.gamma_scale.log() + messages.offset
    beyond = scale.sum(0) - scale.cumsum(0)
    return beta.log() + beyond.unsqueeze(-1)
