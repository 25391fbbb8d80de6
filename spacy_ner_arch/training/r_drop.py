"""Batcher for R-Drop: batches with each example twice, for the `consistency` of the heads."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from spacy.util import registry

T = TypeVar("T")


@registry.batchers("spacy_ner_arch.RDrop.v1")
def create_r_drop(batcher: Callable[[Iterable[T]], Iterable[list[T]]]) -> Callable[[Iterable[T]], Iterator[list[T]]]:
    """Create a batcher that wraps another batcher and repeats each example.

    The two copies of a document get different dropout. `consistency` of a head keeps their predictions close.

    batcher: for example spacy.batch_by_padded.v1.
    """

    def twice(items: Iterable[T]) -> Iterator[list[T]]:
        for batch in batcher(items):
            yield [item for item in batch for _ in range(2)]

    return twice
