"""The student rounds where the integer kernels do, as they do."""

import numpy as np
import pytest
import torch

from edgeq.data.calibration import CalibrationSet
from edgeq.finetune.student import Student
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import RELU, Add, AvgPool2d, Clamp, Conv2d, GlobalAvgPool, LeakyReLU, Linear, Mul, Reshape
from edgeq.graph.passes import optimize
from edgeq.integer.reference import run as run_reference
from edgeq.quant.calibrate import calibrate
from edgeq.quant.freeze import freeze
from edgeq.quant.scheme import Scheme

RANGE = (-2.0, 2.0)

FLOAT32_ERROR = 2.0**-14
"""Output steps by which a float32 sum of 8-bit values may be off."""


@pytest.fixture(scope="module")
def images():
    inputs = np.clip(np.random.default_rng(1).normal(0, 1, (24, 3, 16, 16)), *RANGE).astype(np.float32)
    return CalibrationSet(inputs, np.full(24, -1, np.int64), "test")


@pytest.mark.parametrize("bits", ["w8a8", "w4a4"])
@pytest.mark.parametrize(
    "op",
    [LeakyReLU(0.1), Mul(), Clamp(-0.7, 0.9), AvgPool2d((2, 2), (2, 2)), AvgPool2d((3, 3), (2, 2), (1, 1, 1, 1), True)],
    ids=["leaky", "product", "clamp", "mean of 4", "mean of 9, border too"],
)
def test_ops_that_kernels_round_in_their_own_way_are_rounded_that_way(images, op, bits):
    rng = np.random.default_rng(1)
    constants = {
        name: rng.normal(0, 1.4 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)
        for name, shape in (("a.w", (8, 3, 3, 3)), ("b.w", (8, 3, 3, 3)), ("c.w", (4, 8, 3, 3)))
    }
    nodes = (
        Node("a", Conv2d(padding=(1, 1, 1, 1)), ("x", "a.w")),
        Node("b", Conv2d(padding=(1, 1, 1, 1)), ("x", "b.w")),
        Node("op", op, ("a", "b") if isinstance(op, Mul) else ("a",)),
        Node("c", Conv2d(), ("op", "c.w")),
    )
    if not isinstance(op, Mul):
        nodes = tuple(node for node in nodes if node.name != "b")
        del constants["b.w"]
    graph = optimize(Graph("net", ("x",), ("c",), nodes, constants, {"x": (1, 3, 16, 16)}))
    student = Student(graph, calibrate(graph, images, RANGE, scheme=Scheme.of(bits, all_layers=True)))
    integer = freeze(*student.frozen()).graph
    exact = run_reference(integer, integer.quantizations["x"].quantize(images.inputs))
    with torch.no_grad():
        found = student.run(torch.from_numpy(images.inputs), keep=["a", "op"])
    for name in ("a", "op", "c"):
        steps = integer.quantizations[name].quantize(found[name].numpy())
        np.testing.assert_array_equal(steps, exact[name], err_msg=name)


@pytest.mark.parametrize(
    ("op", "inputs", "parts"),
    [
        (Add(), ("a", "b"), (2, 6)),
        (Add(RELU), ("a", "b"), (2, 6)),
        (Add(), ("a", "mean"), (2, 6)),
        (Add(), ("a", "a"), (4, 4)),
        (Linear(), ("flat", "fc.w"), ()),
    ],
    ids=["sum", "sum and ReLU", "sum with one value a channel", "sum with itself", "linear"],
)
def test_values_near_ties_go_where_the_kernels_send_them(images, op, inputs, parts):
    rng = np.random.default_rng(1)
    shapes = {"a.w": (8, 3, 3, 3), "b.w": (8, 3, 3, 3), "fc.w": (8, 768)}
    constants = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = (
        Node("a", Conv2d(padding=(1, 1, 1, 1)), ("x", "a.w")),
        Node("b", Conv2d(padding=(1, 1, 1, 1)), ("x", "b.w")),
        Node("mean", GlobalAvgPool(), ("b",)),
        Node("flat", Reshape((768,)), ("x",)),
        Node("op", op, inputs),
    )
    graph = optimize(Graph("net", ("x",), ("op",), nodes, constants, {"x": (1, 3, 16, 16)}))
    student = Student(graph, calibrate(graph, images, RANGE, scheme=Scheme.of("w5a5", all_layers=True)))
    with torch.no_grad():  # many sums are half a step of the output, less what a kernel's first rounding does not keep
        for name, part in zip(inputs, parts, strict=False):
            student.steps[name].copy_((student._step("op") / part).log() - 5e-7)
        if isinstance(op, Linear):
            unit = student._step("flat") * student.weight_steps["op"].exp()
            student.weight_steps["op"].add_((0.5 * student._step("op") / unit).log())
    integer = freeze(*student.frozen()).graph
    exact = run_reference(integer, integer.quantizations["x"].quantize(images.inputs))
    assert near_ties(integer, exact, op, inputs) > 10
    rounded = student._on_grid

    def missed(nudge):
        """How many results go elsewhere than the kernels' when what is rounded is `nudge` output steps off."""
        student._on_grid = lambda name, value, summands: rounded(
            name, value + nudge * student._step("op") if name == "op" else value, summands
        )
        with torch.no_grad():
            found = student.run(torch.from_numpy(images.inputs))["op"].numpy()
        return int((integer.quantizations["op"].quantize(found) != exact["op"]).sum())

    # Processors sum in different orders and are off by different amounts: by less than this, upwards or downwards.
    assert [missed(nudge) for nudge in (-FLOAT32_ERROR, 0.0, FLOAT32_ERROR)] == [0, 0, 0]
    del student._own_way["op"]
    assert missed(-FLOAT32_ERROR) + missed(FLOAT32_ERROR) > 0  # no plain rounding sends both where a kernel does


def near_ties(integer, exact, op, inputs):
    """How many results of exact arithmetic lie between two whole steps, closer to the middle than float32 can tell."""
    scale = float(integer.quantizations["op"].scale)
    levels = [
        (exact[name].astype(np.int64) - int(integer.quantizations[name].zero_point)).astype(np.float64)
        for name in inputs
        if name in exact
    ]
    if isinstance(op, Linear):
        weight = integer.quantizations["fc.w"]
        unit = float(integer.quantizations["flat"].scale) * weight.scale.astype(np.float64).reshape(-1)
        ratio = (levels[0] @ integer.constants["fc.w"].T + integer.constants["op.bias"]) * unit / scale
    else:
        ratio = sum(
            level * float(integer.quantizations[name].scale) / scale for name, level in zip(inputs, levels, strict=True)
        )
    return int((np.abs(ratio - np.floor(ratio) - 0.5) < FLOAT32_ERROR).sum())
