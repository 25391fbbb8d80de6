"""Write a folder for brat."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise
from pathlib import Path

from ..files import replace_folder
from .content import Content, Labels, find_labels

LABEL_CHANGED = "changed: labels with characters that brat does not have in labels"


def write_brat(path: Path, contents: Sequence[Content], labels: Labels) -> None:
    """Write a folder with a pair of files for each document, and the configuration, which has the labels.

    The folder appears when it is complete. Raises FileExistsError if it exists and is not empty.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"{path} exists and is not an empty folder; name a new one")
    digits = len(str(len(contents)))

    def write(folder: Path) -> None:
        folder.mkdir(parents=True)
        _write(folder / "annotation.conf", _join(_make_configuration(labels)))
        for content in contents:
            stem = folder / f"{content.number:0{digits}}"
            _write(Path(f"{stem}.ann"), _join(_make_lines(content)))
            _write(Path(f"{stem}.txt"), content.doc.text)

    replace_folder(path, write)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="")


def _join(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _make_configuration(labels: Labels) -> list[str]:
    spans, relations = (dict.fromkeys(map(_make_label, sorted(part))) for part in labels)
    arguments = "Arg1:<ENTITY>, Arg2:<ENTITY>"
    sections = ["[entities]", *spans, "", "[relations]", *(f"{label} {arguments}" for label in relations), ""]
    return [*sections, "[events]", "", "[attributes]"]


def find_brat_losses(content: Content) -> Iterator[tuple[str, str]]:
    """Yield the losses of brat besides layers: LABEL_CHANGED, and the label."""
    for label in sorted({*chain(*find_labels([content]))}):
        if _make_label(label) != label:
            yield LABEL_CHANGED, f"{label!r} to {_make_label(label)!r}"


def _make_lines(content: Content) -> Iterator[str]:
    text, notes = content.doc.text, 0

    def score_of(id: str, score: float | None) -> Iterator[str]:
        nonlocal notes
        if score is not None:
            notes += 1
            yield f"#{notes}\tAnnotatorNotes {id}\t{score!r}"

    for i, (span, score) in enumerate(zip(content.spans, content.scores, strict=True), start=1):
        parts = _lines_of(text, span.start_char, span.end_char)
        bounds = ";".join(f"{start} {end}" for start, end in parts)
        quoted = " ".join(text[start:end] for start, end in parts)
        yield f"T{i}\t{_make_label(span.label_)} {bounds}\t{quoted}"
        yield from score_of(f"T{i}", score)
    for i, (head, tail, label, score) in enumerate(content.relations, start=1):
        yield f"R{i}\t{_make_label(label)} Arg1:T{head + 1} Arg2:T{tail + 1}"
        yield from score_of(f"R{i}", score)


def _make_label(label: str) -> str:
    """A label without the characters that brat does not allow in labels."""
    return "".join(character if character.isalnum() or character in "_-" else "_" for character in label)


def _lines_of(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Bounds of the parts of a span between line ends, which brat does not allow in an entity."""
    breaks = [i for i in range(start, end) if text[i] in "\r\n"]
    parts = [(first + 1, last) for first, last in pairwise([start - 1, *breaks, end])]
    return [(first, last) for first, last in parts if text[first:last].strip()]
