"""Errors and warnings with details of several lines. wasabi joins the lines of a text."""

import textwrap
from typing import NoReturn

from wasabi import msg

WIDTH = 80


def fail(title: str, details: object) -> NoReturn:
    """Print an error, and exit with status 1."""
    msg.text("")
    msg.fail(title)
    print(f"{wrap(details)}\n", flush=True)
    raise SystemExit(1)


def warn(title: str, details: object) -> None:
    """Print a warning."""
    msg.warn(title)
    print(wrap(details))


def wrap(details: object) -> str:
    """Text whose lines are at most WIDTH wide. Its own line breaks and indents stay."""
    return "\n".join(
        textwrap.fill(
            line,
            WIDTH,
            subsequent_indent=" " * (len(line) - len(line.lstrip())),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in str(details).strip("\n").splitlines()
    )
