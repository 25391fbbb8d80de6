"""Files and folders that appear only when they are complete, locks, and the files of a folder."""

import contextlib
import ctypes
import errno
import inspect
import os
import re
import shutil
import sys
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

# Extension of incomplete files and folders.
TEMPORARY = ".tmp"
# Extension of a folder that is replaced, until its successor has its name.
OLD = ".old"
# Name of the lock file in a folder. The file is kept after the lock is released.
LOCK = ".lock"
# Errors of file systems without locks.
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
# Number of bytes that are read at once.
CHUNK = 1 << 20
# Arguments of Linux' renameat2: paths are relative to the current folder; exchange the two.
AT_FDCWD, RENAME_EXCHANGE = -100, 2


@contextlib.contextmanager
def complete_files() -> Iterator[Callable[[Path], Path]]:
    """Within the context, write each file to the temporary path that the given function names for it.

    All files appear at the end of the context. After an error, existing files are unchanged; if the process is killed
    while the files appear, some can be new and others old. Missing folders are created. Links are kept, and their
    targets are replaced. Pipes and devices are written in place. Raises OSError if a file cannot be replaced.
    """
    unfinished: dict[Path, Path] = {}
    copies: dict[Path, Path] = {}
    replaced: set[Path] = set()

    def temporary(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file() and not path.is_dir():
            return path
        path = path.resolve()
        part = hidden_name(path)
        unfinished[part] = path
        return part

    try:
        yield temporary
        for path in unfinished.values():
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "there is a folder instead of a file", str(path))
        for part in unfinished:
            sync_path(part)
        for path in {*unfinished.values()} if len(unfinished) > 1 else ():
            if path.exists():
                copies[path] = hidden_name(path)
                link_or_copy(path, copies[path])
        for part, path in unfinished.items():
            os.replace(part, path)
            replaced.add(path)
    except BaseException:
        for path in replaced:
            os.replace(copies[path], path) if path in copies else path.unlink()
        raise
    finally:
        for part in (*unfinished, *copies.values()):
            part.unlink(missing_ok=True)


def hidden_name(path: Path) -> Path:
    """A new path for a temporary file beside a file: replacing a file is atomic only within a file system.

    Files of `tempfile` are not readable for other users.
    """
    return path.with_name(f".{uuid.uuid4().hex}{TEMPORARY}")


def link_or_copy(path: Path, copy: Path) -> None:
    """Give a file a second name, or copy it where the file system has no hard links."""
    try:
        os.link(path, copy)
    except OSError:
        shutil.copy2(path, copy)


def find_files(folder: Path, pattern: str = "*") -> list[Path]:
    """The files in a folder and its subfolders, including links, except hidden files. A folder that is reached both
    directly and through a link is read once.

    Programs store copies under hidden names: macOS `._NAME`, Jupyter `.ipynb_checkpoints/NAME-checkpoint`.

    pattern: pattern that the names of the files match.
    Returns the files in the order of their names.
    """
    files = sorted(path for path in walk_shown(folder) if path.match(pattern) and path.is_file())
    # Resolve each folder once: it takes time, and a folder can have many files.
    resolved = {parent: parent.resolve() for parent in {path.parent for path in files}}
    root = folder.resolve()
    found: dict[tuple[Path, str], Path] = {}
    for path in files:
        parent = resolved[path.parent]
        if parent == root / path.parent.relative_to(folder):  # not behind a link
            found[parent, path.name] = path
        else:
            found.setdefault((parent, path.name), path)
    return sorted(found.values())


