"""Format `semeval`: the files of SemEval-2010 task 8, texts with two marked nominals and the relation between them."""

import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import accumulate, pairwise
from pathlib import Path

from spacy.lang.en import English
from spacy.tokens import Doc

from ..annotation.tags import LabelledSpan
from .counts import Note, ReadReport
from .lines import BLANKS, Line, read_blocks
from .sentence import LabelledPair, Sentence

NOMINAL = "NOMINAL"
NO_RELATION = "Other"
TOKEN_SPLIT = "repaired: token split at the border of a nominal"

TEXT = re.compile(r'\d+\t"(.*)"')
MARK = re.compile(r"</?e[12]>")
MARKS = ["<e1>", "</e1>", "<e2>", "</e2>"]
RELATION = re.compile(r"(?P<label>[^()\s]+)\((?P<head>e[12]),(?P<tail>e[12])\)")

TEXT_REMEDY = (
    'write the number, a tab and 1 "The <e1>lid</e1> of the <e2>jar</e2>." in quotes, each nominal marked once'
)
RELATION_REMEDY = (
    f"write Component-Whole(e1,e2) with the head first, or {NO_RELATION}, on the line below the text; "
    "for the test part, use the file with the relations, TEST_FILE_FULL.TXT"
)
COMMENT_REMEDY = "below the relation put one line that starts with Comment:, then a blank line"


def read_semeval(path: str | Path, report: ReadReport, *, on_error: str = "raise") -> Iterator[list[Sentence]]:
    """Read texts such as 1<tab>"The <e1>lid</e1> of the <e2>jar</e2>." with their relations.

    The line below a text is its relation, such as Component-Whole(e1,e2), or Other. A comment line and a blank line
    follow. The nominals become entities with the label NOMINAL. The relation has the nominal named first as its head;
    Other becomes an empty list of relations. Each text is a document of one sentence.

    The tokens are those of spaCy's English tokenizer without white space. A token that crosses the border of a nominal
    is split there and counted as a repair. Spaces are set to unknown, so that spaCy trains on these tokens; tokenizing
    again would lose nominals that are parts of tokens.

    Arguments, results and errors are those of all readers, see `readers.py`.
    """
    tokenizer = _english_tokenizer()
    for lines in read_blocks(path):
        with report.skipping(on_error):
            sentence, notes = _parse(lines, tokenizer)
            report.documents += 1
            report.add(sentence, notes)
            yield [sentence]


@cache
def _english_tokenizer() -> Callable[[str], Doc]:
    return English().tokenizer


def _parse(lines: list[Line], tokenizer: Callable[[str], Doc]) -> tuple[Sentence, list[Note]]:
    for line in lines:
        line.check()
    text, nominals = _parse_text(lines[0])
    borders = {border for bounds in nominals.values() for border in bounds}
    words, starts, n_splits = _split(tokenizer(text), borders)
    spans: dict[str, LabelledSpan] = {}
    for name, (start, end) in nominals.items():
        inside = [i for i, word_start in enumerate(starts) if start <= word_start < end]
        if not inside:
            raise lines[0].error(f"the nominal {name} has no word", TEXT_REMEDY)
        spans[name] = (inside[0], inside[-1] + 1, NOMINAL)
    relations = _parse_relation(lines, spans)
    sentence = Sentence(words, spans=sorted(spans.values()), relations=relations, line=lines[0])
    return sentence, [Note(lines[0], TOKEN_SPLIT)] * n_splits


def _parse_text(line: Line) -> tuple[str, dict[str, tuple[int, int]]]:
    """Return the text without marks, and the bounds of each nominal in it, in characters."""
    match = TEXT.fullmatch(line.text.strip(BLANKS))
    if match is None:
        raise line.error("no number, tab and text in quotes", TEXT_REMEDY)
    marks = MARK.findall(match[1])
    if marks not in (MARKS, MARKS[2:] + MARKS[:2]):
        reason = f"the marks are {' '.join(marks) or 'missing'}, but {' '.join(MARKS)} are expected"
        raise line.error(reason, TEXT_REMEDY)
    pieces = MARK.split(match[1])
    places = list(accumulate(map(len, pieces)))
    return "".join(pieces), {marks[i][1:3]: (places[i], places[i + 1]) for i in (0, 2)}


def _split(doc: Doc, borders: set[int]) -> tuple[list[str], list[int], int]:
    """Split the tokens at the borders, without white space.

    Returns the words, their starts in characters, and the number of tokens that were split.
    """
    words: list[str] = []
    starts: list[int] = []
    n_splits, text = 0, doc.text
    for token in doc:
        if not token.is_space:
            end = token.idx + len(token)
            cuts = [token.idx, *sorted(border for border in borders if token.idx < border < end), end]
            n_splits += len(cuts) > 2
            words += [text[start:stop] for start, stop in pairwise(cuts)]
            starts += cuts[:-1]
    return words, starts, n_splits


def _parse_relation(lines: list[Line], spans: dict[str, LabelledSpan]) -> list[LabelledPair]:
    if len(lines) < 2:
        raise lines[0].error("no relation on the line below", RELATION_REMEDY)
    for i, line in enumerate(lines[2:]):
        if i > 0 or not line.text.startswith("Comment"):
            raise line.error("neither a comment nor a blank line", COMMENT_REMEDY)
    name = lines[1].text.strip(BLANKS)
    if name == NO_RELATION:
        return []
    match = RELATION.fullmatch(name)
    if match is None or match["head"] == match["tail"]:
        raise lines[1].error(f"{name!r} is not a relation of e1 and e2", RELATION_REMEDY)
    return [(spans[match["head"]], spans[match["tail"]], match["label"])]
