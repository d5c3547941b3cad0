"""A graph in torch: visiting and replacing values, letting them go, other batches and layouts, gradients."""

from __future__ import annotations

import math
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from graph_networks import Network, captured
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgeq.errors import ConfigError
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import (
    ELU,
    GELU,
    OPS,
    RELU,
    RELU6,
    Add,
    Affine,
    AvgPool2d,
    BatchNorm,
    Clamp,
    Concat,
    Constant,
    Conv2d,
    ConvTranspose2d,
    Exp,
    GlobalAvgPool,
    HardSigmoid,
    HardSwish,
    LeakyReLU,
    Linear,
    Log,
    MatMul,
    Maximum,
    MaxPool2d,
    MeanSquare,
    Mish,
    Mul,
    Op,
    Pad,
    Permute,
    Power,
    Requantize,
    Reshape,
    Resize2d,
    Rsqrt,
    Shape,
    Sigmoid,
    Sin,
    Slice,
    Softmax,
    Softplus,
    Tanh,
)
from edgeq.graph.run import GraphModule


def single(op: Op, *shapes: Shape, activations: int = 1, seed: int = 0) -> Graph:
    """A graph of one op: the first input is the graph's, further activations are made from it, the rest constants."""
    draw = np.random.default_rng(seed)
    inputs = ["x"] * activations
    constants = {}
    for index, shape in enumerate(shapes[1:]):
        constants[f"c{index}"] = draw.uniform(0.2, 1.5, shape).astype(np.float32)
        inputs.append(f"c{index}")
    return Graph("one", ("x",), ("y",), (Node("y", op, tuple(inputs)),), constants, {"x": shapes[0]})


def token() -> Graph:
    """A constant joined with what depends on the image."""
    nodes = (Node("c", Constant(), ("token",)), Node("y", Concat(1), ("c", "x")))
    return Graph("token", ("x",), ("y",), nodes, {"token": np.ones((1, 1, 5), np.float32)}, {"x": (1, 3, 5)})


def run(graph: Graph, x: Tensor) -> Tensor:
    made = GraphModule(graph)(x)
    assert isinstance(made, Tensor)
    assert tuple(made.shape) == (len(x), *graph.shapes[graph.outputs[0]][1:])
    return made


def block() -> Graph:
    """x -> conv (relu) -> add with x -> pool, and a second output from the conv."""
    weight = np.ones((2, 2, 1, 1), np.float32)
    return Graph(
        "block",
        ("x",),
        ("sum", "pool"),
        (
            Node("conv", Conv2d(activation=RELU), ("x", "a.weight")),
            Node("sum", Add(), ("conv", "x")),
            Node("pool", MaxPool2d(), ("sum",)),
        ),
        {"a.weight": weight},
        {"x": (1, 2, 4, 4)},
    )


