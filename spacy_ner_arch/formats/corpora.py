"""Published corpora as JSON with tokens: `gliner`, `dygie`, `docred` and `tacred`."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, product
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import BaseModel, BeforeValidator, Field, PrivateAttr, StrictInt, StrictStr, model_validator

from ..annotation.tags import LabelledSpan
from .counts import Note, ReadReport
from .json_files import read_items
from .json_spans import Token
from .records import Label, Source, Triple, check_bounds, entity_values, read_records
from .sentence import Sentence
from .spans import make_sentence, trim_spans
from .texts import EMPTY, LabelledIndices

ALL_MENTIONS = "relations of entities, read as one relation for each pair of their mentions"
NO_RELATION = "no_relation"


class TokenAnnotation(NamedTuple):
    """An annotation of a text with tokens.

    sentences: the words of each sentence.
    spans: start, exclusive end and label in tokens of the text.
    relations: [head, tail, label] with positions in the list of spans, or None if they are not annotated.
    partial: whether only the spans are annotated, and nothing is known of other tokens.
    kinds: kinds of notes on the annotation.
    has_bounds: whether the source has sentence boundaries; if not, the text is one item of `sentences`.
    document: key of the source document of which the text is a part, or None.
    """

    sentences: list[list[str]]
    spans: list[LabelledSpan]
    relations: list[LabelledIndices] | None
    partial: bool = False
    kinds: Sequence[str] = ()
    has_bounds: bool = True
    document: str | None = None

    @property
    def words(self) -> list[str]:
        return [word for sentence in self.sentences for word in sentence]


class CorpusRecord(Source):
    """A text of a corpus. Validation sets its annotation."""

    remedy: ClassVar[str]
    _annotation: TokenAnnotation = PrivateAttr()

    def convert(self) -> TokenAnnotation:
        """Convert the record. Raises ValueError if its parts do not fit together."""
        raise NotImplementedError

    @model_validator(mode="after")
    def check_annotation(self) -> "CorpusRecord":
        """Convert the record. Check the spans against the text, and the relations against the spans."""
        self._annotation = self.convert()
        check_bounds(self._annotation.spans, self._annotation.relations, len(self._annotation.words))
        return self


def read_corpus(
    record_type: type[CorpusRecord], path: str | Path, report: ReadReport, *, on_error: str = "raise"
) -> Iterator[list[Sentence]]:
    """Read a corpus: a JSON list of objects, or one object on each line.

    Each object is a document. Sentences are kept, but the document is one unit: entities and relations may cross their
    borders. Entities may overlap, see `spans.make_sentence`. Other keys are counted. Spaces are unknown: spaCy trains
    on these tokens.

    record_type: a format.
    Other arguments, results and errors are those of all readers, see `readers.py`.
    """
    items = read_items(path, record_type.remedy)
    for line, record in read_records(items, record_type, record_type.remedy, report, on_error):
        annotation = record._annotation
        words = annotation.words
        if not words:
            report.note(Note(line, EMPTY))
            continue
        spans, notes = trim_spans(line, annotation.spans, words)
        missing = range(len(words)) if annotation.partial else ()
        sentence, more_notes = make_sentence(line, words, spans, annotation.relations, missing=missing)
        lengths = [len(part) for part in annotation.sentences if part]
        report.documents += 1
        sentence.starts = list(accumulate(lengths[:-1], initial=0)) if annotation.has_bounds else None
        sentence.document = annotation.document
        report.add(sentence, [*notes, *more_notes, *(Note(line, kind) for kind in annotation.kinds)])
        yield [sentence]


Entity = Annotated[Triple, BeforeValidator(entity_values)]


class GlinerRecord(CorpusRecord):
    """A text of GLiNER's training data. The ends are inclusive."""

    remedy: ClassVar = (
        'write {"tokenized_text": ["Ada", "left", "Tarn"], "ner": [[0, 0, "PER"], [2, 2, "LOC"]]}, the ends inclusive; '
        'relations, if any, as "relations": [[0, 1, "left"]], with positions in the list ner'
    )
    tokenized_text: list[Token]
    ner: list[Entity]
    relations: list[Triple] | None = None

    def convert(self) -> TokenAnnotation:
        spans = [(start, end + 1, label) for start, end, label in self.ner]
        return TokenAnnotation([self.tokenized_text], spans, self.relations, has_bounds=False)


def _first_five(item: Any) -> Any:
    return item[:5] if isinstance(item, list) else item


