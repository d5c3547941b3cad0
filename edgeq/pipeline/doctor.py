"""What `edgeq doctor` looks at: one function per topic, each giving lines that say ok, warn or fail and what to do."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from edgeq.config.build import VARIABLES, Budget, BuildConfig, resolve, settings_of
from edgeq.config.formats import FORMATS
from edgeq.config.resources import data_folder
from edgeq.errors import EdgeqError
from edgeq.isolation import memory_limit
from edgeq.registry import closest

__all__ = ["Line", "examine"]

State = Literal["ok", "warn", "fail"]

LITTLE_MEMORY = 2 * 2**30
"""Bytes of free memory below which builds of networks such as MobileNetV2 at 224 x 224 may not fit."""

LITTLE_DISK = 2**30
"""Bytes of free disk below which a cache fills up soon."""

LEAST_DISK = 100 * 2**20
"""Bytes of free disk that one build of a small network needs."""


ELSEWHERE = ("EDGEQ_DATA",)
"""Variables that benchmarks/ reads, and edgeq does not."""


@dataclass(frozen=True)
class Line:
    """One fact about the environment. `then` says what to do about it, and is empty where nothing has to be done."""

    topic: str
    state: State
    what: str
    then: str = ""


def examine(devices: tuple[str, ...] = ()) -> Iterator[Line]:
    """Look at everything that builds depend on, and at the named `devices`; the network is touched for these only."""
    checks: tuple[tuple[str, Callable[[], Iterator[Line]]], ...] = (
        ("python", _python),
        ("packages", _packages),
        ("torch", _torch),
        ("runtimes", _runtimes),
        ("cores", _cores),
        ("memory", _memory),
        ("disk", _disk),
        ("settings", _settings),
        ("devices", _devices),
        *((name, lambda name=name: _device(name)) for name in devices),
    )
    for topic, check in checks:
        try:
            yield from check()
        except EdgeqError as error:
            yield Line(topic, "fail", f"{error} [{error.code}]", f"edgeq explain {error.code}")
        except Exception as error:  # whatever is broken here must not hide the other lines
            yield Line(topic, "fail", f"{type(error).__name__}: {error}", "reinstall edgeq in a fresh environment")


def _python() -> Iterator[Line]:
    where = f"Python {platform.python_version()} in {sys.prefix}"
    allowed = metadata.metadata("edgeq")["Requires-Python"]
    fits = Requirement(f"python{allowed}").specifier.contains(platform.python_version(), prereleases=True)
    yield Line("python", "ok" if fits else "fail", where, "" if fits else f"edgeq needs Python {allowed}")
    if platform.system() not in ("Linux", "Darwin"):
        yield Line("python", "warn", f"{platform.system()} is not a system edgeq is tested on", "use Linux or macOS")


def _packages() -> Iterator[Line]:
    """Every required package, held to the version that is required and, in a clone, to the one that was tested."""
    tested = _tested()
    bad = False
    untested = []
    for text in metadata.requires("edgeq") or []:
        need = Requirement(text)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            found = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            bad = True
            yield Line("packages", "fail", f"{need.name} is not installed", f"pip install '{need}'")
            continue
        if not need.specifier.contains(found, prereleases=True):
            bad = True
            yield Line("packages", "fail", f"{need.name} {found} is not {need.specifier}", f"pip install '{need}'")
        elif (wanted := tested.get(need.name.lower(), found)) != found.partition("+")[0] and wanted != found:
            untested.append(f"{need.name} {found} (tested: {wanted})")
    if untested:
        then = "if results differ from those in docs: pip install -c constraints.txt -e ."
        yield Line("packages", "warn", f"other versions than tested: {', '.join(untested)}", then)
    if not bad:
        yield Line("packages", "ok", f"edgeq {metadata.version('edgeq')} has all that it requires")


def _tested() -> Mapping[str, str]:
    """Versions in constraints.txt of the clone that edgeq runs from; nothing where it was installed from a wheel."""
    file = data_folder("targets").parent / "constraints.txt"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    pairs = (line.split("#")[0].split(";")[0].strip().partition("==") for line in lines)
    return {name.strip().lower(): version.strip() for name, _, version in pairs if version}


def _torch() -> Iterator[Line]:
    import torch

    build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for the processor only"
    yield Line("torch", "ok", f"torch {torch.__version__}, {build}")
    if torch.cuda.is_available():
        yield Line("torch", "ok", f"GPU {torch.cuda.get_device_name()}")
    elif torch.version.cuda:
        then = "builds use the processor; update the NVIDIA driver to use the GPU"
        yield Line("torch", "warn", "no GPU can be used although torch is built for one", then)


def _runtimes() -> Iterator[Line]:
    """Each format's runtime, really constructed, on a small network whose every integer is known."""
    from edgeq.pipeline.selftest import try_runtime

    for facts in FORMATS.entries():
        then = f"pip install --force-reinstall {' '.join(facts.runtimes[:1])}".replace("litert", "ai-edge-litert")
        try:
            answer = try_runtime(facts.name)
        except EdgeqError as error:
            yield Line("runtimes", "fail", f"{facts.title}: {error} [{error.code}]", then)
            continue
        rest = "" if answer.equal == answer.values or not answer.held else ", the others one step off"
        equal = f"{answer.equal} of {answer.values} integers equal the reference{rest}"
        what = f"{facts.title}: {answer.runtime}, kernels {answer.kernels}, {equal}"
        if answer.held and answer.answered:
            yield Line("runtimes", "ok", what)
        else:
            yield Line("runtimes", "fail", f"{what}: it does not compute what it should", then)


