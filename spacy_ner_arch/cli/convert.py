"""`ner-arch convert`: annotated corpora to .spacy files."""

import os.path
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from spacy.cli._util import import_code
from typer import Argument, Option
from wasabi import msg

from ..annotation.tags import OUTSIDE
from .convert_report import show_report, warn_of_similar
from .convert_split import group_sources, split_parts, warn_of_groups
from .convert_tokenizers import load_tokenizer, make_language
from .messages import fail, printable
from .options import CODE, split_names

AUTO = "auto"
# Number of documents after which a line shows the progress if there is no terminal.
SHOWN_EVERY = 100_000
FORMAT_HELP = (
    "Format of the files; auto detects it. Annotation tools: label-studio, doccano, prodigy, brat, argilla. Columns: "
    "conll, conllu, csv, datasets (also Parquet). JSON: offsets (texts), spans (tokens), spert, spacy-json, spacy-v2, "
    "spacy-v2-json, cluener, gliner, dygie, docred, tacred. Text: semeval"
)


def convert(
    inputs: list[Path] = Argument(..., help="Corpus files; for brat, also folders", exists=True),
    output_dir: Path = Argument(..., help="Folder for the .spacy files", file_okay=False),
    format: str = Option(AUTO, "--format", "-f", help=FORMAT_HELP),
    lang: str | None = Option(
        None, "--lang", "-l", help="Language of the tokenizer to which the entities are aligned (default: en)"
    ),
    config: Path | None = Option(
        None,
        "--config",
        help="Config, or folder of a pipeline, whose tokenizer to use instead of that of --lang",
        exists=True,
    ),
    name: str = Option("", "--name", help="Name of the output, instead of the name of the one input"),
    split: float = Option(
        0.0, "--split", help="Share of the Docs (by default sentences) of the one input for dev.spacy"
    ),
    test: float = Option(0.0, "--test", help="With --split: share of the Docs for test.spacy"),
    split_by: str | None = Option(
        None,
        "--split-by",
        help="Field of the records, such as patient: records with the same value go to the same part. The field is "
        "kept, as with --fields. Formats of texts only",
    ),
    seed: int = Option(0, "--seed", help="Seed of that split"),
    n_sents: int = Option(1, "--n-sents", "-n", help="Sentences per Doc"),
    documents: bool = Option(False, "--documents", help="One Doc per document of the source"),
    column: int | None = Option(
        None,
        "--column",
        help="conll: column of the entity tags, from 0; negative from the end (default: the last, or the first if that "
        "has the tags)",
    ),
    misc_key: str | None = Option(None, "--misc-key", help="conllu: key of the entity tags in MISC (default: NE)"),
    align: str | None = Option(
        None,
        "--align",
        help="formats with texts or spaces: treatment of entities that do not align with the tokenizer: strict (leave "
        "them out; the default for texts, others keep them), contract or expand",
    ),
    unit: str | None = Option(
        None,
        "--unit",
        help="formats of texts: unit of start and end, characters, utf-16 or graphemes (default: by format)",
    ),
    annotators: str | None = Option(
        None,
        "--annotators",
        help="annotation tools: if a text has several annotators, first (the default), all (one Doc each), merge "
        "(annotation that more than half of them agree on), or the name of one",
    ),
    fields: str | None = Option(
        None,
        "--fields",
        help="formats of texts: keys of a record, or of its meta, metadata, data or fields, to keep in doc.user_data, "
        "separated by commas; all formats that name documents: document, the name of the source document",
    ),
    tag_names: str | None = Option(
        None, "--tag-names", help="datasets: names of the tags in the order of their numbers, separated by commas"
    ),
    rename: str = Option(
        "",
        "--rename",
        help="New names of labels of entities, spans and relations, such as PERSON=PER,Per=PER; --labels then selects "
        "by the new names",
    ),
    labels: str | None = Option(
        None, "--labels", help="Labels of entities to keep, separated by commas (default: all)"
    ),
    on_error: str = Option(
        "raise", "--on-error", help="For a malformed sentence: raise an error, or skip and count it"
    ),
    code: Path | None = CODE,
) -> None:
    """Convert annotated corpora to .spacy files, for `spacy train`.

    Each input becomes OUTPUT_DIR/<name of the input>.spacy; a file of that name is replaced, with a warning. Entities
    are kept, and trees and relations where the format has them. By default each sentence becomes one Doc. Nothing is
    written for an input with an error.
    """
    from tqdm import tqdm

    from ..formats import FORMATS, ReadReport, describe_long_texts, read_docs, write_docbins
    from ..formats.fields import DOCUMENT

    if len(inputs) > 1 and (name or split):
        msg.fail("--name and --split take one input file", exits=1)
    if set(name) & set("/\\"):
        msg.fail(f"--name {name}: give the name of a file without folders; it is put into OUTPUT_DIR", exits=1)
    name = name.removesuffix(".spacy")
    stems = [name or output_name(path) for path in inputs]
    # On Windows and macOS, Dev.spacy and dev.spacy are one file.
    folded = [stem.casefold() for stem in stems]
    if len(set(folded)) < len(folded):
        both = stems[folded.index(max(folded, key=folded.count))]
        msg.fail(
            f"Two inputs would both become {both}.spacy where upper and lower case do not matter; convert them "
            "separately, with --name",
            exits=1,
        )
    if (split_by is not None or test) and not split:
        option = "--test" if test else "--split-by"
        msg.fail(f"{option} is for --split: give the share of the dev part too", exits=1)
    shares = {part: share for part, share in (("dev", split), ("test", test)) if share}
    if folded[0] in shares:
        msg.fail(f"{folded[0]}.spacy is the name of a part that is split off; give the rest another --name", exits=1)
    if lang and config:
        msg.fail("Give --lang or --config, not both: the tokenizer of the config is used", exits=1)
    new_names = parse_names(rename)
    import_code(code)
    nlp = load_tokenizer(config) if config else make_language(lang or "en")
    of_formats: dict[str, Any] = {
        "column": column,
        "misc_key": misc_key,
        "align": align,
        "unit": unit,
        "annotators": annotators,
        "fields": fields and split_names(fields),
        "tag_names": tag_names and split_names(tag_names),
    }
    options = {option: value for option, value in of_formats.items() if value is not None}
    kept = list(options.get("fields", ()))
    of_all: dict[str, Any] = {"n_sents": n_sents, "documents": documents, "on_error": on_error}
    of_all |= {"labels": split_names(labels or ""), "rename": new_names}
    entities: Counter[str] = Counter()
    relations: Counter[str] = Counter()
    renamed: set[str] = set()
    found_fields: set[str] = set()
    for path, stem in zip(inputs, stems, strict=True):
        report = ReadReport()
        try:
            found = choose_format(path, format)
            check_options(found, options, n_sents != 1 or documents, split_by)
            if split_by is not None:
                options["fields"] = [*kept, split_by]
            if path.is_dir() and found != "brat":
                raise ValueError(f"{path} is a folder; give its files")
            reader = read_docs(path, nlp.vocab, found, report, tokenizer=nlp.tokenizer, **of_all, **options)
            docs = []
            for doc in tqdm(reader, desc=path.name, unit=" docs", disable=None):
                docs.append(doc)
                if not len(docs) % SHOWN_EVERY and not sys.stderr.isatty():  # where tqdm shows nothing
                    print(printable(f"{path.name}: {len(docs)} docs"), file=sys.stderr, flush=True)
            if not docs:
                raise ValueError(f"{path}: no sentence was read\n{report.summary()}")
            if DOCUMENT in kept and len(docs) > 1 == len({str(doc.user_data[DOCUMENT]) for doc in docs}):
                msg.warn(
                    f"{path}: all {len(docs)} docs are of one source document, {docs[0].user_data[DOCUMENT]}; "
                    "intervals of scores need several documents"
                )
            parts = {stem: docs}
            if split:
                groups = group_sources(docs, split_by, path, report, sentences=not FORMATS[found].has_texts)
                parts = dict(zip((stem, *shares), split_parts(docs, groups, shares, seed, path), strict=True))
            files = {output_dir / f"{part}.spacy": part_docs for part, part_docs in parts.items()}
            warn_of_replaced(files)
            write_docbins(files)
        except (ValueError, OSError, ImportError) as error:
            fail(f"Cannot convert {path}", f"{error}{other_format(path, format)}")
        msg.divider(str(path))
        show_report(report, labels, str(config or repr(nlp.lang)), FORMATS[found].has_texts or align is not None)
        for part, part_docs in parts.items():
            msg.good(f"{output_dir / part}.spacy: {len(part_docs)} docs")
        for part, share in shares.items():
            warn_of_groups(groups, part, len(parts[part]), share, split_by)
        if long := describe_long_texts(files, nlp.max_length):
            msg.warn(long)
        found_fields |= report.documents_with_field.keys()
        entities += report.entities | report.spans
        relations += report.relations
        renamed |= report.renamed.keys()
    for field in kept:
        if field not in found_fields:
            msg.warn(f"No document that was read has the field {field} of --fields")
    # If no entity was read, `show_report` has warned already.
    for label in dict.fromkeys(of_all["labels"]) if entities else ():
        if label not in entities:
            msg.warn(f"No entity that was read has the label {label} of --labels")
    for label in new_names:
        if label not in renamed:
            msg.warn(f"No entity or relation that was read has the label {label} of --rename")
    for kind, counts in (("entities", entities), ("relations", relations)):
        warn_of_similar(kind, counts)


