"""Write Docs in the formats of annotation tools, and count annotation that a format cannot represent."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from spacy.tokens import Doc

from ...annotation.relations import has_relations
from ..counts import Note, ReadReport
from ..lines import Line
from ..sentence import SPANS_KEY
from . import brat, doccano, label_studio, prodigy, spacy_json
from .conll import find_conll_losses, write_conll
from .content import Content, Labels, alternative_labels, contradictions, count_sentences, find_labels, make_content
from .layers import (
    CATEGORIES,
    CHOICE,
    FIELDS,
    GROUPS,
    MISSING,
    NO_LABEL,
    OVERLAPS,
    RELATED,
    RELATIONS,
    SCORES,
    SENTENCES,
    SPACES,
    TAGS,
    TREES,
    UNKNOWN_SPACES,
    UNLABELLED,
    content_layers,
)
from .objects import write_lines
from .spert import find_spert_losses, write_spert


class Writer(NamedTuple):
    """A format to write.

    write: function that writes documents to a path and, if the tool has a configuration, the labels to it. After an
        error, what was there is unchanged.
    content: description of the format, for lists.
    keeps: the layers that the format can represent.
    find_losses: function that yields kind and example of other losses of a document; None if there are none.
    tells_predictions: whether the format distinguishes predictions from annotation.
    """

    write: Callable[[Path, Sequence[Content], Labels], None]
    content: str
    keeps: frozenset[str]
    find_losses: Callable[[Content], Iterator[tuple[str, str]]] | None = None
    tells_predictions: bool = False


CONTRADICTION = "entities that spans of the group cross, or contradict in their label; both are written"
TOOL_LAYERS = frozenset((OVERLAPS, RELATIONS))
WRITERS: dict[str, Writer] = {
    "label-studio": Writer(
        label_studio.write_label_studio,
        "tasks for Label Studio and its configuration",
        TOOL_LAYERS | {SCORES, UNLABELLED, SPACES, FIELDS},
        tells_predictions=True,
    ),
    "doccano": Writer(
        partial(write_lines, doccano.make_text), "JSONL(relation) of doccano", TOOL_LAYERS | {SPACES, FIELDS}
    ),
    "prodigy": Writer(
        partial(write_lines, prodigy.make_task),
        "JSON lines for Prodigy",
        TOOL_LAYERS | {SCORES, UNLABELLED, SPACES, RELATED, FIELDS},
        tells_predictions=True,
    ),
    "brat": Writer(
        brat.write_brat,
        "a folder for brat",
        TOOL_LAYERS | {SCORES, SPACES},
        brat.find_brat_losses,
    ),
    "conll": Writer(
        write_conll,
        "columns with IOB2 tags",
        frozenset((MISSING, UNLABELLED, SENTENCES, CHOICE, UNKNOWN_SPACES)),
        find_conll_losses,
    ),
    "spert": Writer(write_spert, "JSON of SpERT", TOOL_LAYERS | {UNKNOWN_SPACES}, find_spert_losses),
    "json": Writer(
        partial(write_lines, spacy_json.make_object),
        "Doc.to_json, one document on each line",
        frozenset(
            (
                *(SCORES, OVERLAPS, CHOICE, RELATIONS, RELATED, MISSING, UNLABELLED, TREES, TAGS, SENTENCES, GROUPS),
                *(CATEGORIES, SPACES, UNKNOWN_SPACES, NO_LABEL),
            )
        ),
    ),
}


def write_docs(
    docs: Iterable[Doc],
    path: str | Path,
    format: str,
    report: ReadReport,
    *,
    model: str | None = None,
    spans_key: str = SPANS_KEY,
    source: str | Path = "corpus",
    labels: Labels | None = None,
) -> int:
    """Write Docs in the format of an annotation tool.

    docs: the documents, with entities, spans and relations; probabilities are those of the components of this package.
        Entries of doc.user_data named by strings are fields: for Prodigy they go to `meta`, for Label Studio to `data`,
        for doccano beside the text; names that the tool has itself get `input_` in front.
    path: the file to write, or the folder for brat, which must be new or empty. Missing folders are made.
    format: a name in WRITERS.
    report: counts written annotation and, with examples, annotation that the format loses.
    model: name of the model that predicted the annotation, which becomes pre-annotation for review; None for gold.
    spans_key: the group in doc.spans that is written with the entities.
    source: name of the corpus, for the places of examples.
    labels: labels that the configuration of the tool has besides those of the documents, such as those of the pipeline.
    A document with a probability is a prediction even without a model, and becomes pre-annotation in tools that support
    it. If all documents with annotation are predictions, documents without any annotation are predictions, too.
    Returns the number of documents that are predictions.
    Raises ValueError for an unknown format, and OSError if the path cannot be written.
    """
    if format not in WRITERS:
        raise ValueError(f"unknown format {format!r}; choose from {', '.join(WRITERS)}")
    writer = WRITERS[format]
    path = Path(path)
    if path.is_dir() and format != "brat":
        raise IsADirectoryError(f"{path} is a folder; name a file in it")

    def note(content: Content, kind: str, detail: str) -> None:
        report.note(Note(Line(Path(source), content.number, ""), kind, f"document {content.number}: {detail}"))

    contents = []
    for number, doc in enumerate(docs, start=1):
        content = make_content(number, doc, spans_key, model)
        contents.append(content)
        for layer, detail in content_layers(content):
            if layer not in writer.keeps:
                note(content, layer, detail)
        for kind, detail in writer.find_losses(content) if writer.find_losses else ():
            note(content, kind, detail)
        for detail in contradictions(content):
            note(content, CONTRADICTION, detail)
        report.documents += 1
        report.sentences += count_sentences(doc)
        report.tokens += len(doc)
        report.entities.update(span.label_ for span in content.entities)
        if spans_key in doc.spans:
            report.spans.update(span.label_ for span in content.spans)
        report.relations.update(label for _, _, label, _ in content.relations)
        report.related_sentences += count_sentences(doc) * has_relations(doc)
    if RELATED not in writer.keeps and any(content.relations for content in contents):
        for content in contents:
            if not has_relations(content.doc):
                note(content, RELATED, "it has none")
    annotated = [content.is_predicted for content in contents if content.spans or content.relations]
    if annotated and all(annotated):
        # Documents in which a pipeline finds nothing have no probability.
        contents = [content._replace(is_predicted=True) for content in contents]
    known = find_labels(contents).joined(alternative_labels(contents))
    writer.write(path, contents, known.joined(labels or Labels()))
    return sum(content.is_predicted for content in contents)
