"""Two copies of each document in an update, and the divergence between their predictions."""

from itertools import product

import numpy as np
import pytest
import spacy
import torch
from conftest import make_examples, related_examples, small_model
from spacy.training.batchers import minibatch_by_padded_size
from spacy.util import registry
from thinc.api import set_dropout_rate
from torch.distributions import Bernoulli, Categorical, kl_divergence

from spacy_ner_arch.annotation.head_input import find_copies
from spacy_ner_arch.nn import batch as batch_module
from spacy_ner_arch.nn import pair_softmax
from spacy_ner_arch.nn.batch import make_batch
from spacy_ner_arch.nn.crf import LinearChainCRF
from spacy_ner_arch.nn.head import divergence
from spacy_ner_arch.nn.taggers import CRFTagger
from spacy_ner_arch.training import parallel
from spacy_ner_arch.training.r_drop import create_r_drop

CPU = torch.device("cpu")
TOK2VEC = small_model()["tok2vec"]
DOCUMENT = {"@misc": "spacy_ner_arch.EntityPairs.v1", "within": "document"}
PAIRS = {"@architectures": "spacy_ner_arch.SoftmaxPairs.v1"}
MULTITASK = {"@architectures": "spacy_ner_arch.MultitaskPairs.v1", "transe_weight": 0.1}


def relations(**settings):
    model = {"@architectures": "spacy_ner_arch.Relations.v1", "pairs": PAIRS}
    return "relation_extractor", {"candidates": DOCUMENT, "model": {**model, **settings}}


COMPONENTS = {
    "crf": ("sequence_ner", {"model": small_model("CRF")}),
    "softmax": ("sequence_ner", {"model": small_model("Softmax")}),
    "span": ("span_ner", {"model": small_model("Span")}),
    "nested": ("nested_ner", {"model": small_model("Span")}),
    "nested, several labels": ("nested_ner", {"model": small_model("Span"), "multi_label": True}),
    "relations": relations(),
    "multitask": relations(pairs=MULTITASK),
    "several labels": ("relation_extractor", {**relations()[1], "multi_label": True}),
}
each_component = pytest.mark.parametrize("kind", COMPONENTS)


def make(kind, consistency=1.0, **settings):
    """An initialized component with its examples."""
    nlp = spacy.blank("en")
    factory, config = COMPONENTS[kind]
    model = {"tok2vec": TOK2VEC, **config["model"], "consistency": consistency}
    pipe = nlp.add_pipe(factory, config={**config, "model": model, **settings})
    examples = related_examples(nlp)
    for eg in examples:
        for doc in (eg.reference, eg.predicted):
            doc.spans["sc"] = list(doc.ents)
    nlp.initialize(lambda: examples)
    return nlp, pipe, examples


def twice(examples):
    (batch,) = create_r_drop(lambda items: [list(items)])(examples)
    return batch


def loss_of(pipe, inputs):
    loss, _ = pipe.model.begin_update(inputs)
    return loss


def fix_corrupt_labels(monkeypatch):
    """Those of TransE are random."""
    monkeypatch.setattr(pair_softmax, "corrupt_labels", lambda held: (held.argmin(1), held.min(1).values == 0))


def add_noise(pipe, monkeypatch):
    """Let copies of a document have other token vectors, which depend on its place in the batch alone."""
    layer = pipe.model.layers[0]
    forward = layer._func

    def noisy(model, docs, is_train):
        vectors, backprop = forward(model, docs, is_train)
        noise = [np.random.default_rng(i).normal(size=rows.shape).astype("f") for i, rows in enumerate(vectors)]
        return [rows + extra for rows, extra in zip(vectors, noise, strict=True)], backprop

    monkeypatch.setattr(layer, "_func", noisy)


# The divergence


@pytest.mark.parametrize("several", [False, True])
def test_divergence_of_classes(several):
    """Two copies of two items, and an item alone."""
    scores = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    p, q = (
        Bernoulli(logits=scores[rows]) if several else Categorical(logits=scores[rows]) for rows in ([0, 3], [2, 1])
    )
    expected = (kl_divergence(p, q).sum() + kl_divergence(q, p).sum()) / 2
    mean = scores.sigmoid() if several else scores.softmax(-1)
    found = divergence(scores, mean, torch.tensor([2, 3, 0, 1, 4]))
    assert found.item() == pytest.approx(expected.item())
    torch.testing.assert_close(*(torch.autograd.grad(value, scores)[0] for value in (found, expected)))


