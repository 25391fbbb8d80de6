"""Expected calibration error of relations and spans, before and after calibration on the development part.

    python benchmarks/calibration.py [--seeds 0 1 2]

Trains what is missing of the runs of MEASURED. Relations are also measured between gold entities, where a relation is
not wrong because of an entity. CoNLL-2003 has rows of its own, see run.py.
`ece_by_chance` is what perfect probabilities would have, the mean over outcomes that are drawn from those found.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rows import add_row, has_row
from run import ROOT, Machine, load, score, train
from runs import FOLDS, RUNS
from spacy.training import Example

from spacy_ner_arch.cli.pipelines import setters
from spacy_ner_arch.evaluation.items import Sides, entity_items, match_all, relation_items
from spacy_ner_arch.evaluation.measures import Probabilities, calibration, probabilities
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
    *(("conll04/joint-learned", *measured) for measured in JOINT),
    ("semeval/relation_softmax", "relations, gold entities", "relation_extractor", relation_items, ["ents", "sents"]),
    ("conll2003/span-few", "spans", "span_ner", entity_items, []),
)
# The folds of a corpus, whose test parts are measured together.
CROSS_VALIDATED = tuple(run for run in RUNS if run.split("/")[0] in FOLDS)


def found_in(nlp: Any, corpus: str, items: Items, copied: list[str]) -> Probabilities:
    """Probabilities of what a pipeline finds in the test part."""
    examples = list(create_corpus(ROOT / "corpus" / corpus / "test.spacy", copy=copied)(nlp))
    with nlp.select_pipes(disable=setters(nlp, copied)):
        score([nlp], examples)
    return probabilities(match_all(map(items, examples)))


def errors(found: Probabilities) -> tuple[float, float]:
    """Expected calibration error, and the mean of that of perfect probabilities, by chance."""
    draws = np.random.default_rng(0).random((DRAWS, len(found.scores))) < found.scores
    by_chance = np.mean([calibration(found._replace(right=right)).ece for right in draws])
    return round(calibration(found).ece, 4), round(float(by_chance), 4)


def measure(names: Sequence[str], seed: int, component: str, items: Items, copied: list[str]) -> dict[str, float]:
    """Figures of a row: of the test parts of the runs together. Trains what is missing."""
    before, after, temperatures = [], [], []
    for name in names:
        run = RUNS[name]
        train(run, seed, MACHINE)
        (nlp,) = load((name,), seed, MACHINE)
        before.append(found_in(nlp, run.corpus, items, copied))
        nlp.config["corpora"]["dev"]["path"] = str(ROOT / "corpus" / run.corpus / "dev.spacy")
        calibrate(None, 0, nlp)
        pipe: Any = nlp.get_pipe(component)
        temperatures.append(float(pipe.head.temperature))
        after.append(found_in(nlp, run.corpus, items, copied))
    ece, by_chance = errors(together(after))
    at_1, _ = errors(together(before))
    return {
        "temperature": round(float(np.mean(temperatures)), 2),
        "ece": ece,
        "ece_by_chance": by_chance,
        "ece_at_1": at_1,
    }


def together(parts: Sequence[Probabilities]) -> Probabilities:
    scores, right, gold, unscored = zip(*parts, strict=True)
    return Probabilities(np.concatenate(scores), np.concatenate(right), sum(gold), sum(unscored))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    MACHINE.use()
    rows = [((name,), RUNS[name].corpus, *measured) for name, *measured in MEASURED]
    rows += [(CROSS_VALIDATED, "conll04, all by cross-validation", *measured) for measured in JOINT]
    for seed in parser.parse_args().seeds:
        for names, corpus, what, component, items, copied in rows:
            keys = {"section": "calibration", "corpus": corpus, "model": f"{RUNS[names[0]].model}, {what}"}
            keys |= {"seed": seed, **MACHINE.row()}
            if (names == ("conll2003/span-few",) and seed) or has_row("accuracy", **keys):
                continue
            add_row("accuracy", {**keys, **measure(names, seed, component, items, copied)})


if __name__ == "__main__":
    main()
