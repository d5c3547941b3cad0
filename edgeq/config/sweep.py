"""Sweeps: many builds out of one sweep.toml, every combination of its axes.

output = "build/sweep"                       # default: build/NAME-OF-THE-FILE

[axes]                                       # every combination of these is one build
models = ["resnet20/model.toml", { name = "mine", model = "net.py:make", weights = "net.pth" }]
bits = ["w8a8", "w4a8"]
targets = ["tflite-arm", "onnx-arm"]

[build]                                      # what all builds share, as in edgeq.toml
effort = "fast"

[budget]                                     # what they are held to, as in edgeq.toml
max_drop = 1.0
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.config.build import BuildConfig, resolve_table, settings_of
from edgeq.config.tomlfile import read_toml
from edgeq.config.typed import refuse_unknown, shown
from edgeq.errors import ConfigError, OccupiedError, TomlError

__all__ = ["CSV", "JSON", "JUNIT", "LOGS", "MOST_BUILDS", "PAGE", "STATE", "Planned", "Sweep", "read_sweep"]

MOST_BUILDS = 10_000
"""More builds than this are a slip of the pen."""

STATE, LOGS = ".sweep", "logs"
"""Folders within a sweep's: what each build came to, and what it said."""

PAGE, JSON, CSV, JUNIT = "index.html", "sweep.json", "sweep.csv", "junit.xml"
"""Files of the report, in the sweep's folder."""

NOT_SWEPT = ("output", "cache", "force", "threads", "strict", "show_images")
"""Settings that are no axis: they do not change what is built."""

NOT_SHARED = ("output", "force", "threads", "strict")
"""Settings that the sweep itself gives to its builds."""

LONGEST = 80
"""Letters of a build's name; a number at its end tells longer ones apart."""

_UNSAFE = re.compile(r"[^\w.+=-]+")


@dataclass(frozen=True)
class Planned:
    """One build of a sweep: its `name`, which is that of its folder, its place on each axis, and all its settings."""

    name: str
    axes: Mapping[str, str]
    config: BuildConfig


@dataclass(frozen=True)
class Sweep:
    """A sweep.toml, read: the folder of its builds, and the builds in the order of the file."""

    file: Path
    output: Path
    builds: Sequence[Planned]

    @property
    def state(self) -> Path:
        return self.output / STATE

    def folder(self, name: str) -> Path:
        """The folder of the build called `name`."""
        return self.output / name

    def check_place(self) -> None:
        """Raise `OccupiedError` where the folder holds something that no sweep has made."""
        if self.state.is_dir() or not os.path.lexists(self.output):
            return
        if not self.output.is_dir() or any(self.output.iterdir()):
            hint = f'name another folder: output = "..." in {self.file}'
            raise OccupiedError(f"{self.output} is not the folder of a sweep", why="its files would be lost", hint=hint)


def read_sweep(path: Path, environment: Mapping[str, str]) -> Sweep:
    """Read a sweep.toml. `environment` gives settings that the file does not, as for a single build.

    Paths in the file are relative to its folder. Raises `ConfigError` that names the key.
    """
    table = read_toml(path)
    refuse_unknown(table, ("output", "axes", "build", "budget"), str(path))
    shared, axes = (_table(table, key, path) for key in ("build", "axes"))
    for name in NOT_SHARED:
        if name in shared:
            raise TomlError(f"[build] {name}", where=str(path), why="the sweep itself decides it for each build")
    if not axes:
        raise TomlError("there are no [axes]", where=str(path), hint='[axes] bits = ["w8a8", "w4a8"] makes two builds')
    names = {key: _setting(key, path) for key in axes}
    for key, name in names.items():
        if list(names.values()).count(name) > 1 or name in shared or name + "s" in shared:
            raise TomlError(f"{key} is given twice", where=str(path), hint="keep it in [axes] or in [build]")
    values = {names[key]: _values(key, axes[key], names[key], path) for key in axes}
    count = math.prod(len(found) for found in values.values())
    if count > MOST_BUILDS:
        raise TomlError(f"these axes make {count:,} builds", where=str(path), why=f"the most is {MOST_BUILDS:,}")
    output = _output(table.get("output"), path)
    inherited = _inherited(environment, values)
    builds: dict[str, Planned] = {}
    for chosen in itertools.product(*values.values()):
        together = dict(shared)
        for one in chosen:
            together |= one.table
        config = resolve_table(together, {}, inherited, path).config
        if len(config.targets) != 1:
            raise TomlError("a build has one target", where=str(path), hint="targets belong into [axes]")
        places = {name: one.label for name, one in zip(values, chosen, strict=True)}
        name = _free_name(config, places, {key: len(found) for key, found in values.items()}, builds)
        # In lower case: some disks do not tell names apart by it.
        builds[name.casefold()] = Planned(name, places, dataclasses.replace(config, output=output / name))
    return Sweep(path, output, tuple(builds.values()))


