"""The CRF's Triton kernels against the torch code; on the CPU they run in Triton's interpreter (see conftest.py)."""

import warnings

import pytest
import torch

from spacy_ner_arch.annotation.tags import MISSING, tag_names
from spacy_ner_arch.nn import forward_backward, fused, viterbi
from spacy_ner_arch.nn.crf import LinearChainCRF
from spacy_ner_arch.nn.forward_backward import FORBIDDEN, log_alpha, log_beta, scaled_messages, total_score
from spacy_ner_arch.nn.viterbi import best_path

pytest.importorskip("triton", reason="Triton is not installed (torch brings it with CUDA on Linux)")

from spacy_ner_arch.nn import crf_kernels  # noqa: E402 - needs Triton

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

# Tags, and the length of each sequence.
SHAPES = [(1, [3, 1]), (2, [4, 0, 1]), (5, [1]), (16, [5, 7]), (17, [6, 2, 9, 0]), (33, [3, 4]), (128, [3])]


@pytest.fixture
def with_kernels(monkeypatch):
    """Call a function with the kernels instead of the torch code."""

    def call(function, *args, **kwargs):
        with monkeypatch.context() as patch:
            patch.setattr(forward_backward, "use_kernels", lambda emissions: True)
            patch.setattr(viterbi, "use_kernels", lambda emissions: True)
            return function(*args, **kwargs)

    return call


@pytest.fixture
def on_torch(monkeypatch):
    """The torch code, also on a GPU."""
    monkeypatch.setattr(torch.Tensor, "is_cpu", False)  # on a CPU, the CRF predicts in NumPy
    monkeypatch.setattr(forward_backward, "use_kernels", lambda emissions: False)
    monkeypatch.setattr(viterbi, "use_kernels", lambda emissions: False)


def make(tags, lengths, spread=2.0, forbidden=0.3, dtype=torch.float32):
    emissions = torch.randn(len(lengths), max(lengths), tags, dtype=dtype) * spread
    transitions = torch.randn(tags, tags, dtype=dtype)
    transitions[(torch.rand(tags, tags) < forbidden) & ~torch.eye(tags).bool()] = FORBIDDEN
    emissions[..., -1][torch.rand(emissions.shape[:2]) < 0.2] += FORBIDDEN if tags > 1 else 0.0
    return emissions.to(DEVICE), transitions.to(DEVICE), torch.tensor(lengths).to(DEVICE)


def path_score(emissions, transitions, path):
    """float64 score of one path over the first steps of emissions (T, K)."""
    steps = emissions.double()[torch.arange(len(path)), path].sum()
    return steps + transitions.double()[path[:-1], path[1:]].sum()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tags, lengths", SHAPES)
@pytest.mark.parametrize("spread", [2.0, 60.0])
def test_messages_equal_those_of_torch(tags, lengths, spread, dtype, with_kernels, on_torch):
    batch = make(tags, lengths, spread, dtype=dtype)
    ours, expected = with_kernels(scaled_messages, *batch), scaled_messages(*batch)
    for name, one, other in zip(ours._fields, ours, expected, strict=True):
        assert one.dtype == torch.float64 and one.isfinite().all(), name
        if name == "beta":  # that of END is multiplied by an alpha of 0
            one, other = one[..., :tags], other[..., :tags]
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-12), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tags, lengths", SHAPES)
def test_best_paths_equal_those_of_torch(tags, lengths, dtype, on_torch):
    batch = make(tags, lengths, dtype=dtype)
    ours, expected = crf_kernels.fused_best_path(*batch), best_path(*batch)
    assert ours.dtype == torch.int64 and ours.shape == expected.shape
    for b, length in enumerate(lengths):
        assert ours[b, :length].tolist() == expected[b, :length].tolist()
        assert not ours[b, length:].any()


def test_long_sequences(with_kernels, on_torch):
    """Sums over many steps keep their precision."""
    emissions, transitions, lengths = batch = make(4, [200, 90], spread=1.0)
    tags = torch.arange(4).to(DEVICE)

    def log_messages():
        """Of the sequence without padding, and the log partition of both."""
        messages = scaled_messages(*batch)
        return log_alpha(messages, tags)[:, 0], log_beta(messages, tags)[:, 0], total_score(messages, lengths)

    for one, other in zip(with_kernels(log_messages), log_messages(), strict=True):
        assert torch.allclose(one, other, rtol=1e-12)
    ours, expected = crf_kernels.fused_best_path(*batch), best_path(*batch)
    for b, length in enumerate(lengths.tolist()):
        scores = [path_score(emissions[b], transitions, path[b, :length]) for path in (ours, expected)]
        assert torch.allclose(*scores, rtol=1e-7)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("scheme", ["BILUO", "BIO"])
@pytest.mark.parametrize("partial", [False, True])
def test_crf_with_kernels(scheme, partial, batch_first, with_kernels, on_torch):
    """Loss, gradients, decoding and probabilities of entities do not change."""
    names = tag_names(["X", "Y"], scheme)
    crf = LinearChainCRF(len(names), batch_first=batch_first, labels=names, scheme=scheme).to(DEVICE)
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter)
    emissions = torch.randn(3, 6, len(names)).to(DEVICE)
    mask = (torch.arange(6) < torch.tensor([[6], [0], [3]])).to(DEVICE)
    tags = torch.zeros(3, 6, dtype=torch.long).to(DEVICE)
    if partial:
        tags[:, 1:3] = MISSING
    if not batch_first:
        emissions, mask, tags = emissions.transpose(0, 1), mask.t(), tags.t()
    emissions.requires_grad_()
    inputs = [emissions, *crf.parameters()]

    def loss_and_gradients():
        loss = crf(emissions, tags, mask, partial=partial)
        return [loss, *torch.autograd.grad(loss, inputs)]

    for ours, expected in zip(with_kernels(loss_and_gradients), loss_and_gradients(), strict=True):
        assert torch.allclose(ours, expected, atol=1e-6)
    assert with_kernels(crf.decode, emissions, mask) == crf.decode(emissions, mask)
    if crf.labels is not None:
        shown = mask if batch_first else mask.t()
        (_, ours), (_, expected) = with_kernels(crf.predict, emissions, mask), crf.predict(emissions, mask)
        assert torch.allclose(ours[shown], expected[shown], atol=1e-10)


def test_no_kernels_on_the_cpu_or_for_many_tags(monkeypatch):
    assert not fused.use_kernels(torch.zeros(1, 1, 3))
    monkeypatch.setattr(fused, "kernels_compile", lambda device: True)
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    assert fused.use_kernels(torch.zeros(1, 1, fused.MAX_TAGS))
    assert not fused.use_kernels(torch.zeros(1, 1, fused.MAX_TAGS + 1))


def test_kernels_that_do_not_compile_are_reported(monkeypatch):
    device = torch.device(DEVICE)
    fused.kernels_compile.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # numpy's own about Triton's interpreter do not matter
        assert fused.kernels_compile(device)

    def no_compiler(*args):
        raise RuntimeError("Failed to find C compiler")

    fused.kernels_compile.cache_clear()
    monkeypatch.setattr(crf_kernels, "fused_messages", no_compiler)
    with pytest.warns(UserWarning, match="slower.*Failed to find C compiler.*gcc"):
        assert not fused.kernels_compile(device)
    fused.kernels_compile.cache_clear()
