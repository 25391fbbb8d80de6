"""Output of several commands: errors and warnings with details of several lines, and tables of scores."""

import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import wasabi.util
from wasabi import Printer, msg

if TYPE_CHECKING:
    from ..evaluation.score_tables import Row

WIDTH = 80
# Characters of the category Cc, but tabs and line ends.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def escape_characters() -> None:
    """Escape characters that the terminal cannot show, or would obey: the output quotes corpora, labels and files.

    All messages and tables of the commands pass `printable`; what is printed without wasabi calls it.
    """
    for name in ("text", "divider", "table"):
        method = getattr(Printer, name)
        if not hasattr(method, "__wrapped__"):  # several commands can run in one process
            setattr(Printer, name, _with_printable(method))
    # wasabi encodes messages for the terminal and decodes them as UTF-8, which fails for other encodings.
    wasabi.util.ENCODING = "utf-8"
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def printable(value: Any) -> Any:
    r"""Replace control characters but tabs and line ends by `\xNN` in a text, an error, a path, or a list of them.

    A label can have escape sequences, which change the title of a terminal, or write to the clipboard.
    """
    if isinstance(value, (str, Exception, Path)):
        return CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", str(value))
    return [*map(printable, value)] if isinstance(value, (list, tuple)) else value


def _with_printable(method: Callable[..., Any]) -> Callable[..., Any]:
    """Clean the arguments of a method of wasabi's printer. The colors, which it adds, are kept."""

    @wraps(method)
    def call(printer: Printer, *args: Any, **options: Any) -> Any:
        return method(printer, *map(printable, args), **{key: printable(value) for key, value in options.items()})

    return call


def fail(title: str, details: object) -> NoReturn:
    """Print an error and exit with status 1. The details keep their lines, which wasabi would join.

    Errors of the user's code are raised again, so that their traceback is shown.
    """
    from ..bulk.user_code import is_of_user

    if isinstance(details, Exception) and is_of_user(details):
        raise details
    msg.text("")
    msg.fail(title)
    print(f"{wrap(details)}\n", flush=True)
    raise SystemExit(1)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make the folders above an output. Exits with a message if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        fail(f"Cannot write {path}", error)


def warn(title: str, details: object) -> None:
    """Print a warning."""
    msg.warn(title)
    print(wrap(details))


def wrap(details: object) -> str:
    """Wrap a text at WIDTH characters. Existing line breaks and indents are kept. See `printable`."""
    return "\n".join(
        textwrap.fill(
            line,
            WIDTH,
            subsequent_indent=" " * (len(line) - len(line.lstrip())),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in printable(str(details)).strip("\n").splitlines()
    )


COLUMNS = ("P", "R", "F", "95 %", "support", "predicted")


def cells(row: "Row") -> list[str]:
    """Precision, recall and F1 in percent, the interval of F1, support, and the number of predictions: see COLUMNS."""
    interval = "" if row.interval is None else "-".join(f"{100 * bound:.1f}" for bound in row.interval)
    scores = [f"{100 * value:.2f}" for value in (row.precision, row.recall, row.f1)]
    return [*scores, interval, str(row.support), str(row.predicted)]


def print_scores(rows: Sequence["Row"]) -> None:
    """Print the rows of a table of scores."""
    if rows:
        lines = [(row.name, *cells(row)) for row in rows]
        Printer().table(lines, header=("", *COLUMNS), aligns=("l", *"r" * len(COLUMNS)))
