"""Sum over all paths of a linear chain: the log partition, its gradient, and the two log messages.

The recursions run in scaled probability space, one small matrix product a step for both directions at once, and their
gradient is written down in closed form (marginals), so no autograd tape grows with the length. Sequences whose scores
spread too far for single precision are done again in log space, in double precision.

Letters: B sequences, T steps, K tags. Emissions here already hold the start and end scores in the first and last step,
and forbidden tags and transitions are large negative constants (finite: autograd through -inf gives NaN).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

FORBIDDEN = -1e30
# Two rows that each spread this far (nats) still multiply without underflow in float32.
SAFE_SPREAD = 40.0


class Messages(NamedTuple):
    """Scaled messages of one batch, time major, each row summing to one over the K tags except `beta`.

    Up to a factor per row, alpha[t, k] sums all paths over steps <= t that end in k, gamma[t, k] all paths over steps
    >= t that begin in k, and beta[t, k] the continuations of k over steps > t (gamma without the emission of t).
    """

    alpha: Tensor  # (T, B, K)
    gamma: Tensor  # (T, B, K)
    beta: Tensor  # (T, B, K)
    alpha_scale: Tensor  # (T, B, 1), the sum that alpha was divided by at this step alone
    gamma_scale: Tensor  # (T, B, 1), likewise
    log_alpha_scale: Tensor  # (T, B) float64: log of all factors divided out of alpha[t]
    log_beta_scale: Tensor  # (T, B) float64: log of all factors divided out of beta[t]
    overlap: Tensor  # (T, B, K), alpha * beta: the marginals up to a factor per row
    log_partition: Tensor  # (B,) float64
    reliable: Tensor  # (B,) bool, False where single precision does not suffice


def inside(lengths: Tensor, steps: int) -> Tensor:
    """(T, B) bool, True on the steps of each sequence and False on its padding."""
    return torch.arange(steps, device=lengths.device).unsqueeze(1) < lengths


def reverse_steps(x: Tensor, lengths: Tensor) -> Tensor:
    """Reverse each sequence of a time-major (T, B, ...) tensor within its own length; padding stays where it is."""
    steps, batch = x.shape[:2]
    here = torch.arange(steps, device=x.device).unsqueeze(1)
    there = torch.where(here < lengths, lengths - 1 - here, here)
    rows = there * batch + torch.arange(batch, device=x.device)
    return x.flatten(0, 1).index_select(0, rows.flatten()).view(x.shape)


def scaled_messages(emissions: Tensor, transitions: Tensor, lengths: Tensor) -> Messages:
    """Run both recursions in probability space, rescaled to sum to one at every step.

    emissions: (B, T, K); the padding may hold anything.
    transitions: (K, K), from row to column.
    lengths: (B,), steps of each sequence.
    """
    batch, steps, tags = emissions.shape
    real = inside(lengths, steps)
    time_major = emissions.transpose(0, 1)
    row_max = time_major.amax(-1)
    row_min = torch.where(time_major > FORBIDDEN / 2, time_major, row_max.unsqueeze(-1)).amin(-1)
    shift = transitions.amax()
    matrix = (transitions - shift).exp()

    factors = (time_major - row_max.unsqueeze(-1)).exp_().masked_fill_(~real.unsqueeze(-1), 1.0)
    # Reversed, the second recursion reads as the first one, so that one product a step serves both.
    factors = torch.stack([factors, reverse_steps(factors, lengths)], dim=1)
    matrices = torch.stack([matrix, matrix.t()])
    before, after = torch.empty_like(factors), torch.empty_like(factors)
    scale = factors.new_empty(steps, 2, batch, 1)
    before[0] = 1.0
    state: Tensor | None = None
    # Views taken once: indexing inside the loop would cost as much as the arithmetic.
    views = zip(factors.unbind(), before.unbind(), after.unbind(), scale.unbind(), strict=True)
    for factor, before_emission, after_emission, total in views:
        if state is not None:
            torch.bmm(state, matrices, out=before_emission)
        torch.mul(before_emission, factor, out=after_emission)
        torch.sum(after_emission, -1, keepdim=True, out=total)
        state = after_emission.div_(total)

    alpha, beta = after[:, 0], reverse_steps(before[:, 1], lengths)
    alpha_scale, gamma_scale = scale[:, 0], reverse_steps(scale[:, 1], lengths)
    offset = row_max.double() + shift.double()
    log_alpha = (alpha_scale.squeeze(-1).double().log() + offset).masked_fill(~real, 0.0)
    log_gamma = (gamma_scale.squeeze(-1).double().log() + offset).masked_fill(~real, 0.0)
    # The first step of alpha has no transition, so it takes no share of the shift.
    log_partition = (log_alpha.sum(0) - shift).masked_fill(lengths == 0, 0.0)
    overlap = alpha * beta
    total = overlap.sum(-1)
    spread = shift - torch.where(transitions > FORBIDDEN / 2, transitions, shift).amin()
    fine = (row_max - row_min <= SAFE_SPREAD) & (total > 0) & total.isfinite()
    return Messages(
        alpha=alpha,
        gamma=reverse_steps(after[:, 1], lengths),
        beta=beta,
        alpha_scale=alpha_scale,
        gamma_scale=gamma_scale,
        log_alpha_scale=log_alpha.cumsum(0) - shift,
        log_beta_scale=log_gamma.sum(0) - log_gamma.cumsum(0),
        overlap=overlap,
        log_partition=log_partition,
        reliable=(fine | ~real).all(0) & (spread <= SAFE_SPREAD),
    )


def log_messages(emissions: Tensor, transitions: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same recursions in log space and double precision, for the few sequences that need them.

    Returns log alpha and log beta, (T, B, K), and the log partition, (B,), all float64.
    """
    time_major = emissions.double().transpose(0, 1)
    scores = transitions.double()
    alphas: list[Tensor] = [time_major[0]]
    for emission in time_major[1:]:
        alphas.append((alphas[-1].unsqueeze(-1) + scores).logsumexp(1) + emission)
    betas: list[Tensor] = [torch.zeros_like(time_major[0])]
    for emission in reverse_steps(time_major, lengths)[:-1]:
        betas.append(((betas[-1] + emission).unsqueeze(1) + scores).logsumexp(-1))
    alpha = torch.stack(alphas)
    last = (lengths - 1).clamp_min(0).reshape(1, -1, 1).expand(1, -1, alpha.shape[-1])
    log_partition = alpha.gather(0, last).squeeze(0).logsumexp(-1).masked_fill(lengths == 0, 0.0)
    return alpha, reverse_steps(torch.stack(betas), lengths), log_partition


