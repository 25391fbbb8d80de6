"""`python -m spacy ner-arch`: thin sub-commands; spaCy imports this file at every call of its own command line."""

from pathlib import Path
from typing import Any

import srsly
import typer
from spacy.cli._util import app as spacy_app
from spacy.cli._util import setup_gpu
from typer import Argument, Option
from wasabi import Printer, msg

app = typer.Typer(name="ner-arch", help="Corpora, configs and scores for spacy_ner_arch.", no_args_is_help=True)
spacy_app.add_typer(app)

FORMAT_HELP = (
    "conll (columns), conllu, offsets (json lines of texts), spans (json lines of tokens; spans may nest, relations), "
    "spert (json with relations), or semeval (relations of SemEval-2010 task 8)"
)


@app.command("convert")
def convert_cli(
    # fmt: off
    inputs: list[Path] = Argument(..., help="Corpus files", exists=True, dir_okay=False),
    output_dir: Path = Argument(..., help="Folder for the .spacy files", file_okay=False),
    format: str = Option(..., "--format", "-f", help=FORMAT_HELP),
    lang: str = Option("en", "--lang", "-l", help="Language of the tokenizer that the entities are to align with"),
    name: str = Option("", "--name", help="Name of the output, instead of that of the one input"),
    split: float = Option(0.0, "--split", help="Share of the documents of the one input to cut off as dev.spacy"),
    seed: int = Option(0, "--seed", help="Seed of that split"),
    n_sents: int = Option(1, "--n-sents", "-n", help="Sentences per Doc"),
    documents: bool = Option(False, "--documents", help="One Doc per document of the source"),
    column: int = Option(-1, "--column", help="conll: column of the entity tags, from 0; negative from the end"),
    on_error: str = Option("raise", "--on-error", help="What to do with a malformed sentence: raise or skip (counted)"),
    # fmt: on
) -> None:
    """Convert annotated corpora into OUTPUT_DIR/<name of the input>.spacy, for `spacy train`.

    Entities, and trees and relations where the format has them, are kept; by default each sentence becomes one Doc.
    Nothing is written for an input with an error.
    """
    from spacy.util import get_lang_class
    from tqdm import tqdm

    from ..formats import FormatError, Report, read_docs, split_docs, write_docbin

    if len(inputs) > 1 and (name or split):
        msg.fail("--name and --split take one input file", exits=1)
    if format == "offsets" and (n_sents != 1 or documents or column != -1):
        msg.fail("--n-sents, --documents and --column are not for offsets: each text becomes one Doc", exits=1)
    stems = [name or path.stem for path in inputs]
    if len(set(stems)) < len(stems):
        msg.fail(f"Two inputs would both become {max(stems, key=stems.count)}.spacy; convert them apart", exits=1)
    if split and stems == ["dev"]:
        msg.fail("--split writes dev.spacy; give the other part another --name", exits=1)
    try:
        nlp = get_lang_class(lang)()
    except ImportError as error:
        msg.fail(f"spaCy has no language {lang!r}, or needs a package for it", str(error), exits=1)
    options: dict[str, Any] = {"on_error": on_error, **({"column": column} if format == "conll" else {})}
    for path, stem in zip(inputs, stems, strict=True):
        report = Report()
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
            msg.warn("No entity was read: check the column (conll) or the key (other formats) that they stand under")
        for part, part_docs in parts.items():
            write_docbin(part_docs, output_dir / f"{part}.spacy")
            msg.good(f"{output_dir / part}.spacy: {len(part_docs)} docs")


@app.command("fetch")
def fetch_cli(corpus: str = Argument(..., help="Folder of the corpus below assets/ in project.yml")) -> None:
    """Fetch the files of a corpus that are missing below assets/; files that are there are never replaced."""
    from .fetch import FetchError, fetch, find_assets

    try:
        for description in sorted({asset.get("description", "") for asset in find_assets(Path.cwd(), corpus)}):
            msg.info(description)
        for line in fetch(Path.cwd(), corpus):
            msg.text(line)
    except FetchError as error:
        msg.fail("A file is missing", str(error), exits=1)


