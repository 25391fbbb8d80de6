"""Format `conllu`: CoNLL-U with trees, parts of speech and lemmas, and entity tags in the column MISC.

The package conllu is not used: it has no line numbers, accepts lines with missing columns and splits forms at two
spaces.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from spacy.parts_of_speech import IDS as UPOS_IDS

from .counts import Note, ReadReport
from .lines import BLANKS, Line, read_blocks
from .sentence import Sentence
from .source_tags import OUTSIDE_TAG, Tag, parse_tag, tag_remedy
from .spans import make_tagged_sentence

WIDTH = 10
ID, FORM, LEMMA, UPOS, XPOS, HEAD, DEPREL, MISC = 0, 1, 2, 3, 4, 6, 7, 9
ABSENT = "_"
IOB2_PREFIXES = "BI"

NUMBER = re.compile(r"[0-9]{1,9}")
RANGE_ID = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")
EMPTY_NODE_ID = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}")
NEW_DOCUMENT = re.compile(r"#\s*newdoc(\s|$)")

EMPTY_NODE = "left out: empty node"
EMPTY_NODE_TAG = "left out: entity tag of an empty node"
RANGE_TAG = "repaired: entity tag of a multi-word range, given to its words"
RANGE_TAG_LEFT_OUT = "left out: entity tag of a multi-word range whose words have other tags"
RESPELLED = "repaired: multi-word range that its words do not spell, written with spaces between them"


class WordLine(NamedTuple):
    """A line, split into its ten columns."""

    line: Line
    cells: list[str]

    def value(self, column: int) -> str:
        """The value of a column, "" for "_"."""
        return "" if self.cells[column] == ABSENT else self.cells[column]

    def misc(self, key: str) -> str | None:
        """The value of a key of MISC, or None. Raise FormatError if the key has several values."""
        items = (item.partition("=") for item in self.cells[MISC].split("|"))
        values = {value for name, _, value in items if name == key}
        if len(values) > 1:
            raise self.line.error(f"{key} has several values in MISC: {', '.join(sorted(values))}", "keep one of them")
        return values.pop() if values else None

    @property
    def space_after(self) -> bool:
        """Whether a space follows."""
        return "SpaceAfter=No" not in self.cells[MISC].split("|")


class Range(NamedTuple):
    """A multi-word range: its row, and the start and exclusive end of its words."""

    row: WordLine
    start: int
    end: int


def read_conllu(
    path: str | Path, report: ReadReport, *, misc_key: str = "NE", on_error: str = "raise"
) -> Iterator[list[Sentence]]:
    """Read a CoNLL-U file with IOB2 entity tags under a key of MISC, such as `NE=B-PER`.

    A word without the key is outside of entities. The value "-" means that it is not annotated. An I- tag that starts
    an entity is counted as a repair.

    The tokens are the syntactic words. Empty nodes (8.1) and their entity tags are left out and counted. A multi-word
    range (3-4) is not a token. It gives the spaces of its words: none between them if they spell the range ("do"
    "n't"), otherwise one ("de" "el" for "del"). The latter is counted, because the text differs from the source.
    SpaceAfter of the range applies to its last word. An entity tag of a range is that of its words, unless one of them
    has a tag; both cases are counted.

    A layer that is "_" in a whole sentence is not set. Heads must form a tree with one root.
    A comment "# newdoc" starts a document. A file without it is one document.

    misc_key: key of the entity tags.
    The other arguments, results and errors are those of all readers, see `readers.py`.
    """
    report.schemes["IOB2"] += 1
    document: list[Sentence] = []
    for block in read_blocks(path):
        if document and any(NEW_DOCUMENT.match(line.text) for line in block):
            report.documents += 1
            yield document
            document = []
        lines = [line for line in block if not line.text.startswith("#")]
        if lines or any(line.fault for line in block):
            with report.skipping(on_error):
                for line in block:
                    line.check()
                sentence, notes = _parse_sentence(lines, misc_key)
                report.add(sentence, notes)
                document.append(sentence)
    if document:
        report.documents += 1
        yield document


def _parse_sentence(lines: Sequence[Line], misc_key: str) -> tuple[Sentence, list[Note]]:
    words, ranges, empty_nodes = _read_rows(lines)
    spaces, respelled = _read_spaces(words, ranges)
    tags, notes = _read_tags(words, ranges, misc_key)
    forms = [word.cells[FORM] for word in words]
    sentence, more_notes = make_tagged_sentence([word.line for word in words], forms, tags, "IOB2")
    heads = _read_heads(words)
    sentence = replace(
        sentence,
        spaces=spaces,
        heads=heads,
        deps=None if heads is None else [_read_relation(word) for word in words],
        pos=_layer([_read_upos(word) for word in words]),
        tags=_layer([word.value(XPOS) for word in words]),
        # In CoNLL-U, a lemma "_" of the form "_" is the character itself.
        lemmas=_layer([word.cells[LEMMA] if word.cells[FORM] == ABSENT else word.value(LEMMA) for word in words]),
        line=lines[0],
    )
    notes += more_notes
    notes += [Note(row.line, RESPELLED) for row in respelled]
    for row in empty_nodes:
        notes.append(Note(row.line, EMPTY_NODE))
        tag = row.misc(misc_key)
        if tag not in (None, "O"):
            notes.append(Note(row.line, EMPTY_NODE_TAG, f"{row.cells[FORM]} {tag}"))
    return sentence, notes


def _layer(values: list[str]) -> list[str] | None:
    return values if any(values) else None


def _read_rows(lines: Sequence[Line]) -> tuple[list[WordLine], list[Range], list[WordLine]]:
    """Split the lines of a sentence, without comments, into words, ranges and empty nodes."""
    words: list[WordLine] = []
    ranges: list[Range] = []
    empty_nodes: list[WordLine] = []
    for line in lines:
        row = WordLine(line, line.text.rstrip(BLANKS).split("\t"))
        if len(row.cells) != WIDTH:
            reason = f"{len(row.cells)} columns where CoNLL-U has {WIDTH}"
            raise row.line.error(reason, "separate ten columns by single tabs, _ for no value")
        if not all(row.cells):
            raise row.line.error("an empty column", "write _ for a column without value")
        word_id = row.cells[ID]
        if EMPTY_NODE_ID.fullmatch(word_id):
            empty_nodes.append(row)
        elif bounds := RANGE_ID.fullmatch(word_id):
            ranges.append(Range(row, int(bounds[1]) - 1, int(bounds[2])))
        elif NUMBER.fullmatch(word_id) and int(word_id) == len(words) + 1:
            words.append(row)
        else:
            reason = f"the id is {word_id!r}, but {len(words) + 1} is expected"
            raise row.line.error(reason, "number the words of a sentence 1, 2, 3 and so on")
    if not words:
        raise lines[0].error("a sentence without words", "remove it, or complete it")
    end = 0
    for row, start, stop in ranges:
        if not end <= start < stop <= len(words) or row.line.number > words[start].line.number:
            reason = f"the range {row.cells[ID]} does not match the words after it"
            raise row.line.error(reason, "put a range right before its words, and not inside another range")
        end = stop
    return words, ranges, empty_nodes


def _read_spaces(words: Sequence[WordLine], ranges: Sequence[Range]) -> tuple[list[bool], list[WordLine]]:
    """Whether a space follows each word, and the ranges that their words do not spell."""
    spaces = [word.space_after for word in words]
    respelled = []
    for row, start, end in ranges:
        is_spelled = "".join(word.cells[FORM] for word in words[start:end]) == row.cells[FORM]
        if not is_spelled:
            respelled.append(row)
        spaces[start:end] = [not is_spelled] * (end - start - 1) + [row.space_after]
    return spaces, respelled


def _read_tags(words: Sequence[WordLine], ranges: Sequence[Range], misc_key: str) -> tuple[list[Tag], list[Note]]:
    """Entity tags of the words, and notes on tags of ranges."""
    given = [_read_tag(word, misc_key) for word in words]
    tags = [tag or OUTSIDE_TAG for tag in given]
    notes = []
    for row, start, end in ranges:
        tag = _read_tag(row, misc_key)
        if tag is None:
            continue
        inside = Tag("I", tag.label) if tag.label else tag
        spread = [tag] + [inside] * (end - start - 1)
        if spread == tags[start:end]:
            continue
        free = not any(given[start:end])
        if free:
            tags[start:end] = spread
        value = f"{row.cells[FORM]} {row.misc(misc_key)}"
        notes.append(Note(row.line, RANGE_TAG if free else RANGE_TAG_LEFT_OUT, value))
    return tags, notes


def _read_tag(row: WordLine, misc_key: str) -> Tag | None:
    value = row.misc(misc_key)
    tag = None if value is None else parse_tag(value, IOB2_PREFIXES)
    if value is not None and tag is None:
        raise row.line.error(f"{value!r} under {misc_key} in MISC is not an entity tag", tag_remedy(IOB2_PREFIXES))
    return tag


def _read_upos(word: WordLine) -> str:
    upos = word.value(UPOS)
    if upos not in UPOS_IDS:
        raise word.line.error(
            f"{upos!r} is not a universal part of speech", "put language-specific tags in XPOS, and _ in UPOS"
        )
    return upos


def _read_relation(word: WordLine) -> str:
    if not word.value(DEPREL):
        raise word.line.error("a word with a head has no relation", "give every word with a head a DEPREL")
    return word.cells[DEPREL]


def _read_heads(words: Sequence[WordLine]) -> list[int] | None:
    """Indices of the heads, where the root is its own head. None if no word has a head."""
    if not any(word.value(HEAD) for word in words):
        return None
    for word in words:
        if not NUMBER.fullmatch(word.cells[HEAD]):
            reason = f"the head {word.cells[HEAD]!r} is not a number"
            raise word.line.error(reason, "give every word of a sentence a head, or none")
    numbers = [int(word.cells[HEAD]) for word in words]
    if fault := find_tree_fault(numbers):
        index, reason = fault
        raise words[index].line.error(reason, "correct the heads, or skip such sentences")
    return [number - 1 if number else i for i, number in enumerate(numbers)]


def find_tree_fault(heads: Sequence[int]) -> tuple[int, str] | None:
    """Find the reason why heads, counted from 1 with 0 for the root, are not a tree with one root.

    Returns the index of a word and the reason, or None for a tree.
    """
    for i, head in enumerate(heads):
        if not 0 <= head <= len(heads):
            return i, f"the head {head} is out of range: the sentence has {len(heads)} words"
    roots = [i for i, head in enumerate(heads) if head == 0]
    if not roots:
        return 0, "the tree has no root"
    if len(roots) > 1:
        return roots[1], f"the tree has {len(roots)} roots, the words {_numbers(roots)}"
    reaches_root: set[int] = set()
    for i in range(len(heads)):
        path, on_path = [i], {i}
        # Every head is in range, so the path ends at the root, at a word that reaches it, or in a cycle.
        while path[-1] not in reaches_root and heads[path[-1]] > 0:
            head = heads[path[-1]] - 1
            if head in on_path:
                return head, f"the tree has a cycle, the words {_numbers(sorted(path[path.index(head) :]))}"
            path.append(head)
            on_path.add(head)
        reaches_root.update(path)
    return None


def _numbers(indices: Sequence[int]) -> str:
    return ", ".join(str(i + 1) for i in indices)
