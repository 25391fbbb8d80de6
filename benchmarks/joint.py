"""Entities and relations in one training

CoNLL04 with MiniLM (see below), in percent: F1 of the entities (both borders and type) and of the relations between the
entities that were found, over all gold relations (`boundary` labels and borders, `strict` types too). Trained on the
training part, and the model of the step with the best mean of entity F1 and strict relation F1 on the development part.
Weights are those of the entities' and of the relations' loss, with TransE that of the third. They weigh sums over
sentences and over pairs, of which there are nine for each relation, where the published ones weigh means; only their
ratio matters to Adam. `learned` as in `LearnedWeight.v1`; its rows were measured when the unit of a loss was its first
value, and not the mean of its first ten. `apart` are the same two components in two pipelines with a transformer each,
each chosen by its own score; `half the steps` so that both together take as many as the joint one; `apart, learned`
with a learned weight in each, which is then no balance but a rate that rises as the loss falls. `joint_bilstm` has no
transformer. Documents have their gold sentences.

    python benchmarks/joint.py [MODEL/SEED...]
"""

import os
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import spacy
import srsly
import torch
from rows import add_row, has_row
from spacy.language import Language
from spacy.scorer import get_ner_prf
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import load_config, set_dot_to_object
from transformer import FOLDER, ROOT, minilm, run

from spacy_ner_arch.training.corpus import create_corpus

ENTITIES, RELATIONS = "sequence_ner", "relation_extractor"
LEARNED = {"@misc": "spacy_ner_arch.LearnedWeight.v1"}
# Of the entities' loss and of the relations' loss.
WEIGHTS: dict[str, tuple[Any, Any]] = {
    "1:1": (1.0, 1.0),
    "1:5": (1.0, 5.0),
    "1:8": (1.0, 8.0),
    "1:10": (1.0, 10.0),
    "1:15": (1.0, 15.0),
    "0.1:0.89:0.01, TransE": (0.1, 0.89),
    "learned": (LEARNED, LEARNED),
}
BEST = "learned"
RUNS = [("1:1", 0), ("apart", 0), *((name, 0) for name in WEIGHTS if name != "1:1")]
RUNS += [(name, seed) for seed in (1, 2) for name in dict.fromkeys(("1:1", BEST))]
RUNS += [("apart, learned", 0), ("apart, half the steps", 0), ("joint_bilstm", 0)]
STEPS, BILSTM_STEPS, EVALUATIONS = 1000, 2000, 10
TRANSFORMER_RATE, HEAD_RATE = 1e-4, 1e-3
# About 16 sentences.
BATCH = 500
# The component that each of the two pipelines apart keeps.
PARTS = {"entities": ENTITIES, "relations": RELATIONS}


