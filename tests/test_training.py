"""What training says about settings and corpora that do not fit."""

import io
import pickle
import re
import warnings
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import spacy
import srsly
from conftest import make_examples, make_nlp, related_examples, set_relations
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Example
from spacy.training.initialize import init_nlp
from spacy.util import load_config
from thinc.api import Config

from spacy_ner_arch.annotation.layers import describe_layers
from spacy_ner_arch.architectures.embeddings import word_char_embed
from spacy_ner_arch.bridge.errors import ChangedSetting
from spacy_ner_arch.training.calibration import create_calibrate
from spacy_ner_arch.training.checks import entities_not_scored, unequal_losses, useless_settings
from spacy_ner_arch.training.loggers import create_console_logger, stage_rates

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "config, message",
    [
        ("[training]\nmax_steps = 10\neval_frequency = 20", "eval_frequency = 20 is above max_steps = 10"),
        (
            "[training]\nmax_steps = 1000\neval_frequency = 300",
            "max_steps = 1000 is no multiple of eval_frequency = 300.* at step 900.* set max_steps to 900 or 1200",
        ),
        (
            '[training]\nannotating_components = ["sequence_nre"]',
            r"names \['sequence_nre'\].* it has \['sequence_ner'\]",
        ),
        ('[training]\nfrozen_components = ["tok2vec","sequence_ner"]', r"frozen_components names \['tok2vec'\]"),
        (
            '[training]\n\n[paths]\nencoder = "some-model"\ntrain = "a"\n\n[corpora]\ntrain = ${paths.train}',
            "encoder = 'some-model' is not used in",
        ),
        (
            '[training]\n\n[training.batcher]\n@batchers = "spacy_ner_arch.RDrop.v1"\n\n[components]\n\n'
            "[components.ner]\n\n[components.ner.model]\nconsistency = 0.0",
            "spacy_ner_arch.RDrop.v1 gives each document twice, but consistency is 0 in all models: set it",
        ),
        (
            '[training]\n\n[initialize]\ninit_tok2vec = "weights.bin"\n\n[pretraining]',
            r"init_tok2vec = 'weights.bin' has no effect without a \[pretraining\] block: add one with",
        ),
    ],
)
def test_settings_without_effect(config, message):
    config = Config().from_str(config, interpolate=False)
    found = list(useless_settings(config.interpolate(), config.to_str(), ["sequence_ner"]))
    assert len(found) == 1 and re.search(message, found[0])


@pytest.mark.parametrize(
    "settings",
    ["max_steps = 900", "max_steps = 0", "max_steps = 1000\nmax_epochs = 5", "max_steps = 1000\npatience = 600"],
)
def test_updates_after_the_last_evaluation_that_are_few_or_none(settings):
    config = Config().from_str(f"[training]\neval_frequency = 300\n{settings}")
    assert not list(useless_settings(config, config.to_str(), []))


@pytest.mark.parametrize("overwrite", [False, True])
def test_gold_entities_that_take_the_place_of_predicted_ones_in_scoring(overwrite):
    nlp = make_nlp(overwrite_ents=overwrite)
    config = nlp.config.copy()
    config["corpora"]["dev"] = {"@readers": "spacy_ner_arch.Corpus.v1", "path": None, "copy": ["ents", "sents"]}
    found = list(entities_not_scored(nlp, config))
    assert len(found) == (not overwrite)
    assert all(
        re.search(r"\[corpora.dev\] copy has .*those of \['sequence_ner'\], so that ents_f is 1", f) for f in found
    )
    with nlp.select_pipes(disable=["sequence_ner"]):  # as spaCy does with frozen ones when it initializes others
        assert list(entities_not_scored(nlp, {**config, "nlp": nlp.config["nlp"]})) == found
    config["corpora"]["dev"]["copy"] = ["sents"]
    assert not list(entities_not_scored(nlp, config))
    for reader in (None, "dev.spacy", config["corpora"]["dev"] | {"copy": None}):
        assert not list(entities_not_scored(nlp, {**config, "corpora": {"dev": reader}}))
    config["corpora"]["dev"]["copy"] = ["ents"]
    nlp.replace_pipe("sequence_ner", "relation_extractor", config={})
    config["components"] = nlp.config["components"]
    assert not list(entities_not_scored(nlp, config))


