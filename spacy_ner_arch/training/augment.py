"""Augmenter that replaces entities by others of the same label."""

import random
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from spacy.attrs import DEP, ENT_ID, ENT_IOB, ENT_KB_ID, ENT_TYPE, HEAD, LEMMA, MORPH, POS, SENT_START, TAG
from spacy.language import Language
from spacy.tokens import Doc, Span, SpanGroup
from spacy.training import Corpus, Example
from spacy.util import registry

from ..annotation.relations import get_relations, has_relations, set_relations
from ..annotation.teachers import TEACHER

Mention = tuple[tuple[str, bool], ...]
"""Tokens of an entity, and whether a space follows; none follows the last one."""
# Annotation of tokens that their replacements do not have, and that of all tokens.
UNKNOWN = (TAG, POS, MORPH, LEMMA, ENT_KB_ID, ENT_ID)
KEPT = (*UNKNOWN, ENT_IOB, ENT_TYPE)
TREE = (HEAD, DEP)
# Values of ENT_IOB and SENT_START.
INSIDE, NO_START = 1, np.uint64(2**64 - 1)


@registry.augmenters("spacy_ner_arch.ReplaceEntities.v1")
def create_entity_replacer(path: Path | None, level: float = 0.3, limit: int = 0, copies: int = 1) -> "EntityReplacer":
    """Replace entities by others of the same label, so that a model learns less by heart and more from the context.

    It is meant for small corpora. Entities, partial annotation, spans, relations, sentence starts and categories follow
    the new text. A dependency tree stays, so in documents with a tree entities are replaced by those with as many
    tokens. Tags and lemmas of replaced tokens become missing, and ids in a knowledge base of entities and spans with
    such tokens. Custom attributes of tokens and spans are lost. Entities are left as they are if a sentence, a
    span or an argument of a relation begins or ends inside of them, and in documents with the probabilities of a
    teacher.

    path: .spacy file or folder with .spacy files, from which the entities are taken; usually ${paths.train}.
    level: probability with which each entity is replaced, sampled anew whenever the corpus is read. spaCy reads it
        once, for the whole training, or in every pass with [training] max_epochs = -1.
    limit: entities are taken from so many documents at the beginning of the corpus; 0 for all.
    copies: number of documents that each document becomes, each with replacements of its own. Where the corpus is read
        once, a model sees no others.

    Raises ValueError if the level is not between 0 and 1, copies is below 1, there is no path, or the corpus has no
    entities.
    """
    if not 0 <= level <= 1 or copies < 1:
        raise ValueError(
            f"spacy_ner_arch.ReplaceEntities.v1: level = {level} and copies = {copies}; level is between 0 and 1, and "
            "copies at least 1"
        )
    if path is None:
        raise ValueError("spacy_ner_arch.ReplaceEntities.v1: no path; set it to ${paths.train}")
    return EntityReplacer(path, level, limit, copies)


class EntityReplacer:
    """An augmenter, see `create_entity_replacer`."""

    def __init__(self, path: Path, level: float, limit: int, copies: int) -> None:
        self.path = path
        self.level = level
        self.limit = limit
        self.copies = copies

    @cached_property
    def mentions(self) -> dict[str, list[Mention]]:
        """The different entities of the corpus by their labels."""
        found: dict[str, dict[Mention, None]] = {}
        for example in Corpus(self.path, limit=self.limit)(Language()):
            for ent in example.reference.ents:
                spaces = [bool(token.whitespace_) for token in ent[:-1]] + [False]
                mention = tuple(zip((token.text for token in ent), spaces, strict=True))
                found.setdefault(ent.label_, {})[mention] = None
        if not found:
            raise ValueError(f"spacy_ner_arch.ReplaceEntities.v1: the documents of {self.path} have no entities")
        return {label: list(mentions) for label, mentions in found.items()}

    def __call__(self, nlp: Language, example: Example) -> Iterator[Example]:
        for _ in range(self.copies):
            yield self.change(nlp, example)

    def change(self, nlp: Language, example: Example) -> Example:
        """An example with other entities; the same one if none is to be replaced."""
        doc = example.reference
        replacements = [] if TEACHER in doc.user_data else list(self.choose(doc))
        if not replacements:
            return example
        changed = replace_entities(doc, replacements)
        return Example(gold_tokens(changed) if has_gold_tokens(nlp, example) else nlp.make_doc(changed.text), changed)

    def choose(self, doc: Doc) -> Iterator["Replacement"]:
        """Entities of a document to replace, each with its replacement, in the order of the text."""
        bounds = inner_bounds(doc)
        has_tree = doc.has_annotation("DEP")
        for ent in doc.ents:
            if random.random() >= self.level or any(i in bounds for i in range(ent.start + 1, ent.end)):
                continue
            mentions: Sequence[Mention] = self.mentions.get(ent.label_, ())
            if has_tree:
                mentions = [mention for mention in mentions if len(mention) == len(ent)]
            if mentions:
                yield Replacement(ent, random.choice(mentions))


