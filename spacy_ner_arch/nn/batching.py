"""Cutting documents of like length into batches with little padding."""

from collections.abc import Iterator, Sequence

# At most so many steps in a batch, padding included, and of padding as much as is cheaper than another batch: on a GPU
# a batch costs its launch, however small it is.
CPU_STEPS, CPU_PADDING = 8_192, 128
GPU_STEPS, GPU_PADDING = 32_768, 4_096


def chunks(lengths: Sequence[int], on_gpu: bool) -> Iterator[slice]:
    """Cut ascending lengths into batches: where each of them stands."""
    steps, slack = (GPU_STEPS, GPU_PADDING) if on_gpu else (CPU_STEPS, CPU_PADDING)
    first = real = 0
    for i, length in enumerate(lengths):
        padded = length * (i + 1 - first)
        if i > first and (padded > steps or padded - real - length > slack + real // 10):
            yield slice(first, i)
            first, real = i, 0
        real += length
    if first < len(lengths):
        yield slice(first, len(lengths))
