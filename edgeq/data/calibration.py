"""CalibrationSet: the images that fix activation ranges, wherever they came from.

Kept apart from evaluation sets by type: nothing that calibrates or trains accepts anything but a `CalibrationSet`.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeq.data.npz import read_npz
from edgeq.errors import ArtifactError

__all__ = ["CalibrationSet"]


@dataclass(frozen=True)
class CalibrationSet:
    """Calibration images: `inputs` float32 ``(N, C, H, W)``, normalised; `labels` int64 ``(N,)``, -1 where unknown.

    `notes` are numbers that a method reports about its images, such as the share it rejected.
    """

    inputs: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    method: str
    notes: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.inputs)

    def split(self, count: int) -> tuple[CalibrationSet, CalibrationSet]:
        """Split the set into its first `count` images and the others."""
        first = replace(self, inputs=self.inputs[:count], labels=self.labels[:count])
        return first, replace(self, inputs=self.inputs[count:], labels=self.labels[count:])

    def digest(self) -> str:
        return hashlib.sha256(np.ascontiguousarray(self.inputs).tobytes() + self.labels.tobytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """A ``.npz`` with ``inputs``, ``labels``, ``method``, any ``notes`` as JSON; same set, same bytes."""
        buffer = io.BytesIO()
        notes = {"notes": np.array(json.dumps(dict(self.notes), sort_keys=True))} if self.notes else {}
        np.savez(buffer, inputs=self.inputs, labels=self.labels, method=np.array(self.method), **notes)
        return buffer.getvalue()

    @classmethod
    def load(cls, path: Path) -> CalibrationSet:
        """Read what `to_bytes` wrote. Raises `ArtifactError` for anything else, and for values that are not finite."""
        try:
            file = read_npz(path, ("inputs", "labels", "method"), ("notes",))
            inputs, labels = file["inputs"], file["labels"]
            if inputs.dtype != np.float32 or inputs.ndim != 4 or labels.shape != inputs.shape[:1]:
                raise ValueError("inputs must be float32 (N, C, H, W) with one label each")
            if labels.dtype.kind not in "iu" or not inputs.size or not np.isfinite(inputs).all():
                raise ValueError("there must be one image or more, of finite values, and integers as labels")
            notes = dict(json.loads(str(file["notes"]))) if "notes" in file else {}
            kept = {str(name): float(value) for name, value in notes.items()}
            return cls(inputs, labels.astype(np.int64), str(file["method"]), kept)
        except (ArtifactError, ValueError, TypeError, RecursionError) as error:
            raise ArtifactError(f"{path} is not a calibration set", why=str(error)) from error
