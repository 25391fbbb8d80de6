"""Measure torch modules of this package against plain implementations, on random input.

python benchmarks/modules.py [crf] [pairs] [spans] [syn_lstm_speed] [--threads 2]
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import spacy
import torch
import torchcrf
from rows import add_row, has_row, in_new_process, median_ms, peak_memory_mib, times_in_turn
from spacy.tokens import Doc, Span
from torch import Tensor, nn
from torch.nn import functional as F

from spacy_ner_arch.annotation.candidates import EntityPairs
from spacy_ner_arch.annotation.gold_relations import GoldPairs
from spacy_ner_arch.annotation.spans import GoldSpans
from spacy_ner_arch.nn.batch import Batch, make_batch
from spacy_ner_arch.nn.crf import LinearChainCRF
from spacy_ner_arch.nn.pair_softmax import SoftmaxPairs
from spacy_ner_arch.nn.pair_tensors import Pairs
from spacy_ner_arch.nn.spans import SpanClassifier
from spacy_ner_arch.nn.syn_lstm import SynLSTM

CPU = torch.device("cpu")
Row = dict[str, Any]


def milliseconds(systems: dict[str, Callable[[], Any]], rounds: int, digits: int = 1) -> Row:
    """Medians of the milliseconds of each system."""
    times = times_in_turn(systems, rounds)
    return {f"{name}_ms": round(median_ms(values), digits) for name, values in times.items()}


# CRF against pytorch-crf


def crf_cases() -> Iterator[tuple[Row, Callable[[], Row]]]:
    for (batch, steps, tags), what in product(
        [(32, 30, 17), (32, 120, 37), (128, 60, 73)], ["loss and gradient", "decoding"]
    ):
        yield (
            {"what": what, "batch": batch, "steps": steps, "tags": tags},
            partial(measure_crf, what, batch, steps, tags),
        )


def measure_crf(what: str, batch: int, steps: int, tags: int) -> Row:
    torch.manual_seed(0)
    ours, theirs = LinearChainCRF(tags, batch_first=True), torchcrf.CRF(tags, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    emissions = torch.randn(batch, steps, tags, requires_grad=True)
    gold = torch.randint(0, tags, (batch, steps))
    lengths = torch.randint(steps // 2, steps + 1, (batch,))
    lengths[0] = steps
    mask = torch.arange(steps) < lengths.unsqueeze(1)

    def loss(crf: Any) -> None:
        emissions.grad = None
        crf.zero_grad()
        crf(emissions, gold, mask).backward()

    def decode(crf: Any) -> Any:
        with torch.no_grad():
            return crf.decode(emissions, mask)

    assert decode(ours) == decode(theirs)
    run = decode if what == "decoding" else loss
    times = times_in_turn({"ours": partial(run, ours), "torchcrf": partial(run, theirs)}, rounds=10)
    medians = {name: round(median_ms(values), 2) for name, values in times.items()}
    return {**medians, "ratio": round(medians["torchcrf"] / medians["ours"], 1)}


# Pairs of entities in one document

PAIR_TOKENS, PAIR_WIDTH, ENTITIES = 300, 384, 60


def pair_cases() -> Iterator[tuple[Row, Callable[[], Row]]]:
    for context, sentences in product(("sentences", "between"), (1, 12)):
        yield {"context": context, "sentences": sentences}, partial(measure_pairs, context, sentences)


def pair_batch(head: SoftmaxPairs, sentences: int) -> Batch:
    """A document whose every 20th pair has a relation."""
    starts: list[bool | int | None] = [i % (PAIR_TOKENS // sentences) == 0 for i in range(PAIR_TOKENS)]
    doc = Doc(spacy.blank("en").vocab, words=["word"] * PAIR_TOKENS, sent_starts=starts)
    doc.set_ents([Span(doc, 5 * i, 5 * i + 1 + i % 3, "ABCD"[i % 4]) for i in range(ENTITIES)])
    candidates = EntityPairs(within="document")(doc)._replace(types=1 + np.arange(ENTITIES) % 4)
    rows = np.arange(0, len(candidates.pairs), 20)
    return head.collate(make_batch([PAIR_TOKENS], CPU), [candidates], [GoldPairs(rows, rows % 5)])


def pool(x: Tensor, starts: Tensor, ends: Tensor, longest: int, maximum: bool = False) -> Tensor:
    """Means, or maxima, of x[start:end], a few rows at a time."""
    results = []
    for first, last in zip(starts.split(128), ends.split(128), strict=True):
        rows = first.unsqueeze(1) + torch.arange(longest)
        inside = (rows < last.unsqueeze(1)).unsqueeze(2)
        values = x[rows.clamp_max(len(x) - 1)]
        if maximum:
            values = values.masked_fill(~inside, -torch.inf).amax(1)
            results.append(values.masked_fill(~inside.any(1), 0.0))
        else:
            results.append((values * inside).sum(1) / inside.sum(1))
    return torch.cat(results)


def pooled(x: Tensor, pairs: Pairs, context: str) -> Tensor:
    """Both entities and the context of each pair."""
    starts, ends = ([side[pairs.heads], side[pairs.tails]] for side in (pairs.starts, pairs.ends))
    parts = [pool(x, start, end, pairs.widest) for start, end in zip(starts, ends, strict=True)]
    if context == "between":
        parts.append(pool(x, torch.minimum(*ends), torch.maximum(*starts), pairs.longest, maximum=True))
    else:
        parts.append(pool(x, pairs.region_starts[pairs.regions], pairs.region_ends[pairs.regions], pairs.longest))
    return torch.cat(parts, dim=1)


def plain_pair_logits(head: SoftmaxPairs, parts: Tensor, pairs: Pairs) -> Tensor:
    assert head.type_vectors is not None and head.type_norm is not None and head.output is not None
    hidden = head.hidden_norm(F.gelu(head.hidden(head.dropout(head.norm(parts)))))
    types = [head.type_vectors(pairs.types[end]) for end in (pairs.heads, pairs.tails)]
    return head.output(head.dropout(torch.cat([head.type_norm(torch.cat(types, dim=1)), hidden], dim=1)))


def measure_pairs(context: str, sentences: int) -> Row:
    torch.manual_seed(0)
    head = SoftmaxPairs(PAIR_WIDTH, labels=list("abcde"), types=list("ABCD"), context=context, dropout_rate=0.1)
    batch = pair_batch(head, sentences)
    pairs: Pairs = batch.items
    x = torch.randn(1, PAIR_TOKENS, PAIR_WIDTH, requires_grad=True)
    ready = pooled(x[0], pairs, context).detach().requires_grad_()
    held = torch.zeros(len(pairs.heads), 5).index_put(tuple(batch.targets), torch.ones(len(batch.targets.rows)))
    head.eval()
    assert torch.allclose(head.logits(x, batch), plain_pair_logits(head, ready, pairs), atol=1e-4)
    head.train()

    def plain(parts: Callable[[], Tensor]) -> None:
        (head.pair_loss(plain_pair_logits(head, parts(), pairs), held) * head.loss_scale).backward()

    medians = milliseconds(
        {
            "ours": lambda: head.loss(x, batch).total.backward(),
            "plain": lambda: plain(lambda: pooled(x[0], pairs, context)),
            "products": lambda: plain(lambda: ready),
        },
        rounds=7,
    )
    return {**medians, "ratio": round(medians["plain_ms"] / medians["ours_ms"], 1)}


# Spans

DOCUMENTS, SPAN_TOKENS, MAX_WIDTH, SPAN_WIDTH = 32, 40, 10, 384
FEATURES: dict[str, dict[str, Any]] = {
    "SpanSynLSTM": {"attention": True, "length_size": 50, "relu_length_size": 0},
    "SpanNER": {"attention": False, "length_size": 50, "relu_length_size": 50},
}
GOLD = np.array([(i, 2, 1 + i % 4) for i in (3, 17, 30)])


def span_cases() -> Iterator[tuple[Row, Callable[[], Row]]]:
    for features in FEATURES:
        yield {"what": features}, partial(measure_spans, features)
    for tokens in (2_500, 5_000, 10_000, 20_000):
        yield {"what": "curve", "tokens": tokens}, partial(measure_curve, tokens)


class PlainSpans(nn.Module):
    """The features of all spans, side by side."""

    def __init__(self, attention: bool, length_size: int, relu_length_size: int) -> None:
        super().__init__()
        size = SPAN_WIDTH * (3 if attention else 2) + length_size + relu_length_size
        self.attention = nn.Linear(SPAN_WIDTH, 1) if attention else None
        self.length, self.relu_length = (nn.Embedding(MAX_WIDTH, width) for width in (length_size, relu_length_size))
        self.hidden, self.output = nn.Linear(size, size), nn.Linear(size, 5)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor, spans: Tensor, classes: Tensor) -> Tensor:
        document, start, width = spans.unbind(1)
        parts = [x[document, start], x[document, start + width - 1]]
        if self.attention is not None:
            steps = torch.arange(MAX_WIDTH)
            tokens = x[document.unsqueeze(1), (start.unsqueeze(1) + steps).clamp(max=SPAN_TOKENS - 1)]  # (S, W, D)
            scores = self.attention(tokens).squeeze(-1).masked_fill(steps >= width.unsqueeze(1), -1e9)
            parts.append((scores.softmax(-1).unsqueeze(-1) * tokens).sum(1))
        parts += [self.length(width - 1), self.relu_length(width - 1).relu()]
        hidden = self.dropout(F.gelu(self.hidden(torch.cat(parts, dim=-1))))
        weight = torch.where(classes > 0, 1.0, 0.5)
        return (weight * F.cross_entropy(self.output(hidden), classes, reduction="none")).sum() / 1000


def span_step(system: str, features: str) -> Callable[[], None]:
    """Forward and backward pass of a system over the batch."""
    torch.manual_seed(0)
    x = torch.randn(DOCUMENTS, SPAN_TOKENS, SPAN_WIDTH, requires_grad=True)
    module: nn.Module
    if system == "ours":
        head = SpanClassifier(
            SPAN_WIDTH, labels=list("abcd"), max_width=MAX_WIDTH, dropout_rate=0.1, **FEATURES[features]
        )
        gold = [GoldSpans(GOLD, *np.ones((2, SPAN_TOKENS), dtype=bool))] * DOCUMENTS
        batch = head.collate(make_batch([SPAN_TOKENS] * DOCUMENTS, CPU), None, gold)

        def total_loss() -> Tensor:
            return head.loss(x, batch).total

        module, loss = head, total_loss
    else:
        spans = [
            (document, start, width)
            for document in range(DOCUMENTS)
            for start in range(SPAN_TOKENS)
            for width in range(1, min(MAX_WIDTH, SPAN_TOKENS - start) + 1)
        ]
        labels = {(start, width): label for start, width, label in GOLD.tolist()}
        classes = torch.tensor([labels.get(span[1:], 0) for span in spans])
        plain = PlainSpans(**FEATURES[features])
        module, loss = plain, partial(plain, x, torch.tensor(spans), classes)

    def step() -> None:
        x.grad = None
        module.zero_grad()
        loss().backward()

    return step


def measure_spans(features: str) -> Row:
    systems = ("ours", "plain")
    medians = milliseconds({system: span_step(system, features) for system in systems}, rounds=9)
    memory = {f"{system}_mib": in_new_process(step_memory, system, features) for system in systems}
    return {**medians, "ratio": round(medians["plain_ms"] / medians["ours_ms"], 1), **memory}


def step_memory(system: str, features: str) -> int:
    """MiB that three steps add to the peak memory of this process."""
    step = span_step(system, features)
    before = peak_memory_mib()
    for _ in range(3):
        step()
    return peak_memory_mib() - before


def measure_curve(tokens: int) -> Row:
    return {"ours_mib": in_new_process(curve, tokens)}


def curve(tokens: int) -> int:
    """MiB that the prediction of one document adds to the peak memory of this process."""
    head = SpanClassifier(SPAN_WIDTH, labels=list("abcd"), max_width=MAX_WIDTH).eval()
    x = torch.randn(1, tokens, SPAN_WIDTH)
    batch = head.collate(make_batch([tokens], CPU), None, None)
    before = peak_memory_mib()
    with torch.no_grad():
        head.predict(x, batch)
    return peak_memory_mib() - before


# Syn-LSTM

HIDDEN = 100


def syn_lstm_cases() -> Iterator[tuple[Row, Callable[[], Row]]]:
    # Documents, tokens, width, whether the lengths differ, rounds.
    cases = {
        "32 x 60 tokens": (32, 60, 768, False, 12),
        "32 x 5 to 60 tokens": (32, 60, 768, True, 12),
        "1 x 100 tokens": (1, 100, 96, False, 12),
        "1 x 1,000 tokens": (1, 1_000, 96, False, 5),
        "1 x 10,000 tokens": (1, 10_000, 96, False, 2),
    }
    for name, sizes in cases.items():
        yield {"case": name}, partial(measure_syn_lstm, *sizes)


class Cell(nn.Module):
    """The published equations."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.i, self.u, self.i_graph, self.u_graph = (nn.Linear(HIDDEN + size, HIDDEN) for _ in range(4))
        self.f, self.o = (nn.Linear(HIDDEN + 2 * size, HIDDEN) for _ in range(2))

    def forward(self, x: Tensor, m: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        hx, hm, hxm = torch.cat([h, x], 1), torch.cat([h, m], 1), torch.cat([h, x, m], 1)
        new = self.i(hx).sigmoid() * self.u(hx).tanh() + self.i_graph(hm).sigmoid() * self.u_graph(hm).tanh()
        c = self.f(hxm).sigmoid() * c + new
        return self.o(hxm).sigmoid() * c.tanh(), c


class LiteralSynLSTM(nn.Module):
    """One step after the other in both directions, padding included."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.cells = nn.ModuleList(Cell(size) for _ in range(2))

    def forward(self, x: Tensor, m: Tensor) -> Tensor:
        directions = []
        for cell, steps in zip(self.cells, (range(x.shape[1]), reversed(range(x.shape[1]))), strict=True):
            h = c = x.new_zeros(len(x), HIDDEN)
            states: dict[int, Tensor] = {}
            for t in steps:
                h, c = cell(x[:, t], m[:, t], h, c)
                states[t] = h
            directions.append(torch.stack([states[t] for t in range(x.shape[1])], 1))
        return torch.cat(directions, -1)


def measure_syn_lstm(documents: int, tokens: int, size: int, ragged: bool, rounds: int) -> Row:
    torch.manual_seed(0)
    x, m = (torch.randn(documents, tokens, size, requires_grad=True) for _ in range(2))
    lengths = np.linspace(5 if ragged else tokens, tokens, documents).astype(int).tolist()
    batch = make_batch(lengths, CPU)
    gradient = torch.randn(documents, tokens, 2 * HIDDEN)
    ours, literal = SynLSTM(size, size, HIDDEN), LiteralSynLSTM(size)
    lstm = nn.LSTM(size, HIDDEN, bidirectional=True, batch_first=True)
    pack = partial(nn.utils.rnn.pack_padded_sequence, batch_first=True, enforce_sorted=False)
    pad = partial(nn.utils.rnn.pad_packed_sequence, batch_first=True, total_length=tokens)

    def step(forward: Callable[[], Tensor]) -> None:
        for module in (ours, literal, lstm):
            module.zero_grad()
        x.grad = m.grad = None
        forward().backward(gradient)

    ms = milliseconds(
        {
            "ours": partial(step, lambda: ours(batch.flatten(x), batch.flatten(m), batch)),
            "literal": partial(step, lambda: literal(x, m)),
            "lstm": partial(step, lambda: pad(lstm(pack(x, torch.tensor(lengths)))[0])[0]),
        },
        rounds,
    )
    ratios = {"literal_to_ours": ms["literal_ms"] / ms["ours_ms"], "ours_to_lstm": ms["ours_ms"] / ms["lstm_ms"]}
    return {**ms, **{name: round(ratio, 2) for name, ratio in ratios.items()}}


SECTIONS = {"crf": crf_cases, "pairs": pair_cases, "spans": span_cases, "syn_lstm_speed": syn_lstm_cases}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", choices=[[], *SECTIONS], help="all if none is given")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for section in options.sections or SECTIONS:
        for keys, measure in SECTIONS[section]():
            if not has_row("speed", section=section, **keys):
                add_row("speed", {"section": section, **keys, **measure(), "threads": options.threads})


if __name__ == "__main__":
    main()
