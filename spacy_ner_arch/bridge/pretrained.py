"""Load a pretrained transformer of Hugging Face, and check that its vectors can be used."""

from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from spacy.tokens import Doc
from spacy.vocab import Vocab

from ..nn.precision import AUTO, autocast
from ..nn.transformer import ATTENTION, DROPPED, WordTransformer, check_attention
from .storage import SMALL, limited_parameters
from .windows import collate
from .wordpieces import WordPieces

# Settings that let Hugging Face run code from a model folder or load pickles.
UNSAFE_SETTINGS = {"auto_map", "code_revision", "trust_remote_code", "weights_only"}
# Words for the check that vectors do not depend on the batch, number of them, and maximum difference of the vectors.
ODD_TEXT = ["Zoë", "said", ":", "\u201c", "北京", "\u00a0", "🙂", "counterintuitively", "\u0301x", "1,000", "\u200d"]
PROBE, TOLERANCE = 512, 1e-5


def check_safe_settings(tokenizer_config: dict[str, Any], transformer_config: dict[str, Any]) -> None:
    """Raise ValueError for settings that have no effect here, or that would run code."""
    for block, settings in (("tokenizer_config", tokenizer_config), ("transformer_config", transformer_config)):
        refused = sorted(UNSAFE_SETTINGS & set(settings))
        if refused:
            raise ValueError(
                f"spacy_ner_arch.TransformerModel.v1: {block} has {', '.join(refused)}; a model that needs code of its "
                "own or pickled weights is not supported"
            )
    check_attention(transformer_config.get(ATTENTION))
    unused = sorted(DROPPED & set(transformer_config))
    if unused:
        raise ValueError(
            f"spacy_ner_arch.TransformerModel.v1: transformer_config has {', '.join(unused)}, which has no effect: the "
            "vectors of words come from the last layer, in the precision that `dtype` names. Settings that change the "
            "network are supported, such as hidden_dropout_prob or attn_implementation"
        )


