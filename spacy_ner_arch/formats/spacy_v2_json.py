"""The format `spacy-v2-json`: the JSON training format of spaCy 2."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, StrictInt, StrictStr

from .conllu import find_tree_fault
from .counts import Note, ReadReport
from .json_files import read_items
from .json_spans import Token
from .lines import Line
from .records import Source, Text, read_records
from .sentence import Sentence
from .source_tags import MISSING_TAG, parse_tag, tag_remedy
from .spacy_json import numbers_of_heads
from .spans import make_tagged_sentence
from .texts import EMPTY

NO_SPACES = "texts whose raw text has other tokens, so that spaces are unknown"
NO_TREE = "left out: dependency trees that are not trees"


def check_tag(tag: str) -> str:
    """Raise ValueError for a tag that is not an entity tag."""
    if parse_tag(tag or "-") is None:
        raise ValueError(f"{tag!r} is not an entity tag; {tag_remedy()}")
    return tag


class TokenOfTree(BaseModel):
    """A token of the training format; its head is relative."""

    orth: Token
    ner: Annotated[StrictStr, AfterValidator(check_tag)] | None = None
    tag: StrictStr | None = None
    dep: StrictStr | None = None
    head: StrictInt | None = None


class SentenceOfTraining(BaseModel):
    """A sentence of the training format."""

    tokens: list[TokenOfTree]


class Paragraph(BaseModel):
    """A text of the training format."""

    raw: Text | None = None
    sentences: list[SentenceOfTraining]


class TrainingRecord(Source):
    """A document of the training format of spaCy 2."""

    remedy: ClassVar = (
        'write [{"id": 0, "paragraphs": [{"raw": "Ada left", "sentences": [{"tokens": [{"orth": "Ada", "ner": "U-PER"},'
        ' {"orth": "left", "ner": "O"}]}]}]}], with tags in the scheme BILUO'
    )
    id: Any = None
    paragraphs: list[Paragraph]


def read_training_json(path: str | Path, report: ReadReport, *, on_error: str = "raise") -> Iterator[list[Sentence]]:
    """Read the JSON training format of spaCy 2. Each paragraph is a document.

    Tags that are missing or - mean that a token is not annotated. Spaces are known if the raw text has the tokens.

    Arguments, results and errors are those of all readers, see `readers.py`.
    """
    items = read_items(path, TrainingRecord.remedy)
    for line, record in read_records(items, TrainingRecord, TrainingRecord.remedy, report, on_error):
        for paragraph in record.paragraphs:
            sentences, notes = _read_paragraph(line, paragraph)
            for note in notes if sentences else [Note(line, EMPTY)]:
                report.note(note)
            if sentences:
                for sentence in sentences:
                    sentence.document = line.place
                    report.add(sentence)
                report.documents += 1
                yield sentences


def _read_paragraph(line: Line, paragraph: Paragraph) -> tuple[list[Sentence], list[Note]]:
    words = [token.orth for sentence in paragraph.sentences for token in sentence.tokens]
    spaces = None if paragraph.raw is None else _find_spaces(paragraph.raw, words)
    notes = [Note(line, NO_SPACES)] if spaces is None and paragraph.raw is not None else []
    found = []
    first = 0
    for tokens in (part.tokens for part in paragraph.sentences if part.tokens):
        tags = [parse_tag(token.ner or "-") or MISSING_TAG for token in tokens]
        sentence, more_notes = make_tagged_sentence([line] * len(tags), [token.orth for token in tokens], tags, "BILUO")
        notes += more_notes
        if all(token.dep and token.head is not None for token in tokens):
            heads = [i + (token.head or 0) for i, token in enumerate(tokens)]
            if find_tree_fault(numbers_of_heads(heads)) is None:
                sentence.heads = heads
                sentence.deps = [token.dep or "" for token in tokens]
            else:
                notes.append(Note(line, NO_TREE))
        if any(token.tag for token in tokens):
            sentence.tags = [token.tag or "" for token in tokens]
        sentence.spaces = None if spaces is None else spaces[first : first + len(tokens)]
        first += len(tokens)
        found.append(sentence)
    return found, notes


def _find_spaces(raw: str, words: Sequence[str]) -> list[bool] | None:
    """Whether a space follows each word; None if the text has other words."""
    spaces = []
    place = 0
    for word in words:
        if not raw.startswith(word, place):
            return None
        place += len(word)
        spaces.append(raw.startswith(" ", place))
        place += spaces[-1]
    return spaces if place == len(raw) else None
