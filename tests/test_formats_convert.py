"""`ner-arch convert` at its edges: options, files that cannot be read or written, and what the report says."""

import gc
import json
import os
import resource
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import spacy
from conftest import load_docs, run_in_line

from spacy_ner_arch.cli.convert import AUTO, FORMAT_HELP
from spacy_ner_arch.formats import FORMATS
from spacy_ner_arch.formats.fields import select_fields
from spacy_ner_arch.formats.writers.content import get_fields

COLUMNS = "Anna B-PER\nleft O\n\nTarvik B-LOC\n\n"
TEXT = json.dumps({"text": "Anna left Tarviknow.", "entities": [[0, 4, "PER"], [10, 16, "LOC"]]}) + "\n"


def run(*args: object, **options: Any) -> str:
    return run_in_line("convert", *args, **options)


def entities(path: Path) -> list[tuple[str, str]]:
    return [(ent.text, ent.label_) for doc in load_docs(path) for ent in doc.ents]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "a.conll"
    path.write_text("".join(COLUMNS.replace("\n\n", f"\n{i} O\n\n") for i in range(50)))
    return path


def test_links_and_folders_keep_their_names(source: Path, tmp_path: Path) -> None:
    """Files of the cache of Hugging Face are links to files whose names are checksums."""
    links = [tmp_path / f"{part}.conll" for part in ("train", "dev")]
    for link in links:
        link.symlink_to(source)
    folders = [tmp_path / f"news-1.{number}" for number in (1, 2)]
    for folder in folders:
        folder.mkdir()
        (folder / "a.txt").write_text("Anna left.")
        (folder / "a.ann").write_text("T1\tPER 0 4\tAnna\n")
    run(*links, *folders, tmp_path / "out")
    names = {"train.spacy", "dev.spacy", "news-1.1.spacy", "news-1.2.spacy"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names


def test_a_long_run_without_a_terminal_shows_how_far_it_is(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spacy_ner_arch.cli.convert.SHOWN_EVERY", 40)
    output = run(source, tmp_path)
    assert "a.conll: 40 docs" in output and "a.conll: 80 docs" in output and "a.conll: 120" not in output


# Skipping


def test_a_skip_says_what_share_it_loses(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text(COLUMNS + "Moss X-PER\n\n" * 6)
    output = run(path, tmp_path, "-f", "conll", "--on-error", "skip")
    assert "skipped sentences 6 of 8 (75.0 %)" in output
    assert "--on-error skip has left out 6 of 8 (75.0 %) sentences" in output
    assert f"{path}:6: 'X-PER' in column 1 is not an entity tag" in output


@pytest.mark.parametrize(("format", "line"), [("conll", "Moss X-PER\n\n"), ("offsets", "{}\n"), ("spans", "{}\n")])
def test_a_skip_of_everything_is_an_error(tmp_path: Path, format: str, line: str) -> None:
    path = tmp_path / "a"
    path.write_text(line * 3)
    output = run(path, tmp_path / "out", "-f", format, "--on-error", "skip", code=1)
    assert "no sentence was read" in output and "skipped sentences 3 of 3 (100.0 %)" in output and "a:1:" in output
    assert not (tmp_path / "out").exists()


def test_bmes_of_chinese_corpora(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text("陈 B-NAME\n元 M-NAME\n章 E-NAME\n， O\n男 S-X\n\n", encoding="utf-8")
    output = run(path, tmp_path, "-f", "conll", "--lang", "zh")
    assert "files tagged BMES 1" in output and "repaired" not in output
    assert entities(tmp_path / "a.spacy") == [("陈 元 章", "NAME"), ("男", "X")]


# Options


def test_align_is_passed_on(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(TEXT)
    output = run(path, tmp_path, "-f", "offsets")
    assert (
        "1 of 2 (50.0 %) entities do not align with the tokenizer of 'en'; training and evaluation lose them" in output
    )
    assert f"{path}:1: 'Tarvik' LOC ends inside of the token 'Tarviknow'" in output
    assert entities(tmp_path / "a.spacy") == [("Anna", "PER")]
    assert "--align has moved" not in run(path, tmp_path, "-f", "offsets", "--align", "expand")
    assert entities(tmp_path / "a.spacy") == [("Anna", "PER"), ("Tarviknow", "LOC")]


def test_an_unknown_unit_of_offsets_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "\U0001f600 Anna left", "entities": [[2, 6, "PER"]]}))
    output = run(path, tmp_path, "-f", "offsets")
    assert "1 entities are behind a character beyond U+FFFF" in output and "Give --unit utf-16 if" in output
    assert "U+FFFF" not in run(path, tmp_path, "-f", "offsets", "--unit", "characters")


def test_entities_that_are_kept_but_do_not_align_count_in_evaluation(tmp_path: Path) -> None:
    path = tmp_path / "a.conllu"
    path.write_text("1\tTarv\t_\t_\t_\t_\t_\t_\t_\tNE=B-LOC|SpaceAfter=No\n2\tik\t_\t_\t_\t_\t_\t_\t_\t_\n\n")
    output = run(path, tmp_path)
    assert "of 'en'; training loses them, and evaluation counts them as missed" in output
    assert entities(tmp_path / "a.spacy") == [("Tarv", "LOC")]


@pytest.mark.parametrize(
    ("align", "entity", "outside"),
    [(None, "ירושלים", 2), ("strict", None, 1), ("contract", None, 1), ("expand", "בירושלים", 1)],
)
def test_attached_prepositions_of_conllu(tmp_path: Path, align: str | None, entity: str | None, outside: int) -> None:
    """The spaCy token of a multi-word range has the preposition and the name. The trees of the words are kept."""
    words = [("1", "רות", "2", "NE=B-PER"), ("2", "גרה", "0", "_"), ("3-4", "בירושלים", "_", "_")]
    words += [("3", "ב", "4", "_"), ("4", "ירושלים", "2", "NE=B-LOC")]
    path = tmp_path / "a.conllu"
    rows = [
        f"{id}\t{form}\t_\t_\t_\t_\t{head}\t{'_' if head == '_' else 'dep'}\t_\t{misc}"
        for id, form, head, misc in words
    ]
    path.write_text("\n".join(rows) + "\n\n", encoding="utf-8")
    output = run(path, tmp_path, "--lang", "he", *(["--align", align] if align else []))
    assert entities(tmp_path / "a.spacy") == [("רות", "PER"), *([(entity, "LOC")] if entity else [])]
    [doc] = load_docs(tmp_path / "a.spacy")
    assert [token.head.i for token in doc] == [1, 1, 3, 1]
    assert sum(token.ent_iob_ == "O" for token in doc) == outside
    if align == "expand":
        assert "'ירושלים' LOC starts inside of the token 'בירושלים': 'בירושלים'" in output
    else:
        assert "1 of 2 (50.0 %) entities do not align" in output and "give --align expand or contract" in output


def test_aligned_spans_of_words_keep_their_relations(tmp_path: Path) -> None:
    spans = {
        "tokens": ["Anna", "left", "Tarv", "ik"],
        "spaces": [True, True, False, False],
        "relations": [[0, 1, "left"]],
    }
    spans["spans"] = [[0, 1, "PER"], [2, 3, "LOC"], [3, 4, "X"], [2, 4, "LOC"]]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(spans))
    output = run(path, tmp_path, "--align", "expand")
    [doc] = load_docs(tmp_path / "a.spacy")
    assert [(span.text, span.label_) for span in doc.spans["sc"]] == [
        ("Anna", "PER"),
        ("Tarvik", "LOC"),
        ("Tarvik", "X"),
    ]
    assert [(head.text, tail.text) for head, tail, *_ in doc._.relations] == [("Anna", "Tarvik")]
    assert "the bounds of tokens 2 " in output and "duplicate span, kept once 1 " in output
    run(path, tmp_path, "--align", "strict")
    [doc] = load_docs(tmp_path / "a.spacy")
    assert [span.text for span in doc.spans["sc"]] == ["Anna", "Tarvik"] and not doc._.relations


def test_tokens_that_the_tokenizer_splits_are_counted(tmp_path: Path) -> None:
    """A pipeline that is trained on words finds nothing in a text whose tokens are characters."""
    words = tmp_path / "words.conll"
    words.write_text("上海 B-LOC\n很 O\n大 O\n\n上海 B-LOC\n\n北京 B-LOC\n\n", encoding="utf-8")
    output = run(words, tmp_path, "--lang", "zh")
    assert f"splits 3 of 5 (60.0 %) {words}:1: '上海' into '上' '海' {words}:7: '北京' into '北' '京'" in output
    assert "3 of 5 (60.0 %) tokens of the source are split by the tokenizer of 'zh'" in output
    texts = tmp_path / "texts.jsonl"
    texts.write_text(json.dumps({"text": "上海很大", "entities": [[0, 2, "LOC"]]}), encoding="utf-8")
    assert "splits" not in run(texts, tmp_path, "--lang", "zh")
    hyphens = tmp_path / "hyphens.conll"
    hyphens.write_text("Tarvik-born B-MISC\nAnna B-PER\nleft O\nBrenna B-LOC\n. O\n")
    output = run(hyphens, tmp_path)
    assert "splits 1 of 5 (20.0 %)" in output and "are split by" not in output


@pytest.mark.parametrize("lang, text", [("fr", "L' ami d' Anna n' a qu' une vie"), ("it", "Un' altra dell' Olanda")])
def test_tokens_of_the_tokenizer_itself_are_not_split(tmp_path: Path, lang: str, text: str) -> None:
    """Elided words are tokens only before a letter."""
    path = tmp_path / "a.conll"
    path.write_text("".join(f"{word} O\n" for word in text.split()) + "Anna B-PER\n")
    assert "tokenizer splits 0 of" in run(path, tmp_path, "--lang", lang)


def test_texts_of_another_language_than_the_tokenizer(tmp_path: Path) -> None:
    """All entities are within the one token that the English tokenizer finds."""
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "我在上海很好", "entities": [[2, 4, "LOC"]]}), encoding="utf-8")
    output = run(path, tmp_path, "-f", "offsets")
    assert "1 of 1 (100.0 %) entities do not align with the tokenizer of 'en'" in output
    assert "Correct their bounds, give --align expand or contract, or give the --lang" in output
    assert "No entity was read" not in output
    output = run(path, tmp_path, "-f", "offsets", "--align", "expand")
    assert "--align has moved 1 of 1 entities" in output and "give their --lang" in output
    output = run(path, tmp_path, "-f", "offsets", "--align", "expand", "--lang", "zh")
    assert "--align has moved" not in output


