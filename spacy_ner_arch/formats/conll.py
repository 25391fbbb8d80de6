"""Format `conll`: columns, one token and its entity tag a line, a blank line between sentences."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import NamedTuple

from .counts import Note, ReadReport
from .lines import BLANKS, Line, read_blocks
from .sentence import Sentence
from .source_tags import MISSING_TAG, Tag, detect_scheme, parse_tag, tag_remedy
from .spans import make_tagged_sentence

DOCUMENT_MARK = "-DOCSTART-"
DOCUMENT_END: tuple[Line, ...] = ()
COMMENT_MARK = "# "
COMMENT = "left out: comment lines"

Shape = tuple[bool, int]
"""Whether tabs separate the columns of a line, and the number of columns."""


class FileLayout(NamedTuple):
    """Layout of a file: the shape of most lines, and the indices of the columns of the tag and the token."""

    shape: Shape
    tag: int
    token: int


def read_conll(
    path: str | Path, report: ReadReport, *, column: int | None = None, on_error: str = "raise"
) -> Iterator[list[Sentence]]:
    """Read a file of columns. The first column is the token, or the last one if the first is the tag.

    Tabs separate the columns of a line that has a tab, otherwise runs of spaces. Other characters, such as NO-BREAK
    SPACE, may be part of a token. Trailing blanks are ignored. All lines need as many columns as most lines have.

    The tag scheme (IOB1, IOB2, BILUO, BIOES, BMES or BMEW) is detected for the whole file. A tag that breaks it is
    repaired and counted; an unknown tag is an error. The tag "-" means that the token is not annotated. See
    `source_tags.py`.

    A line whose first column starts with "-DOCSTART-" ends a document. A file without such lines is one document.
    A line before the first token of a sentence that starts with "# " is a comment and counted, unless it has the
    columns of the other lines and a readable tag: then it is the token "#".

    The file is read three times (layout, scheme, sentences), so that it need not fit into memory.

    column: index of the tag column; negative indices count from the end. None: the last column, or the first one if
        more of its cells are tags.
    The other arguments, results and errors are those of all readers, see `readers.py`. Also raises FormatError if the
    column does not exist, and ValueError if the path is not a regular file.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a regular file; it has to be read more than once")
    layout = find_layout(path, column, on_error)
    scheme = detect_scheme(
        # Lines that cannot be read count as tokens without annotation here.
        [_readable_tag(line, layout) or MISSING_TAG for line in lines]
        for lines in _read_sentences(path)
    )
    report.schemes[scheme] += 1
    document: list[Sentence] = []
    for lines in chain(_read_sentences(path), [DOCUMENT_END]):
        if lines == DOCUMENT_END:
            if document:
                report.documents += 1
                yield document
            document = []
            continue
        tokens = lines[_count_comments(lines, layout) :]
        for line in lines[: len(lines) - len(tokens)]:
            report.note(Note(line, COMMENT))
        if tokens:
            with report.skipping(on_error):
                sentence, notes = _parse_sentence(tokens, layout, scheme)
                report.add(sentence, notes)
                document.append(sentence)


def find_layout(path: Path, column: int | None, on_error: str) -> FileLayout:
    """Find the layout of most lines of a file. Without readable lines, it has no columns.

    column: index of the tag column, see `read_conll`.
    on_error: "raise" an error for an unreadable line, or "skip" it.
    Raises FormatError if most lines have no such column, or no other one.
    """
    shapes: Counter[Shape] = Counter()
    comment_shapes: Counter[Shape] = Counter()
    examples: dict[Shape, Line] = {}
    first_tags: Counter[Shape] = Counter()
    last_tags: Counter[Shape] = Counter()
    for line in chain.from_iterable(_read_sentences(path)):
        if on_error == "raise":
            line.check()
        if line.fault is None:
            shape = _shape(line)
            (comment_shapes if line.text.startswith(COMMENT_MARK) else shapes)[shape] += 1
            examples.setdefault(shape, line)
            cells = split_columns(line)
            first_tags[shape] += parse_tag(cells[0]) is not None
            last_tags[shape] += parse_tag(cells[-1]) is not None
    if not examples:
        return FileLayout((False, 0), 0, 0)
    [(shape, _)] = (shapes or comment_shapes).most_common(1)
    width = shape[1]
    if column is None:
        column = 0 if first_tags[shape] > last_tags[shape] else -1
    index = column if column >= 0 else width + column
    if not 0 <= index < width or width == 1:
        remedy = f"choose a column from 0 to {width - 1} or from {-width} to -1"
        if width == 1:
            remedy = "give each token a column with its entity tag"
        raise examples[shape].error(f"there is no tag column {column}: the lines have {width} columns", remedy)
    return FileLayout(shape, index, 0 if index else width - 1)


def _read_sentences(path: Path) -> Iterator[tuple[Line, ...]]:
    """Yield the lines of each sentence, and DOCUMENT_END for document marks."""
    for block in read_blocks(path):
        for is_mark, lines in groupby(block, key=_is_document_mark):
            yield DOCUMENT_END if is_mark else tuple(lines)


def _is_document_mark(line: Line) -> bool:
    return line.text.lstrip(" ").startswith(DOCUMENT_MARK)


def split_columns(line: Line) -> list[str]:
    """The columns of a line."""
    text = line.text.rstrip(BLANKS)
    if "\t" in text:
        # A token can be a space: spaCy's tokenizer makes such tokens.
        return [cell.strip(" ") or cell[:1] for cell in text.split("\t")]
    return [cell for cell in text.split(" ") if cell]


def _shape(line: Line) -> Shape:
    return "\t" in line.text.rstrip(BLANKS), len(split_columns(line))


def _readable_tag(line: Line, layout: FileLayout) -> Tag | None:
    cells = split_columns(line)
    return parse_tag(cells[layout.tag]) if len(cells) == layout.shape[1] else None


def _count_comments(lines: Sequence[Line], layout: FileLayout) -> int:
    """Count the comments before the first token."""
    for n, line in enumerate(lines):
        marked = line.fault is None and line.text.startswith(COMMENT_MARK)
        if not marked or (_shape(line) == layout.shape and _readable_tag(line, layout)):
            return n
    return len(lines)


def _parse_sentence(lines: Sequence[Line], layout: FileLayout, scheme: str) -> tuple[Sentence, list[Note]]:
    for line in lines:
        line.check()
    words, tags = zip(*(_parse_token(line, layout) for line in lines), strict=True)
    return make_tagged_sentence(lines, words, tags, scheme)


def _parse_token(line: Line, layout: FileLayout) -> tuple[str, Tag]:
    cells, width = split_columns(line), layout.shape[1]
    if len(cells) != width:
        reason = f"{len(cells)} columns where most lines of the file have {width}"
        raise line.error(reason, "complete the line, or put a blank line between sentences")
    word = cells[layout.token]
    if not word:
        raise line.error("the token is empty", f"put the token in column {layout.token}")
    tag = parse_tag(cells[layout.tag])
    if tag is None:
        raise line.error(f"{cells[layout.tag]!r} in column {layout.tag} is not an entity tag", tag_remedy())
    return word, tag
