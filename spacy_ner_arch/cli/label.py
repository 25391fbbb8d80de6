"""`ner-arch label`: entities, spans and relations of texts."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import typer
from spacy.tokens import Doc
from typer import Argument, Option
from wasabi import Printer, msg

from .messages import printable
from .options import CODE, GPU_ID, MODEL
from .pipelines import check_output, load


def label(
    model: str = MODEL,
    inputs: list[str] = Argument(
        ...,
        metavar="INPUT",
        help="Texts; files with a text (.txt) or a JSON object with the key text (.jsonl) on each line; or - for such "
        "lines on standard input",
    ),
    output: Path | None = Option(
        None, "--output", "-o", help="File for the json lines; - for the terminal", allow_dash=True, dir_okay=False
    ),
    as_json: bool | None = Option(
        None, "--json/--table", help="Print json lines, or tables; default: tables for texts, json lines for files"
    ),
    format: str | None = Option(
        None,
        "--format",
        "-f",
        help="Format of the files and of standard input, txt or jsonl; default: by the name of a file, and jsonl for "
        "standard input that begins with {",
    ),
    key: str | None = Option(
        None, "--key", help="Put the annotation under this key, instead of keys for entities, spans and relations"
    ),
    on_error: str = Option("raise", "--on-error", help="For a bad line: raise an error, or skip and count it"),
    batch_size: int | None = Option(None, "--batch-size", "-b", help="Texts per batch", min=1),
    n_process: int = Option(1, "--n-process", "-n", help="Number of processes", min=1),
    code: Path | None = CODE,
    use_gpu: int = GPU_ID,
) -> None:
    """Find the entities, spans and relations of texts.

    The output shows labels and probabilities. A json line has the text, the other keys of the input line, and the
    annotation with character offsets. An empty line is an empty text. Inputs of any length are read in constant memory.
    """
    from tqdm import tqdm

    from ..bulk.documents import annotation, dump, predict_in_zones
    from ..bulk.predictor import Predictor, lacks_entities
    from ..bulk.user_code import is_of_user
    from ..formats.counts import SKIPPED, ReadReport, check_on_error
    from .inputs import find_source, tokenize_records

    report, counts = ReadReport(), Counter[str]()
    try:
        check_on_error(on_error)
        sources = [find_source(name, format) for name in inputs]
        if as_json is None:
            as_json = output is not None or not all(source.is_text for source in sources)
        if output is not None and not as_json:
            raise ValueError("--output is for json lines, --table for the terminal")
        if str(output) == "-":
            output = None
        if output is not None:
            check_output(output, [source.name for source in sources if source.is_file])
        nlp = load(model, use_gpu, code, silent=True)
        predictor = Predictor(nlp)
        layers = predictor.layers
        records = tokenize_records(nlp, sources, {key} if key else set(layers), report, on_error)
        labelled = predict_in_zones(nlp, records, batch_size or nlp.batch_size, n_process)
        if not as_json:
            for doc, _ in labelled:
                print_tables(doc)
                counts.update(predictor.counts(doc), documents=1)
        else:
            with open_output(output) as file:
                for doc, record in tqdm(labelled, unit=" texts", disable=None if output else True):
                    found = annotation(doc, layers)
                    counts.update(predictor.counts(doc), documents=1)
                    file.write(dump({**record, **({key: found} if key else found)}) + "\n")
    except BrokenPipeError:
        raise  # `| head` has read enough; the command line ends without a message
    except (ValueError, OSError) as error:
        if is_of_user(error):
            raise
        # Print to stderr, since standard output has the json lines.
        typer.echo(printable(f"Cannot label: {error}"), err=True)
        raise typer.Exit(1) from error
    if lacks_entities(counts):
        typer.echo(
            "Warning: no text has an entity, and so none has a relation: add an entity component to the pipeline. "
            "`ner-arch annotate` finds relations between the entities of .spacy files",
            err=True,
        )
    if report.notes[SKIPPED]:
        lines = [f"--on-error skip has left out {report.share(SKIPPED)} lines", *report.examples[SKIPPED]]
        typer.echo(printable("\n    ".join(lines)), err=True)


@contextmanager
def open_output(path: Path | None) -> Iterator[IO[str]]:
    """Open a file to write, which appears under its name only when it is complete; None for standard output."""
    from ..formats.files import complete_files

    if path is None:
        yield typer.get_text_stream("stdout", encoding="utf8")
        return
    with complete_files() as temporary, temporary(path).open("w", encoding="utf8", newline="") as file:
        yield file


def print_tables(doc: Doc) -> None:
    """Print the entities, spans and relations of a document."""
    from ..annotation.entities import scored_entities, scored_spans
    from ..annotation.relations import get_relations

    msg.divider(doc.text)
    groups = [("entity", scored_entities(doc)), *((key, scored_spans(group)) for key, group in doc.spans.items())]
    tables: list[tuple[tuple[str, ...], list[tuple[str, ...]]]] = [
        ((name, "label", "probability"), [(span.text, span.label_, probability(score)) for span, score in rows])
        for name, rows in groups
    ]
    relations: list[tuple[str, ...]] = [
        (r.head.text, r.label, r.tail.text, probability(r.score)) for r in get_relations(doc)
    ]
    tables.append((("head", "relation", "tail", "probability"), relations))
    for header, rows in tables:
        if rows:
            Printer().table(rows, header=header, aligns=("l",) * (len(header) - 1) + ("r",))
    if not any(rows for _, rows in tables):
        Printer().text("nothing found")


def probability(score: float | None) -> str:
    return "" if score is None else f"{score:.3f}"
