"""Counts of what a reader read, repaired and skipped."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from .lines import FormatError, Line
from .sentence import SPANS_KEY, Sentence

KEPT_REASONS = 5
ON_ERROR = ("raise", "skip")

Repair = tuple[Line, str]
"""A line and the kind of repair made there."""


@dataclass
class ReadReport:
    """Counts of what was read. The readers of several files may share one report.

    documents, sentences, tokens: number read.
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
    repairs, first_repairs: number of repairs by kind, and the place of the first one.
    comments: lines read as comments in the format `conll`.
    skipped, reasons: number of skipped sentences, and the first reasons.
    alignment_checked, misaligned: entities (or spans, where the format has them) compared with a tokenizer, and those
        that start or end inside one of its tokens. Training loses these.
    relations_checked, relations_misaligned: the same for relations, by the bounds of their arguments.
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
    repairs: Counter[str] = field(default_factory=Counter)
    first_repairs: dict[str, str] = field(default_factory=dict)
    comments: int = 0
    skipped: int = 0
    reasons: list[str] = field(default_factory=list)
    alignment_checked: int = 0
    misaligned: int = 0
    relations_checked: int = 0
    relations_misaligned: int = 0

    def add(self, sentence: Sentence, repairs: Iterable[Repair] = ()) -> None:
        """Count a sentence, its annotation and the repairs made in it."""
        self.sentences += 1
        self.tokens += len(sentence.words)
        self.missing += len(sentence.missing)
        self.entities.update(label for _, _, label in sentence.spans)
        if sentence.nested is not None:
            self.spans.update(label for _, _, label in sentence.nested)
            self.only_spans += len(sentence.nested) - len(sentence.spans)
            places = Counter((start, end) for start, end, _ in sentence.nested)
            self.many_labels += sum(n > 1 for n in places.values())
        if sentence.relations is not None:
            entities = set(sentence.spans)
            self.related_sentences += 1
            self.relations.update(label for _, _, label in sentence.relations)
            self.relations_beside_entities += sum(not {head, tail} <= entities for head, tail, _ in sentence.relations)
        self.add_repairs(repairs)

    def add_repairs(self, repairs: Iterable[Repair]) -> None:
        """Count repairs."""
        for line, kind in repairs:
            self.repairs[kind] += 1
            self.first_repairs.setdefault(kind, f"{line.path}:{line.number}")

    @contextmanager
    def skipping(self, on_error: str) -> Iterator[None]:
        """Run the reading of one sentence. With on_error = "skip", count a FormatError instead of raising it."""
        try:
            yield
        except FormatError as error:
            if check_on_error(on_error) == "raise":
                raise
            self.skipped += 1
            if len(self.reasons) < KEPT_REASONS:
                self.reasons.append(error.short)

    def rows(self) -> list[tuple[str, str]]:
        """Name and value of every count that informs the user. Most zeros are left out."""
        checked = "spans" if self.spans else "entities"
        partly_related = 0 < self.related_sentences < self.sentences
        rows: list[tuple[str, int | str | None]] = [
            ("documents", self.documents),
            ("sentences", self.sentences),
            ("tokens", self.tokens),
            *_by_label("entities", self.entities),
            *(_by_label("spans", self.spans, f"spans in doc.spans[{SPANS_KEY!r}]") if self.spans else ()),
            *(_by_label("relations", self.relations) if self.related_sentences else ()),
            *((f"files tagged {scheme}", n) for scheme, n in sorted(self.schemes.items())),
            ("tokens without entity annotation", self.missing or None),
            *(
                (f"repaired: {kind}", f"{n} (first at {self.first_repairs[kind]})")
                for kind, n in sorted(self.repairs.items())
            ),
            ("comment lines", self.comments or None),
            ("skipped sentences", self.skipped),
            *(("skipped", reason) for reason in self.reasons),
            (f"{checked} that do not align with the tokenizer", _share(self.misaligned, self.alignment_checked)),
            ("spans left out of doc.ents, only in doc.spans", self.only_spans if self.spans else None),
            ("spans with more than one label", self.many_labels or None),
            (
                "relations whose arguments do not align with the tokenizer",
                _share(self.relations_misaligned, self.relations_checked),
            ),
            (
                "sentences annotated with relations",
                _share(self.related_sentences, self.sentences) if partly_related else None,
            ),
            ("relations dropped, as other sentences of the Doc have none", self.relations_dropped or None),
            ("relations with an argument left out of doc.ents", self.relations_beside_entities or None),
        ]
        return [(name, str(value)) for name, value in rows if value is not None]

    def summary(self) -> str:
        """The rows as text, one a line, with the values in one column."""
        rows = self.rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def check_on_error(on_error: str) -> str:
    """Return the value; raise ValueError unless it is "raise" or "skip"."""
    if on_error not in ON_ERROR:
        raise ValueError(f"on_error is {on_error!r}; it must be one of {', '.join(ON_ERROR)}")
    return on_error


def _by_label(name: str, counts: Counter[str], total: str | None = None) -> list[tuple[str, int]]:
    return [(total or name, counts.total()), *((f"{name} {label}", n) for label, n in sorted(counts.items()))]


def _share(part: int, whole: int) -> str | None:
    return f"{part} of {whole}" if whole else None