def test_every_op_kind_runs() -> None:
    cases: dict[type[Op], Graph] = {
        Clamp: single(RELU6, (1, 3, 2, 2)),
        Conv2d: single(Conv2d(), (1, 3, 2, 2), (4, 3, 1, 1), (4,)),
        ConvTranspose2d: single(ConvTranspose2d((2, 2)), (1, 3, 2, 2), (4, 3, 2, 2), (4,)),
        Linear: single(Linear(), (1, 3), (2, 3)),
        BatchNorm: single(BatchNorm(), (1, 3, 2, 2), (3,), (3,), (3,), (3,)),
        LeakyReLU: single(LeakyReLU(), (1, 3)),
        Mul: single(Mul(), (1, 3), activations=2),
        Maximum: single(Maximum(), (1, 3), activations=2),
        Affine: single(Affine(), (1, 3, 2, 2), (3,), (3,)),
        **{kind: single(kind(), (1, 3)) for kind in (Sigmoid, Tanh, HardSigmoid, HardSwish, GELU, ELU, Mish, Softplus)},
        Requantize: single(Requantize(8), (1, 3)),
        MeanSquare: single(MeanSquare(), (1, 3, 2, 2)),
        Rsqrt: single(Rsqrt(), (1, 3)),
        Softmax: single(Softmax(), (1, 3)),
        Add: single(Add(), (1, 3), activations=2),
        Concat: single(Concat(1), (1, 3, 2, 2), activations=2),
        MaxPool2d: single(MaxPool2d(), (1, 3, 4, 4)),
        AvgPool2d: single(AvgPool2d(), (1, 3, 4, 4)),
        GlobalAvgPool: single(GlobalAvgPool(), (1, 3, 4, 4)),
        Pad: single(Pad((0, 1, 0, 0), (0, 0, 2, 1)), (1, 3, 4, 4)),
        Slice: single(Slice((0, 1, 0, 1), (1, 3, 4, 4), (1, 1, 2, 3)), (1, 3, 4, 4)),
        Permute: single(Permute((0, 2, 3, 1)), (1, 3, 4, 4)),
        Resize2d: single(Resize2d((7, 8)), (1, 3, 4, 4)),
        Reshape: single(Reshape((4, 12)), (1, 3, 4, 4)),
        Constant: token(),
        MatMul: single(MatMul(transposed=True), (1, 3, 4), activations=2),
        **{kind: single(kind(), (1, 3)) for kind in (Exp, Log, Sin)},
        Power: single(Power(exponent=2.0), (1, 3)),
    }
    assert set(cases) == set(OPS.values())
    for graph in cases.values():
        assert torch.isfinite(run(graph, torch.randn(2, *graph.input_shapes["x"][1:]))).all()


def test_asymmetric_convolution_padding() -> None:
    graph = single(Conv2d((2, 1), (0, 1, 2, 0), (1, 2), 2, RELU), (1, 4, 6, 5), (6, 2, 3, 2), (6,))
    x = torch.randn(2, 4, 6, 5)
    weight, bias = (torch.from_numpy(graph.constants[name]) for name in ("c0", "c1"))
    expected = F.relu(F.conv2d(F.pad(x, (2, 0, 0, 1)), weight, bias, (2, 1), 0, (1, 2), 2))
    assert torch.equal(run(graph, x), expected)


def test_padding_never_wins_a_max_pool() -> None:
    x = -torch.rand(2, 1, 3, 3) - 1
    made = run(single(MaxPool2d((3, 3), (1, 1), (1, 2, 0, 2)), (1, 1, 3, 3)), x)
    assert float(made.detach().max()) < -1
    assert torch.isfinite(made).all()


@settings(max_examples=40, deadline=None)
@given(sides=st.tuples(*[st.integers(0, 2)] * 4), stride=st.integers(1, 3), counted=st.booleans())
def test_average_counts_what_it_should(sides: tuple[int, int, int, int], stride: int, counted: bool) -> None:
    """Against the definition, window by window."""
    op = AvgPool2d((3, 3), (stride, stride), sides, counted)
    x = torch.randn(1, 1, 5, 4, generator=torch.Generator().manual_seed(0))
    top, bottom, left, right = sides
    padded = F.pad(x, (left, right, top, bottom), value=math.nan)[0, 0]
    made = run(single(op, (1, 1, 5, 4)), x)[0, 0]
    for i in range(made.shape[0]):
        for j in range(made.shape[1]):
            window = padded[i * stride : i * stride + 3, j * stride : j * stride + 3]
            expected = window.nansum() / 9 if counted else window.nanmean()
            assert float(made[i, j]) == pytest.approx(float(expected), abs=1e-6)


def test_clamps_of_every_form() -> None:
    x = torch.linspace(-8, 8, 33).view(1, 33)
    for op in (RELU, RELU6, Clamp(-1, 1), Clamp(minimum=0.5), Clamp(maximum=-0.5), Clamp()):
        assert torch.equal(run(single(op, (1, 33)), x), x.clamp(op.minimum, op.maximum))


