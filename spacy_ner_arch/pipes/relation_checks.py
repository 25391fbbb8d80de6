"""Checks of the settings of `relation_extractor`, of its pipeline, and of the documents that it reads."""

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import combinations, islice

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from ..annotation.alternatives import ALTERNATIVES
from ..annotation.by_label import ByLabel
from ..annotation.candidates import Candidates, EntityPairs
from ..annotation.describe import Counted, describe_relation, quote
from ..annotation.layers import gives_alternatives
from ..annotation.pair_classes import PairClass
from ..annotation.relation_rules import FoundRelation, RelationRules
from ..annotation.relations import RelationKey, relation_keys
from ..annotation.type_pairs import types_of
from .base import LABEL_SAMPLE, TorchPipe
from .upstream_checks import check_sentences, warn_of_order

# Number of candidate pairs of a document above which there is a warning: they may take minutes.
MANY_PAIRS = 100_000
DIRECTION = ("pairs", "labels")
TYPE_PAIRS = ("all", "learned", "learned_by_label")
DECODE = ("pairs", "graph")


def check_settings(
    name: str,
    *,
    candidates: Callable[..., Candidates],
    direction: str,
    type_pairs: str | ByLabel,
    decode: str,
    has_limits: bool,
    negative_ratio: float | None,
) -> None:
    """Raise ValueError for settings of a component that are unknown or do not fit together.

    has_limits: whether one_head or one_tail has a label.
    """
    if direction not in DIRECTION:
        raise ValueError(f"{name}: unknown direction {direction!r}; choose from {', '.join(DIRECTION)}")
    if isinstance(type_pairs, str) and type_pairs not in TYPE_PAIRS:
        raise ValueError(
            f"{name}: type_pairs = {type_pairs!r}; give {', '.join(TYPE_PAIRS)}, a list of pairs, or lists by label"
        )
    if decode not in DECODE:
        raise ValueError(f"{name}: unknown decode {decode!r}; choose from {', '.join(DECODE)}")
    if decode == "graph" and (not isinstance(candidates, EntityPairs) or candidates.spans_key is not None):
        raise ValueError(
            f'{name}: decode = "graph" chooses among doc.ents and alternatives to them; set [components.{name}.'
            "candidates] @misc to spacy_ner_arch.EntityPairs.v1, and its spans_key to null"
        )
    if decode != "graph" and has_limits:
        raise ValueError(f'{name}: one_head and one_tail are for decode = "graph": set it, or remove them')
    if negative_ratio is not None and negative_ratio <= 0:
        raise ValueError(f"{name}: negative_ratio = {negative_ratio} must be above 0")


def check_pipeline(
    pipe: TorchPipe,
    nlp: Language,
    candidates: Callable[..., Candidates],
    decode: str,
    get_examples: Callable[[], Iterable[Example]],
) -> None:
    """Check that earlier components set the entities, sentences and alternatives that a component reads. Warn about
    another component with the same labels.

    Raises ValueError if the candidates need sentences and there are none.
    """
    # Another candidate generator may need neither entities nor sentences.
    if isinstance(candidates, EntityPairs):
        warn_of_order(pipe, nlp, candidates.spans_key)
        if candidates.within == "sentence":
            examples = islice(get_examples(), LABEL_SAMPLE)
            related = (eg.x for eg in examples if len(candidates.entities(eg.reference)) > 1)
            check_sentences(pipe.name, nlp, related)
    if decode == "graph":
        warn_of_no_alternatives(pipe.name, nlp)
    warn_of_same_labels(pipe, nlp)


def labels_of_others(pipe: TorchPipe, nlp: Language) -> set[str]:
    """Labels of the other components of the class of `pipe`, including those that are initialized later."""
    blocks = nlp.config["initialize"]["components"]
    found = set[str]()
    for name, other in nlp.components:
        if isinstance(other, type(pipe)) and other is not pipe:
            given = blocks.get(name, {}).get("labels")
            found.update(other.labels, given if isinstance(given, list) else ())
    return found


