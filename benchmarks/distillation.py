"""Measure what a student without a transformer learns from a teacher, and how a pipeline learns a new label.

    python benchmarks/distillation.py [student] [new_label] [--gold 1000] [--raw 18000] [--labels LOC] [--steps 3000]
        [--vectors]

`student`: bilstm_crf on CoNLL-2003 learns from gold sentences and from raw text. The teachers, on MiniLM, were trained
on the same gold sentences, with the seeds of `--teachers`. The raw text are all training sentences, without their
labels, and the sentences of WNUT-17, UNER English-EWT and GUM; each teacher annotates them. Without teachers, the
student learns from the gold sentences alone.

`new_label`: a bilstm_crf that was trained without one of the labels of CoNLL-2003 learns it from 500 held-out sentences
that mark only it, by the recipe of docs/new_label.md: first from these (`new_texts`), then also from the old sentences
(`all_texts`). `plain` trains on the 500 as if they marked all. The row has the F1 of the new label, the mean F1 of the
old ones, what the old label that suffers most has lost, and the F1 of the new label with all its annotation. With
`--vectors` it is a bilstm_crf with GloVe vectors.

Rows go to results/distillation.jsonl. Corpora and MiniLM: see run.py.
"""

import argparse
import random
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import spacy
from rows import add_row, has_row, in_new_process
from run import ROOT, Machine, command, convert, convert_glove, folder_of, make_config, percent, score, train
from runs import CONLL_MINILM, RATES, RUNS, Run, linear, on_minilm
from spacy.tokens import Doc, DocBin
from spacy.training import Corpus
from spacy.vocab import Vocab
from thinc.api import Config

from spacy_ner_arch.training.calibration import calibrate

CORPUS = ROOT / "corpus" / "conll2003"
FOLDER = ROOT / "corpus" / "distillation"
MODELS = ROOT / "training" / "benchmarks" / "distillation"
STUDENT = RUNS["conll2003/bilstm_crf"]
WITH_VECTORS = RUNS["conll2003/bilstm_crf-glove"]
ALL = 14_041
# Teacher by the number of gold sentences.
TEACHERS = {
    ALL: Run("conll2003/transformer_crf", None, "transformer_crf", CONLL_MINILM),
    1000: Run(
        "conll2003/transformer_crf-few",
        None,
        "transformer_crf",
        {"corpora.train.limit": 1000, **on_minilm(320, 32, RATES)},
    ),
}
ALL_RAW = 1_000_000
# Other corpora whose texts are raw text.
TEXTS = ("wnut17", "uner_en_ewt", "gum_nested")
LABELS = ("LOC", "MISC", "ORG", "PER")
NEW_SENTENCES = 500
# Steps of the second training of the recipe for a new label.
ON_ALL_TEXTS = 1500
# Settings of students instead of those of the config; the dropout is that of students of teachers.
STUDENT_RATE, STUDENT_WARMUP, STUDENT_ROWS = 0.002, 200, 60_000
STUDENT_DROPOUT = 0.35


def read_docs(path: Path) -> list[Doc]:
    return list(DocBin().from_disk(path).get_docs(Vocab()))


