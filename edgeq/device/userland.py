"""An Arm userland for user-mode QEMU, unpacked without root: Debian's packages, and the wheels a board would install.

Debian's own apt client fetches them for another architecture with lists and caches of its own, so nothing of the host
changes, and it checks every package against the archive's signed index. pip picks the aarch64 wheels. What was unpacked
is written down with its checksums in `manifest.json`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeq.device.transport import cache_folder
from edgeq.errors import EmulatorError
from edgeq.files import beside
from edgeq.limits import check_archive

__all__ = ["RUNTIMES", "Userland", "create_userland", "find_userland", "userland_folder"]

ARCHIVE = "http://deb.debian.org/debian"
"""Debian's public address; ``EDGEQ_DEBIAN`` names another. Packages are checked by signature, not by address."""

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

RELEASE = "bookworm"
"""Python 3.11, the last that tflite-runtime has wheels for, and what Raspberry Pi OS 12 is made of."""

QEMU_RELEASE = "bookworm-backports"
"""QEMU 7.2 of the release itself crashes inside current LiteRT and onnxruntime; the backport is 10.0."""

PACKAGES = (
    "libc6",
    "libgcc-s1",
    "libstdc++6",
    "zlib1g",
    "libexpat1",
    "libbz2-1.0",
    "liblzma5",
    "libffi8",
    "libssl3",
    "libcrypt1",
    "libuuid1",
    "libtinfo6",
    "libncursesw6",
    "libreadline8",
    "libsqlite3-0",
    "libnsl2",
    "libtirpc3",
    "libdb5.3",
    "python3.11",
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
)

RUNTIMES: Mapping[str, tuple[str, ...]] = {
    "litert": ("ai-edge-litert", "numpy<2", "flatbuffers"),
    "tflite-runtime": ("tflite-runtime==2.14.0", "numpy<2"),
    "onnxruntime": ("onnxruntime", "numpy<2", "flatbuffers", "protobuf", "packaging"),
}
"""Wheels of each runtime. Dependencies only other uses need (sympy, tqdm) are left out: nothing here imports them."""

MACHINES: Mapping[str, str] = {"x86_64": "amd64", "aarch64": "arm64"}

