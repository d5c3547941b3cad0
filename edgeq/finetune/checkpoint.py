"""What an interrupted fine-tuning continues from: one file, written whole, read as data."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from edgeq.files import write_atomic
from edgeq.synth.checkpoint import read_tensors

__all__ = ["read_state", "write_state"]

FORM = 5
"""Of a checkpoint: one of another form cannot be continued exactly."""


def read_state(path: Path) -> dict[str, Any] | None:
    """Return what `write_state` wrote, on the CPU; None where nothing is there that this version can continue."""
    state = read_tensors(path)
    return state if isinstance(state, dict) and state.get("form") == FORM else None


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors and numbers by name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save({"form": FORM, **state}, buffer)
    write_atomic(path, buffer.getvalue())
