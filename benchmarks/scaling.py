"""Measure the speed of training in several processes of one thread, against one process of one thread.

python benchmarks/scaling.py [--workers 2] [--rounds 3] [--size WORDS] [bilstm_crf transformer_crf]

The systems run in turn on the training part of CoNLL-2003, transformers with MiniLM. Initialization and evaluation are
not counted. A batch, which the processes share, has the size of the config unless --size gives another one. `ratio`
compares words per second. `side_by_side` is the same for trainings that know nothing of each other: cores that share
memory or arithmetic units give less than their number, and `ratio` can hardly be higher. The highest load of the
machine before a run is in the row: beside other work, `ratio` says little, and `cpu_ratio` compares words per second of
the CPU time of one process, without waits.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from rows import add_row, in_new_process
from run import ROOT, convert, link_minilm
from spacy.training.initialize import init_nlp
from spacy.util import load_config

from spacy_ner_arch.training import parallel
from spacy_ner_arch.training.conditions import find_conditions
from spacy_ner_arch.training.loop import Training

# Updates of a run, and those at its beginning that are not counted.
STEPS, WARM_UP = {"bilstm_crf": 200, "transformer_crf": 30}, 5


def train(name: str, file: str, size: int | None, **place: Any) -> None:
    """Train in one process of a group, or alone; write words per second into a file, and words per second of CPU time.

    The CPU time is that of the process that needs most.
    """
    torch.set_num_threads(1)
    if place:
        parallel.join_group(-1, **place)
    corpus = ROOT / "corpus" / "conll2003"
    settings = {
        "paths.train": str(corpus / "train.spacy"),
        "paths.dev": str(corpus / "dev.spacy"),
        "paths.encoder": str(ROOT / "training" / "minilm") if name.startswith("transformer") else None,
        "corpora.dev.limit": 10,
        "training.max_steps": STEPS[name],
        "training.eval_frequency": STEPS[name] * 2,
    }
    path = ROOT / "configs" / f"{name}.cfg"
    if size is not None:
        batcher = load_config(path)["training"]["batcher"]
        # Otherwise the buffer limits the batch.
        buffer = round(batcher["buffer"] * max(1.0, size / batcher["size"]))
        settings |= {"training.batcher.size": size, "training.batcher.buffer": buffer}
    config = load_config(path, settings, interpolate=False)
    training = Training(init_nlp(config), None, find_conditions(config))
    draws: list[tuple[float, float, int]] = []
    draw = training.shares

    def timed_draw() -> Iterator[Any]:
        before = time.perf_counter(), time.process_time(), 0
        for share in draw():
            draws.append(before)
            yield share
            before = time.perf_counter(), time.process_time(), training.batches.words

    training.shares = timed_draw  # type: ignore[method-assign]  # times the drawing of this object only
    with open(os.devnull, "w") as nothing:
        training.run(nothing, nothing)
    seconds, cpu, words = (last - first for first, last in zip(draws[WARM_UP], draws[-1], strict=True))
    cpu = max(parallel.gather(cpu))
    if not parallel.rank():
        Path(file).write_text(json.dumps([words / seconds, words / cpu]), encoding="utf8")


def train_alone(name: str, file: str, size: int | None, **place: Any) -> None:
    """The training of one process, beside others."""
    train(name, file, size)


def words_per_second(name: str, workers: int, size: int | None, work: Callable[..., None] = train) -> list[float]:
    """By the clock, and by CPU time. `train_alone` as `work`: the sums over the processes."""
    with tempfile.TemporaryDirectory() as folder:
        files = [f"{folder}/speed{number}.json" for number in range(workers)]
        if workers == 1:
            in_new_process(train, name, files[0], size)
        else:
            parallel.run_group(work, [(name, file, size) for file in files])
        found = [json.loads(Path(file).read_text(encoding="utf8")) for file in files if Path(file).exists()]
        return [sum(speeds) for speeds in zip(*found, strict=True)]


def median_ratio(speeds: Sequence[float], reference: Sequence[float]) -> float:
    """Median over the rounds of how many times as fast as the reference a system is."""
    return round(statistics.median(a / b for a, b in zip(speeds, reference, strict=True)), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(STEPS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int)
    options = parser.parse_args()
    convert("conll2003")
    link_minilm()
    for name in options.names:
        systems = (1, train), (options.workers, train), (options.workers, train_alone)
        speeds: list[list[list[float]]] = [[] for _ in systems]
        loads = []
        for _ in range(options.rounds):
            for (workers, work), found in zip(systems, speeds, strict=True):
                loads.append(os.getloadavg()[0])
                found.append(words_per_second(name, workers, options.size, work))
        (one, one_by_cpu), (several, several_by_cpu), (apart, _) = (zip(*found, strict=True) for found in speeds)
        row = {
            "section": "scaling",
            "corpus": "conll2003",
            "model": name,
            "workers": options.workers,
            "batch": options.size or load_config(ROOT / "configs" / f"{name}.cfg")["training"]["batcher"]["size"],
            "words_per_second_1": round(statistics.median(one)),
            "words_per_second": round(statistics.median(several)),
            "ratio": median_ratio(several, one),
            "side_by_side": median_ratio(apart, one),
            "cpu_ratio": median_ratio(several_by_cpu, one_by_cpu),
            "load": round(max(loads), 1),
        }
        add_row("speed", row)


if __name__ == "__main__":
    main()