@pytest.mark.parametrize("weight, frozen, warns", [(1.0, [], True), (1000.0, [], False), (1.0, ["tagger"], False)])
def test_an_encoder_shared_with_components_of_spacy(weight, frozen, warns):
    """Of their losses, it would learn almost only those."""
    nlp = spacy.blank("en")
    nlp.add_pipe("tok2vec")
    width = {"width": 96}
    listeners = [
        {"@architectures": f"{name}.Tok2VecListener.v1", "upstream": "*", **width}
        for name in ("spacy", "spacy_ner_arch")
    ]
    tagger = {"@architectures": "spacy.Tagger.v2", "tok2vec": listeners[0]}
    nlp.add_pipe("tagger", config={"model": tagger})
    model = {"@architectures": "spacy_ner_arch.CRF.v1", "tok2vec": listeners[1]}
    nlp.add_pipe("sequence_ner", config={"model": model, "loss_weight": weight})
    nlp.config["training"]["frozen_components"] = frozen
    examples = make_examples(nlp)
    for eg in examples:
        for token in eg.reference:
            token.tag_ = "NN" if token.is_title else "X"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        nlp.initialize(lambda: examples)
    message = r"\['sequence_ner'\] share 'tok2vec' with \['tagger'\], whose losses are about 1,000 times as large"
    assert [bool(re.search(message, str(w.message))) for w in caught] == [True] * warns


def test_a_calibration_without_a_corpus(trained):
    """As of a pipeline that was made in Python."""
    with pytest.raises(
        ValueError, match=r"Calibrate.v1: \[corpora.dev\] has no path: give it one, or give Calibrate.v1 the"
    ):
        create_calibrate()(trained)


def test_disabled_listeners_have_no_loss():
    """The warning about losses that are far larger is for components that are trained."""
    nlp = spacy.blank("en")
    nlp.add_pipe("tok2vec")
    width = nlp.get_pipe("tok2vec").model.get_dim("nO")
    listener = {"@architectures": "spacy.Tok2VecListener.v1", "width": width}
    nlp.add_pipe("tagger", config={"model": {"@architectures": "spacy.Tagger.v2", "tok2vec": listener}})
    nlp.add_pipe("sequence_ner", config={"model": {"@architectures": "spacy_ner_arch.CRF.v1", "tok2vec": listener}})
    assert len(list(unequal_losses(nlp, set()))) == 1
    with nlp.select_pipes(disable="tagger"):
        assert not list(unequal_losses(nlp, set()))


def test_rehearsal_is_a_warning(trained):
    with pytest.warns(UserWarning, match="sequence_ner: nlp.rehearse does not change this component"):
        before = trained.to_bytes()
        assert trained.rehearse(make_examples(trained), sgd=trained.resume_training(), losses={}) == {}
    assert trained.to_bytes() == before


def test_shipped_configs_have_no_settings_without_effect():
    """Neither by themselves, nor with the options that project.yml gives to all of them."""
    encoder = srsly.read_yaml(ROOT / "project.yml")["vars"]["encoder"]
    for path, overrides in product((ROOT / "configs").glob("*.cfg"), ({}, {"paths.encoder": encoder})):
        config = load_config(path, overrides=overrides, interpolate=False)
        assert not list(useless_settings(config.interpolate(), config.to_str(), config["nlp"]["pipeline"])), path


def test_settings_without_effect_are_shown_at_initialization(tmp_path):
    DocBin(docs=[eg.reference for eg in make_examples(spacy.blank("en"))]).to_disk(tmp_path / "a.spacy")
    config = load_config(ROOT / "configs" / "bilstm_crf.cfg", interpolate=False)
    config["paths"] |= {"train": str(tmp_path / "a.spacy"), "dev": str(tmp_path / "a.spacy"), "encoder": "some-model"}
    config["training"]["annotating_components"] = ["sequence_nre"]
    with pytest.warns(UserWarning) as caught:
        init_nlp(config)
    messages = " ".join(str(w.message) for w in caught)
    assert "'some-model' is not used in" in messages and "annotating_components names ['sequence_nre']" in messages


