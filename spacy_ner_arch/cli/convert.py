"""`ner-arch convert`: annotated corpora to .spacy files."""

import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from typer import Argument, Option
from wasabi import msg

FORMAT_HELP = (
    "conll (columns), conllu, offsets (json lines of texts), spans (json lines of tokens, with nested spans and "
    "relations), spert (json with relations), or semeval (relations of SemEval-2010 task 8)"
)


def convert(
    inputs: list[Path] = Argument(..., help="Corpus files", exists=True, dir_okay=False),
    output_dir: Path = Argument(..., help="Folder for the .spacy files", file_okay=False),
    format: str = Option(..., "--format", "-f", help=FORMAT_HELP),
    lang: str = Option("en", "--lang", "-l", help="Language of the tokenizer to which the entities are aligned"),
    name: str = Option("", "--name", help="Name of the output, instead of the name of the one input"),
    split: float = Option(0.0, "--split", help="Share of the documents of the one input to write to dev.spacy"),
    seed: int = Option(0, "--seed", help="Seed of that split"),
    n_sents: int = Option(1, "--n-sents", "-n", help="Sentences per Doc"),
    documents: bool = Option(False, "--documents", help="One Doc per document of the source"),
    column: int | None = Option(
        None, "--column", help="conll: column of the entity tags, from 0; negative from the end (default: the last)"
    ),
    misc_key: str | None = Option(None, "--misc-key", help="conllu: key of the entity tags in MISC (default: NE)"),
    align: str | None = Option(
        None,
        "--align",
        help="offsets: what to do with entities that do not align with the tokens: strict (leave them out, the "
        "default), contract or expand",
    ),
    on_error: str = Option(
        "raise", "--on-error", help="What to do with a malformed sentence: raise, or skip and count"
    ),
) -> None:
    """Convert annotated corpora to OUTPUT_DIR/<name of the input>.spacy, for `spacy train`.

    Entities are kept, and trees and relations where the format has them. By default each sentence becomes one Doc.
    Nothing is written for an input with an error.
    """
    from spacy.util import get_lang_class
    from tqdm import tqdm

    from ..formats import ReadReport, read_docs, split_docs, write_docbins
    from ..formats.counts import MISALIGNED, SKIPPED

    if isinstance(sys.stdout, TextIOWrapper):
        # The report quotes the corpus, which may have characters that the terminal cannot show.
        sys.stdout.reconfigure(errors="backslashreplace")
    if len(inputs) > 1 and (name or split):
        msg.fail("--name and --split take one input file", exits=1)
    if set(name) & set("/\\"):
        msg.fail(f"--name {name}: the name of a file, without folders, is needed; it is put into OUTPUT_DIR", exits=1)
    if format == "offsets" and (n_sents != 1 or documents):
        msg.fail("--n-sents and --documents are not for offsets: each text becomes one Doc", exits=1)
    options: dict[str, Any] = {}
    for option, value, owner in (
        ("column", column, "conll"),
        ("misc_key", misc_key, "conllu"),
        ("align", align, "offsets"),
    ):
        if value is not None:
            options[option] = value
            if format != owner:
                msg.fail(f"--{option.replace('_', '-')} is for the format {owner}, not for {format}", exits=1)
    stems = [name or path.stem for path in inputs]
    if len(set(stems)) < len(stems):
        msg.fail(f"Two inputs would both become {max(stems, key=stems.count)}.spacy; convert them separately", exits=1)
    if split and stems == ["dev"]:
        msg.fail("--split writes dev.spacy; give the other part another --name", exits=1)
    try:
        language = get_lang_class(lang)
    except ImportError as error:
        msg.fail(f"spaCy has no language {lang!r}", str(error), exits=1)
    try:
        nlp = language()
    except ImportError as error:
        msg.fail(f"Cannot make the tokenizer of {lang!r}, since a package is missing or broken", str(error), exits=1)
    for path, stem in zip(inputs, stems, strict=True):
        report = ReadReport()
        try:
            reader = read_docs(
                path,
                nlp.vocab,
                format,
                report,
                n_sents=n_sents,
                documents=documents,
                tokenizer=nlp.tokenizer,
                on_error=on_error,
                **options,
            )
            docs = list(tqdm(reader, desc=path.name, unit=" docs", disable=None))
            if not docs:
                raise ValueError(f"{path}: no sentence was read\n{report.summary()}")
            parts = {stem: docs}
            if split:
                parts[stem], parts["dev"] = split_docs(docs, split, seed)
                if not parts["dev"]:
                    raise ValueError(f"{path}: one Doc cannot be split into two parts; leave out --split")
            write_docbins({output_dir / f"{part}.spacy": part_docs for part, part_docs in parts.items()})
        except (ValueError, OSError) as error:
            msg.fail(f"Cannot convert {path}", str(error), exits=1)
        msg.divider(str(path))
        print(report.summary())
        if not report.entities:
            msg.warn("No entity was read: check the column (conll) or the key (other formats) of the entities")
        if report.notes[SKIPPED]:
            msg.warn(f"--on-error skip has left out {report.share(SKIPPED)} sentences with all their annotation")
        if report.notes[MISALIGNED]:
            msg.warn(f"{report.share(MISALIGNED)} entities do not align with the tokenizer; training loses them")
        for part, part_docs in parts.items():
            msg.good(f"{output_dir / part}.spacy: {len(part_docs)} docs")