@app.command("init-config")
def init_config_cli(
    # fmt: off
    output: Path = Argument(..., help="Config file to write, or - for the terminal", allow_dash=True, dir_okay=False),
    config_name: str = Option("bilstm_crf", "--config", "-c", help="Name of a shipped config, without .cfg"),
    encoder: str | None = Option(None, "--encoder", help="Name or folder of a transformer, for transformer configs"),
    lang: str = Option("en", "--lang", "-l", help="Language code, with its tokenizer"),
    # fmt: on
) -> None:
    """Write a complete config for your own data; train with `spacy train CONFIG --paths.train ... --paths.dev ...`."""
    from .configs import make_config

    try:
        config = make_config(config_name, encoder, lang)
    except ValueError as error:
        msg.fail("Cannot make a config", str(error), exits=1)
    if str(output) == "-":
        print(config.to_str())
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    config.to_disk(output)
    msg.good(f"Saved config to {output}")
    paths = "--paths.train corpus/train.spacy --paths.dev corpus/dev.spacy"
    msg.text(f"python -m spacy train {output} --output training {paths}")


@app.command("report")
def report_cli(
    # fmt: off
    model: str = Argument(..., help="Model name or path"),
    corpus: Path = Argument(..., help="Corpus in .spacy format", exists=True),
    output: Path = Option(..., "--output", "-o", help="Folder for index.html", file_okay=False),
    log: Path | None = Option(None, "--log", help="What `spacy train` printed, or its json lines", exists=True),
    code: Path | None = Option(None, "--code", "-c", help="Python file with functions to register", exists=True),
    use_gpu: int = Option(-1, "--gpu-id", "-g", help="GPU ID or -1 for CPU"),
    # fmt: on
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


@app.command("label")
def label_cli(
    model: str = Argument(..., help="Model name or path"),
    texts: list[str] = Argument(..., help="Texts to label"),
    code: Path | None = Option(None, "--code", "-c", help="Python file with functions to register", exists=True),
) -> None:
    """Print the entities and relations that a trained pipeline finds in a text, with labels and probabilities."""
    from ..annotation.relations import get_relations

    for doc in load(model, code=code).pipe(texts):
        msg.divider(doc.text)
        Printer().table(
            [(ent.text, ent.label_, "" if ent._.score is None else f"{ent._.score:.3f}") for ent in doc.ents],
            header=("entity", "label", "probability"),
            aligns=("l", "l", "r"),
        )
        relations = get_relations(doc)
        if relations:
            Printer().table(
                [(r.head.text, r.label, r.tail.text, "" if r.score is None else f"{r.score:.3f}") for r in relations],
                header=("head", "relation", "tail", "probability"),
                aligns=("l", "l", "l", "r"),
            )


@app.command("evaluate")
def evaluate_cli(
    # fmt: off
    model: str = Argument(..., help="Model name or path"),
    corpus: Path = Argument(..., help="Corpus in .spacy format", exists=True),
    output: Path | None = Option(None, "--output", "-o", help="JSON file for the scores", dir_okay=False),
    gold_preproc: bool = Option(False, "--gold-preproc", "-G", help="Predict on gold sentences and tokens"),
    gold_entities: bool | None = Option(
        None,
        "--gold-entities/--no-gold-entities",
        help="Find relations between gold entities; if not said, where no component sets any",
    ),
    gold_trees: bool = Option(False, "--gold-trees", help="Give the components gold dependency trees"),
    code: Path | None = Option(None, "--code", "-c", help="Python file with functions to register", exists=True),
    use_gpu: int = Option(-1, "--gpu-id", "-g", help="GPU ID or -1 for CPU"),
    # fmt: on
) -> None:
    """Evaluate a trained pipeline: precision, recall, F1 and support per label, with averages, for the entities, the
    spans and the relations that it sets. The JSON file has spaCy's score keys, between 0 and 1, and the tables."""
    from spacy.scorer import Scorer

    from ..evaluation.report import entity_table, relation_table, span_tables

    nlp = load(model, use_gpu, code)
    extractors = [pipe for name, pipe in nlp.pipeline if nlp.get_pipe_meta(name).factory == "relation_extractor"]
    if gold_entities and not extractors:
        msg.fail("--gold-entities is for pipelines that find relations; this one finds none", exits=1)
    if gold_entities is None and extractors and not (assigning(nlp, "doc.ents") or assigning(nlp, "doc.spans")):
        msg.warn("No component of this pipeline finds entities: relations are scored between gold ones")
        gold_entities = True
    if gold_preproc and extractors:
        msg.fail("--gold-preproc would lose the gold relations, which spaCy does not keep for sentences", exits=1)
    copied = (["ents", "spans"] if gold_entities else []) + ["heads"] * gold_trees
    examples = predict(nlp, corpus, copied, gold_preproc)
    scores = Scorer(nlp).score(examples)
    tables = {}
    if not gold_entities:
        tables = {f"spans_{key}_table": rows for key, rows in span_tables(examples).items()}
    if extractors:
        symmetric = {label for pipe in extractors for label in pipe.cfg["symmetric"]}
        tables["rel_table"] = relation_table(examples, sorted(symmetric))
        if not any(pipe.finder.generate(eg.predicted).entities for pipe in extractors for eg in examples):
            msg.warn("No document has an entity: give --gold-entities, or put an entity component into the pipeline")
    # A pipeline that sets no doc.ents has no score of entities.
    if scores.get("ents_f") is not None or not tables:
        tables["ents_table"] = entity_table(examples)
    if not any(tables.values()):
        msg.warn(f"{corpus}: nothing to compare; it has no gold annotation of what the pipeline finds")
    for name, rows in tables.items():
        if len(tables) > 1:
            msg.divider(name.removesuffix("_table"))
        print_scores(rows)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        as_json = {name: [row._asdict() for row in rows] for name, rows in tables.items()}
        srsly.write_json(output, {**scores, **as_json})
        msg.good(f"Saved scores to {output}")


def print_scores(rows: list[Any]) -> None:
    if not rows:
        return
    percent = [(row.name, *(f"{100 * value:.2f}" for value in row[1:4]), row.support) for row in rows]
    Printer().table(percent, header=("", "P", "R", "F", "support"), aligns=("l", "r", "r", "r", "r"))


def load(model: str, use_gpu: int = -1, code: Path | None = None) -> Any:
    """The pipeline, or one line on why there is none."""
    from spacy.cli._util import import_code
    from spacy.util import load_model

    setup_gpu(use_gpu, silent=False)
    import_code(code)
    try:
        return load_model(model)
    except OSError as error:
        msg.fail(f"{model} is no pipeline: give a folder such as training/model-best", str(error), exits=1)


def predict(nlp: Any, corpus: Path, copied: list[str], gold_preproc: bool = False) -> list[Any]:
    """The examples of a corpus with the predictions on them. What is copied from its gold side is left to no component
    to find."""
    from ..training.corpus import create_corpus

    setters = {"ents": "doc.ents", "spans": "doc.spans", "heads": "token.head"}
    nlp.disable_pipes(*{name for layer in copied for name in assigning(nlp, setters[layer])})
    if "ents" in copied and "heads" not in copied and not assigning(nlp, "token.is_sent_start"):
        copied = [*copied, "sents"]
    examples = list(create_corpus(corpus, copy=copied, gold_preproc=gold_preproc)(nlp))
    if "heads" in copied and not any(eg.reference.has_annotation("DEP") for eg in examples):
        msg.fail(f"--gold-trees: {corpus} has no dependency trees", exits=1)
    # Not nlp.evaluate: it predicts on copies and throws them away.
    for example, doc in zip(examples, nlp.pipe(example.predicted for example in examples), strict=True):
        example.predicted = doc
    return examples


def assigning(nlp: Any, attribute: str) -> list[str]:
    """Components that say that they set an attribute."""
    return [name for name in nlp.pipe_names if attribute in nlp.get_pipe_meta(name).assigns]
