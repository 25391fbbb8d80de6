"""doc._.relations: reading, setting, storing, and errors."""

import copy
import json
import pickle
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from enum import Enum

import numpy as np
import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Corpus
from spacy.vocab import Vocab

from spacy_ner_arch.annotation.extensions import register
from spacy_ner_arch.annotation.relations import (
    STORED_AS,
    Relation,
    get_relations,
    has_relations,
    relation_keys,
    set_relations,
    stored_relations,
)

WORDS = ["Anna", "Brandt", "lives", "in", "Tarvik", "."]
KEY = (0, 11, "PER", 21, 27, "LOC", "lives_in")


@pytest.fixture
def doc() -> Doc:
    return make_doc(Vocab())


def make_doc(vocab: Vocab) -> Doc:
    doc = Doc(vocab, words=WORDS, spaces=[True, True, True, True, False, False])
    doc._.relations = [Relation(Span(doc, 0, 2, "PER"), Span(doc, 4, 5, "LOC"), "lives_in", 0.5)]
    return doc


def plain(doc: Doc) -> list[tuple]:
    return [
        (r.head.start, r.head.end, r.head.label_, r.tail.start, r.tail.end, r.tail.label_, r.label, r.score)
        for r in doc._.relations
    ]


def test_set_and_get(doc: Doc) -> None:
    [relation] = doc._.relations
    assert relation == (Span(doc, 0, 2, "PER"), Span(doc, 4, 5, "LOC"), "lives_in", 0.5)
    assert relation.head.text == "Anna Brandt" and relation.tail.label_ == "LOC"
    assert relation_keys(doc) == [KEY]
    assert stored_relations(doc) == [(KEY, 0.5)]


def test_arguments_are_entities_with_their_ids(doc: Doc) -> None:
    doc.set_ents([Span(doc, 0, 2, label="PER", kb_id="Q1", span_id="e1")])
    (relation,) = doc._.relations
    assert relation.head == doc.ents[0] and (relation.head.kb_id_, relation.head.id_) == ("Q1", "e1")
    assert relation.tail == Span(doc, 4, 5, "LOC")
    doc.set_ents([Span(doc, 0, 2, label="ORG", kb_id="Q1")])  # with another label, it is not the argument
    assert doc._.relations[0].head == Span(doc, 0, 2, "PER")


def test_an_empty_list_differs_from_never_set(doc: Doc) -> None:
    doc._.relations = []
    bare = Doc(doc.vocab, words=WORDS)
    assert has_relations(doc) and not has_relations(bare)
    assert doc._.relations == bare._.relations == ()
    assert relation_keys(doc) == relation_keys(bare) == []
    assert not has_relations(bare), "reading does not set them"
    [loaded] = DocBin(docs=[doc], store_user_data=True).get_docs(Vocab())
    assert has_relations(loaded)


def test_allowed_relations(doc: Doc) -> None:
    whole, part, self = doc[0:5], Span(doc, 0, 1, "PER"), Span(doc, 4, 5)
    score = np.float32(0.5)
    relations = [(whole, part, "a"), (part, whole, "a"), (whole, part, "b", score), (self, self, "a")]
    doc._.relations = (relation for relation in relations)
    # In the order of the text, that of the head first.
    assert [relation[:3] for relation in doc._.relations] == [
        r[:3] for r in (relations[1], *relations[:1], *relations[2:])
    ]
    assert [relation.score for relation in doc._.relations] == [None, None, 0.5, None]
    assert doc.to_bytes()


def test_duplicates_are_kept_once_with_the_first_score(doc: Doc) -> None:
    head, tail = Span(doc, 0, 2, "PER"), Span(doc, 4, 5, "LOC")
    doc._.relations = [(head, tail, "a", 0.5), (tail, head, "a"), (head, tail, "a", 0.5), (head, tail, "a", 0.7)]
    assert [(relation.head, relation.score) for relation in doc._.relations] == [(head, 0.5), (tail, None)]
    # The label of an argument is part of a relation.
    doc._.relations = [(head, tail, "a"), (doc[0:2], tail, "a")]
    assert len(doc._.relations) == 2


