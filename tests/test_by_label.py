"""Settings by label, also for labels that cannot be keys of a config."""

import numpy as np
import pytest
import spacy
from conftest import make_examples, related_examples, relations, small_model
from hypothesis import given
from hypothesis import strategies as st
from spacy.language import Language
from test_relation_extractor import DOCUMENT, relation_model
from thinc.api import Config

from spacy_ner_arch.annotation.by_label import by_label
from spacy_ner_arch.annotation.type_pairs import as_type_pairs

# As in TACRED.
WITH_COLON = {"PER": "per:person", "ORG": "org:name=full", "LOC": "#[loc]"}
NOT_KEYS = ["per:title", "a:${b", ":\n", "a=b", "#x", ";x", "[y]", " z", "z ", "", "a\nb"]


@pytest.mark.parametrize("label", NOT_KEYS)
def test_keys_that_a_config_loses(label):
    with pytest.raises(ValueError, match=r"^s has the keys \[.*give all of s as a list of \[label, value\], such as "):
        by_label("s", {"PER": 1.0, label: 2.0}, float)
    assert by_label("s", [["PER", 1], [label, 2.0]], float) == {"PER": 1.0, label: 2.0}


@pytest.mark.parametrize(
    "rows, message",
    [
        ([["a:b", 1.0], ["a:b", 2.0]], "s names the label 'a:b' twice"),
        ([["a:b", 1.0, 2.0]], r"s has \['a:b', 1.0, 2.0\]; give rows of \[label, value\]"),
        ([[1, 1.0]], "give rows of"),
        ([["a:b", "much"]], "s of 'a:b': could not convert string to float"),
        ([["a:b", [1.0]]], "s of 'a:b': float.. argument must be"),
    ],
)
def test_bad_rows(rows, message):
    with pytest.raises(ValueError, match=message):
        by_label("s", rows, float)


@given(st.text(st.sampled_from("ab:=#;[]@.% \t\n_-${}'\""), max_size=4))
def test_other_keys_survive_in_a_config(label):
    try:
        by_label("s", {label: 1.0}, float)
    except ValueError:
        return
    config = {"components": {"ner": {"alternatives": {label: 1.0}, "threshold": 0.5}}}
    assert Config().from_str(Config(config).to_str()) == config


def test_forms_of_type_pairs():
    lists = [["per:title", [["PER", "TITLE"]]], ["per:age", []]]
    assert as_type_pairs(lists) == {"per:title": [["PER", "TITLE"]], "per:age": []}
    assert as_type_pairs([["PER", "TITLE"]]) == [["PER", "TITLE"]]
    assert as_type_pairs([]) == []
    with pytest.raises(ValueError, match="type_pairs has the keys"):
        as_type_pairs({"per:title": []})


@pytest.mark.parametrize(
    "given, message",
    [
        ([["PER", "TITLE"], ["a:b", [["PER", "TITLE"]]]], r"^type_pairs has \['a:b', .*; a pair is .type of the head"),
        ([["PER", "ORG"], ["LOC", None]], r"^type_pairs has \['LOC', None\]; a pair is \[type of the head, [^.]*$"),
        ([["a:b", ["PER", "ORG"]]], "^type_pairs of 'a:b': type_pairs has 'PER'; a pair is [^.]*$"),
        ([["a:b", [["PER", 1]]]], r"^type_pairs of 'a:b': type_pairs has \['PER', 1\]; a pair is"),
        ({"IN": "PER"}, r"^type_pairs of 'IN': 'PER' is not a list of pairs, such as"),
        ([["PER"]], r"^type_pairs has \['PER'\]; a pair is"),
        ([1], "^type_pairs has 1; a pair is"),
        ([["PER", "IN", "LOC"]], "To restrict a label, give its pairs by label"),
    ],
    ids=str,
)
def test_bad_type_pairs(given, message):
    with pytest.raises(ValueError, match=message):
        as_type_pairs(given)


def with_labels(examples: list) -> list:
    """The same examples with labels that cannot be keys."""
    for eg in examples:
        eg.reference.ents = [
            spacy.tokens.Span(eg.reference, ent.start, ent.end, WITH_COLON.get(ent.label_, ent.label_))
            for ent in eg.reference.ents
        ]
    return examples


def assert_same_after_loading(nlp: Language, texts: list[str], path: object) -> list:
    nlp.to_disk(path)
    loaded = spacy.load(path)
    docs, again = list(nlp.pipe(texts)), list(loaded.pipe(texts))
    for doc, other in zip(docs, again, strict=True):
        assert [(ent.text, ent.label_) for ent in doc.ents] == [(ent.text, ent.label_) for ent in other.ents]
        assert relations(doc) == relations(other)
    return docs


def test_entities(tmp_path):
    nlp = spacy.blank("en")
    weights = [[label, 2.0] for label in WITH_COLON.values()]
    alternatives = [[label, 0.001] for label in list(WITH_COLON.values())[:2]]
    model = {**small_model("Softmax"), "class_weights": weights}
    nlp.add_pipe("sequence_ner", config={"model": model, "alternatives": alternatives})
    examples = with_labels(make_examples(nlp))
    optimizer = nlp.initialize(lambda: examples)
    for _ in range(3):
        nlp.update(examples, sgd=optimizer)
    docs = assert_same_after_loading(nlp, [eg.reference.text for eg in examples], tmp_path)
    found = {span.label_ for doc in docs for span in doc.spans["alternatives"]}
    assert found and found <= {label for label, _ in alternatives}
    assert set(np.unique(nlp.get_pipe("sequence_ner").head.weights)) == {1.0, 2.0}


def test_relations(tmp_path):
    nlp = spacy.blank("en")
    names = {"LIVES_IN": "per:lives=in", "WORKS_FOR": "per:works:for"}
    config = {
        "model": relation_model(class_weights=[["per:works:for", 3.0]]),
        "candidates": DOCUMENT,
        "type_pairs": [["per:lives=in", [["PER", "LOC"]]]],
    }
    nlp.add_pipe("relation_extractor", config=config)
    examples = related_examples(nlp)
    for eg in examples:
        eg.reference._.relations = [
            relation._replace(label=names.get(relation.label, relation.label)) for relation in eg.reference._.relations
        ]
    optimizer = nlp.initialize(lambda: examples)
    nlp.update(examples, sgd=optimizer)
    pipe = nlp.get_pipe("relation_extractor")
    assert pipe.rules.allowed_types("per:lives=in") == {("PER", "LOC")}
    assert pipe.rules.allowed_types("per:works:for") is None
    assert_same_after_loading(nlp, [eg.reference.text for eg in examples], tmp_path)
    assert spacy.load(tmp_path).get_pipe("relation_extractor").cfg == pipe.cfg


@pytest.mark.parametrize(
    "factory, config",
    [
        ("sequence_ner", {"alternatives": {"per:title": 0.5}}),
        ("sequence_ner", {"model": {**small_model("Softmax"), "class_weights": {"per:title": 0.5}}}),
        ("relation_extractor", {"type_pairs": {"per:title": [["PER", "TITLE"]]}}),
        ("relation_extractor", {"model": relation_model(class_weights={"per:title": 0.5})}),
    ],
    ids=["alternatives", "class_weights", "type_pairs", "class_weights of relations"],
)
def test_keys_of_components(factory, config):
    with pytest.raises(ValueError, match=r"^[\w.]+: (alternatives|type_pairs|class_weights) has the keys \['per:"):
        spacy.blank("en").add_pipe(factory, config=config)
