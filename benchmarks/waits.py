"""Waits of the host and operations on the GPU for every config, counted on the pretend GPU of the tests.

    python -m spacy project run convert-sample
    python -m spacy project run convert-sample-relations
    python benchmarks/waits.py

Prints the table of docs/gpu.md: per update of 32 documents of the sample, and per prediction of 32. Layers have their
shipped sizes; the transformer is a tiny one with two layers.
"""

import sys
import tempfile
from pathlib import Path

import spacy
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Example
from spacy.training.initialize import init_nlp
from spacy.util import load_config

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from families import make_family  # noqa: E402 - found by the path above
from pretend_gpu import PretendGPU, pretend_gpu  # noqa: E402 - as above

COUNT = 32


def gold_docs(path: Path) -> Path:
    """A corpus file with the entities also as spans, for `nested`; returns its path."""
    docs = list(DocBin(store_user_data=True).from_disk(path).get_docs(spacy.blank("en").vocab))[: 4 * COUNT]
    for doc in docs:
        doc.spans["sc"] = [Span(doc, ent.start, ent.end, ent.label_) for ent in doc.ents]
    copied = Path(tempfile.mkdtemp()) / "train.spacy"
    DocBin(docs=docs, store_user_data=True).to_disk(copied)
    return copied


def count(config_path: Path, corpus: Path, transformer: Path) -> tuple[PretendGPU, PretendGPU]:
    """Counts of an update and of a prediction, each the second of its kind."""
    config = load_config(config_path, interpolate=False)
    config["paths"].update(train=str(corpus), dev=str(corpus), encoder=str(transformer))
    with pretend_gpu() as gpu:
        nlp = init_nlp(config)
        optimizer = nlp.resume_training()
        annotates = nlp.config["training"]["annotating_components"]
        reader = spacy.registry.resolve({"corpus": nlp.config.interpolate()["corpora"]["train"]})["corpus"]
        examples = list(reader(nlp))[:COUNT]
        for _ in range(2):
            batch = [Example(eg.predicted.copy(), eg.reference) for eg in examples]
            with gpu.counting() as update:
                nlp.update(batch, sgd=False, drop=0.1, annotates=annotates)
                for _, pipe in nlp.pipeline:
                    if hasattr(pipe, "finish_update"):
                        pipe.finish_update(optimizer)
        for _ in range(2):
            docs = [Doc.from_docs([eg.predicted]) for eg in examples]
            with gpu.counting() as prediction:
                list(nlp.pipe(docs, batch_size=COUNT))
    return update, prediction


def main() -> None:
    corpora = {name: gold_docs(ROOT / "corpus" / name / "train.spacy") for name in ("sample", "sample_relations")}
    transformer = Path(tempfile.mkdtemp())
    make_family("bert", transformer)
    print("| config | update: waits | operations | prediction: waits | operations |\n|---|---|---|---|---|")
    for path in sorted((ROOT / "configs").glob("*.cfg")):
        corpus = corpora["sample_relations" if path.stem.startswith(("relation", "joint", "nested")) else "sample"]
        counts = [n.total() for gpu in count(path, corpus, transformer) for n in (gpu.waits, gpu.launches)]
        print(f"| `{path.stem}` | {' | '.join(f'{n:,}' for n in counts)} |", flush=True)


if __name__ == "__main__":
    main()
