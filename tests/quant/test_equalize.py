"""Channel scales that the layers around an activation absorb: the same network, with less to lose."""

import dataclasses
import functools

import numpy as np
import pytest
import torch
from torch import nn

from edgeq.data.calibration import CalibrationSet
from edgeq.errors import UnsupportedError
from edgeq.finetune.student import Student
from edgeq.graph.capture.walk import capture
from edgeq.graph.passes import optimize
from edgeq.graph.run import GraphModule
from edgeq.quant.calibrate import calibrate
from edgeq.quant.equalize import AT_ONCE, equalize, find_joints, find_rescaled_layers
from edgeq.quant.freeze import freeze
from edgeq.quant.scheme import Scheme
from edgeq.quant.sensitivity import measure_sensitivity

RANGE = (-2.0, 2.0)
FEW = Scheme.of("w4a4", all_layers=True)


class Residual(nn.Module):
    """Layers of every kind whose channels differ by up to 50 times, as folding leaves them."""

    def __init__(self, act):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.wide = nn.Conv2d(8, 16, 3, padding=1, groups=2)
        self.back = nn.Conv2d(16, 8, 1)
        self.pool, self.act, self.head = nn.MaxPool2d(2), act, nn.Linear(8, 5)
        random = torch.Generator().manual_seed(0)
        for layer in (self.stem, self.deep, self.wide, self.back):
            uneven = torch.exp(torch.rand(len(layer.weight), generator=random) * 4 - 3)
            layer.weight.data *= 2 * uneven.view(-1, 1, 1, 1)
            layer.bias.data *= uneven

    def forward(self, x):
        x = self.act(self.stem(x))
        y = self.back(self.act(self.wide(self.act(self.deep(x)))))
        return self.head(self.pool(self.act(x + y)).mean((2, 3)))


def graph_of(act, seed=0):
    return _graph_of(type(act), seed)


@functools.cache
def _graph_of(kind, seed):
    torch.manual_seed(seed)
    act = nn.LeakyReLU(0.1) if kind is nn.LeakyReLU else kind()
    return optimize(capture(Residual(act).eval(), (3, 16, 16), name="net"))


def images(count, seed, reach=2.0):
    values = np.random.default_rng(seed).normal(0, reach / 2, (count, 3, 16, 16)).astype(np.float32)
    return CalibrationSet(np.clip(values, -reach, reach), np.full(count, -1, np.int64), "test")


@torch.no_grad()
def answers(module, inputs):
    return module.eval()(torch.from_numpy(inputs)).numpy()


@pytest.mark.parametrize("act", [nn.ReLU(), nn.LeakyReLU(0.1)])
def test_the_network_computes_what_it_did(act):
    graph = graph_of(act)
    even = equalize(graph, images(32, 0), RANGE, FEW)
    changed = [name for name in graph.constants if not np.array_equal(graph.constants[name], even.constants[name])]
    assert {"stem.weight", "deep.weight", "wide.weight", "back.weight"} <= set(changed)
    unseen = images(16, 1).inputs
    want = answers(GraphModule(graph), unseen)
    assert np.abs(answers(GraphModule(even), unseen) - want).max() < 1e-4 * np.abs(want).max()


def test_relu6_cuts_only_beyond_what_was_seen():
    graph = graph_of(nn.ReLU6())
    shown = images(32, 0)
    even = equalize(graph, shown, RANGE, FEW)
    assert any(not np.array_equal(graph.constants[name], even.constants[name]) for name in graph.constants)
    want = answers(GraphModule(graph), shown.inputs)
    assert np.abs(answers(GraphModule(even), shown.inputs) - want).max() < 1e-4 * np.abs(want).max()
    ends = {}
    GraphModule(even).run(torch.from_numpy(images(64, 1).inputs), visit=lambda name, value: ends.update({name: value}))
    assert max(float(ends[name].max()) for name in ("stem", "deep", "wide")) == 6.0  # cut where the kernels cut


@pytest.mark.parametrize("bits", ["w8a4", "w4a4", "w5a5"])
def test_uneven_channels_of_few_bits_lose_less(bits):
    """Summed over networks, as errors of one are luck: relative squared error on images that did not calibrate."""
    scheme, unseen, shown = Scheme.of(bits, all_layers=True), images(32, 1).inputs, images(32, 0)
    plain, even = 0.0, 0.0
    for seed in range(2):
        graph = graph_of(nn.ReLU(), seed)
        want = answers(GraphModule(graph), unseen)
        lost = [
            float(np.square(answers(Student(of, calibrate(of, shown, RANGE, scheme=scheme)), unseen) - want).mean())
            / float(want.var(axis=0).mean())
            for of in (graph, equalize(graph, shown, RANGE, scheme))
        ]
        plain, even = plain + lost[0], even + lost[1]
    assert even < 0.8 * plain


