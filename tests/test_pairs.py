"""Models of relations against one pair at a time in float64, written from the formulas with plain loops."""

import math
from typing import NamedTuple

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from spacy_ner_arch.nn import pairs as pairs_module
from spacy_ner_arch.nn.dropout import set_dropout
from spacy_ner_arch.nn.pair_acnn import PairACNN, unit
from spacy_ner_arch.nn.pair_bilstm import PairBiLSTM, PairBiLSTMAttention
from spacy_ner_arch.nn.pair_marks import PairMarks
from spacy_ner_arch.nn.pair_softmax import PairMultitask, PairSoftmax
from spacy_ner_arch.nn.pairs import Pairs, max_rows
from spacy_ner_arch.nn.transe import TransE, corrupt_labels

WIDTH = 6
LABELS = ["kills", "knows", "owns"]
TYPES = ["PER", "LOC"]
SMALL_ACNN = {"filters": 5, "position_size": 3, "max_distance": 2}
MODELS = {
    "softmax": (PairSoftmax, {"type_size": 3}),
    "softmax without types": (PairSoftmax, {"type_size": 0, "hidden_size": 4}),
    "softmax, between": (PairSoftmax, {"type_size": 3, "context": "between"}),
    "multitask, between": (PairMultitask, {"type_size": 3, "transe_weight": 0.3, "context": "between"}),
    "multitask": (PairMultitask, {"type_size": 3, "transe_weight": 0.3}),
    "bilstm": (PairBiLSTM, {"type_size": 3, "hidden_size": 4}),
    "attention": (PairBiLSTMAttention, {"type_size": 3, "hidden_size": 4, "position_size": 3, "max_distance": 2}),
    "acnn": (PairACNN, SMALL_ACNN),
    "acnn, cross entropy": (PairACNN, {**SMALL_ACNN, "loss": "cross_entropy"}),
    "acnn, max": (PairACNN, {**SMALL_ACNN, "pooling": "max"}),
    "acnn, max, cross entropy": (PairACNN, {**SMALL_ACNN, "pooling": "max", "loss": "cross_entropy"}),
    "marks": (PairMarks, {}),
}
WIDER = {"softmax without types": {"hidden_size": 16}, "acnn": {"filters": 16}}
SEVERAL = [name for name in MODELS if name not in ("acnn", "acnn, max")]  # models that know several labels a pair
every_model = pytest.mark.parametrize("name", MODELS)


class Document(NamedTuple):
    sentences: list  # number of tokens of each
    entities: list  # (start, end, type)
    pairs: list  # (head, tail)
    gold: set  # (head, tail, label)


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


def collate(documents):
    entities, pairs, reverse, slots, regions = [], [], [], [], {}
    most = max([1, *(len(document.pairs) for document in documents)])
    for b, document in enumerate(documents):
        first_entity, first_pair = len(entities), len(pairs)
        entities += [(b, *entity) for entity in document.entities]
        for p, (head, tail) in enumerate(document.pairs):
            row = regions.setdefault((b, *region(document, (head, tail))), len(regions))
            pairs.append((first_entity + head, first_entity + tail, row))
            turned = (tail, head)
            reverse.append(first_pair + (document.pairs.index(turned) if turned in document.pairs else p))
            slots.append(b * most + p)

    def columns(rows, number):
        return torch.tensor(rows, dtype=torch.long).reshape(-1, number).unbind(1)

    return Pairs(
        *columns(entities, 4)[:3],
        columns(entities, 4)[3],
        *columns(pairs, 3),
        *columns(list(regions), 3),
        *columns(reverse, 1),
        *columns(slots, 1),
        most,
        max([end - start for _, start, end, _ in entities], default=0),
        max([end - start for _, start, end in regions], default=0),
    )


