"""JSON lines of texts with entities as character offsets, as annotation tools write them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from spacy.tokens import Doc

from spacy_ner_arch.formats.lines import SURROGATE, Line, raise_faults, read_lines
from spacy_ner_arch.formats.report import FormatError, Report, check_on_error, skipped_if_bad
from spacy_ner_arch.formats.sentence import LabelledSpan, Sentence

ENTITY_KEYS = ("entities", "spans", "label", "labels")
REMEDY = 'write {"text": "Anna left", "entities": [[0, 4, "PER"]]}, the end being the offset behind the last character'


def read_offsets(
    path: str | Path, report: Report, *, tokenizer: Callable[[str], Doc], on_error: str = "raise"
) -> Iterator[list[Sentence]]:
    """Read JSON lines such as {"text": "Anna left", "entities": [[0, 4, "PER"]]}.

    The entities may stand under "entities", "spans", "label" or "labels", each as [start, end, label] or as an object
    with these keys; ends are exclusive. Each line becomes one document of one sentence, with the tokens of the
    tokenizer. An entity that is no sequence of its tokens cannot be learned: it is counted, and the tokens that it
    touches are left without annotation, so that nothing wrong is learned instead.

    path: the file, UTF-8.
    report: what is read is counted here.
    tokenizer: makes a Doc from a text.
    on_error: "raise" an error for a malformed line, or "skip" it and count it.
    Yields one list of one sentence for each text that is not empty.
    Raises FormatError for a line that is not such an object, offsets outside of the text, entities that overlap.
    """
    check_on_error(on_error)
    return _read(Path(path), report, tokenizer, on_error)


def _read(path: Path, report: Report, tokenizer: Callable[[str], Doc], on_error: str) -> Iterator[list[Sentence]]:
    for line in read_lines(path):
        if not line.text.strip():
            continue
        with skipped_if_bad(report, on_error):
            raise_faults(path, [line])
            text, entities = _parse(path, line)
            doc = tokenizer(text)
            if not len(doc):
                continue
            sentence = _align(doc, entities, report)
            report.documents += 1
            report.add_sentence(sentence)
            yield [sentence]


def _parse(path: Path, line: Line) -> tuple[str, list[LabelledSpan]]:
    def fail(reason: str) -> FormatError:
        return FormatError(path, line.number, line.text, reason, REMEDY)

    try:
        record = json.loads(line.text)
    except json.JSONDecodeError as error:
        raise fail(f"not json: {error}") from error
    if not isinstance(record, dict) or not isinstance(record.get("text"), str):
        raise fail('no object with a "text"')
    text = record["text"]
    if SURROGATE.search(text):
        raise fail("the text has half of a character (a lone surrogate)")
    items: Any = next((record[key] for key in ENTITY_KEYS if record.get(key) is not None), [])
    entities = [_entity(item) for item in items] if isinstance(items, list) else [None]
    spans = [entity for entity in entities if entity is not None]
    if len(spans) < len(entities):
        raise fail("an entity is neither [start, end, label] nor an object with these keys")
    for start, end, label in spans:
        if not 0 <= start < end <= len(text):
            raise fail(f"the entity {start}-{end} {label} is empty or outside of the text of {len(text)} characters")
    spans.sort()
    for (_, end, label), (start, _, other) in zip(spans, spans[1:], strict=False):
        if start < end:
            raise fail(f"the entities {label} and {other} overlap at character {start}")
    return text, spans


def _entity(item: Any) -> LabelledSpan | None:
    if isinstance(item, dict):
        item = [item.get("start"), item.get("end"), item.get("label")]
    if not isinstance(item, list) or len(item) < 3:
        return None
    start, end, label = item[:3]
    # bool is an int to Python, but no offset.
    numbers = type(start) is int and type(end) is int
    named = isinstance(label, str) and label and not SURROGATE.search(label)
    return (start, end, label) if numbers and named else None


def _align(doc: Doc, entities: list[LabelledSpan], report: Report) -> Sentence:
    spans: list[LabelledSpan] = []
    missing: set[int] = set()
    for start, end, label in entities:
        exact = doc.char_span(start, end)
        report.alignment_checked += 1
        if exact is not None:
            spans.append((exact.start, exact.end, label))
            continue
        report.misaligned += 1
        touched = doc.char_span(start, end, alignment_mode="expand")
        missing.update(range(touched.start, touched.end) if touched is not None else ())
    covered = {i for start, end, _ in spans for i in range(start, end)}
    return Sentence(
        words=[token.text for token in doc],
        spaces=[bool(token.whitespace_) for token in doc],
        spans=spans,
        missing=sorted(missing - covered),
    )
