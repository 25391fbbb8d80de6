"""Tests of the formats of annotation tools and of published corpora: one small file of each."""

import itertools
import json
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest
import spacy
from conftest import named, relations_of
from spacy.tokens import Doc

from spacy_ner_arch.annotation.relations import has_relations
from spacy_ner_arch.formats import (
    ReadReport,
    annotators,
    argilla,
    brat,
    corpora,
    detect_format,
    label_studio,
    offsets,
    read_docs,
    spacy_json,
    spacy_v2_json,
    texts,
)
from spacy_ner_arch.formats import prodigy as prodigy_format
from spacy_ner_arch.formats import units as text_units
from spacy_ner_arch.formats.counts import SKIPPED
from spacy_ner_arch.formats.files import find_files
from spacy_ner_arch.formats.lines import FormatError, Line
from spacy_ner_arch.formats.records import REJECTED, parse_json
from spacy_ner_arch.formats.spans import BLANK, OTHER_LABEL, RELATION_LEFT_OUT, TRIMMED, TRIMMED_LABEL, trim_spans

NLP = spacy.blank("en")
# The smiley is one character of Python, and two units of UTF-16.
LINE = Line(Path("a.jsonl"), 1, "{" + ",".join(f'"k{i}": 0' for i in range(100_000)) + ', "k1": 0}')
TEXT = "\U0001f600 Anna Brandt left Tarvik."
ANNA, ANNA_BRANDT, TARVIK = (2, 6), (2, 13), (19, 25)
ENTITIES = [("Anna", "FIRST"), ("Anna Brandt", "PER"), ("Tarvik", "LOC")]
WIDEST = ENTITIES[1:]
RELATION = [("Anna Brandt", "left", "Tarvik")]


def units(bounds: tuple[int, int]) -> dict[str, int]:
    """Bounds in TEXT, counted in UTF-16."""
    return {"start": bounds[0] + 1, "end": bounds[1] + 1}


def characters(bounds: tuple[int, int]) -> dict[str, int]:
    return dict(zip(("start", "end"), bounds, strict=True))


def read(path: Path, format: str | None = None, **options: Any) -> tuple[list[Doc], ReadReport]:
    """Read a file, in the format that is found out if none is given."""
    report = ReadReport()
    docs = read_docs(path, NLP.vocab, format or detect_format(path), report, tokenizer=NLP.tokenizer, **options)
    return list(docs), report


def write(folder: Path, *items: Any, name: str = "export.json", as_list: bool = True) -> Path:
    """Write JSON as a list on several lines, or each item on a line, with Windows line ends."""
    path = folder / name
    text = json.dumps(items, indent=1) if as_list else "".join(json.dumps(item) + "\n" for item in items)
    path.write_bytes(text.replace("\n", "\r\n").encode())
    return path


def check_full(doc: Doc) -> None:
    """A document of TEXT with all entities and the relation."""
    assert doc.text == TEXT
    assert named(doc.spans["sc"]) == ENTITIES and named(doc.ents) == WIDEST
    assert relations_of(doc) == RELATION


# Label Studio


def region(bounds: dict[str, int], label: str, id: str, text: str | None = None) -> dict[str, Any]:
    value = {**bounds, "labels": [label], **({} if text is None else {"text": text})}
    return {"id": id, "type": "labels", "from_name": "label", "to_name": "text", "value": value}


def task(*annotations: Any, id: int = 1, **data: Any) -> dict[str, Any]:
    return {"id": id, "data": data or {"text": TEXT}, "annotations": list(annotations), "predictions": []}


def submitted(*results: Any, by: Any = 1, **more: Any) -> dict[str, Any]:
    return {"id": 7, "completed_by": by, "was_cancelled": False, "result": list(results), **more}


def full_results(count: Any, quoted: bool = True) -> list[dict[str, Any]]:
    names = [("FIRST", ANNA, "a"), ("PER", ANNA_BRANDT, "b"), ("LOC", TARVIK, "c")]
    regions = [region(count(place), label, id, TEXT[slice(*place)] if quoted else None) for label, place, id in names]
    relation = {"type": "relation", "from_id": "b", "to_id": "c", "direction": "right", "labels": ["left"]}
    return [*regions, relation]


@pytest.mark.parametrize("count", [characters, units])
def test_label_studio(tmp_path: Path, count: Any) -> None:
    """The unit of the offsets is the one in which the text is what the region quotes."""
    empty = task(submitted(), id=2, text="Nothing happened.")
    docs, report = read(write(tmp_path, task(submitted(*full_results(count))), empty, task(id=3, text="Quill")))
    check_full(docs[0])
    assert [doc.text for doc in docs] == [TEXT, "Nothing happened."]
    assert has_relations(docs[1]) and not docs[1].spans["sc"]
    assert report.notes == {texts.UNLABELLED: 1}


def test_label_studio_without_quotes_counts_as_told(tmp_path: Path) -> None:
    path = write(tmp_path, task(submitted(*full_results(units, quoted=False))))
    docs, _ = read(path, unit="utf-16")
    check_full(docs[0])
    with pytest.raises(ValueError, match="unit is 'bytes'; it must be one of characters, utf-16, graphemes"):
        read(path, unit="bytes")


def test_the_unit_of_label_studio_without_quotes_is_not_shown(tmp_path: Path) -> None:
    path = write(tmp_path, task(submitted(*full_results(characters, quoted=False))))
    docs, report = read(path)
    check_full(docs[0])
    assert report.notes == {text_units.UNCHECKED: 3} and not read(path, unit="characters")[1].notes
    path = write(tmp_path, task(submitted(*full_results(units))))
    with pytest.raises(FormatError, match="; they fit in utf-16: give --unit utf-16"):
        read(path, unit="characters")


@pytest.mark.parametrize(
    ("place", "is_quoted", "is_shown"), [((0, 4), True, False), ((7, 12), True, True), ((7, 12), False, False)]
)
def test_quotes_of_label_studio_show_the_unit_only_where_the_units_differ(
    tmp_path: Path, place: tuple[int, int], is_quoted: bool, is_shown: bool
) -> None:
    """Regions that are not in the text do not show it either."""
    text = "Anna \U0001f600 lives in Tarvik now"
    first = region(characters(place), "X", "a", text[slice(*place)] if is_quoted else None)
    bounds = {"start": 0, "end": 99}
    answer = {"id": "q", "type": "choices", "to_name": "text", "value": {**bounds, "choices": ["sure"]}}
    results = [first, region(characters((16, 22)), "LOC", "b"), answer]
    [doc], report = read(write(tmp_path, task(submitted(*results), text=text)))
    assert ("Tarvik", "LOC") in named(doc.ents)
    assert report.notes[text_units.UNCHECKED] == (0 if is_shown else 1 + (place[0] > 4))


def test_regions_of_label_studio_without_quotes_count_as_the_others_do(tmp_path: Path) -> None:
    results = [
        region(units(place), "X", str(i), quoted) for i, (place, quoted) in enumerate(((ANNA, "Anna"), (TARVIK, None)))
    ]
    [doc], report = read(write(tmp_path, task(submitted(*results))))
    assert named(doc.ents) == [("Anna", "X"), ("Tarvik", "X")] and not report.notes


def test_an_answer_outside_of_the_text_of_label_studio_leaves_its_tokens_annotated(tmp_path: Path) -> None:
    bounds = {"start": -3, "end": units(TARVIK)["end"]}
    answer = {"id": "q", "type": "choices", "to_name": "text", "value": {**bounds, "choices": ["sure"]}}
    [doc], report = read(write(tmp_path, task(submitted(region(units(ANNA), "X", "a", "Anna"), answer))))
    assert report.notes == {label_studio.OTHER_RESULT: 1} and all(token.ent_iob for token in doc)


def test_many_regions_of_a_text_of_label_studio_take_linear_time(tmp_path: Path) -> None:
    """A second where the square of the regions takes minutes."""
    number = 3_000
    choice = {"type": "choices", "to_name": "text", "from_name": "sure"}
    results = []
    for i in range(number):
        results += [region({"start": 3 + 2 * i, "end": 4 + 2 * i}, "X", str(i), "a")]
        results += [{**choice, "id": str(i), "value": {"start": 3 + 2 * i, "end": 4 + 2 * i, "choices": ["yes"]}}]
    path = write(tmp_path, task(submitted(*results), text="\U0001f600 " + "a " * number))
    began = time.process_time()
    [doc], _ = read(path)
    assert len(doc.ents) == number and time.process_time() - began < 10


def test_json_min_of_label_studio(tmp_path: Path) -> None:
    """One object for each annotation; without relations, which are therefore not annotated."""
    labels = [{**characters(place), "text": TEXT[slice(*place)], "labels": ["PER", "HERO"]} for place in [ANNA_BRANDT]]
    shared = {"id": 1, "text": TEXT, "annotator": 3, "annotation_id": 9}
    other = {**shared, "annotator": 4, "annotation_id": 10, "label": []}
    path = write(tmp_path, {**shared, "label": labels}, other)
    [doc], report = read(path)
    assert detect_format(path) == "label-studio"
    assert named(doc.spans["sc"]) == [("Anna Brandt", "HERO"), ("Anna Brandt", "PER")]
    assert not has_relations(doc)
    assert report.notes == {annotators.OTHER_ANNOTATORS: 1}
    assert report.examples[annotators.OTHER_ANNOTATORS] == [f"{path}:19: object 2: annotator 4"]


def test_images_and_other_results_of_label_studio(tmp_path: Path) -> None:
    box = {"id": "x", "type": "rectanglelabels", "value": {"x": 1.5, "rectanglelabels": ["Cat"]}}
    choice = {"id": "y", "type": "choices", "value": {"choices": ["sad"]}}
    sound = {"id": "z", "type": "labels", "value": {"start": 0.5, "end": 1.5, "channel": 0, "labels": ["Speech"]}}
    tasks = [
        task(submitted(box), image="https://pictures.example/1.png"),
        task(submitted(), image="s3://pictures/2.png"),
        task(submitted(sound), audio="/data/upload/1.wav"),
        task(submitted(choice, *full_results(characters))),
        task(submitted(*full_results(characters), was_cancelled=True) | {"was_cancelled": True}),
    ]
    docs, report = read(write(tmp_path, *tasks))
    assert len(docs) == 1
    check_full(docs[0])
    assert report.notes == {label_studio.TASK_WITHOUT_TEXT: 3, label_studio.OTHER_RESULT: 3, label_studio.CANCELLED: 1}


def test_tasks_with_several_strings_in_label_studio(tmp_path: Path) -> None:
    """Without a string of the name text, it is the one that the regions quote, and then the one of earlier tasks."""
    tasks = [
        task(submitted(), id=1, mood="sad", body="Nothing happened."),
        task(submitted(*full_results(characters)), id=2, mood="a very long mood that no one marked", body=TEXT),
        task(submitted(), id=3, mood="another long mood", body="Quill."),
    ]
    path = write(tmp_path, *tasks)
    docs, report = read(path)
    assert [doc.text for doc in docs] == ["Nothing happened.", TEXT, "Quill."]
    assert report.notes == {label_studio.CHOSEN_TEXT: 2}
    assert report.examples[label_studio.CHOSEN_TEXT][0] == f"{path}:2: object 1: 'body' of 'mood', 'body'"


@pytest.mark.parametrize("minimal", [True, False])
def test_a_task_with_a_field_that_cannot_be_stored_shows_where_the_text_is(tmp_path: Path, minimal: bool) -> None:
    others = {"mood": "a very long mood"}
    if minimal:
        labels = [{**characters(ANNA), "text": "Anna", "labels": ["PER"]}]
        of_export = {"annotator": 1, "annotation_id": 1}
        tasks = [{"id": 1, "body": TEXT, "label": labels, "n": 2**64, **of_export}]
        tasks.append({"id": 2, **others, "body": "Quill.", **of_export})
    else:
        tasks = [
            task(submitted(*full_results(characters)), body=TEXT, n=2**64),
            task(submitted(), **others, body="Quill."),
        ]
    path = write(tmp_path, *tasks)
    with pytest.raises(FormatError, match="1: the field n cannot be stored"):
        read(path, fields=["n"])
    docs, report = read(path, fields=["n"], on_error="skip")
    assert [doc.text for doc in docs] == ["Quill."] and report.notes[SKIPPED] == 1
    assert report.unread_keys == ({"mood": 1} if minimal else {"data.mood": 1, "predictions": 1})


@pytest.mark.parametrize("tag", ["headline", "t1"])
def test_regions_of_several_texts_in_label_studio(tmp_path: Path, tag: str) -> None:
    """Each text is a document, also if both begin alike. A relation between two texts is left out."""
    marked = [((2, 6), "NAME", "d", "Anna"), ((7, 13), "VERB", "e", "leaves")]
    title = [{**region(characters(place), *rest), "to_name": tag} for place, *rest in marked]
    relations = [
        {"type": "relation", "from_id": head, "to_id": tail, "labels": ["x"]} for head, tail in ("de", "bd", "db")
    ]
    data = {"headline": f"{TEXT[:6]} leaves", "text": TEXT}
    annotations = [submitted(*title[:1], *full_results(characters), by=by) for by in (1, 2)]
    annotations[0]["result"] += [title[1], *relations]
    docs, report = read(write(tmp_path, task(*annotations, **data)))
    assert [doc.text for doc in docs] == [data["headline"], TEXT]
    check_full(docs[1])
    assert named(docs[0].ents) == [("Anna", "NAME"), ("leaves", "VERB")]
    assert relations_of(docs[0]) == [("Anna", "x", "leaves")]
    assert report.notes == {RELATION_LEFT_OUT: 2, annotators.OTHER_ANNOTATORS: 2}


