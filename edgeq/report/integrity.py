"""Whether the files of a build are those its report and its lock speak of, and whether its exactness is enough."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from edgeq.config.formats import by_suffix
from edgeq.errors import ArtifactError
from edgeq.report.gate import Gate, failed_gate
from edgeq.report.lock import read_lock

__all__ = ["LOCK", "artifact_gate", "exactness_gate", "file_difference", "lock_gate"]

LOCK = "edgeq.lock"

BESIDE = ("integer.safetensors", "calibration.npz")
"""What every build leaves beside its two models, and what `edgeq verify` replays them with."""

LOCK_BYTES = 16 * 2**20
"""A lock is a few kilobytes: what is larger is none."""

MOSTLY = 0.9
"""Share of an ONNX file's integers that must equal the exact reference; the rest may be one step off.

onnxruntime rounds ties and the fractions of a bilinear resize otherwise: in benchmarks/results/export.md networks that
resize have the smallest share, 0.95.
"""


def artifact_gate(folder: Path, artifact: Mapping[str, Any] | None, why: str) -> tuple[int | None, Gate]:
    """The real size of the artifact, None where there is none, and whether it is the file the report speaks of.

    `artifact` is the report's section; `why` is the reason where that is missing.
    """
    stated = artifact if isinstance(artifact, Mapping) else {}
    name, expected, size = stated.get("path"), stated.get("sha256"), stated.get("bytes")
    limit = expected[:12] if isinstance(expected, str) else "unknown"
    if not isinstance(name, str) or not isinstance(expected, str) or not isinstance(size, int):
        return None, failed_gate("artifact", limit, why)
    if not _is_plain(name):
        return None, failed_gate("artifact", limit, "the artifact is not in the folder of the report")
    try:
        found, digest = _hash_file(folder / name)
    except OSError as error:
        return None, failed_gate("artifact", limit, f"{name}: {error.strerror or error}")
    if (found, digest) != (size, expected):
        return found, failed_gate("artifact", limit, f"{name} changed after it was measured", digest[:12])
    return found, Gate("artifact", limit, digest[:12], None, True)


def lock_gate(folder: Path, artifact: Mapping[str, Any] | None) -> Gate:
    """Whether the lock beside the report is of this build, and every file it names is the one it names."""
    stated = artifact if isinstance(artifact, Mapping) else {}
    expected = str(stated.get("sha256") or "unknown")
    limit = expected[:12]
    try:
        path = folder / LOCK
        if not path.is_file():
            return failed_gate("lock", limit, f"there is no {LOCK} beside the report")
        if path.stat().st_size > LOCK_BYTES:
            return failed_gate("lock", limit, f"{LOCK} has {path.stat().st_size:,} bytes, which no lock has")
        contents = read_lock(path)
    except (ArtifactError, OSError, RecursionError) as error:
        return failed_gate("lock", limit, str(error) or f"{LOCK} cannot be read")
    locked = contents.get("artifact")
    digest = locked.get("sha256") if isinstance(locked, Mapping) else None
    if digest != stated.get("sha256") or digest is None:
        return failed_gate("lock", limit, f"{LOCK} is of another build", str(digest)[:12] if digest else None)
    files = contents.get("files")
    if not isinstance(files, Mapping):
        return failed_gate("lock", limit, f"{LOCK} names no files: an older edgeq wrote it (build again)", limit)
    name = str(stated.get("path"))
    needed = {name, f"float{Path(name).suffix}", *BESIDE}
    if missing := sorted(needed - set(files)):
        return failed_gate("lock", limit, f"{LOCK} says nothing of {missing[0]}", limit)
    if files[name] != {"bytes": stated.get("bytes"), "sha256": digest}:
        return failed_gate("lock", limit, f"{LOCK} contradicts itself about {name}", limit)
    for file in sorted(map(str, files)):
        if reason := file_difference(folder, file, files[file]):
            return failed_gate("lock", limit, reason, limit)
    return Gate("lock", limit, f"{limit}, {len(files)} files", None, True)


def file_difference(folder: Path, name: str, stated: Any) -> str | None:
    """Why the file is not the one the lock names; None where it is."""
    if not _is_plain(name) or not isinstance(stated, Mapping):
        return f"{LOCK} names {name[:100]!r}, which is no file of a build"
    try:
        if _hash_file(folder / name) == (stated.get("bytes"), stated.get("sha256")):
            return None
    except OSError as error:
        return f"{name}: {error.strerror or error}"
    return f"{name} is not the one that was built: its bytes are not those {LOCK} names"


def _is_plain(name: str) -> bool:
    """Whether it is the name of a file in a folder, and no way out of it."""
    return name not in ("", ".", "..") and PureWindowsPath(name).name == name and "\0" not in name


def _hash_file(path: Path) -> tuple[int, str]:
    """Bytes and sha256 of a regular file. Raises `OSError`, also for anything that is none, such as a pipe."""
    if path.exists() and not path.is_file():
        raise OSError(0, "is no regular file")
    total, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(2**20):
            size += len(block)
            total.update(block)
    return size, total.hexdigest()


def exactness_gate(exactness: Mapping[str, Any] | None, path: str, why: str) -> Gate:
    """Whether the runtime computed the integers that the build predicted, as far as its format does.

    A TFLite file must give every one of them; onnxruntime's may be a step off where it rounds otherwise, in at most
    1 - `MOSTLY` of the values. `exactness` is the report's section, `why` the reason where it is missing.
    """
    facts = by_suffix(Path(path))
    exact = facts is None or facts.exact
    limit = 1.0 if exact else MOSTLY
    stated = exactness if isinstance(exactness, Mapping) else {}
    values, equal, step = (stated.get(key) for key in ("values", "equal", "max_step"))
    if values is None or equal is None or step is None:
        return failed_gate("exactness", limit, why)
    if values == 0:
        return failed_gate("exactness", limit, "no value was compared")
    share = equal / values
    if exact and equal != values:
        return failed_gate(
            "exactness", limit, f"{values - equal:,} of {values:,} integers differ from the reference", share
        )
    if not exact and step > 1:
        return failed_gate(
            "exactness", limit, f"integers are up to {step:,} steps from the reference, one is allowed", share
        )
    if share < limit:
        return failed_gate("exactness", limit, f"only {share:.2%} of the integers equal the reference", share)
    return Gate("exactness", limit, round(share, 9), round(share - limit, 9), True)