CUTTER = """
from spacy import registry
from spacy.tokens import Doc

class Cutter:
    def __init__(self, vocab):
        self.vocab = vocab

    def initialize(self, get_examples, nlp, word):
        self.word = word

    def __call__(self, text):
        before, _, after = text.partition(self.word)
        words = [part for part in (before, self.word, after) if part]
        return Doc(self.vocab, words=words, spaces=[False] * len(words))

@registry.tokenizers("test.Cutter.v1")
def make_cutter():
    return lambda nlp: Cutter(nlp.vocab)
"""
CUTTER_CONFIG = """
[nlp]
lang = "en"
pipeline = ["ner"]
tokenizer = {"@tokenizers": "test.Cutter.v1"}

[components]

[components.ner]
factory = "no_such_factory"

[initialize]

[initialize.tokenizer]
word = "Tarvik"
"""


def test_the_tokenizer_of_a_config(tmp_path: Path) -> None:
    """It is initialized as in training, and no component is made."""
    path, code, config = (tmp_path / name for name in ("a.jsonl", "code.py", "my.cfg"))
    path.write_text(TEXT)
    code.write_text(CUTTER)
    config.write_text(CUTTER_CONFIG)
    output = run(path, tmp_path, "-f", "offsets", "--config", config, "--code", code)
    assert f"1 of 2 (50.0 %) entities do not align with the tokenizer of {config};" in output
    assert entities(tmp_path / "a.spacy") == [("Tarvik", "LOC")]
    config.write_text(
        '[nlp]\nlang = "vi"\ntokenizer = {"@tokenizers": "spacy.vi.VietnameseTokenizer", "use_pyvi": false}'
    )
    run(path, tmp_path, "-f", "offsets", "--config", config)
    assert entities(tmp_path / "a.spacy") == [("Anna", "PER")]


