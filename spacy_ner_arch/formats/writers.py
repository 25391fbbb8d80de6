"""Write Docs in the formats of annotation tools, and count what a format cannot hold."""

import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from reprlib import repr as short_repr
from typing import Any, NamedTuple
from xml.sax.saxutils import quoteattr

from spacy.tokens import Doc, Span

from ..annotation.relations import get_relations, has_relations
from .counts import Note, ReadReport
from .lines import Line
from .sentence import SPANS_KEY
from .spans import widest_apart
from .units import unit_places

# Layers of a document, as the report names what a format loses.
SCORES = "lost: probabilities"
OVERLAPS = "lost: spans that overlap an entity"
CHOICE = "lost: which of several spans that overlap is the entity"
RELATIONS = "lost: relations"
RELATED = "lost: whether documents without relations are annotated with relations"
MISSING = "lost: tokens without annotation, which become tokens outside of entities"
UNLABELLED = "lost: documents without annotation, which become documents without entities"
TREES = "lost: dependency trees"
TAGS = "lost: parts of speech, tags, morphological features and lemmas"
SENTENCES = "lost: sentence boundaries"
GROUPS = "lost: other groups of spans"
LINKS = "lost: ids of entities"
CATEGORIES = "lost: categories of documents"
SPACES = "lost: spaces"
UNKNOWN_SPACES = "lost: tokens of documents whose spaces are unknown; the text has a space after each token"
# What single formats lose besides.
NO_LABEL = "left out: spans without a label"
WHITE_SPACE = "left out: tokens with a tab or a line end"
CROSSING = "lost: entities that cross a sentence boundary, which are split there"
LABEL_CHANGED = "changed: labels with characters that brat does not have in labels"


class Content(NamedTuple):
    """What is written of a document.

    number: of the document, from 1.
    spans_key: of the group of spans.
    spans: the entities, the spans of the group, and the arguments of relations, each once and sorted.
    scores: the probability of each span, or None.
    entities: spans that do not overlap.
    relations: positions of head and tail in the list of spans, label, and probability or None.
    without_label: descriptions of spans without a label, and of relations between them, which are in none of these.
    """

    number: int
    spans_key: str
    doc: Doc
    spans: list[Span]
    scores: list[float | None]
    entities: list[Span]
    relations: list[tuple[int, int, str, float | None]]
    without_label: list[str]

    @property
    def is_labelled(self) -> bool:
        """Whether anything is annotated."""
        return bool(self.spans or self.relations) or any(token.ent_iob for token in self.doc)


NoteLoss = Callable[[Content, str, str], None]


class Writer(NamedTuple):
    """A format to write.

    write: writes documents to a path, with the name of the model that predicted them, or None for gold annotation.
    content: what it is, for lists.
    keeps: the layers that it does not lose.
    """

    write: Callable[[Path, Sequence[Content], str | None, NoteLoss], None]
    content: str
    keeps: frozenset[str]


def write_docs(
    docs: Iterable[Doc],
    path: str | Path,
    format: str,
    report: ReadReport,
    *,
    model: str | None = None,
    spans_key: str = SPANS_KEY,
    source: str | Path = "corpus",
) -> None:
    """Write Docs in the format of an annotation tool.

    docs: the documents, with entities, spans and relations; probabilities are those of the components of this package.
    path: the file to write, or the folder for brat, which must be new or empty. Missing folders are made.
    format: a name in WRITERS.
    report: counts what is written and, with examples, what the format loses.
    model: name of the model that predicted the annotation, which becomes pre-annotation for review; None for gold.
    spans_key: the group in doc.spans that is written with the entities.
    source: name of the corpus, for the places of examples.
    Raises ValueError for an unknown format, and OSError if the path cannot be written.
    """
    if format not in WRITERS:
        raise ValueError(f"unknown format {format!r}; known are {', '.join(WRITERS)}")
    writer = WRITERS[format]
    path = Path(path)
    if path.is_dir() and writer.write is not _write_brat:
        raise IsADirectoryError(f"{path} is a folder; name a file in it")

    def note(content: Content, kind: str, detail: str) -> None:
        report.note(Note(Line(Path(source), content.number, ""), kind, f"document {content.number}: {detail}"))

    contents = []
    for number, doc in enumerate(docs, start=1):
        content = make_content(number, doc, spans_key)
        contents.append(content)
        for layer, detail in find_layers(content):
            if layer not in writer.keeps:
                note(content, layer, detail)
        report.documents += 1
        report.sentences += _count_sentences(doc)
        report.tokens += len(doc)
        report.entities.update(span.label_ for span in content.entities)
        report.spans.update(span.label_ for span in content.spans)
        report.relations.update(label for _, _, label, _ in content.relations)
        report.related_sentences += _count_sentences(doc) * has_relations(doc)
    if RELATED not in writer.keeps and any(content.relations for content in contents):
        for content in contents:
            if not has_relations(content.doc):
                note(content, RELATED, "it has none")
    path.parent.mkdir(parents=True, exist_ok=True)
    writer.write(path, contents, model, note)


