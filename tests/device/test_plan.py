"""What `edgeq device probe` prints for a bare board is followed to the letter, and then the board works."""

from __future__ import annotations

import itertools
import json
import platform
import re
import shlex
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edgeq.cli import cli
from edgeq.device import provision as provisioning
from edgeq.device.provision import _download, provision
from edgeq.device.runners.python import PROVISIONED
from edgeq.device.transports.local import LocalTransport
from edgeq.device.userland import RUNTIMES
from tests.device.loopback import Board, executable
from tests.device.tiny import tiny_model

FOREIGN = {"x86_64": b"\xb7\0", "aarch64": b"\x3e\0"}
"""By processor, how an ELF file says that it is for another one."""


UNUSED = {"..", "__pycache__", "tests", "tools", "vendors"}
"""Folders of packages that running a file needs nothing of."""


def typed(line: str) -> Result:
    """What becomes of a line that a person types."""
    program, *words = shlex.split(line)
    assert program == "edgeq"
    return CliRunner().invoke(cli, words)


def _wheels(folder: Path) -> None:
    """LiteRT and what it needs as the wheels they were installed from, in place of an index: name and tags are what
    they say of themselves."""
    folder.mkdir()
    for name in ("ai-edge-litert", "numpy", "flatbuffers"):
        found = distribution(name)
        tags = re.findall(r"^Tag: (\S+)$", found.read_text("WHEEL") or "", re.MULTILINE)
        kinds = [".".join(sorted({tag.split("-")[part] for tag in tags})) for part in range(3)]
        stem = "-".join([found.name.replace("-", "_"), found.version, *kinds])
        with zipfile.ZipFile(folder / f"{stem}.whl", "w") as wheel:
            for member in found.files or ():
                if not {"..", "__pycache__", "tests", "tools", "vendors"} & {*member.parts} and "WebGpu" not in str(
                    member
                ):
                    wheel.write(str(found.locate_file(member)), str(member))


def test_a_plan_followed_to_the_letter_makes_a_bare_board_work(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was copied there from a machine of another kind loads nowhere; the plan puts the right runtime in its
    place."""
    _wheels(tmp_path / "wheels")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    artifact = tiny_model(tmp_path / "tiny-tflite")
    executable(board.shims / "python3", f'exec {sys.executable} -S "$@"')  # a Python without packages
    wrong = board.cache / PROVISIONED / "litert/numpy"
    wrong.mkdir(parents=True)
    (wrong / "__init__.py").write_text("from . import core")
    core = wrong / f"core{sysconfig.get_config_var('EXT_SUFFIX')}"
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00" + FOREIGN[platform.machine()] + b"\x01"
    core.write_bytes(header.ljust(4096, b"\0"))
    said = f"{core.name} is built for another processor than this {platform.machine()}"

    asked = f"edgeq device probe {board.host}"
    probe = typed(asked)
    assert probe.exit_code == 4, probe.output
    assert f"no: {said}" in probe.stdout
    bench = f"edgeq bench {artifact} --device {board.host} --seconds 0.1 --json"
    bare = typed(f"{bench} --runtime tflite-runtime")
    assert bare.exit_code == 4
    assert "No module named" in bare.stderr
    failed = typed(bench)
    assert failed.exit_code == 4, failed.output
    (remedy,) = re.findall(rf"{re.escape(said)} \((edgeq [^)]*)\) \[E4\d\d\]$", failed.stderr, re.MULTILINE)
    assert remedy == asked
    (line,) = re.findall(r"^missing: .*: (edgeq .*)$", probe.stdout, re.MULTILINE)
    assert probe.stdout.count("missing:") == 1
    done = typed(line)
    assert done.exit_code == 0, done.output

    ran = typed(bench)
    assert ran.exit_code == 0, ran.output
    (facts,) = json.loads(ran.stdout)
    assert facts["machine"]["architecture"] == platform.machine()
    assert facts["ops"]


@pytest.mark.parametrize(("runtime", "numpy"), [("litert", "numpy"), ("tflite-runtime", "numpy<2")])
def test_wheels_are_those_of_the_device(
    runtime: str, numpy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its processor's, its Python's and its C library's; a runtime built against numpy 1 comes with numpy 1."""
    asked: list[str] = []

    def download(words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        asked.extend(words)
        return subprocess.CompletedProcess(words, 0, "", "")

    monkeypatch.setattr(subprocess, "run", download)
    machine = {"python": "3.12.1", "architecture": "aarch64", "libc": "glibc 2.19"}
    _download(tmp_path, machine, runtime, "ssh:board")
    platforms = [word for flag, word in itertools.pairwise(asked) if flag == "--platform"]
    assert platforms == [f"manylinux{name}_aarch64" for name in ("2014", "_2_17", "_2_18", "_2_19")]
    assert asked[asked.index("--python-version") + 1] == "3.12"
    assert numpy in asked
    assert any(word.partition("==")[0] == RUNTIMES[runtime][0].partition("==")[0] for word in asked)


def test_this_machine_is_provisioned_from_wheels_that_lie_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheels are still there when they are unpacked: nothing is copied to this machine."""

    def download(folder: Path, *rest: object) -> None:
        with zipfile.ZipFile(folder / "thing-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr("thing/__init__.py", "here = True\n")

    monkeypatch.setattr(provisioning, "_download", download)
    with LocalTransport(folder=tmp_path / "own") as device:
        folder = provision(device, {"machine": {}}, "litert")
    assert Path(folder, "thing", "__init__.py").read_text() == "here = True\n"
