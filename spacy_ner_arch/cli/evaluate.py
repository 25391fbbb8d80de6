"""`ner-arch evaluate`: scores per label of entities, spans and relations."""

from pathlib import Path
from typing import Any

import srsly
from spacy.language import Language
from typer import Argument, Option
from wasabi import Printer, msg

from ..annotation.layers import assigning, describe_layers
from .messages import fail, writing
from .options import CODE, GPU_ID, MODEL
from .pipelines import check_corpus, check_output, finds_entities, load, predict_corpus, setters


def evaluate(
    model: str = MODEL,
    corpus: Path = Argument(..., help="Corpus in .spacy format", exists=True, callback=check_corpus),
    output: Path | None = Option(None, "--output", "-o", help="JSON file for the scores", dir_okay=False),
    gold_preproc: bool = Option(False, "--gold-preproc", "-G", help="Predict on gold sentences and tokens"),
    gold_entities: bool | None = Option(
        None,
        "--gold-entities/--no-gold-entities",
        help="Find relations between gold entities in gold sentences; the default if no component finds entities",
    ),
    gold_trees: bool = Option(False, "--gold-trees", help="Give the components gold dependency trees"),
    displacy_path: Path | None = Option(
        None,
        "--displacy-path",
        "-dp",
        help="Folder for html pages of the predicted entities, spans and relations",
        file_okay=False,
    ),
    displacy_limit: int = Option(25, "--displacy-limit", "-dl", help="Documents on each html page", min=1),
    code: Path | None = CODE,
    use_gpu: int = GPU_ID,
) -> None:
    """Evaluate a trained pipeline.

    Prints precision, recall, F1 and support per label, with averages, for the entities, spans and relations that the
    pipeline sets. The JSON file has spaCy's score keys, between 0 and 1, and the tables. The html pages show the
    predictions that were scored.
    """
    from spacy.scorer import Scorer

    from ..evaluation.score_tables import entity_table, relation_table, span_tables
    from ..formats import find_docbins

    if output is not None:
        try:
            check_output(output, find_docbins(corpus))
        except ValueError as error:
            fail("Cannot evaluate", error)
    nlp = load(model, use_gpu, code)
    extractors: list[Any] = [
        pipe for name, pipe in nlp.pipeline if nlp.get_pipe_meta(name).factory == "relation_extractor"
    ]
    if gold_entities and not extractors:
        msg.fail("--gold-entities is for pipelines that find relations; this one finds none", exits=1)
    if gold_entities is None and extractors and not finds_entities(nlp):
        msg.warn("No component of this pipeline finds entities: relations are scored between gold entities")
        gold_entities = True
    if gold_preproc and extractors:
        msg.fail("--gold-preproc would lose the gold relations, which spaCy does not keep for sentences", exits=1)
    copied = ["ents", "spans"] if gold_entities else []
    if gold_trees:
        copied.append("heads")
    elif gold_entities:
        copied.append("sents")
    nlp.select_pipes(disable=setters(nlp, copied))  # so that they are not scored
    try:
        examples = predict_corpus(nlp, corpus, copied, gold_preproc)
    except ValueError as error:
        fail("Cannot evaluate", error)
    scores = Scorer(nlp).score(examples)
    tables = {}
    if not gold_entities:
        tables = {f"spans_{key}_table": rows for key, rows in span_tables(examples).items()}
    if extractors:
        symmetric = {label for pipe in extractors for label in pipe.cfg["symmetric"]}
        tables["rel_table"] = relation_table(examples, sorted(symmetric))
        found = (pipe.generate_candidates(eg.predicted).entities for pipe in extractors for eg in examples)
        if examples and not any(found):
            warn_of_no_entities(nlp, corpus, bool(gold_entities))
    # A component of a user may set doc.ents without a scorer.
    if scores.get("ents_f") is not None or not (tables or assigning(nlp, "doc.spans")):
        tables["ents_table"] = entity_table(examples)
    if not any(tables.values()):
        gold = describe_layers(eg.reference for eg in examples)
        predicted = describe_layers(eg.predicted for eg in examples)
        msg.warn(f"{corpus}: nothing to compare. Corpus: {gold}. Predictions: {predicted}.")
    for name, rows in tables.items():
        if len(tables) > 1:
            msg.divider(name.removesuffix("_table"))
        print_scores(rows)
    if output is not None:
        as_json = {name: [row._asdict() for row in rows] for name, rows in tables.items()}
        with writing(output):
            srsly.write_json(output, {**scores, **as_json})
        msg.good(f"Saved scores to {output}")
    if displacy_path is not None:
        from .pages import write_pages

        with writing(displacy_path):
            written = write_pages(nlp, [eg.predicted for eg in examples[:displacy_limit]], displacy_path)
        for path, content in written:
            msg.good(f"Saved {content} to {path}")
        if not written:
            msg.warn("--displacy-path: no page written, since the pipeline sets no entities, spans or relations")


def warn_of_no_entities(nlp: Language, corpus: Path, gold_entities: bool) -> None:
    """Warn that no document has an entity, so that no relation can be found."""
    if gold_entities:
        msg.warn(f"{corpus}: no gold entity, and so no relation: leave out --gold-entities, or annotate entities")
    elif finds_entities(nlp):
        msg.warn("The pipeline finds no entity, and so no relation: give --gold-entities, or train it longer")
    else:
        msg.warn("No document has an entity: give --gold-entities, or add an entity component to the pipeline")


def print_scores(rows: list[Any]) -> None:
    if rows:
        percent = [(row.name, *(f"{100 * value:.2f}" for value in row[1:4]), row.support) for row in rows]
        Printer().table(percent, header=("", "P", "R", "F", "support"), aligns=("l", "r", "r", "r", "r"))
