"""`relation_extractor`: relations between the entities of a document."""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import Config, Model

from ..candidates import Candidates, GoldPairs, PairFinder
from ..relations import Relation, has_relations, relation_keys
from .base import TorchPipe

DIRECTION = ("pairs", "labels")
TYPE_PAIRS = ("all", "learned")
# What the name of a class ends in that stands for a label from the later entity to the earlier one.
INVERSE = "^-1"

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
    negative_ratio: in training, look at no more pairs without a relation than so many for each one with a relation,
        drawn anew for every batch; null for all.
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
    def classes(self) -> list[str]:
        """What the model tells apart: the labels, those with a direction twice if a pair is seen in one order only."""
        if not self.finder.once:
            return list(self.labels)
        return [name for label in self.labels for name in self._names(label)]

    def _names(self, label: str) -> list[str]:
        return [label] if label in self.cfg["symmetric"] else [label, label + INVERSE]

    def hyperparameters(self) -> dict[str, Any]:
        both_ways = [] if self.finder.once else [label for label in self.labels if label in self.cfg["symmetric"]]
        return {
            "labels": self.classes,
            "types": list(self.cfg["types"]),
            "symmetric": both_ways,
            "multi_label": self.cfg["multi_label"],
        }

    # Learning

    def find_labels(self, examples: Iterable[Example]) -> list[str]:
        """Labels of all gold relations, sorted; learns the types of entities and, if asked for, which of them are
        related; warns about relations that are no candidates."""
        labels, types, type_pairs = set[str](), set[str](), set[tuple[str, str]]()
        total = outside = 0
        for eg in examples:
            gold = relation_keys(eg.reference)
            candidates = self.finder(with_sentences(eg.reference))
            labels.update(key[-1] for key in gold)
            types.update(span.label_ for span in candidates.entities)
            type_pairs.update((key[2], key[5]) for key in gold)
            total += len(gold)
            outside += len(gold) - len({number for number, _, _ in self._find(gold, candidates)})
        if outside:
            warnings.warn(
                f"{self.name}: {outside} of {total} gold relations are no candidates, because an argument is no entity "
                f"of the document, or because of type_pairs or [components.{self.name}.candidates]; they cannot be "
                "found and count as missed",
                stacklevel=2,
            )
        self.cfg["types"] += sorted(types - set(self.cfg["types"]))
        if self.learns_type_pairs:
            self.cfg["type_pairs"] = [list(pair) for pair in sorted(type_pairs)]
        return sorted(labels)

    def targets(self, examples: Sequence[Example]) -> list[GoldPairs]:
        """Gold relations of every example among the candidates of its predicted document."""
        targets, known, found = [], 0, 0
        numbers = {name: i for i, name in enumerate(self.classes)}
        for eg in examples:
            candidates = self.finder(eg.predicted)
            gold = relation_keys(eg.reference)
            self.warn_of_labels({key[-1] for key in gold})
            known, found = known + len(gold), found + len(candidates.entities)
            rows = [(row, numbers[name]) for _, row, name in self._find(gold, candidates) if name in numbers]
            pairs, classes = np.array(sorted(set(rows)), dtype=np.int64).reshape(-1, 2).T
            # A document without annotation teaches nothing, not even that nothing is related.
            kept = self._sample(len(candidates.pairs), pairs) if has_relations(eg.reference) else pairs[:0]
            targets.append(GoldPairs(len(candidates.pairs), kept, np.searchsorted(kept, pairs), classes))
        if known and not found and "entities" not in self._reported:
            self._reported.add("entities")
            warnings.warn(
                f"{self.name}: a batch has {known} gold relations, but its documents no entity. Use the reader "
                'spacy_ner_arch.Corpus.v1 with copy = ["ents"], or put an entity component before this one and into '
                "[training] annotating_components",
                stacklevel=3,
            )
        return targets

    def _find(self, gold: Sequence[tuple], candidates: Candidates) -> Iterator[tuple[int, int, str]]:
        """Number of the gold relation, place of the pair and name of the class, of those that are candidates."""
        row = {pair: i for i, pair in enumerate(map(tuple, candidates.pairs.tolist()))}
        entities: dict[tuple[int, int], list[int]] = {}
        for i, span in enumerate(candidates.entities):
            entities.setdefault((span.start_char, span.end_char), []).append(i)

        def entity(start: int, end: int, label: str) -> int | None:
            """The entity with these borders, if possible with this label."""
            there = entities.get((start, end), [])
            return min(there, key=lambda i: candidates.entities[i].label_ != label, default=None)

        for number, (*ends, label) in enumerate(gold):
            head, tail = entity(*ends[:3]), entity(*ends[3:])
            ways = [(head, tail, label)]
            if label in self.cfg["symmetric"]:
                ways.append((tail, head, label))
            elif self.finder.once:
                ways.append((tail, head, label + INVERSE))
            for first, second, name in ways:
                if (first, second) in row:
                    yield number, row[first, second], name

    def _sample(self, total: int, related: np.ndarray) -> np.ndarray:
        """Candidates to learn from, in order: those with a relation, and of the others as many as is asked for."""
        if self.negative_ratio is None:
            return np.arange(total)
        others = np.setdiff1d(np.arange(total), related)
        # A document without any relation counts as one with one.
        most = math.ceil(self.negative_ratio * max(1, len(np.unique(related))))
        return np.union1d(related, np.random.permutation(others)[:most])

    # Predicting

    def set_annotations(self, docs: Iterable[Doc], scores: Sequence[tuple[np.ndarray, ...]]) -> None:
        """Write the relations and their probabilities onto the documents."""
        # As log odds; 0 and 1, which have none, become odds that no pair falls short of or reaches.
        threshold = self.cfg["threshold"]
        least = math.log(max(threshold, 1e-30)) - math.log(max(1 - threshold, 1e-30))
        for doc, row in zip(docs, scores, strict=True):
            candidates = self.finder(doc)
            if not len(candidates.pairs):
                doc._.relations = []
                continue
            odds, probabilities = (part[: len(candidates.pairs)] for part in row)
            if np.isnan(odds).any():
                raise ValueError(f"{self.name}: scores are not finite for {doc.text[:60]!r}; the weights are broken")
            odds = self._without_mirrored(odds, candidates.pairs)
            chosen = odds > least
            if not self.cfg["multi_label"]:
                chosen &= np.arange(odds.shape[1]) == odds.argmax(1)[:, None]
            doc._.relations = [
                self._relation(candidates, pair, self.classes[i], float(probabilities[pair, i]))
                for pair, i in np.argwhere(chosen).tolist()
            ]

    def _without_mirrored(self, odds: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """The odds, but that no symmetric label begins at the later entity if the other order is a candidate too."""
        there = set(map(tuple, pairs.tolist()))
        mirrored = [head > tail and (tail, head) in there for head, tail in pairs.tolist()]
        symmetric = [label in self.cfg["symmetric"] for label in self.classes]
        return np.where(np.outer(mirrored, symmetric), -np.inf, odds)

    def _relation(self, candidates: Candidates, pair: int, name: str, probability: float) -> Relation:
        head, tail = (candidates.entities[i] for i in candidates.pairs[pair].tolist())
        if self.finder.once and name.endswith(INVERSE):
            return Relation(tail, head, name.removesuffix(INVERSE), probability)
        if name in self.cfg["symmetric"] and (tail.start, tail.end) < (head.start, head.end):
            head, tail = tail, head
        return Relation(head, tail, name, probability)


def with_sentences(doc: Doc) -> Doc:
    """A gold document, one sentence if it does not say where its sentences begin; the pipeline may know more."""
    if doc.has_annotation("SENT_START"):
        return doc
    doc = doc.copy()
    for token in doc:
        token.is_sent_start = token.i == 0
    return doc
