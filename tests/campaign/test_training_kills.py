"""Kills of a training at random moments, also while it saves: it goes on to exactly the same end."""

import contextlib
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
import spacy
from conftest import RELATIONS, TRAIN, make_examples, set_relations
from group_work import train_in_pair, train_quietly
from spacy.tokens import DocBin
from test_configs import CONFIGS, small_config

from campaign.rows import add_row
from spacy_ner_arch.cli.train import TrainingJob
from spacy_ner_arch.formats.files import LOCK
from spacy_ner_arch.training.checkpoint import FILE, read_checkpoint

SEED = 0
# By config.
KILLS = {"bilstm_crf": 50, "transformer_bilstm_crf": 20, "joint": 20}
KILLS_OF_GROUPS = 4
SETTINGS = {
    "training.dropout": 0.2,
    "training.max_steps": 30,
    "training.eval_frequency": 2,
    "training.batcher.size": 40,
    "training.before_update.stages.new_layers.steps": 20,
    "training.before_update.stages.all.steps": 20,
    "components.*.unknown_rate": 1.0,
}
# A new process is a fork of one that has imported everything.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["spacy_ner_arch.cli.train", "spacy_ner_arch.training.loop", "spacy_ner_arch.pipes.relation_extractor"]
    + [f"spacy_ner_arch.architectures.{name}" for name in ("embeddings", "encoders", "ner", "relations", "transformer")]
)


@pytest.fixture(scope="module")
def make_job(tmp_path_factory, tiny_transformers):
    corpus = tmp_path_factory.mktemp("corpus") / "train.spacy"
    docs = [eg.reference for eg in make_examples(spacy.blank("en"), TRAIN * 4)]
    set_relations(docs, RELATIONS * 4)
    DocBin(docs=docs, store_user_data=True).to_disk(corpus)

    def make(name: str, output: Path) -> TrainingJob:
        path = next(path for path in CONFIGS if path.stem == name)
        config = small_config(path, corpus, tiny_transformers["bert"], **SETTINGS)
        return TrainingJob(path, config.to_str(), {}, output, None, False, -1, True, False, None)

    return make


def finish(work, job: TrainingJob) -> float:
    """Train to the end in a new process; seconds that this took."""
    start = time.monotonic()
    process = FORKS.Process(target=work, args=(job,))
    process.start()
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - start


def kill(work, job: TrainingJob, after: float, saving: float | None, chance: random.Random) -> bool:
    """Train in a new process that is killed after some seconds; whether it was not finished before.

    saving: wait until something is being saved, and so many seconds more.
    """
    process = FORKS.Process(target=work, args=(job,))
    process.start()
    process.join(after)
    while saving is not None and process.exitcode is None and not list(job.output.glob(".*.tmp")):
        time.sleep(0.0005)
    time.sleep(saving or 0.0)
    pids = [process.pid, *children(process.pid)]
    if process.exitcode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(pids), signal.SIGKILL)
    process.join()
    end = time.monotonic() + 10
    while any(Path("/proc", str(pid)).exists() for pid in pids):
        assert time.monotonic() < end, "a process of the group goes on"
        time.sleep(0.01)
    return process.exitcode != 0


def children(pid: int) -> list[int]:
    """Processes of the group that a process has started."""
    with contextlib.suppress(FileNotFoundError):
        found = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return [child for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return []


def state(folder: Path) -> dict[str, object]:
    """Everything that a training has stored and that decides how it goes on. Raises if a part cannot be loaded."""
    found: dict[str, object] = {}
    if (folder / FILE).exists():
        values, tensors = read_checkpoint(folder / FILE)
        found["values"] = {**values, "seconds": None}  # the time that it took differs
        found["tensors"] = {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
    for name in ("model-best", "model-last"):
        if (folder / name).exists():
            spacy.load(folder / name)
            paths = [path for path in (folder / name).rglob("*") if path.is_file()]
            found[name] = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
    return found


def check_kills(make_job, tmp_path, name: str, work, kills: int, row: str) -> int:
    """Kill many trainings, some of them twice, and let them go on; how many kills left something half saved."""
    whole = make_job(name, tmp_path / "whole")
    finish(work, whole)  # the first one also starts the server
    duration = finish(work, make_job(name, tmp_path / "again"))
    expected = state(whole.output)
    assert state(tmp_path / "again") == expected and len(expected) == 4
    expected_names = {FILE, LOCK, "model-best", "model-last"}
    chance = random.Random(SEED)
    done, while_saving, wrong, stored = 0, 0, [], set()
    while done < kills:
        job = make_job(name, tmp_path / f"{name} {done}")
        for _ in range(chance.choice([1, 1, 2])):
            saving = chance.choice([None, chance.uniform(0.0, 0.02)])
            if kill(work, job, duration * chance.uniform(0.0, 0.9), saving, chance):
                done += 1
                while_saving += any(job.output.glob(".*.tmp"))
            try:
                found = state(job.output)
            except Exception as error:
                wrong.append(f"kill {done}: {error}")
            stored.add((len(found), "values" in found and found["values"]["step"]))
        finish(work, job)
        if state(job.output) != expected:
            wrong.append(f"kill {done}: another end")
        if left := [path.name for path in job.output.iterdir() if path.name not in expected_names]:
            wrong.append(f"kill {done}: {left} is left")
    print(f"{done} kills, {while_saving} of them while something was saved, with {len(stored)} different results")
    add_row(row, done, len(wrong))
    assert not wrong and len(stored) > 1
    return while_saving


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", KILLS)
def test_one_process(make_job, tmp_path, name):
    assert check_kills(make_job, tmp_path, name, train_quietly, KILLS[name], f"kills of training {name}")


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_two_processes(make_job, tmp_path):
    """One of the two, or the one that started them."""
    check_kills(make_job, tmp_path, "bilstm_crf", train_in_pair, KILLS_OF_GROUPS, "kills of training in two processes")
