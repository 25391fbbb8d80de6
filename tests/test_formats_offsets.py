"""Tests of the format `offsets`: keys, alignment, overlaps, relations, and the text itself."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import spacy
from conftest import named, relations_of
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc, DocBin
from spacy.training import Example

from spacy_ner_arch.annotation.relations import has_relations
from spacy_ner_arch.formats import FORMATS, ReadReport, read_docs, write_docbin
from spacy_ner_arch.formats.counts import MISALIGNED, SKIPPED
from spacy_ner_arch.formats.lines import FormatError
from spacy_ner_arch.formats.records import REJECTED
from spacy_ner_arch.formats.spans import BLANK, DUPLICATE, DUPLICATE_RELATION, RELATION_LEFT_OUT, TRIMMED
from spacy_ner_arch.formats.texts import ALIGNMENTS, EMPTY, MOVED
from spacy_ner_arch.formats.units import UNCHECKED

NLP = spacy.blank("en")
TEXT = "Anna Brandt left Tarvik."
ANNA, TARVIK = [0, 11, "PER"], [17, 23, "LOC"]
IOB = {"missing": 0, "inside": 1, "outside": 2, "begin": 3}


def read_lines(folder: Path, *lines: Any, **options: Any) -> tuple[list[Doc], ReadReport]:
    report = ReadReport()
    path = folder / "texts.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return list(read_docs(path, NLP.vocab, "offsets", report, tokenizer=NLP.tokenizer, **options)), report


def objects(*entities: list, names: tuple[str, ...] = ("start", "end", "label"), **more: Any) -> list[dict[str, Any]]:
    return [{**dict(zip(names, entity, strict=True)), **more} for entity in entities]


def test_texts_say_nothing_of_their_sentences(tmp_path: Path) -> None:
    """A component finds them. If all was one sentence, relations across sentences would be learned, and never found."""
    line = {"text": "Anna left Tarvik. Olaf stayed.", "entities": [ANNA]}
    (doc,), report = read_lines(tmp_path, {**line, "entities": [[0, 4, "PER"]]})
    assert not doc.has_annotation("SENT_START") and report.sentences == 1
    assert len(list(spacy.blank("en").add_pipe("sentencizer")(doc).sents)) == 2


# Keys


@pytest.mark.parametrize("key", ["entities", "ents", "label", "labels", "spans"])
@pytest.mark.parametrize(
    "entities",
    [
        [[*TARVIK, "ignored"], ANNA],
        objects(TARVIK, ANNA, id=1),
        objects(TARVIK, ANNA, names=("start_offset", "end_offset", "label")),
    ],
    ids=["lists", "objects", "Doccano"],
)
def test_entities_in_every_spelling(tmp_path: Path, key: str, entities: list) -> None:
    [doc], report = read_lines(tmp_path, {"spans": None, "text": TEXT, key: entities})
    assert named(doc.ents) == named(doc.spans["sc"]) == [("Anna Brandt", "PER"), ("Tarvik", "LOC")]
    assert doc.text == TEXT and not has_relations(doc)
    assert report.checked[MISALIGNED] == 2 and not report.notes


@pytest.mark.parametrize("unit", [None, "characters", "utf-16"])
@pytest.mark.parametrize("more", [{}, {"text": "东京"}], ids=["not quoted", "quoted"])
def test_entities_behind_an_emoji_are_counted_if_nothing_shows_the_unit(
    tmp_path: Path, unit: str | None, more: dict[str, Any]
) -> None:
    """With a token for each character, entities that are read in the wrong unit align, too."""
    start = 3 if unit == "utf-16" else 2
    behind = {"text": "\U0001f600 东京大", "entities": objects([start, start + 2, "LOC"], **more)}
    before = {"text": "东京 \U0001f600", "entities": [[0, 2, "LOC"]]}
    not_utf_16 = {"text": "\U0001f600\U0001f600东", "entities": [[1, 3, "LOC"]]}
    path, nlp, report = tmp_path / "texts.jsonl", spacy.blank("zh"), ReadReport()
    lines = [behind, before] if unit == "utf-16" else [behind, before, not_utf_16]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    first, *_ = read_docs(path, nlp.vocab, "offsets", report, tokenizer=nlp.tokenizer, unit=unit)
    assert named(first.ents) == [("东京", "LOC")]
    is_counted = unit is None and not more
    assert report.notes == ({UNCHECKED: 1} if is_counted else {})
    expected = f"{path}:1: '东京' LOC; in utf-16, it would be ' 东'"
    assert report.examples.get(UNCHECKED, []) == ([expected] if is_counted else [])


@pytest.mark.parametrize(
    ("entity", "text", "is_shown"),
    [
        ([0, 4, "PER"], "Anna", False),
        ([7, 12, "X"], "lives", True),
        ([13, 15, "X"], None, False),
        # The unit is not shown by what is at the places of both units.
        ([23, 24, "X"], " ", False),
    ],
)
def test_quotes_show_the_unit_only_where_the_units_differ(
    tmp_path: Path, entity: list, text: str | None, is_shown: bool
) -> None:
    line = {"text": "Anna \U0001f600 lives in Tarvik   now"}
    quoted = objects(entity, **({} if text is None else {"text": text}))
    [doc], report = read_lines(tmp_path, {**line, "entities": [*quoted, *objects([16, 22, "LOC"])]})
    assert ("Tarvik", "LOC") in named(doc.ents)
    assert report.notes[UNCHECKED] == (0 if is_shown else 1 + (entity[0] > 4))


@pytest.mark.parametrize(
    ("unit", "entities", "fits"),
    [
        ("characters", [[3, 7, "PER"]], "utf-16"),
        ("utf-16", [[1, 5, "PER"]], "characters"),
        ("characters", objects([3, 7, "PER"], text="Zoe\u0308"), "utf-16"),
        ("characters", objects([2, 5, "PER"], text="Zoe\u0308"), "graphemes"),
        ("characters", objects([2, 5, "PER"], text="Anna"), None),
        ("characters", [[3, 7, "PER"], [2, 9, "PER"]], None),
    ],
)
def test_an_error_names_the_unit_in_which_the_entities_fit(
    tmp_path: Path, unit: str, entities: list[Any], fits: str | None
) -> None:
    with pytest.raises(FormatError) as caught:
        read_lines(tmp_path, {"text": "\U0001f600 Zoe\u0308", "entities": entities}, unit=unit)
    remedy = f"; they fit in {fits}: give --unit {fits} if start and end count that"
    assert caught.value.reason.endswith(remedy) if fits else "; they fit" not in caught.value.reason


def test_texts_without_entities_or_tokens(tmp_path: Path) -> None:
    [doc], report = read_lines(tmp_path, {"text": "Nothing.", "entities": []}, {"text": "", "entities": []}, " \t")
    assert [token.ent_iob for token in doc] == [IOB["outside"]] * 2
    assert "sc" in doc.spans and len(doc.spans["sc"]) == 0
    assert report.notes == {EMPTY: 1} and report.first[EMPTY].endswith("texts.jsonl:2")


def test_json_of_spacy(tmp_path: Path) -> None:
    """`Doc.to_json` of a Doc without span groups. With them, two keys have spans, which is an error."""
    gold = NLP(TEXT)
    gold.set_ents([gold.char_span(0, 11, label="PER")])
    [doc], report = read_lines(tmp_path, gold.to_json())
    assert named(doc.ents) == [("Anna Brandt", "PER")]
    assert report.unread_keys == {"tokens": 1}
    gold.spans["sc"] = [gold.char_span(17, 23, label="LOC")]
    with pytest.raises(FormatError, match="ents and spans among the keys"):
        read_lines(tmp_path, gold.to_json())


def test_rejected_texts_of_prodigy_are_left_out_and_counted(tmp_path: Path) -> None:
    """A text that is left out need not be annotated."""
    lines = [{"text": TEXT, "spans": [ANNA], "answer": answer} for answer in ("accept", "reject", "ignore")]
    docs, report = read_lines(tmp_path, *lines, {"text": TEXT, "answer": "ignore"})
    assert [named(doc.ents) for doc in docs] == [[("Anna Brandt", "PER")]]
    assert report.notes == {REJECTED["reject"]: 1, REJECTED["ignore"]: 2} and report.entities == {"PER": 1}
    assert (REJECTED["ignore"], f"2 (first at {tmp_path / 'texts.jsonl'}:3)") in report.rows()


def test_binary_answers_of_prodigy_say_nothing_about_other_tokens(tmp_path: Path) -> None:
    [doc], _ = read_lines(tmp_path, {"text": TEXT, "spans": [ANNA], "answer": "accept", "_is_binary": True})
    assert [token.ent_iob for token in doc] == [IOB["begin"], IOB["inside"], *[IOB["missing"]] * 3]


# Alignment

# The tokens are: In, Tarviknow, it, is.
INSIDE = "In Tarviknow it is"


@pytest.mark.parametrize(
    ("align", "entity", "found", "iob"),
    [
        ("strict", [3, 9, "LOC"], None, "outside missing outside outside"),
        ("contract", [3, 9, "LOC"], None, "outside missing outside outside"),
        ("expand", [3, 9, "LOC"], "Tarviknow", "outside begin outside outside"),
        ("strict", [1, 12, "LOC"], None, "missing missing outside outside"),
        ("contract", [1, 12, "LOC"], "Tarviknow", "missing begin outside outside"),
        ("expand", [1, 12, "LOC"], "In Tarviknow", "begin inside outside outside"),
    ],
)
def test_alignment(tmp_path: Path, align: str, entity: list, found: str | None, iob: str) -> None:
    """Tokens that an entity of the source touches are never learned as outside of entities."""
    [doc], report = read_lines(tmp_path, {"text": INSIDE, "entities": [entity]}, align=align)
    assert named(doc.ents) == named(doc.spans["sc"]) == ([(found, "LOC")] if found else [])
    assert [token.ent_iob for token in doc] == [IOB[name] for name in iob.split()]
    assert report.notes == {MOVED if found else MISALIGNED: 1}


def test_entities_that_do_not_align_are_shown(tmp_path: Path) -> None:
    lines = [{"text": INSIDE, "entities": [[3, 9, "LOC"], [0, 2, "X"], [6, 15, "Y"]]}] * 6
    _, report = read_lines(tmp_path, *lines)
    rows = report.rows()
    start = rows.index((MISALIGNED, "12 of 18 (66.7 %)"))
    path = tmp_path / "texts.jsonl"
    assert rows[start + 1 : start + 3] == [
        ("", f"{path}:1: 'Tarvik' LOC ends inside of the token 'Tarviknow'"),
        ("", f"{path}:1: 'viknow it' Y starts inside of the token 'Tarviknow'"),
    ]
    # The first ten.
    assert [name for name, _ in rows[start:]].count("") == 10
    assert "\n    " + rows[start + 1][1] + "\n" in report.summary() + "\n"


MANY = 6_000  # entities that do not align
ROWS = [
    f"{2 * i + k}\t{form}\t_\t_\t_\t_\t_\t_\t_\t{misc}"
    for i in range(MANY)
    for k, form, misc in ((1, "Tar", "NE=B-LOC|SpaceAfter=No"), (2, "vik", "_"))
]


@pytest.mark.parametrize(
    "format, content",
    [
        (
            "offsets",
            json.dumps({"text": "Tarvik " * MANY, "entities": [[7 * i, 7 * i + 3, "LOC"] for i in range(MANY)]}),
        ),
        ("conllu", "\n".join(ROWS)),
    ],
)
def test_many_entities_that_do_not_align_take_linear_time(tmp_path: Path, format: str, content: str) -> None:
    (tmp_path / "many").write_text(content + "\n\n")
    report = ReadReport()
    start = time.process_time()
    list(read_docs(tmp_path / "many", NLP.vocab, format, report, tokenizer=NLP.tokenizer))
    # Less than half a second on an idle machine; six seconds or more if each entity reads the whole text.
    assert time.process_time() - start < 3
    assert report.notes == {MISALIGNED: MANY}


def test_white_space_at_the_ends_is_trimmed_and_counted(tmp_path: Path) -> None:
    text = "  Anna\u00a0 left\n\nTarvik \u3000!"
    line = {
        "text": text,
        "entities": [[0, 8, "PER"], [12, 22, "LOC"], [6, 8, "X"]],
        "relations": [[0, 1, "r"], [0, 2, "r"]],
    }
    [doc], report = read_lines(tmp_path, line)
    assert named(doc.ents) == [("Anna", "PER"), ("Tarvik", "LOC")]
    assert doc.text == text
    assert report.notes == {TRIMMED: 2, BLANK: 1, RELATION_LEFT_OUT: 1}
    assert relations_of(doc) == [("Anna", "r", "Tarvik")]


@pytest.mark.parametrize("align", ["", "middle"])
def test_unknown_alignment(tmp_path: Path, align: str) -> None:
    with pytest.raises(ValueError, match="it must be one of strict, contract, expand"):
        read_lines(tmp_path, align=align)


def test_offsets_count_characters_beyond_the_basic_plane(tmp_path: Path) -> None:
    """An emoji, an old letter and a combining mark, escaped as JSON does it and as they are."""
    text = "\U0001f600 Zoe\u0308 \U00010330 met Tarvik"
    entities = [[2, 6, "PER"], [13, 19, "LOC"]]
    line = {"text": text, "entities": entities}
    docs, report = read_lines(tmp_path, json.dumps(line), json.dumps(line, ensure_ascii=False))
    for doc in docs:
        assert doc.text == text
        assert named(doc.ents) == [("Zoe\u0308", "PER"), ("Tarvik", "LOC")]
    assert report.notes == {UNCHECKED: 4}


def test_tokenizer_that_changes_the_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "Anna  left", "entities": [[6, 10, "X"]]}))
    with pytest.raises(FormatError, match="a.jsonl:1: the tokenizer changes the text to 'Anna left '"):
        list(FORMATS["offsets"].read(path, ReadReport(), tokenizer=lambda text: Doc(NLP.vocab, words=text.split())))


# Overlaps


def test_overlapping_entities_go_to_doc_spans(tmp_path: Path) -> None:
    """The widest are in doc.ents. A duplicate is kept once, and a relation may refer to either."""
    entities = [[0, 4, "PER"], ANNA, ANNA, [5, 16, "X"], [17, 23, "LOC"], [17, 23, "GPE"]]
    relations = [[2, 4, "left"], [1, 4, "left"], [0, 5, "left"], [4, 4, "self"]]
    line = {"text": TEXT, "entities": entities, "relations": relations}
    [doc], report = read_lines(tmp_path, line)
    tarvik = [("Tarvik", "GPE"), ("Tarvik", "LOC")]
    assert named(doc.spans["sc"]) == [("Anna", "PER"), ("Anna Brandt", "PER"), ("Brandt left", "X"), *tarvik]
    assert named(doc.ents) == [("Anna Brandt", "PER"), ("Tarvik", "GPE")]
    assert relations_of(doc) == [
        ("Anna", "left", "Tarvik"),
        ("Anna Brandt", "left", "Tarvik"),
        ("Tarvik", "self", "Tarvik"),
    ]
    assert report.notes == {DUPLICATE: 1, DUPLICATE_RELATION: 1}
    assert report.spans.total() == 5 and report.only_spans == 3


# Relations

DOCCANO = objects([0, 11, "PER"], names=("start_offset", "end_offset", "label"), id=31) + objects(
    [17, 23, "LOC"], names=("start_offset", "end_offset", "label"), id=12
)
OBJECTS = objects(ANNA, TARVIK)
PRODIGY = objects(ANNA, token_start=0) + objects(TARVIK, token_start=3)


@pytest.mark.parametrize(
    ("entities", "relation"),
    [
        ([ANNA, TARVIK], [0, 1, "left"]),
        ([ANNA, TARVIK], {"head": 0, "tail": 1, "label": "left"}),
        (objects(ANNA, TARVIK, score=0.9), {"head": OBJECTS[0], "tail": OBJECTS[1], "label": "left", "score": 0.9}),
        (DOCCANO, {"id": 5, "from_id": 31, "to_id": 12, "type": "left"}),
        ([{**PRODIGY[0], "id": 1}, {**PRODIGY[1], "id": 2}], {"from_id": 1.0, "to_id": 2.0, "label": "left"}),
        (PRODIGY, {"head": 1, "child": 3, "head_span": PRODIGY[0], "child_span": PRODIGY[1], "label": "left"}),
    ],
    ids=["lists", "objects", "objects of objects", "Doccano", "ids as floats", "Prodigy"],
)
def test_relations_in_every_spelling(tmp_path: Path, entities: list, relation: Any) -> None:
    lines = [{"text": TEXT, "entities": entities, "relations": relations} for relations in ([relation], [], None)]
    docs, report = read_lines(tmp_path, *lines)
    assert [relations_of(doc) for doc in docs] == [[("Anna Brandt", "left", "Tarvik")], [], []]
    assert [has_relations(doc) for doc in docs] == [True, True, False]
    assert report.relations == {"left": 1}
    write_docbin(docs, tmp_path / "a.spacy")
    loaded = list(DocBin().from_disk(tmp_path / "a.spacy").get_docs(NLP.vocab))
    assert [relations_of(doc) for doc in loaded] == [relations_of(doc) for doc in docs]


def test_relation_of_an_entity_that_does_not_align_is_counted(tmp_path: Path) -> None:
    line = {"text": INSIDE, "entities": [[3, 9, "LOC"], [0, 2, "X"]], "relations": [[0, 1, "r"], [1, 1, "r"]]}
    [doc], report = read_lines(tmp_path, line)
    assert relations_of(doc) == [("In", "r", "In")]
    assert report.notes == {MISALIGNED: 1, RELATION_LEFT_OUT: 1}
    [doc], report = read_lines(tmp_path, line, align="expand")
    assert relations_of(doc) == [("In", "r", "In"), ("Tarviknow", "r", "In")]


def test_the_rest_of_a_crossing_entity_is_not_learned_as_outside(tmp_path: Path) -> None:
    line = {"text": "Upper Tarn Valley Road", "entities": [[0, 10, "LOC"], [6, 22, "LOC"]]}
    [doc], _ = read_lines(tmp_path, line)
    assert named(doc.ents) == [("Tarn Valley Road", "LOC")] and len(doc.spans["sc"]) == 2
    assert [token.ent_iob_ for token in doc] == ["", "B", "I", "I"]
    # `nested_ner` learns from both entities.
    nlp = spacy.blank("en")
    component = nlp.add_pipe("nested_ner")
    component.add_label("LOC")
    (target,) = component.find_targets([Example(doc.copy(), doc)], None)
    assert target.annotated.all() and len(target.spans) == 2


# Properties

characters = st.one_of(
    st.sampled_from(" \n\t\u00a0\u3000\u200b.,'-aB\U0001f600\u0308"), st.characters(exclude_categories=["Cs"])
)


@settings(max_examples=200)
@given(text=st.text(characters, min_size=1, max_size=30), data=st.data(), align=st.sampled_from(ALIGNMENTS))
def test_text_and_counts_are_kept(
    tmp_path_factory: pytest.TempPathFactory, text: str, data: st.DataObject, align: str
) -> None:
    bounds = st.lists(st.integers(0, len(text)), min_size=2, max_size=2, unique=True).map(sorted)
    entities = [
        [*pair, label] for pair, label in data.draw(st.lists(st.tuples(bounds, st.sampled_from("XY")), max_size=6))
    ]
    line = {"text": text, "entities": entities, "relations": [[i, 0, "r"] for i in range(len(entities))]}
    [doc], report = read_lines(tmp_path_factory.mktemp("offsets"), line, align=align)
    assert doc.text == text
    spans = doc.spans["sc"]
    assert len(spans) == len(entities) - sum(report.notes[kind] for kind in (DUPLICATE, BLANK, MISALIGNED))
    assert len(doc._.relations) == len(entities) - report.notes[RELATION_LEFT_OUT] - report.notes[DUPLICATE_RELATION]
    assert report.checked[MISALIGNED] == len(entities) and not report.notes[SKIPPED]
    given_texts = {(text[start:end].strip(), label) for start, end, label in entities}
    if align == "strict":
        assert {(span.text, span.label_) for span in spans} <= given_texts
    # No token that an entity touches is learned as outside of entities.
    for start, end, _ in entities:
        for token in doc:
            if token.idx < end and start < token.idx + len(token) and not token.is_space:
                assert token.ent_iob != IOB["outside"]