def write_docs(docs: Iterable[Doc], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    DocBin(docs=docs).to_disk(path)
    return path


def words_only(docs: Iterable[Doc]) -> list[Doc]:
    """Without annotation. As the spaces are not known, spaCy's reader keeps the words."""
    return [Doc(doc.vocab, words=[token.text for token in doc]) for doc in docs]


def annotate(model: Path, source: Path, output: Path, gold_labels: str) -> None:
    shutil.rmtree(output, ignore_errors=True)
    options = ["--soft", "--gold-labels", gold_labels, "--to", "spacy"]
    command("ner-arch", "annotate", model, source, output, *options)


def train_config(config: Config, folder: Path) -> Path:
    """Train, unless it is done. Returns the folder."""
    if not (folder / "finished").exists():
        folder.mkdir(parents=True, exist_ok=True)
        config.to_disk(folder / "train.cfg")
        command("train", folder / "train.cfg", "--output", folder, log=folder / "train.log")
        (folder / "finished").touch()
    return folder


def label_scores(model: Path, part: str) -> dict[str, Any]:
    """Scores of a pipeline on a part of CoNLL-2003, all labels together and each."""
    Machine().use()
    nlp = spacy.load(model)
    found = score([nlp], list(Corpus(CORPUS / f"{part}.spacy")(nlp)))
    return {"ents": percent(found["ents_f"]), **{k: percent(v["f"]) for k, v in found["ents_per_type"].items()}}


# A student


def make_teacher(gold: int, seed: int, machine: Machine) -> Path:
    """A calibrated teacher that was trained on the first gold sentences."""
    run, folder = TEACHERS[gold], MODELS / f"teacher-{gold}-{seed}"
    if not folder.exists():
        train(run, seed, machine)
        nlp = spacy.load(folder_of(run.name, seed, machine) / run.result)
        calibrate(CORPUS / "dev.spacy", 1000, nlp)
        folder.parent.mkdir(parents=True, exist_ok=True)
        nlp.to_disk(folder)
    return folder


def make_mixture(gold: int, most_raw: int, teachers: dict[int, Path]) -> Path:
    """Folder of gold sentences, and of raw sentences that each teacher has annotated."""
    folder = FOLDER / "-".join(map(str, (gold, most_raw, *teachers)))
    if not (folder / "gold.spacy").exists():
        docs = read_docs(CORPUS / "train.spacy")
        raw = words_only(docs)
        for corpus in TEXTS:
            convert(corpus)
            raw += words_only(read_docs(ROOT / "corpus" / corpus / "train.spacy"))
        source = write_docs(raw[:most_raw], FOLDER / "raw" / f"{folder.name}.spacy")
        for seed, teacher in teachers.items():
            annotate(teacher, source, folder / f"raw-{seed}", "")
        write_docs(docs[:gold], folder / "gold.spacy")
    return folder


def student_config(seed: int, steps: int) -> Config:
    config = make_config(STUDENT, seed)
    config["training"].update({"max_steps": steps, "eval_frequency": steps // 10})
    config["training"]["optimizer"]["learn_rate"] = linear(STUDENT_RATE, STUDENT_WARMUP, steps)
    config["components"]["sequence_ner"]["model"]["tok2vec"]["word_rows"] = STUDENT_ROWS
    return config


def taught_by_gold(gold: int, steps: int, seed: int) -> Path:
    """Folder of a student that knows the gold sentences alone."""
    config = student_config(seed, steps)
    config["corpora"]["train"]["limit"] = gold
    return train_config(config, MODELS / f"alone-{gold}-{steps}-{seed}")


def taught(mixture: Path, steps: int, seed: int) -> Path:
    """Folder of a student of teachers."""
    config = student_config(seed, steps)
    config["paths"]["train"] = str(mixture)
    config["training"]["dropout"] = STUDENT_DROPOUT
    return train_config(config, MODELS / f"student-{mixture.name}-{steps}-{seed}")


def student(gold: int, most_raw: int, seeds: Sequence[int], seed: int, steps: int, machine: Machine) -> None:
    teachers = {each: make_teacher(gold, each, machine) for each in seeds}
    mixture = make_mixture(gold, most_raw, teachers) if teachers else None
    raw = sum(len(DocBin().from_disk(path)) for path in mixture.rglob("part-*.spacy")) // len(seeds) if mixture else 0
    keys = {"section": "student", "gold": gold, "raw": raw, "teachers": len(teachers), "steps": steps, "seed": seed}
    if has_row("distillation", **keys):
        return
    row: dict[str, Any] = dict(keys)
    if teachers:
        scores = [in_new_process(label_scores, each, "test")["ents"] for each in teachers.values()]
        row["teacher_test"] = round(sum(scores) / len(scores), 2)
    folder = taught(mixture, steps, seed) if mixture else taught_by_gold(gold, steps, seed)
    for part in ("dev", "test"):
        row[part] = in_new_process(label_scores, folder / "model-best", part)["ents"]
    add_row("distillation", row)


# A new label


def keep_labels(docs: Iterable[Doc], labels: Sequence[str]) -> list[Doc]:
    """The documents with entities of these labels alone; the others are marked as outside."""
    docs = list(docs)
    for doc in docs:
        doc.set_ents([ent for ent in doc.ents if ent.label_ in labels], default="outside")
    return docs


def recipe(run: Run, old: Path, label: str, train_path: Path, dev: Path) -> Config:
    """The config of docs/new_label.md."""
    page = (ROOT / "docs" / "new_label.md").read_text(encoding="utf8")
    (block,) = re.findall(r"```ini\n(.*?)```", page, re.DOTALL)
    config = Config().from_str(block, interpolate=False)
    config["paths"].update({"old": str(old), "train": str(train_path), "dev": str(dev)})
    config["initialize"]["before_init"]["labels"] = {"sequence_ner": [label]}
    if run is WITH_VECTORS:
        config["initialize"]["vectors"] = "${paths.old}"
    return config


def new_label(run: Run, label: str, seed: int, steps: int) -> None:
    keys = {"section": "new_label", "model": run.model, "label": label, "steps": steps, "seed": seed}
    if has_row("distillation", **keys):
        return
    others = [other for other in LABELS if other != label]
    folder = FOLDER / f"new-{run.model}-{label}-{seed}"
    docs = read_docs(CORPUS / "train.spacy")
    random.Random(seed).shuffle(docs)
    new, rest = docs[:NEW_SENTENCES], docs[NEW_SENTENCES:]
    new_path = write_docs(keep_labels(new, [label]), folder / "new.spacy")
    rest_path = write_docs(keep_labels(rest, others), folder / "old.spacy")
    dev = write_docs(keep_labels(read_docs(CORPUS / "dev.spacy"), others), folder / "old_dev.spacy")

    config = make_config(run, seed)
    config["paths"].update({"train": str(rest_path), "dev": str(dev)})
    config["training"].update({"max_steps": steps, "eval_frequency": steps // 4})
    old = train_config(config, MODELS / f"old-{run.model}-{label}-{steps}-{seed}") / "model-best"
    soft = folder / "soft"
    annotate(old, new_path, soft / "new", label)

    def fit(name: str, source: Path, train_path: Path, **settings: int) -> Path:
        config = recipe(run, source, label, train_path, soft / "new")
        config["training"].update(settings)
        return train_config(config, MODELS / f"{name}-{run.model}-{label}-{steps}-{seed}") / "model-last"

    models = {"plain": fit("plain", old, new_path), "new_texts": fit("new_texts", old, soft / "new")}
    annotate(models["new_texts"], rest_path, soft / "old", ",".join(others))
    models["all_texts"] = fit("all_texts", models["new_texts"], soft, max_steps=ON_ALL_TEXTS)

    before = in_new_process(label_scores, old, "test")
    train(run, seed, Machine())
    full = in_new_process(label_scores, folder_of(run.name, seed) / run.result, "test")
    row: dict[str, Any] = {**keys, "new_full": full[label], "old_before": mean(before, others)}
    for name, model in models.items():
        found = in_new_process(label_scores, model, "test")
        row |= {f"new_{name}": found[label], f"old_{name}": mean(found, others)}
        row[f"largest_loss_{name}"] = round(max(before[each] - found[each] for each in others), 2)
    add_row("distillation", row)


def mean(scores: dict[str, Any], labels: Sequence[str]) -> float:
    """Mean F1 of some labels."""
    return round(sum(scores[label] for label in labels) / len(labels), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modes", nargs="*", metavar="MODE", choices=[[], "student", "new_label"], help="default: both")
    parser.add_argument("--gold", type=int, nargs="*", default=list(TEACHERS), choices=TEACHERS)
    parser.add_argument("--raw", type=int, default=ALL_RAW, help="most raw sentences")
    parser.add_argument("--teachers", type=int, nargs="*", default=[0], help="their seeds; empty for none")
    parser.add_argument("--labels", nargs="*", default=LABELS, choices=LABELS)
    parser.add_argument("--vectors", action="store_true", help="new_label: with GloVe vectors")
    parser.add_argument(
        "--steps", type=int, default=3000, help="updates of bilstm_crf; new_full always has those of its config"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", default="float32", help="of the training of the teacher")
    options = parser.parse_args()
    convert("conll2003")
    if options.vectors:
        convert_glove()
    modes = options.modes or ("student", "new_label")
    for gold in options.gold if "student" in modes else ():
        student(gold, options.raw, options.teachers, options.seed, options.steps, Machine(options.dtype))
    for label in options.labels if "new_label" in modes else ():
        new_label(WITH_VECTORS if options.vectors else STUDENT, label, options.seed, options.steps)


if __name__ == "__main__":
    main()
