"""Sum gradients, losses and word counts of an update over all processes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, cast

import torch
import torch.distributed as dist
from thinc.api import Model, Optimizer, torch2xp, xp2torch
from torch import Tensor

from ..bridge.layers import modules
from ..bridge.shim import TorchShim
from .parallel import size

# Size from which a tensor gets a separate message, which costs about 0.5 ms but no copies.
LARGE = 1 << 18
# Size from which a tensor is searched for blocks of zeros, and size of a block.
SPARSE, BLOCK = 1 << 14, 32


class Gradient(NamedTuple):
    """Gradient of a parameter.

    value: the gradient; None if the parameter has none.
    """

    parameter: Tensor
    value: Tensor | None
    set: Callable[[Tensor], Any]


class UpdateSum:
    """Sum gradients, losses and word counts of an update over all processes.

    pipes: the trained components.

    `begin` must be called before every update of the components. Within the context `in_updates`, the sums are made
    before the first component is updated. (spaCy's loop leaves no other place for it.)
    """

    def __init__(self, pipes: Sequence[Any]) -> None:
        self.pipes = pipes
        self.counts: list[tuple[Tensor, Tensor]] | None = None

    def begin(self) -> None:
        """Store the word counts before the update."""
        if size() > 1:
            self.counts = [(buffer, buffer.clone()) for buffer in self._counters()]

    @contextmanager
    def in_updates(self) -> Iterator[None]:
        """Within the context, thinc models sum their gradients over all processes before they are updated."""
        if size() == 1:
            yield
            return
        finish_update = Model.finish_update

        def sum_and_finish(model: Model, optimizer: Optimizer) -> None:
            self.finish()
            finish_update(model, optimizer)

        Model.finish_update = sum_and_finish  # type: ignore[method-assign,assignment]  # until the context ends
        try:
            yield
        finally:
            Model.finish_update = finish_update  # type: ignore[method-assign]  # as it was

    def finish(self) -> None:
        """Compute the sums, unless that was done in this update."""
        if self.counts is None:
            return
        counts, self.counts = self.counts, None
        gradients = [gradient for pipe in self.pipes for node in pipe.model.walk() for gradient in find_gradients(node)]
        own = [pipe for pipe in self.pipes if hasattr(pipe, "update_loss")]
        found = [float(gradient.value is not None) for gradient in gradients]
        sums = torch.tensor(found + [pipe.update_loss for pipe in own], dtype=torch.float64)
        dist.all_reduce(sums)
        for pipe, loss in zip(own, sums[len(gradients) :].tolist(), strict=True):
            pipe.update_loss = loss
        # Parameters without a gradient in any process are left unchanged, as in a single process.
        used = [gradient for gradient, number in zip(gradients, sums.tolist(), strict=False) if number]
        values = [torch.zeros_like(g.parameter) if g.value is None else g.value for g in used]
        summed = add_up(values + [buffer - before for buffer, before in counts])
        for gradient, value in zip(used, summed, strict=False):
            gradient.set(value)
        with torch.no_grad():
            for (buffer, before), added in zip(counts, summed[len(used) :], strict=True):
                torch.add(before, added, out=buffer)

    def _counters(self) -> Iterator[Tensor]:
        """Integer buffers, which are counters."""
        for pipe in self.pipes:
            for node in pipe.model.walk():
                for _, module in modules(node):
                    yield from (b for b in module.buffers() if not b.is_floating_point() and b.dtype != torch.bool)


def float_buffers(node: Model) -> Iterator[Tensor]:
    """Floating-point buffers of a layer. Updates do not change them; integer buffers are counters."""
    for _, module in modules(node):
        yield from (buffer for buffer in module.buffers() if buffer.is_floating_point())


def add_losses(losses: dict[str, float], parts: list[dict[str, float]], names: Iterable[str]) -> None:
    """Set the losses to their sums over all processes. Loss weights among them are the same in all processes."""
    loss_weights = {f"{name}_weight" for name in names}
    for name in dict.fromkeys(name for part in parts for name in part):
        found = [part[name] for part in parts if name in part]
        losses[name] = found[0] if name in loss_weights else sum(found)


def find_gradients(node: Model) -> Iterator[Gradient]:
    """Gradients of the torch modules and the thinc parameters of a layer, without frozen parameters."""
    for shim, module in modules(node):
        if isinstance(shim, TorchShim):
            shim.flush()
        for parameter in module.parameters():
            if parameter.requires_grad:
                yield Gradient(parameter, parameter.grad, partial(setattr, parameter, "grad"))
    for name in node.param_names:
        if node.has_param(name):
            value = xp2torch(node.get_grad(name)) if node.has_grad(name) else None
            yield Gradient(xp2torch(node.get_param(name)), value, partial(set_gradient, node, name))


def set_gradient(node: Model, name: str, value: Tensor) -> None:
    """Set the gradient of a thinc parameter."""
    node.set_grad(name, cast(Any, torch2xp(value, ops=node.ops)))


def add_up(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Sums of tensors over all processes. Small tensors of the same dtype and device are sent in one message.

    Large tensors are overwritten, since copying them takes as long as the message. On a CPU, their blocks that are zero
    in all processes are not sent, such as the rows of an embedding that no process has used.
    """
    # Make tensors contiguous: strides may differ between processes, but all must send the same messages.
    summed = [tensor.detach().contiguous() for tensor in tensors]
    blocks = used_blocks(summed)
    sent = [tensor.view(-1, BLOCK)[blocks[i]] if i in blocks else tensor for i, tensor in enumerate(summed)]
    large = [dist.all_reduce(tensor, async_op=True) for tensor in sent if tensor.numel() > LARGE]
    groups: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    for i, tensor in enumerate(sent):
        if tensor.numel() <= LARGE:
            groups.setdefault((tensor.device, tensor.dtype), []).append(i)
    for group in groups.values():
        flat = torch.cat([sent[i].reshape(-1) for i in group])
        dist.all_reduce(flat)
        for i, part in zip(group, flat.split([sent[i].numel() for i in group]), strict=True):
            sent[i] = part.view(sent[i].shape)
    for work in large:
        work.wait()
    for i, used in blocks.items():
        summed[i].view(-1, BLOCK)[used] = sent[i]
        sent[i] = summed[i]
    return sent


def used_blocks(tensors: Sequence[Tensor]) -> dict[int, Tensor]:
    """Blocks that are not zero in every process, for each large tensor on the CPU with few such blocks."""
    large = [i for i, x in enumerate(tensors) if x.is_cpu and x.numel() > SPARSE and x.numel() % BLOCK == 0]
    if not large:
        return {}
    used = torch.cat([tensors[i].view(-1, BLOCK).any(1) for i in large]).to(torch.uint8)
    dist.all_reduce(used, dist.ReduceOp.MAX)
    parts = used.split([tensors[i].numel() // BLOCK for i in large])
    return {i: x.nonzero().squeeze(1) for i, x in zip(large, parts, strict=True) if 2 * x.count_nonzero() < len(x)}
