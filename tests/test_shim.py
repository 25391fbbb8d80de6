"""The torch module inside a thinc model: steps, averages, precision, storage."""

import copy
import json
import pickle
import resource
from functools import partial

import numpy as np
import pytest
import safetensors.torch
import torch
from thinc.api import Adam, RAdam

from spacy_ner_arch.bridge.errors import ChangedSetting
from spacy_ner_arch.bridge.optimizer import ParameterGroup
from spacy_ner_arch.bridge.shim import TorchShim
from spacy_ner_arch.bridge.storage import tensors_checksum
from spacy_ner_arch.nn.dropout import dropout


class Toy(torch.nn.Module):
    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.dropout = dropout(None)
        self.fixed_dropout = dropout(0.25)
        self.norm = torch.nn.LayerNorm(input_size)
        self.linear = torch.nn.Linear(input_size, 3)

    def forward(self, x):
        return self.linear(self.norm(self.dropout(x))).square().sum()


def make(**settings):
    torch.manual_seed(0)
    shim = TorchShim(Toy, **settings)
    shim.initialize(input_size=5)
    return shim


def optimizer(**settings):
    return Adam(0.01, **{"use_averages": False, "L2": 0.0, **settings})


def weights(shim):
    return {name: p.detach().clone() for name, p in shim.module.named_parameters()}


def update(shim, settings, x, weight=1.0):
    _, backprop = shim.begin_update((x,))
    gradient = backprop(weight)
    shim.finish_update(settings)
    return gradient


def test_step_is_adamw_with_thincs_settings():
    shim, x = make(), torch.randn(4, 5)
    module = copy.deepcopy(shim.module)
    reference = torch.optim.AdamW(
        [
            {"params": [module.linear.weight], "weight_decay": 0.1},
            {"params": [module.norm.weight, module.norm.bias, module.linear.bias], "weight_decay": 0.0},
        ],
        lr=0.01,
    )
    settings = optimizer(L2=0.1, grad_clip=0.5)
    for step in range(3):
        settings.learn_rate = 0.01 * (step + 1)  # a schedule
        update(shim, settings, x)
        for group in reference.param_groups:
            group["lr"] = settings.learn_rate
        module(x).backward()
        # By the norm over all parameters, not of each.
        torch.nn.utils.clip_grad_norm_(module.parameters(), 0.5)
        reference.step()
        reference.zero_grad()
    for name, p in module.named_parameters():
        assert torch.allclose(p, weights(shim)[name], atol=1e-6), name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_gradient_is_the_sum_over_sub_batches(dtype):
    x = torch.randn(4, 5)
    whole, parts = make(dtype=dtype), make(dtype=dtype)
    expected = update(whole, optimizer(), x, 0.001)
    assert expected.abs().max() > 0
    gradients = []
    for part in x.chunk(2):
        gradients.append(parts.begin_update((part,))[1](0.001))
    parts.finish_update(optimizer())
    tolerance = 1e-6 if dtype == "float32" else 2e-2
    assert torch.allclose(torch.cat(gradients), expected, rtol=tolerance, atol=tolerance * 0.001)
    for name, p in weights(whole).items():
        assert torch.allclose(p, weights(parts)[name], atol=1e-6 if dtype == "float32" else 1e-3), name


def test_mixed_precision_gives_unscaled_gradients():
    x = torch.randn(4, 5)
    expected = update(make(), optimizer(), x)
    # A loss as small as those of our heads, or the first scale of 65,536 would overflow.
    assert torch.allclose(1000 * update(make(dtype="float16"), optimizer(), x, 0.001), expected, rtol=0.05, atol=0.05)


def test_loss_weight_scales_the_gradient():
    x = torch.randn(4, 5)
    assert torch.allclose(update(make(), optimizer(), x, 3.0), 3 * update(make(), optimizer(), x), rtol=1e-5)


