"""Warnings about gold annotation from which a component cannot learn."""

import warnings
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from spacy.tokens import Span
from spacy.training import Example

from ..annotation.alignment import find_misaligned
from ..annotation.describe import Counted, describe_span, quote
from ..annotation.entities import outside_tokens
from ..annotation.layers import count_layers
from ..annotation.tags import LabelledSpan


class SpanFaults:
    """Count gold spans that do not align with the tokens of the pipeline, have white space at their ends, or have
    several labels; and documents in which only entities are annotated.

    one_label: whether to count spans with the same bounds and different labels.
    """

    def __init__(self, one_label: bool = False) -> None:
        self.one_label = one_label
        self.total = 0
        self.several_labels = Counted()
        self.misaligned = Counted()
        self.spaces = Counted()
        self.marked = Counted()
        self.has_outside = False

    def add(self, eg: Example, spans: Sequence[Span], aligned: Iterable[LabelledSpan], annotated: np.ndarray) -> None:
        """Check the gold spans of an example.

        spans: gold spans of the reference.
        aligned: gold spans on the tokens of the pipeline.
        annotated: (T,) bool, which of these tokens are annotated.
        """
        self.total += len(spans)
        self.misaligned.add(find_misaligned(eg, spans), describe_span)
        self.spaces.add([span for span in spans if span[0].is_space or span[-1].is_space], describe_span)
        if self.one_label:
            first = dict[tuple[int, int], str]()
            others = [span for span in spans if first.setdefault((span.start, span.end), span.label_) != span.label_]
            self.several_labels.add(others, describe_span)
        self.has_outside |= bool(annotated.all() or outside_tokens(aligned, annotated).any())
        if len(spans) and not annotated.all():
            self.marked.add([eg.reference.text], quote)

    def warn(self, name: str) -> None:
        """Warn about the faults that were found. name: name of the component."""
        if self.several_labels.count:
            warnings.warn(
                f"{name}: {self.several_labels.count} of {self.total} gold spans have the same bounds as another one "
                f"and a different label, such as {self.several_labels.first}. A span gets one label, so they cannot be "
                f"found; set [components.{name}] multi_label = true",
                stacklevel=3,
            )
        if self.misaligned.count:
            warnings.warn(
                f"{name}: {self.misaligned.count} of {self.total} gold entities do not align with the tokens of the "
                f"pipeline's tokenizer, such as {self.misaligned.first}; their tokens are treated as not annotated. "
                "Correct their bounds, convert with --align expand or contract, or change the tokenizer",
                stacklevel=3,
            )
        if self.marked.count and not self.has_outside:
            warnings.warn(
                f"{name}: in all {self.marked.count} documents with entities, such as {self.marked.first}, only "
                "entities are annotated, and no token is known to be outside of entities: the component learns to find "
                "entities everywhere. Annotate some documents completely, or rejected places as blocked, see "
                "docs/data.md",
                stacklevel=3,
            )
        if self.spaces.count:
            warnings.warn(
                f"{name}: {self.spaces.count} of {self.total} gold entities begin or end with white space, such as "
                f"{self.spaces.first}. They are learned without the white space and scored as missed, and so are their "
                "relations: trim them in the corpus",
                stacklevel=3,
            )


def width_remedy(name: str, widths: Sequence[int]) -> str:
    """Text of the remedy for gold spans that are wider than the max_width of a component.

    widths: widths of all gold spans, in words.
    """
    most = sorted(widths)[int(0.99 * (len(widths) - 1))]
    return f"set [components.{name}] max_width to {max(widths)} for all, or {most} for 99 %; this costs time and memory"


def noting_unannotated(name: str, layer: str, examples: Iterable[Example]) -> Iterator[Example]:
    """Pass on the examples, and warn at the end if only some of them have a layer of annotation.

    name: name of the component that learns from this layer.
    layer: name of the layer, as in `annotation.layers.count_layers`.
    """
    documents, unannotated = 0, Counted()
    for eg in examples:
        documents += 1
        if len(eg.reference) and layer not in count_layers(eg.reference):
            unannotated.add([eg.reference.text], quote)
        yield eg
    if 0 < unannotated.count < documents:
        warnings.warn(
            f"{name}: {unannotated.count} of {documents} documents, such as {unannotated.first}, have no {layer}. They "
            "count as not annotated, and nothing is learned from them; if there is nothing to find in them, set an "
            "empty list",
            stacklevel=3,
        )