def test_relations_to_what_is_left_out_in_label_studio(tmp_path: Path) -> None:
    """They are left out too: one region without a label, or on an image, does not stop the conversion."""
    box = {"id": "x", "type": "rectanglelabels", "value": {"x": 1.5, "rectanglelabels": ["Cat"]}}
    bare = region(characters(ANNA), "", "y") | {"value": {**characters(ANNA), "labels": []}}
    relations = [{"type": "relation", "from_id": "b", "to_id": id, "labels": ["x"]} for id in "xy"]
    [doc], report = read(write(tmp_path, task(submitted(box, bare, *full_results(characters), *relations))))
    check_full(doc)
    assert report.notes == {label_studio.OTHER_RESULT: 1, label_studio.WITHOUT_LABEL: 1, RELATION_LEFT_OUT: 2}


def test_a_relation_to_a_deleted_region_of_label_studio_is_left_out(tmp_path: Path) -> None:
    relations = [{"type": "relation", "from_id": head, "to_id": tail, "labels": ["x"]} for head, tail in ("bq", "qb")]
    path = write(tmp_path, task(submitted(*full_results(characters), *relations, {**relations[0], "to_id": None})))
    [doc], report = read(path)
    check_full(doc)
    assert report.notes == {label_studio.DANGLING_RELATION: 3}
    assert report.examples[label_studio.DANGLING_RELATION][0] == f"{path}:2: object 1: from b to q"


def hypertext(**more: Any) -> dict[str, Any]:
    places = {"start": "/text()[1]", "end": "/text()[1]", "globalOffsets": characters(ANNA_BRANDT)}
    value = {**places, "text": "Anna Brandt", "hypertextlabels": ["PER"], **more}
    return {"id": "h", "type": "hypertextlabels", "from_name": "label", "to_name": "text", "value": value}


@pytest.mark.parametrize("name", ["text", "body"])
def test_regions_of_other_types_are_not_learned_as_no_entity(tmp_path: Path, name: str) -> None:
    tarvik = {**characters(TARVIK), "text": "Tarvik"}
    choice = {"id": "c", "type": "choices", "to_name": "text", "value": {**tarvik, "choices": ["sad"]}}
    answer = {"id": "d", "type": "textarea", "to_name": "text", "value": {**characters(TARVIK), "text": ["Tarvik, N."]}}
    bare = {"id": "e", "type": "labels", "to_name": "text", "value": tarvik}
    full = full_results(characters)[:3]
    about_region = {**choice, "id": "c", "value": {**tarvik, "choices": ["sad"]}}
    tasks = [
        ([hypertext()], ENTITIES[1:2], [], {}),
        ([hypertext(), choice], ENTITIES[1:2], ["Tarvik"], {label_studio.REGION_OF_OTHER_TYPE: 1}),
        ([answer], [], ["Tarvik"], {label_studio.REGION_OF_OTHER_TYPE: 1}),
        ([bare], [], ["Tarvik"], {label_studio.WITHOUT_LABEL: 1}),
        ([hypertext(hypertextlabels=[])], [], ["Anna", "Brandt"], {label_studio.WITHOUT_LABEL: 1}),
        # An answer about an entity.
        ([*full, about_region], ENTITIES, [], {label_studio.OTHER_RESULT: 1}),
    ]
    for results, entities, missing, notes in tasks:
        [doc], report = read(write(tmp_path, task(submitted(*results), **{name: TEXT})))
        assert named(doc.spans["sc"]) == entities and report.notes == notes
        assert [token.text for token in doc if not token.ent_iob] == missing


@pytest.mark.parametrize(
    "more",
    [{"globalOffsets": None}, {"globalOffsets": characters(TARVIK)}, {"text": None}, {"globalOffsets": {"start": 1}}],
)
def test_a_region_of_label_studio_without_a_place_leaves_out_the_annotation(tmp_path: Path, more: Any) -> None:
    tasks = [task(submitted(hypertext(**more))), task(submitted(*full_results(characters)), id=2)]
    [doc], report = read(write(tmp_path, *tasks))
    check_full(doc)
    assert report.notes == {label_studio.OTHER_RESULT: 1, label_studio.UNPLACED_REGION: 1}
    [doc], report = read(write(tmp_path, task(submitted(hypertext(**more)), submitted(*full_results(characters)))))
    check_full(doc)
    # Labels in the same text do not make it complete.
    with_both = task(submitted(hypertext(**more), *full_results(characters)))
    docs, report = read(write(tmp_path, with_both))
    assert not docs and report.notes[label_studio.UNPLACED_REGION] == 1


def test_a_text_with_regions_of_its_own_is_read_beside_one_without_places(tmp_path: Path) -> None:
    title = {**hypertext(globalOffsets=None), "to_name": "page"}
    path = write(tmp_path, task(submitted(title, *full_results(characters)), page="<p>Anna</p>", text=TEXT))
    [doc], report = read(path)
    check_full(doc)
    assert report.notes == {label_studio.OTHER_RESULT: 1}


def test_regions_without_labels_in_json_min(tmp_path: Path) -> None:
    anna, tarvik = ({**characters(place), "text": TEXT[slice(*place)]} for place in (ANNA_BRANDT, TARVIK))
    lists = {"label": [{**anna, "labels": ["PER"]}], "mood": [{**anna, "choices": ["sad"]}, {**tarvik, "text": ["N."]}]}
    path = write(tmp_path, {"id": 1, "text": TEXT, "annotator": 3, "annotation_id": 9, **lists})
    [doc], report = read(path)
    assert named(doc.ents) == [("Anna Brandt", "PER")]
    assert [token.text for token in doc if not token.ent_iob] == ["Tarvik"]
    assert report.notes == {label_studio.OTHER_RESULT: 1, label_studio.REGION_OF_OTHER_TYPE: 1}
    assert not report.unread_keys


def test_regions_of_cancelled_annotations_tell_the_text(tmp_path: Path) -> None:
    """A malformed one tells nothing, and is no error."""
    first = {"id": 1, "headline": TEXT, "body": "A remark about the task, longer than its text is."}
    second = {"id": 2, "headline": "Nothing.", "body": "Another longer remark about the task."}
    bad = {"id": "x", "type": "labels", "value": {"start": "0"}}
    cancelled = [submitted(*results, was_cancelled=True) for results in (full_results(characters), [bad])]
    docs, report = read(write(tmp_path, task(*cancelled, **first), task(submitted(), **second)))
    assert [doc.text for doc in docs] == ["Nothing."] and report.notes[label_studio.CANCELLED] == 2


def test_an_answer_without_regions_says_that_there_are_none(tmp_path: Path) -> None:
    """The name of the text does not matter. A remark about an image is no text, unless regions are in such remarks."""
    choice = {"id": "y", "type": "choices", "to_name": "t", "value": {"choices": ["sad"]}}
    box = {"id": "x", "type": "rectanglelabels", "value": {"x": 1.5, "rectanglelabels": ["Cat"]}}
    image = {"image": "https://pictures.example/1.png", "body": "A cat."}
    tasks = [task(submitted(choice), id=1, body="Nothing."), task(submitted(box), id=2, **image)]
    docs, report = read(write(tmp_path, *tasks))
    assert [doc.text for doc in docs] == ["Nothing."] and not docs[0].spans["sc"]
    assert report.notes == {label_studio.OTHER_RESULT: 2, label_studio.TASK_WITHOUT_TEXT: 1}
    docs, report = read(write(tmp_path, *tasks, task(submitted(*full_results(characters)), id=3, body=TEXT)))
    assert [doc.text for doc in docs] == ["Nothing.", "A cat.", TEXT]
    assert report.notes == {label_studio.OTHER_RESULT: 2} and report.unread_keys == {"data.image": 1, "predictions": 3}


@pytest.mark.parametrize("minimal", [True, False])
def test_the_text_is_where_regions_are_in_later_tasks(tmp_path: Path, minimal: bool) -> None:
    """Also of tasks without regions that come first and have a longer string. What is not read is reported."""
    url = "some very very long remark about its source"
    data = [{"review": "Nothing.", "url": url}, {"review": TEXT, "url": TEXT[:8]}, {"review": "Quill.", "url": url}]
    if minimal:
        labels = [{**characters(ANNA), "text": "Anna", "labels": ["PER"]}]
        tasks = [{"id": i, **item, "annotator": 1, "annotation_id": i} for i, item in enumerate(data)]
        tasks[0] |= {"label": [], "mood": {"choices": ["sad"]}, "note": ["long"]}
        tasks[1] |= {"label": labels}
        unread = {"url": 3, "mood": 1, "note": 1}
    else:
        results = [[], [region(characters(ANNA), "PER", "a", "Anna")], []]
        tasks = [task(submitted(*some), id=i, **data[i]) for i, some in enumerate(results)]
        unread = {"data.url": 3, "predictions": 3}
    docs, report = read(write(tmp_path, *tasks))
    assert [doc.text for doc in docs] == ["Nothing.", TEXT, "Quill."]
    assert [named(doc.ents) for doc in docs] == [[], [("Anna", "PER")], []]
    assert report.notes == {label_studio.CHOSEN_TEXT: 3} and report.unread_keys == unread


def test_directions_and_labels_of_relations_in_label_studio(tmp_path: Path) -> None:
    def relation(**more: Any) -> dict[str, Any]:
        return {"type": "relation", "from_id": "b", "to_id": "c", **more}

    results = [
        *full_results(characters)[:3],
        relation(direction="left", labels=["x"]),
        relation(direction="bi", labels=["y", "z"]),
        relation(direction="right"),
    ]
    [doc], report = read(write(tmp_path, task(submitted(*results))))
    anna, tarvik = "Anna Brandt", "Tarvik"
    assert sorted(relations_of(doc)) == sorted(
        [(tarvik, "x", anna), (anna, "y", tarvik), (tarvik, "y", anna), (anna, "z", tarvik), (tarvik, "z", anna)]
    )
    assert report.notes == {label_studio.WITHOUT_LABEL: 1}


@pytest.mark.parametrize(
    ("results", "reason"),
    [
        ([region({"start": 0, "end": 99}, "PER", "a")], "outside of the 26 characters"),
        ([region({"start": 2, "end": 6}, "PER", "a", "Anne")], "the region 2-6 is 'Anna', not 'Anne'"),
        ([region({"start": 2, "end": 6}, "PER", "a", "Anne")], r"data\['text'\] in utf-16"),
        (
            [region(characters(place), "PER", "a") for place in (ANNA, TARVIK)]
            + [{"type": "relation", "from_id": "a", "to_id": "a", "labels": ["x"]}],
            "'a', which is the id of several regions",
        ),
        ([{"value": {}}], r"annotations\[0\].result\[0\].type: Field required"),
    ],
)
def test_faults_of_label_studio(tmp_path: Path, results: list[Any], reason: str) -> None:
    good = task(submitted(*full_results(characters)), id=2)
    path = write(tmp_path, task(submitted(*results)), good)
    with pytest.raises(FormatError, match=reason) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}:2: object 1: ")
    [doc], report = read(path, on_error="skip")
    check_full(doc)
    assert report.notes == {SKIPPED: 1} and not set(report.unread_keys) - {"predictions"}


# Several annotators


@pytest.fixture
def of_three(tmp_path: Path) -> Path:
    """Two annotators agree on two entities and a relation; each of the three has something else."""
    a, b, c, relation = full_results(characters)
    other = {"type": "relation", "from_id": "b", "to_id": "c", "labels": ["visited"]}
    annotations = [
        submitted(a, b, by={"id": 4, "email": "ada@tools.example"}),
        submitted(b, c, relation, by=5, ground_truth=True),
        submitted(b, c, relation, other, region(characters((14, 18)), "VERB", "v", "left"), by=6),
    ]
    return write(tmp_path, task(*annotations))


@pytest.mark.parametrize(
    ("choice", "entities"),
    [
        ("first", [WIDEST]),  # the ground truth
        ("ada@tools.example", [ENTITIES[:2]]),
        ("6", [[WIDEST[0], ("left", "VERB"), WIDEST[1]]]),
        ("all", [WIDEST, ENTITIES[:2], [WIDEST[0], ("left", "VERB"), WIDEST[1]]]),
    ],
)
def test_an_annotator_is_chosen(of_three: Path, choice: str, entities: list[Any]) -> None:
    docs, report = read(of_three, annotators=choice)
    assert [named(doc.spans["sc"]) for doc in docs] == entities
    assert report.notes[annotators.OTHER_ANNOTATORS] == 3 - len(docs)


def test_annotators_are_merged(of_three: Path) -> None:
    """What one of three annotators marked is not annotated, neither as an entity or relation nor as none."""
    of_three.write_bytes(of_three.read_bytes().replace(b'"ground_truth": true', b'"ground_truth": false'))
    [doc], report = read(of_three, annotators="merge")
    assert named(doc.spans["sc"]) == named(doc.ents) == WIDEST and not has_relations(doc)
    assert [token.ent_iob_ for token in doc] == ["O", "B", "I", "", "B", "O"]
    kinds = annotators.DISAGREEMENT, annotators.RELATION_DISAGREEMENT, annotators.BESIDE_DISAGREEMENT
    assert report.notes == dict(zip(kinds, (2, 1, 1), strict=True))
    place = f"{of_three}:2: object 1"
    assert [report.examples[kind] for kind in kinds] == [
        [f"{place}: 'Anna' FIRST", f"{place}: 'left' VERB"],
        [f"{place}: 'Anna Brandt' visited 'Tarvik'"],
        [f"{place}: 'Anna Brandt' left 'Tarvik'"],
    ]