def test_float16_skips_overflows_and_counts_them():
    shim, settings = make(dtype="float16"), optimizer()
    before = weights(shim)
    gradient = update(shim, settings, torch.randn(4, 5), weight=1e30)
    assert gradient.isfinite().all()
    assert all(torch.equal(p, before[name]) for name, p in weights(shim).items())
    update(shim, settings, torch.randn(4, 5), weight=0.001)
    assert shim.optimizer.skipped_steps == 1
    assert any(not torch.equal(p, before[name]) for name, p in weights(shim).items())


def test_float32_stops_at_a_gradient_that_is_not_finite_and_keeps_the_weights():
    shim, settings = make(), optimizer()
    update(shim, settings, torch.randn(4, 5))
    before = weights(shim)
    update(shim, settings, torch.randn(4, 5), weight=float("inf"))
    assert all(torch.equal(p, before[name]) for name, p in weights(shim).items())
    with pytest.raises(ValueError, match="a gradient of Toy was not finite in update 2, which was skipped"):
        update(shim, settings, torch.randn(4, 5))


def test_float16_stops_when_nothing_but_overflows_comes():
    shim, settings = make(dtype="float16"), optimizer()
    with pytest.raises(ValueError, match="not finite in update 51"):
        for _ in range(100):
            update(shim, settings, torch.randn(4, 5), weight=float("inf"))
    assert shim.optimizer.skipped_steps == 51


def test_small_gradients_survive_float16():
    """Those of a loss scaled by 0.001 would be cut off if they were cast before they are scaled."""
    x = torch.randn(4, 5)
    expected = update(make(), optimizer(), x, 1e-8)
    assert torch.allclose(
        1e8 * update(make(dtype="float16"), optimizer(), x, 1e-8), 1e8 * expected, rtol=0.02, atol=1e-2
    )


def test_averages_are_thincs_and_reach_the_weights():
    shim, settings, x = make(), optimizer(use_averages=True), torch.randn(4, 5)
    average = {}
    for step in range(1, 4):
        update(shim, settings, x)
        decay = (1 + step) / (10 + step)
        for name, p in weights(shim).items():
            average[name] = p if step == 1 else average[name] + (1 - decay) * (p - average[name])
    own = weights(shim)
    with shim.use_params(settings.averages):
        for name, p in weights(shim).items():
            assert torch.allclose(p, average[name], atol=1e-6)
            assert not torch.equal(p, own[name])
    assert all(torch.equal(p, own[name]) for name, p in weights(shim).items())


@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda shim: pickle.loads(pickle.dumps(shim))])
def test_a_copy_has_the_averages_of_its_original_until_it_is_trained(make_copy):
    shim, settings, x = make(), optimizer(use_averages=True), torch.randn(4, 5)
    update(shim, settings, x)
    update(shim, settings, x)
    copied = make_copy(make_copy(shim))
    with shim.use_params(settings.averages):
        expected = weights(shim)
    raw = weights(copied)
    with copied.use_params(settings.averages):
        assert all(torch.equal(p, expected[name]) for name, p in weights(copied).items())
        assert not all(torch.equal(p, raw[name]) for name, p in weights(copied).items())
    update(copied, settings, x)
    own = weights(copied)  # the first average of a module
    with copied.use_params(settings.averages):
        assert all(torch.equal(p, own[name]) for name, p in weights(copied).items())
    with shim.use_params(settings.averages):
        assert all(torch.equal(p, expected[name]) for name, p in weights(shim).items())


def test_averages_of_the_original_do_not_reach_its_copy_in_another_component():
    """nlp.replace_listeners copies the model of an encoder, which is trained on."""
    shim, settings, x = make(), optimizer(use_averages=True), torch.randn(4, 5)
    copied = shim.copy()
    update(shim, settings, x)
    update(shim, settings, x)
    own = weights(copied)
    with copied.use_params(settings.averages):
        assert all(torch.equal(p, own[name]) for name, p in weights(copied).items())


def test_averages_come_back_after_an_error():
    shim, settings = make(), optimizer(use_averages=True)
    update(shim, settings, torch.randn(4, 5))
    update(shim, settings, torch.randn(4, 5))
    own = weights(shim)
    with pytest.raises(KeyError), shim.use_params(settings.averages):
        raise KeyError
    assert all(torch.equal(p, own[name]) for name, p in weights(shim).items())


