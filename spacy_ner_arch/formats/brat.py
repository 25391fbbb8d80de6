"""Format `brat`: texts (.txt) with stand-off annotation (.ann)."""

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from reprlib import repr as short_repr
from typing import NamedTuple

from spacy.tokens import Doc

from ..annotation.tags import LabelledSpan
from .counts import Note, ReadReport
from .files import find_files
from .lines import BLANKS, FormatError, Line, read_lines
from .sentence import Sentence
from .spans import RELATION_LEFT_OUT
from .texts import (
    NO_ENTITY,
    UNLABELLED,
    LabelledIndices,
    TextAnnotation,
    complete_relations,
    is_wording,
    make_sentences,
)
from .units import Places, convert_spans, find_places, is_wide

REMEDY = (
    "write T1<tab>PER 0 4<tab>Anna for an entity, the end exclusive, and R1<tab>left Arg1:T1 Arg2:T2 for a relation; "
    "start and end count characters (code points) or UTF-16 code units of the .txt file, also those of line ends"
)
DISCONTINUOUS = "left out: discontinuous entities; their parts are left without annotation"
# Annotation of brat that is not read, by the first letter of its id.
OTHERS = {
    "E": "left out: events",
    "A": "left out: attributes",
    "M": "left out: attributes",
    "N": "left out: references to knowledge bases",
    "#": "left out: notes of annotators",
    "*": "left out: equivalences",
}
BYTE_ORDER_MARK = "\ufeff"
ENTITY = re.compile(r"(T\S+)\t(\S+) (\d+ \d+(?:;\d+ \d+)*)\t(.*)", re.DOTALL)
RELATION = re.compile(r"(R\S+)\t(\S+) ([^\s:]+):(\S+) ([^\s:]+):(\S+)\s*")


class Entity(NamedTuple):
    """A text-bound annotation: its place, label, parts (start and exclusive end), and the text that it quotes."""

    line: Line
    label: str
    parts: list[tuple[int, int]]
    quoted: str


class Items(NamedTuple):
    """The annotation of a document.

    entities: by id.
    relations: their lines, labels, and the ids of head and tail.
    others: lines that are left out, see OTHERS.
    """

    entities: dict[str, Entity]
    relations: list[tuple[Line, str, str, str]]
    others: list[Line]


def read_brat(
    path: str | Path,
    report: ReadReport,
    *,
    tokenizer: Callable[[str], Doc],
    align: str = "strict",
    on_error: str = "raise",
) -> Iterator[list[Sentence]]:
    """Read a folder of brat with its subfolders, or one of its documents.

    Each pair NAME.txt and NAME.ann is a document. Entities may overlap. The parts of an entity that only white space
    separates, as brat writes one that crosses a line end, are joined. Other discontinuous entities, events, attributes,
    references, notes and equivalences are left out and counted. If no document has a relation, then relations are not
    annotated. A text without a .ann file is left out and counted. An empty .ann file can mean that there is no entity
    or that nobody has annotated the text yet: it is read as annotated with none, and counted.

    path: a folder, whose hidden files are not read, or a file .ann or .txt.
    Other arguments, results and errors are those of `offsets.read_texts`. With on_error = "skip", the document of a
    malformed line is skipped.
    """
    annotations = complete_relations(_read(Path(path), report, on_error))
    return make_sentences(annotations, report, tokenizer, align)


def _read(path: Path, report: ReadReport, on_error: str) -> Iterator[TextAnnotation]:
    files = find_files(path) if path.is_dir() else [path.with_suffix(suffix) for suffix in (".ann", ".txt")]
    for stem in sorted({str(file.with_suffix("")) for file in files if file.suffix in (".ann", ".txt")}):
        # The stem may have a dot.
        text_path, annotation_path = Path(f"{stem}.txt"), Path(f"{stem}.ann")
        if not annotation_path.exists():
            report.note(Note(Line(text_path, 1, ""), UNLABELLED))
            continue
        found: list[TextAnnotation] = []
        with report.skipping(on_error):
            annotation, notes = _read_document(text_path, annotation_path)
            found.append(annotation)
            for note in notes:
                report.note(note)
        yield from found


def _read_document(text_path: Path, annotation_path: Path) -> tuple[TextAnnotation, list[Note]]:
    """Read a pair of files. Returns the annotation, and notes on annotation that is left out."""
    items = _read_items(annotation_path)
    start = Line(annotation_path, 1, "")
    text, places, unit = _read_text(text_path, start, list(items.entities.values()))
    entities: list[Entity] = []
    for entity in items.entities.values():
        try:
            entities.append(_place(entity, text, places, unit))
        except ValueError as error:
            raise entity.line.error(str(error), REMEDY) from error
    # No token gets the byte order mark, also where the offsets count it.
    shift = int(text.startswith(BYTE_ORDER_MARK))
    text = text[shift:]
    notes = [Note(line, OTHERS[line.text[0]]) for line in items.others]
    if not any(items):
        notes.append(Note(start, NO_ENTITY))
    spans: list[LabelledSpan | None] = []
    missing: list[tuple[int, int]] = []
    for line, label, given, quoted in entities:
        parts = [(max(start - shift, 0), end - shift) for start, end in given]
        bounds = _join(parts, text)
        spans.append(None if bounds is None else (*bounds, label))
        if bounds is None:
            missing += parts
            notes.append(Note(line, DISCONTINUOUS, f"{quoted!r} {label}"))
    relations, left_out = _find_relations(items)
    return TextAnnotation(start, text, spans, relations, missing), notes + left_out


