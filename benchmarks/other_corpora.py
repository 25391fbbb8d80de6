"""Other corpora, without pretrained weights

Entity F1, in percent, of the model that scored best on the development part: `configs/bilstm_crf.cfg` and spaCy's own
`ner` (`spacy init config --pipeline ner --optimize efficiency`), each as it stands. WNUT-17 is social media with
entities that are mostly new (columns, as `assets/wnut17/{train,dev,test}.conll`), UNER English-EWT is web text with
entities in MISC (CoNLL-U, as `assets/uner_en_ewt/en_ewt-uner-{train,dev,test}.conllu`).

    python benchmarks/other_corpora.py
"""

from conll2003 import ROOT, make_config, run, scores
from rows import add_row, has_row

# Folder below assets/: format, and what stands before and after the name of a part.
CORPORA = {"wnut17": ("conll", "", ".conll"), "uner_en_ewt": ("conllu", "en_ewt-uner-", ".conllu")}


def main() -> None:
    for corpus, (kind, before, after) in CORPORA.items():
        target = ROOT / "corpus" / corpus
        for part in ("train", "dev", "test"):
            if not (target / f"{part}.spacy").exists():
                source = f"assets/{corpus}/{before}{part}{after}"
                run("ner-arch", "convert", source, target, "--format", kind, "--name", part)
        for model in ("ours", "spacy ner"):
            if has_row("other_corpora", corpus=corpus, model=model, seed=0):
                continue
            folder = ROOT / "training" / "benchmarks" / f"{corpus}-{model.replace(' ', '-')}"
            folder.mkdir(parents=True, exist_ok=True)
            paths = [f"--paths.{part}={target / part}.spacy" for part in ("train", "dev")]
            run("train", make_config(model, folder), "--output", folder, "--system.seed=0", *paths)
            figures = {
                part: round(100 * scores(folder / "model-best", target / f"{part}.spacy", folder)["ents_f"], 2)
                for part in ("dev", "test")
            }
            add_row("other_corpora", corpus=corpus, model=model, seed=0, **figures)


if __name__ == "__main__":
    main()