def walk_shown(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """All files that find_files can find, and broken links, in the order of the file system.

    above: resolved parent folders of this one. A link back to one of them is not followed.
    """
    above |= {folder.resolve()}
    try:
        paths = list(folder.iterdir())
    except PermissionError:
        if len(above) == 1:
            raise
        warnings.warn(f"{folder} cannot be read, and is left out", stacklevel=2)
        return
    for path in paths:
        if path.name.startswith("."):
            continue
        if not path.is_dir():
            yield path
        elif path.resolve() not in above:
            yield from walk_shown(path, above)


def checksum(path: Path) -> str:
    """SHA-256 of a file; of a folder, of the names and checksums of the files that `find_files` finds in it, except
    those of `__pycache__`."""
    digest = sha256()
    if path.is_dir():
        for file in find_files(path):
            if "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(path).as_posix()} {checksum(file)}\n".encode())
    else:
        with path.open("rb") as content:
            while chunk := content.read(CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def write_text(path: Path, pieces: Iterable[str]) -> None:
    """Write a text file, see `complete_files`."""
    with complete_files() as temporary, temporary(path).open("w", encoding="utf-8", newline="") as file:
        file.writelines(pieces)


def lock_folder(folder: Path) -> FileLock:
    """Lock a folder until the lock is released, or the process ends.

    Warns if the file system has no locks. Raises ValueError if another process has the lock, and OSError if the folder
    cannot be written.
    """
    # Without this, some versions of filelock fall back to a file that a killed process would leave behind.
    has_fallback = "fallback_to_soft" in inspect.signature(FileLock.__init__).parameters
    options: dict[str, Any] = {"fallback_to_soft": False} if has_fallback else {}
    lock = FileLock(folder / LOCK, **options)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(f"{folder}: another process is writing to this folder; wait until it has ended") from error
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise
        warnings.warn(f"{folder} cannot be locked: let no other process write to it at the same time", stacklevel=2)
    return lock


def sync(file: IO[bytes]) -> None:
    """Wait until a file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_path(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk. Not all file systems support this for folders."""
    if os.name == "posix":
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        except OSError:
            if not path.is_dir():
                raise
        finally:
            os.close(number)
    elif path.is_file():
        with contextlib.suppress(PermissionError), path.open("r+b") as file:  # Windows needs a file to write.
            sync(file)


def sync_folder(path: Path) -> None:
    """Wait until a folder and all its contents are on the disk."""
    for inner in (*path.rglob("*"), path):
        sync_path(inner)


def replace_folder(path: Path, write: Callable[[Path], Any]) -> None:
    """Replace a folder. The old folder is kept if writing fails, the process is killed, or the power is cut.

    Meanwhile, folders beside it have hidden names, `.NAME.NUMBER.tmp` and `.NAME.NUMBER.old`. Those of
    killed processes are removed.

    path: the folder, or a link to it, which is kept.
    write: function that writes the new folder to a given path beside the old one.
    """
    path = path.resolve()
    part, old = (path.with_name(f".{path.name}.{uuid.uuid4().hex}{ending}") for ending in (TEMPORARY, OLD))
    _remove_hidden(path, TEMPORARY)
    try:
        write(part)
        # Without this, a file system may store the new names before the contents of the files.
        sync_folder(part)
        if not path.exists():
            os.rename(part, path)
        elif not exchange(part, path):
            # On other systems, a kill between these two renames can leave only the old folder under its other name.
            os.rename(path, old)
            try:
                os.rename(part, path)
            except OSError:
                os.rename(old, path)
                raise
        _remove_hidden(path, OLD)
        sync_path(path.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _remove_hidden(path: Path, ending: str) -> None:
    """Remove the folders beside a folder that `replace_folder` made for it: .NAME.NUMBER.tmp or .NAME.NUMBER.old."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{32}}{re.escape(ending)}")
    for other in path.parent.glob(f".*{ending}"):
        if name.fullmatch(other.name):
            # Windows cannot delete a file that another process has open.
            shutil.rmtree(other, ignore_errors=True)


def exchange(first: Path, second: Path) -> bool:
    """Exchange two folders atomically. Only Linux can, on most file systems; elsewhere return False."""
    if sys.platform != "linux":
        return False
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    paths = AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second)
    return renameat2 is not None and renameat2(*paths, RENAME_EXCHANGE) == 0
