"""`sequence_ner`: entities by labelling tokens."""

import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import Model

from ..annotation.alternatives import ALTERNATIVES, set_alternatives
from ..annotation.by_label import by_label
from ..annotation.chains import Chain, TagTarget
from ..annotation.describe import Counted, describe_span, quote
from ..annotation.entities import PresentEntities, gold_entities, present_entities
from ..annotation.scores import set_score
from ..annotation.span_terms import SpanTerms, likely_spans, log_probability
from ..annotation.tags import MISSING, OUTSIDE, SCHEMES, LabelledSpan, decode, encode, find_scheme, tag_names
from ..annotation.word_places import Words
from ..annotation.words import find_words
from ..bridge.errors import named_errors
from .base import DEFAULT_TOK2VEC, TorchPipe
from .gold_checks import SpanFaults
from .teacher_checks import NOTHING_KNOWN, find_chain

if TYPE_CHECKING:
    from ..nn.taggers import CRFTagger

# Number of tags from which an update takes noticeably longer than in other components.
MANY_TAGS = 500

DEFAULT_MODEL = {"@architectures": "spacy_ner_arch.CRF.v1", "tok2vec": DEFAULT_TOK2VEC}


@Language.factory(
    "sequence_ner",
    assigns=["doc.ents", "token.ent_iob", "token.ent_type", "span._.score"],
    default_config={
        "model": DEFAULT_MODEL,
        "scheme": "BILUO",
        "threshold": 0.0,
        "alternatives": None,
        "overwrite_ents": False,
        "loss_weight": 1.0,
        "scorer": {"@scorers": "spacy.ner_scorer.v1"},
    },
    default_score_weights={"ents_f": 1.0, "ents_p": 0.0, "ents_r": 0.0, "ents_per_type": None},
)
def make_sequence_ner(
    nlp: Language,
    name: str,
    model: Model,
    scheme: str,
    threshold: float,
    alternatives: float | dict[str, float] | list[list[Any]] | None,
    overwrite_ents: bool,
    loss_weight: Any,
    scorer: Callable | None,
) -> "SequenceNER":
    """Named entity recognition by labelling tokens.

    model: spacy_ner_arch.CRF.v1 or spacy_ner_arch.Softmax.v1.
    scheme: tag scheme, BILUO or BIO.
    threshold: minimum probability of an entity, from 0 to 1. Entities that are less probable are not set. `spacy
        find-threshold` tunes this value.
    alternatives: minimum probability, above 0, of the spans that are written into doc.spans["alternatives"], for all
        labels, or by label; null writes none. By label it is a dictionary, or a list of [label, probability] for labels
        with `:` or `=`, which cannot be keys of a config. The spans may overlap. `ner-arch tune` finds the value for a
        given recall.
    overwrite_ents: whether to replace existing entities (of an entity ruler, for example). If not, they are kept, and
        predictions that overlap them are dropped.
    loss_weight: factor of the loss of a component that shares an encoder with others: a number, a schedule, or
        spacy_ner_arch.LearnedWeight.v1.
    scorer: scorer of entities.
    """
    return SequenceNER(
        nlp.vocab,
        model,
        name,
        scheme=scheme,
        threshold=threshold,
        alternatives=alternatives,
        overwrite_ents=overwrite_ents,
        loss_weight=loss_weight,
        scorer=scorer,
    )


class Reading(NamedTuple):
    """A possible set of entities of a document, and its probability."""

    entities: tuple[Span, ...]
    probability: float


