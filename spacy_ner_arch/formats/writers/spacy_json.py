"""Write `Doc.to_json` of spaCy."""

from itertools import chain
from typing import Any

from ...annotation.relations import has_relations
from .content import Content


def make_object(content: Content) -> dict[str, Any]:
    """`Doc.to_json` with relations, tokens without annotation, and probabilities."""
    doc = content.doc
    data = {"ents": [], **doc.to_json(underscore=["relations_json"] if has_relations(doc) else None)}
    missing = [token for token in doc if not token.ent_iob]
    data["unannotated"] = [{"start": token.idx, "end": token.idx + len(token)} for token in missing]
    data["has_unknown_spaces"] = doc.has_unknown_spaces
    scores = {
        (span.start_char, span.end_char, span.label_): score
        for span, score in zip(content.spans, content.scores, strict=True)
        if score is not None
    }
    for place in chain(data["ents"], data.get("spans", {}).get(content.spans_key, ())):
        key = place["start"], place["end"], place["label"]
        if key in scores:
            place["score"] = scores[key]
    return data
