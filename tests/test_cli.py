"""`python -m spacy ner-arch`, as called from a shell."""

import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import spacy
import srsly
from conftest import (
    DOCUMENT_PAIRS,
    RELATIONS,
    TRAIN,
    load_docs,
    make_examples,
    make_nlp,
    run_command,
    run_in_line,
    set_relations,
    set_trees,
    small_model,
    train,
)
from spacy.cli import app
from spacy.cli._util import import_code
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Example
from spacy.training.corpus import walk_corpus
from spacy.util import registry
from thinc.api import Config
from typer.testing import CliRunner

from spacy_ner_arch.annotation.candidates import Candidates
from spacy_ner_arch.annotation.teachers import TEACHER
from spacy_ner_arch.annotation.words import text_key
from spacy_ner_arch.bulk.documents import LAYERS, annotation, predict_in_zones
from spacy_ner_arch.cli.configs import make_config
from spacy_ner_arch.cli.debug_data_counts import count_documents, count_relations, has_contradiction
from spacy_ner_arch.cli.evaluate_pages import make_pages
from spacy_ner_arch.cli.messages import fail
from spacy_ner_arch.cli.pipelines import check_corpora, check_word_vectors
from spacy_ner_arch.cli.presets import find_cell
from spacy_ner_arch.evaluation.score_tables import entity_table
from spacy_ner_arch.formats import find_docbins
from spacy_ner_arch.formats.files import complete_files, write_text

COLUMNS = "-DOCSTART- -X- O\n\nAnna NN B-PER\nBrandt NN I-PER\nslept VB O\n\nin IN O\nTarvik NN B-LOC\n\n"


def test_convert(tmp_path):
    (tmp_path / "a.txt").write_text(COLUMNS)
    (tmp_path / "b.txt").write_text(COLUMNS.replace("Tarvik", "Brenna"))
    output = run_command("convert", tmp_path / "a.txt", tmp_path / "b.txt", tmp_path / "out", "--format", "conll")
    docs = load_docs(tmp_path / "out" / "a.spacy")
    assert [[(ent.text, ent.label_) for ent in doc.ents] for doc in docs] == [
        [("Anna Brandt", "PER")],
        [("Tarvik", "LOC")],
    ]
    assert len(load_docs(tmp_path / "out" / "b.spacy")) == 2
    assert "sentences" in output and "entities PER" in output


def test_convert_keeps_sentence_starts_in_longer_docs(tmp_path):
    (tmp_path / "a.txt").write_text(COLUMNS)
    for options in (["--documents"], ["--n-sents", "2"]):
        run_command("convert", tmp_path / "a.txt", tmp_path, "--format", "conll", *options)
        (doc,) = load_docs(tmp_path / "a.spacy")
        assert [len(sent) for sent in doc.sents] == [3, 2]


def test_convert_names_and_splits(tmp_path):
    (tmp_path / "valid.txt").write_text("".join(COLUMNS.replace("slept", f"slept{i}") for i in range(10)))
    run_command("convert", tmp_path / "valid.txt", tmp_path, "--format", "conll", "--name", "test.spacy")
    assert len(load_docs(tmp_path / "test.spacy")) == 20
    run_command("convert", tmp_path / "valid.txt", tmp_path, "--format", "conll", "--name", "train", "--split", "0.1")
    assert len(load_docs(tmp_path / "train.spacy")) == 18 and len(load_docs(tmp_path / "dev.spacy")) == 2


def test_convert_stops_at_a_malformed_line_or_counts_it(tmp_path):
    (tmp_path / "bad.txt").write_text(COLUMNS + "Olaf NN X-PER\n")
    output = run_command("convert", tmp_path / "bad.txt", tmp_path / "out", "--format", "conll", code=1)
    assert "bad.txt:10" in output.replace("\n", "") and "Olaf NN X-PER" in output
    assert not (tmp_path / "out").exists()
    output = run_command("convert", tmp_path / "bad.txt", tmp_path / "out", "--format", "conll", "--on-error", "skip")
    assert "skipped sentences" in output and len(load_docs(tmp_path / "out" / "bad.spacy")) == 2


@pytest.mark.parametrize(
    "inputs, options, message",
    [
        (["a.txt", "b.txt"], ["--name", "x"], "take one input"),
        (["a.txt", "sub/a.txt"], [], "both become a.spacy"),
        (["a.txt", "sub/A.txt"], [], "both become a.spacy"),
        (["a.txt"], ["--format", "xml"], "unknown format 'xml'; choose from auto, conll, conllu"),
        (["empty.txt"], [], "no sentence was read"),
        (["a.txt"], ["--lang", "xx2"], "no language 'xx2'"),
        (["a.txt"], ["--name", "dev", "--split", "0.5"], "give the rest another --name"),
        (["a.txt"], ["--name", "Dev", "--split", "0.5"], "give the rest another --name"),
        (["a.txt"], ["--format", "offsets", "--n-sents", "3"], "each text becomes one Doc"),
    ],
)
def test_convert_refuses(tmp_path, inputs, options, message):
    (tmp_path / "sub").mkdir()
    for name in ("a.txt", "b.txt", "sub/a.txt", "sub/A.txt"):
        (tmp_path / name).write_text(COLUMNS)
    (tmp_path / "empty.txt").write_text("\n")
    formats = [] if "--format" in options else ["--format", "conll"]
    output = run_command("convert", *(tmp_path / name for name in inputs), tmp_path / "out", *formats, *options, code=1)
    assert message in " ".join(output.split())


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "far").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "far")
    with pytest.raises(ZeroDivisionError):
        write_text(tmp_path / "link", (str(1 / i) for i in (1, 0)))
    assert (tmp_path / "far").read_text() == "old"
    write_text(tmp_path / "link", ["new"])
    assert (tmp_path / "link").is_symlink() and (tmp_path / "far").read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("has_links", [True, False])
def test_all_files_are_replaced_or_none(tmp_path, monkeypatch, has_links):
    """Else, a new train.spacy would be beside an old dev.spacy, and both could have the same texts."""
    replace = os.replace

    def fail_for_last(source, target):
        if target.name == "c":
            raise PermissionError(13, "open in another process")
        replace(source, target)

    def write():
        with complete_files() as temporary:
            for name in "abc":
                temporary(tmp_path / name).write_text("new")

    def found():
        return {path.name: path.read_text() for path in tmp_path.iterdir()}

    if not has_links:
        monkeypatch.setattr(os, "link", Mock(side_effect=OSError("not supported")))
    for name in "ac":
        (tmp_path / name).write_text("old")
    with monkeypatch.context() as patch, pytest.raises(PermissionError, match="open in another process"):
        patch.setattr(os, "replace", fail_for_last)
        write()
    assert found() == {"a": "old", "c": "old"}
    write()
    assert found() == dict.fromkeys("abc", "new")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_is_written_in_place(tmp_path):
    """As root, a regular file took the place of /dev/null."""
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_text(tmp_path / "pipe", ["new"])
    assert os.read(reader, 10) == b"new" and (tmp_path / "pipe").is_fifo()
    os.close(reader)


@pytest.mark.parametrize("command", ["evaluate", "train", "annotate", "debug-data"])
def test_a_file_that_python_cannot_import(tmp_path, command):
    (tmp_path / "code.txt").write_text("")
    (tmp_path / "x").mkdir()
    output = run_command(command, tmp_path / "code.txt", tmp_path / "x", "--code", tmp_path / "code.txt", code=2)
    assert "does not end in .py" in " ".join(output.split())


def test_evaluate_and_label(trained, tmp_path):
    trained.to_disk(tmp_path / "model")
    DocBin(docs=[eg.reference for eg in make_examples(trained)]).to_disk(tmp_path / "gold.spacy")
    output = run_command(
        "evaluate", tmp_path / "model", tmp_path / "gold.spacy", "-o", tmp_path / "new" / "scores.json"
    )
    assert "micro avg" in output and "weighted avg" in output and "100.00" in output
    scores = srsly.read_json(tmp_path / "new" / "scores.json")
    assert scores["ents_f"] == 1.0 and scores["ents_per_type"]["PER"]["f"] == 1.0
    rows = {row["name"]: row for row in scores["ents_table"]}
    assert rows["LOC"]["support"] == rows["LOC"]["predicted"] == 4
    assert "P R F 95 % support predicted" in " ".join(output.split())
    # All is right, in all samples of the documents.
    assert rows["micro avg"]["interval"] is None and rows["LOC"]["interval"] is None
    assert "LOC 100.00 100.00 100.00 4 4" in " ".join(output.split())
    output = run_command("label", tmp_path / "model", TRAIN[0][0])
    assert "Anna Brandt" in output and "PER" in output


def test_evaluate_relations(tmp_path):
    """Relations are scored between gold entities if asked, or if the pipeline finds no entities."""
    nlp = make_nlp()
    nlp.add_pipe("relation_extractor", config={"candidates": DOCUMENT_PAIRS})
    examples = make_examples(nlp)
    set_relations([eg.reference for eg in examples])
    for eg in examples:
        eg.predicted.set_ents(eg.get_aligned_spans_y2x(eg.reference.ents), default="outside")
    train(nlp, examples)
    gold = tmp_path / "gold.spacy"
    DocBin(docs=[eg.reference for eg in examples], store_user_data=True).to_disk(gold)
    nlp.to_disk(tmp_path / "both")
    nlp.remove_pipe("sequence_ner")
    nlp.to_disk(tmp_path / "relations")
    for model, options in (("both", []), ("both", ["--gold-entities"]), ("relations", [])):
        output = run_command("evaluate", tmp_path / model, gold, "-o", tmp_path / "scores.json", *options)
        assert ("between gold entities" in output) == (model == "relations")
        scores = srsly.read_json(tmp_path / "scores.json")
        assert scores["rel_strict_f"] == 1.0
        assert (scores.get("ents_f") is not None) == (model == "both" and not options)


