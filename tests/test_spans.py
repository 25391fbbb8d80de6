"""The span classifier compared with one span at a time in float64 and with dense targets; decoding with search."""

import contextlib
import itertools
from collections import defaultdict

import numpy as np
import pytest
import torch
from conftest import assert_dropout
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.nn import functional as F

from spacy_ner_arch.annotation.spans import GoldSpans, decode_exact, decode_greedy
from spacy_ner_arch.nn import spans as spans_module
from spacy_ner_arch.nn.batch import make_batch
from spacy_ner_arch.nn.growth import UNTRAINED
from spacy_ner_arch.nn.lstm import BiLSTM
from spacy_ner_arch.nn.span_logits import CPU_SPANS, Chunk, SpanList, SpanLogits, chunk_logits
from spacy_ner_arch.nn.spans import SpanClassifier

CPU = torch.device("cpu")
FEATURES = {
    "endpoints": {"attention": False, "length_size": 0},
    "attention": {"length_size": 0},
    "SpanSynLSTM": {},
    "SpanNER": {"attention": False, "relu_length_size": 4},
    "all": {"relu_length_size": 4},
}
LENGTHS = [5, 1, 0, 7, 2]
LABELS = ["A", "B", "C"]
# (document, start, width, class)
GOLD = {(0, 1, 2, 1), (0, 4, 1, 3), (1, 0, 1, 2), (3, 0, 3, 1), (3, 5, 2, 2), (4, 0, 2, 3)}


@pytest.fixture(autouse=True, scope="module")
def small_chunks():
    """Several chunks in a small batch, also on the meta device."""
    with pytest.MonkeyPatch.context() as patch:
        for constant in ("CPU_SPANS", "GPU_SPANS"):
            patch.setattr(spans_module, constant, 4)
        yield


def make(seed=0, max_width=3, width=4, **settings):
    torch.manual_seed(seed)
    settings = {"dropout_rate": 0.0, "loss_scale": 1.0, "length_size": 5, **settings}
    module = SpanClassifier(width, labels=LABELS, max_width=max_width, **settings).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return module


def vectors(lengths=LENGTHS, width=4, seed=1):
    """Random token vectors (B, T, width) with NaN in the padding."""
    torch.manual_seed(seed)
    mask = make_batch(lengths, CPU).mask
    x = torch.randn(*mask.shape, width, dtype=torch.float64).masked_fill(~mask.unsqueeze(-1), torch.nan)
    return x.requires_grad_()


def closed_tokens(b, length, gold, missing, overlap):
    """Of a document, the tokens that only gold spans contain: those with annotation, if spans may overlap without those
    in gold spans."""
    inside = {start + i for d, start, width, _ in gold if d == b for i in range(width)} if overlap else set()
    return np.array([(b, i) not in missing and i not in inside for i in range(length)], dtype=bool)


def collate(module, lengths=LENGTHS, candidates=None, gold=None, missing=(), device=CPU, overlap=False):
    """A batch of the module.

    candidates: (document, start, width), or None for all spans.
    gold: (document, start, width, class), or None to predict.
    missing: (document, token) without annotation.
    overlap: whether gold spans may overlap.
    """
    items = targets = None
    if candidates is not None:
        items = [
            np.array([(i, i + w) for d, i, w in candidates if d == b], dtype=np.int64).reshape(-1, 2)
            for b in range(len(lengths))
        ]
    if gold is not None:
        targets = []
        for b, length in enumerate(lengths):
            annotated = np.array([(b, i) not in missing for i in range(length)], dtype=bool)
            rows = np.array(sorted(row for d, *row in gold if d == b), dtype=np.int64).reshape(-1, 3)
            targets.append(GoldSpans(rows, annotated, closed_tokens(b, length, gold, missing, overlap)))
    return module.collate(make_batch(lengths, device), items, targets)


def loss_of(module, x, gold, lengths=LENGTHS, candidates=None, missing=(), overlap=False):
    loss = module(x, collate(module, lengths, candidates, gold, missing, overlap=overlap))
    assert loss.parts == {}
    return loss.total


