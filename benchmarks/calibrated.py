"""Calibration of the entities' probabilities

Expected calibration error on the CoNLL-2003 test part (15 bins of equal width) of the pipelines that `conll2003.py`
trained: as stored, with the temperature fitted on the development part, and with that temperature set back to 1. The
last columns are precision and recall, in percent, of the entities that are at least 90 % sure.

    python benchmarks/calibrated.py
"""

import numpy as np
import spacy
from conll2003 import CORPUS, ROOT
from rows import add_row, has_row
from spacy.training import Corpus, Example

from spacy_ner_arch.evaluation.report import calibration, threshold_curve


def predict(nlp: spacy.Language) -> list[Example]:
    examples = list(Corpus(CORPUS / "test.spacy")(nlp))
    for example, doc in zip(examples, nlp.pipe([eg.predicted for eg in examples]), strict=True):
        example.predicted = doc
    return examples


def main() -> None:
    for seed in (0, 1, 2):
        folder = ROOT / "training" / "benchmarks" / f"ours-{seed}" / "model-best"
        if has_row("calibrated", seed=seed) or not folder.exists():
            continue
        nlp = spacy.load(folder)
        temperature = nlp.get_pipe("sequence_ner").model.shims[0].module.temperature
        row = {"seed": seed, "temperature": round(float(temperature), 2)}
        examples = predict(nlp)
        curve = threshold_curve(examples)
        sure = int(np.searchsorted(curve.thresholds, 0.9))
        temperature.fill_(1.0)
        row["ece"] = round(calibration(examples).ece, 4)
        row["ece at temperature 1"] = round(calibration(predict(nlp)).ece, 4)
        row["precision of the sure"] = round(100 * float(curve.precision[sure]), 2)
        row["recall of the sure"] = round(100 * float(curve.recall[sure]), 2)
        add_row("calibrated", **row)


if __name__ == "__main__":
    main()
