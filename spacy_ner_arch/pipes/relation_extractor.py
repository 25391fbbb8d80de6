"""`relation_extractor`: relations between the entities of a document."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from reprlib import repr as short_repr
from typing import Any

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import Model

from ..annotation.alternatives import entities_and_alternatives
from ..annotation.by_label import ByLabel
from ..annotation.candidates import Candidates
from ..annotation.entities import count_as_right, span_scores
from ..annotation.gold_relations import GoldPairs, sample_negatives
from ..annotation.head_input import HeadInput
from ..annotation.pair_classes import INVERSE, class_names
from ..annotation.relation_decoding import (
    ScoredPairs,
    choose_graph,
    choose_pairs,
    make_relations,
    overlapping,
    score_pairs,
)
from ..annotation.relation_rules import FoundRelation, RelationRules
from ..annotation.relations import (
    RelationKey,
    aligned_keys,
    get_relations,
    has_relations,
    relation_keys,
    set_relations,
)
from ..annotation.scores import log_odds
from ..annotation.sentences import with_sentences
from ..annotation.type_pairs import GivenTypePairs, add_type_pairs, as_sets, as_type_pairs
from ..bridge.errors import ChangedSetting, named_errors
from .base import DEFAULT_TOK2VEC, TorchPipe
from .gold_checks import noting_unannotated
from .relation_checks import (
    RelationFaults,
    check_pipeline,
    check_settings,
    labels_of_others,
    warn_of_excluded,
    warn_of_inexact,
    warn_of_many_pairs,
    warn_of_no_entities,
    warn_of_type_pairs,
    warn_of_types,
)
from .upstream_checks import find_sentencizer

DEFAULT_MODEL = {
    "@architectures": "spacy_ner_arch.Relations.v1",
    "tok2vec": DEFAULT_TOK2VEC,
    "pairs": {"@architectures": "spacy_ner_arch.SoftmaxPairs.v1"},
}


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
        "decode": "pairs",
        "one_head": [],
        "one_tail": [],
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
    type_pairs: str | list[list[Any]] | dict[str, list[list[str]]],
    decode: str,
    one_head: list[str],
    one_tail: list[str],
    negative_ratio: float | None,
    loss_weight: Any,
    scorer: Callable | None,
) -> "RelationExtractor":
    """Relation extraction: classify every candidate pair of entities on the document.

    Training also uses the entities on the predicted document: gold entities from spacy_ner_arch.Corpus.v1 with
    copy = ["ents"], the entities of an annotating component, or both.

    model: spacy_ner_arch.Relations.v1.
    candidates: for example spacy_ner_arch.EntityPairs.v1.
    direction: how a relation gets its head and its tail.
        pairs: every ordered pair is classified; the first entity is the head.
        labels: two entities are classified once, in the order of the text. A label that is not symmetric has two
            classes, one per direction.
    symmetric: labels that hold in both directions; they are stored once, with the earlier entity as head.
    multi_label: whether a pair may have several labels. If not, it gets its most probable label or none.
    threshold: minimum probability of a label for a pair whose entities are right, from 0 to 1; without multi_label,
        compared with the probability of no relation only. The calibrated bias is not applied.
        `spacy find-threshold` tunes it.
    type_pairs: "all"; "learned" for the type pairs of head and tail that have a relation in the training corpus, or
        "learned_by_label" for those that have the same relation; a list of [type of the head, type of the tail]; or
        such lists by label, where labels that are not named may have all pairs: a dictionary, or a list of [label,
        pairs] for labels with `:` or `=`, which cannot be keys of a config.
    decode: how relations are chosen.
        pairs: for each pair independently, between the entities of the document.
        graph: entities and relations jointly, with the greatest sum of log odds. Where type_pairs or symmetric forbid
            a probable relation, its entities may be replaced by those in doc.spans["alternatives"], which sequence_ner
            sets if its setting `alternatives` is given. Pairs of all types are candidates.
    one_head, one_tail: with decode = "graph", labels of which an entity has at most one head, or at most one tail.
    negative_ratio: in every update, sample at most this number of pairs without a relation for each related pair of the
        batch, or for each document if there are more documents than related pairs; null for all pairs. The loss
        corrects for the sampling, so probabilities hold for all pairs.
    loss_weight: factor of the loss of a component that shares an encoder with others: a number, a schedule, or
        spacy_ner_arch.LearnedWeight.v1.
    scorer: scorer of relations.
    """
    pipe = RelationExtractor(
        nlp.vocab,
        model,
        name,
        candidates=candidates,
        direction=direction,
        symmetric=symmetric,
        multi_label=multi_label,
        threshold=threshold,
        type_pairs=type_pairs,
        decode=decode,
        one_head=one_head,
        one_tail=one_tail,
        negative_ratio=negative_ratio,
        loss_weight=loss_weight,
        scorer=scorer,
    )
    share_symmetric([*(other for _, other in nlp.components if isinstance(other, RelationExtractor)), pipe])
    return pipe


def share_symmetric(extractors: Sequence["RelationExtractor"]) -> None:
    """Give each extractor of a pipeline the symmetric labels of all extractors for scoring: each extractor scores the
    relations of all, and spaCy keeps the scores of the last extractor."""
    symmetric = {label for pipe in extractors for label in pipe.cfg["symmetric"]}
    for pipe in extractors:
        pipe.scored_as_symmetric = symmetric


class RelationExtractor(TorchPipe):
    """Set `doc._.relations`, each with the probability that both entities are right and have this relation."""

    classifies = "pairs"
    gold_layer = "doc._.relations"
    architectures = "spacy_ner_arch.Relations.v1"
    fixed_settings = ("direction", "symmetric", "multi_label")

    def __init__(
        self,
        vocab: Vocab,
        model: Model,
        name: str,
        *,
        candidates: Callable[..., Candidates],
        direction: str,
        symmetric: Sequence[str],
        multi_label: bool,
        threshold: float,
        type_pairs: str | ByLabel,
        decode: str,
        one_head: Sequence[str],
        one_tail: Sequence[str],
        negative_ratio: float | None,
        **settings: Any,
    ) -> None:
        check_settings(
            name,
            candidates=candidates,
            direction=direction,
            type_pairs=type_pairs,
            decode=decode,
            has_limits=bool(one_head or one_tail),
            negative_ratio=negative_ratio,
        )
        with named_errors(name):
            setting = type_pairs if isinstance(type_pairs, str) else as_type_pairs(type_pairs)
        super().__init__(
            vocab,
            model,
            name,
            direction=direction,
            symmetric=list(symmetric),
            multi_label=multi_label,
            threshold=threshold,
            type_pairs=setting,
            **settings,
        )
        self.cfg["types"] = []
        # Labels that other extractors of the pipeline predict. Stored, since a trained component is not initialized.
        self.cfg["labels_of_others"] = []
        if isinstance(setting, str):
            self.cfg["type_pairs"] = None  # for "all", and until they are learned
        self.generate_candidates = candidates
        # Sets the sentences of gold documents that have none, see `find_gold`.
        self.sentencizer: Callable[[Doc], Doc] | None = None
        # `symmetric` of all extractors of the pipeline.
        self.scored_as_symmetric = set(symmetric)
        # Whether the component learns all labels of the corpus.
        self.learns_all_labels = True
        # How type pairs are learned; None if they are given or all are allowed.
        self.learned_type_pairs = setting if setting in ("learned", "learned_by_label") else None
        self.decode = decode
        self.one_head = list(one_head)
        self.one_tail = list(one_tail)
        self.negative_ratio = negative_ratio

    # Labels and types

    @property
    def unordered(self) -> bool:
        """Whether two entities are one candidate for both directions."""
        return bool(self.cfg["direction"] == "labels")

    @property
    def rules(self) -> RelationRules:
        """The relations that the component may find, with its present labels and settings."""
        return RelationRules(
            self.labels,
            self.cfg["symmetric"],
            self.unordered,
            self.cfg["multi_label"],
            as_sets(self.cfg["type_pairs"]),
            log_odds(self.cfg["threshold"]),
            self.one_head,
            self.one_tail,
        )

    def hyperparameters(self) -> dict[str, Any]:
        return {
            "labels": class_names(self.rules.classes),
            "types": list(self.cfg["types"]),
            "symmetric": [label for label in self.labels if label in self.cfg["symmetric"]],
            "multi_label": self.cfg["multi_label"],
        }

    def named_labels(self) -> dict[str, Iterable[str]]:
        type_pairs = self.cfg["type_pairs"]
        # Label data may have learned type pairs of labels that the component was not given.
        is_given = isinstance(type_pairs, dict) and not self.learned_type_pairs
        by_label = {"type_pairs": type_pairs} if is_given else {}
        limits = {"one_head": self.one_head, "one_tail": self.one_tail}
        return {**super().named_labels(), "symmetric": self.cfg["symmetric"], **limits, **by_label}

    def warn_of_labels(self, gold: Iterable[str]) -> None:
        """Warn once about each gold label that neither the component nor another extractor of the pipeline has."""
        super().warn_of_labels(set(gold) - {*self.cfg["labels_of_others"]})

    @property
    def given_labels(self) -> tuple[str, ...] | None:
        """Labels that the component learns; None for all labels of the corpus."""
        return None if self.learns_all_labels or not self.labels else self.labels

    def add_label(self, label: str) -> int:
        """Add a label. A trained model grows and keeps its other labels. Returns 0 if the label exists, else 1."""
        if self.unordered and isinstance(label, str) and label.endswith(INVERSE):
            raise ValueError(
                f'{self.name}: the label {label!r} ends in {INVERSE!r}; rename it, or set direction = "pairs"'
            )
        return super().add_label(label)

    @property
    def label_data(self) -> dict[str, Any]:
        """Labels, entity types and learned type pairs, as `spacy init labels` writes them."""
        return {"labels": list(self.labels), "types": list(self.cfg["types"]), "type_pairs": self.cfg["type_pairs"]}

    def add_label_data(self, labels: Any) -> bool:
        """Add label data, or only labels. Returns whether the data have entity types and, if these are learned, type
        pairs."""
        if not isinstance(labels, dict) or "labels" not in labels:
            super().add_label_data(labels)  # raises for a dictionary
            return False
        learned, type_pairs = self.learned_type_pairs, labels.get("type_pairs")
        if learned and type_pairs is not None and self.cfg["type_pairs"] is None:
            self.cfg["type_pairs"] = [] if learned == "learned" else {}
        self.add_types(labels.get("types", ()), (type_pairs or ()) if learned else ())
        super().add_label_data(labels["labels"])
        return "types" in labels and (not learned or type_pairs is not None)

    def complete_label_data(self, given: Any, found: dict[str, Any]) -> dict[str, Any]:
        if given is None:
            return found
        known = given if isinstance(given, dict) else {"labels": given}
        return {**found, **{key: value for key, value in known.items() if value is not None}}

    def add_types(self, types: Iterable[str], type_pairs: GivenTypePairs = ()) -> None:
        """Add entity types and type pairs; give type pairs by label if they are restricted by label. A trained model
        grows."""
        if isinstance(types, str):
            raise ValueError(f"{self.name}: types = {types!r} is not a list; give [{types!r}]")
        if self.cfg["type_pairs"] is not None:
            with named_errors(self.name):
                add_type_pairs(self.cfg["type_pairs"], type_pairs)
        new = [name for name in dict.fromkeys(types) if name not in self.cfg["types"]]
        self.cfg["types"] += new
        if new:
            self._resize()

    def change_setting(self, name: str, value: Any) -> None:
        if name == "type_pairs" and isinstance(value, str):
            if self.learned_type_pairs and self.shim.is_initialized:
                before = "all" if self.cfg[name] is None else self.cfg[name]
                raise ChangedSetting(name, short_repr(before), repr(value))
            value = None
        super().change_setting(name, value)
        if name == "type_pairs" and self.shim.is_initialized:
            warn_of_type_pairs(self, self.cfg["types"])

    # Candidates

    @property
    def spans_key(self) -> str | None:
        """Group in doc.spans that the entities come from; None for doc.ents."""
        return getattr(self.generate_candidates, "spans_key", None)

    def find_items(self, docs: Sequence[Doc]) -> list[Candidates]:
        """Candidates of each document that the settings allow, as the model reads them."""
        rules = self.rules
        return [self._prepare(doc, self.generate_candidates(doc), rules) for doc in docs]

    def find_items_to_predict(self, docs: Sequence[Doc]) -> list[Candidates]:
        """Like `find_items`, with the probabilities of the entities.

        With decode = "graph", also pairs of alternatives to the entities, except pairs of overlapping spans.
        """
        if self.decode != "graph":
            found = zip(docs, self.find_items(docs), strict=True)
            return [
                candidates._replace(scores=span_scores(doc, candidates.entities, self.spans_key))
                for doc, candidates in found
            ]
        items = []
        rules = self.rules
        for doc in docs:
            entities, scores = entities_and_alternatives(doc)
            candidates = self._prepare(doc, self.generate_candidates(doc, entities), rules)._replace(scores=scores)
            items.append(candidates.select(~overlapping(candidates)))
        return items

    def _prepare(self, doc: Doc, candidates: Candidates, rules: RelationRules) -> Candidates:
        """Select the pairs that the settings allow, and prepare them for the model. Warn if there are many."""
        candidates = self._select(candidates.for_model(self.cfg["types"]), rules)
        warn_of_many_pairs(self, doc, len(candidates.pairs))
        return candidates

    def _select(self, candidates: Candidates, rules: RelationRules) -> Candidates:
        """The candidates that the rules allow. A graph also needs pairs of other types: a probable relation between
        them is evidence that a type is wrong."""
        return rules.select(candidates, any_types=self.decode == "graph")

    # Training

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Language | None = None,
        labels: Any = None,
    ) -> None:
        """Collect labels, entity types and type pairs, and build the model.

        labels: label data, or a list of labels, from [initialize.components.NAME.labels]. None and a list read all
            examples, for the types; with label data, only the first ones are read, for warnings.
        """
        self.sentencizer = None if nlp is None else find_sentencizer(nlp, self.name)
        self.cfg["labels_of_others"] = [] if nlp is None else sorted(labels_of_others(self, nlp))
        self.learns_all_labels = labels is None
        if nlp is not None:
            # Do this again: a component that was sourced from another pipeline already has its labels.
            share_symmetric([pipe for _, pipe in nlp.components if isinstance(pipe, RelationExtractor)])
        if self.learned_type_pairs:
            self.cfg["type_pairs"] = None  # those of an earlier corpus
        super().initialize(get_examples, nlp=nlp, labels=labels)
        if self.learned_type_pairs is None:
            warn_of_type_pairs(self, self.cfg["types"])
        if nlp is not None:
            check_pipeline(self, nlp, self.generate_candidates, self.decode, get_examples)

    def find_label_data(self, examples: Iterable[Example]) -> dict[str, Any]:
        """Labels of gold relations, types of entities, and type pairs by label, all sorted. Warns about relations that
        cannot be found."""
        labels, types = set[str](), set[str]()
        type_pairs = defaultdict[str, set[tuple[str, str]]](set)
        faults = RelationFaults(self.cfg["multi_label"])
        for eg in noting_unannotated(self.name, self.gold_layer, examples):
            labels.update(key[6] for key in relation_keys(eg.reference))
            gold, candidates, found = self.find_gold(eg)
            types.update(span.label_ for span in candidates.entities)
            for _, _, head, _, _, tail, label in gold:
                type_pairs[label].add((head, tail))
            faults.add(eg, gold, found)
        faults.warn(self.name, self.unordered)
        self.not_warned("relation", faults.excluded)
        return {
            "labels": sorted(labels),
            "types": sorted(types),
            "type_pairs": {label: sorted(pairs) for label, pairs in sorted(type_pairs.items())},
        }

    def find_gold(self, eg: Example) -> tuple[list[RelationKey], Candidates, list[FoundRelation]]:
        """Gold relations of an example with labels that the component learns, the candidates among its gold entities,
        and the relations that are candidates.

        A document without sentence boundaries gets those of the sentencizer of the pipeline, or counts as one sentence.
        Until type pairs are learned, all types are allowed.
        """
        rules = self.rules
        candidates = self._select(self.generate_candidates(with_sentences(eg.reference, self.sentencizer)), rules)
        given = self.given_labels
        keys = zip(relation_keys(eg.reference), aligned_keys(eg), strict=True)
        learned = [row for row in keys if given is None or row[0][6] in given]
        gold = [key for key, _ in learned]
        is_aligned = [aligned[0] >= 0 and aligned[3] >= 0 for _, aligned in learned]
        return gold, candidates, [row for row in rules.find_allowed(gold, candidates) if is_aligned[row[0]]]

    def find_targets(
        self, examples: Sequence[Example], items: list[Candidates] | None, is_update: bool = False
    ) -> list[GoldPairs]:
        """Gold relations of every example among its candidates.

        is_update: warn once about gold relations that are not candidates.
        """
        assert items is not None
        targets = []
        rules = self.rules
        numbers = {pair_class: i for i, pair_class in enumerate(rules.classes)}
        for eg, candidates in zip(examples, items, strict=True):
            gold = aligned_keys(eg)
            self.warn_of_labels({key[-1] for key in gold})
            warn_of_types(self, candidates)
            found = list(rules.find(gold, candidates))
            if is_update:
                warn_of_excluded(self, eg.predicted, gold, candidates, found, rules)
            rows = {(row, numbers[pair_class]) for _, row, pair_class in found if pair_class in numbers}
            targets.append(GoldPairs(*np.array(sorted(rows), dtype=np.int64).reshape(-1, 2).T))
        return targets

    def model_input(self, examples: Sequence[Example], sample: bool = False) -> HeadInput:
        items = self._annotated_items(examples)
        targets = self.find_targets(examples, items, is_update=sample)
        if sample:
            warn_of_no_entities(self, examples, items)
            if self.negative_ratio is not None:
                items, targets = sample_negatives(items, targets, self.negative_ratio)
        return HeadInput([eg.predicted for eg in examples], items, targets)

    def _annotated_items(self, examples: Sequence[Example]) -> list[Candidates]:
        """Candidates of each example; none for a document without annotation, which has no negative pairs either."""
        found = self.find_items([eg.predicted for eg in examples])
        nothing = np.zeros(0, dtype=np.int64)
        return [
            candidates if has_relations(eg.reference) else candidates.select(nothing)
            for eg, candidates in zip(examples, found, strict=True)
        ]

    def held_out_input(self, examples: Sequence[Example]) -> HeadInput:
        """Input for calibration, without pairs that have a wrong entity.

        The probability of a label is conditional on right entities. `set_annotations` multiplies it with the
        probabilities of the entities.
        """
        items = []
        for eg, candidates in zip(examples, self._annotated_items(examples), strict=True):
            right = count_as_right(eg, candidates.entities, self.spans_key)
            items.append(candidates.select(right[candidates.pairs].all(1)))
        return HeadInput([eg.predicted for eg in examples], items, self.find_targets(examples, items))

    def score(self, examples: Iterable[Example], **settings: Any) -> dict[str, Any]:
        """Scores of the relations of all extractors of the pipeline, by the scorer."""
        scores: dict[str, Any] = super().score(examples, **{"symmetric": sorted(self.scored_as_symmetric), **settings})
        return scores

    # Predicting

    def set_annotations(self, docs: Iterable[Doc], scores: Any) -> None:
        """Write the relations and their probabilities onto the documents. Relations with other labels are kept.

        The probability of a relation is the probability of its label for the pair times those of both entities. With
        decode = "graph", write the entities as well.
        """
        items, predictions = scores
        rules = self.rules
        for doc, candidates, row in zip(docs, items, predictions, strict=True):
            relations = [relation for relation in get_relations(doc) if relation.label not in rules.labels]
            if len(candidates.pairs):
                warn_of_types(self, candidates)
                log_probabilities, odds = row
                pairs = score_pairs(candidates, log_probabilities, odds, rules)
                self.check_finite(doc, pairs.odds)
                relations += make_relations(pairs, self._choose(doc, pairs, rules), rules)
            set_relations(doc, relations)

    def _choose(self, doc: Doc, pairs: ScoredPairs, rules: RelationRules) -> np.ndarray:
        """(P, C) bool: the classes of each pair, chosen as `decode` says. With "graph", set the entities as well."""
        if self.decode != "graph":
            return choose_pairs(pairs, rules)
        chosen, inexact = choose_graph(doc, pairs, rules)
        if inexact:
            warn_of_inexact(self, doc, inexact)
        return chosen
