"""Gold annotation on the predicted documents."""

import pytest
import spacy
from spacy.tokens import Doc, DocBin, Span

from spacy_ner_arch.corpora import create_corpus


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
    assert len(list(example.predicted.sents)) == 2


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
    )
    doc.set_ents([Span(doc, 3, 4, "LOC")], default="outside")
    DocBin(docs=[doc]).to_disk(tmp_path / "gold.spacy")
    predicted = read(tmp_path / "gold.spacy", ["ents", "heads"]).predicted
    assert [token.text for token in predicted] == ["He", "can", "not", "see", "Brenna", "."]
    assert [(ent.text, ent.label_) for ent in predicted.ents] == [("Brenna", "LOC")]
    assert predicted[0].head.text == "see" and predicted[4].dep_ == "obj"


def test_bad_arguments(corpus):
    with pytest.raises(ValueError, match=r"cannot copy \['tags'\]; it knows \['ents', 'heads'\]"):
        create_corpus(corpus, copy=["tags"])
    with pytest.raises(ValueError, match="--paths.train"):
        create_corpus(None)