def test_the_tokenizer_of_a_pipeline(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(TEXT)
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    nlp.tokenizer.add_special_case("Tarviknow", [{"ORTH": "Tarvik"}, {"ORTH": "now"}])
    nlp.to_disk(tmp_path / "model")
    run(path, tmp_path, "-f", "offsets", "--config", tmp_path / "model")
    assert entities(tmp_path / "a.spacy") == [("Anna", "PER"), ("Tarvik", "LOC")]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", ["--lang", "en"], "Give --lang or --config, not both"),
        ("[nlp]\n", [], "Cannot make the tokenizer of"),
        ('[nlp]\nlang = "yy"\n', [], "Can't import language yy"),
        ('[nlp]\nlang = "en"\ntokenizer = {"@tokenizers": "none"}\n', [], "Could not find function 'none'"),
        ('[nlp]\nlang = "en"\ntokenizer = 1\n', [], "tokenizer"),
        (None, [], "is not a pipeline"),
    ],
)
def test_a_config_without_a_tokenizer(
    source: Path, tmp_path: Path, content: str, options: list[str], message: str
) -> None:
    config = tmp_path
    if content is not None:
        config = tmp_path / "my.cfg"
        config.write_text(content)
    assert message in run(source, tmp_path / "out", "--config", config, *options, code=1)


def test_misc_key_is_passed_on(tmp_path: Path) -> None:
    path = tmp_path / "a.conllu"
    path.write_text("1\tAnna\t_\t_\t_\t_\t_\t_\t_\tEnt=B-PER\n\n")
    assert "No entity was read" in run(path, tmp_path, "-f", "conllu")
    run(path, tmp_path, "-f", "conllu", "--misc-key", "Ent")
    assert entities(tmp_path / "a.spacy") == [("Anna", "PER")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-f", "conllu", "--column", "1"], "--column is for the format conll, not for conllu"),
        (["-f", "conll", "--misc-key", "NE"], "--misc-key is for the format conllu"),
        (["-f", "conll", "--fields", "id"], "--fields is for the format label-studio or argilla or"),
        (["-f", "conll", "--fields", "id,document"], "--fields is for the format label-studio or argilla or"),
        (["-f", "csv", "--fields", "document"], "--fields is for the format label-studio or argilla or"),
        (["-f", "conll", "--align", "expand"], "--align is for the format conllu or brat or label-studio"),
        (["-f", "offsets", "--align", "middle"], "align is 'middle'; it must be one of strict, contract, expand"),
        (["-f", "conll", "--on-error", "ignore"], "on_error is 'ignore'"),
        (["-f", "conll", "--n-sents", "0"], "n_sents is 0"),
        (["-f", "conll", "--split", "2"], "must be between 0 and 1"),
        (["-f", "conll", "--documents", "--split", "0.5"], "1 docs in 1 groups are too few for 2 parts"),
        (["-f", "conll", "--column", "7"], "no tag column 7"),
        (["-f", "conll", "--test", "0.5"], "--test is for --split"),
        (["-f", "conll", "--split", "0.5", "--test", "0.5"], "is 0.5 and 0.5; each share and their sum must be"),
        (["-f", "conll", "--split", "0.2", "--test", "0.2", "--name", "test"], "test.spacy is the name of a part"),
        (["-f", "conll", "--documents", "--split", "0.5", "--test", "0.1"], "are too few for 3 parts"),
    ],
)
def test_wrong_options(source: Path, tmp_path: Path, options: list[str], message: str) -> None:
    assert message in run(source, tmp_path / "out", *options, code=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["../x", "../../x", "/tmp/x", "sub/x", "..\\x", "x" * 300, "x\0y"])
