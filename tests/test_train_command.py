"""`ner-arch train`: several processes, checkpoints, and what must not go wrong with them."""

import errno
import itertools
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import group_work
import numpy as np
import pytest
import spacy
import torch
from conftest import RELATIONS, TRAIN, make_examples, run_command, run_in_line, set_relations, set_trees
from safetensors import safe_open
from safetensors.torch import save_file
from spacy.tokens import DocBin
from spacy.training.initialize import init_nlp
from spacy.training.loop import train as spacy_train
from test_configs import CONFIGS, small_config
from thinc.api import Config

from spacy_ner_arch.cli import train as command
from spacy_ner_arch.formats.files import lock_folder, replace_folder
from spacy_ner_arch.pipes.base import TorchPipe
from spacy_ner_arch.training import loop, parallel, pipeline_state
from spacy_ner_arch.training.checkpoint import FILE, TrainingError, read_checkpoint
from spacy_ner_arch.training.conditions import file_checksums, find_conditions
from spacy_ner_arch.training.output import Output

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
    "copies of documents": (
        "joint",
        {
            "components.*.consistency": 1.0,
            "training.batcher": {
                "@batchers": "spacy_ner_arch.RDrop.v1",
                "batcher": {
                    "@batchers": "spacy.batch_by_padded.v1",
                    "size": 40,
                    "buffer": 10,
                    "discard_oversize": False,
                },
            },
        },
    ),
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


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "train.spacy"
    docs = [eg.reference for eg in make_examples(spacy.blank("en"), TRAIN * 4)]
    set_relations(docs, RELATIONS * 4)
    set_trees(docs)
    DocBin(docs=docs, store_user_data=True).to_disk(path)
    return path


@pytest.fixture
def make_job(corpus, tiny_transformers, tmp_path):
    """A training of one of RUNS or of a config, which stores into a folder of this name."""

    def make(run: str, folder: str, resume=False, force=False, minutes=None, **settings) -> command.TrainingJob:
        name, own = RUNS.get(run, (run, {}))
        path = next(path for path in CONFIGS if path.stem == name)
        replaced = {key: value for key, value in own.items() if isinstance(value, dict)}
        config = small_config(path, corpus, tiny_transformers["bert"], **{**EXACT, **own, **settings})
        for key, block in replaced.items():
            spacy.util.set_dot_to_object(config, key, block)
        output = tmp_path / folder
        return command.TrainingJob(path, config.to_str(), {}, output, None, False, -1, resume, force, minutes)

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
    check_processes(make_job, 2, ["joint, learned weights", "parameters of thinc"])


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 3])
def test_several_processes_end_with_the_weights_of_one(make_job, number):
    check_processes(make_job, number, RUNS)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_config_from_standard_input(make_job, encoding):
    job = make_job("bilstm_crf", "örtlich", **{"training.max_steps": 1})
    config = job.config.replace("[nlp]", "# ö\n[nlp]").encode(encoding)
    run_command("train", "-", "--output", job.output, input=config)
    assert (job.output / "model-last").is_dir()


def test_a_config_that_cannot_be_read(tmp_path):
    path = tmp_path / "a.cfg"
    assert "No such file" in invoke(path)
    path.write_bytes("[nlp]\n".encode("utf-16"))
    for output in (invoke(path), invoke(path, name="debug-data")):
        assert f"{path} is not UTF-8 (invalid start byte at byte 1): convert the file" in output


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_checkpoint_that_was_read_is_not_kept_open(make_job):
    """Windows does not replace an open file, and the next checkpoint replaces it."""
    job = make_job("bilstm_crf", "one", **{"training.max_steps": 1})
    command.run_job(job)
    checkpoint = read_checkpoint(job.output / FILE)
    assert checkpoint.tensors and FILE not in Path("/proc/self/maps").read_text()


