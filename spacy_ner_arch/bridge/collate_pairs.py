"""Candidate pairs of a batch, and the gold relations among them, as tensors."""

from collections.abc import Sequence

import numpy as np
import torch
from spacy.tokens import Doc
from thinc.api import Model

from ..annotation.candidates import Candidates, PairFinder
from ..annotation.gold_relations import GoldPairs
from ..nn.batch import Padding
from ..nn.pairs import Pairs
from .head import Arguments


def pair_candidates(model: Model, docs: Sequence[Doc], shape: Padding) -> Arguments:
    """Entities and candidate pairs of the documents."""
    finder: PairFinder = model.attrs["pair_finder"]
    found = [finder(doc) for doc in docs]
    types = [number for candidates in found for number in finder.type_numbers(candidates.entities)]
    return (collate_pairs(found, types, shape.mask.device),)


def collate_pairs(found: Sequence[Candidates], types: Sequence[int], device: torch.device) -> Pairs:
    """Candidates of all documents as tensors, which reach the device as one.

    types: number of the type of every entity.
    """
    n_entities = np.array([len(candidates.entities) for candidates in found])
    n_pairs = np.array([len(candidates.pairs) for candidates in found])
    documents = np.repeat(np.arange(len(found)), n_entities)
    bounds = np.array([(span.start, span.end) for candidates in found for span in candidates.entities], dtype=np.int64)
    starts, ends = bounds.reshape(-1, 2).T
    # Entities and pairs are numbered through the batch.
    before = np.repeat(n_entities.cumsum() - n_entities, n_pairs)
    heads, tails = np.concatenate([candidates.pairs for candidates in found]).T + before
    document_of_pair = np.repeat(np.arange(len(found)), n_pairs)
    spanned = np.column_stack([document_of_pair, np.concatenate([candidates.regions for candidates in found])])
    regions, region_of_pair = np.unique(spanned, axis=0, return_inverse=True)
    # The pair with both exchanged, where it is a candidate, by binary search among all pairs as numbers.
    most = int(n_pairs.max(initial=1))
    number, mirrored = heads * len(documents) + tails, tails * len(documents) + heads
    order = np.argsort(number)
    place = order[np.searchsorted(number, mirrored, sorter=order).clip(max=max(0, len(number) - 1))]
    reverse = np.where(number[place] == mirrored, place, np.arange(len(number)))
    within = np.arange(len(heads)) - np.repeat(n_pairs.cumsum() - n_pairs, n_pairs)
    columns = [documents, starts, ends, np.asarray(types), heads, tails, region_of_pair.reshape(-1), *regions.T]
    columns += [reverse, document_of_pair * most + within]
    joined = torch.from_numpy(np.concatenate(columns).astype(np.int64)).to(device, non_blocking=True)
    widest = int((ends - starts).max(initial=1))
    longest = int((regions[:, 2] - regions[:, 1]).max(initial=1))
    return Pairs._make([*joined.split([len(column) for column in columns]), most, widest, longest])


def related_pairs(targets: Sequence[GoldPairs], shape: Padding) -> Arguments:
    """Pairs to learn from (n,), and of the gold relations among them (g,) place and class."""
    totals = np.array([gold.total for gold in targets])
    kept_counts = np.array([len(gold.kept) for gold in targets])
    columns = [
        np.concatenate([gold.kept for gold in targets]) + np.repeat(totals.cumsum() - totals, kept_counts),
        np.concatenate([gold.rows for gold in targets])
        + np.repeat(kept_counts.cumsum() - kept_counts, [len(gold.rows) for gold in targets]),
        np.concatenate([gold.classes for gold in targets]),
    ]
    joined = torch.from_numpy(np.concatenate(columns).astype(np.int64)).to(shape.mask.device, non_blocking=True)
    return tuple(joined.split([len(column) for column in columns]))
