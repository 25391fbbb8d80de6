"""Make the tokenizer to which a conversion aligns entities, from a language, a config or a pipeline."""

from pathlib import Path

from spacy.language import Language

from .messages import fail


def make_language(lang: str) -> Language:
    """A blank pipeline of a language. Exits with a message if there is none."""
    from spacy.util import get_lang_class

    try:
        language = get_lang_class(lang)
    except ImportError as error:
        fail(f"spaCy has no language {lang!r}", error)
    try:
        return language()
    except ImportError as error:
        fail(f"Cannot make the tokenizer of {lang!r}, since a package is missing or broken", error)


def load_tokenizer(config: Path) -> Language:
    """A pipeline without components that has the tokenizer of a config, or of the folder of a pipeline.

    Exits with a message if there is none.
    """
    from confection import Config
    from spacy.cli._util import show_validation_error
    from spacy.util import load_config, load_model_from_config, load_model_from_path

    from ..bulk.models import model_folder
    from .pipelines import config_text, parse_config
    from .training_setup import initialize_tokenizer

    try:
        if config.is_dir():
            names = load_config(model_folder(str(config)) / "config.cfg").get("nlp", {}).get("pipeline", ())
            return load_model_from_path(config, exclude=["vocab", *names])
        with show_validation_error(config):
            raw = parse_config(config_text(config), {}).interpolate()
            settings = {**raw.get("nlp", {}), "pipeline": [], "disabled": []}
            initialize = {**raw.get("initialize", {}), "components": {}}
            nlp = load_model_from_config(Config({"nlp": settings, "initialize": initialize}), auto_fill=True)
            initialize_tokenizer(nlp, list)
        return nlp
    except (ValueError, OSError, ImportError) as error:
        fail(f"Cannot make the tokenizer of {config}", error)