def warn_of_same_labels(pipe: TorchPipe, nlp: Language) -> None:
    """Warn about another component of the class of `pipe` with some of its labels: the later component removes the
    relations of the earlier one that have these labels."""
    found = [(name, other) for name, other in nlp.components if isinstance(other, type(pipe))]
    for (first, earlier), (second, later) in combinations(found, 2):
        same = sorted(set(earlier.labels) & set(later.labels))
        if same and pipe in (earlier, later):
            warnings.warn(
                f"{first} and {second} both have the labels {same}, and {second} removes the relations with them that "
                f"{first} has found. Each learns all labels of the corpus: give each its own as "
                f"[initialize.components.{first}] labels and [initialize.components.{second}] labels, or remove one of "
                "the components",
                stacklevel=4,
            )


def warn_of_no_alternatives(name: str, nlp: Language) -> None:
    """Warn, in the name of a component with decode = "graph", if no component of the pipeline sets alternatives."""
    if not any(gives_alternatives(pipe) for _, pipe in nlp.pipeline):
        warnings.warn(
            f'{name}: decode = "graph", but no component sets doc.spans["{ALTERNATIVES}"], so that entities '
            "can be dropped but not replaced; set alternatives of sequence_ner, 0.1 for example",
            stacklevel=4,
        )


class RelationFaults:
    """Count gold relations that cannot be found.

    multi_label: whether a pair may have several classes.
    outside: relations that are not among the candidates. `excluded` contains their kinds, see `relation_kind`.
    several_labels: relations whose pair has another gold class too, while a pair can get only one.
    """

    def __init__(self, multi_label: bool) -> None:
        self.multi_label = multi_label
        self.total = 0
        self.outside = Counted()
        self.excluded = set[str]()
        self.several_labels = Counted()

    def add(self, eg: Example, gold: Sequence[RelationKey], found: Sequence[FoundRelation]) -> None:
        """Check the gold relations of an example.

        found: the gold relations that are candidates.
        """
        self.total += len(gold)
        describe = partial(describe_relation, eg.reference)
        numbers = {number for number, _, _ in found}
        outside = [key for i, key in enumerate(gold) if i not in numbers]
        self.outside.add(outside, describe)
        self.excluded.update(map(relation_kind, outside))
        if self.multi_label:
            return
        classes = defaultdict[int, set[PairClass]](set)
        for number, row, pair_class in found:
            if classes[row] and pair_class not in classes[row]:
                self.several_labels.add([gold[number]], describe)
            classes[row].add(pair_class)

    def warn(self, name: str, unordered: bool) -> None:
        """Warn about the faults that were found. name: name of the component.

        unordered: whether two entities are one candidate for both directions.
        """
        if self.several_labels.count:
            both, remedy = (", or one label in both directions", ' or direction = "pairs"') if unordered else ("", "")
            warnings.warn(
                f"{name}: {self.several_labels.count} of {self.total} gold relations cannot be found, since their two "
                f"entities have several labels{both}, and the component predicts one, such as "
                f"{self.several_labels.first}; set multi_label = true{remedy}",
                stacklevel=3,
            )
        if self.outside.count:
            warnings.warn(
                f"{name}: {self.outside.count} of {self.total} gold relations are not candidates, such as "
                f"{self.outside.first}: an argument is not an entity of the document, does not match the tokenization, "
                "or is head and tail at once; or the entities are in different sentences, or type_pairs or "
                f"[components.{name}.candidates] exclude them; they cannot be found and count as missed. Correct them, "
                'or set within = "document", a larger max_distance or other type_pairs. A trained component that has '
                "learned its type_pairs gets others by add_types, or in a config by spacy_ner_arch.AddLabels.v1",
                stacklevel=3,
            )


def warn_of_type_pairs(pipe: TorchPipe, types: Sequence[str]) -> None:
    """Warn about type pairs with entity types that are not in the training corpus.

    types: entity types in the corpus.
    """
    unknown = sorted(types_of(pipe.cfg["type_pairs"]) - set(types))
    if unknown:
        warnings.warn(
            f"{pipe.name}: type_pairs has entity types that are not in the training corpus: {unknown}; its "
            f"types are {list(types)}",
            stacklevel=3,
        )


