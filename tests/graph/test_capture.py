"""A captured graph is the module: same values, readable names, and a clear refusal of what it cannot hold."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from graph_networks import Network, captured, close, same, settled
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeq.errors import ConfigError, UnsupportedError
from edgeq.graph.capture.aten import ATEN
from edgeq.graph.capture.walk import capture, capture_program, unsupported_calls
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import (
    ELU,
    GELU,
    Add,
    Affine,
    AvgPool2d,
    BatchNorm,
    Clamp,
    Concat,
    Constant,
    Conv2d,
    GlobalAvgPool,
    HardSwish,
    LeakyReLU,
    Linear,
    Maximum,
    MaxPool2d,
    Mish,
    Mul,
    Op,
    Pad,
    Permute,
    Reshape,
    Resize2d,
    Sigmoid,
    Slice,
    Softmax,
    Softplus,
    Tanh,
)
from edgeq.graph.passes import optimize
from edgeq.graph.run import GraphModule


class Forward(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def test_networks_keep_their_values(network: Network) -> None:
    module, graph, shape = network
    same(module, graph, shape)
    norms = sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())
    assert len(list(graph.of_kind(BatchNorm))) == norms


def test_networks_keep_their_parameters(network: Network) -> None:
    module, graph, _ = network
    state = module.state_dict()
    assert set(graph.constants) == {name for name in state if not name.endswith("num_batches_tracked")}
    for name, array in graph.constants.items():
        assert torch.equal(torch.from_numpy(array), state[name])


def test_names_are_module_paths() -> None:
    names = [node.name for node in captured("resnet18").graph.nodes]
    block = [name.removeprefix("layer1.0.") for name in names if name.startswith("layer1.0.")]
    assert block == ["conv1", "bn1", "relu", "conv2", "bn2", "add", "relu_1"]
    assert names[:4] == ["conv1", "bn1", "relu", "maxpool"]
    assert names[-3:] == ["avgpool", "flatten", "fc"]
    assert "layer2.0.downsample.0" in names


def test_shortcut_without_weights_has_readable_names() -> None:
    graph = captured("cifar_resnet20").graph
    names = {node.name: type(node.op) for node in graph.nodes if "shortcut" in node.name}
    assert names["blocks.3.shortcut.slice"] is Slice
    assert names["blocks.3.shortcut.pad"] is Pad


CALLS: dict[str, tuple[nn.Module | Callable[[Tensor], Tensor], tuple[int, ...], list[type[Op]]]] = {
    "grouped": (nn.Conv2d(4, 8, 3, groups=2, padding=1), (4, 7, 6), [Conv2d]),
    "dilated": (nn.Conv2d(4, 8, 3, dilation=(2, 1), padding=(2, 1)), (4, 9, 8), [Conv2d]),
    "depthwise": (nn.Conv2d(4, 8, 3, 2, groups=4, bias=False), (4, 9, 8), [Conv2d]),
    "same": (nn.Conv2d(4, 8, (4, 3), padding="same", dilation=(1, 2)), (4, 9, 8), [Conv2d]),
    "valid": (nn.Conv2d(4, 8, 2, padding="valid"), (4, 9, 8), [Conv2d]),
    "linear": (nn.Linear(6, 3, bias=False), (6,), [Linear]),
    "addmm": (lambda x: torch.addmm(torch.ones(3), x, torch.arange(18.0).view(6, 3)), (6,), [Linear]),
    "matrix product": (lambda x: torch.mm(x, torch.arange(18.0).view(6, 3)), (6,), [Linear]),
    "batch norm": (settled(nn.BatchNorm2d(4, eps=1e-2)), (4, 3, 3), [BatchNorm]),
    "batch norm, not affine": (settled(nn.BatchNorm2d(4, affine=False)), (4, 3, 3), [BatchNorm]),
    "batch norm of features": (settled(nn.BatchNorm1d(4)), (4,), [BatchNorm]),
    "relu in place": (nn.ReLU(inplace=True), (4, 3, 3), [Clamp]),
    "relu6": (nn.ReLU6(), (4, 3, 3), [Clamp]),
    "hardtanh": (nn.Hardtanh(-0.5, 1.5), (4, 3, 3), [Clamp]),
    "clamp below": (lambda x: x.clamp(min=-0.25), (4, 3, 3), [Clamp]),
    "clamp_max": (lambda x: torch.clamp_max(x, 0.5), (4, 3, 3), [Clamp]),
    "leaky relu": (lambda x: F.leaky_relu(x, 0.2), (4, 3, 3), [LeakyReLU]),
    "prelu with one slope": (nn.PReLU(), (4, 3, 3), [LeakyReLU]),
    "prelu": (lambda x: F.prelu(x, torch.tensor([0.1, 0.2, 0.0, 1.5])), (4, 3, 3), [Affine, Clamp, Clamp, Add]),
    "prelu with slopes within 1": (lambda x: F.prelu(x, torch.tensor([-1.0, 0.5])), (2, 3, 3), [Affine, Maximum]),
    "prelu with slopes below zero": (
        lambda x: F.prelu(x, torch.tensor([0.1, -0.2, 1.3])),
        (3, 2),
        [Affine, Clamp, Affine, Clamp, Add],
    ),
    "add to itself": (lambda x: x + x, (4, 3, 3), [Add]),
    "add a number per channel": (lambda x: x + x.mean([2, 3], keepdim=True), (4, 3, 3), [GlobalAvgPool, Add]),
    "add a constant": (lambda x: x + 1.5, (4, 3, 3), [Affine]),
    "add a constant per channel": (lambda x: torch.arange(4.0).view(4, 1, 1) + x, (4, 3, 3), [Affine]),
    "add a multiple": (lambda x: torch.add(x, F.relu(x), alpha=2), (4, 3, 3), [Clamp, Affine, Add]),
    "subtract": (lambda x: F.relu(x) - x, (4, 3, 3), [Clamp, Affine, Add]),
    "subtract from a constant": (lambda x: 1 - x, (4, 3, 3), [Affine, Affine]),
    "negate": (lambda x: -x, (4, 3, 3), [Affine]),
    "multiply": (lambda x: x * F.relu(x), (4, 3, 3), [Clamp, Mul]),
    "multiply by one per channel": (lambda x: x * x.mean((2, 3), keepdim=True), (4, 3, 3), [GlobalAvgPool, Mul]),
    "multiply by constants": (lambda x: x * torch.arange(4.0).view(1, 4, 1, 1) * 0.5, (4, 3, 3), [Affine, Affine]),
    "divide": (lambda x: x / 4, (4, 3, 3), [Affine]),
    "divide by constants": (lambda x: x / torch.arange(1.0, 5).view(4, 1, 1), (4, 3, 3), [Affine]),
    "sigmoid": (nn.Sigmoid(), (4, 3, 3), [Sigmoid]),
    "tanh": (nn.Tanh(), (4, 3, 3), [Tanh]),
    "silu": (nn.SiLU(), (4, 3, 3), [Sigmoid, Mul]),
    "gelu": (nn.GELU(), (4, 3, 3), [GELU]),
    "gelu by tanh": (nn.GELU("tanh"), (4, 3, 3), [GELU]),
    "elu": (nn.ELU(0.7), (4, 3, 3), [ELU]),
    "selu": (nn.SELU(), (4, 3, 3), [ELU]),
    "celu": (nn.CELU(1.7), (4, 3, 3), [ELU]),
    "mish": (nn.Mish(), (4, 3, 3), [Mish]),
    "softplus": (nn.Softplus(), (4, 3, 3), [Softplus]),
    "softplus, steeper": (nn.Softplus(2.0), (4, 3, 3), [Affine, Softplus, Affine]),
    "log sigmoid": (nn.LogSigmoid(), (4, 3, 3), [Affine, Softplus, Affine]),
    "hard swish": (nn.Hardswish(), (4, 3, 3), [HardSwish]),
    "hard sigmoid": (nn.Hardsigmoid(), (4, 3, 3), [Affine, Clamp]),
    "max pool, rounded up": (nn.MaxPool2d(3, 2, ceil_mode=True), (4, 8, 7), [MaxPool2d]),
    "max pool, padded and rounded up": (nn.MaxPool2d(3, 2, 1, ceil_mode=True), (4, 7, 8), [MaxPool2d]),
    "avg pool": (nn.AvgPool2d(2), (4, 8, 7), [AvgPool2d]),
    "avg pool, padding counted": (nn.AvgPool2d(3, 2, 1), (4, 8, 7), [Pad, AvgPool2d]),
    "avg pool, padding not counted": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), (4, 8, 7), [AvgPool2d]),
    "avg pool, rounded up": (nn.AvgPool2d(3, 2, ceil_mode=True), (4, 8, 6), [AvgPool2d]),
    "avg pool, counted and rounded up": (nn.AvgPool2d(3, 2, 1, ceil_mode=True), (4, 7, 8), [Pad, AvgPool2d]),
    "avg pool of the whole map": (nn.AvgPool2d((5, 4)), (4, 5, 4), [GlobalAvgPool]),
    "adaptive to 1": (nn.AdaptiveAvgPool2d(1), (4, 5, 4), [GlobalAvgPool]),
    "adaptive to 1 from 1": (lambda x: F.relu(F.adaptive_avg_pool2d(x, 1)), (4, 1, 1), [Clamp]),
    "adaptive to an even share": (nn.AdaptiveAvgPool2d((2, 3)), (4, 6, 6), [AvgPool2d]),
    "adaptive max": (nn.AdaptiveMaxPool2d(1), (4, 6, 5), [MaxPool2d]),
    "mean": (lambda x: x.mean([2, 3]), (4, 6, 5), [GlobalAvgPool, Reshape]),
    "mean, channels last": (
        lambda x: x.permute(0, 2, 3, 1).mean((1, 2)),
        (4, 6, 5),
        [Permute, Permute, GlobalAvgPool, Reshape],
    ),
    "mean, kept": (lambda x: x.mean((-1, -2), keepdim=True), (4, 6, 5), [GlobalAvgPool]),
    "mean of a flattened map": (lambda x: x.flatten(2).mean(2), (4, 6, 5), [Reshape, Reshape, GlobalAvgPool, Reshape]),
    "flatten": (nn.Flatten(), (4, 3, 2), [Reshape]),
    "view": (lambda x: x.view(x.size(0), 2, -1), (4, 3, 2), [Reshape]),
    "squeeze twice": (lambda x: x.mean([2, 3], True).squeeze(3).squeeze(2), (4, 3, 2), [GlobalAvgPool, *[Reshape] * 2]),
    "permute of nothing": (lambda x: x.permute(0, 2, 3, 1).flatten(1), (4, 1, 1), [Reshape, Reshape]),
    "permute": (lambda x: x.permute(0, 2, 3, 1).reshape(len(x), -1, 2), (4, 3, 2), [Permute, Reshape]),
    "transpose": (lambda x: x.transpose(-1, 1), (4, 3, 2), [Permute]),
    "movedim": (lambda x: x.movedim(1, -1), (4, 3, 2), [Permute]),
    "twice the size": (
        lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False),
        (4, 3, 2),
        [Resize2d],
    ),
    "to a size, corner to corner": (
        lambda x: F.interpolate(x, (5, 7), mode="bilinear", align_corners=True),
        (4, 3, 2),
        [Resize2d],
    ),
    "nearest": (nn.Upsample(scale_factor=3), (4, 3, 2), [Resize2d]),
    "to its own size": (lambda x: F.relu(F.interpolate(x, (3, 2), mode="bilinear")), (4, 3, 2), [Clamp]),
    "pad": (lambda x: F.pad(x, (1, 0, 2, 3, 1, 2)), (4, 3, 2), [Pad]),
    "pad that cuts": (lambda x: F.pad(x, (-1, 2, 0, -2)), (4, 5, 6), [Slice, Pad]),
    "slice": (lambda x: x[:, 1:-1, ::2, 1::3], (4, 7, 8), [Slice, Slice, Slice]),
    "roll": (lambda x: x.roll((1, -2), (2, 3)), (4, 7, 8), [Slice, Slice, Concat, Slice, Slice, Concat]),
    "roll by nothing": (lambda x: F.relu(x.roll(7, 2)), (4, 7, 8), [Clamp]),
    "roll of channels last": (
        lambda x: x.permute(0, 2, 3, 1).roll(1, 2).flatten(1, 2),
        (4, 7, 8),
        [Permute, Reshape, Slice, Slice, Concat, Reshape],
    ),
    "pad with a number": (lambda x: F.pad(x, (1, 0, 0, 2), value=1.5), (4, 7, 8), [Constant, Concat, Constant, Concat]),
    "select": (lambda x: x[:, :, -1], (4, 7, 8), [Slice, Reshape]),
    "chunks": (lambda x: torch.cat(x.chunk(3, 1)[::-1], 1), (5, 2, 2), [Slice, Slice, Slice, Concat]),
    "cat": (lambda x: torch.cat([x, F.relu(x)], -3), (4, 3, 2), [Clamp, Concat]),
    "softmax": (nn.Softmax(-1), (7,), [Softmax]),
    "softmax of pixels": (nn.Softmax(1), (4, 3, 2), [Softmax]),
    "softmax of rows": (lambda x: x.flatten(2).softmax(2), (4, 3, 2), [Reshape, Softmax]),
    "nothing": (lambda x: F.relu(F.dropout(x.contiguous(), training=False).detach().clone()), (4, 2, 2), [Clamp]),
    "cast": (lambda x: F.relu(x.to(torch.float32)), (4, 2, 2), [Clamp]),
}


WRITING = {"relu in place"}
"""Calls that write their input, which others would read."""


class SideBySide(nn.Module):
    """One input, and the answer of each part to it: an export takes about as long for twenty calls as for one."""

    def __init__(self, parts: Iterable[nn.Module | Callable[[Tensor], Tensor]]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(part if isinstance(part, nn.Module) else Forward(part) for part in parts)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(part(x) for part in self.parts)


@cache
def calls_of(shape: tuple[int, ...], alone: str = "") -> dict[str, tuple[list[type[Op]], Tensor, Tensor]]:
    """By name, what became of each call that takes this shape: its nodes, torch's answer and the graph's."""
    names = [alone] if alone else [name for name in CALLS if CALLS[name][1] == shape and name not in WRITING]
    module = SideBySide(CALLS[name][0] for name in names).eval()
    graph = capture(module, shape, "calls")
    x = torch.randn((3, *shape), generator=torch.Generator().manual_seed(1)) * 2
    with torch.no_grad():
        expected, got = module(x.clone()), GraphModule(graph)(x)
    answers = zip(expected, (got,) if isinstance(got, Tensor) else got, strict=True)
    kinds = [[type(node.op) for node in _behind(graph, output)] for output in graph.outputs]
    return {name: (found, *both) for name, found, both in zip(names, kinds, answers, strict=True)}


def _behind(graph: Graph, output: str) -> list[Node]:
    """The nodes that an output is made of, in order."""
    wanted, found = {output}, []
    for node in reversed(graph.nodes):
        if node.name in wanted:
            wanted.update(node.inputs)
            found.append(node)
    return found[::-1]


@pytest.mark.parametrize("name", CALLS)
def test_call(name: str) -> None:
    _, shape, kinds = CALLS[name]
    found, expected, got = calls_of(shape, name if name in WRITING else "")[name]
    assert found == kinds
    close(got, expected)


def test_a_batch_norm_reads_variables_that_were_moved_into_the_batch() -> None:
    norm = settled(nn.BatchNorm1d(4))
    module = nn.Sequential(nn.Flatten(0, 1), norm, nn.Unflatten(0, (1, 3))).eval()
    x = torch.randn((1, 3, 4, 8), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        close(GraphModule(optimize(capture(module, (3, 4, 8), "net")))(x), module(x))


def test_a_call_without_a_rule_is_read_by_the_calls_it_is_made_of() -> None:
    assert "aten.tensor_split" not in ATEN
    graph = capture(Forward(lambda x: F.relu(x.tensor_split(2, 1)[0])), (4, 3, 2), "net")
    assert [type(node.op) for node in graph.nodes] == [Slice, Clamp]


def test_squeeze_that_drops_the_batch_is_undone_by_the_next_reshape() -> None:
    """`squeeze()` at batch 1 loses the batch dimension; what follows shows that it was meant to stay."""
    graph = capture(Forward(lambda x: F.relu(x.mean([2, 3], True).squeeze().view(1, -1))), (4, 3, 2), "squeeze")
    assert graph.shapes[graph.outputs[0]] == (1, 4)


def test_in_place_calls_change_what_was_read_before_them() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            before = x
            x = F.relu(x, inplace=True)
            x.add_(before)
            return x + before

    torch.manual_seed(0)
    module = Net().eval()
    same(module, capture(module, (3, 4, 4), "net"), (3, 4, 4))


def test_shared_modules_share_their_constants() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 4, 3, padding=1)
    module = nn.Sequential(conv, nn.ReLU(), conv).eval()
    graph = capture(module, (4, 5, 5), "twice")
    assert len(graph.constants) == 2
    same(module, graph, (4, 5, 5))


def test_several_outputs() -> None:
    class Heads(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            y = F.relu(x)
            return {"a": y, "b": F.max_pool2d(y, 2)}

    graph = capture(Heads(), (2, 4, 4), "heads")
    assert graph.outputs == ("relu", "max_pool")


@settings(max_examples=8, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    size=st.tuples(st.integers(4, 9), st.integers(4, 9)),
    ceil=st.booleans(),
    data=st.data(),
)
def test_pools_of_any_form(
    kernel: tuple[int, int], stride: tuple[int, int], size: tuple[int, int], ceil: bool, data: st.DataObject
) -> None:
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
    counted = data.draw(st.booleans())
    largest, mean = (
        nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil),
        nn.AvgPool2d(kernel, stride, padding, ceil, counted),
    )
    both = Forward(lambda x: largest(x) + mean(x))
    same(both, capture(both, (2, *size), "pools"), (2, *size))


def test_capture_leaves_the_module_as_it_was() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4).eval(), nn.Dropout()).train()
    module[1].eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    graph = capture(module, (3, 4, 4), "net")
    assert (module.training, module[1].training, module[2].training) == (True, False, True)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    graph.constants["0.weight"][:] = 0
    assert torch.equal(module[0].weight, before["0.weight"])


def test_both_spellings_of_the_input_shape() -> None:
    module = nn.Conv2d(3, 4, 1)
    assert capture(module, (3, 4, 4), "net").digest() == capture(module, (1, 3, 4, 4), "net").digest()


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # from inside torch
@pytest.mark.parametrize(("decomposed", "dynamic"), [(False, False), (True, True)])
def test_exported_programs(decomposed: bool, dynamic: bool) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU6(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 5)]
    module = settled(nn.Sequential(*layers))
    shapes = ({0: torch.export.Dim("batch", min=1, max=16)},) if dynamic else None
    program = torch.export.export(module, (torch.zeros(2 if dynamic else 1, 3, 14, 14),), dynamic_shapes=shapes)
    if decomposed:
        program = program.run_decompositions()
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    graph = capture_program(torch.export.load(file), "net")
    same(module, graph, (3, 14, 14))
    names = [node.name for node in graph.nodes]
    assert [names[0], names[1], names[-1]] == ["0", "1", "5"]
    assert graph.constants["5.weight"].shape == (5, 72)


def test_program_with_a_batch_of_its_own_is_refused() -> None:
    program = torch.export.export(nn.ReLU(), (torch.zeros(4, 3, 2, 2),))
    with pytest.raises(UnsupportedError, match="batch of 1"):
        capture_program(program, "net")


def test_program_exported_for_training_is_refused() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    program = torch.export.export(module, (torch.zeros(1, 3, 4, 4),))
    with pytest.raises(UnsupportedError, match=r"model\.eval\(\)"):
        capture_program(program, "net")


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x) if x.sum() > 0 else x


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.RReLU())
        self.last = nn.Softmin(0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return self.last(y) * torch.erfc(torch.lgamma(y))


def message(error: pytest.ExceptionInfo[Exception]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_unsupported_call_names_call_path_and_hint() -> None:
    with pytest.raises(UnsupportedError) as error:
        capture(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.RReLU())), (3, 4, 4), "net")
    assert error.value.exit_status == 3
    assert (error.value.what, error.value.where) == ("aten.rrelu.default is not supported", "1.0")
    assert "hard swish" in message(error)


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)
        x = self.attention(x, x, x)[0]
        return torch.erfc(x)


def test_a_mean_of_maps_whose_channels_lie_last_moves_nothing() -> None:
    network = Forward(lambda x: F.gelu(x.permute(0, 2, 3, 1)).mean((1, 2)))
    kinds = [type(node.op) for node in optimize(capture(network, (4, 6, 5), "last")).nodes]
    assert Permute not in kinds
    assert GlobalAvgPool in kinds


def test_calls_behind_a_moved_batch_are_not_blamed_for_it() -> None:
    errors = unsupported_calls(Tokens(), (4, 3, 3), "tokens")
    calls = [error.what.split(".")[1].split()[0] for error in errors]
    assert calls == ["erfc"]
    assert not any("bug in edgeq" in error.hint for error in errors)


def test_all_unsupported_calls_at_once() -> None:
    errors = unsupported_calls(Gated(), (3, 4, 4), "gated")
    assert [(e.what.split(".")[1].split()[0], e.where) for e in errors] == [
        ("rrelu", "body.1"),
        ("softmax", "last"),
        ("lgamma", "gated"),
        ("erfc", "gated"),
    ]
    assert all(e.hint for e in errors)
    with pytest.raises(UnsupportedError, match="3 more unsupported"):
        capture(Gated(), (3, 4, 4), "gated")
    assert unsupported_calls(nn.ReLU(), (3, 4, 4)) == []


FORMS: list[tuple[Callable[[Tensor], Tensor], str]] = [
    (lambda x: x**x, "exponent"),
    (lambda x: torch.div(x, 2, rounding_mode="floor"), "whole numbers"),
    (lambda x: F.pad(x, (-1, 1, 1, 1), mode="replicate"), "slice first"),
    (lambda x: F.pad(x, (1, 1), value=float("inf")), "numbers"),
    (lambda x: F.max_pool2d(x, 2, dilation=2), "dilat"),
    (lambda x: F.avg_pool2d(x, 2, divisor_override=3), "divisor_override"),
    (lambda x: x.repeat(1, 2000, 3, 3), "repeat by themselves"),
    (lambda x: F.interpolate(x, scale_factor=1.3), "whole number of pixels"),
    (lambda x: F.grid_sample(x, x.permute(0, 2, 3, 1)[..., :2]), "image size"),
    (lambda x: torch.softmax(x, 0), "softmax"),
    (lambda x: F.softplus(x, 1.0, 2.0), "threshold"),
    (lambda x: F.scaled_dot_product_attention(x, x, x, enable_gqa=True), "heads of keys"),
    (lambda x: F.conv_transpose2d(x, torch.ones(3, 3, 2, 2), dilation=2), "dilated"),
    (lambda x: torch.cat([x, x], 0), "batch"),
    (lambda x: F.conv2d(x, x[:, :, :1, :1]), "parameter"),
]


def test_unsupported_forms() -> None:
    errors = unsupported_calls(SideBySide(function for function, _ in FORMS), (3, 8, 8), "net")
    for place, (_, says) in enumerate(FORMS):
        first = next(str(error) for error in errors if error.where == f"parts.{place}")
        assert first.startswith("aten.")
        assert says in first
        assert "\n" not in first
    assert all(error.hint for error in errors)


def test_networks_that_cannot_be_traced(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnsupportedError, match="cannot be traced at net") as error:
        capture(Branch(), (3, 4, 4), "net")
    line = Branch.forward.__code__.co_firstlineno + 1
    assert f"at net, test_capture.py line {line}: " in message(error)
    with pytest.raises(UnsupportedError, match="2 inputs"):
        capture(TwoInputs(), (3, 4, 4), "net")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("shape", [(4, 8, 8), (3, 8), (3, 1, 1)])
def test_wrong_input_shape(shape: tuple[int, ...], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="does not run on its input at net") as error:
        capture(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2)), shape, "net")
    assert str(list(shape)) in message(error)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("shape", [(), (3, 0, 4), (3, -1, 4), (3.0, 4, 4)])
def test_shapes_that_are_none(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="not an input shape"):
        capture(nn.ReLU(), shape, "net")
