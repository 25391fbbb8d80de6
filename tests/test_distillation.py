"""Learning from a teacher: the loss against enumeration, and the way from `annotate --soft` to a trained student."""

import json
import re
import warnings

import numpy as np
import pytest
import spacy
import torch
from conftest import TRAIN, entities, make_examples, make_nlp, run_in_line, train, transformer_nlp
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Corpus, Example

from spacy_ner_arch.annotation.chains import Chain, TagTarget
from spacy_ner_arch.annotation.tags import MISSING, OUTSIDE, encode, legality, tag_names
from spacy_ner_arch.annotation.teachers import TEACHER, get_chain, set_chain
from spacy_ner_arch.nn.batch import make_batch
from spacy_ner_arch.nn.taggers import CRFTagger, SoftmaxTagger
from spacy_ner_arch.training.calibration import held_out_batches
from spacy_ner_arch.training.corpus import create_corpus
from spacy_ner_arch.training.labels import create_add_labels

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


@each_head
@each_scheme
@pytest.mark.parametrize("student, teacher", LABELS)
def test_held_out_likelihood_equals_enumeration(head, scheme, student, teacher):
    """Of the teacher's own distribution, among the legal tag sequences, and with that of a document without a chain."""
    module = make_head(head, student, scheme, teacher_temperature=2.0)
    chain = make_chain(teacher, scheme, 4)
    known = known_tags(KNOWN["an entity of the first label"], scheme, "")
    x = torch.randn(7, WIDTH)
    gold = TagTarget(np.array([0, 1, 0]) if scheme == "BIO" else np.zeros(3, dtype=np.int64))
    batch = make_batch([4, 3], CPU)
    found = module.held_out(batch.pad(x), module.collate(batch, None, [target(module, chain, known), gold]))
    assert found.items == 7
    paths, weights = teacher_distribution(chain, known, student)
    names = module.crf.labels
    as_student = [[name if name in names else OUTSIDE for name in path] for path in paths]
    documents = [(x[:4], as_student, weights), (x[4:], [[names[tag] for tag in gold.tags]], torch.ones(1))]
    for temperature in (0.5, 1.0, 3.0):
        expected = 0.0
        for rows, possible, shares in documents:
            emissions = module.output(rows).double()
            legal = path_scores(module.crf, emissions, legal_paths(names, scheme, len(rows))) / temperature
            likelihoods = path_scores(module.crf, emissions, possible) / temperature - legal.logsumexp(0)
            expected -= (likelihoods * shares).sum().item()
        assert float(found.loss(torch.tensor(temperature))) == pytest.approx(expected, rel=1e-4)


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


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"teacher_weight": -1.0}, "teacher_weight = -1.0 must be finite and not negative"),
        ({"teacher_temperature": 0.0}, "teacher_temperature = 0.0 must be above 0"),
    ],
)
def test_settings_that_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make_head("CRF", ["X"], "BIO", **settings)


# From `annotate --soft` to a student

TEXTS = [text for text, _ in TRAIN]


@pytest.fixture(scope="module")
def teacher(trained, tmp_path_factory):
    """Folder of a pipeline that knows TRAIN by heart, with a calibrated temperature."""
    folder = tmp_path_factory.mktemp("teacher")
    trained.to_disk(folder)
    nlp = spacy.load(folder)
    nlp.get_pipe("sequence_ner").head.temperature.fill_(1.5)
    nlp.to_disk(folder)
    return folder


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate([*TEXTS, ""])))
    return path


def annotate(*args, **options):
    return run_in_line("annotate", *args, **options)


def soft(*args):
    """Output of `annotate --soft`."""
    return annotate(*args, "--soft", "--to", "spacy")


def read_docs(folder, vocab=None):
    paths = sorted(folder.glob("part-*.spacy"))
    return [doc for path in paths for doc in DocBin().from_disk(path).get_docs(vocab or spacy.blank("en").vocab)]


def iob(doc):
    """As spaCy writes it: an empty string where the annotation is missing."""
    return [token.ent_iob_ for token in doc]


