"""Indices of the words among the tokens of a document. Words are the tokens that are not white space."""

from functools import cached_property
from typing import Any

import numpy as np


class Words:
    """The words of a document of T tokens. Heads and encoders read only words. See `words.find_words`.

    Line breaks and double spaces are tokens in spaCy. Few corpora have such tokens, so a model would not know them.

    token_count: T.
    spaces: (T,) bool, which tokens are white space; None if there is no white space.
    """

    def __init__(self, token_count: int, spaces: np.ndarray | None = None) -> None:
        self.token_count = token_count
        self._spaces = spaces

    def __len__(self) -> int:
        return self.token_count if self._spaces is None else len(self.tokens)

    @property
    def has_no_space(self) -> bool:
        """Whether the document has no white space."""
        return len(self) == self.token_count

    @cached_property
    def tokens(self) -> np.ndarray:
        """(N,) int64, the token of each word."""
        return np.arange(self.token_count) if self._spaces is None else np.flatnonzero(~self._spaces)

    def to_tokens(self, start: int, end: int) -> tuple[int, int]:
        """First token and exclusive end of a span of words."""
        if self._spaces is None:
            return start, end
        return int(self.tokens[start]), int(self.tokens[end - 1]) + 1

    def from_tokens(self, bounds: np.ndarray) -> np.ndarray:
        """(n, 2) int64, first word and exclusive end of spans of tokens; an empty span for white space only."""
        return bounds if self.has_no_space else np.searchsorted(self.tokens, bounds)


def in_words(value: Any, words: Words) -> Any:
    """Convert token indices in the items or the target of a document to word indices.

    value: spans (C, 2) of tokens, or an object with a method `in_words`.
    """
    if words.has_no_space:
        return value
    if isinstance(value, np.ndarray):
        bounds = words.from_tokens(value)
        return bounds[bounds[:, 0] < bounds[:, 1]]
    return value.in_words(words)
