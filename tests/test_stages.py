"""Stages of training: what rests does not move, what is named moves at its own rate."""

import re

import pytest
import torch
from conftest import make_examples, make_nlp, transformer_nlp
from families import make_family
from spacy.util import registry
from thinc.api import Adam, warmup_linear

from spacy_ner_arch.training.stages import create_stages, layer_shims


def make(folder, stages, max_steps=0, with_optimizer=False, transformer=None, **settings):
    """A pipeline and a function for one step of `spacy train`. transformer: settings of the transformer."""
    nlp = transformer_nlp(folder, dropout=0.0, **(transformer or {}))
    nlp.config["training"]["max_steps"] = max_steps
    nlp.initialize(lambda: make_examples(nlp))
    callback = create_stages(stages)
    optimizer = Adam(0.01, **{"L2": 0.0, "use_averages": False, "grad_clip": 1.0, **settings})

    def step(number, parts=1):
        callback(nlp, {"step": number, "epoch": 0})
        examples = make_examples(nlp)
        for i in range(parts):
            nlp.update(examples[i::parts], sgd=False, drop=0.0)
        for name in ("transformer", "sequence_ner"):
            nlp.get_pipe(name).finish_update(optimizer)
        optimizer.step_schedules()

    return (nlp, step, optimizer) if with_optimizer else (nlp, step)


def weights(nlp):
    return {
        f"{layer}.{name}": p.detach().clone()
        for layer, shim in layer_shims(nlp)
        for name, p in shim.module.named_parameters()
    }


def moved(before, after):
    return {name for name, weight in after.items() if not torch.equal(before[name], weight)}


def test_what_a_stage_does_not_name_rests(tiny_transformers):
    """First the head, then the transformer's output and the transitions, then everything."""
    stages = {
        "head": {"steps": 2, "groups": {"sequence_ner": {}}},
        "some": {
            "steps": 2,
            "groups": {"dense": {"match": r"transformer\..*output\.dense"}, "crf": {"match": "transitions"}},
        },
        "all": {"groups": {"transformer": {}, "sequence_ner": {}}},
    }
    nlp, step = make(tiny_transformers["bert"], stages)
    transformer = nlp.get_pipe("transformer").model.shims[0]
    start = weights(nlp)
    step(0)
    step(1)
    first = weights(nlp)
    assert transformer.frozen and not transformer.module.training
    assert {name.split(".")[0] for name in moved(start, first)} == {"sequence_ner"}
    step(2)
    step(3)
    second = weights(nlp)
    assert not transformer.frozen
    named = {name for name in second if "output.dense" in name or "transitions" in name}
    assert moved(first, second) == named and {name.split(".")[0] for name in named} == {"transformer", "sequence_ner"}
    step(4)
    used = {name for name in second if "position_embeddings" not in name and "word_embeddings" not in name}
    assert moved(second, weights(nlp)) >= {name for name in used if name.endswith("weight") and "LayerNorm" not in name}


def rates_of(nlp):
    """The rate of each parameter of the transformer."""
    shim = nlp.get_pipe("transformer").model.shims[0]
    return {name: group.learn_rate for group in shim.groups for name in group.names}, shim


# By family, parts of the names of what is below the layers, of the two layers, and above them.
LAYERS = {
    "bert": ["embeddings.", "layer.0.", "layer.1."],
    "gpt2": ["wte.|wpe.", "h.0.", "h.1.|ln_f."],
    "t5": ["embed_tokens.", "block.0.", "block.1.|final_layer_norm."],
    "deberta-v2": ["embeddings.", "layer.0.", "layer.1.|encoder.LayerNorm.|rel_embeddings."],
    "flaubert": [
        "embeddings.|layer_norm_emb.",
        r"attentions.0.|ffns.0.|layer_norm[12].0.",
        "attentions.1.|ffns.1.|layer_norm[12].1.",
    ],
}


@pytest.mark.parametrize("family", LAYERS)
def test_lower_layers_have_lower_rates(family, tmp_path):
    make_family(family, tmp_path)
    group = {"learn_rate": warmup_linear(0.001, 2, 4), "layer_decay": 0.5}
    stages = {"all": {"groups": {"transformer": group, "sequence_ner": {}}}}
    nlp, step = make(tmp_path, stages, transformer={"transformer_config": {}})
    for number, rate in enumerate((0.0, 0.0005, 0.001)):
        step(number)
        rates, shim = rates_of(nlp)
        assert rates.keys() == {name for name, _ in shim.module.named_parameters()}
        for name, found in rates.items():
            # From the top: what is named `embeddings` also matches other parts.
            depth = next(i for i, part in enumerate(reversed(LAYERS[family])) if re.search(part, name))
            assert found == pytest.approx(rate * 0.5**depth), name


