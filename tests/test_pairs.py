"""Compare the pair models with plain loops over one pair at a time, written from the formulas, in float64."""

import itertools
import math
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
import torch
from conftest import assert_dropout
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from spacy_ner_arch.annotation.gold_relations import GoldPairs
from spacy_ner_arch.nn import pair_acnn, pair_softmax, pair_tensors
from spacy_ner_arch.nn.batch import Batch, make_batch
from spacy_ner_arch.nn.dropout import set_dropout
from spacy_ner_arch.nn.growth import UNTRAINED
from spacy_ner_arch.nn.lstm import BiLSTM
from spacy_ner_arch.nn.pair_acnn import ACNNPairs, steps_of_products, unit
from spacy_ner_arch.nn.pair_bilstm import BiLSTMAttentionPairs, BiLSTMPairs
from spacy_ner_arch.nn.pair_markers import MarkerPairs
from spacy_ner_arch.nn.pair_softmax import MultitaskPairs, SoftmaxPairs, TransE, corrupt_labels, steps_between
from spacy_ner_arch.nn.pair_tensors import PairTargets, make_pairs, max_rows, steps_by_pair, steps_by_region

CPU = torch.device("cpu")
WIDTH = 6
LABELS = ["kills", "knows", "owns"]
TYPES = ["PER", "LOC"]
SENTENCES = {"type_size": 3, "context": "sentences"}
BETWEEN = {"type_size": 3, "context": "between"}
SMALL_ACNN = {"filters": 5, "position_size": 3, "max_distance": 2, "pooling": "attention", "loss": "hinge"}
MODELS = {
    "softmax": (SoftmaxPairs, SENTENCES),
    "softmax without types": (SoftmaxPairs, {**SENTENCES, "type_size": 0, "hidden_size": 4}),
    "softmax, between": (SoftmaxPairs, BETWEEN),
    "multitask, between": (MultitaskPairs, {**BETWEEN, "transe_weight": 0.3}),
    "multitask": (MultitaskPairs, {**SENTENCES, "transe_weight": 0.3}),
    "bilstm": (BiLSTMPairs, {"type_size": 3, "hidden_size": 4}),
    "attention": (BiLSTMAttentionPairs, {"type_size": 3, "hidden_size": 4, "position_size": 3, "max_distance": 2}),
    "acnn": (ACNNPairs, SMALL_ACNN),
    "acnn, cross entropy": (ACNNPairs, {**SMALL_ACNN, "loss": "cross_entropy"}),
    "acnn, max": (ACNNPairs, {**SMALL_ACNN, "pooling": "max"}),
    "acnn, max, cross entropy": (ACNNPairs, {**SMALL_ACNN, "pooling": "max", "loss": "cross_entropy"}),
    "markers": (MarkerPairs, {}),
}
WIDER = {"softmax without types": {"hidden_size": 16}, "acnn": {"filters": 16}, "acnn, max": {"filters": 16}}
MULTI_LABEL = [name for name in MODELS if name not in ("acnn", "acnn, max")]  # models that allow several labels a pair
every_model = pytest.mark.parametrize("name", MODELS)


class Document(NamedTuple):
    sentences: list  # number of tokens of each
    entities: list  # (start, end, type)
    pairs: list  # (head, tail)
    gold: set  # (head, tail, label)


class Found(NamedTuple):
    """The part of annotation.candidates.Candidates that the modules read."""

    types: np.ndarray
    bounds: np.ndarray
    pairs: np.ndarray
    regions: np.ndarray


DOCUMENTS = [
    # Entities that overlap and that share their start; pairs within and across sentences.
    Document(
        [4, 3, 2],
        [(0, 2, 1), (1, 4, 2), (0, 1, 1), (5, 7, 0), (8, 9, 2)],
        [(0, 1), (1, 0), (0, 2), (3, 4), (4, 3), (0, 4), (2, 3)],
        {(0, 1, 0), (4, 3, 2), (2, 3, 1)},
    ),
    Document([3], [], [], set()),
    Document([2, 5], [(3, 6, 1), (2, 3, 2)], [(0, 1), (1, 0), (1, 1)], {(0, 1, 1), (1, 1, 2)}),
    Document([3], [(0, 2, 1)], [], set()),
    Document([1], [(0, 1, 2)], [(0, 0)], set()),
]
SEVERAL_LABELS = [document._replace(gold=document.gold | {(1, 0, 0), (1, 0, 2)}) for document in DOCUMENTS]


def some_pairs(documents, chosen):
    """The documents with only some of their pairs, by number over all documents."""
    numbered = iter(range(sum(len(document.pairs) for document in documents)))
    return [
        document._replace(pairs=[pair for pair in document.pairs if next(numbered) in chosen]) for document in documents
    ]


def make(name, seed=0, double=True, **settings):
    torch.manual_seed(seed)
    cls, own = MODELS[name]
    settings = {"labels": LABELS, "types": TYPES, "dropout_rate": 0.0, "loss_scale": 1.0, **own, **settings}
    module = cls(WIDTH, **settings)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return module.double() if double else module


def sentence_of(document, token):
    ends = torch.tensor(document.sentences).cumsum(0).tolist()
    number = next(i for i, end in enumerate(ends) if token < end)
    return ends[number] - document.sentences[number], ends[number]


def region(document, pair):
    """First token of the first and end of the last sentence that the pair touches."""
    touched = [sentence_of(document, t) for e in pair for t in (document.entities[e][0], document.entities[e][1] - 1)]
    return min(start for start, _ in touched), max(end for _, end in touched)


