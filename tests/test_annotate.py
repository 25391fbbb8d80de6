"""`ner-arch annotate`: the same documents and bytes whatever the format, the number of processes and the kills."""

import bz2
import gzip
import json
import lzma
import multiprocessing
import os
import random
import re
import resource
import shutil
import struct
import sys
import time
import tracemalloc
import uuid
from collections import Counter
from datetime import date
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import spacy
from conftest import (
    RELATIONS,
    TRAIN,
    make_examples,
    make_nlp,
    run_in_line,
    set_relations,
    small_model,
    train,
)
from filelock import FileLock
from spacy.tokens import Doc, DocBin, Span
from spacy.vocab import Vocab
from tqdm import tqdm

from spacy_ner_arch.annotation.relations import has_relations, relation_keys
from spacy_ner_arch.bulk import annotator, engines, outputs, predictor, raw_records
from spacy_ner_arch.bulk.annotator import Annotator, Job, ShardResult
from spacy_ner_arch.bulk.documents import annotation
from spacy_ner_arch.bulk.engines import LocalWorker, WorkerDied, run_workers, wait_local
from spacy_ner_arch.bulk.folder import OutputFolder
from spacy_ner_arch.bulk.inputs import find_inputs
from spacy_ner_arch.bulk.models import fingerprint
from spacy_ner_arch.bulk.predictor import Predictor
from spacy_ner_arch.bulk.raw_records import MAX_LINE, Raw, read_input
from spacy_ner_arch.bulk.shards import Shard, read_shards
from spacy_ner_arch.cli.annotate import BAR, speed, unfinished
from spacy_ner_arch.formats import find_docbins, read_docbins
from spacy_ner_arch.formats.lines import Line
from spacy_ner_arch.formats.manifest import SHARD_FILE, as_line, check_complete
from spacy_ner_arch.training.corpus import create_corpus