def test_a_name_cannot_leave_the_folder(source: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    run(source, tmp_path / "in", "-f", "conll", "--name", name, code=1)
    assert sorted(tmp_path.rglob("*")) == before
    assert not Path("/tmp/x.spacy").exists()


@pytest.mark.parametrize(
    ("record", "kept"),
    [
        ({"id": 7, "src": "x", "entities": []}, {"id": 7, "src": "x"}),
        ({"spans": [], "_input_hash": 1, "answer": "accept", "meta": {"id": "d-7", "score": 0.5}}, {"id": "d-7"}),
        ({"label": [], "id": 3, "src": {"url": ["x"]}, "Comments": []}, {"id": 3, "src": {"url": ["x"]}}),
        (
            {"fields": {"src": "x"}, "id": "r1", "metadata": {"id": 8}, "responses": {"q": [{"value": []}]}},
            {"id": "r1", "src": "x"},
        ),
        (
            {"data": {"text": "Anna left.", "id": "d-7"}, "id": 3, "src": "x", "annotations": [{"result": []}]},
            {"id": "d-7", "src": "x"},
        ),
        ({"id": 3, "annotator": 1, "annotation_id": 2, "src": "x"}, {"id": 3, "src": "x"}),
    ],
    ids=["offsets", "prodigy", "doccano", "argilla", "label-studio", "label-studio-min"],
)
def test_fields_of_records_are_kept(tmp_path: Path, record: dict[str, Any], kept: dict[str, Any]) -> None:
    """A document can be mapped to its record after it was annotated.

    The record's own key comes before that of meta, but not before that of the data of a task.
    """
    text = {} if {"fields", "data"} & record.keys() else {"text": "Anna left."}
    (tmp_path / "a.jsonl").write_text(json.dumps({**text, **record}) + "\n")
    output = run(tmp_path / "a.jsonl", tmp_path, "--fields", "id, src,other")
    [doc] = load_docs(tmp_path / "a.spacy")
    assert json.loads(json.dumps(get_fields(doc))) == kept and "documents with the field id 1" in output
    for name in ("id", "src", "other"):
        assert (f"No document that was read has the field {name} of --fields" in output) == (name not in kept)
    if "meta" in record:
        assert "meta.score (1)" in output
    run(tmp_path / "a.jsonl", tmp_path, "--name", "b")
    assert not get_fields(load_docs(tmp_path / "b.spacy")[0])


MARKED = "".join(f"-DOCSTART- -X- O\n\n{name} B-PER\n\nleft O\n\n" for name in ("Anna", "Tom"))
SPANS = [{"tokens": [word], "spans": [], "doc": doc} for word, doc in (("Anna", "a1"), ("left", "a1"), ("Tom", 2))]
TASKS = [
    {"text": "Anna left.", "_input_hash": 1, "spans": [], "answer": "accept", "_annotator_id": name}
    for name in ("eva", "ben")
]


@pytest.mark.parametrize(
    ("name", "content", "options", "documents"),
    [
        ("a.conll", MARKED, [], ["a.conll:1", "a.conll:1", "a.conll:2", "a.conll:2"]),
        ("a.conll", MARKED, ["--documents"], ["a.conll:1", "a.conll:2"]),
        ("a.jsonl", "".join(json.dumps(row) + "\n" for row in SPANS), [], ["a1", "a1", "a.jsonl:2"]),
        ("a.jsonl", TEXT + TEXT.replace('"text"', '"document": "own", "text"'), [], ["a.jsonl:1", "own"]),
        # Two annotations of a text.
        (
            "a.jsonl",
            "".join(json.dumps(row) + "\n" for row in TASKS),
            ["--annotators", "all"],
            ["a.jsonl:1", "a.jsonl:1"],
        ),
    ],
    ids=["conll", "documents", "spans", "offsets", "prodigy"],
)
def test_the_source_document_is_kept(tmp_path: Path, name: str, content: str, options: Any, documents: Any) -> None:
    path = tmp_path / "in" / name
    path.parent.mkdir()
    path.write_text(content)
    output = run(path, tmp_path, *options, "--fields", "document")
    docs = load_docs(tmp_path / "a.spacy")
    assert [doc.user_data["document"] for doc in docs] == documents
    assert "documents with the field document" in output
    assert ("all 2 docs are of one source document, a.jsonl:1" in output) == (len({*documents}) == 1)
    assert "No document that was read has the field" not in output
    run(path, tmp_path, *options)
    assert not any("document" in doc.user_data for doc in load_docs(tmp_path / "a.spacy"))


def test_source_documents_that_are_files(tmp_path: Path) -> None:
    for name in ("a", "sub/a"):
        path = tmp_path / "brat" / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"Anna {name}")
        path.with_suffix(".ann").write_text("")
    run(tmp_path / "brat", tmp_path, "--fields", "document")
    names = [doc.user_data["document"] for doc in load_docs(tmp_path / "brat.spacy")]
    assert names == ["brat/a.ann:1", "brat/sub/a.ann:1"]


@pytest.mark.parametrize("value", [2**70, {"numbers": [2**70]}])
def test_a_field_that_cannot_be_stored(tmp_path: Path, value: Any) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "Anna", "entities": [], "id": value}) + "\n")
    output = run(tmp_path / "a.jsonl", tmp_path, "--fields", "id", code=1)
    assert "a.jsonl:1: the field id cannot be stored in a .spacy file" in output


def test_dates_are_kept_as_text() -> None:
    assert select_fields({"at": datetime(2024, 5, 1, 12)}, ["at"]) == {"at": "2024-05-01T12:00:00"}


