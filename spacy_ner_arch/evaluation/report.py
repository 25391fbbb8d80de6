"""Write a page about a trained pipeline: scores, confusions, calibration, errors, transitions, training curve."""

from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from ..annotation.layers import without_layer
from ..annotation.tags import legality
from ..formats.files import write_text
from .figures import reliability, threshold_scores, training_curve
from .html import excerpt, marks, render
from .items import Kind, LeftOut, Match, find_left_out, match_all
from .measures import Probabilities, calibration, confusion, probabilities, threshold_curve
from .tasks import Task, find_tasks
from .training_log import TrainingLog, read_log

# Maximum number of errors of each kind that the page lists.
MOST_ERRORS = 25
PRECISIONS = (0.90, 0.95, 0.99)


def write_report(
    nlp: Language,
    examples: Iterable[Example],
    output: str | Path,
    log: str | Path | None = None,
    numbers: Sequence[int] | None = None,
    corpus: str | None = None,
    *,
    gold_entities: bool = False,
    title: str | None = None,
) -> Path:
    """Write one HTML page about a pipeline and its predictions. The page needs no other file and runs no script.

    nlp: the pipeline; the page shows the annotation that its components declare to set: doc.ents, doc.spans and
        doc._.relations.
    examples: gold documents with the predictions of the pipeline on their predicted side.
    output: folder for `index.html`. The folder is created if necessary; an older page is replaced.
    log: training log, see `read_log`; None leaves out its section.
    numbers: index of each example in the corpus, if the corpus has more documents.
    corpus: name of the corpus on the page; None for none.
    gold_entities: whether the predicted sides have gold entities, between which the pipeline finds relations. The page
        says so.
    title: title of the page; None for the name and the version of the pipeline.

    Returns the path of the page. Raises ImportError if matplotlib or scikit-learn is missing, and ValueError for a file
    that is not a training log or a score outside 0 to 1. After an error nothing is written.
    """
    missing = [package for package in ("matplotlib", "sklearn") if find_spec(package) is None]
    if missing:
        raise ImportError(f'the report needs {" and ".join(missing)}: pip install "spacy-ner-arch[viz]"')
    read = None if log is None else read_log(log)
    title = title or f"{nlp.lang}_{nlp.meta['name']} {nlp.meta['version']}"
    page = build_page(nlp, list(examples), read, numbers, corpus, gold_entities=gold_entities, title=title)
    path = Path(output) / "index.html"
    write_text(path, [page])
    return path


def build_page(
    nlp: Language,
    examples: Sequence[Example],
    log: TrainingLog | None,
    numbers: Sequence[int] | None = None,
    corpus: str | None = None,
    *,
    gold_entities: bool,
    title: str,
) -> str:
    """Return the page as HTML."""
    gold = [example.reference for example in examples]
    left_out = find_left_out(examples)
    return render(
        "report.html.jinja",
        title=title,
        components=[(name, nlp.get_pipe_meta(name).factory) for name in nlp.pipe_names],
        corpus=corpus,
        gold_entities=gold_entities,
        documents=len(examples),
        numbers=range(len(examples)) if numbers is None else numbers,
        tokens=sum(map(len, gold)),
        sections=[
            section(gold, f"task{i}", task, left_out.get(task.layer))
            for i, task in enumerate(find_tasks(nlp, examples))
        ],
        transitions=[
            (component, tags, np.ma.masked_invalid(scores).tolist(), float(np.nanmax(np.abs(scores))))
            for component, tags, scores in transitions(nlp)
        ],
        log=log,
        training_curve=log and training_curve(log, "training-curve"),
    )


def section(gold: Sequence[Doc], name: str, task: Task, left_out: LeftOut | None) -> dict:
    """Return the values of the template for one kind of annotation.

    gold: the gold documents.
    name: id of the section.
    """
    matches = match_all(task.items)
    wrong = [pair for pair in matches if pair.kind not in (Kind.RIGHT, Kind.MISSED)]
    wrong.sort(key=score_of, reverse=True)
    missed = [pair for pair in matches if pair.kind is Kind.MISSED]
    return {
        "name": name,
        "title": task.title,
        "noun": task.noun,
        "layer": task.layer,
        "missing": without_layer(gold, task.layer),
        "left_out": left_out,
        "rows": task.rows,
        "confusion": confusion(matches),
        "probabilities": probability_section(probabilities(matches), name),
        "errors": [
            (
                header,
                len(pairs),
                [(pair, excerpt(gold[pair.document].text, marks(pair))) for pair in pairs[:MOST_ERRORS]],
            )
            for header, pairs in (("Wrong, the most probable first", wrong), ("Missed", missed))
        ],
    }


def score_of(pair: Match) -> float:
    """Return the probability of the prediction, 0 if there is none."""
    return 0.0 if pair.predicted is None else pair.predicted.score or 0.0


def probability_section(found: Probabilities, name: str) -> dict[str, Any] | None:
    """Return calibration and thresholds; None without probabilities, and no thresholds if no prediction is right."""
    if not len(found.scores):
        return None
    result = calibration(found)
    part = {"found": found, "calibration": result, "reliability": reliability(result, f"{name}-reliability")}
    if not found.right.any():
        return {**part, "thresholds": []}
    curve = threshold_curve(found)
    choices: list[tuple[str, int | None]] = [("all", 0), ("best F1", int(np.argmax(curve.f1)))]
    choices += [(f"precision ≥ {100 * target:.0f}", curve.at_precision(target)) for target in PRECISIONS]
    thresholds = [(choice, None if i is None else [column[i] for column in curve]) for choice, i in choices]
    return {**part, "thresholds": thresholds, "curve": threshold_scores(curve, f"{name}-thresholds")}


def transitions(nlp: Language) -> Iterator[tuple[str, list[str], np.ndarray]]:
    """Yield name, tags and learned transition scores of each component with a CRF.

    The scores are (K + 1, K + 1): from the start of the text and the K tags (rows) to the tags and the end of the text
    (columns). They are NaN where the tag scheme forbids the transition. A softmax, whose transitions are all zero, is
    left out.
    """
    for name, pipe in nlp.pipeline:
        shim: Any = getattr(pipe, "shim", None)
        crf = getattr(shim.module, "crf", None) if getattr(shim, "is_initialized", False) else None
        if crf is None or not crf.transitions.any():
            continue
        parameters = (crf.start_transitions, crf.transitions, crf.end_transitions)
        start, between, end = (parameter.detach().cpu().float().numpy() for parameter in parameters)
        allowed = legality(crf.labels, crf.scheme)
        scores = np.full((len(crf.labels) + 1,) * 2, np.nan)
        scores[0, :-1] = np.where(allowed.start, start, np.nan)
        scores[1:, :-1] = np.where(allowed.transition, between, np.nan)
        scores[1:, -1] = np.where(allowed.end, end, np.nan)
        yield name, list(crf.labels), scores
