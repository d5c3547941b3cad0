"""The programs `edgeq synth` prints: pasted, they quantize a float model with the images."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from ai_edge_litert import schema_py_generated as schema
from click.testing import CliRunner

from edgeq.cli import cli
from edgeq.data.calibration import CalibrationSet
from edgeq.formats.onnx.writer import write_onnx_float
from edgeq.formats.tflite.writer import write_tflite_float
from edgeq.graph.passes import optimize
from edgeq.model.load import load_model
from edgeq.pipeline.prepare import capture_model
from edgeq.report.snippets import snippets


def printed(name: str) -> str:
    """The program as the command prints it, indentation and all."""
    words = ["synth", "model.toml", "-n", "6", "--effort", "fast", "--cache", "cache", "-o", "out"]
    result = CliRunner().invoke(cli, words, prog_name="edgeq")
    assert result.exit_code == 0, result.stderr
    _, _, rest = result.stdout.partition(f"In {name}:\n")
    program = textwrap.dedent(rest.partition("\nIn ")[0])
    assert program.strip() == snippets("out")[name].strip()
    return program


def test_the_manual_shows_the_programs_that_are_printed() -> None:
    text = (Path(__file__).parents[2] / "docs" / "how-to" / "synth.md").read_text()
    assert all(program in text for program in snippets("calibration").values())


def test_onnxruntime_program_quantizes_a_float_model(here: Path) -> None:
    graph = optimize(capture_model(load_model("model.toml")))
    (here / "float.onnx").write_bytes(write_onnx_float(graph))
    exec(printed("onnxruntime.quantization"), {"__name__": "pasted"})  # noqa: S102
    kinds = [node.op_type for node in onnx.load("int8.onnx").graph.node]
    assert "QuantizeLinear" in kinds
    calibration = CalibrationSet.load(Path("out/calibration.npz"))
    sessions = [onnxruntime.InferenceSession(f"{name}.onnx") for name in ("float", "int8")]
    before, after = (
        np.concatenate([s.run(None, {s.get_inputs()[0].name: image[None]})[0] for image in calibration.inputs])
        for s in sessions
    )
    assert 0 < np.abs(after - before).max() < 0.05 * np.ptp(before) + 0.02


def with_signature(data: bytes) -> bytes:
    """The file with what converters from torch and TensorFlow give theirs and the quantizer wants: a signature, and
    tensor names that are unique."""
    import flatbuffers

    model = schema.ModelT.InitFromPackedBuf(data, 0)
    graph = model.subgraphs[0]
    for number, tensor in enumerate(graph.tensors):
        tensor.name = f"{tensor.name.decode()}:{number}"
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    for side in ("inputs", "outputs"):
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = side[:-1], int(getattr(graph, side)[0])
        setattr(signature, side, [entry])
    model.signatureDefs = [signature]
    builder = flatbuffers.Builder(len(data) + 1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_litert_program_quantizes_a_float_model(here: Path) -> None:
    beside = Path(__file__).parents[2] / ".peers" / "venv" / "bin" / "python"
    python = sys.executable if importlib.util.find_spec("ai_edge_quantizer") else str(beside)
    if python == str(beside) and not beside.is_file():
        pytest.skip("ai-edge-quantizer is not installed, here or in .peers")
    graph = optimize(capture_model(load_model("model.toml")))
    (here / "float.tflite").write_bytes(with_signature(write_tflite_float(graph)))
    (here / "pasted.py").write_text(printed("LiteRT (ai-edge-quantizer)"))
    done = subprocess.run([python, "pasted.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    model = schema.ModelT.InitFromPackedBuf(Path("int8.tflite").read_bytes(), 0)
    types = {tensor.type for tensor in model.subgraphs[0].tensors}
    assert schema.TensorType.INT8 in types
