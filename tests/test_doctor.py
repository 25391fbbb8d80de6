"""`ner-arch doctor`: what works on this machine, and a remedy for what does not."""

from unittest.mock import patch

import pytest
import spacy.cli._util
import thinc.util
import torch
from pretend_gpu import pretend_gpu
from typer.testing import CliRunner

from spacy_ner_arch.bridge.device import default_device
from spacy_ner_arch.cli import doctor as doctor_module
from spacy_ner_arch.cli.app import app
from spacy_ner_arch.nn.precision import autocast, has_bfloat16

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a real GPU")


def doctor(*options):
    result = CliRunner().invoke(app, ["doctor", *options])
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture
def gpu():
    """Not with `monkeypatch`: a test that patches the pretend GPU must undo that before the GPU is gone."""
    with patch.dict(doctor_module.SIZE, cuda=64), pretend_gpu() as gpu:
        yield gpu


def test_without_a_gpu_the_cpu_is_checked():
    status, output = doctor()
    assert status == 0 and f"torch {torch.__version__}" in output
    assert "A product in bfloat16 is" in output and 'dtype = "auto" means' in output


def test_a_missing_gpu_ends_in_the_remedies():
    status, output = doctor("--gpu-id", "0")
    assert status == 1
    assert "finds no GPU" in output and "This PyTorch was built" in output
    assert "CuPy is not installed" in output and 'x[ctk]>=14" "torch>=2.9"' in output


def test_commands_of_spacy_end_in_the_remedy(capsys):
    """`spacy train --gpu-id 0` begins with this call."""
    with pytest.raises(SystemExit):
        spacy.cli._util.setup_gpu(0)
    output = " ".join("".join(capsys.readouterr()).split())
    assert "CuPy is not installed: pip install" in output and "ner-arch doctor --gpu-id 0" in output


def test_a_gpu_that_works(gpu):
    status, output = doctor("--gpu-id", "0")
    assert status == 0, output
    for what in ("PyTorch: pretend GPU", "spacy.require_gpu works", "kernel was compiled", "arrays pass from CuPy"):
        assert what in output


def refuse(*args, **kwargs):
    raise RuntimeError("invalid capsule")


@pytest.mark.parametrize(
    "module, name, error, remedy",
    [
        (torch.utils.dlpack, "to_dlpack", "CuPy and PyTorch: RuntimeError: invalid capsule", '"torch>=2.9"'),
        (torch.utils.dlpack, "from_dlpack", "CuPy and PyTorch: RuntimeError: invalid capsule", '"torch>=2.9"'),
        (thinc.util, "set_active_gpu", "spaCy: RuntimeError: invalid capsule", "CuPy is not installed"),
        (doctor_module, "get_current_ops", "CuPy: RuntimeError: invalid capsule", "CuPy is not installed"),
    ],
)
def test_what_fails_is_named_with_its_remedy(module, name, error, remedy, gpu, monkeypatch):
    monkeypatch.setattr(module, name, refuse)
    status, output = doctor("--gpu-id", "0")
    assert status == 1 and error in output and remedy in output


def test_a_gpu_that_is_not_there(gpu):
    status, output = doctor("--gpu-id", "3")
    assert status == 1 and "there is no GPU 3" in output
    assert "the last one here is 0: give --gpu-id 0" in output and "driver" not in output


def test_commands_of_spacy_with_a_number_that_no_gpu_has(gpu, monkeypatch, capsys):
    monkeypatch.setattr(doctor_module, "thinc_require_gpu", refuse)
    with pytest.raises(SystemExit):
        spacy.cli._util.setup_gpu(2)
    output = " ".join("".join(capsys.readouterr()).split())
    assert "give --gpu-id 0" in output and "CuPy" not in output


def test_several_cupy(monkeypatch):
    monkeypatch.setattr(doctor_module, "cupy_packages", lambda: ["cupy-cuda12x", "cupy-cuda13x"])
    assert "pip uninstall cupy-cuda12x cupy-cuda13x" in doctor_module.cupy_remedy()


def test_a_torch_that_cannot_use_the_gpu_is_named(gpu, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "current_device", refuse)
    assert spacy.cli._util.require_gpu(0)
    assert "PyTorch cannot use the GPU" in "".join(capsys.readouterr())
    with pytest.raises(ValueError, match="PyTorch cannot .* ner-arch doctor --gpu-id 0"):
        default_device()


def test_on_apples_gpu_the_models_run_on_the_cpu(gpu, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert spacy.cli._util.require_gpu(0)
    for output in ("".join(capsys.readouterr()), doctor("--gpu-id", "0")[1]):
        assert "run on the CPU, because it has no float64" in " ".join(output.split()) and "CUDA" not in output
    assert doctor("--gpu-id", "0")[0] == 0


@pytest.mark.parametrize("units, expected", [({"amx_bf16": True}, True), ({"avx512_bf16": True}, False), ({}, False)])
def test_auto_is_bfloat16_where_there_are_units(units, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units, raising=False)
    cpu = torch.device("cpu")
    assert has_bfloat16(cpu) is expected
    with autocast("auto", cpu):
        assert torch.is_autocast_enabled("cpu") is expected


@pytest.mark.parametrize(
    "units, ratio, advice, auto",
    [
        ({"amx_bf16": True}, 3, 'set dtype = "bfloat16" or "auto"', "bfloat16"),
        ({"avx512_bf16": True}, 2, 'set dtype = "bfloat16" in', "float32"),
        ({"avx512_bf16": True}, 0.6, 'leave dtype = "float32"', "float32"),
    ],
)
def test_the_advice_on_formats_is_measured(units, ratio, advice, auto, monkeypatch, capsys):
    """A CPU can be fast in bfloat16 though torch does not tell."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units, raising=False)
    monkeypatch.setattr(doctor_module, "product_time", lambda device, dtype: ratio if dtype == torch.float32 else 1.0)
    doctor_module.report_speed(torch.device("cpu"))
    output = capsys.readouterr().out
    assert advice in output and f'"auto" means {auto} here' in output


def test_auto_on_a_gpu(gpu, monkeypatch):
    assert has_bfloat16(torch.device("cuda:0"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert not has_bfloat16(torch.device("cuda:0"))
