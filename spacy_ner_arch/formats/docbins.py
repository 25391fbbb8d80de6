"""Read and write files in spaCy's format, `.spacy`, with errors that name the file, and split Docs into two parts."""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from spacy.tokens import Doc, DocBin
from spacy.vocab import Vocab

from ..annotation.graph_decoding import connected
from ..annotation.words import text_key
from .files import complete_files, walk_shown
from .manifest import MANIFEST, check_complete, is_output, read_manifest
from .packing import add_with_user_data, docs_with_user_data

# Minimum number of tokens of a text that connects source documents, see `group_docs`.
LONG_TEXT = 15
REMEDY = "`python -m spacy ner-arch convert` makes .spacy files"


def find_docbins(path: Path) -> list[Path]:
    """The .spacy files that spaCy's reader finds under a path, in the order of their names.

    path: a .spacy file, or a folder with such files in it or in its subfolders, including links. Hidden files and
        folders in it are left out. spaCy treats the folder itself as hidden if its name begins with a
        dot, such as `..`.
    Raises ValueError if there is none, for a link to a missing file, and for an incomplete output of `ner-arch annotate
        --to spacy`.
    """
    if path.is_dir():
        shown = sorted(walk_shown(path))
        for file in shown:
            if file.name == MANIFEST and is_output(file.parent) and read_manifest(file)[0].get("--to") == "spacy":
                check_complete(file.parent)
        files = [file for file in shown if file.suffix == ".spacy"]
        if not files:
            raise ValueError(f"{path} has no .spacy files; {REMEDY}")
        for file in files:
            if not file.exists():
                raise ValueError(f"{file} is a link to a file that is not there: restore the file, or remove the link")
        return files
    if path.suffix != ".spacy":
        raise ValueError(f"{path} is not a .spacy file: its name does not end in .spacy; {REMEDY}")
    return [path]


def parse_docbin(content: bytes, path: Path) -> DocBin:
    """The content of a .spacy file. Raises ValueError with `path` if it is not a .spacy file."""
    try:
        return DocBin().from_bytes(content)
    except Exception as error:  # of zlib and msgpack
        raise ValueError(f"{path} is not a .spacy file, or damaged; {REMEDY}") from error


def read_docbin(path: Path, vocab: Vocab) -> Iterator[Doc]:
    """The documents of a .spacy file. Raises ValueError if it is not a .spacy file."""
    yield from docs_with_user_data(parse_docbin(path.read_bytes(), path), vocab)


def read_docbins(path: Path, vocab: Vocab) -> Iterator[Doc]:
    """The documents of all files that `find_docbins` finds. Raises its errors and those of `read_docbin`."""
    for file in find_docbins(path):
        yield from read_docbin(file, vocab)


def describe_long_texts(docs: Mapping[Path, Iterable[Doc]], max_length: int) -> str:
    """Describe the texts that are too long for the tokenizer of a pipeline, with the first one; "" if there is none.

    docs: the documents of each file.
    max_length: nlp.max_length of the pipeline.
    """
    found = [
        f"document {number} of {file} ({len(doc.text):,} characters)"
        for file, of_file in docs.items()
        for number, doc in enumerate(of_file, start=1)
        # With unknown spaces, a document keeps its tokens.
        if not doc.has_unknown_spaces and len(doc.text) > max_length
    ]
    if not found:
        return ""
    return (
        f"{len(found)} texts are longer than the {max_length:,} characters that spaCy tokenizes (nlp.max_length), "
        f"such as {found[0]}. Split them into several documents"
    )


def group_docs(docs: Sequence[Doc], *keys: Sequence[Hashable], sentences: bool = False) -> list[list[int]]:
    """Group Docs that must not be divided between training and evaluation: those with the same text or a common key.

    White space and Unicode forms of texts are not compared. Two Docs that are connected through others are in one
    group, too.

    docs: the Docs.
    keys: lists with a key of each Doc, such as that of its source document, or None for a Doc without such a key.
    sentences: whether the Docs are sentences. Sentences of less than LONG_TEXT tokens then do not connect documents:
        datelines and headings occur in many of them, and would connect most of a newspaper.
    Returns the numbers of the Docs of each group, in order.
    """
    counts = [Counter(column) for column in keys]
    rows: list[Sequence[Hashable]] = []
    for doc, *own in zip(docs, *keys, strict=True):
        found = [(i, key) for i, key in enumerate(own) if key is not None]
        is_short = sentences and len(doc) < LONG_TEXT and any(counts[i][key] > 1 for i, key in found)
        rows.append(found if is_short else [*found, text_key(doc.text)])
    return connected(rows, ())


def split_docs(
    docs: Iterable[Doc], shares: Sequence[float], seed: int, groups: list[list[int]] | None = None
) -> tuple[list[Doc], ...]:
    """Split off parts, such as a dev and a test part.

    The same input has the same parts on every machine and version of Python.

    docs: the Docs.
    shares: share of each part, between 0 and 1, rounded to whole Docs; less if groups are too large for it. If there
        are more groups than parts, no part is empty.
    seed: selects the Docs.
    groups: the groups that are not divided, see `group_docs`. None: Docs with the same text.
    Returns the remaining Docs and the parts, each in the order of the input.
    Raises ValueError unless the shares and their sum are between 0 and 1.
    """
    if not all(0 < share < 1 for share in (*shares, sum(shares))):
        listed = " and ".join(map(str, shares))
        raise ValueError(f"the share split off is {listed}; each share and their sum must be between 0 and 1")
    docs = list(docs)
    group_of = {i: group for group in groups or group_docs(docs) for i in group}
    # Python's random generator may give another order in another version.
    order = sorted(range(len(docs)), key=lambda i: sha256(f"{seed}:{i}".encode()).digest())
    left = list({id(group_of[i]): group_of[i] for i in order}.values())
    parts: list[list[int]] = []
    for number, share in enumerate(shares):
        part: list[int] = []
        # Each later part, and the rest, needs a group.
        spare = len(left) - (len(shares) - number)
        for group in left:
            if spare > 0 and len(part) + len(group) <= round(share * len(docs)):
                part += group
                spare -= 1
        if not part and spare > 0:
            part = min(left, key=len)
        parts.append(sorted(part))
        chosen = set(part)
        left = [group for group in left if group[0] not in chosen]
    return tuple([docs[i] for i in part] for part in (sorted(i for group in left for i in group), *parts))


def write_docbin(docs: Iterable[Doc], path: str | Path) -> None:
    """Write Docs with their user data to a .spacy file, see `write_docbins`."""
    write_docbins({Path(path): docs})


def write_docbins(parts: Mapping[Path, Iterable[Doc]]) -> None:
    """Write Docs with their user data to .spacy files.

    The files appear only when all of them are complete. After an earlier error, including an error of the iterables,
    existing files are unchanged.

    parts: the Docs of each file. Missing folders are created.
    Raises OSError if a file cannot be written.
    """
    with complete_files() as temporary:
        for path, docs in parts.items():
            doc_bin = DocBin()
            has_user_data = False
            for doc in docs:
                add_with_user_data(doc_bin, doc)
                has_user_data = has_user_data or bool(doc.user_data)
            # spaCy takes ten times as long to read empty user data as the rest of a sentence, see `packing`.
            doc_bin.store_user_data = has_user_data
            temporary(path).write_bytes(doc_bin.to_bytes())
