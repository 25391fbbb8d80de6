"""Sentences of tagged tokens from rows of tables."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .counts import ReadReport
from .lines import Line
from .sentence import Sentence
from .source_tags import Tag, detect_scheme, parse_tag, tag_remedy
from .spans import make_tagged_sentence


class TaggedTokens(NamedTuple):
    """A sentence: its words and tags, and the line of each word."""

    lines: Sequence[Line]
    words: Sequence[str]
    tags: Sequence[Tag]


def tagged_sentences(found: Sequence[TaggedTokens], report: ReadReport) -> Iterator[list[Sentence]]:
    """Decode the tags of a file in the scheme of most tags. Each sentence is a document."""
    scheme = detect_scheme(sentence.tags for sentence in found)
    report.schemes[scheme] += 1
    for lines, words, tags in found:
        sentence, notes = make_tagged_sentence(lines, words, tags, scheme)
        report.documents += 1
        report.add(sentence, notes)
        yield [sentence]


def read_tag(tag: str, line: Line) -> Tag:
    """Parse a tag. Raises FormatError if it is not an entity tag."""
    parsed = parse_tag(tag)
    if parsed is None:
        raise line.error(f"{tag!r} is not an entity tag", tag_remedy())
    return parsed
