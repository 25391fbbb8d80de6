"""Measure whether `ner-arch tune --min-recall` keeps its promise, and what it costs, beside thresholds on tags.

    python benchmarks/recall.py [CORPUS...]

The development and test part of a corpus are predicted once. Then their documents are divided at random, 1,000 times:
some set the threshold, and on the others the missed entities are counted. Rows go to results/review.jsonl. A document
is a post of WNUT-17, and a sentence of the other corpora.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from probabilities import tag_probabilities
from rows import add_row, has_row
from run import Machine, load, read, train
from runs import RUNS

from spacy_ner_arch.annotation.tags import split_tag
from spacy_ner_arch.cli.tune_thresholds import MIN_FOUND, found_in
from spacy_ner_arch.evaluation.risk import recall_threshold

PIPELINES = (
    "conll2003/bilstm_crf",
    *(f"{name}/bilstm_crf-short" for name in ("wnut17", "uner_en_ewt", "gum_nested")),
    *(f"{name}/bilstm_crf-glove" for name in ("wnut17", "uner_en_ewt")),
)
SPLITS = 1000
TARGETS = (0.9, 0.95, 0.98)
# Documents with entities that set the threshold; None for half of them.
SIZES = (100, None)
# Thresholds of the labelled tokens.
GRID = np.geomspace(1e-4, 0.9, 60)
# One-sided quantile of the normal distribution: 5 % of the splits may lie above it.
QUANTILE = 1.645
Span = tuple[int, int, str]


class Spans:
    """Spans with scores, of which those with at least the threshold are kept.

    gold: for each document, the scores of its gold entities, 0 for those that are no such span.
    all: for each document, the scores of all its spans.
    """

    def __init__(self, gold: Sequence[np.ndarray], all: Sequence[np.ndarray]) -> None:
        self.gold = gold
        self.entities = np.array([len(row) for row in gold])
        self._gold, self._all = np.concatenate(gold), np.concatenate(all)
        self._documents_of_gold, self._documents_of_all = (
            np.repeat(np.arange(len(rows)), [len(row) for row in rows]) for rows in (gold, all)
        )

    def threshold(self, held_out: np.ndarray, missed: float) -> float | None:
        return recall_threshold([self.gold[i] for i in held_out if len(self.gold[i])], missed)

    def missed(self, threshold: float, documents: np.ndarray) -> np.ndarray:
        """Share of the entities of each document that is missed."""
        missed = np.bincount(self._documents_of_gold[self._gold < threshold], minlength=len(self.entities))
        documents = documents[self.entities[documents] > 0]
        return missed[documents] / self.entities[documents]

    def kept(self, threshold: float, documents: np.ndarray) -> int:
        kept = np.bincount(self._documents_of_all[self._all >= threshold], minlength=len(self.entities))
        return int(kept[documents].sum())


@dataclass
class Runs:
    """Runs of tokens with the same label, for each threshold of GRID. The label of a token is the most probable one, if
    the token is in an entity with at least this probability.

    missed_at: (D, G), share of the entities of each document that is missed; nan without entities.
    kept_at: (D, G), number of runs.
    """

    missed_at: np.ndarray
    kept_at: np.ndarray

    def threshold(self, held_out: np.ndarray, missed: float) -> float | None:
        """The largest one that misses few enough of these entities."""
        good = np.flatnonzero(np.nanmean(self.missed_at[held_out], axis=0) <= missed)
        return float(GRID[good[-1]]) if len(good) else None

    def missed(self, threshold: float, documents: np.ndarray) -> np.ndarray:
        column = self.missed_at[documents, np.searchsorted(GRID, threshold)]
        return column[~np.isnan(column)]

    def kept(self, threshold: float, documents: np.ndarray) -> int:
        return int(self.kept_at[documents, np.searchsorted(GRID, threshold)].sum())


def tag_spans(probabilities: np.ndarray, tags: Sequence[str], labels: Sequence[str]) -> dict[Span, float]:
    """All spans whose tags have at least the probability MIN_FOUND each, with the smallest of them."""
    place = {tag: i for i, tag in enumerate(tags)}
    found = {}
    for label in labels:
        single, first, inner, last = (probabilities[:, place[f"{prefix}-{label}"]] for prefix in "UBIL")
        for start in range(len(probabilities)):
            if single[start] >= MIN_FOUND:
                found[start, start + 1, label] = float(single[start])
            so_far, end = first[start], start + 1
            while so_far >= MIN_FOUND and end < len(probabilities):
                if last[end] >= MIN_FOUND:
                    found[start, end + 1, label] = float(min(so_far, last[end]))
                so_far = min(so_far, inner[end])
                end += 1
    return found


def label_runs(by_label: np.ndarray, labels: Sequence[str], threshold: float) -> set[Span]:
    """Runs of tokens with the same label. by_label: (T, L)."""
    names = [labels[row.argmax()] if row.sum() >= threshold else "" for row in by_label] + [""]
    found, start = set(), 0
    for i in range(1, len(names)):
        if names[i] != names[i - 1]:
            if names[i - 1]:
                found.add((start, i, names[i - 1]))
            start = i
    return found


def methods(name: str) -> tuple[tuple[Spans, Spans, Runs], np.ndarray]:
    """Three ways to choose spans of the documents of a corpus: by their exact probabilities, by the least probable of
    their tags, and as runs of labelled tokens. And the number of gold entities of each document."""
    train(RUNS[name], 0, Machine())
    Machine().use()
    (nlp,) = load((name,), 0)
    pipe: Any = nlp.get_pipe("sequence_ner")
    pipe.cfg.update(alternatives=MIN_FOUND, threshold=0.0)
    examples = [example for part in ("dev", "test") for example in read(RUNS[name], nlp, part)]
    for example, doc in zip(examples, nlp.pipe([eg.predicted for eg in examples]), strict=True):
        example.predicted = doc
    documents = [found_in(example) for example in examples]
    tokens = tag_probabilities(pipe, [example.predicted for example in examples])
    columns = [[i for i, tag in enumerate(pipe.tags) if split_tag(tag)[1] == label] for label in pipe.labels]
    gold_by_span, all_by_span, gold_by_tags, all_by_tags = [], [], [], []
    missed_at, kept_at = [], []
    for document, probabilities in zip(documents, tokens, strict=True):
        gold = document.gold
        gold_by_span.append(document.gold_scores())
        all_by_span.append(np.array(list(document.spans.values())))
        spans = tag_spans(probabilities, pipe.tags, pipe.labels)
        gold_by_tags.append(np.array([spans.get(span, 0.0) for span in gold]))
        all_by_tags.append(np.array(list(spans.values())))
        by_label = np.stack([probabilities[:, column].sum(1) for column in columns], axis=1)
        runs = [label_runs(by_label, pipe.labels, threshold) for threshold in GRID]
        missed_at.append([np.mean([span not in run for span in gold]) if gold else np.nan for run in runs])
        kept_at.append([len(run) for run in runs])
    by_span, by_tags = Spans(gold_by_span, all_by_span), Spans(gold_by_tags, all_by_tags)
    ways = by_span, by_tags, Runs(np.array(missed_at), np.array(kept_at))
    return ways, np.array([len(document.gold) for document in documents])


def measure(way: Any, entities: np.ndarray, target: float, size: int) -> dict[str, Any]:
    """Divide the documents at random, set the threshold on one part, and count on the other."""
    missed, cost, over = [], [], 0
    numbers = np.flatnonzero(entities)
    for seed in range(SPLITS):
        held_out = np.random.default_rng(seed).permutation(numbers)[:size]
        others = np.setdiff1d(np.arange(len(entities)), held_out)
        threshold = way.threshold(held_out, 1 - target)
        if threshold is None:
            continue
        shares = way.missed(threshold, others)
        noise = QUANTILE * math.sqrt(target * (1 - target) * (1 / len(held_out) + 1 / len(shares)))
        missed.append(shares.mean())
        over += shares.mean() > 1 - target + noise
        cost.append(way.kept(threshold, others) / entities[others].sum())
    if not missed:
        return {"splits": 0}
    return {
        "missed": round(100 * float(np.mean(missed)), 2),
        "splits_over": int(over),
        "spans": round(float(np.mean(cost)), 2),
        "splits": len(missed),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="*", metavar="CORPUS", help="all if none is given")
    options = parser.parse_args()
    for name in PIPELINES:
        key = {"section": "recall", "corpus": RUNS[name].corpus, "model": RUNS[name].model}
        if options.corpora and key["corpus"] not in options.corpora or has_row("review", **key):
            continue
        ways, entities = methods(name)
        for size in SIZES:
            held_out = size or int((entities > 0).sum()) // 2
            for target in TARGETS:
                spans, tags, tokens = (measure(way, entities, target, held_out) for way in ways)
                row = {**key, "held_out": held_out, "recall": target, **spans}
                row |= {"spans_by_tags": tags.get("spans", ""), "splits_by_tokens": tokens["splits"]}
                add_row("review", row)


if __name__ == "__main__":
    main()
