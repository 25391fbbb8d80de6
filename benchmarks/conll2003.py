"""CoNLL-2003 without pretrained weights

Entity F1, in percent, of the model that scored best on the development part. `ours` is `configs/bilstm_crf.cfg` as it
stands, other rows of ours change the one thing that they are named for; `spacy ner` is what
`spacy init config --pipeline ner --optimize efficiency` gives, with its own schedule. `raw` is the F1 on the test part
as whole documents of raw text, tokenised by the pipeline (words joined by spaces). The corpus is that of
`python -m spacy project run train-conll`; the models are left in `training/benchmarks/`.

    python benchmarks/conll2003.py [NAME...]
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import spacy
from rows import add_row, has_row
from spacy.tokens import Doc, DocBin
from spacy.training import Corpus

ROOT = Path(__file__).parent.parent
CORPUS = ROOT / "corpus" / "conll2003"
MODEL = "components.sequence_ner.model"
OURS = "configs/bilstm_crf.cfg"
HASH_EMBED = """
[components.sequence_ner.model.tok2vec]
@architectures = "spacy.MultiHashEmbed.v2"
width = 128
attrs = ["NORM","PREFIX","SUFFIX","SHAPE"]
rows = [5000,1000,2500,2500]
include_static_vectors = false
"""
# Name of the row: seeds, and what is changed.
RUNS: dict[str, tuple[tuple[int, ...], dict[str, object]]] = {
    "ours": ((0, 1, 2), {}),
    "spacy ner": ((0,), {}),
    "softmax instead of CRF": ((0,), {}),
    "spaCy's MultiHashEmbed": ((0,), {}),
    "no characters": ((0,), {f"{MODEL}.tok2vec.filters": 0}),
    "no features of the word": ((0,), {f"{MODEL}.tok2vec.features": []}),
    "rare words never taken for unknown": ((0,), {f"{MODEL}.tok2vec.unknown_rate": 0.0}),
    "no averages": ((0,), {"training.optimizer.use_averages": False}),
    "dropout 0.2": ((0,), {"training.dropout": 0.2}),
    "BIO": ((0,), {"components.sequence_ner.scheme": "BIO"}),
}


def run(*args: object) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}
    subprocess.run([sys.executable, "-m", "spacy", *map(str, args)], cwd=ROOT, check=True, env=environment)


def make_config(name: str, folder: Path) -> Path:
    """The config of a row."""
    if name == "spacy ner":
        run("init", "config", folder / "spacy.cfg", "--pipeline", "ner", "--optimize", "efficiency", "--lang", "en")
        return folder / "spacy.cfg"
    if name == "softmax instead of CRF":
        return ROOT / "configs" / "bilstm.cfg"
    if name == "spaCy's MultiHashEmbed":
        text = (ROOT / OURS).read_text(encoding="utf8")
        start = text.index("# The word, some of its attributes")
        end = text.index(f"[{MODEL}.encoder]")
        (folder / "hash.cfg").write_text(text[:start] + HASH_EMBED + "\n" + text[end:], encoding="utf8")
        return folder / "hash.cfg"
    return ROOT / OURS


def scores(model: Path, corpus: Path, folder: Path) -> dict[str, float]:
    run("ner-arch", "evaluate", model, corpus, "-o", folder / "scores.json")
    return json.loads((folder / "scores.json").read_text(encoding="utf8"))


def raw_documents(folder: Path) -> Path:
    """The test part as documents whose spaces are known, so that spaCy tokenises their text anew."""
    nlp = spacy.blank("en")
    run("ner-arch", "convert", "assets/conll2003/test.txt", folder, "--format", "conll", "--documents")
    docs = []
    for example in Corpus(folder / "test.spacy")(nlp):
        gold = example.reference
        doc = Doc(nlp.vocab, words=[token.text for token in gold], spaces=[True] * len(gold))
        doc.set_ents([doc.char_span(*offsets(doc, ent), label=ent.label_) for ent in gold.ents], default="outside")
        docs.append(doc)
    DocBin(docs=docs).to_disk(folder / "raw.spacy")
    return folder / "raw.spacy"


def offsets(doc: Doc, ent: spacy.tokens.Span) -> tuple[int, int]:
    last = doc[ent.end - 1]
    return doc[ent.start].idx, last.idx + len(last)


def main() -> None:
    names = sys.argv[1:] or list(RUNS)
    for name in names:
        seeds, overrides = RUNS[name]
        for seed in seeds:
            if has_row("conll2003", model=name, seed=seed):
                continue
            folder = ROOT / "training" / "benchmarks" / f"{name.replace(' ', '-')}-{seed}"
            folder.mkdir(parents=True, exist_ok=True)
            changes = [x for key, value in overrides.items() for x in (f"--{key}", json.dumps(value))]
            settings = {
                "paths.train": CORPUS / "train.spacy",
                "paths.dev": CORPUS / "dev.spacy",
                "system.seed": seed,
            }
            changes += [x for key, value in settings.items() for x in (f"--{key}", str(value))]
            run("train", make_config(name, folder), "--output", folder, *changes)
            model = folder / "model-best"
            dev, test = (scores(model, CORPUS / f"{part}.spacy", folder)["ents_f"] for part in ("dev", "test"))
            raw = scores(model, raw_documents(folder), folder)["ents_f"]
            figures = {key: round(100 * value, 2) for key, value in {"dev": dev, "test": test, "raw": raw}.items()}
            add_row("conll2003", model=name, seed=seed, **figures)


if __name__ == "__main__":
    main()
