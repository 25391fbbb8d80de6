"""The manifest of an output of `ner-arch annotate`: a file of json lines, see `bulk.folder`."""

import json
from pathlib import Path
from typing import Any

MANIFEST = "manifest.jsonl"
# The names of the files of rejected records.
REJECTS = "part-*.rejects.jsonl"
REMEDY = "give another output folder, or delete this one to begin again"
# Keys by which the header of a manifest is recognized.
HEADER_KEYS = {"model", "fingerprint", "inputs"}

# A line of the manifest.
Entry = dict[str, Any]


def read_manifest(path: Path) -> list[Entry]:
    """The lines of a manifest; of an empty file, an empty header. Raises ValueError for a file of another kind."""
    entries: list[Entry] = []
    for line in path.read_bytes().splitlines(keepends=True):
        # The last line is truncated if the process was killed.
        if line.endswith(b"\n"):
            try:
                entries.append(dict(json.loads(line)))
            except (ValueError, TypeError) as error:
                raise ValueError(f"{path} is damaged or no manifest of ours ({error}); {REMEDY}") from error
    return entries or [{}]


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
    return isinstance(header, dict) and header.keys() >= HEADER_KEYS


def check_complete(folder: Path) -> None:
    """Raise ValueError for an output whose run has not ended."""
    if "totals" not in read_manifest(folder / MANIFEST)[-1]:
        raise ValueError(
            f"{folder} is an output of `ner-arch annotate` that is not complete: give the command that made it again, "
            "which goes on after the finished shards. To read the finished ones alone, name their files"
        )
