"""What a dependency tree is worth

Entity F1, in percent, without pretrained weights, of the model that scored best on the development part. All
encoders stand between `WordCharEmbed.v1` and a CRF (or span classifier) and have the same number of parameters within
5 %, that of a Syn-LSTM with edge labels and 100 wide states. `gold` trees are given in training and testing;
`predicted` ones come from a parser that was trained on the same sentences before, in training and testing too;
`shuffled`, the control, are gold trees whose tokens have been exchanged. UNER English-EWT with spaCy's tokens, and UNER
Chinese-GSDSimp with the words of the corpus, as
`assets/CORPUS/*-{train,dev,test}.conllu`.

    python benchmarks/syn_lstm.py [CORPUS/TREES/MODEL/SEED...]
"""

import os
import sys
import time
from functools import cache, partial
from pathlib import Path
from typing import Any

import spacy
from conll2003 import run
from rows import add_row, has_row
from shuffled_trees import create_shuffler
from spacy.scorer import get_ner_prf
from spacy.util import load_config, set_dot_to_object
from torch import nn

from spacy_ner_arch.nn.lstm import BiLSTM
from spacy_ner_arch.nn.syn_lstm import SynLSTMEncoder
from spacy_ner_arch.training.corpus import create_corpus

ROOT = Path(__file__).parent.parent
# Folder below assets/, language, and what stands before the name of a part.
CORPORA = {"uner_en_ewt": ("en", "en_ewt-uner-"), "uner_zh_gsdsimp": ("zh", "zh_gsdsimp-uner-")}
HIDDEN, STEPS = 100, 2500
MODELS: dict[str, dict[str, Any]] = {
    "BiLSTM": {},
    "Syn-LSTM": {"edge_labels": "none", "dep_size": 0},
    "Syn-LSTM, labels as bias": {"edge_labels": "bias", "dep_size": 50},
    "Syn-LSTM, labels as gate": {"edge_labels": "gate", "dep_size": 50},
    "Syn-LSTM, labels as bias, span": {"edge_labels": "bias", "dep_size": 50},
}
BEST = "Syn-LSTM, labels as bias"
RUNS = [("uner_en_ewt", "gold", model, seed) for seed in range(3) for model in ("BiLSTM", "Syn-LSTM", BEST)]
RUNS += [("uner_en_ewt", "shuffled", BEST, seed) for seed in range(3)]
RUNS += [("uner_en_ewt", "predicted", model, seed) for seed in range(3) for model in ("Syn-LSTM", BEST)]
RUNS += [("uner_en_ewt", "gold", model, 0) for model in MODELS if (model, 0) not in {(m, s) for _, _, m, s in RUNS}]
RUNS += [("uner_zh_gsdsimp", "gold", model, 0) for model in ("BiLSTM", BEST)]


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@cache
def hidden_sizes(width: int) -> dict[str, int]:
    """The state's width with which each encoder has as many parameters as the one that the rest is measured by."""
    build = {
        name: partial(SynLSTMEncoder, width, **settings) if settings else partial(BiLSTM, width)
        for name, settings in MODELS.items()
    }
    wanted = parameters(build[BEST](hidden_size=HIDDEN))
    sizes = range(20, 600, 2)
    found = {}
    for name, make in build.items():
        off = {size: abs(parameters(make(hidden_size=size)) / wanted - 1) for size in sizes}
        found[name] = min(off, key=off.__getitem__)
        assert off[found[name]] < 0.05, name
    return found


