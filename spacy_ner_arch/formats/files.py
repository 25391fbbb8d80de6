"""Files that appear only when they are complete."""

import errno
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def complete_files() -> Iterator[Callable[[Path], Path]]:
    """Within the context, write each file to the temporary path that the given function names for it.

    The files appear at the end of the context, all together. On an error, existing files stay as they were. Missing
    folders are made. Raises OSError if a file cannot be replaced.
    """
    unfinished: dict[Path, Path] = {}

    def temporary(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Only within a file system is replacing a file atomic. Files of `tempfile` are not readable for others.
        part = path.with_name(f".{uuid.uuid4().hex}.tmp")
        unfinished[part] = path
        return part

    try:
        yield temporary
        for path in unfinished.values():
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "there is a folder in the place of the file", str(path))
        for part, path in unfinished.items():
            os.replace(part, path)
    finally:
        for part in unfinished:
            part.unlink(missing_ok=True)


def find_files(folder: Path, pattern: str = "*") -> list[Path]:
    """The files in a folder and in its folders whose names match a pattern, in order, without hidden ones.

    Programs store copies under hidden names: macOS `._NAME`, Jupyter `.ipynb_checkpoints/NAME-checkpoint`.
    """
    paths = (path for path in folder.rglob(pattern) if path.is_file())
    return sorted(path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def write_text(path: Path, pieces: Iterable[str]) -> None:
    """Write a text file, see `complete_files`."""
    with complete_files() as temporary, temporary(path).open("w", encoding="utf-8", newline="") as file:
        file.writelines(pieces)
