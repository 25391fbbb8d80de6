"""The format `spacy-json`: Docs as `Doc.to_json` writes them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    StrictBool,
    StrictInt,
    StrictStr,
    model_validator,
)

from ..annotation.tags import LabelledSpan
from .conllu import UPOS_IDS, find_tree_fault
from .counts import Note, ReadReport
from .json_files import read_items
from .records import Label, Source, Text, read_records
from .sentence import SPANS_KEY, LabelledPair, Sentence
from .texts import EMPTY

LAYERS = {"dep": "deps", "pos": "pos", "tag": "tags", "lemma": "lemmas"}
OTHER_GROUPS = f"left out: groups of spans other than {SPANS_KEY!r}"
NO_LABEL = "left out: spans without a label"
MORPH = "left out: morphological features"


def check_pos(pos: str) -> str:
    """Raise ValueError for a part of speech that is not universal."""
    if pos not in UPOS_IDS:
        raise ValueError(f"{pos!r} is not a universal part of speech")
    return pos


class Bounds(BaseModel):
    """Start and exclusive end in characters."""

    start: StrictInt
    end: StrictInt


class LabelledBounds(Bounds):
    """A span in characters. The arguments of relations need no label."""

    label: Text


class TokenOfDoc(Bounds):
    """A token; its head is the position of another token."""

    head: StrictInt | None = None
    dep: StrictStr | None = None
    pos: Annotated[StrictStr, AfterValidator(check_pos)] | None = None
    tag: StrictStr | None = None
    morph: StrictStr | None = None
    lemma: StrictStr | None = None


class RelationOfDoc(BaseModel):
    """A relation as `doc._.relations_json` has it."""

    head: LabelledBounds
    tail: LabelledBounds
    label: Label


class Extensions(BaseModel):
    """Attributes of spaCy's extensions."""

    relations_json: list[RelationOfDoc] | None = None


class Groups(BaseModel):
    """Groups of spans by their keys. Only SPANS_KEY is read."""

    model_config = ConfigDict(extra="allow")
    sc: list[LabelledBounds] | None = None


class DocRecord(Source):
    """A document of spaCy. Validation sets the sentence of a document with tokens."""

    remedy: ClassVar = (
        'write doc.to_json(underscore=["relations_json"]) of each document; for texts without "tokens", use the format '
        "offsets"
    )
    text: Text
    tokens: list[TokenOfDoc]
    ents: list[LabelledBounds] = []
    spans: Groups = Groups()
    sents: list[Bounds] | None = None
    unannotated: list[Bounds] = []
    has_unknown_spaces: StrictBool = False
    extensions: Extensions = Field(Extensions(), validation_alias="_")
    _sentence: Sentence = PrivateAttr()

    @model_validator(mode="after")
    def check_sentence(self) -> "DocRecord":
        """Check that all parts fit together."""
        if self.tokens:
            self._sentence = self.convert()
        elif self.text:
            raise ValueError("the text has no tokens; the format offsets makes them")
        return self

    def convert(self) -> Sentence:
        """The annotation, without its line. Raises ValueError for bounds that do not match tokens."""
        ends = [token.end for token in self.tokens]
        for (start, end), token in zip(pairwise([0, *ends]), self.tokens, strict=True):
            gap = self.text[start : token.start]
            if not start <= token.start < end <= len(self.text) or gap not in ("", " "):
                raise ValueError(f"the token {token.start}-{token.end} is not beside the token before it")
        if self.text[ends[-1] :] not in ("", " "):
            raise ValueError(f"the last token ends at {ends[-1]}, the text at {len(self.text)}")
        nexts = [*(token.start for token in self.tokens[1:]), len(self.text)]
        first = {token.start: i for i, token in enumerate(self.tokens)}
        last = {token.end: i + 1 for i, token in enumerate(self.tokens)}

        def place(bounds: Bounds) -> tuple[int, int]:
            if bounds.start not in first or bounds.end not in last or bounds.start >= bounds.end:
                raise ValueError(f"the span {bounds.start}-{bounds.end} does not begin and end with a token")
            return first[bounds.start], last[bounds.end]

        def labelled(bounds: LabelledBounds) -> LabelledSpan:
            return (*place(bounds), bounds.label)

        spans = sorted(labelled(ent) for ent in self.ents if ent.label.strip())
        for (_, end, _), (start, _, _) in pairwise(spans):
            if start < end:
                raise ValueError("two entities overlap; overlapping spans belong to spans")
        group = None if self.spans.sc is None else [labelled(span) for span in self.spans.sc if span.label.strip()]
        relations: list[LabelledPair] | None = None
        if self.extensions.relations_json is not None:
            relations = [(labelled(r.head), labelled(r.tail), r.label) for r in self.extensions.relations_json]
        inside = {i for start, end, _ in spans for i in range(start, end)}
        missing = {i for bounds in self.unannotated for i in range(*place(bounds))} - inside
        starts = None if self.sents is None else sorted({place(bounds)[0] for bounds in self.sents} | {0})
        layers: dict[str, Any] = {
            name: [getattr(token, key) for token in self.tokens]
            for key, name in LAYERS.items()
            if all(getattr(token, key) is not None for token in self.tokens)
        }
        layers["heads"] = _find_heads(self.tokens, starts or [0]) if "deps" in layers else None
        return Sentence(
            [self.text[token.start : token.end] for token in self.tokens],
            None if self.has_unknown_spaces else [end < start for end, start in zip(ends, nexts, strict=True)],
            spans,
            sorted(missing),
            nested=None if group is None else list(dict.fromkeys(group)),
            relations=None if relations is None else list(dict.fromkeys(relations)),
            starts=starts,
            **layers,
        )


