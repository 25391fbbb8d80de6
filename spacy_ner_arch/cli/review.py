"""`ner-arch review`: probable label errors of a corpus."""

import tempfile
from pathlib import Path
from typing import Any

import typer
from click import ClickException
from spacy.cli._util import import_code, parse_config_overrides, setup_gpu
from spacy.vocab import Vocab
from typer import Argument, Option
from wasabi import msg

from .messages import fail
from .options import CODE, GPU_ID
from .pipelines import check_corpus, check_output, load, naming_long_texts, with_tokens


def review(
    context: typer.Context,
    corpus: Path = Argument(
        ..., help="Annotated corpus in .spacy format: a file or a folder", exists=True, callback=check_corpus
    ),
    output: Path = Argument(..., help="Folder for the results", file_okay=False),
    config: Path | None = Option(
        None,
        "--config",
        help="Config to train pipelines, each on all parts of the corpus but the one that it is compared with",
        exists=True,
        dir_okay=False,
    ),
    model: str | None = Option(None, "--model", help="Instead of --config: a pipeline not trained on this corpus"),
    folds: int = Option(5, "--folds", help="With --config: number of parts", min=2),
    limit: int = Option(500, "--limit", help="Maximum number of errors on the page and in the corpus", min=1),
    seed: int = Option(0, "--seed", help="With --config: seed of the parts"),
    code: Path | None = CODE,
    use_gpu: int = GPU_ID,
) -> None:
    """Find probable errors in the annotation of a corpus.

    Compare the annotation of each document with the predictions of a model that was not trained on it. With --config,
    one pipeline is trained for each part of the corpus, on the other parts; further options replace settings of the
    config, such as --training.max_steps 500. OUTPUT gets errors.jsonl (all checked items, the most probable errors
    first; those with a log_odds above 0 are probable errors), index.html, and errors.spacy: the documents with probable
    errors, with gold annotation and all probable spans in doc.spans["alternatives"].
    """
    from ..annotation.alternatives import ALTERNATIVES
    from ..annotation.describe import Counted
    from ..annotation.layers import describe_layers
    from ..evaluation.doubts import ranked
    from ..evaluation.review import ERRORS, write_review
    from ..formats import find_docbins, read_docbin
    from .review_held_out import compare, train_parts

    if (config is None) == (model is None):
        msg.fail("Give --config to train pipelines, or --model with one that was not trained on this corpus", exits=1)
    if model is not None and context.args:
        msg.fail(f"{' '.join(context.args)}: settings of a config are for --config", exits=1)
    doubts, examples, unchecked = [], {}, Counted()
    try:
        if corpus.is_dir() and output.resolve().is_relative_to(corpus.resolve()):
            raise ValueError(f"{output} is in it, so training would also read {ERRORS}; choose another folder")
        check_output(output / ERRORS, find_docbins(corpus))
        vocab = Vocab()
        docs, places = [], []
        for file in find_docbins(corpus):
            name = str(file.relative_to(corpus)) if corpus.is_dir() else file.name
            for number, doc in enumerate(read_docbin(file, vocab), start=1):
                docs.append(doc)
                places.append((name, number))
        with naming_long_texts([corpus]), tempfile.TemporaryDirectory() as folder:
            if config is None:
                parts: Any = [(load(str(model), use_gpu, code), with_tokens(docs), corpus)]
            else:
                setup_gpu(use_gpu)
                import_code(code)
                overrides = parse_config_overrides(context.args)
                output.mkdir(parents=True, exist_ok=True)  # before training: an error later would lose the results
                parts = train_parts(docs, config, overrides, folds, seed, use_gpu, Path(folder))
            for nlp, numbers, path in parts:
                for number, example, found in compare(nlp, numbers, path, unchecked):
                    examples[number] = example
                    doubts += found
        if not doubts:
            raise ValueError(
                "the pipeline cannot check its annotation. A sequence_ner checks doc.ents, and a relation_extractor "
                f"doc._.relations between the entities; the corpus has {describe_layers(docs)}"
            )
        counts = write_review(output, corpus.name, ranked(doubts), examples, places, ALTERNATIVES, limit)
    except (ValueError, OSError, ImportError, ClickException) as error:
        fail(f"Cannot review {corpus}", error)
    for kind, count in counts.most_common():
        msg.text(f"{count} {kind}")
    if unchecked.count:
        msg.warn(
            f"{unchecked.count} annotated relations are not checked, for example {unchecked.first}: within, "
            "max_distance or type_pairs of the relation_extractor exclude their entity pairs"
        )
    msg.good(f"{counts.total()} probable errors in {len(docs)} documents: {output / 'index.html'}")
