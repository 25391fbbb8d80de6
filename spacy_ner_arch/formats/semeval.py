"""Texts in which two nominals are marked, and the relation between them: the files of SemEval-2010 task 8."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from spacy.lang.en import English
from spacy.tokens import Doc

from spacy_ner_arch.formats.lines import BLANKS, Line, raise_faults, read_blocks
from spacy_ner_arch.formats.report import FormatError, Repair, Report, check_on_error, skipped_if_bad
from spacy_ner_arch.formats.sentence import LabelledPair, LabelledSpan, Sentence

NOMINAL = "NOMINAL"
NO_RELATION = "Other"
TOKEN_SPLIT = "token split at the border of a nominal"

TEXT = re.compile(r'\d+\t"(.*)"')
MARK = re.compile(r"</?e[12]>")
MARKS = ["<e1>", "</e1>", "<e2>", "</e2>"]
RELATION = re.compile(r"(?P<label>[^()\s]+)\((?P<head>e[12]),(?P<tail>e[12])\)")

TEXT_REMEDY = (
    'write the number, a tab and 1 "The <e1>lid</e1> of the <e2>jar</e2>." in quotes, each nominal marked once'
)
RELATION_REMEDY = (
    f"write Component-Whole(e1,e2) with the head first, or {NO_RELATION}, on the line below the text; "
    "of the test part take the file with the key, TEST_FILE_FULL.TXT"
)


def read_semeval(path: str | Path, report: Report, *, on_error: str = "raise") -> Iterator[list[Sentence]]:
    """Read texts such as 1<tab>"The <e1>lid</e1> of the <e2>jar</e2>." with their relations.

    Below a text stands its relation, such as Component-Whole(e1,e2), or Other, then a comment, then a blank line. The
    nominals become entities with the label NOMINAL, the relation one whose head is named first; Other becomes an empty
    list of relations: annotated, none. Each text is a document of one sentence.

    The words are those of spaCy's English tokenizer, without white space. A word that goes on across the border of a
    nominal is split there and counted as a repair. Spaces are left unknown, although the text tells them, so that spaCy
    trains on these words: tokenised anew, a nominal that is part of a word would be lost.

    path: the file, UTF-8.
    report: what is read is counted here.
    on_error: "raise" an error for a malformed text, or "skip" it and count it.
    Yields one list of one sentence for each text.
    Raises FormatError for a line that is not what is due there, or marks that are missing or overlap; ValueError if
    `on_error` is neither of the two.
    """
    check_on_error(on_error)
    return _read(Path(path), report, English().tokenizer, on_error)


def _read(path: Path, report: Report, tokenizer: Callable[[str], Doc], on_error: str) -> Iterator[list[Sentence]]:
    for lines in read_blocks(path):
        with skipped_if_bad(report, on_error):
            sentence, repairs = _parse(path, lines, tokenizer)
            report.documents += 1
            report.add_sentence(sentence)
            report.add_repairs(path, repairs)
            yield [sentence]


def _parse(path: Path, lines: list[Line], tokenizer: Callable[[str], Doc]) -> tuple[Sentence, list[Repair]]:
    raise_faults(path, lines)
    text, nominals = _parse_text(path, lines[0])
    borders = {border for bounds in nominals.values() for border in bounds}
    words, starts, n_splits = _split(tokenizer(text), borders)
    spans: dict[str, LabelledSpan] = {}
    for name, (start, end) in nominals.items():
        inside = [i for i, word_start in enumerate(starts) if start <= word_start < end]
        if not inside:
            raise FormatError(path, lines[0].number, lines[0].text, f"the nominal {name} has no word", TEXT_REMEDY)
        spans[name] = (inside[0], inside[-1] + 1, NOMINAL)
    relations = _parse_relation(path, lines, spans)
    sentence = Sentence(words, spans=sorted(spans.values()), relations=relations)
    return sentence, [(lines[0].number, TOKEN_SPLIT)] * n_splits


def _parse_text(path: Path, line: Line) -> tuple[str, dict[str, tuple[int, int]]]:
    """Return the text without marks, and for each nominal where it starts and ends in it."""
    match = TEXT.fullmatch(line.text.strip(BLANKS))
    if match is None:
        raise FormatError(path, line.number, line.text, "no number, tab and text in quotes", TEXT_REMEDY)
    marked = match[1]
    marks = MARK.findall(marked)
    if marks not in (MARKS, MARKS[2:] + MARKS[:2]):
        reason = f"the marks are {' '.join(marks) or 'missing'} where {' '.join(MARKS)} are due"
        raise FormatError(path, line.number, line.text, reason, TEXT_REMEDY)
    places: list[int] = []
    text = ""
    for piece in MARK.split(marked):
        text += piece
        places.append(len(text))
    return text, {marks[i][1:3]: (places[i], places[i + 1]) for i in (0, 2)}


def _split(doc: Doc, borders: set[int]) -> tuple[list[str], list[int], int]:
    """Return the words of a Doc without white space and split at borders, where they start, and how many were split."""
    words: list[str] = []
    starts: list[int] = []
    n_splits = 0
    for token in doc:
        if token.is_space:
            continue
        end = token.idx + len(token)
        cuts = [token.idx, *sorted(border for border in borders if token.idx < border < end), end]
        n_splits += len(cuts) > 2
        for start, stop in zip(cuts, cuts[1:], strict=False):
            words.append(doc.text[start:stop])
            starts.append(start)
    return words, starts, n_splits


def _parse_relation(path: Path, lines: list[Line], spans: dict[str, LabelledSpan]) -> list[LabelledPair]:
    if len(lines) < 2:
        raise FormatError(path, lines[0].number, lines[0].text, "no relation on the line below", RELATION_REMEDY)
    for line in lines[2:]:
        if line is not lines[2] or not line.text.startswith("Comment"):
            remedy = "below the relation put one line that starts with Comment:, then a blank line"
            raise FormatError(path, line.number, line.text, "neither a comment nor a blank line", remedy)
    line = lines[1]
    name = line.text.strip(BLANKS)
    if name == NO_RELATION:
        return []
    match = RELATION.fullmatch(name)
    if match is None or match["head"] == match["tail"]:
        raise FormatError(path, line.number, line.text, f"{name!r} is no relation of e1 and e2", RELATION_REMEDY)
    return [(spans[match["head"]], spans[match["tail"]], match["label"])]
