"""Stored predictions instead of a pipeline, and two systems compared."""

from unicodedata import normalize

import numpy as np
import pytest
import spacy
import srsly
from conftest import load_docs, run_command, run_in_line
from spacy.tokens import Doc, DocBin, Span
from spacy.vocab import Vocab

from spacy_ner_arch.evaluation.items import Item
from spacy_ner_arch.evaluation.risk import difference_interval
from spacy_ner_arch.evaluation.tasks import compare

WORDS = ["Anna", "Brandt", "met", "Tom", "Weiss", "in", "Tarvik", "."]


def write(path, *entities, words=WORDS):
    """A corpus with a document for each list of (start, end, label)."""
    docs = []
    for number, spans in enumerate(entities):
        doc = Doc(Vocab(), words=[*words, f"{number}"])
        doc.set_ents([Span(doc, *span) for span in spans])
        docs.append(doc)
    DocBin(docs=docs).to_disk(path)
    return path


def table(path, name="ents_table"):
    return {row["name"]: row for row in srsly.read_json(path)[name]}


@pytest.fixture
def annotators(tmp_path):
    """Two annotations of the same texts. They agree in two entities of 5 and 4."""
    first = write(tmp_path / "a.spacy", [(0, 2, "PER"), (3, 5, "PER"), (6, 7, "LOC")], [(0, 2, "PER")], [(6, 7, "LOC")])
    second = write(tmp_path / "b.spacy", [(0, 2, "PER"), (3, 4, "PER")], [(0, 2, "PER")], [(6, 7, "ORG")])
    return first, second


def test_predictions_of_a_pipeline_have_its_scores(joint, tmp_path):
    gold, scores = joint / "gold.spacy", tmp_path / "scores.json"
    run_command("evaluate", joint / "model", gold, "-o", scores)
    expected = srsly.read_json(scores)
    run_command("annotate", joint / "model", gold, tmp_path / "found", "--to", "spacy")
    for stored in (tmp_path / "found", *(tmp_path / "found").glob("*.spacy")):
        run_command("evaluate", stored, gold, "-o", scores)
        found = srsly.read_json(scores)
        assert {"ents_table", "rel_table", "spans_a/b_table"} <= found.keys()
        for key in found.keys() & expected.keys():
            assert found[key] == expected[key], key
    # Found again: nothing differs.
    output = run_in_line("evaluate", joint / "model", gold, "--compare", tmp_path / "found", "-o", scores)
    assert "doc.ents F other F difference 95 %" in output and "+0.00 0 0" in output
    compared = srsly.read_json(scores)["compare"]
    assert compared.pop("with") == str(tmp_path / "found") and len(compared) == 3
    for rows in compared.values():
        assert all(row["f1"][0] == row["f1"][1] and row["found_by_one"] == [0, 0] for row in rows)


def test_the_agreement_of_two_annotators(annotators, tmp_path):
    first, second = annotators
    scores = tmp_path / "scores.json"
    run_command("evaluate", first, second, "-o", scores)
    rows = table(scores)
    assert rows["micro avg"]["f1"] == pytest.approx(2 * 2 / (5 + 4))
    assert rows["PER"]["f1"] == pytest.approx(2 * 2 / (3 + 3)) and rows["ORG"]["f1"] == rows["LOC"]["f1"] == 0
    run_command("evaluate", second, first, "-o", scores)
    assert table(scores)["micro avg"]["f1"] == rows["micro avg"]["f1"]


def test_labels_of_one_side_are_named(annotators, tmp_path):
    first, _ = annotators
    other = write(tmp_path / "c.spacy", [(0, 2, "PERSON"), (6, 7, "LOC")], [(0, 2, "HUM")], [])
    output = run_in_line("evaluate", other, first)
    assert "PER are only in the corpus, HUM, PERSON only in the predictions: `ner-arch convert --rename OLD" in output
    # A label that is only rarely found is no other name.
    some = write(tmp_path / "d.spacy", [(6, 7, "LOC")], [], [])
    assert "only in the predictions" not in run_in_line("evaluate", some, first)


