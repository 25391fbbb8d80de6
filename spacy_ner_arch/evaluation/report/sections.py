"""The sections of the page that are tables and texts, each a function that returns html."""

from collections import Counter
from collections.abc import Sequence
from html import escape

import numpy as np
from spacy.language import Language
from spacy.training import Example

from ..tables import entity_table
from .confusion import ELSEWHERE, confusion
from .markup import facts, paragraph, percent, table
from .matches import judged
from .mistakes import Excerpt, palette, render, worst

AVERAGES = ("micro avg", "macro avg", "weighted avg")
NOTHING = paragraph("There is no entity, neither gold nor predicted.")


def summary(nlp: Language, examples: Sequence[Example]) -> str:
    """What pipeline, on what corpus."""
    predicted = sum(len(example.predicted.ents) for example in examples)
    open_ones = predicted - sum(len(list(judged(example))) for example in examples)
    components = ", ".join(
        name if name == (factory := nlp.get_pipe_meta(name).factory) else f"{name} ({factory})"
        for name in nlp.pipe_names
    )
    note = f" ({open_ones} not judged: on tokens without gold annotation)" if open_ones else ""
    rows = [
        ("pipeline", f"{nlp.lang}_{nlp.meta['name']}"),
        ("version", str(nlp.meta["version"])),
        ("language", str(nlp.lang)),
        ("components", components or "none"),
        ("documents", f"{len(examples)}"),
        ("gold tokens", f"{sum(len(example.reference) for example in examples)}"),
        ("gold entities", f"{sum(len(example.reference.ents) for example in examples)}"),
        ("predicted entities", f"{predicted}{note}"),
    ]
    return facts(rows)


def scores(examples: Sequence[Example]) -> str:
    """Precision, recall and F1 per label."""
    rows = entity_table(examples)
    if not rows:
        return NOTHING
    lines = [(row.name, *(percent(value) for value in row[1:4]), str(row.support)) for row in rows]
    classes = ["" if row.name != AVERAGES[0] else "first-average" for row in rows]
    text = "In percent. An entity is right if its borders and its label are. Support is the number of gold entities."
    return paragraph(text) + table(("", "precision", "recall", "F1", "support"), lines, classes)


def confusions(examples: Sequence[Example]) -> str:
    """Gold labels against predicted ones."""
    result = confusion(examples)
    if not result.labels:
        return NOTHING
    text = (
        "Gold labels down, predicted labels across. The square of labels has the entities whose borders are right. The "
        "last columns have the other gold entities: a prediction with wrong borders overlaps them, or there is none "
        "(missed). The last rows have the other predictions in the same way. A prediction is about one gold entity at "
        "most, even if it overlaps two. Rows of labels sum to the gold entities, columns of labels to the judged "
        "predictions; the shade is the share of that sum."
    )
    return paragraph(text) + matrix(result.labels, result.counts)


def matrix(labels: Sequence[str], counts: np.ndarray) -> str:
    """The counts of a Confusion as a table with shaded cells."""
    size = len(labels)
    names = [*labels, *ELSEWHERE[:2]]
    aside = ["", ' class="aside"']
    head = "".join(
        f'<th scope="col"{aside[j >= size]}>{escape(name)}</th>' for j, name in enumerate([*names, "missed"])
    )
    # Rows of labels are about gold entities, the last rows about predictions, which belong to columns.
    of_row, of_column = counts / totals(counts, 1), counts / totals(counts, 0)
    lines = []
    for i, name in enumerate([*names, "spurious"]):
        share = of_row if i < size else of_column
        cells = [
            shaded(int(counts[i, j]), share[i, j], right=i == j) if i < size or j < size else "<td></td>"
            for j in range(len(counts))
        ]
        lines.append(f'<tr><th scope="row"{aside[i >= size]}>{escape(name)}</th>{"".join(cells)}</tr>')
    return (
        '<div class="scroll"><table class="matrix"><thead><tr><th scope="col">gold \\ predicted</th>'
        f"{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def totals(counts: np.ndarray, axis: int) -> np.ndarray:
    """Sums to divide by."""
    return counts.sum(axis, keepdims=True).clip(1)


def shaded(count: int, share: float, right: bool) -> str:
    """A cell of the matrix."""
    if not count:
        return '<td class="none">·</td>'
    colour = "right" if right else "wrong"
    return f'<td style="background: rgba(var(--{colour}-rgb), {0.12 + 0.43 * share:.2f})">{count}</td>'


def errors(examples: Sequence[Example]) -> str:
    """The excerpts with the most mistakes, gold and predicted side by side."""
    excerpts = worst(examples)
    if not excerpts:
        return paragraph("There is no mistake.")
    labels = {ent.label_ for example in examples for doc in (example.predicted, example.reference) for ent in doc.ents}
    colours = palette(sorted(labels))
    text = (
        f"The {len(excerpts)} worst sentences (documents, where the corpus has no sentences; long ones are cut): most "
        "mistakes first, then the most confident wrong prediction. Wrong entities have a dashed border and say what is "
        "wrong; numbers are confidences. Wrong borders or a wrong label are one mistake, not a missed and a spurious "
        "entity."
    )
    return paragraph(text) + "".join(side_by_side(excerpt, colours) for excerpt in excerpts)


def side_by_side(excerpt: Excerpt, colours: dict[str, str]) -> str:
    kinds = Counter(pair.kind.value for pair in excerpt.mistakes)
    what = ", ".join(kind if count == 1 else f"{count} × {kind}" for kind, count in kinds.items())
    mistakes = "1 mistake" if len(excerpt.mistakes) == 1 else f"{len(excerpt.mistakes)} mistakes"
    title = f"document {excerpt.number}, tokens {excerpt.start + 1} to {excerpt.end}: {mistakes} ({what})"
    gold, predicted = render(excerpt, colours)
    return (
        f'<article class="excerpt"><header>{escape(title)}</header><div class="sides">'
        f"<div><h4>gold</h4>{gold}</div><div><h4>predicted</h4>{predicted}</div></div></article>"
    )
