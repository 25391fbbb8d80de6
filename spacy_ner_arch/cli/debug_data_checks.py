"""Check the corpora of a config for annotation that its components cannot learn or find: for `ner-arch debug-data`."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..annotation.layers import assigning
from ..annotation.sentences import with_sentences
from ..annotation.words import has_words, text_key
from ..formats.counts import MOST_SPLIT
from ..pipes.base import TorchPipe, labels_in
from ..pipes.gold_checks import width_remedy
from ..pipes.relation_checks import warn_of_type_pairs
from ..pipes.relation_extractor import RelationExtractor
from ..pipes.upstream_checks import find_sentencizer, tree_readers
from .debug_data_counts import (
    BOTH_DIRECTIONS,
    CONTRADICTORY,
    CROSSING,
    IN_BOTH,
    LOST,
    MISSING_TOKENS,
    NOT_ALIGNED,
    NOT_NFC,
    PAIRS_WITH_LABELS,
    SEVERAL_LABELS,
    SPLIT_TOKENS,
    UNANNOTATED,
    WITHOUT_SPACES,
    count_candidates,
    count_documents,
    count_relations,
    count_spans,
    has_composed,
)
from .training_setup import PARTS, Setup

# Parts to check where the warnings of find_label_data already cover train.
DEV = ("dev",)
# Labels with fewer training examples are reported; the number of `spacy debug data`.
MIN_EXAMPLES = 50

# For each part of the data, the results of debug_data_counts.
Parts = dict[str, dict[str, Any]]


class Problem(NamedTuple):
    """A fault of the corpora: annotation that training cannot learn, or that makes scores wrong.

    level: "error" if training cannot succeed, else "warning".
    text: description of the fault, with numbers.
    remedy: remedy for the user; "" if the text contains it, or nothing need be done.
    """

    level: str
    text: str
    remedy: str


def inspect_corpora(setup: Setup) -> tuple[dict[str, Any], list[Problem]]:
    """All numbers, as JSON values, and all problems, errors first.

    The warnings of `find_label_data`, which training shows as well, report annotation of train that a component cannot
    learn. The checks add other problems, above all of dev.
    """
    texts = {part: {text_key(eg.reference.text) for eg in examples} for part, examples in setup.examples.items()}
    keys = sorted({key for examples in setup.examples.values() for eg in examples for key in eg.reference.spans})

    def each(count: Callable[..., Any], *args: Any) -> Parts:
        return {part: count(setup.examples[part], *args) for part in PARTS}

    data: dict[str, Any] = {
        "documents": {
            part: count_documents(setup.examples[part], texts[other], setup.nlp.tokenizer)
            for part, other in zip(PARTS, reversed(PARTS), strict=True)
        },
        "entities": each(count_spans),
        "spans": {key: each(count_spans, key) for key in keys},
        "relations": each(count_relations),
        "components": {},
    }
    problems = [Problem("warning", text, "") for text in setup.unknown]
    is_composed = any(has_composed(eg.reference) for examples in setup.examples.values() for eg in examples)
    problems += [*check_documents(data["documents"], is_composed), *check_trees(setup, data["documents"])]
    for name, pipe in setup.nlp.pipeline:
        if not isinstance(pipe, TorchPipe) or name in setup.frozen:
            continue
        given = setup.nlp.config["initialize"]["components"].get(name, {}).get("labels")
        is_read = given is None and name not in setup.sourced
        if isinstance(pipe, RelationExtractor):
            pipe.sentencizer = find_sentencizer(setup.nlp, name)
            pipe.learns_all_labels = is_read
            if isinstance(given, list) and name not in setup.sourced:
                pipe.add_label_data(given)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = pipe.find_label_data(setup.train)
            if is_read and isinstance(pipe, RelationExtractor):
                warn_of_type_pairs(pipe, found["types"])
        labels = labels_in(found)
        component: dict[str, Any] = {"labels": labels, "warnings": [str(warning.message) for warning in caught]}
        problems += [Problem("warning", text, "") for text in component["warnings"]]
        if is_read:
            try:
                pipe.check_named_labels(labels)
            except ValueError as error:
                problems.append(Problem("error", str(error), ""))
        if isinstance(pipe, RelationExtractor):
            component["candidates"] = {part: count_candidates(pipe, setup.examples[part]) for part in PARTS}
            problems += check_relations(
                name, pipe, setup, each(count_relations, pipe.given_labels), component["candidates"]
            )
        else:
            problems += check_spans(name, pipe, data)
        data["components"][name] = component
    return data, sorted(dict.fromkeys(problems), key=lambda problem: problem.level != "error")


def check_documents(documents: Parts, is_composed: bool) -> Iterator[Problem]:
    """Check for documents that are missing, copies, or written in another way than the others.

    is_composed: whether there are documents for which `has_composed` is true.
    """
    for part in PARTS:
        if not documents[part]["counts"]["documents"]:
            yield Problem("error", f"{part}: the corpus has no document", f"check [paths] {part}")
        copies = documents[part]["counts"][CONTRADICTORY]
        if copies:
            yield Problem(
                "warning",
                f"{copies} texts of {part} occur with different annotation, such as "
                f"{documents[part]['examples'][CONTRADICTORY][0]}",
                "keep one of them: if an export repeats the texts of earlier exports, convert only the last export",
            )
        split, tokens = (documents[part]["counts"][name] for name in (SPLIT_TOKENS, WITHOUT_SPACES))
        if split > MOST_SPLIT * tokens:
            example = documents[part]["examples"][SPLIT_TOKENS][0]
            yield Problem(
                "warning",
                f"{split} of {tokens} ({100 * split / tokens:.1f} %) tokens of {part} that stand without their spaces "
                f"are split by the tokenizer of the pipeline, such as {example}: in raw text it will read other tokens "
                "than it was trained on",
                "convert texts with offsets, or columns of the tokenizer's own tokens, or choose another tokenizer or "
                "segmenter in [nlp.tokenizer]",
            )
    decomposed = {part: documents[part]["counts"][NOT_NFC] for part in PARTS}
    if is_composed and any(decomposed.values()):
        example = next(example for part in PARTS for example in documents[part]["examples"].get(NOT_NFC, ()))
        yield Problem(
            "warning",
            f"{in_parts(decomposed)} documents are not in the Unicode form NFC, as others are, such as {example}: "
            "words that look the same are different words for the pipeline",
            'bring all texts to one form before they are annotated or converted: unicodedata.normalize("NFC", text), '
            "with offsets that count the characters of the result; and the texts to predict as well",
        )
    both = documents["dev"]["counts"][IN_BOTH]
    if both:
        yield Problem(
            "warning",
            f"{both} documents of dev have the text of a document of train, such as "
            f"{documents['dev']['examples'][IN_BOTH][0]}",
            "remove them from one corpus; they make the scores too high. White space and Unicode forms are not "
            "compared",
        )


def check_trees(setup: Setup, documents: Parts) -> Iterator[Problem]:
    """Check that documents have the trees that an encoder reads."""
    parsers = set(assigning(setup.nlp, "token.head"))
    learned_from = documents["train"]["counts"]["documents with dependency trees"]
    bare = sum(
        not eg.predicted.has_annotation("DEP") and has_words(eg.predicted)
        for examples in setup.examples.values()
        for eg in examples
    )
    for name, missing in tree_readers(setup.nlp).items():
        if parsers - {*setup.frozen, *setup.sourced} and not learned_from:
            yield Problem(
                "error",
                f"{name} reads dependency trees of a parser that is trained in this run, but no document of train has "
                "a tree",
                "convert the corpus with its trees (--format conllu), or take the parser of a trained pipeline "
                "(init-config --trees)",
            )
        if parsers and not parsers & set(setup.annotating):
            yield Problem(
                "error",
                f"{name} reads dependency trees, but the parser does not annotate documents in training",
                f"add {', '.join(sorted(parsers))} to [training] annotating_components",
            )
        if not parsers and bare and missing == "error":
            yield Problem(
                "error",
                f"{name} reads dependency trees, but {bare} documents have none when it runs",
                "convert the corpus with its trees (--format conllu) and copy them with spacy_ner_arch.Corpus.v1 and "
                'copy = ["heads"], or set missing = "chain" in the block of spacy_ner_arch.SynLSTM.v1',
            )


def check_spans(name: str, pipe: Any, data: Mapping[str, Any]) -> Iterator[Problem]:
    """Check for entities or spans that a component cannot learn or find."""
    key = pipe.cfg.get("spans_key")
    if key is not None and key not in data["spans"]:
        yield Problem(
            "error",
            f"{name}: no document has spans under the key {key!r}; the keys are {list(data['spans'])}",
            f"set [components.{name}] spans_key to a key of the corpus",
        )
        return
    parts = data["entities"] if key is None else data["spans"][key]
    what = "entities" if key is None else f"spans of {key!r}"
    yield from check_labels(name, parts, what)
    yield from find_counted(
        name,
        parts,
        NOT_ALIGNED,
        f"{what} do not align with the tokens of the pipeline",
        "correct their bounds, convert with --align expand or contract, or change the tokenizer (--lang)",
        DEV,
    )
    text = "tokens have no annotation of entities"
    yield from find_counted(name, parts, MISSING_TOKENS, text, "nothing is learned from them")
    text = f"{what} cross a sentence boundary"
    yield from find_counted(name, parts, CROSSING, text, "correct their bounds or the sentences")
    if not pipe.cfg.get("multi_label", True):
        text, remedy = "spans have several labels, but the component gives each span one", "multi_label = true"
        yield from find_counted(name, parts, SEVERAL_LABELS, text, f"set [components.{name}] {remedy}", DEV)
    limit = pipe.cfg.get("max_width")
    wide = sum(number for width, number in parts["dev"]["widths"].items() if limit and width > limit)
    if wide:
        widths = [width for part in PARTS for width, n in parts[part]["widths"].items() for _ in range(n)]
        yield Problem(
            "warning",
            f"{name}: {wide} (dev) {what} are longer than max_width = {limit} words; they cannot be found",
            width_remedy(name, widths),
        )


def check_relations(
    name: str, pipe: RelationExtractor, setup: Setup, parts: Parts, candidates: Parts
) -> Iterator[Problem]:
    """Check for relations that a component cannot learn or find.

    parts: counts of the relations with its labels.
    """
    what = "relations" if pipe.given_labels is None else "relations of its labels"
    yield from check_labels(name, parts, what)
    yield from find_counted(
        name,
        candidates,
        LOST,
        "gold relations are not candidates and cannot be found",
        f'check that their arguments are entities and their sentences right, or set within = "document" or a '
        f"larger max_distance in [components.{name}.candidates], or other type_pairs in [components.{name}]",
        DEV,
    )
    if not pipe.cfg["multi_label"]:
        remedy = f"set [components.{name}] multi_label = true" + (' or direction = "pairs"' if pipe.unordered else "")
        text = "pairs have several relations, and the component predicts one"
        yield from find_counted(name, parts, PAIRS_WITH_LABELS, text, remedy, DEV)
        if pipe.unordered:
            text = "pairs are related in both directions, and the component predicts one relation"
            yield from find_counted(name, parts, BOTH_DIRECTIONS, text, remedy, DEV)
    # A sourced component has its type pairs: other relations are not candidates.
    if pipe.learned_type_pairs and pipe.cfg["type_pairs"] is None:
        yield from check_type_pairs(name, pipe.learned_type_pairs, parts)
    yield from check_arrival(name, pipe, setup, bool(parts["train"]["labels"]))


def check_type_pairs(name: str, setting: str, parts: Parts) -> Iterator[Problem]:
    """Relations between types that a component does not learn: type_pairs is "learned" or "learned_by_label"."""
    by_label = setting == "learned_by_label"
    in_train, in_dev = (
        {
            (f" of {label}" if by_label else "", types)
            for label, pairs in parts[part]["types"].items()
            for types in pairs
        }
        for part in PARTS
    )
    unknown = [f"{types}{label}" for label, types in sorted(in_dev - in_train)]
    if unknown:
        yield Problem(
            "warning",
            f"{name}: dev has relations between types that no relation of train has: {', '.join(unknown)}",
            f'they cannot be found with [components.{name}] type_pairs = "{setting}"; set "all"',
        )


def check_arrival(name: str, pipe: RelationExtractor, setup: Setup, has_relations: bool) -> Iterator[Problem]:
    """Check that training documents have entities and sentences for the candidates when a component runs.

    has_relations: whether train has relations.
    """
    spans_key = getattr(pipe.generate_candidates, "spans_key", None)
    if not setup.is_set("doc.spans" if spans_key else "doc.ents"):
        found = sum(len(pipe.generate_candidates(with_sentences(eg.predicted)).entities) for eg in setup.train)
        if not found and has_relations:
            yield Problem(
                "error",
                f"{name}: training documents have no entities when it runs",
                f'read the corpus with spacy_ner_arch.Corpus.v1 and copy = ["{"spans" if spans_key else "ents"}"], or '
                "add the component that finds entities to [training] annotating_components",
            )
    if not setup.is_set("token.is_sent_start"):
        try:
            for eg in setup.train:
                pipe.generate_candidates(eg.predicted)
        except ValueError as error:
            yield Problem("error", f"{name}: {error}", "")


def check_labels(name: str, parts: Parts, what: str) -> Iterator[Problem]:
    """Check for labels that a component cannot learn or find, and for documents that are not scored."""
    train, dev = (parts[part]["labels"] for part in PARTS)
    if not train:
        yield Problem(
            "error",
            f"{name}: train has no {what}",
            "check that the corpus was converted with its annotation (ner-arch convert shows what it reads)",
        )
    only_dev = sorted(dev.keys() - train.keys())
    if only_dev and train:
        yield Problem(
            "warning",
            f"{name}: only dev has {what} with the labels {', '.join(only_dev)}; they cannot be found",
            "split the data so that train has all labels",
        )
    few = {label: number for label, number in sorted(train.items()) if number < MIN_EXAMPLES}
    if few:
        yield Problem(
            "warning",
            f"{name}: few {what} in train: {', '.join(f'{label} ({number})' for label, number in few.items())}",
            f"annotate at least {MIN_EXAMPLES} of each label, or merge labels (ner-arch convert --rename)",
        )
    yield from find_counted(
        name,
        parts,
        UNANNOTATED,
        f"documents have no annotation of {what.split(' ')[0]}",
        "they are not scored; if there is nothing to find in them, annotate them as empty",
        DEV,
    )


def find_counted(
    name: str, parts: Parts, kind: str, text: str, remedy: str, checked: Sequence[str] = PARTS
) -> Iterator[Problem]:
    """A warning with the number of items of a kind and the first example, if there are any.

    text: description of the fault, which follows the number of items.
    checked: the parts whose items count.
    """
    found = {part: parts[part]["counts"].get(kind, 0) for part in checked}
    if any(found.values()):
        examples = [example for part in checked for example in parts[part]["examples"].get(kind, ())]
        such_as = f", such as {examples[0]}" if examples else ""
        yield Problem("warning", f"{name}: {in_parts(found)} {text}{such_as}", remedy)


def in_parts(found: Mapping[str, int]) -> str:
    """Such as "3 (train) and 1 (dev)"."""
    return " and ".join(f"{number} ({part})" for part, number in found.items() if number)
