"""Gold annotation on the predicted documents."""

import random
import time
import warnings
from itertools import chain

import pytest
import spacy
from conftest import make_examples, relations, set_relations
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Example
from spacy.training.augment import create_combined_augmenter
from spacy.vocab import Vocab

from spacy_ner_arch.annotation.alignment import align_each, misaligned_tokens
from spacy_ner_arch.annotation.relations import aligned_keys, has_relations
from spacy_ner_arch.annotation.sentences import with_sentences
from spacy_ner_arch.training.corpus import copy_relations, copy_sentences, create_corpus


@pytest.fixture
def corpus(tmp_path):
    nlp = spacy.blank("en")
    doc = Doc(
        nlp.vocab,
        words=["Anna", "Brandt", "slept", ".", "She", "dreamt", "."],
        heads=[2, 0, 2, 2, 5, 5, 5],
        deps=["nsubj", "flat", "ROOT", "punct", "nsubj", "ROOT", "punct"],
    )
    doc.set_ents([Span(doc, 0, 2, "PER")], default="outside")
    DocBin(docs=[doc]).to_disk(tmp_path / "gold.spacy")
    return tmp_path / "gold.spacy"


def read(corpus, copy):
    (example,) = create_corpus(corpus, copy=copy)(spacy.blank("en"))
    return example


def test_nothing_is_copied_unless_asked_for(corpus):
    predicted = read(corpus, []).predicted
    assert not predicted.ents and not predicted.has_annotation("DEP")


def test_entities_and_trees(corpus):
    example = read(corpus, ["ents", "heads"])
    assert [(ent.text, ent.label_) for ent in example.predicted.ents] == [("Anna Brandt", "PER")]
    for token, gold in zip(example.predicted, example.reference, strict=True):
        assert (token.head.i, token.dep_, token.is_sent_start) == (gold.head.i, gold.dep_, gold.is_sent_start)
    assert len(list(example.predicted.sents)) == 2 and not example.predicted.has_annotation("POS")


def test_without_a_gold_tree_there_is_none(tmp_path):
    nlp = spacy.blank("en")
    DocBin(docs=[Doc(nlp.vocab, words=["a", "b"])]).to_disk(tmp_path / "bare.spacy")
    assert not read(tmp_path / "bare.spacy", ["ents", "heads"]).predicted.has_annotation("DEP")


def test_copies_align_where_the_tokenizer_differs(tmp_path):
    nlp = spacy.blank("en")
    doc = Doc(
        nlp.vocab,
        words=["He", "cannot", "see", "Brenna", "."],
        spaces=[True, True, True, False, False],
        heads=[2, 2, 2, 2, 2],
        deps=["nsubj", "aux", "ROOT", "obj", "punct"],
        pos=["PRON", "AUX", "VERB", "PROPN", "PUNCT"],
    )
    doc.set_ents([Span(doc, 3, 4, "LOC")], default="outside")
    DocBin(docs=[doc]).to_disk(tmp_path / "gold.spacy")
    predicted = read(tmp_path / "gold.spacy", ["ents", "heads"]).predicted
    assert [token.text for token in predicted] == ["He", "can", "not", "see", "Brenna", "."]
    assert [(ent.text, ent.label_) for ent in predicted.ents] == [("Brenna", "LOC")]
    assert predicted[0].head.text == "see" and predicted[4].dep_ == "obj"
    assert [token.pos_ for token in predicted] == ["PRON", "AUX", "AUX", "VERB", "PROPN", "PUNCT"]


def test_sentence_starts_without_a_tree(corpus):
    predicted = read(corpus, ["sents"]).predicted
    assert [sent.text for sent in predicted.sents] == ["Anna Brandt slept .", "She dreamt ."]
    assert not predicted.has_annotation("DEP")


@pytest.mark.parametrize("copy", [["heads", "sents"], ["sents", "heads"]])
def test_a_tree_has_its_own_sentence_starts(corpus, copy):
    starts = [token.is_sent_start for token in read(corpus, ["heads"]).predicted]
    predicted = read(corpus, copy).predicted
    assert predicted.has_annotation("DEP")
    assert [token.is_sent_start for token in predicted] == starts


def test_without_gold_sentence_starts_there_are_none(tmp_path):
    nlp = spacy.blank("en")
    DocBin(docs=[Doc(nlp.vocab, words=["a", "b"]), Doc(nlp.vocab)]).to_disk(tmp_path / "bare.spacy")
    for example in create_corpus(tmp_path / "bare.spacy", copy=["sents", "heads"])(nlp):
        assert all(token.is_sent_start is None for token in example.predicted[1:])


