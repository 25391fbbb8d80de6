"""Format `conll`: columns, one token and its entity tag a line, a blank line between sentences."""

from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path

from .conll_layout import FileLayout, find_layout, split_columns
from .counts import Note, ReadReport
from .lines import Line, read_blocks
from .sentence import Sentence
from .source_tags import MISSING_TAG, Tag, detect_scheme, parse_tag, tag_remedy
from .spans import make_tagged_sentence

DOCUMENT_MARK = "-DOCSTART-"
DOCUMENT_END: tuple[Line, ...] = ()
COMMENT = "left out: comment lines"
NUMBERED = "files whose first column counts the tokens; the words are in the second one"
EMPTY_END = "files whose last column is empty; the tags are in column {}, --column -1 reads the last one"
RANGE = "left out: lines of ranges of words and of words that are not in the text, numbered as 3-4 and 8.1"


def read_conll(
    path: str | Path, report: ReadReport, *, column: int | None = None, on_error: str = "raise"
) -> Iterator[list[Sentence]]:
    """Read a file of columns. The first column is the token, or the last one if the first is the tag.

    If the first of at least three columns counts the tokens of each sentence or document on nearly all lines, as in
    files made of CoNLL-U, it is left out, and the second one counts as the first. Ranges of words ("3-4") are then left
    out, too. If the words would then be tags, or mostly the same one, the numbers are the words.

    Tabs separate the columns of a line that has a tab, otherwise runs of spaces. Other characters, such as NO-BREAK
    SPACE, may be part of a token. Trailing blanks are ignored. All lines need as many columns as most lines have.

    The tag scheme (IOB1, IOB2, BILUO, BIOES, BMES or BMEW) is detected for the whole file. A tag that breaks it is
    repaired and counted; an unknown tag is an error. The tag "-" means that the token is not annotated. See
    `source_tags.py`.

    A line whose first column starts with "-DOCSTART-" ends a document. A file without such lines is one document.
    A line before the first token of a sentence that starts with "#" and white space is a comment and counted, unless it
    has the columns of the other lines and a readable tag: then it is the token "#".

    The file is read three times (layout, scheme, sentences), so that it need not fit into memory.

    column: index of the tag column; negative indices count from the end. None: the last column, or the first one if
        more of its cells are tags, or the last one with tags if the last column has only "_", or,
        in a file whose tokens are counted, only "-" or "_". The report says so.
    The other arguments, results and errors are those of all readers, see `readers.py`. Also raises FormatError if the
    column does not exist, and ValueError if the path is not a regular file.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a regular file; it has to be read more than once")
    layout = find_layout(_read_sentences(path), column, on_error)
    if layout.numbered is not None:
        report.note(Note(layout.numbered, NUMBERED))
    if layout.empty_end is not None:
        report.note(Note(layout.empty_end, EMPTY_END.format(layout.tag)))
    scheme = detect_scheme(
        # Lines that cannot be read count as tokens without annotation here.
        [layout.tag_of(line) or MISSING_TAG for line in filter(layout.is_token, lines)]
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
        comments = layout.count_comments(lines)
        tokens = [line for line in lines[comments:] if layout.is_token(line)]
        for line in lines[:comments]:
            report.note(Note(line, COMMENT))
        for line in lines[comments:]:
            if not layout.is_token(line):
                report.note(Note(line, RANGE))
        if tokens:
            with report.skipping(on_error):
                sentence, notes = _parse_sentence(tokens, layout, scheme)
                report.add(sentence, notes)
                document.append(sentence)


def _read_sentences(path: Path) -> Iterator[tuple[Line, ...]]:
    """Yield the lines of each sentence, and DOCUMENT_END for document marks."""
    for block in read_blocks(path):
        for is_mark, lines in groupby(block, key=_is_document_mark):
            yield DOCUMENT_END if is_mark else tuple(lines)


def _is_document_mark(line: Line) -> bool:
    return line.fault is None and line.text.lstrip(" ").startswith(DOCUMENT_MARK)


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