def marginals(chain):
    """Distribution of the tags of each token, (T, K)."""
    paths, weights = teacher_distribution(chain, {}, chain.tags)
    rows = np.zeros(chain.emissions.shape)
    for path, weight in zip(paths, weights, strict=True):
        rows[range(len(path)), [chain.tags.index(name) for name in path]] += float(weight)
    return rows


def test_annotate_soft_keeps_the_calibrated_distribution(teacher, texts, tmp_path):
    output = soft(teacher, texts, tmp_path / "out")
    assert "6 documents with 6 chains of the teacher, 0 gold entities" in output
    docs = read_docs(tmp_path / "out")
    assert [doc.text for doc in docs] == [*TEXTS, ""] and [doc.user_data["id"] for doc in docs] == [*range(6)]
    nlp = spacy.load(teacher)
    pipe = nlp.get_pipe("sequence_ner")
    for doc in docs:
        chain = get_chain(doc)
        assert chain.tags == tuple(pipe.tags) and chain.scheme == "BILUO" and chain.emissions.dtype == np.float16
        assert iob(doc) == [""] * len(doc) and not doc.ents
    for doc in docs[1:4:2]:
        (exact,) = pipe.chains([nlp.make_doc(doc.text)])
        assert np.allclose(marginals(get_chain(doc)), marginals(exact), atol=2e-3)
    # The probabilities are those of the entities.
    doc = nlp(TEXTS[1])
    assert marginals(get_chain(docs[1]))[1, pipe.tags.index("U-LOC")] == pytest.approx(doc.ents[0]._.score, abs=2e-3)