class SequenceNER(TorchPipe):
    """Set `doc.ents` and `span._.score`, the exact probability of an entity with these bounds and this label.

    With `alternatives`, also set `doc.spans["alternatives"]` to all spans of at least this probability, and its
    `attrs["scores"]` to their probabilities. Existing alternatives with labels of other components are kept if they
    have a probability. Spans that overlap an entity of another component are left out.
    """

    classifies = "tokens"
    gold_layer = "doc.ents"
    architectures = "spacy_ner_arch.CRF.v1 or spacy_ner_arch.Softmax.v1"
    fixed_settings = ("scheme",)

    def __init__(
        self,
        vocab: Vocab,
        model: Model,
        name: str,
        *,
        scheme: str,
        threshold: float,
        alternatives: float | dict[str, float] | list[list[Any]] | None,
        overwrite_ents: bool,
        **settings: Any,
    ) -> None:
        with named_errors(name):
            find_scheme(scheme)
            if isinstance(alternatives, (dict, list)):
                alternatives = by_label("alternatives", alternatives, float)
        for least in alternatives.values() if isinstance(alternatives, dict) else (alternatives,):
            if least is not None and not 0 < least <= 1:
                raise ValueError(f"{name}: alternatives = {alternatives} must be above 0 and at most 1")
        super().__init__(vocab, model, name, scheme=scheme, threshold=threshold, alternatives=alternatives, **settings)
        self.overwrite_ents = overwrite_ents

    @property
    def tags(self) -> list[str]:
        """Names of the tags of the model, in order."""
        return tag_names(self.labels, self.cfg["scheme"])

    def hyperparameters(self) -> dict[str, Any]:
        return {"tags": self.tags, "scheme": self.cfg["scheme"]}

    def named_labels(self) -> dict[str, Iterable[str]]:
        alternatives = self.cfg["alternatives"]
        by_label = {"alternatives": alternatives} if isinstance(alternatives, dict) else {}
        named = super().named_labels()
        return {**named, "class_weights": set(named["class_weights"]) - {OUTSIDE}, **by_label}

    def add_label(self, label: str) -> int:
        """Add a label. Warns if a trained component writes alternatives by label and the new label is not set there."""
        added = super().add_label(label)
        alternatives = self.cfg["alternatives"]
        if added and self.shim.is_initialized and isinstance(alternatives, dict) and label not in alternatives:
            warnings.warn(
                f"{self.name}: alternatives is set by label, without the new label {label!r}, whose spans are not "
                f'written into doc.spans["{ALTERNATIVES}"]: run `ner-arch tune --per-label` again after training, or '
                "give the label a probability in alternatives",
                stacklevel=2,
            )
        return added

    # Training

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Language | None = None,
        labels: Any = None,
    ) -> None:
        """Collect the labels and build the model. Warn if there are so many tags that training is slow."""
        super().initialize(get_examples, nlp=nlp, labels=labels)
        if len(self.tags) > MANY_TAGS:
            fewer = 'scheme = "BIO", ' if len(SCHEMES[self.cfg["scheme"]].prefixes) > 2 else ""
            warnings.warn(
                f"{self.name}: {len(self.labels)} labels make {len(self.tags)} tags, and the time of an update and a "
                f"prediction grows with their square; use span_ner, {fewer}or fewer labels",
                stacklevel=2,
            )

    def find_label_data(self, examples: Iterable[Example]) -> list[str]:
        """Labels of all gold entities and of the teachers, sorted.

        Warns about entities that do not match the tokenization, and about documents from which nothing is learned. A
        single document is not reported: without a corpus, spaCy initializes with one example text.
        """
        labels = set[str]()
        documents, faults = 0, SpanFaults()
        problems = defaultdict[str, Counted](Counted)
        for eg in examples:
            documents += 1
            labels.update(ent.label_ for ent in eg.reference.ents)
            spans, known = gold_entities(eg)
            chain = None
            if not known.all():
                with named_errors(self.name):
                    chain, problem = find_chain(self.name, eg, known, self.cfg["scheme"])
                labels.update(chain.labels if chain else ())
                if problem:
                    problems[problem].add([eg.reference.text], quote)
            faults.add(eg, eg.reference.ents, spans, known if chain is None else np.ones_like(known))
        faults.warn(self.name)
        if documents == 1:
            problems.pop(NOTHING_KNOWN, None)
        for problem, texts in problems.items():
            self.warn_once(problem, f"{texts.count} documents {problem} (for example {texts.first})")
        return sorted(labels)

    def find_targets(self, examples: Sequence[Example], items: list[Any] | None) -> list[TagTarget]:
        """Gold tags of every example, and the teacher's chain where some are missing."""
        index = {tag: i for i, tag in enumerate(self.tags)}
        targets = []
        for eg in examples:
            spans, known = gold_entities(eg)
            names = encode(len(eg.predicted), spans, self.cfg["scheme"])
            self.warn_of_labels({label for _, _, label in spans})
            # Entities with labels that the component does not have are negative.
            tags = np.array([index.get(name, index[OUTSIDE]) for name in names], dtype=np.int64)
            chain = None
            if not known.all():
                tags[~known] = MISSING
                chain, problem = find_chain(self.name, eg, known, self.cfg["scheme"])
                if chain is not None:
                    self.warn_of_labels(chain.labels)
                if problem is not None:
                    self.warn_once(problem, f"documents {problem} (for example {quote(eg.reference.text)})")
            targets.append(TagTarget(tags, chain))
        return targets

    # Predicting

    def set_annotations(self, docs: Iterable[Doc], scores: Any) -> None:
        """Write the entities and their probabilities onto the documents."""
        names = self.tags
        least = self._least_probabilities()
        docs, (_, predictions) = list(docs), scores
        for doc, words, (tags, rows) in zip(docs, find_words(docs), predictions, strict=True):
            self.check_finite(doc, rows)
            terms = SpanTerms(*rows.swapaxes(0, 1))
            present = present_entities(doc, self.overwrite_ents)
            self._set_entities(doc, words, decode(tags, names, self.cfg["scheme"]), terms, present)
            if least is not None:
                # Entities with a probability and a label of the component are predictions of an earlier pass.
                others = present.without_predicted(self.labels)
                self._set_alternatives(doc, words, terms, least, others)

    def _least_probabilities(self) -> np.ndarray | None:
        """Minimum probability of alternatives of each label, inf for labels without; None if none are written."""
        alternatives = self.cfg["alternatives"]
        if alternatives is None:
            return None
        if not isinstance(alternatives, dict):
            return np.full(len(self.labels), alternatives)
        self.check_named_labels(self.labels)
        return np.array([alternatives.get(label, np.inf) for label in self.labels])

    def _set_entities(
        self, doc: Doc, words: Words, found: Sequence[LabelledSpan], terms: SpanTerms, present: PresentEntities
    ) -> None:
        """Set the found entities that are probable enough, and their probabilities.

        found, terms: with word indices.
        """
        entities = []
        for first, last, label in found:
            score = min(1.0, math.exp(log_probability(terms, first, last, self.labels.index(label))))
            start, end = words.to_tokens(first, last)
            if score >= self.cfg["threshold"] and present.is_free(start, end):
                span = Span(doc, start, end, label=label)
                set_score(span, score)
                entities.append(span)
        present.set_with(doc, entities)

    def _set_alternatives(
        self, doc: Doc, words: Words, terms: SpanTerms, least: np.ndarray, present: PresentEntities
    ) -> None:
        """Set all spans that are probable enough and overlap no existing entity, and their probabilities.

        least: (L,), as for `likely_spans`.
        """
        labels = self.labels
        likely = ((*words.to_tokens(start, end), label, p) for start, end, label, p in likely_spans(terms, least))
        found = [
            (Span(doc, start, end, label=labels[label]), probability)
            for start, end, label, probability in likely
            if present.is_free(start, end)
        ]
        if removed := set_alternatives(doc, found, labels):
            self.warn_once(
                ALTERNATIVES,
                f'doc.spans["{ALTERNATIVES}"] has {len(removed)} spans without probabilities, which are removed (for '
                f'example {describe_span(removed[0])} in {quote(doc.text)}); give them in attrs["scores"], or keep '
                "your spans under another key",
            )

    @property
    def tagger(self) -> "CRFTagger":
        """The head of a component that is not exported."""
        return cast("CRFTagger", self.head)

    def readings(self, docs: Iterable[Doc], count: int) -> list[list[Reading]]:
        """The most probable readings of each document, the best first, regardless of `threshold` and of other entities.

        The documents must have the input of the component, such as the vectors of a shared encoder: do not let
        `vector_cleaner` remove them.
        """
        found = []
        for doc, words, emissions in self._emissions(docs):
            paths = self.tagger.readings(emissions, count) if len(emissions) else ([np.zeros(0, dtype=int)], [1.0])
            found.append([self._reading(doc, words, tags, float(p)) for tags, p in zip(*paths, strict=True)])
        return found

    def entropies(self, docs: Iterable[Doc]) -> list[float]:
        """Entropy in nats of the distribution over all readings of each document: 0 if only one is possible.

        The documents must have the input of the component, as for `readings`.
        """
        return [self.tagger.entropy(emissions) if len(words) else 0.0 for _, words, emissions in self._emissions(docs)]

    def chains(self, docs: Iterable[Doc]) -> list[Chain]:
        """The distribution over the tag sequences of each document, from which a student can learn.

        The scores are divided by the calibrated temperature; they are 0 for white space. The documents must have the
        input of the component, as for `readings`. Raises ValueError for an exported component, even without documents.
        """
        names, scheme = tuple(self.tags), self.cfg["scheme"]
        predicted = list(self._emissions(docs))  # before the head, which an exported component does not have
        scores = self.tagger.chain_scores()
        temperature = float(self.tagger.temperature)
        chains = []
        for doc, words, rows in predicted:
            emissions = np.zeros((len(doc), len(names)), dtype=rows.dtype)
            emissions[words.tokens] = rows / temperature
            chains.append(Chain(names, scheme, emissions=emissions, **scores))
        return chains

    def _emissions(self, docs: Iterable[Doc]) -> Iterator[tuple[Doc, Words, np.ndarray]]:
        """The documents, each with its words and the scores of their tags, (N, K)."""
        docs = list(docs)
        _, predictions = self.predict(docs, "predict_emissions")
        for doc, words, (emissions,) in zip(docs, find_words(docs), predictions, strict=True):
            self.check_finite(doc, emissions)
            yield doc, words, emissions

    def _reading(self, doc: Doc, words: Words, tags: np.ndarray, probability: float) -> Reading:
        found = decode(tags, self.tags, self.cfg["scheme"])
        spans = [Span(doc, *words.to_tokens(start, end), label=label) for start, end, label in found]
        return Reading(tuple(spans), probability)