def test_components_that_are_frozen_or_resumed_are_known(tmp_path, trained):
    """spaCy disables them while the others are initialized."""
    trained.to_disk(tmp_path / "old")
    DocBin(docs=[eg.reference for eg in make_examples(spacy.blank("en"))]).to_disk(tmp_path / "a.spacy")
    config = load_config(ROOT / "configs" / "bilstm_crf.cfg", interpolate=False)
    config["paths"] |= {"train": str(tmp_path / "a.spacy"), "dev": str(tmp_path / "a.spacy")}
    config["paths"]["trained"] = str(tmp_path / "old")
    config["nlp"]["pipeline"] = ["sequence_ner", "old"]
    config["components"]["old"] = {"source": "${paths.trained}", "component": "sequence_ner"}
    config["training"]["frozen_components"] = config["training"]["annotating_components"] = ["old"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert init_nlp(config).component_names == ["sequence_ner", "old"]


def test_settings_are_checked_also_if_all_components_are_resumed(tmp_path, trained):
    """spaCy does not initialize them. Nothing is shown twice."""
    trained.to_disk(tmp_path / "old")
    DocBin(docs=[eg.reference for eg in make_examples(spacy.blank("en"))]).to_disk(tmp_path / "a.spacy")
    config = load_config(ROOT / "configs" / "bilstm_crf.cfg", interpolate=False)
    config["paths"] |= {"train": str(tmp_path / "a.spacy"), "dev": str(tmp_path / "a.spacy"), "encoder": "some-model"}
    config["components"]["sequence_ner"] = {"source": str(tmp_path / "old")}
    nlp = init_nlp(config)
    with pytest.warns(UserWarning, match="'some-model' is not used in") as caught:
        for _ in range(2):
            create_console_logger(console_output=False)(nlp, io.StringIO(), io.StringIO())
    assert len(caught) == 1


@pytest.mark.parametrize(
    "factory, reads",
    [("sequence_ner", "doc.ents"), ("span_ner", "doc.ents"), ("nested_ner", r"doc.spans\['sc'\]")],
)
def test_a_corpus_with_other_annotation(factory, reads):
    """The error says what the component learns from, and what the corpus has."""
    nlp = spacy.blank("en")
    nlp.add_pipe(factory)
    examples = make_examples(nlp)
    for eg in examples:
        eg.reference.spans["other"] = [Span(eg.reference, 0, 1, "X")]
    set_relations([eg.reference for eg in examples])
    for eg in examples:
        eg.reference.set_ents([], default="missing")
    with pytest.raises(ValueError) as caught:
        nlp.initialize(lambda: examples)
    count = len(examples)
    relations = sum(len(eg.reference._.relations) for eg in examples)
    annotated = describe_layers(eg.reference for eg in examples)
    assert f"{count} in doc.spans['other'] of {count}" in annotated and f"{relations} in doc._.relations" in annotated
    assert re.search(
        f"{factory}: no label .* It learns from {reads}; the corpus has {re.escape(annotated)}", str(caught.value)
    )


def test_a_corpus_without_annotation():
    assert describe_layers([Doc(spacy.blank("en").vocab, words=["a"])]) == (
        "1 documents, with no entities, spans or relations"
    )


@pytest.mark.parametrize(
    "factory, layer", [("span_ner", "doc.ents"), ("nested_ner", "doc.spans['sc']"), ("relation_extractor", "relations")]
)
def test_documents_without_annotation_are_reported(factory, layer):
    """Of spaCy's spancat, documents without the key are negative."""
    nlp = spacy.blank("en")
    nlp.add_pipe(factory, config={"model": {"tok2vec": {"@architectures": "spacy_ner_arch.WordCharEmbed.v1"}}})
    examples = [*related_examples(nlp), Example(Doc(nlp.vocab), Doc(nlp.vocab))]
    for eg in examples:
        eg.reference.spans["sc"] = list(eg.reference.ents)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "have no")
        nlp.initialize(lambda: examples)
    silent = [Example(eg.predicted, Doc(nlp.vocab, words=eg.predicted.text.split())) for eg in examples[:2]]
    with pytest.warns(UserWarning, match=f"{factory}: 2 of 8 documents, such as 'Anna.*, have no .*{re.escape(layer)}"):
        nlp.initialize(lambda: examples + silent)


