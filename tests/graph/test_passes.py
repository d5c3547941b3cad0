"""Passes change how a network is written, never what it computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from graph_networks import Network, captured, same, settled
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeq.errors import UnsupportedError
from edgeq.graph.capture.walk import capture
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import (
    NEGATIVE,
    RELU,
    RELU6,
    UNIT,
    Add,
    AvgPool2d,
    BatchNorm,
    Clamp,
    Conv2d,
    HardSigmoid,
    HardSwish,
    LeakyReLU,
    Linear,
    MatMul,
    Maximum,
    MaxPool2d,
    Mul,
    Op,
    Pad,
    Reshape,
    Sigmoid,
    Slice,
    Softmax,
)
from edgeq.graph.passes import PASSES, fold_batchnorm, fold_pad, fuse_activation, optimize, simplify
from edgeq.graph.passes.lower_hard_swish import raise_hard_swish
from edgeq.graph.run import GraphModule
from edgeq.quant.scheme import Scheme
from edgeq.quant.specify import OwnSpec, specify


def kinds(graph: Graph) -> list[type[Op]]:
    return [type(node.op) for node in graph.nodes]


def chain(shape: tuple[int, ...], *ops: Op) -> Graph:
    nodes, last = [], "x"
    for index, op in enumerate(ops):
        nodes.append(Node(f"n{index}", op, (last,)))
        last = f"n{index}"
    return Graph("chain", ("x",), (last,), tuple(nodes), {}, {"x": (1, *shape)})


def equal(left: Graph, right: Graph, shape: tuple[int, ...], shift: float = 0.0) -> None:
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(2)) + shift
    with torch.no_grad():
        a, b = GraphModule(left)(x), GraphModule(right)(x)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


class Forward(nn.Module):
    def __init__(self, forward: object, **parts: nn.Module) -> None:
        super().__init__()
        self.function = forward
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)  # type: ignore[operator]


def test_networks_optimized(network: Network) -> None:
    graph = optimize(network.graph)
    same(network.module, graph, network.shape)
    assert not {BatchNorm, Clamp} & set(kinds(graph))
    for pad in graph.of_kind(Pad):
        assert not any((*pad.op.before[2:], *pad.op.after[2:])), pad.name  # type: ignore[attr-defined]
    assert graph.macs() == network.graph.macs()
    assert optimize(graph) is graph


def test_optimized_names_stay_module_paths() -> None:
    graph = optimize(captured("resnet18").graph)
    block = [node.name for node in graph.nodes if node.name.startswith("layer1.0.")]
    assert block == ["layer1.0.conv1", "layer1.0.conv2", "layer1.0.add"]
    assert graph.node("layer1.0.conv1").inputs[1:] == ("layer1.0.conv1.weight", "layer1.0.conv1.bias")  # type: ignore[union-attr]


def test_passes_change_nothing_they_are_given(network: Network) -> None:
    before = network.graph.digest()
    for rewrite in PASSES:
        rewrite(network.graph)
    assert network.graph.digest() == before


def test_a_pass_with_nothing_to_do_returns_its_graph() -> None:
    graph = chain((3, 4, 4), LeakyReLU(), MaxPool2d())
    assert all(rewrite(graph) is graph for rewrite in PASSES)


@settings(max_examples=25, deadline=None)
@given(
    outputs=st.integers(1, 4),
    bias=st.booleans(),
    linear=st.booleans(),
    eps=st.sampled_from([1e-5, 1e-3]),
    seed=st.integers(0, 2**16),
)
def test_fold_is_exact_in_double_precision(outputs: int, bias: bool, linear: bool, eps: float, seed: int) -> None:
    draw = np.random.default_rng(seed)
    weight = draw.normal(size=(outputs, 3) if linear else (outputs, 3, 1, 1)).astype(np.float32)
    constants = {"w": weight} | ({"b": draw.normal(size=outputs).astype(np.float32)} if bias else {})
    norm = {name: draw.normal(size=outputs).astype(np.float32) for name in ("gamma", "beta", "mean")}
    norm["variance"] = draw.uniform(1e-4, 10, outputs).astype(np.float32)
    nodes = (
        Node("layer", Linear() if linear else Conv2d(), ("x", *constants)),
        Node("norm", BatchNorm(eps), ("layer", *norm)),
    )
    shape = (1, 3) if linear else (1, 3, 2, 2)
    graph = fold_batchnorm(Graph("fold", ("x",), ("norm",), nodes, {**constants, **norm}, {"x": shape}))
    assert kinds(graph) == [Linear if linear else Conv2d]
    _, new_weight, new_bias = (graph.constants.get(name) for name in graph.nodes[0].inputs)
    gamma, beta, mean, variance = (norm[n].astype(np.float64) for n in ("gamma", "beta", "mean", "variance"))
    scale = gamma / np.sqrt(variance + eps)
    column = scale.reshape(-1, *[1] * (weight.ndim - 1))
    old_bias = constants["b"].astype(np.float64) if bias else 0
    np.testing.assert_allclose(new_weight, (weight * column).astype(np.float32), rtol=2e-7)
    np.testing.assert_allclose(new_bias, ((old_bias - mean) * scale + beta).astype(np.float32), rtol=2e-6, atol=1e-7)


def test_norm_that_nothing_can_take_becomes_depthwise() -> None:
    torch.manual_seed(0)
    module = settled(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3)))
    graph = optimize(capture(module, (3, 6, 6), "preact"))
    first = graph.nodes[0]
    assert first.name == "0"
    assert first.op == Conv2d(groups=3, activation=RELU)
    assert kinds(graph) == [Conv2d, Conv2d]
    same(module, graph, (3, 6, 6))


def test_norm_of_a_value_others_read_is_not_folded_into_it() -> None:
    torch.manual_seed(0)
    module = settled(Forward(lambda s, x: s.norm(y := s.conv(x)) + y, conv=nn.Conv2d(3, 4, 1), norm=nn.BatchNorm2d(4)))
    graph = optimize(capture(module, (3, 5, 5), "shared"))
    assert kinds(graph) == [Conv2d, Conv2d, Add]
    same(module, graph, (3, 5, 5))


def test_norm_of_features() -> None:
    torch.manual_seed(0)
    folded = settled(nn.Sequential(nn.Linear(6, 4, bias=False), nn.BatchNorm1d(4), nn.ReLU()))
    graph = optimize(capture(folded, (6,), "linear"))
    assert [node.op for node in graph.nodes] == [Linear(activation=RELU)]
    same(folded, graph, (6,))
    alone = settled(nn.BatchNorm1d(6))
    graph = optimize(capture(alone, (6,), "alone"))
    assert kinds(graph) == [Reshape, Conv2d, Reshape]
    same(alone, graph, (6,))


def test_a_layer_called_twice_becomes_two() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 3, 3, padding=1)
    module = nn.Sequential(conv, nn.ReLU(), conv).eval()
    graph = optimize(capture(module, (3, 6, 6), "twice"))
    first, second = graph.nodes
    assert not set(first.inputs[1:]) & set(second.inputs[1:])
    assert all(
        np.array_equal(graph.constants[a], graph.constants[b])
        for a, b in zip(first.inputs[1:], second.inputs[1:], strict=True)
    )
    same(module, graph, (3, 6, 6))


def test_one_convolution_under_two_norms_keeps_both_foldings_apart() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 3, 3, padding=1)
    module = settled(nn.Sequential(conv, nn.BatchNorm2d(3), nn.ReLU(), conv, nn.BatchNorm2d(3)), seed=4)
    graph = optimize(capture(module, (3, 6, 6), "tied"))
    assert kinds(graph) == [Conv2d, Conv2d]
    assert len(graph.constants) == 4
    same(module, graph, (3, 6, 6))


def test_broken_statistics_name_their_norm() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval()
    module[1].running_var.fill_(-1)
    with pytest.raises(UnsupportedError, match="not finite at 1"):
        fold_batchnorm(capture(module, (3, 4, 4), "broken"))


def test_only_relu_and_relu6_are_fused_and_only_where_nothing_else_reads() -> None:
    torch.manual_seed(0)
    for activation, expected in ((nn.ReLU(), RELU), (nn.ReLU6(), RELU6)):
        graph = fuse_activation(capture(nn.Sequential(nn.Conv2d(3, 4, 1), activation), (3, 4, 4), "fused"))
        assert [node.op for node in graph.nodes] == [Conv2d(activation=expected)]
        assert graph.outputs == ("0",)
    kept = capture(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Hardtanh()), (3, 4, 4), "hardtanh")
    assert optimize(kept) is kept
    both = Forward(lambda s, x: F.relu(y := s.conv(x)) + y, conv=nn.Conv2d(3, 4, 1))
    graph = capture(both, (3, 4, 4), "both")
    assert kinds(optimize(graph)) == [Conv2d, Clamp, Add]


def test_activation_of_a_graph_output_stays_apart() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = self.conv(x)
            return y, F.relu(y)

    graph = optimize(capture(Both(), (3, 4, 4), "both"))
    assert kinds(graph) == [Conv2d, Clamp]
    assert graph.outputs == ("conv", "relu")


def test_pad_goes_into_every_convolution_that_reads_it() -> None:
    torch.manual_seed(0)
    module = Forward(
        lambda s, x: s.a(y := F.pad(x, (0, 1, 2, 0))) + s.b(y), a=nn.Conv2d(3, 4, 3), b=nn.Conv2d(3, 4, 3, padding=0)
    )
    graph = optimize(capture(module, (3, 6, 6), "pads"))
    assert [node.op for node in graph.of_kind(Conv2d)] == [Conv2d(padding=(2, 0, 0, 1))] * 2
    assert kinds(graph) == [Conv2d, Conv2d, Add]
    same(module, graph, (3, 6, 6))


def test_pad_of_channels_stays() -> None:
    graph = chain((3, 4, 4), Pad((0, 1, 1, 1), (0, 0, 1, 1)), MaxPool2d())
    assert fold_pad(graph) is graph


@pytest.mark.parametrize(
    ("ops", "left"),
    [
        ((RELU, Pad((0, 0, 1, 1), (0, 0, 0, 1)), MaxPool2d((3, 3), (2, 2))), [Clamp, MaxPool2d]),
        ((RELU, Pad((0, 0, 1, 1), (0, 0, 0, 1)), MaxPool2d((2, 2), (2, 2), (1, 0, 0, 1))), [Clamp, Pad, MaxPool2d]),
        ((LeakyReLU(), Pad((0, 0, 1, 1), (0, 0, 0, 1)), MaxPool2d((3, 3), (2, 2))), [LeakyReLU, Pad, MaxPool2d]),
        ((RELU, Pad((0, 0, 3, 0), (0, 0, 0, 0)), MaxPool2d((3, 3), (2, 2))), [Clamp, Pad, MaxPool2d]),
        ((RELU, Pad((0, 0, 1, 1), (0, 0, 1, 1)), AvgPool2d((3, 3), (2, 2))), [Clamp, Pad, AvgPool2d]),
    ],
)
def test_pad_goes_into_a_max_pool_only_where_zeros_cannot_win(ops: tuple[Op, ...], left: list[type[Op]]) -> None:
    graph = chain((2, 6, 7), *ops)
    folded = fold_pad(graph)
    assert kinds(folded) == left
    equal(graph, folded, (2, 6, 7), shift=-1.5)


@pytest.mark.parametrize(
    ("ops", "left"),
    [
        ((Reshape((24,)), Reshape((4, 6)), Reshape((2, 12))), [Reshape((2, 12))]),
        ((Reshape((24,)), Reshape((2, 3, 4))), []),
        ((Clamp(-1, 4), Clamp(0, 9)), [Clamp(0, 4)]),
        ((RELU, RELU6), [RELU6]),
        ((RELU6, RELU), [RELU6]),
        ((Clamp(2, 3), Clamp(-1, 1)), [Clamp(1, 1)]),
        ((Clamp(-3, -2), RELU), [Clamp(0, 0)]),
        ((Clamp(),), []),
        ((RELU, MaxPool2d(), RELU), [RELU, MaxPool2d()]),
        ((Pad((0, 0, 1, 0), (0, 0, 0, 0)), Pad((0, 1, 0, 0), (0, 0, 2, 1))), [Pad((0, 1, 1, 0), (0, 0, 2, 1))]),
        ((Pad((0, 0, 0, 0), (0, 0, 0, 0)),), []),
        ((Slice((0, 0, 0, 0), (1, 2, 3, 4), (1, 1, 1, 1)),), []),
        (
            (Slice((0, 0, 0, 0), (1, 2, 3, 4), (1, 1, 2, 1)), Slice((0, 0, 0, 0), (1, 2, 2, 4), (1, 1, 1, 2))),
            [Slice((0, 0, 0, 0), (1, 2, 3, 4), (1, 1, 2, 2))],
        ),
    ],
)
def test_simplify(ops: tuple[Op, ...], left: list[Op]) -> None:
    graph = chain((2, 3, 4), *ops) if MaxPool2d() not in ops else chain((2, 4, 4), *ops)
    shape = graph.input_shapes["x"][1:]
    done = graph
    while (after := simplify(done)) is not done:
        done = after
    assert [node.op for node in done.nodes] == left
    if left:
        equal(graph, done, shape)
    else:
        assert done.outputs == ("x",)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_slices_join_to_one(data: st.DataObject) -> None:
    size, ops = [9, 8], []
    for _ in range(2):
        pieces = []
        for s in size:
            start = data.draw(st.integers(0, s - 1))
            pieces.append((start, data.draw(st.integers(start + 1, s)), data.draw(st.integers(1, 3))))
        size = [len(range(*piece)) for piece in pieces]
        ops.append(Slice(*(tuple(column) for column in zip((0, 1, 1), *pieces, strict=True))))
    graph = chain((9, 8), *ops)
    final = optimize(graph)
    assert len(final.nodes) <= 1
    equal(graph, final, (9, 8))


def test_hard_sigmoid_becomes_the_end_of_the_convolution_before_it() -> None:
    module = settled(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Hardsigmoid()))
    graph = optimize(capture(module, (3, 5, 4), "net"))
    assert [node.op for node in graph.nodes] == [Conv2d(activation=UNIT)]
    same(module, graph, (3, 5, 4))


def test_a_scale_without_a_layer_before_it_is_a_depthwise_convolution() -> None:
    module = Forward(lambda net, x: 1 - F.max_pool2d(x, 2) * torch.arange(3.0).view(3, 1, 1))
    graph = optimize(capture(module, (3, 6, 4), "net"))
    assert kinds(graph) == [MaxPool2d, Conv2d]
    same(module, graph, (3, 6, 4))


def test_what_ends_at_one_is_not_joined_with_what_does_not() -> None:
    module = Forward(lambda net, x: torch.cat([torch.sigmoid(x[:, :2]), x[:, 2:]], 1))
    graph = optimize(capture(module, (4, 3, 3), "net"))
    last = graph.nodes[-1]
    assert [type(graph.node(name).op) for name in last.inputs] == [
        LeakyReLU,
        LeakyReLU,
    ]
    specs = specify(graph, (-2.0, 2.0), Scheme())
    assert isinstance(specs[last.inputs[0]], OwnSpec)
    same(module, graph, (4, 3, 3))
    alike = Forward(lambda net, x: torch.cat([torch.sigmoid(x), torch.sigmoid(-x)], 1))
    assert LeakyReLU not in kinds(optimize(capture(alike, (4, 3, 3), "net")))


BY_HAND = {
    "divided last": (lambda net, x: x * F.relu6(x + 3) / 6, [HardSigmoid, Mul]),
    "divided first": (lambda net, x: x * (F.relu6(x + 3.0) / 6.0), [HardSigmoid, Mul]),
    "times a sixth": (lambda net, x: F.hardtanh(3 + x, 0, 6) * x * (1 / 6), [HardSigmoid, Mul]),
    "hard sigmoid": (lambda net, x: F.relu6(x + 3) / 6, [Conv2d]),
    "gate of another": (lambda net, x: x * (F.relu6(x * 2 + 3) / 6), [Conv2d, Mul]),
    "another shift": (lambda net, x: x * F.relu6(x + 2) / 6, [Conv2d, Mul]),
    "read twice": (lambda net, x: (y := F.relu6(x + 3) / 6) * x + y, [Conv2d, Mul, Add]),
    "other limits": (lambda net, x: x * F.hardtanh(x, 0, 5) / 6, [Clamp, Conv2d, Mul]),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_hard_gates_written_by_hand(name: str) -> None:
    function, expected = BY_HAND[name]
    graph = optimize(capture(Forward(function), (3, 4, 5), "net"))
    assert kinds(graph) == expected
    same(Forward(function), graph, (3, 4, 5))


def test_scales_in_a_row_are_one_layer() -> None:
    module = settled(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), Forward(lambda net, x: (x * 2 - 1) / 3)))
    graph = optimize(capture(module, (3, 4, 5), "net"))
    assert kinds(graph) == [Conv2d]
    same(module, graph, (3, 4, 5))


def test_hard_swish_is_lowered_and_raised_again() -> None:
    graph = optimize(capture(Forward(lambda net, x: F.hardswish(x) + F.silu(x)), (3, 4, 5), "net"))
    assert kinds(graph) == [HardSigmoid, Mul, Sigmoid, Mul, Add]
    whole = raise_hard_swish(graph)
    assert kinds(whole) == [HardSwish, Sigmoid, Mul, Add]
    equal(graph, whole, (3, 4, 5))


@pytest.mark.parametrize("slope", [0.5, 1.5])
def test_prelu_is_the_larger_of_two_or_two_halves_and_a_sum(slope: float) -> None:
    module = settled(nn.Sequential(nn.Conv2d(3, 4, 1), nn.PReLU(4)))
    module[1].weight.data[:] = torch.tensor([slope, 0.1, 0.2, 0.0])
    graph = optimize(capture(module, (3, 5, 4), "net"))
    halves = [Conv2d(groups=4, activation=NEGATIVE), RELU, Add()]
    assert [node.op for node in graph.nodes[1:]] == (halves if slope > 1 else [Conv2d(groups=4), Maximum()])
    same(module, graph, (3, 5, 4))


def attention(factor: float, *, keys: bool = False, shared: bool = False) -> nn.Module:
    """Scores of pixels among themselves, scaled before the product, a mask, and a softmax."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 12, 1)
            self.register_buffer("mask", torch.randn(1, 1, 6, 6))

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.conv(x).flatten(2).transpose(1, 2).unsqueeze(1).chunk(3, -1)
            q, k = (q, k * factor) if keys else (q * factor, k)
            scores = q @ k.transpose(-1, -2) + self.mask
            answer = scores.softmax(-1) @ v
            return answer + (q if shared else 0 * answer)

    return Net()