@pytest.mark.parametrize("label", ["PER", "HERO"])
def test_relations_are_merged(tmp_path: Path, label: str) -> None:
    """A relation of an entity on which the annotators do not agree is not annotated, as none."""
    results = [[region(characters(ANNA_BRANDT), name, "b"), *full_results(characters)[2:]] for name in ("PER", label)]
    [doc], report = read(
        write(tmp_path, task(*(submitted(*one, by=i) for i, one in enumerate(results)))), annotators="merge"
    )
    if label == "PER":
        assert relations_of(doc) == RELATION and not report.notes
    else:
        assert named(doc.ents) == [("Tarvik", "LOC")] and not has_relations(doc)
        assert report.notes == {annotators.DISAGREEMENT: 2, annotators.RELATION_DISAGREEMENT: 2}


def test_white_space_is_no_disagreement(tmp_path: Path) -> None:
    results = [region(characters(place), "PER", "a") for place in (ANNA_BRANDT, (1, 14))]
    path = write(tmp_path, task(*(submitted(one, by=i) for i, one in enumerate(results))))
    [doc], report = read(path, annotators="merge", unit="characters")
    assert named(doc.ents) == [("Anna Brandt", "PER")] and report.notes == {TRIMMED: 1}


def test_several_annotations_by_one_annotator_in_label_studio(tmp_path: Path) -> None:
    """The latest counts, without dates the last one, or the one that is marked as ground truth."""
    early, late = submitted(region(characters(ANNA), "X", "a")), submitted(region(characters(TARVIK), "Y", "a"))
    may_2, before = "2024-05-02T00:00:00.500000Z", "2024-05-02T01:30:00+02:00"
    dated = [{**early, "updated_at": may_2}, {**late, "created_at": before}]
    for annotations, label in (
        ([early, late], "Y"),
        ([{**early, "ground_truth": True}, late], "X"),
        (dated, "X"),
        ([*dated[:1], {**late, "updated_at": "2024-05-03T00:00:00.250000Z", "created_at": "2024-04-01"}], "Y"),
    ):
        [doc], report = read(write(tmp_path, task(*annotations)), annotators="merge", unit="characters")
        assert [ent.label_ for ent in doc.ents] == [label] and report.notes == {annotators.SUPERSEDED: 1}


def test_a_ground_truth_of_label_studio_is_not_outvoted(tmp_path: Path) -> None:
    wrong, right = ([region(characters(ANNA_BRANDT), label, "a")] for label in ("ORG", "PER"))
    path = write(tmp_path, task(submitted(*wrong), submitted(*wrong, by=2), submitted(*right, by=3, ground_truth=True)))
    for choice in ("first", "merge"):
        [doc], report = read(path, annotators=choice, unit="characters")
        assert named(doc.ents) == [("Anna Brandt", "PER")] and report.notes == {annotators.OTHER_ANNOTATORS: 2}
        assert [token.ent_iob_ for token in doc] == ["O", "B", "I", "O", "O", "O"]


def test_a_later_cancelled_annotation_of_label_studio_withdraws_an_earlier_one(tmp_path: Path) -> None:
    """Not that of another annotator, not a ground truth, and not without dates."""
    may, june = "2024-05-02T00:00:00Z", "2024-06-02T00:00:00Z"

    def count(first: dict[str, Any], by: int = 1, **second: Any) -> tuple[list[Doc], int]:
        annotations = [
            submitted(region(characters(TARVIK), "LOC", "a"), **first),
            submitted(by=by, **second) | {"was_cancelled": True},
        ]
        other = submitted(region(characters(ANNA), "X", "a"), by=7, updated_at=june)
        for own, left in ((annotations, 0), ([*annotations, other], 1), ([other, *annotations[::-1]], 1)):
            docs, report = read(write(tmp_path, task(*own)), annotators="all")
            assert report.notes[label_studio.CANCELLED] == 1
            assert len(docs) == left + 1 - report.notes[annotators.WITHDRAWN]
        return docs, report.notes[annotators.WITHDRAWN]

    docs, withdrawn = count({"updated_at": may}, created_at=june)
    assert withdrawn == 1 and named(docs[0].ents) == [("Anna", "X")]
    for first, second in (
        ({"updated_at": june}, {"updated_at": may}),
        ({"updated_at": may}, {"updated_at": june, "by": 2}),
        ({"updated_at": may, "ground_truth": True}, {"updated_at": june}),
        ({}, {}),
    ):
        assert count(first, **second)[1] == 0


def test_an_unknown_annotator_is_an_error(of_three: Path) -> None:
    with pytest.raises(ValueError, match=r"one of first, all, merge or the name of an annotator \(5, 6, ada@tools.ex"):
        read(of_three, annotators="bo")


# doccano


def test_doccano_counts_units_of_utf16(tmp_path: Path) -> None:
    def entity(bounds: tuple[int, int], label: str, id: int) -> dict[str, Any]:
        return {"id": id, "label": label, "start_offset": bounds[0] + 1, "end_offset": bounds[1] + 1}

    line = {
        "id": 12,
        "text": TEXT,
        "Comments": [],
        "entities": [entity(ANNA, "FIRST", 1), entity(ANNA_BRANDT, "PER", 2), entity(TARVIK, "LOC", 3)],
        "relations": [{"id": 1, "from_id": 2, "to_id": 3, "type": "left"}],
    }
    empty = {"id": 13, "text": "Nothing.", "Comments": [], "entities": [], "relations": []}
    path = write(tmp_path, line, empty, name="all.jsonl", as_list=False)
    assert detect_format(path) == "doccano"
    docs, report = read(path)
    check_full(docs[0])
    assert report.notes == {texts.NO_ENTITY: 1} and report.unread_keys == {"Comments": 2}


def test_a_list_of_entities_with_an_id_is_no_export_of_doccano(tmp_path: Path) -> None:
    """doccano counts units of UTF-16, so that entities after an emoji would be read at the wrong place."""
    empty = {"id": 1, "text": "Nothing.", "entities": [], "relations": []}
    line = {"id": 2, "text": "\U0001f355 Anna left", "entities": [[2, 6, "PER"]], "relations": []}
    path = write(tmp_path, empty, line, name="a.jsonl", as_list=False)
    docs, report = read(path)
    assert detect_format(path) == "offsets" and report.unread_keys == {"id": 2}
    assert named(docs[1].ents) == [("Anna", "PER")]


ENTITY_OBJECT = {"start": 2, "end": 6, "label": "PER"}


@pytest.mark.parametrize(
    ("format", "record"),
    [
        ("doccano", {"cats": ["sad"], "entities": [[3, 7, "PER"]], "Comments": []}),
        ("doccano", {"cats": ["sad"], "entities": [[3, 7, "PER"]]}),
        ("doccano", {"meta": {}, "annotation_approver": None, "labels": [[3, 7, "PER"]]}),
        ("doccano", {"label": [[3, 7, "PER"]]}),
        ("doccano", {"entities": [{"start_offset": 3, "end_offset": 7, "label": "PER"}], "relations": []}),
        ("offsets", {"label": [ENTITY_OBJECT]}),
        ("offsets", {"labels": [[2, 6, "PER"]]}),
        (
            "offsets",
            {
                "entities": [ENTITY_OBJECT],
                "relations": [{"head": ENTITY_OBJECT, "tail": ENTITY_OBJECT, "label": "self", "score": 0.5}],
            },
        ),
    ],
)
def test_doccano_is_told_from_offsets(tmp_path: Path, format: str, record: dict[str, Any]) -> None:
    """After an emoji, the offsets of the other format would be wrong. The first texts have no entity."""
    empty = {key: [] if isinstance(value, list) else value for key, value in record.items()}
    lines = [{"id": i, "text": "Nothing.", **empty} for i in range(200)]
    lines.append({"id": 200, "text": "\U0001f355 Anna left", **record})
    path = write(tmp_path, *lines, name="a.jsonl", as_list=False)
    assert detect_format(path) == format
    docs, _ = read(path)
    assert named(docs[-1].ents) == [("Anna", "PER")]
    assert relations_of(docs[-1]) == ([("Anna", "self", "Anna")] if record.get("relations") else [])


def test_doccano_without_relations_and_in_graphemes(tmp_path: Path) -> None:
    """The flag has two characters and four units of UTF-16, and is one grapheme."""
    text = "\U0001f1f3\U0001f1f4 Zoe\u0308 sang"
    for unit, start, end in (("characters", 3, 7), ("utf-16", 5, 9), ("graphemes", 2, 5)):
        path = write(tmp_path, {"id": 1, "text": text, "label": [[start, end, "PER"]]}, name="a.jsonl", as_list=False)
        [doc], _ = read(path, "doccano", unit=unit)
        assert named(doc.ents) == [("Zoe\u0308", "PER")] and not has_relations(doc)
    with pytest.raises(FormatError, match=r"a.jsonl:1: the span \[2, 5, 'PER'\] has a bound within a character"):
        line = {"id": 1, "text": "a\U0001f600\U0001f600", "label": [[2, 5, "PER"]]}
        read(write(tmp_path, line, name="a.jsonl", as_list=False))


@pytest.mark.parametrize("unit", ["utf-16", "graphemes"])
def test_the_units_of_a_text_are_counted_as_often_with_many_entities(tmp_path: Path, monkeypatch, unit: str) -> None:
    counted: list[int] = []
    unit_places = text_units.unit_places

    def count(text: str, unit: str) -> list[tuple[int, int]]:
        counted[-1] += 1
        return unit_places(text, unit)

    monkeypatch.setattr(text_units, "unit_places", count)
    for number in (1, 50):
        counted.append(0)
        bounds = [(5 * i, 5 * i + 4) for i in range(number)]
        entities = [{"start": start, "end": end, "label": "PER", "text": "Anna"} for start, end in bounds]
        line = {"text": "Anna " * number, "entities": entities}
        [doc], _ = read(write(tmp_path, line, name="a.jsonl", as_list=False), "offsets", unit=unit)
        assert len(doc.ents) == number
        mentions = {"PER": {"Anna": [[start, end - 1] for start, end in bounds]}}
        line = {"text": "Anna " * number, "label": mentions}
        [doc], _ = read(write(tmp_path, line, name="a.jsonl", as_list=False), "cluener", unit=unit)
        assert len(doc.ents) == number
    assert 0 < counted[0] == counted[1] <= 4
    line["label"]["PER"]["Anna"][30] = [149, 152]
    with pytest.raises(FormatError, match="the entity 149-153 is ' Ann' in the text, but 'Anna' in its own key"):
        read(write(tmp_path, line, name="a.jsonl", as_list=False), "cluener", unit=unit)


def test_graphemes_are_those_of_unicode() -> None:
    regex = pytest.importorskip("regex")
    parts = [
        "\U0001f1e6",
        "\U0001f1e7",
        "a",
        "\u0301",
        "\u200d",
        "\U0001f468",
        "\u0600",
        "\u0903",
        "\r",
        "\n",
        "\u1100",
    ]
    for text in map("".join, itertools.product(parts, repeat=4)):
        found = [place for _, place in text_units.unit_places(text, "graphemes")]
        assert found == [0, *(match.end() for match in regex.finditer(r"\X", text))]


LARGE = 3 * 10**9


@pytest.mark.parametrize(
    "function",
    [
        lambda: text_units.unit_places("\U0001f1e6" * 100_000, "graphemes"),
        lambda: pytest.raises(ValueError, text_units.convert_spans, [(0, LARGE, "X")], range(LARGE), "characters"),
        lambda: trim_spans(LINE, [(i, 100_001, "X") for i in range(1, 20_000)], "a" + " " * 100_000),
        lambda: pytest.raises(FormatError, parse_json, LINE, "mend it"),
    ],
)
def test_times_are_linear(function: Any) -> None:
    started = time.perf_counter()
    function()
    assert time.perf_counter() - started < 20  # of minutes


def test_places_of_few_graphemes_need_little_memory() -> None:
    pytest.importorskip("regex")
    text = "e" + "\u0301" * 100_000
    tracemalloc.start()
    assert text_units.unit_places(text, "graphemes") == [(0, 0), (1, len(text))]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("span, expected", [((0, 4), (1, 3)), ((1, 3), (1, 3)), ((3, 6), None), ((5, 8), (6, 8))])
def test_white_space_at_the_ends_of_spans(span: tuple[int, int], expected: tuple[int, int] | None) -> None:
    [trimmed], notes = trim_spans(LINE, [(*span, "X")], " ab   cd")
    assert trimmed == (expected and (*expected, "X"))
    assert [note.kind for note in notes] == ([] if span == expected else [TRIMMED if expected else BLANK])


def test_files_of_several_annotators_and_ids_that_clash_in_doccano(tmp_path: Path) -> None:
    lines = [
        {"id": 1, "text": "Anna left.", "label": [[0, 4, "PER"]]},
        {"id": 1, "text": "Anna left.", "label": []},
        {"id": 1, "text": "Moss left.", "label": [[0, 4, "PER"]]},
        {"id": 1, "text": "Moss left.", "label": []},
    ]
    path = write(tmp_path, *lines, name="a.jsonl", as_list=False)
    docs, report = read(path)
    assert [(doc.text, named(doc.ents)) for doc in docs] == [
        ("Anna left.", [("Anna", "PER")]),
        ("Moss left.", [("Moss", "PER")]),
    ]
    assert report.notes == {annotators.NOT_SEEN: 2, annotators.CLASH: 1}
    assert report.examples[annotators.CLASH] == [f"{path}:3: 1, first at {path}:1"]


