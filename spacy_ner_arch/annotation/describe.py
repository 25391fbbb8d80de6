"""How messages describe annotation."""

from spacy.tokens import Doc, Span

from .relations import RelationKey

# Characters of a text that a message quotes.
MOST_QUOTED = 120


def quote(text: str) -> str:
    """A text in quotes; the middle of a long one is left out."""
    return repr(text if len(text) <= MOST_QUOTED else f"{text[: MOST_QUOTED // 2]} … {text[-MOST_QUOTED // 3 :]}")


def describe_span(span: Span) -> str:
    """Text and label."""
    return f"{quote(span.text)} {span.label_}"


def describe_relation(doc: Doc, key: RelationKey) -> str:
    """Label, and text and type of head and tail."""
    head_start, head_end, head_label, tail_start, tail_end, tail_label, label = key
    head, tail = doc.text[head_start:head_end], doc.text[tail_start:tail_end]
    return f"{label} from {quote(head)} {head_label} to {quote(tail)} {tail_label}"
