"""Measure how well `ner-arch review` finds label errors.

    python benchmarks/label_errors.py [corrected] [CORPUS...]

`corrected`: the sentences of the CoNLL-2003 test part that CoNLL++ corrected (assets/conllpp/test.txt), checked by the
pipeline of conll2003/bilstm_crf. The peer is cleanlab, on the probabilities of the tags of the same pipeline. Its row
is missing if it is not installed (`pip install cleanlab`).

CORPUS: noise in one of 20 entities of a training part. A third gets another label, a third loses or gets a token at one
of its ends, a third is deleted. The pipelines that check a part of the corpus were trained on the other parts with
their noise. Rows go to results/review.jsonl.
"""

import argparse
import importlib.util
import random
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from probabilities import tag_probabilities
from rows import add_row, has_row
from run import ROOT, Machine, command, convert, load, percent, train
from runs import RUNS
from spacy.tokens import Doc, DocBin, Span
from spacy.vocab import Vocab

from spacy_ner_arch.annotation.tags import encode
from spacy_ner_arch.cli.review_held_out import compare, train_parts, with_tokens
from spacy_ner_arch.evaluation.doubts import Doubt, ranked

PIPELINE = "conll2003/bilstm_crf"
TOP = 100
NOISE = 0.05
# Folds, and steps of each training.
CORPORA = {"conll04": (5, 400), "conll2003": (2, 600), "wnut17": (2, 1000), "uner_en_ewt": (2, 400)}
KINDS = ("wrong label", "wrong boundaries", "missing")


def read_docs(path: Path, vocab: Vocab | None = None) -> list[Doc]:
    return list(DocBin().from_disk(path).get_docs(vocab or Vocab()))


# CoNLL++


