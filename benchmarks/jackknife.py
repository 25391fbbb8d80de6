"""Write a corpus with predicted trees that are as good in training as on new text.

    python benchmarks/jackknife.py CORPUS ENDING [--folds 3]

Reads corpus/CORPUS/ and writes corpus/CORPUSENDING/, with the parsers of JACKKNIFED[ENDING] in runs.py. The training
part is cut into folds, and each gets the trees of a parser that was trained on the others. The development and the test
part get those of a parser that was trained on the whole training part. A parser finds better trees for the sentences of
its own training, so that an encoder over these learns to trust them too much. Prints the scores of the parsers.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import spacy
from run import MODELS, ROOT, command, convert, make_config
from runs import JACKKNIFED, RUNS, Run
from spacy.scorer import Scorer
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Corpus, Example


def train_parser(run: Run, folder: Path, train: Path, dev: Path) -> Path:
    """Train a parser, unless it is there. Returns the folder of the best pipeline."""
    if not (folder / "model-last" / "finished").exists():
        folder.mkdir(parents=True, exist_ok=True)
        make_config(run, 0).to_disk(folder / "train.cfg")
        paths = ("--output", folder, "--paths.train", train, "--paths.dev", dev)
        command("train", folder / "train.cfg", *paths, log=folder / "train.log")
        (folder / "model-last" / "finished").touch()
    return folder / "model-best"


def parse(parser: Path, docs: Sequence[Doc]) -> list[Doc]:
    """Copies of the documents with their entities and the trees of the parser."""
    nlp = spacy.load(parser)
    texts = [Doc(nlp.vocab, words=[t.text for t in doc], spaces=[bool(t.whitespace_) for t in doc]) for doc in docs]
    parsed = list(nlp.pipe(texts))
    for copy, doc in zip(parsed, docs, strict=True):
        copy.set_ents([Span(copy, ent.start, ent.end, ent.label_) for ent in doc.ents], default="outside")
    scores = Scorer().score([Example(copy, doc) for copy, doc in zip(parsed, docs, strict=True)])
    print(parser.parent.name, {key: round(100 * scores[key], 1) for key in ("dep_uas", "dep_las")}, flush=True)
    return parsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("ending", choices=JACKKNIFED)
    parser.add_argument("--folds", type=int, default=3)
    args = parser.parse_args()
    convert(args.corpus)
    source, target = (ROOT / "corpus" / name for name in (args.corpus, args.corpus + args.ending))
    models = MODELS / target.name / "parsers"
    run = RUNS[f"{args.corpus}/{JACKKNIFED[args.ending]}"]
    target.mkdir(parents=True, exist_ok=True)
    nlp = spacy.blank("en")
    docs = {part: [eg.reference for eg in Corpus(source / f"{part}.spacy")(nlp)] for part in ("train", "dev", "test")}
    train = docs["train"]
    parsed: list[Doc] = []
    size = -(-len(train) // args.folds)
    for fold in range(args.folds):
        rest = target / f"without_{fold}.spacy"
        DocBin(docs=train[: fold * size] + train[(fold + 1) * size :]).to_disk(rest)
        best = train_parser(run, models / str(fold), rest, source / "dev.spacy")
        parsed += parse(best, train[fold * size : (fold + 1) * size])
        rest.unlink()
    DocBin(docs=parsed).to_disk(target / "train.spacy")
    best = train_parser(run, models / "all", source / "train.spacy", source / "dev.spacy")
    for part in ("dev", "test"):
        DocBin(docs=parse(best, docs[part])).to_disk(target / f"{part}.spacy")


if __name__ == "__main__":
    main()