TEXTS = [text for text, _ in TRAIN]
LAYERS = ["entities", "spans", "relations"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """Folder of a pipeline that knows the entities, the spans and the relations of TRAIN."""
    folder = tmp_path_factory.mktemp("model")
    nlp = make_nlp()
    nlp.add_pipe("nested_ner", config={"model": small_model("Span"), "spans_key": "a/b"})
    pairs = {"@misc": "spacy_ner_arch.EntityPairs.v1", "within": "document"}
    nlp.add_pipe("relation_extractor", config={"candidates": pairs})
    examples = make_examples(nlp)
    set_relations([eg.reference for eg in examples], RELATIONS)
    for eg in examples:
        eg.predicted.set_ents(eg.get_aligned_spans_y2x(eg.reference.ents), default="outside")
        eg.reference.spans["a/b"] = list(eg.reference.ents)
    train(nlp, examples)
    nlp.to_disk(folder)
    return folder


def run(*args, **options) -> str:
    return run_in_line("annotate", *args, **options)


def write_jsonl(path: Path, records) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf8")
    return path


def numbered(n: int) -> list[dict]:
    return [{"id": i, "text": TEXTS[i % len(TEXTS)]} for i in range(n)]


def contents(folder: Path) -> dict[str, bytes]:
    """All files of an output folder, but the lock."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def read_jsonl(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()]


def rows(folder: Path) -> list[dict]:
    """The records of all shards of an output in json lines."""
    paths = sorted(path for path in folder.glob("part-*.jsonl") if "rejects" not in path.name)
    return [row for path in paths for row in read_jsonl(path)]


def rejects(folder: Path) -> list[dict]:
    return [row for path in sorted(folder.glob("*.rejects.jsonl")) for row in read_jsonl(path)]


def manifest(folder: Path) -> list[dict]:
    return read_jsonl(folder / "manifest.jsonl")


def write_inputs(folder: Path) -> dict[str, Path]:
    """TEXTS in each format, with numbers as ids where the format has fields."""
    folder.mkdir()
    records = numbered(len(TEXTS))
    (folder / "a.txt").write_text("\n".join(TEXTS) + "\n")
    write_jsonl(folder / "a.jsonl", records)
    (folder / "a.csv").write_text("id,text\n" + "".join(f'{row["id"]},"{row["text"]}"\n' for row in records))
    nlp = spacy.blank("en")
    docs = [nlp.make_doc(text) for text in TEXTS]
    for doc, record in zip(docs, records, strict=True):
        doc.user_data["id"] = record["id"]
        # Of another annotator: the output must not have it.
        doc.set_ents([Span(doc, 0, 1, label="OLD")])
        doc.spans["old"] = [Span(doc, 0, 1, label="OLD")]
    DocBin(docs=docs, store_user_data=True).to_disk(folder / "a.spacy")
    for compress, ending in ((gzip.compress, "gz"), (bz2.compress, "bz2"), (lzma.compress, "xz")):
        (folder / f"a.jsonl.{ending}").write_bytes(compress((folder / "a.jsonl").read_bytes()))
    return {path.name: path for path in folder.iterdir()}


def test_every_input_format_gives_the_annotation_of_label(model, tmp_path):
    nlp = spacy.load(model)
    expected = [annotation(doc, LAYERS, 4) for doc in nlp.pipe(TEXTS)]
    assert sum(len(row["relations"]) for row in expected) >= 2
    for name, path in write_inputs(tmp_path / "in").items():
        run(model, path, tmp_path / f"{name}.out")
        found = rows(tmp_path / f"{name}.out")
        assert [row["text"] for row in found] == TEXTS, name
        assert [{layer: row[layer] for layer in LAYERS} for row in found] == expected, name
        ids = {"a.txt": [None] * 5, "a.csv": ["0", "1", "2", "3", "4"]}.get(name, [0, 1, 2, 3, 4])
        assert [row.get("id") for row in found] == ids, name
        assert not rejects(tmp_path / f"{name}.out")


def test_the_counts_are_those_of_the_annotation_which_is_made_once(model, tmp_path, monkeypatch):
    made = []

    def make(*args):
        made.append(annotation(*args))
        return made[-1]

    for module in (predictor, outputs):
        monkeypatch.setattr(module, "annotation", make, raising=False)
    nlp = spacy.load(model)
    counts = [Predictor(nlp).counts(doc) for doc in nlp.pipe(TEXTS)]
    assert not made
    run(model, write_jsonl(tmp_path / "a.jsonl", numbered(5)), tmp_path / "out")
    totals = manifest(tmp_path / "out")[-1]["totals"]
    assert len(made) == 5
    for layer in ("entities", "relations"):
        assert [len(found[layer]) for found in made] == [count[layer] for count in counts]
    assert [sum(map(len, found["spans"].values())) for found in made] == [count["spans"] for count in counts]
    assert all(totals[layer] == sum(count[layer] for count in counts) > 0 for layer in LAYERS)


def test_zst_and_parquet(model, tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    zstandard = pytest.importorskip("zstandard")
    days = [date(2020, 1, i + 1) for i in range(len(TEXTS))]
    table = pa.table({"n": pa.array(range(5), pa.int16()), "day": days, "body": TEXTS, "tags": [["x"]] * 5})
    (tmp_path / "in").mkdir()
    parquet.write_table(table, tmp_path / "in" / "a.parquet")
    frames = [zstandard.compress(f"{text}\n".encode()) for text in TEXTS]
    (tmp_path / "a.txt.zst").write_bytes(b"".join(frames))
    run(model, tmp_path / "a.txt.zst", tmp_path / "zst")
    for to in ("jsonl", "parquet", "spacy"):
        run(model, tmp_path / "in", tmp_path / to, "--text-column", "body", "--to", to, "--shard-size", 2)
    found = rows(tmp_path / "jsonl")
    assert [{layer: row[layer] for layer in LAYERS} for row in found] == [
        {layer: row[layer] for layer in LAYERS} for row in rows(tmp_path / "zst")
    ]
    assert found[1]["day"] == "2020-01-02" and found[1]["tags"] == ["x"] and list(found[1])[:3] == ["n", "day", "body"]
    # One schema for all shards, of which the fourth text has no entity; own columns keep their types.
    again = pa.concat_tables([parquet.read_table(path) for path in sorted((tmp_path / "parquet").glob("*.parquet"))])
    assert again.select(["n", "day", "body", "tags"]).equals(table)
    for row, expected in zip(again.to_pylist(), found, strict=True):
        assert row["entities"] == expected["entities"] and row["relations"] == expected["relations"]
        assert row["spans"] == [{"key": key, **span} for key, spans in expected["spans"].items() for span in spans]
    docs = [doc for path in sorted((tmp_path / "spacy").glob("*.spacy")) for doc in read_docs(path)]
    for doc, expected in zip(docs, found, strict=True):
        assert annotation(doc, LAYERS, 4) == {layer: expected[layer] for layer in LAYERS}
        assert doc.user_data["n"] == expected["n"] and doc.text == expected["body"]


def read_docs(path: Path) -> list[Doc]:
    return list(DocBin().from_disk(path).get_docs(spacy.blank("en").vocab))


def test_numbers_that_json_does_not_have_become_null(model, tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = {"text": ["Anna"], "price": [float("nan")], "path": [[1.5, float("inf")]]}
    parquet.write_table(pa.table(rows), tmp_path / "a.parquet")
    (tmp_path / "b.jsonl").write_text('{"text": "Anna", "price": NaN}')
    for name, expected in (("a.parquet", {"price": None, "path": [1.5, None]}), ("b.jsonl", {"price": None})):
        run(model, tmp_path / name, tmp_path / f"out {name}", "--to", "jsonl")
        text = (tmp_path / f"out {name}" / "part-000000.jsonl").read_text(encoding="utf8")
        assert "NaN" not in text and expected.items() <= json.loads(text).items()


def test_times_with_nanoseconds_are_kept(model, tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    second = 10**9
    columns = {
        "moment": (pa.timestamp("ns"), "1970-01-01T00:00:01.000000001", "1969-12-31T23:59:59.999999999"),
        "there": (pa.timestamp("ns", "Asia/Tokyo"), "1970-01-01T09:00:01.000000001+09:00", None),
        "hour": (pa.time64("ns"), "00:00:01.000000001", None),
        "length": (pa.duration("ns"), "PT1.000000001S", "-PT0.000000001S"),
        "coarse": (pa.duration("ms"), "PT1000000.001S", "-PT0.001S"),
    }
    numbers = {name: [second + 1, None if negative is None else -1] for name, (_, _, negative) in columns.items()}
    arrays = {name: pa.array([*numbers[name], 3 * second], kind) for name, (kind, *_) in columns.items()}
    key = uuid.UUID(int=5)
    if hasattr(pa, "uuid"):  # not in older versions
        arrays["key"] = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([key.bytes] * 3, pa.binary(16)))
    table = pa.table({"text": TEXTS[:3], **arrays})
    parquet.write_table(table, tmp_path / "a.parquet")
    for to in ("jsonl", "parquet", "spacy"):
        run(model, tmp_path / "a.parquet", tmp_path / to, "--to", to)
        assert not rejects(tmp_path / to)
    kept = parquet.read_table(tmp_path / "parquet" / "part-000000.parquet")
    assert kept.select(table.column_names).equals(table)
    data = [doc.user_data for doc in read_docs(tmp_path / "spacy" / "part-000000.spacy")]
    for records in (rows(tmp_path / "jsonl"), data):
        for name, (_, *texts) in columns.items():
            assert [record[name] for record in records[:2]] == texts
        assert records[2]["moment"] == "1970-01-01T00:00:03" and records[2]["hour"] == "00:00:03"
        assert records[2]["length"] == "PT3S" and records[0].get("key", str(key)) == str(key)


@pytest.mark.parametrize("to", ["jsonl", "parquet", "spacy"])
def test_values_of_parquet_that_python_does_not_have(model, tmp_path, to):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    offsets, content = pa.py_buffer(struct.pack("4i", 0, 1, 2, 3)), pa.py_buffer(b"a\xffc")
    columns = {
        "moments": pa.array([[0], [2**62], [0]], pa.list_(pa.timestamp("us"))),
        "moment": pa.array([0, 2**60, 0], pa.timestamp("ms")),
        "length": pa.array([0, 2**60, 0], pa.duration("s")),
        "day": pa.array([0, 2**30, 0], pa.date32()),
        "name": pa.Array.from_buffers(pa.string(), 3, [None, offsets, content]),
    }
    for name, column in columns.items():
        path = tmp_path / f"{name}.parquet"
        parquet.write_table(pa.table({"text": TEXTS[:3], name: column}), path)
        assert "1 of 3 records were rejected" in run(model, path, tmp_path / name, "--to", to)
        [row] = rejects(tmp_path / name)
        assert row["place"] == f"{path}:2" and "leave out the column" in row["remedy"]
        kind = "list<element: timestamp[us]>" if name == "moments" else column.type
        assert row["reason"].startswith(f"the column '{name}' has a value of {kind} that cannot be read: ")


def test_parquet_of_other_inputs(model, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    inputs = write_inputs(tmp_path / "in")
    for name, fields in (("a.jsonl", ["fields"]), ("a.csv", ["id"]), ("a.txt", []), ("a.spacy", ["fields"])):
        run(model, inputs[name], tmp_path / name, "--to", "parquet", "--key", "found")
        table = parquet.read_table(tmp_path / name / "part-000000.parquet")
        assert sorted(table.column_names) == sorted(["text", "found", *fields])
        assert sum(len(row["found"]["entities"]) for row in table.to_pylist()) >= 8
        if fields == ["fields"]:
            assert [json.loads(value) for value in table["fields"].to_pylist()] == [{"id": i} for i in range(5)]
    output = run(model, inputs["a.csv"], inputs["a.txt"], tmp_path / "both", "--to", "parquet", code=1)
    assert "a.txt has the columns text (string), but" in output and "annotate them separately" in output


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    """An input of 23 records, two of them bad."""
    path = write_jsonl(tmp_path_factory.mktemp("texts") / "texts.jsonl", numbered(21))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:8], '{"text": 1}\n', *lines[8:], "[]\n"]))
    return path


@pytest.fixture(scope="module")
def whole(model, texts, tmp_path_factory) -> dict[str, bytes]:
    """The output for these texts of one process that nothing has stopped."""
    folder = tmp_path_factory.mktemp("whole")
    run(model, texts, folder, "--shard-size", 4, "--batch-size", 3)
    assert [row["id"] for row in rows(folder)] == list(range(21))
    assert len(rejects(folder)) == 2 and len(contents(folder)) == 6 + 2 + 1
    return contents(folder)


def test_two_processes_and_a_killed_worker_give_the_same_bytes(model, texts, whole, tmp_path, monkeypatch):
    killed = []

    def add(folder: OutputFolder, result: ShardResult) -> None:
        original(folder, result)
        if not killed:
            killed.append(multiprocessing.active_children()[0])
            killed[0].kill()

    original = OutputFolder.add
    monkeypatch.setattr(OutputFolder, "add", add)
    run(model, texts, tmp_path / "out", "--shard-size", 4, "--batch-size", 3, "-n", 2)
    assert killed[0].exitcode and contents(tmp_path / "out") == whole
    assert not multiprocessing.active_children()


def test_the_pipeline_is_loaded_again_before_its_vocabulary_is_large(model, texts, whole, tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr(annotator, "RECORDS_PER_LOAD", 10)
    monkeypatch.setattr(annotator, "load_model", lambda name: loaded.append(name) or spacy.load(name))
    run(model, texts, tmp_path / "out", "--shard-size", 4, "--batch-size", 3)
    assert len(loaded) == 3 and contents(tmp_path / "out") == whole


def test_a_pipeline_that_is_replaced_during_the_run(model, trained, texts, tmp_path, monkeypatch):
    """It is read again after many records, and would annotate the rest."""
    copied = shutil.copytree(model, tmp_path / "model")
    monkeypatch.setattr(annotator, "RECORDS_PER_LOAD", 10)

    def annotate(self: Annotator, shard: Shard) -> ShardResult:
        if shard.number == 1:
            trained.to_disk(copied)
        return original(self, shard)

    original = Annotator.annotate
    monkeypatch.setattr(Annotator, "annotate", annotate)
    output = run(copied, texts, tmp_path / "out", "--shard-size", 4, code=1)
    assert "the pipeline has changed since the run began" in output
    assert "totals" not in manifest(tmp_path / "out")[-1]


def test_an_input_that_is_touched_during_the_run(model, tmp_path, monkeypatch):
    path = write_jsonl(tmp_path / "texts.jsonl", numbered(4))

    def annotate(self: Annotator, shard: Shard) -> ShardResult:
        os.utime(path, (1, 1))
        return original(self, shard)

    original = Annotator.annotate
    monkeypatch.setattr(Annotator, "annotate", annotate)
    run(model, path, tmp_path / "out")


@pytest.mark.parametrize("change", ["append", "remove"])
def test_an_input_that_changes_during_the_run(model, tmp_path, monkeypatch, change):
    """The manifest would have the checksum of content that was not annotated."""
    path = write_jsonl(tmp_path / "texts.jsonl", numbered(8))

    def finish(self: OutputFolder) -> None:
        raise AssertionError("the output counts as complete")

    def annotate(self: Annotator, shard: Shard) -> ShardResult:
        if shard.number == 0:
            path.unlink() if change == "remove" else path.write_bytes(path.read_bytes() * 2)
        return original(self, shard)

    original = Annotator.annotate
    monkeypatch.setattr(Annotator, "annotate", annotate)
    monkeypatch.setattr(OutputFolder, "finish", finish)
    output = run(model, path, tmp_path / "out", "--shard-size", 4, code=1)
    assert "texts.jsonl has changed since the run began" in output


@pytest.mark.parametrize("to", ["jsonl", "parquet", "spacy"])
def test_a_stopped_run_goes_on(model, texts, tmp_path, monkeypatch, to):
    if to == "parquet":
        pytest.importorskip("pyarrow")
    options = ["--shard-size", 4, "--batch-size", 3, "--to", to]
    run(model, texts, tmp_path / "whole", *options)
    folder = tmp_path / "out"
    annotated: list[int] = []

    def annotate(self: Annotator, shard: Shard) -> ShardResult:
        annotated.append(shard.number)
        if len(annotated) in (3, 5):
            raise KeyboardInterrupt
        return original(self, shard)

    original = Annotator.annotate
    monkeypatch.setattr(Annotator, "annotate", annotate)
    run(model, texts, folder, *options, code=130)
    assert [entry["shard"] for entry in manifest(folder)[1:]] == [0, 1]
    # As after kills while a shard and its line of the manifest were written.
    (folder / f".part-000002.{to}.tmp").write_bytes(b"half")
    (folder / f"part-000003.{to}").write_bytes(b"finished, but without a line")
    with (folder / "manifest.jsonl").open("a") as file:
        file.write('{"shard": 2, "fil')
    run(model, texts, folder, *options, code=130)
    run(model, texts, folder, *options)
    assert annotated == [0, 1, 2, 2, 3, 3, 4, 5]
    assert contents(folder) == contents(tmp_path / "whole")
    assert "complete already" in run(model, texts, folder, *options) and len(annotated) == 8


def test_finished_shards_count_as_done_but_not_for_the_speed():
    class Folder:
        finished = {0: {}, 2: {}}

    shards = [Shard(number, [make_raw(number)], 10) for number in range(4)]
    with tqdm(total=40, file=StringIO(), bar_format=BAR) as bar:
        assert [shard.number for shard in unfinished(iter(shards), Folder(), bar)] == [1, 3]
        bar.update(10)
        assert (bar.initial, bar.n) == (20, 30)
        bar.set_postfix_str(speed(7, time.monotonic() - 2))
        assert " 75 %|" in str(bar) and "left, 7 documents in 2 s, 3.5 a second" in str(bar)
    with tqdm(total=40, disable=True) as bar:
        assert len(list(unfinished(iter(shards), Folder(), bar))) == 2


def test_damaged_files_of_the_output_are_made_again(model, texts, whole, tmp_path):
    folder = tmp_path / "out"
    options = [model, texts, folder, "--shard-size", 4, "--batch-size", 3]
    run(*options)
    (folder / "part-000001.jsonl").unlink()
    data = (folder / "part-000003.jsonl").read_bytes()
    (folder / "part-000003.jsonl").write_bytes(data.replace(b"0", b"1"))
    assert "2 files are missing or changed and are made again: part-000001.jsonl" in run(*options)
    assert contents(folder) == whole


def test_scores_of_other_batches_differ_by_rounding_at_most(model, texts, tmp_path):
    for size in (1, 2, 1000):
        run(model, texts, tmp_path / str(size), "--batch-size", size)

    def values(folder: Path) -> list:
        scored = [x for row in rows(folder) for x in [*row["entities"], *row["spans"]["a/b"], *row["relations"]]]
        return [[{**x, "score": None} for x in scored], [x["score"] for x in scored]]

    places, scores = values(tmp_path / "1000")
    assert len(scores) > 60 and all(round(score, 4) == score for score in scores)
    for size in ("1", "2"):
        assert values(tmp_path / size) == [places, pytest.approx(scores, abs=1.01e-4)]


def test_another_run_is_refused_with_what_differs(model, trained, texts, whole, tmp_path):
    folder = tmp_path / "out"
    options = ["--shard-size", 4, "--batch-size", 3]
    shutil.copy(texts, tmp_path / "a.jsonl")
    run(model, tmp_path / "a.jsonl", folder, *options)
    before = contents(folder)
    trained.to_disk(tmp_path / "other")

    def refused(*args) -> str:
        output = run(*args, code=1)
        assert "the output of another run; give another output folder" in output and contents(folder) == before
        return output

    output = refused(tmp_path / "other", tmp_path / "a.jsonl", folder, *options)
    assert f"model: {model} (fingerprint {fingerprint(str(model))[:12]}) there, {tmp_path / 'other'}" in output
    output = refused(model, tmp_path / "a.jsonl", folder, "--shard-size", 4, "--batch-size", 2, "--to", "spacy")
    assert "--batch-size: 3 there, 2 now" in output and "--to: jsonl there, spacy now" in output
    output = refused(model, texts, folder, *options)
    assert f"input {tmp_path / 'a.jsonl'}: only there" in output and f"input {texts}: only now" in output
    data = (tmp_path / "a.jsonl").read_bytes()
    (tmp_path / "a.jsonl").write_bytes(data.replace(b"Tarvik", b"Tarvic"))
    output = refused(model, tmp_path / "a.jsonl", folder, *options)
    assert f"input {tmp_path / 'a.jsonl'}: {len(data)} bytes" in output
    output = run(model, tmp_path / "a.jsonl", folder, *options, "--force")
    assert "another run" not in output and b"Tarvic" in b"".join(contents(folder).values())
    # The same model in another place is the same model.
    (tmp_path / "a.jsonl").write_bytes(data)
    shutil.copytree(model, tmp_path / "moved")
    run(model, tmp_path / "a.jsonl", folder, *options, "--force")
    assert contents(folder) == before
    assert "complete already" in run(tmp_path / "moved", tmp_path / "a.jsonl", folder, *options)


def test_a_manifest_of_another_program_is_not_touched(model, texts, tmp_path):
    """Corpora of speech and of pictures have files of this name."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "manifest.jsonl").write_text('{"audio": "a.wav", "files": ["a.wav"]}\n')
    (folder / "a.wav").touch()
    before = contents(folder)
    assert "is not a manifest of `ner-arch annotate`; give a new folder" in run(model, texts, folder, "--force", code=1)
    assert contents(folder) == before
    # One that a full disk has cut in its first line is replaced.
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "manifest.jsonl").write_text('{"audio": ')
    assert "--force to replace it" in run(model, texts, folder, code=1)
    run(model, texts, folder, "--force")
    assert (folder / "part-000000.jsonl").exists()