def test_another_optimizer_starts_afresh():
    """nlp.initialize() and spacy train make an optimizer each: the second must not inherit the first one's moments."""
    x = torch.randn(4, 5)
    shim = make()
    update(shim, optimizer(), x)
    fresh = TorchShim(Toy).from_bytes(shim.to_bytes())
    update(shim, optimizer(), x)
    update(fresh, optimizer(), x)
    for name, p in weights(fresh).items():
        assert torch.allclose(p, weights(shim)[name], atol=1e-7)


def test_other_optimizers_are_refused():
    shim = make()
    with pytest.raises(ValueError, match="Adam.v1"):
        update(shim, RAdam(0.01), torch.randn(2, 5))


def test_training_dropout_is_set_and_a_fixed_one_is_not():
    shim = make()
    shim.begin_update((torch.randn(2, 5),), dropout=0.75)
    assert shim.module.dropout.p == 0.75 and shim.module.fixed_dropout.p == 0.25


def test_frozen_does_not_learn():
    """But it passes a gradient on to whatever gave it its input."""
    shim, x = make(frozen=True), torch.randn(4, 5)
    before = weights(shim)
    _, backprop = shim.begin_update((x,))
    assert backprop(1.0).abs().sum() > 0
    shim.finish_update(optimizer())
    assert all(torch.equal(p, before[name]) for name, p in weights(shim).items())


class Table(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = dropout(None)
        self.table = torch.nn.Embedding(10, 4)

    def forward(self, keys):
        return self.dropout(self.table(keys))


def test_frozen_without_a_gradient_to_pass_on_runs_without_a_graph():
    shim, keys = TorchShim(Table, frozen=True), torch.arange(5)
    shim.initialize()
    output, backprop = shim.begin_update((keys,), dropout=0.9)
    assert torch.equal(output, shim.predict((keys,))) and not output.requires_grad
    assert backprop(1.0) is None


def test_round_trip_is_exact_and_rebuilds_from_the_hyperparameters():
    shim, x = make(), torch.randn(4, 5)
    data = shim.to_bytes()
    loaded = TorchShim(Toy).from_bytes(data)
    assert torch.equal(loaded.predict((x,)), shim.predict((x,)))
    assert loaded.to_bytes() == data
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    stored = json.loads(header["__metadata__"]["hyperparameters"])
    assert stored.pop("checksum") and stored == {"input_size": 5, "class": "Toy"}


def test_before_initialization():
    shim = TorchShim(Toy)
    shim.to_device("cpu", -1)
    assert not make().from_bytes(b"").is_initialized
    assert shim.to_bytes() == b"" and not TorchShim(Toy).from_bytes(b"").is_initialized
    with pytest.raises(ValueError, match="not initialized: call nlp.initialize.*source = PATH"):
        shim.predict((torch.zeros(1, 5),))


@pytest.mark.parametrize("damage", [lambda d: d[:-7], lambda d: d[:40], lambda d: b"\xff" * 100])
def test_damaged_weights_are_a_clear_error(damage):
    with pytest.raises(ValueError, match="damaged"):
        TorchShim(Toy).from_bytes(damage(make().to_bytes()))


def rewritten(data, change):
    """Stored weights with other hyperparameters, and with the checksum of both."""
    size = int.from_bytes(data[:8], "little")
    stored = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["hyperparameters"])
    del stored["checksum"]
    tensors, changed = safetensors.torch.load(data), {**stored, **change}
    return safetensors.torch.save(
        tensors, {"hyperparameters": json.dumps({**changed, "checksum": tensors_checksum(changed, tensors)})}
    )


def test_every_flipped_bit_is_found():
    data = make().to_bytes()
    for place in range(len(data)):
        flipped = data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]
        with pytest.raises(ValueError, match="damaged|not those of this model"):
            TorchShim(Toy).from_bytes(flipped)