def all_spans(max_width, lengths=LENGTHS):
    """(document, start, width) of every span, in the order of the module."""
    return [
        (b, i, w)
        for b, length in enumerate(lengths)
        for i in range(length)
        for w in range(1, min(max_width, length - i) + 1)
    ]


def row_of(b, i, lengths=LENGTHS):
    """Number of token i of document b over all documents."""
    return sum(lengths[:b]) + i


def reference_logits(module, x, spans):
    """Concatenate the features of each span and multiply, one span after the other."""
    rows = []
    for b, i, w in spans:
        tokens = x[b, i : i + w]
        features = [tokens[0], tokens[-1]]
        if module.attention is not None:
            features.append((tokens @ module.attention.weight[0]).softmax(0) @ tokens)
        if module.length is not None:
            features.append(module.length.weight[w - 1])
        if module.relu_length is not None:
            features.append(module.relu_length.weight[w - 1].relu())
        rows.append(module.output(F.gelu(module.hidden(torch.cat(features)))))
    return torch.stack(rows)


def reference_loss(module, logits, spans, gold, missing=(), overlap=False):
    """Cross entropy with an explicit target for each span: a distribution, or with multi_label one for each label."""
    labels_of = defaultdict(set)
    for b, i, w, label in gold:
        if (b, i, w) in spans:
            labels_of[b, i, w].add(label)
    target = logits.new_zeros(len(logits), len(LABELS) + 1)
    for (b, i, w), labels in labels_of.items():
        share = 1 if module.multi_label else 1 / len(labels)
        for label in labels:
            neighbors = [(b, i - 1, w + 1), (b, i + 1, w - 1), (b, i, w + 1), (b, i, w - 1)]
            neighbors = [n for n in neighbors if n in spans]
            moved = module.boundary_smoothing / 4
            target[spans.index((b, i, w)), label] += (1 - moved * len(neighbors)) * share
            for neighbor in neighbors:
                target[spans.index(neighbor), label] += moved * share
    target[:, 0] = 1 - target.sum(1)
    total = logits.new_zeros(())
    for row, (b, i, w) in enumerate(spans):
        closed = closed_tokens(b, i + w, gold, missing, overlap)
        if closed[i:].any() or not {(b, t) for t in range(i, i + w)} & set(missing):
            weight = 1.0 if labels_of[b, i, w] else module.negative_weight
            if module.multi_label:
                total = total + weight * F.binary_cross_entropy_with_logits(
                    logits[row], target[row, 1:], reduction="sum"
                )
            else:
                total = total - weight * (target[row] * logits[row].log_softmax(0)).sum()
    return total * module.loss_scale


def grid(module, x, batch):
    """Logits on the grid (N, W, K + 1); 0 for class 0 and -inf for the labels where there is no span."""
    logits = module.logits(x, batch)
    return batch.items.scatter(logits, logits.new_tensor([0.0, *[-torch.inf] * (logits.shape[1] - 1)]))


def assert_same_gradients(ours, theirs, x, module):
    inputs = [x, *module.parameters()]
    pairs = zip(
        torch.autograd.grad(ours, inputs, retain_graph=True),
        torch.autograd.grad(theirs, inputs, retain_graph=True),
        strict=True,
    )
    for a, b in pairs:
        # The reference never uses the padding, so this also checks that no gradient flows into it.
        assert torch.allclose(a, b, atol=1e-10)


@pytest.mark.parametrize("chunk_spans", [1, 5, CPU_SPANS])
@pytest.mark.parametrize("features", FEATURES)
def test_logits_and_gradients_equal_the_reference(features, chunk_spans, monkeypatch):
    monkeypatch.setattr(spans_module, "CPU_SPANS", chunk_spans)
    module, x = make(**FEATURES[features]), vectors()
    ours = module.logits(x, collate(module))
    theirs = reference_logits(module, x, all_spans(3))
    assert torch.allclose(ours, theirs)
    weights = torch.randn_like(ours)
    assert_same_gradients((ours * weights).sum(), (theirs * weights).sum(), x, module)