@pytest.mark.parametrize(
    "name", ["{victim}", "../notes.txt", "notes.txt", "./../.x.tmp", "part-000000.jsonl/../../notes.txt"]
)
@pytest.mark.parametrize("options", [[], ["--force"]])
def test_a_manifest_that_names_other_files_deletes_none(ruler, texts, tmp_path, name, options):
    """An output folder can come from someone else."""
    folder, victim = tmp_path / "out", tmp_path / "notes.txt"
    name = name.format(victim=victim)
    run(ruler, texts, folder)
    header, shard, _ = manifest(folder)
    # With another header and no document, the output is replaced also without --force.
    shard = {**shard, "documents": 0, "files": dict.fromkeys([name], next(iter(shard["files"].values())))}
    for header_now in ({}, {**header, "--key": "other"}, header):
        write_jsonl(folder / "manifest.jsonl", [header_now, shard, {"totals": {}, "shards": 1}])
        for path in (victim, folder / "notes.txt", tmp_path / ".x.tmp"):
            path.write_text("mine")
        output = run(ruler, texts, folder, *options, code=1, env={"COLUMNS": "400"})
        assert "manifest.jsonl, line 2 is damaged or was changed: it names the file" in " ".join(output.split())
        assert all(path.exists() for path in (victim, folder / "notes.txt", tmp_path / ".x.tmp"))
        with pytest.raises(ValueError, match="it names the file"):
            check_complete(folder)


