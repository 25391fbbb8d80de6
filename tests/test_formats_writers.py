"""Tests of `ner-arch export-data`: round trips, what is lost, and predictions for review."""

import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

import pytest
import spacy
from conftest import run_in_line
from hypothesis import example, given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc, Span

from spacy_ner_arch.annotation.relations import has_relations
from spacy_ner_arch.annotation.scores import set_score
from spacy_ner_arch.cli.export_data import FORMAT_HELP
from spacy_ner_arch.formats import WRITERS, ReadReport, detect_format, read_docs, write_docbin, write_docs
from spacy_ner_arch.formats.counts import MISALIGNED
from spacy_ner_arch.formats.spans import DUPLICATE
from spacy_ner_arch.formats.texts import EMPTY, NO_ENTITY
from spacy_ner_arch.formats.writers import CONTRADICTION, brat, conll, layers

NLP = spacy.blank("en")
# The format in which a written file is read again.
READERS = {name: name for name in WRITERS} | {"json": "spacy-json"}
TEXT_FORMATS = ["label-studio", "doccano", "prodigy", "brat"]


def run(*args: object, **options: Any) -> str:
    return run_in_line("export-data", *args, **options)


def write(docs: list[Doc], path: Path, format: str, **options: Any) -> ReadReport:
    report = ReadReport()
    write_docs(docs, path, format, report, **options)
    return report


def read(path: Path, format: str) -> tuple[list[Doc], ReadReport]:
    report = ReadReport()
    return list(read_docs(path, NLP.vocab, READERS[format], report, tokenizer=NLP.tokenizer)), report


def rows(spans: Any) -> list[tuple[int, int, str]]:
    return sorted((span.start, span.end, span.label_) for span in spans)


def relations_of(doc: Doc) -> list[tuple[int, str, int]]:
    return [(relation.head.start, relation.label, relation.tail.start) for relation in doc._.relations]


@pytest.mark.parametrize("format", WRITERS)
def test_long_documents_take_linear_time(format, tmp_path):
    doc = Doc(NLP.vocab, words=[f"w{i}" for i in range(6_000)])
    doc.ents = [Span(doc, i, i + 1, label="PER") for i in range(len(doc))]
    start = time.process_time()
    write([doc], tmp_path / "written", format)
    # Less than half a second on an idle machine.
    assert time.process_time() - start < 6


@pytest.mark.parametrize("format", WRITERS)
def test_empty_documents_lose_nothing_and_can_be_read_again(format, tmp_path):
    doc = Doc(NLP.vocab, words=["Anna", "left"], spaces=[True, False])
    doc.set_ents([Span(doc, 0, 1, label="PER")], default="outside")
    doc._.relations = []
    alone, both = (write(docs, tmp_path / f"{len(docs)}", format) for docs in ([doc], [Doc(NLP.vocab), doc]))
    left_out = {EMPTY: 1} if format == "spert" else {}
    assert both.notes - alone.notes == left_out
    [found], _ = read(tmp_path / "2", format)
    assert rows(found.ents) == rows(doc.ents)


def nested_doc() -> Doc:
    """Overlapping spans and relations; an emoji, a name over two lines, and white space that spaCy makes tokens of."""
    doc = NLP("\U0001f600 Anna\nBrandt of the Guild of Tarn left  \r\n Tarvik \U0001f1f3\U0001f1f4.")
    spans = [
        doc.char_span(doc.text.index(text), doc.text.index(text) + len(text), label=label)
        for text, label in (
            ("Anna\nBrandt", "PER"),
            ("Guild of Tarn", "ORG"),
            ("Tarn", "LOC"),
            ("Tarvik", "LOC"),
            ("\U0001f1f3\U0001f1f4", "X"),
        )
    ]
    assert None not in spans
    doc.set_ents([spans[i] for i in (0, 1, 3, 4)], default="outside")
    doc.spans["sc"] = spans
    doc._.relations = [(spans[0], spans[1], "member of"), (spans[3], spans[2], "near"), (spans[0], spans[0], "self")]
    return doc


def plain_doc(text: str = "Nothing happened.") -> Doc:
    doc = NLP(text)
    doc.set_ents([], default="outside")
    doc.spans["sc"] = []
    doc._.relations = []
    return doc