def lost(graph, of, shown, scheme, unseen):
    """Relative squared error of the quantized answers of `of`, which computes what `graph` does."""
    want = answers(GraphModule(graph), unseen)
    have = answers(Student(of, calibrate(of, shown, RANGE, scheme=scheme)), unseen)
    return float(np.square(have - want).mean()) / float(want.var(axis=0).mean())


@pytest.mark.parametrize("bits", ["w8a8", "w4a8"])
def test_uneven_channels_of_eight_bits_that_the_outputs_notice_lose_less(bits):
    """A faint channel carries the answer: it is made larger, until its steps are fine enough."""
    graph, scheme, shown = faint_graph(), Scheme.of(bits), images(16, 0)
    even = equalize(graph, shown, RANGE, scheme)
    unseen = images(16, 1).inputs
    want = answers(GraphModule(graph), unseen)
    assert np.abs(answers(GraphModule(even), unseen) - want).max() < 1e-4 * np.abs(want).max()
    ratio = even.constants["stem.bias"][0] / graph.constants["stem.bias"][0]
    assert ratio > 8 * even.constants["stem.bias"][1] / graph.constants["stem.bias"][1]
    assert lost(graph, even, shown, scheme, unseen) < 0.2 * lost(graph, graph, shown, scheme, unseen)


def faint_graph():
    """The first of eight channels is a hundredth of the others, and all that the last layer reads of them."""
    torch.manual_seed(0)
    net = nn.Sequential()
    net.add_module("stem", nn.Conv2d(3, 8, 3, padding=1))
    net.add_module("act", nn.ReLU())
    net.add_module("deep", nn.Conv2d(8, 8, 3, padding=1, groups=8))
    net.add_module("flat", nn.Flatten())
    net.add_module("head", nn.Linear(8 * 256, 5))
    with torch.no_grad():
        for tensor in (net.stem.weight, net.stem.bias):
            tensor[0] /= 100
        net.deep.weight[0] *= 100
        net.head.weight[:, 256:] /= 100
    return optimize(capture(net.eval(), (3, 16, 16), name="net"))


def test_eight_bit_activations_that_the_outputs_do_not_notice_are_left_alone():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1152, 5))
    graph = optimize(capture(net.eval(), (3, 16, 16), name="net"))
    assert equalize(graph, images(8, 0), RANGE, Scheme.of("w8a8")) is graph


def test_weights_that_no_output_reads_have_no_say():
    graph = faint_graph()
    deep = next(node.name for node in graph.nodes if node.inputs[1:2] == ("deep.weight",))
    found = measure_sensitivity(graph.replace(outputs=(deep,)), images(4, 0).inputs, {deep})
    assert not found.weights["head.weight"].any()
    assert found.weights["deep.weight"].all()


def test_sixteen_bit_activations_are_left_alone():
    graph = faint_graph()
    assert equalize(graph, images(8, 0), RANGE, Scheme.of("w8a16")) is graph


def test_a_cut_at_six_leaves_what_was_seen():
    graph = graph_of(nn.ReLU6())
    shown = images(16, 0)
    even = equalize(graph, shown, RANGE, Scheme.of("w8a8"))
    want = answers(GraphModule(graph), shown.inputs)
    assert np.abs(answers(GraphModule(even), shown.inputs) - want).max() < 1e-4 * np.abs(want).max()


def test_one_layer_of_few_bits_moves_what_it_reads_alone():
    graph = graph_of(nn.ReLU())
    even = equalize(graph, images(8, 0), RANGE, Scheme.of("w8a8", layers=["wide=w8a4"]))
    changed = {name for name in graph.constants if not np.array_equal(graph.constants[name], even.constants[name])}
    assert changed == {"deep.weight", "deep.bias", "wide.weight"}


def test_channels_that_show_nothing_keep_their_scale():
    graph = graph_of(nn.ReLU())
    dead = {name: graph.constants[name].copy() for name in ("deep.weight", "deep.bias")}
    for array in dead.values():
        array[2] = 0
    dead["deep.bias"][5] = -99.0  # what images without it never reach
    graph = graph.replace(constants={**graph.constants, **dead})
    even = equalize(graph, images(8, 0), RANGE, FEW)
    assert all(np.isfinite(array).all() for array in even.constants.values())
    ratio = even.constants["deep.bias"] / np.where(dead["deep.bias"] == 0, 1, dead["deep.bias"])
    assert ratio[5] == 1.0
    assert (ratio != 1.0).any()
    freeze(even, calibrate(even, images(8, 0), RANGE, scheme=FEW))


