"""The Syn-LSTM against its equations, one token after the other, and graph convolutions against a dense adjacency."""

import pytest
import torch

from spacy_ner_arch.nn.dropout import set_dropout
from spacy_ner_arch.nn.graph import EDGE_LABELS, GCN, tree_edges
from spacy_ner_arch.nn.syn_lstm import Graph, SynLSTM, SynLSTMEncoder
from spacy_ner_arch.nn.syn_lstm_cell import SynLSTMRecurrence, reading_order

LENGTHS = [3, 6, 1, 0, 6, 4]
INPUT, GRAPH, HIDDEN = 5, 4, 3
ROWS = 7
RAGGED = pytest.mark.parametrize("lengths", [LENGTHS, [4, 4, 4], [1], [9], [0, 0]], ids=str)


def mask_of(lengths, width=None):
    return torch.arange(width or max(*lengths, 1)) < torch.tensor(lengths).unsqueeze(1)


def batch(lengths=LENGTHS, dtype=torch.float64):
    torch.manual_seed(0)
    mask = mask_of(lengths)
    return torch.randn(*mask.shape, INPUT, dtype=dtype), torch.randn(*mask.shape, GRAPH, dtype=dtype), mask


def make(dtype=torch.float64):
    torch.manual_seed(1)
    return SynLSTM(INPUT, GRAPH, HIDDEN).to(dtype)


def weights_of(lstm, direction):
    """Weights (over [h;x;m], zero where a gate does not look) and biases by the names of the equations."""
    x = dict(zip(["u", "i", "f", "o"], lstm.input_weight[direction].chunk(4), strict=True))
    m = dict(zip(["f", "o", "i'", "u'"], lstm.graph_weight[direction].chunk(4), strict=True))
    gates = ["u", "i", "f", "o", "i'", "u'"]
    h = dict(zip(gates, lstm.hidden_weight[direction].chunk(6), strict=True))
    b = dict(zip(gates, lstm.bias[direction].chunk(6), strict=True))
    zeros = lstm.bias.new_zeros
    size = lstm.output_size // 2
    return {g: (torch.cat([h[g], x.get(g, zeros(size, INPUT)), m.get(g, zeros(size, GRAPH))], 1), b[g]) for g in gates}


def literal(lstm, x, m, lengths):
    """The equations, token by token."""
    size = lstm.output_size // 2
    out = x.new_zeros(*x.shape[:2], 2 * size)
    for document, length in enumerate(lengths):
        for direction, steps in enumerate([range(length), reversed(range(length))]):
            weights = weights_of(lstm, direction)
            h = c = x.new_zeros(size)
            for t in steps:
                z = torch.cat([h, x[document, t], m[document, t]])
                gate = {name: weight @ z + bias for name, (weight, bias) in weights.items()}
                u, u_m = gate["u"].tanh(), gate["u'"].tanh()
                i, i_m, f, o = (gate[name].sigmoid() for name in ("i", "i'", "f", "o"))
                c = f * c + i * u + i_m * u_m
                h = o * c.tanh()
                row = torch.nn.functional.pad(h, (direction * size, (1 - direction) * size))
                out = out.index_put((torch.tensor(document), torch.tensor(t)), row, accumulate=True)
    return out


@RAGGED
def test_outputs_and_all_gradients_equal_the_equations(lengths):
    x, m, mask = batch(lengths)
    lstm = make()
    inputs = [x.requires_grad_(), m.requires_grad_(), *lstm.parameters()]
    ours, expected = lstm(x, m, mask), literal(lstm, x, m, lengths)
    assert ours.shape == (*mask.shape, lstm.output_size)
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
    order = reading_order(mask_of(lengths))
    lstm = make()
    inputs = [torch.randn(sum(lengths), n, dtype=torch.float64, requires_grad=True) for n in (INPUT, GRAPH)]
    weights = [lstm.input_weight, lstm.graph_weight, lstm.hidden_weight, lstm.bias]
    assert torch.autograd.gradcheck(lambda *tensors: SynLSTMRecurrence.apply(order, *tensors), (*inputs, *weights))


