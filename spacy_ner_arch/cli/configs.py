"""The template of all configs, which writes one for any cell of the grid of pipelines."""

import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import srsly
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from spacy.util import get_lang_class

from .cells import Cell

HIDDEN_SIZE = 200  # of each direction of an encoder
WORD_WIDTH = 100 + 3 * 32 + 64  # of WordCharEmbed.v1 in the template: word, features, characters
GPU_SCALE = 4  # factor of the batch sizes on a GPU
DTYPES = ("float32", "bfloat16", "float16", "auto")


def make_config(
    cell: Cell,
    *,
    transformer: str | None = None,
    vectors: str | None = None,
    lang: str = "en",
    gpu: bool = False,
    dtype: str = "float32",
    consistency: float = 0.0,
    header: Sequence[str] = (),
    train: str | None = None,
    dev: str | None = None,
) -> str:
    """Write a complete config with comments. Returns its text.

    transformer: name on the Hugging Face hub, or folder; None for roberta-base.
    vectors: name or folder of a pipeline with word vectors. They are appended to the embedding of words, or with
        characters to the vectors that the entities get from a transformer.
    lang: language code; the tokenizer is that of spaCy for the language.
    gpu: larger batches.
    dtype: precision of all models, one of DTYPES.
    consistency: factor of the consistency loss in all heads; batches then have two copies of each document. 0 for none.
    header: lines of the comment at the top.
    train, dev: paths of the corpora.

    Raises ValueError for an unknown language or dtype, and for options that do not fit the cell.
    """
    from ..training.checks import DEFAULT_TRANSFORMER

    if transformer and cell.embedding != "transformer":
        raise ValueError(f"--transformer is for --embedding transformer; the embedding is {cell.embedding}")
    if vectors and cell.embedding == "transformer" and cell.head == "none":
        raise ValueError("--vectors over a transformer is for entities; this pipeline has --head none")
    if vectors and cell.common == "tok2vec" and cell.encoder == "none":
        raise ValueError("--vectors with entities and relations needs an encoder: give --encoder bilstm")
    if dtype not in DTYPES:
        raise ValueError(f"unknown --dtype {dtype}; choose from {', '.join(DTYPES)}")
    if not 0.0 <= consistency < math.inf:
        raise ValueError(f"--consistency {consistency} must be finite and not negative")
    if consistency and cell.relations == "markers":
        raise ValueError("--consistency cannot compare the marked copies of --relations markers: give another one")
    try:
        # Do not make a pipeline: spaCy would import all plugins, and a broken plugin also raises ImportError.
        defaults = get_lang_class(lang).default_config
    except ImportError as error:
        raise ValueError(f"spaCy has no language {lang!r}: {error}") from error
    text = (
        environment()
        .get_template("config.cfg.jinja")
        .render(
            **asdict(cell),
            **{name: getattr(cell, name) for name in ("component", "common", "annotators", "pipeline", "groups")},
            is_joint=cell.is_joint,
            has_encoder=cell.encoder != "none" and cell.common != "tok2vec",
            copied={"train": cell.copied(True), "dev": cell.copied(False)},
            # Measured with a transformer and without a second task.
            learned_weights=cell.common == "transformer" and cell.relations != "multitask",
            hidden_size=HIDDEN_SIZE,
            word_width=WORD_WIDTH,
            transformer=transformer or DEFAULT_TRANSFORMER,
            vectors=vectors,
            lang=lang,
            tokenizer=defaults["nlp"]["tokenizer"],
            initialize_tokenizer=defaults["initialize"].get("tokenizer", {}),
            gpu=gpu,
            scale=GPU_SCALE if gpu else 1,
            dtype=dtype,
            consistency=float(consistency),
            header=header,
            train=train,
            dev=dev,
        )
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def environment() -> Environment:
    loader = FileSystemLoader(Path(__file__).parent, encoding="utf8")
    found = Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    found.filters["json"] = srsly.json_dumps
    found.globals["missing_block"] = missing_block
    return found


def missing_block(field: str, value: str) -> None:
    """Raise ValueError for a value of a cell that has no block in the template, which calls this function."""
    raise ValueError(f"config.cfg.jinja has no block for {field} = {value!r}")
