"""`ner-arch export-data`: a corpus, or the predictions of a model, for annotation tools."""

from collections.abc import Iterator
from pathlib import Path

from spacy.language import Language
from spacy.tokens import Doc
from typer import Argument, Option
from wasabi import msg

from ..annotation.layers import assigning
from .messages import fail, printable, warn
from .options import CODE, GPU_ID
from .pipelines import check_output, finds_entities, load, pipeline_labels, predict_corpus

FORMAT_HELP = (
    "label-studio, doccano, prodigy, brat (a folder), conll (columns), spert, or json (Doc.to_json, which keeps most)"
)


def export_data(
    corpus: Path = Argument(..., help="Corpus in .spacy format: a file or a folder", exists=True),
    output: Path = Argument(..., help="File to write; for brat, a new folder"),
    format: str = Option(..., "--format", "-f", help=FORMAT_HELP),
    model: str | None = Option(
        None, "--model", "-m", help="Write the predictions of this pipeline for review, with their probabilities"
    ),
    spans_key: str = Option("sc", "--spans-key", help="Group in doc.spans to write with the entities"),
    code: Path | None = CODE,
    use_gpu: int = GPU_ID,
) -> None:
    """Export a corpus, or predictions, for annotation tools.

    With --model, its predictions on the texts are written as pre-annotations. Entities, spans and relations are
    written. Annotation that the format cannot represent is counted and reported with examples. For label-studio, the
    configuration of the project is written beside the tasks.
    """
    from spacy.vocab import Vocab

    from ..formats import WRITERS, ReadReport, find_docbins, read_docbins, write_docs
    from ..formats.writers import CONTRADICTION

    report = ReadReport()
    try:
        files = find_docbins(corpus)
        check_output(output, files)
        nlp = None if model is None else load(model, use_gpu, code)
        labels = None if nlp is None else pipeline_labels(nlp)
        if nlp is None:
            docs = read_docbins(corpus, Vocab())
        else:
            if not finds_entities(nlp) and not assigning(nlp, "doc._.relations"):
                raise ValueError("no component of this pipeline finds entities, spans or relations")
            docs = (doc for file in files for doc in predictions(nlp, file))
        predicted = write_docs(
            docs, output, format, report, model=model, spans_key=spans_key, source=corpus, labels=labels
        )
    except (ValueError, OSError) as error:
        fail(f"Cannot export {corpus}", error)
    print(printable(report.summary()))
    if report.notes[CONTRADICTION]:
        number, example = report.notes[CONTRADICTION], report.examples[CONTRADICTION][0]
        warn(
            f"{number} entities of doc.ents are not in doc.spans[{spans_key!r}], which crosses or contradicts them",
            f"such as {example}. Both are written; for doc.ents alone give another --spans-key, such as none",
        )
    if predicted and model is None and WRITERS[format].tells_predictions:
        msg.info(f"{predicted} documents have probabilities, or nothing: written as predictions, without an answer")
    if not (report.entities or report.spans):
        msg.warn(f"No entity was written: {why_no_entities(nlp, spans_key)}")
    msg.good(f"Saved {report.documents} documents to {output}")


def why_no_entities(nlp: Language | None, spans_key: str) -> str:
    """The remedy for an export without entities of a corpus, or of the predictions of a pipeline."""
    if nlp is None:
        return f"check the corpus, and --spans-key {spans_key}"
    if finds_entities(nlp):
        return f"the pipeline finds none in these texts; train it longer, or check --spans-key {spans_key}"
    return "no component of the pipeline finds entities, between which relations are found; add one that does"


def predictions(nlp: Language, file: Path) -> Iterator[Doc]:
    """All documents of a file with the predictions of a pipeline, including empty ones, which spaCy's reader skips.

    A document thus has the same number with and without a model.
    """
    from ..formats import read_docbin
    from ..formats.writers.content import get_fields

    examples = iter(predict_corpus(nlp, file, []))
    for doc in read_docbin(file, nlp.vocab):
        predicted = next(examples).predicted if len(doc) else doc
        predicted.user_data.update(get_fields(doc))
        yield predicted
