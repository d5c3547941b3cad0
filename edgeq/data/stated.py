"""What evaluation images say about the task of a network, where nobody else says it."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.data.pictures import find_plain
from edgeq.limits import read_text
from edgeq.model.spec import ModelSpec

__all__ = ["task_of_images", "task_of_truths", "with_stated_task"]

_ARRAYS = {"labels": "classification", "values": "regression", "pairs": "embedding"}
"""Arrays of an ``.npz`` that belong to one task only; a detector has `labels` too, and never an assumed task."""


def with_stated_task(spec: ModelSpec, data: Any) -> ModelSpec:
    """`spec` with the task that its evaluation `data` is for, where its own was only assumed.

    `data` is a path, or truths that are in memory. What the images show has no part in it: only the names of arrays and
    columns, or the kind of numbers, are looked at. A network whose output is no single row of values keeps its task.
    """
    if "task" not in spec.assumed or not spec.classes:
        return spec
    task = task_of_images(str(data)) if isinstance(data, str | Path) else task_of_truths(data)
    return spec if task is None else spec.with_task(task, spec.classes)


def task_of_images(path: str) -> str | None:
    """The task that labelled images at `path` are for; None where that cannot be told without running code."""
    source = Path(path)
    try:
        if source.suffix == ".npz":
            with zipfile.ZipFile(source) as archive:
                names = {Path(name).stem for name in archive.namelist()}
            return next((task for array, task in _ARRAYS.items() if array in names), None)
        if source.suffix == ".csv":
            columns = set(csv.DictReader(io.StringIO(read_text(source).removeprefix("\ufeff"))).fieldnames or ())
            if {"first", "second", "same"} <= columns:
                return "embedding"
            return "classification" if "label" in columns else "regression" if "filename" in columns else None
        if source.is_dir():
            folders = [each for each in source.iterdir() if each.is_dir() and not each.name.startswith(".")]
            return "classification" if any(map(find_plain, folders)) else None
    except (OSError, ValueError, zipfile.BadZipFile, csv.Error):  # whoever reads the images says what is wrong
        return None
    return None


def task_of_truths(truths: Any) -> str | None:
    """The task that `truths`, as `evaluation_from_arrays` takes them, are for; None where they do not say."""
    if isinstance(truths, Mapping):
        return "embedding" if "pairs" in truths else None
    kind, shape = np.asarray(truths).dtype.kind, np.shape(truths)
    if kind in "iuU" and len(shape) == 1:
        return "classification"
    return "regression" if kind == "f" else None