def parse_names(rename: str) -> dict[str, str]:
    """The new names of labels by their old ones, from the value of --rename."""
    names: dict[str, str] = {}
    for pair in split_names(rename):
        old, *new = (name.strip() for name in pair.split("="))
        if len(new) != 1 or not old or not new[0]:
            msg.fail(f"--rename {pair}: give OLD=NEW, such as PERSON=PER; separate several by commas", exits=1)
        if new[0] == OUTSIDE:
            msg.fail(f"--rename {pair}: {OUTSIDE} is not a label; to drop one, name all others in --labels", exits=1)
        if names.setdefault(old, new[0]) != new[0]:
            msg.fail(f"--rename gives {old} two new names, {names[old]} and {new[0]}", exits=1)
    return names


def warn_of_replaced(files: Iterable[Path]) -> None:
    """Warn about each existing output file, with the number of its documents."""
    from ..formats import parse_docbin

    for path in filter(Path.is_file, files):
        try:
            content = f"{len(parse_docbin(path.read_bytes(), path))} docs"
        except ValueError:  # not a .spacy file
            content = f"{path.stat().st_size} bytes"
        msg.warn(f"{path} exists and will be replaced ({content})")


def choose_format(path: Path, format: str) -> str:
    """The given format; for `auto`, detect the format and print it."""
    from ..formats import FORMATS, detect_format

    if format != AUTO:
        return format
    found = detect_format(path)
    msg.info(f"{path}: format {found} ({FORMATS[found].content})")
    return found


