"""The manifest of an output of `ner-arch annotate`: a file of json lines, see `bulk.folder`."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from reprlib import repr as short_repr
from typing import Any

MANIFEST = "manifest.jsonl"
# The names of the files of rejected records.
REJECTS = "part-*.rejects.jsonl"
# The names of all files of shards; the endings are those of `bulk.outputs.OUTPUTS`, and of the rejected records.
SHARD_FILE = re.compile(r"part-[0-9]{6,}\.(jsonl|parquet|spacy|rejects\.jsonl)")
REMEDY = "give another output folder, or delete this one to begin again"
# Keys by which the header of a manifest is recognized.
HEADER_KEYS = {"model", "fingerprint", "inputs"}

# A line of the manifest.
Entry = dict[str, Any]


def read_manifest(path: Path) -> list[Entry]:
    """The lines of a manifest; of an empty file, an empty header.

    Raises ValueError for a file of another kind, and for a manifest that names files that are not those of shards, such
    as `../notes.txt`: a run would delete or replace them.
    """
    entries: list[Entry] = []
    for line in path.read_bytes().splitlines(keepends=True):
        # The last line is truncated if the process was killed.
        if line.endswith(b"\n"):
            try:
                entries.append(dict(json.loads(line)))
            except (ValueError, TypeError) as error:
                raise ValueError(f"{path} is damaged or no manifest of ours ({error}); {REMEDY}") from error
    entries = entries or [{}]
    if not entries[0] or has_header_keys(entries[0]):
        for number, entry in enumerate(entries, start=1):
            fault = find_fault(entry, is_header=number == 1)
            if fault is not None:
                raise ValueError(f"{path}, line {number} is damaged or was changed: {fault}; {REMEDY}")
    return entries


def has_header_keys(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() >= HEADER_KEYS


def find_fault(entry: Entry, *, is_header: bool) -> str | None:
    """The fault of a line of a manifest; None if it has none."""

    def are_files(values: Iterable[Any], **types: type) -> bool:
        return all(
            isinstance(value, dict) and all(isinstance(value.get(key), type) for key, type in types.items())
            for value in values
        )

    if is_header:
        inputs = entry.get("inputs", [])
        is_right = isinstance(inputs, list) and are_files(inputs, path=str, bytes=int, sha256=str)
        return None if is_right else f"the inputs are {short_repr(inputs)}, not a list of files with their checksums"
    if "totals" in entry:
        return None if isinstance(entry.get("shards"), int) else "it has no number of shards"
    files = entry.get("files")
    if not isinstance(files, dict) or not are_files(files.values(), bytes=int, sha256=str):
        return f"the files are {short_repr(files)}, not names with checksums"
    for name in files:
        if not SHARD_FILE.fullmatch(name):
            return f"it names the file {short_repr(name)}, which no run of `ner-arch annotate` writes"
    if "shard" not in entry or not all(isinstance(value, int) for key, value in entry.items() if key != "files"):
        return "it has no number of the shard, or a count that is not a number"
    return None


def as_line(entry: Entry) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def is_output(folder: Path) -> bool:
    """Whether a folder is from `ner-arch annotate`. Other programs also write files with the name of the manifest."""
    path = folder / MANIFEST
    if not path.is_file():
        return False
    with path.open("rb") as file:
        line = file.readline()
    try:
        header = json.loads(line)
    except ValueError:
        return False
    return has_header_keys(header)


def check_complete(folder: Path) -> None:
    """Raise ValueError for an output whose run has not ended."""
    if "totals" not in read_manifest(folder / MANIFEST)[-1]:
        raise ValueError(
            f"{folder} is an output of `ner-arch annotate` that is not complete: give the command that made it again, "
            "which goes on after the finished shards. To read the finished ones alone, name their files"
        )