def test_rates_of_stages():
    training = load_config(ROOT / "configs" / "transformer_bilstm_crf.cfg", interpolate=True)["training"]
    lines = list(stage_rates(training))
    assert [re.search("stage (.*):", line).group(1) for line in lines] == list(training["before_update"]["stages"])
    assert "transformer 5e-05 (warmup_linear.v1)" in " ".join(lines) and "sequence_ner" in lines[0]
    assert list(stage_rates(load_config(ROOT / "configs" / "bilstm_crf.cfg")["training"])) == []


def test_errors_of_the_model_name_the_component(monkeypatch):
    nlp = make_nlp()
    examples = make_examples(nlp)
    optimizer = nlp.initialize(lambda: examples)
    component = nlp.get_pipe("sequence_ner")

    def fail(*args, **kwargs):
        raise ValueError("broken")

    monkeypatch.setattr(component.shim, "predict", fail)
    for call in (lambda: component.loss_on(examples), lambda: component.predict([examples[0].predicted])):
        with pytest.raises(ValueError, match="^sequence_ner: broken"):
            call()
    monkeypatch.setattr(component.shim, "begin_update", fail)
    with pytest.raises(ValueError, match="^sequence_ner: broken"):
        component.update(examples, sgd=optimizer)


WORDS = {"@architectures": "spacy_ner_arch.WordCharEmbed.v1", "word_rows": 50, "feature_rows": 50}
MARKERS = {
    "@architectures": "spacy_ner_arch.Relations.v1",
    "tok2vec": WORDS,
    "pairs": {"@architectures": "spacy_ner_arch.MarkerPairs.v1"},
}


@pytest.mark.parametrize(
    "factory, setting, value",
    [
        ("sequence_ner", "scheme", "BIO"),
        ("span_ner", "max_width", 12),
        ("nested_ner", "max_width", 12),
        ("nested_ner", "multi_label", True),
        ("relation_extractor", "symmetric", ["WITH"]),
        ("relation_extractor", "multi_label", True),
        ("relation_extractor", "direction", "labels"),
        ("relation_extractor", "model.pairs.context", 10),
        ("relation_extractor", "model.pairs.marks", ["a", "b", "c", "d"]),
        ("sequence_ner", "model.tok2vec.word_attr", "LOWER"),
        ("sequence_ner", "model.tok2vec.features", ["SHAPE", "PREFIX", "LOWER"]),
        ("sequence_ner", "model.tok2vec.vector_attrs", ["LOWER"]),
        ("sequence_ner", "model.tok2vec.include_static_vectors", False),
    ],
)
def test_settings_that_cannot_change_after_training(factory, setting, value, tmp_path):
    nlp = spacy.blank("en")
    nlp.vocab.set_vector("Anna", np.ones(4, dtype="f"))
    models = {"relation_extractor": MARKERS, "sequence_ner": {"tok2vec": {**WORDS, "include_static_vectors": True}}}
    nlp.add_pipe(factory, config={"model": models.get(factory, {"tok2vec": WORDS})})
    examples = related_examples(nlp)
    for eg in examples:
        eg.reference.spans["sc"] = list(eg.reference.ents)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* have no vector")
        nlp.initialize(lambda: examples)
    nlp.to_disk(tmp_path)
    spacy.load(tmp_path)
    name = setting.split(".")[-1]
    # Nothing is said of damage.
    message = f"^{factory}: [^:]*{name}[^:]* cannot be changed after training: it was "
    with pytest.raises(ValueError, match=rf"{message}.* in {tmp_path / factory}, and is .* in the config\."):
        spacy.load(tmp_path, config={f"components.{factory}.{setting}": value})
    for key in reversed(["components", factory, *setting.split(".")]):
        value = {key: value}
    changed = spacy.util.load_model_from_config(nlp.config.merge(value))
    with pytest.raises(ValueError, match=message):
        changed.get_pipe(factory).from_bytes(nlp.get_pipe(factory).to_bytes())


