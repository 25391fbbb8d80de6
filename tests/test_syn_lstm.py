"""The Syn-LSTM compared with its equations, token by token, and graph convolutions with a dense adjacency."""

import contextlib

import pytest
import torch

from spacy_ner_arch.nn.batch import make_batch
from spacy_ner_arch.nn.dropout import set_dropout
from spacy_ner_arch.nn.graph import EDGE_LABELS, GCN, tree_edges
from spacy_ner_arch.nn.syn_lstm import SynLSTM, SynLSTMEncoder
from spacy_ner_arch.nn.syn_lstm_cell import SynLSTMRecurrence, reading_order

CPU = torch.device("cpu")
LENGTHS = [3, 6, 1, 0, 6, 4]
INPUT, GRAPH, HIDDEN = 5, 4, 3
ROWS = 7
RAGGED = pytest.mark.parametrize("lengths", [LENGTHS, [4, 4, 4], [1], [9], [0, 0]], ids=str)


def inputs_of(lengths=LENGTHS):
    """Token vectors (N, INPUT), graph vectors (N, GRAPH) and the batch."""
    torch.manual_seed(0)
    x, m = (torch.randn(sum(lengths), n, dtype=torch.float64) for n in (INPUT, GRAPH))
    return x, m, make_batch(lengths, CPU)


def make(dtype=torch.float64):
    torch.manual_seed(1)
    return SynLSTM(INPUT, GRAPH, HIDDEN).to(dtype)


def weights_of(lstm, direction):
    """Weights over [h;x;m] (zero for inputs that a gate does not have) and biases, by gate."""
    x = dict(zip(["u", "i", "f", "o"], lstm.input_weight[direction].chunk(4), strict=True))
    m = dict(zip(["f", "o", "i'", "u'"], lstm.graph_weight[direction].chunk(4), strict=True))
    gates = ["u", "i", "f", "o", "i'", "u'"]
    h = dict(zip(gates, lstm.hidden_weight[direction].chunk(6), strict=True))
    b = dict(zip(gates, lstm.bias[direction].chunk(6), strict=True))
    zeros = lstm.bias.new_zeros
    size = lstm.output_size // 2
    return {g: (torch.cat([h[g], x.get(g, zeros(size, INPUT)), m.get(g, zeros(size, GRAPH))], 1), b[g]) for g in gates}


def literal(lstm, x, m, lengths):
    """The equations, token by token. Returns (B, T, 2 * HIDDEN)."""
    size = lstm.output_size // 2
    out = x.new_zeros(len(lengths), max(1, *lengths), 2 * size)
    first = 0
    for document, length in enumerate(lengths):
        for direction, steps in enumerate([range(length), reversed(range(length))]):
            weights = weights_of(lstm, direction)
            h = c = x.new_zeros(size)
            for t in steps:
                z = torch.cat([h, x[first + t], m[first + t]])
                gate = {name: weight @ z + bias for name, (weight, bias) in weights.items()}
                u, u_m = gate["u"].tanh(), gate["u'"].tanh()
                i, i_m, f, o = (gate[name].sigmoid() for name in ("i", "i'", "f", "o"))
                c = f * c + i * u + i_m * u_m
                h = o * c.tanh()
                row = torch.nn.functional.pad(h, (direction * size, (1 - direction) * size))
                out = out.index_put((torch.tensor(document), torch.tensor(t)), row, accumulate=True)
        first += length
    return out


@RAGGED
def test_outputs_and_all_gradients_equal_the_equations(lengths):
    x, m, batch = inputs_of(lengths)
    lstm = make()
    inputs = [x.requires_grad_(), m.requires_grad_(), *lstm.parameters()]
    ours, expected = lstm(x, m, batch), literal(lstm, x, m, lengths)
    assert ours.shape == (*batch.mask.shape, lstm.output_size)
    assert torch.allclose(ours, expected, atol=1e-12)
    weight = torch.randn_like(ours)
    for a, b in zip(
        torch.autograd.grad((ours * weight).sum(), inputs),
        torch.autograd.grad((expected * weight).sum(), inputs, allow_unused=True, materialize_grads=True)
        if sum(lengths)
        else [torch.zeros_like(tensor) for tensor in inputs],
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-12)


