"""Expected calibration error of relations and spans, before and after calibration on the development part.

    python benchmarks/calibration.py [--seeds 0 1 2]

Trains what is missing of the runs of MEASURED. Relations are also measured between gold entities, where a relation is
not wrong because of an entity. CoNLL-2003 has rows of its own, see run.py.
`ece_by_chance` is what perfect probabilities would have, the mean over outcomes that are drawn from those found.
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from rows import add_row, has_row
from run import ROOT, Machine, load, score, train
from runs import RUNS
from spacy.training import Example

from spacy_ner_arch.cli.pipelines import setters
from spacy_ner_arch.evaluation.items import Sides, entity_items, match_all, relation_items
from spacy_ner_arch.evaluation.measures import calibration, probabilities
from spacy_ner_arch.training.calibration import calibrate
from spacy_ner_arch.training.corpus import create_corpus

MACHINE = Machine("bfloat16")
# Corpora of outcomes that are drawn from the probabilities.
DRAWS = 200
Items = Callable[[Example], Sides]
# What is measured, its component and its items, and gold annotation that is copied; with the run in front.
JOINT: tuple[tuple[str, str, Items, list[str]], ...] = (
    ("entities", "sequence_ner", entity_items, ["sents"]),
    ("relations", "relation_extractor", relation_items, ["sents"]),
    ("relations, gold entities", "relation_extractor", relation_items, ["ents", "sents"]),
)
MEASURED: tuple[tuple[str, str, str, Items, list[str]], ...] = (
    *(("conll04/joint-learned-rdrop-long", *measured) for measured in JOINT),
    ("semeval/relation_softmax", "relations, gold entities", "relation_extractor", relation_items, ["ents", "sents"]),
    ("conll2003/span-few", "spans", "span_ner", entity_items, []),
)


def measure(nlp: Any, corpus: str, items: Items, copied: list[str]) -> tuple[float, float]:
    """Expected calibration error on the test part, and the mean of that of perfect probabilities, by chance."""
    examples = list(create_corpus(ROOT / "corpus" / corpus / "test.spacy", copy=copied)(nlp))
    with nlp.select_pipes(disable=setters(nlp, copied)):
        score([nlp], examples)
    found = probabilities(match_all(map(items, examples)))
    draws = np.random.default_rng(0).random((DRAWS, len(found.scores))) < found.scores
    by_chance = np.mean([calibration(found._replace(right=right)).ece for right in draws])
    return round(calibration(found).ece, 4), round(float(by_chance), 4)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    MACHINE.use()
    for seed in parser.parse_args().seeds:
        for name, what, component, items, copied in MEASURED:
            run = RUNS[name]
            keys = {"section": "calibration", "corpus": run.corpus, "model": f"{name.split('/')[1]}, {what}"}
            keys |= {"seed": seed, **MACHINE.row()}
            if (name == "conll2003/span-few" and seed) or has_row("accuracy", **keys):
                continue
            train(run, seed, MACHINE)
            (nlp,) = load((run.name,), seed, MACHINE)
            before, _ = measure(nlp, run.corpus, items, copied)
            nlp.config["corpora"]["dev"]["path"] = str(ROOT / "corpus" / run.corpus / "dev.spacy")
            calibrate(None, 0, nlp)
            pipe: Any = nlp.get_pipe(component)
            temperature = round(float(pipe.head.temperature), 2)
            after, by_chance = measure(nlp, run.corpus, items, copied)
            add_row(
                "accuracy",
                {**keys, "temperature": temperature, "ece": after, "ece_by_chance": by_chance, "ece_at_1": before},
            )


if __name__ == "__main__":
    main()