def test_evaluate_by_a_field_scores_the_documents_of_each_value(joint, tmp_path):
    docs = load_docs(joint / "gold.spacy")
    for doc, source in zip(docs, ("news", "news", "blog", 7, None), strict=True):
        if source is not None:
            doc.user_data["source"] = source
    docs[2].set_ents([Span(docs[2], 0, 1, label="LOC")])  # a false gold entity
    gold, scores = tmp_path / "gold.spacy", tmp_path / "scores.json"
    DocBin(docs=docs, store_user_data=True).to_disk(gold)
    output = run_in_line("evaluate", joint / "model", gold, "--by", "source", "-o", scores)
    assert "ents by source" in output and "rel by source" in output and "spans_a/b by source" in output
    found = srsly.read_json(scores)
    groups = found["by"]["source"]
    assert [(value, group["documents"]) for value, group in groups.items()] == [
        ("news", 2),
        ("blog", 1),
        ("7", 1),
        ("(none)", 1),
    ]

    def micro(tables):
        rows = [(row["f1"], row["support"]) for row in tables["ents_table"] if row["name"] == "micro avg"]
        return rows[0] if rows else (None, 0)

    assert micro(groups["blog"]) == (0.0, 1) and micro(groups["news"])[0] == 1.0
    assert sum(micro(group)[1] for group in groups.values()) == micro(found)[1]
    assert "news 2 100.00" in output and "blog 1 0.00 0.00 0.00 1 2" in output
    output = run_in_line("evaluate", joint / "model", gold, "--by", "sorce", code=1)
    assert "no document has the field 'sorce'. Fields of the corpus: source." in output
    output = run_in_line("evaluate", joint / "model", gold, "--by", "source", "--gold-preproc", "--gold-trees", code=1)
    assert "leave it out" in output


def test_evaluate_says_why_no_relation_is_found(tmp_path):
    nlp = make_nlp()
    nlp.add_pipe("relation_extractor", config={"candidates": DOCUMENT_PAIRS})
    examples = make_examples(nlp)
    set_relations([eg.reference for eg in examples])
    nlp.initialize(lambda: examples)
    nlp.get_pipe("sequence_ner").cfg["threshold"] = 1.0
    nlp.to_disk(tmp_path / "young")
    bare = nlp.make_doc("Nothing happened .")
    bare.set_ents([])
    for name, docs in (("full", [eg.reference for eg in examples]), ("bare", [bare]), ("empty", [])):
        DocBin(docs=docs, store_user_data=True).to_disk(tmp_path / f"{name}.spacy")

    def warning(*args):
        return run_in_line("evaluate", tmp_path / "young", *args)

    assert "The pipeline finds no entity, and so no relation: give --gold-entities" in warning(tmp_path / "full.spacy")
    assert "no gold entity, and so no relation: leave" in warning(tmp_path / "bare.spacy", "--gold-entities")
    output = warning(tmp_path / "empty.spacy")
    assert "nothing to compare. Corpus: 0 documents" in output and "no relation can" not in output


def test_evaluate_says_that_the_pipeline_finds_other_annotation_than_the_corpus_has(joint, tmp_path):
    nlp = spacy.load(joint / "model", exclude=["sequence_ner", "relation_extractor"])
    nlp.to_disk(tmp_path / "nested")
    docs = list(DocBin().from_disk(joint / "gold.spacy").get_docs(nlp.vocab))
    for doc in docs:
        doc.spans.clear()
    DocBin(docs=docs).to_disk(tmp_path / "flat.spacy")
    output = run_in_line("evaluate", tmp_path / "nested", tmp_path / "flat.spacy")
    assert "nothing to compare. Corpus: 5 documents, with 7 in doc.ents of 5. Predictions:" in output
    assert "7 in doc.spans['a/b'] of 5." in output and "micro avg" not in output
    blank = spacy.blank("en")
    blank.add_pipe("sentencizer")
    blank.to_disk(tmp_path / "blank")
    output = run_in_line("evaluate", tmp_path / "blank", tmp_path / "flat.spacy")
    assert "sets no entities, spans or relations: all gold ones count as missed (['sentencizer'])" in output


def test_evaluate_writes_the_pages_that_it_names(joint, tmp_path):
    output = run_command(
        "evaluate", joint / "model", joint / "gold.spacy", "--displacy-path", tmp_path / "new" / "pages"
    )
    contents = {
        "entities.html": "7 entities in 5 documents",
        "spans-a%2Fb.html": "7 spans of 'a/b' in 5 documents",
        "relations.html": "2 relations in 5 documents",
    }
    pages = {path.name: path.read_text(encoding="utf8") for path in (tmp_path / "new" / "pages").iterdir()}
    assert pages.keys() == contents.keys()
    printed = "".join(output.split())
    for name, content in contents.items():
        assert "".join(f"Saved {content} to {tmp_path / 'new' / 'pages' / name}".split()) in printed
        page = pages[name]
        assert 'charset="utf-8"' in page and "Anna" in page and "Zoë" in page and "&lt;b&gt;" in page
        assert "<b>" not in page and "PER" in page
    assert pages["relations.html"].count("<svg") == 5 and "LIVES_IN" in pages["relations.html"]


def test_pages_escape_labels():
    nlp = spacy.blank("en")
    for ruler in ("entity_ruler", "span_ruler"):
        nlp.add_pipe(ruler).add_patterns([{"label": "<b>R&D", "pattern": "Anna"}])
    pages = {name: page for name, _, page in make_pages(nlp, [nlp("Anna left.")])}
    assert pages.keys() == {"entities", "spans-ruler"}
    for page in pages.values():
        assert "&lt;b&gt;R&amp;D" in page and "<b>" not in page


def test_pages_escape_ids_and_titles():
    """They can come from a corpus of someone else."""
    nlp = spacy.blank("en")
    for ruler in ("entity_ruler", "span_ruler"):
        nlp.add_pipe(ruler)
    doc = nlp("Anna left.")
    doc.ents = doc.spans["ruler"] = [Span(doc, 0, 1, label="PER", kb_id="<b>Q42")]
    doc.user_data["title"] = "<b>R&D"
    pages = {name: page for name, _, page in make_pages(nlp, [doc])}
    assert pages.keys() == {"entities", "spans-ruler"}
    for page in pages.values():
        assert "&lt;b&gt;R&amp;D" in page and "&lt;b&gt;Q42" in page and "<b>" not in page


def test_evaluate_writes_pages_of_what_the_pipeline_sets(joint, trained, tmp_path):
    run_command(
        *("evaluate", joint / "model", joint / "gold.spacy", "--gold-entities"),
        *("--displacy-path", tmp_path / "relations", "--displacy-limit", 2),
    )
    (page,) = (tmp_path / "relations").iterdir()
    assert page.name == "relations.html" and page.read_text(encoding="utf8").count("<svg") == 2
    trained.to_disk(tmp_path / "entities")
    output = run_command("evaluate", tmp_path / "entities", joint / "gold.spacy", "--displacy-path", tmp_path / "pages")
    assert [path.name for path in (tmp_path / "pages").iterdir()] == ["entities.html"] and "in 5 documents" in output
    make_nlp().from_config({"nlp": {"lang": "en"}}).to_disk(tmp_path / "blank")
    output = run_command("evaluate", tmp_path / "blank", joint / "gold.spacy", "--displacy-path", tmp_path / "none")
    assert "no page written" in output and not list((tmp_path / "none").glob("*"))


def label(*args, stdin=None, code=0):
    """Call `ner-arch label`; return its standard output and its messages."""
    result = CliRunner().invoke(app, ["ner-arch", "label", *map(str, args)], input=stdin)
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def objects(output):
    return [json.loads(line) for line in output.splitlines()]