@pytest.mark.parametrize("max_width", [1, 2, 6, 20])
def test_widths(max_width):
    module, x = make(max_width=max_width), vectors()
    spans = all_spans(max_width)
    dense = grid(module, x, collate(module))
    assert dense.shape == (sum(LENGTHS), min(max_width, 7), 4)
    expected = torch.full_like(dense, -torch.inf)
    expected[..., 0] = 0.0
    for (b, i, w), logits in zip(spans, reference_logits(module, x, spans), strict=True):
        expected[row_of(b, i), w - 1] = logits
    assert torch.allclose(dense, expected)


def test_long_batches_are_computed_in_pieces(monkeypatch):
    module, x = make(), vectors()
    batch = collate(module)
    whole = module.logits(x, batch)
    monkeypatch.setattr(spans_module, "PIECE_TOKENS", 2)
    pieces = module.logits(x, batch)
    assert len(list(batch.items.cut(0, len(batch.items), len(batch.items), 2))) > 3
    assert torch.allclose(whole, pieces)
    weights = torch.randn_like(whole)
    assert_same_gradients((whole * weights).sum(), (pieces * weights).sum(), x, module)


@pytest.mark.parametrize("size, reach", [(1, 1), (3, 100), (100, 2), (7, 3)])
def test_blocks_cover_every_span_once(size, reach):
    spans = SpanList(make_batch(LENGTHS, CPU), 3)
    blocks = list(spans.cut(2, 25, size, reach))
    assert [block.first for block in blocks] == [2, *(block.last for block in blocks[:-1])] and blocks[-1].last == 25
    for block in blocks:
        token, width = spans.token[block.first : block.last], spans.width[block.first : block.last]
        assert 1 <= len(token) <= size and token.max() - token.min() < reach
        assert block.low == token.min() and block.high == (token + width).max()


@pytest.mark.parametrize("rate", [0.0, 0.5])
@pytest.mark.parametrize("attention", [True, False])
def test_gradcheck(attention, rate):
    torch.manual_seed(0)
    spans = SpanList(make_batch([3, 2], CPU), 2)
    chunks = [
        Chunk(spans.token[b.first : b.last] - b.low, spans.width[b.first : b.last], slice(b.low, b.high))
        for b in spans.cut(0, len(spans), 3, 3)
    ]
    assert len(chunks) > 2
    shapes = [(2, 3), (4, 3), (4,), (5, 3), (5, 3)] + [(5, 3), (5,)] * attention
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(lambda *inputs: SpanLogits.apply(chunks, rate, 11, *inputs), inputs)
    for frozen in range(len(inputs)):
        inputs[frozen].requires_grad_(False)
        assert torch.autograd.gradcheck(lambda *inputs: SpanLogits.apply(chunks, rate, 11, *inputs), inputs)
        inputs[frozen].requires_grad_()


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_zeroes_the_given_share_and_keeps_the_mean(rate):
    spans, width = 400, 500
    chunk = Chunk(torch.zeros(spans, dtype=torch.long), torch.ones(spans, dtype=torch.long), slice(0, 1))
    table = torch.full((1, width), 2.0)
    weight, zeros = torch.eye(width), torch.zeros(1, width)
    hidden = chunk_logits(chunk, rate, 3, zeros, weight, zeros[0], table, zeros)
    full = F.gelu(torch.tensor(2.0))
    assert hidden.unique().tolist() == [0.0, pytest.approx(full.item() / (1 - rate), rel=1e-4)]
    share = (hidden == 0).float()
    assert abs(share.mean() - rate) < 5 * (rate * (1 - rate) / share.numel()) ** 0.5
    for axis in (0, 1):  # by unit and by span
        assert (share.mean(axis) - rate).abs().max() < 6 * (rate * (1 - rate) / share.shape[axis]) ** 0.5
    assert not torch.equal(hidden, chunk_logits(chunk, rate, 4, zeros, weight, zeros[0], table, zeros))


def test_dropout_of_rate_one():
    chunk = Chunk(torch.zeros(4, dtype=torch.long), torch.ones(4, dtype=torch.long), slice(0, 1))
    ones, bias = torch.ones(1, 3), torch.tensor([1.0, 2.0])
    assert (chunk_logits(chunk, 1.0, 3, ones, torch.ones(2, 3), bias, ones, ones) == bias).all()


