"""The page on a trained pipeline, and the numbers in it."""

import json
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import spacy
from conftest import TRAIN, make_examples, make_nlp
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.scorer import get_ner_prf
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.vocab import Vocab

import spacy_ner_arch.pipes.base  # noqa: F401 - registers the extension `score`
from spacy_ner_arch.evaluation.report import (
    calibration,
    confusion,
    entity_table,
    read_log,
    threshold_curve,
    write_report,
)
from spacy_ner_arch.evaluation.report.matches import Kind, match
from spacy_ner_arch.evaluation.report.mistakes import MOST_TOKENS, worst
from spacy_ner_arch.evaluation.report.thresholds import shortest
from spacy_ner_arch.evaluation.report.transitions import transitions

VOCAB = Vocab()
TABLE = """\x1b[38;5;4mℹ Pipeline: ['tok2vec', 'sequence_ner']\x1b[0m
E    #       LOSS TOK2VEC  LOSS SEQUE...  ENTS_F  ENTS_P  ENTS_R  SCORE
---  ------  ------------  -------------  ------  ------  ------  ------
\x1b[1m  0       0          0.00          10.50    0.00    0.00    0.00    0.00\x1b[0m
  1     100          1.25            nan   50.00   60.00   42.86    0.50
\x1b[38;5;2m✔ Saved pipeline to output directory\x1b[0m
training/model-last
"""
JSON_LINES = [
    {"epoch": 0, "step": 0, "losses": {"ner": 3.5}, "scores": {"ents_f": 0.0, "speed": 900.0}, "score": 0.0},
    {"epoch": 1, "step": 10, "losses": {"ner": 1.5}, "scores": {"ents_f": 50.0, "speed": 800.0}, "score": 0.5},
]


def document(length, entities, missing=()):
    """A document with entities (start, end, label, score)."""
    doc = Doc(VOCAB, words=[f"w{i}" for i in range(length)])
    spans = []
    for start, end, label, *score in entities:
        spans.append(Span(doc, start, end, label=label))
        if score:
            spans[-1]._.score = score[0]
    doc.set_ents(spans, missing=[doc[i : i + 1] for i in missing], default="outside")
    return doc


def example(length, predicted, gold, missing=()):
    return Example(document(length, predicted), document(length, gold, missing))


def scored(pairs):
    """One document with an entity on each second token: (score, whether it is right)."""
    predicted = [(2 * i, 2 * i + 1, "X", score) for i, (score, _) in enumerate(pairs)]
    gold = [(2 * i, 2 * i + 1, "X" if right else "Y") for i, (_, right) in enumerate(pairs)]
    return [example(2 * len(pairs), predicted, gold)]


def predictions(nlp, data=TRAIN):
    examples = make_examples(nlp, data)
    for eg in examples:
        eg.predicted = nlp(eg.predicted)
    return examples


# Matches


def spans_of(length, labels):
    """Entities that do not overlap, from a label or None for each token and whether an entity begins there."""
    spans, start = [], 0
    for i in range(1, length + 1):
        if i == length or labels[i] != labels[start]:
            if labels[start][0]:
                spans.append((start, i, labels[start][0]))
            start = i
    return spans


LABELS = st.lists(st.tuples(st.sampled_from([None, "X", "Y"]), st.booleans()), min_size=8, max_size=8)


@settings(max_examples=60, deadline=None)
@given(LABELS, LABELS, st.lists(st.integers(1, 3), min_size=4, max_size=8), st.sets(st.integers(0, 7), max_size=2))
def test_everything_counts_as_spacy_does(gold, predicted, cuts, missing):
    """On other tokens than the gold ones, with tokens that are not annotated."""
    reference = Doc(VOCAB, words=list("abcdefgh"), spaces=[False] * 8)
    golds = [span for span in spans_of(8, gold) if missing.isdisjoint(range(*span[:2]))]
    blanks = [reference[i : i + 1] for i in sorted(missing)]
    reference.set_ents([Span(reference, *span) for span in golds], missing=blanks, default="outside")
    words, rest = [], "abcdefgh"
    for cut in cuts:
        words, rest = words + [rest[:cut]], rest[cut:]
    words = [word for word in [*words, rest] if word]
    other = Doc(VOCAB, words=words, spaces=[False] * len(words))
    other.set_ents([Span(other, *span) for span in spans_of(len(words), predicted[: len(words)])])
    eg = Example(other, reference)
    matches = match(eg)
    kinds = [pair.kind for pair in matches]
    assert sum(pair.gold is not None for pair in matches) == len(golds)
    counts = confusion([eg]).counts
    size = len(confusion([eg]).labels)
    assert counts[:size].sum() == len(golds)
    assert counts[:, :size].sum() == sum(pair.predicted is not None for pair in matches)
    scores = get_ner_prf([eg])
    if scores["ents_p"] is not None:
        judged = sum(pair.predicted is not None for pair in matches)
        right = kinds.count(Kind.RIGHT)
        assert scores["ents_p"] == pytest.approx(right / judged if judged else 0.0)
        assert scores["ents_r"] == pytest.approx(right / len(golds) if golds else 0.0)
    micro = {row.name: row for row in entity_table([eg])}.get("micro avg")
    if micro is not None:
        assert (micro.precision, micro.recall) == pytest.approx((scores["ents_p"], scores["ents_r"]))