@dataclass(frozen=True)
class _Value:
    """A value on an axis: what it sets, and what it is called."""

    table: Mapping[str, Any]
    label: str


def _table(table: Mapping[str, Any], key: str, path: Path) -> Mapping[str, Any]:
    found = table.get(key, {})
    if not isinstance(found, dict):
        raise TomlError(f"{key} = {shown(found)}", where=str(path), why="must be a table")
    return found


def _setting(key: str, path: Path) -> str:
    """The setting that an axis of this name goes through; ``bits`` and ``models`` alike."""
    known = [name for name in settings_of(BuildConfig) if name not in NOT_SWEPT]
    plural = {name if name.endswith("s") else name + "s": name for name in known}
    refuse_unknown({key: None}, (*known, *(name for name in plural if name not in known)), f"{path} [axes]")
    return key if key in known else plural[key]


def _values(key: str, found: Any, name: str, path: Path) -> list[_Value]:
    where = f"{path} [axes] {key}"
    if not isinstance(found, list) or not found:
        raise TomlError(shown(found), where=where, why="must be a list of values")
    values = []
    for item in found:
        if isinstance(item, dict):
            refuse_unknown(item, (*settings_of(BuildConfig), "name"), where)
            if name not in item:
                raise TomlError(shown(item), where=where, why=f"says nothing of {name}")
            if refused := [other for other in item if other in NOT_SHARED]:
                raise TomlError(refused[0], where=where, why="the sweep itself decides it for each build")
            table = {other: value for other, value in item.items() if other != "name"}
            values.append(_Value(table, str(item.get("name", _label(item[name])))))
        else:
            values.append(_Value({name: [item] if name == "targets" else item}, _label(item)))
    labels = [value.label for value in values]
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise TomlError(f"{twice[0]} is there twice", where=where, hint='tell values apart with { name = "...", ... }')
    return values


def _label(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def _output(given: Any, path: Path) -> Path:
    if given is None:
        return Path("build") / path.stem
    if not isinstance(given, str) or not given:
        raise TomlError(f"output = {shown(given)}", where=str(path), why="must be the path of a folder")
    return (
        settings_of(BuildConfig)["output"].kind.parse(given, f"{path} output")
        if Path(given).is_absolute()
        else (path.parent / given)
    )


def _inherited(environment: Mapping[str, str], axes: Mapping[str, Any]) -> dict[str, str]:
    """The environment without what axes and the sweep decide."""
    decided = {settings_of(BuildConfig)[name].variable for name in (*axes, *NOT_SHARED)}
    return {name: value for name, value in environment.items() if name not in decided}


def _free_name(
    config: BuildConfig, places: Mapping[str, str], counts: Mapping[str, int], taken: Mapping[str, Planned]
) -> str:
    """What a build is called: its network, and its place on the other axes that have several."""
    words = [places.get("model", config.model or "build")]
    words += [label for name, label in places.items() if name != "model" and counts[name] > 1]
    plain = [_UNSAFE.sub("-", _stem(word)).strip("-.") for word in words]
    whole = "-".join(word for word in plain if word)[:LONGEST] or "build"
    for number in itertools.count(1):
        name = whole if number == 1 else f"{whole}-{number}"
        if name.casefold() not in (*taken, LOGS, PAGE, JSON, CSV, JUNIT):
            return name
    raise ConfigError("no name is left")  # never: numbers do not end


def _stem(word: str) -> str:
    """``nets/resnet20/model.toml`` is known as ``resnet20``, ``nets/net.py:make`` as ``net-make``."""
    path = Path(word)
    if path.name == "model.toml" and path.parent.name:
        return path.parent.name
    return path.name.removesuffix(".toml").removesuffix(".pt2").replace(".py:", "-")
