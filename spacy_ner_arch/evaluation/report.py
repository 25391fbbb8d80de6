"""Write a page about a trained pipeline: scores, confusions, calibration, errors, transitions, training curve."""

import json
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
from ..formats.files import complete_files
from ..formats.writers.content import get_json_fields
from .figures import reliability, threshold_scores, training_curve
from .html import excerpt, language, marks, render
from .items import Item, Kind, LeftOut, Match, find_left_out, match_all
from .measures import Probabilities, calibration, confusion, probabilities, threshold_curve
from .tasks import Task, find_tasks
from .training_log import TrainingLog, read_log

# File beside the page, with all errors.
ERRORS = "errors.jsonl"
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
    """Write one HTML page about a pipeline and its predictions, and all errors as JSON lines, see `as_row`.

    The page needs no other file and runs no script.

    nlp: the pipeline; the page shows the annotation that its components declare to set: doc.ents, doc.spans and
        doc._.relations.
    examples: gold documents with the predictions of the pipeline on their predicted side.
    output: folder for `index.html` and ERRORS. The folder is created if necessary; older files are replaced.
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
    examples = list(examples)
    numbers = range(len(examples)) if numbers is None else numbers
    tasks = [(task, match_all(task.items)) for task in find_tasks(nlp, examples)]
    page = build_page(nlp, examples, tasks, read, numbers, corpus, gold_entities=gold_entities, title=title)
    rows = [
        as_row(task.layer, pair, examples[pair.document].reference, numbers[pair.document])
        for task, matches in tasks
        for pair in [*wrong_predictions(matches), *missed_items(matches)]
    ]
    path = Path(output) / "index.html"
    with complete_files() as temporary:
        temporary(path).write_text(page, encoding="utf-8", newline="")
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        temporary(path.with_name(ERRORS)).write_text("".join(lines), encoding="utf-8", newline="")
    return path


def build_page(
    nlp: Language,
    examples: Sequence[Example],
    tasks: Sequence[tuple[Task, list[Match]]],
    log: TrainingLog | None,
    numbers: Sequence[int],
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
        lang=language(gold),
        components=[(name, nlp.get_pipe_meta(name).factory) for name in nlp.pipe_names],
        corpus=corpus,
        gold_entities=gold_entities,
        documents=len(examples),
        numbers=numbers,
        errors=ERRORS,
        tokens=sum(map(len, gold)),
        sections=[
            section(gold, f"task{i}", task, matches, left_out.get(task.layer))
            for i, (task, matches) in enumerate(tasks)
        ],
        transitions=[
            (component, tags, np.ma.masked_invalid(scores).tolist(), float(np.nanmax(np.abs(scores))))
            for component, tags, scores in transitions(nlp)
        ],
        log=log,
        training_curve=log and training_curve(log, "training-curve"),
    )


def section(gold: Sequence[Doc], name: str, task: Task, matches: list[Match], left_out: LeftOut | None) -> dict:
    """Return the values of the template for one kind of annotation.

    gold: the gold documents.
    name: id of the section.
    """
    found = probabilities(matches)
    order = ", the most probable first" if len(found.scores) else ""
    errors = ((f"Wrong{order}", wrong_predictions(matches)), ("Missed", missed_items(matches)))
    return {
        "name": name,
        "title": task.title,
        "noun": task.noun,
        "layer": task.layer,
        "missing": without_layer(gold, task.layer),
        "left_out": left_out,
        "rows": task.rows,
        "confusion": confusion(matches),
        "probabilities": probability_section(found, name),
        "errors": [
            (
                header,
                len(pairs),
                [(pair, excerpt(gold[pair.document].text, marks(pair))) for pair in pairs[:MOST_ERRORS]],
            )
            for header, pairs in errors
        ],
    }


def wrong_predictions(matches: Iterable[Match]) -> list[Match]:
    """Return the wrong predictions, the most probable first."""
    return sorted((p for p in matches if p.kind not in (Kind.RIGHT, Kind.MISSED)), key=score_of, reverse=True)


def missed_items(matches: Iterable[Match]) -> list[Match]:
    """Return the gold items without a prediction."""
    return [pair for pair in matches if pair.kind is Kind.MISSED]


def as_row(layer: str, pair: Match, doc: Doc, number: int) -> dict[str, Any]:
    """Return an error as a JSON object; bounds in characters of the gold text, documents from 1.

    layer: layer of annotation, such as doc.ents.
    doc: the gold document. Its fields that JSON cannot represent are left out.
    number: its number in the corpus, from 0.
    """

    def describe(item: Item | None) -> dict[str, Any] | None:
        if item is None:
            return None
        # Places that do not align with the gold text have negative offsets.
        places = [dict(zip(("start", "end"), p if p[0] >= 0 else (None, None), strict=True)) for p in item.places]
        if len(places) == 1:
            return {**places[0], "label": item.label, "score": item.score}
        head, tail = ({**place, "label": label} for place, label in zip(places, item.types, strict=True))
        return {"head": head, "tail": tail, "label": item.label, "score": item.score}

    return {
        "layer": layer,
        "kind": pair.kind.value,
        "document": number + 1,
        "fields": get_json_fields(doc),
        "text": doc.text,
        "gold": describe(pair.gold),
        "predicted": describe(pair.predicted),
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
