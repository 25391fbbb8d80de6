"""`ner-arch report`: one html page on a trained pipeline."""

from pathlib import Path

from typer import Argument, Option
from wasabi import msg

from .pipelines import assigning, load, predict


def report(
    model: str = Argument(..., help="Model name or path"),
    corpus: Path = Argument(..., help="Corpus in .spacy format", exists=True),
    output: Path = Option(..., "--output", "-o", help="Folder for index.html", file_okay=False),
    log: Path | None = Option(None, "--log", help="Output of `spacy train`, or its json lines", exists=True),
    code: Path | None = Option(None, "--code", "-c", help="Python file with functions to register", exists=True),
    use_gpu: int = Option(-1, "--gpu-id", "-g", help="GPU ID or -1 for CPU"),
) -> None:
    """Write one html page on a trained pipeline: scores, confusions, calibration of the probabilities, thresholds,
    learned transitions, training curve, worst errors."""
    from ..evaluation.report import write_report

    nlp = load(model, use_gpu, code)
    if not assigning(nlp, "doc.ents"):
        msg.fail("The report is about entities, and no component of this pipeline finds any", exits=1)
    examples = predict(nlp, corpus, [])
    try:
        page = write_report(nlp, examples, output, log)
    except (ValueError, ImportError) as error:
        msg.fail("Cannot write the report", str(error), exits=1)
    msg.good(f"Saved report to {page}")
