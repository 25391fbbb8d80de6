"""Bidirectional LSTM over padded batches."""

from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from .batch import Batch
from .dropout import dropout
from .precision import has_bfloat16, wide

# In prediction, number of steps whose gates are in memory at the same time.
STEPS = 4_096
# Number of sequences of a batch from which training in bfloat16 is faster on a CPU.
LARGE_BATCH = 16

WEIGHTS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
# For each layer: data pointers and versions of the weights that were packed, and the packed weights of the input and of
# the state, in the format of oneDNN.
_packed: WeakKeyDictionary[nn.LSTM, tuple[list[tuple[int, int]], list[Tensor]]] = WeakKeyDictionary()


class BiLSTM(nn.Module):
    """`depth` bidirectional LSTM layers with dropout before each of them.

    The backward direction reads each sequence reversed within its own length, so padding never reaches a state. On a
    CPU this is 1.2 to 2 times as fast as packed sequences. For mixed precision see `in_half_precision`.

    input_size: width D of the token vectors.
    hidden_size: width of the state of each direction; the output is twice as wide.
    depth: number of layers.
    dropout_rate: rate, or None for the rate of `[training] dropout`.

    Shape: x (B, T, D) -> (B, T, 2 * hidden_size), arbitrary in the padding.
    Source: Graves and Schmidhuber 2005; Huang, Xu and Yu 2015.
    """

    def __init__(
        self, input_size: int, *, hidden_size: int = 200, depth: int = 1, dropout_rate: float | None = None
    ) -> None:
        super().__init__()
        if hidden_size < 1 or depth < 1:
            raise ValueError(f"BiLSTM: hidden_size and depth must be positive, got {hidden_size} and {depth}")
        self.output_size = 2 * hidden_size
        widths = [input_size] + [self.output_size] * (depth - 1)
        self.dropout = dropout(dropout_rate)
        self.forward_layers = nn.ModuleList(nn.LSTM(n, hidden_size, batch_first=True) for n in widths)
        self.backward_layers = nn.ModuleList(nn.LSTM(n, hidden_size, batch_first=True) for n in widths)
        for lstm in (*self.forward_layers, *self.backward_layers):
            initialize_lstm(lstm)

    def train(self, mode: bool = True) -> "BiLSTM":
        for layer in (*self.forward_layers, *self.backward_layers):
            _packed.pop(cast(nn.LSTM, layer), None)
        super().train(mode)
        return self

    def forward(self, x: Tensor, batch: Batch) -> Tensor:
        return self.read(x, batch.mask, is_padded=batch.is_padded)

    def read(self, x: Tensor, mask: Tensor, is_padded: bool = True) -> Tensor:
        """States of any sequences; mask (B, T) is True on their steps, and the padding is at their ends.

        is_padded: whether there may be padding.
        """
        batch, steps = mask.shape
        is_long = steps > STEPS and not torch.is_grad_enabled()
        if is_padded or is_long:
            here = torch.arange(steps, device=x.device)
            length = mask.sum(1, keepdim=True)
            there = torch.where(here < length, length - 1 - here, here)
            rows = there + steps * torch.arange(batch, device=x.device).unsqueeze(1)

        def reverse(y: Tensor) -> Tensor:
            return y.flatten(0, 1).index_select(0, rows.flatten()).view(y.shape) if is_padded else y.flip(1)

        half = in_half_precision(x)
        with torch.autocast(x.device.type, enabled=half):
            x = x if half else x.to(wide(x))
            for forward, backward in zip(self.forward_layers, self.backward_layers, strict=True):
                x = self.dropout(x)
                if is_long:
                    x = read_in_parts(forward, backward, x, rows)
                    continue
                x = torch.cat([states(forward, x), reverse(states(backward, reverse(x)))], dim=-1)
        return x