def area(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve: the share of pairs in which the positive one has the higher score."""
    negative = np.sort(scores[~positive])
    low, high = (np.searchsorted(negative, scores[positive], side=side) for side in ("left", "right"))
    return float((low + high).mean() / 2 / len(negative))


def document_scores(doubts: Sequence[Doubt], count: int) -> np.ndarray:
    """Score of each document: that of its worst doubt."""
    scores = np.full(count, -np.inf)
    for doubt in doubts:
        scores[doubt.match.document] = max(scores[doubt.match.document], doubt.log_odds)
    return scores


def corrected() -> None:
    train(RUNS[PIPELINE], 0, Machine())
    convert("conll2003")
    path = ROOT / "corpus" / "conll2003" / "test.spacy"
    (nlp,) = load((PIPELINE,), 0)
    docs = read_docs(path, nlp.vocab)
    with tempfile.TemporaryDirectory() as folder:
        source = ROOT / "assets" / "conllpp" / "test.txt"
        command("ner-arch", "convert", source, folder, "--format", "conll", "--name", "test")
        others = read_docs(Path(folder) / "test.spacy")
    entities = [[{(e.start, e.end, e.label_) for e in doc.ents} for doc in part] for part in (docs, others)]
    wrong = np.array([one != other for one, other in zip(*entities, strict=True)])
    pipe: Any = nlp.get_pipe("sequence_ner")
    probabilities = tag_probabilities(pipe, docs)
    doubts = [doubt for _, _, found in compare(nlp, with_tokens(docs), path) for doubt in found]
    scores = {"ner-arch review": document_scores(doubts, len(docs))}
    if importlib.util.find_spec("cleanlab"):
        from cleanlab.token_classification.rank import get_label_quality_scores

        places = {tag: i for i, tag in enumerate(pipe.tags)}
        scheme = pipe.cfg["scheme"]
        tags = [encode(len(doc), [(e.start, e.end, e.label_) for e in doc.ents], scheme) for doc in docs]
        quality, _ = get_label_quality_scores([[places[tag] for tag in row] for row in tags], probabilities)
        scores["cleanlab"] = -quality
    for system, values in scores.items():
        if not has_row("review", section="corrected", system=system):
            first = np.argsort(-values, kind="stable")[:TOP]
            row = {"section": "corrected", "system": system, "sentences": len(docs), "corrected": int(wrong.sum())}
            row |= {f"precision_at_{TOP}": percent(wrong[first].mean()), "area": percent(area(values, wrong))}
            add_row("review", row)


# Noise


class Error(NamedTuple):
    """An error that was made in a document, and the characters that it concerns."""

    kind: str
    document: int
    start: int
    end: int


def make_noise(docs: Sequence[Doc], rng: random.Random) -> list[Error]:
    """Change entities of the documents, at most one of each."""
    labels = sorted({ent.label_ for doc in docs for ent in doc.ents})
    count = round(NOISE * sum(len(doc.ents) for doc in docs))
    candidates = [number for number, doc in enumerate(docs) if doc.ents]
    rng.shuffle(candidates)
    errors: list[Error] = []
    for number in candidates:
        kind = KINDS[len(errors) % len(KINDS)]
        ents = list(docs[number].ents)
        place = rng.randrange(len(ents))
        ent = ents.pop(place)
        new = {"wrong label": other_label, "wrong boundaries": other_bounds, "missing": nothing}[kind](ent, labels, rng)
        if new is None:
            continue
        docs[number].set_ents([*ents, *new], default="outside")
        start = min(span.start_char for span in [ent, *new])
        errors.append(Error(kind, number, start, max(span.end_char for span in [ent, *new])))
        if len(errors) == count:
            break
    return errors


def other_label(ent: Span, labels: Sequence[str], rng: random.Random) -> list[Span]:
    return [Span(ent.doc, ent.start, ent.end, rng.choice([label for label in labels if label != ent.label_]))]


def other_bounds(ent: Span, labels: Sequence[str], rng: random.Random) -> list[Span] | None:
    """One token more or less at one end; None if there is no such entity."""
    taken = {token.i for other in ent.doc.ents if other != ent for token in other}
    moves = [(-1, 0), (0, 1), (1, 0), (0, -1)]
    places = [(ent.start + first, ent.end + last) for first, last in moves]
    free = [
        (start, end) for start, end in places if 0 <= start < end <= len(ent.doc) and not taken & {*range(start, end)}
    ]
    return [Span(ent.doc, *rng.choice(free), ent.label_)] if free else None


def nothing(ent: Span, labels: Sequence[str], rng: random.Random) -> list[Span]:
    return []


def found(errors: Sequence[Error], doubts: Sequence[Doubt]) -> list[bool]:
    """Whether each error is at the place of one of the doubts."""
    places = defaultdict[int, list[tuple[int, int]]](list)
    for doubt in doubts:
        for item in (doubt.match.gold, doubt.match.predicted):
            places[doubt.match.document] += item.places if item else ()
    return [any(a < error.end and error.start < b for a, b in places[error.document]) for error in errors]


def noise(corpus: str) -> None:
    folds, steps = CORPORA[corpus]
    convert(corpus)
    docs = read_docs(ROOT / "corpus" / corpus / "train.spacy")
    entities = sum(len(doc.ents) for doc in docs)
    errors = make_noise(docs, random.Random(0))
    overrides = {"training.max_steps": steps, "training.eval_frequency": steps}
    doubts = []
    with tempfile.TemporaryDirectory() as folder:
        config = ROOT / "configs" / "bilstm_crf.cfg"
        for nlp, numbers, path in train_parts(docs, config, overrides, folds, 0, -1, Path(folder)):
            doubts += [doubt for _, _, rows in compare(nlp, numbers, path) for doubt in rows]
    doubts = ranked(doubts)
    first = found(errors, doubts[: round(NOISE * len(doubts))])
    row = {"section": "noise", "corpus": corpus, "entities": entities, "errors": len(errors), "list": len(doubts)}
    row |= {"found_in_first_5_percent": percent(np.mean(first))}
    for kind in KINDS:
        row[kind] = percent(np.mean([right for error, right in zip(errors, first, strict=True) if error.kind == kind]))
    row["found_in_as_many"] = percent(np.mean(found(errors, doubts[: len(errors)])))
    row["found_in_twice_as_many"] = percent(np.mean(found(errors, doubts[: 2 * len(errors)])))
    add_row("review", row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ["corrected", *CORPORA]
    parser.add_argument("names", nargs="*", metavar="CORPUS", choices=[[], *names], help="all if none is given")
    Machine().use()
    for name in parser.parse_args().names or names:
        if name == "corrected":
            corrected()
        elif not has_row("review", section="noise", corpus=name):
            noise(name)


if __name__ == "__main__":
    main()
