"""Entities and relations over one encoder: loss weights, gradients of the encoder, the training log."""

import io
import math
import pickle
import re
import warnings

import pytest
import spacy
import torch
from conftest import LISTENERS, make_examples, make_nlp, related_examples, small_model, transformer_nlp
from spacy.tokens import DocBin
from spacy.training.initialize import init_nlp
from spacy.training.loop import train
from spacy.util import fix_random_seed
from thinc.schedules import warmup_linear

from spacy_ner_arch.training.loggers import create_console_logger
from spacy_ner_arch.training.loss_weights import FIRST, LearnedWeight, create_learned_weight, make_loss_weight

DOCUMENT = {"@misc": "spacy_ner_arch.EntityPairs.v1", "within": "document"}
SOFTMAX = "spacy_ner_arch.SoftmaxPairs.v1"
LISTENER = {"@architectures": "spacy_ner_arch.Tok2VecListener.v1", "width": 24}


def joint_nlp(ner_weight=1.0, relation_weight=1.0, pairs=SOFTMAX):
    nlp = spacy.blank("en")
    model = small_model()
    shared = {key: model[key] for key in ("tok2vec", "encoder")}
    nlp.add_pipe("tok2vec", config={"model": {"@architectures": "spacy_ner_arch.TorchTok2Vec.v1", **shared}})
    crf = {"@architectures": "spacy_ner_arch.CRF.v1", "tok2vec": LISTENER}
    nlp.add_pipe("sequence_ner", config={"model": crf, "loss_weight": ner_weight})
    model = {"@architectures": "spacy_ner_arch.Relations.v1", "tok2vec": LISTENER, "pairs": {"@architectures": pairs}}
    nlp.add_pipe("relation_extractor", config={"model": model, "candidates": DOCUMENT, "loss_weight": relation_weight})
    return nlp


def encoder_gradients(nlp, examples):
    """Gradients of the shared encoder and losses, in an update that changes no weight."""
    module = nlp.get_pipe("tok2vec").model.shims[0].module
    module.zero_grad()
    losses = nlp.update(examples, sgd=False, drop=0.0)
    return {name: p.grad.clone() for name, p in module.named_parameters()}, losses


def test_an_error_of_loading_names_the_shared_encoder(tmp_path):
    nlp = joint_nlp()
    nlp.initialize(lambda: related_examples(nlp))
    nlp.to_disk(tmp_path)
    file = tmp_path / "tok2vec" / "model"
    message = r"^spacy_ner_arch.TorchTok2Vec.v1: the size of a layer .* was .*weight_ih_l0\), and is 56 ×"
    with pytest.raises(ValueError, match=message):
        spacy.load(tmp_path, config={"components.tok2vec.model.encoder.hidden_size": 14})
    message = "^spacy_ner_arch.TorchTok2Vec.v1: the stored model of a component with this architecture is damaged or"
    file.write_bytes(file.read_bytes().replace(b"checksum", b"checkgum"))
    with pytest.raises(ValueError, match=message):
        spacy.load(tmp_path)
    stored = nlp.to_bytes().replace(b"checksum", b"checkgum")
    with pytest.raises(ValueError, match=message):
        spacy.blank("en").from_config(nlp.config).from_bytes(stored)


@pytest.mark.parametrize("encoder", ["tok2vec", "transformer"])
@pytest.mark.parametrize("frozen", [[], ["sequence_ner"]])
def test_a_pipeline_can_be_pickled_after_an_update(encoder, frozen, tiny_transformers):
    """As for nlp.pipe(n_process=2) where processes are not forked. A frozen listener keeps the batch of an update."""
    nlp = joint_nlp() if encoder == "tok2vec" else transformer_nlp(tiny_transformers["bert"], dropout=0.0)
    examples = related_examples(nlp)
    nlp.initialize(lambda: examples)
    nlp.update(examples, sgd=False, exclude=frozen)
    copied = pickle.loads(pickle.dumps(nlp))
    assert copied.get_pipe(encoder).listeners
    losses = [each.update(related_examples(each), sgd=False, drop=0.0)["sequence_ner"] for each in (nlp, copied)]
    assert losses[0] == pytest.approx(losses[1]) and losses[0] > 0


@pytest.mark.parametrize("encoder", ["tok2vec", "transformer"])
def test_a_stale_batch_of_the_encoder_gives_way_to_vectors_on_the_documents(encoder, tiny_transformers):
    """A component that was excluded from an update has kept the batch of the encoder."""
    nlp = joint_nlp() if encoder == "tok2vec" else transformer_nlp(tiny_transformers["bert"], dropout=0.0)
    examples = related_examples(nlp)
    nlp.initialize(lambda: examples)
    others, more = make_examples(nlp)[1:], make_examples(nlp)[1:]
    head = nlp.get_pipe("sequence_ner")
    nlp.update(examples, sgd=False, exclude=["sequence_ner"])
    with pytest.raises(ValueError, match=f"'{encoder}' has passed on the vectors of other documents"):
        head.update(others)
    for eg in [*others, *more]:
        nlp.get_pipe(encoder)(eg.predicted)
    loss = head.update(others)["sequence_ner"]
    assert loss > 0 and head.update(more)["sequence_ner"] == pytest.approx(loss)


