"""`ner-arch evaluate`: scores per label of entities, spans and relations."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import srsly
from spacy.language import Language
from spacy.training import Example
from spacy.vocab import Vocab
from typer import Argument, Option
from wasabi import msg

from ..annotation.layers import assigning, count_layers, spans_layer, symmetric_labels, without_layer
from .evaluate_comparison import differences_as_json, find_differences, print_differences
from .evaluate_fields import as_json, check_fields, print_groups, rows_as_json, score_groups
from .messages import fail, print_scores, writing
from .options import CODE, GPU_ID, SYSTEM, USE_GOLD_ENTITIES
from .pipelines import (
    check_corpus,
    check_output,
    finds_entities,
    report_left_out,
    report_misaligned,
    warn_of_no_comparison,
)
from .stored_predictions import stored_files
from .systems import Inputs, check_system, predict, predict_other

if TYPE_CHECKING:
    from ..evaluation.items import LeftOut
    from ..evaluation.score_tables import Row

# Layer of annotation of the tables that are not about spans.
LAYERS = {"ents_table": "doc.ents", "rel_table": "doc._.relations"}


def evaluate(
    model: str = SYSTEM,
    corpus: Path = Argument(..., help="Corpus in .spacy format", exists=True, callback=check_corpus),
    output: Path | None = Option(None, "--output", "-o", help="JSON file for the scores", dir_okay=False),
    gold_preproc: bool = Option(False, "--gold-preproc", "-G", help="Predict on gold sentences and tokens"),
    gold_entities: bool | None = USE_GOLD_ENTITIES,
    gold_trees: bool = Option(False, "--gold-trees", help="Give the components gold dependency trees"),
    by: list[str] = Option([], "--by", help="Field of the documents: score those with the same value, too"),
    compare: str | None = Option(
        None, "--compare", help="Another pipeline, or predictions in .spacy format: show the difference of F1"
    ),
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
    """Score a pipeline, or the predictions of any system.

    Prints precision, recall, F1, support and number of predictions per label, with averages, for the entities, spans
    and relations that the pipeline sets; with --by, also the micro averages of the documents with the same value of a
    field; with --compare, also the difference from another system. The JSON file has spaCy's score keys, between 0 and
    1, and the tables. The html pages show the predictions that were scored.
    """
    from spacy.scorer import Scorer

    from ..evaluation.items import find_left_out
    from ..formats import find_docbins, read_docbins
    from ..formats.files import write_text

    try:
        if compare is not None:
            check_system(compare)
        if output is not None:
            check_output(output, [*find_docbins(corpus), *stored_files(model), *stored_files(compare)])
        if by and gold_preproc:
            raise ValueError("--gold-preproc would lose the fields of --by, which spaCy drops: leave it out")
        if by:
            check_fields(by, read_docbins(corpus, Vocab()))
    except ValueError as error:
        fail("Cannot evaluate", error)
    inputs = Inputs(corpus, gold_entities, gold_trees, gold_preproc)
    system = nlp, examples, has_gold_entities = predict(model, inputs, code, use_gpu)
    extractors: list[Any] = [pipe for _, pipe in nlp.pipeline if hasattr(pipe, "generate_candidates")]
    found = (pipe.generate_candidates(eg.predicted).entities for pipe in extractors for eg in examples)
    if extractors and examples and not any(found):
        warn_of_no_entities(nlp, corpus, has_gold_entities)
    if examples and not any(count_layers(eg.predicted) for eg in examples):
        msg.warn(f"The pipeline sets no entities, spans or relations: all gold ones count as missed ({nlp.pipe_names})")
    scores = Scorer(nlp).score(examples)
    make = partial(make_tables, nlp, scores=scores, gold_entities=has_gold_entities)
    tables = make(examples)
    groups = {field: score_groups(field, examples, make) for field in by}
    if not any(tables.values()):
        warn_of_no_comparison(corpus, examples)
    for name, rows in tables.items():
        if len(tables) > 1:
            msg.divider(name.removesuffix("_table"))
        print_scores(rows)
        show_other_labels(rows)
        layer = LAYERS.get(name) or spans_layer(name.removeprefix("spans_").removesuffix("_table"))
        if rows and (missing := without_layer((eg.reference for eg in examples), layer)):
            msg.warn(f"{missing} of {len(examples)} documents have no gold {layer} and are not scored")
    for field, values in groups.items():
        print_groups(field, values, list(tables))
    differences = {}
    if compare is not None:
        other, others, _ = predict_other(compare, inputs, system, code, use_gpu)
        differences = find_differences(nlp, examples, other, others)
        print_differences(compare, differences)
    report_misaligned(nlp, examples)
    left_out = find_left_out(examples)
    report_left_out(left_out)
    if output is not None:
        scores |= rows_as_json(tables)
        scores["left_out"] = left_out_as_json(left_out)
        if groups:
            scores["by"] = {field: as_json(values) for field, values in groups.items()}
        if compare is not None:
            scores["compare"] = differences_as_json(compare, differences)
        with writing(output):
            write_text(output, [srsly.json_dumps(scores, indent=2)])
        msg.good(f"Saved scores to {output}")
    if displacy_path is not None:
        write_displacy(nlp, examples[:displacy_limit], displacy_path)


def make_tables(
    nlp: Language, examples: list[Example], scores: dict[str, Any], *, gold_entities: bool
) -> dict[str, list["Row"]]:
    """Rows per label and averages, by the key of the table in the JSON file.

    scores: scores from spaCy's scorer.
    gold_entities: whether entities and spans are copied from gold, so that they get no table.
    """
    from ..evaluation.score_tables import entity_table, relation_table, span_tables

    tables = {}
    if not gold_entities:
        tables = {f"spans_{key}_table": rows for key, rows in span_tables(examples).items()}
    if assigning(nlp, "doc._.relations"):
        tables["rel_table"] = relation_table(examples, symmetric_labels(nlp))
    # A component of a user may set doc.ents without a scorer.
    if scores.get("ents_f") is not None or not (tables or assigning(nlp, "doc.spans")):
        tables["ents_table"] = entity_table(examples)
    return tables


def show_other_labels(rows: Sequence["Row"]) -> None:
    """Print the labels of a table that only the corpus has, and those that only the predictions have, if both exist."""
    from ..evaluation.score_tables import MICRO

    of_labels = list(takewhile(lambda row: row.name != MICRO, rows))
    gold = ", ".join(row.name for row in of_labels if not row.predicted)
    predicted = ", ".join(row.name for row in of_labels if not row.support)
    if gold and predicted:
        msg.info(
            f"{gold} are only in the corpus, {predicted} only in the predictions: `ner-arch convert --rename OLD=NEW` "
            "gives a corpus other labels"
        )


def left_out_as_json(left_out: Mapping[str, "LeftOut"]) -> dict[str, dict[str, int]]:
    """How many predictions are left out of the scores, by layer of annotation, for the JSON file."""
    return {
        layer: {
            "predictions": len(found.predictions),
            "tokens_without_annotation": found.unannotated,
            "tokens": found.tokens,
        }
        for layer, found in left_out.items()
    }


def write_displacy(nlp: Language, examples: list[Example], folder: Path) -> None:
    """Write html pages of the predictions."""
    from .evaluate_pages import write_pages

    with writing(folder):
        written = write_pages(nlp, [eg.predicted for eg in examples], folder)
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
