"""Write probable label errors as a page, as data, and as a corpus."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spacy.tokens import Doc
from spacy.training import Example

from ..formats import write_docbin
from ..formats.files import write_text
from ..formats.writers.content import get_json_fields
from .doubts import Doubt
from .html import excerpt, language, marks, render
from .items import Item, predicted_spans

# File in the output folder with the documents that have errors.
ERRORS = "errors.spacy"
# Keys of user_data for the file of a document and its number there.
FILE, NUMBER = "corpus_file", "corpus_number"


def write_review(
    output: Path,
    title: str,
    doubts: Sequence[Doubt],
    examples: Mapping[int, Example],
    places: Sequence[tuple[str, int]],
    key: str,
    limit: int,
) -> Counter[str]:
    """Write `errors.jsonl`, `index.html` and `errors.spacy`. Return the number of probable errors of each kind.

    output: folder; it is created if necessary.
    doubts: the most probable error first. Doubts where the annotation is more probable are only in errors.jsonl.
    examples: by number of the document, with predictions.
    places: file of each document, and its number there from 1. errors.jsonl has them, and errors.spacy in
        doc.user_data.
    key: group in doc.spans of the predictions with probable spans, which errors.spacy has beside the annotation.
    limit: maximum number of errors on the page and in errors.spacy.
    """
    probable = [doubt for doubt in doubts if doubt.log_odds > 0]
    counts = Counter(doubt.kind for doubt in probable)
    texts = {number: example.reference.text for number, example in examples.items()}
    page = render(
        "review.html.jinja",
        title=title,
        lang=language(example.reference for example in examples.values()),
        documents=len(examples),
        counts=counts.most_common(),
        doubts=[(doubt, excerpt(texts[doubt.match.document], marks(doubt.match))) for doubt in probable[:limit]],
    )
    rows = (as_row(doubt, examples[doubt.match.document].reference, places[doubt.match.document]) for doubt in doubts)
    write_text(output / "errors.jsonl", (json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    write_text(output / "index.html", [page])
    numbers = dict.fromkeys(doubt.match.document for doubt in probable[:limit])
    write_docbin([with_spans(examples[number], key, places[number]) for number in numbers], output / ERRORS)
    return counts


def as_row(doubt: Doubt, doc: Doc, place: tuple[str, int]) -> dict[str, Any]:
    """A doubt as a JSON object; bounds in characters, documents from 1.

    doc: the gold document. Its fields that JSON cannot represent are left out.
    place: its file, and its number there from 1.
    """
    text = doc.text

    def describe(item: Item | None, score: float | None) -> dict[str, Any] | None:
        if item is None:
            return None
        places = [{"start": a, "end": b, "text": text[a:b]} for a, b in item.places]
        place = places[0] if len(places) == 1 else {"head": places[0], "tail": places[1]}
        return {"label": item.label, **place, "probability": score}

    gold, found = doubt.match.gold, doubt.match.predicted
    return {
        "document": doubt.match.document + 1,
        "file": place[0],
        "number": place[1],
        "fields": get_json_fields(doc),
        "kind": doubt.kind,
        "log_odds": round(doubt.log_odds, 4),
        "annotated": describe(gold, doubt.gold_score),
        "found": describe(found, found and found.score),
    }


def with_spans(example: Example, key: str, place: tuple[str, int]) -> Doc:
    """The gold document, with the predicted spans of a key, and its place in the corpus."""
    doc = example.reference
    doc.user_data[FILE], doc.user_data[NUMBER] = place
    rows = []
    for item in predicted_spans(example, key):
        start, end = item.places[0]
        span = doc.char_span(start, end, label=item.label) if start >= 0 else None
        if span is not None:
            rows.append((span, item.score))
    if rows:
        doc.spans[key] = [span for span, _ in rows]
        doc.spans[key].attrs["scores"] = [score for _, score in rows]
    return doc
