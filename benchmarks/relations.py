"""Relations between gold entities

F1, in percent, of the shipped configs with the steps, batches and rates given in this script, the model of the last
step; one seed. `semeval`: SemEval-2010 task 8, the official macro F1 over nine relations, direction counted, and micro
F1 beside it, with `direction = "labels"`; a tenth of the training part is the development part. `conll04`: micro F1
over all relations. Models with a transformer have MiniLM (see below); the others are trained from scratch. `tutorial`
is the model of spaCy's tutorial (mean vectors, sigmoid, squared error) over the same transformer with the same rates
and steps; `sentences` is `relation_softmax.cfg` with `context = "sentences"`. `end to end` has no gold entities (but
gold sentences): those of `configs/transformer_crf.cfg`, trained on the same sentences; `strict` with types. The corpora
are those of `python -m spacy project run train-relations` and `train-semeval`.

    python benchmarks/relations.py [CORPUS/MODEL...]
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import spacy
import tutorial_relations  # noqa: F401 - registers it
from rows import add_row, has_row
from spacy.tokens import Doc, Span
from spacy.util import load_config, set_dot_to_object
from transformer import FOLDER, ROOT, minilm, run

from spacy_ner_arch.training.corpus import create_corpus

CLASSIC = ("relation_bilstm", "relation_bilstm_att", "relation_acnn")
SENTENCES = "relation_softmax, sentences"
SOFTMAX = ("relation_softmax", SENTENCES, "relation_multitask")
RUNS = {
    "semeval": (*CLASSIC, *SOFTMAX, "relation_markers"),
    "conll04": (*CLASSIC, *SOFTMAX, "tutorial", "transformer_crf"),
}
# Rates of the transformer and of what is new; steps.
TRANSFORMER_RATE, HEAD_RATE = 1e-4, 1e-3
STEPS = {"semeval": 1800, "conll04": 800}
CLASSIC_STEPS = {"semeval": 2400, "conll04": 1500}


def make_config(corpus: str, model: str) -> Any:
    name = "relation_softmax" if model in ("tutorial", SENTENCES) else model
    config = load_config(ROOT / "configs" / f"{name}.cfg", interpolate=False)
    classic = model in CLASSIC
    steps = (CLASSIC_STEPS if classic else STEPS)[corpus]
    settings: dict[str, Any] = {
        "paths.encoder": None if classic else "training/minilm",
        "paths.train": f"corpus/{corpus}/train.spacy",
        "paths.dev": f"corpus/{corpus}/dev.spacy",
        "training.max_steps": steps,
        "training.eval_frequency": steps,
        "training.before_to_disk": None,
    }
    component = "sequence_ner" if model == "transformer_crf" else "relation_extractor"
    if corpus == "semeval":
        settings["components.relation_extractor.direction"] = "labels"
    if model == SENTENCES:
        settings["components.relation_extractor.model.context"] = "sentences"
    if model == "tutorial":
        listener = config["components"]["relation_extractor"]["model"]["tok2vec"]
        config["components"]["relation_extractor"]["model"] = {
            "@architectures": "tutorial_relations.v1",
            "tok2vec": listener,
        }
        config["components"]["relation_extractor"]["multi_label"] = True
    if not classic:
        # About 16 sentences.
        settings["training.batcher.size"] = 330 if corpus == "semeval" else 500
        groups = config["training"]["before_update"]["stages"]["all"]["groups"]
        for name, group in groups.items():
            rate = TRANSFORMER_RATE if name == "transformer" else HEAD_RATE
            group["learn_rate"].update({"initial_rate": rate, "warmup_steps": steps // 10})
    for key, value in settings.items():
        set_dot_to_object(config, key, value)
    assert component in config["components"]
    return config


def trained(corpus: str, model: str) -> Path:
    return FOLDER / f"{corpus}-{model}".replace(", ", "-")


def scores(folder: Path, corpus: str, part: str) -> dict[str, float]:
    nlp = spacy.load(folder / "model-last")
    read = create_corpus(ROOT / "corpus" / corpus / f"{part}.spacy", copy=["ents", "sents"])
    found = nlp.evaluate(list(read(nlp)))
    names = {
        "f1": "rel_macro_f" if corpus == "semeval" else "rel_micro_f",
        "micro": "rel_micro_f",
        "macro": "rel_macro_f",
    }
    return {f"{part}_{name}": round(100 * found[key], 2) for name, key in names.items()}


def end_to_end(entities: Path, relations: Path) -> dict[str, float]:
    """Strict F1 of relations between the entities that another pipeline finds."""
    finder, nlp = spacy.load(entities / "model-last"), spacy.load(relations / "model-last")
    examples = list(create_corpus(ROOT / "corpus" / "conll04" / "test.spacy", copy=["sents"])(nlp))
    words = [[token.text for token in example.predicted] for example in examples]
    found = list(finder.pipe(Doc(finder.vocab, words=row) for row in words))
    for example, doc in zip(examples, found, strict=True):
        ents = [Span(example.predicted, ent.start, ent.end, ent.label_) for ent in doc.ents]
        example.predicted.set_ents(ents, default="outside")
    result = {**nlp.evaluate(examples), **spacy.scorer.get_ner_prf(examples)}
    names = {"entities": "ents_f", "test_micro": "rel_micro_f", "test_strict": "rel_strict_f"}
    return {name: round(100 * result[key], 2) for name, key in names.items()}


def main() -> None:
    minilm()
    threads = int(os.environ.get("OMP_NUM_THREADS", "2"))
    for corpus, models in RUNS.items():
        for model in models:
            folder = trained(corpus, model)
            if (sys.argv[1:] and f"{corpus}/{model}" not in sys.argv[1:]) or (
                has_row("relations", corpus=corpus, model=model) or (folder / "entities.json").exists()
            ):
                continue
            folder.mkdir(parents=True, exist_ok=True)
            make_config(corpus, model).to_disk(folder / "train.cfg")
            start = time.perf_counter()
            code = ["--code", "benchmarks/tutorial_relations.py"] if model == "tutorial" else []
            peak = run("train", folder / "train.cfg", "--output", folder, "--system.seed", 0, *code)
            figures = {
                "minutes": round((time.perf_counter() - start) / 60, 1),
                "peak_memory_mib": peak,
                "threads": threads,
            }
            if model == "transformer_crf":
                (folder / "entities.json").write_text(json.dumps(figures), encoding="utf8")
            else:
                found = {**scores(folder, corpus, "dev"), **scores(folder, corpus, "test")}
                add_row("relations", corpus=corpus, model=model, seed=0, **found, **figures)
    ner = trained("conll04", "transformer_crf")
    for model in (*SOFTMAX, "tutorial"):
        name = f"transformer_crf, {model}, end to end"
        folder = trained("conll04", model)
        finished = (ner / "entities.json").exists() and has_row("relations", corpus="conll04", model=model)
        if finished and not has_row("relations", model=name):
            add_row("relations", corpus="conll04", model=name, seed=0, **end_to_end(ner, folder), threads=threads)


if __name__ == "__main__":
    main()