@pytest.mark.parametrize(
    "line, change",
    [
        (0, {"inputs": "x"}),
        (0, {"inputs": ["x"]}),
        (0, {"inputs": [{"path": ["x"], "bytes": 1, "sha256": 1}]}),
        (1, {"files": ["part-000000.jsonl"]}),
        (1, {"files": {"part-000000.jsonl": {"bytes": 1}}}),
        (1, {"files": None}),
        (1, {"records": "x"}),
        (2, {"shards": None}),
    ],
)
def test_a_changed_manifest_is_refused(ruler, texts, tmp_path, line, change):
    folder = tmp_path / "out"
    run(ruler, texts, folder)
    lines = manifest(folder)
    lines[line] |= change
    write_jsonl(folder / "manifest.jsonl", lines)
    before = contents(folder)
    output = " ".join(run(ruler, texts, folder, "--force", code=1).split())
    assert f"manifest.jsonl, line {line + 1} is damaged or was changed: " in output and "delete this one" in output
    assert contents(folder) == before


def test_a_run_that_annotated_nothing_does_not_block_its_folder(model, texts, whole, tmp_path):
    """After a wrong option, the right command works in the same folder."""
    folder, options = tmp_path / "out", ["--shard-size", 4, "--batch-size", 3]
    output = run(model, texts, folder, *options, "--text-column", "body", code=1)
    assert "no text under the key body" in output and "remedy: " in output
    run(model, texts, folder, *options, "--component", "ner", "--soft", "--to", "spacy", code=1)
    run(model, texts, folder, *options)
    assert contents(folder) == whole
    assert "the output of another run" in run(model, texts, folder, "--text-column", "body", code=1)
    assert contents(folder) == whole


def test_files_that_a_kill_left_of_another_run_are_removed(model, texts, whole, tmp_path, monkeypatch):
    """They have no line in the manifest, but a reader of the folder would take them for output."""
    folder, options = tmp_path / "out", ["--shard-size", 4, "--batch-size", 3]
    bad = tmp_path / "bad.jsonl"
    bad.write_text("no json\n")

    def kill(entry):
        if "shard" in entry:
            raise KeyboardInterrupt
        return as_line(entry)

    with monkeypatch.context() as patched:
        patched.setattr("spacy_ner_arch.bulk.folder.as_line", kill)
        run(model, bad, texts, folder, *options, code=130)
    assert len(list(folder.glob("part-000000.*"))) == 2 and len(manifest(folder)) == 1
    for name in ("part-000099.parquet", ".part-000003.jsonl.tmp", "part-notes.jsonl", "part-000001.jsonl.gz"):
        (folder / name).write_bytes(b"x")
    output = run(model, texts, folder, *options)
    assert "bad.jsonl" not in output
    for name in ("part-notes.jsonl", "part-000001.jsonl.gz"):  # of the user
        (folder / name).unlink()
    assert contents(folder) == whole


def test_a_gpu_that_is_not_there(model, texts, tmp_path, monkeypatch):
    def fail(gpu: int) -> None:
        raise ValueError("Cannot use GPU, CuPy is not installed")

    monkeypatch.setattr("thinc.api.require_gpu", fail)
    assert "`python -m spacy ner-arch doctor --gpu-id 3`" in run(model, texts, tmp_path / "out", "-g", 3, code=1)


def test_folders_that_are_not_ours_are_refused(model, texts, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert "has other files, such as notes.txt" in run(model, texts, tmp_path, code=1)
    assert "is a file; give a folder" in run(model, texts, tmp_path / "notes.txt", code=1)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.jsonl").write_text("mine\n")
    output = run(model, texts, tmp_path / "other", code=1)
    assert "manifest.jsonl is damaged or no manifest of ours" in output and "give another output folder" in output
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"):
        assert "another process is writing to this folder" in run(model, texts, tmp_path / "out", code=1)


def test_bad_lines_are_rejected_with_place_and_reason(model, tmp_path):
    bad = {
        b'{"text": 1}': "no text under the key text: text is 1",
        b'{"body": "Anna"}': "no text under the key text: it has ['body']",
        b'{"text": "Anna"': "invalid JSON",
        b'["Anna"]': "not a JSON object",
        b'{"text": "\\ud800"}': "half of a character",
        b'{"text": "Anna", "entities": []}': "has the key 'entities'",
        b'{"text": "\xff"}': "not UTF-8: invalid start byte at byte 11",
        json.dumps({"text": "x" * 1_000_001}).encode(): "[E088]",
    }
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"".join(b'{"text": "Anna left", "id": 1}\n' + line + b"\n" for line in bad))
    output = run(model, path, tmp_path / "out", "--shard-size", 5)
    assert len(rows(tmp_path / "out")) == 8
    for number, (row, reason) in enumerate(zip(rejects(tmp_path / "out"), bad.values(), strict=True), start=1):
        assert row["place"] == f"{path}:{2 * number}" and reason in row["reason"]
    assert "8 of 16 records were rejected" in output and f"{path}:2: no text under the key text" in output
    assert "remedy: write an object such as" in output
    assert "with --key" in rejects(tmp_path / "out")[5]["remedy"]
    totals = manifest(tmp_path / "out")[-1]["totals"]
    assert (totals["records"], totals["documents"], totals["rejects"]) == (16, 8, 8)
    # Documents are known by their place. All with the same id are kept.
    assert totals["repeated_ids"] == 2 + 2 + 1 + 0 and "5 documents have the id of another document" in output


def test_a_line_of_100_mb_is_rejected_in_little_memory(tmp_path):
    block = b"Anna left Tarvik. " * 60_000
    for name, before in (("a.txt", b""), ("a.csv", b"text\n")):
        with (tmp_path / name).open("wb") as file:
            file.write(before + b"first\n")
            for _ in range(100):
                file.write(block)
            file.write(b"\nlast\n")
        inputs, _, _ = find_inputs([str(tmp_path / name)], None, tmp_path / "out")
        tracemalloc.start()
        [shard] = read_shards(inputs, "text", 100)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 5 * MAX_LINE
        first, long, last = shard.raws
        assert not first.line.fault and not last.line.fault and len(long.line.text) == 1000
        assert long.line.fault is not None and "the line has 108,000,001 bytes, more than" in long.line.fault.reason
        assert shard.read == (tmp_path / name).stat().st_size


def test_csv(model, tmp_path):
    path = tmp_path / "in.csv"
    path.write_bytes(
        b"\xef\xbb\xbfname,text\r\n"
        b'a,"Anna, who left\r\nTarvik, ""wept"""\r\n'
        b"b,too,many\r\n"
        b"\r\n"
        b"c,\xff\r\n"
        b'd,"quoted" badly\r\n'
        b"e,Anna left\r\n"
        b'f,"never closed\r\n'
        b"g,lost\r\n"
    )
    output = run(model, path, tmp_path / "out")
    found = [(row["name"], row["text"]) for row in rows(tmp_path / "out")]
    assert found == [("a", 'Anna, who left\r\nTarvik, "wept"'), ("e", "Anna left")]
    reasons = ["the row has 3 cells, but the first row has 2", "not UTF-8", "malformed csv", "from here to line 10"]
    places = [f"{path}:{number}" for number in (4, 6, 7, 9)]
    for row, reason, place in zip(rejects(tmp_path / "out"), reasons, places, strict=True):
        assert reason in row["reason"] and row["place"] == place
    assert "4 of 6 records were rejected" in output
    for mark in (";", "\t"):
        (tmp_path / "b.csv").write_text(f"text{mark}id\nAnna left{mark}1\n")
        output = run(model, tmp_path / "b.csv", tmp_path / "none", code=1)
        assert "the first row is" in output and "separate the cells by commas" in output
    output = run(model, path, tmp_path / "other", "--text-column", "body", code=1)
    assert f"{path} has no column 'body'; give one of name, text as --text-column" in output
    # Noticed before anything is annotated.
    (tmp_path / "a.csv").write_text("body\nAnna\n")
    output = run(model, write_jsonl(tmp_path / "a.jsonl", numbered(3)), tmp_path / "a.csv", tmp_path / "other", code=1)
    assert "a.csv has no column 'text'; give one of body" in output and not (tmp_path / "other").exists()
    path.write_text("text,text\n")
    assert "has two columns 'text'" in run(model, path, tmp_path / "other2", code=1)


