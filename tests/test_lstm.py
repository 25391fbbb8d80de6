"""The BiLSTM against torch's own over packed sequences."""

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from spacy_ner_arch.nn.lstm import BiLSTM

LENGTHS = [5, 1, 3, 0]


def batch(seed=0):
    torch.manual_seed(seed)
    mask = torch.arange(5) < torch.tensor(LENGTHS).unsqueeze(1)
    return torch.randn(4, 5, 7), mask


@pytest.mark.parametrize("depth", [1, 2])
def test_equals_packed_sequences(depth):
    x, mask = batch()
    ours = BiLSTM(7, hidden_size=6, depth=depth, dropout_rate=0.0)
    theirs = torch.nn.LSTM(7, 6, num_layers=depth, bidirectional=True, batch_first=True)
    for layer in range(depth):
        for name, weight in ours.forward_layers[layer].named_parameters():
            getattr(theirs, name.replace("l0", f"l{layer}")).data.copy_(weight)
        for name, weight in ours.backward_layers[layer].named_parameters():
            getattr(theirs, name.replace("l0", f"l{layer}") + "_reverse").data.copy_(weight)
    packed = pack_padded_sequence(x[:3], torch.tensor(LENGTHS[:3]), batch_first=True, enforce_sorted=False)
    expected, _ = pad_packed_sequence(theirs(packed)[0], batch_first=True)
    assert torch.allclose(ours(x, mask)[:3][mask[:3]], expected[mask[:3]], atol=1e-6)


def test_permuting_the_batch_permutes_the_output():
    x, mask = batch()
    lstm = BiLSTM(7, hidden_size=6, dropout_rate=0.0)
    order = torch.tensor([2, 0, 3, 1])
    assert torch.allclose(lstm(x, mask)[order][mask[order]], lstm(x[order], mask[order])[mask[order]], atol=1e-6)


def test_padding_reaches_no_state_and_gets_no_gradient():
    x, mask = batch()
    lstm = BiLSTM(7, hidden_size=6, dropout_rate=0.0)
    other = torch.where(mask.unsqueeze(-1), x, 1e3).requires_grad_()
    out = lstm(other, mask)
    assert torch.allclose(out[mask], lstm(x, mask)[mask])
    out[mask].sum().backward()
    assert (other.grad[~mask] == 0).all() and (other.grad[mask] != 0).all()


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="must be positive, got 0 and 1"):
        BiLSTM(7, hidden_size=0)


def test_half_precision_on_a_cpu():
    x, mask = batch()
    lstm = BiLSTM(7, hidden_size=6, dropout_rate=0.0)
    with torch.autocast("cpu", torch.bfloat16):
        out = lstm(x.bfloat16(), mask)
    assert torch.allclose(out[mask], lstm(x, mask)[mask], atol=0.05)
