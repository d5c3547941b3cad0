"""Is a drawn network torch's in every form? Each comparison has a bound that follows from rounding alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch

from edgeq.data.calibration import CalibrationSet
from edgeq.formats.onnx.file import read_model
from edgeq.formats.onnx.session import OrtPieces, OrtSession
from edgeq.formats.onnx.verify import FED, cut_at_integers, integer_tensors, verify_onnx
from edgeq.formats.onnx.writer import write_onnx, write_onnx_float
from edgeq.formats.session import Session
from edgeq.formats.tflite.session import LiteRTSession
from edgeq.formats.tflite.verify import verify_tflite
from edgeq.formats.tflite.writer import write_tflite, write_tflite_float
from edgeq.graph import ops
from edgeq.graph.capture.walk import capture
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import Conv2d, Linear, Op, elementwise, norms
from edgeq.graph.passes import optimize
from edgeq.graph.run import GraphModule, function
from edgeq.integer.graph import IntegerGraph
from edgeq.integer.reference import run
from edgeq.quant.mixed_precision import apply_mixed_precision
from edgeq.quant.quantize import quantize
from edgeq.quant.scheme import Scheme
from tests.host import WIDEST
from tests.ops.sweep import Case, case, form_of

__all__ = ["check", "judge"]

RELATIVE = 2e-5
"""Float rounding of a few ops in a row, as a part of the largest value inside."""
SHAKY = 20
"""How many times what float32 loses in torch itself (against float64) another order of sums may lose."""

STEPS: Mapping[type[Op], float] = {
    ops.Softmax: 2.01,
    elementwise.HardSigmoid: 2.01,
}
"""How far the integer reference may be from an op's exact value, in output steps; 1.01 for those not named: half a step
for rounding once more than the real number would be."""


def judge(kind: str, seed: int) -> set[str]:
    """Draw the case of an op kind and a seed, and `check` it; a difference is told with the case."""
    drawn, form = case(kind, seed), form_of(kind, seed)
    try:
        return check(drawn, form)
    except AssertionError as error:
        raise AssertionError(f"{kind} {seed} as {form}, {drawn}: {error}") from None


@torch.no_grad()
def check(drawn: Case, form: str = "w8a8") -> set[str]:
    """Compare all files of `drawn` with torch. `form`: "w8a8", "w8a16" or "mixed". Gives the op kinds seen.

    Raises `AssertionError` saying where the first difference is, `UnsupportedError` for what edgeq refuses.
    """
    x = torch.from_numpy(drawn.inputs)
    expected = drawn.network(x).numpy()
    shaky = float(np.abs(drawn.network.double()(x.double()).numpy() - expected).max())
    drawn.network.float()
    captured = capture(drawn.network, drawn.shape, "net")
    graph = optimize(captured)
    for name, one in (("captured", captured), ("optimized", graph)):
        _near(GraphModule(one)(x).numpy(), expected, _largest(captured, x), shaky, f"{name} graph")  # type: ignore[union-attr]
    kinds = {type(node.op).__name__ for one in (captured, graph) for node in one.nodes}
    if not graph.nodes:
        return kinds
    largest = _largest(graph, x)
    _near(OrtSession(write_onnx_float(graph)).run(drawn.inputs)[0], expected, largest, shaky, "float.onnx")
    lite = LiteRTSession(write_tflite_float(graph), channels=drawn.shape[0])
    _near(lite.run(drawn.inputs)[0], expected, largest, shaky, "float.tflite")
    integer = _frozen(graph, drawn, form)
    kinds |= {type(node.op).__name__ for node in integer.nodes}
    _integers(integer, drawn.inputs)
    data = write_tflite(integer)
    found = verify_tflite(integer, data, drawn.inputs)
    assert found.exact, f"model.tflite: {found.first_difference}"
    _default_kernels(integer, LiteRTSession(data, channels=drawn.shape[0]), drawn.inputs)
    if form == "w8a8":
        for activations in ("uint8", "int8"):
            _onnx(integer, drawn.inputs, activations)  # type: ignore[arg-type]
    return kinds


def _near(found: np.ndarray, expected: np.ndarray, largest: float, shaky: float, what: str) -> None:
    assert found.shape == expected.shape, f"{what}: {found.shape} is not {expected.shape}"
    allowed = RELATIVE * largest + SHAKY * shaky
    off = np.abs(found - expected)
    assert np.isfinite(found).all(), f"{what}: not finite"
    assert off.max(initial=0) <= allowed, (
        f"{what}: {np.argwhere(off == off.max())[0].tolist()} off by {off.max():.3g}, allowed {allowed:.3g}"
    )


def _largest(graph: Graph, x: torch.Tensor) -> float:
    names = [node.name for node in graph.nodes]
    values = GraphModule(graph).run(x, keep=names)
    sizes = [float(value[value.isfinite()].abs().max()) for value in values.values() if value.isfinite().any()]
    return max([1e-6, float(x.abs().max()), *sizes])


def _frozen(graph: Graph, case: Case, form: str) -> IntegerGraph:
    images = CalibrationSet(case.inputs, np.full(len(case.inputs), -1, np.int64), "noise")
    scheme = Scheme.of("w8a16" if form == "w8a16" else "w8a8", widest=WIDEST)
    layers = [node.name for node in graph.of_kind(Conv2d, Linear)]
    if form == "mixed" and layers:
        scheme = Scheme.of("w8a8", layers=(f"{layers[len(layers) // 2]}=w8a16",), widest=WIDEST)
        graph = apply_mixed_precision(graph, scheme)
    return quantize(graph, images, case.limits, scheme)


def _integers(graph: IntegerGraph, inputs: np.ndarray) -> None:
    """Every op of the reference against the real op on the reals that its integers stand for."""
    (entry,) = graph.inputs
    integers = {entry: graph.quantizations[entry].quantize(inputs)}
    integers |= run(graph, integers[entry])
    for node in graph.nodes:
        q = graph.quantizations[node.name]
        reals = [_real(graph, name, integers) for name in node.inputs]
        exact = function(node.op)(*reals).numpy() / float(q.scale) + int(q.zero_point)
        off = np.abs(np.clip(exact, *q.limits) - integers[node.name])
        over = off - _allowed(graph, node, reals)
        place = np.unravel_index(int(over.argmax()), over.shape)
        assert over.max() <= 0, (
            f"reference: {node.name} ({node.op}) {[int(i) for i in place]} is {int(integers[node.name][place])}, "
            f"exactly {exact[place]:.3f}, {over[place]:.2f} more than allowed"
        )


def _allowed(graph: IntegerGraph, node: Node, reals: list[torch.Tensor]) -> Any:
    """Steps of the output that rounding may lose, for all values or for each."""
    op, q = node.op, graph.quantizations[node.name]
    steps = STEPS.get(type(op), 1.01)
    if q.dtype == "int16" and isinstance(op, (elementwise.GELU, norms.Rsqrt)):
        # A table with a point for every 128 integers and lines between.
        reach = 128 * float(graph.quantizations[node.inputs[0]].scale)
        ends = [(function(op)(reals[0] + side * reach).numpy() / float(q.scale)).clip(*q.limits) for side in (-1, 1)]
        return 4.01 + np.abs(ends[1] - ends[0])
    if q.dtype == "int16" and isinstance(op, ops.Softmax):
        return 16.0
    if isinstance(op, ops.Resize2d) and op.mode == "bilinear":
        # Positions are fractions of 1024, and multiples of a rounded one.
        sizes = (*graph.shapes[node.inputs[0]][2:], *op.size)
        steps += (graph.quantizations[node.name].limits[1] * 2) * 2 * max(sizes) / 1024
    if graph.quantizations[node.name].dtype == "int16":
        steps += 3
    return steps


def _real(graph: IntegerGraph, name: str, integers: Mapping[str, Any]) -> torch.Tensor:
    q = graph.quantizations[name]
    array = np.asarray(integers[name] if name in integers else graph.constants[name], np.float64)
    shape = [1] * array.ndim
    if q.axis is not None:
        shape[q.axis] = -1
    scale, zero = q.scale.astype(np.float64), q.zero_point.astype(np.float64)
    if q.axis is not None:
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    return torch.from_numpy(np.asarray((array - zero) * scale))


def _onnx(graph: IntegerGraph, inputs: np.ndarray, activations: Literal["uint8", "int8"]) -> None:
    data = write_onnx(graph, activations=activations)
    found = verify_onnx(graph, data, inputs, activations)
    assert found.beyond == 0, f"model.onnx {activations}: {found.first_difference} (largest step {found.max_step})"
    _whole(graph, inputs, activations)
    if activations == "int8":
        _default_kernels(graph, OrtSession(data, allow_int8=False), inputs)


def _default_kernels(graph: IntegerGraph, session: Session, inputs: np.ndarray) -> None:
    """The kernels that a session takes by itself, XNNPACK's or float ones between conversions, are within a step: of
    one op, for a step may become several in the ops behind it."""
    (entry,) = graph.inputs
    if len(graph.nodes) > 1 or _drifts(graph):
        return
    (node,) = graph.nodes
    wanted = run(graph, graph.quantizations[entry].quantize(inputs))[node.name].astype(int)
    off = np.abs(session.run_integers(inputs)[0].astype(int) - wanted).max(initial=0)
    assert off <= 1, f"{session.runtime} by itself: {node.name} ({node.op}) {off} steps from the reference"


def _drifts(graph: IntegerGraph) -> bool:
    return any(isinstance(node.op, ops.Resize2d) and node.op.mode == "bilinear" for node in graph.nodes)


def _whole(graph: IntegerGraph, inputs: np.ndarray, activations: Literal["uint8", "int8"]) -> None:
    """The uncut file against its ops one by one, which nothing can fuse across: what the optimizer may not change.

    Bilinear resizing is left out: onnxruntime has another kernel for it where it keeps channels last, a step away.
    """
    if _drifts(graph):
        return
    data = write_onnx(graph, activations=activations, io=activations)
    (entry,) = graph.inputs
    tensors = integer_tensors(graph, read_model(data)[0])
    shapes = {tensors[name]: graph.shapes[name] for name in tensors}
    pieces = OrtPieces(cut_at_integers(data, shapes, tensors[entry], activations))
    first = graph.quantizations[entry].quantize(inputs).astype(np.int16) + (128 if activations == "uint8" else 0)
    values = {
        tensors[name]: np.zeros((len(inputs), *shape[1:]), activations)
        for name, shape in graph.shapes.items()
        if name in tensors
    }
    values[tensors[entry]] = first.astype(activations)
    for _ in graph.nodes:  # each round makes at least one more node's inputs right
        values |= pieces.run({name + FED: array for name, array in values.items()})
    made = OrtSession(data).run_raw(values[tensors[entry]])
    for name, found in zip(graph.outputs, made, strict=True):
        off = np.abs(found.astype(int) - values[tensors[name]])
        assert off.max() == 0, f"model.onnx {activations}, whole: {name} {off.max()} steps from its ops one by one"
