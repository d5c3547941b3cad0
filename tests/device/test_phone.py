"""A file's way through a phone: pushed, run by a `benchmark_model`, timed, pulled, judged; and what goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edgeq.cli import cli
from edgeq.device.job import Pace, Setup, bench, evaluate, probe
from edgeq.device.open import open_device
from edgeq.device.runners import android
from edgeq.device.runners import phone as runner
from edgeq.device.runners.phone import PROGRAM
from edgeq.device.transports.adb import AdbTransport, find_attached
from edgeq.errors import DeviceError
from edgeq.formats.onnx.writer import write_onnx
from edgeq.formats.tflite.session import LiteRTSession
from edgeq.measure.validity import disturbances
from tests.device.daemon import Phone
from tests.device.loopback import executable
from tests.device.tiny import tiny_model
from tests.formats.residual import frozen, residual_network

QUICK = Pace(seconds=0.1)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "tiny-tflite")


@pytest.fixture
def setup(program: Path) -> Setup:
    return Setup("litert", "xnnpack", program=program)


def _batch(model: Path, images: int = 3) -> tuple[Any, Any]:
    session = LiteRTSession(model)
    real = np.random.default_rng(0).normal(size=(images, *session.input_shape[1:])).astype(np.float32)
    fed = np.concatenate([session.file_input(sample[None]) for sample in real])
    return fed, session.run_integers(real)


def _jobs(phone: Phone) -> list[Path]:
    return list((phone.root / "data/local/tmp/edgeq/jobs").iterdir())


def test_a_file_answers_on_a_phone_as_it_does_here(phone: Phone, artifact: Path, setup: Setup) -> None:
    fed, here = _batch(artifact / "model.tflite")
    with open_device(f"adb:{phone.serial}") as device:
        there, facts = evaluate(device, artifact / "model.tflite", fed, setup)
    np.testing.assert_array_equal(there[0], here[0])
    assert facts["machine"]["model"] == "Example Test Phone"
    assert facts["runtime"].startswith("benchmark_model ")
    assert (phone.root / "state/masks").read_text().split() == ["30"] * 3  # cores 4 and 5
    assert _jobs(phone) == []


def test_bench_keeps_latency_memory_and_profile_apart(
    phone: Phone, artifact: Path, setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "PAIRS", 2)
    with open_device(f"adb:{phone.serial}") as device:
        found = bench(device, artifact / "model.tflite", artifact / "float.tflite", setup, QUICK)
    times = found["latency"]
    assert 0 < times["min_ms"] <= times["integer_median_ms"] <= times["p95_ms"]
    assert 0 < times["float_min_ms"] <= times["float_median_ms"] <= times["float_p95_ms"]
    assert times["runs"] >= 50
    for name in ("model", "float"):
        assert found["memory"][name] == {"peak_bytes": 13.5 * 2**20, "grown_bytes": 8.25 * 2**20}
    assert found["latency"]["ratio"] > 0
    assert found["ops"]["CONV_2D"] >= 3
    assert found["affinity"] == [4, 5]
    assert [what for what, said in found["raw"].items() if "Profiling" in said] == ["profile float", "profile model"]
    assert [what for what, said in found["raw"].items() if "peak memory" in said] == ["memory float", "memory model"]
    assert len(found["raw"]) == 8  # 2 runs for times, 1 for memory, 1 for the profile, of each file
    assert found["before"]["battery"] == {"percent": 85, "temperature_c": 29.1, "charging": True, "source": "USB"}
    assert found["before"]["temperature_c"] == 43.25  # what it is now, not what Android remembers
    assert found["after"]["own"] > 0
    assert json.loads(json.dumps(found))["program_sha256"] == found["program_sha256"]


def test_the_command_line_from_device_to_verdict(
    phone: Phone, artifact: Path, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PROGRAM, str(program))
    monkeypatch.setattr(runner, "PAIRS", 1)
    (phone.root / "state/thermalservice").write_text("Thermal Status: 2\n")
    done = CliRunner().invoke(cli, ["bench", str(artifact), "--device", "adb", "--seconds", "0.1", "--strict"])
    assert done.exit_code == 5, done.output
    row = next(line for line in done.stdout.splitlines() if line.startswith("tiny-tflite"))
    assert f" adb:{phone.serial} " in row  # "adb" was enough to name it, and is not enough to keep it under
    assert "thermal status 2, moderate" in row
    assert " 14 " in row  # MiB, of a run of its own


def test_probe_says_what_is_missing_and_then_nothing(phone: Phone, program: Path) -> None:
    bare = CliRunner().invoke(cli, ["device", "probe", f"adb:{phone.serial}"])
    assert bare.exit_code == 4
    assert f"missing: benchmark_model: not said where it is: --benchmark-model PATH or {PROGRAM}" in bare.output
    assert "Example Test Phone, EX1000, aarch64, 6 cores" in bare.output
    ready = CliRunner().invoke(cli, ["device", "probe", f"adb:{phone.serial}", "--benchmark-model", str(program)])
    assert ready.exit_code == 0, ready.output
    assert "missing" not in ready.output
    assert "Android 14" in ready.output


def test_devices_lists_phones(phone: Phone) -> None:
    found = json.loads(CliRunner().invoke(cli, ["devices", "--json"]).stdout)
    assert {"name": f"adb:{phone.serial}", "description": "Test Phone", "ready": True} in found
    phone.authorized = False
    phone.drop()
    until = time.monotonic() + 120
    while not any(one.state == "unauthorized" for one in find_attached()) and time.monotonic() < until:
        time.sleep(0.1)
    assert "(unauthorized: edgeq device probe" in CliRunner().invoke(cli, ["devices"]).stdout


def test_onnx_is_refused_with_the_reason(phone: Phone, tmp_path: Path, program: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(write_onnx(frozen(residual_network()), activations="int8", io="int8"))
    words = ["bench", str(model), "--device", f"adb:{phone.serial}", "--benchmark-model", str(program)]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 4
    assert "ONNX files cannot be run on Android" in done.output


def test_nothing_is_provisioned_on_a_phone(phone: Phone) -> None:
    done = CliRunner().invoke(cli, ["device", "provision", f"adb:{phone.serial}"])
    assert done.exit_code == 2, done.output
    assert "pushed when it is used" in done.output


TROUBLE = {
    "echo garbage; printf '\\377\\376'; exit 0": "printed no time",
    "kill -9 $$": "it was killed",
    "kill -4 $$": "instructions the processor lacks",
    "echo 'ERROR: Failed to load model'; echo INFO; exit 1": "Failed to load model",
    "exec /nonexistent/linker64": "use a build for arm64-v8a",
    "exec sleep 60": "did not answer in time",
}
"""What a program does, and what is said of it."""


def test_a_program_in_trouble_is_one_line_and_the_next_run_works(
    phone: Phone, artifact: Path, setup: Setup, tmp_path: Path
) -> None:
    model = artifact / "model.tflite"
    for body, said in TROUBLE.items():
        bad = Setup("litert", "xnnpack", program=executable(tmp_path / "bad", body))
        with open_device(f"adb:{phone.serial}") as device, pytest.raises(DeviceError, match=said) as caught:
            bench(device, model, None, bad, Pace(seconds=0.1, timeout=1 if "sleep" in body else 30))
        assert caught.value.exit_status == 4
        assert "\n" not in str(caught.value)
        assert _jobs(phone) == []
    fed, here = _batch(model, 1)
    with open_device(f"adb:{phone.serial}") as device:
        there, _ = evaluate(device, model, fed, setup)
    np.testing.assert_array_equal(there[0], here[0])


def test_a_build_for_another_processor_is_not_even_pushed(phone: Phone, artifact: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\x3e\x00" + bytes(44))
    words = ["bench", str(artifact), "--device", "adb", "--benchmark-model", str(foreign)]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 4, done.output
    assert "it is x86_64, the device runs arm64-v8a, armeabi-v7a, armeabi (use a build for arm64-v8a)" in done.output
    assert not any(service.startswith("sync:") for service in phone.asked)


def test_a_damaged_model_is_named(phone: Phone, setup: Setup, artifact: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(b"TFL3 but not really")
    with open_device(f"adb:{phone.serial}") as device, pytest.raises(DeviceError, match="Failed to load model"):
        bench(device, bad, None, setup, QUICK)


def test_a_build_that_writes_no_outputs_is_too_old(phone: Phone, artifact: Path, tmp_path: Path) -> None:
    old = Setup("litert", "xnnpack", program=executable(tmp_path / "old", "echo count=1 curr=5"))
    fed, _ = _batch(artifact / "model.tflite", 1)
    with open_device(f"adb:{phone.serial}") as device, pytest.raises(DeviceError, match="no --output_filepath"):
        evaluate(device, artifact / "model.tflite", fed, old)


def test_a_build_that_ignores_its_input_is_not_believed(phone: Phone, artifact: Path, tmp_path: Path) -> None:
    """It would run on random numbers and say nothing but this."""
    warn = "echo 'WARN: Unconsumed cmdline flags: --input_layer_value_files=x:/y'; echo count=1 curr=5"
    body = f'for word; do case "$word" in --output_filepath=*) echo > "${{word#*=}}";; esac; done; {warn}'
    odd = Setup("litert", "xnnpack", program=executable(tmp_path / "odd", body))
    fed, _ = _batch(artifact / "model.tflite", 1)
    said = pytest.raises(DeviceError, match=r"cannot be given images.*--input_layer_value_files")
    with open_device(f"adb:{phone.serial}") as device, said:
        evaluate(device, artifact / "model.tflite", fed, odd)


def test_what_runs_there_ends_with_its_connection(phone: Phone, artifact: Path, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    slow = Setup("litert", "xnnpack", program=executable(tmp_path / "slow", f"echo $$ > {pid}; exec sleep 60"))

    def pull_the_cable() -> None:
        until = time.monotonic() + 120
        while not (pid.exists() and pid.read_text().strip()) and time.monotonic() < until:
            time.sleep(0.05)
        phone.drop()

    cable = threading.Thread(target=pull_the_cable)
    cable.start()
    lost = pytest.raises(DeviceError, match="connection to the device is lost")
    with open_device(f"adb:{phone.serial}") as device, lost:
        bench(device, artifact / "model.tflite", None, slow, QUICK)
    cable.join()
    _ends(int(pid.read_text()))


def _ends(pid: int) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z":
            return
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError("the program outlived its connection")


def test_two_commands_do_not_share_a_phone(phone: Phone, artifact: Path, program: Path) -> None:
    with AdbTransport(phone.serial):
        words = ["bench", str(artifact), "--device", "adb", "--benchmark-model", str(program)]
        done = CliRunner().invoke(cli, words)
    assert done.exit_code == 4
    assert f"adb:{phone.serial} is busy" in done.output


def test_an_emulated_phone_gives_no_times(
    phone: Phone, artifact: Path, setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "PAIRS", 1)
    with (phone.root / "state/properties").open("a") as file:
        file.write("[ro.kernel.qemu]: [1]\n")
    with open_device(f"adb:{phone.serial}") as device:
        found = bench(device, artifact / "model.tflite", None, setup, QUICK)
    assert found["latency"] is None
    assert not found["valid"]


def test_a_phone_that_says_little_is_still_measured(
    phone: Phone, artifact: Path, setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vendors leave out services, files and tools; what is not known is not made up."""
    monkeypatch.setattr(runner, "PAIRS", 1)
    for name in ("dumpsys", "settings", "taskset", "getprop"):
        executable(phone.root / "bin" / name, 'echo "/system/bin/sh: not found" >&2; exit 127')
    (phone.root / "bin/taskset").chmod(0o644)
    subprocess.run(["rm", "-r", str(phone.root / "sys"), str(phone.root / "proc/stat")], check=True)
    phone.environment["PATH"] = f"{phone.root}/bin:/usr/bin:/bin"
    with open_device(f"adb:{phone.serial}") as device:
        facts = probe(device, program=setup.program)
        found = bench(device, artifact / "model.tflite", None, setup, QUICK)
    assert facts["machine"]["big_cores"] == []
    assert facts["machine"]["abis"] == []
    assert found["affinity"] == []
    moment = found["before"]
    assert (moment["thermal_status"], moment["temperature_c"], moment["battery_saver"], moment["busy"]) == (None,) * 4