@pytest.mark.parametrize("format", [*TEXT_FORMATS, "spert", "json"])
def test_round_trip(tmp_path: Path, format: str) -> None:
    """A round trip gives the same texts, spans, entities and relations, and says that it loses nothing of these."""
    gold = [nested_doc(), plain_doc(), plain_doc("Quill \U0001f600")]
    report = write(gold, tmp_path / "out", format)
    kinds = {"brat": {brat.LABEL_CHANGED: 1}, "spert": {layers.SPACES: 3}}
    assert report.notes == kinds.get(format, {})
    docs, reading = read(tmp_path / "out", format)
    assert set(reading.notes) <= {NO_ENTITY}
    assert len(docs) == 3
    for doc, expected in zip(docs, gold, strict=True):
        assert doc.text.strip() == expected.text.strip() or format == "spert"
        assert [token.text for token in doc] == [token.text for token in expected]
        assert rows(doc.ents) == rows(expected.ents) and rows(doc.spans["sc"]) == rows(expected.spans["sc"])
        relations = [(head, label.replace("_", " "), tail) for head, label, tail in relations_of(doc)]
        assert sorted(relations) == sorted(relations_of(expected)) and has_relations(doc)
        assert [token.ent_iob for token in doc] == [token.ent_iob for token in expected]
    assert report.spans == reading.spans and report.entities == reading.entities
    assert detect_format(tmp_path / "out") == READERS[format]


@pytest.mark.parametrize("format", ["label-studio", "doccano", "prodigy"])
def test_fields_of_documents_are_kept(tmp_path: Path, format: str) -> None:
    gold = nested_doc()
    gold.user_data.update(
        {"id": 7, "text": gold.text, "labels": ["x"], "url": "b" * 90, "raw": b"1", "teacher_chain": 1}
    )
    report = write([gold], tmp_path / "out", format)
    assert report.notes == {layers.NOT_JSON: 1}
    assert '"url": "bbb' in (tmp_path / "out").read_text() and "teacher" not in (tmp_path / "out").read_text()
    [doc], _ = read(tmp_path / "out", format)
    assert doc.text.strip() == gold.text.strip() and rows(doc.spans["sc"]) == rows(gold.spans["sc"])
    assert detect_format(tmp_path / "out") == format


@pytest.mark.parametrize("format", ["label-studio", "doccano"])
def test_new_names_of_fields_are_free(tmp_path: Path, format: str) -> None:
    doc = plain_doc()
    doc.user_data.update({"id": "a1", "input_id": "OLD", "input_input_id": "OLDER"})
    assert not write([doc], tmp_path / "out", format).notes
    written = (tmp_path / "out").read_text()
    fields = json.loads(written)[0]["data"] if format == "label-studio" else json.loads(written)
    assert fields["input_input_input_id"] == "a1"
    assert fields["input_id"] == "OLD" and fields["input_input_id"] == "OLDER"


def test_fields_of_an_earlier_task_for_prodigy_are_kept(tmp_path: Path) -> None:
    doc = plain_doc()
    doc.user_data.update({"id": "a1", "model": "other", "meta": {"id": "m", "model": "earlier", "input_id": 1}})
    write([doc], tmp_path / "out", "prodigy", model="m")
    assert json.loads((tmp_path / "out").read_text())["meta"] == {
        "id": "a1",
        "input_input_id": "m",
        "input_id": 1,
        "model": "m",
        "input_model": "other",
        "input_input_model": "earlier",
    }


def test_predictions_keep_the_fields_of_documents(tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "PER", "pattern": "Anna"}])
    nlp.to_disk(tmp_path / "model")
    docs = [NLP("Anna left."), NLP(""), NLP("Anna stayed.")]
    for number, doc in enumerate(docs):
        doc.user_data["id"] = number
    write_docbin(docs, tmp_path / "a.spacy")
    run(tmp_path / "a.spacy", tmp_path / "out", "--format", "prodigy", "--model", tmp_path / "model")
    tasks = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert [task["meta"]["id"] for task in tasks] == [0, 1, 2]
    assert [len(task["spans"]) for task in tasks] == [1, 0, 1]