def test_divergence_of_tag_sequences():
    """All sequences are enumerated. The gradient is that of two students with the other copy as a fixed teacher."""
    names = ["O", "B-X", "I-X", "L-X", "U-X"]
    crf = LinearChainCRF(5, batch_first=True, labels=names, scheme="BILUO").double()
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter)
    tagger = CRFTagger(3, names, "BILUO")
    tagger.crf = crf
    batch = make_batch([3, 3], CPU)
    emissions = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    copies = torch.tensor([3, 4, 5, 0, 1, 2])
    found = divergence(emissions.flatten(0, 1), tagger.expected_tags(emissions, batch).flatten(0, 1), copies)

    scores, transitions = crf.potentials(emissions, torch.tensor([3, 3]))
    paths = torch.tensor(list(product(range(5), repeat=3)))
    totals = sum(scores[:, t, paths[:, t]] for t in range(3))
    totals = totals + sum(transitions[paths[:, t], paths[:, t + 1]] for t in range(2))
    log_p, log_q = totals.log_softmax(-1)
    expected = ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum() / 2
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    students = -(log_q.exp().detach() * log_p + log_p.exp().detach() * log_q).sum() / 2
    gradients = [torch.autograd.grad(value, emissions, retain_graph=True)[0] for value in (found, students)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)


# Copies in a batch


def test_twice_gives_the_batches_of_another_batcher():
    make_batcher = registry.batchers.get("spacy_ner_arch.RDrop.v1")
    examples = make_examples(spacy.blank("en"))
    batches = list(make_batcher(lambda items: minibatch_by_padded_size(items, size=14, buffer=5))(examples))
    assert [len(batch) for batch in batches] == [
        2 * len(batch) for batch in minibatch_by_padded_size(examples, size=14, buffer=5)
    ]
    assert all(first is second for batch in batches for first, second in zip(batch[::2], batch[1::2], strict=True))


def test_copies_have_the_same_reference():
    a, b, c, *_ = make_examples(spacy.blank("en"))
    assert find_copies([a, b, a, c, a, b, a]) == [2, 5, 0, 3, 6, 1, 4]


def test_processes_share_copies(monkeypatch):
    examples = make_examples(spacy.blank("en"))
    monkeypatch.setattr(parallel, "size", lambda: 2)
    shares = []
    for rank in range(2):
        monkeypatch.setattr(parallel, "rank", lambda rank=rank: rank)
        shares.append(parallel.share(twice(examples)))
    assert sorted(len(share) for share in shares) == [4, 6]
    assert all(find_copies(share)[i] == i ^ 1 for share in shares for i in range(len(share)))
    assert {id(eg) for share in shares for eg in share} == {id(eg) for eg in examples}


@each_component
def test_without_dropout_copies_agree(kind, monkeypatch):
    _, pipe, examples = make(kind)
    fix_corrupt_labels(monkeypatch)
    loss = loss_of(pipe, pipe.update_input(twice(examples)))
    assert loss.total == pytest.approx(2 * pipe.loss_on(examples), rel=1e-5)
    assert loss.parts["consistency"] == pytest.approx(0.0, abs=1e-9)