class Replacement(NamedTuple):
    """An entity, and what takes its place."""

    ent: Span
    mention: Mention


def has_gold_tokens(nlp: Language, example: Example) -> bool:
    """Whether a reader has given the predicted document the gold tokens, instead of those of the pipeline's tokenizer:
    with `gold_preproc`, and if it is unknown where the text has spaces."""
    if example.reference.has_unknown_spaces:
        return True
    docs = example.predicted, example.reference, nlp.make_doc(example.text)
    given, gold, own = ([token.text for token in doc] for doc in docs)
    return given == gold != own


def gold_tokens(doc: Doc) -> Doc:
    """A document with the same tokens, without annotation."""
    spaces = None if doc.has_unknown_spaces else [bool(token.whitespace_) for token in doc]
    return Doc(doc.vocab, words=[token.text for token in doc], spaces=spaces)


def inner_bounds(doc: Doc) -> set[int]:
    """Where sentences begin, and spans and arguments of relations begin and end."""
    spans = [span for group in doc.spans.values() for span in group]
    spans += [span for relation in get_relations(doc) for span in (relation.head, relation.tail)]
    sentences = {token.i for token in doc if token.is_sent_start}
    return sentences | {bound for span in spans for bound in (span.start, span.end)}


def replace_entities(doc: Doc, replacements: Sequence[Replacement]) -> Doc:
    """A document with other entities, and the annotation of the old one.

    replacements: in the order of the text.
    """
    words, spaces = [token.text for token in doc], [bool(token.whitespace_) for token in doc]
    rows = list(range(len(doc)))
    # From the last one, so that the places of those before it stay.
    for ent, mention in reversed(replacements):
        place = slice(ent.start, ent.end)
        words[place] = [word for word, _ in mention]
        spaces[place] = [*(space for _, space in mention[:-1]), spaces[ent.end - 1]]
        rows[place] = [min(ent.start + i, ent.end - 1) for i in range(len(mention))]
    changed = Doc(doc.vocab, words=words, spaces=None if doc.has_unknown_spaces else spaces)

    # Of each bound between tokens: how far it moves, and how many replaced entities begin before it.
    shifts, before = np.zeros((2, len(doc) + 1), dtype=np.int64)
    for ent, mention in replacements:
        shifts[ent.end :] += len(mention) - len(ent)
        before[ent.start + 1 :] += 1

    def move(span: Span) -> Span:
        start, end = span.start, span.end
        kb_id = span.kb_id if before[start] == before[end] else 0
        return Span(changed, start + shifts[start], end + shifts[end], span.label, kb_id=kb_id, span_id=span.id)

    copy_tokens(doc, changed, rows, [move(ent) for ent, _ in replacements])
    changed.cats = dict(doc.cats)
    changed.user_data.update((key, value) for key, value in doc.user_data.items() if is_of_document(key))
    for name, group in doc.spans.items():
        spans = [move(span) for span in group]
        changed.spans[name] = SpanGroup(changed, name=group.name, attrs=dict(group.attrs), spans=spans)
    if has_relations(doc):
        relations = get_relations(doc)
        set_relations(changed, [each._replace(head=move(each.head), tail=move(each.tail)) for each in relations])
    return changed


def is_of_document(key: Any) -> bool:
    """Whether a key of doc.user_data is of the whole document. Custom attributes have their place in characters."""
    return not isinstance(key, tuple) or key[2:] == (None, None)


def copy_tokens(doc: Doc, changed: Doc, rows: Sequence[int], replaced: Iterable[Span]) -> None:
    """Copy the annotation of tokens.

    rows: for each token of the changed document, the token of the old one.
    replaced: the new entities.
    """
    has_tree = doc.has_annotation("DEP")
    sentences = TREE if has_tree else (SENT_START,) if doc.has_annotation("SENT_START") else ()
    table: dict[int, Any] = {attribute: doc.to_array(attribute)[rows] for attribute in (*KEPT, *sentences)}
    for span in replaced:
        for attribute in UNKNOWN:
            table[attribute][span.start : span.end] = 0
        table[ENT_IOB][span.start + 1 : span.end] = INSIDE
        if SENT_START in table:
            table[SENT_START][span.start + 1 : span.end] = NO_START
    values: Any = np.stack(list(table.values()), axis=1)
    changed.from_array(list(table), values)
