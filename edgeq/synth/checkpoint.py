"""Finished batches of a synthesis on disk, so that an interrupted run continues and ends with the same bytes."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgeq.limits import check_archive
from edgeq.sealed import open_json, seal_json

__all__ = ["keep", "read_images", "read_notes", "read_tensors"]


def _file(folder: Path, index: int) -> Path:
    return folder / f"batch-{index:04d}.npy"


def _notes(folder: Path, index: int) -> Path:
    return folder / f"batch-{index:04d}.json"


def read_images(folder: Path | None, index: int) -> npt.NDArray[np.float32] | None:
    """The images of batch `index`, if an earlier run finished them and the file is undamaged; else None."""
    if folder is None:
        return None
    try:
        record = open_json(_notes(folder, index).read_bytes())
        data = _file(folder, index).read_bytes()
        if hashlib.sha256(data).hexdigest() != record["images"]:
            return None
        images: npt.NDArray[np.float32] = np.load(io.BytesIO(data), allow_pickle=False)
        return images.astype(np.float32, copy=False) if images.ndim == 4 and np.isfinite(images).all() else None
    except (OSError, ValueError, LookupError, TypeError):
        return None  # a torn or damaged file is a batch that never finished


def read_notes(folder: Path | None, index: int) -> dict[str, float]:
    """The notes stored with batch `index`; empty where it has none."""
    if folder is None:
        return {}
    try:
        record = open_json(_notes(folder, index).read_bytes())
        return {str(name): float(value) for name, value in record["notes"].items()}
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return {}


def keep(
    folder: Path | None, index: int, images: npt.NDArray[np.float32], notes: Mapping[str, float] | None = None
) -> None:
    """Store batch `index`: written beside, then renamed, so that a file that exists is whole. Notes, which hold the
    images' hash, go first."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.save(buffer, images)
    record = {"images": hashlib.sha256(buffer.getvalue()).hexdigest(), "notes": dict(notes or {})}
    beside = _file(folder, index).with_suffix(".partial")
    beside.write_text(seal_json(record))
    os.replace(beside, _notes(folder, index))
    beside.write_bytes(buffer.getvalue())
    os.replace(beside, _file(folder, index))


def read_tensors(path: Path) -> Any | None:
    """What ``torch.save`` wrote to `path`, on the CPU, without running anything; None where it is missing or damaged.

    Every part of such a file has a checksum, which torch does not look at.
    """
    try:
        check_archive(path)
        data = path.read_bytes()
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            stored = all(part.compress_type == zipfile.ZIP_STORED for part in archive.infolist())
            if not stored or archive.testzip() is not None:
                return None
        return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except Exception:  # zipfile, pickle and torch raise a dozen kinds on a bad file
        return None
