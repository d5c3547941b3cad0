"""`edgeq verify`: passes a build whose file is its integers, names the first op of one whose file is not."""

import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner

from edgeq.cli import cli
from edgeq.data.calibration import CalibrationSet
from edgeq.formats.onnx.writer import write_onnx
from edgeq.formats.tflite.writer import write_tflite
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import RELU, Conv2d
from edgeq.quant.quantize import quantize
from edgeq.quant.scheme import Scheme


@pytest.fixture
def made():
    rng = np.random.default_rng(0)
    constants = {name: rng.normal(0, 0.3, (6, c, 3, 3)).astype(np.float32) for name, c in (("a.w", 3), ("b.w", 6))}
    same = Conv2d(padding=(1, 1, 1, 1), activation=RELU)
    nodes = (Node("a", same, ("x", "a.w")), Node("b", same, ("a", "b.w")))
    graph = Graph("net", ("x",), ("b",), nodes, constants, {"x": (1, 3, 8, 8)})
    images = CalibrationSet(rng.normal(0, 1, (8, 3, 8, 8)).astype(np.float32), np.full(8, -1, np.int64), "test")
    return quantize(graph, images, (-3.0, 3.0), Scheme()), images


def test_a_file_is_told_from_its_folder(made, tmp_path):
    _build(tmp_path, *made)
    for verb, limits in (("verify", ()), ("check", ("--max-bytes", "4M"))):
        result = CliRunner().invoke(cli, [verb, str(tmp_path / "model.tflite"), *limits])
        assert result.exit_code == 2
        assert "model.tflite is a file" in result.stderr
        assert "folder" in result.stderr


def _build(folder, integer, images, name="model.tflite", written=None):
    written = written or integer
    data = write_tflite(written) if name.endswith("tflite") else write_onnx(written, activations="int8")
    (folder / name).write_bytes(data)
    (folder / "integer.safetensors").write_bytes(integer.to_bytes())
    (folder / "calibration.npz").write_bytes(images.to_bytes())
    return str(folder)


@pytest.mark.parametrize("name", ["model.tflite", "model.onnx"])
@pytest.mark.parametrize("extra", [[], ["--random", "3"], ["--rounding", "onnxruntime"]])
def test_an_honest_build_passes(made, tmp_path, name, extra):
    result = CliRunner().invoke(cli, ["verify", _build(tmp_path, *made, name), "--json", *extra])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["passed"]
    assert found["values"] == 8 * 2 * 6 * 8 * 8
    assert found["beyond"] == 0


@pytest.mark.parametrize("name", ["model.tflite", "model.onnx"])
def test_the_first_op_that_differs_is_named(made, tmp_path, name):
    integer, images = made
    constants = {key: array.copy() for key, array in integer.constants.items()}
    constants["b.w"][0] = -constants["b.w"][0]
    other = dataclasses.replace(integer, constants=constants)
    result = CliRunner().invoke(cli, ["verify", _build(tmp_path, integer, images, name, other)])
    assert result.exit_code == 1
    said = "first difference  b at" if name == "model.tflite" else "first op beyond one step  b\n"
    assert said in result.output
    assert "failed" in result.output


def test_what_is_no_build_is_refused(made, tmp_path):
    folder = _build(tmp_path, *made)
    (tmp_path / "model.tflite").unlink()
    assert CliRunner().invoke(cli, ["verify", folder]).exit_code == 2
    (tmp_path / "integer.safetensors").write_bytes(b"nothing")
    result = CliRunner().invoke(cli, ["verify", folder])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