@pytest.mark.slow
def test_the_same_bytes_with_two_processes(teacher, texts, tmp_path):
    for name, processes in (("one", 1), ("two", 2)):
        soft(teacher, texts, tmp_path / name, "--shard-size", 2, "-n", processes)
    for path in (tmp_path / "one").glob("part-*"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def gold_corpus(path, **settings):
    """TRAIN with gold entities, of the first two documents; nothing is known of the others."""
    docs = []
    for number, (text, spans) in enumerate(TRAIN):
        doc = spacy.blank("en")(text)
        if number < 2:
            doc.set_ents([Span(doc, *span) for span in spans], **settings)
        docs.append(doc)
    DocBin(docs=docs).to_disk(path)
    return path


def test_gold_annotation_of_the_input_stays(teacher, tmp_path):
    path = gold_corpus(tmp_path / "gold.spacy", default="outside")
    assert "5 chains of the teacher, 3 gold entities" in soft(teacher, path, tmp_path / "out")
    docs = read_docs(tmp_path / "out")
    assert iob(docs[0]) == ["B", "I", "O", "O", "B", "O"] and iob(docs[2]) == [""] * len(docs[2])
    # The output is an input, as of another teacher: its chain is replaced.
    soft(teacher, tmp_path / "out", tmp_path / "again")
    for doc, again in zip(docs, read_docs(tmp_path / "again"), strict=True):
        assert iob(doc) == iob(again) and np.array_equal(get_chain(doc).emissions, get_chain(again).emissions)
    annotate(teacher, tmp_path / "out", tmp_path / "hard", "--to", "spacy")
    assert all(TEACHER not in doc.user_data and doc.has_annotation("ENT_IOB") for doc in read_docs(tmp_path / "hard"))


def test_gold_labels_say_what_the_input_annotates(teacher, tmp_path):
    path = gold_corpus(tmp_path / "gold.spacy", default="outside")
    output = soft(teacher, path, tmp_path / "out", "--gold-labels", "LOC,DATE")
    assert "5 chains of the teacher, 2 gold entities" in output
    assert "1 entities whose labels --gold-labels does not name are left out: PER (1)" in output
    docs = read_docs(tmp_path / "out")
    assert iob(docs[0]) == ["", "", "", "", "B", ""] and iob(docs[1]) == ["", "B", "", "", ""]
    assert all(set(get_chain(doc).labels) == {"ORG", "PER"} for doc in docs)
    assert "No entity of the inputs" not in output
    output = soft(teacher, path, tmp_path / "typo", "--gold-labels", "LOK")
    assert "are left out: LOC (2), PER (1)" in output
    assert "No entity of the inputs has a label of --gold-labels LOK" in output
    assert "0 gold entities" in soft(teacher, path, tmp_path / "none", "--gold-labels", "")
    docs = read_docs(tmp_path / "none")
    assert not any(any(iob(doc)) for doc in docs) and get_chain(docs[0]).labels == ["LOC", "ORG", "PER"]


@pytest.mark.slow
def test_components_around_the_teacher(teacher, tiny_transformers, tmp_path):
    """What is in front of it runs, but sets no entities, and vectors are not stored."""
    nlp = transformer_nlp(tiny_transformers["bert"])
    nlp.initialize(lambda: make_examples(nlp))
    ruler = nlp.add_pipe("entity_ruler", first=True)
    ruler.add_patterns([{"label": "PER", "pattern": "quiet"}])
    nlp.to_disk(tmp_path / "model")
    path = gold_corpus(tmp_path / "gold.spacy", default="outside")
    soft(tmp_path / "model", path, tmp_path / "out")
    docs = read_docs(tmp_path / "out")
    assert iob(docs[1]) == ["O", "B", "O", "O", "O"] and iob(docs[4]) == [""] * len(docs[4])
    assert all(doc.user_data.keys() <= {TEACHER, ("._.", "trf_data", None, None)} for doc in docs)
    assert all(doc._.trf_data is None for doc in docs)


@pytest.mark.slow
def test_several_teachers_in_a_pipeline(teacher, texts, tmp_path):
    nlp = spacy.load(teacher)
    nlp.add_pipe("sequence_ner", "other", source=spacy.load(teacher))
    nlp.get_pipe("other").head.output.weight.data.zero_()
    nlp.to_disk(tmp_path / "model")
    output = annotate(tmp_path / "model", texts, tmp_path / "none", "--soft", "--to", "spacy", code=1)
    assert "several sequence_ner: give --component, one of ['sequence_ner', 'other']" in output
    soft(tmp_path / "model", texts, tmp_path / "out", "--component", "other")
    doc = read_docs(tmp_path / "out")[0]
    expected, other = (nlp.get_pipe(name).chains([nlp.make_doc(doc.text)])[0] for name in ("other", "sequence_ner"))
    assert np.allclose(marginals(get_chain(doc)), marginals(expected), atol=2e-3)
    assert not np.allclose(marginals(expected), marginals(other), atol=0.1)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--soft"], "--soft writes to doc.user_data, which only .spacy files have; add --to spacy"),
        (["--gold-labels", "LOC"], "--gold-labels is for --soft"),
        (["--component", "sequence_ner"], "--component is for --soft"),
        (["--soft", "--to", "spacy", "--component", "ner"], "--component ner is not a sequence_ner of this pipeline"),
        (["--soft", "--to", "spacy", "--gold-labels", "LOC"], "--gold-labels is for .spacy files, and"),
    ],
)
def test_options_that_are_refused(teacher, texts, tmp_path, options, message):
    assert message in annotate(teacher, texts, tmp_path / "out", *options, code=1)


def test_a_pipeline_without_a_teacher_is_refused(texts, tmp_path):
    spacy.blank("en").to_disk(tmp_path / "blank")
    output = annotate(tmp_path / "blank", texts, tmp_path / "out", "--soft", "--to", "spacy", code=1)
    assert "This command needs a pipeline with sequence_ner" in output