@pytest.mark.parametrize("act", [nn.ReLU(), nn.ReLU6()])
def test_what_only_half_of_the_images_show_is_not_evened_away(act):
    """Every other image is dark: scales for what it shows would cut the rest."""
    graph = graph_of(act)
    uneven = images(32, 0)
    uneven.inputs[::2] *= 0.02
    even = equalize(graph, uneven, RANGE, FEW)
    want = answers(GraphModule(graph), uneven.inputs)
    assert np.abs(answers(GraphModule(even), uneven.inputs) - want).max() < 1e-4 * np.abs(want).max()


def test_the_largest_of_all_images_counts():
    graph = graph_of(nn.ReLU6())
    late = images(2 * AT_ONCE + 8, 0)
    late.inputs[: 2 * AT_ONCE] *= 0.1
    even = equalize(graph, late, RANGE, FEW)
    want = answers(GraphModule(graph), late.inputs)
    assert np.abs(answers(GraphModule(even), late.inputs) - want).max() < 1e-4 * np.abs(want).max()


@pytest.mark.parametrize("act", [nn.ReLU(), nn.ReLU6()])
def test_equal_channels_are_left_alone(act):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), act, nn.Conv2d(4, 2, 1)).eval()
    for layer in (net[0], net[2]):
        layer.weight.data[:], layer.bias.data[:] = 0.5, 0.1
    graph = optimize(capture(net, (3, 16, 16), name="net"))
    assert find_rescaled_layers(graph, equalize(graph, images(8, 0), RANGE, FEW)) == []


def test_values_that_are_not_finite_are_refused_by_name():
    graph = graph_of(nn.ReLU())
    broken = graph.constants["deep.weight"].copy()
    broken[0] = np.nan
    with pytest.raises(UnsupportedError, match=r"not finite at deep"):
        equalize(graph.replace(constants={**graph.constants, "deep.weight": broken}), images(4, 0), RANGE, FEW)


class Loop(nn.Module):
    """A layer that reads and makes channels of one joint; a sum that ReLU6 ends."""

    def __init__(self):
        super().__init__()
        self.stem, self.loop, self.head = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 4, 1)
        self.stem.weight.data *= torch.tensor([0.1, 0.2, 0.5, 1, 2, 4]).view(-1, 1, 1, 1)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        return self.head(nn.functional.relu6(x + self.loop(x)))


def test_a_layer_may_read_and_make_one_joint():
    torch.manual_seed(0)
    graph = optimize(capture(Loop().eval(), (3, 16, 16), name="net"))
    (joint,) = find_joints(graph)
    assert joint.cap == 6.0
    even = equalize(graph, images(32, 0), RANGE, FEW)
    assert set(find_rescaled_layers(graph, even)) == {"stem", "loop", "head"}
    want = answers(GraphModule(graph), images(32, 0).inputs)
    assert np.abs(answers(GraphModule(even), images(32, 0).inputs) - want).max() < 1e-4 * np.abs(want).max()


class Noticing(nn.Module):
    """A gate, a concatenation and an output: each notices how large a channel is, or has others beside it."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d, self.e, self.f = (nn.Conv2d(4, 4, 1) for _ in range(6))

    def forward(self, x):
        gated = torch.sigmoid(self.a(x))
        free = torch.relu(self.b(gated))
        joined = torch.cat([torch.relu(self.c(free)), gated], 1)
        shown = torch.relu(self.d(joined[:, :4]))
        below = self.e(shown).clamp(-1.0, 1.0)
        return self.f(below), shown, joined


def test_values_that_are_noticed_are_bound():
    torch.manual_seed(0)
    graph = optimize(capture(Noticing().eval(), (4, 8, 8), name="net"))
    assert [set(joint.values) for joint in find_joints(graph)] == [{"b"}]


def test_a_residual_stage_is_scaled_as_one():
    found = {frozenset(joint.values): joint for joint in find_joints(graph_of(nn.ReLU()))}
    stage = next(joint for values, joint in found.items() if "stem" in values)
    assert {node.name for node in stage.makers} == {"stem", "back"}
    assert {node.name for node in stage.readers} == {"deep", "head"}
    assert len(found) == 3


def test_images_outside_the_pixel_range_count_as_saturated():
    graph = graph_of(nn.ReLU())
    loud = images(16, 0, reach=8.0)
    quiet = dataclasses.replace(loud, inputs=np.clip(loud.inputs, *RANGE))
    made = [equalize(graph, some, RANGE, FEW).constants for some in (loud, quiet)]
    assert all(np.array_equal(made[0][name], made[1][name]) for name in graph.constants)
