"""Measure the speed of prediction of trained pipelines: words per second of `nlp.pipe` over a test part.

    python benchmarks/pipelines.py [SECTION...] [--threads 2]

Train the pipelines first: they are runs of run.py, with seed 0.
"""

import argparse
import statistics
from functools import partial

import torch
from rows import add_row, has_row, in_new_process, median_ratio, peak_memory_mib, times_in_turn
from run import Machine, folder_of, load, read
from runs import RUNS
from spacy.language import Language
from spacy.tokens import Doc

ROUNDS = 5
# Section: systems. A system is the names of the runs whose pipelines process the documents one after the other. Ratios
# are to the first system.
SYSTEMS: dict[str, list[tuple[str, ...]]] = {
    "prediction": [("conll2003/spacy_ner",), ("conll2003/bilstm_crf",)],
    "prediction_spans": [("conll2003/transformer_crf",), ("conll2003/span-SpanSynLSTM",), ("conll2003/span-SpanNER",)],
    "prediction_joint": [("conll04/entities", "conll04/relations"), ("conll04/joint-1:1",)],
}


def read_words(name: str, nlp: Language) -> list[list[str]]:
    return [[token.text for token in eg.reference] for eg in read(RUNS[name], nlp, "test")]


def predict(pipelines: list[Language], words: list[list[str]]) -> None:
    docs = [Doc(pipelines[0].vocab, words=sentence) for sentence in words]
    for nlp in pipelines:
        docs = list(nlp.pipe(docs))


def peak_memory(system: tuple[str, ...], threads: int) -> int:
    """MiB of a process that loads a system and predicts."""
    Machine(threads=threads).use()
    pipelines = load(system, seed=0)
    predict(pipelines, read_words(system[0], pipelines[0]))
    return peak_memory_mib()


def measure(section: str, threads: int) -> None:
    torch.set_num_threads(threads)
    systems = {system: load(system, seed=0) for system in SYSTEMS[section]}
    words = read_words(SYSTEMS[section][0][0], systems[SYSTEMS[section][0]][0])
    runs = {" + ".join(system): partial(predict, pipelines, words) for system, pipelines in systems.items()}
    times = times_in_turn(runs, ROUNDS)
    reference = next(iter(times.values()))
    for system, name in zip(systems, times, strict=True):
        folders = [folder_of(part, 0) / RUNS[part].result for part in system]
        size = sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())
        row = {
            "section": section,
            "system": name,
            "words_per_s": round(sum(map(len, words)) / statistics.median(times[name])),
            "ratio": median_ratio(times[name], reference),
            "peak_memory_mib": in_new_process(peak_memory, system, threads),
            "model_mib": round(size / 2**20, 1),
            "threads": threads,
        }
        add_row("speed", row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", choices=[[], *SYSTEMS], help="all if none is given")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    for section in options.sections or SYSTEMS:
        if not has_row("speed", section=section):
            measure(section, options.threads)


if __name__ == "__main__":
    main()
