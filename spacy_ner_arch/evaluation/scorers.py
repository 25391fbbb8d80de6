"""Registered scorers: functions from examples to scores, with the keys that spaCy prints."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from spacy.scorer import PRFScore
from spacy.training import Example
from spacy.util import registry

from .items import Item, Sides, relation_items, unique


@registry.scorers("spacy_ner_arch.relation_scorer.v1")
def make_relation_scorer() -> Callable[..., dict[str, Any]]:
    """Return the scorer of `relation_extractor`.

    All gold relations count, including those whose entities were not found. The scores are:
    rel_micro_p, rel_micro_r, rel_micro_f: a relation is right if its label and the boundaries of both entities are.
    rel_macro_f: unweighted mean of the F1 of all labels.
    rel_strict_p, rel_strict_r, rel_strict_f: the types of both entities must be right as well.
    rel_per_type: precision, recall and F1 of each label, counted as for rel_micro_f.
    All are None if the examples with gold annotation of relations contain no relation, gold or predicted.
    """
    return score_relations


def score_relations(examples: Iterable[Example], *, symmetric: Sequence[str] = (), **settings: Any) -> dict[str, Any]:
    per_label, strict = relation_counts(examples, symmetric)
    micro = sum(per_label.values(), PRFScore())
    scores = {
        "rel_micro_p": micro.precision,
        "rel_micro_r": micro.recall,
        "rel_micro_f": micro.fscore,
        "rel_macro_f": sum(score.fscore for score in per_label.values()) / max(1, len(per_label)),
        "rel_strict_p": strict.precision,
        "rel_strict_r": strict.recall,
        "rel_strict_f": strict.fscore,
        "rel_per_type": {label: score.to_dict() for label, score in sorted(per_label.items())},
    }
    return scores if len(strict) else dict.fromkeys(scores)


def relation_counts(examples: Iterable[Example], symmetric: Sequence[str] = ()) -> tuple[dict[str, PRFScore], PRFScore]:
    """Count right, wrong and missed relations: per label by boundaries, and in total with the types (strict).

    symmetric: labels that hold in both directions.
    """
    strict = PRFScore()
    documents = []
    for example in examples:
        sides = gold, predicted = relation_items(example, symmetric)
        strict.score_set({item[:3] for item in predicted}, {item[:3] for item in gold})
        documents.append(without_types(sides))
    return label_counts(documents), strict


def without_types(sides: Sides) -> Sides:
    """Relations that differ only in the types of their arguments count once."""
    gold, predicted = (unique(item._replace(types=()) for item in side) for side in sides)
    return gold, predicted


def label_counts(documents: Iterable[tuple[Iterable[Item], ...]]) -> dict[str, PRFScore]:
    """Count right, wrong and missed items per label.

    documents: gold and predicted items of each document. A prediction is right if its label and its places equal those
        of a gold item; a second prediction of the same item is wrong.
    """
    per_label: dict[str, PRFScore] = {}
    for sides in documents:
        gold, predicted = (Counter((item.label, item.places) for item in side) for side in sides)
        for key in gold | predicted:
            score = per_label.setdefault(key[0], PRFScore())
            right = min(gold[key], predicted[key])
            score.tp += right
            score.fp += predicted[key] - right
            score.fn += gold[key] - right
    return per_label