def test_dropout_follows_the_settings_and_the_seed():
    module, x = make(dropout_rate=None), vectors()
    assert_dropout(module, x, collate(module))


def test_predictions_do_not_depend_on_the_batch():
    module, x = make(max_width=6), vectors()
    (together,) = module(x, collate(module))
    for b, length in enumerate(LENGTHS):
        (alone,) = module(x[b : b + 1, : max(length, 1)], collate(module, [length]))
        assert alone.shape == (length, min(6, max(length, 1)), 4)
        rows = together[row_of(b, 0) : row_of(b, length)]
        assert torch.allclose(rows[:, : alone.shape[1]], alone)
        assert (rows[:, alone.shape[1] :, 0] == 0).all()


def test_predictions_are_log_probabilities():
    module, x = make(), vectors()
    (predicted,) = module(x, collate(module))
    logits = grid(module, x, collate(module))
    exists = torch.zeros(sum(LENGTHS), 3, dtype=torch.bool)
    for b, i, w in all_spans(3):
        exists[row_of(b, i), w - 1] = True
    assert torch.allclose(predicted[exists], logits[exists].log_softmax(-1))
    assert (predicted[~exists] == torch.tensor([0.0] + [-torch.inf] * 3)).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize(
    "gold",
    [
        GOLD,
        set(),
        {(0, 1, 2, 1), (0, 1, 2, 3), (3, 4, 3, 1)},  # two labels on one span
        {(0, 0, 5, 1), (3, 2, 4, 2), (3, 0, 6, 1), (3, 0, 7, 3), (3, 1, 3, 2), (0, 1, 2, 2)},  # too wide
        {(3, 1, 1, 1), (3, 1, 2, 1), (3, 1, 3, 2), (3, 2, 2, 1), (3, 2, 1, 3), (3, 3, 1, 3)},  # neighbors
    ],
)
@pytest.mark.parametrize("missing", [(), ((0, 2), (3, 6)), ((3, 0), (3, 1), (3, 5), (3, 6))])
@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("multi_label", [False, True])
def test_loss_equals_dense_targets(gold, smoothing, missing, overlap, multi_label):
    settings = {"boundary_smoothing": smoothing, "negative_weight": 0.4, "loss_scale": 0.1}
    module, x = make(multi_label=multi_label, **settings), vectors()
    spans = all_spans(3)
    ours = loss_of(module, x, gold, missing=missing, overlap=overlap)
    theirs = reference_loss(module, reference_logits(module, x, spans), spans, gold, missing, overlap)
    assert torch.allclose(ours, theirs)
    assert_same_gradients(ours, theirs, x, module)


def test_predictions_of_several_labels_are_log_odds():
    module, x = make(multi_label=True), vectors()
    module.temperature.fill_(2.0)
    some = all_spans(3)[::2]
    (predicted,) = module(x, collate(module, candidates=some))
    expected = torch.full((15, 3, 3), -torch.inf, dtype=torch.float64)
    for (b, i, w), logits in zip(some, reference_logits(module, x, some), strict=True):
        expected[row_of(b, i), w - 1] = logits / 2
    torch.testing.assert_close(predicted, expected)


def test_held_out_labels_of_one_span_have_a_likelihood_each():
    module, x = make(seed=3, max_width=1, multi_label=True), vectors()
    gold = {(0, 1, 1, 1), (0, 1, 1, 3), (3, 2, 1, 2)}
    held_out = module.held_out(x, collate(module, gold=gold))
    logits = module.logits(x, collate(module))
    target = torch.zeros_like(logits)
    for b, i, _, label in gold:
        target[row_of(b, i), label - 1] = 1.0
    # Labels are counted that the module finds.
    found = logits > 0
    assert held_out.items == found.sum() and set(target[found].tolist()) == {0.0, 1.0}
    expected = F.binary_cross_entropy_with_logits((logits / 0.7)[found], target[found], reduction="sum")
    torch.testing.assert_close(held_out.loss(torch.tensor(0.7, dtype=torch.float64)), expected)