def test_sentence_starts_align_where_the_tokenizer_differs(tmp_path):
    """One gold word that becomes two starts one sentence; a start within a predicted token is lost."""
    nlp = spacy.blank("en")
    doc = Doc(
        nlp.vocab,
        words=["Cannot", "be", ".", "Cannot", "be", "1b", "2c", "."],
        spaces=[True, False, True, True, True, False, False, False],
        sent_starts=[True, False, False, True, False, False, True, False],
    )
    DocBin(docs=[doc]).to_disk(tmp_path / "gold.spacy")
    predicted = read(tmp_path / "gold.spacy", ["sents"]).predicted
    assert [token.text for token in predicted] == ["Can", "not", "be", ".", "Can", "not", "be", "1b2c", "."]
    assert [sent.start for sent in predicted.sents] == [0, 4]


def test_sentence_starts_of_long_documents_take_linear_time(tmp_path):
    nlp = spacy.blank("en")
    doc = Doc(nlp.vocab, words=["a"] * 40_000, sent_starts=[i % 20 == 0 for i in range(40_000)])
    DocBin(docs=[doc]).to_disk(tmp_path / "gold.spacy")
    start = time.process_time()
    predicted = read(tmp_path / "gold.spacy", ["sents"]).predicted
    whole = with_sentences(Doc(nlp.vocab, words=["a"] * 40_000))
    # Less than a second on an idle machine.
    assert time.process_time() - start < 8
    assert [sent.start for sent in predicted.sents] == list(range(0, 40_000, 20))
    assert len(list(whole.sents)) == 1


def joined(pieces, rng):
    """The words of a text, of which random neighbors are one token."""
    words = []
    for piece in pieces:
        words += [piece] if not words or rng.random() < 0.5 else [words.pop() + piece]
    return words


@pytest.mark.parametrize("seed", range(20))
def test_gold_spans_align_as_spacy_aligns_them(seed):
    rng = random.Random(seed)
    pieces = [rng.choice(["Anna", "-", "B", "tarn", "\n", " "]) for _ in range(40)]
    vocab = Vocab()
    gold, predicted = (Doc(vocab, words=joined(pieces, rng)) for _ in range(2))
    spans = [Span(gold, i, j, "PER") for i in range(len(gold)) for j in range(i + 1, min(i + 4, len(gold) + 1))]
    eg = Example(predicted, gold)
    expected = [eg.get_aligned_spans_y2x([span], allow_overlap=True) for span in spans]
    assert align_each(eg, spans) == [(found[0].start, found[0].end) if found else None for found in expected]
    assert {bool(found) for found in expected} == {True, False}


def test_gold_spans_of_long_documents_are_aligned_in_linear_time():
    words = [["a", "-", "b"] if i % 10 == 0 else [f"w{i}"] for i in range(20_000)]
    vocab = Vocab()
    gold, predicted = (
        Doc(vocab, words=flat) for flat in (list(chain.from_iterable(words)), ["".join(word) for word in words])
    )
    gold.ents = [Span(gold, i, i + 1, "PER") for i in range(0, len(gold), 4)]
    gold._.relations = [(gold[i : i + 1], gold[i + 4 : i + 5], "NEAR") for i in range(0, 20_000, 4)]
    eg = Example(predicted, gold)
    for align, found in (
        (lambda: misaligned_tokens(eg, gold.ents).sum(), 2_000),
        (lambda: len(aligned_keys(eg)), 5_000),
    ):
        start = time.process_time()
        assert align() == found
        # Less than half a second on an idle machine; one by one, six seconds or more.
        assert time.process_time() - start < 3


def test_lost_relations_of_long_documents_are_counted_in_linear_time():
    nlp = spacy.blank("en")
    extractor = nlp.add_pipe("relation_extractor")
    doc = Doc(nlp.vocab, words=[f"w{i}" for i in range(20_000)])
    doc._.relations = [(doc[i : i + 1], doc[i + 1 : i + 2], "NEAR") for i in range(0, 20_000, 4)]
    start = time.process_time()
    with pytest.warns(UserWarning, match="5000 of 5000 gold relations are not candidates, such as NEAR from 'w0'"):
        extractor.find_label_data([Example(doc.copy(), doc)])
    assert time.process_time() - start < 10


