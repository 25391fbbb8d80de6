"""What a reader tells about a file: counts, repairs, what it left out, and why it gave up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from spacy_ner_arch.formats.sentence import SPANS_KEY, Sentence

KEPT_REASONS = 5
SHOWN_CHARACTERS = 200
ON_ERROR = ("raise", "skip")

Repair = tuple[int, str]
"""The number of a line and the kind of repair made there."""


class FormatError(ValueError):
    """A file is not what its format says. The message tells where, what and what to do.

    path, line_number, line: the place, and the line as it stands in the file.
    reason: what is wrong there.
    remedy: what the user can do about it.
    """

    def __init__(self, path: str | Path, line_number: int, line: str, reason: str, remedy: str) -> None:
        # The bare fields go to the base class so that the error survives pickling.
        super().__init__(path, line_number, line, reason, remedy)
        self.path = path
        self.line_number = line_number
        self.line = line
        self.reason = reason
        self.remedy = remedy

    @property
    def short(self) -> str:
        """The place and the reason, on one line."""
        return f"{self.path}:{self.line_number}: {self.reason}"

    def __str__(self) -> str:
        cut = len(self.line) > SHOWN_CHARACTERS
        shown = repr(self.line[:SHOWN_CHARACTERS]) + (" ..." if cut else "")
        return f"{self.short}\n  line: {shown}\n  remedy: {self.remedy}"


@dataclass
class Report:
    """Counts of what was read. One report may be handed to the readers of several files.

    documents, sentences, tokens: what the readers yielded.
    missing: tokens among them without entity annotation.
    entities: by label.
    spans: spans that may overlap, by label, in formats that have them.
    only_spans: those among them that are no entities as well, since entities do not overlap.
    many_labels: the places that carry more than one label.
    relations: by label, in formats that have them.
    related_sentences: sentences that are annotated with relations, be it with none.
    relations_beside_entities: relations with an argument that is no entity, since entities do not overlap.
    relations_dropped: relations of sentences that share a Doc with others that are not annotated with relations.
    schemes: number of files by tagging scheme.
    repairs, first_repairs: by kind, how many and the place of the first.
    comments: lines taken for comments in a format that has no other mark for them.
    skipped, reasons: sentences left out, and why for the first few of them.
    alignment_checked, misaligned: entities (in formats with spans, all spans) compared with a tokenizer, and those
        among them whose bounds fall inside one of its tokens, so that training cannot use them.
    relations_checked, relations_misaligned: the same of relations, for the bounds of their arguments.
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

    def add_sentence(self, sentence: Sentence) -> None:
        """Count a sentence with its tokens and entities."""
        self.sentences += 1
        self.tokens += len(sentence.words)
        self.missing += len(sentence.missing)
        self.entities.update(label for _, _, label in sentence.spans)
        if sentence.nested is not None:
            self.spans.update(label for _, _, label in sentence.nested)
            self.only_spans += len(sentence.nested) - len(sentence.spans)
            labels = Counter((start, end) for start, end, _ in sentence.nested)
            self.many_labels += sum(n > 1 for n in labels.values())
        if sentence.relations is not None:
            self.related_sentences += 1
            self.relations.update(label for _, _, label in sentence.relations)
            entities = set(sentence.spans)
            self.relations_beside_entities += sum(not {head, tail} <= entities for head, tail, _ in sentence.relations)

    def add_repairs(self, path: str | Path, repairs: Iterable[Repair]) -> None:
        """Count repairs made in a file."""
        for line_number, kind in repairs:
            self.repairs[kind] += 1
            self.first_repairs.setdefault(kind, f"{path}:{line_number}")

    def add_skipped(self, error: FormatError) -> None:
        """Count a sentence that was left out, and keep the reason if it is among the first."""
        self.skipped += 1
        if len(self.reasons) < KEPT_REASONS:
            self.reasons.append(error.short)

    def rows(self) -> list[tuple[str, str]]:
        """Name and value of every count that a user should see; zeros only where they inform."""
        rows = [
            ("documents", str(self.documents)),
            ("sentences", str(self.sentences)),
            ("tokens", str(self.tokens)),
            ("entities", str(self.entities.total())),
        ]
        rows += [(f"entities {label}", str(n)) for label, n in sorted(self.entities.items())]
        if self.spans:
            rows.append((f"spans in doc.spans[{SPANS_KEY!r}]", str(self.spans.total())))
            rows += [(f"spans {label}", str(n)) for label, n in sorted(self.spans.items())]
        if self.related_sentences:
            rows.append(("relations", str(self.relations.total())))
            rows += [(f"relations {label}", str(n)) for label, n in sorted(self.relations.items())]
        rows += [(f"files tagged {scheme}", str(n)) for scheme, n in sorted(self.schemes.items())]
        if self.missing:
            rows.append(("tokens without entity annotation", str(self.missing)))
        rows += [
            (f"repaired: {kind}", f"{n} (first at {self.first_repairs[kind]})")
            for kind, n in sorted(self.repairs.items())
        ]
        if self.comments:
            rows.append(("comment lines", str(self.comments)))
        rows.append(("skipped sentences", str(self.skipped)))
        rows += [("skipped", reason) for reason in self.reasons]
        if self.alignment_checked:
            share = f"{self.misaligned} of {self.alignment_checked}"
            rows.append((f"{'spans' if self.spans else 'entities'} that do not align with the tokenizer", share))
        if self.spans:
            rows.append(("spans left out of doc.ents, only in doc.spans", str(self.only_spans)))
        if self.many_labels:
            rows.append(("spans with more than one label", str(self.many_labels)))
        return rows + self._relation_rows()

    def _relation_rows(self) -> list[tuple[str, str]]:
        rows = []
        if self.relations_checked:
            share = f"{self.relations_misaligned} of {self.relations_checked}"
            rows.append(("relations whose arguments do not align with the tokenizer", share))
        if 0 < self.related_sentences < self.sentences:
            rows.append(("sentences annotated with relations", f"{self.related_sentences} of {self.sentences}"))
        if self.relations_dropped:
            rows.append(("relations dropped, as other sentences of the Doc have none", str(self.relations_dropped)))
        if self.relations_beside_entities:
            rows.append(("relations with an argument left out of doc.ents", str(self.relations_beside_entities)))
        return rows

    def summary(self) -> str:
        """The rows as text, one per line, values in one column."""
        rows = self.rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def check_on_error(on_error: str) -> None:
    """Raise ValueError if `on_error` is not something a reader can do about an error."""
    if on_error not in ON_ERROR:
        raise ValueError(f"on_error is {on_error!r}; it must be one of {', '.join(ON_ERROR)}")


@contextmanager
def skipped_if_bad(report: Report, on_error: str) -> Iterator[None]:
    """Guard the reading of one sentence: its FormatError is raised, or counted as a skip.

    report: where a skip is counted.
    on_error: "raise" or "skip".
    """
    try:
        yield
    except FormatError as error:
        if on_error == "raise":
            raise
        report.add_skipped(error)
