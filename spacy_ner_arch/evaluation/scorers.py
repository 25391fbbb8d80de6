"""Registered scorers: examples to scores with the keys that spaCy prints."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from spacy.pipeline.spancat import spancat_score
from spacy.scorer import PRFScore, get_ner_prf
from spacy.training import Example
from spacy.util import registry

from ..annotation.relations import RelationKey, aligned_keys, has_relations, relation_keys


@registry.scorers("spacy_ner_arch.span_scorer.v1")
def make_span_scorer() -> Callable[..., dict[str, Any]]:
    """Scores of `span_ner`: `ents_*` where it sets doc.ents, `spans_KEY_*` where it sets doc.spans[KEY]."""
    return score_spans


def score_spans(examples: Iterable[Example], *, decode: str, **settings: Any) -> dict[str, Any]:
    return (spancat_score if decode == "nested" else get_ner_prf)(examples, **settings)


@registry.scorers("spacy_ner_arch.relation_scorer.v1")
def make_relation_scorer() -> Callable[..., dict[str, Any]]:
    """Scores of `relation_extractor`, over all gold relations, also those whose entities were not found.

    rel_micro_p, _r, _f: a relation is right if the borders of its entities and its label are (boundary).
    rel_macro_f: mean of the F of all labels, each as much as the other.
    rel_strict_p, _r, _f: the types of its entities must be right as well.
    rel_per_type: p, r and f of each label (boundary).
    None each if there is no relation, gold or predicted, in examples whose gold side says something about relations.
    """
    return score_relations


def score_relations(examples: Iterable[Example], *, symmetric: Sequence[str] = (), **settings: Any) -> dict[str, Any]:
    per_type, strict = count_relations(examples, symmetric)
    micro = sum(per_type.values(), PRFScore())
    figures = {
        "rel_micro_p": micro.precision,
        "rel_micro_r": micro.recall,
        "rel_micro_f": micro.fscore,
        "rel_macro_f": sum(score.fscore for score in per_type.values()) / max(1, len(per_type)),
        "rel_strict_p": strict.precision,
        "rel_strict_r": strict.recall,
        "rel_strict_f": strict.fscore,
        "rel_per_type": {label: score.to_dict() for label, score in per_type.items()},
    }
    return figures if len(strict) else dict.fromkeys(figures)


def count_relations(examples: Iterable[Example], symmetric: Sequence[str] = ()) -> tuple[dict[str, PRFScore], PRFScore]:
    """Right, wrong and missed relations: of each label (boundary), and of all (strict). Examples whose gold side says
    nothing about relations are left out."""
    strict, per_type = PRFScore(), dict[str, PRFScore]()
    for example in examples:
        if not has_relations(example.reference):
            continue
        gold = directed(aligned_keys(example), symmetric)
        predicted = directed(relation_keys(example.predicted), symmetric)
        strict.score_set(predicted, gold)
        gold, predicted = (set(map(boundaries, relations)) for relations in (gold, predicted))
        for label in {relation[-1] for relation in gold | predicted}:
            score = per_type.setdefault(label, PRFScore())
            score.score_set(*({key for key in side if key[-1] == label} for side in (predicted, gold)))
    return {label: per_type[label] for label in sorted(per_type)}, strict


def directed(keys: Iterable[RelationKey], symmetric: Sequence[str]) -> set[tuple]:
    """Relations as offsets, types and label, symmetric ones always with the earlier entity first."""
    return {
        (*sorted((key[:3], key[3:6])), key[6]) if key[6] in symmetric else (key[:3], key[3:6], key[6]) for key in keys
    }


def boundaries(relation: tuple) -> tuple:
    """The same without the types."""
    head, tail, label = relation
    return head[:2], tail[:2], label