def test_bad_arguments(corpus):
    with pytest.raises(ValueError, match=r"cannot copy \['tags'\]; choose from \['ents', 'heads', 'sents', 'spans'\]"):
        create_corpus(corpus, copy=["tags"])
    with pytest.raises(ValueError, match="--paths.train"):
        create_corpus(None)


def test_limit_counts_the_documents_of_all_files(tmp_path):
    for name in "abc":
        docs = [Doc(Vocab(), words=[name, str(i)]) for i in range(3)]
        DocBin(docs=[Doc(Vocab()), *docs]).to_disk(tmp_path / f"{name}.spacy")
    for limit, number in ((-1, 9), (0, 9), (2, 2), (4, 4), (20, 9)):
        assert len(list(create_corpus(tmp_path, limit=limit)(spacy.blank("en")))) == number


def test_spans_under_all_keys(tmp_path):
    nlp = spacy.blank("en")
    doc = Doc(nlp.vocab, words=["New", "York", "sleeps"])
    doc.spans["sc"] = [Span(doc, 0, 2, "LOC"), Span(doc, 0, 1, "ADJ")]
    doc.spans["none"] = []
    DocBin(docs=[doc]).to_disk(tmp_path / "gold.spacy")
    predicted = read(tmp_path / "gold.spacy", ["spans"]).predicted
    assert [(span.text, span.label_) for span in predicted.spans["sc"]] == [("New York", "LOC"), ("New", "ADJ")]
    assert list(predicted.spans["none"]) == []


def test_a_share_of_the_documents_gets_them(tmp_path):
    nlp = spacy.blank("en")
    docs = [Doc(nlp.vocab, words=["Anna", str(i)]) for i in range(200)]
    for doc in docs:
        doc.set_ents([Span(doc, 0, 1, "PER")])
    DocBin(docs=docs).to_disk(tmp_path / "gold.spacy")
    reader = create_corpus(tmp_path / "gold.spacy", copy=["ents"], share=0.3)
    spacy.util.fix_random_seed(0)
    first, second = ([bool(eg.predicted.ents) for eg in reader(nlp)] for _ in range(2))
    assert 30 < sum(first) < 90 and first != second  # drawn anew in every pass
    for share, number in ((0.0, 0), (1.0, 200)):
        examples = create_corpus(tmp_path / "gold.spacy", copy=["ents"], share=share)(nlp)
        assert sum(bool(eg.predicted.ents) for eg in examples) == number
    with pytest.raises(ValueError, match="share = 2"):
        create_corpus(tmp_path / "gold.spacy", share=2)


def test_a_tree_of_which_nothing_aligns_is_a_tree(tmp_path):
    nlp = spacy.blank("en")
    doc = Doc(nlp.vocab, words=["don't"], spaces=[False], heads=[0], deps=["ROOT"])
    DocBin(docs=[doc]).to_disk(tmp_path / "gold.spacy")
    predicted = read(tmp_path / "gold.spacy", ["heads"]).predicted
    assert len(predicted) == 2 and predicted.has_annotation("DEP")


@pytest.fixture
def related(tmp_path):
    """A pipeline that learns relations, and a corpus with relations and spans."""
    nlp = spacy.blank("en")
    docs = [eg.reference for eg in make_examples(nlp)]
    set_relations(docs)
    for doc in docs:
        doc.spans["sc"] = list(doc.ents)
        for token in doc:
            token.is_sent_start = token.i == 0
    DocBin(docs=docs, store_user_data=True).to_disk(tmp_path / "gold.spacy")
    nlp.add_pipe("relation_extractor")
    return nlp, docs, tmp_path / "gold.spacy"


@pytest.mark.parametrize("settings, words", [({"max_length": 8}, "Brenna Gazette"), ({"gold_preproc": True}, "Anna B")])
def test_a_reader_that_splits_documents_says_what_is_lost(related, settings, words):
    nlp, docs, path = related
    (setting, value), *_ = settings.items()
    shown = str(value).lower()
    with pytest.warns(UserWarning, match=rf"{setting} = {shown} .*gold.spacy, .* doc._.relations.*{words}"):
        list(create_corpus(path, **settings)(nlp))
    nlp.add_pipe("nested_ner")
    with pytest.warns(UserWarning, match=r"without their doc._.relations, doc.spans\['sc'\] "):
        list(create_corpus(path, **settings)(nlp))


