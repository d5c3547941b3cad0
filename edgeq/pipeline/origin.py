"""What the folder of a build says about the network it came from, read as data: no file that it names is ever run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeq.errors import ImagesError, LockError
from edgeq.model.modeltoml import read_model_file, read_spec, shipped_model, shipped_models, spec_tables
from edgeq.model.spec import ModelSpec
from edgeq.model.tasks import Detection
from edgeq.products import MARKER
from edgeq.report.lock import portable, read_lock, spec_digest

__all__ = ["Origin", "origin_facts", "read_origin"]

LARGEST = 2**26
"""Largest number of values of an image, pixels of a resized picture, or anchors that a lock may state; a lock of a few
bytes must not ask for terabytes."""


@dataclass(frozen=True)
class Origin:
    """`spec` says how pixels become the network's input and what its outputs mean. Its `evaluation` is where labelled
    images were when the build was made; it may name Python, which only a user may ask to run."""

    spec: ModelSpec

    def images(self, folder: Path) -> str:
        """The folder of the labelled images. Raises `ConfigError` where the folder does not say, or names code."""
        where = self.spec.evaluation
        if where and _is_code(where):
            raise ImagesError(
                f"the evaluation images of {folder} come from {where}",
                why="edgeq runs no code that a folder names",
                hint=f"if you trust it: --data {where}",
            )
        if not where or not Path(where).exists():
            raise ImagesError("no labelled images", why=f"{where} is not here" if where else "", hint="--data test.npz")
        return where


def origin_facts(spec: ModelSpec, evaluation: str | None) -> dict[str, Any]:
    """What a lock keeps of `spec`: the tables of a model.toml. `evaluation` is kept where no folder of this machine is
    in it."""
    kept = {"evaluation": {"images": evaluation}} if evaluation and portable(evaluation) == evaluation else {}
    return spec_tables(spec) | kept


def read_origin(folder: Path) -> Origin | None:
    """What the lock in `folder` says; None where there is no lock, or one of an edgeq that kept less.

    Where the lock names no images, those of the model.toml it was built from are taken, if that lies where it did.
    Raises `ConfigError` for a lock that is damaged, contradicts itself, or was changed by hand.
    """
    path = folder / MARKER
    if not path.exists():
        return None
    lock, where = read_lock(path), f"{path} [model.spec]"
    named = _read_model_file(lock)
    model = lock.get("model")
    if isinstance(model, dict) and "spec" not in model:
        return named
    if not isinstance(model, dict) or not isinstance(tables := model["spec"], dict):
        raise LockError(f"{path} describes no network", hint="was the lock written by edgeq?")
    spec = read_spec(tables, where)
    if model.get("spec_sha256", digest := spec_digest(tables)) != digest:
        raise LockError(
            f"{path} was changed by hand",
            why="its model.spec is not the one that the build wrote",
            hint="build again, with the right values in model.toml",
        )
    anchors = zip(spec.dense.maps, spec.dense.sizes, strict=True) if isinstance(spec.dense, Detection) else ()
    for what, size in (
        ("input shape", math.prod(spec.input_shape)),
        ("resize", (spec.resize or 0) ** 2),
        ("anchors of [task]", sum(math.prod(each) * len(sides) for each, sides in anchors)),
    ):
        if size > LARGEST:
            raise LockError(f"{what} too large", where=where, hint="was the lock written by edgeq?")
    if spec.evaluation is None and named is not None and named.spec.name == spec.name:
        spec = replace(spec, evaluation=named.spec.evaluation)
    return Origin(spec)


def _read_model_file(lock: Mapping[str, Any]) -> Origin | None:
    """The model.toml that the lock's settings name, read and not run; None where they name no such file."""
    config = lock.get("config")
    model = config.get("model") if isinstance(config, Mapping) else None
    if not isinstance(config, Mapping) or not isinstance(model, str):
        return None
    if any(config.get(name) is not None for name in ("input_shape", "mean", "std", "task")):
        return None  # the file says something else than the build did
    path = shipped_model(model) if model in shipped_models() else Path(model)
    path = path if path.suffix == ".toml" else path / "model.toml"
    return Origin(read_model_file(path).spec) if path.is_file() else None


def _is_code(where: str) -> bool:
    return where.rpartition(":")[0].endswith(".py")
