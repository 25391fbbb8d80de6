"""The chain of a teacher in `doc.user_data`."""

from typing import Any

import numpy as np
from spacy.tokens import Doc

from .chains import Chain
from .describe import quote

# Key of doc.user_data.
TEACHER = "teacher_chain"
# Scores are stored in half precision. Those of a token are relative to its best tag, which keeps probable tags exact.
LEAST_SCORE = -60_000.0


def set_chain(doc: Doc, chain: Chain) -> None:
    """Store a chain on its document, in half precision. `DocBin(store_user_data=True)` keeps it."""
    stored: dict[str, Any] = chain._asdict()
    stored["emissions"] = chain.emissions - chain.emissions.max(axis=1, keepdims=True)
    for name in ("start", "transitions", "end", "emissions"):
        stored[name] = stored[name].clip(LEAST_SCORE, -LEAST_SCORE).astype(np.float16)
    doc.user_data[TEACHER] = stored


def get_chain(doc: Doc) -> Chain | None:
    """The chain stored on a document; None if there is none. Raises ValueError if it does not fit the tokens."""
    stored = doc.user_data.get(TEACHER)
    if stored is None:
        return None
    chain = Chain(**{**stored, "tags": tuple(stored["tags"])})
    if chain.emissions.shape != (len(doc), len(chain.tags)):
        raise ValueError(
            f"the teacher's chain of {quote(doc.text)} has {len(chain.emissions)} rows, but the document has "
            f"{len(doc)} tokens; annotate it again with `ner-arch annotate --soft`"
        )
    return chain
