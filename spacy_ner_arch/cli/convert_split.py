"""`ner-arch convert --split`: a development part and a test part, without the documents of the training part."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spacy.tokens import Doc
from wasabi import msg

if TYPE_CHECKING:
    from ..formats import ReadReport


def group_sources(
    docs: Sequence[Doc], field: str | None, path: Path, report: "ReadReport", *, sentences: bool
) -> list[list[int]]:
    """Group the Docs of an input that must not be divided, see `group_docs`: those of a source document, or with the
    same value of a field. If all are sentences of one document, only those with the same text.

    field: the value of --split-by.
    sentences: whether the Docs are sentences.
    Raises ValueError if no Doc has the field.
    """
    from ..formats import group_docs

    keys = [report.sources] if len(set(report.sources)) > 1 else []
    if field is not None:
        keys.append(field_keys(docs, field, path, report))
    return group_docs(docs, *keys, sentences=sentences)


def split_parts(
    docs: Sequence[Doc], groups: list[list[int]], shares: Mapping[str, float], seed: int, path: Path
) -> list[list[Doc]]:
    """The Docs that remain, then those of each part.

    shares: the share of each part, by its name. Raises ValueError if a part would be empty.
    """
    from ..formats import split_docs

    parts = split_docs(docs, list(shares.values()), seed, groups)
    if not all(parts):
        option = "--test" if "test" in shares else "--split"
        raise ValueError(
            f"{path}: {len(docs)} docs in {len(groups)} groups are too few for {len(parts)} parts. Docs of the same "
            f"document, text or value of --split-by are not divided; leave out {option}"
        )
    return list(parts)


def field_keys(docs: Iterable[Doc], field: str, path: Path, report: "ReadReport") -> list[Hashable]:
    """The value of a field of each Doc as text, or None for a Doc without it or with null.

    Raises ValueError if no Doc has the field.
    """
    values = [doc.user_data.get(field) for doc in docs]
    if all(value is None for value in values):
        others = ", ".join(sorted(report.unread_keys)) or "none"
        raise ValueError(f"{path}: no record has the field {field} of --split-by; keys that are not read: {others}")
    return [None if value is None else str(value) for value in values]


def warn_of_groups(groups: Sequence[Sequence[int]], part: str, size: int, share: float, field: str | None) -> None:
    """Warn if a part does not have its share, or if a group of Docs is too large to get into it.

    groups: the groups of Docs that --split does not divide.
    part: dev or test.
    size: number of Docs in the part.
    share: the value of --split, or of --test.
    field: the value of --split-by.
    """
    count, largest = sum(map(len, groups)), max(map(len, groups))
    wanted = share * count
    option = "--split" if part == "dev" else f"--{part}"
    if abs(size - wanted) > max(1, wanted / 4) or largest > wanted + 1:
        same = f"document, {field} or text" if field else "document or text"
        msg.warn(
            f"{part}.spacy has {size} of {count} docs ({100 * size / count:.1f} %), {option} {share} asks for "
            f"{wanted:.0f}. Docs of the same {same} are not divided: there are {len(groups)} groups, "
            f"the largest with {largest} docs",
            "A group that is larger than this part is always in another part: compare them with debug-data",
        )