def load_pretrained(
    name: str, tokenizer_config: dict[str, Any], transformer_config: dict[str, Any]
) -> tuple[Any, Any, list[str]]:
    """Load a tokenizer and a model of Hugging Face. Also returns the names of weights that its files do not have.

    Raises ValueError with the reason if either cannot be loaded.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    part = "config.json"
    try:
        config, rest = AutoConfig.from_pretrained(
            name, trust_remote_code=False, return_unused_kwargs=True, **transformer_config
        )
        check_attention(config._attn_implementation_internal)
        part = "tokenizer"
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False, **tokenizer_config)
        part = "weights"
        fixed = {"trust_remote_code": False, "torch_dtype": torch.float32, "output_loading_info": True}
        with limited_parameters(2 * weights_size(name) + SMALL):
            pretrained, loaded = AutoModel.from_pretrained(name, config=config, **fixed, **rest)
    except Exception as error:  # Hugging Face raises errors of all kinds
        remedy = "Set [paths] encoder"
        if not name:
            what = "it has no name"
        elif Path(name).is_dir():
            is_tokenizer = part == "tokenizer"
            block = "tokenizer_config" if is_tokenizer else "transformer_config"
            given = tokenizer_config if is_tokenizer else transformer_config
            there = ", ".join(sorted(path.name for path in Path(name).iterdir())) or "nothing"
            if given:
                what = f"its {part} cannot be read with {block} = {given}; the folder contains {there}"
                remedy = f"Correct {block}, or set [paths] encoder to a complete Hugging Face model"
            else:
                what = (
                    f"the folder is not a complete Hugging Face model: its {part} cannot be read; it contains {there}"
                )
        elif Path(name).is_file():
            what = "it is a file, not the folder of a Hugging Face model"
        elif Path(name).is_absolute() or name.count("/") > 1:
            what = "there is no such folder"
        else:
            what = "it is not a folder, and cannot be loaded from the Hugging Face hub; check the name and the network"
        reason = shorten(str(error), 200) or type(error).__name__
        raise ValueError(f"transformer {name!r}: {what} ({reason}). {remedy}") from error
    return tokenizer, pretrained, sorted(loaded["missing_keys"])


def weights_size(name: str) -> int:
    """Bytes of the weights in a folder; for a name on the hub, an upper bound for any model."""
    if not Path(name).is_dir():
        return 2**40
    return sum(path.stat().st_size for path in Path(name).iterdir() if path.suffix in (".safetensors", ".bin"))


def check_sizes(module: WordTransformer, pieces: WordPieces) -> None:
    """Raise ValueError if tokenizer, windows and transformer do not fit together."""
    window, overlap, limit, rows = pieces.window, pieces.overlap, module.max_pieces, module.rows
    if limit is not None and window > limit:
        raise ValueError(f"window = {window}, but it takes at most {limit} word pieces")
    if not 0 <= overlap < pieces.room:
        raise ValueError(
            f"overlap = {overlap} and window = {window}, with room for {pieces.room} pieces of words; overlap must be "
            "less than that, and not negative"
        )
    if rows is not None and pieces.size > rows:
        raise ValueError(f"its tokenizer has {pieces.size} pieces, but there are embeddings for {rows} only")
    if rows is not None and module.padding >= rows:
        raise ValueError(f"pad_token_id = {module.padding}, but there are embeddings for {rows} pieces only")


def check_independence(module: WordTransformer, pieces: WordPieces, device: torch.device) -> None:
    """Raise ValueError if vectors depend on other documents of the batch, or ignore the other words of the text.

    Some families do not mask the padding, or read it as text. Others return meaningless vectors without their CUDA
    kernels. The check runs in float32.
    """
    vocab = Vocab()
    first, second, third, *others = ODD_TEXT
    long = ODD_TEXT * (min(pieces.window, PROBE) // len(ODD_TEXT))
    texts = [[first], ODD_TEXT, [first, third, second, *others], long or ODD_TEXT]
    docs = [Doc(vocab, words=words) for words in texts]
    windows = pieces.windows(docs)
    numbers = range(len(windows.pieces))
    module.eval()
    with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
        together, alone = (
            module(*collate(windows, module.padding, device, groups))
            for groups in ([list(numbers)], [[number] for number in numbers])
        )
    if together.shape != (sum(map(len, docs)), module.output_size):
        raise ValueError("it does not give one vector for each word piece; choose another model")
    kind = module.transformer.config.model_type
    difference = float((together - alone).abs().max()) / max(1.0, float(alone.abs().max()))
    if not difference < TOLERANCE:
        raise ValueError(
            f"the vectors of a text depend on the other texts of its batch (by {difference:.2g}), as {kind} does not "
            "ignore padding; choose another model"
        )
    _, one, other, _ = alone.split([len(doc) for doc in docs])
    pair = pieces.windows(docs[1:3]).pieces
    # If windows are shorter than the text, the vectors of some words do not depend on the words that were exchanged.
    if len(pair) == 2 and not np.array_equal(pair[0], pair[1]) and torch.equal(one[3:], other[3:]):
        raise ValueError(
            f"the vectors of words do not depend on the words around them, as {kind} does not work on this machine; "
            "choose another model"
        )


def check_dtype(module: WordTransformer, pieces: WordPieces, device: torch.device, dtype: str) -> None:
    """Raise ValueError if the transformer does not run in this precision: some families support only float32."""
    if dtype == "float32":
        return
    # With auto, try bfloat16 even on a CPU without units for it, since the next CPU may have them. Some GPUs cannot run
    # it, so there auto is tried.
    tried = "bfloat16" if dtype == AUTO and device.type == "cpu" else dtype
    windows = pieces.windows([Doc(Vocab(), words=ODD_TEXT)])
    try:
        with torch.no_grad(), autocast(tried, device):
            module(*collate(windows, module.padding, device))
    except Exception as error:  # the code of a family can raise any error
        kind = module.transformer.config.model_type
        raise ValueError(f'{kind} does not run with dtype = "{dtype}" ({error}); set dtype = "float32"') from error
