"""Checkpoint files: read without running anything in them, and checked against the network key by key."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from edgeq.errors import ConfigError

__all__ = ["digest", "fit", "read_weights"]

_SUFFIXES = (".safetensors", ".pt", ".pth", ".th")
_COUNTER = "num_batches_tracked"  # batch norm's step counter: of no use to inference, often stripped


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name from ``.safetensors``, or ``.pt``/``.pth`` opened with ``weights_only=True``.

    A ``{"state_dict": ...}`` wrapper and ``module.`` prefixes are taken off. Raises `ConfigError`.
    """
    if path.suffix not in _SUFFIXES:
        raise ConfigError(f"weights file {path}", why=f"is none of {', '.join(_SUFFIXES)}")
    if not path.is_file():
        raise ConfigError(f"weights file {path} does not exist")
    try:
        data: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"weights file {path} holds more than tensors, or is corrupt",
            why=_first(error),
            hint="save model.state_dict(), or use safetensors",
        ) from error
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise ConfigError(f"weights file {path} cannot be read", why=_first(error), hint="is it whole?") from error
    if isinstance(data, Mapping) and isinstance(data.get("state_dict"), Mapping):
        data = data["state_dict"]
    if not isinstance(data, Mapping) or not data or not all(isinstance(v, Tensor) for v in data.values()):
        raise ConfigError(
            f"weights file {path} holds no state dict", hint='expected name: tensor, or {"state_dict": ...}'
        )
    state = {str(name): tensor for name, tensor in data.items()}
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return state


def fit(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Put `state` into `module`. Raises `ConfigError` naming keys that are missing, left over or of another shape."""
    own = module.state_dict()
    missing = [name for name in own if name not in state and not name.endswith(_COUNTER)]
    unexpected = [name for name in state if name not in own and not name.endswith(_COUNTER)]
    shapes = [
        f"{name} is {list(state[name].shape)}, the network's {list(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    parts = [("missing", missing), ("unexpected", unexpected), ("wrong shape", shapes)]
    if any(names for _, names in parts):
        why = "; ".join(f"{label} {_few(names)}" for label, names in parts if names)
        raise ConfigError(f"weights {source} do not fit the network", why=why)
    broken = [name for name, tensor in state.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()]
    if broken:
        raise ConfigError(f"weights {source} hold values that are not finite", why=_few(broken))
    module.load_state_dict({name: tensor for name, tensor in state.items() if name in own}, strict=False)


def digest(state: Mapping[str, Tensor]) -> str:
    """sha256 over names, types, shapes and bytes: equal for equal weights, whatever file they came in."""
    total = hashlib.sha256()
    for name, value in sorted(state.items()):
        tensor = value.detach().cpu().contiguous()
        total.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _few(names: Iterable[str], most: int = 3) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _first(error: BaseException) -> str:
    """The first sentence of a library's message: torch's go on for a page."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].split(". ")[0][:200]
