"""Prediction of a pipeline trained from scratch, against spaCy's ner

`nlp.pipe` over the words of the CoNLL-2003 test part, one sentence a document, one thread, pipelines in turn: median of
the words per second over the rounds, peak memory of a process of its own that does nothing else, size of the model on
disk. Give the folders of two trained pipelines.

    python benchmarks/prediction.py OURS SPACY_NER
"""

import os
import subprocess
import sys
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import spacy
import torch
from rows import add_row, median_ms
from spacy.tokens import Doc, DocBin

CORPUS = Path(__file__).parent.parent / "corpus" / "conll2003" / "test.spacy"
ROUNDS = 5


def read_words() -> list[list[str]]:
    docs = DocBin().from_disk(CORPUS).get_docs(spacy.blank("en").vocab)
    return [[token.text for token in doc] for doc in docs]


def predict(nlp: spacy.Language, words: list[list[str]]) -> None:
    for _ in nlp.pipe([Doc(nlp.vocab, words=sentence) for sentence in words]):
        pass


def peak_memory(folder: str) -> int:
    """MiB of a fresh process that loads the pipeline and predicts."""
    code = f"import prediction, rows, spacy; prediction.predict(spacy.load({folder!r}), prediction.read_words()); "
    code += "print(rows.peak_memory_mib())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def main() -> None:
    torch.set_num_threads(1)
    words = read_words()
    tokens = sum(map(len, words))
    folders = {"ours": str(Path(sys.argv[1]).resolve()), "spacy ner": str(Path(sys.argv[2]).resolve())}
    pipelines = {name: spacy.load(folder) for name, folder in folders.items()}
    times: dict[str, list[float]] = {name: [] for name in folders}
    for _ in range(ROUNDS):
        for name, nlp in pipelines.items():
            times[name].append(median_ms(lambda nlp=nlp: predict(nlp, words), repeats=1))
    speeds = {name: 1000 * tokens / sorted(values)[ROUNDS // 2] for name, values in times.items()}
    for name, folder in folders.items():
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        add_row(
            "prediction",
            model=name,
            words_per_s=round(speeds[name]),
            ratio=round(speeds[name] / speeds["spacy ner"], 2),
            peak_memory_mib=peak_memory(folder),
            model_mib=round(size / 2**20, 1),
        )


if __name__ == "__main__":
    main()