def test_two_trainings_do_not_write_to_one_folder(make_job, capsys):
    """A scheduler may start a job again before the old one has ended. Both would exchange half-written folders."""
    job = make_job("bilstm_crf", "one", **{"training.max_steps": 1})
    job.output.mkdir()
    lock = lock_folder(job.output)
    with pytest.raises(SystemExit):
        command.run_job(job)
    assert "another process is writing to this folder" in " ".join("".join(capsys.readouterr()).split())
    lock.release()
    command.run_job(job)
    command.run_job(job._replace(force=True))
    assert spacy.load(job.output / "model-last")


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


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in ("span", "two stages"))) for name in RESUMED]
)
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


def test_resuming_with_a_component_of_spacy(make_job):
    """The loss of spaCy's parser is a number of NumPy, which JSON does not have."""
    settings = {"training.max_steps": 4, "training.eval_frequency": 2}
    whole, parts = make_job("synlstm_crf", "whole", **settings), make_job("synlstm_crf", "parts", **settings)
    command.run_job(whole)
    command.run_job(make_job("synlstm_crf", "parts", **{**settings, "training.max_steps": 2}))
    command.run_job(parts._replace(resume=True, force=True))
    assert set(differences(whole.output, parts.output).values()) == {0.0}


def test_a_frozen_transformer_has_its_vectors_again(make_job, monkeypatch):
    """A resumed training computes them with the same documents together as before, since rounding depends on that."""
    settings = {"training.before_update.stages.new_layers.steps": 10, "training.max_steps": 14}
    job = make_job("two stages", "output", **settings)
    found = []

    def record(method):
        def call(self, *arguments):
            cache = self.nlp.get_pipe("transformer").model.attrs["cache"]
            found.append({key: vectors.tobytes() for key, vectors in cache._vectors.items()})
            return method(self, *arguments)

        return call

    monkeypatch.setattr(Output, "write_checkpoint", record(Output.write_checkpoint))
    monkeypatch.setattr(loop.Training, "resume", record(loop.Training.resume))
    for _ in range(2):
        with killed_in_update(monkeypatch, 7):
            command.run_job(job._replace(resume=True))
    first, before, after, *_ = found
    assert 0 < len(first) < len(before) and after == before
    command.run_job(job._replace(resume=True))
    assert found[-1] == {}  # the last stage trains the transformer


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


def invoke(*arguments, name="train") -> str:
    """Output of a command that fails."""
    return run_in_line(name, *arguments, code=1)


def test_settings_that_spacy_drops_are_reported(make_job, tmp_path):
    path = make_job("bilstm_crf", "output").config_path
    with pytest.warns(UserWarning, match=r"\[training\] max_step is not a setting and has no effect; use max_steps"):
        invoke(path, "--training.max_step", 5, "--paths.train", tmp_path / "none.spacy")


def test_a_config_without_training_is_no_traceback(tmp_path):
    (tmp_path / "part.cfg").write_text('[nlp]\nlang = "en"\npipeline = []\n')
    assert "part.cfg has no [training]: complete it with `python -m spacy init fill-config" in invoke(
        tmp_path / "part.cfg"
    )


def test_an_output_folder_that_cannot_be_made_is_no_traceback(make_job, tmp_path):
    (tmp_path / "file").touch()
    output = invoke(make_job("bilstm_crf", "output").config_path, "--output", tmp_path / "file" / "output")
    assert "cannot make the folder" in output and "give another --output" in output


def test_an_error_of_the_users_code_has_its_traceback_in_a_process_of_a_group(make_job, tmp_path, monkeypatch):
    """The process printed the message alone."""
    code = tmp_path / "code.py"
    code.write_text(
        "from spacy.util import registry\n\n"
        "@registry.readers('test_broken_reader.v1')\n"
        "def broken_reader():\n"
        "    raise ValueError('broken')\n"
    )
    job = make_job("bilstm_crf", "output")
    config = Config().from_str(job.config, interpolate=False)
    config["corpora"]["train"] = {"@readers": "test_broken_reader.v1"}
    job = job._replace(config=config.to_str(), output=None, code=code)
    monkeypatch.setattr(parallel, "size", lambda: 2)
    monkeypatch.setattr(parallel, "broadcast", lambda value: value)
    with pytest.raises(TrainingError, match="broken") as raised:
        command.run_job(job)
    assert isinstance(raised.value.__cause__, ValueError)


