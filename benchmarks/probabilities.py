"""Probabilities of single tags, for the peers of recall.py and label_errors.py."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from spacy.tokens import Doc

from spacy_ner_arch.nn.forward_backward import log_partition


def tag_probabilities(pipe: Any, docs: Sequence[Doc]) -> list[np.ndarray]:
    """(N, K) probabilities of the tags of every word of each document, in the order of `pipe.tags`.

    They are the marginals of the CRF: the gradient of the log partition function in the scores of the tags.
    """
    _, predictions = pipe.predict(docs, "predict_emissions")
    tagger = pipe.head
    found = []
    for (emissions,) in predictions:
        rows, lengths = torch.from_numpy(emissions)[None], torch.tensor([len(emissions)])
        with torch.no_grad():
            scores, transitions = tagger.crf.potentials(rows, lengths, tagger.temperature)
        scores.requires_grad_()
        log_partition(scores, transitions, lengths).sum().backward()
        marginals = scores.grad[0].double().clamp_min(0).numpy() if scores.grad is not None else np.empty(0)
        found.append(marginals / marginals.sum(1, keepdims=True))
    return found
