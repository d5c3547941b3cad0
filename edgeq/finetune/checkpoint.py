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

FORM = 4
"""Of a checkpoint: one of another form cannot be continued exactly."""


def read_state(path: Path, processes: int) -> dict[str, Any] | None:
    """What a run of as many processes wrote, on the CPU; None where nothing is there that this version, and this run,
    can continue: it starts anew."""
    state = read_tensors(path)
    if not isinstance(state, dict) or state.get("form") != FORM or len(state.get("random", ())) != processes:
        return None
    return state


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors and numbers by name; what `read_state` shall find also says ``random``, one state a process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save({"form": FORM, **state}, buffer)
    write_atomic(path, buffer.getvalue())