@pytest.mark.parametrize("keys", [False, True])
def test_a_factor_of_scores_becomes_part_of_the_softmax(keys: bool) -> None:
    module = attention(0.125, keys=keys).eval()
    graph = optimize(capture(module, (4, 2, 3), "net"))
    (soft,) = graph.of_kind(Softmax)
    assert soft.op == Softmax(4, 0.125)
    same(module, graph, (4, 2, 3))


@pytest.mark.parametrize("module", [attention(-0.5), attention(0.5, shared=True)])
def test_a_factor_that_others_read_or_that_turns_the_order_stays(module: nn.Module) -> None:
    graph = optimize(capture(module.eval(), (4, 2, 3), "net"))
    (soft,) = graph.of_kind(Softmax)
    assert soft.op == Softmax(4)
    same(module, graph, (4, 2, 3))


class Parted(nn.Module):
    """Three parts of one layer's output, the heads of each moved alike, or of one not."""

    def __init__(self, *, alike: bool) -> None:
        super().__init__()
        self.fc, self.alike = nn.Linear(4, 24), alike

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.reshape(len(x), 5, 2, 4) for part in self.fc(x).reshape(len(x), 5, 3, 8).permute(2, 0, 1, 3).unbind(0)
        )
        q, k = q.transpose(1, 2), k.transpose(1, 2)
        v = v.transpose(1, 2) if self.alike else v.permute(0, 2, 3, 1)
        scores = (q @ k.transpose(-1, -2)).softmax(-1)
        return (scores @ (v if self.alike else v.transpose(-1, -2))).flatten(1)


@pytest.mark.parametrize("alike", [True, False])
def test_parts_that_are_moved_alike_are_cut_from_what_is_moved(alike: bool) -> None:
    module = Parted(alike=alike).eval()
    graph = optimize(capture(module, (5, 4), "net"))
    cuts = [node for node in graph.nodes if isinstance(node.op, Slice)]
    assert len(cuts) == 3
    assert [all(isinstance(n.op, MatMul) for n in graph.consumers()[cut.name]) for cut in cuts].count(True) == 3 * alike
    same(module, graph, (5, 4))
