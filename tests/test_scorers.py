"""Scores of relations against scikit-learn, as published systems use it, and against the rules of shared tasks."""

import random
from collections import Counter

import pytest
import spacy
from sklearn.metrics import precision_recall_fscore_support
from spacy.tokens import Doc, Span
from spacy.training import Example

from spacy_ner_arch.evaluation.scorers import score_relations

NLP = spacy.blank("en")
TYPES = ["PER", "LOC", "ORG"]
LABELS = ["KNOWS", "LIVES_IN", "OWNS"]


def random_example(chance: random.Random, entities: int = 4, most: int = 4) -> Example:
    """Predictions like the gold annotation, with other types, other bounds, other labels, and some left out."""
    words = ["w"] * (2 * entities)
    reference, predicted = Doc(NLP.vocab, words=words), Doc(NLP.vocab, words=words)
    gold, found = [], []
    for i in range(entities):
        label = chance.choice(TYPES)
        gold.append(Span(reference, 2 * i, 2 * i + 1, label=label))
        end = 2 * i + chance.choice([1, 1, 1, 2])
        found.append(Span(predicted, 2 * i, end, label=chance.choice([label, label, chance.choice(TYPES)])))
    reference.ents, predicted.ents = gold, found
    pairs = [(i, j) for i in range(entities) for j in range(entities) if i != j]
    rows = [(*pair, chance.choice(LABELS)) for pair in chance.sample(pairs, chance.randint(0, most))]
    reference._.relations = [(gold[i], gold[j], label) for i, j, label in rows]
    kept = [(i, j, chance.choice([label, label, label, chance.choice(LABELS)])) for i, j, label in rows]
    kept = [row for row in kept if chance.random() < 0.8]
    kept += [(i, j, chance.choice(LABELS)) for i, j in pairs if chance.random() < 0.05]
    predicted._.relations = {(found[i], found[j], label): None for i, j, label in kept}
    return Example(predicted, reference)


def side(doc: Doc, with_types: bool) -> dict:
    """Labels of the relations by the bounds (and types) of their entities."""
    found: dict = {}
    for head, tail, label in ((r.head, r.tail, r.label) for r in doc._.relations):
        ends = [(e.start, e.end, *([e.label_] if with_types else [])) for e in (head, tail)]
        found.setdefault((*ends[0], *ends[1], label), label)
    return found


@pytest.mark.parametrize("with_types", [False, True])
def test_relations_are_scored_like_flat_lists_of_labels(with_types):
    """SpERT's way: one line for each relation of either side, without a label on a side that does not have it."""
    for seed in range(30):
        chance = random.Random(seed)
        examples = [random_example(chance) for _ in range(10)]
        gold_labels, found_labels = [], []
        for eg in examples:
            gold, found = side(eg.reference, with_types), side(eg.predicted, with_types)
            for key in {**gold, **found}:
                gold_labels.append(gold.get(key, "none"))
                found_labels.append(found.get(key, "none"))
        measure = (gold_labels, found_labels)
        micro = precision_recall_fscore_support(*measure, labels=LABELS, average="micro", zero_division=0)
        macro = precision_recall_fscore_support(*measure, labels=LABELS, average="macro", zero_division=0)
        scores = score_relations(examples)
        ours = [scores[f"rel_{'strict' if with_types else 'micro'}_{key}"] for key in "prf"]
        assert ours == pytest.approx(micro[:3])
        if not with_types:
            assert scores["rel_macro_f"] == pytest.approx(macro[2])


def test_strict_relations_are_counted_like_sets():
    """PURE's way: counts of triples over all documents."""
    for seed in range(30):
        chance = random.Random(seed)
        examples = [random_example(chance) for _ in range(10)]
        sides = [(side(eg.reference, True).keys(), side(eg.predicted, True).keys()) for eg in examples]
        right = sum(len(gold & found) for gold, found in sides)
        precision = right / sum(len(found) for _, found in sides)
        recall = right / sum(len(gold) for gold, _ in sides)
        scores = score_relations(examples)
        assert scores["rel_strict_p"] == pytest.approx(precision)
        assert scores["rel_strict_r"] == pytest.approx(recall)
        assert scores["rel_strict_f"] == pytest.approx(2 * precision * recall / (precision + recall))


def test_macro_f1_is_the_official_score_of_semeval_2010_task_8():
    """Nineteen classes, of which Other is left out: the mean F1 of the relations, each right only in its direction."""
    for seed in range(30):
        chance = random.Random(seed)
        examples = [random_example(chance, entities=2, most=1) for _ in range(60)]
        gold_count: Counter = Counter()
        found_count: Counter = Counter()
        right: Counter = Counter()
        for eg in examples:
            # One relation for each sentence, between the first and the second nominal.
            eg.predicted.ents = [Span(eg.predicted, e.start, e.end, label=e.label_) for e in eg.reference.ents]
            first, second = eg.predicted.ents
            [*classes] = [(e.head.start > e.tail.start, e.label) for e in eg.reference._.relations]
            answer = (chance.random() < 0.3, chance.choice(LABELS)) if chance.random() < 0.4 else None
            answer = answer or (classes[0] if classes else None)
            ends = (second, first) if answer and answer[0] else (first, second)
            eg.predicted._.relations = [(*ends, answer[1])] if answer else []
            gold_count.update(label for _, label in classes)
            found_count.update([answer[1]] if answer else [])
            right.update([answer[1]] if answer and answer in classes else [])
        f1 = [2 * right[label] / (gold_count[label] + found_count[label]) for label in LABELS]
        assert score_relations(examples)["rel_macro_f"] == pytest.approx(sum(f1) / len(LABELS))
