"""`ner-arch tune`: thresholds for a given recall or precision."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

from spacy.language import Language
from typer import Argument, Option
from wasabi import msg

from ..annotation.layers import find_pipe
from .messages import fail, writing
from .options import CODE, GPU_ID, MODEL
from .pipelines import check_corpus, load, predict_corpus


def tune(
    model: str = MODEL,
    corpus: Path = Argument(
        ...,
        help="Corpus in .spacy format that was neither the training nor the development corpus of the pipeline",
        exists=True,
        callback=check_corpus,
    ),
    output: Path | None = Option(
        None, "--output", "-o", help="Folder for the pipeline with the thresholds", file_okay=False
    ),
    min_recall: float | None = Option(
        None,
        "--min-recall",
        help="Share of the entities of a new document that doc.spans['alternatives'] contains, on average",
    ),
    per_label: bool = Option(False, "--per-label", help="Keep the recall for each label, not only for all together"),
    min_precision: float | None = Option(None, "--min-precision", help="Share of doc.ents that is right"),
    component: str | None = Option(None, "--component", help="Component to tune, if there are several"),
    code: Path | None = CODE,
    use_gpu: int = GPU_ID,
) -> None:
    """Find the thresholds for a given recall or precision.

    The pipeline needs a sequence_ner. --min-recall sets `alternatives`, the minimum probability of the spans in
    doc.spans["alternatives"]. On documents like those of the corpus, these spans are guaranteed to contain, on average,
    at least this share of the entities of a document. --min-precision sets `threshold`, the minimum probability of
    doc.ents. The precision is an estimate on the corpus.
    """
    from ..formats.files import replace_folder
    from ..pipes.changed_settings import as_stored
    from .tune_thresholds import MIN_FOUND, for_precision, for_recall, found_in, report_moved

    if min_recall is None and min_precision is None:
        msg.fail("Give --min-recall or --min-precision", exits=1)
    for option, value in (("--min-recall", min_recall), ("--min-precision", min_precision)):
        if value is not None and not 0 < value < 1:
            msg.fail(f"{option} {value} must be between 0 and 1", exits=1)
    if per_label and min_recall is None:
        msg.fail("--per-label is for --min-recall", exits=1)
    if output is not None and output.is_dir() and any(output.iterdir()) and not (output / "meta.json").is_file():
        fail("Cannot tune", f"{output} has other files and is not a pipeline: give another folder")
    nlp = load(model, use_gpu, code)
    try:
        pipe = find_pipe(nlp, "sequence_ner", component)
    except ValueError as error:
        msg.fail(str(error), exits=1)
    before = {name: pipe.cfg[name] for name in ("alternatives", "threshold")}
    pipe.cfg.update(alternatives=MIN_FOUND, threshold=0.0)
    settings: dict[str, Any] = {}
    try:
        documents = [found_in(example) for example in predict_corpus(nlp, corpus, [])]
        if not any(document.gold for document in documents):
            raise ValueError(f"{corpus} has no gold entities")
        report_moved(documents)
        if min_recall is not None:
            settings["alternatives"] = for_recall(documents, pipe.labels, min_recall, per_label)
        if min_precision is not None:
            settings["threshold"] = for_precision(documents, min_precision)
    except ValueError as error:
        fail(f"Cannot tune {pipe.name}", error)
    pipe.cfg.update({**before, **settings})
    # Set the values in the config as well. A later change there then counts as a change of the setting.
    pipe.configured.update(as_stored(settings))
    rows = {name: list(map(list, value.items())) for name, value in settings.items() if isinstance(value, dict)}
    nlp.get_pipe_config(pipe.name).update({**settings, **rows})
    for name, value in settings.items():
        msg.good(f"{pipe.name}: {name} = {value}")
    if output is None:
        msg.info("Give --output to store a pipeline with it")
    else:
        with writing(output):
            if (output / "meta.json").is_file():
                replace_folder(output, partial(write_over, nlp, output))
            else:
                nlp.to_disk(output)
        msg.good(f"Saved the pipeline to {output}")


def write_over(nlp: Language, existing: Path, path: Path) -> None:
    """Write a pipeline over an existing one. Keep the files that the user added to its folder, such as a licence."""
    shutil.copytree(existing, path)
    nlp.to_disk(path)