def test_parquet_without_the_column_or_the_package(model, tmp_path, monkeypatch):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({"body": ["Anna", None], "raw": [b"1", None]}), tmp_path / "a.parquet")
    output = run(model, tmp_path / "a.parquet", tmp_path / "out", code=1)
    assert "has no column 'text'; give one of body, raw as --text-column" in output
    output = run(model, tmp_path / "a.parquet", tmp_path / "out2", "--text-column", "body", code=1)
    reasons = [row["reason"] for row in rejects(tmp_path / "out2")]
    assert reasons == ["jsonl cannot store its fields: values of the type bytes are not supported", *reasons[1:]]
    assert "no text under the key body: body is None" in reasons[1] and "2 of 2 records were rejected" in output
    # Parquet can have them. A column of the input can have the name of ours for packed fields.
    table = pa.table({"text": ["Anna"], "fields": [b"1"]})
    parquet.write_table(table, tmp_path / "c.parquet")
    run(model, tmp_path / "c.parquet", tmp_path / "out5", "--to", "parquet")
    assert parquet.read_table(tmp_path / "out5" / "part-000000.parquet").select(["text", "fields"]).equals(table)
    (tmp_path / "b.parquet").write_bytes(b"PAR1 but no more")
    assert "is not a Parquet file, or it is damaged" in run(model, tmp_path / "b.parquet", tmp_path / "out3", code=1)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    output = run(model, tmp_path / "a.parquet", tmp_path / "out4", code=1)
    assert 'a.parquet needs the package pyarrow: pip install "spacy-ner-arch[parquet]"' in " ".join(output.split())


def test_packages_that_are_missing_are_named(model, texts, tmp_path, monkeypatch):
    for name in ("ray", "zstandard", "pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    output = run(model, texts, tmp_path / "ray", "--engine", "ray", code=1)
    assert 'needs the package ray: pip install "spacy-ner-arch[ray]"' in output
    output = run(model, texts, tmp_path / "parquet", "--to", "parquet", code=1)
    assert 'pip install "spacy-ner-arch[parquet]"' in output
    (tmp_path / "a.txt.zst").write_bytes(b"x")
    output = run(model, tmp_path / "a.txt.zst", tmp_path / "zst", code=1)
    assert 'pip install "spacy-ner-arch[zst]"' in output


def test_empty_and_damaged_files(model, tmp_path):
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "b.csv").write_text("")
    (tmp_path / "c.csv").write_text("text\n")
    output = run(model, tmp_path / "a.txt", tmp_path / "b.csv", tmp_path / "c.csv", tmp_path / "none", code=1)
    assert f"{tmp_path / 'a.txt'} is empty" in output and f"{tmp_path / 'b.csv'} is empty" in output
    assert "the inputs have no record" in output
    (tmp_path / "d.txt").write_text("Anna\n\n")
    (tmp_path / "g.spacy").write_bytes(b"")
    output = run(model, tmp_path / "a.txt", tmp_path / "d.txt", tmp_path / "g.spacy", tmp_path / "some")
    assert "a.txt is empty" in output and "g.spacy is empty" in output
    assert [row["text"] for row in rows(tmp_path / "some")] == ["Anna", ""]
    cut = gzip.compress(b"Anna left Tarvik\n" * 1000)[:-20]
    (tmp_path / "e.txt.gz").write_bytes(cut)
    output = run(model, tmp_path / "e.txt.gz", tmp_path / "cut", code=1)
    assert "e.txt.gz: the file is damaged" in output and "download or create it again" in output
    for name, compress, damage in (
        ("a.csv.gz", gzip.compress, lambda content: content[:15]),
        ("b.csv.bz2", bz2.compress, lambda content: content[:100] + bytes(100) + content[200:]),
        ("b.txt.bz2", bz2.compress, lambda content: content[:100] + bytes(100) + content[200:]),
        ("b.txt.xz", lzma.compress, lambda content: content[:-20]),
    ):
        (tmp_path / name).write_bytes(damage(compress(random.Random(0).randbytes(1000).hex().encode())))
        assert f"{name}: the file is damaged" in run(model, tmp_path / name, tmp_path / f"{name}.out", code=1)
    (tmp_path / "f.spacy").write_bytes(b"no docs")
    assert "is not a .spacy file, or damaged" in run(model, tmp_path / "f.spacy", tmp_path / "docs", code=1)


def test_a_file_that_decompresses_to_too_much_is_refused(tmp_path, monkeypatch):
    """A small file of zeros becomes gigabytes."""
    monkeypatch.setattr(raw_records, "MAX_WHOLE", 10_000_000)
    path = tmp_path / "a.spacy.gz"
    path.write_bytes(gzip.compress(bytes(100_000_000)))
    tracemalloc.start()
    with pytest.raises(
        ValueError, match=r"a.spacy.gz has more than 10,000,000 bytes .* annotate the decompressed file"
    ):
        list(read_input(find_inputs([str(path)], None, tmp_path / "out")[0][0], "text"))
    assert tracemalloc.get_traced_memory()[1] < 40_000_000
    tracemalloc.stop()
    # A file that is not compressed is on the disk in its whole size.
    DocBin(docs=[spacy.blank("en")("Anna " * 10)]).to_disk(tmp_path / "a.spacy")
    monkeypatch.setattr(raw_records, "MAX_WHOLE", 10)
    assert len(list(read_input(find_inputs([str(tmp_path / "a.spacy")], None, tmp_path / "out")[0][0], "text"))) == 1


def test_a_parquet_file_that_decompresses_to_too_much_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    zstandard = pytest.importorskip("zstandard")
    monkeypatch.setattr(raw_records, "MAX_WHOLE", 10_000)
    path = tmp_path / "a.parquet.zst"
    path.write_bytes(zstandard.compress(bytes(1_000_000)))
    with pytest.raises(ValueError, match=r"a.parquet.zst has more than 10,000 bytes"):
        list(read_input(find_inputs([str(path)], None, tmp_path / "out")[0][0], "text"))


@pytest.mark.parametrize("frames", [1, 3])
def test_damaged_files_of_zst(model, tmp_path, frames):
    """The reader of zstandard would end at the cut, as if the file were complete."""
    zstandard = pytest.importorskip("zstandard")
    content = "".join(f"Anna left {number}.\n" for number in range(40))
    path = tmp_path / "a.txt.zst"
    whole = zstandard.compress(content.encode()) * frames
    path.write_bytes(whole)
    run(model, path, tmp_path / "out")
    assert [row["text"] for row in rows(tmp_path / "out")] == content.splitlines() * frames
    for damaged in (whole[:-1], whole[:-20], whole + whole[:2], whole[:-20] + bytes(20)):
        path.write_bytes(damaged)
        assert "a.txt.zst: the file is damaged" in run(model, path, tmp_path / "cut", code=1)