def test_predictions_are_found_by_their_text(annotators, tmp_path):
    """In any order, with other tokens, white space and further documents."""
    first, second = annotators
    scores = tmp_path / "scores.json"
    run_command("evaluate", first, second, "-o", scores)
    expected = table(scores)
    docs = []
    for doc in load_docs(first)[::-1]:
        characters = Doc(
            doc.vocab, words=list("".join(doc.text.split())), spaces=[False] * len(doc.text.replace(" ", ""))
        )
        starts = np.cumsum([0, *map(len, (token.text for token in doc))])
        characters.set_ents([Span(characters, starts[e.start], starts[e.end], label=e.label_) for e in doc.ents])
        docs.append(characters)
    other = Doc(Vocab(), words=["Elsewhere"], ents=["B-LOC"])
    DocBin(docs=[other, *docs]).to_disk(tmp_path / "moved.spacy")
    output = run_in_line("evaluate", tmp_path / "moved.spacy", second, "-o", scores)
    assert table(scores) == expected
    assert "1 documents are not in" in output and "such as 'Elsewhere '" in output


def test_predictions_for_another_unicode_form_of_the_text(tmp_path):
    gold, found = (
        write(tmp_path / f"{form}.spacy", [(0, 1, "PER")], words=[normalize(form, "Renée"), "left"])
        for form in ("NFC", "NFD")
    )
    output = run_in_line("evaluate", found, gold, code=1)
    assert "NFD.spacy has the text 'Renée left 0 ' in another Unicode form (NFC, NFD)" in output


def test_copies_of_a_text_are_taken_in_turn(tmp_path):
    gold = write(tmp_path / "gold.spacy", [(0, 2, "PER")])
    twice = [(0, 2, "PER")], []
    docs = [doc for spans in twice for doc in load_docs(write(tmp_path / "one.spacy", spans))]
    DocBin(docs=docs).to_disk(tmp_path / "found.spacy")
    DocBin(docs=load_docs(gold) * 2).to_disk(tmp_path / "gold2.spacy")
    run_command("evaluate", tmp_path / "found.spacy", tmp_path / "gold2.spacy", "-o", tmp_path / "scores.json")
    row = table(tmp_path / "scores.json")["micro avg"]
    assert (row["precision"], row["recall"]) == (1.0, 0.5)
    output = run_in_line("evaluate", tmp_path / "one.spacy", tmp_path / "gold2.spacy", code=1)
    assert "Cannot predict" in output and "has no predictions for the text 'Anna Brandt" in output


def test_what_the_pipeline_has_not_set_is_no_prediction(trained, joint, tmp_path):
    """`annotate` keeps the other layers of the corpus in its output."""
    trained.to_disk(tmp_path / "entities")
    run_command("annotate", tmp_path / "entities", joint / "gold.spacy", tmp_path / "found", "--to", "spacy")
    for stored in (tmp_path / "found", *(tmp_path / "found").glob("*.spacy")):
        assert any(doc._.relations for file in [*(tmp_path / "found").glob("*.spacy")] for doc in load_docs(file))
        run_command("evaluate", stored, joint / "gold.spacy", "-o", tmp_path / "scores.json")
        scores = srsly.read_json(tmp_path / "scores.json")
        assert "ents_table" in scores and not {"rel_table", "spans_a/b_table"} & scores.keys()


def test_documents_without_predictions_of_a_layer_are_counted(annotators, tmp_path):
    first, second = annotators
    docs = load_docs(first)
    bare = Doc(docs[0].vocab, words=[token.text for token in docs[0]])
    DocBin(docs=[bare, *docs[1:]]).to_disk(tmp_path / "half.spacy")
    assert "1 of 3 documents have no doc.ents" in run_in_line("evaluate", tmp_path / "half.spacy", second)


def test_gold_entities_of_one_system_only(joint, tmp_path):
    """A pipeline of relations alone gets gold entities, and so does the other one."""
    nlp = spacy.load(joint / "model")
    for name in ("sequence_ner", "nested_ner"):
        nlp.remove_pipe(name)
    nlp.to_disk(tmp_path / "relations")
    gold, scores = joint / "gold.spacy", tmp_path / "scores.json"
    run_command("annotate", joint / "model", gold, tmp_path / "found", "--to", "spacy")
    warning = "Only one of the two systems got gold entities"
    output = run_in_line("evaluate", tmp_path / "relations", gold, "--compare", joint / "model", "-o", scores)
    assert warning not in output and list(srsly.read_json(scores)["compare"]) == ["with", "doc._.relations"]
    assert warning in run_in_line("evaluate", tmp_path / "relations", gold, "--compare", tmp_path / "found")
    assert warning in run_in_line("evaluate", tmp_path / "found", gold, "--compare", tmp_path / "relations")