@pytest.mark.parametrize("format", ["label-studio", "doccano", "prodigy", "brat"])
def test_predictions_of_spans_alone_lose_no_entities(tmp_path: Path, format: str) -> None:
    found, nothing = NLP("Anna left Tarvik."), NLP("Nothing happened.")
    found.spans["sc"] = [Span(found, 0, 1, label="PER")]
    nothing.spans["sc"] = []
    assert not write([found, nothing], tmp_path / "predicted", format, model="m").notes
    notes = write([found, nothing], tmp_path / "gold", format).notes
    assert notes[layers.MISSING] == 6 and not notes[layers.UNLABELLED]
    assert len(read(tmp_path / "gold", format)[0]) == 2  # the empty group says that the document has no spans
    nothing.spans["sc"].attrs["scores"] = []  # as a pipeline sets them
    assert not write([nothing], tmp_path / "found", format).notes
    if format in ("label-studio", "prodigy"):
        assert not read(tmp_path / "found", format)[0]  # to be reviewed


def test_entities_are_not_counted_as_spans_too(tmp_path: Path) -> None:
    flat, nested = plain_doc(), nested_doc()
    flat.spans.clear()
    assert not write([flat], tmp_path / "flat", "prodigy").spans
    assert write([flat, nested], tmp_path / "both", "prodigy").spans.total() == len(nested.spans["sc"])


def test_round_trip_of_columns(tmp_path: Path) -> None:
    doc = Doc(NLP.vocab, words=["Anna", "Brandt", "left", "Upper", "Tarn"], sent_starts=[1, 0, 0, 1, 0])
    doc.set_ents([Span(doc, 0, 2, "PER"), Span(doc, 3, 4, "LOC")], missing=[doc[2:3]], default="outside")
    report = write([doc, plain_doc()], tmp_path / "a.conll", "conll")
    assert report.notes == {layers.SPACES: 1}
    found = ReadReport()
    docs = list(read_docs(tmp_path / "a.conll", NLP.vocab, "conll", found, documents=True))
    assert [rows(doc.ents) for doc in docs] == [[(0, 2, "PER"), (3, 4, "LOC")], []]
    assert [token.ent_iob_ for token in docs[0]] == ["B", "I", "", "B", "O"]
    assert [sent.text for sent in docs[0].sents] == ["Anna Brandt left", "Upper Tarn"] and not found.notes


def rich_doc() -> Doc:
    doc = Doc(
        NLP.vocab,
        words=["Anna", "Brandt", "left", "Upper", "Tarn", "."],
        sent_starts=[1, 0, 0, 0, 1, 0],
        tags=["T"] * 6,
    )
    upper = Span(doc, 3, 5, "LOC", kb_id="Q1")
    doc.set_ents([Span(doc, 0, 2, "PER"), upper], missing=[doc[2:3]], default="outside")
    doc.spans["sc"] = [Span(doc, 3, 4, "X"), Span(doc, 4, 6, "Y")]
    doc.spans["sc"].attrs["scores"] = [0.25, 0.5]
    doc.spans["other"] = [doc[0:1]]
    doc.cats = {"news": 1.0}
    doc._.relations = [(doc[0:2], upper, "left", 0.75), (Span(doc, 0, 2, "PER"), upper, "left", 0.75)]
    return doc


# Span Y of the group crosses an entity that is not in it.
ALWAYS = {CONTRADICTION: 1, layers.TAGS: 1, layers.GROUPS: 1, layers.LINKS: 1, layers.CATEGORIES: 1, layers.NO_LABEL: 2}
OF_TEXTS = {**ALWAYS, layers.MISSING: 1, layers.SENTENCES: 1, layers.UNKNOWN_SPACES: 1}
LOST = {
    "label-studio": OF_TEXTS,
    "doccano": {**OF_TEXTS, layers.SCORES: 3},
    "prodigy": OF_TEXTS,
    "brat": OF_TEXTS,
    "conll": {**ALWAYS, layers.SCORES: 3, layers.OVERLAPS: 2, layers.RELATIONS: 1, conll.CROSSING: 1},
    "spert": {**ALWAYS, layers.MISSING: 1, layers.SENTENCES: 1, layers.SCORES: 3},
    "json": {CONTRADICTION: 1, layers.LINKS: 1},
}


