"""Where fine-tuning runs, and in which arithmetic: whole float32 where grids are, less where the user allows it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

import torch

from edgeq.errors import ConflictError

__all__ = ["Precision", "check_precision", "mixed_precision", "training_device", "whole_float32"]

Precision = Literal["float32", "mixed"]
"""``mixed``: teacher and generator compute in bfloat16. Float16 would be no more exact where it matters, needs its
losses scaled, and the scale would be one more thing two interrupted runs have to agree on."""


def training_device() -> torch.device:
    """Where networks are trained and images optimised: the GPU where CUDA has one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_precision(precision: Precision, device: torch.device) -> None:
    """Raise `ConfigError` for ``mixed`` on a GPU that has no bfloat16."""
    if precision == "mixed" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ConflictError(
            "--precision mixed",
            where=torch.cuda.get_device_name(device),
            why="it computes no bfloat16",
            hint="--precision float32",
        )


def mixed_precision(precision: Precision, device: torch.device) -> torch.autocast:
    """Around what may be computed in bfloat16."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "mixed")


@contextlib.contextmanager
def whole_float32() -> Iterator[None]:
    """Around training: a GPU's float32 is float32 and not TF32, whose ten bits move a student's sums off the integers
    they stand for, and cuDNN's kernels are the same ones every time."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, False
    try:
        with cudnn.flags(enabled=cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        matmul.allow_tf32 = before
