"""Move spans of given words to the bounds of the tokens of a tokenizer."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from spacy.tokens import Doc

from ..annotation.tags import LabelledSpan
from .counts import MISALIGNED, Note
from .lines import Line
from .sentence import Sentence
from .spans import DUPLICATE, DUPLICATE_RELATION, RELATION_LEFT_OUT, widest_apart
from .texts import MOVED, describe_misalignment


def align_words(sentence: Sentence, tokenizer: Callable[[str], Doc], align: str) -> tuple[Sentence, list[Note]]:
    """Move spans that do not start and end at token boundaries, as `texts.make_sentences` does. The words are kept.

    sentence: a sentence with known spaces. It is returned unchanged if the tokenizer changes its text.
    align: see `texts.make_sentences`. A moved span also starts and ends with words.
    Returns the sentence, and notes on what is moved or left out. Spans and relations that become equal are kept once.
        An entity that would overlap a wider one is left out, unless the sentence has spans that may overlap. All words
        of the tokens that such a span overlaps, except those in entities, are left without annotation.
    """
    line = sentence.line or Line(Path(), 0, "")
    spaced = zip(sentence.words, sentence.spaces or (), strict=True)
    tokens = tokenizer("".join(word + " " * space for word, space in spaced))
    words = Doc(tokens.vocab, words=sentence.words, spaces=sentence.spaces)
    text = words.text
    if text != tokens.text:
        return sentence, []
    moved: dict[LabelledSpan, LabelledSpan | None] = {}
    missing = set(sentence.missing)
    notes: list[Note] = []
    for span in dict.fromkeys([*sentence.spans, *(sentence.nested or ())]):
        moved[span] = span
        place = words[span[0] : span[1]]
        start, end = place.start_char, place.end_char
        if tokens.char_span(start, end) is not None:
            continue
        moved[span] = found = _move(span, words, tokens, align)
        overlapped = found if align == "expand" else _move(span, words, tokens, "expand")
        missing.update(range(*overlapped[:2]) if overlapped else ())
        reason = describe_misalignment(tokens, text, start, end, span[2])
        if found is None:
            notes.append(Note(line, MISALIGNED, reason))
        else:
            notes.append(Note(line, MOVED, f"{reason}: {words[found[0] : found[1]].text!r}"))
    if not notes:
        return sentence, []
    spans = widest_apart(list(filter(None, (moved[span] for span in sentence.spans))))
    nested = sentence.nested and list(dict.fromkeys(filter(None, map(moved.get, sentence.nested))))
    entities = set(spans)
    for span in sentence.spans if sentence.nested is None else ():
        if moved[span] is not None and moved[span] not in entities:
            moved[span] = None
            notes.append(Note(line, MISALIGNED, f"{words[span[0] : span[1]].text!r} {span[2]} overlaps a moved entity"))
    kept = [span for span in moved.values() if span is not None]
    notes += [Note(line, DUPLICATE)] * (len(kept) - len(set(kept)))
    relations = None
    if sentence.relations is not None:
        all_pairs = [(moved.get(head), moved.get(tail), label) for head, tail, label in sentence.relations]
        pairs = [(head, tail, label) for head, tail, label in all_pairs if head is not None and tail is not None]
        relations = list(dict.fromkeys(pairs))
        notes += [Note(line, RELATION_LEFT_OUT)] * (len(all_pairs) - len(pairs))
        notes += [Note(line, DUPLICATE_RELATION)] * (len(pairs) - len(relations))
    missing = missing.difference(*(range(start, end) for start, end, _ in spans))
    return replace(sentence, spans=spans, nested=nested, relations=relations, missing=sorted(missing)), notes


def _move(span: LabelledSpan, words: Doc, tokens: Doc, align: str) -> LabelledSpan | None:
    """A span of words that starts and ends at the boundaries of both words and tokens; None if it is left out."""
    place, before = words[span[0] : span[1]], None
    while before != (place.start_char, place.end_char):
        before = place.start_char, place.end_char
        for doc in (tokens, words):
            found = doc.char_span(place.start_char, place.end_char, alignment_mode=align)
            if found is None:
                return None
            place = found
    return place.start, place.end, span[2]