def make_config(model: str, part: str) -> Any:
    transformer = model != "joint_bilstm"
    name = "joint_transe" if model.endswith("TransE") else "joint" if transformer else model
    config = load_config(ROOT / "configs" / f"{name}.cfg", interpolate=False)
    steps = STEPS if transformer else BILSTM_STEPS
    steps = steps // 2 if model.endswith("half the steps") else steps
    settings: dict[str, Any] = {
        "paths.train": "corpus/conll04/train.spacy",
        "paths.dev": "corpus/conll04/dev.spacy",
        "training.max_steps": steps,
        "training.eval_frequency": steps // EVALUATIONS,
        "training.before_to_disk": None,
        "training.batcher.size": BATCH,
    }
    if transformer:
        settings["paths.encoder"] = "training/minilm"
        groups = config["training"]["before_update"]["stages"]["all"]["groups"]
        for group, values in groups.items():
            rate = TRANSFORMER_RATE if group == "transformer" else HEAD_RATE
            values["learn_rate"].update({"initial_rate": rate, "warmup_steps": steps // 10})
    weights = WEIGHTS.get(model.removeprefix("apart, "), WEIGHTS["1:1"])
    for component, weight in zip((ENTITIES, RELATIONS), weights, strict=True):
        config["components"][component]["loss_weight"] = weight
    if model.endswith("TransE"):
        # Within the loss of the relations, which the weight above multiplies.
        settings[f"components.{RELATIONS}.model.transe_weight"] = 0.01 / 0.89
    if part:
        (other,) = {ENTITIES, RELATIONS} - {PARTS[part]}
        del config["components"][other]
        del config["training"]["before_update"]["stages"]["all"]["groups"][other]
        config["nlp"]["pipeline"].remove(other)
        score = "ents_f" if part == "entities" else "rel_strict_f"
        others = dict.fromkeys(config["training"]["score_weights"])
        settings["training.score_weights"] = {**others, score: 1.0}
        if part == "relations":
            settings["corpora.dev.copy"] = ["ents", "sents"]
    for key, value in settings.items():
        set_dot_to_object(config, key, value)
    return config


def load(folders: list[Path]) -> list[Language]:
    """The pipelines of some folders, which share a vocabulary: documents go through one after the other."""
    pipelines: list[Language] = []
    for folder in folders:
        vocab = pipelines[0].vocab if pipelines else True
        pipelines.append(spacy.load(folder / "model-best", vocab=vocab))
    return pipelines


def predict(pipelines: list[Language], docs: Iterable[Doc]) -> list[Doc]:
    for nlp in pipelines:
        docs = nlp.pipe(docs)
    return list(docs)


def gold(nlp: Language, part: str) -> list[Example]:
    return list(create_corpus(ROOT / "corpus" / "conll04" / f"{part}.spacy", copy=["sents"])(nlp))


def scores(pipelines: list[Language], part: str) -> dict[str, float]:
    examples = gold(pipelines[0], part)
    found = predict(pipelines, [example.predicted for example in examples])
    examples = [Example(doc, example.reference) for doc, example in zip(found, examples, strict=True)]
    result = {**pipelines[-1].get_pipe(RELATIONS).score(examples), **get_ner_prf(examples)}
    names = {"ents": "ents_f", "boundary": "rel_micro_f", "strict": "rel_strict_f"}
    return {f"{part}_{name}": round(100 * result[key], 2) for name, key in names.items()}


def last_weights(folder: Path) -> str:
    """Of the entities' and of the relations' loss, in the last update."""
    log = (folder / "train.log").read_text(encoding="utf8")
    found = [re.findall(rf"{name}_weight ([\d.e-]+)", log) for name in (ENTITIES, RELATIONS)]
    return ":".join(weights[-1] for weights in found)


def work_folder(model: str, part: str, seed: int) -> Path:
    return FOLDER / f"joint-{model}-{part}-{seed}".replace(":", "-").replace(", ", "-")


def train(model: str, seed: int) -> list[Path]:
    folders = []
    for part in PARTS if model.startswith("apart") else ("",):
        folder = work_folder(model, part, seed)
        folders.append(folder)
        # A model on disk alone proves nothing: training writes one at its very start.
        if (folder / "minutes.json").exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        make_config(model, part).to_disk(folder / "train.cfg")
        start = time.perf_counter()
        run("train", folder / "train.cfg", "--output", folder, "--system.seed", seed, log=folder / "train.log")
        srsly.write_json(folder / "minutes.json", (time.perf_counter() - start) / 60)
    return folders


def main() -> None:
    minilm()
    threads = int(os.environ.get("OMP_NUM_THREADS", "2"))
    torch.set_num_threads(threads)
    for model, seed in RUNS:
        if (sys.argv[1:] and f"{model}/{seed}" not in sys.argv[1:]) or has_row("joint", model=model, seed=seed):
            continue
        folders = train(model, seed)
        minutes = round(sum(srsly.read_json(folder / "minutes.json") for folder in folders), 1)
        pipelines = load(folders)
        found = {**scores(pipelines, "dev"), **scores(pipelines, "test")}
        weights = last_weights(folders[0]) if model == "learned" else ""
        where = {"last_weights": weights, "minutes": minutes, "threads": threads}
        add_row("joint", model=model, seed=seed, **found, **where)


if __name__ == "__main__":
    main()