def test_held_out_labels_of_one_span_share_its_probability():
    """One of them was taken at random on a GPU."""
    module, x = make(max_width=1), vectors()
    places = [(b, i) for b, length in enumerate(LENGTHS) for i in range(length)]
    all_logits = module.logits(x, collate(module))
    # Spans are counted in which the model finds something.
    found = [(place, logits) for place, logits in zip(places, all_logits, strict=True) if logits.argmax() > 0]
    first, second, *_ = (place for place, _ in found)
    gold = {(*first, 1, 1), (*first, 1, 3), (*second, 1, 2)}
    held_out = module.held_out(x, collate(module, gold=gold))
    temperature = torch.tensor(0.7, dtype=torch.float64)
    expected = 0.0
    for place, logits in found:
        labels = {first: [1, 3], second: [2]}.get(place, [0])
        expected -= (logits / temperature).log_softmax(0)[labels].mean()
    assert held_out.items == len(found) > 2
    torch.testing.assert_close(held_out.loss(temperature), expected)


def test_boundary_smoothing_changes_the_loss():
    x = vectors()
    assert not torch.isclose(loss_of(make(), x, GOLD), loss_of(make(boundary_smoothing=0.3), x, GOLD))


def test_no_loss_without_annotation():
    module, x = make(), vectors()
    tokens = [(b, i) for b, length in enumerate(LENGTHS) for i in range(length)]
    loss_of(module, x, GOLD, missing=[token for token in tokens if token[0] != 3]).backward()
    assert (x.grad[3] != 0).all() and (x.grad[[0, 1, 2, 4]] == 0).all()
    assert loss_of(module, x, GOLD, missing=tokens) == 0


def test_losses_of_documents_add_up():
    module, x = make(boundary_smoothing=0.2), vectors()
    parts = 0
    for b, length in enumerate(LENGTHS):
        own = {(0, i, w, k) for d, i, w, k in GOLD if d == b}
        parts = parts + loss_of(module, x[b : b + 1, : max(length, 1)], own, [length])
    assert torch.allclose(loss_of(module, x, GOLD), parts)


def test_candidates_select_spans_of_the_grid():
    module, x = make(max_width=6, boundary_smoothing=0.3), vectors()
    spans = all_spans(6)
    everything = spans[::-1] + spans[:4]  # in any order, some of them twice
    full = grid(module, x, collate(module))
    assert torch.equal(grid(module, x, collate(module, candidates=everything)), full)
    assert torch.equal(loss_of(module, x, GOLD, candidates=everything), loss_of(module, x, GOLD))

    some = sorted({*spans[::3], (3, 0, 6), (0, 1, 2)})
    dense = grid(module, x, collate(module, candidates=some))
    for b, i, w in spans:
        if (b, i, w) in some:
            assert torch.allclose(dense[row_of(b, i), w - 1], full[row_of(b, i), w - 1])
        else:
            assert dense[row_of(b, i), w - 1].tolist() == [0.0] + [-torch.inf] * 3
    ours = loss_of(module, x, GOLD, candidates=some)
    theirs = reference_loss(module, reference_logits(module, x, some), some, GOLD)
    assert 0 < len({gold[:3] for gold in GOLD} & set(some)) < len(GOLD)
    assert torch.allclose(ours, theirs)
    assert_same_gradients(ours, theirs, x, module)


def test_candidates_far_apart():
    module, x = make(max_width=300), vectors([2000])
    some = [(0, 0, 1), (0, 3, 300), (0, 900, 250), (0, 1700, 300), (0, 1999, 1)]
    logits = module.logits(x, collate(module, [2000], some))
    assert torch.allclose(logits, reference_logits(module, x, some))


@pytest.mark.parametrize("bad", [(0, 0, 4), (0, 4, 2), (0, -1, 2), (0, 0, 0), (2, 0, 1)])
def test_candidates_outside_the_limits_are_an_error(bad):
    with pytest.raises(ValueError, match="have 1 to 3 tokens"):
        collate(make(), candidates=[bad, (0, 0, 1)])