def test_a_damaged_page_of_parquet(model, tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": [random.Random(0).randbytes(5000).hex()]}), path)
    content = path.read_bytes()
    path.write_bytes(content[:1000] + bytes(3000) + content[4000:])
    assert "a.parquet: the file is damaged" in run(model, path, tmp_path / "out", code=1)


def test_empty_lines_before_the_header_of_a_csv(model, tmp_path):
    (tmp_path / "a.csv").write_text("\n,\nname,text\na,Anna left\n")
    run(model, tmp_path / "a.csv", tmp_path / "out")
    assert [(row["name"], row["text"]) for row in rows(tmp_path / "out")] == [("a", "Anna left")]


def test_a_header_of_a_csv_that_cannot_be_read(model, tmp_path):
    """It is not skipped as if it were an empty line, with the row below in its place."""
    (tmp_path / "a.csv").write_text('\n"text";"id"\ntext,id\nAnna left,1\n')
    output = run(model, tmp_path / "a.csv", tmp_path / "out", code=1)
    assert "a.csv:2: malformed csv" in output and "separate cells by commas" in output


def test_groups_of_spans_that_the_pipeline_does_not_set_stay(model, tmp_path):
    """The manifest counts what the pipeline has found, which does not depend on the format of the output."""
    doc = spacy.blank("en")(TEXTS[0])
    doc.spans["mine"] = [doc[0:1], doc[1:2]]
    doc.spans["a/b"] = [doc[0:1]] * 7
    DocBin(docs=[doc], store_user_data=True).to_disk(tmp_path / "a.spacy")
    for to in ("spacy", "jsonl"):
        run(model, tmp_path / "a.spacy", tmp_path / to, "--to", to)
    [found] = read_docs(tmp_path / "spacy" / "part-000000.spacy")
    assert [span.text for span in found.spans["mine"]] == [doc[0].text, doc[1].text]
    totals = [manifest(tmp_path / to)[-1]["totals"] for to in ("spacy", "jsonl")]
    assert totals[0] == totals[1] and totals[0]["spans"] == len(found.spans["a/b"]) > 0


@pytest.mark.parametrize(
    ("spans", "is_kept"),
    [
        # `convert` stores the entities of a text in the group, too.
        ([(0, 1, "OLD"), (2, 3, "OLD")], False),
        # An annotation of its own.
        ([(0, 1, "OLD"), (2, 3, "OLD"), (0, 3, "WIDE")], True),
        ([(0, 1, "OLD"), (1, 3, "WIDE")], True),
        ([], True),
    ],
)
def test_a_group_that_repeats_replaced_entities_goes_with_them(tmp_path, spans, is_kept):
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "PER", "pattern": "Anna"}])
    nlp.to_disk(tmp_path / "model")
    doc = nlp.make_doc("Anna left Tarvik")
    doc.set_ents([Span(doc, 0, 1, "OLD"), Span(doc, 2, 3, "OLD")], default="outside")
    doc.spans["sc"] = [Span(doc, *span) for span in spans]
    doc._.relations = [(*doc.ents, "old")]
    bare = nlp.make_doc("Tarvik left")
    bare.set_ents([], default="outside")
    bare.spans["sc"] = []
    DocBin(docs=[doc, bare], store_user_data=True).to_disk(tmp_path / "a.spacy")
    run(tmp_path / "model", tmp_path / "a.spacy", tmp_path / "out", "--to", "spacy")
    [found, found_bare] = read_docs(tmp_path / "out" / "part-000000.spacy")
    assert [(ent.text, ent.label_) for ent in found.ents] == [("Anna", "PER")]
    groups = {name: [(span.start, span.end, span.label_) for span in group] for name, group in found.spans.items()}
    assert groups == ({"sc": spans} if is_kept else {})
    # The pipeline sets no relations. Those between spans that are gone would point at nothing.
    assert len(found._.relations) == (is_kept and (2, 3, "OLD") in spans)
    assert has_relations(found) and not has_relations(found_bare)
    assert "sc" not in found_bare.spans


def test_what_belongs_to_replaced_entities_goes_with_them(tmp_path):
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "PER", "pattern": "Anna"}])
    nlp.to_disk(tmp_path / "model")
    doc = nlp.make_doc("Anna left Tarvik for Brandt")
    doc.set_ents([Span(doc, 0, 1, "PER", span_id="Q1"), Span(doc, 2, 3, "LOC"), Span(doc, 4, 5, "PER")])
    anna, tarvik, brandt = doc.ents
    verb = doc[1:2]
    doc.spans["mine"] = [Span(doc, 4, 5, "PER")]
    doc.spans["alternatives"] = [Span(doc, 0, 3, "LOC"), tarvik]
    anna._.score = tarvik._.score = 0.5
    # Anna is found again, Tarvik is not, and Brandt stays in a group. An argument need not be annotated.
    doc._.relations = [(anna, tarvik, "left"), (anna, brandt, "for", 0.5), (anna, verb, "does"), (verb, tarvik, "what")]
    DocBin(docs=[doc], store_user_data=True).to_disk(tmp_path / "a.spacy")
    run(tmp_path / "model", tmp_path / "a.spacy", tmp_path / "out", "--to", "spacy")
    [found] = read_docs(tmp_path / "out" / "part-000000.spacy")
    assert [(ent.text, ent.id_, ent._.score) for ent in found.ents] == [("Anna", "", None)]
    assert [(row.label, row.score) for row in found._.relations] == [("does", None), ("for", 0.5)]
    assert [*found.spans] == ["mine"]


def test_annotation_that_the_pipeline_does_not_set_stays(tmp_path):
    """A pipeline of nested_ner replaces its own group, and not the entities."""
    nlp = spacy.blank("en")
    nlp.add_pipe("span_ruler", config={"spans_key": "sc"}).add_patterns([{"label": "PER", "pattern": "Anna"}])
    nlp.to_disk(tmp_path / "model")
    doc = nlp.make_doc("Anna left Tarvik")
    doc.set_ents([Span(doc, 2, 3, "LOC")])
    doc.spans["sc"] = [Span(doc, 0, 1, "OLD"), Span(doc, 0, 2, "OLD")]
    (tarvik,), (old, *_) = doc.ents, doc.spans["sc"]
    tarvik._.score = 0.5
    doc._.relations = [(tarvik, doc[1:2], "verb"), (old, tarvik, "left")]
    DocBin(docs=[doc], store_user_data=True).to_disk(tmp_path / "a.spacy")
    run(tmp_path / "model", tmp_path / "a.spacy", tmp_path / "out", "--to", "spacy")
    [found] = read_docs(tmp_path / "out" / "part-000000.spacy")
    assert [(ent.text, ent._.score) for ent in found.ents] == [("Tarvik", 0.5)]
    assert [span.label_ for span in found.spans["sc"]] == ["PER"]
    assert [row.label for row in found._.relations] == ["verb"]


def test_relations_whose_tokens_were_merged_stop_no_run(tmp_path):
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "PER", "pattern": "Anna"}])
    nlp.to_disk(tmp_path / "model")
    doc = nlp.make_doc("Anna Brandt left Tarvik")
    doc.set_ents([Span(doc, 3, 4, "LOC")])
    doc._.relations = [(doc[0:1], doc[1:2], "first"), (doc.ents[0], doc[1:2], "old")]
    with doc.retokenize() as retokenizer:
        retokenizer.merge(doc[0:2])
    DocBin(docs=[doc], store_user_data=True).to_disk(tmp_path / "a.spacy")
    assert "1 documents" in run(tmp_path / "model", tmp_path / "a.spacy", tmp_path / "out", "--to", "spacy")
    [found] = read_docs(tmp_path / "out" / "part-000000.spacy")
    assert [key[-1] for key in relation_keys(found)] == ["first"]


@pytest.mark.parametrize("key", [None, "sc"])
def test_relations_need_entities_of_the_input_if_the_pipeline_finds_none(tmp_path, key):
    nlp = spacy.blank("en")
    pairs = {"@misc": "spacy_ner_arch.EntityPairs.v1", "within": "document", "spans_key": key}
    nlp.add_pipe("relation_extractor", config={"candidates": pairs})
    examples = make_examples(nlp)
    set_relations([eg.reference for eg in examples], RELATIONS)
    for eg in examples:
        for doc in (eg.predicted, eg.reference):
            spans = [Span(doc, ent.start, ent.end, label=ent.label_) for ent in eg.reference.ents]
            if key is None:
                doc.set_ents(spans, default="outside")
            else:
                doc.set_ents([])
                doc.spans[key] = spans
    train(nlp, examples)
    nlp.to_disk(tmp_path / "model")
    DocBin(docs=[eg.reference for eg in examples]).to_disk(tmp_path / "gold.spacy")
    raw = write_jsonl(tmp_path / "raw.jsonl", numbered(3))
    for to in ("jsonl", "spacy"):
        output = run(tmp_path / "model", raw, tmp_path / f"raw-{to}", "--to", to)
        assert "3 documents with 0 relations in" in output
        assert "No document has an entity, and so none has a relation: add an entity component" in output
        output = run(tmp_path / "model", tmp_path / "gold.spacy", tmp_path / f"gold-{to}", "--to", to)
        assert "No document" not in output and "with 0 relations" not in output


