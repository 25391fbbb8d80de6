"""Write tasks for Prodigy."""

from typing import Any

from ...annotation.relations import has_relations
from .content import Content, rename
from .objects import with_score


def make_task(content: Content) -> dict[str, Any]:
    doc = content.doc
    spans = [
        {
            "start": span.start_char,
            "end": span.end_char,
            "token_start": span.start,
            "token_end": span.end - 1,
            "label": span.label_,
        }
        for span in content.spans
    ]
    task: dict[str, Any] = {
        "text": doc.text,
        "tokens": [
            {
                "text": token.text,
                "start": token.idx,
                "end": token.idx + len(token),
                "id": token.i,
                "ws": bool(token.whitespace_),
            }
            for token in doc
        ],
        "spans": [with_score(span, score) for span, score in zip(spans, content.scores, strict=True)],
    }
    if has_relations(doc):
        # Prodigy takes the last token of a span for the span.
        task["relations"] = [
            with_score(
                {
                    "head": spans[head]["token_end"],
                    "child": spans[tail]["token_end"],
                    "head_span": spans[head],
                    "child_span": spans[tail],
                    "label": label,
                },
                score,
            )
            for head, tail, label, score in content.relations
        ]
    own: dict[str, Any] = {} if content.model is None else {"model": content.model}
    fields = content.renamed_fields(own)
    given = fields.pop("meta") if isinstance(fields.get("meta"), dict) else {}
    own |= fields
    meta = {**rename(given, own), **own}
    if content.is_labelled and not content.is_predicted:
        return {**task, **({"meta": meta} if meta else {}), "answer": "accept"}
    return {**task, "meta": meta}
