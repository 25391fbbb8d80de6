"""Relations of each pair by itself against entities and relations chosen together, on CoNLL04.

    python benchmarks/joint_decoding.py [--dtype bfloat16] [--seeds 0 1 2]

Trains what is missing of the runs conll04/joint-learned-rdrop-long. Both components are calibrated on the development
part, and type pairs are those of each label in the training part.
"""

import argparse
from pathlib import Path
from typing import Any

from rows import add_row, has_row
from run import ROOT, SCORES, Machine, load, percent, read, score, train
from runs import RUNS

from spacy_ner_arch.training.calibration import calibrate
from spacy_ner_arch.training.corpus import create_corpus

CORPUS = ROOT / "corpus" / "conll04"
RUN = RUNS["conll04/joint-learned-rdrop-long"]
ALTERNATIVES = 0.1


def learn_type_pairs(nlp: Any, path: Path) -> dict[str, list[list[str]]]:
    """Types of head and tail of each label."""
    pairs: dict[str, set[tuple[str, str]]] = {}
    for example in create_corpus(path)(nlp):
        for head, tail, label, _ in example.reference._.relations:
            pairs.setdefault(label, set()).add((head.label_, tail.label_))
    return {label: [list(pair) for pair in sorted(found)] for label, found in pairs.items()}


def measure(seed: int, machine: Machine) -> None:
    train(RUN, seed, machine)
    (nlp,) = load((RUN.name,), seed, machine)
    tagger: Any = nlp.get_pipe("sequence_ner")
    extractor: Any = nlp.get_pipe("relation_extractor")
    nlp.config["corpora"]["dev"]["path"] = str(CORPUS / "dev.spacy")
    calibrate(None, 0, nlp)
    by_label = learn_type_pairs(nlp, CORPUS / "train.spacy")
    for model, type_pairs, decode, alternatives in (
        ("each pair", None, "pairs", None),
        ("each pair, types by label", by_label, "pairs", None),
        ("together, types by label", by_label, "graph", ALTERNATIVES),
    ):
        keys = {"section": "joint_decoding", "corpus": "conll04", "model": model, "seed": seed, **machine.row()}
        if has_row("accuracy", **keys):
            continue
        extractor.cfg["type_pairs"], extractor.decode = type_pairs, decode
        tagger.cfg["alternatives"] = alternatives
        figures = {}
        for part in ("dev", "test"):
            found = score([nlp], read(RUN, nlp, part))
            figures |= {f"{part}_{name}": percent(found[SCORES[name]]) for name in ("ents", "strict")}
        add_row("accuracy", {**keys, **figures})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    machine = Machine(arguments.dtype)
    machine.use()
    for seed in arguments.seeds:
        measure(seed, machine)


if __name__ == "__main__":
    main()