@pytest.mark.parametrize(
    "head, reader", [("CRF", create_corpus), pytest.param("Softmax", Corpus, marks=pytest.mark.slow)]
)
def test_a_student_learns_what_the_teacher_knows(teacher, texts, tmp_path, head, reader):
    """From no gold annotation at all."""
    soft(teacher, texts, tmp_path / "out")
    student = make_nlp(head)
    examples = list(reader(tmp_path / "out")(student))
    train(student, examples, steps=80)
    pipe = student.get_pipe("sequence_ner")
    assert pipe.labels == ("LOC", "ORG", "PER")
    nlp = spacy.load(teacher)
    for text, spans in TRAIN:
        doc = student(text)
        assert entities(doc) == spans
        assert [ent._.score for ent in doc.ents] == pytest.approx([ent._.score for ent in nlp(text).ents], abs=0.1)


def test_gold_holds_where_it_is_known(teacher, tmp_path):
    """The teacher knows two places in the last text. One of them is annotated as a person."""
    doc = spacy.blank("en")(TEXTS[4])
    doc.set_ents([Span(doc, 2, 3, "PER")], default="missing")
    DocBin(docs=[doc]).to_disk(tmp_path / "gold.spacy")
    soft(teacher, tmp_path / "gold.spacy", tmp_path / "out")
    student = make_nlp()
    train(student, list(Corpus(tmp_path / "out")(student)))
    assert entities(student(TEXTS[4])) == [(0, 1, "PER"), (2, 3, "PER"), (4, 5, "LOC"), (6, 7, "PER")]


def soft_example(student, teacher, text=TEXTS[0]):
    reference = teacher.make_doc(text)
    set_chain(reference, teacher.get_pipe("sequence_ner").chains([reference])[0])
    return Example(student.make_doc(text), reference)


@pytest.mark.parametrize("marks_entities", [False, True])
def test_calibration_with_a_teacher_follows_its_probabilities(teacher, marks_entities):
    """The student has the weights of the teacher, whose temperature is 1.5. Entities that are known and right, as those
    of a new label are, do not make it surer."""
    student, expected = spacy.load(teacher), spacy.load(teacher)
    module = student.get_pipe("sequence_ner").head
    module.temperature.fill_(1.0)
    examples = [soft_example(student, expected, text) for text in TEXTS]
    for eg, (_, spans) in zip(examples, TRAIN, strict=True):
        if marks_entities:
            eg.reference.set_ents([Span(eg.reference, *span) for span in spans[:1]], default="missing")
    module.calibrate(held_out_batches(student, "sequence_ner", examples))
    assert float(module.temperature) == pytest.approx(1.5, abs=0.3 if marks_entities else 0.01)


def test_a_teacher_with_another_scheme_is_refused(trained):
    student = make_nlp(scheme="BIO")
    message = (
        "sequence_ner: its tag scheme is BIO, but that of the teacher of .* is BILUO; "
        r'set scheme = "BILUO" in \[components.sequence_ner\],'
    )
    with pytest.raises(ValueError, match=message):
        student.initialize(lambda: [soft_example(student, trained)])
    student.initialize(lambda: make_examples(student, TRAIN[:3]))
    for refused in (
        lambda: student.update([soft_example(student, trained)]),
        lambda: student.get_pipe("sequence_ner").loss_on([soft_example(student, trained)]),
        lambda: list(held_out_batches(student, "sequence_ner", [soft_example(student, trained)])),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):  # with the name of the component, once
            refused()


def test_the_loss_of_documents_with_a_teacher_without_training(trained):
    student = make_nlp()
    examples = [soft_example(student, trained), *make_examples(student, TRAIN[1:3])]
    student.initialize(lambda: examples)
    loss = student.get_pipe("sequence_ner").loss_on(examples)
    assert loss == pytest.approx(student.update(examples, sgd=False)["sequence_ner"], rel=1e-5) and loss > 0


@pytest.mark.slow
def test_labels_that_only_the_teacher_has_are_negative(trained):
    student = make_nlp()
    student.get_pipe("sequence_ner").add_label("LOC")
    examples = [soft_example(student, trained)]
    with pytest.warns(UserWarning, match=r"count as negative: \['ORG', 'PER'\]"):
        student.get_pipe("sequence_ner").initialize(lambda: examples, nlp=student, labels=["LOC"])
    optimizer = student.resume_training()
    optimizer.learn_rate = 0.01
    for _ in range(60):
        student.update(examples, sgd=optimizer)
    assert entities(student(TEXTS[0])) == [(4, 5, "LOC")]