def make_content(number: int, doc: Doc, spans_key: str) -> Content:
    """Collect what is written of a document."""
    found: dict[tuple[int, int, str], float | None] = {}
    with_scores = Span.has_extension("score")
    for ent in doc.ents:
        found[ent.start, ent.end, ent.label_] = ent._.score if with_scores else None
    if spans_key in doc.spans:
        group = doc.spans[spans_key]
        scores = list(group.attrs.get("scores", ()))
        for i, span in enumerate(group):
            key = span.start, span.end, span.label_
            found[key] = float(scores[i]) if len(scores) == len(group) else found.get(key)
    relations = get_relations(doc)
    for argument in chain.from_iterable((relation.head, relation.tail) for relation in relations):
        found.setdefault((argument.start, argument.end, argument.label_), None)
    spans = sorted(key for key in found if key[2])
    content = Content(
        number,
        spans_key,
        doc,
        [Span(doc, start, end, label) for start, end, label in spans],
        [found[key] for key in spans],
        [ent for ent in doc.ents if ent.label_] or [Span(doc, *key[:2], key[2]) for key in widest_apart(spans)],
        [],
        [repr(doc[start:end].text) for start, end, label in found if not label],
    )
    places = {key: i for i, key in enumerate(spans)}
    for head, tail, label, score in relations:
        pair = [places.get((argument.start, argument.end, argument.label_)) for argument in (head, tail)]
        if pair[0] is not None and pair[1] is not None:
            content.relations.append((pair[0], pair[1], label, score))
        else:
            content.without_label.append(f"{head.text!r} {label} {tail.text!r}")
    return content


def find_layers(content: Content) -> Iterator[tuple[str, str]]:
    """Yield the layers of annotation that a document has, with what they have: each item of small layers."""
    doc = content.doc
    entities = {(ent.start, ent.end, ent.label_) for ent in content.entities}
    keys = [(span.start, span.end, span.label_) for span in content.spans]
    for span, key, score in zip(content.spans, keys, content.scores, strict=True):
        if key not in entities:
            yield OVERLAPS, f"{span.text!r} {span.label_}"
        if score is not None:
            yield SCORES, f"{score:.3f} of {span.text!r} {span.label_}"
    if sorted(entities) != widest_apart(keys):
        yield CHOICE, ", ".join(repr(ent.text) for ent in content.entities)
    for head, tail, label, score in content.relations:
        yield RELATIONS, f"{content.spans[head].text!r} {label} {content.spans[tail].text!r}"
        if score is not None:
            yield SCORES, f"{score:.3f} of {label}"
    yield from ((NO_LABEL, text) for text in content.without_label)
    covered = {token.i for span in content.spans for token in span}
    if not content.is_labelled:
        yield UNLABELLED, short_repr(doc.text)
    else:
        yield from ((MISSING, repr(token.text)) for token in doc if not token.ent_iob and token.i not in covered)
    if doc.has_annotation("DEP"):
        yield TREES, short_repr(doc.text)
    if any(doc.has_annotation(name) for name in ("TAG", "POS", "LEMMA", "MORPH")):
        yield TAGS, short_repr(doc.text)
    if _count_sentences(doc) > 1:
        yield SENTENCES, f"{_count_sentences(doc)} sentences"
    yield from ((GROUPS, repr(name)) for name, group in doc.spans.items() if name != content.spans_key and len(group))
    yield from ((LINKS, f"{ent.text!r} {ent.kb_id_ or ent.ent_id_}") for ent in doc.ents if ent.kb_id_ or ent.ent_id_)
    if doc.cats:
        yield CATEGORIES, short_repr(doc.cats)
    yield UNKNOWN_SPACES if doc.has_unknown_spaces else SPACES, short_repr(doc.text)