def batch(name, documents=DOCUMENTS, seed=1):
    """x, mask and pairs; padding is NaN, so that nobody looks at it."""
    pairs = collate(documents)
    if name == "marks":
        lengths = [len(document.pairs) for document in documents]
        steps = pairs.most
    else:
        lengths = [sum(document.sentences) for document in documents]
        steps = max(lengths)
    mask = torch.arange(steps) < torch.tensor(lengths).unsqueeze(1)
    x = torch.full((*mask.shape, WIDTH), torch.nan, dtype=torch.float64)
    for b, length in enumerate(lengths):
        torch.manual_seed(seed + 1000 * length + DOCUMENTS.index(documents[b]))
        x[b, :length] = torch.randn(length, WIDTH, dtype=torch.float64)
    return x.requires_grad_(), mask, pairs


def gold_of(documents=DOCUMENTS, kept=None):
    """kept, rows, classes."""
    pairs = [(b, *pair) for b, document in enumerate(documents) for pair in document.pairs]
    kept = list(range(len(pairs))) if kept is None else kept
    gold = [
        (row, label)
        for row, pair in enumerate(kept)
        for label in range(len(LABELS))
        if (*pairs[pair][1:], label) in documents[pairs[pair][0]].gold
    ]
    rows, classes = torch.tensor(gold, dtype=torch.long).reshape(-1, 2).unbind(1)
    return torch.tensor(kept, dtype=torch.long), rows, classes


# The formulas, for one pair


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


PAIRS = {PairSoftmax: softmax_pair, PairMultitask: softmax_pair, PairBiLSTM: bilstm_pair}
PAIRS |= {PairBiLSTMAttention: attention_pair, PairACNN: acnn_pair}


def reference_logits(module, x, documents=DOCUMENTS):
    rows = []
    for b, document in enumerate(documents):
        for p, pair in enumerate(document.pairs):
            if isinstance(module, PairMarks):
                rows.append(module.output(x[b, p]))
                continue
            head, tail = (document.entities[e] for e in pair)
            rows.append(PAIRS[type(module)](module, x[b], *region(document, pair), head, tail))
    return torch.stack(rows)


def reference_loss(module, logits, rows, classes):
    """Of each pair by itself; logits (n, C)."""
    total = logits.new_zeros(())
    weight_of = [module.class_weights.get(label, 1.0) for label in module.labels]
    for row, scores in enumerate(logits):
        held = [int(k) for r, k in zip(rows, classes, strict=True) if r == row]
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
    """gold: (document, head, tail, label), corrupt: a wrong label for each."""
    total = x.new_zeros(())
    for (b, head, tail, label), wrong in zip(gold, corrupt, strict=True):
        if module.labels[label] in module.symmetric:
            continue
        e1, e2 = (x[b, s:e].mean(0) for s, e, _ in (documents[b].entities[e] for e in (head, tail)))
        right, other = (norm(module.transe.norm, module.transe.labels.weight[k]) for k in (label, wrong))
        share = sum(relation[:3] == (b, head, tail) for relation in gold)
        d_right, d_other = ((e1 + way - e2).square().sum() for way in (right, other))
        total = total + (d_right - d_other + 1).clamp_min(0) / share
    return total * module.transe_weight


def assert_same_gradients(ours, theirs, x, module):
    inputs = [x, *module.parameters()]
    both = (torch.autograd.grad(y, inputs, retain_graph=True, allow_unused=True) for y in (ours, theirs))
    for a, b, like in zip(*both, inputs, strict=True):
        a, b = (torch.zeros_like(like) if g is None else g for g in (a, b))
        assert torch.allclose(a, b, atol=1e-9)


@every_model
def test_logits_and_gradients_equal_the_formulas(name):
    module = make(name)
    x, mask, pairs = batch(name)
    ours, theirs = module.logits(x, mask, pairs), reference_logits(module, x)
    assert ours.shape == (11, 4) and torch.allclose(ours, theirs)
    weights = torch.randn_like(ours)
    assert_same_gradients((ours * weights).sum(), (theirs * weights).sum(), x, module)


@pytest.mark.parametrize("longest", [1, 2, 7, 8, 9])
def test_max_rows(longest):
    table = torch.randn(9, 3)
    spans = [(start, length) for start in range(9) for length in range(-2, min(longest, 9 - start) + 1)]
    starts, lengths = torch.tensor(spans).unbind(1)
    found = max_rows(table, starts, lengths, longest)
    for (start, length), row in zip(spans, found, strict=True):
        expected = table[start : start + length].amax(0) if length > 0 else torch.zeros(3)
        assert torch.equal(row, expected)