def test_batches_without_a_span():
    module = make()
    (prediction,) = module(vectors([0, 0]), collate(module, [0, 0]))
    assert prediction.shape == (0, 1, 4)
    x = vectors()
    (prediction,) = module(x, collate(module, candidates=[]))
    assert prediction.shape == (15, 3, 4) and (prediction[..., 0] == 0).all()
    # There is still a graph for the gradient.
    loss_of(module, x, GOLD, candidates=[]).backward()
    assert (x.grad == 0).all()


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e4])
def test_extreme_attention_scores(offset):
    """In float32 a softmax over the whole document would be 0 / 0 for some spans."""
    exact, x = make(max_width=6), vectors([40])
    with torch.no_grad():
        exact.attention.weight.zero_()[0, 0] = 1.0
        x[0, :, 0] = offset + torch.linspace(-300.0, 300.0, 40)[torch.randperm(40)]
        exact.hidden.weight[:, [0, 4, 8]] = 0.0  # only the attention reads the large values
    single = make(max_width=6).float()
    single.load_state_dict(exact.state_dict())
    ours = single.logits(x.float().detach(), collate(single, [40]))
    theirs = exact.logits(x, collate(exact, [40]))
    assert torch.allclose(ours.double(), theirs, rtol=1e-4, atol=1e-3 if offset else 1e-4)


def test_bfloat16_autocast():
    module = make(hidden_size=64, width=16).float()
    x = vectors(width=16).detach().float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        half = loss_of(module, x, GOLD)
        logits = module.logits(x, collate(module))
    full = loss_of(module, x, GOLD)
    assert half.dtype == logits.dtype == torch.float32
    assert half != full and torch.isclose(half, full, rtol=0.05)
    (a,), (b,) = torch.autograd.grad(half, x), torch.autograd.grad(full, x)
    assert F.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 0.99


def bilstm(width):
    return BiLSTM(width, hidden_size=3, dropout_rate=0.0)


def test_encoder():
    module, x = make(encoder=bilstm), vectors().detach().nan_to_num()
    batch = collate(module)
    expected = reference_logits(module, module.encoder(x, batch), all_spans(3))
    assert torch.allclose(module.logits(x, batch), expected)


