"""`ner-arch combine` on CoNLL-2003: pipelines that were trained on the first 1,000 sentences, and a span model.

    python benchmarks/combine.py

Trains what is missing. The span model is calibrated on the development part, and is one of the systems as well. The
weights of the systems are equal, or their F1 on the development part.
"""

from collections import defaultdict
from typing import Any

from rows import add_row
from run import ROOT, Machine, load, percent, read, score, train
from runs import RUNS
from spacy.vocab import Vocab

from spacy_ner_arch.annotation.describe import Counted
from spacy_ner_arch.cli.combine_voting import predict_spans, span_model, vote, with_entities
from spacy_ner_arch.evaluation.score_tables import micro_average
from spacy_ner_arch.formats import read_docbins
from spacy_ner_arch.training.calibration import calibrate

CORPUS = ROOT / "corpus" / "conll2003"
SCRATCH, MINILM = Machine("float32"), Machine("bfloat16")
SYSTEMS = {
    "bilstm-few": SCRATCH,
    "bilstm_crf-few": SCRATCH,
    "transformer_softmax-few": MINILM,
    "transformer_crf-few": MINILM,
    "span-few": MINILM,
}
PAIR = ("bilstm_crf-few", "transformer_crf-few")


def main() -> None:
    SCRATCH.use()
    gold = list(read_docbins(CORPUS / "test.spacy", Vocab()))
    predicted: dict[str, list[Any]] = {}
    weights: dict[str, float] = {}
    for name, machine in SYSTEMS.items():
        run = RUNS[f"conll2003/{name}"]
        train(run, 0, machine)
        (nlp,) = load((run.name,), 0, machine)
        weights[name] = percent(score([nlp], read(run, nlp, "dev"))["ents_f"])
        examples = read(run, nlp, "test")
        score([nlp], examples)
        predicted[name] = [example.predicted for example in examples]
    # The last pipeline has the span model.
    nlp.config["corpora"]["dev"]["path"] = str(CORPUS / "dev.spacy")
    calibrate(None, 0, nlp)
    pipe: Any = nlp.get_pipe("span_ner")
    models = [span_model(pipe, doc, rows, defaultdict(Counted)) for doc, rows in predict_spans(nlp, pipe, gold)]

    def f1(docs: list[Any]) -> float:
        return percent(micro_average(docs, gold).f1)

    def combined(names: Any, by_f1: bool, use_model: bool) -> float:
        docs = []
        for number, doc in enumerate(gold):
            proposals = [[(e.start, e.end, e.label_) for e in predicted[name][number].ents] for name in names]
            shares = [weights[name] if by_f1 else 1.0 for name in names]
            docs.append(with_entities(doc, vote(proposals, shares, models[number] if use_model else None)))
        return f1(docs)

    rows = {f"{name} alone": f1(docs) for name, docs in predicted.items()}
    for systems, names in (("all five", SYSTEMS), ("two", PAIR)):
        for way, by_f1 in (("", False), (", weights by dev F1", True)):
            rows[f"{systems}: majority vote{way}"] = combined(names, by_f1, False)
            rows[f"{systems}: span model{way}"] = combined(names, by_f1, True)
    for model, value in rows.items():
        add_row("accuracy", {"section": "combine", "corpus": "conll2003", "model": model, "test_ents": value})


if __name__ == "__main__":
    main()
