"""Replay a finished build: its file, op by op, against the exact reference of the integers it was written from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeq.config.formats import REFERENCE, Rounding, by_suffix, model_names
from edgeq.data.calibration import CalibrationSet
from edgeq.errors import ArtifactError
from edgeq.formats.base import format_class
from edgeq.formats.exactness import Exactness
from edgeq.formats.read import find_model
from edgeq.integer.graph import IntegerGraph
from edgeq.integer.storage import load_written
from edgeq.isolation import read_untrusted, run_isolated
from edgeq.limits import read_bytes

__all__ = ["replay", "verify_against"]


def replay(folder: Path, images: int, *, seed: int | None = None, rounding: Rounding = REFERENCE) -> Exactness:
    """Every op of the model in `folder` on its first `images` calibration images, or on noise drawn from `seed`.

    `rounding` is whose arithmetic an ONNX file is held to; a TFLite file knows one only. Runs in a process of its own.
    Raises `ArtifactError` where it is no folder of a whole build or its files are damaged.
    """
    if folder.is_file():
        raise ArtifactError(
            f"{folder} is a file",
            why="the integers it is held to lie beside it in the folder of its build",
            hint="name that folder; edgeq inspect reads any file",
        )
    return run_isolated(_replay, folder, images, seed=seed, rounding=rounding)


def verify_against(
    integer: IntegerGraph, file: Path, inputs: npt.NDArray[np.float32], *, rounding: Rounding = REFERENCE
) -> Exactness:
    """Every op of a model file on real `inputs` ``(N, C, H, W)``, against the `integer` graph it was written from.

    Runs in a process of its own. Raises `ArtifactError` where the file is damaged or was written from another graph.
    """
    if not file.is_file():
        raise ArtifactError(f"no such file: {file}")
    return run_isolated(_verify, integer, file, inputs, rounding=rounding)


def _verify(integer: IntegerGraph, file: Path, inputs: npt.NDArray[np.float32], *, rounding: Rounding) -> Exactness:
    with read_untrusted(f"{file} cannot be verified", "it is damaged, or was not written from this graph"):
        return _compare_file(integer, file, inputs, rounding=rounding)


def _replay(folder: Path, images: int, *, seed: int | None, rounding: Rounding) -> Exactness:
    with read_untrusted(
        f"the model in {folder} cannot be replayed", "it is damaged, or not of this build: build again"
    ):
        return _compare(folder, images, seed=seed, rounding=rounding)


def _compare(folder: Path, images: int, *, seed: int | None, rounding: Rounding) -> Exactness:
    integer = load_written(_part(folder, "integer.safetensors"))
    inputs = _inputs(folder, integer, images, seed)
    return _compare_file(integer, find_model(folder), inputs, rounding=rounding)


def _compare_file(
    integer: IntegerGraph, file: Path, inputs: npt.NDArray[np.float32], *, rounding: Rounding
) -> Exactness:
    facts = by_suffix(file)
    if facts is None:
        raise ArtifactError(f"{file} is no model file", hint=f"its name must end in {model_names()}")
    return format_class(facts).compare(integer, read_bytes(file), inputs, rounding)


def _part(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise ArtifactError(f"no {name} in {folder}", hint="give the folder that edgeq build left")
    return folder / name


def _inputs(folder: Path, integer: IntegerGraph, images: int, seed: int | None) -> npt.NDArray[np.float32]:
    (entry,) = integer.inputs
    shape = integer.shapes[entry][1:]
    if seed is not None:
        grid = integer.quantizations[entry]
        low, high = grid.dequantize(np.array(grid.limits))
        drawn = np.random.default_rng(seed).uniform(low, high, (images, *shape))
        return drawn.astype(np.float32)
    inputs = CalibrationSet.load(_part(folder, "calibration.npz")).inputs[:images]
    if inputs.shape[1:] != shape:
        raise ArtifactError(f"the images in {folder} do not fit its model", why=f"{inputs.shape[1:]}, not {shape}")
    return inputs
