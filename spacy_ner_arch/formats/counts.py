"""Counts of items that a reader read, repaired, left out and skipped."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from .lines import FormatError, Line
from .sentence import Sentence

KEPT_EXAMPLES = 10
ON_ERROR = ("raise", "skip")

SKIPPED = "skipped sentences"
MISALIGNED = "entities that do not align with the tokenizer"
MISALIGNED_RELATION = "relations whose arguments do not align with the tokenizer"
SPLIT = "tokens of the source that the tokenizer splits"
# Share of split tokens above which there is a warning. English corpora have a few per cent, mostly with hyphens.
MOST_SPLIT = 0.2


class Note(NamedTuple):
    """A change or omission of annotation by a reader.

    line: place in the file.
    kind: kind of the change, as shown in the report.
    detail: the affected words, labels or values; "" if the place is enough.
    """

    line: Line
    kind: str
    detail: str = ""


@dataclass
class ReadReport:
    """Counts of items that were read. The readers of several files may share one report.

    documents, sentences, tokens: number read. A text without sentence boundaries counts as a sentence.
    missing: tokens without entity annotation.
    entities: entities by label.
    spans: spans that may overlap, by label, in formats that have them.
    only_spans: spans that are not entities, because entities do not overlap.
    many_labels: pairs of start and end with more than one span.
    relations: relations by label, in formats that have them.
    related_sentences: sentences with relation annotation, including those annotated with none.
    relations_beside_entities: relations with an argument that is not an entity.
    relations_dropped: relations lost because another sentence of the Doc has no relation annotation.
    schemes: files by tag scheme.
    documents_with_field: documents by field of their record that they keep.
    unread_keys: JSON keys that are not part of the format.
    other_labels: spans by label that are left out because of their label.
    renamed: spans and relations by the label that was renamed.
    notes: number of repaired, omitted or skipped items, by kind.
    checked: number of items examined, for kinds that are reported as a share.
    first: the first place of each kind.
    examples: the first places with their details, of kinds that have details.
    sources: for each Doc that `read_docs` made, a key of its source document. It is not compared for equality.
    """

    documents: int = 0
    sentences: int = 0
    tokens: int = 0
    missing: int = 0
    entities: Counter[str] = field(default_factory=Counter)
    spans: Counter[str] = field(default_factory=Counter)
    only_spans: int = 0
    many_labels: int = 0
    relations: Counter[str] = field(default_factory=Counter)
    related_sentences: int = 0
    relations_beside_entities: int = 0
    relations_dropped: int = 0
    schemes: Counter[str] = field(default_factory=Counter)
    documents_with_field: Counter[str] = field(default_factory=Counter)
    unread_keys: Counter[str] = field(default_factory=Counter)
    other_labels: Counter[str] = field(default_factory=Counter)
    renamed: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    checked: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    examples: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    sources: list[Hashable] = field(default_factory=list, compare=False)

    def add(self, sentence: Sentence, notes: Iterable[Note] = ()) -> None:
        """Count a sentence, its annotation and the notes about it."""
        self._count(sentence, 1)
        for note in notes:
            self.note(note)

    def replace(self, sentence: Sentence, other: Sentence, notes: Iterable[Note]) -> None:
        """Replace a counted sentence by one with other labels, and count the notes about it."""
        self._count(sentence, -1)
        self.add(other, notes)
        for counts in (self.entities, self.spans, self.relations):
            for label in [label for label, count in counts.items() if not count]:
                del counts[label]

    def _count(self, sentence: Sentence, sign: int) -> None:
        """Count a sentence and its annotation; subtract them if the sign is -1."""

        def count_labels(counts: Counter[str], labels: Iterable[str]) -> None:
            for label in labels:
                counts[label] += sign

        sentences = len(sentence.starts or [0])
        self.sentences += sign * sentences
        self.tokens += sign * len(sentence.words)
        self.missing += sign * len(sentence.missing)
        count_labels(self.entities, (label for _, _, label in sentence.spans))
        if sentence.nested is not None:
            count_labels(self.spans, (label for _, _, label in sentence.nested))
            entities = set(sentence.spans)
            self.only_spans += sign * sum(span not in entities for span in sentence.nested)
            places = Counter((start, end) for start, end, _ in sentence.nested)
            self.many_labels += sign * sum(n > 1 for n in places.values())
        if sentence.relations is not None:
            entities = set(sentence.spans)
            self.related_sentences += sign * sentences
            count_labels(self.relations, (label for _, _, label in sentence.relations))
            beside = [not {head, tail} <= entities for head, tail, _ in sentence.relations]
            self.relations_beside_entities += sign * sum(beside)

    def note(self, note: Note) -> None:
        """Count a note. Keep the first ones of each kind as examples."""
        self.notes[note.kind] += 1
        self.first.setdefault(note.kind, note.line.place)
        if note.detail:
            self._keep(note.kind, f"{note.line.place}: {note.detail}")

    def _keep(self, kind: str, example: str) -> None:
        if len(self.examples[kind]) < KEPT_EXAMPLES:
            self.examples[kind].append(example)

    @contextmanager
    def skipping(self, on_error: str) -> Iterator[None]:
        """Run the reading of one sentence. With on_error = "skip", count a FormatError instead of raising it."""
        self.checked[SKIPPED] += 1
        try:
            yield
        except FormatError as error:
            if check_on_error(on_error) == "raise":
                raise
            self.notes[SKIPPED] += 1
            self._keep(SKIPPED, error.short)

    def share(self, kind: str) -> str:
        """Number of items of a kind and of checked items, such as "3 of 40 (7.5 %)"."""
        count, checked = self.notes[kind], self.checked[kind]
        return f"{count} of {checked} ({100 * count / checked:.1f} %)" if checked else str(count)

    def rows(self) -> list[tuple[str, str]]:
        """Name and value of every count to show; examples have no name. Most zeros are left out."""
        partly_related = 0 < self.related_sentences < self.sentences
        rows: list[tuple[str, int | str | None]] = [
            ("documents", self.documents),
            ("sentences", self.sentences),
            ("tokens", self.tokens),
            *_by_label("entities", self.entities),
            *(_by_label("spans", self.spans, "spans in doc.spans") if self.spans else ()),
            *(_by_label("relations", self.relations) if self.related_sentences else ()),
            *((f"files tagged {scheme}", n) for scheme, n in sorted(self.schemes.items())),
            ("tokens without entity annotation", self.missing or None),
            ("spans left out of doc.ents, only in doc.spans", self.only_spans or None),
            ("spans with more than one label", self.many_labels or None),
            (
                "sentences annotated with relations",
                f"{self.related_sentences} of {self.sentences}" if partly_related else None,
            ),
            ("relations dropped, as other sentences of the Doc have none", self.relations_dropped or None),
            ("relations with an argument left out of doc.ents", self.relations_beside_entities or None),
            *((f"documents with the field {name}", n) for name, n in sorted(self.documents_with_field.items())),
            ("keys that are not read", _most_common(self.unread_keys)),
            ("labels that --rename has renamed", _most_common(self.renamed)),
            ("labels that are not in --labels", _most_common(self.other_labels)),
        ]
        for kind in sorted(self.notes.keys() | self.checked.keys()):
            examples = self.examples.get(kind, [])
            place = f" (first at {self.first[kind]})" if kind in self.first and not examples else ""
            rows += [(kind, self.share(kind) + place), *(("", example) for example in examples)]
        return [(name, str(value)) for name, value in rows if value is not None]

    def summary(self) -> str:
        """The rows as text, one a line, with the values in one column and the examples indented."""
        rows = self.rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" if name else f"    {value}" for name, value in rows)


def check_on_error(on_error: str) -> str:
    """Return the value; raise ValueError unless it is "raise" or "skip"."""
    if on_error not in ON_ERROR:
        raise ValueError(f"on_error is {on_error!r}; it must be one of {', '.join(ON_ERROR)}")
    return on_error


def _by_label(name: str, counts: Counter[str], total: str | None = None) -> list[tuple[str, int]]:
    return [(total or name, counts.total()), *((f"{name} {label}", n) for label, n in sorted(counts.items()))]


def _most_common(counts: Counter[str]) -> str | None:
    shown = ", ".join(f"{key} ({n})" for key, n in counts.most_common(KEPT_EXAMPLES))
    more = len(counts) - KEPT_EXAMPLES
    return (shown + (f" and {more} more" if more > 0 else "")) or None
