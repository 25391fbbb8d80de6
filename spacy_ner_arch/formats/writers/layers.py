"""Layers of annotation that formats can lose, as named in the report of a writer."""

from collections.abc import Iterator
from reprlib import repr as short_repr

from ..spans import widest_apart
from .content import Content, count_sentences

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
FIELDS = "lost: fields of documents, in doc.user_data"
NOT_JSON = "lost: fields of documents whose values JSON does not have"
NO_LABEL = "left out: spans without a label"


def content_layers(content: Content) -> Iterator[tuple[str, str]]:
    """Yield each layer of annotation that a document has, with a description of it or of each of its items."""
    doc = content.doc
    if not len(doc):
        return  # for spaCy, an empty document has all annotation
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
    has_entity_tags = any(token.ent_iob for token in doc)
    if content.is_predicted and not has_entity_tags:
        pass  # predictions of a pipeline that sets spans or relations only
    elif not content.is_labelled:
        yield UNLABELLED, short_repr(doc.text)
    else:
        yield from ((MISSING, repr(token.text)) for token in doc if not token.ent_iob and token.i not in covered)
    if doc.has_annotation("DEP"):
        yield TREES, short_repr(doc.text)
    if any(doc.has_annotation(name) for name in ("TAG", "POS", "LEMMA", "MORPH")):
        yield TAGS, short_repr(doc.text)
    if count_sentences(doc) > 1:
        yield SENTENCES, f"{count_sentences(doc)} sentences"
    yield from ((GROUPS, repr(name)) for name, group in doc.spans.items() if name != content.spans_key and len(group))
    yield from ((LINKS, f"{ent.text!r} {ent.kb_id_ or ent.ent_id_}") for ent in doc.ents if ent.kb_id_ or ent.ent_id_)
    if doc.cats:
        yield CATEGORIES, short_repr(doc.cats)
    yield from ((FIELDS, f"{name!r}: {short_repr(value)}") for name, value in content.fields.items())
    yield from ((NOT_JSON, repr(name)) for name in content.not_json)
    yield UNKNOWN_SPACES if doc.has_unknown_spaces else SPACES, short_repr(doc.text)
