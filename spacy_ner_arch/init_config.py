"""Complete configs for the user's own data, made from the shipped ones."""

from pathlib import Path
from typing import Any

import spacy
from spacy.util import load_config
from thinc.api import Config

HEADS = {"crf": "bilstm_crf.cfg", "softmax": "bilstm.cfg"}
# In an installation the configs lie inside the package, in a checkout beside it.
CONFIG_FOLDERS = (Path(__file__).parent / "configs", Path(__file__).parent.parent / "configs")


def shipped_config(name: str) -> Path:
    """Path of a config that comes with the package."""
    for folder in CONFIG_FOLDERS:
        if (folder / name).exists():
            return folder / name
    raise ValueError(f"the installation lacks the config {name}; install spacy-ner-arch again")


def make_config(head: str, encoder: str | None, lang: str) -> Config:
    """A config that trains as it stands, but for the paths of the corpora.

    head: crf or softmax.
    encoder: name or folder of a transformer that both the embedding and the encoder give way to; None for a BiLSTM over
        words and characters.
    lang: language code; the tokenizer is that of spaCy for the language.
    Raises ValueError for an unknown head or language.
    """
    if head not in HEADS:
        raise ValueError(f"unknown head {head!r}; known are {', '.join(HEADS)}")
    try:
        blank = spacy.blank(lang).config
    except ImportError as error:
        raise ValueError(f"spaCy has no language {lang!r}, or needs a package for it: {error}") from error
    config = load_config(shipped_config(HEADS[head]))
    config["paths"].update({"train": None, "dev": None, "encoder": encoder})
    config["nlp"].update({"lang": lang, "tokenizer": blank["nlp"]["tokenizer"]})
    config["initialize"]["tokenizer"] = blank["initialize"].get("tokenizer", {})
    if encoder is not None:
        use_transformer(config)
    return config


def use_transformer(config: dict[str, Any]) -> None:
    """Put a transformer component, and a listener to it, in the place of embedding and encoder."""
    transformer = {
        "factory": "transformer",
        "max_batch_items": 4096,
        "set_extra_annotations": {"@annotation_setters": "spacy-transformers.null_annotation_setter.v1"},
        "model": {
            "@architectures": "spacy-transformers.TransformerModel.v3",
            "name": "${paths.encoder}",
            "mixed_precision": False,
            "tokenizer_config": {"use_fast": True},
            "transformer_config": {},
            "grad_scaler_config": {},
            "get_spans": {"@span_getters": "spacy-transformers.strided_spans.v1", "window": 128, "stride": 96},
        },
    }
    head = config["components"]["sequence_ner"]
    head["model"]["encoder"] = None
    head["model"]["tok2vec"] = {
        "@architectures": "spacy-transformers.TransformerListener.v1",
        "grad_factor": 1.0,
        "upstream": "*",
        "pooling": {"@layers": "reduce_mean.v1"},
    }
    config["nlp"]["pipeline"] = ["transformer", "sequence_ner", "doc_cleaner"]
    config["components"] = {
        "transformer": transformer,
        "sequence_ner": head,
        # The activations would otherwise stay on the documents, in the memory of the GPU.
        "doc_cleaner": {"factory": "doc_cleaner", "attrs": {"tensor": None, "_.trf_data": None}, "silent": True},
    }
    training = config["training"]
    training.update({"dropout": 0.1, "max_steps": 3000, "eval_frequency": 500})
    training["optimizer"].update(
        {
            "use_averages": False,
            "learn_rate": {
                "@schedules": "warmup_linear.v1",
                "warmup_steps": 250,
                "total_steps": "${training.max_steps}",
                "initial_rate": 5e-5,
            },
        }
    )
