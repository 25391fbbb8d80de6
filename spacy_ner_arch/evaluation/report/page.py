"""The page as a file."""

import os
from collections.abc import Iterable
from html import escape
from pathlib import Path

from spacy.language import Language
from spacy.training import Example

from . import picture_sections, sections
from .svg import require_matplotlib
from .template import PAGE
from .training_log import read_log


def write_report(nlp: Language, examples: Iterable[Example], folder: str | Path, log: str | Path | None = None) -> Path:
    """Write one html page about a pipeline and its predictions, that needs no other file.

    nlp: the pipeline, for its name and its learned transitions.
    examples: gold documents with the predictions of the pipeline on their predicted side.
    folder: for `index.html`; made if it is not there. An `index.html` in it is replaced, as a whole or, after an error,
        not at all. The same pipeline and predictions give the same bytes.
    log: of the training, as `read_log` takes it; None leaves that section out.

    Returns the path of the page. Raises an ImportError without matplotlib, a ValueError for a log that is none or for a
    score of an entity that is no probability.
    """
    require_matplotlib()
    target = Path(folder) / "index.html"
    page = build_page(nlp, list(examples), log).encode("utf-8")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".index.html.{os.getpid()}")
    try:
        partial.write_bytes(page)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def build_page(nlp: Language, examples: list[Example], log: str | Path | None) -> str:
    """The text of the page."""
    # First, for it is cheap and the most likely to fail.
    training = None if log is None else picture_sections.training(read_log(log))
    parts = [
        ("summary", "Summary", sections.summary(nlp, examples)),
        ("scores", "Scores", sections.scores(examples)),
        ("confusions", "Confusions", sections.confusions(examples)),
        ("confidence", "Confidence", picture_sections.confidence(examples)),
        ("transitions", "Learned transitions", picture_sections.learned(nlp)),
        ("training", "Training", training),
        ("errors", "Worst errors", sections.errors(examples)),
    ]
    written = [part for part in parts if part[2] is not None]
    return PAGE.substitute(
        title=escape(f"{nlp.lang}_{nlp.meta['name']} {nlp.meta['version']}: report"),
        links="".join(f'<a href="#{name}">{title}</a>' for name, title, _ in written),
        sections="\n".join(
            f'<section id="{name}"><h2>{title}</h2>\n{content}\n</section>' for name, title, content in written
        ),
    )