class DygieRecord(CorpusRecord):
    """A document of DyGIE++ and SciERC. Bounds count tokens of the document, and the ends are inclusive."""

    remedy: ClassVar = (
        'write {"sentences": [["Ada", "left", "Tarn"]], "ner": [[[0, 0, "PER"], [2, 2, "LOC"]]], "relations": '
        '[[[0, 0, 2, 2, "left"]]]}, a list for each sentence, bounds counted in the document, the ends inclusive'
    )
    sentences: list[list[Token]]
    ner: list[list[Entity]]
    relations: (
        list[list[Annotated[tuple[StrictInt, StrictInt, StrictInt, StrictInt, Label], BeforeValidator(_first_five)]]]
        | None
    ) = None

    def convert(self) -> TokenAnnotation:
        for name, parts in (("ner", self.ner), ("relations", self.relations)):
            if parts is not None and len(parts) != len(self.sentences):
                raise ValueError(f"{name} has {len(parts)} lists for {len(self.sentences)} sentences")
        spans = [(start, end + 1, label) for part in self.ner for start, end, label in part]
        relations = None
        if self.relations is not None:
            places = {(start, end - 1): i for i, (start, end, _) in reversed(list(enumerate(spans)))}
            relations = []
            for *bounds, label in (relation for part in self.relations for relation in part):
                head, tail = tuple(bounds[:2]), tuple(bounds[2:])
                if head not in places or tail not in places:
                    raise ValueError(f"the relation {[*bounds, label]} has an argument that is not in ner")
                relations.append((places[head], places[tail], label))
        return TokenAnnotation(self.sentences, spans, relations)


class Mention(BaseModel):
    """A mention of an entity in DocRED, in tokens of its sentence."""

    sent_id: StrictInt
    pos: tuple[StrictInt, StrictInt]
    type: Label


class EntityRelation(BaseModel):
    """A relation of DocRED between entities, given by their positions in vertexSet."""

    h: StrictInt
    t: StrictInt
    r: Label


class DocredRecord(CorpusRecord):
    """A document of DocRED. An entity has several mentions, and relations hold between entities."""

    remedy: ClassVar = (
        'write {"sents": [["Ada", "left", "Tarn"]], "vertexSet": [[{"sent_id": 0, "pos": [0, 1], "type": "PER"}], '
        '[{"sent_id": 0, "pos": [2, 3], "type": "LOC"}]], "labels": [{"h": 0, "t": 1, "r": "left"}]}, the ends '
        "exclusive, h and t as positions in vertexSet"
    )
    sents: list[list[Token]]
    vertexSet: list[list[Mention]]
    labels: list[EntityRelation] | None = None

    def convert(self) -> TokenAnnotation:
        starts = list(accumulate(map(len, self.sents), initial=0))
        spans: list[LabelledSpan] = []
        members: list[range] = []
        for mentions in self.vertexSet:
            members.append(range(len(spans), len(spans) + len(mentions)))
            for mention in mentions:
                number, (start, end) = mention.sent_id, mention.pos
                if not 0 <= number < len(self.sents):
                    raise ValueError(f"a mention is in the sentence {number} of {len(self.sents)}")
                check_bounds([(start, end, mention.type)], None, len(self.sents[number]), "tokens of the sentence")
                spans.append((starts[number] + start, starts[number] + end, mention.type))
        relations: list[LabelledIndices] = []
        kinds = []
        for relation in self.labels or ():
            if not (0 <= relation.h < len(members) and 0 <= relation.t < len(members)):
                raise ValueError(f"a relation is between the entities {relation.h} and {relation.t} of {len(members)}")
            pairs = list(product(members[relation.h], members[relation.t]))
            relations += [(head, tail, relation.r) for head, tail in pairs]
            kinds += [ALL_MENTIONS] * (len(pairs) > 1)
        return TokenAnnotation(self.sents, spans, None if self.labels is None else relations, kinds=kinds)


class TacredRecord(CorpusRecord):
    """A sentence of TACRED with two entities and their relation. Other entities are not annotated."""

    remedy: ClassVar = (
        'write {"token": ["Ada", "left", "Tarn"], "subj_start": 0, "subj_end": 0, "subj_type": "PERSON", "obj_start": '
        f'2, "obj_end": 2, "obj_type": "CITY", "relation": "left"}}, the ends inclusive, or "{NO_RELATION}"'
    )
    token: list[Token] = Field(min_length=1)
    docid: StrictStr | None = None
    subj_start: StrictInt
    subj_end: StrictInt
    subj_type: Label
    obj_start: StrictInt
    obj_end: StrictInt
    obj_type: Label
    relation: Label

    def convert(self) -> TokenAnnotation:
        spans = [
            (self.subj_start, self.subj_end + 1, self.subj_type),
            (self.obj_start, self.obj_end + 1, self.obj_type),
        ]
        relations = [] if self.relation == NO_RELATION else [(0, 1, self.relation)]
        return TokenAnnotation([self.token], spans, relations, partial=True, document=self.docid)
