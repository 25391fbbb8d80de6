"""Speed of prediction: spans against a CRF

Words per second of whole pipelines, trained by `transformer.py` and `span_heads.py` on the same transformer, over the
test part of CoNLL-2003 (documents made of tokens): medians, pipelines in turn. `ratio` is to the CRF.

    python benchmarks/span_speed.py
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "2")

import statistics
import time

import spacy
from rows import add_row, has_row
from spacy.tokens import Doc
from transformer import CORPUS, FOLDER

from spacy_ner_arch.training.corpus import create_corpus

PIPELINES = {
    "transformer_crf": "transformer_crf-discriminative-0",
    "span, attention and length (SpanSynLSTM)": "span-SpanSynLSTM",
    "span, length twice (SpanNER)": "span-SpanNER",
}


def main() -> None:
    if has_row("span_speed"):
        return
    pipelines = {name: spacy.load(FOLDER / folder / "model-last") for name, folder in PIPELINES.items()}
    read = create_corpus(CORPUS / "test.spacy", limit=1000)
    words = [[token.text for token in eg.reference] for eg in read(spacy.blank("en"))]
    times: dict[str, list[float]] = {name: [] for name in pipelines}
    for _ in range(6):
        for name, nlp in pipelines.items():
            docs = [Doc(nlp.vocab, words=row) for row in words]
            start = time.perf_counter()
            for _ in nlp.pipe(docs):
                pass
            times[name].append(time.perf_counter() - start)
    total = sum(map(len, words))
    speeds = {name: total / statistics.median(values[1:]) for name, values in times.items()}
    for name, speed in speeds.items():
        threads = int(os.environ["OMP_NUM_THREADS"])
        ratio = round(speed / speeds["transformer_crf"], 2)
        add_row("span_speed", pipeline=name, words_per_s=round(speed), ratio=ratio, threads=threads)


if __name__ == "__main__":
    main()