@pytest.mark.parametrize("choice", ["first", "merge", "all"])
def test_files_of_doccano_with_texts_that_the_annotator_has_not_seen(tmp_path: Path, choice: str) -> None:
    """A project in which each annotator has an own copy exports one file for each of them, with all texts."""
    own = [[], [[0, 4, "PER"]], []], [[[0, 4, "PER"]], [], []]
    lines = [{"id": i, "text": f"Anna left {i}.", "label": label} for by in own for i, label in enumerate(by)]
    docs, report = read(write(tmp_path, *lines, name="all.jsonl", as_list=False), annotators=choice)
    texts_without = 2 if choice == "all" else 1
    assert [named(doc.ents) for doc in docs] == [[("Anna", "PER")]] * 2 + [[]] * texts_without
    assert [token.ent_iob for token in docs[0]] == [3, 2, 2, 2]
    assert report.notes == {
        annotators.NOT_SEEN: 2,
        texts.NO_ENTITY: texts_without,
        **({annotators.OTHER_ANNOTATORS: 1} if choice == "first" else {}),
    }


# Prodigy


def prodigy(**more: Any) -> dict[str, Any]:
    names = [(ANNA, "FIRST"), (ANNA_BRANDT, "PER"), (TARVIK, "LOC")]
    spans = [{**characters(place), "token_start": 1, "token_end": 1, "label": label} for place, label in names]
    relation = {"head": 2, "child": 4, "head_span": spans[1], "child_span": spans[2], "color": "x", "label": "left"}
    line = {"text": TEXT, "_input_hash": 5, "_task_hash": 6, "spans": spans, "relations": [relation]}
    return {**line, "answer": "accept", **more}


def test_prodigy(tmp_path: Path) -> None:
    lines = [
        prodigy(_annotator_id="ada"),
        prodigy(_annotator_id="bo", spans=[], relations=[]),
        prodigy(text="No spans at all.", _input_hash=7, spans=None, relations=None),
        prodigy(answer="reject"),
        {"text": "Only a text", "_input_hash": 8, "_task_hash": 9},
    ]
    path = write(tmp_path, *lines, name="out.jsonl", as_list=False)
    assert detect_format(path) == "prodigy"
    docs, report = read(path)
    check_full(docs[0])
    assert len(docs) == 2 and not docs[1].spans["sc"]
    assert {kind: n for kind, n in report.notes.items() if "rejected" not in kind} == {
        annotators.OTHER_ANNOTATORS: 1,
        texts.UNLABELLED: 1,
    }
    [doc], report = read(path, annotators="bo")
    assert not doc.ents and report.notes[annotators.OTHER_ANNOTATORS] == 2


def test_relations_of_tokens_of_prodigy_are_left_out_and_counted(tmp_path: Path) -> None:
    """rel.manual also relates tokens that are not entities. Their spans have no label."""
    line = prodigy()
    token = {"start": 14, "end": 18, "token_start": 3, "token_end": 3, "label": None}
    line["relations"] += [{"head": 3, "child": 4, "head_span": token, "child_span": line["spans"][2], "label": "obj"}]
    path = write(tmp_path, line, name="out.jsonl", as_list=False)
    [doc], report = read(path)
    check_full(doc)
    assert report.notes == {prodigy_format.OF_TOKENS: 1}
    [doc], _ = read(write(tmp_path, {**line, "relations": line["relations"][1:]}, name="out.jsonl", as_list=False))
    assert has_relations(doc) and not relations_of(doc)


def test_relations_of_entities_that_were_edited_in_prodigy(tmp_path: Path) -> None:
    """Relations are kept when an entity is removed or changed. Then none of the text has been looked at since."""
    line = prodigy()
    first, person, place = line["spans"]
    other = {"head": 1, "child": 1, "head_span": first, "child_span": first, "label": "is"}
    edited = [first, {**person, "label": "ORG"}, place], [first, place], []
    relations = [*line["relations"], other]
    lines = [{**line, "spans": spans, "relations": relations, "_input_hash": i} for i, spans in enumerate(edited)]
    path = write(tmp_path, *lines, name="out.jsonl", as_list=False)
    docs, report = read(path)
    assert [len(doc.spans["sc"]) for doc in docs] == [3, 2, 0] and not any(map(has_relations, docs))
    assert report.notes == {prodigy_format.STALE: 4, prodigy_format.BESIDE_STALE: 2}
    assert report.examples[prodigy_format.STALE][0] == f"{path}:1: 'Anna Brandt' PER left 'Tarvik' LOC"
    assert report.examples[prodigy_format.BESIDE_STALE][0] == f"{path}:1: 'Anna' FIRST is 'Anna' FIRST"


def test_relations_that_an_interface_of_prodigy_does_not_show_are_not_annotated(tmp_path: Path) -> None:
    views = [("ner_manual", False), ("relations", True), ("blocks", True), (None, True)]
    lines = [prodigy(_view_id=view, _input_hash=i) for i, (view, _) in enumerate(views)]
    lines += [prodigy(_view_id="review", view_id=view, _input_hash=view) for view, _ in views[:2]]
    lines += [prodigy(_view_id="spans_manual", _input_hash=9, relations=[])]
    path = write(tmp_path, *lines, name="out.jsonl", as_list=False)
    docs, report = read(path)
    assert [has_relations(doc) for doc in docs] == [False, True, True, True, False, True, False]
    assert report.notes == {prodigy_format.NOT_SHOWN: 3} and report.relations == {"left": 4}
    assert report.examples[prodigy_format.NOT_SHOWN][0] == f"{path}:1: ner_manual with 1 relations"


@pytest.mark.parametrize("answer", ["reject", "ignore"])
def test_rejected_spans_of_prodigy_are_left_out(tmp_path: Path, answer: str) -> None:
    line = prodigy(relations=None)
    line["spans"] = [*line["spans"][:2], {**line["spans"][2], "answer": answer}]
    path = write(tmp_path, line, name="out.jsonl", as_list=False)
    for choice in ("first", "merge"):
        [doc], report = read(path, annotators=choice)
        assert named(doc.spans["sc"]) == ENTITIES[:2]
        assert [token.ent_iob_ for token in doc] == ["O", "B", "I", "O", "", "O"]
        assert report.notes == {prodigy_format.REJECTED_SPAN: 1}
        assert report.examples[prodigy_format.REJECTED_SPAN] == [f"{path}:1: 'Tarvik' LOC"]
    line["spans"][2]["end"] = 99
    with pytest.raises(FormatError, match="the span .* is empty or outside of the 26 characters"):
        read(write(tmp_path, line, name="out.jsonl", as_list=False))


def test_binary_annotation_of_prodigy_is_partial(tmp_path: Path) -> None:
    line = prodigy(_is_binary=True, relations=None)
    [doc], _ = read(write(tmp_path, line, name="out.jsonl", as_list=False))
    assert named(doc.ents) == WIDEST
    assert [token.ent_iob_ for token in doc] == ["", "B", "I", "", "B", ""]


def test_binary_annotations_of_a_text_are_joined(tmp_path: Path) -> None:
    """Each question is about one entity. What another annotator has answered is not joined."""

    def answer(by: str, *spans: tuple[tuple[int, int], str], **more: Any) -> dict[str, Any]:
        marked = [{**characters(place), "label": label} for place, label in spans]
        return prodigy(_annotator_id=by, spans=marked, relations=None, **more)

    lines = [
        answer("ada", (ANNA_BRANDT, "PER"), _is_binary=True),
        answer("bo", (ANNA, "FIRST"), _is_binary=True),
        answer("ada", (TARVIK, "LOC"), _is_binary=True),
    ]
    path = write(tmp_path, *lines, name="out.jsonl", as_list=False)
    [doc], report = read(path)
    assert named(doc.ents) == WIDEST and [token.ent_iob_ for token in doc] == ["", "B", "I", "", "B", ""]
    assert report.notes == {annotators.OTHER_ANNOTATORS: 1}
    # With a complete annotation of another annotator, other tokens are known.
    lines[1] = answer("bo", (ANNA_BRANDT, "PER"))
    [doc], report = read(write(tmp_path, *lines, name="out.jsonl", as_list=False), annotators="merge")
    assert named(doc.ents) == WIDEST[:1] and [token.ent_iob_ for token in doc] == ["O", "B", "I", "O", "", "O"]


def test_the_latest_answer_of_an_annotator_of_prodigy_counts(tmp_path: Path) -> None:
    """Several rounds of one annotator are one vote. A complete answer counts more than one to a binary question."""

    def answer(by: str, place: tuple[int, int], label: str, time: float, **more: Any) -> dict[str, Any]:
        spans = [{**characters(place), "label": label}]
        return prodigy(_annotator_id=by, spans=spans, relations=None, _timestamp=time, **more)

    lines = [
        answer("ada", TARVIK, "LOC", 2),
        answer("ada", TARVIK, "PER", 1),
        answer("ada", TARVIK, "PER", 3, _is_binary=True),
        answer("bo", TARVIK, "PER", 1),
        answer("bo", TARVIK, "LOC", 1),
    ]
    path = write(tmp_path, *lines, name="out.jsonl", as_list=False)
    for choice in ("first", "merge", "ada", "bo"):
        [doc], report = read(path, annotators=choice)
        assert named(doc.ents) == [("Tarvik", "LOC")] and not any(token.ent_iob == 0 for token in doc)
        assert report.notes[annotators.SUPERSEDED] == 3
        assert report.examples[annotators.SUPERSEDED][0] == f"{path}:2: annotator ada"
    assert len(read(path, annotators="all")[0]) == 2


@pytest.mark.parametrize("answer", ["reject", "ignore"])
def test_a_later_reject_in_prodigy_withdraws_earlier_answers(tmp_path: Path, answer: str) -> None:
    kind, accept = REJECTED[answer], {"_annotator_id": "ada", "relations": None}
    lines = [
        prodigy(**accept, _timestamp=2),
        prodigy(_annotator_id="bo", relations=None, spans=[], _timestamp=1),
        prodigy(_annotator_id="ada", answer=answer, _timestamp=3, _view_id="ner_manual", spans="malformed"),
    ]
    path = write(tmp_path, *lines, name="out.jsonl", as_list=False)
    for choice, left in (("first", 1), ("merge", 1), ("ada", 0), ("all", 1)):
        docs, report = read(path, annotators=choice)
        assert [named(doc.ents) for doc in docs] == [[]] * left
        assert report.notes[kind] == report.notes[annotators.WITHDRAWN] == 1
        assert report.examples[annotators.WITHDRAWN] == [f"{path}:1: annotator ada"]
    # What comes later counts, by time and then by place. It does not make the annotator the first one.
    for times in ((3, 2), (3, 3)):
        later = [{**lines[2], "_timestamp": times[1]}, lines[1], {**lines[0], "_timestamp": times[0]}]
        path = write(tmp_path, *later, name="out.jsonl", as_list=False)
        assert named(read(path, annotators="ada")[0][0].ents) == WIDEST
        [doc], report = read(path)
        assert not doc.ents and not report.notes[annotators.WITHDRAWN] and report.notes[kind] == 1


@pytest.mark.parametrize(
    "more",
    [
        {"_is_binary": True},
        {"_view_id": "ner"},
        {"_view_id": "choice"},
        {"_view_id": "review", "view_id": "classification"},
        {"_view_id": "blocks", "spans": None},
        {"_annotator_id": "bo"},
        {"_input_hash": 6},
        {"text": "Another text"},
        {"_timestamp": "malformed"},
    ],
)
def test_a_reject_of_prodigy_that_is_not_about_the_whole_text_withdraws_nothing(tmp_path: Path, more: Any) -> None:
    lines = [prodigy(_timestamp=1), prodigy(answer="reject", **{"_timestamp": 2, **more})]
    docs, report = read(write(tmp_path, *lines, name="out.jsonl", as_list=False))
    check_full(docs[0])
    assert len(docs) == 1 and report.notes[REJECTED["reject"]] == 1 and not report.notes[annotators.WITHDRAWN]


def test_an_interface_of_prodigy_without_spans_says_nothing_about_entities(tmp_path: Path) -> None:
    lines = [
        prodigy(_timestamp=1, _view_id="ner_manual", _annotator_id="ada"),
        prodigy(_timestamp=2, _view_id="choice", _annotator_id="ada", spans=None, relations=None),
    ]
    [doc], report = read(write(tmp_path, *lines, name="out.jsonl", as_list=False))
    assert named(doc.ents) == WIDEST and report.notes[texts.UNLABELLED] == 1


