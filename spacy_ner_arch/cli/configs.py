"""Complete configs for the user's own data, made from the shipped ones."""

from pathlib import Path

import spacy
from spacy.util import load_config
from thinc.api import Config

# In an installation the configs lie inside the package, in a checkout beside it.
CONFIG_FOLDERS = (Path(__file__).parents[1] / "configs", Path(__file__).parents[2] / "configs")


def shipped_configs() -> dict[str, Path]:
    """The configs that come with the package, by name."""
    return {path.stem: path for folder in CONFIG_FOLDERS for path in sorted(folder.glob("*.cfg"))}


def make_config(name: str, encoder: str | None, lang: str) -> Config:
    """A config that trains as it stands, but for the paths of the corpora.

    name: of the shipped config that it is made from.
    encoder: name or folder of a transformer, for configs that have one; None leaves that of the config.
    lang: language code; the tokenizer is that of spaCy for the language.
    Raises ValueError for an unknown config or language.
    """
    shipped = shipped_configs()
    if name not in shipped:
        raise ValueError(f"unknown config {name!r}; known are {', '.join(shipped)}")
    try:
        blank = spacy.blank(lang).config
    except ImportError as error:
        raise ValueError(f"spaCy has no language {lang!r}, or needs a package for it: {error}") from error
    config = load_config(shipped[name])
    config["paths"].update({"train": None, "dev": None})
    if encoder is not None:
        config["paths"]["encoder"] = encoder
    config["nlp"].update({"lang": lang, "tokenizer": blank["nlp"]["tokenizer"]})
    config["initialize"]["tokenizer"] = blank["initialize"].get("tokenizer", {})
    return config
