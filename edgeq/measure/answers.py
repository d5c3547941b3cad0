"""answers.safetensors: what both networks answered to each evaluation image, kept beside a build.

Two builds that answered the same images are compared image by image, which is far sharper than comparing two scores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from edgeq.errors import ArtifactError, TooLargeError
from edgeq.limits import check_regular

__all__ = ["ANSWERS", "Answers"]

ANSWERS = "answers.safetensors"

SCHEMA = 1

LARGEST = 256 * 2**20
"""Bytes of a file that is read: a million images of a classifier take twelve megabytes."""

MOST = 1_000_000
"""Images of a file that is read: comparing more takes minutes, and no labelled set has them."""

Array = npt.NDArray[Any]

KINDS = {
    "label": ("i", 1),
    "float": ("i", 1),
    "integer": ("i", 1),
    "float_areas": ("i", 3),
    "integer_areas": ("i", 3),
    "difference": ("f", 2),
    "error": ("f", 2),
}
"""Names of arrays with the kind of their numbers and their dimensions, the first of which is images (or pairs).

``label``, ``float`` and ``integer`` ``(N,)`` are class numbers: what is true, and what each network answered; of pairs
that are verified, 1 for the same. ``float_areas`` and ``integer_areas`` ``(N, C, 2)`` are pixels of each class in which
answer and truth meet, and that either of them covers. ``difference`` and ``error`` ``(N, K)`` are mean absolute
differences of each output of the file to the float network's, and to what is true; for embeddings 1 - cosine.
"""


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers to the images whose hash is `images` (`EvaluationSet.sha256`). `arrays` are some of `KINDS`."""

    images: str
    arrays: Mapping[str, Array]

    def right(self, which: str = "integer") -> npt.NDArray[np.bool_] | None:
        """Whether each image, or pair, was answered right by the ``float`` or the ``integer`` network, ``(N,)``.

        None where answers are neither right nor wrong.
        """
        return None if which not in self.arrays else np.equal(self.arrays[which], self.arrays["label"])

    def to_bytes(self) -> bytes:
        """The file. Arrays are kept in as few bytes as hold them."""
        tensors = {name: np.ascontiguousarray(_compact(value)) for name, value in self.arrays.items()}
        metadata = {"schema": SCHEMA, "images": self.images}
        return bytes(save(tensors, metadata={"edgeq": json.dumps(metadata, sort_keys=True)}))

    @classmethod
    def load(cls, path: Path) -> Answers:
        """Read what `to_bytes` wrote, numbers as int64 and float64. Raises `ArtifactError` for anything else."""
        try:
            if check_regular(path) > LARGEST:
                raise TooLargeError(f"{path} is larger than {LARGEST // 2**20} MiB", why="no build's answers are")
            with safe_open(path, framework="numpy") as file:
                facts = json.loads((file.metadata() or {})["edgeq"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
            if facts["schema"] != SCHEMA or not isinstance(facts["images"], str):
                raise ValueError(f"it has schema {facts['schema']!r:.100}, this edgeq reads {SCHEMA}")
            return cls(facts["images"], {name: _checked(name, array) for name, array in _whole(arrays).items()})
        except (OSError, LookupError, ValueError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
            raise ArtifactError(f"{path} holds no answers", why=str(error)) from error


def _compact(values: Array) -> Array:
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    return values.astype(np.result_type(*(np.min_scalar_type(end) for end in (values.min(), values.max()))))


def _whole(arrays: Mapping[str, Array]) -> Mapping[str, Array]:
    """Check that arrays which only make sense together are there, for the same images."""
    for group in (("label", "float", "integer"), ("float_areas", "integer_areas")):
        shapes = {arrays[name].shape if name in arrays else None for name in group}
        if len(shapes) > 1:
            raise ValueError(f"{', '.join(group)} are not of the same images")
    return arrays


def _checked(name: str, array: Array) -> Array:
    kind, dimensions = KINDS[name]
    if (
        array.ndim != dimensions
        or not array.size
        or len(array) > MOST
        or array.dtype.kind not in ("iu" if kind == "i" else "f")
    ):
        raise ValueError(f"{name} is {array.dtype} {list(array.shape)}")
    numbers: Array = array.astype(np.int64 if kind == "i" else np.float64)
    if not np.isfinite(numbers).all() or (dimensions > 1 and numbers.min() < 0):
        raise ValueError(f"{name} holds numbers that no answer has")
    return numbers