def _moment(**changed: Any) -> dict[str, Any]:
    quiet = {
        "clock": 0.0,
        "own": 0.0,
        "busy": 0.0,
        "load": 0.1,
        "frequency_khz": {4: 900_000},
        "limit_khz": {4: 2_400_000},
        "fastest_khz": {4: 2_400_000},
        "governors": {"cpu4": "schedutil"},
        "temperature_c": 40.0,
        "thermal_status": 0,
        "battery": {"percent": 80, "temperature_c": 30.0, "charging": False, "source": None},
        "battery_saver": False,
        "throttled": None,
        "affinity": [4],
    }
    return quiet | changed


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ({}, {}, ""),
        ({}, {"frequency_khz": {4: 300_000}}, ""),  # at rest between two commands: says nothing
        ({}, {"limit_khz": {4: 1_500_000}}, "held at 1500 of 2400 MHz"),
        ({"limit_khz": {4: 1_500_000}}, {"limit_khz": {4: 1_500_000}}, "held at 1500 of 2400 MHz"),
        ({}, {"limit_khz": {0: 500_000}, "fastest_khz": {0: 1_800_000}}, ""),  # a core that was not used
        ({}, {"thermal_status": 1}, "thermal status 1, light"),
        ({"thermal_status": 3}, {}, "thermal status 3, severe"),
        ({}, {"battery_saver": True}, "battery saver"),
        ({}, {"battery": {"percent": 9, "charging": False}}, "battery is at 9 %"),
        ({}, {"battery": {"percent": 9, "charging": True}}, ""),
        ({}, {"battery": {"percent": None, "charging": None}}, ""),
        ({}, {"governors": {"cpu4": "powersave"}}, "governor changed"),
        ({}, {"busy": 60.0, "own": 9.0}, "other programs"),
        ({}, {"thermal_status": None, "battery_saver": None}, ""),
    ],
)
def test_verdicts(before: dict[str, Any], after: dict[str, Any], says: str) -> None:
    first, last = _moment(**before), _moment(**{"clock": 10.0, **after})
    found = disturbances(android.add_clock_limits(first), android.add_clock_limits(last), 8) + android.doubts(
        first, last
    )
    assert (says in "; ".join(found)) if says else (found == [])


def test_masks_are_hexadecimal() -> None:
    assert [android.mask(cores) for cores in ([0], [4, 5, 6, 7], [7])] == ["1", "f0", "80"]