class LogPartition(torch.autograd.Function):
    """log Z with its closed-form gradient: d/d emission is the marginal of the tag, d/d transition the expected number
    of its uses. The host reads one number per batch: how many sequences need double precision."""

    @staticmethod
    def forward(ctx: Any, emissions: Tensor, transitions: Tensor, lengths: Tensor) -> Tensor:
        messages = scaled_messages(emissions, transitions, lengths)
        log_partition = messages.log_partition
        total = messages.overlap.sum(-1, keepdim=True)
        marginals = messages.overlap / total
        # i -> j at step t is used alpha[t-1, i] * matrix[i, j] * gamma[t, j] / (its sum over i and j) times.
        left = messages.alpha[:-1]
        right = messages.gamma[1:] / (total * messages.alpha_scale / messages.gamma_scale)[1:]
        uses: Tensor | None = None
        rescued = (~messages.reliable).nonzero().squeeze(1)
        if len(rescued):
            exact, exact_marginals, uses = exact_statistics(emissions[rescued], transitions, lengths[rescued])
            log_partition = log_partition.index_copy(0, rescued, exact)
            marginals = marginals.index_copy(1, rescued, exact_marginals.to(marginals.dtype))
        real = inside(lengths, emissions.shape[1]).unsqueeze(-1)
        marginals = marginals.masked_fill_(~real, 0.0)
        if len(rescued):  # what they were multiplied from may be NaN
            left = torch.where(messages.reliable.unsqueeze(-1), left, 0.0)
        right = torch.where(real[1:] & messages.reliable.unsqueeze(-1), right, 0.0)
        ctx.save_for_backward(marginals, left, right, transitions, rescued, uses)
        return log_partition

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        marginals, left, right, transitions, rescued, uses = ctx.saved_tensors
        tags = transitions.shape[0]
        weight = grad.to(marginals.dtype).unsqueeze(-1)
        d_transitions = left.reshape(-1, tags).t() @ (right * weight).reshape(-1, tags)
        d_transitions *= (transitions - transitions.amax()).exp()
        if uses is not None:
            d_transitions += (uses * grad[rescued].reshape(-1, 1, 1)).sum(0)
        return (marginals * weight).transpose(0, 1), d_transitions, None


def exact_statistics(emissions: Tensor, transitions: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log Z (B,), marginals (T, B, K) and expected uses of each transition (B, K, K), from the log messages."""
    alpha, beta, log_partition = log_messages(emissions, transitions, lengths)
    gamma = beta + emissions.double().transpose(0, 1)
    total = log_partition.unsqueeze(-1)
    uses = alpha.new_zeros(len(lengths), *transitions.shape)
    for t in range(1, len(alpha)):  # a loop: (T, B, K, K) at once would not fit for long documents
        joint = alpha[t - 1].unsqueeze(-1) + transitions.double() + (gamma[t] - total).unsqueeze(1)
        uses += torch.where((t < lengths).reshape(-1, 1, 1), joint.exp(), 0.0)
    return log_partition, (alpha + beta - total).exp(), uses


def log_partition(emissions: Tensor, transitions: Tensor, lengths: Tensor) -> Tensor:
    """log of the sum over all paths of exp(score), (B,) float64, 0 for an empty sequence; differentiable once.

    emissions: (B, T, K) with the start and end scores added to the first and last step.
    transitions: (K, K).
    lengths: (B,) on the same device.
    """
    result: Tensor = LogPartition.apply(emissions, transitions, lengths)
    return result


def log_alpha_beta(emissions: Tensor, transitions: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log messages of every step, batch first: alpha (B, T, K), beta (B, T, K), log partition (B,), all float64."""
    messages = scaled_messages(emissions, transitions, lengths)
    alpha = messages.alpha.double().log() + messages.log_alpha_scale.unsqueeze(-1)
    beta = messages.beta.double().log() + messages.log_beta_scale.unsqueeze(-1)
    total = messages.log_partition
    rescued = (~messages.reliable).nonzero().squeeze(1)
    if len(rescued):
        exact = log_messages(emissions[rescued], transitions, lengths[rescued])
        alpha, beta = alpha.index_copy(1, rescued, exact[0]), beta.index_copy(1, rescued, exact[1])
        total = total.index_copy(0, rescued, exact[2])
    return alpha.transpose(0, 1), beta.transpose(0, 1), total