def warn_of_types(pipe: TorchPipe, candidates: Candidates) -> None:
    """Warn once about each entity type that is not in the training corpus."""
    unknown = pipe.not_warned("type", {span.label_ for span in candidates.entities} - set(pipe.cfg["types"]))
    if unknown:
        warnings.warn(
            f"{pipe.name}: entity types that are not in the training corpus are treated as unknown: "
            f"{unknown}; its types are {pipe.cfg['types']}",
            stacklevel=3,
        )


def relation_kind(key: RelationKey) -> str:
    """The label of a relation, and the types of its head and tail."""
    return f"{key[6]} ({key[2]} > {key[5]})"


def warn_of_excluded(
    pipe: TorchPipe,
    doc: Doc,
    gold: Sequence[RelationKey],
    candidates: Candidates,
    found: Sequence[FoundRelation],
    rules: RelationRules,
) -> None:
    """Warn once about gold relations of the component's labels that cannot be found although their entities are on the
    document.

    Initialization reports such relations, but a component that is sourced from another pipeline is not initialized.

    gold: gold relations, with character offsets in the document.
    found: the relations whose pairs are candidates.
    """
    if not gold:
        return
    numbers = {number for number, _, _ in found}
    entities = {(span.start_char, span.end_char, span.label_) for span in candidates.entities}

    def is_allowed(key: RelationKey) -> bool:
        pairs, types = rules.allowed_types(key[6]), (key[2], key[5])
        return pairs is None or types in pairs or (key[6] in rules.symmetric and types[::-1] in pairs)

    excluded = {
        relation_kind(key): key
        for number, key in reversed(list(enumerate(gold)))
        if key[6] in rules.labels and {key[:3], key[3:6]} <= entities and (number not in numbers or not is_allowed(key))
    }
    new = pipe.not_warned("relation", excluded)
    if new:
        pipe.warn_once(
            "excluded",
            f"gold relations that are not candidates cannot be found: {new}, such as "
            f"{describe_relation(doc, excluded[new[0]])}. type_pairs does not have their types, "
            f"[components.{pipe.name}.candidates] excludes them, by their sentences or distance, or head and tail are "
            "the same entity. A trained component gets further entity types and type pairs by add_types, or in a "
            "config by spacy_ner_arch.AddLabels.v1",
        )


def warn_of_many_pairs(pipe: TorchPipe, doc: Doc, count: int) -> None:
    """Warn once about a document with so many candidate pairs that it may take minutes."""
    if count > MANY_PAIRS:
        pipe.warn_once(
            "many pairs",
            f"the document {quote(doc.text)} has {count:,} candidate pairs; their number and the time grow with the "
            'square of the number of entities. To classify fewer, set max_distance or within = "sentence" in '
            f'[components.{pipe.name}.candidates], or type_pairs = "learned"',
        )


def warn_of_no_entities(pipe: TorchPipe, examples: Sequence[Example], items: Sequence[Candidates]) -> None:
    """Warn once about a batch from which no relation can be learned, since its documents have no entity."""
    if any(candidates.entities for candidates in items):
        return
    gold = sum(len(relation_keys(eg.reference)) for eg in examples)
    if gold:
        pipe.warn_once(
            "no entities",
            f"a batch has {gold} gold relations, but its documents have no entity. Use the reader "
            'spacy_ner_arch.Corpus.v1 with copy = ["ents"] (or "spans", for candidates from doc.spans), or put an '
            "entity component before this one and into [training] annotating_components",
        )


def warn_of_inexact(pipe: TorchPipe, doc: Doc, count: int) -> None:
    """Warn once about a document whose chosen entities and relations may not be the most probable ones."""
    pipe.warn_once(
        "inexact",
        f"the document {quote(doc.text)} has {count} connected entities, alternatives or relations, too many for an "
        "exact search; the chosen ones may not be the most probable. For fewer, raise `alternatives` of sequence_ner, "
        f'or set max_distance or within = "sentence" in [components.{pipe.name}.candidates]',
    )