def test_gradcheck():
    lengths = [2, 4, 1]
    order = reading_order(make_batch(lengths, CPU))
    lstm = make()
    inputs = [torch.randn(sum(lengths), n, dtype=torch.float64, requires_grad=True) for n in (INPUT, GRAPH)]
    weights = [lstm.input_weight, lstm.graph_weight, lstm.hidden_weight, lstm.bias]
    assert torch.autograd.gradcheck(lambda *tensors: SynLSTMRecurrence.apply(order, *tensors), (*inputs, *weights))


def test_backward_twice_and_without_a_graph():
    x, m, batch = inputs_of()
    lstm = make()
    out = lstm(x, m.requires_grad_(), batch)
    first, second = (torch.autograd.grad(out.sum(), [m, lstm.bias], retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    with torch.no_grad():
        assert torch.equal(lstm(x, m, batch), out)


def test_permuting_the_batch_permutes_the_output():
    x, m, batch = inputs_of()
    lstm = make()
    order = [2, 0, 5, 3, 1, 4]
    moved = [torch.cat([rows.split(LENGTHS)[i] for i in order]) for rows in (x, m)]
    out = lstm(*moved, make_batch([LENGTHS[i] for i in order], CPU))
    assert torch.allclose(lstm(x, m, batch)[order], out, atol=1e-12)


def test_a_document_has_the_same_output_alone_and_in_a_batch():
    x, m, batch = inputs_of()
    lstm = make()
    out = lstm(x, m, batch)
    for b, rows in enumerate(zip(x.split(LENGTHS), m.split(LENGTHS), strict=True)):
        alone = lstm(*rows, make_batch(LENGTHS[b : b + 1], CPU))
        assert torch.allclose(alone[:, : LENGTHS[b]], out[b : b + 1, : LENGTHS[b]], atol=1e-12)


def test_padding_is_zero_and_its_gradient_is_ignored():
    x, m, batch = inputs_of()
    lstm = make()
    out = lstm(x.requires_grad_(), m.requires_grad_(), batch)
    assert (out[~batch.mask] == 0).all()
    weight = torch.randn_like(out)
    masked = weight.masked_fill(~batch.mask.unsqueeze(-1), 0.0)
    first, second = (torch.autograd.grad(out, [x, m], grad, retain_graph=True) for grad in (weight, masked))
    assert all(torch.equal(a, b) and (a != 0).all() for a, b in zip(first, second, strict=True))


def test_initial_weights_lie_within_the_bounds():
    lstm = SynLSTM(50, 60, 16)
    for parameter in lstm.parameters():
        assert 0.24 < parameter.max() <= 0.25 and -0.24 > parameter.min() >= -0.25


# Trees: heads of each document; a root is its own head.
TREES = [[1, 1, 1, 2, 3], [0], [0, 1, 2], [], [0, 0, 3, 3, 0], [4, 4, 4, 4, 4]]


def graph_of(trees=TREES):
    """Heads and random relations (N,), and the lengths (B,)."""
    torch.manual_seed(2)
    heads = torch.tensor([head for tree in trees for head in tree], dtype=torch.long)
    return heads, torch.randint(ROWS, heads.shape), torch.tensor([len(tree) for tree in trees])


def arcs_of(heads, relations, lengths):
    """(target, source, label) of every edge, computed with plain loops."""
    first, arcs = 0, set()
    for length in lengths.tolist():
        for token in range(first, first + length):
            head, relation = first + int(heads[token]), int(relations[token])
            arcs.add((token, token, 0))
            if head != token:
                arcs.add((token, head, 1 + 2 * relation))
                arcs.add((head, token, 2 + 2 * relation))
        first += length
    return arcs


def test_edges_run_both_ways_and_never_between_documents():
    heads, relations, lengths = graph_of()
    edges = tree_edges(heads, relations, lengths)
    tokens = len(heads)
    real = edges.targets < tokens
    assert len(edges.sources) == 3 * tokens and (edges.targets.diff() >= 0).all()
    columns = (edges.targets[real], edges.sources[real], edges.labels[real])
    found = list(zip(*(column.tolist() for column in columns), strict=True))
    assert len(found) == len(set(found)) and set(found) == arcs_of(heads, relations, lengths)
    assert torch.equal(edges.sizes.squeeze(1), edges.targets.bincount(minlength=tokens)[:tokens])
    document = torch.arange(len(lengths)).repeat_interleave(lengths)
    assert torch.equal(document[columns[0]], document[columns[1]])


@pytest.mark.parametrize("trees", [[[0]], [[0, 1, 2, 3]]], ids=["one token", "only roots"])
def test_roots_have_no_arc(trees):
    edges = tree_edges(*graph_of(trees))
    tokens = len(trees[0])
    assert edges.sizes.eq(1).all()
    assert edges.sources[:tokens].tolist() == list(range(tokens)) and edges.labels[:tokens].eq(0).all()


@pytest.mark.parametrize("head", [-1, 3])
def test_heads_outside_the_document_are_an_error(head):
    with pytest.raises(ValueError, match="outside its document"):
        tree_edges(*graph_of([[0, head, 0], [0, 0, 0, 0]]))


def dense(layer, x, arcs):
    """The layer by its formula, with plain loops over the edges of each token."""
    projected = x @ layer.weight.t()
    rows = []
    for i in range(len(x)):
        terms = []
        for _, j, label in sorted(arc for arc in arcs if arc[0] == i):
            term = projected[j] + (0 if len(layer.bias) == 1 else layer.bias[label])
            if layer.gate_weight is not None:
                term = term * (x[j] @ layer.gate_weight + layer.gate_bias[label]).sigmoid()
            terms.append(term)
        total = torch.stack(terms).sum(0) + (layer.bias[0] if len(layer.bias) == 1 else 0)
        rows.append((total / len(terms)).relu())
    return torch.stack(rows)


@pytest.mark.parametrize("edge_labels", EDGE_LABELS)
def test_gcn_equals_the_formulas_over_all_edges(edge_labels):
    graph = graph_of()
    gcn = GCN(INPUT, hidden_size=6, edge_labels=edge_labels, relations=ROWS, dropout_rate=0.0).double()
    for name, parameter in gcn.named_parameters():
        if "gate" in name:
            torch.nn.init.normal_(parameter)
    x = torch.randn(len(graph[0]), INPUT, dtype=torch.float64, requires_grad=True)
    arcs = arcs_of(*graph)
    ours = gcn(x, tree_edges(*graph))
    expected = dense(gcn.layers[1], dense(gcn.layers[0], x, arcs), arcs)
    assert torch.allclose(ours, expected, atol=1e-12)
    weight = torch.randn_like(ours)
    inputs = [x, *gcn.parameters()]
    for a, b in zip(
        torch.autograd.grad((ours * weight).sum(), inputs),
        torch.autograd.grad((expected * weight).sum(), inputs),
        strict=True,
    ):
        assert a.abs().sum() > 0 and torch.allclose(a, b, atol=1e-12)


def test_plain_gcn_equals_the_matrix_formula():
    """The formula of the paper, with the adjacency matrix of one tree."""
    heads, relations, lengths = graph_of([[1, 1, 1, 2, 3, 5, 5]])
    layer = GCN(INPUT, hidden_size=6, layers=1, dropout_rate=0.0).double().layers[0]
    x = torch.randn(7, INPUT, dtype=torch.float64)
    adjacency = torch.zeros(7, 7, dtype=torch.float64)
    for token, head in enumerate(heads.tolist()):
        if token != head:
            adjacency[token, head] = adjacency[head, token] = 1.0
    projected = x @ layer.weight.t()
    expected = ((adjacency @ projected + projected + layer.bias) / (adjacency.sum(1, keepdim=True) + 1)).relu()
    assert torch.allclose(layer(x, tree_edges(heads, relations, lengths)), expected, atol=1e-12)


@pytest.mark.parametrize("layers", [1, 2])
def test_gcn_dropout_is_between_the_layers_only(layers):
    graph = graph_of()
    gcn = GCN(INPUT, hidden_size=6, layers=layers, dropout_rate=0.5)
    x, edges = torch.randn(len(graph[0]), INPUT), tree_edges(*graph)
    assert torch.equal(gcn(x, edges), gcn(x, edges)) == (layers == 1)


def encoder_batch(trees=TREES, dtype=torch.float32, device=CPU, **settings):
    """An encoder, token vectors (B, T, INPUT) with NaN in the padding, and a batch with trees."""
    heads, deps, _ = graph_of(trees)
    torch.manual_seed(3)
    settings = {
        "hidden_size": HIDDEN,
        "dep_size": 4,
        "label_rows": ROWS,
        "arc_dropout": 0.0,
        "dropout_rate": 0.0,
        **settings,
    }
    encoder = SynLSTMEncoder(INPUT, **settings).to(device, dtype)
    batch = make_batch([len(tree) for tree in trees], device)
    # Hashes of labels are large numbers.
    batch.trees = torch.stack([heads, deps + 10**15 * ROWS, deps.flip(0)]).to(device)
    x = torch.randn(len(heads), INPUT, dtype=dtype, device=device)
    return encoder, batch.pad(x, torch.nan), batch


def with_trees(batch, **changes):
    """The batch with other heads, deps or pos."""
    rows = dict(zip(("heads", "deps", "pos"), batch.trees, strict=True))
    other = make_batch(batch.lengths.tolist(), CPU)
    other.trees = torch.stack([*{**rows, **changes}.values()])
    return other


@pytest.mark.parametrize("edge_labels", EDGE_LABELS)
def test_encoder_combines_its_parts_and_trains_all_of_them(edge_labels):
    encoder, x, batch = encoder_batch(dtype=torch.float64, edge_labels=edge_labels, pos_size=2, graph_size=8)
    out = encoder(x, batch)
    heads, deps, lengths = graph_of()
    nodes = torch.cat([x[batch.mask], encoder.dep(deps), encoder.pos(deps.flip(0))], 1)
    m = encoder.gcn(nodes, tree_edges(heads, deps, lengths))
    assert m.shape[1] == 8 and encoder.output_size == out.shape[2] == 2 * HIDDEN
    assert torch.allclose(out, encoder.lstm(nodes, m, batch), atol=1e-12)
    out[batch.mask].sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in encoder.parameters())


def test_documents_do_not_influence_each_other():
    encoder, x, batch = encoder_batch(dtype=torch.float64)
    x.requires_grad_()
    out = encoder(x, batch)
    out[0].sum().backward()
    assert x.grad[0].abs().sum(1).gt(0).all() and x.grad[1:].abs().sum() == 0
    trees = batch.trees.split(batch.lengths.tolist(), dim=1)
    for b, tree in enumerate(TREES):
        alone = make_batch([len(tree)], CPU)
        alone.trees = trees[b]
        expected = encoder(x[b : b + 1, : max(len(tree), 1)], alone)
        assert torch.allclose(out[b : b + 1, : len(tree)], expected[:, : len(tree)], atol=1e-12)


@pytest.mark.parametrize("edge_labels", EDGE_LABELS)
def test_edge_labels_change_the_output_unless_none(edge_labels):
    encoder, x, batch = encoder_batch(edge_labels=edge_labels, dep_size=0)
    out, other = encoder(x, batch), encoder(x, with_trees(batch, deps=batch.trees[1] + 1))
    assert torch.equal(out, other) == (edge_labels == "none")


def test_heads_change_the_output():
    encoder, x, batch = encoder_batch([[0, 0, 1, 2]])
    other = with_trees(batch, heads=torch.tensor([0, 0, 0, 0]))
    assert not torch.allclose(encoder(x, batch), encoder(x, other), atol=1e-4)


@pytest.mark.parametrize("edge_labels", EDGE_LABELS)
def test_bfloat16_autocast(edge_labels):
    encoder, x, batch = encoder_batch(edge_labels=edge_labels)
    expected = encoder(x, batch)
    with torch.autocast("cpu", torch.bfloat16):
        out = encoder(x.requires_grad_(), batch)
    assert out.dtype == torch.float32 and torch.allclose(out, expected, atol=0.03) and not torch.equal(out, expected)
    out.square().sum().backward()
    for tensor in (x, *encoder.parameters()):
        assert tensor.grad.dtype == torch.float32 and tensor.grad.isfinite().all() and tensor.grad.abs().sum() > 0


@pytest.mark.parametrize("edge_labels", EDGE_LABELS)
def test_a_batch_without_tokens_has_a_gradient_of_zero(edge_labels):
    encoder, x, batch = encoder_batch([[], []], edge_labels=edge_labels)
    out = encoder(x.requires_grad_(), batch)
    out.sum().backward()
    assert out.shape == (2, 1, 2 * HIDDEN) and (out == 0).all() and (x.grad == 0).all()


@pytest.mark.parametrize("edge_labels", EDGE_LABELS)
def test_the_host_never_waits_for_the_device(edge_labels, monkeypatch):
    """On the meta device, which has shapes but no values, every read of a value by the host raises."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())  # unknown to autocast
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)
    device = torch.device("meta")
    rates = {"dropout_rate": 0.5, "arc_dropout": 0.5}
    encoder, x, batch = encoder_batch(edge_labels=edge_labels, pos_size=2, device=device, **rates)
    out = encoder(x.requires_grad_(), batch)
    out.sum().backward()
    assert out.shape == (6, 5, 2 * HIDDEN) and x.grad.shape == x.shape
    with pytest.raises(RuntimeError, match="meta"):
        int(batch.mask.sum())


def test_dropout_follows_the_training_settings():
    encoder, x, batch = encoder_batch(dropout_rate=None)
    assert torch.equal(encoder(x, batch), encoder(x, batch))
    set_dropout(encoder, 0.5)
    assert not torch.equal(encoder(x, batch), encoder(x, batch))
    assert (encoder(x, batch)[batch.mask] == 0).any()
    encoder.eval()
    assert torch.equal(encoder(x, batch), encoder(x, batch))


def test_a_token_without_its_arc_is_a_root_without_a_label():
    encoder, x, batch = encoder_batch(dtype=torch.float64, arc_dropout=0.5)
    torch.manual_seed(7)
    out = encoder(x, batch)
    torch.manual_seed(7)
    kept = torch.rand(len(batch.trees[0])) >= 0.5
    assert 0 < kept.sum() < len(kept)
    heads, deps, lengths = graph_of()
    roots = torch.cat([torch.arange(n) for n in lengths])
    nodes = torch.cat([x[batch.mask], encoder.dep(deps) * kept.unsqueeze(1)], 1)
    m = encoder.gcn(nodes, tree_edges(heads.where(kept, roots), deps, lengths))
    assert torch.allclose(out, encoder.lstm(nodes, m, batch), atol=1e-12)


def test_all_arcs_count_in_prediction():
    encoder, x, batch = encoder_batch(arc_dropout=0.5)
    plain, _, _ = encoder_batch()
    assert not torch.equal(encoder(x, batch), encoder(x, batch))
    assert torch.equal(encoder.eval()(x, batch), plain.eval()(x, batch))


def test_wrong_settings_are_an_error():
    for rate in (-0.1, 1.0):
        with pytest.raises(ValueError, match=f"arc_dropout must be at least 0 and below 1, got {rate}"):
            SynLSTMEncoder(5, arc_dropout=rate)
    with pytest.raises(ValueError, match="must be positive, got 5, 0 and 3"):
        SynLSTM(5, 0, 3)
    with pytest.raises(ValueError, match="hidden_size, layers and relations must be positive, got 4, 0, 1"):
        GCN(5, hidden_size=4, layers=0)
    with pytest.raises(ValueError, match="edge_labels must be one of none, bias, gate, got both"):
        GCN(5, hidden_size=4, edge_labels="both")
