"""CoNLL-U with entities: trees and tags in the ten columns, the entity tag in MISC."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from spacy.parts_of_speech import IDS as UPOS_IDS

from spacy_ner_arch.formats.conllu_rows import (
    DEPREL,
    FORM,
    HEAD,
    LEMMA,
    MISC,
    NUMBER,
    UPOS,
    XPOS,
    Row,
    read_rows,
    read_spaces,
    row_error,
)
from spacy_ner_arch.formats.lines import Line, raise_faults, read_blocks
from spacy_ner_arch.formats.report import Repair, Report, check_on_error, skipped_if_bad
from spacy_ner_arch.formats.sentence import Sentence
from spacy_ner_arch.formats.tags import OUTSIDE, Tag, decode, parse_tag, tag_remedy
from spacy_ner_arch.formats.tree import find_tree_fault

ABSENT = "_"
IOB2_PREFIXES = "BI"

NEW_DOCUMENT = re.compile(r"#\s*newdoc(\s|$)")

RESPELLED = "multi-word range that its words do not spell, written with spaces between them"


def read_conllu(
    path: str | Path, report: Report, *, misc_key: str = "NE", on_error: str = "raise"
) -> Iterator[list[Sentence]]:
    """Read a CoNLL-U file with entities: IOB2 tags under a key of MISC, as in `NE=B-PER`.

    A word without the key is outside of entities; the value "-" means that it is not annotated.
    A tag I- that starts an entity is counted as a repair.

    Tokens are the syntactic words. Empty nodes (8.1) are left out. A multi-word range (3-4) is
    no token but tells the spacing of its words: they stand together if they spell the range
    ("do" "n't"), else with spaces between them ("de" "el" for "del", counted as a repair for the
    text differs from the source), and SpaceAfter of the range counts after the last of them.

    Forms, lemmas, UPOS, XPOS, heads and relations are kept; a layer that is "_" throughout a
    sentence is taken as not there. Heads must make a tree with one root.

    A comment "# newdoc" starts a document; a file without it is one document.

    path: the file, UTF-8.
    report: what is read is counted here.
    misc_key: the key of the entity tags.
    on_error: "raise" an error for a malformed line, or "skip" its sentence and count it.
    Yields the sentences of one document after the other; no document is empty.
    Raises FormatError for a malformed line, ValueError if `on_error` is neither of the two.
    """
    check_on_error(on_error)
    return _read_documents(Path(path), report, misc_key, on_error)


def _read_documents(path: Path, report: Report, misc_key: str, on_error: str) -> Iterator[list[Sentence]]:
    report.schemes["IOB2"] += 1
    document: list[Sentence] = []
    for block in read_blocks(path):
        if document and any(NEW_DOCUMENT.match(line.text) for line in block):
            report.documents += 1
            yield document
            document = []
        lines = [line for line in block if not line.text.startswith("#")]
        if not lines:
            continue
        with skipped_if_bad(report, on_error):
            raise_faults(path, block)
            sentence, repairs = _parse_sentence(path, lines, misc_key)
            report.add_sentence(sentence)
            report.add_repairs(path, repairs)
            document.append(sentence)
    if document:
        report.documents += 1
        yield document


def _parse_sentence(path: Path, lines: Sequence[Line], misc_key: str) -> tuple[Sentence, list[Repair]]:
    words, ranges = read_rows(path, lines)
    spaces, respelled = read_spaces(words, ranges)
    decoded = decode([_tag(path, word, misc_key) for word in words], "IOB2")
    heads = _heads(path, words)
    sentence = Sentence(
        words=[word.cells[FORM] for word in words],
        spaces=spaces,
        spans=decoded.spans,
        missing=decoded.missing,
        heads=heads,
        deps=None if heads is None else [_relation(path, word) for word in words],
        pos=_layer([_upos(path, word) for word in words]),
        tags=_layer([_value(word.cells[XPOS]) for word in words]),
        lemmas=_layer([_lemma(word) for word in words]),
    )
    repairs = [(words[i].line.number, kind) for i, kind in decoded.repairs]
    return sentence, repairs + [(row.line.number, RESPELLED) for row in respelled]


def _tag(path: Path, word: Row, misc_key: str) -> Tag:
    entries = (entry.partition("=") for entry in word.cells[MISC].split("|"))
    value = {key: value for key, _, value in entries}.get(misc_key)
    tag = OUTSIDE if value is None else parse_tag(value, IOB2_PREFIXES)
    if tag is None:
        reason = f"{value!r} under {misc_key} in MISC is not an entity tag"
        raise row_error(path, word, reason, tag_remedy(IOB2_PREFIXES))
    return tag


def _heads(path: Path, words: Sequence[Row]) -> list[int] | None:
    """Return the heads as indices, the root pointing to itself; None without heads."""
    cells = [word.cells[HEAD] for word in words]
    if all(cell == ABSENT for cell in cells):
        return None
    for word, cell in zip(words, cells, strict=True):
        if not NUMBER.fullmatch(cell):
            reason = f"the head {cell!r} is not a number"
            raise row_error(path, word, reason, "give every word of a sentence a head, or none")
    numbers = [int(cell) for cell in cells]
    if fault := find_tree_fault(numbers):
        index, reason = fault
        raise row_error(path, words[index], reason, "correct the heads, or skip such sentences")
    return [number - 1 if number else i for i, number in enumerate(numbers)]


def _relation(path: Path, word: Row) -> str:
    relation = word.cells[DEPREL]
    if relation == ABSENT:
        reason = "a word with a head has no relation"
        raise row_error(path, word, reason, "give every word with a head a DEPREL")
    return relation


def _upos(path: Path, word: Row) -> str:
    upos = _value(word.cells[UPOS])
    if upos not in UPOS_IDS:
        reason = f"{upos!r} is not a universal part of speech"
        raise row_error(path, word, reason, "put language-specific tags in XPOS, _ in UPOS")
    return upos


def _lemma(word: Row) -> str:
    # By the definition of CoNLL-U, "_" as form and lemma is the character itself.
    is_character = word.cells[FORM] == ABSENT
    return word.cells[LEMMA] if is_character else _value(word.cells[LEMMA])


def _value(cell: str) -> str:
    return "" if cell == ABSENT else cell


def _layer(values: list[str]) -> list[str] | None:
    return values if any(values) else None
