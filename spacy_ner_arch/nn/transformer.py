"""A Hugging Face transformer that returns one vector per word."""

import copy
import inspect
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

POOLINGS = ("mean", "first", "first_last")
# Setting of a Hugging Face config that `WordTransformer` takes as an argument, and its values.
ATTENTION = "attn_implementation"
ATTENTIONS = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
# Settings of a Hugging Face config that do not change word vectors, or change only their dtype, or name code.
DROPPED = {
    "auto_map",
    "chunk_size_feed_forward",
    "id2label",
    "label2id",
    "output_attentions",
    "output_hidden_states",
    "quantization_config",
    "return_dict",
    "task_specific_params",
    "torch_dtype",
    "torchscript",
    "transformers_version",
}
# Families that take an attention mask of pairs of pieces, (S, L, L). With a mask of pieces, (S, L), Hugging Face
# compares all values with 1, and the host waits for the result.
TAKES_PAIRS = {"bert", "camembert", "roberta", "xlm-roberta"}
# Buffers that some versions of transformers store and others compute.
COMPUTED = re.compile(r"(^|\.)(position_ids|token_type_ids|inv_freq|masked_bias)$")


class Pieces(NamedTuple):
    """Word pieces of S windows of L positions, and the P pieces of the N words of these windows.

    A piece can belong to several words.
    """

    ids: Tensor  # (S, L) int64
    mask: Tensor  # (S, L) bool, False on padding
    rows: Tensor  # (P,) int64, position of each piece in the flattened (S * L) windows, sorted by word
    starts: Tensor  # (N,) int64, first piece of each word, as index of `rows`
    counts: Tensor  # (N,) int64, number of pieces of each word
    types: Tensor | None = None  # (S, L) int64, `token_type_ids`; None if the tokenizer gives none


class Converted(NamedTuple):
    """Weights of the linear layers, their data pointers and versions, and the transformer with converted weights."""

    weights: list[Tensor]
    versions: list[tuple[int, int]]
    transformer: Any


