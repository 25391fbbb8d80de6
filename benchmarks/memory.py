"""Measure the peak memory and the time of pipelines on one long document, each in a process of its own.

python benchmarks/memory.py [memory_tokens] [memory_entities]
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import spacy
import torch
from rows import add_row, has_row, in_new_process, peak_memory_mib
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example

Row = dict[str, Any]
WORDS = [f"word{i}" for i in range(20_000)]
SENTENCE, IN_SENTENCE = 30, 10  # tokens and entities of a sentence
SETTINGS: dict[str, Row] = {"ACNNPairs": {"filters": 200, "pooling": "attention", "loss": "hinge"}}


def long_document(nlp: Language, tokens: int, entities: int = 0, sentence: int = SENTENCE) -> Doc:
    """Random words, with entities of one or two tokens at equal distances."""
    rng = np.random.default_rng(0)
    words = [WORDS[i] for i in rng.integers(len(WORDS), size=tokens).tolist()]
    doc = Doc(nlp.vocab, words=words, sent_starts=[i % sentence == 0 for i in range(tokens)])
    step = tokens // max(1, entities)
    doc.set_ents([Span(doc, i * step, i * step + 1 + i % 2, "PER") for i in range(entities)])
    return doc


def initialized(component: str, pairs: str | None = None) -> Language:
    """An untrained pipeline: the weights do not matter here."""
    nlp = spacy.blank("en")
    config: Row = {}
    if pairs is not None:
        config["threshold"] = 1.0  # finds nothing, as a trained model mostly does
        config["model"] = {
            "@architectures": "spacy_ner_arch.Relations.v1",
            "tok2vec": {"@architectures": "spacy_ner_arch.WordCharEmbed.v1"},
            "pairs": {"@architectures": f"spacy_ner_arch.{pairs}.v1", **SETTINGS.get(pairs, {})},
        }
    pipe: Any = nlp.add_pipe(component, config=config)
    example = Example(long_document(nlp, 30), long_document(nlp, 30, 2))
    example.reference._.relations = []
    labels: Any = ["PER", "LOC", "ORG", "MISC"]
    if pairs is not None:
        labels = {"labels": list("abcde"), "types": ["PER"], "type_pairs": None}
    pipe.initialize(lambda: [example], labels=labels)
    return nlp


def peak_of(nlp: Language, doc: Doc, training: bool) -> Row:
    """MiB that a document adds to the peak memory of this process, its own memory not included; seconds."""
    nlp(long_document(nlp, 30, 2))
    (pipe,) = (pipe for _, pipe in nlp.pipeline)
    example = Example(doc, doc.copy())
    example.reference._.relations = []
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what the process holds
    before, start = peak_memory_mib(), time.perf_counter()
    if training:
        pipe.update([example])
    else:
        nlp(doc)
    return {"mib": peak_memory_mib() - before, "seconds": round(time.perf_counter() - start, 1)}


# Tokens


def token_cases() -> Iterator[tuple[Row, Callable[[], Row]]]:
    for component, tokens in product(("sequence_ner", "span_ner"), (10_000, 100_000, 1_000_000)):
        yield {"component": component, "tokens": tokens}, partial(measure_tokens, component, tokens)


def measure_tokens(component: str, tokens: int) -> Row:
    row = in_new_process(predict_tokens, component, tokens)
    return {**row, "kib_per_token": round(1024 * row["mib"] / tokens, 1)}


def predict_tokens(component: str, tokens: int) -> Row:
    torch.set_num_threads(1)
    nlp = initialized(component)
    nlp.max_length = 10**9
    return peak_of(nlp, long_document(nlp, tokens), training=False)


# Entities

PAIRS = ("SoftmaxPairs", "MultitaskPairs", "BiLSTMPairs", "BiLSTMAttentionPairs", "ACNNPairs", "MarkerPairs")


def entity_cases() -> Iterator[tuple[Row, Callable[[], Row]]]:
    for pairs, entities in product(PAIRS, (100, 1_000, 10_000)):
        yield case(pairs, entities, SENTENCE, "predict")
    for pairs, what in product(PAIRS, ("predict", "train")):
        if pairs not in ("BiLSTMAttentionPairs", "MarkerPairs"):  # they would take an hour
            yield case(pairs, 100, 300, what)
    yield case("BiLSTMAttentionPairs", 30, 90, "train")
    yield case("MarkerPairs", 30, 90, "train")


def case(pairs: str, entities: int, sentence: int, what: str) -> tuple[Row, Callable[[], Row]]:
    in_sentence = sentence * IN_SENTENCE // SENTENCE
    count = entities * (in_sentence - 1)
    keys = {"pairs": pairs, "what": what, "entities": entities, "in_sentence": in_sentence, "candidates": count}
    return keys, partial(in_new_process, run_entities, pairs, entities, sentence, what)


def run_entities(pairs: str, entities: int, sentence: int, what: str) -> Row:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    nlp = initialized("relation_extractor", pairs)
    doc = long_document(nlp, entities * SENTENCE // IN_SENTENCE, entities, sentence)
    return peak_of(nlp, doc, what == "train")


SECTIONS = {"memory_tokens": token_cases, "memory_entities": entity_cases}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", choices=[[], *SECTIONS], help="all if none is given")
    options = parser.parse_args()
    for section in options.sections or SECTIONS:
        for keys, measure in SECTIONS[section]():
            if not has_row("speed", section=section, **keys):
                add_row("speed", {"section": section, **keys, **measure()})


if __name__ == "__main__":
    main()