@pytest.mark.parametrize("format", WRITERS)
def test_what_a_format_loses_is_counted_with_an_example(tmp_path: Path, format: str) -> None:
    report = write([rich_doc()], tmp_path / "out", format, source="train.spacy")
    assert report.notes == LOST[format]
    for kind in report.notes:
        assert report.examples[kind][0].startswith("train.spacy:1: document 1: ")
    assert report.examples[layers.LINKS] == ["train.spacy:1: document 1: 'Upper Tarn' Q1"]
    assert set(LOST) == set(WRITERS)


def test_json_keeps_everything_that_the_reader_knows(tmp_path: Path) -> None:
    gold = rich_doc()
    write([gold], tmp_path / "a.jsonl", "json")
    [doc], report = read(tmp_path / "a.jsonl", "json")
    assert [token.ent_iob_ for token in doc] == [token.ent_iob_ for token in gold]
    assert rows(doc.ents) == rows(gold.ents) and rows(doc.spans["sc"]) == rows(gold.spans["sc"])
    assert [sent.text for sent in doc.sents] == [sent.text for sent in gold.sents]
    assert doc.has_unknown_spaces and [token.tag_ for token in doc] == ["T"] * 6
    assert relations_of(doc) == relations_of(gold)
    assert report.notes.total() == 1  # the other group of spans


def test_documents_without_annotation(tmp_path: Path) -> None:
    """Tools that know tasks without annotation get them; for others they are counted."""
    unlabelled = NLP("Nobody saw this.")
    for format in WRITERS:
        report = write([nested_doc(), unlabelled], tmp_path / format, format)
        keeps = format in ("label-studio", "prodigy", "conll", "json")
        assert (layers.UNLABELLED in report.notes) != keeps
    docs, report = read(tmp_path / "label-studio", "label-studio")
    assert len(docs) == 1
    docs, report = read(tmp_path / "prodigy", "prodigy")
    assert len(docs) == 1
    assert report.notes.total() == 1


def test_relations_that_are_not_annotated(tmp_path: Path) -> None:
    """SpERT has no way to say it: it is counted, as other documents have relations."""
    other = NLP("Anna left.")
    other.set_ents([Span(other, 0, 1, "PER")], default="outside")
    report = write([nested_doc(), other], tmp_path / "a", "spert")
    assert report.notes[layers.RELATED] == 1
    assert report.examples[layers.RELATED] == ["corpus:2: document 2: it has none"]


def test_tokens_and_labels_that_a_format_cannot_have(tmp_path: Path) -> None:
    doc = NLP("Anna\n\nleft")
    doc.set_ents([doc.char_span(0, 4, label="the person")], default="outside")
    report = write([doc], tmp_path / "a", "conll")
    assert report.notes == {conll.UNREADABLE: 1, layers.SPACES: 1}
    assert (tmp_path / "a").read_text() == "-DOCSTART-\tO\n\nAnna\tB-the person\nleft\tO\n\n"
    report = write([doc], tmp_path / "b", "brat")
    assert report.examples[brat.LABEL_CHANGED] == ["corpus:1: document 1: 'the person' to 'the_person'"]
    assert (tmp_path / "b" / "1.ann").read_text() == "T1\tthe_person 0 4\tAnna\n"
    assert (tmp_path / "b" / "annotation.conf").read_text().startswith("[entities]\nthe_person\n\n[relations]\n")


def trim_blanks(words: list[str]) -> list[str]:
    places = [i for i, word in enumerate(words) if not word.isspace()]
    return words[places[0] : places[-1] + 1] if places else []


