"""CoNLL-2003 with a span head

Entity F1, in percent, of `configs/span.cfg` with the features of both published systems, on the transformer, corpus and
steps of transformer.py (the model of the last step): attention and the length's embedding (SpanSynLSTM), or
the length's embedding twice, once through ReLU (SpanNER). All gold entities count, also those longer than `max_width`.
`exact`: the likeliest set of spans that do not overlap; `greedy`: by falling probability. Rows with more than a name
change what they say.

    python benchmarks/span_heads.py [NAME...]
"""

import json
import os
import sys
import time
from typing import Any

from rows import add_row, has_row
from spacy.util import load_config
from spans import FEATURES
from transformer import CORPUS, FOLDER, ROOT, minilm, run, use_budget

# Name of the row: features, what is changed in the model, rate of the head.
RUNS: dict[str, tuple[str, dict[str, float], float]] = {
    "SpanSynLSTM": ("SpanSynLSTM", {}, 2e-3),
    "SpanNER": ("SpanNER", {}, 2e-3),
    "SpanNER, rate of the head 1e-3": ("SpanNER", {}, 1e-3),
    "SpanNER, rate of the head 1e-3, boundary smoothing 0.1": ("SpanNER", {"boundary_smoothing": 0.1}, 1e-3),
}


def make_config(name: str) -> Any:
    config = load_config(ROOT / "configs" / "span.cfg", interpolate=False)
    features, settings, rate = RUNS[name]
    config["components"]["span_ner"]["model"].update({**FEATURES[features], **settings})
    use_budget(config, "span_ner", rate)
    return config


def evaluate(folder: Any, part: str, decode: str) -> float:
    """Entity F1 of the trained pipeline with a way of decoding."""
    path = folder / "model-last" / "span_ner" / "cfg"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf8")), "decode": decode}), encoding="utf8")
    run("ner-arch", "evaluate", folder / "model-last", CORPUS / f"{part}.spacy", "-o", folder / "scores.json")
    return round(100 * float(json.loads((folder / "scores.json").read_text(encoding="utf8"))["ents_f"]), 2)


def main() -> None:
    minilm()
    for features in RUNS:
        if (sys.argv[1:] and features not in sys.argv[1:]) or has_row("span_heads", features=features, seed=0):
            continue
        folder = FOLDER / f"span-{features}".replace(" ", "-").replace(",", "")
        folder.mkdir(parents=True, exist_ok=True)
        make_config(features).to_disk(folder / "train.cfg")
        start = time.perf_counter()
        peak = run("train", folder / "train.cfg", "--output", folder, "--system.seed", 0)
        minutes = round((time.perf_counter() - start) / 60, 1)
        scores = {
            f"{part}_{decode}": evaluate(folder, part, decode)
            for decode in ("greedy", "exact")
            for part in ("dev", "test")
        }
        threads = int(os.environ.get("OMP_NUM_THREADS", "2"))
        add_row(
            "span_heads", features=features, seed=0, **scores, minutes=minutes, peak_memory_mib=peak, threads=threads
        )


if __name__ == "__main__":
    main()