def find(document):
    """Candidates of a document."""

    def rows(values):
        return np.array(values, dtype=np.int64).reshape(-1, 2)

    return Found(
        np.array([kind for *_, kind in document.entities], dtype=np.int64),
        rows([entity[:2] for entity in document.entities]),
        rows(document.pairs),
        rows([region(document, pair) for pair in document.pairs]),
    )


def find_gold(document):
    """Gold relations of a document among its candidates."""
    gold = [(row, k) for row, pair in enumerate(document.pairs) for k in range(3) if (*pair, k) in document.gold]
    return GoldPairs(*np.array(gold, dtype=np.int64).reshape(-1, 2).T)


def make_inputs(module, documents=DOCUMENTS, gold=False, padding=0, seed=1):
    """Token vectors and batch. The padding is NaN, so that a model that reads it fails."""
    lengths = [sum(document.sentences) for document in documents]
    batch = make_batch(lengths, CPU)
    if padding:
        mask = F.pad(batch.mask, (0, padding))
        batch = Batch(batch.lengths, mask, mask.flatten().nonzero().squeeze(1), batch.lengths)
    items = [find(document) for document in documents]
    batch = module.collate(batch, items, [find_gold(document) for document in documents] if gold else None)
    x = torch.full((*batch.mask.shape, WIDTH), torch.nan, dtype=torch.float64)
    for b, document in enumerate(documents):
        torch.manual_seed(seed + 1000 * lengths[b] + len(document.entities))
        x[b, : lengths[b]] = torch.randn(lengths[b], WIDTH, dtype=torch.float64)
    return x.requires_grad_(), batch


def rest_of(loss):
    """The loss without its additional terms."""
    return loss.total - sum(loss.parts.values())