def test_spans_of_another_doc_with_the_same_text(doc: Doc) -> None:
    other = Doc(Vocab(), words=["Anna", "Brandt", "lives", "in", "Tar", "vik."], spaces=[True] * 4 + [False] * 2)
    doc._.relations = [(Span(other, 0, 2, "PER"), other[4:6], "does")]
    assert doc._.relations == ((Span(doc, 0, 2, "PER"), doc[4:6], "does", None),)
    with pytest.raises(ValueError, match="a Doc with other tokens"):
        doc._.relations = [(other[0:1], other[4:5], "does")]


def test_many_relations_of_spans_of_another_document_take_linear_time():
    docs = [Doc(Vocab(), words=[f"w{i}" for i in range(6_000)]) for _ in range(2)]
    start = time.process_time()
    docs[0]._.relations = [(docs[1][i : i + 1], docs[1][i + 1 : i + 2], "R") for i in range(3_000)]
    # Less than a tenth of a second on an idle machine.
    assert time.process_time() - start < 5
    assert len(docs[0]._.relations) == 3_000


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda doc: (doc[0:1], doc[1:1], "a"), "an argument is empty"),
        (lambda doc: (doc[0:1], Doc(doc.vocab, words=["Anna"])[0:1], "a"), "span of another text"),
        (lambda doc: (doc[0:1], doc[1], "a"), "not a Span"),
        (lambda doc: (doc[0:1], doc[1:2], ""), "'' from Anna to Brandt: the label must be a non-empty string"),
        (lambda doc: (doc[0:1], doc[1:2], 7), "the label must be a non-empty string"),
        (lambda doc: (doc[0:1], doc[1:2], "a", float("nan")), "the score nan must be None or a finite number"),
        (lambda doc: (doc[0:1], doc[1:2], "a", "0.5"), "the score '0.5'"),
    ],
)
def test_an_error_changes_nothing(doc: Doc, make: Callable, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        doc._.relations = [(doc[0:1], doc[1:2], "fine"), make(doc)]
    assert relation_keys(doc) == [KEY]


@pytest.mark.parametrize("make", [lambda doc: [(doc[0:1], doc[1:2])], lambda doc: None, lambda doc: [None]])
def test_what_is_no_list_of_relations(doc: Doc, make: Callable) -> None:
    before = plain(doc)
    with pytest.raises(ValueError, match=r"doc\._\.relations = .*: give a list of \(head, tail, label\)"):
        doc._.relations = make(doc)
    assert plain(doc) == before


def test_merged_tokens(doc: Doc) -> None:
    with doc.retokenize() as retokenizer:
        retokenizer.merge(doc[0:2])
    assert plain(doc) == [(0, 1, "PER", 3, 4, "LOC", "lives_in", 0.5)]
    with doc.retokenize() as retokenizer:
        retokenizer.merge(doc[2:4])
    with pytest.raises(ValueError, match="lives_in from 'Anna Brandt' to 'Tarvik' in 'Anna .* Set relations after"):
        _ = doc._.relations
    assert relation_keys(doc) == [KEY]


def through_docbin(doc: Doc, folder) -> Doc:
    DocBin(docs=[doc], store_user_data=True).to_disk(folder / "a.spacy")
    return next(DocBin().from_disk(folder / "a.spacy").get_docs(Vocab()))


def through_disk(doc: Doc, folder) -> Doc:
    doc.to_disk(folder / "doc")
    return Doc(Vocab()).from_disk(folder / "doc")


WAYS = {
    "to_bytes": lambda doc, _: Doc(Vocab()).from_bytes(doc.to_bytes()),
    "to_disk": through_disk,
    "docbin": through_docbin,
    "docbin twice": lambda doc, folder: through_docbin(through_docbin(doc, folder), folder),
    "copy": lambda doc, _: doc.copy(),
    "copy.copy": lambda doc, _: copy.copy(doc),
    "pickle": lambda doc, _: pickle.loads(pickle.dumps(doc)),
}


@pytest.mark.parametrize("way", WAYS)
def test_relations_survive(doc: Doc, tmp_path, way: str) -> None:
    moved = WAYS[way](doc, tmp_path)
    assert moved is not doc
    assert plain(moved) == plain(doc)
    moved._.relations = []
    assert relation_keys(doc) == [KEY], "the copy has its own relations"


@pytest.mark.timeout(60)
def test_relations_survive_other_processes() -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    docs = [make_doc(nlp.vocab) for _ in range(4)]
    for piped in nlp.pipe(docs, n_process=2, batch_size=2):
        assert plain(piped) == [(0, 2, "PER", 4, 5, "LOC", "lives_in", 0.5)]


def test_where_relations_are_lost(doc: Doc, tmp_path) -> None:
    """If this fails, correct the docstring of `get_relations`."""
    path = tmp_path / "a.spacy"
    DocBin(docs=[doc], store_user_data=True).to_disk(path)
    nlp = spacy.blank("en")
    assert not has_relations(doc[:].as_doc())
    assert not doc[1:].as_doc(copy_user_data=True)._.relations
    assert has_relations(next(Corpus(path)(nlp)).reference)
    for options in ({"gold_preproc": True}, {"max_length": 3}):
        with_sents = make_doc(Vocab())
        with_sents[3].is_sent_start = True
        DocBin(docs=[with_sents], store_user_data=True).to_disk(path)
        assert not any(has_relations(example.reference) for example in Corpus(path, **options)(nlp))


def test_a_part_of_a_doc_keeps_its_relations(doc: Doc) -> None:
    longer = Doc.from_docs([Doc(doc.vocab, words=["Hello", "there"]), doc])
    part = longer[2:].as_doc(copy_user_data=True)
    assert plain(part) == plain(doc)
    # Without the tail of the relation.
    cut = longer[2:5].as_doc(copy_user_data=True)
    assert cut._.relations == () and has_relations(cut)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("ensure_whitespace", [False, True])
def test_joined_docs_keep_their_relations(doc: Doc, ensure_whitespace: bool) -> None:
    bare = Doc(doc.vocab, words=["No", "relation"])
    joined = Doc.from_docs([doc, bare, make_doc(doc.vocab)], ensure_whitespace=ensure_whitespace)
    row = (0, 2, "PER", 4, 5, "LOC", "lives_in", 0.5)
    assert plain(joined) == [row, (8, 10, *row[2:3], 12, 13, *row[5:])]
    assert not has_relations(Doc.from_docs([bare, bare]))


@pytest.mark.parametrize(
    "bounds, stored",
    [
        ((0, 11), "abc"),
        ((0, 11), 5),
        ((0, 11), {"a": 1}),
        ((0, 11), [["x"] * 8]),
        ((0, 11), [[None] * 8]),
        ((0, 11), [[0, 4, "PER", 5, 10**12, "PER", "knows", None]]),
        ((0, 11), [[0, 4, "PER", 5, 12, "PER", "knows", None]]),
        ((0, 11), [[0, 4, "PER", 5, 5, "PER", "knows", None]]),
        ((0, 11), [[-2, 4, "PER", 5, 11, "PER", "knows", None]]),
        ((0, 11), [[0.0, 4, "PER", 5, 11, "PER", "knows", None]]),
        ((0, 11), [[0, 4, "PER", 5, 11, 7, "knows", None]]),
        ((0, 11), [[0, 4, ["P"], 5, 11, ["P"], ["knows"], None]]),
        ((0, 11), [[0, 4, "PER", 5, 11, "PER", "knows", "x"]]),
        ((0, 11), [[0, 4, "PER", 5, 11, "PER", "knows", float("nan")]]),
        ((0, 11), [[0, 4, "PER", 5, 11, "PER", "knows"]]),
        (("a", "b"), []),
        ((None, None), []),
        ((0.5, 11), [[0, 4, "PER", 5, 10, "PER", "knows", None]]),
        ((0,), []),
    ],
)
def test_damaged_relations_of_a_file(bounds: tuple[object, ...], stored: object) -> None:
    """Other code can write what it likes into doc.user_data."""
    doc = make_doc(Vocab())
    set_relations(doc, [(doc[0:1], doc[4:5], "lives_in")])
    doc.user_data[("._.", STORED_AS, *bounds)] = stored
    if len(bounds) == 2 and bounds != (None, None):
        doc = next(DocBin(store_user_data=True, docs=[doc]).get_docs(Vocab()))
    message = "the stored relations of the document 'Anna Brandt lives in Tarvik.' are damaged: doc.user_data"
    for read in (get_relations, relation_keys):
        with pytest.raises(ValueError, match=message):
            read(doc)
    set_relations(doc, [])
    assert get_relations(doc) == ()


def test_labels_of_an_enumeration_can_be_read(doc: Doc) -> None:
    label = Enum("Labels", {"KNOWS": "knows"}, type=str).KNOWS
    set_relations(doc, [(doc[0:1], doc[4:5], label)])
    assert [relation.label for relation in get_relations(doc)] == ["knows"]


def test_appending_is_an_error(doc: Doc) -> None:
    with pytest.raises(AttributeError, match="append"):
        doc._.relations.append((doc[0:1], doc[1:2], "a"))
    doc._.relations = [*doc._.relations, (doc[4:5], doc[0:2], "home_of")]
    assert [relation.label for relation in doc._.relations] == ["lives_in", "home_of"]


def test_json(doc: Doc) -> None:
    doc.ents = [Span(doc, 0, 2, "PER")]
    doc.ents[0]._.score = 0.75
    data = json.loads(json.dumps(doc.to_json(underscore=["relations_json", "score"])))
    assert data["_"]["relations_json"] == [
        {
            "head": {"start": 0, "end": 11, "label": "PER"},
            "tail": {"start": 21, "end": 27, "label": "LOC"},
            "label": "lives_in",
            "score": 0.5,
        }
    ]
    assert data["underscore_span"]["score"] == [{"start": 0, "end": 11, "value": 0.75}]
    loaded = Doc(Vocab()).from_json(data)
    assert plain(loaded) == plain(doc) and loaded.ents[0]._.score == 0.75
    with pytest.raises(ValueError, match=r"relations_json: .*'end': 3.* does not match token bounds in 'Anna Brandt"):
        doc._.relations_json = [{"head": {"start": 0, "end": 3}, "tail": {"start": 0, "end": 4}, "label": "a"}]
    assert relation_keys(doc) == [KEY]


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4)
labels = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4)
scores = st.none() | st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def related(draw: st.DrawFn) -> Doc:
    """A Doc with relations between random spans, with and without labels."""
    tokens = draw(st.lists(st.tuples(words, st.booleans()), min_size=1, max_size=8))
    doc = Doc(Vocab(), words=[word for word, _ in tokens], spaces=[space for _, space in tokens])
    bounds = st.lists(st.integers(0, len(doc)), min_size=2, max_size=2, unique=True).map(sorted)
    spans = st.builds(lambda bounds, label: Span(doc, *bounds, label), bounds, st.just("") | labels)
    doc._.relations = draw(st.lists(st.builds(Relation, spans, spans, labels, scores), max_size=6))
    return doc


