"""Read files in spaCy's format, `.spacy`, with errors that name the file."""

from collections.abc import Iterator
from pathlib import Path

from spacy.tokens import Doc, DocBin
from spacy.vocab import Vocab

REMEDY = "`python -m spacy ner-arch convert` makes .spacy files"


def find_docbins(path: Path) -> list[Path]:
    """The .spacy files that spaCy's reader finds under a path, in the order of their names.

    path: a .spacy file, or a folder with such files in it or in its folders.
    Raises ValueError if there is none.
    """
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*.spacy")) if not is_hidden(file.relative_to(path))]
        if not files:
            raise ValueError(f"{path} has no .spacy files; {REMEDY}")
        return files
    if path.suffix != ".spacy":
        raise ValueError(f"{path} is no .spacy file: its name does not end in .spacy; {REMEDY}")
    return [path]


def is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def parse_docbin(content: bytes, path: Path) -> DocBin:
    """The content of a .spacy file. Raises ValueError if it is none; `path` names it in the error."""
    try:
        return DocBin().from_bytes(content)
    except Exception as error:  # of zlib and msgpack
        raise ValueError(f"{path} is no .spacy file, or damaged; {REMEDY}") from error


def read_docbin(path: Path, vocab: Vocab) -> Iterator[Doc]:
    """The documents of a .spacy file. Raises ValueError if it is none."""
    yield from parse_docbin(path.read_bytes(), path).get_docs(vocab)