def test_confusion_of_each_kind():
    eg = example(
        24,
        predicted=[
            (0, 2, "A"),
            (3, 4, "B"),
            (5, 8, "A"),
            (9, 12, "B"),
            (16, 17, "B"),
            (18, 22, "A"),
            (23, 24, "A"),
        ],
        gold=[
            (0, 2, "A"),  # right
            (3, 4, "A"),  # taken for B
            (6, 8, "A"),  # borders wrong, same label
            (10, 13, "A"),  # borders wrong, other label
            (14, 15, "B"),  # missed; the prediction at 16 is spurious
            (18, 19, "B"),  # under one prediction with the next: missed,
            (20, 22, "A"),  # because the label of this one is right
        ],
        missing=[23],  # so that the prediction there is not judged
    )
    result = confusion([eg])
    assert result.labels == ["A", "B"]
    assert result.counts.tolist() == [
        # A, B, borders, borders and label, missed
        [1, 1, 2, 1, 0],
        [0, 0, 0, 0, 2],
        [2, 0, 0, 0, 0],
        [0, 1, 0, 0, 0],
        [0, 1, 0, 0, 0],
    ]
    assert [pair.kind.value for pair in match(eg)] == [
        "right",
        "label",
        "borders",
        "borders and label",
        "missed",
        "spurious",
        "missed",
        "borders",
    ]
    assert confusion([]).labels == []


# Confidences


def test_calibration_by_hand():
    examples = scored([(0.1, False), (0.3, True), (0.7, True), (0.9, True), (1.0, False)])
    result = calibration(examples, bins=2)
    assert result.edges.tolist() == [0.0, 0.5, 1.0]
    assert result.counts.tolist() == [2, 3]
    assert result.confidence == pytest.approx([0.2, 2.6 / 3])
    assert result.accuracy == pytest.approx([0.5, 2 / 3])
    assert result.ece == pytest.approx(2 / 5 * 0.3 + 3 / 5 * 0.2)
    assert result.brier == pytest.approx((0.01 + 0.49 + 0.09 + 0.01 + 1.0) / 5)


def test_a_bin_holds_its_upper_edge():
    result = calibration(scored([(0.0, False), (0.5, True), (1.0, True)]), bins=2)
    assert result.counts.tolist() == [2, 1]


def test_bins_of_equal_mass_never_split_equal_confidences():
    pairs = [(0.2, True), (0.5, False), (0.5, True), (0.5, True), (0.9, True), (0.95, True)]
    result = calibration(scored(pairs), bins=3, equal_mass=True)
    assert result.counts.tolist() == [4, 2] and result.edges.tolist() == [0.0, 0.5, 0.95]
    assert calibration(scored([(0.0, False), (0.0, True)]), equal_mass=True).counts.tolist() == [2]
    spread = [(i / 30, True) for i in range(30)]
    assert calibration(scored(spread), equal_mass=True).counts.tolist() == [2] * 15


@pytest.mark.parametrize("equal_mass", [False, True])
def test_perfect_calibration(equal_mass):
    pairs = [(share / 10, i < share) for share in range(1, 11) for i in range(10)]
    assert calibration(scored(pairs), equal_mass=equal_mass, bins=10).ece == pytest.approx(0)


def test_entities_without_score_are_counted_apart():
    examples = [example(6, [(0, 1, "X", 0.5), (2, 3, "X")], [(0, 1, "X"), (2, 3, "X")])]
    assert calibration(examples).unscored == threshold_curve(examples).unscored == 1
    assert calibration(examples).counts.sum() == 1
    nothing = calibration([])
    assert np.isnan([nothing.ece, nothing.brier]).all() and not nothing.counts.any()


def test_what_is_no_probability_or_no_bin_is_refused():
    for score in (1.5, -0.1, float("nan")):
        with pytest.raises(ValueError, match="must be a probability"):
            calibration(scored([(score, True)]))
    with pytest.raises(ValueError, match="bins=0"):
        calibration([], bins=0)