def test_label_reads_lines_and_keeps_their_fields(joint, tmp_path):
    nlp = spacy.load(joint / "model")
    (tmp_path / "texts.txt").write_text(f"{TRAIN[0][0]}\r\n\n{TRAIN[2][0]}", encoding="utf8")
    output, messages = label(joint / "model", tmp_path / "texts.txt")
    assert messages == ""
    rows = objects(output)
    assert [row["text"] for row in rows] == [TRAIN[0][0], "", TRAIN[2][0]]
    assert rows[1] == {"text": "", "entities": [], "spans": {"a/b": []}, "relations": []}
    for row in rows:
        doc = nlp(row["text"])
        entities = [(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents]
        assert [(ent["start"], ent["end"], ent["label"]) for ent in row["entities"]] == entities
        assert [ent["score"] for ent in row["entities"]] == pytest.approx([ent._.score for ent in doc.ents], abs=1e-5)
        scores = doc.spans["a/b"].attrs["scores"]
        assert [span["score"] for span in row["spans"]["a/b"]] == pytest.approx(list(scores), abs=1e-5)
        assert [r["label"] for r in row["relations"]] == [r.label for r in doc._.relations]
        assert all(set(r["head"]) == {"start", "end", "label"} and r["score"] > 0.5 for r in row["relations"])
    assert rows[0]["relations"] and rows[2]["relations"]

    # Half of a character, in a key that is not the text.
    fields = [{"id": 7, "text": "Anna ünd Tarvik .", "meta": {"a": [1.5, None]}}, {"text": "😀", "é": "\ud800"}]
    lines = "\n".join(map(json.dumps, fields)) + "\n\n"
    for args, stdin in (([joint / "model", "-"], lines), ([joint / "model", tmp_path / "in.JSONL", "-n", 2], None)):
        (tmp_path / "in.JSONL").write_text(lines)
        output, _ = label(*args, "-o", tmp_path / "new" / "out.jsonl", "--batch-size", 1, stdin=stdin)
        assert output == ""
        out = (tmp_path / "new" / "out.jsonl").read_text(encoding="utf8")
        rows = objects(out)
        assert [{key: row[key] for key in field} for row, field in zip(rows, fields, strict=False)] == fields
        assert len(rows) == 3 and rows[2]["text"] == "" and "ünd" in out


def test_a_terminal_that_cannot_show_all_characters(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("wasabi.util.ENCODING", "cp1252")
    trained.to_disk(tmp_path / "model")
    doc = trained.make_doc("Anna left Tarvik.")
    doc.set_ents([Span(doc, 0, 1, label="Łódź")])
    DocBin(docs=[doc]).to_disk(tmp_path / "a.spacy")
    args = ["evaluate", tmp_path / "model", tmp_path / "a.spacy", "-o", tmp_path / "é" / "scores.json"]
    result = CliRunner(charset="cp1252").invoke(app, ["ner-arch", *map(str, args)])
    assert result.exit_code == 0 and r"\u0141ód\u017a" in result.output
    assert "é/scores.json" in "".join(result.output.split())


def test_control_characters_of_labels_and_names_are_printed_as_numbers(trained, tmp_path, capsys):
    """A corpus of someone else must not write to the clipboard, or change the title of a terminal."""
    trained.to_disk(tmp_path / "model")
    label = "PER\x1b]0;owned\x07\x9b2J"
    doc = trained.make_doc("Anna left Tarvik.")
    doc.set_ents([Span(doc, 0, 1, label=label)])
    corpus = tmp_path / "a\x1b]0;.spacy"
    DocBin(docs=[doc]).to_disk(corpus)
    lines = [{"text": "Anna left", "entities": [[0, 4, name]]} for name in (label, label.lower())]
    (tmp_path / "a\x1b]0;.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    outputs = [
        run_command("evaluate", tmp_path / "model", corpus, "-o", tmp_path / "\x07.json"),
        run_command("convert", tmp_path / "a\x1b]0;.jsonl", tmp_path, "-f", "offsets"),
    ]
    for output, name in zip(outputs, (r"\x07.json", r"a\x1b]0;"), strict=True):
        assert r"PER\x1b]0;owned\x07\x9b2J" in output and name in "".join(output.split())
        assert not any(start in output for start in ("\x1b]", "\x07", "\x9b"))
    with pytest.raises(SystemExit):
        fail("no", ValueError("a\tb\n\x1b]0;\r"))
    assert capsys.readouterr().out.endswith("a\tb\n\\x1b]0;\\x0d\n\n".expandtabs())


def test_label_prints_tables_of_texts(joint):
    tables, _ = label(joint / "model", TRAIN[0][0], TRAIN[3][0])
    assert "LIVES_IN" in tables and "a/b" in tables and "probability" in tables and TRAIN[3][0] in tables
    (first, second) = objects(label(joint / "model", TRAIN[0][0], TRAIN[3][0], "--json")[0])
    assert first["entities"] and not second["entities"]
    line = {"text": TRAIN[3][0], "entities": [1]}
    (row,) = objects(label(joint / "model", "-", "--key", "found", stdin=json.dumps(line))[0])
    assert row == {**line, "found": {"entities": [], "spans": {"a/b": []}, "relations": []}}
    assert objects(label(joint / "model", "-", "--format", "txt", stdin='{"a": 1}\n')[0])[0]["text"] == '{"a": 1}'
    assert "Anna Brandt" in label(joint / "model", "-", "--table", stdin=TRAIN[0][0])[0]


def test_label_prints_no_empty_table(joint, tmp_path):
    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("span_ruler")
    ruler.add_patterns([{"label": "PER", "pattern": "Anna"}])
    nlp.to_disk(tmp_path)
    found = label(tmp_path, "Anna left")[0]
    assert "ruler" in found and "entity" not in found and "nothing found" not in found
    for model in (tmp_path, joint / "model"):
        nothing = label(model, "")[0]
        assert "nothing found" in nothing and "probability" not in nothing


BAD_LINES = [
    b'{"text": 1}',
    b'{"text": "Anna"',
    b'["Anna"]',
    b'{"text": "\\ud800"}',
    b'{"text": "Anna", "entities": []}',
    b'{"text": "\xff"}',
]


@pytest.mark.parametrize("bad", BAD_LINES)
def test_label_names_a_bad_line_or_counts_it(joint, tmp_path, bad):
    (tmp_path / "in.jsonl").write_bytes(b'{"text": "Anna"}\n\n' + bad + b'\n{"text": "Tarvik"}\n')
    (tmp_path / "out.jsonl").write_text("older")
    for options in ([], ["-o", tmp_path / "out.jsonl"]):
        _, messages = label(joint / "model", tmp_path / "in.jsonl", *options, code=1)
        assert f"{tmp_path / 'in.jsonl'}:3: " in messages and "remedy: " in messages
    assert (tmp_path / "out.jsonl").read_text() == "older"
    output, messages = label(joint / "model", tmp_path / "in.jsonl", "--on-error", "skip")
    assert [row["text"] for row in objects(output)] == ["Anna", "", "Tarvik"]
    assert "left out 1 of 4 (25.0 %) lines" in messages and "in.jsonl:3: " in messages


@pytest.mark.parametrize(
    "args, message",
    [
        (["no.txt"], "no.txt: there is no such file"),
        (["no.json"], "no.json: there is no such file"),
        (["."], ". is a folder: name its files"),
        (["notes.md"], "notes.md is a file, but neither .txt nor .jsonl"),
        (["model/meta.json"], "`ner-arch annotate` also reads .csv, .parquet and .spacy files"),
        (["A text", "--format", "txt"], "--format is for files and standard input"),
        (["-", "--format", "csv"], "must be one of txt, jsonl"),
        (["-", "--on-error", "ignore"], "must be one of raise, skip"),
        (["Anna", "-o", "out.jsonl", "--table"], "--output is for json lines"),
        (["Anna", "-o", "out.jsonl", "--key", "text"], "the object has the key 'text', which the output needs"),
        (["x" * 1_000_001], "argument:1: [E088]"),
    ],
)
def test_label_refuses(trained, tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.md").write_text("Anna")
    trained.to_disk("model")
    assert message in label("model", *args, code=1)[1] and not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    "text, items",
    [
        ('[{"text": "Anna"}]', "objects"),
        ('[\n  {"text": "Anna"}\n]', "objects"),
        (' [ \n\n {"text": "Anna"}]', "objects"),
        ('["Anna lives in Tarvik ."]', "texts"),
        ('[\n  "Anna",\n  "Tarvik"\n]', "texts"),
    ],
)
def test_a_json_list_on_standard_input_is_no_text(joint, text, items):
    message = label(joint / "model", "-", stdin=text, code=1)[1]
    assert f"a list of {items}" in message and "on each line" in message and "--format txt" in message
    assert objects(label(joint / "model", "-", "--format", "txt", stdin=text)[0])
    assert objects(label(joint / "model", "-", stdin="[1] Anna\n{left}\n")[0])[0]["text"] == "[1] Anna"


def test_label_says_why_no_relation_is_found(joint, tmp_path):
    nlp = spacy.load(joint / "model", exclude=["sequence_ner", "nested_ner"])
    nlp.to_disk(tmp_path / "model")
    warning = "no text has an entity, and so none has a relation: add an entity component to the pipeline"
    for args in ([TRAIN[0][0]], [TRAIN[0][0], "--json"]):
        output, messages = label(tmp_path / "model", *args)
        assert warning in messages and warning not in output
    assert label(joint / "model", TRAIN[3][0])[1] == ""
    ruler = nlp.add_pipe("entity_ruler", before="relation_extractor")
    ruler.add_patterns([{"label": "PER", "pattern": "Anna"}])
    nlp.to_disk(tmp_path / "ruler")
    assert label(tmp_path / "ruler", "Nothing happened .")[1] == ""
    (tmp_path / "empty.jsonl").touch()
    assert label(tmp_path / "model", str(tmp_path / "empty.jsonl")) == ("", "")


@registry.misc("tests.first_and_fifth_word.v1")
def create_first_and_fifth_word():
    def propose(doc):
        return Candidates([doc[0:1], doc[4:5]], np.array([[0, 1]]), np.array([[0, 5]]))

    return propose


def test_relations_between_other_spans_need_no_entities(tmp_path):
    """The candidates of a function of the user's are in no layer of the documents."""
    nlp = spacy.blank("en")
    nlp.add_pipe("relation_extractor", config={"candidates": {"@misc": "tests.first_and_fifth_word.v1"}})
    text = "Anna Brandt lives in Tarvik ."
    example = Example(nlp.make_doc(text), nlp.make_doc(text))
    example.reference._.relations = [(example.reference[0:1], example.reference[4:5], "LIVES")]
    train(nlp, [example])
    nlp.to_disk(tmp_path)
    output, messages = label(tmp_path, text, "--json")
    assert objects(output)[0]["relations"] and messages == ""
    assert "LIVES" in label(tmp_path, text)[0] and label(tmp_path, text)[1] == ""


def test_label_refuses_a_pipeline_that_finds_nothing(tmp_path):
    spacy.blank("en").to_disk(tmp_path)
    assert "no component of this pipeline finds" in label(tmp_path, "Anna", code=1)[1]


def test_label_streams_and_forgets_words(trained, monkeypatch):
    """The vocabulary does not grow with the input, and no more than a few batches are read ahead."""
    monkeypatch.setattr("spacy_ner_arch.bulk.documents.ZONE", 200)
    read = 0

    def records():
        nonlocal read
        for number in range(2000):
            read += 1
            yield trained.make_doc(f"Anna x{number}y lives in Tarvik ."), number

    words = len(trained.vocab.strings)
    for number, (doc, context) in enumerate(predict_in_zones(trained, records(), batch_size=2)):
        assert context == number and doc[1].text == f"x{number}y" and len(doc.ents) >= 1
        assert read <= number + 10 and len(trained.vocab.strings) < words + 1000
    assert number == 1999 and len(trained.vocab.strings) < words + 100


def test_predictions_leave_python_and_come_back(joint, tmp_path):
    nlp = spacy.load(joint / "model")
    docs = list(nlp.pipe(text for text, _ in TRAIN))
    DocBin(docs=docs, store_user_data=True).to_disk(tmp_path / "found.spacy")
    layers = list(LAYERS)
    for doc, loaded in zip(docs, load_docs(tmp_path / "found.spacy"), strict=True):
        assert annotation(loaded, layers) == annotation(doc, layers)
        # spaCy raises E106 for a document in which no span has the attribute.
        underscore = ["relations_json", "score"] if doc.ents else ["relations_json"]
        as_json = json.loads(json.dumps(doc.to_json(underscore=underscore)))
        assert as_json["_"]["relations_json"] == doc._.relations_json
        again = Doc(nlp.vocab).from_json(as_json)
        assert annotation(again, ["entities", "relations"]) == annotation(doc, ["entities", "relations"])
    found = [annotation(doc, layers) for doc in docs]
    assert sum(len(row["relations"]) for row in found) >= 2
    scores = [span["score"] for row in found for span in row["entities"] + row["spans"]["a/b"] + row["relations"]]
    assert len(scores) > 10 and all(0 < score <= 1 for score in scores)


def test_the_name_of_a_package_for_pip_is_named(tmp_path):
    message = "spacy-legacy is the name of a package for pip: give that for Python, spacy_legacy"
    (tmp_path / "in.txt").write_text("Anna left")
    for command in (
        ["label", "spacy-legacy", "Anna"],
        ["annotate", "spacy-legacy", tmp_path / "in.txt", tmp_path / "a"],
    ):
        assert message in run_in_line(*command, code=1), command
    output = run_command("init-config", tmp_path / "my.cfg", "--vectors", "spacy-legacy")
    assert message in " ".join(output.split()) and (tmp_path / "my.cfg").exists()


@pytest.mark.parametrize("command", ["evaluate", "label"])
def test_clear_error_for_a_path_without_a_pipeline(tmp_path, command):
    DocBin().to_disk(tmp_path / "corpus.spacy")
    for model in [tmp_path / "nowhere", *([tmp_path / "corpus.spacy"] if command == "label" else [])]:
        output = run_command(command, model, "Anna" if command == "label" else tmp_path / "corpus.spacy", code=1)
        assert "is not a pipeline: give a folder such as" in " ".join(output.split())


def test_the_folder_around_a_pipeline_is_no_pipeline(tmp_path):
    (tmp_path / "training" / "model-best").mkdir(parents=True)
    (tmp_path / "in.txt").write_text("Anna left")
    for command, argument in (("label", "Anna"), ("annotate", tmp_path / "in.txt")):
        more = [tmp_path / "out"] if command == "annotate" else []
        output = run_command(command, tmp_path / "training", argument, *more, code=1)
        assert f"give a folder such as {tmp_path / 'training' / 'model-best'}" in " ".join(output.split())


@pytest.mark.parametrize(
    "command",
    [
        "evaluate MODEL CORPUS",
        "report MODEL CORPUS -o OUT",
        "tune MODEL CORPUS --min-recall 0.9",
        "export MODEL OUT --check CORPUS",
        "review CORPUS OUT --model MODEL",
        "combine MODEL CORPUS MODEL OTHER -o OUT.spacy",
        "export-data CORPUS OUT -f json",
    ],
)
def test_a_corpus_that_spacy_cannot_read_is_named(tmp_path, command):
    """Before anything else, since a model takes seconds to load."""
    good = DocBin().to_bytes()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "good.spacy").write_bytes(good)
    paths = {
        "OUT": tmp_path / "out",
        "OUT.spacy": tmp_path / "out.spacy",
        "MODEL": tmp_path,
        "OTHER": tmp_path / "other",
    }
    for name, content in {
        "a.jsonl": b'{"text": "Anna"}',
        "a.spacy": b"",
        "b.spacy": good[:-4],
        "c.docbin": good,
    }.items():
        (tmp_path / name).write_bytes(content)
        arguments = [str({**paths, "CORPUS": tmp_path / name}.get(word, word)) for word in command.split()]
        result = CliRunner().invoke(app, ["ner-arch", *arguments])
        output = " ".join(result.output.split())
        assert result.exit_code in (1, 2) and isinstance(result.exception, SystemExit), output
        assert f"{tmp_path / name} is not a .spacy file" in output and "ner-arch convert` makes .spacy files" in output


def test_a_folder_as_corpus(tmp_path):
    (tmp_path / ".hidden").mkdir()
    DocBin().to_disk(tmp_path / ".hidden" / "a.spacy")
    with pytest.raises(ValueError, match=r"has no \.spacy files; .* makes"):
        find_docbins(tmp_path)
    for path in ("b.spacy", "more/c.spacy"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        DocBin().to_disk(tmp_path / path)
        # macOS stores the attributes of a file beside it under such a name.
        (tmp_path / path).with_name(f"._{Path(path).name}").write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    DocBin().to_disk(tmp_path / "elsewhere" / "deep" / "d.spacy")
    (tmp_path / "more" / "linked").symlink_to(tmp_path / "elsewhere")
    assert find_docbins(tmp_path) == sorted(walk_corpus(tmp_path, ".spacy"))
    shutil.rmtree(tmp_path / "elsewhere")
    (tmp_path / "more" / "linked").unlink()
    # Through this link spaCy reads the files as often as the system follows links.
    (tmp_path / "more" / "loop").symlink_to(tmp_path)
    assert [file.name for file in find_docbins(tmp_path / "more" / "..")] == ["b.spacy", "c.spacy"]
    DocBin().to_disk(tmp_path / ".d.spacy")
    assert find_docbins(tmp_path / ".d.spacy") == [tmp_path / ".d.spacy"]


def test_a_hidden_folder_as_corpus(trained, tmp_path, monkeypatch):
    """As an argument it is no longer hidden; the reader finds the same files as the command."""
    (tmp_path / ".hidden" / "more").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / ".hidden" / "more")
    trained.to_disk("model")
    DocBin(docs=[eg.reference for eg in make_examples(trained)]).to_disk(tmp_path / ".hidden" / "a.spacy")
    for corpus in ("..", tmp_path / ".hidden"):
        assert [file.name for file in find_docbins(Path(corpus))] == ["a.spacy"]
        run_command("evaluate", "model", corpus, "-o", "scores.json")
        assert srsly.read_json("scores.json")["ents_f"] == 1.0
        config = Config({"corpora": {"train": {"@readers": "spacy.Corpus.v1", "path": str(corpus)}}})
        with pytest.raises(ValueError, match="spacy.Corpus.v1 finds no files in .*, whose name begins with a dot"):
            check_corpora(config)


def test_a_link_to_a_file_that_is_not_there(trained, tmp_path):
    trained.to_disk(tmp_path / "model")
    (tmp_path / "corpus").mkdir()
    DocBin(docs=[eg.reference for eg in make_examples(trained)]).to_disk(tmp_path / "corpus" / "a.spacy")
    (tmp_path / "corpus" / "b.spacy").symlink_to("nowhere.spacy")
    model, corpus = tmp_path / "model", tmp_path / "corpus"
    for command in (
        ["evaluate", model, corpus],
        ["report", model, corpus, "-o", tmp_path / "out"],
        ["review", corpus, tmp_path / "out", "--model", model],
    ):
        assert "b.spacy is a link to a file that is not there" in run_in_line(*command, code=2)


def test_the_list_of_commands_is_not_cut():
    """A command is shown with its first sentence, if that fits into a line."""
    assert "..." not in run_command("--help").partition("Commands")[2]


def test_errors_keep_their_line_breaks(capsys):
    with pytest.raises(SystemExit):
        fail("Cannot do it", f"first line\n  second line\n  {'word ' * 20}")
    assert capsys.readouterr().out.splitlines()[-5:] == [
        "first line",
        "  second line",
        f"  {('word ' * 15).strip()}",
        f"  {('word ' * 5).strip()}",
        "",
    ]


def write_corpora(folder):
    """Corpora with faults of all kinds. Returns the options that name them."""
    vocab = spacy.blank("en").vocab

    def make(words, entities=(), relations=None, sentences=(0,), spaces=None):
        doc = Doc(vocab, words=words.split(" "), spaces=spaces, sent_starts=None)
        for token in doc:
            token.is_sent_start = token.i in sentences
        if entities is not None:
            doc.set_ents([Span(doc, *entity) for entity in entities], default="outside")
            doc.spans["sc"] = [*doc.ents, *(Span(doc, ent.start, ent.start + 1, "FIRST") for ent in doc.ents)]
        if relations is not None:
            doc._.relations = [(doc.ents[head], doc.ents[tail], label) for head, tail, label in relations]
        return doc

    train = [
        *(eg.reference for eg in make_examples(spacy.blank("en"))[:3]),
        make("Anna Maria Brandt left Tarvik .", [(0, 3, "PER"), (4, 5, "LOC")], [(0, 1, "LEFT"), (0, 1, "FROM")]),
        make("Anna left . Tarvik wept .", [(0, 1, "PER"), (3, 4, "LOC")], [(1, 0, "MISSED")], sentences=(0, 3)),
        make("Tarv ik wept", [(0, 1, "LOC")], [], spaces=[False, True, False]),
        make("The Brenna Gazette wept .", [(1, 3, "ORG")], [], sentences=(0, 2)),
        make("Nobody saw it .", None),
    ]
    set_relations(train[:3], RELATIONS[:3])
    dev = [
        make("Yesterday Tarvik was quiet .", [(1, 2, "LOC")], []),
        make("The Glass Fair of March ended in Brenna .", [(0, 5, "EVENT"), (7, 8, "LOC")], [(0, 1, "HELD_IN")]),
        make("Anna Brandt left Brenna .", [(0, 2, "PER"), (3, 4, "LOC")], [(0, 1, "LEFT"), (0, 1, "FROM")]),
        make("Anna wept . Brenna too .", [(0, 1, "PER"), (3, 4, "LOC")], [(1, 0, "MISSED")], sentences=(0, 3)),
        make("Tarv ik slept", [(0, 1, "LOC")], [], spaces=[False, True, False]),
        make("Nobody heard it .", None),
    ]
    for name, docs in (("train", train), ("dev", dev)):
        DocBin(docs=docs, store_user_data=True).to_disk(folder / f"{name}.spacy")
    return ["--paths.train", folder / "train.spacy", f"--paths.dev={folder / 'dev.spacy'}"]


def test_debug_data_counts_documents_of_a_teacher():
    examples = make_examples(spacy.blank("en"))
    examples[1].reference.user_data[TEACHER] = {}
    counts = count_documents(examples, set(), spacy.blank("en").tokenizer)["counts"]
    assert counts["documents with a teacher's probabilities"] == 1


def make_copy(ents, text="Anna left Tarvik", missing=(), relations=None):
    doc = spacy.blank("en")(text)
    doc.set_ents([Span(doc, *ent) for ent in ents], missing=[doc[i : i + 1] for i in missing], default="outside")
    if relations is not None:
        doc._.relations = [(doc[0:1], doc[2:3], label) for label in relations]
    return doc


@pytest.mark.parametrize(
    ("docs", "is_different"),
    [
        ([make_copy([(0, 1, "PER")]), make_copy([(0, 1, "PER")])], False),
        ([make_copy([(0, 1, "PER")]), make_copy([(0, 1, "LOC")])], True),
        ([make_copy([(0, 1, "PER")]), make_copy([])], True),
        # Nothing, or not everything, is annotated.
        ([make_copy([(0, 1, "PER")]), spacy.blank("en")("Anna left Tarvik")], False),
        ([make_copy([(0, 1, "PER")]), make_copy([], missing=[0])], False),
        ([make_copy([], relations=["x"]), make_copy([])], False),
        ([make_copy([], relations=["x"]), make_copy([], relations=[])], True),
        # White space is not compared, and does not shift what is compared.
        ([make_copy([(2, 3, "LOC")]), make_copy([(3, 4, "LOC")], text="Anna left  Tarvik\r\n")], False),
        ([make_copy([(2, 3, "LOC")]), make_copy([(3, 4, "PER")], text="Anna left  Tarvik\r\n")], True),
        ([make_copy([], relations=["x"]), make_copy([], text="Anna left\tTarvik\n", relations=["x"])], True),
        ([make_copy([]), make_copy([], text="Anna left"), make_copy([], text="Anna lef")], False),
    ],
)
def test_debug_data_finds_texts_with_different_annotation(docs, is_different):
    docs = [make_copy([], text="Nothing ."), *docs]
    counts = count_documents([Example(doc.copy(), doc) for doc in docs], set(), spacy.blank("en").tokenizer)
    assert counts["counts"]["texts with different annotation in several documents"] == is_different
    examples = ["'Anna left Tarvik' (2 documents)"] if is_different else []
    assert counts["examples"].get("texts with different annotation in several documents", []) == examples


def test_debug_data_finds_copies_with_other_white_space():
    docs = [
        make_copy([], text) for text in ("Bo met Anna.", "Bo  met Anna. ", "Bo met\r\nAnna.\n", "Bo met.", " ", "\n")
    ]
    examples = [Example(doc.copy(), doc) for doc in docs]
    found = count_documents(examples, {"", text_key("Bo met Anna.\n")}, spacy.blank("en").tokenizer)
    assert found["counts"]["repeated texts"] == 2
    assert found["counts"]["documents that are in both corpora"] == 3
    assert found["examples"]["documents that are in both corpora"] == ["'Bo met Anna.'"]


def test_debug_data_warns_of_a_mixture_of_unicode_forms(tmp_path):
    """Copies in another form are found, and their annotation is compared at the same places."""
    (tmp_path / "my.cfg").write_text(make_config(find_cell()), encoding="utf8")
    composed, decomposed = (unicodedata.normalize(form, "Renée left Zoë .") for form in ("NFC", "NFD"))
    docs = {text: [make_copy([(2, 3, label)], text) for label in ("PER", "LOC")] for text in (composed, decomposed)}
    DocBin(docs=[docs[composed][0]]).to_disk(tmp_path / "train.spacy")
    DocBin(docs=[docs[decomposed][0]]).to_disk(tmp_path / "dev.spacy")
    options = ["--paths.train", tmp_path / "train.spacy", "--paths.dev", tmp_path / "dev.spacy"]
    output = run_in_line("debug-data", tmp_path / "my.cfg", *options)
    assert f"1 (dev) documents are not in the Unicode form NFC, as others are, such as {decomposed!r}" in output
    assert "1 documents of dev have the text of a document of train" in output
    assert not has_contradiction([docs[composed][0], docs[decomposed][0]])
    assert has_contradiction([docs[composed][0], docs[decomposed][1]])
    options[1] = tmp_path / "dev.spacy"
    assert "1 (dev) documents are not" not in run_in_line("debug-data", tmp_path / "my.cfg", *options)


def test_debug_data_names_texts_that_spacy_does_not_tokenize(tmp_path):
    (tmp_path / "my.cfg").write_text(make_config(find_cell()), encoding="utf8")
    words = ["word"] * 200_001
    long = Doc(spacy.blank("en").vocab, words=words, spaces=[True] * len(words))
    DocBin(docs=[make_copy([(0, 1, "PER")]), long, long]).to_disk(tmp_path / "a.spacy")
    options = ["--paths.train", tmp_path / "a.spacy", "--paths.dev", tmp_path / "a.spacy"]
    output = run_in_line("debug-data", tmp_path / "my.cfg", *options, code=1)
    assert "texts are longer than the 1,000,000 characters that spaCy tokenizes (nlp.max_length)" in output
    assert "document 2 of" in output and "(1,000,005 characters)" in output


@pytest.fixture(scope="module")
def long_texts(tmp_path_factory):
    """A pipeline, and corpora: with a text that the tokenizer refuses, and with a long document that has its tokens."""
    folder = tmp_path_factory.mktemp("long")
    nlp = make_nlp()
    train(nlp, make_examples(nlp), steps=1)
    nlp.to_disk(folder / "model")
    nlp.config.to_disk(folder / "my.cfg")
    docs = [eg.reference for eg in make_examples(nlp)]
    long, tokenized = (
        Doc(nlp.vocab, words=[word] * 4, spaces=spaces)
        for word, spaces in (("w" * 250_000, [True] * 4), ("v" * 250_000, None))
    )
    for name, doc in (("long", long), ("tokenized", tokenized)):
        DocBin(docs=[*docs[:2], doc, *docs[2:]]).to_disk(folder / f"{name}.spacy")
    DocBin(docs=docs).to_disk(folder / "short.spacy")
    return folder


@pytest.mark.parametrize(
    "command",
    [
        "evaluate model long.spacy",
        "report model long.spacy -o report",
        "tune model long.spacy --min-recall 0.9",
        "review long.spacy review --model model",
        "review long.spacy review --config my.cfg --folds 2 --training.max_steps 1 --training.eval_frequency 1",
        "export-data long.spacy tasks.json --format prodigy --model model",
        "export model exported --check long.spacy",
        "train my.cfg --paths.train long.spacy --paths.dev short.spacy",
        "train my.cfg --paths.train short.spacy --paths.dev long.spacy --training.eval_frequency 1",
    ],
)
def test_commands_name_texts_that_spacy_does_not_tokenize(long_texts, monkeypatch, command):
    monkeypatch.chdir(long_texts)
    output = run_in_line(*command.split(), code=1)
    assert "1 texts are longer than the 1,000,000 characters that spaCy tokenizes (nlp.max_length), such as" in output
    assert "document 3 of long.spacy (1,000,004 characters). Split them into several documents" in output


def test_documents_that_have_their_tokens_may_be_long(long_texts):
    assert "ents" in run_in_line("evaluate", long_texts / "model", long_texts / "tokenized.spacy")


def test_convert_warns_of_texts_that_spacy_does_not_tokenize(tmp_path):
    rows = [{"text": text, "spans": []} for text in ("Anna", "w" * 1_000_001, "Bo")]
    (tmp_path / "my.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf8")
    output = run_in_line("convert", tmp_path / "my.jsonl", tmp_path, "--name", "train", "--split", 0.3)
    assert "1 texts are longer than the 1,000,000 characters that spaCy tokenizes (nlp.max_length), such as" in output
    assert "train.spacy (1,000,001 characters). Split them into several documents" in output


def test_debug_data_counts_tokens_that_the_tokenizer_splits(tmp_path):
    """Training has the tokens of a document with unknown spaces; the pipeline finds others in its text."""
    (tmp_path / "my.cfg").write_text(make_config(find_cell(), lang="zh"), encoding="utf8")
    vocab = spacy.blank("zh").vocab
    words = ["上海", "很", "大", "，", "上海"]
    docs = [Doc(vocab, words=words), Doc(vocab, words=words, spaces=[False] * 5)]
    for doc in docs:
        doc.set_ents([Span(doc, 0, 1, "LOC")])
    DocBin(docs=docs).to_disk(tmp_path / "train.spacy")
    DocBin(docs=docs[1:]).to_disk(tmp_path / "dev.spacy")
    options = ["--paths.train", tmp_path / "train.spacy", "--paths.dev", tmp_path / "dev.spacy"]
    output = run_in_line("debug-data", tmp_path / "my.cfg", *options, "--json", tmp_path / "data.json")
    counts = srsly.read_json(tmp_path / "data.json")["documents"]
    assert counts["train"]["counts"]["tokens of documents with unknown spaces"] == 5
    assert counts["train"]["counts"]["tokens of these that the tokenizer splits"] == 2
    assert counts["train"]["examples"]["tokens of these that the tokenizer splits"] == ["'上海' into '上' '海'"]
    assert counts["dev"]["counts"]["tokens of these that the tokenizer splits"] == 0
    assert "2 of 5 (40.0 %) tokens of train that stand without their spaces are split by" in output
    assert "tokens of dev" not in output


def test_debug_data_warns_of_rounds_that_overlap(tmp_path):
    (tmp_path / "my.cfg").write_text(make_config(find_cell()), encoding="utf8")
    for name, label in (("round1", "PER"), ("round2", "LOC")):
        (tmp_path / "train").mkdir(exist_ok=True)
        # spaCy's reader leaves out the empty document, so that it would shift numbers of documents.
        docs = [make_copy([], ""), make_copy([(0, 1, label)])]
        DocBin(docs=docs).to_disk(tmp_path / "train" / f"{name}.spacy")
    DocBin(docs=[make_copy([(0, 1, "PER")], text="Anna .")]).to_disk(tmp_path / "dev.spacy")
    options = ["--paths.train", tmp_path / "train", "--paths.dev", tmp_path / "dev.spacy"]
    output = run_in_line("debug-data", tmp_path / "my.cfg", *options)
    assert "empty documents" not in output
    assert "1 texts of train occur with different annotation, such as 'Anna left Tarvik' (2 documents)" in output
    assert "convert only the last export" in output


def test_examples_of_long_entities_are_cut():
    doc = Doc(spacy.blank("en").vocab, words=[f"w{i}" for i in range(400)])
    doc._.relations = [(doc[0:300], doc[399:400], "part_of")]
    (example,) = count_relations([Example(doc.copy(), doc)])["examples"]["with an argument that is not in doc.ents"]
    assert re.fullmatch(r"part_of from 'w0 w1 .* … .* w298 w299'  to 'w399' ", example) and len(example) < 160


def test_debug_data_counts_and_finds_faults(tmp_path):
    (tmp_path / "my.cfg").write_text(make_config(find_cell(head="span", relations="softmax")), encoding="utf8")
    options = [*write_corpora(tmp_path), "--components.span_ner.max_width", 2]
    output = run_command("debug-data", tmp_path / "my.cfg", *options, "--json", tmp_path / "new" / "data.json")
    data = srsly.read_json(tmp_path / "new" / "data.json")
    documents, entities, relations = data["documents"], data["entities"]["train"], data["relations"]["train"]
    assert documents["train"]["counts"]["documents"] == 8 and documents["train"]["counts"]["tokens"] == 42
    assert documents["dev"]["counts"]["documents that are in both corpora"] == 1
    assert entities["labels"] == {"PER": 4, "LOC": 5, "ORG": 2}
    assert entities["widths"] == {"1": 6, "2": 3, "3": 2}
    assert entities["counts"] == {
        "documents without this annotation": 1,
        "tokens without annotation": 0,
        "not aligned with the tokenizer": 1,
        "across a sentence boundary": 1,
    }
    assert entities["examples"] == {
        "not aligned with the tokenizer": ["'Tarv' LOC ends inside of the token 'Tarvik'"],
        "across a sentence boundary": ["'Brenna Gazette' ORG"],
    }
    assert data["spans"]["sc"]["train"]["labels"]["FIRST"] == 6
    assert data["spans"]["sc"]["train"]["counts"]["overlapping another one"] == 4
    assert relations["labels"] == {"LIVES_IN": 1, "WORKS_FOR": 1, "LEFT": 1, "FROM": 1, "MISSED": 1}
    assert relations["types"]["WORKS_FOR"] == {"PER > ORG": 1} and relations["types"]["MISSED"] == {"LOC > PER": 1}
    assert relations["head_first"] == {"LIVES_IN": 1, "WORKS_FOR": 0, "LEFT": 1, "FROM": 1, "MISSED": 0}
    assert relations["counts"]["pairs with several labels"] == 1
    assert relations["examples"]["pairs with several labels"] == ["LEFT from 'Anna Maria Brandt' PER to 'Tarvik' LOC"]
    assert relations["counts"]["across a sentence boundary"] == 1
    candidates = data["components"]["relation_extractor"]["candidates"]["train"]
    assert candidates["counts"] == {
        "candidate pairs": 6,
        "candidate pairs with a relation": 3,
        "gold relations that are candidates": 4,
        "gold relations that are not candidates": 1,
    }
    assert data["components"]["span_ner"]["labels"] == ["LOC", "ORG", "PER"]
    assert any("longer than max_width = 2" in text for text in data["components"]["span_ner"]["warnings"])
    problems = {problem["text"]: problem for problem in data["problems"]}
    for text, remedy in (
        ("1 documents of dev have the text of a document of train, such as 'Yesterday Tarvik", "remove them"),
        ("span_ner: only dev has entities with the labels EVENT", "split the data"),
        ("span_ner: few entities in train: LOC (5), ORG (2), PER (4)", "at least 50"),
        ("span_ner: 2 of 11 gold spans are longer than max_width = 2", "max_width to 3 for all, or 3 for 99 %"),
        ("span_ner: 1 (dev) entities are longer than max_width = 2", "max_width to 5 for all, or 3 for"),
        ("span_ner: 1 of 11 gold entities do not align with the tokens of the pipeline's tokenizer", "--align"),
        ("span_ner: 1 (dev) entities do not align with the tokens of the pipeline, such as 'Tarv' LOC ends", "--align"),
        ("span_ner: 1 (train) entities cross a sentence boundary, such as 'Brenna Gazette' ORG", "correct"),
        ("span_ner: 1 of 8 documents, such as 'Nobody saw it . ', have no doc.ents", ""),
        ("span_ner: 1 (dev) documents have no annotation of entities", "annotate them as empty"),
        ("relation_extractor: 1 of 5 gold relations are not candidates, such as MISSED", "set within = "),
        ("relation_extractor: 1 (dev) gold relations are not candidates and cannot be found, such as MISSED", "within"),
        ("relation_extractor: 1 of 5 gold relations cannot be found, since their two entities have several", "set "),
        ("relation_extractor: 1 (dev) pairs have several relations, and the component predicts one, such as", "="),
        ("relation_extractor: only dev has relations with the labels HELD_IN", "split the data"),
        ("relation_extractor: 1 of 8 documents, such as 'Nobody saw it . ', have no doc._.relations", ""),
        ("relation_extractor: 1 (dev) documents have no annotation of relations", "they are not scored"),
    ):
        (found,) = [problem for key, problem in problems.items() if key.startswith(text)]
        assert found["level"] == "warning" and remedy in found["text"] + found["remedy"]
        assert found["text"] in " ".join(output.split()) and found["remedy"] in " ".join(output.split())
    assert "PER > LOC (1)" in output and f"0 errors, {len(problems)} warnings" in output
    output = run_command("debug-data", tmp_path / "my.cfg", *options, "--training.frozen_components", '["span_ner"]')
    assert "span_ner:" not in output and "relation_extractor:" in output


@pytest.mark.parametrize("multi_label", [False, True])
def test_debug_data_finds_spans_with_several_labels(multi_label, tmp_path):
    (tmp_path / "my.cfg").write_text(make_config(find_cell(head="nested")), encoding="utf8")
    options = [*write_corpora(tmp_path), "--components.nested_ner.multi_label", str(multi_label).lower()]
    run_command("debug-data", tmp_path / "my.cfg", *options, "--json", tmp_path / "data.json")
    problems = {problem["text"]: problem for problem in srsly.read_json(tmp_path / "data.json")["problems"]}
    found = [text for text in problems if "so they cannot be found" in text or "several labels" in text]
    assert len(found) == (0 if multi_label else 2)
    assert all("multi_label = true" in text + problems[text]["remedy"] for text in found)


def test_debug_data_tells_that_dev_has_no_annotation(tmp_path):
    (tmp_path / "my.cfg").write_text(make_config(find_cell(head="span")), encoding="utf8")
    options = write_corpora(tmp_path)
    DocBin(docs=[spacy.blank("en")("Nobody heard it ."), spacy.blank("en")("Nobody .")]).to_disk(tmp_path / "dev.spacy")
    output = run_in_line("debug-data", tmp_path / "my.cfg", *options)
    assert "span_ner: 2 (dev) documents have no annotation of entities" in output and "they are not scored" in output


def test_debug_data_counts_the_relations_of_each_extractor_for_itself(tmp_path):
    raw = Config().from_str(make_config(find_cell(head="span", relations="softmax")), interpolate=False)
    raw["components"]["other"] = raw["components"]["relation_extractor"]
    raw["nlp"]["pipeline"] = [*raw["nlp"]["pipeline"], "other"]
    raw["initialize"]["components"] = {
        "relation_extractor": {"labels": ["LIVES_IN", "FROM", "HELD_IN"]},
        "other": {"labels": ["WORKS_FOR", "LEFT"]},
    }
    raw.to_disk(tmp_path / "my.cfg")
    run_command("debug-data", tmp_path / "my.cfg", *write_corpora(tmp_path), "--json", tmp_path / "data.json")
    problems = [problem["text"] for problem in srsly.read_json(tmp_path / "data.json")["problems"]]
    assert not any("several" in text or "not candidates" in text for text in problems)
    start = "relation_extractor: only dev has relations of its labels with the labels HELD_IN"
    assert any(text.startswith(start) for text in problems)
    assert "other: few relations of its labels in train: LEFT (1), WORKS_FOR (1)" in problems
    assert not any(text.startswith("other: only dev") for text in problems)


@pytest.mark.parametrize(
    "cell, options, message",
    [
        ({"encoder": "synlstm"}, [], "that is trained in this run, but no document of train has a tree"),
        ({"encoder": "synlstm"}, ["--training.annotating_components", "[]"], "add parser to [training] annotating"),
        ({"encoder": "synlstm", "trees": "gold"}, [], "but 14 documents have none when it runs"),
        ({"head": "nested"}, ["--components.nested_ner.spans_key", "other"], "the key 'other'; the keys are ['sc']"),
        (
            {"relations": "softmax"},
            ["--corpora.train.copy", '["sents"]'],
            "documents have no entities when it runs",
        ),
        (
            {"relations": "softmax"},
            ["--training.annotating_components", "[]", "--corpora.train.copy", '["ents"]'],
            "has no sentences: put a sentencizer",
        ),
        ({}, ["--paths.train", "empty.spacy"], "sequence_ner: train has no entities"),
        ({}, ["--paths.train", "none.spacy"], "there is no none.spacy; check [paths] train or --paths.train"),
        ({}, ["--paths.vectors", "empty.spacy"], "[initialize] vectors: empty.spacy is a file, not a pipeline"),
        ({}, ["--paths.vectors", "no_such"], "[initialize] vectors: no_such is not a pipeline"),
        ({}, ["--frozen"], "No such option"),
        ({}, ["--components.sequence_ner.scheme", "IOB"], "sequence_ner: unknown tag scheme 'IOB'"),
        ({}, ["--components.sequence_ner.alternatives", '{"PERSON": 0.1}'], "alternatives names ['PERSON']"),
        ({"relations": "softmax"}, ["--components.relation_extractor.symmetric", '["OWN"]'], "symmetric names ['OWN']"),
        (
            {"relations": "softmax"},
            ["--components.relation_extractor.model.class_weights", '{"OWN": 2.0}'],
            "relation_extractor: class_weights names ['OWN'], which are not labels of the component",
        ),
        (
            {"head": "softmax"},
            ["--components.sequence_ner.model.class_weights", '{"O": 0.5, "PERSON": 2.0}'],
            "sequence_ner: class_weights names ['PERSON'], which are not labels of the component",
        ),
    ],
)
def test_debug_data_finds_what_training_would_refuse(tmp_path, monkeypatch, cell, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.cfg").write_text(make_config(find_cell(**cell)), encoding="utf8")
    DocBin().to_disk("empty.spacy")
    output = run_command("debug-data", "my.cfg", *write_corpora(tmp_path), *options, code=1)
    assert message in " ".join(output.split())


def test_debug_data_takes_labels_of_a_sourced_component(tmp_path):
    """Its settings can name labels that the corpus lacks: it has them already."""
    nlp = make_nlp(alternatives={"EXTRA": 0.1})
    nlp.get_pipe("sequence_ner").add_label("EXTRA")
    nlp.initialize(lambda: make_examples(nlp))
    nlp.to_disk(tmp_path / "source")
    config = Config().from_str(make_config(find_cell()), interpolate=False)
    config["components"]["sequence_ner"] = {"source": str(tmp_path / "source")}
    config.to_disk(tmp_path / "my.cfg")
    assert "EXTRA" not in run_command("debug-data", tmp_path / "my.cfg", *write_corpora(tmp_path))


def test_debug_data_reports_settings_that_spacy_drops(tmp_path):
    (tmp_path / "my.cfg").write_text(make_config(find_cell()), encoding="utf8")
    output = run_command("debug-data", tmp_path / "my.cfg", *write_corpora(tmp_path), "--training.max_step", 5)
    assert "[training] max_step is not a setting and has no effect; use max_steps" in " ".join(output.split())


def test_vectors_of_a_config_without_a_language():
    with pytest.raises(ValueError, match=r"^\[initialize\] vectors: no_such is not a pipeline"):
        check_word_vectors(Config({"initialize": {"vectors": "no_such"}}))


def test_debug_data_takes_trees_and_learned_types(tmp_path):
    (tmp_path / "my.cfg").write_text(
        make_config(find_cell(encoder="synlstm", relations="softmax", trees="gold")), encoding="utf8"
    )
    options = write_corpora(tmp_path)
    for name in ("train", "dev"):
        docs = load_docs(tmp_path / f"{name}.spacy")
        set_trees(docs)
        DocBin(docs=docs, store_user_data=True).to_disk(tmp_path / f"{name}.spacy")
    setting = "--components.relation_extractor.type_pairs"
    output = run_command("debug-data", tmp_path / "my.cfg", *options, setting, "learned")
    assert "0 errors" in output and "documents with dependency trees" in output
    message = "dev has relations between types that no relation of train has: EVENT > LOC"
    assert message in " ".join(output.split()) and f"{message} of" not in " ".join(output.split())
    output = run_command("debug-data", tmp_path / "my.cfg", *options, setting, "learned_by_label")
    assert f"{message} of " in " ".join(output.split())
    output = run_command("debug-data", tmp_path / "my.cfg", *options, setting, '[["PERS", "LOC"]]')
    assert "type_pairs has entity types that are not in the training corpus: ['PERS']" in " ".join(output.split())


def test_table_counts_as_spacy_does():
    """Predictions on a different tokenization, that overlap when aligned, and on tokens without annotation."""
    nlp = spacy.blank("en")
    gold = Doc(nlp.vocab, words=["New", "York", "-", "based", "Acme", "met", "Olaf"], spaces=[1, 0, 0, 1, 1, 1, 0])
    gold.set_ents([Span(gold, 0, 2, "LOC"), Span(gold, 4, 5, "ORG")], missing=[gold[6:7]], default="outside")
    predicted = Doc(nlp.vocab, words=["New", "Y", "ork-", "based", "Acme", "met", "Olaf"], spaces=[1, 0, 0, 1, 1, 1, 0])
    predicted.set_ents(
        [
            Span(predicted, 0, 2, "LOC"),
            Span(predicted, 2, 3, "LOC"),
            Span(predicted, 4, 5, "PER"),
            Span(predicted, 6, 7, "PER"),
        ]
    )
    examples = [Example(predicted, gold)]
    rows = {row.name: row for row in entity_table(examples)}
    scores = spacy.scorer.get_ner_prf(examples)
    micro = rows["micro avg"]
    assert (micro.precision, micro.recall) == pytest.approx((scores["ents_p"], scores["ents_r"]))
    assert micro.f1 == pytest.approx(scores["ents_f"]) and 0 < micro.f1 < 1
    assert entity_table([]) == []


def test_init_config(tmp_path):
    path = tmp_path / "new folder" / "my.cfg"
    output = run_command("init-config", path, "--relations", "softmax", "--lang", "de", "--gpu")
    assert f'python -m spacy train "{path}" --output' in output and "--gpu-id 0" in output
    text = path.read_text(encoding="utf8")
    assert text == make_config(find_cell(relations="softmax"), lang="de", gpu=True, header=text_header(text))
    assert "--embedding words --encoder bilstm --head crf --relations softmax" in text
    printed = run_command("init-config", "-", "--config", "synlstm_crf", "--trees", "gold")
    assert "--trees gold" in printed and "The corpus must have dependency trees" in printed
    assert Config().from_str(printed, interpolate=False)["nlp"]["pipeline"] == ["sequence_ner"]


def text_header(text):
    """The comment at the top of a config, up to the line on the GPU that the template adds."""
    lines = [line.removeprefix("# ") for line in text.partition("\n\n")[0].splitlines()]
    return [line for line in lines if not line.startswith("Settings for a GPU")]


@pytest.mark.parametrize(
    "options, message",
    [
        (["--config", "spam"], "unknown --config spam"),
        (["--head", "none"], "give --head for entities"),
        (["--transformer", "roberta-base"], "--transformer is for --embedding transformer"),
        (["--lang", "tlh"], "spaCy has no language 'tlh'"),
    ],
)
def test_init_config_refuses(tmp_path, options, message):
    output = run_command("init-config", tmp_path / "my.cfg", *options, code=1)
    assert message in " ".join(output.split()) and not (tmp_path / "my.cfg").exists()


def test_init_config_warns_of_pipelines_that_are_not_there(tmp_path):
    spacy.blank("en").to_disk(tmp_path / "vectors")
    options = ["--encoder", "synlstm", "--trees", "no_such_pipeline", "--vectors", tmp_path / "vectors"]
    output = run_command("init-config", tmp_path / "my.cfg", *options)
    assert "--trees no_such_pipeline" in output and "no installed package" in output and "--vectors" not in output


def test_init_config_warns_of_vectors_and_trees_that_are_no_pipelines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "glove.txt").write_text("anna 0.1 0.2\n", encoding="utf8")
    (tmp_path / "parser").mkdir()
    output = run_command("init-config", "a.cfg", "--vectors", "glove.txt", "--lang", "de")
    assert "`python -m spacy init vectors de glove.txt FOLDER`" in " ".join(output.split())
    output = run_command("init-config", "b.cfg", "--encoder", "synlstm", "--trees", "parser")
    assert "parser is not a pipeline: give a folder such as training/model-best" in " ".join(output.split())


def test_init_config_replaces_nothing_unasked(tmp_path):
    (tmp_path / "my.cfg").write_text("# with my changes")
    output = run_command("init-config", tmp_path / "my.cfg", code=1)
    assert "exists: give another name, or --force" in " ".join(output.split())
    assert (tmp_path / "my.cfg").read_text() == "# with my changes"
    run_command("init-config", tmp_path / "my.cfg", "--force")
    assert "sequence_ner" in (tmp_path / "my.cfg").read_text()


@pytest.mark.parametrize("command", ["train", "debug-data"])
def test_a_config_whose_corpora_cannot_be_read(tmp_path, command):
    run_command("init-config", tmp_path / "my.cfg")
    DocBin().to_disk(tmp_path / "dev.spacy")
    (tmp_path / "a.jsonl").write_text('{"text": "Anna"}')
    (tmp_path / "damaged.spacy").write_bytes(b"no corpus")
    for name, message in {
        None: "[corpora.train] has no path: set [paths] train, or give --paths.train FILE",
        "nowhere.spacy": f"[corpora.train] path: there is no {tmp_path / 'nowhere.spacy'}",
        "a.jsonl": f"[corpora.train] path: {tmp_path / 'a.jsonl'} is not a .spacy file",
        "damaged.spacy": f"[corpora.train] path: {tmp_path / 'damaged.spacy'} is not a .spacy file, or damaged",
    }.items():
        options = ["--paths.train", tmp_path / name] if name else []
        output = run_command(command, tmp_path / "my.cfg", "--paths.dev", tmp_path / "dev.spacy", *options, code=1)
        assert message in " ".join(output.split())


def test_a_streamed_corpus_is_not_read_for_a_check(tmp_path):
    (tmp_path / "large.spacy").write_bytes(b"no corpus")
    reader = {"@readers": "spacy.Corpus.v1", "path": str(tmp_path / "large.spacy")}
    config = Config({"training": {"max_epochs": -1}, "corpora": {"train": reader}})
    check_corpora(config)
    config["training"]["max_epochs"] = 0
    with pytest.raises(ValueError, match="is not a .spacy file, or damaged"):
        check_corpora(config)


def test_train_shows_what_a_setting_must_be(tmp_path):
    run_command("init-config", tmp_path / "my.cfg")
    DocBin().to_disk(tmp_path / "a.spacy")
    paths = ["--paths.train", tmp_path / "a.spacy", "--paths.dev", tmp_path / "a.spacy"]
    output = run_command("train", tmp_path / "my.cfg", *paths, "--components.sequence_ner.scheme", "BILOU", code=1)
    assert "Cannot train" in output and "unknown tag scheme 'BILOU'; choose from BILUO, BIO" in output


def test_a_broken_plugin_is_not_an_unknown_language(tmp_path):
    """spaCy imports the factories of all installed packages when it makes a pipeline."""
    package = tmp_path / "broken-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[spacy_factories]\nbroken = no_such_module:make\n")
    (tmp_path / "a.txt").write_text(COLUMNS)

    def call(*args):
        code = f"import sys, spacy.cli._util; sys.path.insert(0, {str(tmp_path)!r}); spacy.cli._util.setup_cli()"
        command = [sys.executable, "-c", code, "ner-arch", *args]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)

    made = call("init-config", "my.cfg", "--lang", "de")
    assert made.returncode == 0 and 'lang = "de"' in (tmp_path / "my.cfg").read_text(encoding="utf8"), made
    converted = call("convert", "a.txt", "out", "--format", "conll")
    assert converted.returncode == 1 and "No module named 'no_such_module'" in converted.stdout, converted
    assert "no language" not in converted.stdout and "Traceback" not in converted.stderr