@pytest.mark.parametrize("names", [("2024-05-01_10-00-00", "r-2-2024-06-01_10-00-00"), (None, "2024-05-01_10-00-00")])
def test_annotators_of_prodigy_without_named_sessions_are_one(tmp_path: Path, names: tuple[str | None, str]) -> None:
    """Their names say when the server was started. The latest annotation counts, and is one vote."""

    def answer(name: str | None, label: str, time: int) -> dict[str, Any]:
        spans = [{**characters(TARVIK), "label": label}]
        # A missing name is that of the session.
        who = {"_annotator_id": None if name == "r-ada" else name, "_session_id": name}
        return prodigy(spans=spans, relations=None, _timestamp=time, **who)

    lines = [
        answer(names[0], "ORG", 1),
        answer(names[1], "LOC", 2),
        answer("r-ada", "LOC", 3),
        answer("r-2-bo", "X", 4),
    ]
    path = write(tmp_path, *lines, name="out.jsonl", as_list=False)
    for choice in ("first", "merge", "unnamed"):
        [doc], report = read(path, annotators=choice)
        assert named(doc.ents) == [("Tarvik", "LOC")]
        assert report.examples[annotators.SUPERSEDED] == [f"{path}:1: annotator unnamed"]
    with pytest.raises(ValueError, match=r"name of an annotator \(r-2-bo, r-ada, unnamed\)"):
        read(path, annotators="bo")


def test_tasks_of_prodigy_that_are_not_about_spans_of_a_text_are_left_out(tmp_path: Path) -> None:
    pixels = [{"x": 1, "y": 2, "points": [[1, 2]], "label": "CAT"}]
    of_text = [
        {"_view_id": "classification", "label": "GOOD"},
        {"_view_id": "classification", "label": "GOOD", "spans": [{"start": 0, "end": 4, "pattern": 3}]},
        {"_view_id": "review", "view_id": "classification", "label": "GOOD"},
        {"_view_id": "review", "view_id": "choice", "accept": ["GOOD"]},
        {"_view_id": "blocks", "accept": ["GOOD"]},
        {"_view_id": "llm_io", "llm": {"prompt": "a", "response": "b"}},
        {"_view_id": "image_manual", "image": "a.png", "spans": pixels},
    ]
    of_no_text = [
        {"_view_id": "image_manual", "image": "a.png", "spans": pixels},
        {"_view_id": "audio_manual", "audio": "a.wav", "audio_spans": [{"start": 0.1, "end": 0.2, "label": "HUM"}]},
        {"_view_id": "blocks", "image": "a.png", "text": None},
        {"_view_id": "choice", "image": "a.png"},
        {"_view_id": "compare", "input": {"text": "a"}, "accept": {"text": "b"}, "reject": {"text": "c"}},
        {"_view_id": "html", "html": "<b>a</b>"},
        {"video": "a.mp4"},
        {"text": None, "_view_id": "ner_manual", "spans": []},
    ]
    tokens = [{"text": "Quill", "start": 0, "end": 5, "id": 0}]
    read_ones = [
        prodigy(_view_id="blocks", label="GOOD", accept=["GOOD"]),
        {"text": "Quill", "tokens": tokens, "_input_hash": "b", "answer": "accept", "_view_id": "blocks"},
    ]
    others = [{"text": TEXT, "answer": "accept", **line} for line in of_text]
    others += [{"answer": "accept", **line} for line in of_no_text]
    docs, report = read(write(tmp_path, *read_ones, *others, name="out.jsonl", as_list=False), annotators="all")
    assert [doc.text for doc in docs] == [TEXT, "Quill"] and named(docs[0].ents) == WIDEST
    assert report.notes == {texts.UNLABELLED: len(of_text), texts.TASK_WITHOUT_TEXT: len(of_no_text)}
    for line in (
        {"_view_id": "ner_manual", "answer": "accept"},
        {"text": TEXT, "label": [], "spans": []},
    ):
        with pytest.raises(FormatError, match="text: Field required|found label and spans"):
            read(write(tmp_path, line, name="out.jsonl", as_list=False), "prodigy")


def test_binary_answers_of_several_annotators_are_merged(tmp_path: Path) -> None:
    """An answer to a binary question says nothing about what others marked."""
    places = [("ada", ANNA_BRANDT, "PER"), ("bo", TARVIK, "LOC")]
    lines = [
        prodigy(_annotator_id=by, spans=[{**characters(place), "label": label}], relations=None, _is_binary=True)
        for by, place, label in places
    ]
    [doc], report = read(write(tmp_path, *lines, name="out.jsonl", as_list=False), annotators="merge")
    assert named(doc.ents) == WIDEST and not report.notes
    assert [token.ent_iob_ for token in doc] == ["", "B", "I", "", "B", ""]


# brat


def test_brat(tmp_path: Path) -> None:
    """Windows line ends count two characters, as brat itself counts them; a name goes over a line end."""
    text = "\U0001f600 Anna\r\nBrandt left Upper and Lower Tarn.\r\n"
    lines = [
        "T1\tFIRST 2 6\tAnna",
        "T2\tPER 2 6;8 14\tAnna Brandt",
        "T3\tLOC 30 40\tLower Tarn",
        "T4\tLOC 20 25;36 40\tUpper Tarn",
        "R1\tleft Arg1:T2 Arg2:T3\t",
        "R2\tleft Arg1:T2 Arg2:T4",
        "E1\tMove:T3 Who:T1",
        "A1\tNegated T1",
        "*\tEquiv T1 T2",
        "#1\tAnnotatorNotes T1\tunsure",
        "N1\tReference T1 Wikipedia:5\tAnna",
    ]
    (tmp_path / "sub.x").mkdir()
    (tmp_path / "sub.x" / "doc.1.txt").write_bytes(text.encode())
    (tmp_path / "sub.x" / "doc.1.ann").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "empty.ann").write_text("")
    (tmp_path / "raw.txt").write_text("Nobody saw this.")
    (tmp_path / "none.txt").write_text("Nobody is here.")
    (tmp_path / "none.ann").write_text("")
    docs, report = read(tmp_path)
    assert [doc.text for doc in docs] == ["Nobody is here.", text]
    doc = docs[1]
    assert named(doc.spans["sc"]) == [("Anna", "FIRST"), ("Anna\r\nBrandt", "PER"), ("Lower Tarn", "LOC")]
    assert relations_of(doc) == [("Anna\r\nBrandt", "left", "Lower Tarn")] and has_relations(docs[0])
    assert {token.text for token in doc if not token.ent_iob} == {"Upper"}
    assert report.notes == {
        brat.DISCONTINUOUS: 1,
        RELATION_LEFT_OUT: 1,
        texts.UNLABELLED: 1,
        texts.NO_ENTITY: 2,
        texts.EMPTY: 1,
        **dict.fromkeys(set(brat.OTHERS.values()), 1),
    }
    path = tmp_path / "sub.x" / "doc.1.ann"
    assert report.examples[brat.DISCONTINUOUS] == [f"{path}:4: 'Upper Tarn' LOC"]
    (docs_of_file, _) = read(path)
    assert [doc.text for doc in docs_of_file] == [text]


@pytest.mark.parametrize(
    ("arguments", "is_reversed"),
    [
        ("Arg1:T1 Arg2:T2", False),
        ("Arg2:T2 Arg1:T1", False),
        ("Arg2:T1 Arg1:T2", True),
        ("Who:T1 Where:T2", False),
        ("Where:T2 Who:T1", True),
    ],
)
def test_roles_of_brat_decide_which_argument_is_the_head(tmp_path: Path, arguments: str, is_reversed: bool) -> None:
    (tmp_path / "a.txt").write_text("Anna left Tarvik.")
    (tmp_path / "a.ann").write_text(f"T1\tPER 0 4\tAnna\nT2\tLOC 10 16\tTarvik\nR1\tx {arguments}\n")
    [doc], _ = read(tmp_path)
    assert relations_of(doc) == [("Tarvik", "x", "Anna") if is_reversed else ("Anna", "x", "Tarvik")]


def test_a_relation_of_brat_with_many_colons_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Anna left Tarvik.")
    (tmp_path / "a.ann").write_text(f"R1\tx {'a:' * 1000}T1 {'a:' * 1000}T2 x\n")
    started = time.perf_counter()
    with pytest.raises(FormatError, match="a.ann:1: not a relation"):
        read(tmp_path)
    assert time.perf_counter() - started < 20  # of minutes, where a role could have a colon


def test_hidden_copies_in_a_folder_of_brat_are_not_read(tmp_path: Path) -> None:
    (tmp_path / ".ipynb_checkpoints").mkdir()
    for name in ("a", ".ipynb_checkpoints/a-checkpoint"):
        (tmp_path / f"{name}.txt").write_text("Anna left.")
        (tmp_path / f"{name}.ann").write_text("T1\tPER 0 4\tAnna\n")
    for ending in ("txt", "ann"):
        (tmp_path / f"._a.{ending}").write_bytes(b"\x00\x05\x16\x07\x00\xff")
    [doc], _ = read(tmp_path)
    assert doc.text == "Anna left."
    (tmp_path / "a.ann").unlink()
    with pytest.raises(ValueError, match=r"a folder without \.ann files"):
        detect_format(tmp_path)


def test_folders_that_are_found_twice_or_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("2024-01", "2024-02", "lost+found"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").touch()
    (tmp_path / "2024-02" / "b.txt").symlink_to("a.txt")  # another text, though it has the same content
    (tmp_path / "2000").symlink_to("2024-02")
    (tmp_path / "latest").symlink_to("2024-02")
    (tmp_path / "2024-01" / "all").symlink_to(tmp_path)
    iterdir = Path.iterdir

    def refuse(path: Path) -> Iterator[Path]:
        if path.name == "lost+found":
            raise PermissionError(13, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.warns(UserWarning, match=r"lost\+found cannot be read, and is left out"):
        found = find_files(tmp_path, "*.txt")
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "2024-01/a.txt",
        "2024-02/a.txt",
        "2024-02/b.txt",
    ]
    with pytest.raises(PermissionError):
        find_files(tmp_path / "lost+found")


def test_a_folder_of_brat_with_a_link_to_another_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.txt").write_text("Anna left.")
    (tmp_path / "elsewhere" / "a.ann").write_text("T1\tPER 0 4\tAnna\n")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "corpus" / "loop").symlink_to(tmp_path / "corpus")
    [doc], _ = read(tmp_path / "corpus")
    assert named(doc.ents) == [("Anna", "PER")]


@pytest.mark.parametrize("items", ["", "T1\tLOC 10 16\tTarvik\n", "T1\tLOC 11 17\tTarvik\nT2\tPER 0 5\t\ufeffAnna\n"])
def test_a_byte_order_mark_of_brat_is_in_no_token(tmp_path: Path, items: str) -> None:
    (tmp_path / "a.txt").write_text("\ufeffAnna left Tarvik", encoding="utf-8")
    (tmp_path / "a.ann").write_text(items, encoding="utf-8")
    [doc], _ = read(tmp_path / "a.txt")
    assert doc.text == "Anna left Tarvik"
    assert named(doc.ents) == [("Anna", "PER")] * ("T2" in items) + [("Tarvik", "LOC")] * bool(items)


def test_brat_with_text_whose_line_ends_were_changed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"Anna\r\nleft\r\nTarvik")
    (tmp_path / "a.ann").write_bytes(b"T1\tLOC 10 16\tTarvik\r\n")
    [doc], _ = read(tmp_path / "a.txt")
    assert doc.text == "Anna\nleft\nTarvik" and named(doc.ents) == [("Tarvik", "LOC")]


@pytest.mark.parametrize(("count", "mark"), [(characters, ""), (units, ""), (units, "\ufeff")])
def test_the_quotes_of_brat_show_the_unit(tmp_path: Path, count: Any, mark: str) -> None:
    (tmp_path / "a.txt").write_text(mark + TEXT, encoding="utf-8")
    rows = [(i, count(place), TEXT[slice(*place)]) for i, place in enumerate((ANNA_BRANDT, TARVIK))]
    lines = [f"T{i}\tX {bounds['start']} {bounds['end']}\t{quoted}\n" for i, bounds, quoted in rows]
    (tmp_path / "a.ann").write_text("".join(lines), encoding="utf-8")
    [doc], _ = read(tmp_path / "a.txt")
    assert doc.text == TEXT and named(doc.ents) == [("Anna Brandt", "X"), ("Tarvik", "X")]


@pytest.mark.parametrize(
    ("text", "number"),
    [("Anna", 1), ("Anna\r\n", 2), (TEXT, 2), (f"\ufeff{TEXT}\r\n", 8)],
)
def test_equal_forms_of_a_text_of_brat_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, number: int
) -> None:
    counted: list[str] = []

    def count(text: str, unit: str) -> text_units.Places:
        counted.append(text)
        return text_units.find_places(text, unit)

    monkeypatch.setattr(brat, "find_places", count)
    (tmp_path / "a.txt").write_bytes(text.encode())
    (tmp_path / "a.ann").write_text("")
    [doc], _ = read(tmp_path / "a.txt")
    assert doc.text == text.removeprefix("\ufeff") and len(counted) == number


