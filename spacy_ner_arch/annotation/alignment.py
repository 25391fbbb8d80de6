"""Gold spans on the tokens of the pipeline."""

from collections.abc import Iterable, Sequence

import numpy as np
from spacy.attrs import ORTH
from spacy.tokens import Span
from spacy.training import Example

from .tags import LabelledSpan


def same_tokens(eg: Example) -> bool:
    """Whether reference and predicted document have the same tokens, so that no alignment is needed."""
    return eg.predicted.to_array(ORTH).tobytes() == eg.reference.to_array(ORTH).tobytes()


def align_each(eg: Example, gold: Iterable[Span]) -> list[tuple[int, int] | None]:
    """Start and end of each gold span in the predicted tokens; None if its bounds do not match them."""
    if same_tokens(eg):
        return [(span.start, span.end) for span in gold]
    # `Example.get_aligned_spans_y2x` does not return which spans match. Access the alignment once, since spaCy compares
    # all tokens at each access.
    to_predicted = eg.alignment.y2x

    def find(span: Span) -> tuple[int, int] | None:
        tokens = to_predicted[span.start : span.end]
        if not len(tokens):
            return None
        start, end = int(tokens[0]), int(tokens[-1]) + 1
        return (start, end) if _bare(eg.predicted[start:end]) == _bare(span) else None

    return [find(span) for span in gold]


def _bare(span: Span) -> str:
    """The text of a span that spaCy compares."""
    return span.text.lower().strip().replace(" ", "")


def align(eg: Example, gold: Sequence[Span]) -> list[LabelledSpan]:
    """Gold spans whose bounds match the predicted tokens; they may overlap."""
    return [(*bounds, span.label_) for span, bounds in zip(gold, align_each(eg, gold), strict=True) if bounds]


def find_misaligned(eg: Example, gold: Sequence[Span]) -> list[Span]:
    """The gold spans whose bounds do not match the predicted tokens."""
    return [span for span, bounds in zip(gold, align_each(eg, gold), strict=True) if bounds is None]


def misaligned_tokens(eg: Example, gold: Sequence[Span]) -> np.ndarray:
    """Mark predicted tokens that overlap a gold span whose bounds do not match the tokenization, (T,) bool.

    They are excluded from the loss.
    """
    touched = np.zeros(len(eg.predicted), dtype=bool)
    misaligned = find_misaligned(eg, gold)
    if misaligned:
        to_predicted = eg.alignment.y2x
        for span in misaligned:
            touched[to_predicted[span.start : span.end]] = True
    return touched
