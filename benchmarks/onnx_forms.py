"""What onnxruntime takes for the forms edgeq could write a table and a mean of squares in: why it writes those it does.

    python benchmarks/onnx_forms.py          # prints, and writes benchmarks/results/onnx_forms.md

A table of 256 integers by Gather, by GatherElements over one row, and, of GELU, by going through float; sums of squares
of pixels' channels by matrix products of one pixel each, or of several, whose diagonal is wanted. The shapes are
ConvNeXt-tiny's. Each in turns with the form in use, one thread.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from cases import ROOT, commit
from latency import machine_line
from onnx import TensorProto, helper, numpy_helper

from edgeq.files import write_atomic
from edgeq.formats.onnx.emit.norms import MOST, together_of

RESULTS = ROOT / "benchmarks" / "results" / "onnx_forms.md"
SHAPES = ((56, 56, 96), (28, 28, 192), (14, 14, 384), (7, 7, 768))
"""Height, width, channels; GELUs have four times as many channels."""
TABLES = ("Gather", "through float")
PAIRS = 100


class Model:
    """A file of one form, built node by node: of opset 20, which has a Gelu, where edgeq's own builder stops at 19."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, array: npt.NDArray[Any]) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def node(self, kind: str, inputs: list[str], **attributes: object) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def numbers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def data(self, made: str) -> bytes:
        first, last = (
            helper.make_tensor_value_info(name, TensorProto.UINT8, shape)
            for name, shape in (("x", self.shape), (made, None))
        )
        graph = helper.make_graph(self.nodes, "form", [first], [last], self.constants)
        return bytes(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9).SerializeToString()
        )


def table(way: str, shape: tuple[int, ...]) -> bytes:
    model = Model((1, *shape))
    answers = model.constant(np.arange(256, dtype=np.uint8)[::-1].copy())
    if way == "Gather":
        return model.data(model.node("Gather", [answers, model.node("Cast", ["x"], to=TensorProto.INT32)]))
    if way == "through float":
        grid = [model.constant(np.array(0.03, np.float32)), model.constant(np.array(100, np.uint8))]
        real = model.node("Gelu", [model.node("DequantizeLinear", ["x", *grid])])
        return model.data(model.node("QuantizeLinear", [real, *grid]))
    flat = model.node("Cast", [model.node("Reshape", ["x", model.numbers(-1)])], to=TensorProto.INT32)
    found = model.node("GatherElements", [answers, flat])
    return model.data(model.node("Reshape", [found, model.numbers(1, *shape)]))


def squares(together: int, shape: tuple[int, int, int]) -> bytes:
    """Every pixel's channels multiplied with themselves, `together` pixels to a product."""
    height, width, channels = shape
    model = Model((1, *shape))
    rows = model.node("Reshape", ["x", model.numbers(-1, together, channels)])
    columns = model.node("Transpose", [rows], perm=[0, 2, 1])
    grid = [model.constant(np.array(0.03, np.float32)), model.constant(np.array(100, np.uint8))]
    made = model.node("MatMul", [model.node("DequantizeLinear", [tensor, *grid]) for tensor in (rows, columns)])
    made = model.node("QuantizeLinear", [made, model.constant(np.array(9.0, np.float32)), grid[1]])
    if together > 1:
        flat = model.node("Reshape", [made, model.numbers(-1, together * together)])
        ends = (0, together * together, 1, together + 1)
        made = model.node("Slice", [flat, *(model.numbers(n) for n in ends)])
    return model.data(model.node("Reshape", [made, model.numbers(1, height, width, 1)]))


def timed(chosen: bytes, other: bytes, shape: tuple[int, ...]) -> tuple[float, float, float]:
    """Milliseconds of both, and the median quotient of pairs."""
    sample = {"x": np.random.default_rng(0).integers(0, 256, (1, *shape), np.uint8)}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    sessions = [onnxruntime.InferenceSession(data, options, ["CPUExecutionProvider"]) for data in (chosen, other)]
    pairs = []
    for _ in range(PAIRS):
        pair = []
        for session in sessions:
            began = time.perf_counter()
            session.run(None, sample)
            pair.append(1e3 * (time.perf_counter() - began))
        pairs.append(pair)
    ours, theirs = np.median(pairs, axis=0)
    return float(ours), float(theirs), float(np.median([b / a for a, b in pairs]))


def main() -> None:
    lines = [
        "# Forms of a table and of a mean of squares in onnxruntime",
        "",
        "Printed by `benchmarks/onnx_forms.py`. One thread, in turns; milliseconds, medians of "
        f"{PAIRS}; ratio: the other form",
        f"÷ the one in use, median of pairs. In use: GatherElements; up to {MOST} pixels to a product.",
        "",
        f"Machine: {machine_line()}; onnxruntime {onnxruntime.__version__}; commit {commit()}.",
        "",
        "| what | shape | in use, ms | other form | ms | ratio |",
        "|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    for height, width, channels in SHAPES:
        hidden = (height, width, 4 * channels)
        for way in TABLES:
            found = timed(table("GatherElements", hidden), table(way, hidden), hidden)
            lines.append(row("table of 256", hidden, found, way))
        shape = (height, width, channels)
        together = together_of(height * width)
        found = timed(squares(together, shape), squares(1, shape), shape)
        lines.append(row(f"squares, {together} pixels to a product", shape, found, "one pixel to a product"))
    write_atomic(RESULTS, "\n".join(lines).encode() + b"\n")


def row(what: str, shape: tuple[int, ...], found: tuple[float, float, float], other: str) -> str:
    ours, theirs, ratio = found
    line = f"| {what} | {' x '.join(map(str, shape))} | {ours:.3f} | {other} | {theirs:.3f} | {ratio:.2f} |"
    print(line, flush=True)
    return line


if __name__ == "__main__":
    main()