@settings(max_examples=60)
@given(data=st.data())
@pytest.mark.parametrize("way", ["to_bytes", "docbin"])
def test_no_relation_is_lost(tmp_path_factory: pytest.TempPathFactory, way: str, data: st.DataObject) -> None:
    doc = data.draw(related())
    before = plain(doc)
    moved = WAYS[way](doc, tmp_path_factory.getbasetemp())
    assert plain(moved) == before
    assert relation_keys(moved) == relation_keys(doc)
    assert len(set(relation_keys(doc))) == len(before)
    # Setting the relations of another Doc with this text gives the same user data.
    stored = dict(doc.user_data)
    doc._.relations = moved._.relations
    assert doc.user_data == stored


def test_a_name_that_is_taken_is_reported():
    """Our own attributes, registered again, are not."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        register(Doc, "relations", get_relations, set_relations)
    Doc.set_extension("taken", default=[])
    with pytest.warns(UserWarning, match=r"Doc\._\.taken was registered before .* call .*relations\.get_relations"):
        register(Doc, "taken", get_relations, set_relations)
    assert Doc.get_extension("taken") == ([], None, None, None)
    Doc.remove_extension("taken")


def test_modules_can_be_loaded_again():
    """As while one writes code in a notebook. In another process, since other tests use the functions."""
    code = """
import importlib, warnings
from spacy.tokens import Doc, Span
from spacy_ner_arch.annotation import relations, scores

warnings.simplefilter("error")
old = relations.get_relations
importlib.reload(relations), importlib.reload(scores)
assert Doc.get_extension("relations")[2:] == (relations.get_relations, relations.set_relations)
assert Span.get_extension("score")[2:] == (scores.get_score, scores.set_score)
assert old is not relations.get_relations
"""
    subprocess.run([sys.executable, "-c", code], check=True)
