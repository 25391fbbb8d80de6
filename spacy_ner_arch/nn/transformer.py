"""A pretrained transformer that gives one vector a word."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

POOLINGS = ("mean", "first", "first_last")


class Pieces(NamedTuple):
    """Word pieces of S windows of L places, and which of them belong to which of N words."""

    ids: Tensor  # (S, L) int64
    mask: Tensor  # (S, L) bool
    rows: Tensor  # (P,) int64, places among the S * L of the pieces of all words, word by word
    words: Tensor  # (P,) int64, the word that each of these belongs to
    counts: Tensor  # (N,) int64, pieces of each word


class WordTransformer(nn.Module):
    """A transformer of Hugging Face, its word pieces pooled to words.

    config: of the transformer, as a dictionary, with its `model_type` and by choice `attn_implementation`.
    pooling: what a word gets from its word pieces: their mean, the first, or first and last side by side.

    Shape: order (N,) int64, the place of each word among those of all batches -> (N, output_size). A word without
        pieces gets zeros.
    """

    def __init__(self, config: dict[str, Any], pooling: str) -> None:
        super().__init__()
        from transformers import AutoConfig, AutoModel

        settings = dict(config)
        # To Hugging Face no setting of a config, but of a model.
        attention = settings.pop("attn_implementation", None)
        wanted = {"attn_implementation": attention} if attention else {}
        chosen = AutoConfig.for_model(settings.pop("model_type"), **settings)
        try:
            self.transformer = AutoModel.from_config(chosen, **wanted)
        except (ImportError, ValueError) as error:
            if not wanted:
                raise
            # The weights are the same whatever the implementation.
            warnings.warn(f"attn_implementation = {attention!r} is not to be had here: {error}", stacklevel=2)
            self.transformer = AutoModel.from_config(chosen)
        # A layer behind the first piece of a sentence, for which words have no use.
        if getattr(self.transformer, "pooler", None) is not None:
            self.transformer.pooler = None
        self.pooling = pooling
        self.output_size = self.transformer.config.hidden_size * (2 if pooling == "first_last" else 1)

    @property
    def max_pieces(self) -> int | None:
        """Longest input, special pieces included; None if there is no limit."""
        positions = getattr(self.transformer.config, "max_position_embeddings", -1)
        for module in self.transformer.modules():
            if (
                isinstance(module, nn.Embedding)
                and module.num_embeddings == positions
                and module.padding_idx is not None
            ):
                positions -= module.padding_idx + 1  # RoBERTa counts from behind the padding
        return positions if positions > 0 else None

    def forward(self, order: Tensor, batches: Sequence[Pieces]) -> Tensor:
        return torch.cat([self.read(pieces) for pieces in batches]).index_select(0, order)

    def read(self, pieces: Pieces) -> Tensor:
        """Vectors (N, output_size) of the words of one batch."""
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
        """One piece of each word."""
        # A word without pieces may point behind or before the list: to any piece, which is then not used.
        padded = torch.cat([rows, rows.new_zeros(1)])
        picked = hidden.index_select(0, padded[which])
        return torch.where((counts > 0).unsqueeze(1), picked, picked.new_zeros(()))
