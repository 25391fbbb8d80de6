"""`ner-arch init-config`: a config that trains as it stands."""

import pytest
import spacy
from conftest import entities, make_examples
from spacy.cli.init_config import fill_config
from spacy.tokens import Doc, DocBin
from spacy.training.initialize import init_nlp
from spacy.training.loop import train
from spacy.util import load_config
from thinc.api import Config

from spacy_ner_arch.cli.configs import make_config, shipped_configs


@pytest.mark.parametrize("encoder", [None, "some-transformer"])
@pytest.mark.parametrize("name", shipped_configs())
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_is_complete(name, encoder, lang, tmp_path):
    make_config(name, encoder, lang).to_disk(tmp_path / "made.cfg")
    fill_config(tmp_path / "filled.cfg", tmp_path / "made.cfg", silent=True)
    made, filled = load_config(tmp_path / "made.cfg"), load_config(tmp_path / "filled.cfg")
    assert made == filled
    assert made["nlp"]["lang"] == lang and made["paths"]["train"] is None
    assert encoder is None or made["paths"]["encoder"] == encoder


CHINESE = [
    ("王小明住在塔维克。", [(0, 3, "PER"), (5, 8, "LOC")]),
    ("今天下雨。", []),
    ("塔维克很安静。", [(0, 3, "LOC")]),
]


def test_other_languages_by_characters(tmp_path):
    """Without word segmentation: spaCy's Chinese tokenizer gives characters."""
    nlp = spacy.blank("zh")
    docs = [nlp(text) for text, _ in CHINESE]
    for doc, (_, spans) in zip(docs, CHINESE, strict=True):
        doc.set_ents([doc.char_span(start, end, label=label) for start, end, label in spans])
    DocBin(docs=docs).to_disk(tmp_path / "train.spacy")
    config = make_config("bilstm_crf", None, "zh")
    config["paths"].update({"train": str(tmp_path / "train.spacy"), "dev": str(tmp_path / "train.spacy")})
    config["training"].update({"max_steps": 60, "eval_frequency": 30})
    trained, _ = train(init_nlp(config), tmp_path)
    loaded = spacy.load(tmp_path / "model-best")
    for text, spans in CHINESE:
        assert [(ent.start_char, ent.end_char, ent.label_) for ent in loaded(text).ents] == spans


def test_a_transformer_trains(tiny_transformers, tmp_path):
    examples = make_examples(spacy.blank("en"))
    DocBin(docs=[eg.reference for eg in examples]).to_disk(tmp_path / "train.spacy")
    config = make_config("transformer_crf", str(tiny_transformers["bert"]), "en")
    config["paths"].update({"train": str(tmp_path / "train.spacy"), "dev": str(tmp_path / "train.spacy")})
    config["training"].update({"max_steps": 150, "eval_frequency": 75})
    for group in config["training"]["before_update"]["stages"]["all"]["groups"].values():
        group["learn_rate"].update({"initial_rate": 0.005, "warmup_steps": 10, "total_steps": 150})
    train(init_nlp(Config(config)), tmp_path)
    nlp = spacy.load(tmp_path / "model-best")
    assert nlp.meta["performance"]["ents_f"] > 0.9
    doc = nlp(Doc(nlp.vocab, words=[token.text for token in examples[0].reference]))
    assert entities(doc) and doc._.trf_data is None


@pytest.mark.parametrize(
    "name, lang, message",
    [
        ("spam", "en", "unknown config 'spam'; known are bilstm, bilstm_crf"),
        ("bilstm", "tlh", "spaCy has no language 'tlh'"),
    ],
)
def test_refuses(name, lang, message):
    with pytest.raises(ValueError, match=message):
        make_config(name, None, lang)
