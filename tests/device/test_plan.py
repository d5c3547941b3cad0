"""What `edgeq device probe` prints for a bare Arm is followed to the letter, by a shell, and then the board works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edgeq.device.runners.python import PROVISIONED
from edgeq.device.userland import Userland
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
    """The userland's packages as the wheels they were, in place of an index: name and tags are what they say of
    themselves."""
    folder.mkdir()
    for runtime in ("litert", "tflite-runtime"):
        unpacked = userland.wheels(runtime)
        for record in unpacked.glob("*.dist-info/RECORD"):
            tags = re.findall(r"^Tag: (\S+)$", (record.parent / "WHEEL").read_text(), re.MULTILINE)
            kinds = [sorted({tag.split("-")[part] for tag in tags}) for part in range(3)]
            name = "-".join([record.parent.name.removesuffix(".dist-info"), *(".".join(kind) for kind in kinds)])
            with zipfile.ZipFile(folder / f"{name}.whl", "w") as wheel:
                for line in record.read_text().splitlines():
                    member = line.split(",")[0]
                    if "/tests/" not in member:  # a third of numpy, which an emulated Arm takes long to unpack
                        wheel.write(unpacked / member, member)


def test_a_bare_board_works_once_its_plan_is_followed(
    board: Board, userland: Userland, shell: Any, tmp_path: Path
) -> None:
    """With the older runtime; the test below follows the plan as it is, with the default one."""
    choice = " --runtime tflite-runtime"
    _wheels(userland, tmp_path / "wheels")
    artifact = tiny_model(tmp_path / "tiny-tflite")
    arm_python(board, userland, None)

    bench = f"edgeq bench {artifact} --device {board.host} --seconds 0.1 --json{choice}"
    assert shell(bench).returncode == 4
    bare = shell(f"edgeq device probe {board.host}")
    assert bare.returncode == 4, bare.stderr
    plan = re.findall(r"^missing: .*: (edgeq .*)$", bare.stdout, re.MULTILINE)
    assert len(plan) == bare.stdout.count("missing:") == 1
    for line in plan:
        done = shell(line + choice)
        assert done.returncode == 0, done.stderr

    after = shell(f"edgeq device probe {board.host}")
    assert (after.returncode, "missing:" in after.stdout) == (0, False), after.stdout
    ran = shell(bench)
    assert ran.returncode == 0, ran.stderr
    (facts,) = json.loads(ran.stdout)
    assert facts["machine"]["emulated"] == "cortex-a72"
    assert facts["ops"]


def test_a_runtime_built_for_another_processor_is_named_and_replaced(
    board: Board, userland: Userland, shell: Any, tmp_path: Path
) -> None:
    """What was copied there from a PC loads nowhere on the Arm; the plan puts the right one in its place."""
    _wheels(userland, tmp_path / "wheels")
    artifact = tiny_model(tmp_path / "tiny-tflite")
    arm_python(board, userland, None)
    wrong = board.cache / PROVISIONED / "litert/numpy"
    wrong.mkdir(parents=True)
    (wrong / "__init__.py").write_text("from . import core")
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\x3e\x00\x01"  # a shared object of an x86-64
    (wrong / "core.cpython-311-aarch64-linux-gnu.so").write_bytes(header.ljust(4096, b"\0"))
    said = "core.cpython-311-aarch64-linux-gnu.so is built for another processor than this aarch64"

    probe = shell(f"edgeq device probe {board.host}")
    assert probe.returncode == 4, probe.stderr
    assert f"no: {said}" in probe.stdout
    bench = f"edgeq bench {artifact} --device {board.host} --seconds 0.1"
    failed = shell(bench)
    assert failed.returncode == 4, failed.stderr
    (remedy,) = re.findall(rf"{said} \((edgeq [^)]*)\)$", failed.stderr, re.MULTILINE)
    again, before = (re.sub(r"[\d.]+ GiB free", "", out) for out in (shell(remedy).stdout, probe.stdout))
    assert again == before  # but for the disk, which others write to
    (line,) = re.findall(r"^missing: .*: (edgeq .*)$", probe.stdout, re.MULTILINE)
    assert shell(line).returncode == 0
    assert shell(bench).returncode == 0