@pytest.mark.parametrize("window", [1, 5])
def test_other_windows(window):
    module = make("acnn", window=window)
    x, mask, pairs = batch("acnn")
    assert torch.allclose(module.logits(x, mask, pairs), reference_logits(module, x))


@pytest.mark.parametrize(
    "name", ["softmax", "softmax without types", "softmax, between", "bilstm", "attention", "acnn", "acnn, max"]
)
def test_in_pieces(name, monkeypatch):
    module = make(name)
    x, mask, pairs = batch(name)
    whole = module.logits(x, mask, pairs)
    steps = 1 if name.startswith("softmax") else pairs.longest
    monkeypatch.setattr(pairs_module, "CPU_STEPS", 2 * steps)
    cut = module.logits(x, mask, pairs)
    assert len(list(pairs_module.pieces(11, steps, x.device))) == 6
    assert torch.allclose(whole, cut)
    weights = torch.randn_like(whole)
    assert_same_gradients((whole * weights).sum(), (cut * weights).sum(), x, module)


@every_model
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss(name, weighted):
    settings = {"negative_weight": 0.4, "class_weights": {"owns": 3.0}, "loss_scale": 0.1} if weighted else {}
    module = make(name, **settings)
    x, mask, pairs = batch(name)
    for kept in (None, [0, 4, 7, 9, 10]):
        kept, rows, classes = gold_of(kept=kept)
        ours = module(x, mask, pairs, kept, rows, classes) - sum(module.loss_parts.values())
        theirs = reference_loss(module, reference_logits(module, x)[kept], rows, classes) * module.loss_scale
        assert torch.allclose(ours, theirs)
    if not name.startswith("multitask"):
        assert module.loss_parts == {}
        assert_same_gradients(ours, theirs, x, module)


@every_model
def test_several_labels_share_the_target(name):
    documents = [document._replace(gold=document.gold | {(1, 0, 0), (1, 0, 2)}) for document in DOCUMENTS]
    module = make(name, class_weights={"owns": 3.0})
    x, mask, pairs = batch(name)
    kept, rows, classes = gold_of(documents)
    assert len(rows) == 9
    ours = module(x, mask, pairs, kept, rows, classes) - sum(module.loss_parts.values())
    theirs = reference_loss(module, reference_logits(module, x), rows, classes)
    assert torch.allclose(ours, theirs)


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_sigmoid_for_each_label(name, weighted):
    settings = {"negative_weight": 0.4, "class_weights": {"owns": 3.0}} if weighted else {}
    documents = [document._replace(gold=document.gold | {(1, 0, 0), (1, 0, 2)}) for document in DOCUMENTS]
    module = make(name, multi_label=True, **settings)
    x, mask, pairs = batch(name)
    kept, rows, classes = gold_of(documents)
    logits = reference_logits(module, x)
    assert logits.shape == (11, 3)
    ours = module(x, mask, pairs, kept, rows, classes) - sum(module.loss_parts.values())
    assert torch.allclose(ours, reference_loss(module, logits, rows, classes))
    odds, probabilities = (prediction.flatten(0, 1)[pairs.slots] for prediction in module(x, mask, pairs))
    assert torch.allclose(odds, logits) and torch.allclose(probabilities, logits.sigmoid())


@every_model
def test_predictions(name):
    module = make(name)
    x, mask, pairs = batch(name)
    odds, probabilities = module(x, mask, pairs)
    assert odds.shape == probabilities.shape == (5, 7, 3)
    expected = reference_logits(module, x).softmax(1)
    empty = torch.ones(35, dtype=torch.bool)
    empty[pairs.slots] = False
    assert torch.allclose(probabilities.flatten(0, 1)[pairs.slots], expected[:, 1:])
    assert torch.allclose(odds.flatten(0, 1)[pairs.slots], (expected[:, 1:] / expected[:, :1]).log())
    assert (odds.flatten(0, 1)[empty] == -torch.inf).all() and (probabilities.flatten(0, 1)[empty] == 0).all()


