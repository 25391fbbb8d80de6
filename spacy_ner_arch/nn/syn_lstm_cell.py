"""The recurrence of the Syn-LSTM for both directions at once, with a hand-written gradient.

The documents are sorted from longest to shortest, so that each step computes only documents that have not ended.
Values per step are stored in reading order: for each step first the forward direction of the documents that have not
ended, then the backward direction of the same documents, as one dense (2, n, ...) block.

Letters: B documents, T tokens with padding, N tokens without, n documents in a step, D width of a token vector, G width
of a graph vector, H width of a state. The six gates of a cell have the order u, i, f, o, i', u': the token is an input
of the first four, the graph of the last four, the state of all.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .batch import Batch, send
from .precision import wide


class ReadingOrder(NamedTuple):
    """Index tensors between the B * T padded tokens, the N tokens, and the 2N states in reading order.

    The number 2N means "no state"; its row is zero.
    """

    runs: list[tuple[int, int]]  # (steps, documents in each of them), by decreasing number of documents
    shape: tuple[int, int]  # (B, T)
    tokens: Tensor  # (2N,) for each state, direction * N + number of the token that it reads
    states: Tensor  # (2N,) the inverse of `tokens`
    before: Tensor  # (2N,) for each state, the previous state
    outputs: Tensor  # (B * T * 2,) the state in each output
    places: Tensor  # (2N,) for each state, its output


def reading_order(batch: Batch) -> ReadingOrder:
    """Reading order of a batch, computed on the host and sent to the device in one transfer."""
    count, width = batch.mask.shape
    lengths = torch.from_numpy(batch.lengths)
    total = int(lengths.sum())
    longest_first = lengths.argsort(descending=True, stable=True)
    running = torch.arange(int(lengths.max()) if count else 0).unsqueeze(1) < lengths[longest_first]
    documents = running.sum(1)
    begin = 2 * (documents.cumsum(0) - documents)
    step, rank = running.nonzero(as_tuple=True)
    document = longest_first[rank]

    direction = torch.arange(2).unsqueeze(1)
    state = begin[step] + direction * documents[step] + rank
    previous = (step - 1).clamp_min(0)
    before = (begin[previous] + direction * documents[previous] + rank).masked_fill_(step == 0, 2 * total)
    index = torch.stack([step, lengths[document] - 1 - step])
    token = direction * total + (lengths.cumsum(0) - lengths)[document] + index
    output = 2 * (document * width + index) + direction

    tokens, states, previous, places = torch.empty(4, 2 * total, dtype=torch.int64).unbind()
    tokens[state], states[token], previous[state], places[state] = token, state, before, output
    outputs = torch.full((2 * count * width,), 2 * total)
    outputs[output] = state
    parts = [tokens, states, previous, outputs, places]
    sent = send([part.numpy() for part in parts], batch.device)
    values, counts = documents.unique_consecutive(return_counts=True)
    runs = list(zip(counts.tolist(), values.tolist(), strict=True))
    return ReadingOrder(runs, (count, width), *sent)


class SynLSTMRecurrence(torch.autograd.Function):
    """Outputs (B, T, 2H), zero in the padding, in at least float32. Call it with autocast disabled.

    order: order of the documents.
    x, m: (N, D) and (N, G), of the same dtype.
    input_weight: (2, 4H, D), graph_weight: (2, 4H, G), both of the dtype of x; the first axis is the direction.
    hidden_weight: (2, 6H, H), bias: (2, 6H).
    """

    @staticmethod
    def forward(
        ctx: Any,
        order: ReadingOrder,
        x: Tensor,
        m: Tensor,
        input_weight: Tensor,
        graph_weight: Tensor,
        hidden_weight: Tensor,
        bias: Tensor,
    ) -> Tensor:
        tokens, hidden = len(x), hidden_weight.shape[2]
        dtype = wide(x)
        projected = bias.to(x.dtype).unsqueeze(1).repeat(1, tokens, 1)
        for direction, from_x, from_m in zip(projected, input_weight, graph_weight, strict=True):
            direction[:, : 4 * hidden].addmm_(x, from_x.t())
            direction[:, 2 * hidden :].addmm_(m, from_m.t())
        gates = projected.view(2 * tokens, 6 * hidden).index_select(0, order.tokens).to(dtype)
        del projected

        states, cells = gates.new_zeros(2, 2 * tokens + 1, hidden).unbind()
        squashed = torch.empty_like(cells[:-1])
        recurrent = hidden_weight.to(dtype).transpose(1, 2).contiguous()
        state = cell = None
        start = 0
        for steps, documents in order.runs:
            stop = start + steps * 2 * documents
            if state is not None and cell is not None:
                state, cell = state[:, :documents], cell[:, :documents]
            block = gates[start:stop].view(steps, 2, documents, 6, hidden)
            # Take the views once: indexing inside the loop would cost as much as the arithmetic.
            views = zip(
                block.flatten(3).unbind(),
                block[:, :, :, 1:5].unbind(),
                block[:, :, :, ::5].unbind(),
                *(gate.unbind() for gate in block.unbind(3)),
                *(rows[start:stop].view(steps, 2, documents, hidden).unbind() for rows in (cells, squashed, states)),
                strict=True,
            )
            for all_gates, sigmoids, tanhs, u, i, f, o, i_m, u_m, next_cell, tanh_cell, next_state in views:
                if state is not None:
                    all_gates.baddbmm_(state, recurrent)
                sigmoids.sigmoid_()
                tanhs.tanh_()
                torch.mul(i, u, out=next_cell).addcmul_(i_m, u_m)
                if cell is not None:
                    next_cell.addcmul_(f, cell)
                torch.tanh(next_cell, out=tanh_cell)
                torch.mul(o, tanh_cell, out=next_state)
                state, cell = next_state, next_cell
            start = stop
        ctx.order = order
        ctx.save_for_backward(x, m, input_weight, graph_weight, hidden_weight, bias, gates, cells, squashed, states)
        return states.index_select(0, order.outputs).view(*order.shape, 2 * hidden)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, m, input_weight, graph_weight, hidden_weight, bias, gates, cells, squashed, states = ctx.saved_tensors
        order: ReadingOrder = ctx.order
        tokens, hidden = len(x), hidden_weight.shape[2]
        with torch.autocast(grad.device.type, enabled=False):
            d_states = grad.to(gates.dtype).reshape(-1, hidden).index_select(0, order.places)
            recurrent = hidden_weight.to(gates.dtype)
            d_gates = gate_gradients(order, d_states, gates, cells, squashed, recurrent)
            # In the order of the tokens, so that the gradient of each weight is one product.
            d_gates = d_gates.index_select(0, order.states).view(2, tokens, 6 * hidden)
            previous = states.index_select(0, order.before[order.states]).view(2, tokens, hidden)
            d_hidden_weight = torch.bmm(d_gates.transpose(1, 2), previous)
            d_bias = d_gates.sum(1)
            d_gates = d_gates.to(x.dtype)
            of_x, of_m = d_gates[:, :, : 4 * hidden], d_gates[:, :, 2 * hidden :]
            _, need_x, need_m, *_ = ctx.needs_input_grad
            pair = (2, -1, -1)
            return (
                None,
                torch.addmm(of_x[0] @ input_weight[0], of_x[1], input_weight[1]) if need_x else None,
                torch.addmm(of_m[0] @ graph_weight[0], of_m[1], graph_weight[1]) if need_m else None,
                torch.bmm(of_x.transpose(1, 2), x.expand(pair)),
                torch.bmm(of_m.transpose(1, 2), m.expand(pair)),
                d_hidden_weight.to(hidden_weight.dtype),
                d_bias.to(bias.dtype),
            )


def gate_gradients(
    order: ReadingOrder, d_states: Tensor, gates: Tensor, cells: Tensor, squashed: Tensor, recurrent: Tensor
) -> Tensor:
    """(2N, 6H): gradient of the inputs of the gates, in reading order like all arguments.

    d_states: (2N, H), gradient of the states as outputs; overwritten.
    gates: (2N, 6H), cells: (2N + 1, H), squashed: (2N, H) tanh of the cells, all from the forward pass.
    recurrent: (2, 6H, H).
    """
    hidden = recurrent.shape[2]
    # First everything that does not depend on another step: the derivatives of the cell by the input of each gate, and
    # of the state by the input of o and by the cell.
    by_gate = gates.view(-1, 6, hidden)
    u, i, f, o, i_m, u_m = by_gate.unbind(1)
    one = gates.new_ones(())
    slope = torch.empty_like(by_gate)
    torch.addcmul(by_gate[:, 1:5], by_gate[:, 1:5], by_gate[:, 1:5], value=-1, out=slope[:, 1:5])
    torch.addcmul(one, by_gate[:, ::5], by_gate[:, ::5], value=-1, out=slope[:, ::5])
    for gate, factor in zip((0, 1, 2, 4, 5), (i, u, cells.index_select(0, order.before), u_m, i_m), strict=True):
        slope[:, gate].mul_(factor)
    slope_o = slope[:, 3] * squashed
    slope_cell = torch.addcmul(one, squashed, squashed, value=-1).mul_(o)

    d_cell: Tensor | None = None
    later: Tensor | None = None
    stop = len(gates)
    for steps, documents in reversed(order.runs):
        start = stop - steps * 2 * documents
        shape = (steps, 2, documents, hidden)
        if d_cell is None:
            d_cell = gates.new_zeros(shape[1:])
        else:  # add the documents that end at this step
            d_cell = torch.nn.functional.pad(d_cell, (0, 0, 0, documents - d_cell.shape[1]))
        block = slope[start:stop].view(steps, 2, documents, 6, hidden)
        views = zip(
            d_states[start:stop].view(shape).unbind(),
            block.unbind(),
            block.flatten(3).unbind(),
            block[:, :, :, 3].unbind(),
            f[start:stop].unflatten(0, shape[:3]).unbind(),
            slope_o[start:stop].view(shape).unbind(),
            slope_cell[start:stop].view(shape).unbind(),
            strict=True,
        )
        for d_state, d_inputs, flat, d_o, f_t, from_o, from_cell in reversed(list(views)):
            if later is not None:
                d_state[:, : later.shape[1]].baddbmm_(later, recurrent)
            d_cell.addcmul_(d_state, from_cell)
            d_inputs.mul_(d_cell.unsqueeze(2))
            torch.mul(d_state, from_o, out=d_o)
            d_cell.mul_(f_t)
            later = flat
        stop = start
    return slope.view(-1, 6 * hidden)
