"""Speed of one pipeline for entities and relations

Words per second of `nlp.pipe` over the words of CoNLL04's test part, without sentence boundaries: of one pipeline whose
two components share a transformer, and of the same two in two pipelines with a transformer each, the documents of one
going through the other. They are the models `1:1` and `apart` of joint.py. Systems in turn; median over the rounds.
`ratio` is to the two pipelines in the same round.

    python benchmarks/joint_speed.py
"""

import os
import statistics
import time

os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "2")

import torch
from joint import PARTS, gold, load, predict, work_folder
from rows import add_row
from spacy.tokens import Doc

THREADS = int(os.environ["OMP_NUM_THREADS"])
ROUNDS = 5


def main() -> None:
    torch.set_num_threads(THREADS)
    systems = {
        "two pipelines": load([work_folder("apart", part, 0) for part in PARTS]),
        "one pipeline": load([work_folder("1:1", "", 0)]),
    }
    words = [[token.text for token in eg.reference] for eg in gold(systems["one pipeline"][0], "test")]
    times: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(ROUNDS + 1):  # the first does not count
        for name, pipelines in systems.items():
            docs = [Doc(pipelines[0].vocab, words=sentence) for sentence in words]
            start = time.perf_counter()
            predict(pipelines, docs)
            times[name].append(time.perf_counter() - start)
    for name in systems:
        spent, reference = times[name][1:], times["two pipelines"][1:]
        rate = round(sum(map(len, words)) / statistics.median(spent))
        ratio = round(statistics.median(b / a for a, b in zip(spent, reference, strict=True)), 2)
        add_row("joint_speed", system=name, words_per_s=rate, ratio=ratio, threads=THREADS)


if __name__ == "__main__":
    main()
