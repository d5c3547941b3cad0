"""Print docs/reference/ops.md: what every stage does with every op, found by trying it.

    python tools/ops_table.py > docs/reference/ops.md

Each op is a network of one node, taken as it is (`optimize` has not been run), so that a refusal shows what the stage
itself says.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from edgeq.data.calibration import CalibrationSet
from edgeq.errors import UnsupportedError
from edgeq.formats.onnx.reference import run_ort_rounding
from edgeq.formats.onnx.writer import write_onnx, write_onnx_float
from edgeq.formats.tflite.writer import write_tflite, write_tflite_float
from edgeq.graph import ops
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import OPS, Op, Shape
from edgeq.graph.run import GraphModule
from edgeq.integer.graph import IntegerGraph
from edgeq.integer.reference import run
from edgeq.quant.calibrate import calibrate
from edgeq.quant.freeze import freeze
from edgeq.quant.scheme import Scheme

MAP = (1, 4, 6, 6)
RANGE = (-2.0, 2.0)


@dataclass(frozen=True)
class Example:
    """An op that reads the input `times` times and constants of these shapes.

    `rows`: the input is flattened first, to matrices where there are pixels. `beside`: the op reads no input, and what
    it makes is added to one.
    """

    op: Op
    constants: tuple[Shape, ...] = ()
    times: int = 1
    rows: bool = False
    beside: bool = False

    @property
    def graph(self) -> Graph:
        draw = np.random.default_rng(0)
        constants = {f"c{i}": draw.uniform(0.1, 0.5, s).astype(np.float32) for i, s in enumerate(self.constants)}
        if self.beside:
            nodes = (Node("op", self.op, tuple(constants)), Node("sum", ops.Add(), ("x", "op")))
            return Graph("net", ("x",), ("sum",), nodes, constants, {"x": MAP})
        flat = (4, 36) if self.times > 1 else (4,)
        before = (Node("rows", ops.Reshape(flat), ("x",)),) if self.rows else ()
        source = "rows" if self.rows else "x"
        node = Node("op", self.op, (source,) * self.times + tuple(constants))
        shape = (1, 4, 1, 1) if self.rows and self.times == 1 else MAP
        return Graph("net", ("x",), ("op",), (*before, node), constants, {"x": shape})

    @property
    def images(self) -> np.ndarray:
        return np.random.default_rng(1).uniform(*RANGE, (4, *self.graph.input_shapes["x"][1:])).astype(np.float32)

    @functools.cached_property
    def calibration(self) -> CalibrationSet:
        return CalibrationSet(self.images, np.full(4, -1, np.int64), "noise")

    def integer(self, bits: int) -> IntegerGraph:
        return _frozen(self, bits)

    def integers(self, bits: int) -> np.ndarray:
        return self.integer(bits).quantizations["x"].quantize(self.images[:1])


@functools.cache
def _frozen(example: Example, bits: int) -> IntegerGraph:
    graph = example.graph
    return freeze(graph, calibrate(graph, example.calibration, RANGE, scheme=Scheme(7, bits))).graph


EXAMPLES: Mapping[type[Op], Example] = {
    type(example.op): example
    for example in (
        Example(ops.Conv2d(padding=(1, 1, 1, 1)), ((4, 4, 3, 3), (4,))),
        Example(ops.ConvTranspose2d((2, 2)), ((4, 4, 2, 2), (4,))),
        Example(ops.Linear(), ((3, 4), (3,)), rows=True),
        Example(ops.MaxPool2d()),
        Example(ops.AvgPool2d()),
        Example(ops.GlobalAvgPool()),
        Example(ops.Add(), times=2),
        Example(ops.Mul(), times=2),
        Example(ops.Maximum(), times=2),
        Example(ops.Affine(), ((4,), (4,))),
        Example(ops.RELU),
        Example(ops.LeakyReLU()),
        Example(ops.Sigmoid()),
        Example(ops.Tanh()),
        Example(ops.HardSigmoid()),
        Example(ops.HardSwish()),
        Example(ops.GELU()),
        Example(ops.ELU()),
        Example(ops.Softplus()),
        Example(ops.Mish()),
        Example(ops.Exp()),
        Example(ops.Log()),
        Example(ops.Sin()),
        Example(ops.Power(3.0)),
        Example(ops.Requantize(8)),
        Example(ops.Concat(), times=2),
        Example(ops.Pad((0, 0, 1, 1), (0, 0, 1, 1))),
        Example(ops.Slice((0, 0, 1, 1), (1, 4, 5, 5), (1, 1, 1, 1))),
        Example(ops.Permute((0, 1, 3, 2))),
        Example(ops.Reshape((4, 36))),
        Example(ops.Resize2d((12, 12))),
        Example(ops.BatchNorm(), ((4,),) * 4),
        Example(ops.Softmax()),
        Example(ops.MeanSquare()),
        Example(ops.Rsqrt()),
        Example(ops.MatMul(transposed=True), times=2, rows=True),
        Example(ops.Constant(), (MAP,), times=0, beside=True),
    )
}

CELLS: Mapping[str, Callable[[Example], object]] = {
    "torch": lambda e: GraphModule(e.graph)(torch.from_numpy(e.images)),
    "TFLite float32": lambda e: write_tflite_float(e.graph),
    "TFLite int8": lambda e: write_tflite(e.integer(8)),
    "TFLite int16": lambda e: write_tflite(e.integer(16)),
    "ONNX float32": lambda e: write_onnx_float(e.graph),
    "ONNX int8": lambda e: write_onnx(e.integer(8), activations="uint8"),
    "ONNX int16": lambda e: write_onnx(e.integer(16), activations="uint8"),
    "exact int8": lambda e: run(e.integer(8), e.integers(8)),
    "exact int16": lambda e: run(e.integer(16), e.integers(16)),
    "ONNX Runtime int8": lambda e: run_ort_rounding(e.integer(8), e.integers(8), "uint8"),
}
"""What is tried: the float kernels, both writers at every width of activations, and both kinds of integer kernels."""


@functools.cache
def attempt(kind: type[Op], cell: str) -> UnsupportedError | None:
    """What the cell of the table says about the op: None where it works."""
    try:
        CELLS[cell](EXAMPLES[kind])
    except UnsupportedError as error:
        return error
    return None


def scale_of(op: Op) -> str:
    """Where an op's output has its int8 scale from."""
    if op.shares_quantization:
        return "that of its input"
    fixed = op.fixed_grid()
    return "calibrated" if fixed is None else f"1/{round(1 / fixed[0])}, zero point {fixed[1]}"