@pytest.fixture
def checkpointed(make_job, tmp_path):
    """Options of a training with a checkpoint, and its folder."""
    job = make_job("bilstm_crf", "output", **{"training.max_steps": 4, "training.eval_frequency": 2})
    command.run_job(job)
    config = tmp_path / "config.cfg"
    config.write_text(job.config, encoding="utf8")
    return [config, "--output", job.output], job.output


def test_a_checkpoint_is_not_overwritten_unasked(checkpointed):
    options, folder = checkpointed
    before = (folder / FILE).read_bytes()
    assert "give --resume to continue it, --force to start again" in invoke(*options)
    assert (folder / FILE).read_bytes() == before
    run_command("train", *options, "--force")


@pytest.mark.parametrize("is_locked", [False, True])
def test_an_error_of_the_first_process_is_shown_once(checkpointed, is_locked):
    """The others ended with a traceback, since they had lost the connection."""
    options, folder = checkpointed
    lock = lock_folder(folder) if is_locked else None
    command_line = [sys.executable, "-m", "spacy", "ner-arch", "train", *map(str, options), "--workers", "2"]
    result = subprocess.run(command_line, capture_output=True, text=True, timeout=300)
    if lock is not None:
        lock.release()
    output = " ".join((result.stdout + result.stderr).split())
    message = "another process is writing to this folder" if is_locked else "give --resume to continue it"
    assert result.returncode == 1 and output.count(message) == 1
    assert "Traceback" not in output and "Connection" not in output
    assert "process 0 of 2 ended with exit status 1" in output


def test_resuming_with_other_settings_and_corpora(checkpointed, corpus):
    options, folder = checkpointed
    resumed = [*options, "--resume"]
    output = invoke(*resumed, "--training.dropout", "0.3", "--training.max_steps", "6")
    assert "training.dropout was 0.0 and is 0.3" in output and "training.max_steps was 4 and is 6" in output
    forced = run_command("train", *resumed, "--force", "--training.max_steps", "6")
    assert "Resuming although training.max_steps was 4 and is 6" in forced
    assert read_checkpoint(folder / FILE).values["step"] == 6
    original = corpus.read_bytes()
    try:
        docs = [eg.reference for eg in make_examples(spacy.blank("en"), TRAIN * 3)]
        DocBin(docs=docs).to_disk(corpus)
        output = invoke(*resumed, "--training.max_steps", "6")
        assert f"the content of corpora.train.path ({corpus}) has changed" in output
        assert "processes" not in output
        # --force resumes with the new documents.
        run_command("train", *resumed, "--force", "--training.max_steps", "8")
    finally:
        corpus.write_bytes(original)
    assert "ends at step 2: raise [training] max_steps" in invoke(*resumed, "--force", "--training.max_steps", "2")


def test_the_conditions_of_a_training_have_the_files_of_linked_folders_and_no_hidden_ones(corpus, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "linked").symlink_to(tmp_path / "elsewhere")
    settings = {"train": {"path": str(tmp_path / "corpus")}, "dev": {"path": str(corpus)}}
    (tmp_path / "elsewhere" / "a.spacy").write_bytes(corpus.read_bytes())
    before = file_checksums(settings)
    assert before["dev.path"] == sha256(corpus.read_bytes()).hexdigest()
    (tmp_path / "corpus" / ".DS_Store").write_bytes(b"\x00\x05\x16\x07")
    assert file_checksums(settings) == before
    # The reader takes the files in the order of their names.
    (tmp_path / "elsewhere" / "a.spacy").rename(tmp_path / "elsewhere" / "b.spacy")
    assert file_checksums(settings)["train.path"] != before["train.path"]
    (tmp_path / "elsewhere" / "b.spacy").rename(tmp_path / "elsewhere" / "a.spacy")
    DocBin(docs=[spacy.blank("en")("Anna left.")]).to_disk(tmp_path / "elsewhere" / "a.spacy")
    assert file_checksums(settings)["train.path"] != before["train.path"]


