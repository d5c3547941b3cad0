"""What `edgeq device probe` prints for a bare Arm is followed to the letter, by a shell, and then the board works."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edgeq.device.provision import _download
from edgeq.device.runners.python import PROVISIONED
from edgeq.device.userland import RUNTIMES, Userland
from tests.device.conftest import arm_python
from tests.device.loopback import Board, executable
from tests.device.tiny import tiny_model


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A person's shell: `edgeq` is on its path, and what it is told to type is what it types."""
    (tmp_path / "bin").mkdir()
    executable(tmp_path / "bin/edgeq", f'exec {sys.executable} -m edgeq "$@"')
    root = Path(__file__).resolve().parents[2]
    given = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    given |= {"PYTHONPATH": str(root), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels")}
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    def run(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=300)

    return run


def _wheels(userland: Userland, folder: Path) -> None:
    """The userland's LiteRT and numpy as the wheels they were, in place of an index: name and tags are what they say of
    themselves."""
    folder.mkdir()
    unpacked = userland.wheels("litert")
    for record in unpacked.glob("*.dist-info/RECORD"):
        tags = re.findall(r"^Tag: (\S+)$", (record.parent / "WHEEL").read_text(), re.MULTILINE)
        kinds = [sorted({tag.split("-")[part] for tag in tags}) for part in range(3)]
        name = "-".join([record.parent.name.removesuffix(".dist-info"), *(".".join(kind) for kind in kinds)])
        with zipfile.ZipFile(folder / f"{name}.whl", "w") as wheel:
            for line in record.read_text().splitlines():
                member = line.split(",")[0]
                if "/tests/" not in member:  # a third of numpy, which an emulated Arm takes long to unpack
                    wheel.write(unpacked / member, member)
                for compiled in (unpacked / member).parent.glob(f"__pycache__/{Path(member).stem}.*.pyc"):
                    if member.endswith(".py"):  # left by earlier tests, and slow to make; valid whatever the file's age
                        code = compiled.read_bytes()
                        wheel.writestr(str(compiled.relative_to(unpacked)), code[:4] + b"\1\0\0\0" + code[8:])


def test_a_plan_followed_to_the_letter_makes_a_bare_board_work(
    board: Board, userland: Userland, shell: Any, tmp_path: Path
) -> None:
    """What was copied there from a PC loads nowhere on the Arm; the plan puts the right runtime in its place."""
    _wheels(userland, tmp_path / "wheels")
    artifact = tiny_model(tmp_path / "tiny-tflite")
    arm_python(board, userland, None)
    wrong = board.cache / PROVISIONED / "litert/numpy"
    wrong.mkdir(parents=True)
    (wrong / "__init__.py").write_text("from . import core")
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\x3e\x00\x01"  # a shared object of an x86-64
    (wrong / "core.cpython-311-aarch64-linux-gnu.so").write_bytes(header.ljust(4096, b"\0"))
    said = "core.cpython-311-aarch64-linux-gnu.so is built for another processor than this aarch64"

    asked = f"edgeq device probe {board.host}"
    probe = shell(asked)
    assert probe.returncode == 4, probe.stderr
    assert f"no: {said}" in probe.stdout
    bench = f"edgeq bench {artifact} --device {board.host} --seconds 0.1 --json"
    bare = shell(f"{bench} --runtime tflite-runtime")
    assert bare.returncode == 4
    assert "No module named" in bare.stderr
    failed = shell(bench)
    assert failed.returncode == 4, failed.stderr
    (remedy,) = re.findall(rf"{said} \((edgeq [^)]*)\)$", failed.stderr, re.MULTILINE)
    assert remedy == asked
    (line,) = re.findall(r"^missing: .*: (edgeq .*)$", probe.stdout, re.MULTILINE)
    assert probe.stdout.count("missing:") == 1
    done = shell(line)
    assert done.returncode == 0, done.stderr

    ran = shell(bench)
    assert ran.returncode == 0, ran.stderr
    (facts,) = json.loads(ran.stdout)
    assert facts["machine"]["emulated"] == "cortex-a72"
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
