"""`relation_extractor`: relations between the entities of a document."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import Config, Model

from ..annotation.candidates import Candidates, PairFinder
from ..annotation.gold_relations import Found, GoldPairs, find_relations, with_sentences
from ..annotation.relations import (
    Relation,
    RelationKey,
    aligned_keys,
    get_relations,
    has_relations,
    relation_keys,
    set_relations,
)
from ..annotation.tags import INVERSE
from .base import TorchPipe, log_odds

DIRECTION = ("pairs", "labels")
TYPE_PAIRS = ("all", "learned")

DEFAULT_MODEL = Config().from_str(
    """
[model]
@architectures = "spacy_ner_arch.RelationBiLSTM.v1"

[model.tok2vec]
@architectures = "spacy_ner_arch.WordCharEmbed.v1"
"""
)["model"]


@Language.factory(
    "relation_extractor",
    requires=["doc.ents"],
    assigns=["doc._.relations"],
    default_config={
        "model": DEFAULT_MODEL,
        "candidates": {"@misc": "spacy_ner_arch.EntityPairs.v1"},
        "direction": "pairs",
        "symmetric": [],
        "multi_label": False,
        "threshold": 0.5,
        "type_pairs": "all",
        "negative_ratio": None,
        "loss_weight": 1.0,
        "scorer": {"@scorers": "spacy_ner_arch.relation_scorer.v1"},
    },
    default_score_weights={
        "rel_micro_f": 1.0,
        "rel_micro_p": 0.0,
        "rel_micro_r": 0.0,
        "rel_macro_f": 0.0,
        "rel_strict_f": 0.0,
        "rel_per_type": None,
    },
)
def make_relation_extractor(
    nlp: Language,
    name: str,
    model: Model,
    candidates: Callable[[Doc], Candidates],
    direction: str,
    symmetric: list[str],
    multi_label: bool,
    threshold: float,
    type_pairs: str | list[list[str]],
    negative_ratio: float | None,
    loss_weight: Any,
    scorer: Callable | None,
) -> "RelationExtractor":
    """Relation extraction: a label, or none, for every candidate pair of the entities on the document.

    In training, too, these are the entities that are on the document: gold ones from spacy_ner_arch.Corpus.v1 with copy
    = ["ents"], those of an entity component that is one of the annotating_components, or both.

    model: a relation model such as spacy_ner_arch.RelationSoftmax.v1.
    candidates: for example spacy_ner_arch.EntityPairs.v1.
    direction: how a relation gets its head and its tail.
        pairs: every ordered pair is classified, the first entity being the head.
        labels: every two entities are classified once, in the order of the text, and each label that is not symmetric
            stands for two classes, one for either direction.
    symmetric: labels that hold in both directions; they are stored once, the earlier entity as head.
    multi_label: whether a pair may have several labels; if not, it has the likeliest one or none.
    threshold: from 0 to 1, of the probability of a label (against that of no relation, if a pair has only one); `spacy
        find-threshold` tunes it.
    type_pairs: "all"; "learned" for candidates with types of head and tail that have a relation in the training
        corpus; or a list of [type of head, type of tail].
    negative_ratio: in training, look at no more pairs without a relation than so many for each one with a relation in
        the same document (at least for one), drawn anew for every update; null for all. It saves nothing under
        spacy_ner_arch.RelationMarkers.v1, which reads all pairs.
    loss_weight: factor of the loss where the component shares an encoder with others: a number, a schedule, or
        spacy_ner_arch.LearnedWeight.v1.
    """
    return RelationExtractor(
        nlp.vocab,
        model,
        name,
        candidates=candidates,
        direction=direction,
        symmetric=symmetric,
        multi_label=multi_label,
        threshold=threshold,
        type_pairs=type_pairs,
        negative_ratio=negative_ratio,
        loss_weight=loss_weight,
        scorer=scorer,
    )


class RelationExtractor(TorchPipe):
    """Sets `doc._.relations`, each with the probability of its label according to the model."""

    def __init__(
        self,
        vocab: Vocab,
        model: Model,
        name: str = "relation_extractor",
        *,
        candidates: Callable[[Doc], Candidates],
        direction: str = "pairs",
        symmetric: Sequence[str] = (),
        multi_label: bool = False,
        threshold: float = 0.5,
        type_pairs: str | Sequence[Sequence[str]] = "all",
        negative_ratio: float | None = None,
        loss_weight: Any = 1.0,
        scorer: Callable | None = None,
    ) -> None:
        if direction not in DIRECTION:
            raise ValueError(f"{name}: unknown direction {direction!r}; known are {', '.join(DIRECTION)}")
        if isinstance(type_pairs, str) and type_pairs not in TYPE_PAIRS:
            raise ValueError(f"{name}: type_pairs = {type_pairs!r}; give {', '.join(TYPE_PAIRS)}, or a list of pairs")
        if not 0 <= threshold <= 1 or (negative_ratio is not None and negative_ratio < 0):
            raise ValueError(
                f"{name}: threshold = {threshold} and negative_ratio = {negative_ratio}; they are 0 to 1, 0 or more"
            )
        given = None if isinstance(type_pairs, str) else [list(pair) for pair in type_pairs]
        settings = {"direction": direction, "symmetric": list(symmetric), "multi_label": multi_label}
        super().__init__(
            vocab,
            model,
            name,
            scorer=scorer,
            loss_weight=loss_weight,
            **settings,
            threshold=threshold,
            types=[],
            type_pairs=given,
        )
        self.learns_type_pairs = type_pairs == "learned"
        self.negative_ratio = negative_ratio
        self.finder = PairFinder(candidates, self.cfg)
        for node in model.walk():
            if "pair_finder" in node.attrs:
                node.attrs["pair_finder"] = self.finder

    # What the model is built from

    @property
    def classes(self) -> list[tuple[str, bool]]:
        """What the model tells apart: labels, and whether the second entity of a pair is the head. Where each two
        entities are seen once only, a label with a direction is two classes."""
        ways = (False, True) if self.finder.once else (False,)
        return [
            (label, inverse)
            for label in self.labels
            for inverse in (ways if label not in self.cfg["symmetric"] else (False,))
        ]

    def hyperparameters(self) -> dict[str, Any]:
        return {
            "labels": [label + INVERSE * inverse for label, inverse in self.classes],
            "types": list(self.cfg["types"]),
            "symmetric": [label for label in self.labels if label in self.cfg["symmetric"]],
            "multi_label": self.cfg["multi_label"],
        }

    def add_label(self, label: str) -> int:
        if self.finder.once and isinstance(label, str) and label.endswith(INVERSE):
            raise ValueError(
                f'{self.name}: the label {label!r} ends in {INVERSE!r}; rename it, or set direction = "pairs"'
            )
        return super().add_label(label)

    # Learning

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Language | None = None,
        labels: Sequence[str] | None = None,
    ) -> None:
        super().initialize(get_examples, nlp=nlp, labels=labels)
        unknown = sorted(set(self.cfg["symmetric"]) - set(self.labels))
        if unknown:
            raise ValueError(f"{self.name}: symmetric names {unknown}, which are no labels; these are {self.labels}")

    def find_labels(self, examples: Iterable[Example]) -> list[str]:
        """Labels of all gold relations, sorted; learns the types of entities and, if asked for, which of them are
        related; warns about relations that cannot be found."""
        labels, types, type_pairs = set[str](), set[str](), set[tuple[str, str]]()
        total = outside = 0
        for eg in examples:
            gold = relation_keys(eg.reference)
            candidates = self.finder(with_sentences(eg.reference))
            labels.update(key[-1] for key in gold)
            types.update(span.label_ for span in candidates.entities)
            type_pairs.update((key[2], key[5]) for key in gold)
            total += len(gold)
            aligned = [key[0] >= 0 and key[3] >= 0 for key in aligned_keys(eg)]
            outside += len(gold) - sum({i: aligned[i] for i, _, _ in self._find(gold, candidates)}.values())
        if outside:
            warnings.warn(
                f"{self.name}: {outside} of {total} gold relations are no candidates, because an argument is no entity "
                "of the document or does not align with the tokens of the pipeline, or because of type_pairs or "
                f"[components.{self.name}.candidates]; they cannot be found and count as missed",
                stacklevel=2,
            )
        self.cfg["types"] += sorted(types - set(self.cfg["types"]))
        if self.learns_type_pairs:
            self.cfg["type_pairs"] = [list(pair) for pair in sorted(type_pairs)]
        return sorted(labels)

    def targets(self, examples: Sequence[Example]) -> list[GoldPairs]:
        """Gold relations of every example among the candidates of its predicted document."""
        targets, known, found = [], 0, 0
        numbers = {way: i for i, way in enumerate(self.classes)}
        for eg in examples:
            candidates = self.finder(eg.predicted)
            gold = aligned_keys(eg)
            self.warn_of_labels({key[-1] for key in gold})
            self._warn_of_types(candidates)
            known, found = known + len(gold), found + len(candidates.entities)
            rows = {(row, numbers[way]) for _, row, way in self._find(gold, candidates) if way in numbers}
            pairs, classes = np.array(sorted(rows), dtype=np.int64).reshape(-1, 2).T
            # A document without annotation teaches nothing, not even that nothing is related.
            kept = np.arange(len(candidates.pairs)) if has_relations(eg.reference) else pairs[:0]
            targets.append(GoldPairs(len(candidates.pairs), kept, pairs, classes))
        if known and not found and "entities" not in self._reported:
            self._reported.add("entities")
            warnings.warn(
                f"{self.name}: a batch has {known} gold relations, but its documents no entity. Use the reader "
                'spacy_ner_arch.Corpus.v1 with copy = ["ents"] (or "spans", for candidates from doc.spans), or put an '
                "entity component before this one and into [training] annotating_components",
                stacklevel=3,
            )
        return targets

    def update_targets(self, examples: Sequence[Example]) -> list[GoldPairs]:
        """The same, with as many pairs without a relation as negative_ratio leaves."""
        targets = self.targets(examples)
        return targets if self.negative_ratio is None else [gold.sample(self.negative_ratio) for gold in targets]

    def _find(self, gold: Sequence[RelationKey], candidates: Candidates) -> Iterator[Found]:
        return find_relations(gold, candidates, self.cfg["symmetric"], self.finder.once)

    def _warn_of_types(self, candidates: Candidates) -> None:
        """Say once of every type of entity that training has not seen it."""
        unknown = {span.label_ for span in candidates.entities} - set(self.cfg["types"]) - self._reported
        if unknown:
            self._reported |= unknown
            warnings.warn(
                f"{self.name}: entities of types that it was not trained on are taken for entities of no type: "
                f"{sorted(unknown)}; it knows {self.cfg['types']}",
                stacklevel=3,
            )

    # Predicting

    def set_annotations(self, docs: Iterable[Doc], scores: Sequence[tuple[np.ndarray, ...]]) -> None:
        """Write the relations and their probabilities onto the documents; relations with labels of others stay."""
        least = log_odds(self.cfg["threshold"])
        for doc, row in zip(docs, scores, strict=True):
            relations = [relation for relation in get_relations(doc) if relation.label not in self.labels]
            candidates = self.finder(doc)
            if len(candidates.pairs):
                self._warn_of_types(candidates)
                odds, probabilities = (part[: len(candidates.pairs)] for part in row)
                self.check_finite(doc, odds)
                for pair, i in np.argwhere(self._choose(odds > least, odds, candidates)).tolist():
                    relations.append(self._relation(candidates, pair, i, float(probabilities[pair, i])))
            set_relations(doc, relations)

    def _choose(self, likely: np.ndarray, odds: np.ndarray, candidates: Candidates) -> np.ndarray:
        """(P, classes) bool: what holds, of what is likely enough."""
        if not self.cfg["multi_label"]:
            likely = likely & (np.arange(odds.shape[1]) == odds.argmax(1)[:, None])
        for i, (label, inverse) in enumerate(self.classes):
            symmetric = label in self.cfg["symmetric"]
            if self.finder.once:
                likely[:, i] &= self.finder.may_be_related(candidates, inverse, symmetric)
            elif symmetric:
                likely[:, i] &= ~self._is_mirrored(candidates)
        return likely

    def _is_mirrored(self, candidates: Candidates) -> np.ndarray:
        """(P,) bool: whether the head is the later entity and the other order is a candidate, too."""
        size = len(candidates.entities)
        heads, tails = candidates.pairs.T
        return (heads > tails) & np.isin(tails * size + heads, heads * size + tails)

    def _relation(self, candidates: Candidates, pair: int, number: int, probability: float) -> Relation:
        first, second = (candidates.entities[i] for i in candidates.pairs[pair].tolist())
        label, inverse = self.classes[number]
        if label in self.cfg["symmetric"]:
            inverse = (second.start, second.end) < (first.start, first.end)
        return Relation(second, first, label, probability) if inverse else Relation(first, second, label, probability)