def _read_items(path: Path) -> Items:
    """Read the annotation of a document by kind."""
    items = Items({}, [], [])
    ids: set[str] = set()
    for line in read_lines(path):
        if not line.text.strip(BLANKS):
            continue
        line.check()
        id = _id_of(line)
        if id in ids and id != "*":
            raise line.error(f"the id {id} is there twice", "give each annotation of a document an id of its own")
        ids.add(id)
        if line.text[0] == "T":
            items.entities[id] = _read_entity(line)
        elif line.text[0] == "R":
            items.relations.append(_read_relation(line))
        elif line.text[0] in OTHERS:
            items.others.append(line)
        else:
            raise line.error("the id is none of brat's: T, R, E, A, M, N, # or *", REMEDY)
    return items


def _id_of(line: Line) -> str:
    return line.text.split("\t")[0]


def _find_relations(items: Items) -> tuple[list[LabelledIndices], list[Note]]:
    """The relations between entities, and notes on those with other arguments, which are left out."""
    places = {id: i for i, id in enumerate(items.entities)}
    others = set(map(_id_of, items.others))
    relations: list[LabelledIndices] = []
    notes: list[Note] = []
    for line, label, *arguments in items.relations:
        for argument in arguments:
            if argument not in places and argument not in others:
                raise line.error(f"the argument {argument} is not the id of an entity of the document", REMEDY)
        if others.intersection(arguments):
            notes.append(Note(line, RELATION_LEFT_OUT, line.text))
        else:
            head, tail = (places[argument] for argument in arguments)
            relations.append((head, tail, label))
    return relations, notes


def _read_entity(line: Line) -> Entity:
    match = ENTITY.fullmatch(line.text)
    if match is None:
        raise line.error("not an entity", REMEDY)
    bounds = [part.split(" ") for part in match[3].split(";")]
    try:
        parts = [(int(start), int(end)) for start, end in bounds]
    except ValueError as error:  # more digits than Python converts
        raise line.error(str(error), REMEDY) from error
    return Entity(line, match[2], sorted(parts), match[4])


def _read_relation(line: Line) -> tuple[Line, str, str, str]:
    match = RELATION.fullmatch(line.text)
    if match is None:
        raise line.error("not a relation", REMEDY)
    arguments = {match[3]: match[4], match[5]: match[6]}
    # brat reads the roles, not the order, where these are the roles.
    if arguments.keys() == {"Arg1", "Arg2"}:
        return line, match[2], arguments["Arg1"], arguments["Arg2"]
    return line, match[2], match[4], match[6]


def _read_text(path: Path, start: Line, entities: list[Entity]) -> tuple[str, Places, str]:
    """Read the text so that the offsets of the entities match the text that they quote.

    Tools differ in whether a byte order mark and the CR of a line end count, and in the unit. The text has the mark if
    the offsets count it, or if there are no entities.
    Returns the text, its places in the unit of the offsets, see `units.find_places`, and the unit.
    """
    try:
        content = path.read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        raise start.error(f"there is no text {path.name} beside it", "put the text beside the annotation") from error
    except UnicodeDecodeError as error:
        number = path.read_bytes().count(b"\n", 0, error.start) + 1
        raise FormatError(path, number, "", "the line is not UTF-8", "convert the file to UTF-8") from error
    forms = [content, content.replace("\r\n", "\n")]
    forms += [form.removeprefix(BYTE_ORDER_MARK) for form in forms]
    units = ("characters", "utf-16") if is_wide(content) else ("characters",)
    readings = ((form, find_places(form, unit), unit) for unit in units for form in dict.fromkeys(forms))
    return min(readings, key=lambda reading: sum(not _fits(entity, *reading) for entity in entities))


def _fits(entity: Entity, text: str, places: Places, unit: str) -> bool:
    try:
        _place(entity, text, places, unit)
    except ValueError:
        return False
    return True


def _place(entity: Entity, text: str, places: Places, unit: str) -> Entity:
    """The entity with bounds in code points. Raises ValueError if they do not fit the text.

    places: those of the text in the unit, see `units.find_places`.
    """
    spans = convert_spans([(start, end, entity.label) for start, end in entity.parts], places, unit)
    found = " ".join(text[start:end] for start, end, _ in spans)
    if not is_wording(entity.quoted, found):
        raise ValueError(f"the text is {short_repr(found)} between the bounds, not {short_repr(entity.quoted)}")
    return entity._replace(parts=[(start, end) for start, end, _ in spans])


def _join(parts: list[tuple[int, int]], text: str) -> tuple[int, int] | None:
    """Joined bounds of parts that only white space separates; None for other parts."""
    gaps = [text[end:start] for (_, end), (start, _) in pairwise(parts)]
    return (parts[0][0], max(end for _, end in parts)) if not any(map(str.strip, gaps)) else None