def test_visit_sees_input_and_nodes_in_order() -> None:
    seen: list[tuple[str, tuple[int, ...]]] = []
    values = GraphModule(block()).run(torch.ones(3, 2, 4, 4), lambda name, v: seen.append((name, tuple(v.shape))))
    assert seen == [("x", (3, 2, 4, 4)), ("conv", (3, 2, 4, 4)), ("sum", (3, 2, 4, 4)), ("pool", (3, 2, 2, 2))]
    assert set(values) == {"sum", "pool"}


def test_visit_replaces_values() -> None:
    module, x = GraphModule(block()), torch.ones(1, 2, 4, 4)
    values = module.run(x, lambda name, v: v * 10 if name in ("x", "conv") else None)
    assert float(values["sum"].max()) == 10 * (10 + 10) + 10  # conv of the tenfold input, tenfold, plus that input
    assert float(module.run(x, lambda name, v: v + 1 if name == "pool" else None)["pool"].max()) == 4


def test_constants_can_be_replaced_for_one_run() -> None:
    module, x = GraphModule(block()), torch.ones(1, 2, 4, 4)
    before = module.run(x)["sum"]
    halved = module.run(x, constants={"a.weight": module.constant("a.weight") / 2})["sum"]
    assert (float(before.max()), float(halved.max())) == (3, 2)
    assert torch.equal(module.run(x)["sum"], before)


def test_values_are_let_go_after_their_last_reader() -> None:
    alive: dict[str, weakref.ref[Tensor]] = {}
    left: dict[str, set[str]] = {}

    def watch(name: str, value: Tensor) -> None:
        left[name] = {n for n, ref in alive.items() if ref() is not None}
        alive[name] = weakref.ref(value)

    graph = captured("resnet8_same").graph
    with torch.no_grad():
        GraphModule(graph).run(torch.randn(1, *graph.input_shapes[graph.inputs[0]][1:]), watch)
    readers = graph.consumers()
    order = {node.name: index for index, node in enumerate(graph.nodes)}
    for name, held in left.items():
        for value in held - set(graph.inputs):  # the caller holds the input itself
            assert any(order[reader.name] >= order[name] - 1 for reader in readers[value]), (value, name)
    assert max(len(held) for held in left.values()) <= 4


def test_kept_values_come_back() -> None:
    values = GraphModule(block()).run(torch.ones(1, 2, 4, 4), keep=["conv", "x"])
    assert set(values) == {"x", "conv", "sum", "pool"}


def test_forward_gives_a_tuple_for_several_outputs() -> None:
    made = GraphModule(block())(torch.ones(2, 2, 4, 4))
    assert isinstance(made, tuple)
    assert [tuple(t.shape) for t in made] == [(2, 2, 4, 4), (2, 2, 2, 2)]


def test_layout_does_not_matter(network: Network) -> None:
    module = GraphModule(network.graph)
    x = torch.randn(2, *network.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain, last = module(x), module(x.to(memory_format=torch.channels_last))
    assert torch.allclose(plain, last, rtol=1e-4, atol=1e-5)


def test_gradients_reach_the_input() -> None:
    net = captured("mobilenet_v1_leaky")
    x = torch.randn(2, *net.shape, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    GraphModule(net.graph)(x).square().sum().backward()
    net.module(y).square().sum().backward()
    assert x.grad is not None
    assert y.grad is not None
    assert torch.allclose(x.grad, y.grad, rtol=1e-3, atol=1e-6)


def test_constants_are_buffers_or_parameters() -> None:
    graph = block()
    assert [name for name, _ in GraphModule(graph).named_buffers()] == ["a/weight"]
    trained = GraphModule(graph, trainable=True)
    trained.run(torch.ones(1, 2, 4, 4))["pool"].sum().backward()
    assert [name for name, p in trained.named_parameters() if p.grad is not None] == ["a/weight"]
    with torch.no_grad():
        trained.constant("a.weight").zero_()
    assert float(graph.constants["a.weight"].min()) == 1  # the graph's own arrays are never written


def test_wrong_input_shape_is_one_clear_line() -> None:
    with pytest.raises(ConfigError, match=r"\(N, 2, 4, 4\)"):
        GraphModule(block())(torch.ones(1, 3, 4, 4))
