"""The BiLSTM compared with torch's own over packed sequences."""

import copy
import pickle

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import spacy_ner_arch.nn.lstm
from spacy_ner_arch.nn.batch import make_batch
from spacy_ner_arch.nn.lstm import BiLSTM

CPU = torch.device("cpu")
LENGTHS = [5, 1, 3, 0]


def inputs():
    """Token vectors (4, 5, 7) and the batch."""
    torch.manual_seed(0)
    return torch.randn(4, 5, 7), make_batch(LENGTHS, CPU)


@pytest.mark.parametrize("depth", [1, 2])
def test_equals_packed_sequences(depth):
    x, batch = inputs()
    ours = BiLSTM(7, hidden_size=6, depth=depth, dropout_rate=0.0)
    theirs = torch.nn.LSTM(7, 6, num_layers=depth, bidirectional=True, batch_first=True)
    for layer in range(depth):
        for name, weight in ours.forward_layers[layer].named_parameters():
            getattr(theirs, name.replace("l0", f"l{layer}")).data.copy_(weight)
        for name, weight in ours.backward_layers[layer].named_parameters():
            getattr(theirs, name.replace("l0", f"l{layer}") + "_reverse").data.copy_(weight)
    packed = pack_padded_sequence(x[:3], torch.tensor(LENGTHS[:3]), batch_first=True, enforce_sorted=False)
    expected, _ = pad_packed_sequence(theirs(packed)[0], batch_first=True)
    mask = batch.mask[:3]
    assert torch.allclose(ours(x, batch)[:3][mask], expected[mask], atol=1e-6)
    assert torch.equal(ours.read(x, batch.mask), ours(x, batch))


def test_permuting_the_batch_permutes_the_output():
    x, batch = inputs()
    lstm = BiLSTM(7, hidden_size=6, dropout_rate=0.0)
    order = [2, 0, 3, 1]
    moved = make_batch([LENGTHS[i] for i in order], CPU)
    out = lstm(x, batch)[order]
    assert torch.allclose(moved.flatten(out), moved.flatten(lstm(x[order], moved)), atol=1e-6)


def test_padding_reaches_no_state_and_gets_no_gradient():
    x, batch = inputs()
    lstm = BiLSTM(7, hidden_size=6, dropout_rate=0.0)
    other = torch.where(batch.mask.unsqueeze(-1), x, 1e3).requires_grad_()
    out = batch.flatten(lstm(other, batch))
    assert torch.allclose(out, batch.flatten(lstm(x, batch)))
    out.sum().backward()
    assert (other.grad[~batch.mask] == 0).all() and (other.grad[batch.mask] != 0).all()


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="must be positive, got 0 and 1"):
        BiLSTM(7, hidden_size=0)


@pytest.mark.parametrize("units", [False, True])
@pytest.mark.parametrize("count", [4, 20])
def test_bfloat16_on_a_cpu(units, count, monkeypatch):
    """With units for it, and in training for large batches; states and gradients hardly differ."""
    monkeypatch.setattr(spacy_ner_arch.nn.lstm, "has_bfloat16", lambda device: units)
    torch.manual_seed(0)
    lengths = [1 + i % 30 for i in range(count)]
    x, batch = torch.randn(count, max(lengths), 7), make_batch(lengths, CPU)
    lstm = BiLSTM(7, hidden_size=12, depth=2, dropout_rate=0.0)

    def run(enabled):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = batch.flatten(lstm(x, batch))
            with torch.no_grad():
                predicted = batch.flatten(lstm(x, batch))
        lstm.zero_grad()
        out.float().square().sum().backward()
        return out, predicted, torch.cat([p.grad.flatten() for p in lstm.parameters()])

    (out, predicted, gradient), (expected, _, expected_gradient) = run(True), run(False)
    assert out.dtype == (torch.bfloat16 if units and count == 20 else torch.float32)
    assert predicted.dtype == (torch.bfloat16 if units else torch.float32)
    assert (out - expected).abs().max() < 0.02 and (predicted - expected).abs().max() < 0.02
    assert (gradient - expected_gradient).norm() < 0.02 * expected_gradient.norm()


def test_prediction_of_long_sequences_in_parts_changes_nothing(monkeypatch):
    module = BiLSTM(3, hidden_size=4, depth=2).eval()
    x = torch.randn(3, 11, 3)
    batch = make_batch([11, 7, 1], CPU)
    whole = module(x, batch)
    monkeypatch.setattr(spacy_ner_arch.nn.lstm, "STEPS", 4)
    with torch.inference_mode():
        cut = module(x, batch)
    assert torch.allclose(whole[batch.mask], cut[batch.mask], atol=1e-6)


@pytest.mark.parametrize("lengths", [[6], [4, 4], [5, 1, 3]])
def test_prediction_equals_training_mode(lengths):
    """Prediction keeps weights in another form, and without padding it reverses whole rows."""
    torch.manual_seed(0)
    lstm = BiLSTM(7, hidden_size=6, depth=2, dropout_rate=0.0)
    x, batch = torch.randn(len(lengths), max(lengths), 7), make_batch(lengths, CPU)
    expected = batch.flatten(lstm(x, batch).detach())
    lstm.eval()
    for mode in (torch.no_grad, torch.inference_mode, torch.no_grad):
        with mode():
            assert torch.allclose(batch.flatten(lstm(x, batch)), expected, atol=1e-6)
    assert batch.is_padded == (len(lengths) == 3)


def fused_step(lstm):
    optimizer = torch.optim.AdamW(lstm.parameters(), lr=0.1, fused=True)
    for parameter in lstm.parameters():
        parameter.grad = torch.ones_like(parameter)
    lstm.train()
    optimizer.step()
    lstm.eval()


def copied(lstm):
    with torch.no_grad():
        for parameter in lstm.parameters():
            parameter.copy_(parameter * 0.5)


def loaded(lstm):
    lstm.load_state_dict({name: weight * 0.5 for name, weight in lstm.state_dict().items()})


def moved(lstm):
    lstm.double()
    copied(lstm)
    lstm.float()


@pytest.mark.parametrize("change", [fused_step, copied, loaded, moved])
def test_prediction_sees_changed_weights(change):
    torch.manual_seed(0)
    lstm = BiLSTM(7, hidden_size=6).eval()
    x, batch = torch.randn(1, 5, 7), make_batch([5], CPU)
    with torch.no_grad():
        before = lstm(x, batch)
        change(lstm)
        after = lstm(x, batch)
        with torch.backends.mkldnn.flags(enabled=False):
            expected = lstm(x, batch)
    assert torch.allclose(after, expected, atol=1e-6) and not torch.allclose(after, before, atol=1e-3)


def test_a_module_that_has_predicted_is_copied_and_stored():
    lstm = BiLSTM(7, hidden_size=6).eval()
    x, batch = torch.randn(1, 5, 7), make_batch([5], CPU)
    with torch.inference_mode():
        expected = lstm(x, batch)
        for other in (copy.deepcopy(lstm), pickle.loads(pickle.dumps(lstm))):
            assert torch.equal(other(x, batch), expected)
    lstm.train()(x, batch).sum().backward()  # and trained
    assert all(parameter.grad is not None for parameter in lstm.parameters())
