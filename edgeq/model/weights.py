"""Read checkpoint files without running anything in them, and check them against the network key by key."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import pickle
import tarfile
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from edgeq.errors import ConfigError, WeightsError
from edgeq.limits import check_archive, check_regular, check_unpacked

__all__ = ["SUFFIXES", "digest", "file_and_key", "fit", "read_weights"]

SUFFIXES = (".safetensors", ".pt", ".pth", ".th", ".tar", ".ckpt", ".bin")
"""Suffixes of checkpoints: ``.tar`` is for ``.pth.tar``, ``.ckpt`` Lightning's, ``.bin`` Hugging Face's."""

_COUNTER = "num_batches_tracked"  # batch norm's step counter: of no use to inference, often stripped
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool)


def read_weights(source: str | Path) -> dict[str, Tensor]:
    """Tensors by name from the checkpoint `source`: ``FILE``, or ``FILE:KEY`` where it holds several state dicts.

    The file is ``.safetensors``, or what `torch.save` wrote, which is opened with ``weights_only=True``. The state dict
    of a training checkpoint, as in ``{"model": ..., "optimizer": ...}``, is found where it is the only one; KEY names
    one of several, such as ``state_dict_ema``, with dots between the keys of nested dictionaries. The prefixes
    ``module.`` (data parallel) and ``_orig_mod.`` (compiled) are taken off. All tensors are dense, of floats or
    integers. Raises `ConfigError`.
    """
    path, key = file_and_key(str(source))
    try:
        size = check_regular(path)
    except OSError as error:
        raise WeightsError(f"weights file {path} does not exist") from error
    if path.name.endswith(".index.json"):
        raise WeightsError(
            f"weights file {path} lists the parts of a checkpoint",
            hint="load the network with the library it comes from and save its state_dict() in one file",
        )
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"weights file {path} is none of {', '.join(SUFFIXES)}")
    state = _state_dict(_read(path), path, key)
    for name, tensor in state.items():
        if strange := _strange(tensor):
            raise WeightsError(f"weights file {path} cannot be used", why=f"{name} is {strange}", hint=_DENSE)
    check_unpacked(f"weights file {path}", sum(t.numel() * t.element_size() for t in state.values()), size)
    for wrapper in ("module.", "_orig_mod."):
        if all(name.startswith(wrapper) for name in state):
            state = {name.removeprefix(wrapper): tensor for name, tensor in state.items()}
    return state


_DENSE = "save dense tensors of floats, such as those of the network before it was quantized"


def file_and_key(source: str) -> tuple[Path, str]:
    """The two parts of ``FILE:KEY``; the key is "" where `source` names a file alone."""
    file, colon, key = source.rpartition(":")
    if colon and not os.path.lexists(source) and os.path.lexists(file):
        return Path(file), key
    return Path(source), ""


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except Exception as error:  # SafetensorError, and KeyError for types that torch does not have
            raise WeightsError(f"weights file {path} cannot be read", why=_first(error), hint="is it whole?") from error
    _refuse_more_than_tensors(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how torch keeps what is refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _more_than_tensors(path, _first(error)) from error
    except Exception as error:  # a damaged file raises a dozen kinds
        raise WeightsError(f"weights file {path} cannot be read", why=_first(error), hint="is it whole?") from error


def _refuse_more_than_tensors(path: Path) -> None:
    """Raise `ConfigError` for things that torch would open or allocate and that no checkpoint needs."""
    names: list[str] = []
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[:4] == b"PK\x03\x04":  # as torch tells them apart
                check_archive(path)
                with zipfile.ZipFile(path) as archive:
                    names = archive.namelist()
                    pickles = b"".join(archive.read(name) for name in names if name.endswith("/data.pkl"))
                allocates = b"bytearray\n" in pickles
            elif tarfile.is_tarfile(path):
                raise WeightsError(
                    f"weights file {path} has the format of the first torch versions",
                    hint="open it with torch.load in Python and save it again with torch.save",
                )
            else:
                allocates = data.find(b"bytearray\n") >= 0
    except ConfigError:
        raise
    except Exception as error:  # mmap, zipfile and tarfile raise a dozen kinds
        raise WeightsError(f"weights file {path} cannot be read", why=_first(error), hint="is it whole?") from error
    if any(name.endswith("/constants.pkl") for name in names):
        raise WeightsError(
            f"weights file {path} is a TorchScript program",
            hint="save its tensors: torch.save(torch.jit.load(FILE).state_dict(), NEW)",
        )
    if allocates:  # torch lets a few bytes of a pickle ask for as much memory as they name
        raise _more_than_tensors(path, "it makes a bytearray")


def _more_than_tensors(path: Path, why: str) -> ConfigError:
    return WeightsError(
        f"weights file {path} holds more than tensors, or is corrupt",
        why=why,
        hint="save model.state_dict(), or use safetensors",
    )


def _state_dict(data: Any, path: Path, key: str) -> dict[str, Tensor]:
    """`data` itself, the state dict that `key` names in it, or the only one among its values."""
    states = {str(k): v for k, v in data.items() if _is_state(v)} if isinstance(data, Mapping) else {}
    if key:
        chosen = _walk(data, key)
    elif _is_state(data):
        chosen = data
    else:
        chosen = next(iter(states.values())) if len(states) == 1 else None
    if _is_state(chosen):
        return {str(name): tensor for name, tensor in chosen.items()}
    choice = "name one: " + " or ".join(f"--weights {path}:{name}" for name in states) if states else ""
    if key:
        raise WeightsError(f"weights file {path} has no state dict {key!r}", hint=choice or "leave the key out")
    if states:
        raise WeightsError(f"weights file {path} holds several state dicts", why=_few(states), hint=choice)
    inside = f"{type(data).__name__} of {_few(map(str, data))}" if isinstance(data, Mapping) else type(data).__name__
    raise WeightsError(
        f"weights file {path} holds no state dict",
        why=f"it is a {inside}",
        hint="expected name: tensor, as model.state_dict() gives it",
    )


def _walk(data: Any, key: str) -> Any:
    """The value at `key`: itself a key, or keys of nested dictionaries with dots between them."""
    if not isinstance(data, Mapping):
        return None
    if key in data:
        return data[key]
    first, dot, rest = key.partition(".")
    return _walk(data[first], rest) if dot and first in data else None


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(v, Tensor) for v in value.values())


def _strange(tensor: Tensor) -> str:
    """Name of the kind of a tensor that no network here can hold; empty for dense floats and integers."""
    if tensor.is_nested or type(tensor) not in (Tensor, nn.Parameter):
        return "nested" if tensor.is_nested else f"a {type(tensor).__name__}"
    if tensor.layout != torch.strided:
        return f"sparse ({str(tensor.layout).removeprefix('torch.')})"
    if tensor.device.type != "cpu":
        return f"without values (on the device {tensor.device.type})"
    if tensor.is_quantized or tensor.dtype not in (*_FLOATS, *_INTEGERS):
        return _dtype(tensor)
    return ""


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def fit(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Put `state` into `module`; a prefix that all its names share is taken off where the names fit without it.

    Raises `ConfigError` naming keys that are missing, left over, of another shape or of integers where the network has
    floats, and values that are not finite in float32.
    """
    own = module.state_dict()
    state = _without_prefix(own, state)
    missing = [name for name in own if name not in state and not name.endswith(_COUNTER)]
    unexpected = [name for name in state if name not in own and not name.endswith(_COUNTER)]
    both = [(name, own[name], state[name]) for name in own if name in state and not name.endswith(_COUNTER)]
    shapes = [
        f"{name} is {list(given.shape)}, the network's {list(own_tensor.shape)}"
        for name, own_tensor, given in both
        if not is_lazy(own_tensor) and given.shape != own_tensor.shape
    ]
    types = [
        f"{name} is {_dtype(given)}, the network's {_dtype(own_tensor)}"
        for name, own_tensor, given in both
        if (given.dtype in _FLOATS, given.dtype == torch.bool)
        != (own_tensor.dtype in _FLOATS, own_tensor.dtype == torch.bool)
    ]
    parts = [("missing", missing), ("unexpected", unexpected), ("wrong shape", shapes), ("wrong type", types)]
    if any(names for _, names in parts):
        why = "; ".join(f"{label} {_few(names)}" for label, names in parts if names)
        raise WeightsError(f"weights {source} do not fit the network", why=why, hint=_rename_hint(own, state))
    broken = [name for name, t in state.items() if t.is_floating_point() and not torch.isfinite(t.float()).all()]
    if broken:
        raise WeightsError(f"weights {source} hold values that are not finite", why=_few(broken))
    module.load_state_dict({name: tensor for name, tensor in state.items() if name in own}, strict=False)


def _without_prefix(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """`state` without a prefix such as Lightning's ``model.``, if its names then are those of `own`."""
    needed = {name for name in own if not name.endswith(_COUNTER)}
    shared = os.path.commonprefix(list(state)).split(".")[:-1]  # noqa: RUF071 - of strings, not of paths
    for depth in range(1, len(shared) + 1):
        prefix = ".".join(shared[:depth]) + "."
        shorter = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
        if {name for name in shorter if not name.endswith(_COUNTER)} == needed:
            return shorter
    return state


def _rename_hint(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """A hint if the names differ only by a prefix."""
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
    """The first sentence of a library's message; torch's messages can fill a page."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].split(". ")[0][:200]
