# mypy: allow-untyped-defs
"""The recursions of the CRF as Triton kernels: one launch each, instead of several launches a step.

The loop over the steps runs inside the kernel, one program per sequence (and direction). The results are those of
`scaled_messages` in forward_backward.py and `best_path` in viterbi.py, which remain the reference and run where Triton
does not. `use_kernels` in fused.py decides between them.

All arithmetic is in float64, even where a GPU computes it at 1/64 of the float32 rate: the few reductions of a step
take longer than its K * K products. With float64, no scores have to be kept in log space, whose logsumexp would cost
K * K exponentials a step.

BLOCK is the number of tags K, rounded up to a power of two. The loops read the length of a sequence on the device.
"""

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from .forward_backward import Messages

# Do not specialize on these sizes, which vary: a kernel is compiled once per BLOCK and dtype.
SIZES = ["steps", "batch", "tags"]


@triton.jit(do_not_specialize=SIZES)
def messages_kernel(
    emissions,  # (B, T, K)
    matrices,  # (2, K + 1, K + 1), exp(transitions - shift) and its transpose
    shift,  # scalar
    lengths,  # (B,)
    after,  # (2, T, B, K + 1), alpha and gamma
    beta,  # (T, B, K + 1)
    scale,  # (2, T, B), sums divided out of alpha and gamma at a step
    offset,  # (T, B)
    steps,
    batch,
    tags,
    BLOCK: tl.constexpr,
):
    """Program (b, 0) computes alpha of sequence b, program (b, 1) gamma and beta."""
    sequence = tl.program_id(0).to(tl.int64)
    direction = tl.program_id(1)
    forward = direction == 0
    length = tl.load(lengths + sequence).to(tl.int32)
    tag = tl.arange(0, BLOCK)
    real = tag < tags
    width = tags + 1

    cells = matrices + (direction * width + tag[:, None]) * width + tag[None, :]
    matrix = tl.load(cells, mask=real[:, None] & real[None, :], other=0.0)
    shift = tl.load(shift)

    rows = emissions + sequence * steps * tags + tag
    state = tl.where(real, 1.0, 0.0).to(tl.float64)
    # Load the emission one step ahead, so that the recursion does not wait for the memory.
    last = tl.maximum(length - 1, 0)
    emission = tl.load(rows + tl.where(forward, 0, last) * tags, mask=real, other=-float("inf"))
    for step in range(length):
        following = tl.minimum(step + 1, last)
        following = tl.where(forward, following, last - following)
        upcoming = tl.load(rows + following * tags, mask=real, other=-float("inf"))
        before = tl.where(step == 0, state, tl.sum(state[:, None] * matrix, axis=0))
        top = tl.max(emission, axis=0).to(tl.float64)
        product = before * tl.exp(emission.to(tl.float64) - top)
        total = tl.sum(product, axis=0)
        state = product / total

        here = tl.where(forward, step, last - step).to(tl.int64) * batch + sequence
        there = direction * steps.to(tl.int64) * batch + here
        tl.store(after + there * width + tag, state, mask=real)
        tl.store(after + there * width + tags, 0.0)
        tl.store(scale + there, total)
        if forward:
            tl.store(offset + here, top + shift)
        else:
            tl.store(beta + here * width + tag, before, mask=real)
            tl.store(beta + here * width + tags, 0.0)
        emission = upcoming

    # The tag END is on the padding.
    one = tl.full([], 1.0, tl.float64)
    zeros = tl.zeros([BLOCK], tl.float64)
    for step in range(length, steps):
        here = tl.cast(step, tl.int64) * batch + sequence
        there = direction * steps.to(tl.int64) * batch + here
        tl.store(after + there * width + tag, zeros, mask=real)
        tl.store(after + there * width + tags, one)
        tl.store(scale + there, one)
        if forward:
            tl.store(offset + here, 0.0)
        else:
            tl.store(beta + here * width + tag, zeros + one, mask=real)
            tl.store(beta + here * width + tags, one)


