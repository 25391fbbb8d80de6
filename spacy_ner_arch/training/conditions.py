"""Conditions of a training run, which must not change before it is resumed."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thinc.api import Config

from ..formats.files import checksum
from . import parallel


def find_conditions(config: Config, code: Path | None = None, output: Path | None = None) -> dict[str, Any]:
    """Everything that determines the result of a training run: settings, content of the files, number of processes.

    The files are those of [corpora] and [initialize], such as word vectors and labels, the pipelines from which
    components are sourced, and `code`.

    code: file with functions to register.
    output: output folder of the training. A pipeline in it is skipped: it can be a source, but training replaces it.
    """
    filled = config.interpolate()
    sources = {
        name: {"source": source}
        for name, block in filled.get("components", {}).items()
        if (source := block.get("source")) and not (output and Path(source).resolve().is_relative_to(output.resolve()))
    }
    blocks = {"corpora": filled.get("corpora", {}), "initialize": filled.get("initialize", {}), "components": sources}
    conditions = {
        "settings": dict(flatten(filled)),
        "files": file_checksums({**blocks, "--code": code}),
        "processes": parallel.size(),
    }
    return json.loads(json.dumps(conditions, default=str))


def flatten(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def find_differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Descriptions of the differences between the conditions of two training runs."""
    found = []
    for name in sorted(before["settings"].keys() | now["settings"].keys()):
        values = [conditions["settings"].get(name, "not there") for conditions in (before, now)]
        if values[0] != values[1]:
            found.append(f"{name} was {values[0]!r} and is {values[1]!r}")
    for name in sorted(before["files"].keys() & now["files"].keys()):
        if before["files"][name] != now["files"][name]:
            place = f" ({now['settings'][name]})" if name in now["settings"] else ""
            found.append(f"the content of {name}{place} has changed")
    if before["processes"] != now["processes"]:
        found.append(f"the number of processes was {before['processes']} and is {now['processes']}")
    return found


def file_checksums(settings: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """The checksum of each file or folder that a setting names."""
    found = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            found.update(file_checksums(value, f"{prefix}{key}."))
        elif isinstance(value, (str, Path)) and (os.path.isfile(value) or os.path.isdir(value)):
            found[f"{prefix}{key}"] = checksum(Path(value))
    return found