def _count_sentences(doc: Doc) -> int:
    return len(list(doc.sents)) if doc.has_annotation("SENT_START") else 1


# Files


def write_file(path: Path, pieces: Iterable[str]) -> None:
    """Write a text file, which appears only when it is complete."""
    part = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            file.writelines(pieces)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _write_json(
    record: Callable[[Content, str | None], dict[str, Any]],
    lines: bool,
    path: Path,
    contents: Sequence[Content],
    model: str | None,
    note: NoteLoss,
) -> None:
    """Write an object for each document: a list, or one on each line."""
    objects = (json.dumps(record(content, model), ensure_ascii=False) for content in contents)
    if lines:
        write_file(path, (f"{text}\n" for text in objects))
    else:
        items = (text if i == 0 else f",\n {text}" for i, text in enumerate(objects))
        write_file(path, chain(["["], items, ["]\n"]))


def _scored(value: dict[str, Any], score: float | None) -> dict[str, Any]:
    return value if score is None else {**value, "score": score}


# Label Studio


def _label_studio_task(content: Content, model: str | None) -> dict[str, Any]:
    results: list[dict[str, Any]] = []
    for i, (span, score) in enumerate(zip(content.spans, content.scores, strict=True)):
        value = {"start": span.start_char, "end": span.end_char, "text": span.text, "labels": [span.label_]}
        result = {"id": f"r{i}", "type": "labels", "from_name": "label", "to_name": "text", "value": value}
        results.append(_scored(result, score))
    for head, tail, label, score in content.relations:
        ends = {"from_id": f"r{head}", "to_id": f"r{tail}", "direction": "right"}
        results.append(_scored({"type": "relation", **ends, "labels": [label]}, score))
    task: dict[str, Any] = {"id": content.number, "data": {"text": content.doc.text}, "annotations": []}
    if model is not None:
        known = [result["score"] for result in results if "score" in result]
        prediction = {"model_version": model, "result": results}
        return {**task, "predictions": [_scored(prediction, sum(known) / len(known) if known else None)]}
    return {**task, "annotations": [{"result": results}] if content.is_labelled else []}


def _write_label_studio(path: Path, contents: Sequence[Content], model: str | None, note: NoteLoss) -> None:
    """Write the tasks, and beside them the labelling configuration of the project that opens them."""
    labels, relations = _labels(contents)
    lines = ["<View>", "  <Relations>"]
    lines += [f"    <Relation value={quoteattr(label)}/>" for label in relations]
    lines += ["  </Relations>", '  <Labels name="label" toName="text">']
    lines += [f"    <Label value={quoteattr(label)}/>" for label in labels]
    lines += ["  </Labels>", '  <Text name="text" value="$text"/>', "</View>"]
    _write_json(_label_studio_task, False, path, contents, model, note)
    write_file(path.with_suffix(".xml"), (f"{line}\n" for line in lines))


def _labels(contents: Sequence[Content]) -> tuple[list[str], list[str]]:
    """All labels of spans and of relations."""
    spans = {span.label_ for content in contents for span in content.spans}
    return sorted(spans), sorted({relation[2] for content in contents for relation in content.relations})


# doccano and Prodigy


def _doccano_text(content: Content, model: str | None) -> dict[str, Any]:
    units = {place: unit for unit, place in unit_places(content.doc.text, "utf-16")}
    return {
        "id": content.number,
        "text": content.doc.text,
        "entities": [
            {
                "id": i,
                "label": span.label_,
                "start_offset": units[span.start_char],
                "end_offset": units[span.end_char],
            }
            for i, span in enumerate(content.spans)
        ],
        "relations": [
            {"id": i, "from_id": head, "to_id": tail, "type": label}
            for i, (head, tail, label, _) in enumerate(content.relations)
        ],
    }


