"""Syn-LSTM inside a pipeline: where its trees come from, and what happens without one."""

import pytest
import spacy
from conftest import TRAIN, entities, make_examples, set_trees, small_model
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Example
from torch import device

from spacy_ner_arch.annotation.trees import read_trees
from spacy_ner_arch.nn.batch import padding
from spacy_ner_arch.training.calibration import create_calibrate
from spacy_ner_arch.training.corpus import copy_heads

SYN_LSTM = {"@architectures": "spacy_ner_arch.SynLSTM.v1", "hidden_size": 12, "dep_size": 8}


def make_nlp(factory="sequence_ner", head="CRF", parser=False, **encoder):
    nlp = spacy.blank("en")
    if parser:
        nlp.add_pipe("parser", config={"min_action_freq": 1})
    nlp.add_pipe(factory, config={"model": {**small_model(head), "encoder": {**SYN_LSTM, **encoder}}})
    return nlp


def parsed(nlp, gold=True):
    examples = make_examples(nlp)
    set_trees([eg.reference for eg in examples])
    for eg in examples if gold else ():
        copy_heads(eg)
    return examples


def test_calibration_sees_what_training_is_scored_on(tmp_path, monkeypatch):
    """The gold trees that the reader of the development corpus copies: no component sets any."""
    nlp = make_nlp()
    examples = parsed(nlp)
    fit(nlp, examples)
    path = tmp_path / "dev.spacy"
    DocBin(docs=[eg.reference for eg in examples]).to_disk(path)
    nlp.config["corpora"] = {
        "dev": {"@readers": "spacy_ner_arch.Corpus.v1", "path": str(path), "copy": ["heads"]},
        "train": None,
    }
    module = nlp.get_pipe("sequence_ner").model.shims[0].module
    assert create_calibrate()(nlp) is nlp and module.temperature != 1.0
    with pytest.raises(ValueError, match="no dependency tree"):
        create_calibrate(path)(nlp)
    seen = []
    monkeypatch.setattr(nlp.get_pipe("sequence_ner"), "calibrate", lambda examples: seen.append(len(examples)))
    for limit in (1, 0):
        create_calibrate(limit=limit)(nlp)
    assert seen == [1, len(examples)]


def fit(nlp, examples, steps=80, **settings):
    optimizer = nlp.initialize(lambda: examples)
    optimizer.learn_rate = 0.01
    for _ in range(steps):
        nlp.update(examples, sgd=optimizer, **settings)


@pytest.mark.parametrize("edge_labels", ["none", "bias", "gate"])
@pytest.mark.parametrize("factory, head", [("sequence_ner", "CRF"), ("sequence_ner", "Softmax"), ("span_ner", "Span")])
def test_learns_under_every_head(factory, head, edge_labels, copy_of):
    nlp = make_nlp(factory, head, edge_labels=edge_labels)
    examples = parsed(nlp)
    fit(nlp, examples)
    for trained in (nlp, copy_of(nlp)):
        docs = trained.pipe(eg.predicted for eg in parsed(trained))
        assert [entities(doc) for doc in docs] == [spans for _, spans in TRAIN]


def test_reads_the_trees_of_a_parser_that_is_trained_beside_it():
    nlp = make_nlp(parser=True)
    examples = parsed(nlp, gold=False)
    optimizer = nlp.initialize(lambda: examples)
    optimizer.learn_rate = 0.01
    for _ in range(80):
        # New documents every time, as a corpus gives them: the parser of spaCy does not take those that have a tree.
        nlp.update(parsed(nlp, gold=False), sgd=optimizer, annotates=["parser"])
    docs = list(nlp.pipe([Doc(nlp.vocab, words=text.split(" ")) for text, _ in TRAIN]))
    assert [entities(doc) for doc in docs] == [spans for _, spans in TRAIN]
    assert all(doc.has_annotation("DEP") for doc in docs)
    assert not list(nlp("").ents)


