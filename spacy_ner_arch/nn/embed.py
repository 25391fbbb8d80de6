"""Embeddings of words without a vocabulary: hashed words and features, characters, a vector for unknown words.

Letters: N tokens, U distinct words, L characters of the longest word.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .dropout import dropout

CHARACTER_ROWS = 1024
# Up to this number of distinct words, a convolution on a CPU is faster as a matrix product: oneDNN prepares a
# convolution for each shape.
FEW_WORDS = 128
# Odd 64-bit constants for multiplicative hashing (golden ratio and the mixers of splitmix64), as signed integers.
MIXERS = (-7046029254386353131, -4658895280553007687, -7723592293110705685, 7664345821815920749)


def hash_rows(keys: Tensor, rows: int, count: int) -> Tensor:
    """Hash each 64-bit key to `count` rows of a table: (...) int64 -> (..., count) int64 from 0 to rows - 1."""
    if keys.is_cpu:  # operations on small arrays take less time in NumPy
        return torch.as_tensor(hash_array(keys.numpy(), rows, count))
    # Multiply by Python integers: a tensor of the constants would be copied to the GPU in every call.
    mixed = torch.stack([keys * mixer for mixer in MIXERS[:count]], dim=-1)
    return ((mixed >> 31) & 0xFFFFFFFF) % rows


def hash_array(keys: np.ndarray, rows: int | np.ndarray, count: int) -> np.ndarray:
    """`hash_rows` for arrays. rows: can also be an array (..., 1), for tables of different sizes."""
    mixed = keys[..., None] * np.array(MIXERS[:count])
    return ((mixed >> 31) & 0xFFFFFFFF) % rows


def unit_embedding(rows: int, width: int) -> nn.Embedding:
    """Make an embedding whose rows have a norm of about 1.

    PyTorch initializes with N(0, 1), which gives a norm of sqrt(width): too large compared with the token vectors.
    """
    table = nn.Embedding(rows, width)
    bound = (3 / width) ** 0.5
    nn.init.uniform_(table.weight, -bound, bound)
    return table


class HashEmbedding(nn.Module):
    """Embed a key as the sum of several hashed rows of one table (Bloom embedding).

    Two keys rarely share all their rows, so the table can be smaller than the vocabulary.

    width: width of the output.
    rows: rows of the table.
    hashes: rows that are added for each key, at most 4.

    Shape: keys (N,) int64 -> (N, width).
    Source: Serrà and Karatzoglou 2017.
    """

    def __init__(self, width: int, rows: int, hashes: int = 2) -> None:
        super().__init__()
        self.hashes = hashes
        self.table = nn.Embedding(rows, width)
        nn.init.uniform_(self.table.weight, -(width**-0.5), width**-0.5)

    def forward(self, keys: Tensor) -> Tensor:
        return self.look_up(self.rows(keys))

    def rows(self, keys: Tensor) -> Tensor:
        """(..., hashes) rows of each key. They are the same in all tables of the same size."""
        return hash_rows(keys, self.table.num_embeddings, self.hashes)

    def look_up(self, rows: Tensor) -> Tensor:
        return self.table(rows).sum(-2)


class WordCounts(nn.Module):
    """Count the words of the training data in a count-min sketch. A count may be too high, but never too low.

    size: counters of each hash function.
    hashes: number of hash functions, at most 4.

    Shape: keys (N,) int64 -> counts (N,) int32.
    Source: Cormode and Muthukrishnan 2005.
    """

    def __init__(self, size: int = 2**17, hashes: int = 3) -> None:
        super().__init__()
        self.counts: Tensor
        self.total: Tensor
        self.register_buffer("counts", torch.zeros(hashes, size, dtype=torch.int32))
        self.register_buffer("total", torch.zeros((), dtype=torch.int64))

    def _cells(self, keys: Tensor) -> Tensor:
        return hash_rows(keys, self.counts.shape[1], self.counts.shape[0]).t()

    def add(self, keys: Tensor) -> None:
        """Count one more occurrence of each key (N,)."""
        cells = self._cells(keys)
        self.counts.scatter_add_(1, cells, torch.ones_like(cells, dtype=torch.int32))
        self.total += keys.numel()

    def forward(self, keys: Tensor) -> Tensor:
        """Return the number of occurrences of each key so far."""
        return self.counts.gather(1, self._cells(keys)).amin(0)


class CharacterCNN(nn.Module):
    """Convolve the characters of a word and take the maximum of each filter, followed by a ReLU.

    rows: rows of the character table; row 0 is the padding.
    width: width of a character vector.
    filters: number of filters, the width of the output.
    window: characters that a filter covers; an odd number.

    Shape: characters (U, L) int64, padded with 0 at the end -> (U, filters).
    Source: Ma and Hovy 2016.
    """

    def __init__(self, rows: int, width: int, filters: int, window: int = 3) -> None:
        super().__init__()
        self.output_size = filters
        self.window = window
        self.table = nn.Embedding(rows, width, padding_idx=0)
        bound = (3 / width) ** 0.5
        nn.init.uniform_(self.table.weight, -bound, bound)
        self.table.weight.data[0] = 0.0
        self.convolution = nn.Conv1d(width, filters, window, padding=window // 2)

    def forward(self, characters: Tensor) -> Tensor:
        x = self.table(characters)
        if len(characters) > FEW_WORDS or torch.is_grad_enabled() or not x.is_cpu:
            x = self.convolution(x.transpose(1, 2))
        else:
            width = self.window // 2
            windows = F.pad(x, (0, 0, width, width)).unfold(1, self.window, 1).flatten(2)
            x = F.linear(windows, self.convolution.weight.flatten(1), self.convolution.bias).transpose(1, 2)
        return x.masked_fill((characters == 0).unsqueeze(1), -1e4).amax(-1).relu()


class RareWordEmbedding(nn.Module):
    """Embed words; all words that do not occur in the training data share one vector.

    Without it, an unseen word would get hashed rows that were trained for other words. The vector is trained by
    replacing training words at random, rare words more often: with probability `unknown_rate / (unknown_rate + n)`,
    where n is the number of occurrences of the word per 100,000 words.

    width, rows: size of the table of known words.
    unknown_rate: see above; 0 for no replacement.

    Shape: words (N,) int64 -> (N, width).
    Source: Kiperwasser and Goldberg 2016.
    """

    def __init__(self, width: int, rows: int, unknown_rate: float) -> None:
        super().__init__()
        self.unknown_rate = unknown_rate
        self.known = HashEmbedding(width, rows)
        self.unknown = nn.Parameter(torch.zeros(width))
        self.seen = WordCounts()

    def forward(self, words: Tensor) -> Tensor:
        if self.training:
            self.seen.add(words)
        count = self.seen(words)
        unknown = count == 0
        if self.training and self.unknown_rate:
            per_100k = count * (100_000 / self.seen.total.clamp_min(1))
            unknown = torch.rand_like(per_100k) < self.unknown_rate / (self.unknown_rate + per_100k)
        return torch.where(unknown.unsqueeze(-1), self.unknown, self.known(words))


class WordEmbedding(nn.Module):
    """Concatenate the vectors of a word, its features and its characters, and optionally its pretrained vector.

    word_width, word_rows: size of the table of words; width 0 for none.
    features, feature_width, feature_rows: number of features, and the size of the table of each.
    character_width, filters: width of a character vector, and filters of the CNN; 0 filters for none.
    unknown_rate: see RareWordEmbedding.
    tune_vectors: add a learned change to the pretrained vector of each word, from a RareWordEmbedding of `word_rows`
        rows. That fine-tunes the vectors of the training words without a copy of all vectors in the model.
    dropout_rate: dropout of everything except the pretrained vectors, or None for the rate of `[training] dropout`.
    vector_dropout: dropout of the pretrained vectors, or None for the rate of `[training] dropout`.
    vector_width: width of the pretrained vectors; 0 for none.

    Shape: keys (N, 1 + features) int64, the word first; characters (U, L) int64 of the distinct words; which (N,)
        int64, the row of `characters` for each token; vectors (N, vector_width) -> (N, output_size).
    """

    def __init__(
        self,
        *,
        word_width: int,
        word_rows: int,
        features: int,
        feature_width: int,
        feature_rows: int,
        character_width: int,
        filters: int,
        unknown_rate: float,
        tune_vectors: bool = False,
        dropout_rate: float | None = 0.0,
        vector_dropout: float | None = 0.0,
        vector_width: int = 0,
    ) -> None:
        super().__init__()
        self.words = RareWordEmbedding(word_width, word_rows, unknown_rate) if word_width else None
        self.features: Any = nn.ModuleList(HashEmbedding(feature_width, feature_rows) for _ in range(features))
        self.characters = CharacterCNN(CHARACTER_ROWS, character_width, filters) if filters else None
        self.changes = RareWordEmbedding(vector_width, word_rows, unknown_rate) if tune_vectors else None
        self.dropout = dropout(dropout_rate)
        self.vector_dropout = dropout(vector_dropout)
        self.output_size = word_width + features * feature_width + filters + vector_width

    def forward(self, keys: Tensor, characters: Tensor, which: Tensor, vectors: Tensor) -> Tensor:
        parts = [] if self.words is None else [self.words(keys[:, 0])]
        if self.features:
            columns = self.features[0].rows(keys[:, 1:]).unbind(1)
            parts += [embed.look_up(column) for embed, column in zip(self.features, columns, strict=True)]
        if self.characters is not None:
            parts.append(self.characters(characters).index_select(0, which))
        if self.changes is not None:
            vectors = vectors + self.changes(keys[:, 0])
        return torch.cat([*map(self.dropout, parts), self.vector_dropout(vectors)], dim=-1)