@pytest.mark.parametrize("trained, edited", [("CRF", "Softmax"), ("Softmax", "CRF")])
def test_the_architecture_cannot_change_after_training(trained, edited, tmp_path):
    """The weights of these two have equal names and shapes."""
    nlp = spacy.blank("en")
    model = {"@architectures": f"spacy_ner_arch.{trained}.v1", "tok2vec": WORDS, "encoder": None}
    nlp.add_pipe("sequence_ner", config={"model": model})
    nlp.initialize(lambda: make_examples(nlp))
    nlp.to_disk(tmp_path)
    config = (
        (tmp_path / "config.cfg").read_text().replace(f"spacy_ner_arch.{trained}.v1", f"spacy_ner_arch.{edited}.v1")
    )
    (tmp_path / "config.cfg").write_text(re.sub(r"(class_weights|label_smoothing) = .*", "", config))
    message = rf"^sequence_ner: .*\(@architectures\) cannot .* it was {trained}Tagger in .*, and is {edited}Tagger in"
    with pytest.raises(ValueError, match=message):
        spacy.load(tmp_path)


@pytest.mark.parametrize(
    "factory, setting, value, stored",
    [
        ("sequence_ner", "threshold", 0.9, 0.9),
        ("sequence_ner", "alternatives", 0.01, 0.01),
        ("sequence_ner", "alternatives", [["PER", 0.01]], {"PER": 0.01}),
        ("span_ner", "threshold", 0.9, 0.9),
        ("nested_ner", "spans_key", "other", "other"),
        ("relation_extractor", "threshold", 0.9, 0.9),
        ("relation_extractor", "type_pairs", [["PER", "LOC"]], [["PER", "LOC"]]),
    ],
)
def test_a_setting_that_is_changed_in_the_config_takes_effect(factory, setting, value, stored, tmp_path):
    """Unless the config is as it was: then what was set in the component stays."""
    nlp = spacy.blank("en")
    pipe = nlp.add_pipe(factory, config={"model": {"tok2vec": WORDS}})
    examples = related_examples(nlp)
    for eg in examples:
        eg.reference.spans["sc"] = list(eg.reference.ents)
    nlp.initialize(lambda: examples)
    before = pipe.cfg[setting]
    nlp.to_disk(tmp_path / "first")
    changed = spacy.load(tmp_path / "first", config={f"components.{factory}.{setting}": value})
    assert changed.get_pipe(factory).cfg[setting] == stored
    again = spacy.blank("en").from_config(changed.config).from_bytes(changed.to_bytes())
    assert again.get_pipe(factory).cfg[setting] == stored
    assert spacy.load(tmp_path / "first").get_pipe(factory).cfg[setting] == before
    pipe.cfg[setting] = stored
    nlp.to_disk(tmp_path / "second")
    assert spacy.load(tmp_path / "second").get_pipe(factory).cfg[setting] == stored


@pytest.mark.parametrize("value", [0.3, 0.57, 0.7, 0.94])
def test_what_was_set_in_the_component_stays(value, tmp_path):
    """srsly reads these numbers otherwise than the config has them."""
    assert srsly.json_loads(srsly.json_dumps(value)) != value
    nlp = spacy.blank("en")
    pipe = nlp.add_pipe("sequence_ner", config={"model": {"tok2vec": WORDS}, "threshold": value})
    nlp.initialize(lambda: make_examples(nlp))
    pipe.cfg["threshold"] = 0.5
    for folder in (tmp_path / "first", tmp_path / "second"):
        nlp.to_disk(folder)
        nlp = spacy.load(folder)
        assert nlp.get_pipe("sequence_ner").cfg["threshold"] == 0.5


@pytest.mark.parametrize("by_label", [False, True])
def test_type_pairs_in_another_order_are_the_same(by_label, tmp_path):
    nlp = spacy.blank("en")
    pairs, new = [["PER", "LOC"], ["PER", "PER"]], [["PER", "DATE"]]

    def setting(pairs):
        return [["LIVES_IN", pairs]] if by_label else pairs

    pipe = nlp.add_pipe("relation_extractor", config={"model": {"tok2vec": WORDS}, "type_pairs": setting(pairs)})
    nlp.initialize(lambda: related_examples(nlp))
    pipe.add_types(["DATE"], {"LIVES_IN": new} if by_label else new)
    nlp.to_disk(tmp_path)
    loaded = spacy.load(tmp_path, config={"components.relation_extractor.type_pairs": setting(pairs[::-1])})
    found = loaded.get_pipe("relation_extractor").cfg["type_pairs"]
    assert found == ({"LIVES_IN": pairs + new} if by_label else pairs + new)