def test_the_format_is_found_out_and_said(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text(COLUMNS)
    (tmp_path / "b.jsonl").write_text(TEXT)
    output = run(tmp_path / "a.conll", tmp_path / "b.jsonl", tmp_path)
    assert "a.conll: format conll (columns with a token and a tag on each line)" in output
    assert "b.jsonl: format offsets (JSON with texts and character offsets)" in output
    assert entities(tmp_path / "b.spacy") == [("Anna", "PER")]
    (tmp_path / "c.txt").write_text("Anna left Tarvik\n")
    output = run(tmp_path / "c.txt", tmp_path / "out", code=1)
    assert "c.txt looks like columns, 3 on most lines; the nearest format is conll" in output


def test_an_error_names_the_format_that_the_file_looks_like(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"tokens": ["Anna", "left"], "spans": [[0, 1, "PER"]]}\n')
    hint = "The file looks like the format spans (JSON with tokens and spans)"
    assert hint in run(path, tmp_path, "-f", "offsets", code=1)
    assert hint in run(path, tmp_path, "-f", "offsets", "--on-error", "skip", code=1)
    path.write_text('{"tokens": ["Anna", "left"], "spans": [[0, 5, "PER"]]}\n')
    assert "looks like" not in run(path, tmp_path, "-f", "spans", code=1)
    path.write_text("?\n")
    assert "looks like" not in run(path, tmp_path, "-f", "spans", code=1)


def test_the_help_names_all_formats() -> None:
    names = {word.strip(",.;:()") for word in FORMAT_HELP.split()}
    assert {AUTO, *FORMATS} <= names


def test_a_label_to_keep_that_no_entity_has(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "Anna left", "entities": [[0, 4, "PER"]]}\n')
    output = run(tmp_path / "a.jsonl", tmp_path / "out", "--labels", "PRE")
    assert "No entity was read: none has a label of --labels PRE" in output
    assert "that was read has the label" not in output


def test_names_of_labels_that_no_input_has_are_named_once(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(TEXT.replace("know", "") * 2)
    (tmp_path / "b.jsonl").write_text('{"text": "Moss", "entities": [[0, 4, "ORG"]]}\n')
    output = run(tmp_path / "a.jsonl", tmp_path / "b.jsonl", tmp_path, "--labels", "PER,LCO,ORG")
    assert "labels that are not in --labels LOC (2)" in output
    assert output.count("No entity that was read has the label LCO of --labels") == 1
    assert "label PER of" not in output and "label ORG of" not in output
    assert "that was read has the label" not in run(tmp_path / "a.jsonl", tmp_path, "--labels", "PER,LOC")


def test_labels_are_renamed_before_others_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(TEXT.replace("now", "").replace("PER", "PERSON ") * 2)
    (tmp_path / "b.conll").write_text(COLUMNS)
    names = "PERSON = PER,LOC=PER,PRE=PER"
    output = run(tmp_path / "a.jsonl", tmp_path / "b.conll", tmp_path, "--rename", names, "--labels", "PER,LOC")
    assert "labels that --rename has renamed PERSON (2), LOC (2)" in output
    assert "repaired: white space at the ends of a label, trimmed 2 " in output
    assert output.count("No entity or relation that was read has the label PRE of --rename") == 1
    assert "No entity that was read has the label LOC of --labels" in output and "PERSON of" not in output
    assert entities(tmp_path / "a.spacy") == [("Anna", "PER"), ("Tarvik", "PER")] * 2
    assert entities(tmp_path / "b.spacy") == [("Anna", "PER"), ("Tarvik", "PER")]
    output = run(tmp_path / "b.conll", tmp_path, "--rename", "PER=LOC,LOC=PER")
    assert entities(tmp_path / "b.spacy") == [("Anna", "LOC"), ("Tarvik", "PER")] and "of --rename" not in output


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("PER", "--rename PER: give OLD=NEW"),
        ("PER=", "--rename PER=: give OLD=NEW"),
        ("=PER", "--rename =PER: give OLD=NEW"),
        ("A=B=C", "--rename A=B=C: give OLD=NEW"),
        ("A=O", "--rename A=O: O is not a label"),
        ("A=B,A=C", "--rename gives A two new names, B and C"),
    ],
)
def test_new_names_that_cannot_be_read(source: Path, tmp_path: Path, value: str, reason: str) -> None:
    assert reason in run(source, tmp_path / "out", "--rename", value, code=1)


def test_labels_that_differ_only_in_case_or_white_space_get_a_warning(tmp_path: Path) -> None:
    labels = ["PER", "per", "PER", "Per", "BIG TOWN", "BIG  Town", "LOC"]
    lines = [{"text": "Anna", "entities": [[0, 4, label]], "relations": []} for label in labels]
    lines[0]["relations"] = [[0, 0, "loc"]]
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path, part in zip(paths, (lines[:3], lines[3:]), strict=True):
        path.write_text("".join(json.dumps(line) + "\n" for line in part))
    output = run(*paths, tmp_path)
    assert "entities that differ only in case or white space are different labels for training: PER (2), Per" in output
    assert "PER (2), Per (1), per (1); BIG Town (1), BIG TOWN (1)" in output
    assert "--rename 'Per=PER,per=PER,BIG TOWN=BIG Town'" in output and "Labels of relations" not in output
    assert "differ only" not in run(*paths, tmp_path, "--rename", "Per=PER,per=PER,BIG TOWN=BIG  Town")
    paths[0].write_text(
        "".join(json.dumps({**lines[0], "entities": [[0, 4, label]]}) + "\n" for label in ("A=b", "A=B"))
    )
    assert "--rename cannot name labels with , or =" in run(paths[0], tmp_path)


def test_a_folder_of_brat_and_labels_to_keep(tmp_path: Path) -> None:
    folder = tmp_path / "my.texts"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.txt").write_text("Anna left Tarvik.")
        (folder / f"{name}.ann").write_text("T1\tPER 0 4\tAnna\nT2\tLOC 10 16\tTarvik\n")
    output = run(folder, tmp_path, "--labels", "PER, ORG", "--name", "brat")
    assert "format brat (brat: a folder of .txt and .ann)" in output and "not in --labels 2" in output
    assert entities(tmp_path / "brat.spacy") == [("Anna", "PER")] * 2
    assert "--n-sents and --documents are not for brat" in run(folder, tmp_path, "--documents", code=1)


# Files