@given(
    st.lists(st.text(st.sampled_from("ab \t\n\r\ufeff#-\u00a0\u2028"), min_size=1, max_size=4), min_size=1, max_size=6)
)
@example(["-DOCSTART-", "left"])
@example(["a", "-DOCSTART-", " -DOCSTART-x", "b"])
@example(["\ufeff", "\ufeffa", "# a", "a\ufeff"])
@settings(max_examples=200)
def test_tokens_in_columns_are_read_again_or_counted(words: list[str]) -> None:
    """Entities of two tokens, one beside the other, stay apart, also if the first token cannot be written."""
    doc = Doc(NLP.vocab, words=words)
    doc.set_ents([Span(doc, i, min(i + 2, len(doc)), "PER") for i in range(0, len(doc), 2)], default="outside")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        report = write([doc], path, "conll")
        kept = [word for word in words if conll.is_readable(word)]
        assert report.notes[conll.UNREADABLE] == len(words) - len(kept)
        docs, _ = read(path, "conll")
    assert [token.text for doc in docs for token in doc] == kept
    entities = [[token.text for token in ent if conll.is_readable(token.text)] for ent in doc.ents]
    assert report.notes[conll.NO_TOKEN] == entities.count([])
    # The reader trims white space off the ends of entities.
    read_back = [[token.text for token in ent] for doc in docs for ent in doc.ents]
    assert read_back == [trimmed for ent in entities if (trimmed := trim_blanks(ent))]


@given(st.text(st.sampled_from("aBI- \t\n\r\ufeff#\u00a0\u2028"), min_size=1, max_size=4))
@example("a\tb")
@example("a ")
def test_labels_in_columns_are_read_again_or_counted(label: str) -> None:
    doc = Doc(NLP.vocab, words=["Anna", "Vell", "left"])
    doc.set_ents([Span(doc, 0, 2, label)], default="outside")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        report = write([doc], path, "conll")
        ((read_doc,), _) = read(path, "conll")
    if report.notes[conll.UNREADABLE_LABEL]:
        assert [token.ent_iob_ for token in read_doc] == ["", "", "O"]
        assert report.examples[conll.UNREADABLE_LABEL] == [f"corpus:1: document 1: 'Anna Vell' {label!r}"]
    else:
        assert [(ent.text, ent.label_) for ent in read_doc.ents] == [("Anna Vell", label)]