@pytest.mark.parametrize("size", [10**8, 10**12, -1, 4, "5", None])
def test_sizes_are_checked_before_a_module_is_built(size):
    """A linear layer for 10**8 numbers takes 1.2 GB."""
    data = rewritten(make().to_bytes(), {"input_size": size})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="not those of this model|the size of a layer cannot be changed"):
        TorchShim(Toy).from_bytes(data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


class Deep(torch.nn.Module):
    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(1, 1) for _ in range(layers))


def test_layers_are_counted_before_they_are_built():
    shim = TorchShim(Deep)
    shim.initialize(layers=2)
    with pytest.raises(ValueError, match="more or larger layers than the file"):
        TorchShim(Deep).from_bytes(rewritten(shim.to_bytes(), {"layers": 10**9}))
    assert len(TorchShim(Deep).from_bytes(shim.to_bytes()).module.layers) == 2


class OtherToy(Toy):
    """Weights with the same names and shapes."""


class Around(torch.nn.Module):
    def __init__(self, encoder, input_size: int) -> None:
        super().__init__()
        self.encoder = encoder(input_size)


@pytest.mark.parametrize(
    "stored, configured, message",
    [
        (Toy, OtherToy, "it was Toy, and is OtherToy in the config"),
        (partial(Around, Toy), partial(Around, OtherToy), "it was Around over Toy, and is Around over OtherToy in"),
    ],
)
def test_weights_of_another_class_are_refused(stored, configured, message):
    shim = TorchShim(stored)
    shim.initialize(input_size=5)
    with pytest.raises(ChangedSetting, match=rf"\(@architectures\) cannot be changed after training: {message}"):
        TorchShim(configured).from_bytes(shim.to_bytes())
    assert TorchShim(stored).from_bytes(shim.to_bytes()).cfg == {"input_size": 5}


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


def test_a_pickle_is_never_run():
    with pytest.raises(ValueError, match="damaged"):
        TorchShim(Toy).from_bytes(pickle.dumps(Bomb()))


def test_what_rested_in_a_stage_learns_again_when_built_anew():
    shim = make()
    shim.train_groups([])
    assert shim.frozen and shim.copy().frozen
    shim.from_bytes(shim.to_bytes())
    assert not shim.frozen and not shim.constants


def test_copies_are_independent():
    shim = make()
    shim.module.norm.requires_grad_(False)
    shim.constants = frozenset({"norm.weight", "norm.bias"})
    shim.pending, shim.groups = list, [ParameterGroup(frozenset({"linear.weight"}), 0.1)]
    copied = shim.copy()
    assert copied.settings == shim.settings and copied.cfg == shim.cfg and copied.cfg is not shim.cfg
    assert (copied.groups, copied.constants, copied.frozen) == (shim.groups, shim.constants, shim.frozen)
    assert copied.pending is None and not copied.module.norm.weight.requires_grad
    assert set(copied.names).isdisjoint(shim.names)
    update(copied, optimizer(), torch.randn(4, 5))
    assert copied.id != shim.id
    assert not np.allclose(weights(shim)["linear.weight"], weights(copied)["linear.weight"])


def test_copies_have_averages_of_their_own():
    """Those that were pickled and copied by Python, too."""
    shim, settings, x = make(), optimizer(use_averages=True), torch.randn(4, 5)
    shims = [shim, shim.copy(), copy.deepcopy(shim), pickle.loads(pickle.dumps(shim)), make()]
    for number, one in enumerate(shims):
        update(one, settings, x, weight=number + 1.0)
    assert len(settings.averages) == len(shims) * len(weights(shim))
    for one in shims:
        own = weights(one)
        with one.use_params(settings.averages):
            assert all(torch.equal(p, own[name]) for name, p in weights(one).items())


def test_unknown_dtype():
    with pytest.raises(ValueError, match="'half'; choose from float32, bfloat16, float16"):
        TorchShim(Toy, dtype="half")


def test_float16_on_a_cpu_is_reported():
    with pytest.warns(UserWarning, match='dtype = "float16" has no effect on a CPU'):
        make(dtype="float16")