@pytest.mark.parametrize("multi_label", [False, True])
def test_symmetric_labels_are_averaged(multi_label):
    module = make("softmax", symmetric=["knows"], multi_label=multi_label)
    x, mask, pairs = batch("softmax")
    odds, probabilities = (prediction.flatten(0, 1)[pairs.slots] for prediction in module(x, mask, pairs))
    logits = reference_logits(module, x)
    yes = logits.sigmoid() if multi_label else logits.softmax(1)[:, 1:]
    no = 1 - yes if multi_label else logits.softmax(1)[:, :1].expand(-1, 3)
    for p, turned in enumerate(pairs.reverse.tolist()):
        for k in range(3):
            others = {p, turned} if k == 1 else {p}
            y, n = (sum(column[q, k].item() for q in others) / len(others) for column in (yes, no))
            assert probabilities[p, k].item() == pytest.approx(y)
            assert odds[p, k].item() == pytest.approx(math.log(y / n))
    assert odds[0, 1] == odds[1, 1] and odds[0, 0] != odds[1, 0]


@every_model
def test_other_documents_and_padding_do_not_matter(name):
    module = make(name)
    x, mask, pairs = batch(name)
    together = module(x, mask, pairs)
    if name != "marks":  # whose steps are pairs
        padded = F.pad(x, (0, 0, 0, 4), value=torch.nan)
        for a, b in zip(together, module(padded, F.pad(mask, (0, 4)), pairs), strict=True):
            assert torch.allclose(a, b)
    wider = pairs._replace(widest=pairs.widest + 3, longest=pairs.longest + 4)
    for a, b in zip(together, module(x, mask, wider), strict=True):
        assert torch.allclose(a, b)
    for b, document in enumerate(DOCUMENTS):
        alone = module(*batch(name, [document]))
        for whole, own in zip(together, alone, strict=True):
            n = len(document.pairs)
            assert torch.allclose(whole[b, :n], own[0, :n])


@every_model
def test_the_order_of_documents_does_not_matter(name):
    """An attention query per place in the batch would show here."""
    module = make(name)
    x, mask, pairs = batch(name)
    turned = batch(name, DOCUMENTS[::-1])
    for a, b in zip(module(x, mask, pairs), module(*turned), strict=True):
        assert torch.allclose(a, b.flip(0))


@every_model
def test_losses_add_up(name):
    module = make(name)
    if name.startswith("multitask"):
        module.corrupt = lambda held: (held.argmin(1), held.min(1).values == 0)
    whole = module(*batch(name), *gold_of())
    parts = [
        module(*batch(name, documents), *gold_of(documents))
        for documents in (DOCUMENTS[:1], DOCUMENTS[1:2], DOCUMENTS[2:])
    ]
    assert torch.allclose(whole, sum(parts))
    x, mask, pairs = batch(name)
    halves = [module(x, mask, pairs, *gold_of(kept=kept)) for kept in ([0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9])]
    assert torch.allclose(whole, sum(halves))


@every_model
@pytest.mark.parametrize("documents", [DOCUMENTS[1:2], DOCUMENTS[3:4], [DOCUMENTS[1], DOCUMENTS[3]]])
def test_no_pairs(name, documents):
    module = make(name)
    x, mask, pairs = batch(name, documents)
    odds, probabilities = module(x, mask, pairs)
    assert odds.shape == probabilities.shape == (len(documents), 1, 3)
    assert (odds == -torch.inf).all() and (probabilities == 0).all()
    assert_no_loss(module, x, mask, pairs)


@every_model
def test_nothing_kept(name):
    module = make(name)
    assert_no_loss(module, *batch(name))


def assert_no_loss(module, x, mask, pairs):
    loss = module(x, mask, pairs, *gold_of([], kept=[]))
    loss.backward()
    assert loss == 0 and loss.shape == () and x.grad.shape == x.shape and (x.grad == 0).all()
    assert module.loss_parts == dict.fromkeys(module.terms, 0)


def test_select():
    pairs = collate(DOCUMENTS)
    some = pairs.select(torch.tensor([8, 2]))
    assert some.heads.tolist() == [pairs.heads[8], pairs.heads[2]] and some.slots.tolist() == [15, 2]
    assert some.tails.tolist() == [pairs.tails[8], pairs.tails[2]] and some.most == 7
    assert some.starts is pairs.starts and some.region_ends is pairs.region_ends