def document() -> str:
    """The page, as Markdown."""
    families: dict[str, list[type[Op]]] = {}
    for kind in OPS.values():
        families.setdefault(kind.__module__.rpartition(".")[2], []).append(kind)
    lines = [
        "# Ops, stage by stage",
        "",
        "This page is written by `python tools/ops_table.py`, which tries every cell. *yes*: the stage takes the op as",
        "it is. A number: it refuses, with the message of that number. Most refused ops never reach the stage, because",
        "`optimize` makes others of them. After the writers come the float kernels in torch, the exact reference,",
        "which is equal to LiteRT's reference kernels, and ONNX Runtime's integer arithmetic.",
    ]
    notes: dict[str, int] = {}
    order = [*list(CELLS)[1:7], "torch", *list(CELLS)[7:]]
    for family, kinds in sorted(families.items()):
        lines += ["", f"## {family}", "", f"| op | int8 scale of its output | {' | '.join(order)} |"]
        lines.append("|---" * (len(order) + 2) + "|")
        for kind in sorted(kinds, key=lambda kind: kind.__name__):
            row = []
            for cell in order:
                error = attempt(kind, cell)
                row.append("yes" if error is None else f"{notes.setdefault(str(error), len(notes) + 1)}")
            lines.append(f"| {kind.__name__} | {scale_of(EXAMPLES[kind].op)} | {' | '.join(row)} |")
    lines += ["", "## Messages", ""]
    lines += [f"{number}. {text}" for text, number in notes.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
