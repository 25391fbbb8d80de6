"""`ner-arch combine`: entities of several systems, weighted by a span model."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from spacy.tokens import Doc
from spacy.vocab import Vocab
from typer import Argument, Option
from wasabi import msg

from ..annotation.describe import Counted, describe_span
from ..annotation.layers import find_pipe
from .messages import fail, print_scores, warn
from .options import CODE, GPU_ID
from .pipelines import check_output, load
from .stored_predictions import StoredPredictions, warn_of_left


def combine(
    model: str = Argument(..., help="Name or path of a pipeline with a trained span_ner"),
    corpus: Path = Argument(..., help="The texts in .spacy format; with entities, the results are scored", exists=True),
    predicted: list[Path] = Argument(
        ...,
        metavar="PREDICTED",
        help="The entities of each system: a .spacy file, or a folder of them",
        exists=True,
    ),
    output: Path = Option(
        ..., "--output", "-o", help="File in .spacy format for the combined entities", dir_okay=False
    ),
    weights: list[float] = Option(
        [],
        "--weight",
        "-w",
        help="Weight of a system, such as its F1 on the development corpus; once for each system, in their order",
    ),
    component: str | None = Option(None, "--component", help="The span_ner to use, if there are several"),
    code: Path | None = CODE,
    use_gpu: int = GPU_ID,
) -> None:
    """Combine the entities of several systems in the same texts.

    The systems vote on every span that one of them proposes, for a label or for no entity. A vote is weighted by the
    probability of its label in the span model. The table shows each system, the span model alone, the majority vote,
    and the combination, each scored on the tokens that it has annotated. To let the span model propose spans as well,
    add its output as another system.
    """
    from ..annotation.entities import annotated_tokens, trim
    from ..evaluation.score_tables import micro_average
    from ..formats import find_docbins, read_docbins, write_docbin
    from .combine_voting import (
        predict_spans,
        span_model,
        vote,
        with_entities,
        without_annotation,
    )

    unknown = defaultdict[str, Counted](Counted)
    names = [str(path) for path in predicted]
    weights = weights or [1.0] * len(names)
    try:
        if len(names) < 2 or len({*names}) < len(names):
            raise ValueError("give the outputs of at least two systems, each once")
        if output.suffix != ".spacy":
            raise ValueError(f"--output {output}: the name must end in .spacy, so that commands can read the file")
        if len(weights) != len(names) or min(weights) <= 0 or not math.isfinite(sum(weights)):
            raise ValueError(f"--weight: give a finite number above 0 for each of the {len(names)} systems, or none")
        check_output(output, [file for path in (corpus, *predicted) for file in find_docbins(path)])
        gold = list(read_docbins(corpus, Vocab()))
        systems = [read_system(path, corpus, gold) for path in predicted]
        nlp = load(model, use_gpu, code)
        pipe = find_pipe(nlp, "span_ner", component)
        alone: list[Doc] = []
        majority: list[Doc] = []
        combined: list[Doc] = []
        for number, (doc, log_probabilities) in enumerate(predict_spans(nlp, pipe, gold)):
            found = [docs[number] for docs in systems]
            annotated = np.stack([annotated_tokens(each) for each in found])
            by_any = np.logical_or.reduce(annotated)
            proposals = [trim(doc, [(ent.start, ent.end, ent.label_) for ent in each.ents]) for each in found]
            alone.append(doc)
            for docs, weighting in ((majority, None), (combined, span_model(pipe, doc, log_probabilities, unknown))):
                votes = vote(proposals, weights, weighting, annotated)
                docs.append(with_entities(gold[number], votes, by_any))
        write_docbin(combined, output)
    except (ValueError, OSError) as error:
        fail("Cannot combine", error)
    if unknown:
        number = sum(spans.count for spans in unknown.values())
        warn(
            f"{number} proposals are decided only by the votes, since {pipe.name} does not score them",
            "\n".join(f"{spans.count}: {reason}, such as {spans.first}" for reason, spans in unknown.items()),
        )
    missing = [describe_missing(map(annotated_tokens, docs)) for docs in (*systems, combined)]
    for name, described in zip(names, missing, strict=False):
        if described:
            msg.warn(f"{name} has no vote about {described}, whose entities it has not annotated")
    if missing[-1]:
        msg.warn(f"No system has annotated {missing[-1]}, whose entities stay missing")
    if any(doc.ents for doc in gold):
        names += [f"{pipe.name} alone", "majority vote", "combined"]
        tables = []
        for docs in (*systems, alone, majority, combined):
            known = (without_annotation(*pair) for pair in zip(gold, map(annotated_tokens, docs), strict=True))
            tables.append(micro_average(docs, known))
        print_scores([row._replace(name=name) for name, row in zip(names, tables, strict=True)])
        if any(missing):
            msg.warn(
                "Each row leaves out the tokens without its annotation: do not compare it with rows that have more"
            )
    else:
        msg.info(f"{corpus} has no entities to compare with")
    msg.good(f"Saved {sum(len(doc.ents) for doc in combined)} entities in {len(combined)} documents to {output}")


def read_system(path: Path, corpus: Path, gold: Sequence[Doc]) -> list[Doc]:
    """The entities of a system on the tokens of the corpus, a document for each one of the corpus.

    Prints the numbers of further documents, and of entities that do not fit the tokens: both are left out.
    Raises ValueError for a document without predictions, and for a system without annotation of entities.
    """
    from ..formats import read_docbins
    from .combine_voting import move_entities

    stored, left_out = StoredPredictions(), Counted()
    stored.fill(path, read_docbins(path, Vocab()), ["doc.ents"])
    docs = []
    for doc in gold:
        moved, others = move_entities(stored(doc), doc)
        docs.append(moved)
        left_out.add(others, describe_span)
    if not any(doc.has_annotation("ENT_IOB") for doc in docs):
        raise ValueError(f"{path} has no annotation of entities in doc.ents")
    warn_of_left(stored, corpus)
    if left_out.count:
        msg.warn(
            f"{path}: {left_out.count} entities begin or end within a token of {corpus} and are left out, such as "
            f"{left_out.first}"
        )
    return docs


def describe_missing(annotated: Iterable[np.ndarray]) -> str:
    """Describe how many documents and tokens are not annotated; an empty string if all are annotated.

    annotated: (T,) bool, the tokens with annotation, of each document.
    """
    rows = [row for row in annotated if len(row)]
    tokens = sum(int((~row).sum()) for row in rows)
    documents = len([row for row in rows if not row.any()])
    total = sum(map(len, rows))
    return f"{documents} of {len(rows)} documents and {tokens} of {total} tokens" if tokens else ""
