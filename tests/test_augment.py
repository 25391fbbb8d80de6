"""Replacement of entities in training documents."""

import random
from itertools import islice

import pytest
import spacy
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Corpus, Example
from spacy.training.loop import create_train_batches

from spacy_ner_arch.annotation.relations import Relation, get_relations, set_relations
from spacy_ner_arch.training.augment import create_entity_replacer

NLP = spacy.blank("en")
Doc.set_extension("source", default=None, force=True)


def make_doc(words, ents, **annotation):
    doc = Doc(NLP.vocab, words=words.split(), **annotation)
    doc.set_ents([Span(doc, start, end, label) for start, end, label in ents], default="outside")
    return doc


def save(folder, docs):
    DocBin(docs=docs, store_user_data=True).to_disk(folder / "mentions.spacy")
    return folder / "mentions.spacy"


@pytest.fixture
def replacer(tmp_path):
    """Replaces all persons by one of four tokens, and all places by one of one token."""
    doc = make_doc("Sir Edgar van Holt saw Ulm", [(0, 4, "PER"), (5, 6, "LOC")])
    return create_entity_replacer(save(tmp_path, [doc]), 1.0)


def change(replacer, doc):
    (example,) = replacer(NLP, Example(Doc(NLP.vocab, words=[token.text for token in doc]), doc))
    assert [token.text for token in example.predicted] == [token.text for token in example.reference]
    return example.reference


def entities(doc):
    return [(ent.text, ent.label_) for ent in doc.ents]


def test_entities_take_the_places_of_others(replacer):
    doc = make_doc("Anna left New Tarvik , Bob not", [(0, 1, "PER"), (2, 4, "LOC"), (5, 6, "PER")])
    changed = change(replacer, doc)
    assert changed.text == "Sir Edgar van Holt left Ulm , Sir Edgar van Holt not "
    assert entities(changed) == [("Sir Edgar van Holt", "PER"), ("Ulm", "LOC"), ("Sir Edgar van Holt", "PER")]
    assert entities(doc) == [("Anna", "PER"), ("New Tarvik", "LOC"), ("Bob", "PER")]


def test_the_space_behind_an_entity_stays(replacer):
    doc = make_doc("Anna , Bob", [(0, 1, "PER"), (2, 3, "PER")], spaces=[False, True, False])
    changed = change(replacer, doc)
    assert changed.text == "Sir Edgar van Holt, Sir Edgar van Holt"


def test_neighbours_stay_two_entities(replacer):
    doc = make_doc("Ulm Ulm Anna Bob", [(0, 1, "LOC"), (1, 2, "LOC"), (2, 3, "PER"), (3, 4, "PER")])
    assert [text for text, _ in entities(change(replacer, doc))] == ["Ulm", "Ulm", *["Sir Edgar van Holt"] * 2]


def test_spans_relations_and_other_data_follow_the_text(replacer):
    doc = make_doc("Anna of New Tarvik met Bob", [(0, 1, "PER"), (2, 4, "LOC"), (5, 6, "PER")])
    doc.spans["sc"] = [Span(doc, 0, 4, "GUEST"), Span(doc, 4, 5, "ACT", span_id="first")]
    doc.user_data["id"] = 7
    set_relations(doc, [Relation(doc.ents[2], doc.ents[1], "from"), Relation(doc[4:5], doc.ents[0], "by")])
    changed = change(replacer, doc)
    assert [(span.text, span.label_, span.id_) for span in changed.spans["sc"]] == [
        ("Sir Edgar van Holt of Ulm", "GUEST", ""),
        ("met", "ACT", "first"),
    ]
    assert {(r.head.text, r.tail.text, r.label) for r in get_relations(changed)} == {
        ("Sir Edgar van Holt", "Ulm", "from"),
        ("met", "Sir Edgar van Holt", "by"),
    }
    assert changed.user_data["id"] == 7


