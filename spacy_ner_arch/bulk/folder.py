"""The output folder: finished shards, and the manifest that lists them.

The manifest is a file of json lines. The first line is the header: all settings and files on which the output depends.
Each finished shard adds a line with its counts, and with sizes and checksums of its files. When all shards are
finished, their lines are sorted, and a line with the totals is added.

A shard is written to a temporary file and renamed. Whatever stops the process, a shard with a line in the manifest is
complete, and a shard without a line is made again.
"""

import json
import re
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..formats.files import LOCK, TEMPORARY, checksum, complete_files, lock_folder, sync
from ..formats.manifest import MANIFEST, REJECTS, SHARD_FILE, Entry, as_line, has_header_keys, read_manifest
from .annotator import ShardResult

# Files that runs write besides the manifest: files of shards, and temporary files.
OWN_FILE = re.compile(rf"{SHARD_FILE.pattern}|\..*{re.escape(TEMPORARY)}")


class OutputFolder:
    """The folder of a run, locked against other runs until it is closed.

    path: path of the folder, which is created.
    header: settings and files on which the output depends, as JSON values.
    ending: file extension of the shards.
    force: replace the output of another run.

    finished: number and line of the manifest of each shard that is finished and intact.
    damaged: names of files in the manifest that are missing or changed; they are made again.
    Raises ValueError if another process writes to the folder, it has other files, or, without `force`, its manifest has
    another header and a document.
    """

    def __init__(self, path: Path, header: Entry, ending: str, *, force: bool = False) -> None:
        self.path, self.header, self.ending, self.force = path, header, ending, force
        self.finished: dict[int, Entry] = {}
        self.damaged: list[str] = []
        self.totals: Entry | None = None
        if path.exists() and not path.is_dir():
            raise ValueError(f"{path} is a file; give a folder for the output")
        path.mkdir(parents=True, exist_ok=True)
        self._lock = lock_folder(path)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        manifest = self.path / MANIFEST
        if not manifest.exists():
            others = sorted(p.name for p in self.path.iterdir() if p.name != LOCK and p.suffix != TEMPORARY)
            if others:
                raise ValueError(f"{self.path} has other files, such as {others[0]}; give a new folder for the output")
            self._write_manifest()
            return
        header, *entries = read_manifest(manifest)
        if header and not has_header_keys(header):
            raise ValueError(f"{manifest} is not a manifest of `ner-arch annotate`; give a new folder for the output")
        differences = header_differences(header, self.header)
        # The output of another run may be replaced if it has no documents, for example because an option was wrong.
        is_empty = header and not any(entry.get("documents") for entry in entries)
        if differences and (self.force or is_empty):
            for name in (name for entry in entries for name in entry.get("files", ())):
                (self.path / name).unlink(missing_ok=True)
            self._write_manifest()
            return
        if differences:
            remedy = "give another output folder, or --force to replace it"
            raise ValueError("\n  ".join([f"{self.path} has the output of another run; {remedy}", *differences]))
        self.header = header
        for entry in entries:
            if "totals" in entry:
                self.totals = entry
                continue
            bad = [name for name, file in entry["files"].items() if not is_intact(self.path / name, file)]
            if bad:
                self.damaged += bad
            else:
                self.finished[entry["shard"]] = entry
        if self.totals and len(self.finished) < self.totals["shards"]:
            self.totals = None
        if self.totals is None:
            self._write_manifest()

    def close(self) -> None:
        """Release the lock on the folder."""
        self._lock.release()

    def __enter__(self) -> "OutputFolder":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def add(self, result: ShardResult) -> None:
        """Write the files of a shard and its line of the manifest.

        Raises ValueError if that is impossible, as on a full disk.
        """
        try:
            self._add(result)
        except OSError as error:
            raise ValueError(
                f"{self.path}: shard {result.number} cannot be written ({error.strerror}). Free space on the disk, "
                "then give the same command again: it continues after the finished shards"
            ) from error

    def _add(self, result: ShardResult) -> None:
        name = f"part-{result.number:06}"
        files = {f"{name}.{self.ending}": result.data}
        if result.rejects:
            files[f"{name}.rejects.jsonl"] = result.rejects
        entry: Entry = {"shard": result.number, **result.counts, "files": {}}
        with complete_files() as temporary:
            for file_name, content in files.items():
                temporary(self.path / file_name).write_bytes(content)
                entry["files"][file_name] = {"bytes": len(content), "sha256": sha256(content).hexdigest()}
        with (self.path / MANIFEST).open("ab") as file:
            file.write(as_line(entry))
            sync(file)
        self.finished[result.number] = entry

    def finish(self) -> None:
        """Sort the manifest and add the totals, once all shards are finished.

        Files without a line in the manifest, from a run that was killed, are removed.
        """
        listed = {name for entry in self.finished.values() for name in entry["files"]}
        for path in self.path.iterdir():
            if path.name not in listed and OWN_FILE.fullmatch(path.name) and path.is_file():
                path.unlink()
        self.totals = {"totals": dict(self.counts()), "shards": len(self.finished)}
        self._write_manifest()

    def counts(self) -> Counter[str]:
        """Sums of the counts of the finished shards."""
        total = Counter[str]()
        for entry in self.finished.values():
            total.update({key: value for key, value in entry.items() if key not in ("shard", "files")})
        return total

    def first_reject(self) -> Entry | None:
        """The first line of the first file of rejects."""
        for path in sorted(self.path.glob(REJECTS)):
            with path.open(encoding="utf8") as file:
                return json.loads(file.readline())
        return None

    def _write_manifest(self) -> None:
        shards = [self.finished[number] for number in sorted(self.finished)]
        entries = [self.header, *shards, *([self.totals] if self.totals else [])]
        with complete_files() as temporary:
            temporary(self.path / MANIFEST).write_bytes(b"".join(map(as_line, entries)))


def is_intact(path: Path, file: Entry) -> bool:
    """Whether a file exists with the size and the checksum of the manifest."""
    return path.is_file() and path.stat().st_size == file["bytes"] and checksum(path) == file["sha256"]


def header_differences(old: Entry, new: Entry) -> list[str]:
    """Describe the differences between two headers, one per line. Of a model, only the content is compared."""
    differences = [
        f"{key}: {old.get(key)} there, {new.get(key)} now"
        for key in {**old, **new}
        if key not in ("model", "fingerprint", "inputs") and old.get(key) != new.get(key)
    ]
    if old.get("fingerprint") != new["fingerprint"]:
        differences.insert(0, f"model: {describe_model(old)} there, {describe_model(new)} now")
    before = {file["path"]: file for file in old.get("inputs", [])}
    now = {file["path"]: file for file in new["inputs"]}
    differences += [f"input {path}: only there" for path in before if path not in now]
    differences += [f"input {path}: only now" for path in now if path not in before]
    differences += [
        f"input {path}: {before[path]['bytes']} bytes and sha256 {before[path]['sha256'][:12]} there, "
        f"{file['bytes']} bytes and {file['sha256'][:12]} now"
        for path, file in now.items()
        if path in before and file != before[path]
    ]
    if not differences and [*before] != [*now]:
        differences.append("inputs: in another order")
    return differences


def describe_model(header: Entry) -> str:
    return f"{header.get('model')} (fingerprint {str(header.get('fingerprint'))[:12]})"
