"""Tiny transformers of many families, with random weights and a tokenizer, in folders as a hub would give them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from spacy.tokens import Doc, Token
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModel, AutoTokenizer, ByT5Tokenizer, CanineTokenizer, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

TEXTS = [
    "Zoë Brandt said: “I won't leave Tarvik!” 北京 is far, and 1,000 km away.",
    "Nothing happened.",
    "Quist",
    "Olaf Quist Meyer of the Brenna Gazette left Tarvik with Anna; the two had lived there since May, they wrote. " * 3,
]
SPECIAL = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
WIDTHS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40}
ENCODER_DECODER = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 300,
}
T5 = {"d_model": 32, "d_kv": 16, "d_ff": 40, "num_layers": 2, "num_decoder_layers": 1, "num_heads": 2}
# model_type: kind of tokenizer, settings of the config.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "albert": ("unigram", {**WIDTHS, "embedding_size": 16}),
    "bart": ("bytes", ENCODER_DECODER),
    "bert": ("wordpiece", WIDTHS),
    "big_bird": ("unigram", {**WIDTHS, "block_size": 16}),
    "byt5": ("byt5", T5),
    "camembert": ("unigram", WIDTHS),
    "canine": ("canine", WIDTHS),
    "convbert": ("wordpiece", {**WIDTHS, "embedding_size": 32}),
    "data2vec-text": ("bytes", WIDTHS),
    "deberta": ("bytes", {**WIDTHS, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    "deberta-v2": (
        "unigram",
        {
            **WIDTHS,
            "relative_attention": True,
            "pos_att_type": ["c2p", "p2c"],
            "position_buckets": 32,
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
            "position_biased_input": False,
            "type_vocab_size": 0,
        },
    ),
    "distilbert": ("wordpiece", {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 40}),
    "electra": ("wordpiece", {**WIDTHS, "embedding_size": 16}),
    "ernie": ("wordpiece", WIDTHS),
    "esm": ("wordpiece", {**WIDTHS, "position_embedding_type": "rotary", "mask_token_id": 4}),
    "flaubert": ("bpe", {"emb_dim": 32, "n_layers": 2, "n_heads": 2, "pad_index": 0}),
    "fnet": ("unigram", WIDTHS),
    "funnel": (
        "wordpiece2",
        {
            "d_model": 32,
            "n_head": 2,
            "d_head": 16,
            "d_inner": 40,
            "block_sizes": [1, 1],
            "architectures": ["FunnelModel"],
        },
    ),
    "gpt2": ("bytes", {"n_embd": 32, "n_layer": 2, "n_head": 2}),
    "ibert": ("bytes", WIDTHS),
    "layoutlm": ("wordpiece", WIDTHS),
    "led": ("bytes", {**ENCODER_DECODER, "attention_window": 16, "max_encoder_position_embeddings": 300}),
    "longformer": ("bytes", {**WIDTHS, "attention_window": [16, 16]}),
    "longt5": ("unigram", {**T5, "local_radius": 15}),
    "luke": ("bytes", {**WIDTHS, "entity_vocab_size": 10, "entity_emb_size": 16}),
    "marian": ("unigram", ENCODER_DECODER),
    "mbart": ("unigram", ENCODER_DECODER),
    "megatron-bert": ("wordpiece", WIDTHS),
    "mobilebert": ("wordpiece", {**WIDTHS, "intra_bottleneck_size": 32, "embedding_size": 16}),
    "modernbert": ("bpe", {**WIDTHS, "local_attention": 16}),
    "mpnet": ("wordpiece", WIDTHS),
    "mra": ("bytes", WIDTHS),
    "mt5": ("unigram", T5),
    "nystromformer": ("unigram", {**WIDTHS, "num_landmarks": 64, "segment_means_seq_len": 64}),
    "pegasus": ("unigram", ENCODER_DECODER),
    "reformer": (
        "unigram",
        {
            "hidden_size": 32,
            "attention_head_size": 16,
            "num_attention_heads": 2,
            "feed_forward_size": 40,
            "axial_pos_embds_dim": [16, 16],
            "axial_pos_shape": [16, 32],
            "lsh_attn_chunk_length": 16,
            "local_attn_chunk_length": 16,
            "attn_layers": ["local", "lsh"],
            "num_buckets": 4,
        },
    ),
    "rembert": ("unigram", {**WIDTHS, "input_embedding_size": 16}),
    "roberta": ("bytes", WIDTHS),
    "roberta-prelayernorm": ("bytes", WIDTHS),
    "roformer": ("wordpiece", WIDTHS),
    "splinter": ("wordpiece", WIDTHS),
    "squeezebert": ("wordpiece", {**WIDTHS, "embedding_size": 32, **dict.fromkeys(("q_groups", "k_groups"), 2)}),
    "t5": ("unigram", T5),
    "umt5": ("unigram", T5),
    "xlm": ("bpe", {"emb_dim": 32, "n_layers": 2, "n_heads": 2, "pad_index": 0}),
    "xlm-roberta": ("unigram", WIDTHS),
    "xlm-roberta-xl": ("unigram", WIDTHS),
    "xlnet": ("xlnet", {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 40}),
    "xmod": ("unigram", {**WIDTHS, "default_language": "en_XX"}),
    "yoso": ("unigram", WIDTHS),
}
# Tokenizers that give types of pieces, and families that take none from them.
TYPED, UNTYPED = {"wordpiece", "wordpiece2", "xlnet"}, {"distilbert", "esm", "mpnet"}
FRAMES = {
    "wordpiece2": "<s>:2 $A:0 </s>:0",  # Funnel has a type of its own for the first piece
    "xlnet": "$A:0 </s>:0 <s>:2",
}


def make_family(kind: str, folder: Path) -> None:
    """Write a tiny transformer with random weights and its tokenizer."""
    tokens, settings = FAMILIES[kind]
    tokenizer = make_tokenizer(tokens, kind)
    tokenizer.save_pretrained(folder)
    settings = {**settings, "vocab_size": len(tokenizer), "pad_token_id": 0}
    settings = {"max_position_embeddings": 400, **settings}
    model_type = "t5" if kind == "byt5" else kind
    if model_type in ("xlnet", "canine", "reformer"):
        settings.pop("max_position_embeddings")
    if model_type == "reformer":
        settings["max_position_embeddings"] = 512
    if model_type == "canine":
        settings |= {"num_hash_buckets": 700, "max_position_embeddings": 600}
        settings.pop("vocab_size")
    torch.manual_seed(0)
    AutoModel.from_config(CONFIG_MAPPING[model_type](**settings)).save_pretrained(folder)


def reference(folder: Path, doc: Doc, pooling: str = "mean") -> np.ndarray:
    """Vectors of the words of a short document, from tokenizer and transformer as Hugging Face gives them."""
    tokenizer, transformer = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    if transformer.config.is_encoder_decoder:
        transformer = transformer.get_encoder()
    read = tokenizer(doc.text, return_offsets_mapping=True, split_special_tokens=True, return_tensors="pt")
    offsets = read.pop("offset_mapping")[0].tolist()
    with torch.no_grad():
        hidden = transformer(**read).last_hidden_state[0]

    def overlapping(token: Token) -> set[int]:
        end = token.idx + len(token)
        return {i for i, (first, last) in enumerate(offsets) if first < last and first < end and last > token.idx}

    words = set().union(*(overlapping(token) for token in doc if not token.is_space))
    rows = []
    for token in doc:
        own = hidden[sorted(overlapping(token) - (words if token.is_space else set()))]
        none = hidden.new_zeros(hidden.shape[1])
        first, last, mean = (own[0], own[-1], own.mean(0)) if len(own) else (none, none, none)
        rows.append({"mean": mean, "first": first, "first_last": torch.cat([first, last])}[pooling])
    return torch.stack(rows).numpy()


def make_tokenizer(tokens: str, kind: str) -> Any:
    if tokens == "canine":
        return CanineTokenizer()
    if tokens == "byt5":
        return ByT5Tokenizer(extra_ids=0)
    if tokens.startswith("wordpiece"):
        tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer: Any = trainers.WordPieceTrainer(vocab_size=200, special_tokens=SPECIAL, show_progress=False)
    elif tokens == "bytes":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
        )
    elif tokens == "bpe":
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=SPECIAL, show_progress=False)
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=200, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
        )
    tokenizer.train_from_iterator(TEXTS, trainer)
    frame = "$A </s>" if kind in ("t5", "mt5", "umt5", "longt5", "marian", "pegasus") else FRAMES.get(tokens)
    ids = [(piece, tokenizer.token_to_id(piece)) for piece in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(single=frame or "<s> $A </s>", special_tokens=ids)
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if tokens in TYPED and kind not in UNTYPED else [])]
    pieces = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=names, **pieces)