def test_what_other_components_learn_from_follows_the_text(replacer):
    """Categories, ids in a knowledge base of what stays, custom attributes of the document, attributes of groups."""
    doc = make_doc("Anna of Acme left", [(0, 1, "PER"), (2, 3, "ORG")])
    doc.ents = [Span(doc, 0, 1, "PER", kb_id="Q1", span_id="a"), Span(doc, 2, 3, "ORG", kb_id="Q2", span_id="b")]
    doc.spans["sc"] = [Span(doc, 0, 3, "X", kb_id="Q3"), Span(doc, 2, 3, "X", kb_id="Q2")]
    doc.spans["sc"].attrs["scores"] = [0.5, 0.75]
    doc.cats = {"news": 1.0}
    doc._.source = "letter"
    changed = change(replacer, doc)
    assert [(ent.text, ent.kb_id_, ent.id_) for ent in changed.ents] == [
        ("Sir Edgar van Holt", "", ""),
        ("Acme", "Q2", "b"),
    ]
    assert [(span.text, span.kb_id_) for span in changed.spans["sc"]] == [
        ("Sir Edgar van Holt of Acme", ""),
        ("Acme", "Q2"),
    ]
    assert changed.spans["sc"].attrs == {"scores": [0.5, 0.75]}
    assert changed.cats == {"news": 1.0} and changed._.source == "letter"


def test_an_annotated_document_without_relations_stays_annotated(replacer):
    doc = make_doc("Anna left", [(0, 1, "PER")])
    set_relations(doc, [])
    assert change(replacer, doc)._.relations == () and change(replacer, doc).user_data == doc.user_data


def test_entities_with_bounds_of_spans_inside_stay(replacer):
    doc = make_doc("New Tarvik Museum and Bob", [(0, 3, "LOC"), (4, 5, "PER")])
    doc.spans["sc"] = [Span(doc, 0, 2, "LOC")]
    assert change(replacer, doc).text == "New Tarvik Museum and Sir Edgar van Holt "


def test_trees_stay_and_tags_become_missing(replacer):
    tree = {"heads": [1, 1, 1], "deps": ["nsubj", "ROOT", "dobj"], "tags": ["NNP", "VBD", "NNP"]}
    changed = change(replacer, make_doc("Anna left Tarvik", [(0, 1, "PER"), (2, 3, "LOC")], **tree))
    assert [token.text for token in changed] == ["Anna", "left", "Ulm"]  # no person has one token
    assert [(token.head.i, token.dep_) for token in changed] == [(1, "nsubj"), (1, "ROOT"), (1, "dobj")]
    assert [token.tag_ for token in changed] == ["NNP", "VBD", ""]


def test_sentence_starts_stay(replacer):
    doc = make_doc("He left . Anna stayed", [(3, 4, "PER")], sent_starts=[True, False, False, True, False])
    assert [sent.text for sent in change(replacer, doc).sents] == ["He left .", "Sir Edgar van Holt stayed"]
    doc = make_doc("Anna stayed", [(0, 1, "PER")])
    assert not change(replacer, doc).has_annotation("SENT_START")
    doc = make_doc("Anna Bob left", [(0, 2, "PER")], sent_starts=[True, True, False])
    assert change(replacer, doc) is doc


def test_partial_annotation_stays(replacer):
    doc = Doc(NLP.vocab, words=["Anna", "left", "Tarvik"])
    doc.set_ents([Span(doc, 0, 1, "PER")], missing=[doc[2:3]], default="outside")
    assert [token.ent_iob_ for token in change(replacer, doc)] == ["B", "I", "I", "I", "O", ""]


def test_labels_without_mentions_and_documents_of_a_teacher_stay(replacer):
    doc = make_doc("Anna left", [(0, 1, "NAME")])
    assert change(replacer, doc) is doc
    doc = make_doc("Anna left", [(0, 1, "PER")])
    doc.user_data["teacher_chain"] = {}
    assert change(replacer, doc) is doc


