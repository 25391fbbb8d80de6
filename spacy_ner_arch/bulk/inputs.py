"""Find input files, their formats and compressions."""

import bz2
import glob
import gzip
import lzma
from collections.abc import Sequence
from io import BufferedReader, BytesIO, RawIOBase
from pathlib import Path
from typing import IO, Any, NamedTuple

from ..formats.files import checksum, find_files
from ..formats.manifest import MANIFEST, REJECTS, check_complete, is_output

FORMATS = ("txt", "jsonl", "csv", "parquet", "spacy")
COMPRESSIONS = ("gz", "bz2", "xz", "zst")
# Bytes of zstd that are decompressed at once; 4 bytes can become 128 KB.
ZSTD_CHUNK = 512


class Input(NamedTuple):
    """An input file.

    path: as the user gave it.
    format: one of FORMATS.
    size: in bytes.
    changed: time of the last change of the file, in ns, when it was found.
    """

    path: Path
    format: str
    size: int
    changed: int

    def check_unchanged(self, expected: str) -> None:
        """Raise ValueError if the content of the file has changed since it was found.

        expected: SHA-256 of the content.
        """
        now = self.path.stat() if self.path.exists() else None
        if now is not None and (now.st_size, now.st_mtime_ns) == (self.size, self.changed):
            return
        if now is None or checksum(self.path) != expected:
            raise ValueError(
                f"{self.path} has changed since the run began, so the output may have records of both versions: remove "
                "the output folder, and annotate a file that does not change, such as a copy"
            )


def find_inputs(names: Sequence[str], format: str | None, output: Path) -> tuple[list[Input], list[Path], list[Path]]:
    """Find the files that the arguments of the command name: files, folders and patterns such as "texts/*.jsonl.gz".

    format: format of all files; None to take it from their names.
    output: the folder of the output, which must not be an input too.
    Of an output of `ner-arch annotate`, only the documents are inputs, not the manifest and the rejected records.
    Returns the files in the order of the arguments, those of a folder or pattern sorted by name; the files of folders
    that are left out, since their names show no known format; and the files of rejected records, which are left out.
    Raises ValueError for a name without a file, a file of an unknown format, a file that is named twice, and a folder
    or pattern with documents of an output that is not complete.
    """
    if format not in (None, *FORMATS):
        raise ValueError(f"--format is {format!r}; it must be one of {', '.join(FORMATS)}")
    inputs: dict[Path, Input] = {}
    left_out, rejects = [], []
    for name in names:
        is_file = Path(name).is_file()
        if Path(name).is_dir() and output.resolve().is_relative_to(Path(name).resolve()):
            raise ValueError(f"{output}: the output folder is in the input {name}; give another output folder")
        paths = [Path(name)] if is_file else _expand(name)
        for path in paths:
            if path.resolve().is_relative_to(output.resolve()):
                raise ValueError(f"{path}: the input is in the output folder; give another output folder")
        outputs = [folder for folder in sorted({path.parent for path in paths}) if is_output(folder)]
        for folder in outputs if not is_file else ():
            check_complete(folder)
        for path in paths:
            found = format or find_format(path)
            if path.parent in outputs and path.match(REJECTS):
                rejects.append(path)
            elif path.parent in outputs and path.name == MANIFEST:
                continue
            elif path.resolve() in inputs:
                raise ValueError(f"{path} is named twice by the inputs; name it once")
            elif found is not None:
                status = path.stat()
                inputs[path.resolve()] = Input(path, found, status.st_size, status.st_mtime_ns)
            elif is_file:
                known = ", ".join(f".{known}" for known in FORMATS)
                raise ValueError(f"{path}: the name ends in none of {known}; give its --format")
            else:
                left_out.append(path)
    if not inputs:
        raise ValueError(
            f"{' '.join(names)}: no file with one of the endings {', '.join(FORMATS)} (the manifest and the rejected "
            "records of an output of `ner-arch annotate` are not read); give --format"
        )
    return list(inputs.values()), left_out, rejects


def _expand(name: str) -> list[Path]:
    """The files of a folder, except hidden files, or the files that match a pattern, in order."""
    if Path(name).is_dir():
        paths = find_files(Path(name))
    else:
        paths = [Path(path) for path in glob.glob(name, recursive=True) if Path(path).is_file()]
    if not paths:
        raise ValueError(f"{name}: no such file, folder with files, or matching file; check the name")
    return sorted(paths)


def find_format(path: Path) -> str | None:
    """The format by the extension of a file name, which an extension of a compression may follow."""
    endings = [ending.lower().removeprefix(".") for ending in path.suffixes]
    if endings and endings[-1] in COMPRESSIONS:
        endings.pop()
    return endings[-1] if endings and endings[-1] in FORMATS else None


def decompress(path: Path, file: IO[bytes]) -> Any:
    """An open binary file, decompressed if its name has the extension of a compression."""
    ending = path.suffix.lower()
    if ending == ".gz":
        return gzip.open(file)
    if ending == ".bz2":
        return bz2.open(file)
    if ending == ".xz":
        return lzma.open(file)
    if ending == ".zst":
        try:
            from zstandard import ZstdDecompressor, ZstdError
        except ImportError as error:
            raise ValueError(f'{path} needs the package zstandard: pip install "spacy-ner-arch[zst]"') from error
        return BufferedReader(ZstdFile(file, ZstdDecompressor(), ZstdError))
    return file


class ZstdFile(RawIOBase):
    """The content of a file of zstd, which can have several frames.

    The reader of zstandard does not notice if a file is truncated. This reader raises EOFError for a truncated file and
    OSError for a damaged file, like the readers of the other compressions.

    decompressor, damage: a decompressor of zstandard, and the type of its errors.
    """

    def __init__(self, file: IO[bytes], decompressor: Any, damage: type[Exception]) -> None:
        self.file, self.decompressor, self.damage = file, decompressor, damage
        self.frame: Any = None
        self.unread = b""
        self.content = BytesIO()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not (length := self.content.readinto(buffer)):
            part = self.unread or self.file.read(ZSTD_CHUNK)
            if not part and self.frame is None:
                return 0
            if not part:
                raise EOFError("it ends within a frame of zstd")
            self.frame = self.frame or self.decompressor.decompressobj()
            try:
                self.content = BytesIO(self.frame.decompress(part))
            except self.damage as error:
                raise OSError(str(error)) from error
            self.unread = self.frame.unused_data
            if self.frame.eof:
                self.frame = None
        return length
