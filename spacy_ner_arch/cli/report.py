"""`ner-arch report`: one html page about a trained pipeline."""

from pathlib import Path

from typer import Argument, Option
from wasabi import msg

from ..annotation.layers import assigning
from .messages import fail
from .options import CODE, GPU_ID, SYSTEM, USE_GOLD_ENTITIES
from .pipelines import (
    check_corpus,
    finds_entities,
    report_left_out,
    report_misaligned,
    warn_of_no_comparison,
    with_tokens,
)
from .stored_predictions import is_stored
from .systems import Inputs, predict


def report(
    model: str = SYSTEM,
    corpus: Path = Argument(..., help="Corpus in .spacy format", exists=True, callback=check_corpus),
    output: Path = Option(..., "--output", "-o", help="Folder for index.html and errors.jsonl", file_okay=False),
    log: Path | None = Option(
        None, "--log", help="Output of `spacy train`, or its json lines", exists=True, dir_okay=False
    ),
    gold_entities: bool | None = USE_GOLD_ENTITIES,
    code: Path | None = CODE,
    use_gpu: int = GPU_ID,
) -> None:
    """Write an html page about the predictions of a system.

    It shows scores of entities, spans and relations, confusions, calibration of the probabilities, thresholds, learned
    transitions, the training curve and the worst errors. All errors are in errors.jsonl beside it, as JSON lines.
    """
    from ..evaluation.items import find_left_out
    from ..evaluation.report import ERRORS, write_report
    from ..evaluation.tasks import find_tasks
    from ..formats import read_docbins

    nlp, examples, has_gold_entities = predict(model, Inputs(corpus, gold_entities), code, use_gpu)
    if not finds_entities(nlp) and not assigning(nlp, "doc._.relations"):
        msg.fail("No component of this pipeline finds entities, spans or relations", exits=1)
    numbers = with_tokens(read_docbins(corpus, nlp.vocab))
    try:
        page = write_report(
            nlp,
            examples,
            output,
            log,
            numbers,
            str(corpus),
            gold_entities=has_gold_entities,
            title=f"Predictions {model}" if is_stored(model) else None,
        )
    except (ValueError, OSError, ImportError) as error:
        fail("Cannot write the report", error)
    if not any(task.rows for task in find_tasks(nlp, examples)):
        warn_of_no_comparison(corpus, examples)
    report_misaligned(nlp, examples)
    report_left_out(find_left_out(examples))
    msg.good(f"Saved report to {page}, and all errors to {page.with_name(ERRORS)}")