def test_changed_type_pairs_are_checked(tmp_path):
    nlp = spacy.blank("en")
    nlp.add_pipe("relation_extractor", config={"model": {"tok2vec": WORDS}})
    nlp.initialize(lambda: related_examples(nlp))
    nlp.to_disk(tmp_path)
    setting = "components.relation_extractor.type_pairs"
    with pytest.raises(ValueError, match=r"^relation_extractor: type_pairs names \['BORN'\], which are not labels"):
        spacy.load(tmp_path, config={setting: [["BORN", [["PER", "LOC"]]]]})
    with pytest.raises(ValueError, match="one_head names"):
        spacy.load(tmp_path, config={"components.relation_extractor": {"decode": "graph", "one_head": ["BORN"]}})
    changed = nlp.config.merge({"components": {"relation_extractor": {"type_pairs": [["BORN", [["PER", "LOC"]]]]}}})
    new = spacy.blank("en").from_config(changed).get_pipe("relation_extractor")
    with pytest.raises(ValueError, match="type_pairs names"):
        new.from_bytes(nlp.get_pipe("relation_extractor").to_bytes())
    for pairs in ([["PERS", "LOC"]], [["LIVES_IN", [["PERS", "LOC"]]]]):
        with pytest.warns(UserWarning, match=r"type_pairs has entity types that are not .*: \['PERS'\]; its types are"):
            spacy.load(tmp_path, config={setting: pairs})


@pytest.mark.parametrize("factory, head", [("sequence_ner", "Softmax"), ("relation_extractor", "Relations")])
def test_changed_class_weights_are_checked(factory, head, tmp_path):
    """A label that is unknown is an error of the config, not damage."""
    nlp = spacy.blank("en")
    model = {"@architectures": f"spacy_ner_arch.{head}.v1", "tok2vec": WORDS}
    nlp.add_pipe(factory, config={"model": model})
    nlp.initialize(lambda: related_examples(nlp))
    nlp.to_disk(tmp_path)
    with pytest.raises(ValueError, match=rf"^{factory}: class_weights names \['TYPO'\], which are not labels"):
        spacy.load(tmp_path, config={f"components.{factory}.model.class_weights": [["TYPO", 2.0]]})


def test_an_untrained_pipeline_takes_all_settings_of_its_config(tmp_path):
    nlp = spacy.blank("en")
    nlp.add_pipe("relation_extractor", config={"model": {"tok2vec": WORDS}})
    nlp.add_pipe("sequence_ner", config={"model": {"tok2vec": WORDS}})
    nlp.to_disk(tmp_path)
    settings = {
        "relation_extractor": {"type_pairs": "learned", "direction": "labels"},
        "sequence_ner": {"scheme": "BIO"},
    }
    nlp = spacy.load(tmp_path, config={"components": settings})
    assert nlp.get_pipe("sequence_ner").cfg["scheme"] == "BIO" and nlp.get_pipe("relation_extractor").unordered
    nlp.initialize(lambda: related_examples(nlp))
    assert nlp.get_pipe("relation_extractor").cfg["type_pairs"]


def test_learned_type_pairs_and_the_config(tmp_path):
    """They can be replaced and lifted, but not learned without a training."""
    config = {"model": {"tok2vec": WORDS}, "type_pairs": "learned"}
    nlp = spacy.blank("en")
    learned = nlp.add_pipe("relation_extractor", config=config).cfg
    nlp.initialize(lambda: related_examples(nlp))
    nlp.to_disk(tmp_path / "learned")

    def load(folder, value):
        loaded = spacy.load(tmp_path / folder, config={"components.relation_extractor.type_pairs": value})
        return loaded, loaded.get_pipe("relation_extractor").cfg["type_pairs"]

    assert learned["type_pairs"] and load("learned", "learned")[1] == learned["type_pairs"]
    assert load("learned", [["PER", "LOC"]])[1] == [["PER", "LOC"]]
    free, pairs = load("learned", "all")
    assert pairs is None and free.get_pipe("relation_extractor").rules.related_types is None
    free.to_disk(tmp_path / "free")
    for folder, value in (("free", "learned"), ("learned", "learned_by_label")):
        with pytest.raises(ValueError, match=f"type_pairs cannot be changed after training: .* is '{value}' in the"):
            load(folder, value)


