"""Write JSON as published with SpERT."""

from typing import Any

from .content import Content


def make_object(content: Content) -> dict[str, Any]:
    return {
        "tokens": [token.text for token in content.doc],
        "entities": [{"type": span.label_, "start": span.start, "end": span.end} for span in content.spans],
        "relations": [{"type": label, "head": head, "tail": tail} for head, tail, label, _ in content.relations],
    }
