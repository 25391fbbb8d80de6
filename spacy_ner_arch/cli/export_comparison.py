"""Compare the predictions, scores and speed of two pipelines on a corpus."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from ..annotation.describe import quote
from ..annotation.entities import scored_entities, scored_spans
from ..bridge.layers import layers, shims
from .pipelines import GOLD_ENTITIES, finds_entities, naming_long_texts

# Number of documents that are predicted before timing starts.
WARM_UP = 20


class Predicted(NamedTuple):
    """Predictions of a pipeline on a corpus.

    scores: F1 scores in percent by name.
    unscored: components whose F1 scores are all None, since the corpus has no gold annotation for them.
    wrong: components that have F1 scores, but none above 0.
    speed: words per CPU second.
    """

    docs: list[Doc]
    scores: dict[str, float]
    unscored: list[str]
    wrong: list[str]
    speed: float


class Comparison(NamedTuple):
    """Two pipelines on the same corpus.

    differing: documents for which the pipelines predict different annotation.
    difference: largest difference between the probabilities of the same prediction.
    """

    corpus: Path
    before: Predicted
    after: Predicted
    differing: list[Doc]
    difference: float

    def rows(self) -> list[tuple[str, str, str]]:
        """A table: name, value of the first pipeline, value of the second one."""
        scores = [
            (name, f"{value:.2f}", f"{self.after.scores.get(name, 0.0):.2f}")
            for name, value in self.before.scores.items()
        ]
        return [
            *scores,
            ("words per CPU second", f"{self.before.speed:,.0f}", f"{self.after.speed:,.0f}"),
            ("documents with other annotation", "", f"{len(self.differing)} of {len(self.before.docs)}"),
            ("largest difference of probabilities", "", f"{self.difference:.1g}"),
        ]

    def check_equal(self, tolerance: float) -> None:
        """Raise ValueError if annotation differs, or a probability by more than the tolerance."""
        if self.differing:
            raise ValueError(
                f"{len(self.differing)} of {len(self.before.docs)} documents of {self.corpus} get different "
                f"annotation, the first being {quote(self.differing[0].text)}"
            )
        if not self.difference <= tolerance:
            raise ValueError(f"probabilities differ by up to {self.difference:.1g}, which is more than {tolerance:g}")

    def check_scores(self, fall: float, exported: Sequence[str]) -> None:
        """Raise ValueError if a score falls by more than `fall` points, or an exported component has none to fall."""
        unscored = [name for name in self.before.unscored if name in exported]
        wrong = [name for name in self.before.wrong if name in exported]
        # Exported encoders have no scores: the scores of the components that listen to them are compared.
        if unscored or not self.before.scores:
            raise ValueError(
                f"{self.corpus} has no gold annotation for {' and '.join(unscored) or 'the pipeline'}, so that no F1 "
                "can be compared: give an annotated corpus"
            )
        if wrong or not any(self.before.scores.values()):
            raise ValueError(
                f"no prediction of {' and '.join(wrong) or 'the pipeline'} in {self.corpus} is right, so that no F1 "
                "can fall: give a corpus that is annotated with the labels of the pipeline, or train the pipeline more"
            )
        for name, value in self.before.scores.items():
            after = self.after.scores.get(name, 0.0)
            # Add half of a hundredth, since scores are shown with two digits.
            if value - after > fall + 0.005:
                raise ValueError(
                    f"{name} falls from {value:.2f} to {after:.2f}, by more than {fall}: this model needs float32, so "
                    "leave out --int8"
                )


def compare(before: Language, after: Language, corpus: Path) -> Comparison:
    """Predict a corpus with two pipelines, the first one in float32. Raises ValueError for an empty corpus."""
    for *_, node in layers(before):
        for shim in shims(node):
            shim.dtype = "float32"
    one, other = predicted(before, corpus), predicted(after, corpus)
    differing, difference = [], 0.0
    for doc, again in zip(one.docs, other.docs, strict=True):
        found, found_again = findings(doc), findings(again)
        if found.keys() != found_again.keys():
            differing.append(doc)
        shared = found.keys() & found_again.keys()
        difference = max([difference, *(abs(found[key] - found_again[key]) for key in shared)])
    return Comparison(corpus, one, other, differing, difference)


def predicted(nlp: Language, corpus: Path) -> Predicted:
    """Predict a corpus. Without a component that finds entities, relations are those between gold entities."""
    from ..training.corpus import create_corpus

    copied = [] if finds_entities(nlp) else GOLD_ENTITIES
    with naming_long_texts([corpus]):
        examples: list[Example] = list(create_corpus(corpus, copy=copied)(nlp))
    if not examples:
        raise ValueError(f"{corpus} has no documents")
    for _ in nlp.pipe(example.predicted.copy() for example in examples[:WARM_UP]):
        pass
    start = time.process_time()
    docs = list(nlp.pipe(example.predicted for example in examples))
    seconds = time.process_time() - start
    for example, doc in zip(examples, docs, strict=True):
        example.predicted = doc
    shown: dict[str, float] = {}
    unscored: list[str] = []
    wrong: list[str] = []
    # Do not use spaCy's Scorer, which also scores the tokenizer: both pipelines have the same one.
    for name, pipe in nlp.pipeline:
        scores = pipe.score(examples) if hasattr(pipe, "score") else {}
        found = {key: value for key, value in scores.items() if key.endswith("_f")}
        shown |= {key: 100 * value for key, value in found.items() if isinstance(value, float)}
        if found and not any(found.values()):
            (unscored if all(value is None for value in found.values()) else wrong).append(name)
    return Predicted(docs, shown, unscored, wrong, sum(map(len, docs)) / max(seconds, 1e-9))


def findings(doc: Doc) -> dict[tuple[Any, ...], float]:
    """Entities, spans and relations of a document with their probabilities, 0 where there is none."""
    found: dict[tuple[Any, ...], float] = {
        ("ents", ent.start, ent.end, ent.label_): score or 0.0 for ent, score in scored_entities(doc)
    }
    for name, group in doc.spans.items():
        found |= {(name, s.start, s.end, s.label_): score or 0.0 for s, score in scored_spans(group)}
    for head, tail, label, score in doc._.relations if Doc.has_extension("relations") else ():
        found["relations", head.start, head.end, tail.start, tail.end, label] = score or 0.0
    return found
