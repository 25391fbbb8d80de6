"""Learning from a teacher: the loss against enumeration, and the way from `annotate --soft` to a trained student."""

import numpy as np
import pytest
import torch

from spacy_ner_arch.annotation.chains import Chain, TagTarget
from spacy_ner_arch.annotation.tags import MISSING, OUTSIDE, encode, legality, tag_names
from spacy_ner_arch.nn.batch import make_batch
from spacy_ner_arch.nn.taggers import CRFTagger, SoftmaxTagger

CPU = torch.device("cpu")
WIDTH = 5
HEADS = {"CRF": CRFTagger, "Softmax": SoftmaxTagger}
each_head = pytest.mark.parametrize("head", HEADS)
each_scheme = pytest.mark.parametrize("scheme", ["BIO", "BILUO"])


# The loss


def make_head(head, labels, scheme, **settings):
    module = HEADS[head](WIDTH, tag_names(labels, scheme), scheme, loss_scale=1.0, dropout_rate=0.0, **settings)
    torch.nn.init.normal_(module.output.weight)
    if head == "CRF":
        for parameter in module.crf.parameters():
            torch.nn.init.normal_(parameter)
    return module


def make_chain(labels, scheme, length):
    tags = tuple(tag_names(labels, scheme))
    k = len(tags)
    start, transitions, end, emissions = (torch.randn(n).numpy() for n in ((k,), (k, k), (k,), (length, k)))
    return Chain(tags, scheme, start, transitions, end, emissions)


def legal_paths(names, scheme, length):
    """All legal tag sequences."""
    legal = legality(names, scheme)
    paths = [(name,) for name, starts in zip(names, legal.start, strict=True) if starts]
    for _ in range(length - 1):
        paths = [
            (*path, name)
            for path in paths
            for name, follows in zip(names, legal.transition[names.index(path[-1])], strict=True)
            if follows
        ]
    return [path for path in paths if legal.end[names.index(path[-1])]]


def is_possible(path, known, chain):
    """Whether a path has the known tags, and elsewhere tags of the teacher that do not continue a known entity."""
    for t, name in enumerate(path):
        if t in known:
            if name != known[t]:
                return False
        elif name not in chain.tags or (t - 1 in known and name[0] in "IL" and name[1:] == known[t - 1][1:]):
            return False
    return True


def teacher_distribution(chain, known, student, temperature=1.0):
    """Possible paths with their probabilities, over the tags of both. What the teacher does not know is O for it."""
    names = [*student, *(tag for tag in chain.tags if tag not in student)]
    paths = [p for p in legal_paths(names, chain.scheme, len(chain.emissions)) if is_possible(p, known, chain)]
    scores = []
    for path in paths:
        at = [chain.tags.index(name if name in chain.tags else OUTSIDE) for name in path]
        score = chain.start[at[0]] + chain.end[at[-1]] + sum(chain.emissions[t, k] for t, k in enumerate(at))
        scores.append(score + sum(chain.transitions[i, j] for i, j in zip(at, at[1:], strict=False)))
    return paths, torch.tensor(np.array(scores), dtype=torch.float64).div(temperature).softmax(0)


def path_scores(crf, emissions, paths):
    at = torch.tensor([[crf.labels.index(name) for name in path] for path in paths])
    scores = crf.start_transitions[at[:, 0]] + crf.end_transitions[at[:, -1]]
    return scores + crf.transitions[at[:, :-1], at[:, 1:]].sum(1) + emissions[torch.arange(len(emissions)), at].sum(1)


def expected_loss(module, x, chain, known, temperature=1.0):
    """The mean over the paths of the teacher of the negative log likelihood of the student."""
    student, emissions = module.crf.labels, module.output(x).double()
    paths, weights = teacher_distribution(chain, known, student, temperature)
    as_student = [[name if name in student else OUTSIDE for name in path] for path in paths]
    if isinstance(module, SoftmaxTagger):
        # Its transitions are 0, and it knows no legality in training.
        likelihoods = path_scores(module.crf, emissions.log_softmax(-1), as_student)
    else:
        total = path_scores(module.crf, emissions, legal_paths(student, chain.scheme, len(x))).logsumexp(0)
        likelihoods = path_scores(module.crf, emissions, as_student) - total
    return -(likelihoods * weights).sum()


def loss_of(module, x, targets):
    """Loss of a batch of documents, whose vectors are rows of x."""
    lengths = [len(target.tags) for target in targets]
    batch = make_batch(lengths, CPU)
    return module(batch.pad(x), module.collate(batch, None, targets)).total


def gradients(loss, module, x):
    inputs = [x, *(parameter for parameter in module.parameters() if parameter.requires_grad)]
    return torch.autograd.grad(loss, inputs, allow_unused=True)


def target(module, chain, known):
    """The gold tags by position; a tag that the student does not have is O."""
    tags = np.full(len(chain.emissions), MISSING)
    names = module.crf.labels
    for t, name in known.items():
        tags[t] = names.index(name if name in names else OUTSIDE)
    return TagTarget(tags, chain)


# The labels of student and teacher: the same; the student knows more; the teacher knows more; each has one of its own.
LABELS = [(["X", "Y"], ["Y", "X"]), (["X", "Y"], ["X"]), (["X"], ["X", "Y"]), (["X", "Y"], ["X", "Z"])]
KNOWN = {
    "nothing": {},
    "O": {1: "O"},
    "an entity of the first label": {1: "first X", 2: "last X"},
    "an entity at the end": {0: "O", 3: "single X"},
    "an entity of the last label of the student": {0: "single S", 2: "O"},
}