def test_thresholds():
    curve = threshold_curve(scored([(0.2, False), (0.412, True), (0.6, False), (0.8, True), (0.8, True), (0.9, True)]))
    assert curve.thresholds.tolist() == [0.2, 0.412, 0.6, 0.8, 0.9]
    assert curve.kept.tolist() == [6, 5, 4, 3, 1]
    assert curve.precision == pytest.approx([4 / 6, 4 / 5, 3 / 4, 1, 1])
    assert curve.recall == pytest.approx([4 / 6, 4 / 6, 3 / 6, 3 / 6, 1 / 6])
    # 0.4 keeps the same entities as 0.412, 0.7 the same as 0.8.
    assert curve.at_precision(0.75) == pytest.approx((0.4, 0.8, 4 / 6, 8 / 11, 5))
    assert curve.at_precision(1.0).threshold == 0.8
    assert curve.at_precision(0.5).threshold == 0
    assert curve.best() == curve.at_precision(0.75)
    wrong = threshold_curve(scored([(0.5, False)]))
    assert wrong.at_precision(0.9) is None
    assert threshold_curve([]).best() is None and threshold_curve([]).at_precision(0.0) is None


@given(st.floats(0, 1), st.floats(0, 1))
def test_shortest_number_between(one, other):
    below, above = sorted([one, other])
    if below < above:
        assert below < shortest(below, above) <= above


# Errors


def test_the_worst_come_first():
    few = example(6, [(0, 1, "X", 0.9)], [(0, 1, "Y")])
    bold = example(6, [(0, 1, "X", 0.99)], [(0, 1, "Y")])
    many = example(6, [(0, 1, "X", 0.2)], [(0, 1, "Y"), (2, 3, "Y")])
    fine = example(6, [(0, 1, "X", 0.2)], [(0, 1, "X")])
    assert [part.number for part in worst([few, bold, fine, many])] == [4, 2, 1]
    assert len(worst([few] * 60)) == 50


def test_long_documents_are_cut():
    length = 5 * MOST_TOKENS
    eg = example(length, [], [(10, 11, "X"), (15, 16, "X"), (250, 251, "X")])
    assert [(part.start, part.end, len(part.mistakes)) for part in worst([eg])] == [(0, 28, 2), (238, 263, 1)]
    for token in eg.reference:
        token.is_sent_start = token.i % 30 == 0
    assert [(part.start, part.end) for part in worst([eg])] == [(0, 30), (240, 270)]


# Logs


def test_table_of_a_log(tmp_path):
    path = tmp_path / "log.txt"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        # Of two trainings the last counts.
        path.write_text(TABLE.replace("10.50", "99.00") + TABLE, encoding=encoding)
        log = read_log(path)
        assert log.steps == [0, 100] and log.score == [0.0, 0.5]
        assert [name for name, _ in log.losses] == ["tok2vec", "seque..."]
        assert log.losses[1].values == pytest.approx([10.5, float("nan")], nan_ok=True)
        assert dict(log.scores) == {"ents_f": [0.0, 50.0], "ents_p": [0.0, 60.0], "ents_r": [0.0, 42.86]}


def test_json_lines_of_a_log(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(map(json.dumps, JSON_LINES)) + '\n{"epoch": 2, "st')
    log = read_log(str(path))
    assert log.steps == [0, 10] and log.score == [0.0, 0.5]
    assert dict(log.losses) == {"ner": [3.5, 1.5]}
    assert dict(log.scores)["ents_f"] == [0.0, 50.0]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"Once upon a time\n1 2 3\n",
        b"\x00\xff\xfe\x80",
        b"\xff\xfe\x00",
        b"{",
        b'{"step": 1}\n',
        b'{"step": 1, "losses": [], "scores": {}, "score": null}',
        b"[1, 2]",
        "".join(TABLE.splitlines(keepends=True)[:3]).encode(),
    ],
)
def test_no_log(tmp_path, content, trained):
    path = tmp_path / "story.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="story.txt is no training log"):
        read_log(path)
    with pytest.raises(ValueError, match="story.txt"):
        write_report(trained, [], tmp_path / "out", path)
    assert not (tmp_path / "out").exists()


# The page

VOID = {"meta", "br"}


