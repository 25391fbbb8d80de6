"""`ner-arch combine`: entities of several systems, with a span model as the judge."""

import math
from collections import Counter, defaultdict
from pathlib import Path

from spacy.vocab import Vocab
from typer import Argument, Option
from wasabi import msg

from ..annotation.describe import Counted
from ..annotation.layers import find_pipe
from .messages import fail, print_scores, warn
from .options import CODE, GPU_ID
from .pipelines import check_output, load


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

    The systems vote about every span that one of them proposes, for a label or for no entity. A vote counts as much as
    the span model finds its label probable. The table shows each system, the span model alone, the majority vote, and
    the combination. To let the span model propose spans as well, give its output as that of a system.
    """
    from ..annotation.entities import trim
    from ..evaluation.score_tables import micro_average
    from ..formats import find_docbins, read_docbins, write_docbin
    from .voting import check_same_texts, judged, span_model, vote, voters, with_entities

    unknown = defaultdict[str, Counted](Counted)
    names = [str(path) for path in predicted]
    votes = Counter[str]()
    weights = weights or [1.0] * len(names)
    try:
        if len(names) < 2 or len({*names}) < len(names):
            raise ValueError("give the outputs of at least two systems, each once")
        if output.suffix != ".spacy":
            raise ValueError(f"--output {output}: the name must end in .spacy, or no command reads the file")
        if len(weights) != len(names) or min(weights) <= 0 or not math.isfinite(sum(weights)):
            raise ValueError(f"--weight: give a finite number above 0 for each of the {len(names)} systems, or none")
        gold, *systems = [list(read_docbins(path, Vocab())) for path in (corpus, *predicted)]
        check_output(output, [file for path in (corpus, *predicted) for file in find_docbins(path)])
        for path, docs in zip(predicted, systems, strict=True):
            check_same_texts(path, docs, corpus, gold)
        nlp = load(model, use_gpu, code)
        pipe = find_pipe(nlp, "span_ner", component)
        alone, majority, combined = [], [], []
        for number, (doc, log_probabilities) in enumerate(judged(nlp, pipe, gold)):
            voting = voters(systems, number)
            votes.update(names[system] for system in voting)
            entities = [systems[system][number].ents for system in voting]
            proposals = [trim(doc, [(ent.start, ent.end, ent.label_) for ent in ents]) for ents in entities]
            shares = [weights[system] for system in voting]
            judge = span_model(pipe, doc, log_probabilities, unknown)
            alone.append(doc)
            majority.append(with_entities(gold[number], vote(proposals, shares) if voting else None))
            combined.append(with_entities(gold[number], vote(proposals, shares, judge) if voting else None))
        write_docbin(combined, output)
    except (ValueError, OSError) as error:
        fail("Cannot combine", error)
    if unknown:
        number = sum(spans.count for spans in unknown.values())
        warn(
            f"{number} proposals are decided by the votes alone, since {pipe.name} does not know them",
            "\n".join(f"{spans.count}: {reason}, such as {spans.first}" for reason, spans in unknown.items()),
        )
    for name in names:
        if number := len(gold) - votes[name]:
            msg.warn(f"{name} has no vote about {number} of {len(gold)} documents, whose entities it has not annotated")
    if any(doc.ents for doc in gold):
        names += [f"{pipe.name} alone", "majority vote", "combined"]
        tables = [micro_average(docs, gold) for docs in (*systems, alone, majority, combined)]
        print_scores([row._replace(name=name) for name, row in zip(names, tables, strict=True)])
    else:
        msg.info(f"{corpus} has no entities to compare with")
    msg.good(f"Saved {sum(len(doc.ents) for doc in combined)} entities in {len(combined)} documents to {output}")
