"""LiteRTSession: our files and foreign ones, every kernel set, bad files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeq.errors import ArtifactError, ConfigError
from edgeq.formats.tflite.session import KERNELS, LiteRTSession
from edgeq.formats.tflite.writer import write_tflite
from edgeq.graph.ops import Conv2d, GlobalAvgPool, Linear, Reshape
from tests.ops.flow import Flow, quantization

DATA = Path(os.environ.get("EDGEQ_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture(scope="module")
def flow() -> Flow:
    made = Flow((1, 3, 12, 10), quantization(0.02, 4))
    made.weighted("conv", Conv2d(stride=(2, 2), padding=(1, 1, 1, 1)), (64, 3, 3, 3), quantization(0.05, -3))
    made.add("mean", GlobalAvgPool(), "conv", q=quantization(0.02))
    made.add("flat", Reshape((64,)), "mean")
    made.weighted("fc", Linear(), (5, 64), quantization(0.05), "flat")
    return made


@pytest.mark.parametrize("kernels", KERNELS)
def test_kernels_agree_within_a_step(flow: Flow, kernels: str) -> None:
    data, samples = write_tflite(flow.graph("conv")), flow.samples(8)
    expected = LiteRTSession(data, kernels="reference").run_integers(samples)[0].astype(int)
    found = LiteRTSession(data, kernels=kernels).run_integers(samples)[0]
    assert found.shape == (8, 64, 6, 5)
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("kernels", KERNELS)
def test_says_what_runs(flow: Flow, kernels: str) -> None:
    session = LiteRTSession(write_tflite(flow.graph()), kernels=kernels)
    samples = flow.samples(8)
    assert session.run(samples)[0].shape == (8, 5)
    assert session.input_shape == (1, 3, 12, 10)
    assert "litert" in session.runtime or "tflite" in session.runtime
    assert bool(session.delegated_nodes) == (kernels == "xnnpack")
    assert session.delegated_ops().get("CONV_2D", 0) + session.executed_ops().get("CONV_2D", 0) == 1


def test_path_bytes_and_timing_form(flow: Flow, tmp_path: Path) -> None:
    data, sample = write_tflite(flow.graph()), flow.samples(1)
    path = tmp_path / "model.tflite"
    path.write_bytes(data)
    session = LiteRTSession(path, threads=2)
    session.prepare(sample)
    session.invoke()
    np.testing.assert_array_equal(session.run(sample)[0], LiteRTSession(data, threads=1).run(sample)[0])


@pytest.mark.parametrize("closed", ["", "2>&-"])
def test_a_first_session_says_nothing(flow: Flow, tmp_path: Path, closed: str) -> None:
    (tmp_path / "m.tflite").write_bytes(write_tflite(flow.graph()))
    code = (
        "import sys; from edgeq.formats.tflite.session import LiteRTSession; "
        "s = LiteRTSession(sys.argv[1]); print(s.kernels); sys.stderr and print('words', file=sys.stderr)"
    )
    line = f'"$0" -c "$1" "$2" {closed}'
    made = subprocess.run(
        ["sh", "-c", line, sys.executable, code, str(tmp_path / "m.tflite")], capture_output=True, text=True
    )
    assert (made.returncode, made.stdout.strip()) == (0, "xnnpack")
    assert made.stderr == ("" if closed else "words\n")


def test_wrong_sample_shape(flow: Flow) -> None:
    session = LiteRTSession(write_tflite(flow.graph()))
    with pytest.raises(ConfigError, match=r"\[1, 3, 12, 10\]"):
        session.run(np.zeros((2, 3, 10, 12), np.float32))


def test_float_outputs_hold_no_integers(flow: Flow) -> None:
    session = LiteRTSession(write_tflite(flow.graph(), io="float32"))
    with pytest.raises(ConfigError, match="float"):
        session.run_integers(flow.samples(1))


def test_unknown_kernels(flow: Flow) -> None:
    with pytest.raises(ConfigError, match="xnnpack"):
        LiteRTSession(write_tflite(flow.graph()), kernels="fast")


@pytest.mark.parametrize("content", [b"", b"TFL3", b"garbage" * 100])
def test_bad_files(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.tflite"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"bad\.tflite"):
        LiteRTSession(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"none\.tflite"):
        LiteRTSession(tmp_path / "none.tflite")


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("mlperf_tiny/ic01_resnet8_int8.tflite", (1, 3, 32, 32), 10),
        ("mlperf_tiny/ic01_resnet8_float.tflite", (1, 3, 32, 32), 10),
        ("mlperf_tiny/kws01_int8.tflite", (1, 1, 49, 10), 12),
        ("peer_tflite/mobilenet_v1_0.25_128_quant.tflite", (1, 3, 128, 128), 1001),
        ("peer_tflite/mobilenet_v2_quantized_1x3x224x224.tflite", (1, 3, 224, 224), 1000),
    ],
)
def test_foreign_files(name: str, shape: tuple[int, ...], classes: int) -> None:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not here; set EDGEQ_DATA")
    session = LiteRTSession(path, channels=shape[1])
    assert session.input_shape == shape
    values = session.run(np.random.default_rng(0).normal(0, 1, (2, *shape[1:])).astype(np.float32))
    assert [v.shape for v in values] == [(2, classes)]
    assert np.isfinite(values[0]).all()


def test_older_runtime_runs_our_files(flow: Flow, tmp_path: Path) -> None:
    """tflite-runtime in a process of its own: it cannot share one with ai-edge-litert. The network runs mirrored."""
    pytest.importorskip("tflite_runtime", reason="tflite-runtime is not installed")
    data, samples = write_tflite(flow.graph("conv")), flow.samples(4)
    (tmp_path / "model.tflite").write_bytes(data)
    np.save(tmp_path / "samples.npy", samples)
    code = (
        "import sys, numpy as np\n"
        "sys.modules['ai_edge_litert'] = None\n"
        "from edgeq.formats.tflite.session import LiteRTSession\n"
        "session = LiteRTSession(sys.argv[1] + '/model.tflite')\n"
        "assert session.runtime.startswith('tflite-runtime'), session.runtime\n"
        "np.save(sys.argv[1] + '/out.npy', session.run_integers(np.load(sys.argv[1] + '/samples.npy'))[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    if "numpy" in done.stderr and done.returncode and int(np.__version__.split(".")[0]) >= 2:
        pytest.skip("tflite-runtime needs numpy 1")
    assert done.returncode == 0, done.stderr[-2000:]
    expected = LiteRTSession(data).run_integers(samples)[0].astype(int)
    assert np.abs(np.load(tmp_path / "out.npy") - expected).max() <= 1