def other_format(path: Path, format: str) -> str:
    """A line that names the format that a file seems to have, if it is not the given format; or ""."""
    from ..formats import FORMATS, detect_format

    if format not in FORMATS:
        return ""
    try:
        found = detect_format(path)
    except (ValueError, OSError, ImportError):
        return ""
    return "" if found == format else f"\nThe file looks like the format {found} ({FORMATS[found].content})"


def output_name(path: Path) -> str:
    """Name of the output of an input, without the file extension. Links are not resolved."""
    path = Path(os.path.abspath(path))
    return path.name if path.is_dir() else path.stem


def check_options(format: str, options: Mapping[str, Any], groups: bool, split_by: str | None) -> None:
    """Raise ValueError for an option that a format does not have.

    groups: whether sentences are to be grouped.
    """
    from ..formats import FORMATS
    from ..formats.fields import DOCUMENT

    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}; choose from {AUTO}, {', '.join(FORMATS)}")
    names_document = options.get("fields") == [DOCUMENT] and not FORMATS[format].sentences
    given = [option for option in options if option != "fields" or not names_document]
    for option in [*given, *(["split_by"] if split_by is not None else [])]:
        # --split-by reads a field.
        needed = "fields" if option == "split_by" else option
        owners = [name for name, known in FORMATS.items() if known.takes(needed)]
        if format not in owners:
            name = option.replace("_", "-")
            raise ValueError(f"--{name} is for the format {' or '.join(owners)}, not for {format}")
    if groups and FORMATS[format].whole:
        raise ValueError(f"--n-sents and --documents are not for {format}: each text becomes one Doc")