def test_resuming_with_other_files(make_job, tmp_path):
    """Files besides the corpora that a training reads again: word vectors and functions of the user."""
    nlp = spacy.blank("en")
    path, code = tmp_path / "vectors", tmp_path / "own.py"
    for number in (1, 2):
        nlp.vocab.set_vector("Anna", np.full(4, number, dtype=np.float32))
        nlp.to_disk(path)
        code.write_text(f"NUMBER = {number}")
        if number == 1:
            settings = {"training.max_steps": 2, "initialize.vectors": str(path)}
            job = make_job("bilstm_crf", "output", **settings)._replace(code=code)
            command.run_job(job)
    config = tmp_path / "config.cfg"
    config.write_text(job.config, encoding="utf8")
    output = invoke(config, "--output", job.output, "--code", code, "--resume")
    assert f"the content of initialize.vectors ({path}) has changed" in output
    assert "the content of --code has changed" in output
    assert "corpora" not in output


def test_a_pipeline_that_is_trained_further_in_its_place(checkpointed, tmp_path):
    """The training replaces its source."""
    options, folder = checkpointed
    path = options[0]
    config = Config().from_str(path.read_text(encoding="utf8"), interpolate=False)
    config["components"]["sequence_ner"] = {"source": str(folder / "model-best")}
    path.write_text(config.to_str(), encoding="utf8")
    for option in ("--force", "--resume"):
        run_command("train", *options, option)
    name = "components.sequence_ner.source"
    assert name not in find_conditions(config, output=folder)["files"]
    assert name in find_conditions(config, output=tmp_path / "elsewhere")["files"]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(tmp_path, monkeypatch, number):
    fcntl = pytest.importorskip("fcntl")

    def flock(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(UserWarning, match="cannot be locked: let no other process write to it"):
        lock_folder(tmp_path).release()
    number = errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        lock_folder(tmp_path)


def test_resuming_in_a_folder_of_spacy_train(checkpointed):
    """Its pipelines were replaced at the first evaluation."""
    options, folder = checkpointed
    resumed = ["train", *options, "--resume"]
    for name in (FILE, ".lock"):
        (folder / name).unlink()
    before = files(folder)
    assert "has pipelines but no checkpoint, as `spacy train` leaves it" in invoke(*options, "--resume")
    assert files(folder) == before
    run_command(*resumed, "--force")
    # After a kill before the first checkpoint, the training begins again.
    (folder / FILE).unlink()
    run_command(*resumed)


def test_resuming_without_the_best_pipeline(checkpointed):
    """It was written again only if a later score was better."""
    options, folder = checkpointed
    shutil.rmtree(folder / "model-best")
    resumed = [*options, "--resume", "--training.max_steps", "4"]
    assert "model-best is missing, and would be written again only for a better score" in invoke(*resumed)
    run_command("train", *resumed, "--force")


def test_others_can_read_what_a_training_has_written(checkpointed):
    _, folder = checkpointed
    modes = {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    assert len(modes) == 1


def test_a_folder_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    """After a power cut, all files of model-best were empty."""
    synced = []

    def fsync(number):
        synced.append(os.fstat(number).st_ino)
        original(number)

    def write(folder):
        (folder / "deep").mkdir(parents=True)
        for name in ("a", "deep/b"):
            (folder / name).write_text(name)
        assert not synced

    original = os.fsync
    monkeypatch.setattr(os, "fsync", fsync)
    replace_folder(tmp_path / "x", write)
    *contents, parent = synced
    assert set(contents) == {path.stat().st_ino for path in (tmp_path / "x", *(tmp_path / "x").rglob("*"))}
    assert parent == tmp_path.stat().st_ino


def test_resuming_with_other_labels(checkpointed, corpus, tmp_path):
    options, _ = checkpointed
    docs = [eg.reference for eg in make_examples(spacy.blank("en"), [("Anna sings", [(0, 1, "ARTIST")])])]
    DocBin(docs=docs).to_disk(tmp_path / "other.spacy")
    output = invoke(*options, "--resume", "--force", "--paths.train", tmp_path / "other.spacy")
    assert "config or labels have changed too much to resume" in output


@pytest.mark.parametrize("damage", ["cut", "flipped", "header", "empty", "version"])
def test_damaged_checkpoints(checkpointed, damage):
    options, folder = checkpointed
    path = folder / FILE
    data = path.read_bytes()
    middle = len(data) // 2
    message = f"{path.name} is damaged"
    if damage == "cut":
        path.write_bytes(data[:middle])
    elif damage == "flipped":
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    elif damage == "header":
        save_file({"a": torch.zeros(1)}, path, {"values": "[]"})
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        with safe_open(path, framework="pt") as file:
            values = json.loads(file.metadata()["values"])
        save_file({"a": torch.zeros(1)}, path, {"values": json.dumps({**values, "version": 99, "package": "7.0"})})
        message = "has version 99, of spacy_ner_arch 7.0"
    output = invoke(*options, "--resume")
    assert message in output and "start again with --force instead of --resume" in output


@contextmanager
def full_disk(size: int):
    """Within the context, no file can become larger than this number of bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("part", ["model-last", FILE])
def test_a_full_disk(make_job, monkeypatch, part):
    """Everything stays as it was, and training can go on."""
    whole, parts = make_job("bilstm_crf", "whole"), make_job("bilstm_crf", "parts")
    command.run_job(whole)
    with killed_in_update(monkeypatch, 2):
        command.run_job(parts)
    before = files(parts.output)
    sizes = [len(data) for name, data in before.items() if name.startswith(part)]
    with full_disk(max(sizes) - 1), pytest.raises(SystemExit), monkeypatch.context() as patch:
        messages = []
        patch.setattr(command, "fail", lambda _, error: messages.append(str(error)) or sys.exit(1))
        command.run_job(parts._replace(resume=True))
    assert "after step 4" in messages[0] and "large" in messages[0] and "then use --resume" in messages[0]
    assert f"cannot save to {parts.output}" in messages[0]
    after = files(parts.output)
    assert after.keys() == before.keys() and after[FILE] == before[FILE]
    assert all(spacy.load(parts.output / name) for name in ("model-best", "model-last"))
    command.run_job(parts._replace(resume=True))
    assert files(parts.output / "model-last") == files(whole.output / "model-last")


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_is_replaced_at_once(tmp_path, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr("spacy_ner_arch.formats.files.exchange", lambda first, second: False)

    def write(text, folder):
        folder.mkdir()
        (folder / "a").write_text(text)
        if text == "broken":
            raise OSError("full")
        assert not (tmp_path / "x").exists() or (tmp_path / "x" / "a").read_text() != text

    for text in ("one", "two"):
        replace_folder(tmp_path / "x", partial(write, text))
        assert (tmp_path / "x" / "a").read_text() == text and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(OSError, match="full"):
        replace_folder(tmp_path / "x", partial(write, "broken"))
    assert (tmp_path / "x" / "a").read_text() == "two" and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "link").symlink_to(tmp_path / "x")
    replace_folder(tmp_path / "link", partial(write, "three"))
    assert (tmp_path / "link").is_symlink() and (tmp_path / "x" / "a").read_text() == "three"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_gets_its_name_back_if_the_new_one_cannot_have_it(tmp_path, monkeypatch):
    """As on Windows, while another process has a file of the new folder open."""
    monkeypatch.setattr("spacy_ner_arch.formats.files.exchange", lambda first, second: False)
    path = tmp_path / "x"
    path.mkdir()
    (path / "a").write_text("old")
    rename = os.rename

    def fail_for_new(source, target):
        if str(source).endswith(".tmp"):
            raise PermissionError(13, "open in another process")
        rename(source, target)

    with monkeypatch.context() as patch, pytest.raises(PermissionError, match="open in another process"):
        patch.setattr(os, "rename", fail_for_new)
        replace_folder(path, lambda folder: folder.mkdir())
    assert (path / "a").read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_replacing_a_folder_touches_no_other_folder(tmp_path, monkeypatch, can_exchange):
    """Only the folders that killed processes left of this one are removed."""
    if not can_exchange:
        monkeypatch.setattr("spacy_ner_arch.formats.files.exchange", lambda first, second: False)
    others = [
        tmp_path / name for name in ("x", "x.old", ".x.tmp", ".x.old", f".xy.{'0' * 32}.old", f"x.{'0' * 32}.old")
    ]
    left = [tmp_path / f".x.{'0' * 32}.{ending}" for ending in ("tmp", "old")]
    for folder in (*others, *left):
        folder.mkdir()
    # An older pipeline is removed only when the new one has its place.
    with pytest.raises(OSError, match="full"):
        replace_folder(tmp_path / "x", Mock(side_effect=OSError("full")))
    assert set(tmp_path.iterdir()) == {*others, left[1]}
    replace_folder(tmp_path / "x", lambda folder: folder.mkdir())
    assert set(tmp_path.iterdir()) == set(others)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--gpus", "0,1"], "--gpus is '0,1', but this machine has 1 GPU that torch can use, with the number 0"),
        (["--gpus", "0,0"], "give different numbers with commas between them"),
        (["--gpus", "a"], "give different numbers with commas between them"),
        (["--gpus", "0", "--workers", "2"], "--gpus and --workers exclude each other"),
        (["--gpu-id", "0", "--workers", "2"], "--gpu-id and --workers exclude each other"),
        (["--resume"], "need the folder of the checkpoint: give --output"),
    ],
)
def test_options_that_cannot_be(monkeypatch, options, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert message in invoke(CONFIGS[0], *options)


def test_options_under_torchrun(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.setenv(name, "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert "torchrun has started 2 here: give --gpus" in invoke(CONFIGS[0], "--gpu-id", "0")
    assert "torchrun has started 2 processes on this machine" in invoke(CONFIGS[0], "--gpus", "0")
    assert "--workers is not for torchrun" in invoke(CONFIGS[0], "--workers", "2")
    assert command.find_devices("1,0", -1, None) == [1, 0] and command.find_devices(None, -1, None) == [-1]


def test_gpus_without_any(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert "this machine has 0 GPUs that torch can use: see docs/gpu.md" in invoke(CONFIGS[0], "--gpus", "0")


def check_end(pids: Path, seconds: float) -> None:
    """Fail unless all processes end within a time."""
    end = time.monotonic() + seconds
    while left := [path.name for path in pids.iterdir() if Path("/proc", path.name).exists()]:
        assert time.monotonic() < end, left
        time.sleep(0.1)


@pytest.mark.parametrize("work", [pytest.param(group_work.die_or_wait, marks=pytest.mark.slow), group_work.fail_or_die])
def test_all_stop_when_one_process_dies(tmp_path, work):
    with pytest.raises(ChildProcessError, match="process 1 of 2 was killed by SIGKILL; all were stopped"):
        parallel.run_group(work, [(tmp_path,)] * 2)
    check_end(tmp_path, 1)
    assert len(list(tmp_path.iterdir())) == 2


class EndsBetweenTwoLooks:
    """A process whose end is seen at the second look at its exit code, though its sentinel already shows it."""

    pid = None

    def __init__(self, code=-9, **arguments):
        self.codes = itertools.chain([None], itertools.repeat(code))
        self.sentinel, self.other_end = multiprocessing.Pipe()
        self.other_end.close()

    @property
    def exitcode(self):
        return next(self.codes)

    def start(self):
        pass

    def is_alive(self):
        return False


def test_a_process_that_ends_between_two_looks_at_it_is_the_cause():
    assert parallel.find_cause([SimpleNamespace(exitcode=1), EndsBetweenTwoLooks()]) == 1


def test_a_process_that_ends_between_two_looks_at_it_is_not_overlooked(monkeypatch):
    context = SimpleNamespace(Process=EndsBetweenTwoLooks)
    monkeypatch.setattr("multiprocessing.get_context", lambda name: context)
    with pytest.raises(ChildProcessError, match="process 0 of 1 was killed by SIGKILL"):
        parallel.run_group(group_work.leave, [()])


def test_the_optimizer_state_of_another_pipeline(make_job):
    job = make_job("bilstm_crf", "x")
    command.run_job(job)
    saved = read_checkpoint(job.output / FILE)
    saved.values["updates"]["another/W"] = 3
    nlp = init_nlp(Config().from_str(job.config, interpolate=False))
    with pytest.raises(TrainingError, match="optimizer state of another/W, which this pipeline does not have"):
        pipeline_state.set_training_state(nlp, nlp.initialize(), saved)


def test_sums_of_tensors(tmp_path):
    parallel.run_group(group_work.add_up_tensors, [(tmp_path / "sums",)] * 2)
    expected = [a + b for a, b in zip(group_work.own_tensors(0), group_work.own_tensors(1), strict=True)]
    torch.testing.assert_close(torch.load(tmp_path / "sums"), expected, rtol=0, atol=0)


@pytest.mark.skipif(sys.platform != "linux", reason="lists threads in /proc")
def test_no_thread_of_a_group_is_left_behind():
    parallel.run_group(group_work.leave, [()] * 2)


def test_all_stop_when_the_parent_dies(tmp_path):
    parent = multiprocessing.get_context("spawn").Process(target=group_work.start_waiting, args=(tmp_path,))
    parent.start()
    while len(list(tmp_path.iterdir())) < 2:
        time.sleep(0.1)
    parent.kill()
    parent.join()
    check_end(tmp_path, 5)


def train_apart(job, **place):
    """In a process of a group: the second process changes a weight on its own."""
    parallel.join_group(-1, **place)
    after_evaluation = loop.Training.after_evaluation

    def change(training, *arguments):
        [_, (_, shim)] = pipeline_state.own_shims(training.nlp)
        next(shim.module.parameters()).data.add_(parallel.rank())
        after_evaluation(training, *arguments)

    loop.Training.after_evaluation = change
    with pytest.raises(TrainingError, match=r"processes \[1\] and process 0 have different weights after step 0"):
        config = Config().from_str(job.config, interpolate=False)
        loop.Training(init_nlp(config), None, find_conditions(config)).run()


@pytest.mark.slow
def test_processes_that_drift_apart(make_job):
    parallel.run_group(train_apart, [(make_job("bilstm_crf", "x"),)] * 2)


@pytest.mark.slow
def test_torchrun(make_job, tmp_path):
    """The command joins the group of torchrun."""
    one, two = make_job("bilstm_crf", "one"), make_job("bilstm_crf", "two")
    command.run_job(one)
    config = tmp_path / "config.cfg"
    config.write_text(two.config, encoding="utf8")
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    subprocess.run([*start, "spacy", "ner-arch", "train", config, "--output", two.output], check=True)
    assert max(differences(one.output, two.output).values()) < 1e-5
    assert read_checkpoint(two.output / FILE).values["conditions"]["processes"] == 2