def _prodigy_task(content: Content, model: str | None) -> dict[str, Any]:
    doc = content.doc
    spans = [
        {
            "start": span.start_char,
            "end": span.end_char,
            "token_start": span.start,
            "token_end": span.end - 1,
            "label": span.label_,
        }
        for span in content.spans
    ]
    task: dict[str, Any] = {
        "text": doc.text,
        "tokens": [
            {
                "text": token.text,
                "start": token.idx,
                "end": token.idx + len(token),
                "id": token.i,
                "ws": bool(token.whitespace_),
            }
            for token in doc
        ],
        "spans": [_scored(span, score) for span, score in zip(spans, content.scores, strict=True)],
    }
    if has_relations(doc):
        # Prodigy takes the last token of a span for the span.
        task["relations"] = [
            _scored(
                {
                    "head": spans[head]["token_end"],
                    "child": spans[tail]["token_end"],
                    "head_span": spans[head],
                    "child_span": spans[tail],
                    "label": label,
                },
                score,
            )
            for head, tail, label, score in content.relations
        ]
    if model is None and content.is_labelled:
        return {**task, "answer": "accept"}
    return {**task, "meta": {} if model is None else {"model": model}}


# brat


def _write_brat(path: Path, contents: Sequence[Content], model: str | None, note: NoteLoss) -> None:
    """Write a pair of files for each document, and the configuration with the labels."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"{path} exists and is not an empty folder; name a new one")
    path.mkdir(exist_ok=True)
    digits = len(str(len(contents)))
    for content in contents:
        stem = path / f"{content.number:0{digits}}"
        write_file(Path(f"{stem}.ann"), (f"{line}\n" for line in _brat_lines(content, note)))
        write_file(Path(f"{stem}.txt"), [content.doc.text])
    labels, relations = ([_brat_label(label) for label in part] for part in _labels(contents))
    arguments = "Arg1:<ENTITY>, Arg2:<ENTITY>"
    sections = ["[entities]", *labels, "", "[relations]", *(f"{label} {arguments}" for label in relations), ""]
    write_file(path / "annotation.conf", (f"{line}\n" for line in [*sections, "[events]", "", "[attributes]"]))


def _brat_lines(content: Content, note: NoteLoss) -> Iterator[str]:
    notes = 0

    def score_of(id: str, score: float | None) -> Iterator[str]:
        nonlocal notes
        if score is not None:
            notes += 1
            yield f"#{notes}\tAnnotatorNotes {id}\t{score!r}"

    for label in {span.label_ for span in content.spans} | {relation[2] for relation in content.relations}:
        if _brat_label(label) != label:
            note(content, LABEL_CHANGED, f"{label!r} to {_brat_label(label)!r}")
    for i, (span, score) in enumerate(zip(content.spans, content.scores, strict=True), start=1):
        parts = _lines_of(content.doc.text, span.start_char, span.end_char)
        bounds = ";".join(f"{start} {end}" for start, end in parts)
        quoted = " ".join(content.doc.text[start:end] for start, end in parts)
        yield f"T{i}\t{_brat_label(span.label_)} {bounds}\t{quoted}"
        yield from score_of(f"T{i}", score)
    for i, (head, tail, label, score) in enumerate(content.relations, start=1):
        yield f"R{i}\t{_brat_label(label)} Arg1:T{head + 1} Arg2:T{tail + 1}"
        yield from score_of(f"R{i}", score)


def _brat_label(label: str) -> str:
    """A label without the characters that brat does not have in labels."""
    return "".join(character if character.isalnum() or character in "_-" else "_" for character in label)


def _lines_of(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Bounds of the parts of a span between line ends, which brat does not have in an entity."""
    breaks = [i for i in range(start, end) if text[i] in "\r\n"]
    parts = [(first + 1, last) for first, last in pairwise([start - 1, *breaks, end])]
    return [(first, last) for first, last in parts if text[first:last].strip()]