@triton.jit(do_not_specialize=SIZES)
def best_path_kernel(
    emissions,  # (B, T, K)
    transitions,  # (K, K)
    lengths,  # (B,)
    pointers,  # (B, T, K) uint8, best predecessor of each tag
    path,  # (B, T)
    steps,
    tags,
    BLOCK: tl.constexpr,
):
    """Program b finds the best path of sequence b, then follows its back pointers."""
    sequence = tl.program_id(0).to(tl.int64)
    length = tl.load(lengths + sequence).to(tl.int32)
    tag = tl.arange(0, BLOCK)
    real = tag < tags
    cells = transitions + tag[:, None] * tags + tag[None, :]
    moves = tl.load(cells, mask=real[:, None] & real[None, :], other=-float("inf")).to(tl.float64)

    rows = emissions + sequence * steps * tags
    pointers += sequence * steps * tags
    path += sequence * steps
    last = tl.maximum(length - 1, 0)
    scores = tl.load(rows + tag, mask=real, other=-float("inf")).to(tl.float64)
    upcoming = tl.load(rows + tl.minimum(1, last) * tags + tag, mask=real, other=-float("inf"))
    for step in range(1, length):
        emission = upcoming.to(tl.float64)
        following = tl.minimum(step + 1, last)
        upcoming = tl.load(rows + following * tags + tag, mask=real, other=-float("inf"))
        best, predecessor = tl.max(scores[:, None] + moves, axis=0, return_indices=True)
        scores = best + emission
        tl.store(pointers + step * tags + tag, predecessor.to(tl.uint8), mask=real)

    # The pointers were written by other threads than those that read them.
    tl.debug_barrier()
    current = tl.argmax(scores, axis=0)
    for step in range(1, length):
        place = length - step
        tl.store(path + place, current.to(tl.int64))
        current = tl.load(pointers + place * tags + current).to(tl.int32)
    tl.store(path, current.to(tl.int64))
    for step in range(length, steps):
        tl.store(path + step, 0)


def launch_options(tags: int) -> dict[str, int]:
    """Block size, and as many warps as leave about 32 entries of the matrix to a thread."""
    block = max(16, triton.next_power_of_2(tags))
    return {"BLOCK": block, "num_warps": min(max(block * block // 1024, 1), 8)}


def fused_messages(emissions: Tensor, matrix: Tensor, shift: Tensor, lengths: Tensor) -> Messages:
    """`scaled_messages` in one launch, for up to fused.MAX_TAGS tags.

    matrix, shift: see Messages.
    """
    batch, steps, tags = emissions.shape
    new = functools.partial(torch.empty, dtype=torch.float64, device=emissions.device)
    after, beta = new(2, steps, batch, tags + 1), new(steps, batch, tags + 1)
    scale, offset = new(2, steps, batch), new(steps, batch)
    inputs = (emissions.detach().contiguous(), torch.stack([matrix, matrix.t()]).detach(), shift.detach(), lengths)
    with torch.cuda.device_of(emissions):
        messages_kernel[batch, 2](*inputs, after, beta, scale, offset, steps, batch, tags, **launch_options(tags))
    return Messages(after[0], after[1], beta, scale[0], scale[1], offset, shift, matrix)


def fused_best_path(emissions: Tensor, transitions: Tensor, lengths: Tensor) -> Tensor:
    """`best_path` in one launch, for up to fused.MAX_TAGS tags; 0 in the padding."""
    batch, steps, tags = emissions.shape
    pointers = torch.empty(batch, steps, tags, dtype=torch.uint8, device=emissions.device)
    path = torch.empty(batch, steps, dtype=torch.long, device=emissions.device)
    inputs = (emissions.detach().contiguous(), transitions.detach().contiguous(), lengths)
    with torch.cuda.device_of(emissions):
        best_path_kernel[batch,](*inputs, pointers, path, steps, tags, **launch_options(tags))
    return path
