"""Dependency trees of documents as tensors."""

from collections.abc import Sequence

import numpy as np
import torch
from spacy.attrs import DEP, HEAD, POS
from spacy.tokens import Doc

from ..nn.batch import Padding
from ..nn.syn_lstm import Graph

MISSING = ("error", "chain")


def read_trees(docs: Sequence[Doc], shape: Padding, missing: str, label_rows: int, pos: bool) -> Graph:
    """Heads, and hashed labels of the arcs and parts of speech, of all tokens.

    missing: what becomes of a document without a tree: "error", or "chain", in which every token depends on the one
        before it.
    label_rows: labels are hashed to so many numbers.
    pos: whether parts of speech are wanted.
    """
    columns = [_columns(doc, missing, pos) for doc in docs if len(doc)]
    heads, deps, tags = np.concatenate([np.zeros((3, 0), dtype=np.int64), *columns], axis=1)
    joined = np.stack([heads, deps % label_rows, tags % label_rows], axis=1)
    padded = shape.pad(torch.from_numpy(joined).to(shape.mask.device, non_blocking=True))
    return Graph(padded[..., 0], padded[..., 1], padded[..., 2] if pos else None)


def _columns(doc: Doc, missing: str, pos: bool) -> np.ndarray:
    """(3, T): number of the head, label of the arc and part of speech of every token, labels as hashes."""
    here = np.arange(len(doc), dtype=np.int64)
    tags = doc.to_array(POS).astype(np.uint64).view(np.int64)
    if pos and not doc.has_annotation("POS"):
        raise ValueError(f"no parts of speech on {doc.text[:60]!r}: {_remedy('tagger or morphologizer')}")
    if not doc.has_annotation("DEP"):
        if missing == "error":
            raise ValueError(
                f'no dependency tree on {doc.text[:60]!r}: {_remedy("parser")}, or set missing = "chain" in the block '
                "of spacy_ner_arch.SynLSTM.v1"
            )
        return np.stack([np.maximum(here - 1, 0), np.zeros_like(here), tags])
    offsets, deps = doc.to_array([HEAD, DEP]).T
    # spaCy's hashes have no sign; without their highest bit they fit into int64 and stay positive.
    return np.stack([here + offsets.view(np.int64), (deps >> np.uint64(1)).view(np.int64), tags])


def _remedy(component: str) -> str:
    return (
        f"put a {component} into the pipeline before this component, and in training also into annotating_components, "
        'or read the corpus with spacy_ner_arch.Corpus.v1 and copy = ["heads"]'
    )