def test_a_decay_for_layers_holds_within_its_group(tmp_path):
    """A group of the lower layers; what it does not match has another rate."""
    groups = {
        "lower": {"match": r"transformer\..*(embeddings|layer\.0)\.", "learn_rate": 0.001, "layer_decay": 0.5},
        "transformer": {"learn_rate": 0.002},
        "sequence_ner": {"learn_rate": 0.004},
    }
    make_family("bert", tmp_path)
    nlp, step = make(tmp_path, {"all": {"groups": groups}})
    step(0)
    rates, _ = rates_of(nlp)
    for name, rate in rates.items():
        assert rate == (0.0005 if "embeddings" in name else 0.001 if "layer.0" in name else 0.002), name
    assert {group.learn_rate for group in nlp.get_pipe("sequence_ner").shim.groups} == {0.004}


@pytest.mark.parametrize(
    "settings", [{"layer_decay": 0.5}, {"learn_rate": 1, "layer_decay": 0.0}, {"learn_rate": 1, "layer_decay": "0.8"}]
)
def test_a_decay_that_is_none(settings):
    with pytest.raises(
        ValueError, match=r"groups.transformer\]: layer_decay = .* must be above 0 .* needs a learn_rate"
    ):
        create_stages({"all": {"groups": {"transformer": settings}}})


def test_a_decay_for_what_has_no_layers(tiny_transformers):
    """Numbers in names of parameters of a head are not those of layers."""
    groups = {"transformer": {}, "sequence_ner": {"learn_rate": 0.1, "layer_decay": 0.5}}
    _, step = make(tiny_transformers["bert"], {"all": {"groups": groups}})
    with pytest.raises(ValueError, match=r"groups.sequence_ner\]: layer_decay needs layers of a transformer"):
        step(0)


def test_what_is_frozen_in_the_config_stays_frozen(tiny_transformers):
    nlp, step = make(
        tiny_transformers["bert"],
        {"all": {"groups": {"transformer": {}, "sequence_ner": {}}}},
        transformer={"frozen": True},
    )
    before = weights(nlp)
    with pytest.warns(UserWarning, match=r"stages\.all\.groups\.transformer\] trains nothing.* `frozen`"):
        step(0)
    step(1)
    assert {name.split(".")[0] for name in moved(before, weights(nlp))} == {"sequence_ner"}


def test_a_group_of_constants_is_reported():
    """Those of a head, and those of a frozen component."""
    nlp = make_nlp("Softmax")
    nlp.initialize(lambda: make_examples(nlp))
    groups = {"transitions": {"match": "transitions"}, "sequence_ner": {}}
    with pytest.warns(UserWarning) as caught:
        create_stages({"one": {"groups": groups}})(nlp, {"step": 0})
    (warning,) = caught
    assert re.search(
        r"groups\.transitions\] trains nothing: .* sequence_ner\.softmax\S*transitions", str(warning.message)
    )
    nlp.config["training"]["frozen_components"] = ["sequence_ner"]
    with pytest.warns(UserWarning, match=r"groups\.sequence_ner\] trains nothing: .* frozen_components"):
        create_stages({"one": {"groups": {"sequence_ner": {}}}})(nlp, {"step": 0})


@pytest.mark.parametrize("second", [{"transformer": {}}, {"crf": {"match": "sequence_ner.*transitions"}}])
def test_averages_of_what_rests_go_on(tiny_transformers, second):
    """In the second stage the whole module rests, or all of it but one layer."""
    stages = {"one": {"steps": 3, "groups": {"sequence_ner": {}}}, "two": {"groups": second}}
    nlp, step, optimizer = make(tiny_transformers["bert"], stages, use_averages=True, with_optimizer=True)
    shim = nlp.get_pipe("sequence_ner").model.shims[0]
    name, weight = "output.weight", shim.module.output.weight

    def distance():
        return float((optimizer.averages[shim.optimizer.name, name] - weight).norm())

    for number in range(3):
        step(number)
    lag = distance()
    for number in range(3, 40):
        step(number)
    assert distance() < lag / 2


def test_rates_and_decay_of_groups(tiny_transformers):
    """Each group gets its own; biases and normalization never decay; schedules begin with the stage."""
    stages = {
        "one": {"steps": 1, "groups": {"sequence_ner": {"learn_rate": 0.5}}},
        "two": {
            "groups": {
                "embeddings": {"match": "embeddings", "weight_decay": 0.3},
                "transformer": {"learn_rate": warmup_linear(0.1, 2, 4), "weight_decay": 0.2},
                "sequence_ner": {"learn_rate": 0.05},
            }
        },
    }
    nlp, step = make(tiny_transformers["bert"], stages, L2=0.1)

    def settings(name):
        shim = nlp.get_pipe(name).model.shims[0]
        names = {p: n for n, p in shim.module.named_parameters()}
        return {names[p]: (g["lr"], g["weight_decay"]) for g in shim.optimizer.adamw.param_groups for p in g["params"]}

    step(0)
    assert set(settings("sequence_ner").values()) == {(0.5, 0.1), (0.5, 0.0)}
    for number, rate in ((1, 0.0), (2, 0.05), (3, 0.1), (4, 0.05)):
        step(number)
        found = settings("transformer")
        assert found["transformer.embeddings.word_embeddings.weight"] == (0.01, 0.3)
        assert found["transformer.embeddings.LayerNorm.weight"] == (0.01, 0.0)
        assert found["transformer.encoder.layer.0.output.dense.weight"] == (rate, 0.2)
        assert found["transformer.encoder.layer.0.output.dense.bias"] == (rate, 0.0)
        assert settings("sequence_ner")["output.weight"] == (0.05, 0.1)


