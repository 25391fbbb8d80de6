"""`ner-arch label`: entities and relations of a text."""

from pathlib import Path

from typer import Argument, Option
from wasabi import Printer, msg

from .pipelines import load


def label(
    model: str = Argument(..., help="Model name or path"),
    texts: list[str] = Argument(..., help="Texts to label"),
    code: Path | None = Option(None, "--code", "-c", help="Python file with functions to register", exists=True),
) -> None:
    """Print the entities and relations that a trained pipeline finds in a text, with labels and probabilities."""
    from ..annotation.relations import get_relations

    for doc in load(model, code=code).pipe(texts):
        msg.divider(doc.text)
        Printer().table(
            [(ent.text, ent.label_, probability(ent._.score)) for ent in doc.ents],
            header=("entity", "label", "probability"),
            aligns=("l", "l", "r"),
        )
        relations = get_relations(doc)
        if relations:
            Printer().table(
                [(r.head.text, r.label, r.tail.text, probability(r.score)) for r in relations],
                header=("head", "relation", "tail", "probability"),
                aligns=("l", "l", "l", "r"),
            )


def probability(score: float | None) -> str:
    return "" if score is None else f"{score:.3f}"