@pytest.fixture(autouse=True, scope="module")
def first_wrong():
    """A replacement of the random `corrupt_labels` of MultitaskPairs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair_softmax, "corrupt_labels", lambda held: (held.argmin(1), held.min(1).values == 0))
        yield


# The formulas for one pair


def run_lstm(lstm, x):
    """States of one sequence without padding."""
    for forward, backward in zip(lstm.forward_layers, lstm.backward_layers, strict=True):
        x = torch.cat([forward(x)[0], backward(x.flip(0))[0].flip(0)], dim=1)
    return x


def position(table, start, end, t, furthest):
    distance = t - start if t < start else max(0, t - (end - 1))
    return table.weight[max(-furthest, min(furthest, distance)) + furthest]


def norm(layer, x):
    centred = x - x.mean()
    return centred / (centred.square().mean() + layer.eps).sqrt() * layer.weight + layer.bias


def softmax_pair(module, tokens, start, end, head, tail):
    e1, e2 = (torch.stack([tokens[t] for t in range(s, e)]).mean(0) for s, e, _ in (head, tail))
    if module.context == "between":
        between = [tokens[t] for t in range(min(head[1], tail[1]), max(head[0], tail[0]))]
        c = torch.stack(between).max(0).values if between else torch.zeros(WIDTH, dtype=tokens.dtype)
    else:
        c = torch.stack([tokens[t] for t in range(start, end)]).mean(0)
    parts = [norm(module.hidden_norm, F.gelu(module.hidden(norm(module.norm, torch.cat([e1, e2, c])))))]
    if module.type_norm is not None:
        types = torch.cat([module.type_vectors.weight[head[2]], module.type_vectors.weight[tail[2]]])
        parts.insert(0, norm(module.type_norm, types))
    return module.output(torch.cat(parts))


def bilstm_pair(module, tokens, start, end, head, tail):
    states = run_lstm(module.lstm, tokens[start:end])
    size = states.shape[1] // 2
    means = [states[s - start : e - start].mean(0) for s, e, _ in (head, tail)]
    types = [module.type_vectors.weight[kind] for *_, kind in (head, tail)]
    return module.output(torch.cat([*types, states[-1, :size], states[0, size:], *means]))


def seen_from(module, tokens, start, end, head, tail):
    """Tokens of the region with their positions."""
    return torch.stack(
        [
            torch.cat(
                [
                    tokens[t],
                    position(module.head_position, *head[:2], t, module.max_distance),
                    position(module.tail_position, *tail[:2], t, module.max_distance),
                ]
            )
            for t in range(start, end)
        ]
    )


def attention_pair(module, tokens, start, end, head, tail):
    states = run_lstm(module.lstm, seen_from(module, tokens, start, end, head, tail))
    alpha = torch.stack([module.query.weight[0] @ state.tanh() for state in states]).softmax(0)
    seen = sum(share * state for share, state in zip(alpha, states, strict=True)).tanh()
    means = [states[s - start : e - start].mean(0) for s, e, _ in (head, tail)]
    types = [module.type_vectors.weight[kind] for *_, kind in (head, tail)]
    return module.output(torch.cat([*types, seen, *means]))


def acnn_pair(module, tokens, start, end, head, tail):
    x = seen_from(module, tokens, start, end, head, tail)
    e1, e2 = (tokens[s:e].mean(0) for s, e, _ in (head, tail))
    alpha = sum((tokens[start:end] @ e / math.sqrt(WIDTH)).softmax(0) for e in (e1, e2)) / 2
    r = len(alpha) * alpha.unsqueeze(1) * x
    c = module.convolution(r.T).T.tanh()
    if module.match is None:
        v = c.max(0).values
    else:
        a = (c @ module.match.weight @ module.relations.weight.T).softmax(0)
        v = (c.T @ a).max(1).values
    if module.output is not None:
        return module.output(v)
    return -torch.stack([(v / v.norm() - m / m.norm()).norm() for m in module.relations.weight])


def marker_pair(module, tokens, start, end, head, tail):
    return module.output(torch.cat([tokens[head[0]], tokens[tail[0]]]))


FORMULAS = {
    SoftmaxPairs: softmax_pair,
    MultitaskPairs: softmax_pair,
    BiLSTMPairs: bilstm_pair,
    BiLSTMAttentionPairs: attention_pair,
    ACNNPairs: acnn_pair,
    MarkerPairs: marker_pair,
}


def reference_logits(module, x, documents=DOCUMENTS):
    return torch.stack(
        [
            FORMULAS[type(module)](module, x[b], *region(document, pair), *(document.entities[e] for e in pair))
            for b, document in enumerate(documents)
            for pair in document.pairs
        ]
    )


def labels_of_pairs(documents=DOCUMENTS):
    """Gold labels of each pair."""
    return [[k for k in range(3) if (*pair, k) in document.gold] for document in documents for pair in document.pairs]


def reference_loss(module, logits, labels):
    """Sum over the pairs; logits (P, C), labels of each pair."""
    total = logits.new_zeros(())
    weight_of = [module.class_weights.get(label, 1.0) for label in module.labels]
    for scores, held in zip(logits, labels, strict=True):
        if module.multi_label:
            for k, score in enumerate(scores):
                if k in held:
                    total = total - weight_of[k] * score.sigmoid().log()
                else:
                    total = total - (1.0 if held else module.negative_weight) * (1 - score.sigmoid()).log()
            continue
        gold = [k + 1 for k in held] or [0]
        for k in gold:
            weight = weight_of[k - 1] / len(gold) if k else module.negative_weight
            if getattr(module, "hinge", False):
                wrong = min(-scores[y] for y in range(len(scores)) if y not in gold)
                total = total + weight * (1 - scores[k] - wrong).clamp_min(0)
            else:
                total = total - weight * (scores[k].exp() / scores.exp().sum()).log()
    return total


def reference_transe(module, x, documents, gold, corrupt):
    """gold: (document, head, tail, label); corrupt: a wrong label for each."""
    total = x.new_zeros(())
    for (b, head, tail, label), wrong in zip(gold, corrupt, strict=True):
        if module.labels[label] in module.symmetric:
            continue
        e1, e2 = (x[b, s:e].mean(0) for s, e, _ in (documents[b].entities[e] for e in (head, tail)))
        right, other = (norm(module.transe.norm, module.transe.labels.weight[k]) for k in (label, wrong))
        share = sum(relation[:3] == (b, head, tail) for relation in gold)
        d_right, d_other = ((e1 + translation - e2).square().sum() for translation in (right, other))
        total = total + (d_right - d_other + 1).clamp_min(0) / share
    return total * module.transe_weight


def assert_same_gradients(ours, theirs, x, module):
    inputs = [x, *module.parameters()]
    both = (torch.autograd.grad(y, inputs, retain_graph=True, allow_unused=True) for y in (ours, theirs))
    for a, b, like in zip(*both, inputs, strict=True):
        a, b = (torch.zeros_like(like) if g is None else g for g in (a, b))
        assert torch.allclose(a, b, atol=1e-9)


# Batches


def test_make_pairs():
    pairs = make_pairs([find(document) for document in DOCUMENTS], 10, CPU)
    entities, rows, regions = [], [], []
    for b, document in enumerate(DOCUMENTS):
        first_entity = len(entities)
        entities += [(b, *entity) for entity in document.entities]
        for head, tail in document.pairs:
            rows.append((first_entity + head, first_entity + tail))
            regions.append((b, *region(document, (head, tail))))
    assert torch.stack(pairs[:4], 1).tolist() == list(map(list, entities))
    assert torch.stack([pairs.heads, pairs.tails], 1).tolist() == list(map(list, rows))
    every_region = torch.stack([pairs.region_documents, pairs.region_starts, pairs.region_ends], 1)
    assert every_region[pairs.regions].tolist() == list(map(list, regions))
    assert len(every_region) == len(set(regions)), "each region is kept once"
    assert (pairs.widest, pairs.steps) == (3, 10)
    layout = pairs.layout
    in_order = [(rows[i], regions[i]) for i in pairs.order.tolist()]
    assert pairs.order[pairs.rank].tolist() == list(range(11)) and sorted(regions) == [where for _, where in in_order]
    flat = [[10 * b + first, 10 * b + last] for _, (b, first, last) in in_order]
    assert layout.tokens[layout.regions].tolist() == flat
    assert layout.lengths[layout.regions].tolist() == [last - first for first, last in flat]
    assert layout.entities.tolist() == [sorted(row) for row, _ in in_order]
    for (head, tail), between in zip([row for row, _ in in_order], layout.between.tolist(), strict=True):
        (b, *one, _), (_, *other, _) = entities[head], entities[tail]
        assert between == [10 * b + min(one[1], other[1]), 10 * b + max(one[0], other[0])]


def test_collate():
    batch = make_inputs(make("softmax"), gold=True)[1]
    assert batch.counts.tolist() == [7, 0, 3, 0, 1]
    assert batch.targets.rows.tolist() == [0, 4, 6, 7, 9] and batch.targets.classes.tolist() == [0, 2, 1, 1, 2]
    assert make_inputs(make("softmax"))[1].targets is None


@pytest.mark.parametrize("longest", [1, 2, 7, 8, 9])
def test_max_rows(longest):
    table = torch.randn(9, 3)
    spans = [(start, length) for start in range(9) for length in range(-2, min(longest, 9 - start) + 1)]
    starts, lengths = torch.tensor(spans).unbind(1)
    found = max_rows(table, starts, lengths, longest)
    for (start, length), row in zip(spans, found, strict=True):
        expected = table[start : start + length].amax(0) if length > 0 else torch.zeros(3)
        assert torch.equal(row, expected)


# All models


@every_model
def test_logits_and_gradients_equal_the_formulas(name):
    module = make(name)
    x, batch = make_inputs(module)
    ours, theirs = module.logits(x, batch), reference_logits(module, x)
    assert ours.shape == (11, 4) and torch.allclose(ours, theirs)
    weights = torch.randn_like(ours)
    assert_same_gradients((ours * weights).sum(), (theirs * weights).sum(), x, module)


@pytest.mark.parametrize("window", [1, 5])
def test_other_windows(window):
    module = make("acnn", window=window)
    x, batch = make_inputs(module)
    assert torch.allclose(module.logits(x, batch), reference_logits(module, x))


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_loss_of_a_sample_is_its_likelihood(multi_label):
    """Pairs without a label are rarer in it by the share that was sampled, whatever the model says of each pair."""
    module = make("softmax", multi_label=multi_label)
    shares = [0.25, 0.01, 1.0]
    logits = torch.randn(3, len(LABELS) + (not multi_label), dtype=torch.float64)
    sizes = range(len(LABELS) + 1) if multi_label else (0, 1)
    sets = [{*some} for size in sizes for some in itertools.combinations(range(len(LABELS)), size)]
    for scores, share in zip(logits, shares, strict=True):
        before = [math.exp(-reference_loss(module, scores.unsqueeze(0), [some])) for some in sets]
        assert sum(before) == pytest.approx(1)
        sampled = [p * (1.0 if some else share) for p, some in zip(before, sets, strict=True)]
        for p, some in zip(sampled, sets, strict=True):
            held = torch.tensor([[float(k in some) for k in range(len(LABELS))]], dtype=torch.float64)
            loss = module.sampled_loss(scores.unsqueeze(0), held, torch.tensor([share], dtype=torch.float64).log())
            assert math.exp(-loss) == pytest.approx(p / sum(sampled))


@every_model
def test_samples_in_the_targets(name):
    """The share of each document reaches its pairs. Without samples, nothing is sent to the device."""
    module = make(name)
    x, batch = make_inputs(module, gold=True)
    whole = module(x, batch).total
    assert batch.targets.log_shares is None
    gold = [find_gold(document)._replace(share=0.5) for document in DOCUMENTS]
    batch = module.collate(batch, [find(document) for document in DOCUMENTS], gold)
    assert batch.targets.log_shares.tolist() == pytest.approx([math.log(0.5)] * sum(batch.counts))
    assert not torch.allclose(module(x, batch).total, whole)


def results(module, x, batch):
    """Logits, loss and all gradients."""
    torch.manual_seed(5)
    logits, loss = module.logits(x, batch), module(x, batch).total
    inputs = [x, *module.parameters()]
    gradients = torch.autograd.grad(loss + logits.square().sum(), inputs, allow_unused=True)
    return [logits, loss, *(torch.zeros_like(y) if g is None else g for y, g in zip(inputs, gradients, strict=True))]


@every_model
@pytest.mark.parametrize("steps, pairs", [(18, 100), (1, 100), (100, 2)])
def test_computing_in_pieces_changes_nothing(name, steps, pairs, monkeypatch):
    """Also not the sampled dropout, when activations are computed again in the backward pass."""
    module = make(name)
    x, batch = make_inputs(module, gold=True)
    whole = results(module, x, batch)
    monkeypatch.setattr(pair_tensors, "CPU_STEPS", steps)
    monkeypatch.setattr(pair_tensors, "CPU_PAIRS", pairs)
    monkeypatch.setattr(pair_acnn, "PRODUCTS", 0)
    monkeypatch.setattr(pair_acnn, "PRODUCTS_OF_STEP", 1)
    cut = results(module, x, batch)
    assert all(torch.allclose(a, b) for a, b in zip(whole, cut, strict=True))
    set_dropout(dropping := make(name, dropout_rate=None), 0.4)
    kept = results(dropping, x, batch)
    monkeypatch.setattr(pair_tensors, "KEPT_PIECES", 1)
    again = results(dropping, x, batch)
    assert all(torch.allclose(a, b) for a, b in zip(kept, again, strict=True))


def many_pairs(entities):
    """A document of one sentence with entities of one token."""
    pairs = [(i, j) for i in range(entities) for j in range(entities) if i != j]
    return [Document([20], [(i, i + 1, 1) for i in range(entities)], pairs, {(0, 1, 1)})]


@pytest.mark.parametrize("cost", [steps_by_pair, steps_by_region, steps_between, steps_of_products])
def test_pieces(cost, monkeypatch):
    """Every pair is in one piece, which has at most the allowed steps or a single pair."""
    monkeypatch.setattr(pair_tensors, "CPU_STEPS", 12)
    monkeypatch.setattr(pair_tensors, "CPU_PAIRS", 3)
    _, batch = make_inputs(make("softmax"))
    pairs = batch.items
    found = list(pair_tensors.pieces(pairs, cost))
    assert torch.equal(torch.cat([piece.rows for piece in found]), pairs.order) and len(found) > 3
    for piece in found:
        regions = pairs.layout.regions[piece.place]
        assert set(regions.tolist()) <= set(range(piece.regions.start, piece.regions.stop))
        assert piece.longest == pairs.layout.lengths[piece.regions].max()
        steps = cost(pairs.layout, piece.place)
        assert len(steps) == len(piece.rows) <= 3 and (np.diff(steps) >= 0).all()
        assert len(steps) == 1 or steps[-1] <= 12


@every_model
def test_kept_activations_do_not_grow_with_the_pairs(name, monkeypatch):
    monkeypatch.setattr(pair_tensors, "CPU_STEPS", 40)
    monkeypatch.setattr(pair_tensors, "CPU_PAIRS", 20)
    module = make(name)

    def kept_bytes(entities):
        x, batch = make_inputs(module, many_pairs(entities), gold=True)
        sizes = {}

        def note(tensor):
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes(), tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            module(x, batch)
        return sum(size for size, _ in sizes.values())

    def bytes_per_pair():
        return (kept_bytes(16) - kept_bytes(8)) / (16 * 15 - 8 * 7)

    # Logits, loss and what belongs to a piece: columns of 8 bytes.
    assert bytes_per_pair() < 8 * 40
    monkeypatch.setattr(pair_tensors, "KEPT_PIECES", 1_000)
    assert name == "markers" or bytes_per_pair() > 8 * 50


@every_model
@pytest.mark.parametrize("weighted", [False, True])
def test_loss(name, weighted):
    settings = {"negative_weight": 0.4, "class_weights": {"owns": 3.0}, "loss_scale": 0.1} if weighted else {}
    module = make(name, **settings)
    for documents in (DOCUMENTS, some_pairs(DOCUMENTS, {0, 4, 7, 9, 10})):
        x, batch = make_inputs(module, documents, gold=True)
        loss = module(x, batch)
        theirs = reference_loss(module, reference_logits(module, x, documents), labels_of_pairs(documents))
        theirs = theirs * module.loss_scale
        assert torch.allclose(rest_of(loss), theirs)
        if not name.startswith("multitask"):
            assert loss.parts == {}
            assert_same_gradients(loss.total, theirs, x, module)


@every_model
def test_several_labels_share_the_target_probability(name):
    module = make(name, class_weights={"owns": 3.0})
    x, batch = make_inputs(module, SEVERAL_LABELS, gold=True)
    assert len(batch.targets.rows) == 9
    theirs = reference_loss(module, reference_logits(module, x), labels_of_pairs(SEVERAL_LABELS))
    assert torch.allclose(rest_of(module(x, batch)), theirs)


@pytest.mark.parametrize("name", MULTI_LABEL)
@pytest.mark.parametrize("weighted", [False, True])
def test_multi_label_has_a_sigmoid_for_each_label(name, weighted):
    settings = {"negative_weight": 0.4, "class_weights": {"owns": 3.0}} if weighted else {}
    module = make(name, multi_label=True, **settings)
    x, batch = make_inputs(module, SEVERAL_LABELS, gold=True)
    logits = reference_logits(module, x)
    assert logits.shape == (11, 3)
    theirs = reference_loss(module, logits, labels_of_pairs(SEVERAL_LABELS))
    assert torch.allclose(rest_of(module(x, batch)), theirs)
    log_probabilities, odds = module.predict(x, batch)
    assert torch.allclose(odds, logits) and torch.allclose(log_probabilities.exp(), logits.sigmoid())


@every_model
def test_predictions(name):
    module = make(name)
    x, batch = make_inputs(module)
    log_probabilities, odds = module(x, batch)
    assert log_probabilities.shape == odds.shape == (11, 3) and batch.counts.sum() == 11
    expected = reference_logits(module, x).softmax(1)
    assert torch.allclose(log_probabilities.exp(), expected[:, 1:])
    assert torch.allclose(odds.exp(), expected[:, 1:] / expected[:, :1])


@every_model
def test_encoder(name):
    """A model with an encoder equals the model without one on the states of the encoder."""
    module = make(name, encoder=partial(BiLSTM, hidden_size=4))
    x, batch = make_inputs(module, gold=True)
    x = x.detach().nan_to_num()  # encoders may read the padding, which the bridge fills with zeros
    assert module.width == module.encoder.output_size == 8
    whole, logits = module(x, batch), module.logits(module.encode(x, batch), batch)
    assert whole.total.isfinite() and logits.isfinite().all()
    gradients = torch.autograd.grad(whole.total, module.encoder.parameters())
    assert all(gradient.isfinite().all() and gradient.abs().sum() > 0 for gradient in gradients)
    states = torch.stack(
        [
            F.pad(run_lstm(module.encoder, row[:length]), (0, 0, 0, x.shape[1] - length))
            for row, length in zip(x, batch.lengths.tolist(), strict=True)
        ]
    )
    encoder, module.encoder = module.encoder, None
    assert torch.allclose(module.logits(states, batch), logits)
    assert torch.allclose(module(states, batch).total, whole.total)
    batch.targets = None
    expected = module(states, batch)
    module.encoder = encoder
    assert all(torch.allclose(a, b) for a, b in zip(module(x, batch), expected, strict=True))


@every_model
def test_other_documents_and_padding_do_not_matter(name):
    module = make(name)
    x, batch = make_inputs(module)
    together = module(x, batch)

    def assert_same(others):
        for a, b in zip(together, others, strict=True):
            assert torch.allclose(a, b)

    assert_same(module(*make_inputs(module, padding=4)))
    batch.items = batch.items._replace(
        widest=batch.items.widest + 3, layout=batch.items.layout._replace(lengths=batch.items.layout.lengths + 4)
    )
    assert_same(module(x, batch))
    alone = [module(*make_inputs(module, [document])) for document in DOCUMENTS]
    assert_same([torch.cat(parts) for parts in zip(*alone, strict=True)])


@every_model
def test_the_order_of_documents_does_not_matter(name):
    module = make(name)
    x, batch = make_inputs(module)
    turned = module(*make_inputs(module, DOCUMENTS[::-1]))
    ends = batch.counts[::-1].cumsum().tolist()
    for a, b in zip(module(x, batch), turned, strict=True):
        parts = [b[end - count : end] for end, count in zip(ends, batch.counts[::-1], strict=True)]
        assert torch.allclose(a, torch.cat(parts[::-1]))


@every_model
def test_losses_add_up(name):
    module = make(name)

    def loss(documents):
        return module(*make_inputs(module, documents, gold=True)).total

    whole = loss(DOCUMENTS)
    assert torch.allclose(whole, loss(DOCUMENTS[:1]) + loss(DOCUMENTS[1:2]) + loss(DOCUMENTS[2:]))
    even, odd = some_pairs(DOCUMENTS, range(0, 11, 2)), some_pairs(DOCUMENTS, range(1, 11, 2))
    assert torch.allclose(whole, loss(even) + loss(odd))


@every_model
@pytest.mark.parametrize(
    "documents",
    [DOCUMENTS[1:2], DOCUMENTS[3:4], [DOCUMENTS[1], DOCUMENTS[3]], some_pairs(DOCUMENTS, ())],
    ids=["no entity", "one entity", "both", "no pair"],
)
def test_without_pairs(name, documents):
    module = make(name)
    predictions = module(*make_inputs(module, documents))
    assert [scores.shape for scores in predictions] == [(0, 3)] * 2
    x, batch = make_inputs(module, documents, gold=True)
    loss = module(x, batch)
    loss.total.backward()
    assert loss.total == 0 and loss.total.shape == () and x.grad.shape == x.shape and (x.grad == 0).all()
    assert loss.parts == dict.fromkeys(module.terms, 0)


# Single models


@every_model
def test_dropout(name):
    module = make(name, dropout_rate=None)
    assert_dropout(module, *make_inputs(module))


@pytest.mark.parametrize("context", ["sentences", "between"])
def test_dropout_of_the_softmax_model_is_sampled_once_per_entity_and_context(context):
    """With elements of entities and contexts set to zero or doubled, the hidden layer still equals the formula."""
    module = make("softmax", context=context)
    x, batch = make_inputs(module)
    pairs = batch.items
    (piece,) = pair_tensors.pieces(pairs, steps_by_region)
    tokens = x.flatten(0, 1)
    contexts, own = module._contexts(tokens, pairs, piece)
    sampled = []

    class Sample(torch.nn.Module):
        def forward(self, y):
            sampled.append(2.0 * torch.randint(0, 2, y.shape).to(y))
            return y * sampled[-1]

    module.dropout = Sample()
    hidden_rows = []
    module._hidden = lambda *arguments: hidden_rows.append(SoftmaxPairs._hidden(module, *arguments)) or hidden_rows[-1]
    module.logits(x, batch)
    entities = module.mean_entities(x, pairs) * sampled[0]
    number = len(pairs.region_starts) if context == "sentences" else 11
    assert [len(factors) for factors in sampled] == [len(pairs.starts), number, 11, 11]
    hidden, own = hidden_rows[0][pairs.rank], own[pairs.rank]
    for p in range(11):
        c = contexts[own[p]] * sampled[1][own[p]]
        z = torch.cat([entities[pairs.heads[p]], entities[pairs.tails[p]], c])
        assert torch.allclose(hidden[p], module.hidden(norm(module.norm, z)))


@pytest.mark.parametrize("symmetric", [(), ("knows",)])
def test_transe_term(symmetric, monkeypatch):
    module = make("multitask", symmetric=symmetric, loss_scale=0.1)
    x, batch = make_inputs(module, SEVERAL_LABELS, gold=True)
    names = [(b, *pair) for b, document in enumerate(DOCUMENTS) for pair in document.pairs]
    gold = [(*names[row], k) for row, k in zip(*(column.tolist() for column in batch.targets[:2]), strict=True)]
    sampled = []

    def corrupt(held):
        sampled.append(corrupt_labels(held))
        return sampled[-1]

    monkeypatch.setattr(pair_softmax, "corrupt_labels", corrupt)
    total, parts = module(x, batch)
    (wrong, exists) = sampled[0]
    assert exists.all() and not {(*relation[:3], int(k)) for relation, k in zip(gold, wrong, strict=True)} & set(gold)
    term = reference_transe(module, x, DOCUMENTS, gold, wrong) * 0.1
    assert term > 0 and torch.allclose(parts["transe"], term) and not parts["transe"].requires_grad
    theirs = reference_loss(module, reference_logits(module, x), labels_of_pairs(SEVERAL_LABELS)) * 0.1 + term
    assert torch.allclose(total, theirs)
    assert_same_gradients(total, theirs, x, module)


def test_transe_term_is_zero_with_a_single_label():
    module = make("multitask", labels=["kills"])
    x, batch = make_inputs(module, gold=True)
    batch.targets = batch.targets._replace(classes=torch.zeros_like(batch.targets.classes))
    assert module(x, batch).parts == {"transe": 0}


def test_corrupt_labels_are_uniform():
    torch.manual_seed(0)
    held = torch.tensor([[0.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    wrong, exists = corrupt_labels(held.repeat(3000, 1))
    assert exists.tolist() == [True, True, False] * 3000
    counts = wrong.view(3000, 3)[:, 0].bincount(minlength=4)
    assert counts[1] == 0 and (counts[[0, 2, 3]] - 1000).abs().max() < 150
    assert (wrong.view(3000, 3)[:, 1] == 2).all()


def test_transe():
    torch.manual_seed(0)
    module = TransE(3, 4)
    with torch.no_grad():
        module.labels.weight[0] = torch.tensor([1.0, -1.0, 1.0, -1.0])
        module.labels.weight[1] = torch.tensor([-1.0, 1.0, -1.0, 1.0])
    difference = torch.tensor([[-1.0, 1.0, -1.0, 1.0]])
    zero, one = torch.tensor([0]), torch.tensor([1])
    assert module(difference, zero, one) == 0, "the entities differ by the translation of label 0"
    assert module(difference, one, zero).item() == pytest.approx(17, abs=1e-3)


def test_only_trained_label_vectors_count_their_gold_labels():
    """A label of the hinge is found once it was trained."""
    module = make("acnn")
    x, batch = make_inputs(module, gold=True)
    for is_trained in (False, True):
        module.relations.weight.requires_grad_(is_trained)
        before = module.gold_counts.clone()
        module(x, batch)
        assert torch.equal(before, module.gold_counts) != is_trained


def test_a_satisfied_hinge_has_no_gradient():
    module = make("acnn")
    with torch.no_grad():  # the pooled vector of every pair has the direction of class 0
        module.convolution.weight.zero_()
        module.convolution.bias.fill_(0.5)
        module.relations.weight.fill_(-1.0)[0] = 1.0
    unrelated = [document._replace(gold=set()) for document in DOCUMENTS]
    x, batch = make_inputs(module, unrelated, gold=True)
    loss = module(x, batch).total
    assert loss == 0
    for gradient in torch.autograd.grad(loss, [x, *module.parameters()]):
        assert (gradient == 0).all()
    # The distance to the right class is 2, that to the nearest wrong one 0.
    x, batch = make_inputs(module, gold=True)
    assert module(x, batch).total.item() == pytest.approx(3 * len(batch.targets.rows))


@pytest.mark.parametrize("zero", ["relations", "pooled", "both", "same"])
def test_gradient_of_the_hinge_is_finite_at_zero(zero):
    module = make("acnn")
    with torch.no_grad():
        if zero in ("relations", "both"):
            module.relations.weight.zero_()
        if zero in ("pooled", "both"):
            module.convolution.weight.zero_()
            module.convolution.bias.zero_()
        if zero == "same":  # the pooled vector has the direction of a relation
            module.relations.weight.fill_(1.0)
            module.convolution.weight.zero_()
            module.convolution.bias.fill_(0.5)
    x, batch = make_inputs(module, gold=True)
    for gradient in torch.autograd.grad(module(x, batch).total, [x, *module.parameters()]):
        assert gradient.isfinite().all() and gradient.abs().max() < 1e3


def test_unit():
    rows = unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    assert torch.allclose(rows, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


# Growing


@every_model
@pytest.mark.parametrize("multi_label", [False, True])
def test_new_labels_and_types_keep_the_old_scores(name, multi_label):
    if multi_label and name not in MULTI_LABEL:
        pytest.skip("one label per pair")
    module = make(name, multi_label=multi_label, symmetric=["owns"], class_weights={"knows": 2.0})
    module.temperature.fill_(0.5)
    x, batch = make_inputs(module)
    before = module.logits(x, batch).detach()
    labels, types = ["owns", "new", "kills", "knows"], ["ORG", "LOC", "PER"]
    module.resize(labels=labels, types=types, symmetric=["owns", "new"], multi_label=multi_label)
    batch.items = batch.items._replace(types=torch.tensor([0, 3, 2])[batch.items.types])
    places = [2, 3, 0] if multi_label else [0, 3, 4, 1]
    after = module.logits(x, batch)
    assert torch.allclose(after[:, places], before)
    # Its log odds after the division by the temperature, against no relation or against its absence.
    odds = after[:, 1] if multi_label else after[:, 2] - after[:, 0]
    assert torch.allclose(odds / 0.5, torch.tensor(-UNTRAINED).double())
    assert module.labels == labels and module.types == types and module.symmetric == ["owns", "new"]
    assert module.weights.tolist() == [1, 1, 1, 2] and module.both_ways.tolist() == [True, True, False, False]

    # New labels can be learned.
    x, batch = make_inputs(module, some_pairs(DOCUMENTS, {0, 3}))
    batch.targets = PairTargets(torch.tensor([0, 1]), torch.tensor([1, 2]))
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        module(x, batch).total.backward()
        optimizer.step()
    learned = module.logits(x, batch).argmax(1)
    assert learned.tolist() == ([1, 2] if multi_label else [2, 3])


def test_growing_the_label_vectors():
    module = make("multitask")
    before = module.transe.labels.weight.detach().clone()
    module.resize(["owns", "new", "kills"], TYPES, [], False)
    assert torch.equal(module.transe.labels.weight[[0, 2]], before[[2, 0]])


def test_an_error_while_growing_changes_nothing():
    module = make("softmax")
    with pytest.raises(ValueError, match="multi_label = False"):
        module.resize([*LABELS, "new"], TYPES, [], True)
    assert module.output.out_features == 4 and module.labels == LABELS


@pytest.mark.parametrize(
    "name, settings, message",
    [
        ("softmax", {"labels": []}, "labels must not be empty"),
        ("softmax", {"class_weights": {"owns": -1.0}}, "finite and not negative"),
        ("softmax", {"class_weights": {"owns": math.nan}}, "finite and not negative"),
        ("softmax", {"negative_weight": math.inf}, "finite and not negative"),
        ("softmax", {"context": "before"}, "context must be"),
        ("multitask", {"transe_weight": -1.0}, "finite and not negative"),
        ("attention", {"position_size": 0}, "must be positive"),
        ("acnn", {"window": 2}, "window must be odd"),
        ("acnn", {"pooling": "mean"}, "pooling must be"),
        ("acnn", {"loss": "mse"}, "loss must be"),
        ("acnn", {"multi_label": True}, "allows one label per pair"),
    ],
)
def test_bad_settings(name, settings, message):
    with pytest.raises(ValueError, match=message):
        make(name, **settings)


# Precision and devices


@every_model
def test_half_precision(name):
    module = make(name, double=False)
    x, with_gold = make_inputs(module, gold=True)
    _, without_gold = make_inputs(module)
    x = x.detach().float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        half = module(x, with_gold).total
        predictions = module(x, without_gold)
    full = module(x, with_gold).total
    assert {half.dtype, *(scores.dtype for scores in predictions)} == {torch.float32}
    assert torch.isclose(half, full, rtol=0.05)
    (gradient,) = torch.autograd.grad(half, x)
    assert gradient[with_gold.mask].isfinite().all()


class NoSync(TorchDispatchMode):
    """Raise on every operation for which the host would wait for a GPU."""

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        name = function.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "item", "nonzero", "masked_select", "_unique2", "unique_dim"), name
        if name in ("index", "index_put", "index_put_"):
            assert all(i is None or i.dtype != torch.bool for i in arguments[1]), "a mask as an index"
        return function(*arguments, **(keywords or {}))


@every_model
def test_the_host_waits_for_nothing(name):
    module = make(name, symmetric=["knows"])
    x, with_gold = make_inputs(module, gold=True)
    _, without_gold = make_inputs(module)
    with NoSync():
        module(x, with_gold)
        module(x, without_gold)
        batch = make_batch(with_gold.lengths, CPU)
        module.collate(batch, [find(document) for document in DOCUMENTS], [find_gold(doc) for doc in DOCUMENTS])
    with pytest.raises(AssertionError, match="a mask as an index"), NoSync():
        x[with_gold.mask]


@pytest.mark.parametrize("name", [name for name in MODELS if name != "markers"])  # a linear layer alone
def test_learning(name):
    """Some models need more units than in the other tests."""
    module = make(name, double=False, **WIDER.get(name, {}))
    x, batch = make_inputs(module, gold=True)
    x = x.detach().float()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        module(x, batch).total.backward()
        optimizer.step()
    module.eval()
    expected = torch.tensor([max([k + 1 for k in held], default=0) for held in labels_of_pairs()])
    assert torch.equal(module.logits(x, batch).argmax(1), expected)


@pytest.mark.parametrize("bias", [0.0, 1.5])
@pytest.mark.parametrize("multi_label", [False, True])
def test_calibration_finds_the_temperature_and_the_bias_of_no_label(multi_label, bias, monkeypatch):
    """Gold relations are drawn from the probabilities at temperature 3, with a bias."""
    torch.manual_seed(0)
    module = make("softmax", multi_label=multi_label)
    entities = [(i, i + 1, 1) for i in range(60)]
    pairs = [(i, j) for i in range(60) for j in range(60) if i != j]
    logits = 8 * torch.randn(len(pairs), 3 if multi_label else 4, dtype=torch.float64)
    if multi_label:
        probabilities = (logits / 3 - bias).sigmoid()
        held = torch.bernoulli(probabilities).bool().tolist()
    else:
        probabilities = (logits / 3 + torch.tensor([bias, 0, 0, 0])).softmax(-1)
        held = F.one_hot(torch.distributions.Categorical(probs=probabilities).sample(), 4)[:, 1:].bool().tolist()
    gold = {(*pair, k) for pair, row in zip(pairs, held, strict=True) for k in range(3) if row[k]}
    documents = [Document([60], entities, pairs, gold)]
    monkeypatch.setattr(module, "logits", lambda x, batch: logits)
    before = module(*make_inputs(module, documents))
    with torch.no_grad():
        # Of two batches, one without a pair.
        module.calibrate([make_inputs(module, part, gold=True) for part in (DOCUMENTS[1:2], documents)])
        after = module(*make_inputs(module, documents))
        module.calibrate([make_inputs(module, DOCUMENTS[1:2], gold=True)])
        assert float(module.temperature) == pytest.approx(3, rel=0.1)
        assert float(module.none_bias) == pytest.approx(bias, abs=0.2)
    assert (after[0].exp() - probabilities[:, -3:]).abs().max() < 0.05
    # The choice of labels depends on the odds, which the bias does not change.
    torch.testing.assert_close(before[1], after[1] * float(module.temperature), rtol=1e-4, atol=1e-4)
    assert all(parameter.grad is None for parameter in module.parameters())
