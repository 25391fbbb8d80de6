"""Sums over all paths of a linear chain: the log partition with its gradient, and the two log messages.

Both recursions run in probability space, in float64, rescaled at every step: one small matrix product a step serves
both directions. The gradient is written in closed form (marginals), so no autograd tape grows with the length.

Letters: B sequences, T steps, K tags. The emissions already contain the start and end scores in the first and last
step; forbidden tags and transitions are large negative constants (finite, since autograd through -inf gives NaN).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .fused import use_kernels

FORBIDDEN = -1e30


class Messages(NamedTuple):
    """Scaled messages of a batch, time major and float64. Rows of alpha and gamma sum to one over the K tags.

    Up to a factor per row, alpha[t, k] sums all paths over steps <= t that end in k, gamma[t, k] all paths over steps
    >= t that begin in k, and beta[t, k] the continuations of k over steps > t (gamma without the emission of t).
    """

    alpha: Tensor  # (T, B, K)
    gamma: Tensor  # (T, B, K)
    beta: Tensor  # (T, B, K)
    alpha_scale: Tensor  # (T, B, 1), sum by which alpha was divided at this step alone
    gamma_scale: Tensor  # (T, B, 1), likewise
    log_alpha_scale: Tensor  # (T, B), log of all factors divided out of alpha[t]
    log_beta_scale: Tensor  # (T, B), log of all factors divided out of beta[t]
    log_partition: Tensor  # (B,)


def inside(lengths: Tensor, steps: int) -> Tensor:
    """(T, B) bool, True on the steps of each sequence and False on its padding."""
    return torch.arange(steps, device=lengths.device).unsqueeze(1) < lengths


def reverse_steps(x: Tensor, lengths: Tensor) -> Tensor:
    """Reverse each sequence of a time-major (T, B, ...) tensor within its own length; the padding stays in place."""
    steps, batch = x.shape[:2]
    here = torch.arange(steps, device=x.device).unsqueeze(1)
    there = torch.where(here < lengths, lengths - 1 - here, here)
    rows = there * batch + torch.arange(batch, device=x.device)
    return x.flatten(0, 1).index_select(0, rows.flatten()).view(x.shape)


def scaled_messages(emissions: Tensor, transitions: Tensor, lengths: Tensor) -> Messages:
    """Run both recursions.

    emissions: (B, T, K); the padding may hold anything.
    transitions: (K, K), from row to column.
    lengths: (B,), steps of each sequence.

    Exact while the scores of the tags of one step differ by less than about 300 nats, far more than a trained model
    gives; beyond that the sums may underflow to NaN.
    """
    if use_kernels(emissions):
        from .crf_kernels import fused_messages

        return fused_messages(emissions, transitions, lengths)
    batch, steps, tags = emissions.shape
    real = inside(lengths, steps)
    time_major = emissions.double().transpose(0, 1)
    row_max = time_major.amax(-1)
    shift = transitions.double().amax()
    matrix = (transitions.double() - shift).exp()

    factors = (time_major - row_max.unsqueeze(-1)).exp_().masked_fill_(~real.unsqueeze(-1), 1.0)
    # The second recursion reads the sequences in reverse, so that one product a step serves both.
    factors = torch.stack([factors, reverse_steps(factors, lengths)], dim=1)
    matrices = torch.stack([matrix, matrix.t()])
    before, after = torch.empty_like(factors), torch.empty_like(factors)
    scale = factors.new_empty(steps, 2, batch, 1)
    before[0] = 1.0
    state: Tensor | None = None
    # Take the views once: indexing inside the loop would cost as much as the arithmetic.
    views = zip(factors.unbind(), before.unbind(), after.unbind(), scale.unbind(), strict=True)
    for factor, before_emission, after_emission, total in views:
        if state is not None:
            torch.bmm(state, matrices, out=before_emission)
        torch.mul(before_emission, factor, out=after_emission)
        torch.sum(after_emission, -1, keepdim=True, out=total)
        state = after_emission.div_(total)

    alpha_scale, gamma_scale = scale[:, 0], reverse_steps(scale[:, 1], lengths)
    offset = row_max + shift
    log_alpha = (alpha_scale.squeeze(-1).log() + offset).masked_fill(~real, 0.0)
    log_gamma = (gamma_scale.squeeze(-1).log() + offset).masked_fill(~real, 0.0)
    return Messages(
        alpha=after[:, 0],
        gamma=reverse_steps(after[:, 1], lengths),
        beta=reverse_steps(before[:, 1], lengths),
        alpha_scale=alpha_scale,
        gamma_scale=gamma_scale,
        # The first step has no transition, so `shift` is in the sum once too often.
        log_alpha_scale=log_alpha.cumsum(0) - shift,
        log_beta_scale=log_gamma.sum(0) - log_gamma.cumsum(0),
        log_partition=(log_alpha.sum(0) - shift).masked_fill(lengths == 0, 0.0),
    )


class LogPartition(torch.autograd.Function):
    """log Z with its closed-form gradient: the marginals for the emissions, the expected counts for the transitions."""

    @staticmethod
    def forward(ctx: Any, emissions: Tensor, transitions: Tensor, lengths: Tensor) -> Tensor:
        messages = scaled_messages(emissions, transitions, lengths)
        overlap = messages.alpha * messages.beta
        total = overlap.sum(-1, keepdim=True)
        real = inside(lengths, emissions.shape[1]).unsqueeze(-1)
        marginals = torch.where(real, overlap / total, 0.0)
        # i -> j at step t is used alpha[t-1, i] * matrix[i, j] * gamma[t, j] / (its sum over i and j) times.
        right = messages.gamma[1:] / (total * messages.alpha_scale / messages.gamma_scale)[1:]
        ctx.save_for_backward(marginals, messages.alpha[:-1], torch.where(real[1:], right, 0.0), emissions, transitions)
        return messages.log_partition

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        marginals, left, right, emissions, transitions = ctx.saved_tensors
        tags = transitions.shape[0]
        weight = grad.unsqueeze(-1)
        uses = left.reshape(-1, tags).t() @ (right * weight).reshape(-1, tags)
        uses *= (transitions.double() - transitions.double().amax()).exp()
        return (marginals * weight).transpose(0, 1).to(emissions.dtype), uses.to(transitions.dtype), None


def log_partition(emissions: Tensor, transitions: Tensor, lengths: Tensor) -> Tensor:
    """log of the sum over all paths of exp(score), (B,) float64, 0 for an empty sequence; differentiable once.

    emissions: (B, T, K) with the start and end scores added to the first and last step.
    transitions: (K, K), from row to column.
    lengths: (B,) on the same device.
    """
    result: Tensor = LogPartition.apply(emissions, transitions, lengths)
    return result


def log_alpha_beta(emissions: Tensor, transitions: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log messages of every step, batch first: alpha (B, T, K), beta (B, T, K), log partition (B,), all float64."""
    messages = scaled_messages(emissions, transitions, lengths)
    alpha = messages.alpha.log() + messages.log_alpha_scale.unsqueeze(-1)
    beta = messages.beta.log() + messages.log_beta_scale.unsqueeze(-1)
    return alpha.transpose(0, 1), beta.transpose(0, 1), messages.log_partition
