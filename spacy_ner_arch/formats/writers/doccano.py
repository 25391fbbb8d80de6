"""Write JSONL(relation) of doccano."""

from typing import Any

from ..offsets import DoccanoRecord
from ..records import ANNOTATION_KEYS
from ..units import unit_places
from .content import Content

# Names that fields must not have, since doccano uses them.
TAKEN = DoccanoRecord.known_keys() | set(ANNOTATION_KEYS)


def make_text(content: Content) -> dict[str, Any]:
    units = {place: unit for unit, place in unit_places(content.doc.text, "utf-16")}
    return {
        **content.renamed_fields(TAKEN),
        "id": content.number,
        "text": content.doc.text,
        "entities": [
            {
                "id": i,
                "label": span.label_,
                "start_offset": units[span.start_char],
                "end_offset": units[span.end_char],
            }
            for i, span in enumerate(content.spans)
        ],
        "relations": [
            {"id": i, "from_id": head, "to_id": tail, "type": label}
            for i, (head, tail, label, _) in enumerate(content.relations)
        ],
    }
