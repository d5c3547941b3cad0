"""The folders that edgeq writes, by the names in them: a folder with any other name in it is never replaced.

Whoever adds a file to a build or a calibration set adds its name here; writing a name that is missing here fails.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeq.config.formats import suffixes
from edgeq.errors import ArtifactError
from edgeq.limits import read_json

__all__ = ["BUILD", "CALIBRATION_SET", "MARKER", "Product"]

MARKER = "edgeq.lock"
"""The file in every product that says what the product is."""


@dataclass(frozen=True)
class Product:
    """A kind of folder: `what` it is called, the `files` in it, and its `folders` with a pattern for names in each.

    `models` are the names of model files, without the suffix of their format. `kind` is what its lock says under
    ``kind``.
    """

    what: str
    kind: str
    files: frozenset[str]
    folders: Mapping[str, re.Pattern[str]] = field(default_factory=dict)
    models: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        """Names of all files that may be in the folder itself."""
        return self.files | {name + suffix for name in self.models for suffix in suffixes()}

    def foreign(self, folder: Path) -> str:
        """Why `folder` is not this product; empty where it is, or where nothing is in it. Raises `OSError`."""
        if not folder.is_dir():
            return "it is no folder"
        names = sorted(os.listdir(folder))
        kind = _kind(folder / MARKER) if MARKER in names else ""
        for other in (BUILD, CALIBRATION_SET):
            if kind == other.kind != self.kind:
                return f"it holds {other.what}"
        for name in names:
            if intruder := self._intruder(folder / name):
                return f"{intruder} in it is no part of {self.what}"
        return f"it holds no {MARKER} of {self.what}" if names and kind != self.kind else ""

    def _intruder(self, path: Path) -> str:
        """The name of `path`, or of what is in it, where this product has no such file or folder; else empty."""
        pattern = self.folders.get(path.name)
        if pattern is None or not stat.S_ISDIR(os.lstat(path).st_mode):
            return "" if path.name in self.names and _is_file(path) else path.name
        strange = (name for name in sorted(os.listdir(path)) if not _is_file(path / name, pattern))
        return next((f"{path.name}/{name}" for name in strange), "")

    def remove(self, folder: Path) -> None:
        """Delete `folder` and the names this product makes, and nothing else: what is not known stays with its folder.

        Raises `OSError` where something stays.
        """
        for name in self.folders:
            if (folder / name).is_dir() and not (folder / name).is_symlink():
                for inside in os.listdir(folder / name):
                    if _is_file(folder / name / inside, self.folders[name]):
                        os.unlink(folder / name / inside)
                os.rmdir(folder / name)
        for name in self.names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(folder / name)
        os.rmdir(folder)


def _kind(lock: Path) -> str:
    """The kind of product that a lock of edgeq's is about; empty for any other file."""
    try:
        content = read_json(lock)
    except (ArtifactError, ValueError):
        return ""
    return (
        str(content.get("kind", "build")) if isinstance(content, dict) and {"schema", "model"} <= set(content) else ""
    )


def _is_file(path: Path, pattern: re.Pattern[str] | None = None) -> bool:
    return stat.S_ISREG(os.lstat(path).st_mode) and (pattern is None or bool(pattern.fullmatch(path.name)))


BUILD = Product(
    "a build",
    "build",
    frozenset(
        {
            "integer.safetensors",
            "simulated.safetensors",
            "answers.safetensors",
            "calibration.npz",
            "calibration.png",
            "disagreements.png",
            "report.json",
            "report.html",
            "device.json",
            MARKER,
        }
    ),
    models=frozenset({"model", "float"}),
)

CALIBRATION_SET = Product(
    "a calibration set",
    "calibration set",
    frozenset(
        {
            "calibration.npz",
            "images.npz",
            "contact.png",
            "generator.safetensors",
            "statistics.json",
            "statistics.html",
            MARKER,
        }
    ),
    {"png": re.compile(r"\d{5,}-(unlabelled|label-\d+)\.png|labels\.csv")},
)
