"""`ner-arch train`: several processes, checkpoints, and what must not go wrong with them."""

import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import spacy
import torch
from conftest import RELATIONS, TRAIN, make_examples, set_relations
from safetensors import safe_open
from safetensors.torch import save_file
from spacy.tokens import DocBin
from spacy.training.loop import train as spacy_train
from spacy.training.initialize import init_nlp
from test_configs import CONFIGS, small_config
from thinc.api import Config
from typer.testing import CliRunner

from spacy_ner_arch.cli import train as command
from spacy_ner_arch.cli.app import app
from spacy_ner_arch.pipes.base import TorchPipe
from spacy_ner_arch.training import checkpoint, loop, parallel
from spacy_ner_arch.training.checkpoint import FILE, TrainingError, read_checkpoint, replace_folder

# By name of the run: config, and settings for the same result in any number of processes.
EXACT = {
    "training.dropout": 0.0,
    "training.max_steps": 8,
    "training.eval_frequency": 4,
    "training.batcher.size": 40,
    "training.optimizer.learn_rate": 0.001,
    "training.before_update.*.learn_rate": 0.001,
    "training.before_update.*.initial_rate": 0.001,
    "training.before_update.stages.new_layers.steps": 4,
    "training.before_update.stages.all.steps": 4,
    "components.transformer.model.transformer_config": {
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
}
RUNS = {
    "bilstm_crf": ("bilstm_crf", {}),
    "transformer_crf": ("transformer_crf", {}),
    "span": ("span", {"training.accumulate_gradient": 2}),
    "joint, learned weights": ("joint", {}),
    "two stages": ("transformer_bilstm_crf", {}),
    "parameters of thinc": (
        "bilstm_crf",
        {
            "components.sequence_ner.model.tok2vec": {
                "@architectures": "spacy.MultiHashEmbed.v2",
                "width": 16,
                "attrs": ["NORM", "SHAPE"],
                "rows": [200, 100],
                "include_static_vectors": False,
            }
        },
    ),
}
NAMES = list(RUNS)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "train.spacy"
    docs = [eg.reference for eg in make_examples(spacy.blank("en"), TRAIN * 4)]
    set_relations(docs, RELATIONS * 4)
    DocBin(docs=docs, store_user_data=True).to_disk(path)
    return path


@pytest.fixture
def make_job(corpus, tiny_transformers, tmp_path):
    """A training of one of RUNS, which stores into a folder of this name."""

    def make(run: str, folder: str, resume=False, force=False, minutes=None, **settings) -> command.Job:
        name, own = RUNS[run]
        path = next(path for path in CONFIGS if path.stem == name)
        replaced = {key: value for key, value in own.items() if isinstance(value, dict)}
        config = small_config(path, corpus, tiny_transformers["bert"], **{**EXACT, **own, **settings})
        for key, block in replaced.items():
            spacy.util.set_dot_to_object(config, key, block)
        output = tmp_path / folder
        return command.Job(path, config.to_str(), {}, output, None, -1, resume, force, minutes)

    return make


def run_all(jobs, **place):
    """In a process of a group: several trainings, one after the other."""
    parallel.join_group(-1, **place)
    for job in jobs:
        command.run_job(job)


def differences(first: Path, second: Path) -> dict[str, float]:
    """The largest difference of the tensors of each kind in two checkpoints."""
    one, other = read_checkpoint(first / FILE).tensors, read_checkpoint(second / FILE).tensors
    assert one.keys() == other.keys()
    found: dict[str, float] = {}
    for name in one:
        kind = name.split("/")[0]
        difference = (one[name].double() - other[name].double()).abs()
        found[kind] = max(found.get(kind, 0.0), float(difference.max()) if len(difference.flatten()) else 0.0)
    return found


def files(folder: Path) -> dict[str, bytes]:
    """All files of a stored pipeline."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_processes(make_job, number: int, names) -> None:
    """Several processes end with the weights of one. That they have the same ones is checked while they train."""
    for name in names:
        command.run_job(make_job(name, f"{name} one"))
    jobs = [make_job(name, f"{name} {number}") for name in names]
    parallel.run_group(run_all, [(jobs,)] * number)
    for name, job in zip(names, jobs, strict=True):
        one = job.output.with_name(f"{name} one")
        assert max(differences(one, job.output).values()) < 1e-5, name
        before, after = (read_checkpoint(folder / FILE).values for folder in (one, job.output))
        assert before["batches"] == after["batches"] and before["updates"] == after["updates"]
        assert before["loss_weights"].keys() == after["loss_weights"].keys()
        for component, weight in before["loss_weights"].items():
            assert after["loss_weights"][component] == pytest.approx(weight, rel=1e-4)
            assert weight["_seen"] > 4 and weight["s"]


def test_two_processes_end_with_the_weights_of_one(make_job):
    check_processes(make_job, 2, NAMES)


@pytest.mark.slow
def test_three_processes_end_with_the_weights_of_one(make_job):
    check_processes(make_job, 3, NAMES)


@pytest.mark.parametrize("name", ["bilstm_crf", "joint, learned weights"])
def test_one_process_does_what_spacy_does(make_job, tmp_path, name):
    job = make_job(name, "ours", **{"training.dropout": 0.3})
    command.run_job(job)
    (tmp_path / "spacy").mkdir()
    spacy_train(init_nlp(Config().from_str(job.config, interpolate=False)), tmp_path / "spacy")
    for folder in ("model-best", "model-last"):
        ours, theirs = files(job.output / folder), files(tmp_path / "spacy" / folder)
        assert ours.keys() == theirs.keys() and not [path for path in ours if ours[path] != theirs[path]]


class Killed(BaseException):
    """Stands for a kill: nothing of the package catches it."""


@contextmanager
def killed_in_update(monkeypatch, number: int):
    """Within the context, the training is killed in this call of `update`."""
    calls = []
    update = TorchPipe.update

    def count(self, *args, **kwargs):
        calls.append(None)
        if len(calls) == number:
            raise Killed
        return update(self, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(TorchPipe, "update", count)
        yield


RESUMED = {
    "bilstm_crf": {"components.*.unknown_rate": 1.0, "training.optimizer.use_averages": True},
    "span": {"components.span_ner.model.dropout": 0.2},
    "joint, learned weights": {},
    "two stages": {"training.before_update.stages.new_layers.steps": 10},
    "parameters of thinc": {"training.optimizer.learn_rate.@schedules": "warmup_linear.v1"},
}


@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_training_ends_with_the_same_weights(make_job, monkeypatch, name):
    """Also when it is killed twice, in the middle of an update, in the middle of an epoch or a stage."""
    settings = {"training.dropout": 0.2, "training.max_steps": 14, **RESUMED[name]}
    whole, parts = make_job(name, "whole", **settings), make_job(name, "parts", **settings)
    command.run_job(whole)
    calls_per_step = 2 if name in ("joint, learned weights", "span") else 1
    for step, start in ((6, 0), (10, 5)):  # the checkpoints are of steps 4 and 8
        with killed_in_update(monkeypatch, calls_per_step * (step - start) + 1):
            command.run_job(parts._replace(resume=True))
    assert read_checkpoint(parts.output / FILE).values["step"] == 8
    command.run_job(parts._replace(resume=True))
    assert set(differences(whole.output, parts.output).values()) == {0.0}
    for folder in ("model-best", "model-last"):
        assert files(whole.output / folder) == files(parts.output / folder)
    ends = [read_checkpoint(job.output / FILE).values for job in (whole, parts)]
    for key in ("step", "scores", "batches", "processes", "loss_weights", "shims", "updates"):
        assert ends[0][key] == ends[1][key], key
    command.run_job(parts._replace(resume=True))  # a finished training has nothing to do
    assert files(whole.output / "model-last") == files(parts.output / "model-last")


def test_checkpoints_between_evaluations(make_job, monkeypatch):
    settings = {"training.dropout": 0.2}
    whole, parts = make_job("bilstm_crf", "whole", **settings), make_job("bilstm_crf", "parts", minutes=0.0, **settings)
    command.run_job(whole)
    with killed_in_update(monkeypatch, 7):
        command.run_job(parts)
    saved = read_checkpoint(parts.output / FILE).values
    assert saved["step"] == 5 and saved["processes"][0]["losses"]["sequence_ner"] > 0
    command.run_job(parts._replace(resume=True))
    assert set(differences(whole.output, parts.output).values()) == {0.0}
    # The loss of model-last is that since the evaluation before, which was in the killed part.
    assert files(whole.output / "model-last") == files(parts.output / "model-last")
