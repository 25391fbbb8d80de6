"""Columns: one token per line, its entity tag in one of the columns, a blank line between
sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from spacy_ner_arch.formats.columns import (
    DOCUMENT_END,
    Layout,
    count_comments,
    find_layout,
    read_sentence_lines,
    readable_tag,
    split_columns,
)
from spacy_ner_arch.formats.lines import Line, raise_faults
from spacy_ner_arch.formats.report import (
    FormatError,
    Repair,
    Report,
    check_on_error,
    skipped_if_bad,
)
from spacy_ner_arch.formats.sentence import Sentence
from spacy_ner_arch.formats.tags import (
    MISSING,
    Scheme,
    Tag,
    decode,
    detect_scheme,
    parse_tag,
    tag_remedy,
)


def read_conll(
    path: str | Path, report: Report, *, column: int = -1, on_error: str = "raise"
) -> Iterator[list[Sentence]]:
    """Read a file of columns. The first column is the token.

    Columns are separated by tabs in a line that has a tab, else by runs of spaces. Any other
    character, a no-break space say, may be part of a token. Trailing blanks do not count. All
    lines must have as many columns as most of them.

    The tags may be IOB1, IOB2, BILUO (BILOU) or BIOES (IOBES). The scheme is detected over the
    whole file; a tag that breaks it is read in the conventional way and counted in the report as
    a repair, a tag that is not readable in any scheme is an error. The module `tags` tells how
    the scheme is decided and what becomes of files that mix schemes. The tag "-" means that the
    word is not annotated.

    A line whose first column starts with "-DOCSTART-" ends a document and is no token, whatever
    its other columns. A file without such lines is one document.

    A line before the first token of a sentence that starts with "# " is a comment, unless it
    looks like a token "#": it has the columns of the other lines and a readable tag. Comments
    are counted in the report.

    The file is read three times (columns, scheme, sentences), so that it need not fit in memory.

    path: the file, UTF-8.
    report: what is read is counted here.
    column: the column of the entity tags, from 0; negative from the end.
    on_error: "raise" an error for a malformed line, or "skip" its sentence and count it.
    Yields the sentences of one document after the other; no document is empty.
    Raises FormatError for a malformed line, or if the column does not exist; ValueError if
    `on_error` is neither of the two or `path` cannot be read three times.
    """
    check_on_error(on_error)
    path = Path(path)
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a regular file; it has to be read more than once")
    return _read_documents(path, report, column, on_error)


def _read_documents(path: Path, report: Report, column: int, on_error: str) -> Iterator[list[Sentence]]:
    layout = find_layout(path, column, on_error)
    scheme = detect_scheme(_file_tags(path, layout))
    report.schemes[scheme] += 1
    document: list[Sentence] = []
    for lines in chain(read_sentence_lines(path), [DOCUMENT_END]):
        if lines == DOCUMENT_END:
            if document:
                report.documents += 1
                yield document
            document = []
            continue
        token_lines = lines[count_comments(lines, layout) :]
        report.comments += len(lines) - len(token_lines)
        if not token_lines:
            continue
        with skipped_if_bad(report, on_error):
            sentence, repairs = _parse_sentence(path, token_lines, layout, scheme)
            report.add_sentence(sentence)
            report.add_repairs(path, repairs)
            document.append(sentence)


def _file_tags(path: Path, layout: Layout) -> Iterator[list[Tag]]:
    """Yield the tags of each sentence; a line that cannot be read counts as not annotated."""
    for lines in read_sentence_lines(path):
        yield [readable_tag(line, layout) or MISSING for line in lines]


def _parse_sentence(path: Path, lines: Sequence[Line], layout: Layout, scheme: Scheme) -> tuple[Sentence, list[Repair]]:
    raise_faults(path, lines)
    rows = [_checked_row(path, line, layout) for line in lines]
    decoded = decode([tag for _, tag in rows], scheme)
    words = [word for word, _ in rows]
    sentence = Sentence(words, spans=decoded.spans, missing=decoded.missing)
    return sentence, [(lines[i].number, kind) for i, kind in decoded.repairs]


def _checked_row(path: Path, line: Line, layout: Layout) -> tuple[str, Tag]:
    """Return token and tag of a line."""
    cells = split_columns(line.text)
    if len(cells) != layout.width:
        reason = f"{len(cells)} columns where most lines of the file have {layout.width}"
        remedy = "complete the line, or put a blank line between sentences"
        raise FormatError(path, line.number, line.text, reason, remedy)
    if not cells[0]:
        reason = "the token is empty"
        raise FormatError(path, line.number, line.text, reason, "put the token in column 0")
    tag = parse_tag(cells[layout.tag])
    if tag is None:
        reason = f"{cells[layout.tag]!r} in column {layout.tag} is not an entity tag"
        raise FormatError(path, line.number, line.text, reason, tag_remedy())
    return cells[0], tag
