"""Places of words among the tokens of a document. Words are the tokens that are not white space."""

from functools import cached_property
from typing import Any

import numpy as np


class Words:
    """The words of a document of T tokens, which are all that heads and encoders read. See `words.find_words`.

    Line breaks and double blanks are tokens in spaCy. Few corpora have such tokens, so a model would not know them.

    token_count: T.
    spaces: (T,) bool, which tokens are white space; None for none of them.
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
        """(n, 2) int64, first word and exclusive end of spans of tokens; an empty span for white space alone."""
        return bounds if self.has_no_space else np.searchsorted(self.tokens, bounds)


def in_words(value: Any, words: Words) -> Any:
    """Items or a target of a document with the places of words instead of tokens.

    value: spans (C, 2) of tokens, or an object with a method `in_words`.
    """
    if words.has_no_space:
        return value
    if isinstance(value, np.ndarray):
        bounds = words.from_tokens(value)
        return bounds[bounds[:, 0] < bounds[:, 1]]
    return value.in_words(words)