# Single models


def test_dropout():
    for name in MODELS:
        module = make(name, dropout_rate=None)
        x, mask, pairs = batch(name)
        still = module.logits(x, mask, pairs)
        set_dropout(module, 0.4)
        torch.manual_seed(3)
        first, second = module.logits(x, mask, pairs), module.logits(x, mask, pairs)
        torch.manual_seed(3)
        assert torch.equal(first, module.logits(x, mask, pairs))
        assert not torch.equal(first, second) and not torch.equal(first, still)
        assert torch.equal(module.eval().logits(x, mask, pairs), still)


@pytest.mark.parametrize("context", ["sentences", "between"])
def test_dropout_of_the_softmax_model_is_drawn_once_per_entity_and_context(context):
    """With parts of entities and contexts dropped or doubled, the hidden layer is the formula's of what is left."""
    module = make("softmax", context=context)
    x, mask, pairs = batch("softmax")
    contexts, own = module._contexts(x, pairs)
    drawn = []

    class Draw(torch.nn.Module):
        def forward(self, y):
            drawn.append(2.0 * torch.randint(0, 2, y.shape).to(y))
            return y * drawn[-1]

    module.dropout = Draw()
    hidden = module._hidden(*module._sums(x, pairs))
    entities = module.mean_entities(x, pairs) * drawn[0]
    number = len(pairs.region_starts) if context == "sentences" else 11
    assert [len(mask) for mask in drawn] == [len(pairs.starts), number]
    for p in range(11):
        c = contexts[own[p]] * drawn[1][own[p]]
        z = torch.cat([entities[pairs.heads[p]], entities[pairs.tails[p]], c])
        assert torch.allclose(hidden[p], module.hidden(norm(module.norm, z)))


@pytest.mark.parametrize("symmetric", [(), ("knows",)])
def test_transe(symmetric):
    documents = [document._replace(gold=document.gold | {(1, 0, 0), (1, 0, 2)}) for document in DOCUMENTS]
    module = make("multitask", symmetric=symmetric, loss_scale=0.1)
    x, mask, pairs = batch("multitask")
    kept, rows, classes = gold_of(documents)
    names = [(b, *pair) for b, document in enumerate(documents) for pair in document.pairs]
    gold = [(*names[row], int(k)) for row, k in zip(rows.tolist(), classes, strict=True)]
    drawn = []

    def corrupt(held):
        drawn.append(corrupt_labels(held))
        return drawn[-1]

    module.corrupt = corrupt
    ours = module(x, mask, pairs, kept, rows, classes)
    (wrong, exists) = drawn[0]
    held = {(*relation[:3], k) for relation in gold for k in [relation[3]]}
    assert exists.all() and not any((*g[:3], int(w)) in held for g, w in zip(gold, wrong, strict=True))
    term = reference_transe(module, x, documents, gold, wrong) * 0.1
    assert (
        term > 0 and torch.allclose(module.loss_parts["transe"], term) and not module.loss_parts["transe"].requires_grad
    )
    theirs = reference_loss(module, reference_logits(module, x), rows, classes) * 0.1 + term
    assert torch.allclose(ours, theirs)
    assert_same_gradients(ours, theirs, x, module)
    module(x, mask, pairs)
    assert module.loss_parts == {}


def test_transe_needs_a_wrong_label():
    module = make("multitask", labels=["kills"])
    x, mask, pairs = batch("multitask")
    kept, rows, classes = gold_of()
    module(x, mask, pairs, kept, rows, torch.zeros_like(classes))
    assert module.loss_parts == {"transe": 0}


