"""Simulate annotation in rounds: `ner-arch select` against random texts and the least confident ones.

    python benchmarks/selection.py [METHOD...] [--repetition 0] [--rounds 5]

The first 100 sentences of the CoNLL-2003 training part are random. In each round a pipeline is trained on the sentences
so far, and 100 more are chosen from 3,000 others, with their gold annotation. Rows go to results/review.jsonl. `random`
takes any, `least confidence` those with the least mean probability of the best tag of a token.
"""

import argparse
import random
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from probabilities import tag_probabilities
from rows import add_row, has_row
from run import ROOT, Machine, convert, percent
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Corpus
from spacy.training.initialize import init_nlp
from spacy.training.loop import train
from spacy.util import load_config, load_model
from spacy.vocab import Vocab

from spacy_ner_arch.cli.unlabelled import MEASURES, judge_texts
from spacy_ner_arch.evaluation.selection import candidates, choose_texts, text_vectors
from spacy_ner_arch.formats import write_docbin

CORPUS = ROOT / "corpus" / "conll2003"
POOL, SIZE, STEPS = 3000, 100, 150
# Sentences of the development part that calibrate the pipelines.
HELD_OUT = 200


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


def train_on(docs: Sequence[Doc], seed: int, folder: Path) -> Language:
    write_docbin(docs, folder / "train.spacy")
    settings = {
        "paths.train": str(folder / "train.spacy"),
        "paths.dev": str(CORPUS / "dev.spacy"),
        "corpora.dev.limit": HELD_OUT,
        "training.max_steps": STEPS,
        "training.eval_frequency": STEPS,
        "system.seed": seed,
    }
    output = folder / "pipeline"
    output.mkdir(exist_ok=True)
    train(init_nlp(load_config(ROOT / "configs" / "bilstm_crf.cfg", settings)), output)
    return load_model(output / "model-last")


def simulate(name: str, repetition: int, rounds: int) -> None:
    convert("conll2003")
    docs = list(DocBin().from_disk(CORPUS / "train.spacy").get_docs(Vocab()))
    # All methods begin with the same sentences.
    rng = random.Random(repetition)
    chosen = rng.sample(range(len(docs)), POOL + SIZE)
    marked, pool = chosen[:SIZE], chosen[SIZE:]
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            nlp = train_on([docs[i] for i in marked], repetition, Path(folder))
            scores = nlp.evaluate(list(Corpus(CORPUS / "test.spacy")(nlp)))
            row = {"section": "selection", "method": name, "repetition": repetition, "sentences": len(marked)}
            row |= {"tokens": sum(len(docs[i]) for i in marked), "test_ents": percent(scores["ents_f"])}
            if not has_row("review", **{key: row[key] for key in ("section", "method", "repetition", "sentences")}):
                add_row("review", row)
            left = sorted(set(pool) - set(marked))
            words = [Doc(nlp.vocab, words=[token.text for token in docs[i]]) for i in left]
            marked += [left[i] for i in METHODS[name](nlp, words, rng)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", metavar="METHOD", choices=[[], *METHODS], help="all if none is given")
    parser.add_argument("--repetition", type=int, default=0, help="seed of the sentences and of training")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    Machine().use()
    for name in options.methods or METHODS:
        if not has_row(
            "review", section="selection", method=name, repetition=options.repetition, sentences=SIZE * options.rounds
        ):
            simulate(name, options.repetition, options.rounds)


if __name__ == "__main__":
    main()
