"""Corpora that the project's workflows train on: fetched from their public homes, never overwritten.

`spacy project assets` fetches every asset again and replaces files of another checksum. This fetches the assets of one
corpus that are missing, and says where to put a file by hand where there is no network.
"""

import hashlib
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import srsly

TIMEOUT = 60  # seconds without an answer


class FetchError(ValueError):
    """A file is missing and could not be fetched."""


def find_assets(project: Path, corpus: str) -> list[dict[str, Any]]:
    """Assets of project.yml below `assets/<corpus>/`.

    Raises FetchError if there is no project.yml, or no such asset in it.
    """
    config = project / "project.yml"
    if not config.exists():
        raise FetchError(f"no project.yml in {project.resolve()}: run this in the folder of the project")
    assets = srsly.read_yaml(config).get("assets") or []
    found = [asset for asset in assets if Path(asset["dest"]).parts[1] == corpus]
    if not found:
        known = sorted({Path(asset["dest"]).parts[1] for asset in assets})
        raise FetchError(f"project.yml has no assets of {corpus!r}; known are {', '.join(known) or 'none'}")
    return found


def fetch(project: Path, corpus: str) -> Iterator[str]:
    """Fetch the files of a corpus that are not there, and check them.

    Yields a line on what became of each file.
    Raises FetchError with the address and the place for a file that cannot be had.
    """
    for asset in find_assets(project, corpus):
        path = project / asset["dest"]
        if path.exists():
            same = not asset.get("checksum") or md5(path) == asset["checksum"]
            yield f"{asset['dest']}: is there" + (
                "" if same else ", and differs from the published file; left as it is"
            )
            continue
        download(asset["url"], path, asset.get("checksum"), asset["dest"])
        yield f"{asset['dest']}: fetched"


def download(url: str, path: Path, checksum: str | None, name: str) -> None:
    """Fetch one file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    by_hand = f"Get it from {url} by other means and put it at {path.resolve()}"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response, part.open("wb") as file_:
            shutil.copyfileobj(response, file_)
        if checksum and md5(part) != checksum:
            raise FetchError(f"{name}: what {url} serves is not the published file (md5 {checksum}). {by_hand}")
        os.replace(part, path)
    except (urllib.error.URLError, OSError) as error:
        raise FetchError(f"{name} could not be fetched ({error}). {by_hand}") from error
    finally:
        part.unlink(missing_ok=True)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