@pytest.mark.parametrize("encoder", [None, bilstm])
def test_the_host_never_waits_for_the_device(encoder, monkeypatch):
    """On the meta device, which has shapes but no values, every read of a value by the host raises."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())  # unknown to autocast
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)
    device = torch.device("meta")
    module = make(encoder=encoder, boundary_smoothing=0.2).to(device)
    x = vectors().to(device).detach().requires_grad_()
    for candidates in (None, all_spans(3)[::2]):
        batch = collate(module, LENGTHS, candidates, GOLD, [(0, 2)], device)
        module(x, batch).total.backward()
        assert x.grad.shape == x.shape
        assert module(x, collate(module, LENGTHS, candidates, device=device))[0].shape == (15, 3, 4)
    with pytest.raises(RuntimeError, match="meta"):
        int(batch.mask.sum())


def test_new_labels_keep_the_old_ones():
    module, x = make(), vectors()
    module.temperature.fill_(2.0)
    before = module.logits(x, collate(module))
    module.resize(labels=["C", "D", "A", "B"], max_width=3)
    after = module.logits(x, collate(module))
    assert torch.allclose(after[..., [0, 3, 4, 1]], before)
    assert torch.allclose(after[..., 2], after[..., 0] - 2 * UNTRAINED)
    assert module.labels == ["C", "D", "A", "B"]
    with pytest.raises(ValueError, match="built for spans of up to 3 tokens; max_width cannot change"):
        module.resize(labels=LABELS, max_width=4)
    with pytest.raises(ValueError, match="built with multi_label = False, which cannot change"):
        module.resize(labels=LABELS, max_width=3, multi_label=True)


def test_new_labels_beside_several_old_ones():
    module, x = make(multi_label=True), vectors()
    module.temperature.fill_(2.0)
    before = module.logits(x, collate(module))
    module.resize(labels=["C", "D", "A", "B"], max_width=3, multi_label=True)
    after = module.logits(x, collate(module))
    assert torch.allclose(after[..., [2, 3, 0]], before)
    assert torch.allclose(after[..., 1], after.new_tensor(-2 * UNTRAINED))


def test_it_learns():
    """Learn brackets: the two ends and the length determine the entity, the tokens between them do not."""
    torch.manual_seed(0)
    module = SpanClassifier(8, labels=["X", "Y"], max_width=4, dropout_rate=0.1, hidden_size=32, length_size=4)
    tokens = torch.randn(16, 12, 8)
    gold = {(b, int(i), w, w - 1) for b in range(16) for i, w in zip([0, 5, 9], [2, 3, 2], strict=True)}
    for b, i, w, _ in gold:
        tokens[b, i, 0], tokens[b, i + w - 1, 1] = 3.0, 3.0
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        loss_of(module, tokens, gold, [12] * 16).backward()
        optimizer.step()
    with torch.no_grad():
        (predicted,) = module.eval()(tokens, collate(module, [12] * 16))
    scores = predicted.view(16, 12, 4, 3).numpy()
    label, best = scores[..., 1:].argmax(-1) + 1, scores[..., 1:].max(-1)
    gain = best - scores[..., 0]
    for b in range(16):
        expected = sorted((i, i + w, k) for d, i, w, k in gold if d == b)
        assert decode_exact(label[b], gain[b]) == decode_greedy(label[b], gain[b], best[b]) == expected


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"labels": []}, "must not be empty"),
        ({"max_width": 0}, "must not be empty"),
        ({"boundary_smoothing": 1.0}, "boundary_smoothing = 1.0 must be"),
        ({"negative_weight": -1.0}, "negative_weight = -1.0 must be finite and not negative"),
        ({"loss_scale": float("inf")}, "loss_scale = inf must be finite and not negative"),
    ],
)
def test_wrong_settings_are_an_error(settings, message):
    with pytest.raises(ValueError, match=message):
        SpanClassifier(4, **{"labels": LABELS, "max_width": 3, **settings})


# Decoding


def overlap(a, b):
    return a[0] < b[1] and b[0] < a[1]


@st.composite
def scored(draw, tokens=5):
    """Labels, gains and probabilities of all spans of a document. The gains are small integers, so ties occur."""
    shape = draw(st.integers(0, tokens)), draw(st.integers(1, 3))
    gains = draw(arrays(np.float32, shape, elements=st.integers(-2, 4).map(float)))
    outside = np.add.outer(np.arange(shape[0]), np.arange(shape[1])) >= shape[0]
    gains[outside] = -np.inf
    probabilities = draw(arrays(np.float32, shape, elements=st.sampled_from([0.25, 0.5, 0.75, 0.875])))
    return draw(arrays(np.int64, shape, elements=st.integers(1, 9))), gains, probabilities


def value(gains, entities):
    return sum(float(gains[start, end - start - 1]) for start, end, _ in entities)


def check(entities, labels, gains):
    assert entities == sorted(entities)
    assert not any(overlap(a, b) for a, b in itertools.combinations(entities, 2))
    for start, end, label in entities:
        assert gains[start, end - start - 1] > 0 and labels[start, end - start - 1] == label


@settings(max_examples=200)
@given(scored())
def test_exact_decoding_equals_exhaustive_search(document):
    labels, gains, _ = document
    every = [(int(i), int(i + w + 1), 0) for i, w in zip(*np.nonzero(np.isfinite(gains)), strict=True)]

    def best(first):
        """The greatest sum over all sets of non-overlapping spans that begin at `first` or later."""
        choices = [value(gains, [span]) + best(span[1]) for span in every if span[0] >= first]
        return max([0.0, *choices])

    entities = decode_exact(labels, gains)
    check(entities, labels, gains)
    assert value(gains, entities) == best(0)


@settings(max_examples=200)
@given(scored(tokens=9))
def test_greedy_decoding_drops_spans_that_overlap_a_more_probable_one(document):
    labels, gains, probabilities = document
    entities = decode_greedy(labels, gains, probabilities)
    check(entities, labels, gains)
    for i, w in zip(*np.nonzero(gains > 0), strict=True):
        rivals = [e for e in entities if overlap(e, (i, i + w + 1))]
        assert rivals and max(probabilities[s, e - s - 1] for s, e, _ in rivals) >= probabilities[i, w]


def test_greedy_is_not_exact():
    gains = np.array([[-9, 3], [-9, 4], [-9, 3], [-9, -np.inf]], dtype=np.float32)
    labels, probabilities = np.ones((4, 2), dtype=np.int64), np.exp(np.minimum(gains, 0) - 1 / (1 + np.exp(gains)))
    assert decode_exact(labels, gains) == [(0, 2, 1), (2, 4, 1)]
    assert decode_greedy(labels, gains, probabilities) == [(1, 3, 1)]


def test_a_long_document_decodes_like_its_parts():
    rng = np.random.default_rng(0)
    gains = rng.normal(size=(40, 10)).astype(np.float32)
    gains[np.add.outer(np.arange(40), np.arange(10)) >= 40] = -np.inf
    labels, probabilities = rng.integers(1, 5, (40, 10)), rng.random((40, 10))
    long = [np.tile(array, (500, 1)) for array in (labels, gains, probabilities)]
    for decode, arguments in ((decode_exact, 2), (decode_greedy, 3)):
        part = decode(*[labels, gains, probabilities][:arguments])
        expected = [(start + 40 * n, end + 40 * n, label) for n in range(500) for start, end, label in part]
        assert decode(*long[:arguments]) == expected


@pytest.mark.parametrize("multi_label", [False, True])
def test_calibration_finds_the_temperature(multi_label, monkeypatch):
    """Gold spans are drawn from the probabilities at temperature 3. Spans with missing tokens do not count."""
    torch.manual_seed(0)
    module, lengths = make(multi_label=multi_label), [60] * 20
    spans = [(d, i, w) for d in range(20) for i in range(60) for w in range(1, 4) if i + w <= 60]
    logits = 8 * torch.randn(len(spans), 3 if multi_label else 4, dtype=torch.float64)
    if multi_label:
        held, most = torch.bernoulli((logits / 3).sigmoid()).bool(), logits > 0
    else:
        classes = torch.distributions.Categorical(logits=logits / 3).sample()
        held, most = (F.one_hot(k, 4)[:, 1:].bool() for k in (classes, logits.argmax(1)))
    gold = {(*spans[row], k + 1) for row, k in held.nonzero().tolist()}
    missing = {(d, i) for d in range(10) for i in range(60)}
    wrong = {(d, i, w, 1) if (d, 0) in missing else (d, i, w, k) for d, i, w, k in gold}
    monkeypatch.setattr(module, "logits", lambda x, batch: logits)
    x = torch.zeros(len(lengths), 60, 4, dtype=torch.float64)
    with torch.no_grad():
        module.calibrate([(x, collate(module, lengths, gold=gold))])
        assert float(module.temperature) == pytest.approx(3, rel=0.1)
        (predicted,) = module(x, collate(module, lengths))
        # Nor do documents in which only entities are marked, and all of them as the head finds them.
        found = {(*spans[row], k + 1) for row, k in most.nonzero().tolist() if spans[row][0] < 10}
        marked = {(d, i + n) for d, i, w, _ in found for n in range(w) if i < 30}
        sure = {row for row in found if row[1] < 30} | {row for row in gold if row[0] >= 10}
        module.calibrate([(x, collate(module, lengths, gold=sure, missing=missing - marked))])
        assert float(module.temperature) == pytest.approx(3, rel=0.1)
        module.calibrate([(x, collate(module, lengths, gold=wrong, missing=missing))])
        assert float(module.temperature) == pytest.approx(3, rel=0.1)
        monkeypatch.undo()
        module.calibrate([(x[:1, :1], collate(module, [0], gold=set()))])
        assert float(module.temperature) == pytest.approx(3, rel=0.1)
    expected = logits[0] / 3 if multi_label else (logits[0] / 3).log_softmax(-1)
    torch.testing.assert_close(predicted[0, 0], expected, atol=0.3, rtol=0.1)
    assert all(parameter.grad is None for parameter in module.parameters())