class WordTransformer(nn.Module):
    """Run a Hugging Face transformer and pool the vectors of word pieces to vectors of words.

    config: configuration of the transformer as a dictionary, with its `model_type`. Of a model with a decoder, only the
        encoder is built.
    pooling: vector of a word: "mean" of its pieces, "first" piece, or "first_last" (both, concatenated).
    attention: its `attn_implementation`; None for the default.

    Warns if the attention is not available, and uses the default. Raises ValueError for a config that
    transformers does not know.

    Shape: order (N,) int64, index of each word in the concatenated words of all batches -> (N, output_size). A word
        without pieces has zeros.
    """

    transformer: Any  # of transformers
    keeps_tensors = True  # see TorchShim.predict

    def __init__(self, config: dict[str, Any], pooling: str, attention: str | None = None) -> None:
        super().__init__()
        self.transformer = build_transformer(config, attention)
        # Remove the pooler, an extra layer over the first piece of a sentence that word vectors do not need.
        if getattr(self.transformer, "pooler", None) is not None:
            self.transformer.pooler = nn.Identity()
        self.pooling = pooling
        self.output_size = self.transformer.config.hidden_size * (2 if pooling == "first_last" else 1)
        self.argument_names = set(inspect.signature(self.transformer.forward).parameters)
        self._converted: Converted | None = None

    def train(self, mode: bool = True) -> "WordTransformer":
        self._converted = None
        super().train(mode)
        return self

    @property
    def rows(self) -> int | None:
        """Number of rows of the embedding table of pieces; None if the transformer has no such table."""
        try:
            table = self.transformer.get_input_embeddings()
        except NotImplementedError:
            table = getattr(self.transformer, "embed_tokens", None)
        return table.num_embeddings if isinstance(table, nn.Embedding) else None

    @property
    def padding(self) -> int:
        """Id of the piece for padding."""
        piece = self.transformer.config.pad_token_id
        return piece if isinstance(piece, int) and piece >= 0 else 0

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
        ids, mask, rows, starts, counts, types = pieces
        attention = mask.long()
        if mask.is_cuda and self.transformer.config.model_type in TAKES_PAIRS:
            attention = attention.unsqueeze(1).expand(-1, mask.shape[1], -1)
        inputs = {"input_ids": ids, "attention_mask": attention, "token_type_ids": types}
        inputs = {name: value for name, value in inputs.items() if name in self.argument_names and value is not None}
        is_prediction = ids.is_cpu and not (self.training or torch.is_grad_enabled())
        output = (self._convert() if is_prediction else self.transformer)(**inputs)
        hidden = output.last_hidden_state.flatten(0, 1)
        if self.pooling == "mean":
            # Unlike index_add, embedding_bag is deterministic on a GPU (no atomic operations), and faster on a CPU.
            return F.embedding_bag(rows, hidden, starts, mode="mean")
        picked = self._pick(hidden, rows, starts, counts)
        if self.pooling == "first":
            return picked
        return torch.cat([picked, self._pick(hidden, rows, starts + counts - 1, counts)], dim=1)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_converted": None}

    def _convert(self) -> Any:
        """The transformer; under autocast, a copy with linear layers in the dtype of autocast that shares all else.

        Autocast would convert the weights in every call, which takes longer than a sentence. In prediction, the
        converted weights are cached until the weights change. Fused optimizers change weights without a new version,
        so `train` clears the cache. The weights are not swapped in place, since other threads may predict at the same
        time.
        """
        if not torch.is_autocast_enabled("cpu"):
            return self.transformer
        converted = self._converted
        if converted is None:
            layers = [layer for layer in self.transformer.modules() if type(layer) is nn.Linear]
            weights: list[Tensor] = [weight for layer in layers for weight in layer.parameters()]
            converted = Converted(weights, [], self.transformer)
        versions = [(weight.data_ptr(), weight._version) for weight in converted.weights]
        if converted.versions != versions:
            dtype = torch.get_autocast_dtype("cpu")
            # deepcopy does not copy objects that are in its memo.
            memo: dict[int, Any] = {id(each): each for each in self.transformer.parameters()}
            memo |= {id(each): each for each in self.transformer.buffers()}
            memo |= {id(each): nn.Parameter(each.to(dtype), requires_grad=False) for each in converted.weights}
            converted = Converted(converted.weights, versions, copy.deepcopy(self.transformer, memo))
            self._converted = converted
        return converted.transformer

    def _pick(self, hidden: Tensor, rows: Tensor, which: Tensor, counts: Tensor) -> Tensor:
        """Return the vector of one piece of each word, zeros for words without pieces.

        which: (N,) int64, index of the piece in `rows`.
        """
        # The index of a word without pieces may be -1 or P. Both are valid in the padded list; the result is not used.
        padded = torch.cat([rows, rows.new_zeros(1)])
        picked = hidden.index_select(0, padded[which])
        return torch.where((counts > 0).unsqueeze(1), picked, picked.new_zeros(()))

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights. Ignore differences in buffers that only some versions of transformers store."""
        own = self.state_dict()
        ignored = list(getattr(self.transformer, "_keys_to_ignore_on_load_unexpected", None) or [])
        known = {
            name: tensor
            for name, tensor in state_dict.items()
            if name in own or not (COMPUTED.search(name) or any(re.search(pattern, name) for pattern in ignored))
        }
        computed = {name: tensor for name, tensor in own.items() if COMPUTED.search(name)}
        return super().load_state_dict({**computed, **known}, strict=strict, assign=assign)


def build_transformer(config: dict[str, Any], attention: str | None) -> nn.Module:
    """A transformer with random weights. Of a model with a decoder, only the encoder is built."""
    from transformers import AutoModel

    check_attention(attention)
    # Hugging Face expects it as an argument of the model, not as part of the config.
    wanted = {ATTENTION: attention} if attention else {}
    fixed: dict[str, Any] = {"trust_remote_code": False, "torch_dtype": torch.float32}
    settings = hugging_face_config(config)
    try:
        transformer = AutoModel.from_config(settings, **fixed, **wanted)
    except (ImportError, ValueError) as error:
        if not wanted:
            raise
        # All implementations use the same weights.
        warnings.warn(f"{ATTENTION} = {attention!r} is not available, so the default is used: {error}", stacklevel=2)
        transformer = AutoModel.from_config(settings, **fixed)
    return transformer.get_encoder() if settings.is_encoder_decoder else transformer


def check_attention(name: Any) -> None:
    """Raise ValueError for an attention that is not in transformers: Hugging Face would fetch its code from the hub."""
    if name not in (None, *ATTENTIONS):
        raise ValueError(f"{ATTENTION} = {name!r}; choose from {', '.join(ATTENTIONS)}")


def stored_config(config: Any) -> dict[str, Any]:
    """The settings of a Hugging Face config that `WordTransformer` uses, as a dictionary."""
    return {**_known(config.to_dict()), "model_type": config.model_type}


def hugging_face_config(settings: dict[str, Any]) -> Any:
    """The Hugging Face config of stored settings, which another version of transformers may have stored.

    Raises ValueError for an unknown model_type. Warns of settings that this version does not allow.
    """
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

    kind = str(settings.get("model_type"))
    if kind not in CONFIG_MAPPING or kind not in TOKENIZER_MAPPING_NAMES:
        raise ValueError(f"model_type = {kind!r} is not a text model of the package transformers; choose another model")
    known = _known(settings)
    own = set(CONFIG_MAPPING[kind]().to_dict()) | set(inspect.signature(CONFIG_MAPPING[kind]).parameters)
    if known.get("is_encoder_decoder"):  # the decoder is not used, but some families need one layer
        known |= {key: 1 for key in ("num_decoder_layers", "decoder_layers") if key in own}
    config = CONFIG_MAPPING[kind].from_dict({key: value for key, value in known.items() if key in own})
    refused = []
    for key in known.keys() - own:
        # Some models read settings that their config does not declare.
        try:
            setattr(config, key, known[key])
        except (AttributeError, NotImplementedError):
            refused.append(key)
    if refused:
        warnings.warn(
            f"transformer: settings that this version of transformers does not allow are ignored: {sorted(refused)}",
            stacklevel=2,
        )
    return config


def _known(settings: dict[str, Any]) -> dict[str, Any]:
    hidden = {"model_type", ATTENTION} | DROPPED
    return {key: value for key, value in settings.items() if key not in hidden and not key.startswith("_")}