def test_other_tokens_than_those_of_the_teacher_are_reported(trained):
    student = make_nlp()
    good, bad = (soft_example(student, trained, text) for text in TEXTS[:2])
    other = Example(Doc(student.vocab, words=["Yesterday Tarvik", "was", "quiet", "."]), bad.reference)
    message = (
        r"1 documents with other tokens than the teacher's, whose chain is not used\..*'Yesterday Tarvik was quiet"
    )
    with pytest.warns(UserWarning, match=message):
        student.initialize(lambda: [good, other])
    targets = student.get_pipe("sequence_ner").find_targets([good, other], None)
    assert [target.chain is None for target in targets] == [False, True] and (targets[1].tags == MISSING).all()


def test_documents_that_teach_nothing_are_reported(trained):
    student = make_nlp()
    examples = [soft_example(student, trained, text) for text in TEXTS[:3]]
    for eg in examples[:2]:
        del eg.reference.user_data[TEACHER]
    message = r"2 documents without an annotated token and without a teacher's chain.*\(for example 'Anna Brandt"
    with pytest.warns(UserWarning, match=message):
        student.initialize(lambda: examples)
    # A component of a trained pipeline is not initialized.
    student.get_pipe("sequence_ner")._warned.clear()
    with pytest.warns(UserWarning, match="documents without an annotated token"):
        student.update(examples)


def test_a_pipeline_that_is_initialized_without_a_corpus_is_not_reported(trained):
    """spaCy makes up a text, which has no annotation; a corpus without any is reported in the first update."""
    student = make_nlp()
    student.get_pipe("sequence_ner").add_label("PER")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        student.initialize()
    with pytest.warns(UserWarning, match="documents without an annotated token"):
        student.update([Example(student.make_doc("Anna left"), student.make_doc("Anna left"))])


@pytest.mark.parametrize("head", ["CRF", "Softmax"])
def test_texts_of_white_space_teach_nothing(trained, head):
    student = make_nlp(head=head)
    texts = [" \n ", TEXTS[0], "\n"]
    examples = [soft_example(student, trained, text) for text in texts]
    student.initialize(lambda: examples)
    pipe = student.get_pipe("sequence_ner")
    assert pipe.loss_on(examples[::2]) == 0
    assert pipe.loss_on(examples) == pytest.approx(pipe.loss_on(examples[1:2])) and pipe.loss_on(examples) > 0
    student.update(examples)


def test_a_chain_of_another_length_is_refused(trained):
    student = make_nlp()
    example = soft_example(student, trained)
    example.reference.user_data[TEACHER] = soft_example(student, trained, TEXTS[1]).reference.user_data[TEACHER]
    with pytest.raises(ValueError, match="sequence_ner: the teacher's chain of 'Anna .* has 5 rows, .* has 6 tokens"):
        student.initialize(lambda: [example])


def test_where_all_is_annotated_the_teacher_is_not_asked(trained):
    student = make_nlp(scheme="BIO")
    example = soft_example(student, trained)
    example.reference.set_ents([Span(example.reference, 0, 2, "PER")], default="outside")
    student.initialize(lambda: [example])
    (target,) = student.get_pipe("sequence_ner").find_targets([example], None)
    assert target.chain is None and target.tags.tolist() == [1, 2, 0, 0, 0, 0]


def test_labels_of_a_sourced_component_are_added_by_the_config(teacher):
    nlp = spacy.load(teacher)
    before = entities(nlp(TEXTS[2]))
    create_add_labels({"sequence_ner": ["DATE", "LOC"]})(nlp)
    assert nlp.get_pipe("sequence_ner").labels == ("LOC", "ORG", "PER", "DATE")
    assert entities(nlp(TEXTS[2])) == before
    with pytest.raises(ValueError, match=re.escape("names 'ner', which is not a component with labels")):
        create_add_labels({"ner": ["DATE"]})(nlp)
