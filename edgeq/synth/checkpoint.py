"""Finished batches of a synthesis on disk, so that an interrupted run continues and ends with the same bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeq.errors import ArtifactError
from edgeq.limits import read_json

__all__ = ["finished", "keep", "kept_notes"]


def _file(folder: Path, index: int) -> Path:
    return folder / f"batch-{index:04d}.npy"


def _notes(folder: Path, index: int) -> Path:
    return folder / f"batch-{index:04d}.json"


def finished(folder: Path | None, index: int) -> npt.NDArray[np.float32] | None:
    """The images of batch `index` if an earlier run finished them."""
    if folder is None or not _file(folder, index).is_file():
        return None
    try:
        images: npt.NDArray[np.float32] = np.load(_file(folder, index), allow_pickle=False)
        return images.astype(np.float32, copy=False) if images.ndim == 4 and np.isfinite(images).all() else None
    except Exception:  # a torn file is a batch that never finished; numpy raises a dozen kinds on one
        return None


def kept_notes(folder: Path | None, index: int) -> dict[str, float]:
    """The notes stored with batch `index`; empty where it has none."""
    if folder is None or not _notes(folder, index).is_file():
        return {}
    try:
        return {str(name): float(value) for name, value in read_json(_notes(folder, index)).items()}
    except (OSError, ValueError, AttributeError, TypeError, ArtifactError):
        return {}


def keep(
    folder: Path | None, index: int, images: npt.NDArray[np.float32], notes: Mapping[str, float] | None = None
) -> None:
    """Store batch `index`: written beside, then renamed, so that a file that exists is whole. Notes go first."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    beside = _file(folder, index).with_suffix(".partial")
    if notes:
        beside.write_text(json.dumps(dict(notes)))
        os.replace(beside, _notes(folder, index))
    with beside.open("wb") as file:
        np.save(file, images)
    os.replace(beside, _file(folder, index))
