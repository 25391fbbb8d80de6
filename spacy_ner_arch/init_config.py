"""Complete configs for the user's own data, made from the shipped ones."""

from pathlib import Path

import spacy
from spacy.util import load_config
from thinc.api import Config

# Config from scratch, and over a transformer.
HEADS = {"crf": ("bilstm_crf.cfg", "transformer_crf.cfg"), "softmax": ("bilstm.cfg", "transformer_softmax.cfg")}
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
    encoder: name or folder of a transformer; None for a BiLSTM over words and characters.
    lang: language code; the tokenizer is that of spaCy for the language.
    Raises ValueError for an unknown head or language.
    """
    if head not in HEADS:
        raise ValueError(f"unknown head {head!r}; known are {', '.join(HEADS)}")
    try:
        blank = spacy.blank(lang).config
    except ImportError as error:
        raise ValueError(f"spaCy has no language {lang!r}, or needs a package for it: {error}") from error
    config = load_config(shipped_config(HEADS[head][encoder is not None]))
    config["paths"].update({"train": None, "dev": None, "encoder": encoder})
    config["nlp"].update({"lang": lang, "tokenizer": blank["nlp"]["tokenizer"]})
    config["initialize"]["tokenizer"] = blank["initialize"].get("tokenizer", {})
    return config
