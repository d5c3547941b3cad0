"""Finding finished builds: in the folders that somebody names, or those that settings name. Nothing is imported."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeq.config.build import BuildConfig
from edgeq.errors import ArtifactError
from edgeq.products import BUILD, MARKER
from edgeq.report.lock import portable, read_lock

__all__ = ["build_name", "find_builds", "named_builds"]

REPORT = "report.json"


def build_name(folder: Path) -> str:
    """What a build is called in budgets, in tables, and where it is matched with another: the name of its folder."""
    return Path(os.path.abspath(folder)).name


def find_builds(path: Path) -> list[Path]:
    """The build in the folder `path`, or all builds in the folders inside it, sorted.

    Where neither is there, `path` itself, whose reader says what is wrong. A folder in which only part of a build is
    left counts as one, so that nothing is passed over.
    """
    if (path / REPORT).exists() or not path.is_dir():
        return [path]
    inside = [path / name for name in sorted(os.listdir(path)) if not name.startswith(".")]
    return [folder for folder in inside if folder.is_dir() and _holds_build(folder)] or [path]


def _holds_build(folder: Path) -> bool:
    names = set(os.listdir(folder))
    return REPORT in names or any(name.startswith("model.") for name in names & BUILD.names)


def named_builds(config: BuildConfig, model: str) -> list[Path]:
    """The finished builds that ``edgeq build`` with these settings makes, one or more for each target.

    `model` is the MODEL that it builds. Without an output folder of its own, a build is known by the model and the
    target that its lock names. Raises `ArtifactError` where the build for a target is missing.
    """
    if config.output is not None:
        return [one.output for one in config.split() if one.output is not None]
    parent = Path("build")
    locks = _locks(parent)
    builds: list[Path] = []
    for target in config.targets:
        found = [folder for folder, lock in locks if _is_of(lock, model, target)]
        if not found:
            raise ArtifactError(
                f"{parent} holds no build of {model} for {target}",
                hint=f"edgeq build --target {target}, or name the folder",
            )
        builds += found
    return builds


def _locks(parent: Path) -> Sequence[tuple[Path, Mapping[str, Any]]]:
    found = []
    for name in sorted(os.listdir(parent)) if parent.is_dir() else ():
        try:
            found.append((parent / name, read_lock(parent / name / MARKER)))
        except ArtifactError:
            continue  # no build, or one that says nothing of its settings
    return found


def _is_of(lock: Mapping[str, Any], model: str, target: str) -> bool:
    config = lock.get("config")
    return isinstance(config, Mapping) and (config.get("model"), config.get("targets")) == (
        portable(model),
        [portable(target)],
    )
