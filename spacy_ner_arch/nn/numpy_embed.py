"""Prediction of a WordEmbedding in NumPy, for exported pipelines, which do not call torch.

Everything is a look-up, even the convolution: the output of a filter for three characters is the sum of its outputs for
each of them, which are computed once for all characters.

Letters: N tokens, U distinct words, L characters of the longest word.
"""

import numpy as np

from .embed import WordEmbedding, hash_array

HASHES = 2


def embedding_arrays(module: WordEmbedding) -> dict[str, np.ndarray]:
    """The arrays of a `NumpyEmbedding`."""
    tables = [module.words.known] if module.words is not None else []
    arrays = {f"table_{i}": embed.table.weight for i, embed in enumerate([*tables, *module.features])}
    for name in ("words", "changes"):
        part = getattr(module, name)
        if part is not None:
            arrays |= {f"{name}_seen": part.seen.counts > 0, f"{name}_unknown": part.unknown}
    if module.changes is not None:
        arrays["changes"] = module.changes.known.table.weight
    if module.characters is not None:
        convolution = module.characters.convolution
        filters = convolution.weight.permute(2, 1, 0)
        arrays |= {"filters": module.characters.table.weight @ filters, "filter_bias": convolution.bias}
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in arrays.items()}


class NumpyEmbedding:
    """WordEmbedding.forward in NumPy.

    arrays: result of `embedding_arrays`.
    """

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays
        self.tables = [arrays[f"table_{i}"] for i in range(sum(name.startswith("table_") for name in arrays))]
        # The rows of the learned changes are the rows of the words, since the tables have the same size.
        self.has_words = "words_seen" in arrays
        sizes = [len(table) for table in self.tables]
        if not self.has_words:
            sizes.insert(0, len(arrays.get("changes", [0])))
        self.sizes = np.array(sizes)[:, None]

    def __call__(
        self, keys: np.ndarray, characters: np.ndarray, which: np.ndarray, vectors: np.ndarray | None
    ) -> np.ndarray:
        """Vectors (N, output_size). Arguments as for WordEmbedding; vectors is None if there are none."""
        rows = hash_array(keys, self.sizes, HASHES)
        columns = rows.transpose(1, 0, 2)[0 if self.has_words else 1 :]
        parts = [add_rows(table, column) for table, column in zip(self.tables, columns, strict=True)]
        if self.has_words:
            self._replace_unknown("words", keys, parts[0])
        if "filters" in self.arrays:
            parts.append(self._characters(characters)[which])
        if vectors is not None:
            if "changes" in self.arrays:
                changes = add_rows(self.arrays["changes"], rows[:, 0])
                self._replace_unknown("changes", keys, changes)
                vectors = vectors + changes
            parts.append(vectors)
        return np.concatenate(parts, axis=1)

    def _replace_unknown(self, name: str, keys: np.ndarray, embedded: np.ndarray) -> None:
        """Set the rows of words that are not in the training data to the vector for unknown words."""
        seen = self.arrays[f"{name}_seen"]
        cells = hash_array(keys[:, 0], seen.shape[1], len(seen))
        embedded[~seen[np.arange(len(seen)), cells].all(axis=1)] = self.arrays[f"{name}_unknown"]

    def _characters(self, characters: np.ndarray) -> np.ndarray:
        """CharacterCNN.forward."""
        filters = self.arrays["filters"]
        width = len(filters) // 2
        length = characters.shape[1]
        padded = np.zeros((len(characters), length + 2 * width), dtype=np.int64)
        padded[:, width : width + length] = characters
        states = filters[0][padded[:, :length]]
        for offset in range(1, len(filters)):
            states += filters[offset][padded[:, offset : offset + length]]
        states += self.arrays["filter_bias"]
        # A ReLU follows the maximum, so that zeros change nothing.
        states *= (characters != 0)[..., None]
        return np.maximum(states.max(axis=1), 0)


def add_rows(table: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """HashEmbedding.forward, from the rows (N, 2) of each key."""
    found: np.ndarray = table[rows[:, 0]]
    found += table[rows[:, 1]]
    return found
