"""`ner-arch convert`: annotated corpora to .spacy files."""

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
    column: int = Option(-1, "--column", help="conll: column of the entity tags, from 0; negative from the end"),
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

    from ..formats import FormatError, ReadReport, read_docs, split_docs, write_docbin

    if len(inputs) > 1 and (name or split):
        msg.fail("--name and --split take one input file", exits=1)
    if format == "offsets" and (n_sents != 1 or documents or column != -1):
        msg.fail("--n-sents, --documents and --column are not for offsets: each text becomes one Doc", exits=1)
    stems = [name or path.stem for path in inputs]
    if len(set(stems)) < len(stems):
        msg.fail(f"Two inputs would both become {max(stems, key=stems.count)}.spacy; convert them separately", exits=1)
    if split and stems == ["dev"]:
        msg.fail("--split writes dev.spacy; give the other part another --name", exits=1)
    try:
        nlp = get_lang_class(lang)()
    except ImportError as error:
        msg.fail(f"spaCy has no language {lang!r}, or needs a package for it", str(error), exits=1)
    options: dict[str, Any] = {"on_error": on_error, **({"column": column} if format == "conll" else {})}
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
                **options,
            )
            docs = list(tqdm(reader, desc=path.name, unit=" docs", disable=None))
            if not docs:
                raise ValueError(f"{path}: no sentence was read")
            parts = {stem: docs}
            if split:
                parts[stem], parts["dev"] = split_docs(docs, split, seed)
        except (FormatError, ValueError) as error:
            msg.fail(f"Cannot convert {path}", str(error), exits=1)
        msg.divider(str(path))
        print(report.summary())
        if not report.entities:
            msg.warn("No entity was read: check the column (conll) or the key (other formats) of the entities")
        for part, part_docs in parts.items():
            write_docbin(part_docs, output_dir / f"{part}.spacy")
            msg.good(f"{output_dir / part}.spacy: {len(part_docs)} docs")
