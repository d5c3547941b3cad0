"""One hash of any value a stage may read, by content and type.

It is the only way a cache key is made. A value whose content cannot be told is refused: falling back on ``str`` would
give equal keys to different values.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["file_sha256", "fingerprint"]

CHUNK = 2**20
"""Bytes of a file read at once."""


def fingerprint(value: object) -> str:
    """sha256, as hex digits, of `value` and everything in it.

    Taken are None, numbers, text, bytes, numpy arrays, torch tensors and devices, lists, tuples, sets and mappings of
    these, dataclasses (by type and all their fields) and paths (by what the file or folder holds, not by name). A class
    may define ``__fingerprint__``, which returns what stands for it. Equal values have equal hashes. Values that differ
    in type, shape or a single bit have different ones; only lists and tuples count as one type. Raises `TypeError` for
    anything else, callables above all, and names where in `value` it stands; `OSError` for a path that cannot be read.
    """
    return _digest(value, type(value).__name__).hex()


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes as hex digits. Raises `OSError`."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            total.update(chunk)
    return total.hexdigest()


def _digest(value: Any, where: str) -> bytes:
    kind = type(value)
    if hasattr(kind, "__fingerprint__"):
        return _hash_parts("object", kind.__qualname__, [_digest(value.__fingerprint__(), where)])
    if value is None or isinstance(value, (bool, int, str, bytes)):
        text = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
        return _hash_parts("scalar", kind.__name__, [text])
    if isinstance(value, float):
        return _hash_parts("scalar", "float", [value.hex().encode()])
    if isinstance(value, np.ndarray | np.generic):
        return _array(np.asarray(value), where)
    if isinstance(value, Path):
        return _path(value)
    if isinstance(value, Mapping):
        pairs = ((key, _digest(item, f"{where}[{key!r}]")) for key, item in value.items())
        return _hash_parts(
            "mapping", "", sorted(_hash_parts("pair", "", [_digest(key, where), item]) for key, item in pairs)
        )
    if isinstance(value, Set):
        return _hash_parts("set", "", sorted(_digest(item, where) for item in value))
    if isinstance(value, list | tuple):
        return _hash_parts("sequence", "", [_digest(item, f"{where}[{i}]") for i, item in enumerate(value)])
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        given = [field.name for field in dataclasses.fields(value) if field.init]  # the others follow from these
        parts = [_hash_parts("field", name, [_digest(getattr(value, name), f"{where}.{name}")]) for name in given]
        return _hash_parts("dataclass", kind.__qualname__, parts)
    torch = sys.modules.get("torch")  # a value of torch's is only there where torch is
    if torch is not None and isinstance(value, torch.Tensor):
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return _hash_parts("tensor", f"{value.dtype} {list(value.shape)}", [_array(raw, where)])
    if torch is not None and isinstance(value, torch.device):
        return _hash_parts("device", value.type, [])  # which of several equal GPUs changes nothing
    raise TypeError(f"{where} is a {kind.__qualname__}, whose content no hash can tell")


def _hash_parts(kind: str, name: str, parts: Iterable[bytes]) -> bytes:
    """A hash of hashes: each part has its length in front, so that no two lists of parts run together the same."""
    total = hashlib.sha256()
    for part in (kind.encode(), name.encode(), *parts):
        total.update(len(part).to_bytes(8, "little") + part)
    return total.digest()


def _array(value: np.ndarray[Any, Any], where: str) -> bytes:
    name = f"{value.dtype.str} {list(value.shape)}"
    if value.dtype.hasobject:  # boxes of evaluation images: one pair of arrays per image
        return _hash_parts("array", name, [_digest(item, where) for item in value.reshape(-1).tolist()])
    total = hashlib.sha256()
    if value.size:
        total.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
    return _hash_parts("array", name, [total.digest()])


def _path(path: Path) -> bytes:
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return _hash_parts(
            "folder", "", [_hash_parts("file", f.relative_to(path).as_posix(), [_path(f)]) for f in files]
        )
    return _hash_parts("file", "", [bytes.fromhex(file_sha256(path))])