def states(layer: nn.Module, x: Tensor) -> Tensor:
    """States (B, T, H) of a layer over x (B, T, D).

    On a CPU, torch.lstm packs the weights for oneDNN in every call, which takes as long as 20 steps. In prediction, the
    packed weights are cached until the weights change. Fused optimizers change weights without a new version, so
    `BiLSTM.train` clears the cache.
    """
    lstm = cast(nn.LSTM, layer)
    weights = [getattr(lstm, name) for name in WEIGHTS]
    # Tensors made in inference mode have no version.
    if lstm.training or torch.is_grad_enabled() or weights[0].is_inference() or not uses_onednn(x):
        return cast(Tensor, lstm(x)[0])
    versions = [(weight.data_ptr(), weight._version) for weight in weights]
    known, packed = _packed.get(lstm, (None, []))
    if known != versions:
        pack = torch.ops.mkldnn._reorder_mkldnn_rnn_layer_weight
        packed = pack(*weights[:2], lstm.hidden_size, False, True, False)
        _packed[lstm] = versions, packed
    state = x.new_zeros(len(x), lstm.hidden_size)
    steps = x.transpose(0, 1).contiguous()
    # Not reversed, no packed sequence, an LSTM, of one layer with biases, not bidirectional, time major, not training.
    settings: Any = (False, [], 2, lstm.hidden_size, 1, True, False, False, False)
    arguments: Any = (steps, *packed, *weights[2:], state, state, *settings)
    return torch.mkldnn_rnn_layer(*arguments)[0].transpose(0, 1)


def uses_onednn(x: Tensor) -> bool:
    """Whether torch.lstm runs over x in the float32 kernel of oneDNN, for which weights can be packed."""
    if not (x.is_cpu and x.dtype == torch.float32 and x.numel()) or torch.is_autocast_enabled("cpu"):
        return False
    is_on = torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)
    return is_on and hasattr(torch.ops.mkldnn, "_reorder_mkldnn_rnn_layer_weight")


def in_half_precision(x: Tensor) -> bool:
    """Whether an LSTM over x (B, T, D) computes in the dtype of autocast; else in float32.

    On a GPU only in float16: cuDNN computes in float16 even under autocast to bfloat16, where gradients are not scaled.
    On a CPU only in bfloat16, if the CPU has units for it, and in training only for large batches.
    """
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
    if kind == "cpu":
        is_large = len(x) >= LARGE_BATCH or not torch.is_grad_enabled()
        return dtype == torch.bfloat16 and is_large and has_bfloat16(x.device)
    return dtype == torch.float16


def read_in_parts(forward: nn.Module, backward: nn.Module, x: Tensor, rows: Tensor) -> Tensor:
    """States of both directions, (B, T, 2 * hidden_size), some steps at a time.

    rows: (B, T), indices of the steps, in the order of the backward direction, in the flattened (B * T) steps.
    """
    size = cast(int, forward.hidden_size)
    states = x.new_empty(*x.shape[:2], 2 * size)
    onward_state = turned_state = None
    for first in range(0, x.shape[1], STEPS):
        part = slice(first, first + STEPS)
        there = rows[:, part]
        turned = x.flatten(0, 1).index_select(0, there.flatten()).view(*there.shape, -1)
        states[:, part, :size], onward_state = forward(x[:, part], onward_state)
        turned, turned_state = backward(turned, turned_state)
        states.view(-1, 2 * size)[there.flatten(), size:] = turned.flatten(0, 1)
    return states


def initialize_lstm(lstm: nn.LSTM) -> None:
    """Initialize input weights uniformly, recurrent weights orthogonally, and the bias of the forget gate to 1."""
    hidden = lstm.hidden_size
    for name, weight in lstm.named_parameters():
        if name.startswith("weight_ih"):
            nn.init.xavier_uniform_(weight)
        elif name.startswith("weight_hh"):
            for gate in weight.data.split(hidden):
                nn.init.orthogonal_(gate)
        else:
            nn.init.zeros_(weight)
            if name.startswith("bias_ih"):  # the cell adds both biases
                weight.data[hidden : 2 * hidden] = 1.0
