"""The CRF against enumeration of all paths, against pytorch-crf, and on inputs that break naive implementations."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
import torchcrf

from spacy_ner_arch.annotation import tags
from spacy_ner_arch.annotation.span_terms import SpanTerms, likely_spans, log_probability
from spacy_ner_arch.annotation.tags import MISSING, decode, encode, legality, split_tag, tag_names
from spacy_ner_arch.nn import numpy_crf
from spacy_ner_arch.nn.crf import LinearChainCRF
from spacy_ner_arch.nn.forward_backward import FORBIDDEN, log_partition
from spacy_ner_arch.nn.viterbi import best_path, best_paths

# BIS is not shipped: a new scheme needs no more than an entry in tags.SCHEMES.
SCHEMES = ["BILUO", "BIO", "BIS"]


@pytest.fixture(scope="module", autouse=True)
def new_scheme():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tags.SCHEMES, "BIS", tags.Scheme("B", "I", "I", "S"))
        yield


def enumerate_paths(crf, emissions, scheme=None):
    """All legal paths of one sequence (T, K) with their scores, the slow and obvious way."""
    steps, tags = emissions.shape
    legal = legality(crf.labels, scheme) if scheme else None
    for path in itertools.product(range(tags), repeat=steps):
        if legal is not None:
            pairs = zip(path, path[1:], strict=False)
            if not (legal.start[path[0]] and legal.end[path[-1]] and all(legal.transition[i, j] for i, j in pairs)):
                continue
        score = crf.start_transitions[path[0]] + crf.end_transitions[path[-1]]
        score = score + sum(emissions[t, tag] for t, tag in enumerate(path))
        score = score + sum(crf.transitions[i, j] for i, j in zip(path, path[1:], strict=False))
        yield path, score


def make(scheme=None, tags=4, seed=0):
    torch.manual_seed(seed)
    names = tag_names(["X"] if scheme == "BILUO" else ["X", "Y"], scheme) if scheme else None
    crf = LinearChainCRF(len(names) if names else tags, batch_first=True, labels=names, scheme=scheme).double()
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter)
    return crf


def mask_of(lengths):
    return torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)


@pytest.mark.parametrize("scheme", [None, *SCHEMES])
def test_likelihood_and_gradient_equal_enumeration(scheme):
    crf = make(scheme)
    lengths = [4, 1, 3]
    emissions = torch.randn(3, 4, crf.num_tags, dtype=torch.float64, requires_grad=True)
    paths = [list(enumerate_paths(crf, emissions[b, :n], scheme)) for b, n in enumerate(lengths)]
    golds = [max(p, key=lambda item: item[1])[0] for p in paths]
    tags = torch.zeros(3, 4, dtype=torch.long)
    for b, gold in enumerate(golds):
        tags[b, : len(gold)] = torch.tensor(gold)
    expected = [
        dict(p)[gold] - torch.logsumexp(torch.stack([score for _, score in p]), 0)
        for p, gold in zip(paths, golds, strict=True)
    ]
    weights = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    ours = crf(emissions, tags, mask_of(lengths), reduction="none")
    assert torch.allclose(ours, torch.stack(expected))
    inputs = [emissions, *crf.parameters()]
    for a, b in zip(
        torch.autograd.grad((ours * weights).sum(), inputs),
        torch.autograd.grad((torch.stack(expected) * weights).sum(), inputs),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-10)
    assert crf.decode(emissions, mask_of(lengths)) == [list(gold) for gold in golds]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_missing_tags_sum_over_all_ways_to_fill_them(scheme):
    crf = make(scheme)
    emissions = torch.randn(1, 4, crf.num_tags, dtype=torch.float64, requires_grad=True)
    paths = list(enumerate_paths(crf, emissions[0], scheme))
    known = {1: paths[len(paths) // 2][0][1]}
    tags = torch.full((1, 4), MISSING)
    for t, tag in known.items():
        tags[0, t] = tag
    may_follow = ~legality(crf.labels, scheme).extends[known[1]]
    agreeing = torch.stack([score for path, score in paths if path[1] == known[1] and may_follow[path[2]]])
    expected = agreeing.logsumexp(0) - torch.stack([score for _, score in paths]).logsumexp(0)
    ours = crf(emissions, tags, partial=True)
    assert torch.allclose(ours, expected)
    inputs = [emissions, *crf.parameters()]
    for a, b in zip(torch.autograd.grad(ours, inputs), torch.autograd.grad(expected, inputs), strict=True):
        assert torch.allclose(a, b, atol=1e-10)
    nothing_known = crf(emissions, torch.full((1, 4), MISSING), partial=True)
    assert torch.allclose(nothing_known, torch.zeros(()).double(), atol=1e-10)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_known_entity_ends_where_its_annotation_ends(scheme):
    crf = make(scheme)
    emissions = torch.randn(1, 4, crf.num_tags, dtype=torch.float64)
    label = split_tag(crf.labels[1])[1]
    names = encode(4, [(1, 2, label)], scheme)
    tags = torch.full((1, 4), MISSING)
    tags[0, 1] = crf.labels.index(names[1])
    paths = list(enumerate_paths(crf, emissions[0], scheme))
    has_entity = [(1, 2, label) in decode(np.array(path), crf.labels, scheme) for path, _ in paths]
    scores = torch.stack([score for _, score in paths])
    expected = scores[torch.tensor(has_entity)].logsumexp(0) - scores.logsumexp(0)
    assert torch.allclose(crf(emissions, tags, partial=True), expected)


def span_terms(crf, emissions, length, temperature=1.0):
    """Terms of the last document of a batch, with padding if `length` is less than the number of steps."""
    mask = mask_of([emissions.shape[1], length])
    rows = crf.predict(torch.stack([emissions[0], emissions[0]]), mask, temperature)[1][1, :length]
    return SpanTerms(*rows.numpy().swapaxes(0, 1))


@pytest.mark.parametrize("length", [1, 2, 4, 5])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_probabilities_of_all_spans_equal_enumeration(scheme, length):
    crf = make(scheme)
    emissions = torch.randn(1, 5, crf.num_tags, dtype=torch.float64)
    paths = list(enumerate_paths(crf, emissions[0, :length], scheme))
    total = torch.stack([score for _, score in paths]).logsumexp(0)
    spans = {path: decode(torch.tensor(path).numpy(), crf.labels, scheme) for path, _ in paths}
    labels = sorted({label for found in spans.values() for _, _, label in found})
    expected = Counter()
    for path, score in paths:
        for start, end, label in spans[path]:
            expected[start, end, labels.index(label)] += float((score - total).detach().exp())
    assert len(expected) == len(labels) * length * (length + 1) // 2
    terms = span_terms(crf, emissions, length)
    found = {key: math.exp(log_probability(terms, *key)) for key in expected}
    assert found == pytest.approx(expected, rel=1e-9)
    everything = likely_spans(terms, np.full(len(labels), 1e-12))
    assert {row[:3]: row[3] for row in everything} == pytest.approx(expected, rel=1e-9)
    likely = likely_spans(terms, np.array([0.05, *[np.inf] * (len(labels) - 1)]))
    assert {row[:3] for row in likely} == {key for key, value in expected.items() if key[2] == 0 and value >= 0.05}


def test_spans_of_a_long_document_are_found_at_any_width():
    """An entity of 2,000 tokens, in a document in which sums of scores are large."""
    crf = make("BILUO")
    for parameter in crf.parameters():
        parameter.data.zero_()
    tags = torch.tensor([crf.labels.index(tag) for tag in encode(3_000, [(500, 2_500, "X")], "BILUO")])
    emissions = 20 * torch.nn.functional.one_hot(tags, crf.num_tags).double()[None]
    terms = span_terms(crf, emissions, 3_000)
    (found,) = likely_spans(terms, np.full(len(terms.single[0]), 0.5))
    assert found[:2] == (500, 2_500)
    assert found[3] == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("scheme", [None, *SCHEMES])
@pytest.mark.parametrize("length", [1, 2, 4])
def test_the_best_paths_in_order(scheme, length):
    crf = make(scheme)
    emissions = torch.randn(length, crf.num_tags, dtype=torch.float64)
    expected = sorted(
        ((float(score.detach()), path) for path, score in enumerate_paths(crf, emissions, scheme)), reverse=True
    )
    scores, transitions = crf.potentials(emissions[None].float(), torch.tensor([length]))
    for count in (1, 3, 10_000):
        tags, found = best_paths(scores[0].detach(), transitions.detach(), count)
        assert [tuple(path) for path in tags.tolist()] == [path for _, path in expected[:count]]
        assert found.tolist() == pytest.approx([score for score, _ in expected[:count]], abs=1e-5)


def test_gradcheck():
    crf = make("BILUO")
    emissions = torch.randn(2, 3, crf.num_tags, dtype=torch.float64, requires_grad=True)
    transitions = torch.randn(crf.num_tags, crf.num_tags, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda e, a: log_partition(e, a, torch.tensor([3, 2])), (emissions, transitions))


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "token_mean"])
def test_equals_torchcrf(batch_first, reduction):
    torch.manual_seed(1)
    ours = LinearChainCRF(6, batch_first=batch_first)
    theirs = torchcrf.CRF(6, batch_first=batch_first)
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())
    emissions, tags, mask = torch.randn(5, 12, 6) * 3, torch.randint(0, 6, (5, 12)), mask_of([12, 7, 1, 3, 12])
    if not batch_first:
        emissions, tags, mask = emissions.transpose(0, 1), tags.t(), mask.t()
    assert torch.allclose(
        ours(emissions, tags, mask, reduction), theirs(emissions, tags, mask, reduction), rtol=1e-4, atol=1e-4
    )
    assert ours.decode(emissions, mask) == theirs.decode(emissions, mask)


def test_constraints_are_constants():
    crf = make("BILUO")
    assert set(crf.state_dict()) == {"start_transitions", "end_transitions", "transitions"}
    emissions = torch.randn(3, 6, crf.num_tags, dtype=torch.float64)
    tags = crf.best_tags(emissions)
    (-crf(emissions, tags)).backward()
    legal = legality(crf.labels, "BILUO")
    assert (crf.transitions.grad[~torch.from_numpy(legal.transition)] == 0).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_decoded_paths_are_legal_whatever_the_emissions(scheme):
    crf = make(scheme)
    legal = legality(crf.labels, scheme)
    for path in crf.decode(torch.randn(50, 7, crf.num_tags) * 100, mask_of([7] * 40 + [1] * 5 + [2] * 5)):
        assert legal.start[path[0]] and legal.end[path[-1]]
        assert all(legal.transition[i, j] for i, j in zip(path, path[1:], strict=False))


def test_rows_without_steps():
    crf = make()
    emissions = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[False] * 3, [True] * 3])
    llh = crf(emissions, torch.zeros(2, 3, dtype=torch.long), mask, reduction="none")
    llh.sum().backward()
    assert llh[0] == 0 and (emissions.grad[0] == 0).all() and (emissions.grad[1] != 0).any()
    assert crf.decode(emissions, mask)[0] == []


def test_padding_does_not_matter():
    crf = make("BIO").float()
    emissions, tags = torch.randn(1, 5, crf.num_tags), torch.zeros(1, 5, dtype=torch.long)
    padded = torch.cat([emissions, torch.full((1, 3, crf.num_tags), float("nan"))], dim=1)
    padded_tags = torch.cat([tags, torch.full((1, 3), MISSING)], dim=1)
    assert torch.equal(crf(emissions, tags), crf(padded, padded_tags, mask_of([5, 8])[:1]))
    assert crf.decode(emissions) == crf.decode(padded, mask_of([5, 8])[:1])


@pytest.mark.parametrize("spread", [0.1, 10.0, 60.0, 200.0])
@pytest.mark.parametrize("scheme", [None, "BILUO"])
def test_extreme_emissions_stay_finite_and_right(spread, scheme):
    """float32 against log space in float64, over spreads where probability space underflows."""
    exact = make(scheme, tags=5)
    crf = LinearChainCRF(exact.num_tags, batch_first=True, labels=exact.labels, scheme=scheme)
    crf.load_state_dict(exact.state_dict())
    emissions = ((torch.rand(8, 40, crf.num_tags) - 0.5) * spread).requires_grad_()
    wide = emissions.detach().double().requires_grad_()
    tags, mask = exact.best_tags(wide, mask_of([40] * 4 + [17] * 4)), mask_of([40] * 4 + [17] * 4)
    llh = crf(emissions, tags, mask, reduction="none")
    reference = reference_log_likelihood(exact, wide, tags, mask)
    assert torch.allclose(llh.double(), reference, rtol=1e-5, atol=1e-3)
    llh.sum().backward()
    reference.sum().backward()
    assert torch.allclose(emissions.grad.double(), wide.grad, atol=1e-4)
    for ours, theirs in zip(crf.parameters(), exact.parameters(), strict=True):
        assert torch.allclose(ours.grad.double(), theirs.grad, rtol=1e-4, atol=1e-3)


def test_ten_thousand_steps():
    exact = make("BILUO")
    crf = LinearChainCRF(exact.num_tags, batch_first=True, labels=exact.labels, scheme="BILUO")
    crf.load_state_dict(exact.state_dict())
    emissions = torch.randn(1, 10_000, crf.num_tags) * 5
    tags = crf.best_tags(emissions)
    llh = crf(emissions.requires_grad_(), tags)
    llh.backward()
    reference = reference_log_likelihood(exact, emissions.detach().double(), tags, torch.ones(1, 10_000).bool())
    # The score itself is near 1e5, where neighboring float32 numbers are 0.008 apart.
    assert abs(llh.double() - reference).item() < 0.01
    assert emissions.grad.isfinite().all() and emissions.grad.abs().max() <= 1.0 + 1e-5


def reference_log_likelihood(crf, emissions, tags, mask):
    """The textbook recursion in log space, by autograd."""
    start, transitions, end = (
        crf.start_transitions + crf.start_penalty,
        crf.transitions + crf.transition_penalty,
        crf.end_transitions + crf.end_penalty,
    )
    results = []
    for e, y, n in zip(emissions, tags, mask.sum(1).tolist(), strict=True):
        alpha = start + e[0]
        for t in range(1, n):
            alpha = (alpha.unsqueeze(1) + transitions).logsumexp(0) + e[t]
        gold = start[y[0]] + e[torch.arange(n), y[:n]].sum() + transitions[y[: n - 1], y[1:n]].sum() + end[y[n - 1]]
        results.append(gold - (alpha + end).logsumexp(0))
    return torch.stack(results)


def test_rescue_is_per_sequence():
    """One wild sequence must not change what its neighbors get."""
    crf = make().float()
    tame, wild = torch.randn(1, 20, 4), torch.randn(1, 20, 4) * 300
    tags = torch.zeros(2, 20, dtype=torch.long)
    both = crf(torch.cat([tame, wild]), tags, reduction="none")
    assert torch.equal(both[0], crf(tame, tags[:1], reduction="none")[0])
    assert both.isfinite().all()


def test_half_precision_is_computed_in_float32():
    crf = make().float()
    emissions, tags = torch.randn(2, 9, 4).bfloat16(), torch.zeros(2, 9, dtype=torch.long)
    assert torch.equal(crf(emissions, tags), crf(emissions.float(), tags))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: LinearChainCRF(3, labels=["O", "B-X"], scheme="BIO"), "2 labels for 3 tags"),
        (lambda: LinearChainCRF(3, labels=["O", "B-X", "I-X"]), "give both or neither"),
        (lambda: LinearChainCRF(3, labels=["O", "B-X", "I-X"], scheme="IOB"), "choose from BILUO, BIO"),
        (lambda: make().decode(torch.zeros(1, 2, 7)), "4 tags last"),
        (lambda: make()(torch.zeros(1, 2, 4), torch.zeros(1, 3).long()), "tags have shape"),
        (lambda: make()(torch.zeros(1, 2, 4), torch.zeros(1, 2).long(), reduction="max"), "invalid reduction"),
        (lambda: make().decode(torch.zeros(1, 3, 4), torch.tensor([[True, False, True]])), "hole"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("scheme", [None, *SCHEMES])
def test_temperature_divides_all_scores(scheme):
    crf, scaled = make(scheme), make(scheme)
    for parameter in scaled.parameters():
        parameter.data /= 3
    emissions = torch.randn(2, 5, crf.num_tags, dtype=torch.float64)
    tags = crf.best_tags(emissions)
    assert torch.allclose(crf(emissions, tags, temperature=3.0), scaled(emissions / 3, tags))
    if scheme is not None:
        ours, theirs = crf.predict(emissions, temperature=3.0)[1], scaled.predict(emissions / 3)[1]
        assert torch.allclose(ours.clamp_min(FORBIDDEN / 100), theirs.clamp_min(FORBIDDEN / 100))


def test_the_best_path_of_a_long_sequence_is_the_best():
    """Sums of float32 grow coarse; against the same in float64."""
    exact = make("BILUO")
    crf = LinearChainCRF(exact.num_tags, batch_first=True, labels=exact.labels, scheme="BILUO")
    crf.load_state_dict(exact.state_dict())
    emissions = torch.randn(1, 50_000, crf.num_tags) * 5
    tags = crf.best_tags(emissions)
    assert torch.equal(tags, exact.best_tags(emissions.double()))
    lengths = torch.tensor([50_000])
    with torch.no_grad():
        assert torch.equal(tags, best_path(*crf.potentials(emissions, lengths), lengths))


@pytest.mark.parametrize("scheme", [None, *SCHEMES])
def test_numpy_and_torch_give_the_same(scheme, monkeypatch):
    """NumPy computes small steps of the loss, and predicts short batches on a CPU."""
    crf = make(scheme).float()
    assert crf._in_numpy(torch.zeros(1, 1, crf.num_tags)) and not crf._in_numpy(torch.zeros(10**5, 1, crf.num_tags))
    torch.manual_seed(1)
    emissions, mask = 3 * torch.randn(5, 9, crf.num_tags), mask_of([9, 1, 4, 7, 2])

    def results():
        tags = crf.best_tags(emissions, mask)[mask]
        loss = crf(emissions, torch.zeros_like(mask, dtype=torch.long), mask)
        return tags, loss, *([] if scheme is None else crf.predict(emissions, mask, torch.tensor(2.0)))

    monkeypatch.setattr(numpy_crf, "CANDIDATES", 3 * crf.num_tags**2)  # two parts of the batch
    in_numpy = results()
    monkeypatch.setattr(torch.Tensor, "is_cpu", False)
    in_torch = results()
    assert torch.equal(in_numpy[0], in_torch[0]) and torch.allclose(in_numpy[1], in_torch[1])
    if scheme is not None:
        assert torch.equal(in_numpy[2][mask], in_torch[2][mask]) and torch.equal(in_numpy[2][mask], in_numpy[0])
        assert torch.allclose(*(terms[3][mask].clamp_min(FORBIDDEN / 100) for terms in (in_numpy, in_torch)))
