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
from edgeq.config.formats import FORMATS
from edgeq.device import job, transport
from edgeq.device.job import Pace, Setup, bench, evaluate, probe
from edgeq.device.open import open_device
from edgeq.device.provision import plan
from edgeq.device.runners import agent, python
from edgeq.device.transports.local import LocalTransport
from edgeq.device.userland import Userland
from edgeq.errors import DeviceError
from edgeq.formats.onnx.session import OrtSession
from edgeq.formats.onnx.writer import write_onnx
from edgeq.formats.tflite.session import LiteRTSession
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
        timed = bench(device, artifact / "model.tflite", artifact / "float.tflite", LITERT, Pace(seconds=0.1))
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
        there, facts = evaluate(
            device, model, fed, Setup("onnxruntime", "mlas", session=dict(FORMATS.get("onnx").session))
        )
    assert np.abs(there[0].astype(int) - session.run_raw(fed)[0].astype(int)).max() <= 1
    machine = facts["machine"]
    assert (machine["emulated"], machine["architecture"], machine["parts"]) == ("cortex-a72", "aarch64", ["0xd08"])
    assert list((board.cache / "jobs").iterdir()) == []


def test_bench_times_both_files_in_turns(artifact: Path) -> None:
    with LocalTransport() as device:
        found = bench(device, artifact / "model.tflite", artifact / "float.tflite", LITERT, Pace(20, 20, seconds=0.2))
    assert len(found["samples"]["model"]) == len(found["samples"]["float"]) == 20  # however slow the machine is
    assert found["latency"]["min_ms"] <= found["latency"]["integer_median_ms"] <= found["latency"]["p90_ms"]
    assert found["latency"]["runs"] == 20
    assert "20 runs are too few, 50 are needed" in found["doubts"]
    assert found["valid"] == found["latency"]["valid"] == (not found["doubts"])


def test_this_machine_is_timed_where_nothing_can_be_cached(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(transport, "cache_folder", lambda: tmp_path / "file" / "edgeq")
    monkeypatch.setenv("EDGEQ_DEVICE_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "a $HOME"))
    (tmp_path / "a $HOME").mkdir()
    found = job.bench_here(artifact / "model.tflite", None, LITERT)
    assert found["latency"]["runs"] == 3
    assert list((tmp_path / "a $HOME").iterdir()) == []


def _with_agent(monkeypatch: pytest.MonkeyPatch, body: str | bytes) -> None:
    monkeypatch.setattr(python, "pack_agent", lambda: body if isinstance(body, bytes) else body.encode())


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
def test_an_agent_in_trouble_is_one_line(body: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalTransport() as device:
        _with_agent(monkeypatch, body)
        with pytest.raises(DeviceError, match=said):
            probe(device, timeout=2 if "sleep" in body else 60)


def test_garbage_around_the_answer_does_not_matter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = tmp_path / "whole.pyz"
    whole.write_bytes(python.pack_agent())
    noise = (
        "import sys, json, runpy\nsys.stdout.buffer.write(b'\\x1b[31mINFO: delegate\\xff\\n{not json\\n')\n"
        "print(json.dumps({'edgeq': 'result', 'job': 'of another run'}))\nsys.stdout.flush()\n"
        f"runpy.run_path({str(whole)!r}, run_name='__main__')\n"
    )
    _with_agent(monkeypatch, noise)
    with LocalTransport() as device:
        assert probe(device)["machine"]["cores"] == os.cpu_count()


def test_a_damaged_model_is_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(b"TFL3 but not really")
    with LocalTransport() as device, pytest.raises(DeviceError, match="could not be run on the device") as caught:
        evaluate(device, bad, np.zeros((1, 8, 8, 3), np.int8), LITERT)
    assert caught.value.exit_status == 4


def test_the_agent_ends_with_its_connection() -> None:
    import subprocess
    import sys

    script = "import time; from edgeq.device.runners.agent.__main__ import tie; tie(); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(60) == 3


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

    sources = sorted(Path(agent.__file__).parent.glob("*.py"))
    assert len(sources) >= 5
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text(), feature_version=(3, 9))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            names += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.startswith(("edgeq", "torch")) for name in names), path.name


def test_the_agent_is_the_same_file_every_time() -> None:
    first = python.pack_agent()
    python.pack_agent.cache_clear()
    assert python.pack_agent() == first
    assert b"edgeq_agent/timing.py" in first


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