def test_a_reader_that_splits_nothing_of_use_is_silent(related, monkeypatch):
    nlp, docs, path = related
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(create_corpus(path, max_length=9)(nlp))
        nlp.remove_pipe("relation_extractor")
        nlp.add_pipe("sequence_ner")
        monkeypatch.setattr("spacy_ner_arch.training.corpus.count_layers", None)  # which takes time
        list(create_corpus(path, max_length=4)(nlp))


def test_augmented_documents_keep_their_relations(related):
    nlp, docs, path = related
    words = create_combined_augmenter(1.0, 0.0, None, 0.0, 0.0, None)
    space = create_combined_augmenter(1.0, 0.0, None, 1.0, 0.5, ["\n"])
    for doc, eg in zip(docs, create_corpus(path, augmenter=words)(nlp), strict=True):
        assert eg.reference.text == doc.text.lower() and relations(eg.reference) == relations(doc)
    for doc in docs:
        doc.spans.clear()  # spaCy adds no white space to documents with spans
    DocBin(docs=docs, store_user_data=True).to_disk(path)
    random.seed(0)
    examples = list(create_corpus(path, augmenter=space)(nlp))
    assert any("\n" in eg.reference.text for eg in examples)
    for doc, eg in zip(docs, examples, strict=True):
        found = [[span.text.replace("\n", "").split() for span in pair[:2]] for pair in eg.reference._.relations]
        assert found == [[span.text.lower().split() for span in pair[:2]] for pair in doc._.relations]


@pytest.mark.parametrize("whitespace", [0.0, 1.0])
def test_augmented_documents_keep_their_sentences(tmp_path, whitespace):
    nlp = spacy.blank("en")
    doc = Doc(nlp.vocab, words=["\n", "Anna", "left", ".", "Tarvik", "fell", "."])
    for token in doc:
        token.is_sent_start = token.i in (0, 4)
    DocBin(docs=[doc]).to_disk(tmp_path / "gold.spacy")
    random.seed(0)
    augmenter = create_combined_augmenter(1.0, 0.0, None, whitespace, 1.0, ["\t"])
    (eg,) = create_corpus(tmp_path / "gold.spacy", ["sents"], augmenter=augmenter)(nlp)
    for side in (eg.reference, eg.predicted):
        assert [sent.text.split() for sent in side.sents] == [["anna", "left", "."], ["tarvik", "fell", "."]]
    assert ("\t" in eg.text) == bool(whitespace)


def test_sentences_of_white_space_and_unknown_sentences(tmp_path):
    nlp = spacy.blank("en")
    source = Doc(nlp.vocab, words=["\n", "A", "b", "C", "d"], sent_starts=[1, 1, -1, 1, -1])
    target = Doc(nlp.vocab, words=["\t", "a", "b", "c", "d"])
    copy_sentences(source, target)
    assert [sent.text.split() for sent in target.sents] == [["a", "b"], ["c", "d"]]
    DocBin(docs=[Doc(nlp.vocab, words=["A", "b", "C", "d"], sent_starts=[1, -1, 1, 0])]).to_disk(
        tmp_path / "part.spacy"
    )
    augmenter = create_combined_augmenter(1.0, 0.0, None, 0.0, 0.0, None)
    (eg,) = create_corpus(tmp_path / "part.spacy", augmenter=augmenter)(nlp)
    assert not eg.reference.has_annotation("SENT_START")


def test_relations_of_white_space_are_lost_where_it_is(related):
    nlp, _, path = related
    source, target = (Doc(nlp.vocab, words=words) for words in (["Anna", "\n", "Tarvik"], ["anna", "tarvik"]))
    source._.relations = [(source[0:1], source[2:3], "LIVES_IN"), (source[0:1], source[1:2], "LIVES_IN")]
    with pytest.warns(UserWarning, match="an argument of white space only, and relations are lost"):
        copy_relations(source, target)
    assert [(head.text, tail.text) for head, tail, *_ in target._.relations] == [("anna", "tarvik")]


def test_an_augmenter_that_changes_the_number_of_words(related):
    nlp, docs, path = related

    def double(nlp, example):
        doc = Doc(nlp.vocab, words=[token.text for token in example.reference] * 2)
        yield Example(doc.copy(), doc)

    with pytest.warns(UserWarning, match="augmenter changes the number of words, .* and relations are lost") as caught:
        examples = list(create_corpus(path, augmenter=double)(nlp))
    assert len({str(w.message) for w in caught if "relations" in str(w.message)}) == 1
    assert any("sentence starts are lost" in str(w.message) for w in caught)
    assert [has_relations(eg.reference) for eg in examples] == [not doc._.relations for doc in docs]