def test_the_encoder_gets_the_weighted_sum_of_both_gradients():
    gradients = {}
    for weights in ((1.0, 1e-9), (1e-9, 1.0), (2.0, 5.0)):
        nlp = joint_nlp(*weights)
        spacy.util.fix_random_seed(0)
        nlp.initialize(lambda nlp=nlp: related_examples(nlp))
        gradients[weights], losses = encoder_gradients(nlp, related_examples(nlp))
        assert losses["sequence_ner"] > 0 and losses["relation_extractor"] > 0
    entities, relations, both = gradients.values()
    for name in both:
        assert entities[name].abs().sum() > 0 and relations[name].abs().sum() > 0
        assert both[name].allclose(2 * entities[name] + 5 * relations[name], rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("sub_batches", [1, 2])
def test_a_frozen_last_listener_keeps_no_gradient_from_the_transformer(tiny_transformers, sub_batches):
    """The weights after an update are those of a pipeline without it."""
    weights = []
    for frozen in (True, False):
        nlp = transformer_nlp(tiny_transformers["bert"], dropout=0.0)
        head = {"@architectures": "spacy_ner_arch.CRF.v1", "tok2vec": LISTENERS["ours"]}
        nlp.add_pipe("sequence_ner", "last", config={"model": head}, before="vector_cleaner")
        if not frozen:
            nlp.remove_pipe("last")
        fix_random_seed(0)
        examples = make_examples(nlp)
        optimizer = nlp.initialize(lambda examples=examples: examples)
        module = nlp.get_pipe("transformer").model.shims[0].module
        before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
        size = -(-len(examples) // sub_batches)
        for start in range(0, len(examples), size):
            nlp.update(examples[start : start + size], sgd=False, drop=0.0, exclude=["last"] if frozen else [])
        for name, pipe in nlp.pipeline:
            if hasattr(pipe, "finish_update") and name != "last":
                pipe.finish_update(optimizer)
        weights.append({name: parameter - before[name] for name, parameter in module.named_parameters()})
    assert all(weights[0][name].allclose(weights[1][name], atol=1e-7) for name in weights[0])
    assert any(change.abs().sum() > 0 for change in weights[0].values())


def test_a_gradient_passes_two_shared_encoders_although_the_last_listener_rests(tiny_transformers):
    """In parts, the gradient of one part arrives while the encoders have read the next one."""
    found = []
    for size in (5, 3):
        nlp = transformer_nlp(tiny_transformers["bert"], dropout=0.0)
        nlp.remove_pipe("sequence_ner")
        listener = {"@architectures": "spacy_ner_arch.TransformerListener.v1"}
        encoder = {"@architectures": "spacy_ner_arch.BiLSTM.v1", "hidden_size": 8}
        model = {"@architectures": "spacy_ner_arch.TorchTok2Vec.v1", "tok2vec": listener, "encoder": encoder}
        nlp.add_pipe("tok2vec", config={"model": model}, before="vector_cleaner")
        head = {"tok2vec": {"@architectures": "spacy_ner_arch.Tok2VecListener.v1", "width": 16}}
        for name in ("first", "last"):
            config = {"model": {"@architectures": "spacy_ner_arch.CRF.v1", **head}}
            nlp.add_pipe("sequence_ner", name, config=config, before="vector_cleaner")
        fix_random_seed(0)
        nlp.initialize(lambda nlp=nlp: make_examples(nlp))
        examples = make_examples(nlp)
        for start in range(0, len(examples), size):
            nlp.update(examples[start : start + size], sgd=False, drop=0.0, exclude=["last"])
        shims = [nlp.get_pipe(name).model.shims[0] for name in ("tok2vec", "transformer")]
        for shim in shims:
            shim.flush()
        modules = [shim.module for shim in shims]
        found.append([torch.cat([p.grad.flatten() for p in m.parameters() if p.grad is not None]) for m in modules])
    for whole, parts in zip(*found, strict=True):
        assert whole.abs().sum() > 0 and torch.allclose(whole, parts, atol=1e-7)


@pytest.mark.parametrize("listener, silent", [("spacy.Tok2VecListener.v1", False), (LISTENER["@architectures"], True)])
def test_a_frozen_last_listener_of_tok2vec_is_reported(listener, silent):
    """spaCy's listeners leave no gradient then, those of this package do: see test_bridge."""
    config = joint_nlp().config.copy()
    for name in ("sequence_ner", "relation_extractor"):
        config["components"][name]["model"]["tok2vec"] = {"@architectures": listener, "width": 24, "upstream": "*"}
    config["training"]["frozen_components"] = ["relation_extractor"]
    nlp = spacy.util.load_model_from_config(config)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        nlp.initialize(lambda: related_examples(nlp))
    message = "frozen_components has 'relation_extractor', the last component that listens"
    assert [message in str(w.message) for w in caught] == ([] if silent else [True])


def test_documents_with_one_kind_of_annotation_train_that_task():
    nlp = joint_nlp()
    examples = related_examples(nlp)
    nlp.initialize(lambda: examples)
    _, losses = encoder_gradients(nlp, make_examples(nlp))
    assert losses["sequence_ner"] > 0 and losses["relation_extractor"] == 0
    for eg in examples:
        eg.reference.set_ents([], default="missing")
    gradients, losses = encoder_gradients(nlp, examples)
    assert losses["sequence_ner"] == 0 and losses["relation_extractor"] > 0
    assert all(gradient.abs().sum() > 0 for gradient in gradients.values())


def test_learned_weights_move_against_their_losses():
    learned = {"@misc": "spacy_ner_arch.LearnedWeight.v1", "learn_rate": 0.5}
    nlp = joint_nlp(learned, dict(learned))
    examples = related_examples(nlp)
    optimizer = nlp.initialize(lambda: examples)
    losses = nlp.update(examples, sgd=optimizer)
    assert losses["sequence_ner_weight"] == losses["relation_extractor_weight"] == 1.0
    assert losses["sequence_ner"] != 1.0  # it is the unit, whatever its value
    losses = nlp.update(related_examples(nlp), sgd=optimizer)
    assert losses["sequence_ner_weight"] == losses["relation_extractor_weight"] == 1.0
    for _ in range(10):
        losses = nlp.update(related_examples(nlp), sgd=optimizer)
    # Losses that have fallen get larger weights.
    assert losses["sequence_ner_weight"] > 1.0 and losses["relation_extractor_weight"] > 1.0
    unchanged = nlp.update(make_examples(nlp), sgd=optimizer)["relation_extractor_weight"]
    assert nlp.update(related_examples(nlp), sgd=optimizer)["relation_extractor_weight"] == unchanged


def test_learned_weights_find_their_minimum_and_stay_within_bounds():
    weight = LearnedWeight(0.1)
    first = 0.002
    weight.learn(0.0)
    weight.learn(first)
    assert weight.value() == 1.0
    for _ in range(FIRST):  # the unit is their mean
        weight.learn(first)
    assert weight.value() == pytest.approx(1.0)
    for _ in range(500):
        weight.learn(first / 4)
    assert weight.value() == pytest.approx(4.0, rel=1e-3)  # exp(-s) = first / L
    for loss, bound in ((1e-9 * first, math.exp(3)), (1e9 * first, math.exp(-3))):
        for _ in range(2000):
            weight.learn(loss)
        assert weight.value() == pytest.approx(bound)
    weight.learn(0.0)
    assert weight.value() == pytest.approx(math.exp(-3))
    for _ in range(500):
        weight.learn(first)
    assert weight.value() == pytest.approx(1.0, rel=1e-2)  # it does not stay at its bound


def test_the_unit_is_a_mean_of_several_batches():
    weight = LearnedWeight(0.01)
    weight.learn(1e-6)
    for _ in range(300):
        weight.learn(0.02)
    assert 0.5 < weight.value() < 2.0


def test_initialize_begins_a_new_training():
    nlp = joint_nlp(1.0, {"@misc": "spacy_ner_arch.LearnedWeight.v1", "learn_rate": 0.5})
    examples = related_examples(nlp)
    pipe = nlp.get_pipe("relation_extractor")
    learned = []
    for _ in range(2):
        fix_random_seed(0)
        optimizer = nlp.initialize(lambda: examples)
        assert pipe.loss_weight.value() == 1.0 and pipe.not_warned("label", ["NEW"])
        for _ in range(5):
            nlp.update(examples, sgd=optimizer)
        learned.append(pipe.loss_weight.value())
    assert learned[0] != 1.0 and learned[1] == pytest.approx(learned[0], rel=0.1)


def test_scheduled_weights():
    weight = make_loss_weight(warmup_linear(1.0, 2, 4))
    seen = []
    for _ in range(4):
        assert weight.value() == weight.value()
        seen.append(weight.value())
        weight.learn(1.0)
    assert seen == [0.0, 0.5, 1.0, 0.5]
    for _ in range(2):  # a second training in the same process
        weight.restart()
        assert [weight.value(), weight.learn(1.0), weight.value()] == [0.0, None, 0.5]
    ending = make_loss_weight([3.0, 4.0])
    for value in (3.0, 4.0, 4.0):
        assert ending.value() == value
        ending.learn(1.0)
    copied = pickle.loads(pickle.dumps(ending))
    ending.restart()
    copied.restart()
    assert (ending.value(), copied.value()) == (3.0, 4.0)
    with pytest.raises(ValueError, match="loss_weight = -1"):
        make_loss_weight(iter([-1.0]))
    with pytest.raises(ValueError, match="the schedule is empty"):
        make_loss_weight([])


def test_weights_change_once_per_update_however_it_is_cut():
    for parts in (1, 2, 4):
        nlp = joint_nlp([1.0, 2.0, 3.0, 4.0, 5.0], {"@misc": "spacy_ner_arch.LearnedWeight.v1", "learn_rate": 0.5})
        examples = related_examples(nlp)
        optimizer = nlp.initialize(lambda examples=examples: examples)
        units = []
        for step in range(3):
            losses = {}
            for part in range(parts):
                nlp.update(examples[part::parts], sgd=False, losses=losses)
            assert losses["sequence_ner_weight"] == step + 1
            for name in ("tok2vec", "sequence_ner", "relation_extractor"):
                nlp.get_pipe(name).finish_update(optimizer)
            units.append(losses["relation_extractor"])
        # The unit is the mean loss of whole updates.
        assert nlp.get_pipe("relation_extractor").loss_weight._unit == pytest.approx(sum(units) / 3)


@pytest.mark.parametrize(
    "weight",
    [
        2.0,
        {"@misc": "spacy_ner_arch.LearnedWeight.v1"},
        {"@schedules": "warmup_linear.v1", "initial_rate": 1.0, "warmup_steps": 2, "total_steps": 4},
    ],
    ids=["fixed", "learned", "schedule"],
)
def test_components_can_be_sent_to_other_processes(weight):
    """`nlp.pipe(n_process=2)` pickles them where processes are not forked."""
    nlp = joint_nlp(weight, 5.0)
    examples = related_examples(nlp)
    nlp.initialize(lambda: examples)
    for name in ("sequence_ner", "relation_extractor"):
        pipe = nlp.get_pipe(name)
        pipe.loss_weight.learn(1.0)
        copied = pickle.loads(pickle.dumps(pipe))
        assert copied.loss_weight.value() == pipe.loss_weight.value() > 0
        copied.loss_weight.learn(1.0)
        assert copied.labels == pipe.labels


def test_a_bad_number_of_a_schedule_names_the_component():
    nlp = make_nlp()
    optimizer = nlp.initialize(lambda: make_examples(nlp))
    pipe = nlp.get_pipe("sequence_ner")
    pipe.loss_weight = make_loss_weight(iter([1.0, -1.0]))
    with pytest.raises(ValueError, match="sequence_ner: loss_weight = -1"):
        pipe.finish_update(optimizer)


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf])
def test_bad_weights(weight):
    with pytest.raises(ValueError, match="loss_weight = .* is not positive and finite"):
        make_loss_weight(weight)
    if math.isfinite(weight):  # a config cannot contain the others
        with pytest.raises(ValueError, match="sequence_ner: loss_weight = .* is not positive and finite"):
            joint_nlp(weight)
    with pytest.raises(ValueError, match="learn_rate"):
        create_learned_weight(weight)


