"""ModelSpec: what is known about a network beside its weights, above all how pixels become its input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edgeq.config.tasks import KINDS
from edgeq.errors import InputError, TaskError
from edgeq.model.tasks import Task

__all__ = ["ModelSpec", "as_picture", "is_series"]

BRIGHTEST = 2.0
"""A mean above it is none of values from 0 to 1, but of pixels from 0 to 255."""

LARGEST_INPUT = 1e6
"""Normalised pixels that far from 0 come from a mistaken mean or std."""

LONGEST_NAME = 150
"""Bytes of a network's name: folders named after it carry a target and a suffix too, in at most 255."""

CHANNELS = (1, 3, 4)
"""Numbers of channels that pictures have: grey, RGB, RGB and one more."""


def as_picture(shape: Sequence[int]) -> tuple[int, ...]:
    """``(C, L)``, a series of C channels and L values, as a picture one row high: ``(C, 1, L)``. Others as they are."""
    sizes = tuple(int(size) for size in shape)
    return (sizes[0], 1, sizes[1]) if len(sizes) == 2 else sizes


def is_series(shape: Sequence[int]) -> bool:
    """Whether a picture of `shape` ``(C, H, W)`` is one row high, and so no picture."""
    return len(shape) == 3 and shape[1] == 1 < shape[2]


@dataclass(frozen=True)
class ModelSpec:
    """A network's name, input and output.

    `input_shape` is one image, ``(C, H, W)``; a series of C channels and L values is one of ``(C, 1, L)``. `mean` and
    `std` are per channel on the 0..1 scale, or one number for all channels. `resize` (short side)
    and `crop` (centre) bring pictures to that size; None leaves pictures as they are. `evaluation` is where labelled
    images are (a path, or ``file.py:function``): read by measuring only. `dense` says what the outputs mean, where a
    ``[task]`` table does, `labels` what the classes are called. `assumed` names fields nobody stated,
    filled with the field's usual values. Raises `ConfigError` for values that contradict each other.
    """

    name: str
    input_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | None = None
    crop: int | None = None
    task: str = "classification"
    classes: int = 0
    evaluation: str | None = None
    dense: Task | None = None
    labels: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name.isprintable() or set(self.name) & set("/\\") or self.name.startswith((".", "-", " ")):
            raise InputError(
                f"name {self.name!r}",
                why="names a folder: no slash, no control character, no dot, dash or space in front",
            )
        if not 1 <= len(self.name.encode()) <= LONGEST_NAME:
            raise InputError(f"name {self.name[:20]!r}...", why=f"must have 1 to {LONGEST_NAME} bytes")
        if len(self.input_shape) != 3 or min(self.input_shape) < 1:
            raise InputError(
                f"input shape {list(self.input_shape)} of {self.name}", why="must be [channels, height, width]"
            )
        channels, height, width = self.input_shape
        for field in ("mean", "std"):
            given = tuple(getattr(self, field))
            object.__setattr__(self, field, given * channels if len(given) == 1 else given)
        if width in CHANNELS and channels not in CHANNELS and len(self.mean) != channels:
            raise InputError(
                f"input shape {list(self.input_shape)} of {self.name}",
                why="is channels, height, width, and would be an image of "
                f"{channels} channels that is {width} pixel{'s' * (width > 1)} wide",
                hint=f"did you mean {width},{channels},{height}?",
            )
        for field, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != channels or not all(math.isfinite(v) for v in values):
                raise InputError(
                    f"{field} {list(values)} of {self.name}", why=f"must be {channels} finite numbers, one per channel"
                )
        if max(self.mean) > BRIGHTEST:
            raise InputError(
                f"mean {list(self.mean)} of {self.name}",
                why="is stated on the 0..1 scale",
                hint="divide mean and std by 255",
            )
        if min(self.std) <= 0:
            raise InputError(f"std {list(self.std)} of {self.name}", why="must be positive")
        if not all(abs(value) < LARGEST_INPUT for value in self.input_range()):
            raise InputError(
                f"mean {list(self.mean)} and std {list(self.std)} of {self.name}",
                why=f"turn pixels into inputs beyond {LARGEST_INPUT:g}",
            )
        if self.crop is not None and (self.crop, self.crop) != (height, width):
            raise InputError(
                f"crop = {self.crop} of {self.name}",
                why=f"does not give the input's {height} x {width} (height x width)",
            )
        if self.resize is not None and self.resize < max(height, width):
            raise InputError(
                f"resize = {self.resize} of {self.name}", why=f"is smaller than the input's {height} x {width}"
            )
        if self.labels and len(self.labels) != self.decisions:
            raise InputError(f"{len(self.labels)} labels of {self.name}", why=f"it has {self.decisions} classes")
        if self.task not in KINDS:
            raise TaskError(f"task {self.task!r} of {self.name}", hint=f"choose from {', '.join(KINDS)}")

    def with_task(self, task: str, classes: int = 0) -> ModelSpec:
        """This spec with a `task` that somebody stated. What it says of another task goes; `classes` are the new
        one's."""
        assumed = tuple(field for field in self.assumed if field != "task")
        if task == self.task:
            return replace(self, assumed=assumed)
        return replace(self, task=task, assumed=assumed, classes=classes, labels=(), dense=None)

    @property
    def assumption(self) -> str:
        """What was assumed of the task, and how to say otherwise; "" where somebody stated it."""
        if "task" not in self.assumed:
            return ""
        if self.task == "classification":
            what, other = f"the {self.classes} outputs were taken for scores of classes", "regression or embedding"
        else:
            what, other = "the outputs were taken for real values, not for scores of classes", "classification"
        return f"nobody stated the task: {what} (--task {other} says otherwise)"

    @property
    def usual_values(self) -> str:
        """What mean and std are where nobody stated them."""
        return "values from -4 to 4" if is_series(self.input_shape) else "ImageNet's values"

    @property
    def decisions(self) -> int:
        """Classes that labels can name: `classes`, or the two that a classifier of one logit decides between."""
        return 2 if self.task == "classification" and self.classes == 1 else self.classes

    def normalise(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """uint8 pixels ``(N, H, W, C)`` to the network's float32 input ``(N, C, H, W)``."""
        mean, std = (np.asarray(v, np.float32) for v in (self.mean, self.std))
        values = (images.astype(np.float32) / np.float32(255) - mean) / std
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2))

    def channel_range(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Normalised values of pixel 0 and pixel 255, each ``(C,)``."""
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # the constructor refuses what they give
            mean, std = (np.asarray(v, np.float32) for v in (self.mean, self.std))
            return (np.float32(0) - mean) / std, (np.float32(1) - mean) / std

    def input_range(self) -> tuple[float, float]:
        """Smallest and largest value any pixel of any channel takes once normalised."""
        low, high = self.channel_range()
        return float(low.min()), float(high.max())
