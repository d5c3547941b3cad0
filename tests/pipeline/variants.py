"""Every way to change one thing in a value, however deep it lies: what a key must not miss."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["variants"]

FEW = 3
"""Elements of a sequence or mapping that are changed: the first, one in the middle, the last."""


def variants(value: Any, folder: Path) -> Iterator[tuple[str, Any]]:
    """Where something was changed, and `value` with that one change. Files are written into `folder`."""
    if isinstance(value, torch.nn.Module):
        return  # known by what was captured of it and by its weights, which stand beside it
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            if field.init:
                for where, changed in variants(getattr(value, field.name), folder):
                    other = copy.copy(value)
                    object.__setattr__(other, field.name, changed)  # whether it makes sense is no matter here
                    yield f".{field.name}{where}", other
    elif isinstance(value, Mapping):
        for key in _few(list(value)):
            for where, changed in variants(value[key], folder):
                yield f"[{key!r}]{where}", {**value, key: changed}
        yield "+", {**value, "one more": "1"}
    elif isinstance(value, list | tuple):
        for index in _few(range(len(value))):
            for where, changed in variants(value[index], folder):
                yield f"[{index}]{where}", [*value[:index], changed, *value[index + 1 :]]
        yield "+", [*value, "one more"]
    else:
        yield "", _other(value, folder)


def _few(items: Any) -> list[Any]:
    places = sorted({0, len(items) // 2, len(items) - 1}) if len(items) else []
    return [items[place] for place in places]


def _other(value: Any, folder: Path) -> Any:
    if value is None:
        return 1
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return 1 if value in (math.inf, -math.inf) else value + 1
    if isinstance(value, str):
        return f"{value}x"
    if isinstance(value, Path):
        changed = folder / f"changed-{value.name}"
        data = bytearray(value.read_bytes())
        data[len(data) // 2] ^= 1
        changed.write_bytes(data)
        return changed
    if isinstance(value, torch.device):
        return torch.device("meta")
    if isinstance(value, np.ndarray | np.generic):
        changed_array = np.array(value)
        flat = changed_array.reshape(-1)
        flat[flat.size // 2] = flat[flat.size // 2] + 1
        return flat.reshape(changed_array.shape)
    raise AssertionError(f"nobody says how a {type(value).__name__} is changed")