def make_config(corpus: str, trees: str, model: str) -> Any:
    head = "synlstm_span" if model.endswith("span") else "synlstm_crf"
    config = load_config(ROOT / "configs" / f"{head}.cfg", interpolate=False)
    component = "span_ner" if model.endswith("span") else "sequence_ner"
    if trees == "predicted":
        config["components"]["parser"] = {
            "source": str(parser_folder(corpus) / "model-best"),
            "replace_listeners": ["model.tok2vec"],
        }
        config["training"]["frozen_components"] = ["parser"]
    else:
        del config["components"]["parser"]
        config["nlp"]["pipeline"] = [component]
        config["training"]["annotating_components"] = []
        for part in ("train", "dev"):
            path = f"${{paths.{part}}}"
            reader = {"@readers": "spacy_ner_arch.Corpus.v1", "path": path, "copy": ["heads"]}
            reader["gold_preproc"] = gold_tokens(corpus)
            if trees == "shuffled":
                reader["augmenter"] = {"@augmenters": "shuffled_trees.v1"}
            config["corpora"][part] = reader
    block = config["components"][component]["model"]
    tok2vec = spacy.util.registry.resolve({"tok2vec": block["tok2vec"]})["tok2vec"]
    some = spacy.blank(CORPORA[corpus][0])("a word")
    tok2vec.initialize(X=[some])
    width = tok2vec.predict([some])[0].shape[1]
    hidden = hidden_sizes(width)[model]
    if MODELS[model]:
        block["encoder"].update({**MODELS[model], "hidden_size": hidden})
    else:
        block["encoder"] = {"@architectures": "spacy_ner_arch.BiLSTM.v1", "hidden_size": hidden}
    settings = {
        "nlp.lang": CORPORA[corpus][0],
        "nlp.tokenizer": spacy.blank(CORPORA[corpus][0]).config["nlp"]["tokenizer"],
        "paths.train": f"corpus/{corpus}/train.spacy",
        "paths.dev": f"corpus/{corpus}/dev.spacy",
        "training.max_steps": STEPS,
        "training.eval_frequency": STEPS // 10,
        "training.before_to_disk": None,
        "training.score_weights": {"ents_f": 1.0},
    }
    for key, value in settings.items():
        set_dot_to_object(config, key, value)
    return config


def gold_tokens(corpus: str) -> bool:
    """Whether the pipeline gets the words of the corpus: spaCy's Chinese tokenizer cuts texts into characters, with
    which hardly any of its arcs align."""
    return CORPORA[corpus][0] == "zh"


def parser_folder(corpus: str) -> Path:
    return ROOT / "training" / "benchmarks" / f"{corpus}-parser"


def train_parser(corpus: str) -> None:
    folder = parser_folder(corpus)
    # A model on disk alone proves nothing: training writes one at its very start.
    if (folder / "finished").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    lang = CORPORA[corpus][0]
    run("init", "config", folder / "parser.cfg", "--pipeline", "parser", "--optimize", "efficiency", "--lang", lang)
    paths = [f"--paths.{part}={ROOT}/corpus/{corpus}/{part}.spacy" for part in ("train", "dev")]
    run("train", folder / "parser.cfg", "--output", folder, "--training.max_steps=3000", *paths)
    (folder / "finished").touch()


def score(folder: Path, corpus: str, trees: str, part: str) -> float:
    nlp = spacy.load(folder / "model-best")
    path = ROOT / "corpus" / corpus / f"{part}.spacy"
    read = create_corpus(
        path,
        copy=[] if trees == "predicted" else ["heads"],
        gold_preproc=gold_tokens(corpus),
        augmenter=create_shuffler() if trees == "shuffled" else None,
    )
    examples = list(read(nlp))
    for example, doc in zip(examples, nlp.pipe(example.predicted for example in examples), strict=True):
        example.predicted = doc
    return round(100 * get_ner_prf(examples)["ents_f"], 2)


def main() -> None:
    threads = int(os.environ.get("OMP_NUM_THREADS", "2"))
    for corpus, trees, model, seed in RUNS:
        if sys.argv[1:] and f"{corpus}/{trees}/{model}/{seed}" not in sys.argv[1:]:
            continue
        if has_row("syn_lstm", corpus=corpus, trees=trees, model=model, seed=seed):
            continue
        for part in ("train", "dev", "test"):
            if not (ROOT / "corpus" / corpus / f"{part}.spacy").exists():
                source = f"assets/{corpus}/{CORPORA[corpus][1]}{part}.conllu"
                target = ROOT / "corpus" / corpus
                run("ner-arch", "convert", source, target, "--format", "conllu", "--name", part)
        if trees == "predicted":
            train_parser(corpus)
        name = f"{corpus}-{trees}-{model}-{seed}".replace(" ", "-").replace(",", "")
        folder = ROOT / "training" / "benchmarks" / name
        folder.mkdir(parents=True, exist_ok=True)
        make_config(corpus, trees, model).to_disk(folder / "train.cfg")
        start = time.perf_counter()
        code = ["--code", ROOT / "benchmarks" / "shuffled_trees.py"] if trees == "shuffled" else []
        run("train", folder / "train.cfg", "--output", folder, "--system.seed", seed, *code)
        figures = {"minutes": round((time.perf_counter() - start) / 60, 1), "threads": threads}
        found = {part: score(folder, corpus, trees, part) for part in ("dev", "test")}
        add_row("syn_lstm", corpus=corpus, trees=trees, model=model, seed=seed, **found, **figures)


if __name__ == "__main__":
    main()
