"""Readers of the arguments of the Python API: each returns the value in the type the rest of edgeq takes.

A value that cannot be meant raises `ConfigError` in one line, which names the argument, says what it must be, and
shortens what it repeats of the value. Options that the command line has too are read by `edgeq.api.options`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgeq.config.settings import MOST_SECONDS, MOST_THREADS, read_path
from edgeq.config.typed import shown
from edgeq.errors import ConfigError, ImagesError, UnknownNameError
from edgeq.registry import nearest

__all__ = [
    "Array",
    "array",
    "choice",
    "count",
    "expect",
    "names",
    "optional_count",
    "optional_path",
    "optional_text",
    "path",
    "real_images",
    "seconds",
    "text",
    "threads",
]

Array = npt.NDArray[Any]

MOST = 10**18
"""No count is larger."""


def expect(value: Any, kinds: type | tuple[type, ...], name: str, must: str, hint: str = "") -> None:
    """Raise `ConfigError` for a `value` of none of `kinds`; `must` says in words what it has to be."""
    if not isinstance(value, kinds):
        raise _refuse(name, value, must, hint)


def text(value: Any, name: str) -> str:
    """A non-empty string."""
    if not isinstance(value, str) or not value:
        raise _refuse(name, value, "must be a non-empty string")
    return value


def optional_text(value: Any, name: str) -> str | None:
    """A non-empty string, or None."""
    return None if value is None else text(value, name)


def names(value: Any, name: str) -> tuple[str, ...]:
    """A sequence of strings, as a tuple; None is an empty one."""
    if value is None:
        return ()
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise _refuse(name, value, "must be a list of strings")
    return tuple(value)


def choice(value: Any, name: str, choices: Iterable[str]) -> str:
    """One of `choices`; a miss suggests the nearest."""
    known = list(choices)
    if not isinstance(value, str) or value not in known:
        raise UnknownNameError(f"{name} {shown(value)}", hint=nearest(shown(value), known))
    return value


def path(value: Any, name: str) -> Path:
    """A path that the file system can hold; whether anything is there is not checked."""
    if not isinstance(value, str | os.PathLike) or not (given := os.fspath(value)) or not isinstance(given, str):
        raise _refuse(name, value, "must be a path: a string or a pathlib.Path")
    return read_path(given, name)


def optional_path(value: Any, name: str) -> Path | None:
    """A path, or None."""
    return None if value is None else path(value, name)


def count(value: Any, name: str, *, least: int = 1, most: int = MOST) -> int:
    """A whole number from `least` to `most`, of Python or numpy."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value <= most:
        limits = f"of at least {least}" if most == MOST else f"from {least} to {most:,}"
        raise _refuse(name, value, f"must be a whole number {limits}")
    return int(value)


def optional_count(value: Any, name: str, *, least: int = 1) -> int | None:
    """A whole number of at least `least`, or None."""
    return None if value is None else count(value, name, least=least)


def threads(value: Any) -> int:
    """A number of threads that a machine may have."""
    return count(value, "threads", most=MOST_THREADS)


def seconds(value: Any, name: str) -> float:
    """A duration in seconds, from 0 to `MOST_SECONDS`."""
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not 0 <= value <= MOST_SECONDS:
        raise _refuse(name, value, f"must be seconds, from 0 to {MOST_SECONDS:,.0f}")
    return float(value)


def array(value: Any, name: str, must: str = "must be an array", hint: str = "") -> Array:
    """An array, a tensor on any device, or nested lists of numbers, as a numpy array. bfloat16 becomes float32."""
    if isinstance(value, list | tuple) and value and all(isinstance(each, torch.Tensor) for each in value):
        shapes = {tuple(each.shape) for each in value}
        value = torch.stack(list(value)) if len(shapes) == 1 else value
    if isinstance(value, torch.Tensor):
        tensor = value.detach().float() if value.dtype == torch.bfloat16 else value.detach()
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
            raise _refuse(name, type(value).__name__, f"{must}, and no sparse, quantized or meta tensor", hint)
        return np.asarray(tensor.cpu().resolve_conj().resolve_neg().numpy())
    if not isinstance(value, np.ndarray | np.generic | list | tuple) and not hasattr(value, "__array__"):
        raise _refuse(name, value, must, hint)
    try:
        found = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:  # ragged lists, or what its __array__ raises
        raise _refuse(name, value, must, hint) from error
    if found.dtype == object:
        raise _refuse(name, value, must, hint)
    return found


def real_images(value: Any, shape: tuple[int, ...], whose: str) -> npt.NDArray[np.float32]:
    """Normalised images of `whose` input, float32 ``(N, C, H, W)``, from any array or tensor of real numbers.

    `shape` is ``(C, H, W)``. Pixels in integers are refused: nobody has normalised them.
    """
    hint = 'pictures of a folder: edgeq.synthesize(model, "images:FOLDER")' if isinstance(value, str | Path) else ""
    images = array(value, "images", "must be a CalibrationSet, or float32 (N, C, H, W)", hint)
    if images.dtype.kind in "iub":
        raise ImagesError(
            f"images of type {images.dtype}",
            why="must be normalised float32 (N, C, H, W), and these look like pixels",
            hint="model.spec.normalise(pixels) takes uint8 (N, H, W, C)",
        )
    if images.dtype.kind != "f":
        raise ImagesError(f"images of type {images.dtype}", why="must be float32 (N, C, H, W)")
    if images.ndim != 4 or not len(images) or tuple(images.shape[1:]) != tuple(shape):
        raise ImagesError(
            f"images of shape {list(images.shape)}", why=f"{whose} takes (N, C, H, W) with (C, H, W) = {list(shape)}"
        )
    with np.errstate(over="ignore"):
        real = images.astype(np.float32, copy=False)
    if not np.isfinite(real).all():
        raise ImagesError("images hold values that are not finite")
    return real


def _refuse(name: str, value: Any, must: str, hint: str = "") -> ConfigError:
    return ConfigError(f"{name} {shown(value)}", why=must, hint=hint)
