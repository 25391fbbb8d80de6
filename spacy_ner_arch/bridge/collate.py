"""What modules take besides the vectors of the tokens: the gold annotation of a batch, and candidates, as tensors."""

from collections.abc import Sequence

import numpy as np
import torch
from spacy.tokens import Doc
from thinc.api import Model, NumpyOps

from ..annotation.spans import GoldSpans
from ..annotation.tags import MISSING
from ..nn.batch import Padding
from .head import Arguments


def token_tags(targets: list[np.ndarray], shape: Padding) -> Arguments:
    """Tags of all tokens (B, T), and whether any of them is missing; `targets` are the tag indices of each document."""
    flat = np.concatenate(targets)
    tags = torch.from_numpy(flat).to(shape.mask.device, non_blocking=True)
    return shape.pad(tags, fill=MISSING), bool((flat == MISSING).any())


def span_classes(targets: Sequence[GoldSpans], shape: Padding) -> Arguments:
    """Document, start, width and label of all gold spans, (G,) each, and (B, T) tokens without annotation or None."""
    device = shape.mask.device
    documents = np.repeat(np.arange(len(targets)), [len(gold.spans) for gold in targets])
    spans = np.concatenate([gold.spans for gold in targets])
    columns = (torch.from_numpy(column.copy()).to(device, non_blocking=True) for column in (documents, *spans.T))
    annotated = np.concatenate([gold.annotated for gold in targets])
    if annotated.all():
        return *columns, None
    return *columns, shape.pad(torch.from_numpy(~annotated).to(device, non_blocking=True))


def span_candidates(model: Model, docs: Sequence[Doc], shape: Padding) -> Arguments:
    """Document, start and width of the spans that the suggester of the component names; None for all spans."""
    suggester = model.attrs["suggester"]
    if suggester is None:
        return (None,)
    suggested = suggester(docs, ops=NumpyOps())
    documents = np.repeat(np.arange(len(docs)), suggested.lengths)
    starts, ends = suggested.dataXd.reshape(-1, 2).astype(np.int64).T
    widest = int((ends - starts).max(initial=0))
    if widest > model.attrs["max_width"]:
        raise ValueError(f"the suggester names a span of {widest} tokens: raise max_width = {model.attrs['max_width']}")
    return (tuple(torch.from_numpy(column) for column in (documents, starts, ends - starts)),)
