"""`ner-arch tune`, and the mathematics of its promise."""

import re

import numpy as np
import pytest
import spacy
from conftest import TRAIN, make_examples, make_nlp, run_in_line, train
from spacy.language import Language
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Example

from spacy_ner_arch.cli.tune_thresholds import FoundEntities, for_recall, found_in, round_down
from spacy_ner_arch.evaluation.risk import documents_needed, precision_threshold, recall_threshold, wilson


def random_scores(rng, documents):
    """Scores of gold entities: documents differ in how hard they are, and some scores are equal or 0."""
    rows = []
    for _ in range(documents):
        easy = rng.uniform()
        scores = rng.uniform(size=rng.integers(1, 6)) ** (1 - easy)
        rows.append(np.where(rng.uniform(size=len(scores)) < 0.002, 0.0, scores.round(2)))
    return rows


def missed_share(rows, threshold):
    return np.mean([np.mean(row < threshold) for row in rows])


@pytest.mark.parametrize("missed", [0.3, 0.1, 0.05])
def test_the_recall_threshold_is_the_largest_that_the_rule_allows(missed):
    rng = np.random.default_rng(0)
    for _ in range(20):
        rows = random_scores(rng, 60)
        threshold = recall_threshold(rows, missed)
        candidates = sorted({value for row in rows for value in row} | {1.0, 1.1})
        allowed = [c for c in candidates if (60 * missed_share(rows, c) + 1) / 61 <= missed]
        assert threshold == max(allowed)


@pytest.mark.parametrize("missed", [0.2, 0.1, 0.05])
def test_the_promise_holds_on_new_documents(missed):
    """Mean over 400 splits, and not by being far too careful."""
    rng = np.random.default_rng(1)
    shares = [
        missed_share(random_scores(rng, 100), recall_threshold(random_scores(rng, 100), missed)) for _ in range(400)
    ]
    assert missed - 0.02 < np.mean(shares) <= missed + 2 * np.std(shares) / 20


def test_too_few_documents_for_the_promise():
    assert [documents_needed(missed) for missed in (0.5, 0.1, 0.05, 0.02, 0.01)] == [1, 9, 19, 49, 99]
    certain = [np.ones(1)] * 48
    assert recall_threshold(certain, 0.02) is None
    assert recall_threshold([*certain, np.ones(1)], 0.02) == 1.0
    assert recall_threshold([], 0.5) is None
    lost = [np.zeros(1)] * 10 + [np.ones(1)] * 90
    assert recall_threshold(lost, 0.05) is None
    assert recall_threshold(lost, 0.11) == 1.0


def test_the_precision_threshold_keeps_as_many_predictions_as_it_can():
    rng = np.random.default_rng(0)
    for _ in range(50):
        scores = rng.uniform(size=30).round(1)
        right = rng.uniform(size=30) < scores
        for precision in (0.5, 0.8, 0.95):
            allowed = [s for s in scores if right[scores >= s].mean() >= precision]
            assert precision_threshold(scores, right, precision) == min(allowed, default=None)
    assert precision_threshold(np.array([]), np.array([], dtype=bool), 0.5) is None


def test_wilson():
    assert wilson(90, 100) == pytest.approx((0.8256, 0.9448), abs=1e-4)
    assert wilson(0, 0) == (0, 1)
    assert wilson(5, 5).high == 1 and wilson(0, 5).low == 0


@pytest.mark.parametrize(
    ("threshold", "rounded"),
    [(1.0, 0.999), (0.12345678, 0.1234), (0.12345, 0.1234), (0.1234, 0.1233), (0.000987654, 0.0009876)],
)
def test_thresholds_are_rounded_down(threshold, rounded):
    assert round_down(threshold) == pytest.approx(rounded)
    assert threshold * (1 - 1e-6) < round_down(threshold, above=threshold * (1 - 1e-6)) < threshold
    assert round_down(threshold, above=threshold / 2) == round_down(threshold)


