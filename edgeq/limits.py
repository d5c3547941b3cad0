"""Reading files that strangers made: regular files only, and no more bytes than a stated limit.

A FIFO or a device is refused before it is opened, because opening it may hang or never end. The size that an archive
declares is checked before anything is unpacked: six megabytes of zeros become six gigabytes. ``EDGEQ_LARGEST_FILE``
(such as ``16G``) replaces every limit here, for a user who trusts a file that is larger.
"""

from __future__ import annotations

import json
import os
import stat
import zipfile
from pathlib import Path
from typing import IO, Any

from edgeq.config.settings import parse_size
from edgeq.errors import ArtifactError, TooLargeError

__all__ = [
    "MODEL",
    "TEXT",
    "VARIABLE",
    "check_archive",
    "check_regular",
    "check_unpacked",
    "read_bytes",
    "read_json",
    "read_text",
]

VARIABLE = "EDGEQ_LARGEST_FILE"

TEXT = 64 * 2**20
"""Bytes of a TOML, JSON, CSV or text file."""

MODEL = 2 * 2**30
"""Bytes of a .tflite or .onnx file: both formats end there."""

UNPACKED = 8 * 2**30
"""Bytes that an archive, or the tensors of a checkpoint, may take in memory."""

RATIO = 100
"""Bytes in memory per byte of the file. Weights and pictures shrink by a few times, masks by some tens."""

FREELY = 256 * 2**20
"""Bytes in memory that a file of any size may take: a small file of masks or zeros is honest."""


def check_regular(path: str | Path) -> int:
    """The size in bytes of the file at `path`, which is not opened.

    Raises `OSError` where there is no file, `ArtifactError` for a FIFO, a socket, a device or a folder.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for test, name in _KINDS if test(status.st_mode)), "no regular file")
        raise ArtifactError(f"{path} cannot be read", why=f"it is {kind}", hint="name a file")
    return status.st_size


_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read_bytes(path: str | Path, most: int = MODEL) -> bytes:
    """The bytes of a regular file of at most `most` bytes. Raises `OSError`, and `ArtifactError` for any other file."""
    _insist(str(path), "has", check_regular(path), most)
    return Path(path).read_bytes()


def read_text(path: str | Path, most: int = TEXT) -> str:
    """The same of a text in UTF-8. Raises `OSError`, `UnicodeDecodeError`, `ArtifactError`."""
    return read_bytes(path, most).decode("utf-8")


def read_json(path: str | Path) -> Any:
    """What the JSON file at `path` holds. Raises `OSError`, `ArtifactError`, and `ValueError` for what is no JSON."""
    try:
        return json.loads(read_text(path))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def check_archive(file: str | Path | IO[bytes]) -> None:
    """Raise `ArtifactError` where a zip file says that it unpacks to more than it may; nothing is unpacked.

    Raises `OSError` and `zipfile.BadZipFile` where it is no zip file.
    """
    name = str(file) if isinstance(file, str | Path) else "the archive"
    if isinstance(file, str | Path):
        size = check_regular(file)
    else:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
    with zipfile.ZipFile(file) as archive:
        check_unpacked(name, sum(entry.file_size for entry in archive.infolist()), size)


def check_unpacked(name: str, unpacked: int, size: int) -> None:
    """Raise `ArtifactError` where `size` bytes of a file would become more than `unpacked` bytes in memory may be."""
    _insist(name, "unpacks to", unpacked, min(UNPACKED, max(FREELY, RATIO * size)))


def _insist(name: str, verb: str, size: int, most: int) -> None:
    given = os.environ.get(VARIABLE)
    most = parse_size(given, VARIABLE) if given else most
    if size > most:
        raise TooLargeError(
            f"{name} {verb} {_amount(size)}",
            why=f"the limit is {_amount(most)}",
            hint=f"if you trust the file, raise the limit: {VARIABLE}={-(-size // 2**30)}Gi",
        )


def _amount(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
