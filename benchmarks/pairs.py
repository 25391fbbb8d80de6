"""Pairs of entities in one document

`PairSoftmax`, forward and backward, over all 3,540 ordered pairs of 60 entities in a document of 300 tokens, 384 wide,
median of the milliseconds, systems in turn. `plain` pools both entities and their context (the mean of their sentences,
or the maximum over the words between them) anew for every pair and multiplies what it has concatenated;
`products` is no more than its products, with everything pooled beforehand. One sentence, or twelve.

    python benchmarks/pairs.py
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "2")

import statistics
import time
from itertools import product

import spacy
import torch
from rows import add_row, has_row
from spacy.tokens import Doc, Span
from torch import Tensor
from torch.nn import functional as F

from spacy_ner_arch.annotation.candidates import EntityPairs
from spacy_ner_arch.bridge.collate_pairs import collate_pairs
from spacy_ner_arch.nn.pair_softmax import PairSoftmax
from spacy_ner_arch.nn.pairs import Pairs

T, D, E = 300, 384, 60


def candidates(sentences: int) -> Pairs:
    vocab = spacy.blank("en").vocab
    doc = Doc(vocab, words=["word"] * T, sent_starts=[i % (T // sentences) == 0 for i in range(T)])
    doc.set_ents([Span(doc, 5 * i, 5 * i + 1 + i % 3, "ABCD"[i % 4]) for i in range(E)])
    return collate_pairs([EntityPairs(within="document")(doc)], [1 + i % 4 for i in range(E)], torch.device("cpu"))


def pool(x: Tensor, starts: Tensor, ends: Tensor, longest: int, maximum: bool = False) -> Tensor:
    """Means, or maxima, of x[start:end], a few rows at a time."""
    results = []
    for first, last in zip(starts.split(128), ends.split(128), strict=True):
        rows = first.unsqueeze(1) + torch.arange(longest)
        inside = (rows < last.unsqueeze(1)).unsqueeze(2)
        values = x[rows.clamp_max(T - 1)]
        if maximum:
            values = values.masked_fill(~inside, -torch.inf).amax(1)
            results.append(values.masked_fill(~inside.any(1), 0.0))
        else:
            results.append((values * inside).sum(1) / inside.sum(1))
    return torch.cat(results)


def pooled(x: Tensor, pairs: Pairs, context: str) -> Tensor:
    starts, ends = ([side[pairs.heads], side[pairs.tails]] for side in (pairs.starts, pairs.ends))
    parts = [pool(x, start, end, pairs.widest) for start, end in zip(starts, ends, strict=True)]
    if context == "between":
        parts.append(pool(x, torch.minimum(*ends), torch.maximum(*starts), pairs.longest, maximum=True))
    else:
        parts.append(pool(x, pairs.region_starts[pairs.regions], pairs.region_ends[pairs.regions], pairs.longest))
    return torch.cat(parts, dim=1)


def plain_logits(model: PairSoftmax, parts: Tensor, pairs: Pairs) -> Tensor:
    hidden = model.hidden_norm(F.gelu(model.hidden(model.dropout(model.norm(parts)))))
    types = [model.type_vectors(pairs.types[end]) for end in (pairs.heads, pairs.tails)]
    return model.output(model.dropout(torch.cat([model.type_norm(torch.cat(types, dim=1)), hidden], dim=1)))


def measure(context: str, sentences: int) -> dict[str, float]:
    """Medians of the milliseconds of each system."""
    torch.manual_seed(0)
    pairs, x = candidates(sentences), torch.randn(1, T, D, requires_grad=True)
    model = PairSoftmax(D, labels=list("abcde"), types=list("ABCD"), context=context, dropout_rate=0.1)
    kept = torch.arange(len(pairs.heads))
    rows = kept[::20]
    held = torch.zeros(len(kept), 5).index_put((rows, rows % 5), torch.ones(len(rows)))
    ready = pooled(x[0], pairs, context).detach().requires_grad_()
    mask = torch.ones(1, T, dtype=torch.bool)
    model.eval()
    assert torch.allclose(model.logits(x, mask, pairs), plain_logits(model, ready, pairs), atol=1e-4)
    model.train()
    systems = {
        "ours": lambda: model(x, mask, pairs, kept, rows, rows % 5),
        "plain": lambda: model.loss(plain_logits(model, pooled(x[0], pairs, context), pairs), held) * model.loss_scale,
        "products": lambda: model.loss(plain_logits(model, ready, pairs), held) * model.loss_scale,
    }
    times: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(8):
        for name, loss in systems.items():
            start = time.perf_counter()
            loss().backward()
            times[name].append(1000 * (time.perf_counter() - start))
    return {f"{name}_ms": round(statistics.median(values[1:]), 1) for name, values in times.items()}


def main() -> None:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    for context, sentences in product(("sentences", "between"), (1, 12)):
        if not has_row("pairs", context=context, sentences=sentences):
            medians = measure(context, sentences)
            ratio = round(medians["plain_ms"] / medians["ours_ms"], 1)
            add_row("pairs", context=context, sentences=sentences, **medians, ratio=ratio)


if __name__ == "__main__":
    main()