def test_warning_about_a_weight_of_a_component_that_shares_nothing():
    nlp = make_nlp(loss_weight=2.0)
    examples = make_examples(nlp)
    with pytest.warns(UserWarning, match="sequence_ner: loss_weight acts on weights that are shared"):
        nlp.initialize(lambda: examples)


def test_the_log_shows_parts_and_weights(tmp_path):
    corpus = tmp_path / "corpus.spacy"
    nlp = joint_nlp(relation_weight=5.0, pairs="spacy_ner_arch.MultitaskPairs.v1")
    DocBin(docs=[eg.reference for eg in related_examples(nlp)], store_user_data=True).to_disk(corpus)
    config = nlp.config.copy()
    for name in ("train", "dev"):
        config["corpora"][name] = {"@readers": "spacy_ner_arch.Corpus.v1", "path": str(corpus), "copy": ["ents"]}
    logger = {"@loggers": "spacy_ner_arch.ConsoleLogger.v1"}
    config["training"] |= {"max_steps": 2, "eval_frequency": 1, "logger": logger}
    out = io.StringIO()
    train(init_nlp(config), stdout=out)
    rows = re.findall(r"^ +relation_extractor_transe (\S+), relation_extractor_weight 5$", out.getvalue(), re.MULTILINE)
    assert len(rows) == 3 and all(float(term) > 0 for term in rows)
    assert "Learn rates" not in out.getvalue()
    out = io.StringIO()
    log, _ = create_console_logger()(spacy.blank("en"), out, out)
    log(None)
    assert "weight" not in out.getvalue()
