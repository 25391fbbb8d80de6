"""Batches of a training run, which a resumed run can draw again."""

import zlib
from collections.abc import Iterable, Iterator

from spacy.attrs import ORTH
from spacy.training import Example

from .random_states import RandomState, random_state, set_random_state


class Batches:
    """Batches of the training corpus as spaCy draws them, with a separate random state.

    They depend neither on the random numbers that updates draw nor on the process.

    source: epoch and examples of each batch.
    state: random state at the beginning.

    `drawn` and `words` count batches and words so far; `checksum` is the CRC-32 of these words.
    """

    def __init__(self, source: Iterator[tuple[int, Iterable[Example]]], state: RandomState) -> None:
        self._source, self._state = source, state
        self.drawn, self.words, self.checksum = 0, 0, 0

    def __iter__(self) -> Iterator[tuple[int, list[Example]]]:
        while True:
            others = random_state()
            set_random_state(self._state)
            try:
                epoch, batch = next(self._source, (0, None))
            finally:
                self._state = random_state()
                set_random_state(others)
            if batch is None:
                return
            examples = list(batch)
            self.drawn += 1
            for example in examples:
                self.words += len(example)
                self.checksum = zlib.crc32(example.reference.to_array([ORTH]).tobytes(), self.checksum)
            yield epoch, examples
