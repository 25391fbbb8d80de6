"""Small pieces of html. Whatever comes from a corpus or a pipeline goes through `escape` here."""

from collections.abc import Iterable, Sequence
from html import escape


def table(header: Sequence[str], rows: Iterable[Sequence[str]], classes: Sequence[str] = ()) -> str:
    """A table of texts, the first cell of each row being its header.

    classes: of the rows, in order; rows beyond them have none.
    """
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    lines = []
    for i, (first, *cells) in enumerate(rows):
        name = f' class="{classes[i]}"' if i < len(classes) and classes[i] else ""
        body = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        lines.append(f'<tr{name}><th scope="row">{escape(first)}</th>{body}</tr>')
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """A table of names and values."""
    lines = [f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows]
    return f'<table class="facts"><tbody>{"".join(lines)}</tbody></table>'


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def figure(picture: str, caption: str = "", wide: bool = False) -> str:
    """A picture, given as svg. wide: scrolls rather than shrinks in a narrow window."""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    name = "wide" if wide else "fitting"
    return f'<figure class="{name}">{picture}{below}</figure>'


def percent(share: float) -> str:
    return f"{100 * share:.2f}"
