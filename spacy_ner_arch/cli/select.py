"""`ner-arch select`: choose the texts to annotate next."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from spacy.language import Language
from spacy.tokens import Doc
from typer import Argument, Option
from wasabi import msg

from ..annotation.layers import find_pipe
from .messages import fail, printable, warn
from .options import CODE, GPU_ID, MODEL
from .pipelines import check_output, load, pipeline_labels

if TYPE_CHECKING:
    from ..bulk.documents import Record


def select(
    model: str = MODEL,
    raw: list[str] = Argument(
        ..., help="Files with a text (.txt) or a JSON object with the key text (.jsonl) on each line; or -"
    ),
    output: Path = Option(..., "--output", "-o", help="File of the tasks; for brat, a new folder"),
    count: int = Option(100, "--n", help="Number of texts to choose", min=1),
    tool: str = Option("prodigy", "--tool", help="Format of the tasks: a --format of export-data"),
    format: str | None = Option(
        None, "--format", "-f", help="Format of the texts, txt or jsonl; default: by the name of a file"
    ),
    by: str = Option("entropy", "--by", help="Measure of uncertainty: entropy, entropy-per-token or margin"),
    balance: bool = Option(False, "--balance", help="Prefer texts with entities of labels that few chosen texts have"),
    rest: Path | None = Option(
        None, "--rest", help="File for the other texts, .jsonl, for the next choice", dir_okay=False
    ),
    component: str | None = Option(None, "--component", help="The sequence_ner to use, if there are several"),
    on_error: str = Option("raise", "--on-error", help="For a bad line: raise an error, or skip and count it"),
    code: Path | None = CODE,
    use_gpu: int = GPU_ID,
) -> None:
    """Choose the texts whose annotation would help a model most.

    These are texts with high uncertainty that differ from each other. OUTPUT gets the chosen texts, the best first,
    with the predictions of the model as pre-annotations, and with the other keys of their objects. A text that occurs
    several times is chosen once.
    """
    from ..bulk.documents import dump
    from ..evaluation.selection import candidates, choose_texts, text_vectors
    from ..formats import WRITERS, ReadReport, write_docs
    from ..formats.counts import SKIPPED, check_on_error
    from ..formats.files import complete_files
    from .inputs import find_source, tokenize_records
    from .select_texts import MEASURES, judge_texts

    report, reading = ReadReport(), ReadReport()
    try:
        check_on_error(on_error)
        if by not in MEASURES:
            raise ValueError(f"--by is {by!r}; it must be one of {', '.join(MEASURES)}")
        if tool not in WRITERS:
            raise ValueError(f"--tool is {tool!r}; it must be one of {', '.join(WRITERS)}")
        if output.is_dir() and tool != "brat":
            raise ValueError(f"-o {output} is a folder; name a file in it")
        sources = [find_source(name, format) for name in raw]
        for source in sources:
            if source.is_text:
                raise ValueError(f"{source.name}: there is no such file")
        files = [source.name for source in sources if source.is_file]
        check_output(output, files)
        if rest is not None:
            check_rest(rest, output, files)
        nlp = load(model, use_gpu, code)
        pipe = find_pipe(nlp, "sequence_ner", component)
        records = tokenize_records(nlp, sources, set(), reading, on_error)
        texts = judge_texts(nlp, pipe, records, by)
        if not texts.records:
            raise ValueError(f"{' '.join(raw)} has no text")
        pool = candidates(texts.uncertainty, count)
        vectors = text_vectors([nlp.make_doc(texts.records[i]["text"]) for i in pool])
        places = choose_texts(texts.uncertainty[pool], vectors, texts.entities[pool] if balance else None, count)
        chosen = [int(pool[place]) for place in places]
        docs = predict_records(nlp, [texts.records[i] for i in chosen])
        with complete_files() as temporary:
            if rest is not None:
                left = set(range(len(texts.records))).difference(chosen)
                lines = "".join(f"{dump(texts.records[i])}\n" for i in sorted(left))
                temporary(rest).write_text(lines, encoding="utf8", newline="")
            write_docs(docs, output, tool, report, model=model, source=" ".join(raw), labels=pipeline_labels(nlp))
    except (ValueError, OSError) as error:
        fail("Cannot select", error)
    print(printable(report.summary()))
    if texts.empty:
        msg.info(f"Left out {texts.empty} empty texts")
    if texts.repeated:
        msg.info(f"Left out {texts.repeated} texts that occurred before")
    if reading.notes[SKIPPED]:
        warn(f"Left out {reading.share(SKIPPED)} lines", "\n".join(reading.examples[SKIPPED]))
    if len(chosen) < count:
        msg.warn(f"There are only {len(chosen)} texts")
    mean = {name: texts.uncertainty[rows].mean() for name, rows in (("chosen", chosen), ("all", slice(None)))}
    msg.good(f"Saved {len(chosen)} of {len(texts.records)} texts to {output}")
    msg.text(f"Mean {by} of the chosen texts {mean['chosen']:.3f}, of all texts {mean['all']:.3f}")


def check_rest(rest: Path, output: Path, inputs: list[str]) -> None:
    """Raise ValueError if the other texts cannot be written to this file.

    output: the file or folder of the tasks.
    inputs: the files of the texts, which must not be overwritten: lines that are skipped would be lost.
    """
    check_output(rest, inputs)
    if rest.suffix.lower() != ".jsonl":
        raise ValueError(f"--rest {rest}: the name must end in .jsonl, or the next choice would read it as plain text")
    if rest.resolve() == output.resolve():
        raise ValueError(f"-o and --rest are both {rest}; give two files")
    if rest.resolve().is_relative_to(output.resolve()):
        raise ValueError(f"--rest {rest} is in the folder of the tasks; give a path outside of it")


def predict_records(nlp: Language, records: list["Record"]) -> Iterator[Doc]:
    """Documents with predictions, and the fields of their records in doc.user_data."""
    for doc, record in nlp.pipe(((record["text"], record) for record in records), as_tuples=True):
        doc.user_data.update({name: value for name, value in record.items() if name != "text"})
        yield doc