@pytest.mark.parametrize(("form", "other"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_quotes_in_another_unicode_normalization_fit(tmp_path: Path, form: Any, other: Any) -> None:
    """The bounds count the characters of the text, so that they are right."""
    text = normalize(form, "Jürgen left Tarvik.")
    name, quoted = (normalize(each, "Jürgen") for each in (form, other))
    (tmp_path / "a.txt").write_text(text)
    (tmp_path / "a.ann").write_text(f"T1\tPER 0 {len(name)}\t{quoted}\n")
    entity = {"start": 0, "end": len(name), "label": "PER", "text": quoted}
    for path in (
        tmp_path / "a.ann",
        write(tmp_path, task(submitted(region({"start": 0, "end": len(name)}, "PER", "a", quoted)), text=text)),
        write(tmp_path, {"text": text, "entities": [entity]}, name="a.jsonl", as_list=False),
    ):
        [doc], _ = read(path)
        assert doc.text == text and named(doc.ents) == [(name, "PER")]


@pytest.mark.parametrize(
    ("lines", "number", "reason"),
    [
        (["T1\tPER 0 4\tAnna", "T1\tLOC 10 16\tTarvik"], 2, "the id T1 is there twice"),
        (["T1\tPER 0 4\tAnne"], 1, "the text is 'Anna' between the bounds, not 'Anne'"),
        (["T1\tPER 0 99\tAnna"], 1, "outside of the 17 characters"),
        (["T1\tPER 4 0\tAnna"], 1, "outside of the 17 characters"),
        (["T1 PER 0 4 Anna"], 1, "not an entity"),
        (["T1\tPER 0 4\tAnna", "R1\tleft Arg1:T1 Arg2:T9"], 2, "the argument T9 is not the id of an entity"),
        (["R1\tleft T1 T2"], 1, "not a relation"),
        (["X1\tPER 0 4\tAnna"], 1, "the id is none of brat's"),
    ],
)
def test_faults_of_brat(tmp_path: Path, lines: list[str], number: int, reason: str) -> None:
    for name, content in (("a", ["T1\tPER 0 4\tAnna"]), ("b", lines)):
        (tmp_path / f"{name}.txt").write_text("Anna left Tarvik.")
        (tmp_path / f"{name}.ann").write_text("\n".join(content))
    with pytest.raises(FormatError, match=reason) as caught:
        read(tmp_path)
    assert (caught.value.path, caught.value.line_number) == (tmp_path / "b.ann", number)
    docs, report = read(tmp_path, on_error="skip")
    assert len(docs) == 1 and report.notes == {SKIPPED: 1}
    (tmp_path / "a.txt").unlink()
    with pytest.raises(FormatError, match="there is no text a.txt beside it"):
        read(tmp_path)


# Argilla


def argilla_spans() -> list[dict[str, Any]]:
    names = [(ANNA, "FIRST"), (ANNA_BRANDT, "PER"), (TARVIK, "LOC")]
    return [{**units(place), "label": label} for place, label in names]


def test_argilla(tmp_path: Path) -> None:
    answers = [
        {"value": argilla_spans(), "user_id": "ada"},
        {"value": [], "user_id": "bo"},
        {"value": [], "user_id": "cy", "status": "discarded"},
    ]
    responses = {"spans": answers, "mood": [{"value": "sad", "user_id": "ada"}]}
    suggestion = {"spans": {"value": [], "score": 0.5, "agent": "model"}}
    shared = {"id": "r1", "metadata": {}, "status": "completed", "vectors": {}}
    records = [
        {**shared, "fields": {"sentence": TEXT}, "responses": responses, "suggestions": suggestion},
        {**shared, "fields": {"sentence": "Not seen."}, "responses": {}, "suggestions": suggestion},
    ]
    path = write(tmp_path, *records)
    assert detect_format(path) == "argilla"
    [doc], report = read(path)
    assert doc.text == TEXT and named(doc.spans["sc"]) == ENTITIES and not has_relations(doc)
    assert report.notes == {
        texts.UNLABELLED: 1,
        annotators.OTHER_ANNOTATORS: 1,
        argilla.DISCARDED: 1,
        argilla.NO_SPANS: 1,
    }
    merged, _ = read(path, annotators="merge")
    assert not merged[0].ents and {token.ent_iob for token in merged[0] if token.text != "Anna"} >= {0, 2}


def test_flattened_and_old_records_of_argilla(tmp_path: Path) -> None:
    flat = {"id": "r1", "text": TEXT, "label.responses": [argilla_spans()], "label.responses.users": ["ada"]}
    old = {"text": TEXT, "tokens": TEXT.split(), "annotation": argilla_spans(), "annotation_agent": "ada"}
    unseen = {"text": "Not seen.", "tokens": ["Not", "seen."], "annotation": None}
    for records in ([flat], [old, unseen]):
        path = write(tmp_path, *records, name="a.jsonl", as_list=False)
        assert detect_format(path) == "argilla"
        [doc], report = read(path)
        assert named(doc.spans["sc"]) == ENTITIES and report.notes[texts.UNLABELLED] == len(records) - 1


def test_tuples_and_states_of_old_records_of_argilla(tmp_path: Path) -> None:
    """Version 1 has the label first, and keeps the annotation of a record that was discarded."""
    tuples = [[span["label"], span["start"], span["end"]] for span in argilla_spans()]
    old = {"text": TEXT, "tokens": TEXT.split(), "annotation": tuples, "status": "Validated"}
    discarded = {"text": "Bad.", "tokens": ["Bad."], "annotation": [], "status": "Discarded"}
    [doc], report = read(write(tmp_path, old, discarded))
    assert named(doc.spans["sc"]) == ENTITIES
    assert report.notes == {argilla.DISCARDED: 1, texts.UNLABELLED: 1}


@pytest.mark.parametrize("is_flat", [False, True])
def test_questions_about_several_texts_in_argilla(tmp_path: Path, is_flat: bool) -> None:
    """What a question is about is only in the settings of the dataset."""
    title = [{"start": 0, "end": 5, "label": "NAME"}]
    record: dict[str, Any] = {"id": "r1", "fields": {"title": "Annas", "text": TEXT}, "responses": {}}
    record["responses"]["of_title"] = [{"value": title, "user_id": "ada"}, {"value": [], "user_id": "bo"}]
    record["responses"]["of_text"] = [{"value": argilla_spans(), "user_id": "ada"}]
    if is_flat:
        answers = {f"{name}.responses": [one["value"] for one in of] for name, of in record["responses"].items()}
        record = {"id": "r1", "status": "completed", **record["fields"], **answers}
    path = write(tmp_path, record, name="records.json")
    with pytest.raises(
        FormatError, match=r"'of_text', 'of_title' may be about several texts \('text', 'title'\)"
    ) as error:
        read(path)
    assert "dataset.to_disk" in error.value.remedy
    questions = [
        {"name": name, "settings": {"type": "span", "field": field}}
        for name, field in (("of_title", "title"), ("of_text", "text"))
    ]
    (tmp_path / ".argilla").mkdir()
    settings = tmp_path / ".argilla" / "settings.json"
    settings.write_text(json.dumps({"questions": [*questions, {"name": "mood", "settings": {"type": "text"}}]}))
    docs, _ = read(path)
    assert [(doc.text, named(doc.spans["sc"])) for doc in docs] == [("Annas", [("Annas", "NAME")]), (TEXT, ENTITIES)]
    settings.write_text(settings.read_text().replace('"title"', '"body"'))
    with pytest.raises(FormatError, match="the question 'of_title' is about 'body', which is no text"):
        read(path)
    settings.write_text("[]")
    with pytest.raises(ValueError, match=r"settings.json does not have the settings of a dataset of Argilla"):
        read(path)


def test_one_question_and_several_texts_in_argilla(tmp_path: Path) -> None:
    fields = {"title": "A title", "text": TEXT}
    path = write(tmp_path, {"fields": fields, "responses": {"spans": [{"value": argilla_spans(), "user_id": "ada"}]}})
    [doc], report = read(path)
    assert doc.text == TEXT and named(doc.spans["sc"]) == ENTITIES
    assert report.examples[argilla.CHOSEN_TEXT] == [f"{path}:2: object 1: 'text' of 'text', 'title'"]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"fields": {"a": ["x"], "b": 1}, "responses": {}}, "none of the fields 'a', 'b' is text"),
        (
            {"fields": {"b": "x", "a": "y"}, "responses": {}},
            r"the fields 'a', 'b' are texts, and the file does not say which one(.|\n)*settings.json names the field",
        ),
        ({"fields": {"a": "xyz"}, "responses": {"q": [{"value": [{"start": 0, "end": 9, "label": "X"}]}]}}, "outside"),
        ({"text": "xyz", "q.responses": [[]], "q.responses.users": []}, "q.responses has 1 answers, but other numbers"),
    ],
)
def test_faults_of_argilla(tmp_path: Path, record: dict[str, Any], reason: str) -> None:
    path = write(tmp_path, record, name="a.jsonl", as_list=False)
    if reason.startswith("q."):
        record["q.responses.users"] = ["a", "b"]
        write(tmp_path, record, name="a.jsonl", as_list=False)
    with pytest.raises(FormatError, match=reason):
        read(path)


# Rows: datasets and csv

WORDS = ["\U0001f600", "Anna", "Brandt", "left", "Tarvik", "."]
TAGS = ["O", "B-PER", "I-PER", "O", "B-LOC", "O"]
NAMES = ["O", "B-PER", "I-PER", "B-LOC"]


def check_tagged(doc: Doc) -> None:
    assert [token.text for token in doc] == WORDS
    assert named(doc.ents) == WIDEST and "sc" not in doc.spans


def test_datasets_with_strings_and_numbers(tmp_path: Path) -> None:
    numbers = [NAMES.index(tag) for tag in TAGS]
    path = write(tmp_path, {"tokens": WORDS, "ner_tags": TAGS, "id": "0"}, name="a.json", as_list=False)
    [doc], report = read(path)
    check_tagged(doc)
    assert detect_format(path) == "datasets" and report.schemes == {"IOB2": 1} and report.unread_keys == {"id": 1}
    path = write(tmp_path, {"tokens": WORDS, "ner_tags": numbers[:3] + [-100] + numbers[4:]}, name="a.json")
    [doc], _ = read(path, tag_names=NAMES)
    assert [token.ent_iob_ for token in doc] == ["O", "B", "I", "", "B", "O"]
    with pytest.raises(FormatError, match="the tag 0 is a number without a name"):
        read(path)
    with pytest.raises(FormatError, match="there is no name for the tag 3, only for 3 tags"):
        read(path, tag_names=NAMES[:3])


@pytest.mark.parametrize("as_list", [False, True])
def test_names_of_the_tags_of_datasets(tmp_path: Path, as_list: bool) -> None:
    """Other columns may be nested: lists of objects, and objects whose keys look like those of a type."""
    classes = {"names": NAMES, "_type": "ClassLabel"}
    number = {"dtype": "int64", "_type": "Value"}
    features = {
        "spans": [{"start": number, "names": number}],
        "meta": {"names": number, "feature": [number, number]},
        "ner_tags": [classes] if as_list else {"feature": classes, "_type": "Sequence"},
    }
    (tmp_path / "dataset_info.json").write_text(json.dumps({"features": features}))
    path = write(tmp_path, {"tokens": WORDS, "ner_tags": [NAMES.index(tag) for tag in TAGS]}, name="a.json")
    [doc], _ = read(path)
    check_tagged(doc)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_datasets_in_binary_files(tmp_path: Path, suffix: str) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    feature = {"feature": {"names": NAMES, "_type": "ClassLabel"}, "_type": "Sequence"}
    description = {"info": {"features": {"ner_tags": feature}}}
    table = pa.table({"tokens": [WORDS, ["Quill"]], "ner_tags": [[NAMES.index(tag) for tag in TAGS], [1]]})
    table = table.replace_schema_metadata({"huggingface": json.dumps(description)})
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        parquet.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    docs, report = read(path)
    check_tagged(docs[0])
    assert detect_format(path) == "datasets" and report.documents == 2
    other = tmp_path / "other.parquet"
    parquet.write_table(pa.table({"text": ["Anna left"], "entities": [[[0, 4]]]}), other)
    with pytest.raises(
        ValueError, match="looks like a table with the columns text, entities; the nearest format is arg"
    ):
        detect_format(other)
    times = {"seen": pa.array([1, 1], pa.timestamp("ns")), "day": pa.array([0, 2**30], pa.date32())}
    for name, column in times.items():
        table = table.append_column(name, column)
    parquet.write_table(table, other)
    with pytest.raises(FormatError, match=r"other.parquet:2: row: the column 'day' has a value of date32"):
        read(other)
    docs, report = read(other, on_error="skip")
    assert len(docs) == 1 and report.notes == {SKIPPED: 1} and report.unread_keys == {"seen": 1, "day": 1}
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(FormatError, match="pyarrow cannot read the file"):
        read(path, "datasets")


