"""The default models of the factories: what a config takes from them, and what it does not."""

from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
from conftest import related_examples, small_model
from spacy.language import Language
from spacy.util import load_config, registry
from thinc.api import Config, fix_random_seed

from spacy_ner_arch.nn.pair_acnn import ACNNPairs

HEADS = [
    ("sequence_ner", "CRF"),
    ("sequence_ner", "Softmax"),
    ("span_ner", "Span"),
    ("nested_ner", "Span"),
    ("relation_extractor", "Relations"),
]
PAIRS = {"pairs": {"@architectures": "spacy_ner_arch.SoftmaxPairs.v1"}}


def from_add_pipe(factory: str, model: dict[str, Any]) -> Language:
    nlp = spacy.blank("en")
    nlp.add_pipe(factory, config={"model": model})
    return nlp


def from_file(factory: str, model: dict[str, Any]) -> Language:
    components = {factory: {"factory": factory, "model": model}}
    config = Config({"nlp": {"lang": "en", "pipeline": [factory]}, "components": components})
    return spacy.util.load_model_from_config(Config().from_str(config.to_str()), auto_fill=True)


@pytest.mark.parametrize("make", [from_add_pipe, from_file])
@pytest.mark.parametrize("factory, head", HEADS)
def test_a_model_without_encoder_gets_none_from_the_default_model(make: Any, factory: str, head: str) -> None:
    model = {key: value for key, value in small_model(head).items() if key != "encoder"}
    nlp = make(factory, {**model, **(PAIRS if head == "Relations" else {})})
    assert nlp.config["components"][factory]["model"]["encoder"] is None
    pipe: Any = nlp.get_pipe(factory)
    assert pipe.shim.settings["encoder"] is None
    assert [shim for node in pipe.model.walk() for shim in node.shims] == [pipe.shim]


@pytest.mark.parametrize(
    "factory, head", [("sequence_ner", "CRF"), ("span_ner", "Span"), ("relation_extractor", "Relations")]
)
def test_the_default_model_is_a_bilstm_over_word_and_character_embeddings(factory: str, head: str) -> None:
    words = {"@architectures": "spacy_ner_arch.WordCharEmbed.v1"}
    encoder = {"@architectures": "spacy_ner_arch.BiLSTM.v1", "hidden_size": 200}
    model = {"@architectures": f"spacy_ner_arch.{head}.v1", "tok2vec": words, "encoder": encoder}
    outputs = []
    for given in ({}, {**model, **(PAIRS if head == "Relations" else {})}):
        fix_random_seed(0)
        nlp = from_add_pipe(factory, given)
        examples = related_examples(nlp)
        nlp.initialize(lambda examples=examples: examples)
        pipe: Any = nlp.get_pipe(factory)
        outputs.append(pipe.predict([eg.predicted for eg in examples])[1])
    for ours, expected in zip(*outputs, strict=True):
        for a, b in zip(ours, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_the_default_acnn_is_that_of_its_config() -> None:
    config = load_config(Path(__file__).parent.parent / "configs" / "relation_acnn.cfg", interpolate=False)
    settings = config["components"]["relation_extractor"]["model"]["pairs"]
    for function in (registry.get("architectures", settings.pop("@architectures")), ACNNPairs):
        defaults = signature(function).parameters
        assert settings == {name: defaults[name].default for name in settings}