def test_corrupt_labels_are_uniform():
    torch.manual_seed(0)
    held = torch.tensor([[0.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    wrong, exists = corrupt_labels(held.repeat(3000, 1))
    assert exists.tolist() == [True, True, False] * 3000
    counts = wrong.view(3000, 3)[:, 0].bincount(minlength=4)
    assert counts[1] == 0 and (counts[[0, 2, 3]] - 1000).abs().max() < 150
    assert (wrong.view(3000, 3)[:, 1] == 2).all()


def test_transe_alone():
    torch.manual_seed(0)
    module = TransE(3, 4)
    with torch.no_grad():
        module.labels.weight[0] = torch.tensor([1.0, -1.0, 1.0, -1.0])
        module.labels.weight[1] = torch.tensor([-1.0, 1.0, -1.0, 1.0])
    difference = torch.tensor([[-1.0, 1.0, -1.0, 1.0]])
    zero, one = torch.tensor([0]), torch.tensor([1])
    assert module(difference, zero, one) == 0  # exactly the way of label 0
    assert module(difference, one, zero).item() == pytest.approx(17, abs=1e-3)


def test_a_hinge_that_is_satisfied_has_no_gradient():
    module = make("acnn")
    x, mask, pairs = batch("acnn")
    with torch.no_grad():  # whatever is attended to, all that is pooled is the same: the vector of class 0
        module.convolution.weight.zero_()
        module.convolution.bias.fill_(0.5)
        module.relations.weight.fill_(-1.0)[0] = 1.0
    kept, rows, classes = gold_of()
    none = torch.zeros(0, dtype=torch.long)
    loss = module(x, mask, pairs, kept, none, none)
    assert loss == 0
    for gradient in torch.autograd.grad(loss, [x, *module.parameters()]):
        assert (gradient == 0).all()
    # The distance to the right class is 2, that to the nearest wrong one 0.
    assert module(x, mask, pairs, kept, rows, classes).item() == pytest.approx(3 * len(rows))


@pytest.mark.parametrize("zero", ["relations", "pooled", "both", "same"])
def test_gradient_of_the_hinge_at_zero(zero):
    module = make("acnn")
    x, mask, pairs = batch("acnn")
    with torch.no_grad():
        if zero in ("relations", "both"):
            module.relations.weight.zero_()
        if zero in ("pooled", "both"):
            module.convolution.weight.zero_()
            module.convolution.bias.zero_()
        if zero == "same":  # what is pooled lies on the vector of a relation
            module.relations.weight.fill_(1.0)
            module.convolution.weight.zero_()
            module.convolution.bias.fill_(0.5)
    loss = module(x, mask, pairs, *gold_of())
    for gradient in torch.autograd.grad(loss, [x, *module.parameters()]):
        assert gradient.isfinite().all() and gradient.abs().max() < 1e3


def test_unit():
    rows = unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    assert torch.allclose(rows, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


# Growing


@every_model
@pytest.mark.parametrize("multi_label", [False, True])
def test_new_labels_and_types_keep_the_old_scores(name, multi_label):
    if multi_label and name not in SEVERAL:
        pytest.skip("one label a pair")
    module = make(name, multi_label=multi_label, symmetric=["owns"], class_weights={"knows": 2.0})
    x, mask, pairs = batch(name)
    before, odds = module.logits(x, mask, pairs).detach(), module(x, mask, pairs)[0].detach()
    labels, types = ["owns", "new", "kills", "knows"], ["ORG", "LOC", "PER"]
    module.resize(labels=labels, types=types, symmetric=["owns", "new"], multi_label=multi_label)
    moved = pairs._replace(types=torch.tensor([0, 3, 2])[pairs.types])
    places = [2, 3, 0] if multi_label else [0, 3, 4, 1]
    assert torch.allclose(module.logits(x, mask, moved)[:, places], before)
    # Odds of a symmetric label are of averages, in which the new class has its share.
    assert torch.allclose(module(x, mask, moved)[0][..., [2, 3]], odds[..., [0, 1]])
    assert module.labels == labels and module.types == types and module.symmetric == ["owns", "new"]
    assert module.weights.tolist() == [1, 1, 1, 2] and module.both_ways.tolist() == [True, True, False, False]

    # What is new can be learned.
    kept = torch.tensor([0, 3])
    rows, classes = torch.tensor([0, 1]), torch.tensor([1, 2])
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        module(x, mask, moved, kept, rows, classes).backward()
        optimizer.step()
    learned = module.logits(x, mask, moved)[kept].argmax(1)
    assert learned.tolist() == ([1, 2] if multi_label else [2, 3])


def test_growing_the_label_vectors():
    module = make("multitask")
    before = module.transe.labels.weight.detach().clone()
    module.resize(["owns", "new", "kills"], TYPES, [], False)
    assert torch.equal(module.transe.labels.weight[[0, 2]], before[[2, 0]])


def test_bad_growth_changes_nothing():
    module = make("softmax", class_weights={"owns": 2.0})
    with pytest.raises(ValueError, match="multi_label = False"):
        module.resize(LABELS, TYPES, [], True)
    with pytest.raises(ValueError, match="class_weights names"):
        module.resize(["kills", "knows"], TYPES, [], False)
    assert module.output.out_features == 4 and module.labels == LABELS


@pytest.mark.parametrize(
    "name, settings, message",
    [
        ("softmax", {"labels": []}, "labels must not be empty"),
        ("softmax", {"symmetric": ["likes"]}, "symmetric names"),
        ("softmax", {"class_weights": {"likes": 1.0}}, "class_weights names"),
        ("softmax", {"class_weights": {"owns": -1.0}}, "finite and not negative"),
        ("softmax", {"class_weights": {"owns": math.nan}}, "finite and not negative"),
        ("softmax", {"negative_weight": math.inf}, "finite and not negative"),
        ("softmax", {"context": "before"}, "context must be"),
        ("multitask", {"transe_weight": -1.0}, "finite and not negative"),
        ("attention", {"position_size": 0}, "must be positive"),
        ("acnn", {"window": 2}, "window must be odd"),
        ("acnn", {"pooling": "mean"}, "pooling must be"),
        ("acnn", {"loss": "mse"}, "loss must be"),
        ("acnn", {"multi_label": True}, "one label a pair"),
    ],
)
def test_bad_settings(name, settings, message):
    with pytest.raises(ValueError, match=message):
        make(name, **settings)


# Precision and devices


@every_model
def test_half_precision(name):
    module = make(name, double=False)
    x, mask, pairs = batch(name)
    x = x.detach().float().requires_grad_()
    if name.startswith("multitask"):
        module.corrupt = lambda held: (held.argmin(1), held.min(1).values == 0)
    with torch.autocast("cpu", torch.bfloat16):
        half, logits = module(x, mask, pairs, *gold_of()), module.logits(x, mask, pairs)
        odds, probabilities = module(x, mask, pairs)
    full = module(x, mask, pairs, *gold_of())
    assert half.dtype == logits.dtype == odds.dtype == probabilities.dtype == torch.float32
    assert torch.isclose(half, full, rtol=0.05)
    (gradient,) = torch.autograd.grad(half, x)
    assert gradient[mask].isfinite().all()


class NoSync(TorchDispatchMode):
    """Raises where a GPU would have to tell the host something."""

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        name = function.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "item", "nonzero", "masked_select", "_unique2", "unique_dim"), name
        if name in ("index", "index_put"):
            assert all(i is None or i.dtype != torch.bool for i in arguments[1]), "a mask as an index"
        return function(*arguments, **(keywords or {}))


@every_model
def test_the_host_waits_for_nothing(name):
    module = make(name, symmetric=["knows"])
    x, mask, pairs = batch(name)
    gold = gold_of()
    with NoSync():
        module(x, mask, pairs, *gold)
        module(x, mask, pairs)
    with pytest.raises(AssertionError, match="a mask as an index"), NoSync():
        x[mask]


@pytest.mark.parametrize("name", [name for name in MODELS if name != "marks"])  # which is but a linear layer
def test_it_learns(name):
    """With a few more units than the formulas are tested with, where these are too few to learn anything."""
    module = make(name, double=False, **WIDER.get(name, {}))
    x, mask, pairs = batch(name)
    x = x.detach().float()
    kept, rows, classes = gold_of()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        module(x, mask, pairs, kept, rows, classes).backward()
        optimizer.step()
    module.eval()
    expected = torch.zeros(11, dtype=torch.long).index_put((rows,), classes + 1)
    assert torch.equal(module.logits(x, mask, pairs).argmax(1), expected)