def test_binary_files_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        ImportError, match=r'a.parquet needs the package pyarrow: pip install "spacy-ner-arch\[parquet\]"'
    ):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("header", "first", "later"),
    [
        ("Sentence #,Word,POS,Tag", "Sentence: {},{},X,{}", ",{},X,{}"),
        ("sentence_id;words;labels", "{0};{1};{2}", "{0};{1};{2}"),
        ("word\ttag", "{1}\t{2}", "{1}\t{2}"),
    ],
)
def test_csv(tmp_path: Path, header: str, first: str, later: str) -> None:
    """Sentence numbers on the first line of a sentence or on all, and empty lines between sentences."""
    rows = [header]
    for number in (1, 2):
        for i, (word, tag) in enumerate(zip(WORDS, TAGS, strict=True)):
            cells = (number, word, tag) if i == 0 or "{0}" in later or "{1}" in later else (word, tag)
            rows.append((later if i else first).format(*cells))
        rows += [""] if header == "word\ttag" else []
    path = tmp_path / "a.csv"
    path.write_bytes("\r\n".join(rows).encode("utf-8-sig"))
    docs, report = read(path)
    assert detect_format(path) == "csv" and len(docs) == 2
    for doc in docs:
        check_tagged(doc)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1,Anna", "2 columns where the first line has 3"),
        ("1,,O", "the token is empty"),
        ("1,Anna,PER", "'PER' is not an entity tag"),
        ('1,"Anna,O', "not a line of CSV"),
        ("1,Anna\udce9,O", "not UTF-8"),
    ],
)
def test_faults_of_csv(tmp_path: Path, row: str, reason: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(f'id,token,ner\n1,"""",O\n\n{row}\n\n1,Moss,B-PER\n'.encode(errors="surrogateescape"))
    with pytest.raises(FormatError, match=reason) as caught:
        read(path, "csv")
    assert caught.value.line_number == 4
    docs, report = read(path, "csv", on_error="skip")
    assert [doc.text.strip() for doc in docs] == ['"', "Moss"] and report.notes == {SKIPPED: 1}


@pytest.mark.parametrize("name", ["text", "body"])
def test_csv_of_label_studio_names_the_export_that_can_be_read(tmp_path: Path, name: str) -> None:
    regions = json.dumps([{**characters(ANNA), "labels": ["PER"]}]).replace('"', '""')
    header = f"annotation_id,annotator,created_at,id,label,lead_time,{name},updated_at"
    path = tmp_path / "a.csv"
    path.write_text(f'{header}\n1,1,x,6,,1.0,Nothing,y\n2,1,x,5,"{regions}",1.0,"Anna,\nBrandt",y\n')
    assert detect_format(path) == "csv"
    with pytest.raises(FormatError, match=r"(?s)a.csv:1: an export of Label Studio as CSV.*export the project as JSON"):
        read(path)
    path.write_text(f'id,text,label\n5,Anna,"{regions}"\n')
    with pytest.raises(FormatError, match=r"(?s)a.csv:2: the regions of a text in one cell.*project as JSON"):
        read(path)


def test_columns_with_the_tag_first(tmp_path: Path) -> None:
    path = tmp_path / "a.bio"
    path.write_text("".join(f"{tag}\t{word}\n" for word, tag in zip(WORDS, TAGS, strict=True)), encoding="utf-8")
    assert detect_format(path) == "conll"
    for options in ({}, {"column": 0}):
        [doc], _ = read(path, **options)
        check_tagged(doc)


# spaCy


ROOT = {"start": 0, "end": 4, "head": 0, "dep": "ROOT"}


def spacy_doc() -> Doc:
    nlp = spacy.blank("en")
    doc = nlp(TEXT + "  He sang.")
    doc = Doc(
        nlp.vocab,
        words=[token.text for token in doc],
        spaces=[bool(token.whitespace_) for token in doc],
        heads=[2, 2, 3, 3, 3, 3, 3, 8, 8, 8],
        deps=["x", "compound", "nsubj", "ROOT", "obj", "punct", "sp", "nsubj", "ROOT", "punct"],
        tags=["T"] * 10,
        pos=["X"] * 10,
        lemmas=["l"] * 10,
    )
    anna, brandt, tarvik = (
        doc.char_span(*place, label=label)
        for place, label in zip((ANNA, ANNA_BRANDT, TARVIK), ("FIRST", "PER", "LOC"), strict=True)
    )
    doc.set_ents([brandt, tarvik], missing=[doc[7:8]], default="outside")
    doc.spans["sc"] = [anna, brandt, tarvik]
    doc._.relations = [(brandt, tarvik, "left")]
    return doc


def test_json_of_spacy(tmp_path: Path) -> None:
    gold = spacy_doc()
    path = write(tmp_path, gold.to_json(underscore=["relations_json"]))
    assert detect_format(path) == "spacy-json"
    [doc], report = read(path)
    assert doc.text == gold.text and [token.text for token in doc] == [token.text for token in gold]
    assert named(doc.spans["sc"]) == ENTITIES and named(doc.ents) == WIDEST and relations_of(doc) == RELATION
    for name in ("head", "dep_", "pos_", "tag_", "lemma_", "is_sent_start"):
        values = [[getattr(token, name) for token in one] for one in (doc, gold)]
        assert [str(value) for value in values[0]] == [str(value) for value in values[1]]
    assert (report.documents, report.sentences) == (1, 2) and not report.notes
    record = gold.to_json()
    del record["sents"]
    for token in record["tokens"]:
        del token["dep"]
    [doc], _ = read(write(tmp_path, record, name="no_sents.json"))
    assert not doc.has_annotation("SENT_START")
    gold.spans["other"] = [gold[0:1]]
    gold[0].set_morph("Case=Nom")
    [doc], report = read(write(tmp_path, gold.to_json(), name="b.json"))
    assert not has_relations(doc) and report.notes == {spacy_json.OTHER_GROUPS: 1, spacy_json.MORPH: 1}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tokens": []}, "the text has no tokens"),
        ({"ents": [{"start": 0, "end": 99, "label": "X"}]}, "the span 0-99 does not begin and end with a token"),
        (
            {"ents": [{"start": 0, "end": 4, "label": "X"}, {"start": 0, "end": 4, "label": "Y"}]},
            "two entities overlap",
        ),
        ({"text": "Anna  left"}, "the last token ends at 9, the text at 10"),
        ({"tokens": [{"start": 0, "end": 4}, {"start": 3, "end": 9}]}, "the token 3-9 is not beside the token before"),
        (
            {"tokens": [{"start": 0, "end": 4, "dep": "x", "head": 1}, {"start": 5, "end": 9, "dep": "x", "head": 0}]},
            "the tokens 0 to 1: the tree has no root",
        ),
    ],
)
def test_faults_of_json_of_spacy(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    good = {"text": "Anna left", "tokens": [{"start": 0, "end": 4}, {"start": 5, "end": 9}], "ents": []}
    path = write(tmp_path, good, {**good, **changes}, as_list=False, name="a.jsonl")
    with pytest.raises(FormatError, match=f"a.jsonl:2: {reason}"):
        read(path)
    [doc], _ = read(path, on_error="skip")
    assert doc.text == "Anna left"


@pytest.mark.parametrize("as_list", [True, False])
def test_training_data_of_spacy_2(tmp_path: Path, as_list: bool) -> None:
    pair = [TEXT, {"entities": [[*ANNA_BRANDT, "PER"], [*TARVIK, "LOC"]], "links": {}}]
    path = write(tmp_path, pair, ["Nothing.", {"entities": []}], as_list=as_list)
    assert detect_format(path) == "spacy-v2"
    docs, report = read(path)
    assert [named(doc.ents) for doc in docs] == [WIDEST, []] and report.unread_keys == {"links": 1}


def test_cluener(tmp_path: Path) -> None:
    """The ends are inclusive, a wording can occur twice, and mentions can be nested."""
    text = "Anna saw Anna Brandt \U0001f600."
    labels = {"FIRST": {"Anna": [[0, 3], [9, 12]]}, "PER": {"Anna Brandt": [[9, 19]]}}
    path = write(tmp_path, {"text": text, "label": labels}, {"text": "Nothing.", "label": {}}, as_list=False)
    assert detect_format(path) == "cluener"
    docs, report = read(path)
    assert [(span.start_char, span.end_char, span.label_) for span in docs[0].spans["sc"]] == [
        (0, 4, "FIRST"),
        (9, 13, "FIRST"),
        (9, 20, "PER"),
    ]
    assert not docs[1].ents and report.documents == 2 and not report.notes


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ([["PER", 0, 3]], r"are not bounds of mentions by wording by label"),
        ({"PER": [[0, 3]]}, "are not bounds of mentions by wording by label"),
        ({"PER": {"Anna": [0, 3]}}, "are not bounds of mentions by wording by label"),
        ({"PER": {"Anna": [[0, 3, 5]]}}, "are not bounds of mentions by wording by label"),
        ({"PER": {"Anna": [[0, "3"]]}}, "are not bounds of mentions by wording by label"),
        ({"PER": {"Anna": [[0, 5]]}}, "the entity 0-6 is 'Anna l' in the text, but 'Anna' in its own key"),
        ({"PER": {"Ann": [[0, 3]]}}, "the entity 0-4 is 'Anna' in the text, but 'Ann' in its own key"),
        ({"PER": {"Anna left": [[0, 99]]}}, "is empty or outside"),
        ({"": {"Anna": [[0, 3]]}}, "the label is empty"),
    ],
)
def test_faults_of_cluener(tmp_path: Path, label: Any, reason: str) -> None:
    path = write(tmp_path, {"text": "Anna left", "label": label}, as_list=False)
    with pytest.raises(FormatError, match=reason) as caught:
        read(path, "cluener")
    assert str(caught.value).startswith(f"{path}:1: ")


def test_training_format_of_spacy_2(tmp_path: Path) -> None:
    words = ["Anna", "Brandt", "left", "Tarvik", "."]
    tags = ["B-PER", "L-PER", "O", "U-LOC", "-"]
    heads, deps = [1, 1, 0, -1, -2], ["compound", "nsubj", "ROOT", "obj", "punct"]
    tokens = [
        {"id": i, "orth": orth, "ner": ner, "tag": "T", "dep": dep, "head": head}
        for i, (orth, ner, head, dep) in enumerate(zip(words, tags, heads, deps, strict=True))
    ]
    bad_tree = [{**token, "head": 0} for token in tokens]
    paragraphs = [
        {"raw": "Anna Brandt left Tarvik. Moss", "sentences": [{"tokens": tokens}, {"tokens": [{"orth": "Moss"}]}]},
        {"raw": "Other text", "sentences": [{"tokens": bad_tree}]},
    ]
    path = write(tmp_path, {"id": 0, "paragraphs": paragraphs})
    assert detect_format(path) == "spacy-v2-json"
    docs, report = read(path, documents=True)
    assert docs[0].text == "Anna Brandt left Tarvik. Moss" and len(list(docs[0].sents)) == 2
    assert [named(doc.ents) for doc in docs] == [[("Anna Brandt", "PER"), ("Tarvik", "LOC")]] * 2
    assert [token.ent_iob_ for token in docs[0]][-2:] == ["", ""]
    assert docs[1].has_unknown_spaces
    assert report.notes == {spacy_v2_json.NO_SPACES: 1, spacy_v2_json.NO_TREE: 1}
    docs, _ = read(path)
    assert [token.head.text for token in docs[0]] == ["Brandt", "left", "left", "left", "left"]
    assert {token.tag_ for token in docs[0]} == {"T"} and not docs[1][0].tag_


# Corpora

SENTENCES = [["Anna", "Brandt", "left", "."], ["She", "loves", "Tarvik", "\U0001f600"]]
FLAT = [word for sentence in SENTENCES for word in sentence]


@pytest.mark.parametrize(
    ("format", "item"),
    [
        (
            "gliner",
            {
                "tokenized_text": FLAT,
                "ner": [[0, 0, "FIRST"], [0, 1, "PER"], [6, 6, "LOC"]],
                "relations": [[1, 2, "left"]],
            },
        ),
        (
            "dygie",
            {
                "doc_key": "a",
                "sentences": SENTENCES,
                "ner": [[[0, 0, "FIRST"], [0, 1, "PER", 0.5]], [[6, 6, "LOC"]]],
                "relations": [[], [[0, 1, 6, 6, "left", 0.5]]],
            },
        ),
        (
            "docred",
            {
                "title": "a",
                "sents": SENTENCES,
                "vertexSet": [
                    [{"name": "Anna", "sent_id": 0, "pos": [0, 1], "type": "FIRST"}],
                    [{"name": "Anna Brandt", "sent_id": 0, "pos": [0, 2], "type": "PER"}],
                    [{"name": "Tarvik", "sent_id": 1, "pos": [2, 3], "type": "LOC"}],
                ],
                "labels": [{"h": 1, "t": 2, "r": "left", "evidence": [0]}],
            },
        ),
    ],
)
def test_corpora(tmp_path: Path, format: str, item: dict[str, Any]) -> None:
    """Sentences are kept, and a relation may cross their border."""
    name = {"gliner": "relations", "dygie": "relations", "docred": "labels"}[format]
    path = write(tmp_path, item, {key: value for key, value in item.items() if key != name}, as_list=format != "dygie")
    assert detect_format(path) == format
    docs, report = read(path)
    for doc in docs:
        assert [token.text for token in doc] == FLAT and named(doc.spans["sc"]) == ENTITIES
        assert doc.has_annotation("SENT_START") is (format != "gliner")
        assert format == "gliner" or [sent.start for sent in doc.sents] == [0, 4]
    assert relations_of(docs[0]) == RELATION and not has_relations(docs[1])
    assert not report.notes and report.sentences == (2 if format == "gliner" else 4)


@pytest.mark.parametrize(
    ("module", "name", "record"),
    [
        (corpora, "TokenAnnotation", {"tokenized_text": WORDS, "ner": []}),
        (spacy_json, "_find_heads", {"text": "Anna", "ents": [], "tokens": [ROOT]}),
        (offsets, "check_relations", {"text": "Anna", "entities": [[0, 4, "PER"]]}),
    ],
)
def test_a_record_is_converted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, record: dict[str, Any]
) -> None:
    calls = []
    function = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *args, **options: (calls.append(args), function(*args, **options))[1])
    [_], _ = read(write(tmp_path, record))
    assert len(calls) == 1


