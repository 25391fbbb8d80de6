"""Every shipped config: complete, and good for everything that spaCy does with a pipeline."""

from pathlib import Path

import pytest
import spacy
from conftest import TRAIN, entities, make_examples
from spacy.cli.init_config import fill_config
from spacy.tokens import Doc, DocBin
from spacy.training.initialize import init_nlp
from spacy.training.loop import train
from spacy.util import load_config

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.cfg"))
SMALL = {
    "components.sequence_ner.model.tok2vec.word_width": 16,
    "components.sequence_ner.model.tok2vec.unknown_rate": 0.0,
    "components.sequence_ner.model.encoder.hidden_size": 12,
    "training.optimizer.learn_rate": 0.01,
    "training.dropout": 0.1,
    "training.max_steps": 100,
    "training.eval_frequency": 50,
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "train.spacy"
    DocBin(docs=[eg.reference for eg in make_examples(spacy.blank("en"))]).to_disk(path)
    return path


@pytest.fixture(scope="module", params=CONFIGS, ids=[path.stem for path in CONFIGS])
def config_path(request):
    return request.param


@pytest.fixture(scope="module")
def trained_folder(config_path, corpus, tmp_path_factory):
    """Trained as `spacy train` does, until it knows the corpus by heart."""
    output = tmp_path_factory.mktemp(config_path.stem)
    config = load_config(
        config_path, overrides={"paths.train": str(corpus), "paths.dev": str(corpus), **SMALL}, interpolate=False
    )
    train(init_nlp(config), output)
    return output


def test_filling_changes_nothing(config_path, tmp_path):
    filled = tmp_path / "filled.cfg"
    fill_config(filled, config_path, silent=True)
    assert load_config(filled) == load_config(config_path)


def test_default_paths_are_those_of_the_quickstart(config_path):
    config = load_config(config_path)
    assert config["paths"]["train"] == "corpus/sample/train.spacy"
    assert config["paths"]["dev"] == "corpus/sample/dev.spacy"
    assert {"encoder", "vectors"} <= set(config["paths"])


def test_the_last_step_is_scored(config_path):
    training = load_config(config_path)["training"]
    assert training["max_steps"] % training["eval_frequency"] == 0


def test_trained_pipeline(trained_folder):
    nlp = spacy.load(trained_folder / "model-best")
    assert nlp.meta["performance"]["ents_f"] == 1.0
    words = [text.split(" ") for text, _ in TRAIN]
    docs = [Doc(nlp.vocab, words=w) for w in words]
    assert [entities(doc) for doc in nlp.pipe(docs)] == [spans for _, spans in TRAIN]
    other = spacy.blank("en").from_config(nlp.config).from_bytes(nlp.to_bytes())
    for model in (nlp, other):
        docs = [Doc(nlp.vocab, words=w) for w in words]
        assert [entities(doc) for doc in model.pipe(docs, n_process=2)] == [spans for _, spans in TRAIN]
    assert not nlp("").ents and len(nlp("Anna")) == 1


def test_averages_are_what_is_stored(config_path, corpus, tmp_path):
    """Stored weights are the averages, not those of the last step."""
    config = load_config(
        config_path,
        overrides={
            "paths.train": str(corpus),
            "paths.dev": str(corpus),
            **SMALL,
            "training.max_steps": 4,
            "training.eval_frequency": 2,
            "training.optimizer.use_averages": True,
        },
        interpolate=False,
    )
    nlp, _ = train(init_nlp(config), tmp_path)
    stored = spacy.load(tmp_path / "model-last").get_pipe("sequence_ner").model.shims[0].module.output.weight
    assert not (stored == nlp.get_pipe("sequence_ner").model.shims[0].module.output.weight).all()


def test_a_loss_that_is_not_finite_stops_training_and_keeps_the_last_good_model(corpus, tmp_path):
    """`spacy train` with a rate that explodes after some good steps."""
    overrides = {**SMALL, "paths.train": str(corpus), "paths.dev": str(corpus), "training.eval_frequency": 20}
    config = load_config(ROOT / "configs" / "bilstm_crf.cfg", overrides=overrides, interpolate=False)
    config["training"]["optimizer"]["learn_rate"] = [0.01] * 41 + [1e30] * 1000
    nlp = init_nlp(config)
    with pytest.raises(
        ValueError, match=r"sequence_ner: .*not finite|sequence_ner: the loss is (nan|inf) in update 4\d"
    ):
        train(nlp, tmp_path)
    best = spacy.load(tmp_path / "model-best")
    assert best.meta["performance"]["ents_f"] > 0.5
    assert all(p.isfinite().all() for p in best.get_pipe("sequence_ner").model.shims[0].module.parameters())
