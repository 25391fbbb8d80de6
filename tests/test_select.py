"""`ner-arch select`: uncertain texts, unlike each other, become tasks."""

import json
import math

import numpy as np
import pytest
import spacy
from conftest import TRAIN, make_examples, make_nlp, run_in_line, train
from spacy.tokens import Span

from spacy_ner_arch.cli.select_texts import MEASURES, expected_entities, judge_texts
from spacy_ner_arch.evaluation.selection import choose_texts, text_vectors

KNOWN = [text for text, _ in TRAIN]
NEW = [
    "Quist Tarvik Gazette near Brenna Meyer quietly .",
    "Olaf Brenna Anna Gazette left Upper Tarvik .",
    "Meyer Brenna hired Lake Tarvik .",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pipeline that knows TRAIN by heart, and a file of these texts and others."""
    folder = tmp_path_factory.mktemp("select")
    nlp = make_nlp()
    train(nlp, make_examples(nlp))
    nlp.to_disk(folder / "model")
    texts = [KNOWN[0], NEW[0], *KNOWN, "", NEW[1], "\t", NEW[0], NEW[2]]
    lines = [json.dumps({"text": text, "source": i}) for i, text in enumerate(texts)]
    (folder / "raw.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def select(folder, *args, code=0, raw="raw.jsonl"):
    return run_in_line("select", folder / "model", folder / raw, *args, code=code)


def texts_of(path):
    return [json.loads(line)["text"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("by", MEASURES)
def test_uncertain_texts_are_chosen_and_the_others_left(folder, tmp_path, by):
    output = select(folder, "-o", tmp_path / "a.jsonl", "--n", 3, "--by", by, "--rest", tmp_path / "rest.jsonl")
    chosen = texts_of(tmp_path / "a.jsonl")
    assert set(chosen) == set(NEW)
    rest = [json.loads(line) for line in (tmp_path / "rest.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rest] == list(dict.fromkeys([*KNOWN])) and rest[1]["source"] == 3
    assert "Saved 3 of 8 texts" in output
    assert "Left out 2 empty texts" in output
    assert "Left out 2 texts that occurred before" in output
    again = select(folder, "-o", tmp_path / "b.jsonl", "--n", 9, raw=tmp_path / "rest.jsonl")
    assert "There are only 5 texts" in again and set(texts_of(tmp_path / "b.jsonl")) == set(KNOWN)


def test_tasks_keep_the_fields_of_the_input(folder, tmp_path):
    fields = {"id": "a1", "meta": {"src": "x"}, "label": "news", "model": "old", "half": "\ud800"}
    (tmp_path / "raw.jsonl").write_text(json.dumps({"text": KNOWN[0], **fields}) + "\n")
    made = {}
    for tool in ("prodigy", "label-studio", "doccano", "json"):
        output = select(folder, "-o", tmp_path / tool, "--tool", tool, raw=tmp_path / "raw.jsonl")
        assert ("lost: fields of documents" in output) == (tool == "json")
        made[tool] = json.loads((tmp_path / tool).read_text())
    model = str(folder / "model")
    others = {name: fields[name] for name in ("id", "label", "half")}
    assert made["prodigy"]["meta"] == {"src": "x", **others, "input_model": "old", "model": model}
    [task] = made["label-studio"]
    assert task["id"] == 1
    assert task["data"] == {"text": KNOWN[0], "input_id": "a1", **{k: v for k, v in fields.items() if k != "id"}}
    texts = {key: value for key, value in made["doccano"].items() if key not in ("entities", "relations")}
    expected = {"input_id": "a1", "input_label": "news", "meta": {"src": "x"}, "model": "old", "half": "\ud800"}
    assert texts == {"id": 1, "text": KNOWN[0], **expected}


@pytest.mark.parametrize(("format", "key"), [("prodigy", "spans"), ("label-studio", ""), ("doccano", "entities")])
def test_tools_get_the_predictions(folder, tmp_path, format, key):
    path = tmp_path / ("a.json" if format == "label-studio" else "a.jsonl")
    select(folder, "-o", path, "--n", 2, "--tool", format)
    nlp = spacy.load(folder / "model")
    if format == "label-studio":
        assert len(json.loads(path.read_text())) == 2
        for task in json.loads(path.read_text()):
            doc = nlp(task["data"]["text"])
            results = task["predictions"][0]["result"]
            assert [(r["value"]["start"], r["value"]["labels"]) for r in results] == [
                (ent.start_char, [ent.label_]) for ent in doc.ents
            ]
            assert [r["score"] for r in results] == pytest.approx([ent._.score for ent in doc.ents], abs=1e-4)
    else:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert len(rows) == 2
        for row in rows:
            found = [(span.get("start", span.get("start_offset")), span["label"]) for span in row[key]]
            assert found == [(ent.start_char, ent.label_) for ent in nlp(row["text"]).ents]


def test_the_configuration_has_all_labels(folder, tmp_path):
    (tmp_path / "raw.jsonl").write_text(json.dumps({"text": "Nothing ."}) + "\n")
    select(folder, "-o", tmp_path / "a.json", "--n", 1, "--tool", "label-studio", raw=tmp_path / "raw.jsonl")
    configuration = (tmp_path / "a.xml").read_text()
    labels = spacy.load(folder / "model").get_pipe("sequence_ner").labels
    assert len(labels) > 1 and all(f'<Label value="{label}"/>' in configuration for label in labels)


def test_entropy_is_that_of_all_readings(folder):
    nlp = spacy.load(folder / "model")
    pipe = nlp.get_pipe("sequence_ner")
    docs = [nlp.make_doc(text) for text in ("Quist Tarvik", "Anna", "")]
    for doc, entropy, readings in zip(docs, pipe.entropies(docs), pipe.readings(docs, 5000), strict=True):
        probabilities = [reading.probability for reading in readings]
        assert sum(probabilities) == pytest.approx(1, abs=1e-4), doc
        assert entropy == pytest.approx(-sum(p * math.log(p) for p in probabilities if p), abs=1e-4)
        assert entropy > 0.01 or len(doc) < 2


def test_the_most_uncertain_first_without_similar_ones():
    uncertainty = np.array([0.9, 1.0, 0.5, 0.95])
    assert choose_texts(uncertainty, None, None, 3) == [1, 3, 0]
    nlp = spacy.blank("en")
    words = ["Anna left Tarvik", "Brenna sleeps", "a lake", "Brenna SLEEPS"]
    vectors = text_vectors([nlp.make_doc(text) for text in words])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1)
    # The last one has the words of the second.
    assert choose_texts(uncertainty, vectors, None, 9) == [1, 0, 2, 3]
    assert choose_texts(np.zeros(2), None, None, 2) == [0, 1]


def test_balance_prefers_labels_that_are_rare_so_far():
    uncertainty = np.array([1.0, 0.9, 0.8])
    entities = np.array([[3.0, 0.0], [3.0, 0.0], [0.0, 1.0]])
    assert choose_texts(uncertainty, None, entities, 2) == [0, 2]


def test_alternatives_of_another_component_are_no_expected_entities():
    """It has other labels, and its alternatives stay."""
    doc = spacy.blank("en").make_doc("Anna left Tarvik")
    doc.spans["alternatives"] = [Span(doc, 0, 1, "PER"), Span(doc, 2, 3, "SHIP")]
    doc.spans["alternatives"].attrs["scores"] = np.array([0.5, 0.25])
    assert expected_entities(doc, ("LOC", "PER")).tolist() == [0.0, 0.5]


def test_texts_are_judged_once_and_the_settings_stay(folder):
    nlp = spacy.load(folder / "model")
    pipe = nlp.get_pipe("sequence_ner")
    pipe.cfg["alternatives"] = 0.3
    nlp.batch_size = 2
    records = [(nlp.make_doc(text), {"text": text}) for text in (KNOWN[0], NEW[0], f"{KNOWN[0]}\r\n", " ")]
    texts = judge_texts(nlp, pipe, iter(records), "entropy")
    per_token = judge_texts(nlp, pipe, iter(records), "entropy-per-token").uncertainty
    assert per_token * [len(nlp(KNOWN[0])), len(nlp(NEW[0]))] == pytest.approx(texts.uncertainty)
    assert [record["text"] for record in texts.records] == [KNOWN[0], NEW[0]]
    assert (texts.empty, texts.repeated) == (1, 1)
    assert texts.uncertainty[1] > texts.uncertainty[0] and pipe.cfg["alternatives"] == 0.3
    expected = dict(zip(pipe.labels, texts.entities[0], strict=True))
    assert expected == pytest.approx({"PER": 1, "LOC": 1, "ORG": 0}, abs=0.2)


@pytest.mark.parametrize(
    ("args", "raw", "message"),
    [
        (["--by", "chance"], "raw.jsonl", "--by is 'chance'; it must be one of entropy, entropy-per-token, margin"),
        (["--tool", "xml"], "raw.jsonl", "--tool is 'xml'; it must be one of label-studio"),
        (["--rest", "a.jsonl"], "raw.jsonl", "a.jsonl; give two files"),
        ([], "none.jsonl", "none.jsonl: there is no such file"),
        ([], "none", "none: there is no such file"),
        ([], "a.csv", "give --format txt or --format jsonl"),
        ([], "empty.txt", "empty.txt has no text"),
        ([], "bad.jsonl", "bad.jsonl:1: "),
        (["--component", "ner"], "raw.jsonl", "--component ner is not a sequence_ner"),
    ],
)
def test_bad_requests(folder, tmp_path, args, raw, message):
    (folder / "empty.txt").write_text("\n\n")
    (folder / "a.csv").write_text("text\n")
    (folder / "bad.jsonl").write_text('{"texts": 1}\n' + json.dumps({"text": NEW[0]}) + "\n")
    args = [tmp_path / arg if arg == "a.jsonl" else arg for arg in args]
    assert message in select(folder, "-o", tmp_path / "a.jsonl", *args, raw=raw, code=1)
    assert not (tmp_path / "a.jsonl").exists()


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        # The next choice would read json lines as plain text.
        ("rest.txt", "rest.txt: the name must end in .jsonl"),
        ("rest", "rest: the name must end in .jsonl"),
        ("raw.jsonl", "raw.jsonl is an input, which would be overwritten"),
        ("link.jsonl", "link.jsonl is an input, which would be overwritten"),
        ("-", "the output is -: give the name of a file"),
        ("tasks/rest.jsonl", "is in the folder of the tasks"),
    ],
)
def test_files_that_the_rest_cannot_have(folder, tmp_path, monkeypatch, rest, message):
    """They are refused before the pipeline is loaded."""
    monkeypatch.setattr("spacy_ner_arch.cli.select.load", lambda *args: pytest.fail("the pipeline was loaded"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw.jsonl").write_text(json.dumps({"text": NEW[0]}) + "\n")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "raw.jsonl")
    assert message in select(folder, "-o", "tasks", "--rest", rest, raw=tmp_path / "raw.jsonl", code=1)
    assert {path.name for path in tmp_path.iterdir()} == {"raw.jsonl", "link.jsonl"}
    assert texts_of(tmp_path / "raw.jsonl") == [NEW[0]]


def test_folders_in_the_places_of_files(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("spacy_ner_arch.cli.select.load", lambda *args: pytest.fail("the pipeline was loaded"))
    (tmp_path / "a.jsonl").mkdir()
    select(folder, "-o", tmp_path / "tasks", "--rest", tmp_path / "a.jsonl", code=2)
    assert "a.jsonl is a folder; name a file" in select(folder, "-o", tmp_path / "a.jsonl", code=1)


def test_an_error_leaves_the_files_of_an_earlier_choice(folder, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("the disk is full")

    tasks, rest = tmp_path / "a.jsonl", tmp_path / "rest.jsonl"
    select(folder, "-o", tasks, "--n", 3, "--rest", rest)
    before = tasks.read_bytes(), rest.read_bytes()
    monkeypatch.setattr("spacy_ner_arch.formats.write_docs", fail)
    assert "the disk is full" in select(folder, "-o", tasks, "--n", 2, "--rest", rest, code=1)
    assert (tasks.read_bytes(), rest.read_bytes()) == before and len([*tmp_path.iterdir()]) == 2
    monkeypatch.undo()
    select(folder, "-o", tasks, "--n", 2, "--rest", rest / "in-a-file.jsonl", code=1)
    assert (tasks.read_bytes(), rest.read_bytes()) == before


def test_bad_lines_are_counted(folder, tmp_path):
    (folder / "bad.jsonl").write_text('{"texts": 1}\n' + json.dumps({"text": NEW[0]}) + "\n")
    output = select(folder, "-o", tmp_path / "a.jsonl", "--on-error", "skip", raw="bad.jsonl")
    assert "Left out 1" in output and texts_of(tmp_path / "a.jsonl") == [NEW[0]]