@pytest.mark.parametrize(
    "setting, value, message",
    [
        (
            "word_attr",
            "LOWER",
            r"was \['NORM', 'SHAPE', 'PREFIX', 'SUFFIX'\], and is \['LOWER', 'SHAPE', .* in the config",
        ),
        ("include_static_vectors", False, r"was \['ORTH', 'LOWER'\], and is \[\] in the config"),
    ],
)
def test_the_error_of_a_changed_setting_shows_both_values(setting, value, message):
    vocab = spacy.blank("en").vocab
    vocab.set_vector("Anna", np.ones(4, dtype="f"))
    settings = {"include_static_vectors": True, setting: value}
    trained = word_char_embed(include_static_vectors=True)
    trained.initialize(X=[Doc(vocab, words=["Anna"])])
    with pytest.raises(ChangedSetting, match=message) as raised:
        word_char_embed(**settings).from_bytes(trained.to_bytes())
    assert str(pickle.loads(pickle.dumps(raised.value.of("ner")))) == f"ner: {raised.value}"


@pytest.mark.parametrize("pairs", ["SoftmaxPairs", "MultitaskPairs"])
def test_the_context_of_pairs_cannot_change_after_training(pairs, tmp_path):
    """Weights with the same shapes were used with a context that they do not fit."""
    nlp = spacy.blank("en")
    model = {"tok2vec": WORDS, "pairs": {"@architectures": f"spacy_ner_arch.{pairs}.v1"}}
    nlp.add_pipe("relation_extractor", config={"model": model})
    nlp.initialize(lambda: related_examples(nlp))
    nlp.to_disk(tmp_path)
    spacy.load(tmp_path)
    with pytest.raises(ValueError, match=f"^relation_extractor: context of spacy_ner_arch.{pairs}.v1 cannot be"):
        spacy.load(tmp_path, config={"components.relation_extractor.model.pairs.context": "sentences"})


def test_a_loaded_component_is_stored_with_the_same_bytes(tmp_path):
    """The order of the settings changed."""
    nlp = spacy.blank("en")
    nlp.add_pipe("relation_extractor", config={"model": {"tok2vec": WORDS}})
    nlp.initialize(lambda: related_examples(nlp))
    nlp.to_disk(tmp_path / "first")
    spacy.load(tmp_path / "first").to_disk(tmp_path / "second")
    for name in ("cfg", "model"):
        first, second = ((tmp_path / folder / "relation_extractor" / name) for folder in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()
    pipe = nlp.get_pipe("relation_extractor")
    assert pipe.from_bytes(pipe.to_bytes()).to_bytes() == pipe.to_bytes()


def test_symmetric_labels_that_are_added_after_training(tmp_path):
    """The stored pipeline could not be loaded, since its config does not have the label."""
    nlp = spacy.blank("en")
    nlp.add_pipe("relation_extractor", config={"model": {"tok2vec": WORDS}, "symmetric": ["WITH", "LEFT"]})
    nlp.initialize(lambda: related_examples(nlp))
    pipe = nlp.get_pipe("relation_extractor")
    pipe.cfg["symmetric"].append("MARRIED")
    pipe.add_label("MARRIED")
    assert pipe.configured["symmetric"] == ["WITH", "LEFT"]
    for folder in (tmp_path / "first", tmp_path / "second"):  # stored and loaded twice
        nlp.to_disk(folder)
        for symmetric in (["WITH", "LEFT"], ["LEFT", "WITH"], ["MARRIED", "LEFT", "WITH"]):
            loaded = spacy.load(folder, config={"components.relation_extractor.symmetric": symmetric})
            assert loaded.get_pipe("relation_extractor").rules == pipe.rules
            assert loaded.get_pipe("relation_extractor").cfg["symmetric"] == ["WITH", "LEFT", "MARRIED"]
        for symmetric in ([], ["WITH"], ["WITH", "LEFT", "BORN_IN"]):
            with pytest.raises(ValueError, match=r"symmetric cannot be changed .* was \['LEFT', 'MARRIED', 'WITH'\]"):
                spacy.load(folder, config={"components.relation_extractor.symmetric": symmetric})
        nlp = spacy.load(folder)
