"""Lines of a text file, with the place that an error message needs.

Only LF and CRLF end a line, and only spaces and tabs are blank. `str.splitlines` and `str.split` would also break at
other characters, such as NO-BREAK SPACE or LINE SEPARATOR, which occur inside tokens.
"""

from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

BLANKS = " \t"
# First bytes of files of gzip, bzip2, xz, zstd and zip.
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"PK\x03\x04")
SHOWN_CHARACTERS = 200


class FormatError(ValueError):
    """A file does not follow its format.

    path, line_number, line: the place, and the text of the line.
    reason: description of the fault.
    remedy: remedy for the user.
    """

    def __init__(self, path: str | Path, line_number: int, line: str, reason: str, remedy: str) -> None:
        # All fields go to the base class, so that the error can be pickled.
        super().__init__(path, line_number, line, reason, remedy)
        self.path = path
        self.line_number = line_number
        self.line = line
        self.reason = reason
        self.remedy = remedy

    @property
    def short(self) -> str:
        """Place and reason, in one line."""
        return f"{self.path}:{self.line_number}: {self.reason}"

    def __str__(self) -> str:
        cut = " ..." if len(self.line) > SHOWN_CHARACTERS else ""
        return f"{self.short}\n  line: {self.line[:SHOWN_CHARACTERS]!r}{cut}\n  remedy: {self.remedy}"


class Line(NamedTuple):
    """A line of a file, without its line end.

    path, number: the file, and the line number from 1.
    text: the text. If the line is not UTF-8, invalid bytes are written as \\xNN.
    fault: the error to raise when the line is used, or None. It is kept here, so that a reader can skip one sentence.
    part: part of the line that the text is, such as "object 2"; "" for the whole line.
    """

    path: Path
    number: int
    text: str
    fault: FormatError | None = None
    part: str = ""

    @property
    def place(self) -> str:
        """File, line number and part."""
        return f"{self.path}:{self.number}" + (f": {self.part}" if self.part else "")

    def error(self, reason: str, remedy: str) -> FormatError:
        """Make an error about this line."""
        reason = f"{self.part}: {reason}" if self.part else reason
        return FormatError(self.path, self.number, self.text, reason, remedy)

    def check(self) -> None:
        """Raise the fault of the line, if it has one."""
        if self.fault is not None:
            raise self.fault


def read_lines(path: str | Path) -> Iterator[Line]:
    """Yield the lines of a UTF-8 file, see `make_lines`."""
    path = Path(path)
    with path.open("rb") as file:
        yield from make_lines(path, file)


def make_lines(path: Path, contents: Iterable[bytes]) -> Iterator[Line]:
    """Yield the lines of an open UTF-8 file.

    A byte order mark at the start of any line is removed, since concatenated files have them in the middle.

    path: name of the file, for messages.
    """
    for number, content in enumerate(contents, start=1):
        yield make_line(path, number, content)


def read_blocks(path: str | Path) -> Iterator[list[Line]]:
    """Yield the runs of lines between blank lines. No run is empty."""
    block: list[Line] = []
    for line in read_lines(path):
        if line.text.strip(BLANKS):
            block.append(line)
        elif block:
            yield block
            block = []
    if block:
        yield block


def make_line(path: Path, number: int, content: bytes) -> Line:
    """The line of a UTF-8 file with this number and content, see `make_lines`."""
    content = content.removeprefix(BOM_UTF8).rstrip(b"\r\n")
    line = Line(path, number, content.decode("utf-8", errors="backslashreplace"))
    if is_utf_16(content):
        return line._replace(fault=line.error("the line seems to be UTF-16", "convert the file to UTF-8"))
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        reason = f"the line is not UTF-8: {error.reason} at byte {error.start + 1} of the line"
        return line._replace(fault=line.error(reason, remedy_of_encoding(content if number == 1 else b"")))
    if "\r" in line.text:
        return line._replace(fault=line.error("a carriage return within the line", "end all lines with LF or CRLF"))
    return line


def is_utf_16(line: bytes) -> bool:
    """Whether a line is UTF-16: with a byte order mark or, as in Latin script, with a NUL in every second byte."""
    return line.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) or line.count(0) > len(line) // 3


def remedy_of_encoding(start: bytes) -> str:
    """The remedy for a file that is not UTF-8, by its first bytes."""
    return "unpack the file, which is compressed" if start.startswith(COMPRESSED) else "convert the file to UTF-8"
