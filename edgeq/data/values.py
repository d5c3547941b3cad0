"""Ground truth that is no class: real values per image, and pairs of images that are or are not of the same kind."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.data.pictures import beside
from edgeq.errors import LabelsError
from edgeq.limits import read_text
from edgeq.model.spec import ModelSpec
from edgeq.model.tasks import Regression

__all__ = ["check_pairs", "check_values", "no_truths", "read_pair_table", "read_value_table"]

Array = npt.NDArray[Any]
PAIR_COLUMNS = ("first", "second", "same")


def no_truths(spec: ModelSpec, images: int) -> Array:
    """Truths of images of which nothing is known: enough to compare a file with the float network."""
    if spec.task == "regression":
        return np.zeros((images, 0))
    return check_pairs({"pairs": np.zeros((0, 2), np.int64), "same": np.zeros(0, bool)}, images, "")


def check_values(given: Any, images: int, source: str, spec: ModelSpec) -> Array:
    """Values ``(N, K)`` float64: what is true of all outputs of an image in order, each flattened.

    Raises `ConfigError` for values that are not finite, or not as many as `spec` has.
    """
    values = np.asarray(given)
    if values.dtype.kind not in "fiu" or values.ndim == 0 or len(values) != images:
        raise LabelsError(
            f"values of {source} are {values.dtype} {list(values.shape)}",
            why=f"must be numbers ({images}, K), one row per image",
            hint="--task classification, if they are classes" if values.dtype.kind in "iuU" else "",
        )
    flat = values.reshape(images, -1).astype(np.float64)
    known = spec.classes or (len(spec.dense.names) if isinstance(spec.dense, Regression) else 0)
    if known and flat.shape[1] != known:
        classes = values.dtype.kind in "iu" and values.ndim == 1
        raise LabelsError(
            f"values of {source} are {flat.shape[1]} per image",
            why=f"{spec.name} has {known}",
            hint="--task classification, if they are classes" if classes else "",
        )
    if not np.isfinite(flat).all():
        raise LabelsError(f"values of {source}", why="must be finite numbers")
    return flat


def check_pairs(given: Any, images: int, source: str) -> Array:
    """Pairs as an object per image, ``(N,)``: its number, and int64 ``(m, 2)`` of a later image and whether it is the
    same. So a part of the images keeps the pairs that are whole. Raises `ConfigError`.
    """
    if not isinstance(given, Mapping) or not {"pairs", "same"} <= set(given):
        raise LabelsError(f"truths of {source}", why="must be pairs (P, 2) of images and same (P,)")
    pairs, same = np.asarray(given["pairs"]), np.asarray(given["same"])
    if pairs.dtype.kind not in "iu" or pairs.shape != (len(same), 2) or same.ndim != 1 or same.dtype.kind not in "biu":
        raise LabelsError(
            f"pairs and same of {source} are {pairs.dtype} {list(pairs.shape)} and {same.dtype} {list(same.shape)}",
            why="must be integers (P, 2) and booleans (P,)",
        )
    if len(pairs) and not 0 <= pairs.min() <= pairs.max() < images:
        raise LabelsError(f"pairs of {source} go from {pairs.min()} to {pairs.max()}", why=f"there are {images} images")
    if not np.isin(same, (0, 1)).all():
        raise LabelsError(f"same of {source}", why="must be 0 or 1")
    rows: list[list[tuple[int, int]]] = [[] for _ in range(images)]
    for (first, second), alike in zip(pairs.tolist(), same.tolist(), strict=True):
        rows[min(first, second)].append((max(first, second), int(alike)))
    truths = np.empty(images, object)
    for place, row in enumerate(rows):
        truths[place] = (np.array([place], np.int64), np.array(row, np.int64).reshape(-1, 2))
    return truths


def read_value_table(path: Path, spec: ModelSpec) -> tuple[list[Path], Array]:
    """Files and values ``(N, K)`` of a CSV with a column filename and one per value.

    Columns are matched with the names of the ``[task]`` table where there are any, else taken in order.
    """
    rows, columns = _read_rows(path, ("filename",), "filename and a column per value")
    named = spec.dense.names if isinstance(spec.dense, Regression) else ()
    wanted = named or tuple(column for column in columns if column != "filename")
    if missing := [name for name in wanted if name not in columns]:
        raise LabelsError(f"{path} has columns {list(columns)}", why=f"[task] names {', '.join(missing)}, too")
    files, values = [], []
    for where, row in rows:
        files.append(beside(path, row["filename"] or "", where))
        values.append([_number(row[name], name, where) for name in wanted])
    return files, np.array(values, np.float64).reshape(len(files), -1)


def read_pair_table(path: Path) -> tuple[list[Path], dict[str, Array]]:
    """Files, each once, and the pairs and same of a CSV with the columns first, second and same."""
    rows, _ = _read_rows(path, PAIR_COLUMNS, "first, second and same")
    numbers: dict[Path, int] = {}
    pairs, same = [], []
    for where, row in rows:
        found = [beside(path, row[name] or "", where) for name in PAIR_COLUMNS[:2]]
        pairs.append([numbers.setdefault(file, len(numbers)) for file in found])
        if row["same"] not in ("0", "1"):
            raise LabelsError(f"same = {row['same']!r}", where=where, why="must be 0 or 1")
        same.append(row["same"] == "1")
    return list(numbers), {"pairs": np.array(pairs, np.int64).reshape(-1, 2), "same": np.array(same, bool)}


def _number(text: str | None, name: str, where: str) -> float:
    try:
        return float(text or "")
    except ValueError as error:
        raise LabelsError(f"{name} = {text!r}", where=where, why="must be a number") from error


def _read_rows(
    path: Path, needed: Sequence[str], must: str
) -> tuple[list[tuple[str, dict[str, str | None]]], tuple[str, ...]]:
    """The rows of a CSV with where each is, and the names of its columns."""
    try:
        table = csv.DictReader(io.StringIO(read_text(path).removeprefix("\ufeff"), newline=""))
        columns = tuple(table.fieldnames or ())
        if not set(needed) <= set(columns):
            raise LabelsError(f"{path} has columns {list(columns)}", why=f"must have {must}")
        return [(f"{path} line {table.line_num}", row) for row in table], columns
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelsError(f"{path} cannot be read", why=str(error)) from error
