"""Syn-LSTM: the recurrence

Forward and backward, median of the milliseconds, systems in turn: ours; a `literal` implementation, one step after the
other with concatenated inputs under autograd, as published; `torch.nn.LSTM`, bidirectional, of the same sizes, which
reads no graph. 32 documents of 60 tokens, or of 5 to 60 (of which the literal one computes the padding, too), input and
graph 768 wide, state 100 for each direction; then one document of growing length, 96 wide.

    python benchmarks/syn_lstm_speed.py
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "2")

import statistics
import time

import torch
from rows import add_row, has_row
from torch import Tensor, nn

from spacy_ner_arch.nn.syn_lstm import SynLSTM

HIDDEN = 100
# Name of the row: documents, tokens, width, whether their lengths differ, rounds.
CASES = {
    "32 x 60 tokens": (32, 60, 768, False, 12),
    "32 x 5 to 60 tokens": (32, 60, 768, True, 12),
    "1 x 100 tokens": (1, 100, 96, False, 12),
    "1 x 1,000 tokens": (1, 1_000, 96, False, 5),
    "1 x 10,000 tokens": (1, 10_000, 96, False, 2),
}


class Cell(nn.Module):
    """The equations as they stand in the paper."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.i, self.u, self.i_graph, self.u_graph = (nn.Linear(hidden + size, hidden) for _ in range(4))
        self.f, self.o = (nn.Linear(hidden + 2 * size, hidden) for _ in range(2))

    def forward(self, x: Tensor, m: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        hx, hm, hxm = torch.cat([h, x], 1), torch.cat([h, m], 1), torch.cat([h, x, m], 1)
        new = self.i(hx).sigmoid() * self.u(hx).tanh() + self.i_graph(hm).sigmoid() * self.u_graph(hm).tanh()
        c = self.f(hxm).sigmoid() * c + new
        return self.o(hxm).sigmoid() * c.tanh(), c


class Literal(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.cells = nn.ModuleList(Cell(size, HIDDEN) for _ in range(2))

    def forward(self, x: Tensor, m: Tensor, mask: Tensor) -> Tensor:
        directions = []
        for cell, steps in zip(self.cells, (range(x.shape[1]), reversed(range(x.shape[1]))), strict=True):
            h = c = x.new_zeros(len(x), HIDDEN)
            states: dict[int, Tensor] = {}
            for t in steps:
                h, c = cell(x[:, t], m[:, t], h, c)
                states[t] = h
            directions.append(torch.stack([states[t] for t in range(x.shape[1])], 1))
        return torch.cat(directions, -1)


class PlainLSTM(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(size, HIDDEN, bidirectional=True, batch_first=True)

    def forward(self, x: Tensor, m: Tensor, mask: Tensor) -> Tensor:
        lengths = mask.sum(1)
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.shape[1])[0]


def measure(documents: int, tokens: int, size: int, ragged: bool, rounds: int) -> dict[str, float]:
    """Medians of the milliseconds of each system."""
    torch.manual_seed(0)
    x, m = (torch.randn(documents, tokens, size, requires_grad=True) for _ in range(2))
    lengths = torch.linspace(5 if ragged else tokens, tokens, documents).long()
    mask = torch.arange(tokens) < lengths.unsqueeze(1)
    gradient = torch.randn(documents, tokens, 2 * HIDDEN)
    systems = {"ours": SynLSTM(size, size, HIDDEN), "literal": Literal(size), "lstm": PlainLSTM(size)}
    times: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(1 + rounds):
        for name, module in systems.items():
            module.zero_grad()
            x.grad = m.grad = None
            start = time.perf_counter()
            module(x, m, mask).backward(gradient)
            times[name].append(1000 * (time.perf_counter() - start))
    return {f"{name}_ms": round(statistics.median(values[1:]), 1) for name, values in times.items()}


def main() -> None:
    threads = int(os.environ["OMP_NUM_THREADS"])
    torch.set_num_threads(threads)
    for case, sizes in CASES.items():
        if not has_row("syn_lstm_speed", case=case):
            ms = measure(*sizes)
            ratios = {
                "literal_to_ours": ms["literal_ms"] / ms["ours_ms"],
                "ours_to_lstm": ms["ours_ms"] / ms["lstm_ms"],
            }
            rounded = {name: round(ratio, 2) for name, ratio in ratios.items()}
            add_row("syn_lstm_speed", case=case, **ms, **rounded, threads=threads)


if __name__ == "__main__":
    main()
