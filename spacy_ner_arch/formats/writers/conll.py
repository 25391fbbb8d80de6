"""Write columns with tokens and IOB2 tags."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from spacy.tokens import Doc, Span

from ..conll import DOCUMENT_MARK
from ..files import write_text
from .content import Content, Labels

CROSSING = "lost: entities that cross a sentence boundary, which are split there"
UNREADABLE = (
    "left out: tokens that a column cannot hold (tab, line end, blank at an end, byte order mark at the start, "
    f"{DOCUMENT_MARK})"
)
NO_TOKEN = "lost: entities of tokens that are left out"
UNREADABLE_LABEL = (
    "lost: entities whose label a column cannot hold (tab, line end, white space at an end); their tokens become "
    "tokens without annotation"
)
BYTE_ORDER_MARK = "\ufeff"


def write_conll(path: Path, contents: Sequence[Content], _labels: Labels) -> None:
    """Write tokens with IOB2 tags: tabs between columns, an empty line after each sentence."""
    write_text(path, chain.from_iterable(_make_lines(content) for content in contents))


def find_conll_losses(content: Content) -> Iterator[tuple[str, str]]:
    """Yield the losses of columns besides layers: the kind of loss, and the entity or token."""
    starts = _sentence_starts(content.doc)
    for ent in content.entities:
        if starts.intersection(range(ent.start + 1, ent.end)):
            yield CROSSING, f"{ent.text!r} {ent.label_}"
        if not _has_readable_label(ent):
            yield UNREADABLE_LABEL, f"{ent.text!r} {ent.label_!r}"
        elif not any(is_readable(token.text) for token in ent):
            yield NO_TOKEN, f"{ent.text!r} {ent.label_}"
    yield from ((UNREADABLE, repr(token.text)) for token in content.doc if not is_readable(token.text))


def _make_lines(content: Content) -> Iterator[str]:
    doc = content.doc
    starts = _sentence_starts(doc)
    tags = ["O" if token.ent_iob else "-" for token in doc]
    for ent in content.entities:
        readable = _has_readable_label(ent)
        prefix = "B"
        for token in ent:
            if token.i in starts:
                prefix = "B"
            tags[token.i] = f"{prefix}-{ent.label_}" if readable else "-"
            # The first token that is written begins the entity.
            if is_readable(token.text):
                prefix = "I"
    yield f"{DOCUMENT_MARK}\tO\n\n"
    for token, tag in zip(doc, tags, strict=True):
        if token.i in starts and token.i:
            yield "\n"
        if is_readable(token.text):
            yield f"{token.text}\t{tag}\n"
    yield "\n"


def _sentence_starts(doc: Doc) -> set[int]:
    return {sent.start for sent in doc.sents} if doc.has_annotation("SENT_START") else {0}


def _has_readable_label(ent: Span) -> bool:
    return is_readable(f"B-{ent.label_}") and ent.label_ == ent.label_.strip()


def is_readable(cell: str) -> bool:
    """Whether a token or a tag can be read back unchanged from its column."""
    special = any(character in cell for character in "\t\r\n") or cell.startswith((BYTE_ORDER_MARK, DOCUMENT_MARK))
    return bool(cell) and not special and cell == (cell.strip(" ") or " ")