# A label that cannot be a key of a config.
CITY = "LOC:city"
DATA = [(text, [(*bounds, CITY if label == "LOC" else label) for *bounds, label in spans]) for text, spans in TRAIN]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pipeline that is not sure of everything, and a corpus of 60 documents."""
    folder = tmp_path_factory.mktemp("tune")
    nlp = make_nlp()
    train(nlp, make_examples(nlp, DATA), steps=25)
    nlp.to_disk(folder / "model")
    DocBin(docs=[eg.reference for eg in make_examples(nlp, DATA * 12)]).to_disk(folder / "dev.spacy")
    DocBin(docs=[eg.reference for eg in make_examples(nlp, DATA)]).to_disk(folder / "small.spacy")
    DocBin(docs=[eg.reference for eg in make_examples(nlp, [DATA[3]])]).to_disk(folder / "none.spacy")
    return folder


def tune(folder, *args, model="model", corpus="dev.spacy", code=0):
    return run_in_line("tune", folder / model, folder / corpus, *args, code=code)


def found(nlp, label=None):
    """Share of gold entities that the alternatives contain, mean over documents."""
    shares = []
    for eg in make_examples(nlp, DATA):
        gold = {(e.start, e.end, e.label_) for e in eg.reference.ents if label in (None, e.label_)}
        spans = {(s.start, s.end, s.label_) for s in nlp(eg.predicted).spans["alternatives"]}
        if gold:
            shares.append(len(gold & spans) / len(gold))
    return np.mean(shares)


@pytest.mark.parametrize("per_label", [False, True])
def test_the_stored_pipeline_finds_as_much_as_promised(folder, tmp_path, per_label):
    output = tune(folder, "--min-recall", 0.9, *(["--per-label"] if per_label else []), "-o", tmp_path / "tuned")
    assert (CITY in output) is per_label and "spans per entity" in output
    nlp = spacy.load(tmp_path / "tuned")
    value = nlp.get_pipe("sequence_ner").cfg["alternatives"]
    assert (set(value) == {CITY, "ORG", "PER"}) if per_label else (0 < value < 1)
    for label in (CITY, "ORG", "PER") if per_label else (None,):
        assert found(nlp, label) >= 0.9
    # The config has the same value, and another one there is a change.
    configured = nlp.config["components"]["sequence_ner"]["alternatives"]
    assert (dict(configured) if per_label else configured) == pytest.approx(value)
    settings = {"components.sequence_ner.alternatives": None}
    assert spacy.load(tmp_path / "tuned", config=settings).get_pipe("sequence_ner").cfg["alternatives"] is None


def test_a_recall_that_is_almost_out_of_reach(capsys):
    """Of 100 entities, some cannot be found."""

    def warning(lost):
        spans = [{(0, 1, "PER"): 0.9}] * (100 - lost) + [{}] * lost
        for_recall([FoundEntities([(0, 1, "PER")], each, {}) for each in spans], ["PER"], 0.9, per_label=False)
        return "".join(capsys.readouterr())

    assert "7.0% of the entities of a document cannot be found" in " ".join(warning(7).split())
    assert "cannot be found" not in warning(6)


def test_predictions_on_tokens_without_annotation_are_not_judged():
    nlp = make_nlp()
    examples = make_examples(nlp)
    train(nlp, examples)
    nlp.get_pipe("sequence_ner").cfg["alternatives"] = 0.01
    doc = examples[0].reference
    doc.set_ents([doc.ents[0]], missing=[doc[4:5]])
    found = found_in(Example(nlp(doc.text), doc))
    assert found.gold == [(0, 2, "PER")] and list(found.entities) == [(0, 2, "PER")]
    assert (0, 2, "PER") in found.spans and not any(start < 5 and end > 4 for start, end, _ in found.spans)


def test_entities_within_tokens_count_as_the_tokens_that_they_touch(folder):
    """The gold tokens are smaller than those of the pipeline."""
    nlp = spacy.load(folder / "model")
    nlp.get_pipe("sequence_ner").cfg["alternatives"] = 1e-8
    text = "Anna Brandt-led tours to Tarvik ."
    gold = Doc(nlp.vocab, words=["Anna", "Brandt", "-led", "tours", "to", "Tarvik", "."], spaces=[1, 0, 1, 1, 1, 1, 0])
    gold.set_ents([Span(gold, 0, 2, "PER"), Span(gold, 5, 6, CITY)])
    found = found_in(Example(nlp(Doc(nlp.vocab, words=text.split(), spaces=[1, 1, 1, 1, 1, 0])), gold))
    assert found.gold == [(0, 2, "PER"), (4, 5, CITY)] and found.moved == ["Anna Brandt"]
    assert (found.gold_scores() > 0).all() and found.gold_scores("PER") == found.spans[0, 2, "PER"]


def test_entities_within_tokens_are_reported(folder, tmp_path):
    nlp = make_nlp()
    docs = [eg.reference for eg in make_examples(nlp, DATA * 12)]
    smaller = Doc(nlp.vocab, words=["An", "na", "slept"], spaces=[False, True, False])
    smaller.set_ents([Span(smaller, 0, 1, "PER")])
    DocBin(docs=[*docs, smaller]).to_disk(tmp_path / "smaller.spacy")
    output = tune(folder, "--min-recall", 0.8, corpus=tmp_path / "smaller.spacy")
    assert "1 gold entities begin or end within a token, such as 'An'. They count as found if" in output


def test_the_recall_counts_entities_of_a_ruler(folder):
    nlp = spacy.load(folder / "model")
    nlp.add_pipe("entity_ruler", before="sequence_ner").add_patterns([{"label": "PER", "pattern": "Anna Brandt"}])
    nlp.get_pipe("sequence_ner").cfg["alternatives"] = 1e-8
    example = make_examples(nlp)[0]
    example.predicted = nlp(example.predicted)
    found = found_in(example)
    assert found.gold_scores("PER") == found.spans[0, 2, "PER"] == found.entities[0, 2, "PER"] == 1


def test_the_folders_above_the_output_are_made(folder, tmp_path):
    tune(folder, "--min-precision", 0.5, "-o", tmp_path / "new" / "folder" / "precise")
    assert spacy.load(tmp_path / "new" / "folder" / "precise").get_pipe("sequence_ner").cfg["threshold"] > 0
    (tmp_path / "file").touch()
    output = tune(folder, "--min-precision", 0.5, "-o", tmp_path / "file" / "precise", code=1)
    assert "Cannot write" in output


def test_precision_and_recall_together_and_apart(folder, tmp_path):
    output = tune(folder, "--min-precision", 0.95, "--min-recall", 0.9, "-o", tmp_path / "both")
    assert "95 % interval" in output
    both = spacy.load(tmp_path / "both").get_pipe("sequence_ner").cfg
    assert both["threshold"] > 0 and both["alternatives"] > 0
    tune(folder, "--min-precision", 0.5, "-o", tmp_path / "later", model=tmp_path / "both")
    later = spacy.load(tmp_path / "later").get_pipe("sequence_ner").cfg
    assert later["alternatives"] == both["alternatives"] and later["threshold"] <= both["threshold"]
    assert "Give --output" in tune(folder, "--min-recall", 0.9)


def test_a_pipeline_is_replaced_as_a_whole(folder, tmp_path, monkeypatch):
    """An error while it is written leaves the old one; other files stay."""
    path = tmp_path / "own"
    tune(folder, "--min-precision", 0.5, "-o", path)
    before = spacy.load(path).get_pipe("sequence_ner").cfg
    (path / "LICENSE").write_text("free")

    def to_disk(nlp, path):
        (path / "config.cfg").write_text("half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Language, "to_disk", to_disk)
        output = tune(folder, "--min-recall", 0.9, "-o", path, model=path, code=1)
    assert "Cannot write" in output and "No space left" in output
    assert spacy.load(path).get_pipe("sequence_ner").cfg == before
    tune(folder, "--min-recall", 0.9, "-o", path, model=path)
    assert spacy.load(path).get_pipe("sequence_ner").cfg["alternatives"] > 0
    assert (path / "LICENSE").read_text() == "free" and [p.name for p in tmp_path.iterdir()] == ["own"]


def test_a_folder_with_other_files_is_refused(folder, tmp_path):
    (tmp_path / "a.spacy").write_bytes(b"")
    output = tune(folder, "--min-recall", 0.9, "-o", tmp_path, code=1)
    assert "has other files and is not a pipeline" in output and [p.name for p in tmp_path.iterdir()] == ["a.spacy"]
    for _ in range(2):
        assert "Saved the pipeline" in tune(folder, "--min-recall", 0.9, "-o", tmp_path / "new")


def test_entities_of_a_ruler_count_at_any_threshold(folder, tmp_path):
    nlp = spacy.load(folder / "model")
    ruler = nlp.add_pipe("entity_ruler", before="sequence_ner")
    ruler.add_patterns([{"label": "WRONG", "pattern": "Gazette"}])
    nlp.to_disk(tmp_path / "ruled")
    output = tune(folder, "--min-precision", 0.5, model=tmp_path / "ruled")
    assert re.search(r"precision 8\d\.\d%.* threshold = ", output)


@pytest.mark.parametrize(
    ("args", "corpus", "message"),
    [
        ([], "dev.spacy", "Give --min-recall or --min-precision"),
        (["--min-recall", 1.0], "dev.spacy", "--min-recall 1.0 must be between 0 and 1"),
        (["--min-precision", 0.9, "--per-label"], "dev.spacy", "--per-label is for --min-recall"),
        (["--min-recall", 0.9], "small.spacy", "needs at least 9 documents with entities, and the corpus has 4"),
        (
            ["--min-recall", 0.95, "--per-label"],
            "dev.spacy",
            "19 documents with entities of ORG, and the corpus has 12",
        ),
        (["--min-recall", 0.9], "none.spacy", "none.spacy has no gold entities"),
        (["--min-recall", 0.9, "--component", "ner"], "dev.spacy", r"--component ner is not a sequence_ner"),
    ],
)
def test_bad_requests(folder, args, corpus, message):
    assert message in tune(folder, *args, corpus=corpus, code=1)


def test_a_pipeline_without_probabilities_of_all_spans(folder, tmp_path):
    spacy.blank("en").to_disk(tmp_path)
    assert "This command needs a pipeline with sequence_ner" in tune(
        folder, "--min-recall", 0.9, model=tmp_path, code=1
    )