@each_component
def test_the_loss_does_not_depend_on_how_batches_are_cut(kind, monkeypatch):
    _, pipe, examples = make(kind, consistency=3.0)
    add_noise(pipe, monkeypatch)
    inputs = pipe.update_input(twice(examples))
    fix_corrupt_labels(monkeypatch)
    results = []
    for tokens in (batch_module.CPU_TOKENS, 14):
        monkeypatch.setattr(batch_module, "CPU_TOKENS", tokens)
        pipe.head.zero_grad()
        loss, backprop = pipe.model.begin_update(inputs)
        backprop(1.0)
        values = [loss.total, *loss.parts.values()]
        results.append([torch.tensor(values), *(p.grad for p in pipe.head.parameters() if p.grad is not None)])
    assert results[0][0].min() > 0
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_order_of_a_batch_changes_nothing(monkeypatch):
    _, pipe, examples = make("relations")
    inputs = pipe.update_input(twice(examples))
    vectors = [rows for eg in twice(examples) for rows in pipe.model.layers[0].predict([eg.predicted])]
    noise = np.random.default_rng(0)
    noisy = [rows + noise.normal(size=rows.shape).astype("f") for rows in vectors]
    order = [3, 0, 8, 5, 2, 9, 1, 7, 4, 6]
    place = {i: row for row, i in enumerate(order)}
    shuffled = inputs._replace(
        docs=[inputs.docs[i] for i in order],
        items=[inputs.items[i] for i in order],
        targets=[inputs.targets[i] for i in order],
        copies=[place[inputs.copies[i]] for i in order],
    )
    totals = []
    for given, rows in ((inputs, noisy), (shuffled, [noisy[i] for i in order])):
        monkeypatch.setattr(pipe.model.layers[0], "_func", lambda model, docs, is_train, rows=rows: (rows, None))
        totals.append(loss_of(pipe, given))
    assert totals[0].parts["consistency"] > 1e-6
    assert totals[1].total == pytest.approx(totals[0].total, rel=1e-5)
    assert totals[1].parts == pytest.approx(totals[0].parts, rel=1e-4)


# Training


@each_component
def test_an_update_with_dropout(kind):
    nlp, pipe, examples = make(kind)
    losses = nlp.update(twice(examples), drop=0.4, sgd=nlp.create_optimizer())
    assert 0 < losses[f"{pipe.name}_consistency"] < losses[pipe.name]


def test_a_shared_encoder():
    nlp = spacy.blank("en")
    nlp.add_pipe("tok2vec")
    listener = {"@architectures": "spacy_ner_arch.Tok2VecListener.v1", "width": 96}
    model = {"@architectures": "spacy_ner_arch.CRF.v1", "tok2vec": listener, "consistency": 1.0}
    nlp.add_pipe("sequence_ner", config={"model": model})
    examples = make_examples(nlp)
    optimizer = nlp.initialize(lambda: examples)
    first = nlp.update(twice(examples), drop=0.3, sgd=optimizer)
    assert first["sequence_ner_consistency"] > 0
    for _ in range(30):
        last = nlp.update(twice(examples), drop=0.3, sgd=optimizer)
    assert last["sequence_ner"] < first["sequence_ner"] / 2


def test_copies_have_the_same_sampled_pairs():
    _, pipe, examples = make("relations", negative_ratio=1.0)
    _, items, targets, _, copies = pipe.update_input(twice(examples))
    assert sum(len(found.pairs) for found in items) == 16
    for i, other in enumerate(copies):
        assert items[i].pairs.tolist() == items[other].pairs.tolist()
        assert targets[i].rows.tolist() == targets[other].rows.tolist()


def test_accumulated_gradients_can_separate_copies():
    """An example alone has its own loss."""
    _, pipe, examples = make("crf")
    three = loss_of(pipe, pipe.update_input([examples[0], examples[0], examples[1]]))
    assert three.total == pytest.approx(2 * pipe.loss_on(examples[:1]) + pipe.loss_on(examples[1:2]), rel=1e-5)
    assert loss_of(pipe, pipe.update_input(examples[:1])).total == pytest.approx(pipe.loss_on(examples[:1]))


def test_without_consistency_copies_are_documents_as_any():
    nlp, pipe, examples = make("crf", consistency=0.0)
    set_dropout_rate(pipe.model, 0.3)
    assert pipe.update_input(twice(examples)).copies is None
    assert set(nlp.update(twice(examples), sgd=False)) == {"sequence_ner"}


def test_consistency_needs_copies():
    nlp, _, examples = make("crf")
    with pytest.raises(ValueError, match=r"sequence_ner: consistency = 1.0 compares two copies .*RDrop\.v1"):
        nlp.update(examples, sgd=False)


@each_component
def test_a_negative_consistency_is_an_error(kind):
    with pytest.raises(ValueError, match="consistency = -1.0 must be finite and not negative"):
        make(kind, consistency=-1.0)


def test_marked_copies_cannot_be_compared():
    model = relations(pairs={"@architectures": "spacy_ner_arch.MarkerPairs.v1"}, tok2vec=TOK2VEC, consistency=1.0)[1]
    with pytest.raises(ValueError, match="consistency cannot compare marked copies"):
        spacy.blank("en").add_pipe("relation_extractor", config=model)
