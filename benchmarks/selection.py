"""Simulate annotation in rounds: `ner-arch select` against random texts and the least confident ones.

    python benchmarks/selection.py [METHOD...] [--corpus conll2003] [--seed 0] [--rounds 50]

The first 100 sentences are random. In each round the pipeline learns from the sentences so far, and 100 more are chosen
from 5,000 sentences of the training part, with their gold annotation. `random` takes any, `least confidence` those with
the least mean probability of the best tag of a token. A simulation ends when the F1 on the test part is 90 % of that of
the run in CORPORA, which learned from the whole training part. Each is one row in results/review.jsonl.

A pipeline goes on from the weights of the round before, so that a simulation takes minutes.
"""

import argparse
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from statistics import mean
from typing import Any

import numpy as np
from probabilities import tag_probabilities
from rows import add_row, has_row, read_rows
from run import ROOT, Machine, convert, convert_glove, make_config, percent
from runs import RUNS
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Corpus, Example
from spacy.training.batchers import minibatch_by_padded_size
from spacy.training.initialize import init_nlp

from spacy_ner_arch.cli.select_texts import MEASURES, judge_texts
from spacy_ner_arch.evaluation.selection import candidates, choose_texts, text_vectors
from spacy_ner_arch.training.calibration import calibrate

# The run whose config is used, and whose F1 is that of the whole training part.
CORPORA = {
    "conll2003": "conll2003/bilstm_crf-glove",
    "wnut17": "wnut17/bilstm_crf-glove",
    "cluener": "cluener/bilstm_crf",
}
POOL, SIZE = 5000, 100
# Sentences of the development part that calibrate the pipelines.
HELD_OUT = 200
# Updates in the first round, and in each other one.
FIRST, STEPS = 150, 50
ENOUGH = 0.9


def at_random(nlp: Language, docs: Sequence[Doc], rng: random.Random) -> list[int]:
    return rng.sample(range(len(docs)), SIZE)


def least_confidence(nlp: Language, docs: Sequence[Doc], rng: random.Random) -> list[int]:
    probabilities = tag_probabilities(nlp.get_pipe("sequence_ner"), docs)
    confidence = np.array([row.max(1).mean() for row in probabilities])
    return np.argsort(confidence, kind="stable")[:SIZE].tolist()


def by_command(by: str, nlp: Language, docs: Sequence[Doc], rng: random.Random) -> list[int]:
    """What the command chooses, but on the tokens of the corpus, and also sentences that occur several times."""
    records = ((doc, {"text": f"{number}: {doc.text}", "number": number}) for number, doc in enumerate(docs))
    texts = judge_texts(nlp, nlp.get_pipe("sequence_ner"), records, by)
    pool = candidates(texts.uncertainty, SIZE)
    vectors = text_vectors([docs[texts.records[i]["number"]] for i in pool])
    places = choose_texts(texts.uncertainty[pool], vectors, None, SIZE)
    return [texts.records[pool[place]]["number"] for place in places]


METHODS: dict[str, Callable[[Language, Sequence[Doc], random.Random], list[int]]] = {
    "random": at_random,
    "least confidence": least_confidence,
    **{f"select --by {by}": partial(by_command, by) for by in MEASURES},
}


def batches(examples: list[Example], rng: random.Random) -> Iterator[list[Example]]:
    """Batches of the configs, without end."""
    while True:
        rng.shuffle(examples)
        yield from minibatch_by_padded_size(examples, size=1000, buffer=256)


def full_score(run: str) -> float:
    """Mean F1 on the test part of the pipelines that learned from the whole training part."""
    corpus, model = run.split("/")
    rows = [row for row in read_rows("accuracy") if (row["corpus"], row["model"]) == (corpus, model)]
    if not rows:
        raise SystemExit(f"first run: python benchmarks/run.py '{run}/*'")
    return mean(row["test_ents"] for row in rows)


def simulate(method: str, corpus: str, seed: int, rounds: int) -> dict[str, Any]:
    """The figures of a row: the sentences and tokens that were enough, or None, and the F1 of each round."""
    run = RUNS[CORPORA[corpus]]
    convert(corpus)
    config = make_config(run, seed)
    if config["paths"]["vectors"]:
        convert_glove()
    nlp = init_nlp(config)
    drop = config["training"]["dropout"]
    optimizer = nlp.resume_training()
    folder = ROOT / "corpus" / corpus
    train, test = (list(Corpus(folder / f"{part}.spacy")(nlp)) for part in ("train", "test"))
    full = full_score(run.name)
    # All methods begin with the same sentences.
    rng = random.Random(seed)
    chosen = rng.sample(range(len(train)), min(POOL + SIZE, len(train)))
    marked, pool = chosen[:SIZE], chosen[SIZE:]
    curve: list[float] = []
    for number in range(rounds):
        for batch in islice(batches([train[i] for i in marked], rng), STEPS if number else FIRST):
            nlp.update(batch, drop=drop, sgd=optimizer)
            optimizer.step_schedules()
        with nlp.use_params(optimizer.averages):
            calibrate(None, HELD_OUT, nlp)
            curve.append(percent(nlp.evaluate(test)["ents_f"]))
            if curve[-1] >= ENOUGH * full:
                tokens = sum(len(train[i].reference) for i in marked)
                return {"full_ents": full, "sentences": len(marked), "tokens": tokens, "curve": curve}
            left = sorted(set(pool) - set(marked))
            words = [Doc(nlp.vocab, words=[token.text for token in train[i].reference]) for i in left]
            marked += [left[i] for i in METHODS[method](nlp, words, rng)]
    return {"full_ents": full, "sentences": None, "tokens": None, "curve": curve}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", metavar="METHOD", choices=[[], *METHODS], help="all if none is given")
    parser.add_argument("--corpus", choices=list(CORPORA), default="conll2003")
    parser.add_argument("--seed", type=int, default=0, help="of the first sentences and of training")
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    Machine().use()
    for method in options.methods or METHODS:
        key = {"section": "selection", "corpus": options.corpus, "method": method, "seed": options.seed}
        if not has_row("review", **key):
            add_row("review", {**key, **simulate(method, options.corpus, options.seed, options.rounds)})


if __name__ == "__main__":
    main()