def test_fields_of_stored_documents_stay_as_they_are(model, tmp_path):
    """Also those that JSON does not have, unless the output is JSON."""
    doc = spacy.blank("en")("Anna left Tarvik")
    fields = {"id": 7, "mean": np.float32(2.5), "raw": b"bytes", "nan": float("nan"), "text": "Anna left Tarvik"}
    doc.user_data.update(fields)
    DocBin(docs=[doc], store_user_data=True).to_disk(tmp_path / "a.spacy")
    run(model, tmp_path / "a.spacy", tmp_path / "out", "--to", "spacy")
    [found] = read_docs(tmp_path / "out" / "part-000000.spacy")
    assert found.ents and repr({key: found.user_data[key] for key in fields}) == repr(fields)
    assert "1 of 1 records were rejected" in run(model, tmp_path / "a.spacy", tmp_path / "json", code=1)


def test_integers_that_a_stored_document_cannot_have(model, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "Anna left", "n": 18446744073709551616}\n')
    run(model, tmp_path / "a.jsonl", tmp_path / "out", "--to", "spacy", code=1)
    assert [row["reason"] for row in rejects(tmp_path / "out")] == [
        "spacy cannot store its fields: the integer 18446744073709551616 has more than 64 bits"
    ]


@pytest.mark.parametrize("to", ["spacy", "jsonl"])
def test_half_a_character_in_a_text(model, tmp_path, to):
    (tmp_path / "a.jsonl").write_text('{"text": "Anna \\ud83d left"}\n{"text": "Anna left"}\n')
    assert "1 of 2 records were rejected" in run(model, tmp_path / "a.jsonl", tmp_path / "out", "--to", to)
    [row] = rejects(tmp_path / "out")
    assert "half of a character" in row["reason"] and row["remedy"] == "correct or remove the text"


def test_folders_and_patterns(model, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "sub").symlink_to(tmp_path / "elsewhere")
    for name in ("in/b.txt", "in/sub/a.jsonl", "in/README.md", "in/.hidden.txt", "in/c.txt.gz"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(b"c\n") if path.suffix == ".gz" else b'{"text": "x"}\n')

    def found(*names, format=None):
        inputs, left_out, _ = find_inputs([str(tmp_path / name) for name in names], format, tmp_path / "out")
        return [str(file.path.relative_to(tmp_path / "in")) for file in inputs], [path.name for path in left_out]

    assert found("in") == (["b.txt", "c.txt.gz", "sub/a.jsonl"], ["README.md"])
    assert found("in/sub", "in/*.txt*") == (["sub/a.jsonl", "b.txt", "c.txt.gz"], [])
    assert found("in/README.md", format="txt") == (["README.md"], [])
    assert found("in/.hidden.txt") == found("in/.*") == ([".hidden.txt"], [])
    for names, message in (
        (["in", "in/b.txt"], "is named twice"),
        (["in/README.md"], "the name ends in none of .txt, .jsonl, .csv, .parquet, .spacy; give its --format"),
        (["none"], "no such file, folder with files, or matching file; check the name"),
        (["in/R*"], "no file with one of the endings"),
    ):
        with pytest.raises(ValueError, match=message):
            found(*names)
    output = run(model, tmp_path / "in", tmp_path / "out", "--key", "found")
    assert "1 files are left out" in output and len(rows(tmp_path / "out")) == 3
    output = run(model, tmp_path / "in", tmp_path / "in" / "out", code=1)
    assert "the output folder is in the input" in output and not (tmp_path / "in" / "out").exists()
    output = run(model, tmp_path / "out" / "*.jsonl", tmp_path / "out", code=1)
    assert "the input is in the output folder" in output


@pytest.fixture
def ruler(tmp_path) -> Path:
    """Folder of a pipeline that is loaded in no time."""
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "PER", "pattern": "Anna"}])
    nlp.to_disk(tmp_path / "ruler")
    return tmp_path / "ruler"


@pytest.mark.parametrize("to", ["jsonl", "parquet", "spacy"])
def test_an_output_is_an_input(ruler, texts, tmp_path, to):
    """Its manifest and its rejected records are no texts."""
    if to == "parquet":
        pytest.importorskip("pyarrow")
    run(ruler, texts, tmp_path / "in" / "first", "--to", to, "--shard-size", 4)
    options = ["--to", to, *([] if to == "spacy" else ["--key", "again"])]
    pattern = f"part-*[0-9].{to}"
    for number, input in enumerate((tmp_path / "in", tmp_path / "in" / "first", tmp_path / "in" / "first" / pattern)):
        folder = tmp_path / f"out{number}"
        output = run(ruler, input, folder, *options)
        assert manifest(folder)[-1]["totals"]["documents"] == manifest(folder)[-1]["totals"]["records"] == 21
        rejected = "2 files of rejected records of an earlier run are left out, such as"
        assert (rejected in output) == (input.name != pattern)
    # As a shell names all files.
    files = sorted((tmp_path / "in" / "first").iterdir())
    run(ruler, *(file for file in files if file.name != ".lock"), tmp_path / "out", *options)
    assert manifest(tmp_path / "out")[-1]["totals"]["records"] == 21
    only = files[1], *(file for file in files if "rejects" in file.name)
    assert only[0].name == "manifest.jsonl"
    assert "rejected records of an output" in run(ruler, *only, tmp_path / "none", code=1)