def test_relations_of_entities_with_several_mentions(tmp_path: Path) -> None:
    mentions = [
        [{"sent_id": 0, "pos": [0, 2], "type": "PER"}, {"sent_id": 1, "pos": [0, 1], "type": "PER"}],
        [{"sent_id": 1, "pos": [2, 3], "type": "LOC"}],
    ]
    item = {"sents": [*SENTENCES, []], "vertexSet": mentions, "labels": [{"h": 0, "t": 1, "r": "left"}]}
    [doc], report = read(write(tmp_path, item))
    assert relations_of(doc) == [("Anna Brandt", "left", "Tarvik"), ("She", "left", "Tarvik")]
    assert report.notes == {corpora.ALL_MENTIONS: 1}


def test_tacred(tmp_path: Path) -> None:
    shared = {"id": "e1", "token": WORDS, "subj_type": "PERSON", "obj_type": "CITY", "stanford_ner": TAGS}
    bounds = {"subj_start": 1, "subj_end": 2, "obj_start": 4, "obj_end": 4}
    items = [{**shared, **bounds, "relation": relation} for relation in ("per:left", "no_relation")]
    path = write(tmp_path, *items)
    assert detect_format(path) == "tacred"
    docs, report = read(path)
    assert [relations_of(doc) for doc in docs] == [[("Anna Brandt", "per:left", "Tarvik")], []]
    # Other entities are not annotated.
    assert [token.ent_iob_ for token in docs[1]] == ["", "B", "I", "", "B", ""] and has_relations(docs[1])
    assert report.unread_keys == {"id": 2, "stanford_ner": 2}


@pytest.mark.parametrize(
    ("format", "item", "reason"),
    [
        ("gliner", {"tokenized_text": ["a"], "ner": [[0, 1, "X"]]}, r"the span \[0, 2, 'X'\] is empty or outside"),
        ("gliner", {"tokenized_text": ["a"], "ner": [], "relations": [[0, 0, "x"]]}, "outside of the 0 spans"),
        ("dygie", {"sentences": [["a"]], "ner": []}, "ner has 0 lists for 1 sentences"),
        ("dygie", {"sentences": [["a"]], "ner": [[]], "relations": [[[0, 0, 0, 0, "x"]]]}, "that is not in ner"),
        (
            "docred",
            {"sents": [["a"]], "vertexSet": [[{"sent_id": 1, "pos": [0, 1], "type": "X"}]]},
            "the sentence 1 of",
        ),
        ("docred", {"sents": [["a"]], "vertexSet": [[{"sent_id": 0, "pos": [0, 2], "type": "X"}]]}, "of the sentence"),
        (
            "docred",
            {"sents": [["a"]], "vertexSet": [], "labels": [{"h": 0, "t": 1, "r": "x"}]},
            "entities 0 and 1 of 0",
        ),
        ("tacred", {"token": ["a"]}, "subj_start: Field required"),
    ],
)
def test_faults_of_corpora(tmp_path: Path, format: str, item: dict[str, Any], reason: str) -> None:
    path = write(tmp_path, item)
    with pytest.raises(FormatError, match=reason) as caught:
        read(path, format)
    assert str(caught.value).startswith(f"{path}:2: object 1: ")
    assert read(path, format, on_error="skip")[1].notes == {SKIPPED: 1}


# All formats


@pytest.mark.parametrize(
    ("format", "item"),
    [
        ("label-studio", {"data": {"text": ""}, "annotations": [{"result": []}]}),
        ("doccano", {"id": 1, "text": "", "label": []}),
        ("prodigy", {"text": "", "spans": [], "answer": "accept"}),
        ("argilla", {"fields": {"text": ""}, "responses": {"q": [{"value": []}]}}),
        ("datasets", {"tokens": [], "ner_tags": []}),
        ("spacy-json", {"text": "", "tokens": [], "ents": []}),
        ("spacy-v2", ["", {"entities": []}]),
        ("cluener", {"text": "", "label": {}}),
        ("spacy-v2-json", {"paragraphs": [{"raw": "", "sentences": [{"tokens": []}]}]}),
        ("gliner", {"tokenized_text": [], "ner": []}),
        ("dygie", {"sentences": [[]], "ner": [[]]}),
        ("docred", {"sents": [[]], "vertexSet": []}),
    ],
)
def test_empty_documents_are_left_out_and_counted(tmp_path: Path, format: str, item: Any) -> None:
    docs, report = read(write(tmp_path, item), format)
    assert not docs and report.notes[texts.EMPTY] == 1


def test_labels_outside_of_a_schema_are_left_out_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path, task(submitted(*full_results(characters))))
    [doc], report = read(path, labels=["FIRST", "LOC"])
    assert named(doc.ents) == named(doc.spans["sc"]) == [ENTITIES[0], ENTITIES[2]]
    assert relations_of(doc) == [] and has_relations(doc)
    assert report.entities == report.spans == {"FIRST": 1, "LOC": 1} and not report.relations
    assert report.notes == {OTHER_LABEL: 1, RELATION_LEFT_OUT: 1} and report.only_spans == 0
    assert report.other_labels == {"PER": 1}
    assert report.examples[OTHER_LABEL] == [f"{path}:2: object 1: 'Anna Brandt' PER"]


def of_spans(label: str, relation: str) -> dict[str, Any]:
    return {"tokens": ["Anna"], "spans": [[0, 1, label], [0, 1, "PER"]], "relations": [[0, 0, relation]]}


def of_tokens(label: str, relation: str) -> dict[str, Any]:
    """What spaCy writes."""
    doc = NLP("Anna").to_json()
    span = {"start": 0, "end": 4, "label": label}
    relations = [{"head": span, "tail": span, "label": relation}]
    return {**doc, "ents": [span], "spans": {"sc": [span]}, "_": {"relations_json": relations}}


OF_LABELS = {
    "spans": of_spans,
    "spert": lambda label, relation: {
        "tokens": ["Anna"],
        "entities": [{"type": label, "start": 0, "end": 1}],
        "relations": [{"type": relation, "head": 0, "tail": 0}],
    },
    "spacy-json": of_tokens,
    "gliner": lambda label, relation: {
        "tokenized_text": ["Anna"],
        "ner": [[0, 0, label]],
        "relations": [[0, 0, relation]],
    },
    "tacred": lambda label, relation: {
        "token": ["Anna"],
        **{"subj_start": 0, "subj_end": 0, "subj_type": label, "obj_start": 0, "obj_end": 0, "obj_type": label},
        "relation": relation,
    },
    "offsets": lambda label, relation: {
        "text": "Anna",
        "entities": [[0, 4, label], [0, 4, "PER"]],
        "relations": [[0, 1, relation]],
    },
    "prodigy": lambda label, relation: {
        "text": "Anna",
        "spans": [{"start": 0, "end": 4, "label": label}],
        "relations": [{"head": 0, "tail": 0, "label": relation}],
        "answer": "accept",
    },
    "label-studio": lambda label, relation: task(
        submitted(
            region({"start": 0, "end": 4}, label, "a", "Anna"),
            {"type": "relation", "from_id": "a", "to_id": "a", "labels": [relation]},
        ),
        text="Anna",
    ),
}


@pytest.mark.parametrize("format", OF_LABELS)
def test_labels_are_trimmed_and_renamed_in_all_formats(tmp_path: Path, format: str) -> None:
    """Spans and relations that become equal are kept once."""
    path = write(tmp_path, OF_LABELS[format]("\tPERSON ", "knows\n"))
    [doc], report = read(path, format)
    assert {span.label_ for span in doc.spans.get("sc", doc.ents)} <= {"PERSON", "PER"}
    assert [relation.label for relation in doc._.relations] == ["knows"] and report.relations == {"knows": 1}
    assert report.notes[TRIMMED_LABEL] >= 2 and "'knows\\n'" in report.examples[TRIMMED_LABEL][-1]
    [doc], report = read(path, format, rename={"PERSON": "PER", "knows": "is"}, labels=["PER"])
    assert named(doc.ents) == [("Anna", "PER")] and report.entities == {"PER": 1}
    assert {(head, label, tail) for head, label, tail in relations_of(doc)} == {("Anna", "is", "Anna")}
    assert report.renamed.keys() == {"PERSON", "knows"} and not report.other_labels
    with pytest.raises(FormatError) if format != "spacy-json" else nullcontext():
        read(write(tmp_path, OF_LABELS[format](" ", "knows")), format)
    with pytest.raises(FormatError):
        read(write(tmp_path, OF_LABELS[format]("PER", "\t")), format)


def test_labels_of_tags_are_trimmed_and_renamed(tmp_path: Path) -> None:
    path = write(tmp_path, {"tokens": ["Anna", "Brandt"], "ner_tags": ["B-PERSON", "I-PERSON "]})
    [doc], report = read(path, rename={"PERSON": "PER"})
    assert named(doc.ents) == [("Anna Brandt", "PER")] and report.notes == {TRIMMED_LABEL: 1}
    assert report.renamed == {"PERSON": 1} and report.entities == {"PER": 1}
    (tmp_path / "a.conllu").write_text(
        "1\tAnna\t_\t_\t_\t_\t_\t_\t_\tNE=B-PER|A=1\n2\tBrandt\t_\t_\t_\t_\t_\t_\t_\tNE=I-PER |A=1\n\n"
    )
    [doc], report = read(tmp_path / "a.conllu")
    assert named(doc.ents) == [("Anna Brandt", "PER")] and report.notes == {TRIMMED_LABEL: 1}
    with pytest.raises(FormatError, match="'B- ' is not an entity tag"):
        read(write(tmp_path, {"tokens": ["Anna"], "ner_tags": ["B- "]}))


@pytest.mark.parametrize("format", ["label-studio", "prodigy", "argilla"])
def test_labels_are_renamed_before_annotators_are_compared(tmp_path: Path, format: str) -> None:
    labels = ["PER", "PERSON", " Per"]
    spans = [{**characters(TARVIK), "label": label} for label in labels]
    if format == "prodigy":
        lines = [prodigy(spans=[span], relations=None, _annotator_id=i) for i, span in enumerate(spans)]
        path = write(tmp_path, *lines, name="out.jsonl", as_list=False)
    elif format == "argilla":
        answers = [{"value": [{**span, **units(TARVIK)}], "user_id": f"{i}"} for i, span in enumerate(spans)]
        path = write(tmp_path, {"fields": {"text": TEXT}, "responses": {"spans": answers}})
    else:
        regions = [region(characters(TARVIK), label, "a", "Tarvik") for label in labels]
        path = write(tmp_path, task(*(submitted(one, by=i) for i, one in enumerate(regions))))
    [doc], _ = read(path, format, annotators="merge")
    assert not doc.ents
    [doc], report = read(path, format, annotators="merge", rename={"PERSON": "PER", "Per": "PER"}, labels=["PER"])
    assert named(doc.ents) == [("Tarvik", "PER")] and report.notes == {TRIMMED_LABEL: 1}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.json",
            '[{"text": "a", "ents_of": []}]',
            "looks like JSON with the keys text, ents_of; the nearest format is",
        ),
        (
            "a.json",
            '[{"tokens": ["a"], "entity": []}]',
            "the nearest format is datasets .*: files of it have the keys tokens and",
        ),
        (
            "a.jsonl",
            '{"text": "Anna left"}\n{"text": "She did"}\n',
            r'the key text alone; the nearest format is offsets .*add "entities": \[\].*`ner-arch annotate`',
        ),
        ("a.json", "[1, 2]", "looks like JSON with values such as 1"),
        ("a.json", "[]", "is an empty JSON list"),
        ("a.jsonl", '{"text": "a"', "invalid JSON"),
        ("a.txt", "", "is empty"),
        (
            "a.txt",
            "Anna left Tarvik\n",
            "looks like columns, 3 on most lines; .* conll .*no column has tags such as B-PER.*use `ner-arch annotate`",
        ),
        ("a.txt", "Anna\n", "looks like plain text.*use `ner-arch annotate` or `ner-arch label`"),
        ("a.txt", "Anna B-PER NNP\nleft O VBD\n", "the tags are in column 1: give --format conll --column 1"),
        ("a.txt", "\x00\x01\x02", "looks like a binary file"),
        ("a.spacy", "x", "looks like a corpus of spaCy, which needs no conversion"),
    ],
)
def test_what_an_unknown_file_looks_like(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        detect_format(tmp_path / name)


def test_many_relations_of_a_text_are_read_in_linear_time(tmp_path):
    spans = [{"start": 6 * i, "end": 6 * i + 5, "label": "PER"} for i in range(4_000)]
    relations = [{"head_span": a, "child_span": b, "label": "R"} for a, b in itertools.pairwise(spans)]
    text = " ".join(f"w{i:04}" for i in range(4_000))
    path = write(tmp_path, {"text": text, "spans": spans, "relations": relations}, name="p.jsonl", as_list=False)
    start = time.process_time()
    (doc,), _ = read(path)
    # About a second on an idle machine.
    assert time.process_time() - start < 10
    assert len(doc._.relations) == len(relations)


def test_many_parts_of_a_text_without_annotation_take_linear_time(tmp_path):
    words = [f"w{i:05}" for i in range(18_000)]
    (tmp_path / "a.txt").write_text(" ".join(words))
    lines = [
        f"T{i}\tPER {7 * i} {7 * i + 6};{7 * i + 14} {7 * i + 20}\t{words[i]} {words[i + 2]}\n"
        for i in range(0, 17_996, 3)
    ]
    (tmp_path / "a.ann").write_text("".join(lines))
    start = time.process_time()
    (doc,), report = read(tmp_path)
    # About a second on an idle machine.
    assert time.process_time() - start < 8
    assert report.notes[brat.DISCONTINUOUS] == len(lines)
    assert [token.ent_iob for token in doc[:4]] == [0, 2, 0, 0]