def test_without_a_tree():
    nlp = make_nlp()
    fit(nlp, parsed(nlp), 1)
    with pytest.raises(ValueError, match="no dependency tree on 'Anna left.*put a parser into the pipeline before"):
        nlp(Doc(nlp.vocab, words=["Anna", "left"]))
    with nlp.select_pipes(enable=[]):
        assert not nlp("Anna left").ents
    chained = make_nlp(missing="chain")
    fit(chained, make_examples(chained))
    docs = chained.pipe([Doc(chained.vocab, words=text.split(" ")) for text, _ in TRAIN])
    assert [entities(doc) for doc in docs] == [spans for _, spans in TRAIN]


def test_finds_what_only_the_tree_tells():
    """The same words in all documents; the entity is the root."""
    nlp = make_nlp()
    examples = []
    for root in range(5):
        words, heads = ["word"] * 5, [root] * 5
        deps = ["ROOT" if i == root else "dep" for i in range(5)]
        reference, predicted = (Doc(nlp.vocab, words=words, heads=heads, deps=deps) for _ in range(2))
        reference.set_ents([Span(reference, root, root + 1, "ROOT")], default="outside")
        examples.append(Example(predicted, reference))
    fit(nlp, examples)
    docs = nlp.pipe(Doc(nlp.vocab, words=["word"] * 5).from_array(["HEAD", "DEP"], tree(eg)) for eg in examples)
    assert [entities(doc) for doc in docs] == [[(root, root + 1, "ROOT")] for root in range(5)]


def tree(eg):
    return eg.reference.to_array(["HEAD", "DEP"])


def test_as_a_shared_layer_of_its_own():
    """In TorchTok2Vec.v1, under a head without an encoder."""
    nlp = spacy.blank("en")
    model = small_model()
    encoder = model.pop("encoder")
    model["tok2vec"] = {
        "@architectures": "spacy_ner_arch.TorchTok2Vec.v1",
        "tok2vec": model["tok2vec"],
        "encoder": {**SYN_LSTM, "hidden_size": encoder["hidden_size"]},
    }
    nlp.add_pipe("sequence_ner", config={"model": model})
    examples = parsed(nlp)
    fit(nlp, examples)
    docs = nlp.pipe(eg.predicted for eg in parsed(nlp))
    assert [entities(doc) for doc in docs] == [spans for _, spans in TRAIN]


def test_trees_as_tensors():
    """Several roots, labels unseen in training, documents without a token, parts of speech."""
    vocab = spacy.blank("en").vocab
    doc = Doc(vocab, words=list("abcd"), heads=[1, 1, 2, 2], deps=["x", "ROOT", "ROOT", "new"], pos=["NOUN"] * 4)
    docs = [doc, Doc(vocab), Doc(vocab, words=["e"], heads=[0], deps=["ROOT"], pos=["VERB"])]
    shape = padding([4, 0, 1], device("cpu"))
    graph = read_trees(docs, shape, "error", 100, pos=True)
    assert graph.heads[0].tolist() == [1, 1, 2, 2] and graph.heads[2, 0] == 0
    assert graph.deps[0, 1] == graph.deps[0, 2] == graph.deps[2, 0] != graph.deps[0, 0]
    assert graph.pos[0].unique().numel() == 1 and graph.pos[0, 0] != graph.pos[2, 0]
    assert graph.deps.min() >= 0 and graph.deps.max() < 100
    assert read_trees(docs, shape, "error", 100, pos=False).pos is None
    bare = [Doc(vocab, words=list("abc"))]
    chain = read_trees(bare, padding([3], device("cpu")), "chain", 100, pos=False)
    assert chain.heads.tolist() == [[0, 0, 1]]
    with pytest.raises(ValueError, match="no parts of speech on 'a b c.*put a tagger or morphologizer"):
        read_trees(bare, padding([3], device("cpu")), "chain", 100, pos=True)


def test_refuses():
    with pytest.raises(ValueError, match="unknown missing = 'guess'"):
        make_nlp(missing="guess")
    with pytest.raises(ValueError, match="edge_labels"):
        nlp = make_nlp(edge_labels="spam")
        nlp.initialize(lambda: parsed(nlp))
