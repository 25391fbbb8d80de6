"""Dependency trees of documents as arrays."""

from dataclasses import dataclass

import numpy as np
from spacy.attrs import DEP, HEAD, POS
from spacy.tokens import Doc

from .describe import quote
from .word_places import Words
from .words import has_words

# Treatments of a document without a tree, see `read_tree`.
TREE_FALLBACKS = ("error", "chain")


@dataclass(frozen=True)
class TreeSettings:
    """Arguments of `read_tree`. thinc does not store such an object, so the config of a stored pipeline decides."""

    missing: str
    needs_pos: bool


def read_tree(doc: Doc, missing: str, needs_pos: bool) -> np.ndarray:
    """Heads, dependency labels and parts of speech of the tokens.

    missing: treatment of a document that has words but no tree: "error", or "chain", where each token depends on the
        previous one.
    needs_pos: whether to raise ValueError for a document that has words but no parts of speech.

    Returns (3, T) int64: index of the head in the document (a root is its own head), and non-negative hashes of
    dependency label and part of speech.
    """
    pos = doc.to_array(POS).astype(np.int64)
    if needs_pos and not doc.has_annotation("POS") and has_words(doc):
        raise ValueError(f"no parts of speech on {quote(doc.text)}: {_remedy('tagger or morphologizer')}")
    here = np.arange(len(doc), dtype=np.int64)
    if not doc.has_annotation("DEP"):
        if missing == "error" and has_words(doc):
            raise ValueError(
                f'no dependency tree on {quote(doc.text)}: {_remedy("parser")}, or set missing = "chain" in the block '
                "of spacy_ner_arch.SynLSTM.v1"
            )
        return np.stack([np.maximum(here - 1, 0), np.zeros_like(here), pos])
    offsets, deps = doc.to_array([HEAD, DEP]).T
    # Hashes in spaCy are unsigned; without the lowest bit they fit into int64.
    return np.stack([here + offsets.view(np.int64), (deps >> np.uint64(1)).view(np.int64), pos])


def tree_in_words(tree: np.ndarray, words: Words) -> np.ndarray:
    """The columns of the words in a tree (3, T). The head of a word is the nearest word above it; a word with only
    white space above it is a root."""
    if words.has_no_space:
        return tree
    heads = tree[0]
    is_word = np.zeros(len(heads), dtype=bool)
    is_word[words.tokens] = True
    above = heads[words.tokens]
    for _ in range(len(heads)):
        higher = np.where(is_word[above], above, heads[above])
        if (higher == above).all():
            break
        above = higher
    above = np.where(is_word[above], above, words.tokens)
    return np.concatenate([np.searchsorted(words.tokens, above)[None], tree[1:, words.tokens]])


def _remedy(component: str) -> str:
    return (
        f"put a {component} into the pipeline before this component, and in training also into annotating_components, "
        'or copy gold trees: spacy_ner_arch.Corpus.v1 with copy = ["heads"], as `ner-arch evaluate --gold-trees` does'
    )