def test_full_disk(source: Path, tmp_path: Path) -> None:
    """A limit of the size of files makes writing fail as on a full disk."""
    (tmp_path / "a.spacy").write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        output = run(source, tmp_path, "-f", "conll", code=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "Cannot convert" in output and "File too large" in output
    assert (tmp_path / "a.spacy").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.conll", "a.spacy"]


def test_files_that_are_replaced_are_named(source: Path, tmp_path: Path) -> None:
    """The development part of another source would be lost without a word."""
    output = run(source, tmp_path / "out", "--split", "0.2", "--name", "train")
    assert "will be replaced" not in output
    output = run(source, tmp_path / "out", "--split", "0.5", "--name", "more")
    assert f"{tmp_path / 'out' / 'dev.spacy'} exists and will be replaced (20 docs)" in output
    assert output.count("will be replaced") == 1 and len(load_docs(tmp_path / "out" / "dev.spacy")) == 50
    (tmp_path / "out" / "more.spacy").write_text("old")
    assert "more.spacy exists and will be replaced (3 bytes)" in run(source, tmp_path / "out", "--name", "more")


def test_both_parts_of_a_split_are_written_or_none(source: Path, tmp_path: Path) -> None:
    (tmp_path / "a.spacy").write_text("old")
    (tmp_path / "dev.spacy").mkdir()
    output = run(source, tmp_path, "-f", "conll", "--split", "0.5", code=1)
    assert "folder instead of a file" in output and "dev.spacy" in output
    assert (tmp_path / "a.spacy").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.conll", "a.spacy", "dev.spacy"]


def test_all_annotations_of_a_text_are_in_the_same_part_of_a_split(tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"
    lines = [{"id": i, "text": f"Anna left {i}.", "label": [[0, 4, by]]} for i in range(20) for by in ("A", "B", "C")]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run(path, tmp_path, "--annotators", "all", "--split", "0.2", "--name", "train")
    train, dev = ([doc.text for doc in load_docs(tmp_path / f"{part}.spacy")] for part in ("train", "dev"))
    assert len(train) == 48 and len(dev) == 12 and not set(train) & set(dev)
    path.write_text("".join(json.dumps({**line, "text": "Anna"}) + "\n" for line in lines))
    assert "in 1 groups are too few for 2 parts" in run(path, tmp_path, "--split", "0.2", "--name", "train", code=1)


def parts_of(folder: Path) -> tuple[list[str], list[str]]:
    train, dev = ([doc.text.strip() for doc in load_docs(folder / f"{part}.spacy")] for part in ("train", "dev"))
    return train, dev


def row(word: str, last: str = "_") -> str:
    return "\t".join(["1", word, *"_______", last]) + "\n\n"


def in_json(word: str, **more: Any) -> str:
    return json.dumps({"tokens": [word], "spans": [], **more}) + "\n"


DOCUMENTS: dict[str, Any] = {
    "conll": lambda d, words: "-DOCSTART- O\n\n" + "".join(f"{word} O\n\n" for word in words),
    "conllu": lambda d, words: f"# newdoc id = {d}\n" + "".join(map(row, words)),
    "spans": lambda d, words: "".join(in_json(word, doc=d) for word in words),
    "tacred": lambda d, words: "".join(
        json.dumps(
            {"token": [word], "docid": f"d{d}", "relation": "no_relation"}
            | {f"{who}_{key}": value for who in ("subj", "obj") for key, value in (("start", 0), ("end", 0))}
            | {"subj_type": "PER", "obj_type": "ORG"}
        )
        + "\n"
        for word in words
    ),
    "spacy-v2-json": lambda d, words: (
        json.dumps({"paragraphs": [{"sentences": [{"tokens": [{"orth": word, "ner": "O"}]}]} for word in words]}) + "\n"
    ),
    "label-studio": lambda d, words: (
        json.dumps(
            {
                "data": {f"t{i}": word for i, word in enumerate(words)},
                "annotations": [
                    {
                        "result": [
                            {
                                "type": "labels",
                                "to_name": f"t{i}",
                                "value": {"start": 0, "end": 1, "text": "w"} | LABELS,
                            }
                            for i in range(len(words))
                        ]
                    }
                ],
            }
        )
        + "\n"
    ),
}
LABELS = {"labels": ["A"]}


@pytest.mark.parametrize(
    ("format", "options"),
    [
        *((format, []) for format in DOCUMENTS),
        *((format, ["--n-sents", "2"]) for format in ("conll", "conllu", "spans")),
    ],
)
def test_a_split_does_not_divide_documents(tmp_path: Path, format: str, options: list[str]) -> None:
    """The words w3.0 to w3.4 are the sentences of document 3."""
    path = tmp_path / "a"
    path.write_text("".join(DOCUMENTS[format](d, [f"w{d}.{i}" for i in range(5)]) for d in range(20)))
    output = run(path, tmp_path, "-f", format, "--split", "0.2", "--name", "train", *options)
    train, dev = ({word.split(".")[0] for text in part for word in text.split()} for part in parts_of(tmp_path))
    assert len(train) == 16 and len(dev) == 4 and not train & dev
    assert "asks for" not in output


def test_three_parts(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("".join(DOCUMENTS["conll"](d, [f"w{d}.{i}" for i in range(5)]) for d in range(20)))
    output = run(path, tmp_path, "-f", "conll", "--split", "0.2", "--test", "0.1", "--name", "train")
    parts = [load_docs(tmp_path / f"{part}.spacy") for part in ("train", "dev", "test")]
    documents = [{doc.text.split(".")[0] for doc in docs} for docs in parts]
    assert [len(part) for part in documents] == [14, 4, 2] and len(set.union(*documents)) == 20
    assert "asks for" not in output
    output = run(path, tmp_path, "-f", "conll", "--split", "0.2", "--test", "0.01", "--name", "train")
    assert "test.spacy has 5 of 100 docs (5.0 %), --test 0.01 asks for 1" in output


def test_lines_of_a_document_need_not_be_consecutive(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("".join(in_json(f"w{d}.{i}", doc=d) for i in range(5) for d in range(20)))
    run(tmp_path / "a", tmp_path, "-f", "spans", "--split", "0.2", "--name", "train")
    train, dev = ({text.split(".")[0] for text in part} for part in parts_of(tmp_path))
    assert len(train) == 16 and len(dev) == 4 and not train & dev


@pytest.mark.parametrize("first", ["", "-DOCSTART- O\n\n"])
def test_the_sentences_of_a_single_document_are_divided(tmp_path: Path, first: str) -> None:
    (tmp_path / "a").write_text(first + "".join(f"{i} O\n\n" for i in range(50)))
    run(tmp_path / "a", tmp_path, "-f", "conll", "--split", "0.2", "--seed", "1", "--name", "train")
    assert parts_of(tmp_path)[1] == ["27", "29", "30", "33", "35", "38", "39", "42", "44", "49"]


def test_documents_with_a_common_sentence_are_in_the_same_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Document 0 shares a sentence with 1, and 1 with 2. The chain of 15 sentences is larger than the dev part.

    Short sentences, such as datelines, do not count.
    """
    documents = [[f"w{d}.{i}" for i in range(3)] + [f"s{d}"] * (d < 3) for d in range(10)]
    documents[1].append("s0")
    documents[2].append("s1")
    (tmp_path / "a").write_text("".join(DOCUMENTS["conll"](None, words) for words in documents))
    assert "asks for" not in run(tmp_path / "a", tmp_path, "-f", "conll", "--split", "0.3", "--name", "train")
    monkeypatch.setattr("spacy_ner_arch.formats.docbins.LONG_TEXT", 1)
    for seed in range(5):
        output = run(tmp_path / "a", tmp_path, "-f", "conll", "--split", "0.3", "--seed", seed, "--name", "train")
        train, dev = ({text.split(".")[0] for text in part} for part in parts_of(tmp_path))
        assert not train & dev and {"w0", "w1", "w2"} <= train
    assert "there are 8 groups, the largest with 14 docs" in output
    (tmp_path / "a").write_text("".join(DOCUMENTS["conll"](None, words) for words in documents[:3]))
    output = run(tmp_path / "a", tmp_path, "-f", "conll", "--split", "0.3", "--name", "train", code=1)
    assert "in 1 groups are too few for 2 parts" in output and "leave out --split" in output


def test_a_split_of_two_documents_leaves_no_part_empty(tmp_path: Path) -> None:
    documents = [[f"a{i}" for i in range(30)], [f"b{i}" for i in range(20)]]
    (tmp_path / "a").write_text("".join(DOCUMENTS["conll"](None, words) for words in documents))
    output = run(tmp_path / "a", tmp_path, "-f", "conll", "--split", "0.2", "--name", "train")
    assert parts_of(tmp_path) == (documents[0], documents[1])
    assert "dev.spacy has 20 of 50 docs (40.0 %), --split 0.2 asks for 10" in output
    assert "there are 2 groups, the largest with 30 docs" in output


PER = {"start": 0, "end": 4, "label": "PER"}
# Two annotations of a text in each tool, by ada and by an annotator without a name.
BY_TWO: dict[str, list[Any]] = {
    "label-studio": [
        {
            "data": {"text": "Anna left.", "annotator": "of record"},
            "annotations": [{"result": [], "completed_by": {"email": "ada"}}, {"result": []}],
        }
    ],
    "prodigy": [
        {"text": "Anna left.", "spans": [PER], "answer": "accept", "_input_hash": 1, "_session_id": by}
        | {"meta": {"annotator": "of record"}}
        for by in ("ada", "2024-05-01_10-00-00")
    ],
    "argilla": [
        {
            "fields": {"text": "Anna left.", "annotator": "of record"},
            "metadata": {"annotator": "of record"},
            "responses": {"q": [{"value": [PER], "user_id": "ada"}, {"value": []}]},
        }
    ],
    "doccano": [
        {"id": 1, "text": "Anna left.", "label": [[0, 4, "PER"]], "annotator": "ada"},
        {"id": 1, "text": "Anna left.", "label": [[0, 4, "PER"]]},
    ],
}


@pytest.mark.parametrize("format", BY_TWO)
def test_all_annotations_keep_the_names_of_the_annotators(tmp_path: Path, format: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in BY_TWO[format]))
    if format == "argilla":
        settings = {"questions": [{"name": "q", "settings": {"type": "span", "field": "text"}}]}
        (tmp_path / ".argilla").mkdir()
        (tmp_path / ".argilla" / "settings.json").write_text(json.dumps(settings))

    def kept(*options: object) -> list[dict[str, Any]]:
        run(path, tmp_path, "-f", format, *options)
        return [get_fields(doc) for doc in load_docs(tmp_path / "a.spacy")]

    assert kept("--annotators", "all") == [{"annotator": "ada"}, {}]
    assert kept() == kept("--annotators", "merge") == [{}]
    if format != "doccano":  # has no other field of that name
        field = {"annotator": "of record"}
        assert kept("--annotators", "all", "--fields", "annotator") == [field, field]


@pytest.mark.parametrize("format", ["label-studio", "prodigy", "doccano"])
def test_the_annotator_of_an_exported_text_is_a_field_of_it(tmp_path: Path, format: str) -> None:
    """It is not taken for the annotator of the exported task, or for its text."""
    source, path = tmp_path / "a.jsonl", tmp_path / "tasks"
    source.write_text("".join(json.dumps(record) + "\n" for record in BY_TWO["prodigy"]))
    run(source, tmp_path, "--annotators", "all")
    run_in_line("export-data", tmp_path / "a.spacy", path, "--format", format)
    name = "annotator" if format == "prodigy" else "input_annotator"
    run(path, tmp_path, "-f", format, "--annotators", "all", "--fields", name)
    docs = load_docs(tmp_path / "tasks.spacy")
    assert [get_fields(doc) for doc in docs] == [{name: "ada"}, {}]
    assert entities(tmp_path / "tasks.spacy") == [("Anna", "PER")] * 2


def of_patients(path: Path, patients: list[Any], **more: Any) -> Path:
    """Two texts of each patient, which name the patient; without a field for None."""
    records = [
        {"text": f"{name} {i}", "entities": [], **({} if name is None else {"meta": {"patient": name}}), **more}
        for i in range(2)
        for name in patients
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_split_by_a_field_does_not_divide_its_values(tmp_path: Path) -> None:
    path = of_patients(tmp_path / "a", [f"p{d}" for d in range(20)])
    for seed in range(3):
        options = ["-f", "offsets", "--split", "0.2", "--name", "train", "--seed", seed, "--split-by", "patient"]
        assert "asks for" not in run(path, tmp_path, *options, "--fields", "other")
        train, dev = ({text.split()[0] for text in part} for part in parts_of(tmp_path))
        assert len(train) == 16 and len(dev) == 4 and not train & dev
    for doc in load_docs(tmp_path / "dev.spacy"):
        assert get_fields(doc) == {"patient": doc[0].text}


def test_values_with_a_common_text_are_in_the_same_part(tmp_path: Path) -> None:
    """The texts of 1, 2 and [3] are those of other values; records without the field have texts of their own."""
    path = of_patients(tmp_path / "a", ["a", "b", "c", 1, 2, [3], None])
    lines = path.read_text().splitlines()
    chain = [{"text": "a 0", "entities": [], "patient": "b"}, {"text": "b 0", "entities": [], "patient": "c"}]
    path.write_text("\n".join([*lines, *map(json.dumps, chain)]))
    for seed in range(5):
        options = ["-f", "offsets", "--split", "0.3", "--name", "train", "--seed", seed, "--split-by", "patient"]
        output = run(path, tmp_path, *options)
        train, dev = ({text.split()[0] for text in part} - {"None"} for part in parts_of(tmp_path))
        assert not train & dev and {"a", "b", "c"} <= train
        assert "Docs of the same document, patient or text" in output
        # The chain of a, b and c, the three other values, and two records without the field.
        assert "there are 6 groups, the largest with 8 docs" in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-f", "offsets", "--split-by", "patient"], "--split-by is for --split"),
        (
            ["-f", "offsets", "--split", "0.5", "--split-by", "age"],
            "field age of --split-by; keys that are not read: meta",
        ),
        (["-f", "offsets", "--split", "0.5", "--split-by", "none"], "no record has the field none"),
        (["-f", "offsets", "--split", "0.5", "--split-by", "one"], "in 1 groups are too few for 2 parts"),
        (["-f", "conll", "--split", "0.5", "--split-by", "patient"], "--split-by is for the format label-studio or"),
    ],
)
def test_wrong_split_by(tmp_path: Path, options: list[str], message: str) -> None:
    path = of_patients(tmp_path / "a", ["p", "q"], none=None, one=1)
    assert message in run(path, tmp_path / "out", "--name", "train", *options, code=1)
    assert not (tmp_path / "out").exists()


def test_the_source_documents_are_not_stored(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("".join(DOCUMENTS["spans"](d, ["x", "y"]) for d in range(2)))
    run(tmp_path / "a", tmp_path, "-f", "spans")
    assert not any(doc.user_data for doc in load_docs(tmp_path / "a.spacy"))


def test_a_file_in_the_place_of_the_folder(source: Path) -> None:
    assert "Cannot convert" in run(source, source / "sub", "-f", "conll", code=1)
    assert "is a file" in run(source, source, "-f", "conll", code=2)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    assert "Permission denied" in run(source, tmp_path / "out", "-f", "conll", code=1)


def test_read_only_file_system(source: Path) -> None:
    """The kernel refuses files in /proc also for root."""
    assert "Cannot convert" in run(source, "/proc", "-f", "conll", code=1)


@pytest.mark.parametrize("format", [AUTO, *FORMATS])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xef\xbb\xbf",
        b"\xff\xfe\x00A",
        b"\x00" * 99,
        b"[" * 99_999,
        b"{" * 99_999,
        b'{"a":' * 99_999,
        b"[" * 99_999 + b"]" * 99_999,
        b'[{"tokens":' + b"[" * 990 + b"]" * 990 + b"}]",
        b'{"tokens":' + b"[" * 990 + b"]" * 990 + b', "spans": [], "text": ""}',
        "Anna B-PER\r\n".encode("utf-16"),
    ],
    ids=range(11),
)
def test_no_content_ends_in_a_traceback(tmp_path: Path, format: str, content: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    # Deep in the recursion of nested content, finalizers and callbacks of the collector would fail.
    gc.disable()
    try:
        output = run(path, tmp_path / "out", "-f", format, code=1)
    finally:
        gc.enable()
    assert "Cannot convert" in output and not (tmp_path / "out").exists()


def test_input_that_is_a_folder_or_missing(tmp_path: Path) -> None:
    assert "is a folder; give its files" in run(tmp_path, tmp_path / "out", "-f", "conll", code=1)
    assert "looks like a folder without .ann files" in run(tmp_path, tmp_path / "out", code=1)
    assert "does not exist" in run(tmp_path / "none", tmp_path / "out", "-f", "conll", code=2)


@pytest.mark.parametrize(
    ("format", "content"), [("conll", COLUMNS), ("offsets", TEXT + TEXT.replace("Anna", "Åsa\U0001f600"))]
)
def test_byte_order_marks_and_line_ends_do_not_matter(tmp_path: Path, format: str, content: str) -> None:
    """Files that were joined have byte order marks in the middle."""
    (tmp_path / "a").write_text(content * 2, encoding="utf-8")
    joined = content.replace("\n", "\r\n").encode("utf-8-sig") * 2
    (tmp_path / "b").write_bytes(joined)
    run(tmp_path / "a", tmp_path / "b", tmp_path, "-f", format)
    assert [doc.to_json() for doc in load_docs(tmp_path / "a.spacy")] == [
        doc.to_json() for doc in load_docs(tmp_path / "b.spacy")
    ]


def test_a_terminal_that_cannot_show_the_corpus(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(TEXT.replace("Tarvik", "Tårvik"), encoding="utf-8")
    assert r"'T\xe5rvik' LOC ends inside" in run(path, tmp_path, "-f", "offsets", charset="ascii")
