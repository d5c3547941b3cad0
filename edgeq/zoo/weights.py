"""Checkpoint files: read without running anything in them, and checked against the network key by key."""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
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

    The state dict of a training checkpoint, as in ``{"model": ..., "optimizer": ...}``, is found where there is one,
    and the prefixes ``module.`` (data parallel) and ``_orig_mod.`` (compiled) are taken off. Raises `ConfigError`.
    """
    if not path.is_file():
        raise ConfigError(f"weights file {path} {'is a folder' if path.is_dir() else 'does not exist'}")
    if path.suffix not in _SUFFIXES:
        raise ConfigError(f"weights file {path} is none of {', '.join(_SUFFIXES)}")
    if path.suffix != ".safetensors" and _is_script(path):
        raise ConfigError(
            f"weights file {path} is a TorchScript program",
            hint="save its tensors: torch.save(torch.jit.load(FILE).state_dict(), NEW)",
        )
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
    state = {str(name): tensor for name, tensor in _state_dict(data, path).items()}
    for wrapper in ("module.", "_orig_mod."):
        if all(name.startswith(wrapper) for name in state):
            state = {name.removeprefix(wrapper): tensor for name, tensor in state.items()}
    return state


def _is_script(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _state_dict(data: Any, path: Path) -> dict[Any, Tensor]:
    """`data` itself, or the one state dict among its values; ``state_dict`` goes before others, such as an average."""
    if _is_state(data):
        return dict(data)
    found = {key: value for key, value in data.items() if _is_state(value)} if isinstance(data, Mapping) else {}
    if "state_dict" in found or len(found) == 1:
        return dict(found.get("state_dict") or next(iter(found.values())))
    if found:
        raise ConfigError(
            f"weights file {path} holds several state dicts", why=_few(map(str, found)),
            hint="save the one meant in a file of its own",
        )  # fmt: skip
    inside = f"{type(data).__name__} of {_few(map(str, data))}" if isinstance(data, Mapping) else type(data).__name__
    raise ConfigError(
        f"weights file {path} holds no state dict", why=f"it is a {inside}",
        hint="expected name: tensor, as model.state_dict() gives it",
    )  # fmt: skip


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(v, Tensor) for v in value.values())


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
        raise ConfigError(f"weights {source} do not fit the network", why=why, hint=_renamed(own, state))
    broken = [name for name, tensor in state.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()]
    if broken:
        raise ConfigError(f"weights {source} hold values that are not finite", why=_few(broken))
    module.load_state_dict({name: tensor for name, tensor in state.items() if name in own}, strict=False)


def _renamed(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """A hint where the names differ by a prefix alone."""
    for longer, shorter, where in ((state, own, "the file's"), (own, state, "the network's")):
        first = next(iter(shorter), "")
        prefixes = {name.removesuffix(first) for name in longer if name.endswith(f".{first}")}
        for prefix in sorted(prefixes):
            if {f"{prefix}{name}" for name in shorter if not name.endswith(_COUNTER)} <= set(longer):
                return f"{where} names begin with {prefix!r}: save it under the same names"
    return ""


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