class Page(HTMLParser):
    """Tags and their attributes; fails on elements that are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.texts = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def sections(self):
        return [attributes["id"] for tag, attributes in self.tags if tag == "section"]


@pytest.fixture
def wrong(trained):
    """Predictions that do not fit the gold side, with what html and matplotlib could stumble over."""
    data = [(text, [(*span[:2], span[2].replace("PER", "ORG")) for span in spans]) for text, spans in TRAIN]
    return predictions(trained, [*data, ("<script>alert(1)</script> met Tarvik & Anna .", [(0, 1, "<b>$x_")])])


def test_page(trained, wrong, tmp_path):
    (tmp_path / "log.txt").write_text(TABLE, encoding="utf-8")
    path = write_report(trained, wrong, tmp_path / "new" / "out", tmp_path / "log.txt")
    assert path == tmp_path / "new" / "out" / "index.html" and [path] == list(path.parent.iterdir())
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.sections() == ["summary", "scores", "confusions", "confidence", "transitions", "training", "errors"]
    # Nothing from elsewhere, nothing that runs, nothing that names the day.
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "img", "object")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith("#")
    assert not re.search(r"url\((?!#)|@import", text)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {attributes["href"][1:] for _, attributes in page.tags if "href" in attributes} <= set(ids)
    assert "<script>alert(1)</script>" in "".join(page.texts) and "<b>$x_" in page.texts
    # Pictures keep their text.
    assert sum(tag == "svg" for tag, _ in page.tags) == 4
    assert "B-PER" in page.texts and "perfectly calibrated" in page.texts
    assert sum(attributes.get("class") == "entity wrong" for _, attributes in page.tags) > 4


def test_same_page_twice(trained, wrong, tmp_path):
    (tmp_path / "matplotlibrc").write_text("font.size: 20")
    first = write_report(trained, wrong, tmp_path / "a").read_bytes()
    import matplotlib

    with matplotlib.rc_context(fname=str(tmp_path / "matplotlibrc")):
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "index.html").write_text("old")
        assert write_report(trained, iter(wrong), str(tmp_path / "b")).read_bytes() == first
        assert matplotlib.rcParams["font.size"] == 20


def test_old_page_stays_after_an_error(trained, tmp_path):
    (tmp_path / "index.html").write_text("old")
    with pytest.raises(ValueError, match="must be a probability"):
        write_report(trained, scored([(7.0, True)]), tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("index.html", "old")]


def spacy_ner():
    nlp = spacy.blank("en")
    nlp.add_pipe("ner")
    nlp.initialize(lambda: make_examples(nlp))
    return nlp


def ruler():
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "LOC", "pattern": "Tarvik"}])
    return nlp


@pytest.mark.parametrize("make", [spacy_ner, ruler, lambda: spacy.blank("en")], ids=["ner", "ruler", "nothing"])
def test_pipelines_without_scores_and_transitions(make, tmp_path):
    nlp = make()
    text = write_report(nlp, predictions(nlp), tmp_path).read_text(encoding="utf-8")
    assert Page(text).sections() == ["summary", "scores", "confusions", "confidence", "transitions", "errors"]
    assert "No component has learned transitions" in text
    assert "has a confidence" in text or "no predicted entity" in text


def test_scores_need_not_even_be_registered(tmp_path):
    extension = Span.remove_extension("score")
    try:
        write_report(ruler(), predictions(ruler()), tmp_path)
        assert calibration(predictions(ruler())).unscored == 3
    finally:
        Span.set_extension("score", default=extension[0])


def test_no_document(trained, tmp_path):
    text = write_report(trained, [], tmp_path).read_text(encoding="utf-8")
    assert "neither gold nor predicted" in text and "There is no mistake" in text
    Page(text)


def test_learned_transitions(trained):
    (learned,) = transitions(trained)
    crf = trained.get_pipe("sequence_ner").model.shims[0].module.crf
    assert learned.component == "sequence_ner" and learned.tags == crf.labels
    scores, size = learned.scores, len(crf.labels)
    assert scores.shape == (size + 1, size + 1) and np.isnan(scores[0, -1])
    begin, last = learned.tags.index("B-PER"), learned.tags.index("L-PER")
    assert scores[1 + begin, last] == pytest.approx(crf.transitions[begin, last].item())
    assert scores[0, begin] == pytest.approx(crf.start_transitions[begin].item())
    assert scores[1 + last, -1] == pytest.approx(crf.end_transitions[last].item())
    # Into the middle of an entity, out of it, and the end inside one.
    assert np.isnan([scores[0, last], scores[1 + begin, 0], scores[1 + begin, -1]]).all()


def test_softmax_and_uninitialized_models_have_no_transitions():
    nlp = make_nlp("Softmax")
    assert transitions(nlp) == []
    nlp.initialize(lambda: make_examples(nlp))
    assert transitions(nlp) == []


def test_missing_matplotlib(trained, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "spacy-ner-arch\[viz\]"'):
        write_report(trained, [], tmp_path / "out")
    assert not (tmp_path / "out").exists()