# Predictions


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A pipeline whose predictions are those of rules, with fixed probabilities."""
    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "PER", "pattern": "Anna"}, {"label": "LOC", "pattern": "Tarvik"}])
    nlp.to_disk(tmp_path / "model")
    return str(tmp_path / "model")


def predicted_doc() -> Doc:
    doc = NLP("\U0001f600 Anna left Tarvik.")
    anna, tarvik = Span(doc, 1, 2, "PER"), Span(doc, 3, 4, "LOC")
    doc.set_ents([anna, tarvik], default="outside")
    for ent, score in zip(doc.ents, (0.5, 0.75), strict=True):
        set_score(ent, score)
    doc._.relations = [(*doc.ents, "left", 0.25)]
    return doc


def test_predictions_for_label_studio(tmp_path: Path) -> None:
    report = write([predicted_doc()], tmp_path / "tasks.json", "label-studio", model="my-model")
    assert not report.notes
    [task] = json.loads((tmp_path / "tasks.json").read_text())
    assert task["annotations"] == []
    [prediction] = task["predictions"]
    assert prediction["model_version"] == "my-model" and prediction["score"] == 0.5
    assert [result["score"] for result in prediction["result"]] == [0.5, 0.75, 0.25]
    assert prediction["result"][0]["value"] == {"start": 2, "end": 6, "text": "Anna", "labels": ["PER"]}
    # The configuration has the names and labels of the results.
    view = ElementTree.parse(tmp_path / "tasks.xml").getroot()
    assert [label.get("value") for label in view.iter("Label")] == ["LOC", "PER"]
    assert [label.get("value") for label in view.iter("Relation")] == ["left"]
    names = {(view.find("Labels").get("name"), view.find("Text").get("name"))}
    assert names == {(result["from_name"], result["to_name"]) for result in prediction["result"][:2]}
    # They are no annotation yet.
    docs, reading = read(tmp_path / "tasks.json", "label-studio")
    assert not docs and reading.notes.total() == 1


def test_predictions_for_other_tools(tmp_path: Path) -> None:
    doc = predicted_doc()
    write([doc], tmp_path / "a.jsonl", "prodigy", model="m")
    task = json.loads((tmp_path / "a.jsonl").read_text())
    assert "answer" not in task and task["meta"] == {"model": "m"}
    assert [span["score"] for span in task["spans"]] == [0.5, 0.75] and task["relations"][0]["score"] == 0.25
    assert [span["token_end"] for span in task["spans"]] == [1, 3] and task["relations"][0]["child"] == 3
    write([doc], tmp_path / "brat", "brat", model="m")
    assert (tmp_path / "brat" / "1.ann").read_text().splitlines() == [
        "T1\tPER 2 6\tAnna",
        "#1\tAnnotatorNotes T1\t0.5",
        "T2\tLOC 12 18\tTarvik",
        "#2\tAnnotatorNotes T2\t0.75",
        "R1\tleft Arg1:T1 Arg2:T2",
        "#3\tAnnotatorNotes R1\t0.25",
    ]
    report = write([doc], tmp_path / "b.jsonl", "doccano", model="m")
    assert report.notes == {layers.SCORES: 3}
    entity = json.loads((tmp_path / "b.jsonl").read_text())["entities"][1]
    assert (entity["start_offset"], entity["end_offset"]) == (13, 19)
    write([doc], tmp_path / "c.jsonl", "json", model="m")
    assert [ent["score"] for ent in json.loads((tmp_path / "c.jsonl").read_text())["ents"]] == [0.5, 0.75]


@pytest.mark.parametrize("has_gold", [False, True])
def test_documents_with_probabilities_are_predictions_without_a_model_too(tmp_path: Path, has_gold: bool) -> None:
    """Nobody has accepted them, nor that nothing was found in a text.

    Gold annotation beside them stays accepted, and so do texts without entities, which may be gold as well.
    """
    gold = NLP("Anna left.")
    gold.set_ents([Span(gold, 0, 1, "PER")], default="outside")
    docs = [predicted_doc(), plain_doc(), *([gold] if has_gold else [])]
    write_docbin(docs, tmp_path / "a.spacy")
    for format, name in (("prodigy", "a.jsonl"), ("label-studio", "a.json"), ("doccano", "b.jsonl")):
        output = run(tmp_path / "a.spacy", tmp_path / name, "-f", format)
        assert (f"{2 - has_gold} documents have probabilities, or nothing" in output) == (format != "doccano")
    tasks = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert ["answer" in task for task in tasks] == ([False, True, True] if has_gold else [False, False])
    tasks = json.loads((tmp_path / "a.json").read_text())
    assert [len(task["annotations"]) for task in tasks] == ([0, 1, 1] if has_gold else [0, 0])
    assert tasks[0]["predictions"][0]["score"] == 0.5 and ("predictions" in tasks[1]) is not has_gold


@pytest.mark.parametrize(
    ("spans", "count"),
    [
        ([(0, 1, "OLD")], 1),
        ([(0, 1, "OLD"), (0, 1, "PER")], 0),
        ([(2, 4, "X"), (4, 6, "X"), (2, 6, "X"), (3, 4, "X")], 1),
        ([(2, 6, "X"), (3, 4, "X"), (6, 7, "X")], 0),
    ],
)
def test_spans_that_contradict_entities_are_warned_of(tmp_path: Path, spans: list[Any], count: int) -> None:
    doc = NLP("Anna of Upper Tarn Lake left early")
    doc.set_ents([Span(doc, 0, 1, "PER"), Span(doc, 3, 5, "LOC")], default="outside")
    doc.spans["sc"] = [Span(doc, *span) for span in spans]
    write_docbin([doc], tmp_path / "a.spacy")
    output = run(tmp_path / "a.spacy", tmp_path / "a.jsonl", "-f", "prodigy")
    assert (f"{count} entities of doc.ents are not in doc.spans['sc']" in output) == bool(count)
    assert "contradicts" not in run(tmp_path / "a.spacy", tmp_path / "b.jsonl", "-f", "prodigy", "--spans-key", "none")


# The command


def test_command(tmp_path: Path, model: str) -> None:
    gold = plain_doc("Anna left Tarvik.")
    write_docbin([gold, nested_doc()], tmp_path / "a.spacy")
    output = run(tmp_path / "a.spacy", tmp_path / "sub" / "a.jsonl", "-f", "doccano")
    assert "documents 2" in output and "Saved 2 documents to" in output
    output = run(tmp_path / "a.spacy", tmp_path / "b.json", "-f", "label-studio", "-m", model)
    tasks = json.loads((tmp_path / "b.json").read_text())
    assert [len(task["predictions"][0]["result"]) for task in tasks] == [2, 2]
    assert tasks[0]["predictions"][0]["model_version"] == model


def test_the_configuration_has_all_labels_of_the_pipeline(tmp_path: Path, model: str) -> None:
    """Also those that no text has: the annotator may need them."""
    nlp = spacy.blank("en")
    extractor: Any = nlp.add_pipe("relation_extractor")
    extractor.add_label("LIVES_IN")
    nlp.initialize()
    nlp.add_pipe("entity_ruler", source=spacy.load(model), first=True)
    nlp.to_disk(tmp_path / "pipeline")
    write_docbin([NLP("Nothing happened.")], tmp_path / "a.spacy")
    run(tmp_path / "a.spacy", tmp_path / "a.json", "-f", "label-studio", "-m", tmp_path / "pipeline")
    view = ElementTree.parse(tmp_path / "a.xml").getroot()
    assert [label.get("value") for label in view.iter("Label")] == ["LOC", "PER"]
    assert [label.get("value") for label in view.iter("Relation")] == ["LIVES_IN"]
    run(tmp_path / "a.spacy", tmp_path / "brat", "-f", "brat", "-m", tmp_path / "pipeline")
    lines = (tmp_path / "brat" / "annotation.conf").read_text().splitlines()
    assert lines[:6] == ["[entities]", "LOC", "PER", "", "[relations]", "LIVES_IN Arg1:<ENTITY>, Arg2:<ENTITY>"]


def test_the_configuration_has_the_labels_of_alternatives(tmp_path: Path) -> None:
    """To correct what `ner-arch review` found, the annotator needs the labels that it proposes."""
    doc = nested_doc()
    doc.spans["alternatives"] = [Span(doc, 0, 1, "NEW")]
    write([doc], tmp_path / "a.json", "label-studio")
    labels = [label.get("value") for label in ElementTree.parse(tmp_path / "a.xml").getroot().iter("Label")]
    assert labels == ["LOC", "NEW", "ORG", "PER", "X"]


def test_an_export_without_entities_names_the_remedy(tmp_path: Path, model: str) -> None:
    write_docbin([NLP("Nothing here .")], tmp_path / "a.spacy")
    assert "check the corpus" in run(tmp_path / "a.spacy", tmp_path / "b.json", "-f", "json")
    assert "the pipeline finds none" in run(tmp_path / "a.spacy", tmp_path / "c.json", "-f", "json", "-m", model)
    nlp = spacy.blank("en")
    extractor: Any = nlp.add_pipe("relation_extractor")
    extractor.add_label("LIVES_IN")
    nlp.initialize()
    nlp.to_disk(tmp_path / "relations")
    output = run(tmp_path / "a.spacy", tmp_path / "d.json", "-f", "json", "-m", tmp_path / "relations")
    assert "no component of the pipeline finds entities" in output


@pytest.mark.parametrize("options", [[], ["-m"]])
def test_empty_documents_keep_their_numbers(tmp_path: Path, model: str, options: list[str]) -> None:
    docs = [plain_doc("Anna left Tarvik."), Doc(NLP.vocab), plain_doc("Nothing.")]
    (tmp_path / "corpus").mkdir()
    write_docbin(docs[:2], tmp_path / "corpus" / "a.spacy")
    write_docbin(docs[2:], tmp_path / "corpus" / "b.spacy")
    options = [*options, model] if options else []
    assert "Saved 3 documents" in run(tmp_path / "corpus", tmp_path / "a.json", "-f", "label-studio", *options)
    tasks = json.loads((tmp_path / "a.json").read_text())
    assert [(task["id"], task["data"]["text"]) for task in tasks] == [
        (1, "Anna left Tarvik."),
        (2, ""),
        (3, "Nothing."),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-f", "xml"], "unknown format 'xml'; choose from label-studio, doccano, prodigy, brat, conll, spert, json"),
        (["-f", "json", "-m", "blank"], "no component of this pipeline finds entities"),
        (["-f", "prodigy"], "out is a folder; name a file in it"),
        (["-f", "brat"], "exists and is not an empty folder; name a new one"),
        (["-f", "label-studio"], "is where the configuration goes: name the tasks"),
    ],
)
def test_faults_of_the_command(tmp_path: Path, options: list[str], message: str) -> None:
    write_docbin([nested_doc()], tmp_path / "a.spacy")
    spacy.blank("en").to_disk(tmp_path / "blank")
    options = [str(tmp_path / "blank") if option == "blank" else option for option in options]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").write_text("x")
    output = tmp_path / ("tasks.xml" if "label-studio" in options else "out")
    assert message in run(tmp_path / "a.spacy", output, *options, code=1) and not output.is_file()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x"]


def test_a_folder_of_brat_appears_when_it_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(content: Any) -> list[str]:
        if content.number == 2:
            raise OSError(28, "No space left on device")
        return []

    (tmp_path / "brat").mkdir()
    with monkeypatch.context() as context:
        context.setattr(brat, "_make_lines", fail)
        with pytest.raises(OSError, match="No space left"):
            write([NLP("Anna")] * 3, tmp_path / "brat", "brat")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["brat"]
    write([NLP("Anna")] * 3, tmp_path / "brat", "brat")
    names = [f"{i}{ending}" for i in (1, 2, 3) for ending in (".ann", ".txt")]
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == [*names, "annotation.conf"]


def test_tasks_are_kept_if_their_configuration_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "tasks.xml").mkdir()
    (tmp_path / "tasks.json").write_text("old")
    with pytest.raises(IsADirectoryError, match=r"tasks\.xml"):
        write([NLP("Anna")], tmp_path / "tasks.json", "label-studio")
    assert (tmp_path / "tasks.json").read_text() == "old"


def test_the_help_names_all_formats() -> None:
    assert set(WRITERS) <= {word.strip(",.;:()") for word in FORMAT_HELP.split()}


def test_a_corpus_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.spacy").write_bytes(b"no corpus")
    assert "Cannot export" in run(tmp_path / "a.spacy", tmp_path / "b", "-f", "json", code=1)
    (tmp_path / "empty").mkdir()
    assert "has no .spacy files" in run(tmp_path / "empty", tmp_path / "b", "-f", "json", code=1)
    assert not (tmp_path / "b").exists()


# Properties

texts = st.text(st.sampled_from(" \n\r\t\u00a0.,'\"-aB\U0001f600\u0308\U0001f1f3;|#"), min_size=1, max_size=25)


@settings(max_examples=100)
@given(text=texts, data=st.data())
def test_round_trips_of_any_text(tmp_path_factory: pytest.TempPathFactory, text: str, data: st.DataObject) -> None:
    """What is read again is what was written, for all formats that keep overlaps and relations."""
    doc = NLP(text)
    bounds = st.tuples(st.integers(0, len(doc) - 1), st.integers(1, 4), st.sampled_from("XY"))
    keys = {
        (start, min(start + width, len(doc)), label) for start, width, label in data.draw(st.lists(bounds, max_size=5))
    }
    spans = [Span(doc, *key[:2], key[2]) for key in sorted(keys)]
    # Readers trim white space at the ends.
    spans = [span for span in spans if not span[0].is_space and not span[-1].is_space]
    doc.spans["sc"] = spans
    doc.set_ents(spacy.util.filter_spans(spans), default="outside")
    doc._.relations = [(spans[0], span, "r") for span in spans[1:]]
    folder = tmp_path_factory.mktemp("trip")
    for format in (*TEXT_FORMATS, "spert", "json"):
        write([doc], folder / format, format)
        [again], report = read(folder / format, format)
        assert rows(again.spans["sc"]) == rows(spans), format
        assert len(again._.relations) == len(doc._.relations)
        assert not report.notes[DUPLICATE] and not report.notes[MISALIGNED]
        assert [token.text for token in again] == [token.text for token in doc]
