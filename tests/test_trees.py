"""The Syn-LSTM in a pipeline: sources of its trees, and documents without one."""

from itertools import pairwise

import numpy as np
import pytest
import spacy
from conftest import TRAIN, entities, make_examples, set_trees, small_model
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Example

from spacy_ner_arch.annotation.trees import read_tree, tree_in_words
from spacy_ner_arch.annotation.words import find_words
from spacy_ner_arch.training import calibration
from spacy_ner_arch.training.calibration import create_calibrate, even_sample
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


def test_calibration_reads_the_development_corpus_as_training_does(tmp_path, monkeypatch):
    """No component sets trees; the reader of the development corpus copies the gold ones."""
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
    temperature = float(module.temperature)
    # Also another corpus, of which it knows the path only.
    module.temperature.fill_(1.0)
    nlp.config["corpora"]["dev"]["path"] = None
    assert create_calibrate(path)(nlp) is nlp and float(module.temperature) == temperature
    nlp.config["corpora"]["dev"]["path"] = str(path)
    seen = []
    shim = nlp.get_pipe("sequence_ner").shim
    monkeypatch.setattr(shim, "calibrate", lambda batches: seen.append([n for _, b in batches for n in b.lengths]))
    for limit in (1, 2, 0):
        create_calibrate(limit=limit)(nlp)
    lengths = [len(eg.reference) for eg in examples]
    assert seen == [lengths[:1], [lengths[0], lengths[len(lengths) // 2]], lengths]  # even over a sorted corpus


def test_calibration_reads_the_corpus_once_for_all_components(monkeypatch):
    """A reader with a share draws other documents in each pass. No component reads what another one predicted."""
    nlp = make_nlp()
    nlp.add_pipe("span_ner", config={"model": {**small_model("Span"), "encoder": SYN_LSTM}})
    nlp.initialize(lambda: parsed(nlp))
    passes, seen = [], []

    def corpus(nlp):
        passes.append(parsed(nlp) * 3 if not passes else [])
        yield from passes[-1]

    def see(_, name, examples):
        found = list(examples)
        seen.append([(eg.reference, len(eg.predicted.spans)) for eg in found])
        for eg in found:
            eg.predicted.spans["sc"] = []

    monkeypatch.setattr(calibration, "held_out_corpus", lambda config, path: corpus)
    monkeypatch.setattr(calibration, "held_out_batches", see)
    for name in ("sequence_ner", "span_ner"):
        monkeypatch.setattr(nlp.get_pipe(name).shim, "calibrate", lambda batches: None)
    create_calibrate(limit=4)(nlp)
    assert len(passes) == 1 and seen[0] == seen[1] and len(seen[0]) == 4


@given(st.integers(1, 40), st.integers(0, 300))
def test_a_sample_is_even_over_a_corpus_of_unknown_length(size, total):
    sample = even_sample(iter(range(total)), size)
    assert len(sample) == min(size, total) and sample == sorted(set(sample))
    # No gap is more than twice as long as those between equal parts.
    assert max(later - earlier for earlier, later in pairwise([0, *sample, total])) <= 2 * -(-total // size)


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


def test_trees_of_a_parser_in_the_same_training():
    nlp = make_nlp(parser=True)
    examples = parsed(nlp, gold=False)
    optimizer = nlp.initialize(lambda: examples)
    optimizer.learn_rate = 0.01
    for _ in range(80):
        # New documents for every update, as a corpus reader makes them: spaCy's parser rejects documents with a tree.
        nlp.update(parsed(nlp, gold=False), sgd=optimizer, annotates=["parser"])
    docs = list(nlp.pipe([Doc(nlp.vocab, words=text.split(" ")) for text, _ in TRAIN]))
    assert [entities(doc) for doc in docs] == [spans for _, spans in TRAIN]
    assert all(doc.has_annotation("DEP") for doc in docs)
    assert not list(nlp("").ents)


def test_a_component_over_a_parser_that_is_trained_already():
    """It is added to a pipeline and initialized alone, with a corpus without trees."""
    nlp = make_nlp(parser=True)
    nlp.initialize(lambda: parsed(nlp, gold=False))
    pipe = nlp.get_pipe("sequence_ner")
    pipe.initialize(lambda: make_examples(nlp), nlp=nlp)
    untrained = make_nlp(parser=True)
    with pytest.raises(ValueError, match="trees of parser, which is trained in this run, but no document"):
        untrained.initialize(lambda: make_examples(untrained))


def test_documents_without_a_tree(tmp_path):
    nlp = make_nlp()
    fit(nlp, parsed(nlp), 1)
    with pytest.raises(ValueError, match="no dependency tree on 'Anna left.*put a parser into the pipeline before"):
        nlp(Doc(nlp.vocab, words=["Anna", "left"]))
    with nlp.select_pipes(enable=[]):
        assert not nlp("Anna left").ents
    # The remedy of the error, for a pipeline that is stored.
    nlp.to_disk(tmp_path / "stored")
    setting = {"components.sequence_ner.model.encoder.missing": "chain"}
    spacy.load(tmp_path / "stored", config=setting)(Doc(nlp.vocab, words=["Anna", "left"]))
    chained = make_nlp(missing="chain")
    fit(chained, make_examples(chained))
    docs = chained.pipe([Doc(chained.vocab, words=text.split(" ")) for text, _ in TRAIN])
    assert [entities(doc) for doc in docs] == [spans for _, spans in TRAIN]


def test_learns_from_the_tree_alone():
    """All documents have the same words; the entity is the root."""
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


def test_learns_as_a_tok2vec_layer():
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


def test_trees_as_arrays():
    """Several roots, labels, documents without a token, parts of speech."""
    vocab = spacy.blank("en").vocab
    doc = Doc(vocab, words=list("abcd"), heads=[1, 1, 2, 2], deps=["x", "ROOT", "ROOT", "new"], pos=["NOUN"] * 4)
    one = Doc(vocab, words=["e"], heads=[0], deps=["ROOT"], pos=["VERB"])
    heads, deps, pos = tree = read_tree(doc, "error", True)
    assert tree.dtype == np.int64 and (tree >= 0).all()
    assert heads.tolist() == [1, 1, 2, 2]
    assert deps[1] == deps[2] and len(set(deps.tolist())) == 3
    assert len(set(pos.tolist())) == 1
    other = read_tree(one, "error", True)
    assert other[0].tolist() == [0] and other[1, 0] == deps[1] and other[2, 0] != pos[0]
    for missing in ("error", "chain"):
        assert read_tree(Doc(vocab), missing, True).shape == (3, 0)


def test_trees_of_documents_without_annotation():
    bare = Doc(spacy.blank("en").vocab, words=list("abc"))
    assert read_tree(bare, "chain", False).tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    with pytest.raises(ValueError, match='no dependency tree on .a b c.*or set missing = "chain" in the block'):
        read_tree(bare, "error", False)
    with pytest.raises(ValueError, match="no parts of speech on 'a b c.*put a tagger or morphologizer"):
        read_tree(bare, "chain", True)
    blank = Doc(bare.vocab, words=[" ", "\n"])
    assert read_tree(blank, "error", True).shape == (3, 2)
    assert tree_in_words(read_tree(blank, "error", True), *find_words([blank])).shape == (3, 0)


def test_parts_of_speech_reach_the_encoder():
    """All documents have the same words and trees; only the part of speech marks the entity."""
    nlp = make_nlp(pos_size=4)
    examples = []
    for noun in range(5):
        tree = {"heads": [0] * 5, "deps": ["ROOT", *["dep"] * 4]}
        pos = ["NOUN" if i == noun else "VERB" for i in range(5)]
        reference, predicted = (Doc(nlp.vocab, words=["word"] * 5, pos=pos, **tree) for _ in range(2))
        reference.set_ents([Span(reference, noun, noun + 1, "NOUN")], default="outside")
        examples.append(Example(predicted, reference))
    fit(nlp, examples)
    docs = list(nlp.pipe(eg.predicted.copy() for eg in examples))
    assert [entities(doc) for doc in docs] == [[(noun, noun + 1, "NOUN")] for noun in range(5)]
    without = Doc(nlp.vocab, words=["word"] * 5, **tree)
    with pytest.raises(ValueError, match="sequence_ner: no parts of speech on"):
        nlp(without)


def test_wrong_settings_are_an_error():
    with pytest.raises(ValueError, match="unknown missing = 'guess'"):
        make_nlp(missing="guess")
    with pytest.raises(ValueError, match="edge_labels"):
        nlp = make_nlp(edge_labels="spam")
        nlp.initialize(lambda: parsed(nlp))
