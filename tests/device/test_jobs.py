"""A model's way through a device: pushed, run, timed, pulled; and an agent that is given trouble."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edgeq.cli import cli
from edgeq.device.job import Setup, bench, evaluate, probe
from edgeq.device.open import open_device
from edgeq.device.provision import plan
from edgeq.device.runners import agent
from edgeq.device.transport import ShellTransport
from edgeq.device.transports.emulator import Userland
from edgeq.device.transports.local import LocalTransport
from edgeq.errors import DeviceError
from edgeq.formats.onnx import write_onnx
from edgeq.formats.onnx.session import OrtSession
from edgeq.formats.tflite.session import LiteRTSession
from edgeq.pipeline.ondevice import SIGNED
from tests.device.conftest import arm_python
from tests.device.loopback import Board
from tests.device.tiny import tiny_model
from tests.formats.residual import frozen, residual_network

LITERT = Setup("litert", "xnnpack")


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "tiny-tflite")


def _batch(model: Path, images: int = 3) -> tuple[Any, Any]:
    session = LiteRTSession(model)
    real = np.random.default_rng(0).normal(size=(images, *session.input_shape[1:])).astype(np.float32)
    fed = np.concatenate([session.file_input(sample[None]) for sample in real])
    return fed, session.run_integers(real)


def test_a_file_answers_on_a_device_as_it_does_here(artifact: Path) -> None:
    fed, here = _batch(artifact / "model.tflite")
    with LocalTransport() as device:
        there, facts = evaluate(device, artifact / "model.tflite", fed, LITERT)
    np.testing.assert_array_equal(there[0], here[0])
    assert facts["machine"]["architecture"] == platform.machine()
    assert facts["peak_bytes"] > 2**20


def test_an_emulator_s_times_are_never_shown(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_EMULATED", "cortex-a72")
    with LocalTransport() as device:
        timed = bench(device, artifact / "model.tflite", artifact / "float.tflite", LITERT, seconds=0.1)
    assert not timed["valid"]
    assert timed["latency"] is None
    assert timed["peak_bytes"] is None  # nor is its memory the model's
    assert "samples" not in timed
    assert any("emulated" in doubt for doubt in timed["doubts"])


def test_the_board_runs_onnxruntime_too(board: Board, userland: Userland, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(write_onnx(frozen(residual_network()), activations="int8", io="int8"))
    session = OrtSession(model)
    fed = session.file_input(np.random.default_rng(0).normal(size=(3, 3, 16, 16)).astype(np.float32))
    arm_python(board, userland, "onnxruntime")
    with open_device(board.host) as device:
        there, facts = evaluate(device, model, fed, Setup("onnxruntime", "mlas", session=SIGNED))
    assert np.abs(there[0].astype(int) - session.run_raw(fed)[0].astype(int)).max() <= 1
    machine = facts["machine"]
    assert (machine["emulated"], machine["architecture"], machine["parts"]) == ("cortex-a72", "aarch64", ["0xd08"])
    assert list((board.cache / "jobs").iterdir()) == []


def test_bench_times_both_files_in_turns(artifact: Path) -> None:
    with LocalTransport() as device:
        found = bench(device, artifact / "model.tflite", artifact / "float.tflite", LITERT, seconds=0.2, rounds=20)
    assert len(found["samples"]["model"]) == len(found["samples"]["float"]) == 20  # however slow the machine is
    assert found["latency"]["model"]["min_ms"] <= found["latency"]["model"]["median_ms"]
    assert found["valid"] == (not found["doubts"])


def _with_agent(device: ShellTransport, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str) -> None:
    from edgeq.device import job

    path = tmp_path / "bad_agent.py"
    path.write_text(body)
    monkeypatch.setattr(job, "AGENT", path)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("print('garbage'); print('{not json'); print('{\"edgeq\": 7}')", "gave no answer"),
        ("import os; os.kill(os.getpid(), 9)", "killed on the device"),
        ("import os; os.kill(os.getpid(), 4)", "instructions its processor lacks"),
        ("raise SystemExit('no module named numpy')", "no module named numpy"),
        ("import time; time.sleep(60)", "did not answer in time"),
    ],
)
def test_an_agent_in_trouble_is_one_line(body: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with LocalTransport() as device:
        _with_agent(device, monkeypatch, tmp_path, body)
        with pytest.raises(DeviceError, match=said):
            probe(device, timeout=2 if "sleep" in body else 60)


def test_garbage_around_the_answer_does_not_matter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    noise = (
        "import sys, json\nsys.stdout.buffer.write(b'\\x1b[31mINFO: delegate\\xff\\n{not json\\n')\n"
        "print(json.dumps({'edgeq': 'result', 'job': 'of another run'}))\nsys.stdout.flush()\n"
    )
    with LocalTransport() as device:
        _with_agent(
            device, monkeypatch, tmp_path, noise + Path(agent.__file__).read_text().partition("annotations\n")[2]
        )
        assert probe(device)["machine"]["cores"] == os.cpu_count()


def test_a_damaged_model_is_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(b"TFL3 but not really")
    with LocalTransport() as device, pytest.raises(DeviceError, match="could not be run on the device") as caught:
        evaluate(device, bad, np.zeros((1, 8, 8, 3), np.int8), LITERT)
    assert caught.value.exit_status == 4


def test_the_agent_ends_with_its_connection(tmp_path: Path) -> None:
    import subprocess
    import sys

    script = f"import runpy, sys, time; m = runpy.run_path({agent.__file__!r}); m['tie'](); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(60) == 3


def _moment(**changed: Any) -> dict[str, Any]:
    quiet = {
        "clock": 0.0, "own": 0.0, "busy": 0.0, "load": 0.1, "frequency_khz": {0: 1_800_000}, "governors": {"cpu0": "x"},
        "temperature_c": 50.0, "throttled": 0, "affinity": [0],
    }  # fmt: skip
    return quiet | changed


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ({}, {}, ""),
        ({}, {"throttled": 0x1}, "under-voltage"),
        ({}, {"throttled": 0x40000}, "throttled"),
        ({"throttled": 0x50000}, {"throttled": 0x50000}, ""),  # happened before, since boot: not in this measurement
        ({}, {"governors": {"cpu0": "powersave"}}, "governor changed"),
        ({}, {"frequency_khz": {0: 600_000}}, "clock fell"),
        ({}, {"busy": 30.0, "clock": 10.0, "own": 9.0}, "other programs"),
        ({}, {"clock": -5.0}, ""),  # a clock that jumps says nothing about other programs
    ],
)
def test_verdicts(before: dict[str, Any], after: dict[str, Any], says: str) -> None:
    steady = [1.0] * 50
    found = agent.doubts(_moment(**before), _moment(**{"clock": 10.0, "own": 9.0, **after}), steady, steady, 4, None)
    assert (says in "; ".join(found)) if says else (found == [])


def test_wide_spread_and_few_pairs_are_doubted() -> None:
    wide = [1.0, 3.0] * 25
    assert "spread too wide" in " ".join(agent.doubts(_moment(), _moment(), wide, wide, 4, None))
    assert "only 3 pairs" in " ".join(agent.doubts(_moment(), _moment(), [1.0] * 3, [1.0] * 3, 4, None))


def test_big_cores_come_from_the_system(tmp_path: Path) -> None:
    for core, speed in enumerate((1_800_000, 1_800_000, 2_400_000, 2_400_000)):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{core}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "cpuinfo_max_freq").write_text(f"{speed}\n")
    assert agent.big_cores(str(tmp_path)) == [2, 3]
    assert agent.big_cores(str(tmp_path / "nothing")) == []


def test_a_plan_names_what_is_missing() -> None:
    facts = {
        "machine": {"bits": 32, "architecture": "armv7l", "python": "3.7.3"},
        "runtimes": {"litert": {"works": False}},
        "free_bytes": 10 * 2**20,
    }
    steps = " ".join(plan("pi@board", facts))
    assert all(word in steps for word in ("64-bit", "Python 3.9", "provision pi@board", "10 MiB free"))


def test_the_agent_needs_nothing_of_edgeq() -> None:
    import ast

    tree = ast.parse(Path(agent.__file__).read_text(), feature_version=(3, 9))
    imported = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert not any(name.startswith(("edgeq", "torch")) for name in imported)


def test_files_and_devices_side_by_side(board: Board, artifact: Path, tmp_path: Path) -> None:
    page = tmp_path / "compare.html"
    words = [
        "bench",
        str(artifact),
        str(artifact / "float.tflite"),
        "-d",
        "local",
        "-d",
        board.host,
        "--seconds",
        "0.05",
    ]
    done = CliRunner().invoke(cli, [*words, "--html", str(page)])
    assert done.exit_code == 0, done.output
    rows = [line.split()[:2] for line in done.stdout.splitlines()[1:5]]
    assert rows == [[a, d] for a in ("tiny-tflite", "float.tflite") for d in ("local", board.host)]
    text = page.read_text()
    assert text.count("<svg") == 4
    assert f"{board.host}: integer " in text
    assert f"{board.host}: file " in text


def test_a_page_is_not_written_over_something_else(artifact: Path) -> None:
    before = (artifact / "model.tflite").read_bytes()
    done = CliRunner().invoke(cli, ["bench", str(artifact), "--html", str(artifact / "model.tflite")])
    assert done.exit_code == 2, done.output
    assert (artifact / "model.tflite").read_bytes() == before


@pytest.mark.parametrize("name", ["nonsense", "emulator:"])
def test_names_that_are_no_device(name: str, artifact: Path) -> None:
    done = CliRunner().invoke(cli, ["bench", str(artifact), "--device", name])
    assert done.exit_code == 4, done.output


def test_strict_refuses_what_is_not_to_be_believed(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_EMULATED", "cortex-a72")
    done = CliRunner().invoke(cli, ["bench", str(artifact), "--seconds", "0.1", "--strict"])
    assert done.exit_code == 5, done.output
    assert "emulated" in done.output
    assert os.environ["EDGEQ_EMULATED"]