def known_tags(known, scheme, label):
    prefixes = {"first": "B", "last": "L" if scheme == "BILUO" else "I", "single": "U" if scheme == "BILUO" else "B"}
    named = {t: tag.replace("S", label).split() for t, tag in known.items()}
    return {t: f"{prefixes[parts[0]]}-{parts[1]}" if len(parts) == 2 else "O" for t, parts in named.items()}


@each_head
@each_scheme
@pytest.mark.parametrize("student, teacher", LABELS)
@pytest.mark.parametrize("known", KNOWN.values(), ids=list(KNOWN))
def test_loss_and_gradient_equal_enumeration(head, scheme, student, teacher, known):
    module = make_head(head, student, scheme, teacher_temperature=2.0)
    chain = make_chain(teacher, scheme, 4)
    known = known_tags(known, scheme, student[-1])
    x = torch.randn(4, WIDTH, requires_grad=True)
    ours = loss_of(module, x, [target(module, chain, known)])
    expected = expected_loss(module, x, chain, known, temperature=2.0)
    assert torch.allclose(ours.double(), expected, rtol=1e-4)
    for a, b in zip(gradients(ours, module, x), gradients(expected, module, x), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


@each_scheme
def test_a_chain_without_some_labels_is_that_of_documents_without_them(scheme):
    chain = make_chain(["X", "Y"], scheme, 4)
    paths, weights = teacher_distribution(chain, {}, chain.tags)
    without = [not any(name.endswith("-Y") for name in path) for path in paths]
    kept, expected = [path for path, ok in zip(paths, without, strict=True) if ok], weights[torch.tensor(without)]
    found, probabilities = teacher_distribution(chain.without(["Y", "other"]), {}, chain.without(["Y"]).tags)
    assert found == kept and torch.allclose(probabilities, expected / expected.sum())


@each_head
@each_scheme
def test_where_all_is_gold_the_loss_is_the_ordinary_one(head, scheme):
    settings = {"label_smoothing": 0.2, "class_weights": {"X": 3.0}} if head == "Softmax" else {}
    module = make_head(head, ["X", "Y"], scheme, **settings)
    x = torch.randn(7, WIDTH, requires_grad=True)
    golds = [encode(4, [(0, 1, "Y"), (1, 3, "X")], scheme), encode(3, [(1, 3, "Y")], scheme)]
    tags = [np.array([module.crf.labels.index(name) for name in gold]) for gold in golds]
    chains = [make_chain(["X"], scheme, 4), make_chain(["X", "Y"], scheme, 3)]
    ordinary = loss_of(module, x, [TagTarget(row) for row in tags])
    taught = loss_of(module, x, [TagTarget(row, chain) for row, chain in zip(tags, chains, strict=True)])
    assert torch.allclose(ordinary, taught, rtol=1e-5)
    for a, b in zip(gradients(ordinary, module, x), gradients(taught, module, x), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@each_scheme
def test_a_pipeline_learns_nothing_from_itself(scheme):
    module = make_head("CRF", ["X", "Y"], scheme)
    x = torch.randn(6, WIDTH, requires_grad=True)
    emissions = module.output(x).detach().numpy()
    chain = Chain(tuple(module.crf.labels), scheme, emissions=emissions, **module.chain_scores())
    loss = loss_of(module, x, [TagTarget(np.full(6, MISSING), chain)])
    assert all(torch.allclose(g, torch.zeros(()), atol=1e-5) for g in gradients(loss, module, x))
    assert loss.item() == pytest.approx(module.entropy(emissions), rel=1e-5)


@each_head
def test_documents_of_several_teachers_and_without_one_in_a_batch(head):
    module = make_head(head, ["X", "Y"], "BILUO", teacher_weight=0.5)
    lengths = [3, 5, 1, 0, 4, 2, 5]
    first, second = make_chain(["X"], "BILUO", 5), make_chain(["Y", "Z"], "BILUO", 5)
    chains = [None, first, second, None, first, None, second]
    x = torch.randn(sum(lengths), WIDTH)
    targets = []
    for length, chain in zip(lengths, chains, strict=True):
        tags = np.zeros(length, dtype=np.int64)
        tags[:2] = MISSING
        cut = chain and chain._replace(emissions=torch.randn(length, len(chain.tags)).numpy())
        targets.append(TagTarget(tags, cut))
    together = loss_of(module, x, targets)
    alone = [loss_of(module, rows, [each]) for rows, each in zip(x.split(lengths), targets, strict=True)]
    assert torch.allclose(together, torch.stack(alone).sum(), rtol=1e-5)
    whole = make_head(head, ["X", "Y"], "BILUO")
    whole.load_state_dict(module.state_dict())
    assert torch.allclose(loss_of(whole, x[3:8], targets[1:2]) * 0.5, alone[1])
    only_taught = [targets[1], targets[2], targets[4]]
    rows = torch.cat([x.split(lengths)[i] for i in (1, 2, 4)])
    assert torch.allclose(loss_of(module, rows, only_taught), alone[1] + alone[2] + alone[4], rtol=1e-5)


@pytest.mark.parametrize("settings", [{"teacher_weight": -1.0}, {"teacher_temperature": 0.0}])
def test_settings_that_are_refused(settings):
    with pytest.raises(ValueError, match="teacher_weight = .* must not be negative .* must be above 0"):
        make_head("CRF", ["X"], "BIO", **settings)