_PLATFORMS = ("manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in range(17, 37)))
"""All that Debian 12's C library, 2.36, can load; pip compares these names and knows no order among them."""


@dataclass(frozen=True)
class Userland:
    """An unpacked userland in `folder`. `qemu` runs on this machine, `root` holds the Arm files, `wheels` by
    runtime."""

    folder: Path

    @property
    def qemu(self) -> Path:
        return self.folder / "host/usr/bin/qemu-aarch64"

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def wheels(self, runtime: str) -> Path:
        return self.folder / "wheels" / runtime

    def python(self, cpu: str) -> tuple[str, ...]:
        """The command that starts the Arm Python on an emulated `cpu`."""
        root = str(self.root)
        return (str(self.qemu), "-cpu", cpu, "-L", root, f"{root}/usr/bin/python3.11")

    def environment(self, cpu: str) -> dict[str, str]:
        """What the Arm Python needs to be told. ``EDGEQ_EMULATED`` makes the agent say that its times mean nothing."""
        return {"PYTHONHOME": str(self.root / "usr"), "EDGEQ_EMULATED": cpu}


def userland_folder() -> Path:
    """The folder of userlands of this recipe; another recipe gets another folder."""
    recipe = json.dumps([RELEASE, QEMU_RELEASE, PACKAGES, {k: list(v) for k, v in RUNTIMES.items()}])
    return cache_folder() / "emulator" / hashlib.sha256(recipe.encode()).hexdigest()[:12]


def find_userland() -> Userland:
    """The userland made earlier. Raises `DeviceError` when there is none."""
    folder = userland_folder()
    if not (folder / "manifest.json").is_file():
        raise EmulatorError("there is no emulated Arm on this machine yet", hint="edgeq device emulator --create")
    return Userland(folder)


def create_userland(say: Callable[[str], None] = lambda _: None) -> Userland:
    """Fetch and unpack the userland unless it is there, whole or not at all. Raises `DeviceError` with the remedy."""
    folder = userland_folder()
    if (folder / "manifest.json").is_file():
        return Userland(folder)
    _check_tools()
    if folder.exists() and not (folder / "manifest.json").is_file():
        raise EmulatorError(f"{folder} is in the way", why="it holds no whole emulated Arm", hint="move it elsewhere")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with beside(folder) as staging:
        say("Debian packages")
        apt = staging / "apt"
        host = MACHINES[os.uname().machine]
        files = _packages(apt / "host", QEMU_RELEASE, host, ("qemu-user",), staging / "host")
        files |= _packages(apt / "arm", RELEASE, "arm64", PACKAGES, staging / "root")
        for runtime, requirements in RUNTIMES.items():
            say(f"aarch64 wheels of {runtime}")
            files |= _wheels(requirements, apt / "wheels", staging / "wheels" / runtime)
        shutil.rmtree(apt)
        (staging / "manifest.json").write_text(json.dumps({"sha256": files}, indent=1))
        if not folder.exists():  # else somebody else was quicker, with the same content
            os.replace(staging, folder)
    return Userland(folder)


def _check_tools() -> None:
    missing = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if missing:
        raise EmulatorError(
            "the emulated Arm cannot be made here",
            why=f"{' and '.join(missing)} missing: it is unpacked from Debian's packages",
            hint="use a Debian or Ubuntu machine, or install apt and dpkg",
        )
    if os.uname().machine not in MACHINES:
        raise EmulatorError("the emulated Arm cannot be made here", why=f"no QEMU for {os.uname().machine}")
    if not KEYRING.is_file():
        raise EmulatorError(
            "Debian's packages cannot be checked",
            why=f"{KEYRING} is missing",
            hint="sudo apt-get install debian-archive-keyring",
        )


def _packages(state: Path, release: str, machine: str, names: Sequence[str], into: Path) -> dict[str, str]:
    """Download `names` of `release` for `machine`, unpack them into `into`; their SHA-256 by file name."""
    for part in ("lists/partial", "archives/partial"):
        (state / part).mkdir(parents=True)
    (state / "status").touch()
    archive = os.environ.get("EDGEQ_DEBIAN", ARCHIVE)
    (state / "sources.list").write_text(f"deb [signed-by={KEYRING}] {archive} {release} main\n")
    options = {
        "Dir::State": state,
        "Dir::State::status": state / "status",
        "Dir::Cache": state,
        "Dir::Etc::sourcelist": state / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "APT::Architecture": machine,
        "APT::Architectures": machine,
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    flags = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    _call(["apt-get", *flags, "-q", "update"], state, "fetch Debian's package index")
    _call(["apt-get", *flags, "-q", "download", *names], state, "download Debian's packages")
    into.mkdir(parents=True, exist_ok=True)
    archives = sorted(state.glob("*.deb"))
    for package in archives:
        _call(["dpkg-deb", "-x", str(package), str(into)], state, f"unpack {package.name}")
    return {package.name: _sha256(package) for package in archives}


def _wheels(requirements: Sequence[str], state: Path, into: Path) -> dict[str, str]:
    """Download the aarch64 wheels `requirements` for Python 3.11 and unpack them into `into`."""
    folder = state / into.name
    folder.mkdir(parents=True)
    platforms = [word for name in _PLATFORMS for word in ("--platform", name)]
    python = ["--python-version", "3.11", "--implementation", "cp", "--only-binary", ":all:", "--no-deps"]
    command = [sys.executable, "-m", "pip", "download", "-q", "--dest", str(folder), *platforms, *python, *requirements]
    _call(command, state, f"download the aarch64 wheels of {into.name}")
    for wheel in sorted(folder.glob("*.whl")):
        check_archive(wheel)
        shutil.unpack_archive(wheel, into, "zip")
    return {wheel.name: _sha256(wheel) for wheel in folder.glob("*.whl")}


def _call(command: Sequence[str], cwd: Path, what: str) -> None:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, errors="replace")
    except subprocess.TimeoutExpired as error:
        raise EmulatorError(f"could not {what}", why="it took more than 600 s") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise EmulatorError(
            f"could not {what}",
            why=lines[-1] if lines else f"exit status {done.returncode}",
            hint="check the network; EDGEQ_DEBIAN names another Debian archive, pip's own settings another index",
        )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
