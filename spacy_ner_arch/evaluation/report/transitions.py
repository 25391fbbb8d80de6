"""What the CRFs of a pipeline have learned about which tag follows which."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from spacy.language import Language

from ...annotation.tags import legality


@dataclass(frozen=True)
class Transitions:
    """Transition scores of one component.

    component: its name in the pipeline.
    tags: K names.
    scores: (K + 1, K + 1). From the start of the text (row 0) and from each tag (the other rows) to each tag (columns)
        and to the end of the text (last column). NaN where the tag scheme forbids the step.
    """

    component: str
    tags: list[str]
    scores: np.ndarray


def transitions(nlp: Language) -> list[Transitions]:
    """The learned transitions of all components that have some; a softmax, whose transitions are zeros, has none."""
    found = []
    for name, pipe in nlp.pipeline:
        for crf in crfs(pipe):
            start, between, end = map(to_numpy, (crf.start_transitions, crf.transitions, crf.end_transitions))
            if not between.any():
                continue
            allowed = legality(crf.labels, crf.scheme)
            scores = np.full((len(crf.labels) + 1,) * 2, np.nan)
            scores[0, :-1] = np.where(allowed.start, start, np.nan)
            scores[1:, :-1] = np.where(allowed.transition, between, np.nan)
            scores[1:, -1] = np.where(allowed.end, end, np.nan)
            found.append(Transitions(name, list(crf.labels), scores))
    return found


def crfs(pipe: Any) -> Iterator[Any]:
    """The CRFs with a tag scheme in the initialized torch modules of a component's model."""
    model: Any = getattr(pipe, "model", None)
    for node in model.walk() if hasattr(model, "walk") else ():
        for shim in node.shims:
            crf = getattr(shim.module, "crf", None) if getattr(shim, "is_initialized", False) else None
            if crf is not None and crf.labels is not None:
                yield crf


def to_numpy(parameter: Any) -> np.ndarray:
    return parameter.detach().cpu().float().numpy()
