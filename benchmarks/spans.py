"""Span classification: scoring and memory

`SpanClassifier` with the parts of SpanSynLSTM and SpanNER against a plain reference that gathers the tokens of every
span, concatenates its features and multiplies, on 32 sentences of 40 tokens, 384 wide, spans of up to 10 tokens,
dropout 0.1: forward and backward, median of the milliseconds, systems in turn; peak memory of a process of its own over
what it had before the first step. `curve` is prediction alone over one document of growing length.

    python benchmarks/spans.py
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "2")

import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from rows import add_row, has_row, peak_memory_mib
from torch import Tensor, nn

from spacy_ner_arch.nn.spans import SpanClassifier

B, T, W, D, K = 32, 40, 10, 384, 4
FEATURES = {
    "SpanSynLSTM": {"attention": True, "length_size": 50, "relu_length_size": 0},
    "SpanNER": {"attention": False, "length_size": 50, "relu_length_size": 50},
}
LENGTHS = (2_500, 5_000, 10_000, 20_000)


class Plain(nn.Module):
    """The reference: all features of all spans side by side."""

    def __init__(self, attention: bool, length_size: int, relu_length_size: int) -> None:
        super().__init__()
        size = D * (3 if attention else 2) + length_size + relu_length_size
        self.attention = nn.Linear(D, 1) if attention else None
        self.length, self.relu_length = nn.Embedding(W, length_size), nn.Embedding(W, relu_length_size)
        self.hidden, self.output = nn.Linear(size, size), nn.Linear(size, K + 1)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor, spans: Tensor, classes: Tensor) -> Tensor:
        document, start, width = spans.unbind(1)
        parts = [x[document, start], x[document, start + width - 1]]
        if self.attention is not None:
            inside = torch.arange(W) < width.unsqueeze(1)
            tokens = x[document.unsqueeze(1), (start.unsqueeze(1) + torch.arange(W)).clamp(max=T - 1)]  # (S, W, D)
            scores = self.attention(tokens).squeeze(-1).masked_fill(~inside, -1e9)
            parts.append((scores.softmax(-1).unsqueeze(-1) * tokens).sum(1))
        parts += [self.length(width - 1), self.relu_length(width - 1).relu()]
        hidden = self.dropout(nn.functional.gelu(self.hidden(torch.cat(parts, dim=-1))))
        weight = torch.where(classes > 0, 1.0, 0.5)
        return (weight * nn.functional.cross_entropy(self.output(hidden), classes, reduction="none")).sum() / 1000


class Work:
    """One system on one batch."""

    def __init__(self, system: str, features: str) -> None:
        torch.manual_seed(0)
        self.x = torch.randn(B, T, D, requires_grad=True)
        self.gold = tuple(torch.tensor([(b, i, 2, 1 + i % K) for b in range(B) for i in (3, 17, 30)]).unbind(1))
        if system == "ours":
            self.module = SpanClassifier(D, labels=list("abcd"), max_width=W, dropout_rate=0.1, **FEATURES[features])
            self.arguments = (torch.ones(B, T, dtype=torch.bool), None, None, *self.gold)
        else:
            spans = [(b, i, w) for b in range(B) for i in range(T) for w in range(1, min(W, T - i) + 1)]
            classes = {(b, i, w): label for b, i, w, label in zip(*map(torch.Tensor.tolist, self.gold), strict=True)}
            self.module = Plain(**FEATURES[features])
            self.arguments = (torch.tensor(spans), torch.tensor([classes.get(span, 0) for span in spans]))

    def step(self) -> None:
        self.x.grad = None
        self.module.zero_grad()
        self.module(self.x, *self.arguments).backward()


def grown_by(*names: str) -> int:
    """What a fresh process needs more than it had when it was ready to start."""
    done = subprocess.run(
        [sys.executable, __file__, *names], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[-1])


def alone(names: list[str]) -> None:
    if names[0] == "curve":
        module = SpanClassifier(D, labels=list("abcd"), max_width=W).eval()
        x, mask = torch.randn(1, int(names[1]), D), torch.ones(1, int(names[1]), dtype=torch.bool)
        before = peak_memory_mib()
        with torch.inference_mode():
            module(x, mask)
    else:
        work = Work(*names)
        before = peak_memory_mib()
        for _ in range(3):
            work.step()
    print(peak_memory_mib() - before)


def main() -> None:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    if len(sys.argv) > 1:
        return alone(sys.argv[1:])
    for features in FEATURES:
        if has_row("spans", what=features):
            continue
        works = {system: Work(system, features) for system in ("ours", "plain")}
        times: dict[str, list[float]] = {system: [] for system in works}
        for _ in range(10):
            for system, work in works.items():
                start = time.perf_counter()
                work.step()
                times[system].append(1000 * (time.perf_counter() - start))
        ours, plain = (statistics.median(values[2:]) for values in times.values())
        figures = {"ours_ms": round(ours), "plain_ms": round(plain), "ratio": round(plain / ours, 1)}
        memory = {f"{system}_mib": grown_by(system, features) for system in works}
        add_row("spans", what=features, **figures, **memory)
    for tokens in LENGTHS:
        if not has_row("spans", what="curve", tokens=tokens):
            add_row("spans", what="curve", tokens=tokens, ours_mib=grown_by("curve", str(tokens)))


if __name__ == "__main__":
    main()
