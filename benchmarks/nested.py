"""Nested entities on a small transformer

Micro F1 over spans, in percent, on GUM with nested mentions of ten types, after the same steps of about 32 sentences on
MiniLM, trained on the first 4,000 sentences, the model of the last step. `ours` is `configs/span_nested.cfg` with two
rates; `spancat` is spaCy's with spacy-transformers' own model and listener, candidates of the same widths, one rate,
the same batches, warm-up and decay. `tuned_test` is with the threshold that did best on the development part. The
corpus is `assets/gum_nested/{train,dev,test}.jsonl` (a sentence per line: tokens, and spans [start, end, type]).

    python benchmarks/nested.py [ours] [spancat]
"""

import json
import os
import sys
import time
from typing import Any

from rows import add_row, has_row
from spacy.util import load_config, set_dot_to_object
from transformer import ROOT, STOCK_LISTENER, STOCK_MODEL, TRANSFORMER_RATE, WARMUP, minilm, run, use_budget

CORPUS = ROOT / "corpus" / "gum_nested"
SENTENCES, STEPS = 4000, 900
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6)


def make_config(name: str) -> Any:
    """The config of a row."""
    config = load_config(ROOT / "configs" / "span_nested.cfg", interpolate=False)
    use_budget(config, "span_ner")
    settings = {
        "paths.train": str(CORPUS / "train.spacy"),
        "paths.dev": str(CORPUS / "dev.spacy"),
        "corpora.train.limit": SENTENCES,
        "training.max_steps": STEPS,
        "training.eval_frequency": STEPS,
    }
    for key, value in settings.items():
        set_dot_to_object(config, key, value)
    if name == "spancat":
        use_spancat(config)
    return config


def use_spancat(config: Any) -> None:
    """spaCy's component in the place of ours, over the transformer of spacy-transformers."""
    ours = config["components"].pop("span_ner")
    config["components"]["spancat"] = {
        "factory": "spancat",
        "spans_key": ours["spans_key"],
        "threshold": 0.5,
        "max_positive": None,
        "suggester": {"@misc": "spacy.ngram_range_suggester.v1", "min_size": 1, "max_size": ours["max_width"]},
        "model": {
            "@architectures": "spacy.SpanCategorizer.v1",
            "reducer": {"@layers": "spacy.mean_max_reducer.v1", "hidden_size": 128},
            "scorer": {"@layers": "spacy.LinearLogistic.v1", "nO": None, "nI": None},
            "tok2vec": STOCK_LISTENER,
        },
    }
    config["components"]["transformer"]["model"] = STOCK_MODEL
    config["nlp"]["pipeline"] = ["transformer", "spancat", "doc_cleaner"]
    config["training"]["before_update"] = None
    config["training"]["optimizer"]["learn_rate"] = {
        "@schedules": "warmup_linear.v1",
        "initial_rate": TRANSFORMER_RATE,
        "warmup_steps": WARMUP,
        "total_steps": "${training.max_steps}",
    }
    config["training"]["score_weights"] = {"spans_sc_f": 1.0}


def evaluate(folder: Any, part: str) -> float:
    run("evaluate", folder / "model-last", CORPUS / f"{part}.spacy", "--output", folder / "scores.json")
    return 100 * float(json.loads((folder / "scores.json").read_text(encoding="utf8"))["spans_sc_f"])


def tune_threshold(folder: Any, component: str) -> float:
    """Store the threshold that does best on the development part."""
    path = folder / "model-last" / component / "cfg"
    cfg = json.loads(path.read_text(encoding="utf8"))

    def score(threshold: float) -> float:
        path.write_text(json.dumps({**cfg, "threshold": threshold}), encoding="utf8")
        return evaluate(folder, "dev")

    best = max(THRESHOLDS, key=score)
    path.write_text(json.dumps({**cfg, "threshold": best}), encoding="utf8")
    return best


def main() -> None:
    minilm()
    if not (CORPUS / "train.spacy").exists():
        files = [f"assets/gum_nested/{part}.jsonl" for part in ("train", "dev", "test")]
        run("ner-arch", "convert", *files, CORPUS, "--format", "spans")
    for name, component in (("ours", "span_ner"), ("spancat", "spancat")):
        if (sys.argv[1:] and name not in sys.argv[1:]) or has_row("nested", model=name, seed=0):
            continue
        folder = ROOT / "training" / "benchmarks" / f"nested-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        make_config(name).to_disk(folder / "train.cfg")
        start = time.perf_counter()
        peak = run("train", folder / "train.cfg", "--output", folder, "--system.seed", 0)
        minutes = round((time.perf_counter() - start) / 60, 1)
        plain = {part: round(evaluate(folder, part), 2) for part in ("dev", "test")}
        tuned = {"threshold": tune_threshold(folder, component), "tuned_test": round(evaluate(folder, "test"), 2)}
        threads = int(os.environ.get("OMP_NUM_THREADS", "2"))
        add_row("nested", model=name, seed=0, **plain, **tuned, minutes=minutes, peak_memory_mib=peak, threads=threads)


if __name__ == "__main__":
    main()