def _find_heads(tokens: Sequence[TokenOfDoc], starts: Sequence[int]) -> list[int]:
    """Heads of the tokens. Raises ValueError if those of a sentence are not a tree."""
    heads = [-1 if token.head is None else token.head for token in tokens]
    for start, end in pairwise([*starts, len(tokens)]):
        fault = find_tree_fault(numbers_of_heads([head - start for head in heads[start:end]]))
        if fault is not None:
            raise ValueError(f"the tokens {start} to {end - 1}: {fault[1]}")
    return heads


def numbers_of_heads(heads: Sequence[int]) -> list[int]:
    """Count heads from 1, with 0 for the root and -1 for a head before the sentence."""
    return [0 if head == i else max(head + 1, 0) or -1 for i, head in enumerate(heads)]


def read_spacy_json(path: str | Path, report: ReadReport, *, on_error: str = "raise") -> Iterator[list[Sentence]]:
    """Read documents as `Doc.to_json` writes them: a JSON list, or one document on each line.

    Tokens, spaces, entities, the spans of `doc.spans["sc"]`, sentences, trees, tags and lemmas are kept, and relations
    if underscore=["relations_json"] was given. `ner-arch export-data` adds "unannotated", parts of the text, in
    characters, that have no entity annotation, and "has_unknown_spaces". Other groups of spans and other keys are
    counted.

    Arguments, results and errors are those of all readers, see `readers.py`.
    """
    items = read_items(path, DocRecord.remedy)
    for line, record in read_records(items, DocRecord, DocRecord.remedy, report, on_error):
        if not record.tokens:
            report.note(Note(line, EMPTY))
            continue
        sentence = replace(record._sentence, line=line)
        notes = [Note(line, OTHER_GROUPS, name) for name in record.spans.model_extra or ()]
        if any(token.morph for token in record.tokens):
            notes.append(Note(line, MORPH))
        without_label = [span for span in (*record.ents, *(record.spans.sc or ())) if not span.label.strip()]
        notes += [Note(line, NO_LABEL, repr(record.text[span.start : span.end])) for span in without_label]
        report.documents += 1
        report.add(sentence, notes)
        yield [sentence]
