"""What is inside a file: counted by hand on a small network, the same through both formats, and nothing in garbage."""

import contextlib
import json

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.cli import cli
from edgeq.data.calibration import CalibrationSet
from edgeq.errors import ArtifactError
from edgeq.formats.contents import Op, Tensor, peak_memory
from edgeq.formats.onnx.read import read_onnx
from edgeq.formats.onnx.writer import write_onnx, write_onnx_float
from edgeq.formats.read import inspect
from edgeq.formats.tflite.read import read_tflite
from edgeq.formats.tflite.writer import write_tflite, write_tflite_float
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import RELU, Add, Conv2d, GlobalAvgPool, Linear, Reshape
from edgeq.quant.quantize import quantize
from edgeq.quant.scheme import Scheme

MACS = 3 * 3 * 3 * 8 * 64 + 3 * 3 * 8 * 64 + 8 * 5
"""A convolution, a depthwise one, a linear; 8 by 8 pixels throughout."""


@pytest.fixture(scope="module")
def graph():
    rng = np.random.default_rng(0)
    shapes = {"a.w": (8, 3, 3, 3), "b.w": (8, 1, 3, 3), "fc.w": (5, 8), "a.b": (8,), "b.b": (8,), "fc.b": (5,)}
    constants = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = (
        Node("a", Conv2d(padding=(1, 1, 1, 1), activation=RELU), ("x", "a.w", "a.b")),
        Node("b", Conv2d(padding=(1, 1, 1, 1), groups=8, activation=RELU), ("a", "b.w", "b.b")),
        Node("sum", Add(), ("b", "a")),
        Node("mean", GlobalAvgPool(), ("sum",)),
        Node("flat", Reshape((8,)), ("mean",)),
        Node("fc", Linear(), ("flat", "fc.w", "fc.b")),
    )
    return Graph("net", ("x",), ("fc",), nodes, constants, {"x": (1, 3, 8, 8)})


@pytest.fixture(scope="module")
def integer(graph):
    images = CalibrationSet(
        np.random.default_rng(1).normal(0, 1, (8, 3, 8, 8)).astype(np.float32), np.full(8, -1, np.int64), "test"
    )
    return quantize(graph, images, (-3.0, 3.0), Scheme())


@pytest.fixture
def files(graph, integer, tmp_path):
    made = {
        "int.tflite": write_tflite(integer, io="int8"),
        "int.onnx": write_onnx(integer, activations="int8"),
        "float.tflite": write_tflite_float(graph),
        "float.onnx": write_onnx_float(graph),
    }
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_arithmetic_is_the_same_in_every_file(files):
    assert {name: inspect(files / name).macs for name in ("int.tflite", "int.onnx", "float.tflite", "float.onnx")} == (
        dict.fromkeys(("int.tflite", "int.onnx", "float.tflite", "float.onnx"), MACS)
    )


def test_types_scales_and_shapes_are_those_of_the_integer_graph(files, integer):
    for name, shape in (("int.tflite", (1, 8, 8, 8)), ("int.onnx", (1, 8, 8, 8))):
        (add,) = (op for op in inspect(files / name).ops if op.kind in ("ADD", "Add"))
        assert add.outputs[0].type == "int8"
        assert add.outputs[0].shape == shape
        grid = integer.quantizations["sum"]
        assert add.outputs[0].scales == pytest.approx((float(grid.scale),))
        assert add.outputs[0].zero_point == int(grid.zero_point)
        assert {t.type for t in add.inputs} == {"int8"}


def test_weights_take_a_quarter_of_the_float_ones(files):
    small, large = (inspect(files / f"{kind}.tflite") for kind in ("int", "float"))
    assert small.constant_bytes < large.constant_bytes
    assert small.census.clean
    assert large.census.float_ops > 0


def test_peak_memory_is_what_lives_at_once():
    def tensor(name, count):
        return Tensor(name, "int8", (count,))

    x, a, b, c = (tensor(name, count) for name, count in (("x", 10), ("a", 100), ("b", 40), ("c", 7)))
    ops = [Op("F", (x,), (), (a,)), Op("G", (a,), (), (b,)), Op("H", (b, x), (), (c,))]
    assert peak_memory(ops, [x], [c]) == 10 + 100 + 40  # x waits for the last op
    ops[2] = Op("H", (b,), (), (c,))
    assert peak_memory(ops, [x], [c]) == 100 + 40


def test_a_build_s_folder_will_do_and_json_is_complete(files):
    (files / "int.tflite").rename(files / "model.tflite")
    result = CliRunner().invoke(cli, ["inspect", str(files), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["macs"] == MACS
    assert found["format"] == "tflite"
    assert found["census"]["file"]["clean"]
    assert len(found["ops"]) == found["census"]["file"]["ops"]
    text = CliRunner().invoke(cli, ["inspect", str(files)])
    assert "multiply-accumulates" in text.output


def test_what_is_no_model_is_refused_in_one_line(tmp_path):
    for name, data in (("a.tflite", b"nonsense"), ("b.onnx", b"\x00" * 100), ("c.bin", b"")):
        (tmp_path / name).write_bytes(data)
        result = CliRunner().invoke(cli, ["inspect", str(tmp_path / name)])
        assert result.exit_code == 2, result.output
        assert result.stderr.count("\n") == 1
    assert CliRunner().invoke(cli, ["inspect", str(tmp_path)]).exit_code == 2


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_file_is_read_or_refused(integer, data):
    kind = data.draw(st.sampled_from(["tflite", "onnx"]))
    whole = bytearray(write_tflite(integer) if kind == "tflite" else write_onnx(integer, activations="int8"))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(8, len(whole) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(whole[: data.draw(st.integers(len(whole) // 2, len(whole)))])
    with contextlib.suppress(ArtifactError):
        (read_tflite(damaged) if kind == "tflite" else read_onnx(damaged, run=False)).to_json()
