"""A Hugging Face transformer that returns one vector per word."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

POOLINGS = ("mean", "first", "first_last")


class Pieces(NamedTuple):
    """Word pieces of S windows of L positions, and the P pieces that belong to the N words of these windows."""

    ids: Tensor  # (S, L) int64
    mask: Tensor  # (S, L) bool, False on padding
    rows: Tensor  # (P,) int64, position of each piece in the flattened (S * L) windows, sorted by word
    words: Tensor  # (P,) int64, word of each piece
    counts: Tensor  # (N,) int64, number of pieces of each word


class WordTransformer(nn.Module):
    """Run a Hugging Face transformer and pool the vectors of word pieces to vectors of words.

    config: configuration of the transformer as a dictionary, with its `model_type` and optionally
        `attn_implementation`.
    pooling: vector of a word: "mean" of its pieces, "first" piece, or "first_last" (both, concatenated).

    Warns if `attn_implementation` is not available, and uses the default.

    Shape: order (N,) int64, index of each word in the concatenated words of all batches -> (N, output_size). A word
        without pieces has zeros.
    """

    def __init__(self, config: dict[str, Any], pooling: str) -> None:
        super().__init__()
        from transformers import AutoConfig, AutoModel

        settings = dict(config)
        # Hugging Face expects it as an argument of the model, not as part of the config.
        attention = settings.pop("attn_implementation", None)
        wanted = {"attn_implementation": attention} if attention else {}
        chosen = AutoConfig.for_model(settings.pop("model_type"), **settings)
        try:
            self.transformer = AutoModel.from_config(chosen, **wanted)
        except (ImportError, ValueError) as error:
            if not wanted:
                raise
            # All implementations use the same weights.
            warnings.warn(
                f"attn_implementation = {attention!r} is not available, the default is used: {error}", stacklevel=2
            )
            self.transformer = AutoModel.from_config(chosen)
        # The pooler is an extra layer over the first piece of a sentence; word vectors do not need it.
        if getattr(self.transformer, "pooler", None) is not None:
            self.transformer.pooler = None
        self.pooling = pooling
        self.output_size = self.transformer.config.hidden_size * (2 if pooling == "first_last" else 1)

    @property
    def max_pieces(self) -> int | None:
        """Longest window in pieces, including special pieces; None if there is no limit."""
        positions = getattr(self.transformer.config, "max_position_embeddings", -1)
        for module in self.transformer.modules():
            if (
                isinstance(module, nn.Embedding)
                and module.num_embeddings == positions
                and module.padding_idx is not None
            ):
                positions -= module.padding_idx + 1  # RoBERTa numbers positions from padding_idx + 1
        return positions if positions > 0 else None

    def forward(self, order: Tensor, batches: Sequence[Pieces]) -> Tensor:
        return torch.cat([self.read(pieces) for pieces in batches]).index_select(0, order)

    def read(self, pieces: Pieces) -> Tensor:
        """Return the vectors (N, output_size) of the words of one batch of windows."""
        ids, mask, rows, words, counts = pieces
        hidden = self.transformer(input_ids=ids, attention_mask=mask.long()).last_hidden_state.flatten(0, 1)
        if self.pooling == "mean":
            total = hidden.new_zeros(len(counts), hidden.shape[1]).index_add(0, words, hidden.index_select(0, rows))
            return total / counts.clamp_min(1).unsqueeze(1)
        after = counts.cumsum(0)
        picked = self._pick(hidden, rows, after - counts, counts)
        if self.pooling == "first":
            return picked
        return torch.cat([picked, self._pick(hidden, rows, after - 1, counts)], dim=1)

    def _pick(self, hidden: Tensor, rows: Tensor, which: Tensor, counts: Tensor) -> Tensor:
        """Return the vector of one piece of each word, zeros for words without pieces.

        which: (N,) int64, index of the piece in `rows`.
        """
        # The index of a word without pieces may be -1 or P. Both are valid in the padded list; the result is not used.
        padded = torch.cat([rows, rows.new_zeros(1)])
        picked = hidden.index_select(0, padded[which])
        return torch.where((counts > 0).unsqueeze(1), picked, picked.new_zeros(()))