def test_the_command_line_starts_without_models_and_formats():
    """spaCy imports the app at every start."""
    code = (
        "import sys, spacy_ner_arch.cli.app\n"
        "own = {name.split('.')[1] for name in sys.modules if name.startswith('spacy_ner_arch.')}\n"
        "print(own - {'cli', 'annotation'}, sys.modules.keys() & {'transformers', 'seqeval'})"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "set() set()\n"
    )


@pytest.mark.parametrize(
    "args",
    [
        ("label", "model", "Anna", "-", "texts.jsonl", "-o", "link.jsonl"),
        ("select", "model", "-", "texts.jsonl", "-o", "texts.jsonl"),
        ("export-data", "corpus", "corpus/a.spacy", "-f", "json"),
        ("combine", "model", "corpus/a.spacy", "corpus/b.spacy", "corpus/errors.spacy", "-o", "corpus/b.spacy"),
        ("review", "corpus/errors.spacy", "corpus", "--model", "model"),
        ("evaluate", "model", "corpus", "-o", "corpus/a.spacy"),
        (
            "debug-data",
            "my.cfg",
            "--paths.train",
            "corpus/a.spacy",
            "--paths.dev",
            "corpus/b.spacy",
            "--json",
            "my.cfg",
        ),
        (
            *("debug-data", "my.cfg", "--paths.train", "corpus/a.spacy", "--paths.dev", "corpus/b.spacy"),
            *("--json", "corpus/b.spacy"),
        ),
        (
            "debug-data",
            "my.cfg",
            "--paths.train",
            "corpus",
            "--paths.dev",
            "corpus/b.spacy",
            "--json",
            "corpus/a.spacy",
        ),
        (
            *("debug-data", "my.cfg", "--corpora.train.path", "corpus/a.spacy", "--paths.dev", "corpus/b.spacy"),
            *("--paths.seed", "5", "--json", "corpus/a.spacy"),
        ),
        ("debug-data", "my.cfg", "--paths.train", "corpus", "--paths.dev", "corpus", "--json", "elsewhere/c.spacy"),
    ],
)
def test_no_command_overwrites_its_input(tmp_path, monkeypatch, args):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus").mkdir()
    (tmp_path / "texts.jsonl").write_text('{"text": "Anna left Tarvik."}\n')
    (tmp_path / "link.jsonl").symlink_to("texts.jsonl")
    (tmp_path / "my.cfg").write_text(make_config(find_cell()), encoding="utf8")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "corpus" / "linked").symlink_to(tmp_path / "elsewhere")
    for name in ("a", "b", "errors", "linked/c"):
        DocBin(docs=[spacy.blank("en")("Anna left Tarvik.")]).to_disk(tmp_path / "corpus" / f"{name}.spacy")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert "is an input, which would be overwritten" in run_in_line(*args, code=1)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_a_dash_is_standard_output_or_an_error(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained.to_disk("model")
    (tmp_path / "texts.txt").write_text("Anna left Tarvik.\n")
    DocBin(docs=[eg.reference for eg in make_examples(trained)]).to_disk("a.spacy")
    output, _ = label("model", "Anna left Tarvik.", "-o", "-")
    assert [row["text"] for row in objects(output)] == ["Anna left Tarvik."]
    for command in ("evaluate model a.spacy -o -", "select model texts.txt -o -", "export-data a.spacy -f json -"):
        assert "the output is -: give the name of a file" in run_command(*command.split(), code=1), command
    assert not (tmp_path / "-").exists()


def test_an_output_that_cannot_be_written_is_named(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained.to_disk("MODEL")
    (tmp_path / "CONFIG").write_text(make_config(find_cell()), encoding="utf8")
    (tmp_path / "texts.txt").write_text("Anna left Tarvik.\n")
    (tmp_path / "file").touch()
    DocBin(docs=[eg.reference for eg in make_examples(trained)]).to_disk("a.spacy")
    for command in (
        "evaluate MODEL a.spacy -o OUT",
        "evaluate MODEL a.spacy -dp OUT",
        "report MODEL a.spacy -o OUT",
        "export MODEL OUT",
        "tune MODEL a.spacy --min-recall 0.5 -o OUT",
        "label MODEL texts.txt -o OUT",
        "select MODEL texts.txt -o OUT",
        "annotate MODEL texts.txt OUT",
        "export-data a.spacy -f json OUT",
        "init-config OUT",
        "debug-data CONFIG --paths.train a.spacy --paths.dev a.spacy --json OUT",
        "train CONFIG --paths.train a.spacy --paths.dev a.spacy --output OUT",
        # Before the trainings, which would be lost.
        "review a.spacy OUT --config CONFIG --folds 2 --training.max_steps 1 --training.eval_frequency 1",
    ):
        output = run_command(*command.replace("OUT", "file/out").split(), code=1)
        assert "Cannot" in output and "file" in output and "Part 1" not in output, command


@pytest.mark.parametrize("command", ["label", "select"])
def test_no_command_overwrites_the_file_that_is_standard_input(trained, tmp_path, command):
    trained.to_disk(tmp_path / "model")
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "Anna left Tarvik."}\n')
    arguments = [sys.executable, "-m", "spacy", "ner-arch", command, tmp_path / "model", "-", "-o", texts]
    with texts.open(encoding="utf8") as source:
        done = subprocess.run(arguments, stdin=source, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "is an input, which would be overwritten" in " ".join(
        (done.stdout + done.stderr).split()
    )
    assert texts.read_text() == '{"text": "Anna left Tarvik."}\n'


def test_documents_that_a_component_refuses_are_an_error(tmp_path):
    """Here the component needs trees, and the pipeline has no parser."""
    model = small_model()
    model["encoder"] = {"@architectures": "spacy_ner_arch.SynLSTM.v1", "hidden_size": 8}
    nlp = spacy.blank("en")
    nlp.add_pipe("sequence_ner", config={"model": model})
    examples = make_examples(nlp)
    set_trees(doc for eg in examples for doc in (eg.predicted, eg.reference))
    nlp.initialize(lambda: examples)
    nlp.to_disk(tmp_path / "model")
    DocBin(docs=[eg.reference for eg in examples]).to_disk(tmp_path / "a.spacy")
    arguments = [tmp_path / "model", tmp_path / "a.spacy"]
    for command, *options in (["evaluate"], ["report", "-o", tmp_path / "report"], ["tune", "--min-recall", "0.5"]):
        output = run_in_line(command, *arguments, *options, code=1)
        assert "sequence_ner: no dependency tree on" in output, command
    assert "as `ner-arch evaluate --gold-trees` does" in output
    run_command("evaluate", *arguments, "--gold-trees")


def test_an_error_of_the_users_code_has_its_traceback(trained, copy_of, tmp_path):
    code, own = tmp_path / "code.py", "@Language.component('own')\ndef own(doc):\n    raise ValueError('broken')\n"
    code.write_text(f"from spacy import Language\n\n{own}")
    import_code(code)
    nlp = copy_of(trained)
    nlp.add_pipe("own", first=True)
    nlp.to_disk(tmp_path / "model")
    DocBin(docs=[eg.reference for eg in make_examples(trained)]).to_disk(tmp_path / "a.spacy")
    (tmp_path / "a.jsonl").write_text('{"text": "Anna left."}')
    for command in (
        "evaluate MODEL/model MODEL/a.spacy",
        "report MODEL/model MODEL/a.spacy -o MODEL/report",
        "tune MODEL/model MODEL/a.spacy --min-recall 0.5",
        "export-data MODEL/a.spacy MODEL/out.jsonl --format doccano --model MODEL/model",
        "select MODEL/model MODEL/a.jsonl -o MODEL/out.jsonl --n 1",
        "label MODEL/model MODEL/a.jsonl -o MODEL/out.jsonl",
    ):
        arguments = command.replace("MODEL", str(tmp_path)).split()
        result = CliRunner().invoke(app, ["ner-arch", *arguments, "--code", str(code)])
        assert repr(result.exception) == "ValueError('broken')", (command, result.output)


def test_a_folder_in_the_place_of_a_file_is_named(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    trained.to_disk("MODEL")
    DocBin(docs=[eg.reference for eg in make_examples(trained)]).to_disk("a.spacy")
    for command in ("train FOLDER", "evaluate MODEL a.spacy --code FOLDER", "report MODEL a.spacy -o new --log FOLDER"):
        output = run_command(*command.replace("FOLDER", "folder").split(), code=2)
        assert "file 'folder' is a directory" in " ".join(output.split()).lower(), command


def test_documents_without_gold_annotation_are_counted(trained, tmp_path):
    """Their predictions are neither right nor wrong."""
    trained.to_disk(tmp_path / "model")
    gold = [eg.reference for eg in make_examples(trained)]
    bare = [trained.make_doc(doc.text) for doc in gold[:2]]
    for name, docs in (("all", gold), ("some", gold + bare), ("none", bare)):
        DocBin(docs=docs).to_disk(tmp_path / f"{name}.spacy")

    def output(command, name):
        options = ["-o", tmp_path / "page"] if command == "report" else []
        return run_in_line(command, tmp_path / "model", tmp_path / f"{name}.spacy", *options)

    assert "2 of 7 documents have no gold doc.ents and are not scored" in output("evaluate", "some")
    assert "not scored" not in output("evaluate", "all") + output("evaluate", "none")
    assert "nothing to compare. Corpus: 2 documents, with no entities" in output("report", "none")
    assert "nothing to compare" not in output("report", "some")


@pytest.mark.parametrize("command", ["evaluate", "report"])
def test_gold_entities_that_do_not_align_are_counted(trained, tmp_path, command):
    """No pipeline with these tokens can find them."""
    trained.to_disk(tmp_path / "model")
    gold = [eg.reference for eg in make_examples(trained)]
    DocBin(docs=gold).to_disk(tmp_path / "a.spacy")
    doc = Doc(trained.vocab, words=["Tarv", "ik", "wept"], spaces=[False, True, False])
    doc.set_ents([Span(doc, 0, 1, "LOC")])
    doc.spans["other"] = [doc[1:2]]
    DocBin(docs=[*gold, doc]).to_disk(tmp_path / "b.spacy")
    options = ["-o", tmp_path / "page"] if command == "report" else []
    assert "cannot be found" not in run_command(command, tmp_path / "model", tmp_path / "a.spacy", *options)
    output = run_in_line(command, tmp_path / "model", tmp_path / "b.spacy", *options)
    assert "1 gold entities or spans cannot be found, since they do not align with the tokens of the pipeline" in output
    assert "such as 'Tarv' LOC ends inside of the token 'Tarvik'. They count as missed" in output


@pytest.mark.parametrize("command", ["evaluate", "report"])
def test_predictions_without_gold_annotation_are_counted(trained, tmp_path, command):
    """They are neither right nor wrong; a document without any annotation is reported as such."""
    trained.to_disk(tmp_path / "model")
    gold = [eg.reference for eg in make_examples(trained)]
    DocBin(docs=gold).to_disk(tmp_path / "complete.spacy")
    *kept, last = gold[0].ents
    gold[0].set_ents(kept, missing=[last], default="outside")
    gold[1] = Doc(trained.vocab, words=[token.text for token in gold[1]])
    DocBin(docs=gold).to_disk(tmp_path / "partial.spacy")
    options = ["-o", tmp_path / ("page" if command == "report" else "scores.json")]
    assert "left out" not in run_command(command, tmp_path / "model", tmp_path / "complete.spacy", *options)
    if command == "evaluate":
        assert srsly.read_json(tmp_path / "scores.json")["left_out"] == {}
    output = run_in_line(command, tmp_path / "model", tmp_path / "partial.spacy", *options)
    tokens = sum(map(len, gold)) - len(gold[1])
    assert (
        "1 predictions in doc.ents are left out of the scores, since they touch tokens without gold annotation "
        f"({len(last)} of {tokens} tokens), such as {last.text!r} {last.label_}"
    ) in output
    if command == "evaluate":
        counts = {"predictions": 1, "tokens_without_annotation": len(last), "tokens": tokens}
        assert srsly.read_json(tmp_path / "scores.json")["left_out"] == {"doc.ents": counts}
    else:
        page = " ".join((tmp_path / "page" / "index.html").read_text(encoding="utf-8").split())
        assert (
            f"1 predictions are left out, since they touch tokens without gold annotation ({len(last)} of {tokens}"
            in page
        )


@pytest.mark.parametrize("option, sections", [([], 3), (["--gold-entities"], 1), (["--no-gold-entities"], 3)])
def test_report_names_its_corpus_and_the_gold_entities(joint, tmp_path, option, sections):
    run_command("report", joint / "model", joint / "gold.spacy", "-o", tmp_path, *option)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert f"<dt>corpus</dt><dd>{joint / 'gold.spacy'}</dd>" in page
    assert page.count('<section id="task') == sections and "<h2>Relations</h2>" in page
    assert ("between gold entities" in page) == (sections == 1)
    # Components that gold annotation replaces are not shown.
    assert ("nested_ner" in page) == (sections == 3)


def test_report_refuses_gold_entities_without_relations(trained, tmp_path):
    trained.to_disk(tmp_path / "model")
    DocBin(docs=[eg.reference for eg in make_examples(trained)]).to_disk(tmp_path / "gold.spacy")
    arguments = ["report", tmp_path / "model", tmp_path / "gold.spacy", "-o", tmp_path / "page", "--gold-entities"]
    assert "--gold-entities is for pipelines that find relations" in run_in_line(*arguments, code=1)


def test_report_numbers_documents_as_the_corpus_does(trained, tmp_path):
    trained.to_disk(tmp_path / "model")
    empty, missed = Doc(trained.vocab), Doc(trained.vocab, words=["slept"], ents=["B-ODD"])
    DocBin(docs=[empty, empty, missed]).to_disk(tmp_path / "corpus.spacy")
    run_command("report", tmp_path / "model", tmp_path / "corpus.spacy", "--output", tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "document 3" in page and "document 1" not in page