# Tokens


def _write_conll(path: Path, contents: Sequence[Content], model: str | None, note: NoteLoss) -> None:
    """Write tokens with IOB2 tags: tabs between columns, an empty line after each sentence."""
    write_file(path, chain.from_iterable(_conll_lines(content, note) for content in contents))


def _conll_lines(content: Content, note: NoteLoss) -> Iterator[str]:
    doc = content.doc
    starts = {sent.start for sent in doc.sents} if doc.has_annotation("SENT_START") else {0}
    tags = ["O" if token.ent_iob else "-" for token in doc]
    for ent in content.entities:
        if starts.intersection(range(ent.start + 1, ent.end)):
            note(content, CROSSING, f"{ent.text!r} {ent.label_}")
        first = True
        for token in ent:
            tags[token.i] = f"{'B' if first or token.i in starts else 'I'}-{ent.label_}"
            first = False
    yield "-DOCSTART-\tO\n\n"
    for token, tag in zip(doc, tags, strict=True):
        if token.i in starts and token.i:
            yield "\n"
        if any(character in token.text for character in "\t\r\n"):
            note(content, WHITE_SPACE, repr(token.text))
        else:
            yield f"{token.text}\t{tag}\n"
    yield "\n"


def _spert_object(content: Content, model: str | None) -> dict[str, Any]:
    return {
        "tokens": [token.text for token in content.doc],
        "entities": [{"type": span.label_, "start": span.start, "end": span.end} for span in content.spans],
        "relations": [{"type": label, "head": head, "tail": tail} for head, tail, label, _ in content.relations],
    }


def _json_object(content: Content, model: str | None) -> dict[str, Any]:
    """`Doc.to_json` with relations, and with what it leaves out: tokens without annotation, and probabilities."""
    doc = content.doc
    data = {"ents": [], **doc.to_json(underscore=["relations_json"] if has_relations(doc) else None)}
    missing = [token for token in doc if not token.ent_iob]
    data["unannotated"] = [{"start": token.idx, "end": token.idx + len(token)} for token in missing]
    data["has_unknown_spaces"] = doc.has_unknown_spaces
    scores = {
        (span.start_char, span.end_char, span.label_): score
        for span, score in zip(content.spans, content.scores, strict=True)
        if score is not None
    }
    for place in chain(data["ents"], data.get("spans", {}).get(content.spans_key, ())):
        key = place["start"], place["end"], place["label"]
        if key in scores:
            place["score"] = scores[key]
    return data


TOOL_LAYERS = frozenset((OVERLAPS, RELATIONS))
WRITERS: dict[str, Writer] = {
    "label-studio": Writer(
        _write_label_studio, "tasks for Label Studio and its configuration", TOOL_LAYERS | {SCORES, UNLABELLED, SPACES}
    ),
    "doccano": Writer(partial(_write_json, _doccano_text, True), "JSONL(relation) of doccano", TOOL_LAYERS | {SPACES}),
    "prodigy": Writer(
        partial(_write_json, _prodigy_task, True),
        "JSON lines for Prodigy",
        TOOL_LAYERS | {SCORES, UNLABELLED, SPACES, RELATED},
    ),
    "brat": Writer(_write_brat, "a folder for brat", TOOL_LAYERS | {SCORES, SPACES}),
    "conll": Writer(
        _write_conll, "columns with IOB2 tags", frozenset((MISSING, UNLABELLED, SENTENCES, CHOICE, UNKNOWN_SPACES))
    ),
    "spert": Writer(partial(_write_json, _spert_object, False), "JSON of SpERT", TOOL_LAYERS | {UNKNOWN_SPACES}),
    "json": Writer(
        partial(_write_json, _json_object, True),
        "Doc.to_json, one document on each line",
        frozenset(
            (
                *(SCORES, OVERLAPS, CHOICE, RELATIONS, RELATED, MISSING, UNLABELLED, TREES, TAGS, SENTENCES, GROUPS),
                *(CATEGORIES, SPACES, UNKNOWN_SPACES, NO_LABEL),
            )
        ),
    ),
}