def test_an_output_that_is_not_complete_is_no_input(ruler, texts, tmp_path):
    folder = tmp_path / "in" / "first"
    run(ruler, texts, folder, "--to", "spacy", "--shard-size", 4)
    lines = (folder / "manifest.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "manifest.jsonl").write_bytes(b"".join(lines[:-1]))
    for input in (tmp_path / "in", folder, folder / "*.spacy"):
        output = run(ruler, input, tmp_path / "out", code=1)
        assert f"{folder} is an output of `ner-arch annotate` that is not complete" in output
        assert "give the command that made it again" in output and not (tmp_path / "out").exists()
    run(ruler, folder / "part-000000.spacy", tmp_path / "out")
    assert len(rows(tmp_path / "out")) == 4


def test_an_output_that_is_not_complete_is_no_corpus(ruler, texts, tmp_path):
    """Training, evaluation, export and the other commands read no part of it as if it were all."""
    for to in ("spacy", "jsonl"):
        run(ruler, texts, tmp_path / "corpus" / to, "--to", to, "--shard-size", 4)
        lines = (tmp_path / "corpus" / to / "manifest.jsonl").read_bytes().splitlines(keepends=True)
        (tmp_path / "corpus" / to / "manifest.jsonl").write_bytes(b"".join(lines[:-1]))
    folder = tmp_path / "corpus" / "spacy"
    expected = f"{folder} is an output of `ner-arch annotate` that is not complete"
    for corpus in (tmp_path / "corpus", folder):
        with pytest.raises(ValueError, match=expected):
            next(create_corpus(corpus)(spacy.blank("en")))
        for code, command in (
            (1, ["export-data", corpus, tmp_path / "tasks.json", "--format", "label-studio"]),
            (2, ["review", corpus, tmp_path / "review", "--model", ruler]),
        ):
            assert "is not complete" in run_in_line(*command, code=code, env={"COLUMNS": "400"})
    for file in folder.glob("part-*"):
        file.unlink()
    with pytest.raises(ValueError, match=expected):
        find_docbins(folder)
    # The command goes on with this output. One of json lines is no part of a corpus.
    run(ruler, texts, folder, "--to", "spacy", "--shard-size", 4)
    assert len(list(read_docbins(tmp_path / "corpus", Vocab()))) == 21


def test_all_outputs_can_be_in_a_manifest():
    assert all(SHARD_FILE.fullmatch(f"part-000000.{to}") for to in outputs.OUTPUTS)


def test_a_manifest_of_another_program_is_an_input(tmp_path):
    for content in ('{"text": "Anna left"}', '["model", "fingerprint", "inputs"]', "Anna left", ""):
        write_jsonl(tmp_path / "in.rejects.jsonl", []).with_name("manifest.jsonl").write_text(content + "\n")
        inputs, left_out, rejects = find_inputs([str(tmp_path)], None, Path("out"))
        assert [file.path.name for file in inputs] == ["in.rejects.jsonl", "manifest.jsonl"]
        assert not left_out and not rejects


@pytest.mark.parametrize(
    "options, message",
    [
        (["--to", "xml"], "--to is 'xml'; it must be one of jsonl, parquet, spacy"),
        (["--engine", "spark"], "--engine is 'spark'; it must be one of local, ray"),
        (["--format", "xml"], "--format is 'xml'; it must be one of txt, jsonl, csv, parquet, spacy"),
        (["--address", "auto"], "--address is for --engine ray"),
        (["--key", "a", "--to", "spacy"], "--key is for json lines and Parquet"),
    ],
)
def test_options_that_are_refused(model, texts, tmp_path, options, message):
    assert message in run(model, texts, tmp_path / "out", *options, code=1) and not (tmp_path / "out").exists()


def test_pipelines_that_are_refused(texts, tmp_path):
    assert "is not a pipeline: give a folder" in run(tmp_path / "none", texts, tmp_path / "out", code=1)
    spacy.blank("en").to_disk(tmp_path / "blank")
    output = run(tmp_path / "blank", texts, tmp_path / "out", code=1)
    assert "no component of this pipeline finds entities" in output


def test_a_full_disk(model, texts, whole, tmp_path):
    """The same command completes the output when there is room."""
    options = [model, texts, tmp_path / "out", "--shard-size", 4, "--batch-size", 3]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The manifest is still written, and no shard.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        output = run(*options, code=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "shard 0 cannot be written (File too large). Free space on the disk" in output
    assert not list((tmp_path / "out").glob("*part*"))
    run(*options)
    assert contents(tmp_path / "out") == whole


def test_documents_at_which_the_pipeline_fails(model, tmp_path):
    """They are rejected alone. A pipeline that always fails stops the run."""
    code = tmp_path / "code.py"
    code.write_text(
        "from spacy.language import Language\n"
        "@Language.component('fails')\n"
        "def fails(doc):\n"
        "    if 'quiet' in doc.text or (len(doc) and doc[0].text == 'all'):\n"
        "        raise KeyError('quiet')\n"
        "    return doc\n"
    )
    spacy.util.import_file("code", code)
    nlp = spacy.load(model)
    nlp.add_pipe("fails", first=True)
    nlp.to_disk(tmp_path / "model")
    path = write_jsonl(tmp_path / "a.jsonl", numbered(7))
    output = run(tmp_path / "model", path, tmp_path / "out", "--code", code)
    assert [row["id"] for row in rows(tmp_path / "out")] == [0, 2, 3, 4, 5]
    assert [row["place"] for row in rejects(tmp_path / "out")] == [f"{path}:2", f"{path}:7"]
    assert "2 of 7 records were rejected" in output and "the pipeline fails: KeyError: 'quiet'" in output
    # The others have the scores that they have without the failing ones.
    rest = write_jsonl(tmp_path / "b.jsonl", [row for row in numbered(7) if "quiet" not in row["text"]])
    run(model, rest, tmp_path / "rest")
    assert rows(tmp_path / "rest") == rows(tmp_path / "out")
    write_jsonl(path, [{"text": "all"}] * 3)
    output = run(tmp_path / "model", path, tmp_path / "all", "--code", code, code=1)
    assert f"shard 0 ({path}:1 to {path}:3): KeyError" in output


def test_an_error_of_the_users_code_has_its_traceback_in_a_worker(model, tmp_path):
    """The worker sent the message alone."""
    code = tmp_path / "code.py"
    code.write_text(
        "from spacy.language import Language\n\n"
        "@Language.component('always_fails')\n"
        "def always_fails(doc):\n"
        "    raise KeyError('broken')\n"
    )
    spacy.util.import_file("python_code", code)
    nlp = spacy.load(model)
    nlp.add_pipe("always_fails", first=True)
    nlp.to_disk(tmp_path / "model")
    path = write_jsonl(tmp_path / "a.jsonl", numbered(3))
    output = run(tmp_path / "model", path, tmp_path / "out", "--code", code, "--n-process", 2, code=1)
    assert f'"{code}", line 5, in always_fails' in " ".join(output.split())
    assert f"ValueError: shard 0 ({path}:1 to {path}:3): KeyError: 'broken'" in " ".join(output.split())


def test_a_changed_pipeline_is_noticed_by_the_workers(model, tmp_path):
    job = Job(str(model), "another", None, -1, None, "text", None, "jsonl", None)
    with pytest.raises(ValueError, match="the pipeline has changed since the run began"):
        Annotator(job)
    with pytest.raises(ValueError, match="the pipeline has changed"):
        list(run_workers(lambda: LocalWorker(job), wait_local, [Shard(0, [], 0)], 1))


def test_hidden_files_of_a_pipeline_do_not_change_it(model, tmp_path):
    shutil.copytree(model, tmp_path / "model")
    for name in (".DS_Store", "vocab/._strings.json"):
        (tmp_path / "model" / name).write_bytes(b"\x00\x05\x16\x07")
    assert fingerprint(str(tmp_path / "model")) == fingerprint(str(model))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "model" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "more").touch()
    assert fingerprint(str(tmp_path / "model")) != fingerprint(str(model))


class FakeWorker:
    """Dies on the shards with these numbers as often as they say; the first result is None."""

    started = 0

    def __init__(self, deaths: Counter) -> None:
        self.deaths, self.shard, self.stopped = deaths, None, False
        FakeWorker.started += 1

    def send(self, shard: Shard) -> None:
        self.shard = shard

    def receive(self) -> int | None:
        number = None if self.shard is None else self.shard.number
        if self.deaths[number] > 0:
            self.deaths[number] -= 1
            raise WorkerDied("exit code -9")
        return number

    def stop(self) -> None:
        assert not self.stopped
        self.stopped = True


def test_shards_of_dead_workers_are_done_by_others():
    shards = [Shard(number, [make_raw(number)], 0) for number in range(6)]
    deaths = Counter({None: 1, 0: 2, 5: 2})
    results = list(run_workers(lambda: FakeWorker(deaths), lambda workers: workers[-1], shards, 2))
    assert sorted(results) == list(range(6)) and FakeWorker.started >= 6
    for number, place in ((4, "shard 4 (a.txt:4 to a.txt:4)"), (None, "the start")):
        deaths = Counter({number: engines.MAX_DEATHS})
        with pytest.raises(ValueError) as caught:
            list(run_workers(lambda deaths=deaths: FakeWorker(deaths), lambda workers: workers[0], shards, 2))
        assert f"{place}: a worker died 3 times (exit code -9)" in str(caught.value)


def make_raw(number: int) -> Raw:
    return Raw(Line(Path("a.txt"), number, "Anna"), "txt", None, 4, 0)


@pytest.mark.slow
def test_ray_gives_the_same_bytes(model, texts, whole, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    run(model, texts, tmp_path / "out", "--shard-size", 4, "--batch-size", 3, "--engine", "ray", "-n", 2)
    assert contents(tmp_path / "out") == whole and not ray.is_initialized()
    # An actor that dies is replaced.
    killed = []

    def send(worker: engines.RayWorker, shard: Shard) -> None:
        original(worker, shard)
        if shard.number == 2 and not killed:
            killed.append(ray.kill(worker.actor))

    original = engines.RayWorker.send
    monkeypatch.setattr(engines.RayWorker, "send", send)
    run(model, texts, tmp_path / "killed", "--shard-size", 4, "--batch-size", 3, "--engine", "ray")
    assert killed and contents(tmp_path / "killed") == whole
    output = run(tmp_path, texts, tmp_path / "bad", "--engine", "ray", code=1)
    assert "Cannot annotate" in output and os.environ.get("RAY_ADDRESS") is None


@pytest.mark.slow
def test_the_spark_recipe_of_the_docs(model, tmp_path, monkeypatch):
    sql = pytest.importorskip("pyspark.sql")
    parquet = pytest.importorskip("pyarrow.parquet")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    page = (Path(__file__).parent.parent / "docs" / "annotate.md").read_text(encoding="utf8")
    recipe = page.split("```python\n")[1].split("```")[0]
    recipe, replaced = re.subn('MODEL = ".*"', f'MODEL = "{model}"', recipe)
    assert replaced == 1
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "texts.jsonl", numbered(20))
    session = sql.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        exec(recipe, {})
    finally:
        session.stop()
    found = sorted(parquet.read_table(tmp_path / "annotated").to_pylist(), key=lambda row: row["id"])
    run(model, tmp_path / "texts.jsonl", tmp_path / "out", "--key", "annotation")
    for row, expected in zip(found, rows(tmp_path / "out"), strict=True):
        # One batch here and one there: so the scores are the same as well.
        assert {**row, "annotation": json.loads(row["annotation"])} == expected