def test_a_wrong_name_is_noticed_before_anything_is_predicted(joint, tmp_path):
    for name in ("typo", "typo.spacy"):
        output = run_in_line("evaluate", joint / "model", joint / "gold.spacy", "--compare", tmp_path / name, code=1)
        assert "typo" in output and "micro avg" not in output


@pytest.mark.parametrize("command", ["evaluate", "report"])
def test_predictions_that_cannot_be_read(annotators, tmp_path, command):
    first, second = annotators
    (tmp_path / "damaged.spacy").write_bytes(b"no")
    write(tmp_path / "plain.spacy")
    output = ["-o", tmp_path / "out"] if command == "report" else []
    for path, message in (("nowhere", "No such file"), ("damaged", "damaged"), ("plain", "has no annotation of ent")):
        assert message in run_in_line(command, tmp_path / f"{path}.spacy", first, *output, code=1)
    assert "has predictions" in run_in_line(command, first, second, *output, "--gold-entities", code=1)


def test_no_predictions_are_overwritten(annotators):
    first, second = annotators
    assert "is an input" in run_in_line("evaluate", first, second, "-o", first, code=1)
    assert "is an input" in run_in_line("evaluate", second, second, "--compare", first, "-o", first, code=1)


def test_a_report_of_predictions(annotators, tmp_path):
    first, second = annotators
    run_command("report", first, second, "-o", tmp_path / "page")
    page = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert f"Predictions {first}" in page and page.count('<section id="task') == 1
    assert "wrong boundaries" in page and "wrong label" in page


def test_systems_that_set_different_layers(annotators, joint, tmp_path):
    doc = spacy.blank("en")("Anna Brandt")
    doc.spans["x"] = [Span(doc, 0, 2, label="PER")]
    DocBin(docs=[doc]).to_disk(tmp_path / "spans.spacy")
    doc.set_ents([Span(doc, 0, 2, label="PER")])
    DocBin(docs=[doc]).to_disk(tmp_path / "both.spacy")
    del doc.spans["x"]
    DocBin(docs=[doc]).to_disk(tmp_path / "ents.spacy")
    files = [tmp_path / f"{name}.spacy" for name in ("ents", "both", "spans")]
    assert "nothing to compare" in run_in_line("evaluate", files[0], files[1], "--compare", files[2])


def item(place, label="A"):
    return Item(label, ((place, place + 1),))


def test_a_difference_by_hand():
    gold = [[item(0), item(1, "B")], [item(0)], []]
    first = [[item(0)], [item(0)], [item(5, "C")]]
    second = [[item(1, "B")], [item(0), item(2)], []]
    rows = compare(list(zip(gold, first, strict=True)), list(zip(gold, second, strict=True)), range(3))
    assert list(rows) == ["micro avg", "A", "B", "C"]
    # Three gold items, three predictions of each system, of which two are right.
    assert rows["micro avg"].f1 == pytest.approx((2 / 3, 2 / 3)) and rows["micro avg"].found_by_one == (1, 1)
    assert rows["A"].f1 == pytest.approx((1.0, 0.5)) and rows["A"].found_by_one == (1, 0)
    assert rows["B"].f1 == (0.0, 1.0) and rows["B"].found_by_one == (0, 1)
    assert rows["C"].f1 == (0.0, 0.0) and rows["C"].interval is None
    assert compare([], [], []) == {}


def test_the_interval_of_a_difference_is_that_of_the_same_documents():
    """The second system makes the same errors and 5 % more: the difference is certain, though the scores are not."""
    random = np.random.default_rng(0)
    right = random.random(400) < 0.7
    fewer = right & (random.random(400) < 0.95)
    ones = np.ones(400, dtype=int)
    interval = difference_interval(np.stack([right, 2 * ones, fewer, 2 * ones], axis=1))
    share = (right & ~fewer).mean()
    half = 1.96 * np.sqrt(share * (1 - share) / 400)
    assert interval == pytest.approx((share - half, share + half), abs=0.01) and interval.low > 0
    assert difference_interval(np.array([[1, 2, 0, 2]] * 9 + [[1, 2, 1, 2]] * 9)) is not None
    # Too few documents, and equal systems.
    assert difference_interval(np.array([[1, 2, 0, 2]] * 4 + [[1, 2, 1, 2]] * 5)) is None
    assert difference_interval(np.array([[1, 2, 1, 2]] * 9 + [[0, 2, 0, 2]] * 9)) is None