def test_gradients_can_be_taken_twice_and_not_at_all():
    x, m, mask = batch()
    lstm = make()
    out = lstm(x, m.requires_grad_(), mask)
    first, second = (torch.autograd.grad(out.sum(), [m, lstm.bias], retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    with torch.no_grad():
        assert torch.equal(lstm(x, m, mask), out)


def test_permuting_the_batch_permutes_the_output():
    x, m, mask = batch()
    lstm = make()
    order = torch.tensor([2, 0, 5, 3, 1, 4])
    assert torch.allclose(lstm(x, m, mask)[order], lstm(x[order], m[order], mask[order]), atol=1e-12)


def test_a_document_alone_gives_what_it_gives_in_the_batch():
    x, m, mask = batch()
    lstm = make()
    out = lstm(x, m, mask)
    for b, n in enumerate(LENGTHS):
        alone = lstm(x[b : b + 1, :n], m[b : b + 1, :n], mask[b : b + 1, :n])
        assert torch.allclose(alone, out[b : b + 1, :n], atol=1e-12)


def test_padding_reaches_no_state_and_gets_no_gradient():
    x, m, mask = batch()
    lstm = make()
    out = lstm(x, m, mask)
    assert (out[~mask] == 0).all()
    far = [torch.nn.functional.pad(tensor, (0, 0, 0, 3), value=1e9).requires_grad_() for tensor in (x, m)]
    longer = mask_of(LENGTHS, 9)
    padded = lstm(*far, longer)
    assert torch.equal(padded[:, :6], out) and (padded[:, 6:] == 0).all()
    for grad in torch.autograd.grad((padded + 1).square().sum(), far):
        assert (grad[~longer] == 0).all() and (grad[longer] != 0).all()


def test_weights_start_within_the_bounds():
    lstm = SynLSTM(50, 60, 16)
    for parameter in lstm.parameters():
        assert 0.24 < parameter.max() <= 0.25 and -0.24 > parameter.min() >= -0.25


# Trees: heads by document; a root is its own head.
TREES = [[1, 1, 1, 2, 3], [0], [0, 1, 2], [], [0, 0, 3, 3, 0], [4, 4, 4, 4, 4]]


def graph_of(trees=TREES, width=None):
    """Padded heads, and relations that differ; the padding holds nonsense."""
    torch.manual_seed(2)
    mask = mask_of([len(heads) for heads in trees], width)
    heads = torch.full(mask.shape, 99)
    for b, tree in enumerate(trees):
        heads[b, : len(tree)] = torch.tensor(tree, dtype=torch.long)
    relations = torch.randint(ROWS, mask.shape).masked_fill(~mask, -1)
    return heads, relations, mask


def edges_of(heads, relations, mask):
    return tree_edges(heads, relations, mask, mask.flatten().nonzero().squeeze(1))


def arcs_of(heads, relations, mask):
    """(target, source, label) of every edge, the slow and obvious way."""
    first, arcs = 0, set()
    for b, length in enumerate(mask.sum(1).tolist()):
        for token in range(length):
            head, relation = int(heads[b, token]), int(relations[b, token])
            arcs.add((first + token, first + token, 0))
            if head != token:
                arcs.add((first + token, first + head, 1 + 2 * relation))
                arcs.add((first + head, first + token, 2 + 2 * relation))
        first += length
    return arcs


def test_edges_run_both_ways_and_never_between_documents():
    heads, relations, mask = graph_of()
    edges = edges_of(heads, relations, mask)
    tokens = int(mask.sum())
    real = edges.targets < tokens
    assert len(edges.sources) == 3 * tokens and (edges.targets.diff() >= 0).all()
    columns = (edges.targets[real], edges.sources[real], edges.labels[real])
    found = list(zip(*(column.tolist() for column in columns), strict=True))
    assert len(found) == len(set(found)) and set(found) == arcs_of(heads, relations, mask)
    assert torch.equal(edges.sizes.squeeze(1), edges.targets.bincount(minlength=tokens)[:tokens])
    document = mask.nonzero()[:, 0]
    assert torch.equal(document[columns[0]], document[columns[1]])


@pytest.mark.parametrize("trees", [[[0]], [[0, 1, 2, 3]]], ids=["one token", "only roots"])
def test_roots_have_no_arc(trees):
    edges = edges_of(*graph_of(trees))
    tokens = len(trees[0])
    assert edges.sizes.eq(1).all()
    assert edges.sources[:tokens].tolist() == list(range(tokens)) and edges.labels[:tokens].eq(0).all()


@pytest.mark.parametrize("head", [-1, 3])
def test_heads_outside_the_document_are_an_error(head):
    with pytest.raises(ValueError, match="outside its document"):
        edges_of(*graph_of([[0, head, 0], [0, 0, 0, 0]]))


def dense(layer, x, arcs):
    """The layer of all tokens by a dense adjacency, with gates and biases of each edge as it is met."""
    image = x @ layer.weight.t()
    rows = []
    for i in range(len(x)):
        terms = []
        for _, j, label in sorted(arc for arc in arcs if arc[0] == i):
            term = image[j] + (0 if len(layer.bias) == 1 else layer.bias[label])
            if layer.gate_weight is not None:
                term = term * (x[j] @ layer.gate_weight + layer.gate_bias[label]).sigmoid()
            terms.append(term)
        total = torch.stack(terms).sum(0) + (layer.bias[0] if len(layer.bias) == 1 else 0)
        rows.append((total / len(terms)).relu())
    return torch.stack(rows)


@pytest.mark.parametrize("edge_labels", EDGE_LABELS)
def test_gcn_equals_the_formulas_over_all_edges(edge_labels):
    heads, relations, mask = graph_of()
    gcn = GCN(INPUT, hidden_size=6, edge_labels=edge_labels, relations=ROWS, dropout_rate=0.0).double()
    for name, parameter in gcn.named_parameters():
        if "gate" in name:
            torch.nn.init.normal_(parameter)
    x = torch.randn(int(mask.sum()), INPUT, dtype=torch.float64, requires_grad=True)
    arcs = arcs_of(heads, relations, mask)
    ours = gcn(x, edges_of(heads, relations, mask))
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


def test_plain_gcn_equals_matrices():
    """The formula of the source, with the adjacency matrix of one tree."""
    heads, relations, mask = graph_of([[1, 1, 1, 2, 3, 5, 5]])
    layer = GCN(INPUT, hidden_size=6, layers=1, dropout_rate=0.0).double().layers[0]
    x = torch.randn(7, INPUT, dtype=torch.float64)
    adjacency = torch.zeros(7, 7, dtype=torch.float64)
    for token, head in enumerate(heads[0].tolist()):
        if token != head:
            adjacency[token, head] = adjacency[head, token] = 1.0
    image = x @ layer.weight.t()
    expected = ((adjacency @ image + image + layer.bias) / (adjacency.sum(1, keepdim=True) + 1)).relu()
    assert torch.allclose(layer(x, edges_of(heads, relations, mask)), expected, atol=1e-12)


@pytest.mark.parametrize("layers", [1, 2])
def test_dropout_is_between_the_layers_only(layers):
    heads, relations, mask = graph_of()
    gcn = GCN(INPUT, hidden_size=6, layers=layers, dropout_rate=0.5)
    x, edges = torch.randn(int(mask.sum()), INPUT), edges_of(heads, relations, mask)
    assert torch.equal(gcn(x, edges), gcn(x, edges)) == (layers == 1)


def encoder_batch(trees=TREES, dtype=torch.float32, **settings):
    heads, deps, mask = graph_of(trees)
    torch.manual_seed(3)
    settings = {"hidden_size": HIDDEN, "dep_size": 4, "label_rows": ROWS, "dropout_rate": 0.0, **settings}
    encoder = SynLSTMEncoder(INPUT, **settings).to(dtype)
    return encoder, torch.randn(*mask.shape, INPUT, dtype=dtype), mask, Graph(heads, deps, deps.roll(1, 0).abs())


@pytest.mark.parametrize("edge_labels", EDGE_LABELS)
def test_encoder_composes_its_parts_and_trains_all_of_them(edge_labels):
    encoder, x, mask, graph = encoder_batch(dtype=torch.float64, edge_labels=edge_labels, pos_size=2, graph_size=8)
    out = encoder(x, mask, graph)
    nodes = torch.cat([x[mask], encoder.dep(graph.deps[mask]), encoder.pos(graph.pos[mask])], 1)
    m = encoder.gcn(nodes, edges_of(graph.heads, graph.deps, mask))
    padded_nodes, padded_m = (tensor.new_zeros(*mask.shape, tensor.shape[1]) for tensor in (nodes, m))
    padded_nodes[mask], padded_m[mask] = nodes, m
    assert m.shape[1] == 8 and encoder.output_size == out.shape[2] == 2 * HIDDEN
    assert torch.allclose(out, encoder.lstm(padded_nodes, padded_m, mask), atol=1e-12)
    out[mask].sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in encoder.parameters())


def test_documents_do_not_see_each_other():
    encoder, x, mask, graph = encoder_batch(dtype=torch.float64)
    x.requires_grad_()
    encoder(x, mask, graph)[0].sum().backward()
    assert x.grad[0].abs().sum(1).gt(0).all() and x.grad[1:].abs().sum() == 0
    for b, tree in enumerate(TREES):
        n = len(tree)
        alone = [tensor[b : b + 1, :n] for tensor in (x, mask, *graph)]
        out = encoder(*alone[:2], Graph(*alone[2:]))
        assert torch.allclose(out, encoder(x, mask, graph)[b : b + 1, :n], atol=1e-12)


@pytest.mark.parametrize("edge_labels", EDGE_LABELS)
def test_labels_of_arcs_matter_unless_left_out(edge_labels):
    encoder, x, mask, graph = encoder_batch(edge_labels=edge_labels, dep_size=0)
    other = graph._replace(deps=(graph.deps + 1) % ROWS)
    same = torch.equal(encoder(x, mask, graph), encoder(x, mask, other))
    assert same == (edge_labels == "none")


def test_the_tree_matters():
    encoder, x, mask, graph = encoder_batch([[0, 0, 1, 2]])
    other = graph._replace(heads=torch.tensor([[0, 0, 0, 0]]))
    assert not torch.allclose(encoder(x, mask, graph), encoder(x, mask, other), atol=1e-4)


@pytest.mark.parametrize("edge_labels", EDGE_LABELS)
def test_bfloat16_autocast(edge_labels):
    encoder, x, mask, graph = encoder_batch(edge_labels=edge_labels)
    expected = encoder(x, mask, graph)
    with torch.autocast("cpu", torch.bfloat16):
        out = encoder(x.requires_grad_(), mask, graph)
    assert out.dtype == torch.float32 and torch.allclose(out, expected, atol=0.03) and not torch.equal(out, expected)
    out.square().sum().backward()
    for tensor in (x, *encoder.parameters()):
        assert tensor.grad.dtype == torch.float32 and tensor.grad.isfinite().all() and tensor.grad.abs().sum() > 0


@pytest.mark.parametrize("edge_labels", EDGE_LABELS)
def test_a_batch_without_tokens_has_a_gradient_of_zero(edge_labels):
    encoder, _, _, _ = encoder_batch(edge_labels=edge_labels)
    x, mask = torch.randn(2, 3, INPUT, requires_grad=True), torch.zeros(2, 3, dtype=torch.bool)
    nothing = torch.zeros(2, 3, dtype=torch.long)
    out = encoder(x, mask, Graph(nothing, nothing))
    out.sum().backward()
    assert out.shape == (2, 3, 2 * HIDDEN) and (out == 0).all() and (x.grad == 0).all()


def test_dropout_follows_the_training_settings():
    encoder, x, mask, graph = encoder_batch(dropout_rate=None)
    assert torch.equal(encoder(x, mask, graph), encoder(x, mask, graph))
    set_dropout(encoder, 0.5)
    assert not torch.equal(encoder(x, mask, graph), encoder(x, mask, graph))
    assert (encoder(x, mask, graph)[mask] == 0).any()
    encoder.eval()
    assert torch.equal(encoder(x, mask, graph), encoder(x, mask, graph))


def test_settings_are_checked():
    with pytest.raises(ValueError, match="must be positive, got 5, 0 and 3"):
        SynLSTM(5, 0, 3)
    with pytest.raises(ValueError, match="hidden_size, layers and relations must be positive, got 4, 0, 1"):
        GCN(5, hidden_size=4, layers=0)
    with pytest.raises(ValueError, match="edge_labels must be one of none, bias, gate, got both"):
        GCN(5, hidden_size=4, edge_labels="both")
    encoder, x, mask, graph = encoder_batch(pos_size=2)
    with pytest.raises(ValueError, match="pos_size needs parts of speech"):
        encoder(x, mask, graph._replace(pos=None))
