"""Writing Docs to disk for spaCy's training."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable
from pathlib import Path

from spacy.tokens import Doc, DocBin


def write_docbin(docs: Iterable[Doc], path: str | Path) -> int:
    """Write Docs to a file that spaCy's training corpus reads, whole or not at all.

    User data is kept. A file of that name is replaced only when the new one is complete; on an
    error, also one raised by `docs`, it stays as it was and no other file is left.

    docs: the Docs.
    path: the file; its folder is made if it does not exist.
    Returns how many Docs were written.
    Raises OSError if the file cannot be written.
    """
    path = Path(path)
    doc_bin = DocBin(store_user_data=True)
    for doc in docs:
        doc_bin.add(doc)
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, since only within one file system is replacing a file atomic. An
    # ordinary file rather than one of `tempfile`, whose files no other user may read.
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        unfinished.write_bytes(doc_bin.to_bytes())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return len(doc_bin)