def test_raw_text_is_tokenized_by_the_pipeline(replacer):
    doc = Doc(NLP.vocab, words=["Ann", "'s"], spaces=[False, False])
    doc.set_ents([Span(doc, 0, 1, "PER")])
    (example,) = replacer(NLP, Example(NLP.make_doc(doc.text), doc))
    assert example.predicted.text == example.reference.text == "Sir Edgar van Holt's"
    assert example.get_aligned_ner() == ["B-PER", "I-PER", "I-PER", "L-PER", "O"]


def test_gold_tokens_stay_gold_tokens(tmp_path):
    doc = make_doc("Ann don't sing", [(0, 1, "PER")], spaces=[True, True, False])
    path = save(tmp_path, [doc])
    for gold_preproc, words in ((True, ["Ann", "don't", "sing"]), (False, ["Ann", "do", "n't", "sing"])):
        corpus = Corpus(path, gold_preproc=gold_preproc, augmenter=create_entity_replacer(path, 1.0))
        assert [[token.text for token in example.predicted] for example in corpus(NLP)] == [words]


def test_the_level_is_the_share_of_entities_and_the_seed_decides(tmp_path):
    path = save(tmp_path, [make_doc("Ulm", [(0, 1, "LOC")]), make_doc("Rome", [(0, 1, "LOC")])])
    doc = make_doc("Bonn and Bern " * 500, [(i, i + 1, "LOC") for i in range(0, 1500, 3)])

    def text():
        random.seed(3)
        return change(create_entity_replacer(path, 0.3), doc).text

    assert text() == text()
    share = 1 - text().count("Bonn") / 500
    assert 0.2 < share < 0.4 and text().count("Ulm") > 50 < text().count("Rome")


def test_an_entity_before_a_space_and_before_a_comma_is_one(tmp_path):
    docs = [make_doc(f"New Ulm {mark}", [(0, 2, "LOC")], spaces=[True, mark == "is", False]) for mark in ("is", ",")]
    mentions = create_entity_replacer(save(tmp_path, docs), 1.0).mentions
    assert mentions == {"LOC": [(("New", True), ("Ulm", False))]}


def test_limit_and_corpus_reader(tmp_path):
    docs = [make_doc("Ulm", [(0, 1, "LOC")]), make_doc("Rome", [(0, 1, "LOC")])]
    path = save(tmp_path, docs)
    assert create_entity_replacer(path, 1.0, limit=1).mentions == {"LOC": [(("Ulm", False),)]}
    corpus = Corpus(path, augmenter=create_entity_replacer(path, 1.0, limit=1))
    assert [example.reference.text for example in corpus(NLP)] == ["Ulm ", "Ulm "]


@pytest.mark.parametrize("copies, epochs, most", [(1, 0, 2), (10, 0, 20), (1, -1, 100)])
def test_how_many_variants_a_training_sees(tmp_path, copies, epochs, most):
    """spaCy reads a corpus once, unless it streams it."""
    words = ("Anna and Bob", "Cleo and Dora")
    path = save(tmp_path, [make_doc(text, [(0, 1, "PER"), (2, 3, "PER")]) for text in words])
    corpus = Corpus(path, augmenter=create_entity_replacer(path, 0.5, copies=copies))
    batches = create_train_batches(NLP, corpus, lambda examples: [list(examples)], epochs)
    texts = {example.reference.text for _, batch in islice(batches, 50) for example in batch}
    assert len(texts) <= most and (len(texts) > 8 or most == 2)


@pytest.mark.parametrize(
    "path, level, copies, message",
    [
        (None, 0.5, 1, "set it to"),
        ("x.spacy", 2.0, 1, "level = 2.0"),
        ("x.spacy", 1.0, 0, "copies = 0"),
        ("empty.spacy", 1.0, 1, "empty.spacy have no entities"),
    ],
)
def test_bad_settings(tmp_path, path, level, copies, message):
    DocBin().to_disk(tmp_path / "empty.spacy")
    with pytest.raises(ValueError, match=message):
        create_entity_replacer(path and tmp_path / path, level, copies=copies).mentions  # noqa: B018 - reads the corpus
