"""A device that lies, stutters or does not stop: one line, exit 4, and never a number that nobody measured."""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.device.answers import read_answer
from edgeq.device.job import Setup, bench, evaluate
from edgeq.device.runners import benchmark_model, python
from edgeq.device.transport import call
from edgeq.device.transports.local import LocalTransport
from edgeq.errors import DeviceError

WORD = "0123456789abcdef"

MACHINE = {
    "cpu": "board",
    "parts": ["0xd08"],
    "architecture": "aarch64",
    "cores": 4,
    "big_cores": [0, 1, 2, 3],
    "flags": ["asimd"],
    "dot_product": False,
    "system": "Linux 6.1",
    "libc": "glibc 2.36",
    "python": "3.11.2",
    "bits": 64,
    "emulated": None,
}
MOMENT = {
    "clock": 10.0,
    "own": 1.0,
    "busy": 5.0,
    "load": 0.5,
    "frequency_khz": {"0": 1_800_000},
    "governors": {"cpu0": "x"},
    "temperature_c": 50.0,
    "throttled": 0,
    "affinity": [0],
    "stolen": 0.0,
    "heat_events": 0,
}
RUNTIME = {"works": True, "version": "2.0", "numpy": "1.26", "why": ""}
ANSWERS: dict[str, dict[str, Any]] = {
    "probe": {
        "machine": MACHINE,
        "moment": MOMENT,
        "free_bytes": 10**9,
        "runtimes": {"litert": RUNTIME, "tflite-runtime": RUNTIME, "onnxruntime": RUNTIME},
    },
    "eval": {
        "images": 2,
        "sha256": hashlib.sha256(bytes(8)).hexdigest(),
        "arrays": [{"dtype": "int8", "shape": [2, 4]}],
        "ops": {"CONV_2D": 3},
        "peak_bytes": 10**7,
        "before": MOMENT,
        "after": MOMENT | {"clock": 12.0},
        "machine": MACHINE,
        "runtime": "ai-edge-litert 2.0",
        "kernels": "xnnpack",
    },
    "bench": {
        "samples": {"model": [0.001] * 50, "float": [0.002] * 50},
        "inferences_per_run": 1,
        "power": {
            "rails": ["VDD_CORE"],
            "idle": [1.0, 1.0, 1.0],
            "loads": {
                name: {"watts": [2.0, 2.0, 2.0], "inferences": 9, "seconds": 0.001} for name in ("model", "float")
            },
        },
        "threads": 1,
        "before": MOMENT,
        "after": MOMENT | {"clock": 12.0, "own": 3.0, "busy": 7.0},
        "machine": MACHINE,
        "affinity": [0],
        "ops": {},
        "peak_bytes": 10**7,
        "runtime": "ai-edge-litert 2.0",
        "kernels": "xnnpack",
    },
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in an answer, the inner ones too."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    return found + [inner for key, item in items for inner in places(item, (*path, key))]


def changed(answer: dict[str, Any], path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> dict[str, Any]:
    found = copy.deepcopy(answer)
    inner: Any = found
    for key in path[:-1]:
        inner = inner[key]
    change(inner, path[-1])
    return found


def line(answer: object, word: str = WORD, what: str = "result") -> bytes:
    text = json.dumps(answer)[1:-1]
    return f'noise\n{{"edgeq": "{what}", "job": "{word}", {text}}}\n'.encode()


def _refused(sent: bytes, kind: str) -> bool:
    try:
        found = read_answer(sent, kind, WORD, "board")
    except DeviceError as error:
        return error.exit_status == 4 and str(error).isprintable()
    json.dumps(found, allow_nan=False)
    return False


@pytest.mark.parametrize("kind", ["probe", "eval", "bench"])
def test_every_place_of_an_answer_is_checked(kind: str) -> None:
    whole = ANSWERS[kind]
    assert read_answer(line(whole), kind, WORD, "board") == whole
    assert read_answer(line(whole | {"extra": "x" * 10**6}), kind, WORD, "board") == whole
    refused = 0
    for path in places(whole):
        for value in (None, "\x1b[2J", -(10**30), 10**300, float("nan"), float("inf"), True, [], [[]], {"a": {}}, 1.5):
            sent = line(changed(whole, path, lambda inner, key, value=value: inner.__setitem__(key, value)))
            refused += _refused(sent, kind)
    assert refused > 4 * len(places(whole))


@pytest.mark.parametrize("kind", ["probe", "eval", "bench"])
def test_a_missing_key_is_named(kind: str) -> None:
    open_tables = ("ops", "samples", "loads", "frequency_khz", "governors")
    for path in places(ANSWERS[kind]):
        if isinstance(path[-1], str) and path[-2:-1] not in [(name,) for name in open_tables]:
            sent = line(changed(ANSWERS[kind], path, lambda inner, key: inner.pop(key)))
            with pytest.raises(DeviceError, match=f"malformed.*{path[-1]} is not there"):
                read_answer(sent, kind, WORD, "board")


@pytest.mark.parametrize(
    "sent",
    [
        f'{{"edgeq": "result", "job": "{WORD}", "images": 1, "images": 2}}'.encode(),
        f'{{"job": "{WORD}", "a": '.encode() + b"[" * 100_000,
        f'{{"job": "{WORD}", "edgeq": "result"'.encode(),
        f'{{"job": "{WORD}", "edgeq": "result", "clock": NaN}}'.encode(),
        f'{{"job": "{WORD}", "edgeq": "result", "images": 1{"0" * 5000}}}'.encode(),
    ],
)
def test_what_is_no_plain_json(sent: bytes) -> None:
    with pytest.raises(DeviceError, match="malformed"):
        read_answer(sent, "eval", WORD, "board")


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\xff\xfe\x00",
        line(ANSWERS["eval"], word="of another job"),
        line({"a": 1}, what="progress"),
        b'["' + WORD.encode() + b'"]',
        b"{" + WORD.encode()[:5],
    ],
)
def test_what_is_no_answer_of_this_job(sent: bytes) -> None:
    assert read_answer(sent, "eval", WORD, "board") is None


