"""Sums over all paths of a linear chain: the log partition with its gradient, and the log messages alpha and beta.

Both recursions run in probability space, in float64, rescaled at every step. All steps of the padding have a tag END,
with index K: every sequence then has T steps, the backward recursion may begin in the padding, and nothing after the
recursions needs a mask. The gradient is written in closed form (marginals), so no autograd tape grows with the length.

Letters: B sequences, T steps, K tags. The emissions already contain the start and end scores in the first and last
step; forbidden tags and transitions are large negative constants (finite, since autograd through -inf gives NaN).
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .fused import use_kernels

FORBIDDEN = -1e30
# Up to this number of products per step of a recursion, NumPy is faster than torch. Its BLAS then uses one thread.
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
    offset: Tensor  # (T, B), logarithm of the divisor of the emissions and the transition of this step
    shift: Tensor  # (), logarithm of the divisor of the transitions
    matrix: Tensor  # (K + 1, K + 1), exponentials of the transitions


def small_steps(products: int, *tensors: Tensor) -> tuple[Any, list[Any]]:
    """The faster module for a loop over the steps, `numpy` or `torch`, and the tensors as its arrays (shared memory).

    A NumPy call has about a third of the overhead of a torch call. In a small step, this overhead exceeds the
    arithmetic.

    products: number of products in each step.
    """
    if products <= SMALL_STEP and tensors[0].is_cpu:
        return np, [tensor.numpy() for tensor in tensors]
    return torch, list(tensors)


def scaled_messages(emissions: Tensor, transitions: Tensor, lengths: Tensor) -> Messages:
    """Run both recursions.

    emissions: (B, T, K); the padding may hold anything.
    transitions: (K, K), from row to column.
    lengths: (B,), steps of each sequence.

    Exact while the scores of the tags of one step differ by less than about 300 nats, which is far more than in trained
    models. Beyond that, the sums may underflow to NaN.
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

    factors = emissions.new_empty(steps, batch, tags + 1, dtype=torch.float64)
    real_tags = factors[..., :tags]
    torch.sub(emissions.transpose(0, 1), row_max.unsqueeze(-1), out=real_tags)
    real_tags.exp_().masked_fill_(padding.unsqueeze(-1), 0.0)
    factors[..., tags] = padding

    alpha, beta, gamma = torch.empty_like(factors), torch.ones_like(factors), torch.empty_like(factors)
    alpha_scale, gamma_scale = factors.new_empty(2, steps, batch, 1)
    xp, (onward, add_up, *arrays) = small_steps(
        batch * tags**2, matrix, factors.new_ones(tags + 1, 1), factors, alpha, beta, gamma, alpha_scale, gamma_scale
    )
    emission, alpha_rows, beta_rows, gamma_rows, alpha_total, gamma_total = map(list, arrays)
    # The messages into the forward steps are not read again, so write them where gamma is written later.
    _pass_messages(xp, onward, add_up, emission, gamma_rows, alpha_rows, alpha_total)
    backward = (rows[::-1] for rows in (emission, beta_rows, gamma_rows, gamma_total))
    _pass_messages(xp, onward.T, add_up, *backward)

    return Messages(
        alpha=alpha,
        gamma=gamma,
        beta=beta,
        alpha_scale=alpha_scale.squeeze(-1),
        gamma_scale=gamma_scale.squeeze(-1),
        offset=(row_max + shift).masked_fill_(padding, 0.0),
        shift=shift,
        matrix=matrix,
    )


def _pass_messages(
    xp: Any, matrix: Any, add_up: Any, factors: list[Any], before: list[Any], after: list[Any], totals: list[Any]
) -> None:
    """Pass the messages through the steps in the order of the lists, whose items are arrays of `xp`.

    matrix: (K + 1, K + 1), from the tags of a step to those of the next step in the lists.
    add_up: (K + 1, 1), ones.
    factors: (B, K + 1) each, exponentials of the emissions.
    before: output, (B, K + 1) each: message into the step. The first item is not written.
    after: output, (B, K + 1) each: message times the emission of the step, divided by its sum.
    totals: output, (B, 1) each: that sum.
    """
    state = None
    for factor, incoming, outgoing, total in zip(factors, before, after, totals, strict=True):
        if state is None:
            xp.matmul(factor, add_up, out=total)
            state = xp.divide(factor, total, out=outgoing)
            continue
        xp.matmul(state, matrix, out=incoming)
        xp.multiply(incoming, factor, out=outgoing)
        xp.matmul(outgoing, add_up, out=total)
        state = xp.divide(outgoing, total, out=outgoing)


def total_score(messages: Messages, lengths: Tensor) -> Tensor:
    """(B,): log partition, 0 for an empty sequence."""
    # The first step has no transition, so subtract `shift` once.
    log_scale = messages.alpha_scale.log() + messages.offset
    return log_scale.sum(0) - messages.shift * (lengths > 0)


class LogPartition(torch.autograd.Function):
    """log Z with its closed-form gradient: the marginals for the emissions, the expected counts for the transitions."""

    @staticmethod
    def forward(ctx: Any, emissions: Tensor, transitions: Tensor, lengths: Tensor) -> Tensor:
        messages = scaled_messages(emissions, transitions, lengths)
        log_partition = total_score(messages, lengths)
        # These in-place products overwrite messages that are not read again.
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
        by_emission = marginals.new_empty(marginals.shape[1], len(marginals), tags, dtype=emissions_dtype)
        torch.mul(marginals[..., :tags].transpose(0, 1), grad[:, None, None], out=by_emission)
        by_transition = left.reshape(-1, tags + 1).t() @ (right * weight).reshape(-1, tags + 1) * matrix
        return by_emission, by_transition[:tags, :tags].to(transitions_dtype), None


def log_partition(emissions: Tensor, transitions: Tensor, lengths: Tensor) -> Tensor:
    """log of the sum over all paths of exp(score), (B,) float64, 0 for an empty sequence; differentiable once.

    emissions: (B, T, K) with the start and end scores added to the first and last step.
    transitions: (K, K), from row to column.
    lengths: (B,) on the same device.
    """
    result: Tensor = LogPartition.apply(emissions, transitions, lengths)
    return result


def expected_counts(emissions: Tensor, transitions: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Expected counts under the chain: tags at each step (B, T, K), and transitions over all sequences (K, K).

    The third result is the log partition, (B,). The results have no gradient. Arguments: see log_partition.
    """
    with torch.inference_mode(False), torch.enable_grad():
        # A tensor of inference mode cannot be saved for a backward pass, but a clone of it can.
        parts = emissions.detach().clone().requires_grad_(), transitions.detach().clone().requires_grad_()
        total = log_partition(*parts, lengths.clone())
        # The log probability of a path is its score minus the total.
        steps, moves = torch.autograd.grad(total.sum(), parts)
    return steps, moves, total.detach()


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
