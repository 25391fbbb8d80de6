"""`ner-arch init-config`: a config for your own data."""

from collections.abc import Sequence
from pathlib import Path

from spacy.util import get_lang_class, is_package
from typer import Argument, Option
from wasabi import msg

from .cells import EMBEDDINGS, ENCODERS, HEADS, RELATIONS, as_options, notes
from .configs import DTYPES, make_config
from .messages import fail, warn, writing
from .pipelines import find_word_vectors
from .presets import find_cell

TREES_HELP = (
    "Dependency trees of synlstm: gold for those of the corpus, or a pipeline with a parser; by default a parser is "
    "trained in the same run"
)
ENCODER_DEFAULT = (
    "bilstm over words, none over a transformer; with --head none also none under pair models with an encoder of their "
    "own"
)
CONSISTENCY_HELP = (
    "Factor, such as 4, of the divergence between the predictions for two copies of each document in a batch (R-Drop)"
)


def one_of(values: Sequence[str], default: str) -> str:
    return f"{', '.join(values)} (default: {default})"


def init_config(
    output: Path = Argument(..., help="Config file to write, or - for the terminal", allow_dash=True, dir_okay=False),
    config: str | None = Option(None, "--config", "-c", help="Shipped config, which the other options change"),
    embedding: str | None = Option(None, "--embedding", help=one_of(EMBEDDINGS, "words")),
    encoder: str | None = Option(None, "--encoder", help=one_of(ENCODERS, ENCODER_DEFAULT)),
    head: str | None = Option(None, "--head", help="Entities: " + one_of(HEADS, "crf")),
    relations: str | None = Option(None, "--relations", help="Relations: " + one_of(RELATIONS, "none")),
    trees: str | None = Option(None, "--trees", help=TREES_HELP),
    transformer: str | None = Option(None, "--transformer", help="Name on the Hugging Face hub, or folder"),
    vectors: str | None = Option(None, "--vectors", help="Pipeline with word vectors to add to the embedding"),
    lang: str = Option("en", "--lang", "-l", help="Language code; the tokenizer is that of the language"),
    gpu: bool = Option(False, "--gpu", "-G", help="Larger batches, for a GPU"),
    dtype: str = Option("float32", "--dtype", help=f"Precision: {', '.join(DTYPES)}"),
    consistency: float = Option(0.0, "--consistency", help=CONSISTENCY_HELP),
    force: bool = Option(False, "--force", "-F", help="Replace a config that exists"),
) -> None:
    """Write a complete config, with comments, for your own data.

    Without --config, options that are not given have defaults that fit the others; without any option, the config is a
    BiLSTM-CRF. Train with `spacy train CONFIG --paths.train FILE --paths.dev FILE`.
    """
    from ..bulk.models import model_folder
    from ..formats.files import write_text

    try:
        if output.is_file() and not force:
            raise ValueError(f"{output} exists: give another name, or --force to replace it")
        cell = find_cell(config, embedding=embedding, encoder=encoder, head=head, relations=relations, trees=trees)
        header = [f"Made by `python -m spacy ner-arch init-config`: {as_options(cell)}.", *notes(cell)]
        text = make_config(
            cell,
            transformer=transformer,
            vectors=vectors,
            lang=lang,
            gpu=gpu,
            dtype=dtype,
            consistency=consistency,
            header=header,
        )
    except ValueError as error:
        fail("Cannot write a config", error)
    if str(output) == "-":
        print(text, end="")
        return
    for option, name in (("--vectors", vectors), ("--trees", cell.trees)):
        if name in (None, "gold"):
            continue
        try:
            find_word_vectors(name, lang) if option == "--vectors" else model_folder(name)
        except ValueError as error:
            missing = "There is no such folder, and no installed package. Training will need one."
            warn(f"{option} {name}", error if Path(name).exists() or is_package(name) else missing)
    try:
        get_lang_class(lang)()
    except ImportError as error:
        warn(f"--lang {lang}: training will need a package for the tokenizer", error)
    with writing(output):
        write_text(output, [text])
    msg.good(f"Saved config to {output}")
    paths = "--paths.train corpus/train.spacy --paths.dev corpus/dev.spacy"
    folder = Path("training", output.stem)
    # Training replaces pipelines in its folder, so no input may be in it.
    inputs = [Path(name).resolve() for name in (vectors, cell.trees, transformer) if name]
    if any(folder.resolve() in (path, *path.parents) for path in inputs):
        folder = folder.with_name(f"{folder.name}_trained")
    shown, into = (f'"{path}"' if " " in str(path) else path for path in (output, folder))
    # Do not use msg.text, which would wrap the line.
    print(f"python -m spacy train {shown} --output {into} {paths}{' --gpu-id 0' if gpu else ''}")