def test_a_failure_there_is_told_in_one_line() -> None:
    sent = line({"error": "\x1b[32mpassed", "message": {"deep": "\n" * 10}}, what="error")
    with pytest.raises(DeviceError, match="could not be run on the device") as caught:
        read_answer(sent, "eval", WORD, "board")
    assert str(caught.value).isprintable()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"some file")
    return path


def _answering(
    monkeypatch: pytest.MonkeyPatch, kind: str, outputs: bytes = bytes(8), status: int = 0, **changes: Any
) -> None:
    """An agent that answers what it is told to."""
    body = (
        "import json, sys\n"
        f"answer = json.loads({json.dumps(ANSWERS[kind] | changes)!r})\n"
        "request = json.load(open(sys.argv[2]))\n"
        f"if 'outputs' in request: open(request['outputs'], 'wb').write({outputs!r})\n"
        "print(json.dumps({'edgeq': 'result', 'job': sys.argv[sys.argv.index('--job') + 1], **answer}))\n"
        f"sys.exit({status})\n"
    )
    monkeypatch.setattr(python, "pack_agent", body.encode)


BATCH = np.zeros((2, 3), np.int8)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": 3}, "3 images"),
        ({"arrays": []}, "not those it names"),
        ({"outputs": bytes(7)}, "not those it names"),
        ({"outputs": b"12345678"}, "not those it names"),
        ({"outputs": bytes(9)}, "not those it names"),
        ({"arrays": [{"dtype": "int8", "shape": [2, 2**40]}]}, "bytes of outputs"),
        ({"sha256": "0" * 64}, "not those it names"),
        ({"status": 3}, "gave no answer"),
    ],
)
def test_outputs_that_are_not_those_of_the_answer(
    changes: dict[str, Any], said: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _answering(monkeypatch, "eval", **changes)
    with LocalTransport() as device, pytest.raises(DeviceError, match=said):
        evaluate(device, model, BATCH, Setup("litert", "xnnpack"))


def test_outputs_of_another_shape_than_the_files(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _answering(monkeypatch, "eval")
    with LocalTransport() as device:
        found, _ = evaluate(device, model, BATCH, Setup("litert", "xnnpack"), expected=[np.zeros((2, 4), np.int8)])
        assert found[0].tolist() == [[0] * 4] * 2
        for other in ([np.zeros((2, 4), np.uint8)], [np.zeros((4, 2), np.int8)], []):
            with pytest.raises(DeviceError, match="other shapes or types"):
                evaluate(device, model, BATCH, Setup("litert", "xnnpack"), expected=other)


def test_times_are_not_believed_on_a_devices_word(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = Setup("litert", "xnnpack")
    with LocalTransport() as device:
        _answering(monkeypatch, "bench")
        assert bench(device, model, model, quick)["valid"]
        for changes, said in (
            ({"samples": {"model": [0.001] * 3, "float": [0.001] * 3}}, "3 runs are too few"),
            ({"samples": {"model": [1e6] * 50, "float": [1e6] * 50}}, "add up to"),
            ({"after": ANSWERS["bench"]["after"] | {"throttled": 4}}, "throttled"),
            ({"after": ANSWERS["bench"]["after"] | {"frequency_khz": {"0": 600_000}}}, "from 1800 to 600 MHz"),
        ):
            _answering(monkeypatch, "bench", **changes)
            found = bench(device, model, model, quick)
            assert not found["valid"]
            assert said in "; ".join(found["doubts"])
        _answering(monkeypatch, "bench", samples={"model": [0.001] * 50})
        with pytest.raises(DeviceError, match="did not time each file"):
            bench(device, model, model, quick)
        given = ANSWERS["bench"]["power"]
        longer = {"model": given["loads"]["model"] | {"seconds": 1e5}, "float": given["loads"]["float"]}
        for loads in ({"model": given["loads"]["model"]}, longer):
            _answering(monkeypatch, "bench", power=given | {"loads": loads})
            with pytest.raises(DeviceError, match="power it gives is not that"):
                bench(device, model, model, quick)


@pytest.mark.parametrize("command", ["yes", "yes >&2", "cat /dev/zero"])
def test_endless_output_ends(command: str) -> None:
    began = time.monotonic()
    with pytest.raises(DeviceError, match=r"does not stop talking.*more than 1 MiB"):
        call(["/bin/sh", "-c", command], data=None, timeout=60, where="board", limit=1 << 20)
    assert time.monotonic() - began < 30


def test_what_a_program_reads_and_writes_at_once_arrives_whole() -> None:
    data = bytes(range(256)) * 10_000
    done = call(["cat"], data=data, timeout=60, where="board")
    assert (done.status, done.stdout) == (0, data)
    assert call(["true"], data=data, timeout=60, where="board").status == 0  # it reads nothing


@pytest.mark.parametrize(
    "text",
    [
        "count=1e5 avg=5",
        "count=5 avg=1e999",
        "count=5 avg=-3",
        "count=" + "9" * 5000 + " avg=3",
        "count=1.5 avg=2",
        "count=5 avg=nan",
        "Inference timings in us: Inference (avg): -5",
        "count=3 avg=2 std=-1",
        "a" * 10**6,
        "count=5 avg=4\npeak memory footprint (MB): 1e300",
        "=" * 10**6,
        "\x00\xff",
        "count=٣ avg=٣",
    ],
)
def test_what_benchmark_model_cannot_have_printed(text: str) -> None:
    with pytest.raises(DeviceError) as caught:
        benchmark_model.parse(text)
    assert caught.value.exit_status == 4