def test_a_stage_starts_with_a_fresh_optimizer(tiny_transformers):
    stages = {"one": {"steps": 2, "groups": {"sequence_ner": {}}}, "two": {"groups": {"sequence_ner": {}}}}
    nlp, step = make(tiny_transformers["bert"], stages)
    shim = nlp.get_pipe("sequence_ner").model.shims[0]
    counts = []
    for number in range(4):
        step(number)
        counts.append(float(next(iter(shim.optimizer.adamw.state.values()))["step"]))
    assert counts == [1, 2, 1, 2]


def test_sub_batches_change_nothing(tiny_transformers):
    """accumulate_gradient = 1 and 4, through both stages."""
    stages = {
        "head": {"steps": 2, "groups": {"sequence_ner": {}}},
        "all": {"groups": {"sequence_ner": {}, "transformer": {}}},
    }
    results = []
    for parts in (1, 4):
        torch.manual_seed(0)
        # An eps that is large beside rounding errors, which Adam would blow up where a gradient is nearly zero.
        nlp, step = make(tiny_transformers["bert"], stages, eps=1e-3)
        for number in range(4):
            step(number, parts)
        results.append(weights(nlp))
    for name, weight in results[0].items():
        torch.testing.assert_close(weight, results[1][name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "stages, message",
    [
        ({}, "no stage"),
        ({"a": {"steps": 3}}, r"stages\.a\]: a stage has steps and groups; missing: groups"),
        ({"a": {"step": 3, "groups": {"x": {}}}}, "unknown: step"),
        ({"a": {"groups": {"x": {}}}, "b": {"groups": {"x": {}}}}, "only the last stage may be null"),
        ({"a": {"steps": 0, "groups": {"x": {}}}}, "steps = 0"),
        ({"a": {"groups": {"x": {"rate": 1}}}}, r"stages\.a\.groups\.x\]: unknown settings rate"),
    ],
)
def test_what_is_no_stage(stages, message):
    with pytest.raises(ValueError, match=message):
        registry.callbacks.get("spacy_ner_arch.Stages.v1")(stages)


@pytest.mark.parametrize(
    "groups, message",
    [
        (
            {"ner": {}},
            r"stages\.late\.groups\.ner\] matches no parameter; there are sequence_ner\.crf_tagger, transformer",
        ),
        ({"sequence_ner": {}, "x": {"match": "layer.7"}}, r"groups\.x\] matches no parameter"),
        (
            {"all": {"match": "."}, "crf": {"match": "transitions"}},
            r"groups\.crf\] gets no parameter: .* belong to earlier groups, such as all; put crf before them",
        ),
        ({"x": {"match": "("}}, r"groups\.x\]: match is not a regular expression"),
    ],
)
def test_a_group_that_matches_nothing_is_found_before_the_first_update(tiny_transformers, groups, message):
    stages = {"early": {"steps": 5, "groups": {"sequence_ner": {}}}, "late": {"groups": groups}}
    nlp, step = make(tiny_transformers["bert"], stages)
    before = weights(nlp)
    with pytest.raises(ValueError, match=message):
        step(0)
    assert not moved(before, weights(nlp))


def test_a_stage_that_never_begins(tiny_transformers):
    stages = {"early": {"steps": 5, "groups": {"sequence_ner": {}}}, "late": {"groups": {"transformer": {}}}}
    _, step = make(tiny_transformers["bert"], stages, max_steps=5)
    with pytest.raises(ValueError, match="stage 'late' would begin at step 5, but training ends at 5"):
        step(0)


def test_a_label_that_is_added_in_a_stage_stays_frozen(tiny_transformers):
    nlp = transformer_nlp(tiny_transformers["bert"])
    examples = make_examples(nlp)
    nlp.initialize(lambda: examples)
    only_transformer = {"only": {"steps": None, "groups": {"transformer": {}}}}
    create_stages(only_transformer)(nlp, {"step": 0})
    component = nlp.get_pipe("sequence_ner")
    assert not any(p.requires_grad for p in component.head.parameters())
    component.add_label("NEW")
    assert not any(p.requires_grad for p in component.head.parameters())


def test_a_schedule_whose_rate_is_a_schedule(tiny_transformers):
    """As with `[rates] transformer = ${training.optimizer.learn_rate}`, if this is a schedule."""
    inner = warmup_linear(0.1, 1, 5)
    stages = {"all": {"groups": {"sequence_ner": {"learn_rate": warmup_linear(inner, 1, 5)}}}}
    _, step = make(tiny_transformers["bert"], stages)
    with pytest.raises(ValueError, match="stage 'all': a schedule of learn_rate needs a number .* set \\[rates] tran"):
        step(0)