def _cores() -> Iterator[Line]:
    from edgeq.measure.conditions import this_machine
    from edgeq.threads import available, load

    machine, cores, now = this_machine(), available(), load()
    fast = {"x86_64": "VNNI" if machine.vnni else "", "aarch64": "dot product" if "asimddp" in machine.flags else ""}
    has = fast.get(machine.architecture, "-")
    yield Line("cores", "ok", f"{machine.line}, {cores} for edgeq{f', {has}' if has not in ('', '-') else ''}")
    if not has:
        yield Line("cores", "ok", "no int8 dot-product instructions: integers may not be faster than float32 here")
    if machine.emulated:
        yield Line("cores", "warn", "this processor is emulated", "times measured here mean nothing")
    if now.free < now.cores:
        then = "builds take fewer threads; latency measured now would not be believed"
        yield Line("cores", "warn", f"other programs keep about {now.busy:.1f} of {now.cores} cores busy", then)


def _memory() -> Iterator[Line]:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    free = total
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    yours = min(free, memory_limit())
    what = f"{_size(free)} free of {_size(total)}, {_size(memory_limit())} for one isolated runtime"
    small = yours < LITTLE_MEMORY
    then = "close other programs, or use fewer --images" if small else ""
    yield Line("memory", "warn" if small else "ok", what, then)


def _disk() -> Iterator[Line]:
    places = {"cache folder": resolve({}, os.environ).config.cache, "temporary folder": Path(tempfile.gettempdir())}
    for name, folder in places.items():
        existing = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
        free = shutil.disk_usage(existing).free
        what = f"{name} {folder}, {_size(free)} free"
        other = "set EDGEQ_CACHE to another folder" if name == "cache folder" else "set TMPDIR to another folder"
        if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
            yield Line("disk", "fail", f"{name} {folder} cannot be written", other)
        elif free < LEAST_DISK:
            yield Line("disk", "fail", what, f"free some space, or {other}")
        else:
            small = free < LITTLE_DISK
            then = f"edgeq cache --clear --older-than 30, or {other}" if small else ""
            yield Line("disk", "warn" if small else "ok", what, then)


def _settings() -> Iterator[Line]:
    """The settings file in force, and the variables that begin with ``EDGEQ_``, known and unknown."""
    kinds = (BuildConfig, Budget)
    known = [*(setting.variable for kind in kinds for setting in settings_of(kind).values()), *VARIABLES]
    for name in sorted(os.environ):
        if not name.startswith("EDGEQ_") or name in ELSEWHERE:
            continue
        if name in known:
            yield Line("settings", "ok", f"{name}={os.environ[name]}")
        else:
            meant = closest(name, known)
            then = f"did you mean {meant}? unset {name} if not" if meant else f"unset {name} if it is meant for edgeq"
            yield Line("settings", "warn", f"{name} is none of edgeq's variables", then)
    file = resolve({}, os.environ).file
    yield Line("settings", "ok", f"settings file {file}" if file else "no edgeq.toml here or above: defaults hold")


def _devices() -> Iterator[Line]:
    """Devices that can be seen without a connection."""
    from edgeq.device.transport import TRANSPORTS

    for kind in TRANSPORTS.entries():
        for one in kind.listed():
            if one.ready:
                yield Line("devices", "ok", f"{one.name}: {one.description}")
            elif one.ready is False:
                yield Line("devices", "ok", f"{one.name}: not ready", one.remedy)


def _device(name: str) -> Iterator[Line]:
    """A device that the user named: connected to, and asked for its runtimes."""
    from edgeq.device.job import probe
    from edgeq.device.open import full_name, open_device
    from edgeq.device.provision import plan

    name = full_name(name)
    with open_device(name, why="edgeq doctor") as opened:
        facts = probe(opened)
    works = [f"{runtime} {found['version']}" for runtime, found in facts["runtimes"].items() if found["works"]]
    steps = plan(name, facts)
    what = f"{name}: {facts['machine']['cpu']}, {', '.join(works) or 'no runtime'}"
    yield Line("devices", "fail" if steps else "ok", what, "; ".join(steps))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GiB"
