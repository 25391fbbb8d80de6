"""Serving on a CPU: time of `nlp(text)` for single texts, and of `nlp.pipe`, for several pipelines in turn.

    OMP_NUM_THREADS=1 python benchmarks/latency.py CORPUS.spacy NAME=FOLDER NAME=FOLDER:bfloat16 ...

Times are CPU seconds. `:DTYPE` behind a folder sets the dtype of its transformer at load. The first pipeline is the
reference of the ratios. Each run adds one row for each pipeline to results/speed.jsonl.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable

import spacy
import torch
from rows import add_row
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.vocab import Vocab

ROUNDS = 5


def load(source: str) -> Language:
    """A pipeline from `FOLDER` or `FOLDER:DTYPE`."""
    folder, _, dtype = source.partition(":")
    return spacy.load(folder, config={"components.transformer.model.dtype": dtype} if dtype else {})


def cpu_seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("pipelines", nargs="+", metavar="NAME=FOLDER[:DTYPE]")
    parser.add_argument("--single", type=int, default=200, help="texts that are given one by one")
    parser.add_argument("--many", type=int, default=1000, help="documents for nlp.pipe")
    args = parser.parse_args()
    torch.set_num_threads(1)
    pipelines = {name: load(source) for name, _, source in (pair.partition("=") for pair in args.pipelines)}
    gold = list(DocBin().from_disk(args.corpus).get_docs(Vocab()))
    random.Random(0).shuffle(gold)
    texts = [doc.text for doc in gold[: args.single]]
    many = gold[: args.many]
    words = sum(map(len, many))

    single: dict[str, list[float]] = {name: [] for name in pipelines}
    batched: dict[str, list[float]] = {name: [] for name in pipelines}
    for _ in range(1 + ROUNDS):
        for name, nlp in pipelines.items():
            single[name].append(cpu_seconds(lambda nlp=nlp: [nlp(text) for text in texts]) / len(texts))
            docs = [Doc(nlp.vocab, [t.text for t in doc], [bool(t.whitespace_) for t in doc]) for doc in many]
            batched[name].append(cpu_seconds(lambda nlp=nlp, docs=docs: list(nlp.pipe(docs))))
    reference = next(iter(pipelines))
    for name in pipelines:
        one, other = single[name][1:], single[reference][1:]
        row = {
            "section": "latency",
            "pipeline": name,
            "ms": round(1000 * statistics.median(one), 2),
            "ms_range": [round(1000 * min(one), 2), round(1000 * max(one), 2)],
            "times_reference": round(statistics.median(a / b for a, b in zip(one, other, strict=True)), 2),
            "words_per_second": round(words / statistics.median(batched[name][1:])),
            "reference": reference,
            "tokens_per_text": round(sum(map(len, gold[: args.single])) / len(texts), 1),
        }
        add_row("speed", row)


if __name__ == "__main__":
    main()
