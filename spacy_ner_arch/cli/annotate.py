"""`ner-arch annotate`: entities, spans and relations of corpora of any size."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer import Argument, Option
from wasabi import msg

from .messages import fail, warn
from .options import CODE, GPU_ID, MODEL, split_names

if TYPE_CHECKING:
    from ..bulk.annotator import Job
    from ..bulk.folder import OutputFolder
    from ..bulk.inputs import Input
    from ..bulk.shards import Shard
    from ..bulk.soft import Soft

ENGINES = ("local", "ray")
BAR = "{percentage:3.0f} %|{bar}| {remaining} left{postfix}"


def annotate(
    model: str = MODEL,
    inputs: list[str] = Argument(
        ...,
        metavar="INPUT",
        help="Files, folders and patterns: .txt, .jsonl, .csv, .parquet and .spacy, also with .gz, .bz2, .xz or .zst",
    ),
    output: Path = Argument(..., help="Folder for the output; an unfinished run in it is continued"),
    to: str = Option("jsonl", "--to", "-t", help="Format of the output: jsonl, parquet or spacy"),
    format: str | None = Option(
        None, "--format", "-f", help="Format of the inputs: txt, jsonl, csv, parquet or spacy; default: by their names"
    ),
    text_column: str = Option("text", "--text-column", help="Column or key of the text"),
    key: str | None = Option(
        None, "--key", help="Put the annotation under this key, instead of keys for entities, spans and relations"
    ),
    soft: bool = Option(
        False, "--soft", help="Write the probabilities of a sequence_ner, from which another pipeline can learn"
    ),
    gold_labels: str | None = Option(
        None,
        "--gold-labels",
        help="With --soft: labels, separated by commas, for which the annotation of the inputs is gold (default: for "
        "all labels)",
    ),
    component: str | None = Option(None, "--component", help="With --soft: the sequence_ner, if there are several"),
    n_process: int = Option(1, "--n-process", "-n", help="Number of processes, each with one thread", min=1),
    batch_size: int | None = Option(
        None, "--batch-size", "-b", help="Texts per batch (default: that of the pipeline)", min=1
    ),
    shard_size: int = Option(2000, "--shard-size", help="Texts per shard", min=1),
    engine: str = Option("local", "--engine", help="Where the processes run: local, or ray for a Ray cluster"),
    address: str | None = Option(
        None, "--address", help="Address of the Ray cluster; default: start Ray on this machine"
    ),
    force: bool = Option(False, "--force", "-F", help="Replace the output of another run"),
    code: Path | None = CODE,
    use_gpu: int = GPU_ID,
) -> None:
    """Annotate corpora of any size, in constant memory.

    The pipeline's entities, spans and relations are written. The output is a folder with a manifest and a file for each
    shard of the input. To continue a stopped run, give the same command again. The files are the same for any number of
    processes, with and without Ray.
    """
    from ..bulk.annotator import Job
    from ..bulk.folder import OutputFolder
    from ..bulk.models import fingerprint
    from ..bulk.outputs import common_columns

    try:
        check_options(to, key, text_column, engine, address)
        teacher = find_soft(soft, to, gold_labels, component)
        files = choose_inputs(inputs, format, output, text_column)
        without = [file.path for file in files if file.format != "spacy"]
        if gold_labels is not None and without:
            raise ValueError(f"--gold-labels is for .spacy files, and {without[0]} has no annotation; convert it")
        columns = common_columns([file for file in files if file.size], text_column) if to == "parquet" else None
        job = Job(model, fingerprint(model), code, use_gpu, batch_size, text_column, key, to, columns, teacher)
        with OutputFolder(output, make_header(job, files, shard_size), to, force=force) as folder:
            if folder.damaged:
                msg.warn(f"{len(folder.damaged)} files are missing or changed and are made again: {folder.damaged[0]}")
            if folder.totals is not None:
                msg.info("The output is complete already")
            else:
                fill(folder, job, files, shard_size, n_process, engine, address)
            report(folder)
    except (ValueError, OSError, ImportError) as error:
        fail("Cannot annotate", error)


def choose_inputs(names: list[str], format: str | None, output: Path, column: str) -> list["Input"]:
    """The input files. Warns about skipped and empty files; raises ValueError for a file that cannot be read."""
    from ..bulk.inputs import find_inputs
    from ..bulk.raw_records import check_inputs

    files, left_out, rejects = find_inputs(names, format, output)
    if left_out:
        msg.warn(f"{len(left_out)} files are left out, as their names show no known format, such as {left_out[0]}")
    if rejects:
        msg.warn(f"{len(rejects)} files of rejected records of an earlier run are left out, such as {rejects[0]}")
    for file in files:
        if file.size == 0:
            msg.warn(f"{file.path} is empty")
    check_inputs([file for file in files if file.size], column)
    return files


def fill(
    folder: "OutputFolder",
    job: "Job",
    files: list["Input"],
    shard_size: int,
    n_process: int,
    engine: str,
    address: str | None,
) -> None:
    """Annotate the shards that are not in the output yet, and show the progress."""
    from tqdm import tqdm

    from ..bulk.engines import run
    from ..bulk.shards import read_shards

    started = time.monotonic()
    documents = 0
    with tqdm(total=sum(file.size for file in files), bar_format=BAR, smoothing=0, disable=None) as bar:
        shards = unfinished(read_shards(files, job.column, shard_size), folder, bar)
        for result in run(job, shards, n_process, engine, address):
            folder.add(result)
            documents += result.counts["documents"]
            bar.set_postfix_str(speed(documents, started), refresh=False)
            bar.update(result.read)
    for file, entry in zip(files, folder.header["inputs"], strict=True):
        file.check_unchanged(entry["sha256"])
    folder.finish()
    msg.info(speed(documents, started))


def speed(documents: int, started: float) -> str:
    """Describe a number of documents and their rate per second. started: time of the monotonic clock."""
    seconds = max(time.monotonic() - started, 1e-3)
    return f"{documents:,} documents in {seconds:.0f} s, {documents / seconds:.1f} a second"


def unfinished(shards: Iterator["Shard"], folder: "OutputFolder", bar: Any) -> Iterator["Shard"]:
    """The unfinished shards. The finished shards advance the progress bar, but not its speed."""
    for shard in shards:
        if shard.number in folder.finished:
            # A hidden bar does not have this attribute.
            bar.initial = getattr(bar, "initial", 0) + shard.read
            bar.update(shard.read)
        else:
            yield shard


def report(folder: "OutputFolder") -> None:
    """Print the counts of all shards and the rejected records. Exits with an error if there is no document."""
    from ..bulk.annotator import REMOVED
    from ..bulk.documents import LAYERS
    from ..bulk.predictor import lacks_entities

    counts = folder.counts()
    first = folder.first_reject()
    rejected = f"{counts['rejects']} of {counts['records']} records were rejected"
    if first is not None:
        rejected += f" and written to {folder.path / 'part-*.rejects.jsonl'}"
        details = f"{first['place']}: {first['reason']}\n  remedy: {first['remedy']}"
    if not counts["documents"]:
        raise ValueError(f"{rejected}\n{details}" if counts["records"] else "the inputs have no record")
    names = {"chains": "chains of the teacher", "gold_entities": "gold entities"}
    found = [f"{counts[layer]:,} {names.get(layer, layer)}" for layer in (*LAYERS, *names) if layer in counts]
    msg.good(f"{counts['documents']:,} documents with {', '.join(found)} in {folder.path}")
    if first is not None:
        warn(rejected, details)
    if lacks_entities(counts):
        msg.warn(
            "No document has an entity, and so none has a relation: add an entity component to the pipeline, or give "
            ".spacy files with entities"
        )
    removed = {key.removeprefix(REMOVED): number for key, number in counts.items() if key.startswith(REMOVED)}
    if removed:
        labels = ", ".join(f"{label} ({number:,})" for label, number in sorted(removed.items()))
        msg.warn(f"{sum(removed.values()):,} entities whose labels --gold-labels does not name are left out: {labels}")
    if folder.header["--gold-labels"] and not counts["gold_entities"]:
        msg.warn(f"No entity of the inputs has a label of --gold-labels {','.join(folder.header['--gold-labels'])}")
    if counts["repeated_ids"]:
        msg.warn(f"{counts['repeated_ids']} documents have the id of another document of their shard; all are kept")


def check_options(to: str, key: str | None, text_column: str, engine: str, address: str | None) -> None:
    """Raise ValueError for an invalid value of an option, and for options that exclude each other."""
    from ..bulk.outputs import FIELDS, OUTPUTS

    for option, value, known in (("to", to, OUTPUTS), ("engine", engine, ENGINES)):
        if value not in known:
            raise ValueError(f"--{option} is {value!r}; it must be one of {', '.join(known)}")
    if address is not None and engine != "ray":
        raise ValueError("--address is for --engine ray")
    if key is not None and to == "spacy":
        raise ValueError("--key is for json lines and Parquet; a .spacy file has the annotation in its documents")
    if to == "parquet" and FIELDS in (key, text_column):
        raise ValueError(f"--key and --text-column cannot be {FIELDS} with --to parquet, which has these columns")


def find_soft(soft: bool, to: str, gold_labels: str | None, component: str | None) -> "Soft | None":
    """The options of --soft. Raises ValueError for options that need others."""
    from ..bulk.soft import Soft

    if soft and to != "spacy":
        raise ValueError("--soft writes to doc.user_data, which only .spacy files have; add --to spacy")
    for option, value in (("--gold-labels", gold_labels), ("--component", component)):
        if value is not None and not soft:
            raise ValueError(f"{option} is for --soft")
    labels = None if gold_labels is None else tuple(split_names(gold_labels))
    return Soft(component, labels) if soft else None


def make_header(job: "Job", files: list["Input"], shard_size: int) -> dict[str, Any]:
    """Everything on which the output depends, for the first line of the manifest."""
    from importlib.metadata import version

    from .. import __version__
    from ..formats.files import checksum

    labels = None if job.soft is None else job.soft.gold_labels
    packages = ["spacy", "torch", *(["pyarrow"] if job.to == "parquet" else [])]
    return {
        "model": job.model,
        "fingerprint": job.fingerprint,
        "inputs": [
            {"path": str(file.path), "format": file.format, "bytes": file.size, "sha256": checksum(file.path)}
            for file in files
        ],
        "--to": job.to,
        "--soft": job.soft is not None,
        "--gold-labels": labels if labels is None else list(labels),
        "--component": None if job.soft is None else job.soft.component,
        "--text-column": job.column,
        "--key": job.key,
        "--batch-size": job.batch_size,
        "--shard-size": shard_size,
        "--code": None if job.code is None else checksum(job.code),
        "device": "GPU" if job.gpu >= 0 else "CPU",
        "versions": {"spacy_ner_arch": __version__, **{name: version(name) for name in packages}},
    }
