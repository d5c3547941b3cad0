"""Versions of everything that computes: installed packages, and edgeq's own sources."""

from __future__ import annotations

import functools
import hashlib
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["PACKAGES", "package_versions", "source_digest"]

PACKAGES = (
    "edgeq",
    "torch",
    "numpy",
    "onnx",
    "onnxruntime",
    "ai-edge-litert",
    "tflite-runtime",
    "flatbuffers",
    "protobuf",
    "safetensors",
    "pillow",
    "torchmetrics",
    "pycocotools",
)
"""Packages whose version can change a build's bytes or its measurements."""

NOT_COMPUTING = ("api", "cli", "report", "device")
"""Rooms that no stage computes with (import-linter sees to it), so that editing them makes no cached result stale.

Measuring times files through `edgeq.device`, and has the digest of the agent that does it among its inputs.
"""


def package_versions(names: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Version of each installed package in `names`; ``python`` is the interpreter."""
    return {name: found for name in names if (found := _version(name)) is not None}


@functools.cache
def _version(name: str) -> str | None:
    """Version of one package, None where it is not installed. Reading a package's metadata takes milliseconds."""
    try:
        return platform.python_version() if name == "python" else version(name)
    except PackageNotFoundError:
        return None


@functools.cache
def source_digest() -> str:
    """sha256 over the sources of edgeq that compute: someone who edits a kernel must not get results of the old one."""
    folder = Path(__file__).parent
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder)
        if name.parts[0] not in NOT_COMPUTING:
            total.update(f"{name.as_posix()}\n{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()
