"""Equalize: scales for the channels of an activation, which the layers around it absorb.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (ICCV 2019), section 4.1: a ReLU
lets scales through, so a layer may make a channel s times as large, and the layers that read it take it s times
smaller: the network computes what it did. Weights have a scale per output channel here, so that making a channel larger
costs nothing. What there is to win is the grid of the activation, one for all its channels; what it costs is the
weights that read them, one grid for all inputs of a channel.

Activations of few bits take, of a family of scales, those with the least error expected of both in the layers that read
them. Activations of eight bits are nearly always fine as they are; the few that are not are found, and scaled, by what
their rounding does to the network's outputs (`edgeq.quant.sensitivity`, `edgeq.quant.channel_scales`).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgeq.data.calibration import CalibrationSet
from edgeq.graph.ir import Graph, Node
from edgeq.graph.run import GraphModule
from edgeq.quant.bits import weight_bits
from edgeq.quant.channel_scales import Grid, Reader, best_scales
from edgeq.quant.fakequant import quantize_weight, weight_integers
from edgeq.quant.observe import not_finite_error
from edgeq.quant.scheme import Scheme
from edgeq.quant.sensitivity import measure_sensitivity
from edgeq.quant.specify import OwnSpec, SharedSpec, Spec, keeps_grid, specify

__all__ = ["EQUALIZED", "Joint", "equalize", "find_joints", "find_rescaled_layers"]

EQUALIZED = 6
"""The most bits of an activation that is equalized by the errors of the layers that read it. On held-out synthetic
images MobileNetV2 comes 11 % nearer to float at four bits and 7 % at six; two networks without depthwise layers end 1
to 3 % further off (`benchmarks/equalization.py`)."""

SAVED = 5e-5
"""What scales of eight-bit channels must save, as a share of the outputs' variance. Less is not worth clipping what
other images show more of. Tried on held-out synthetic images of five networks: from here on nothing more is won."""

EVENED = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Exponents of a channel's own size that are tried: with 1, all channels become equally large."""

WEIGHED = (0.0, 0.25, 0.5)
"""Exponents of the size of the weights that read a channel. With 0.5 here and 0.5 for the channel's size, channels and
weights meet halfway, as in the paper."""

FAINT = 1 / 32
"""The smallest size that a channel counts as, as a share of the largest channel: other images may show more of it."""

SAMPLES, FEWEST = 2**18, 64
"""How many values of an activation errors are measured on: of all channels together, and of each at least."""

WORTH = 0.99
"""Stronger scales are taken only where their error is below this share of the least error so far."""

AT_ONCE = 64
"""How many images run at a time."""

OUTPUTS = 64
"""How many output channels of a layer are rounded to try scales; rounding all of a large layer takes minutes."""

RANGES = np.linspace(1.0, 0.3, 15)
"""Ranges tried for an activation, as shares of the observed range."""

Array = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Joint:
    """`values` that share their channels and can only be scaled together.

    `cap` is where a ReLU6 cuts them; `makers` are the layers that write them, `readers` the layers that read them.
    """

    values: tuple[str, ...]
    cap: float
    makers: tuple[Node, ...]
    readers: tuple[Node, ...]


@dataclasses.dataclass
class _Seen:
    """What was observed of one value: the `largest` magnitude of each channel ``(C,)`` and `some` values ``(C, n)``."""

    largest: Array
    some: Array


@torch.no_grad()
def equalize(
    graph: Graph,
    calibration: CalibrationSet,
    input_range: tuple[float, float],
    scheme: Scheme,
    specs: Mapping[str, Spec] | None = None,
) -> Graph:
    """Change weights and biases of an optimised `graph` so that it computes the same and loses less under `scheme`.

    `calibration` and `input_range` are as in `calibrate`. For activations of few bits half of the images measure how
    large channels are; the other half judge the scales that follow, because a channel that fills the grid is clipped in
    all images where it is larger. Activations of eight bits are scaled where that saves the outputs `SAVED`. Behind a
    ReLU6, or any clamp from 0, an equalized channel is cut between its largest observed value and the old limit: only
    beyond the observed values does the network compute something else. `specs` is what `specify` returns for the same
    graph, range and scheme, where the caller has it already. Raises `UnsupportedError` for values that are not finite.
    """
    specs = specify(graph, input_range, scheme) if specs is None else specs
    images = np.clip(calibration.inputs, *input_range)
    grids = {joint: own for joint in find_joints(graph) if (own := _grids(joint, specs))}
    fewest = {joint: min(spec.bits for spec in own.values()) for joint, own in grids.items()}
    graph = _equalize_few([joint for joint in grids if fewest[joint] <= EQUALIZED], grids, graph, images, scheme)
    return _equalize_eight([joint for joint in grids if EQUALIZED < fewest[joint] <= 8], graph, images, scheme, specs)


def _equalize_few(
    joints: Sequence[Joint], grids: Mapping[Joint, Mapping[str, OwnSpec]], graph: Graph, images: Array, scheme: Scheme
) -> Graph:
    """Scale the channels of `joints` by the errors of the layers that read them."""
    if not joints:
        return graph
    chosen = {joint: grids[joint] for joint in joints}
    names = {name for joint in chosen for name in joint.values}
    shown = _see(graph, images[::2], names)
    judging = _see(graph, images[1::2], names) if len(images) > 1 else shown
    bits, constants = weight_bits(graph, scheme), dict(graph.constants)
    for joint, own in chosen.items():
        layers = [_Reader.of(graph, node, bits[node.inputs[1]], judging) for node in joint.readers]
        scales = _best(joint, own, layers, shown, judging)
        if (scales != 1).any():
            constants |= _absorb(constants, joint, scales)
    return graph.replace(constants=constants)


def _equalize_eight(
    joints: Sequence[Joint], graph: Graph, images: Array, scheme: Scheme, specs: Mapping[str, Spec]
) -> Graph:
    """Scale the channels of those `joints` whose rounding the outputs notice."""
    rounded: dict[Joint, dict[str, list[str]]] = {}
    for joint in joints:
        for name in joint.values:
            node = graph.node(name)
            if node is not None and not keeps_grid(node, 8) and isinstance(specs[_leader(specs, name)], OwnSpec):
                rounded.setdefault(joint, {}).setdefault(_leader(specs, name), []).append(name)
    if not rounded:
        return graph
    names = {name for groups in rounded.values() for members in groups.values() for name in members}
    found = measure_sensitivity(graph, images, names)
    worth = SAVED * sum(math.prod(graph.shapes[name][1:]) for name in graph.outputs)
    bits, scaled = weight_bits(graph, scheme), dict[str, Array]()
    for joint, groups in rounded.items():
        seen = {leader: [found.activations[name] for name in members] for leader, members in groups.items()}
        own = {leader: spec for leader in groups if isinstance(spec := specs[leader], OwnSpec)}
        rounding = [Grid(seen[leader], min(joint.cap, spec.cap), spec.bits) for leader, spec in own.items()]
        weights = [node.inputs[1] for node in joint.readers]
        readers = [Reader(graph.constants[name], found.weights[name], bits[name]) for name in weights]
        scales = best_scales(rounding, readers, joint.cap, worth)
        if (scales != 1).any():
            scaled |= _absorb({**graph.constants, **scaled}, joint, scales)
    return graph.replace(constants={**graph.constants, **scaled}) if scaled else graph


def _leader(specs: Mapping[str, Spec], name: str) -> str:
    """The value whose quantization `name` has."""
    spec = specs[name]
    return spec.source if isinstance(spec, SharedSpec) else name


def find_rescaled_layers(graph: Graph, equalized: Graph) -> list[str]:
    """The names of layers whose weights differ between `graph` and `equalized`, the result of `equalize`."""
    layers = graph.layers()
    return [node.name for node in layers if equalized.constants[node.inputs[1]] is not graph.constants[node.inputs[1]]]


def find_joints(graph: Graph) -> list[Joint]:
    """Find the values of an optimised `graph` whose channels can be scaled: layers write them, layers read them, and
    every op in between lets scales through."""
    parent = {name: name for name in graph.shapes if name not in graph.constants}

    def find(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    caps: dict[str, float] = {}
    bound = {*graph.inputs, *graph.outputs}
    for node in graph.nodes:
        clamp = node.op.clamp
        if clamp is not None and (clamp.minimum != 0.0 or clamp.maximum <= 0.0):
            bound.add(node.name)
        elif clamp is not None:
            caps[node.name] = clamp.maximum
        if node.op.is_layer:
            continue  # what it makes has channels of its own
        if not _passes_on(graph, node):
            bound |= {node.name, *graph.activations(node)}
        for name in graph.activations(node):
            parent[find(name)] = find(node.name)
    groups: dict[str, list[str]] = {}
    for name in parent:
        groups.setdefault(find(name), []).append(name)
    joints, layers = [], tuple(graph.layers())
    for values in groups.values():
        makers = tuple(node for node in layers if node.name in values)
        readers = tuple(node for node in layers if node.inputs[0] in values)
        if bound.isdisjoint(values) and makers and readers:
            cap = min(caps.get(name, math.inf) for name in values)
            joints.append(Joint(tuple(values), cap, makers, readers))
    return joints


def _passes_on(graph: Graph, node: Node) -> bool:
    """Whether scaling the channels of the inputs of `node` scales those of its output alike."""
    shapes = [graph.shapes[name] for name in node.inputs]
    no_constants = len(graph.activations(node)) == len(node.inputs)
    return no_constants and node.op.scales_with_input(shapes, graph.shapes[node.name])


def _grids(joint: Joint, specs: Mapping[str, Spec]) -> dict[str, OwnSpec]:
    """The specification of every value that layers read; empty where one is not calibrated."""
    grids = {}
    for node in joint.readers:
        spec = specs[_leader(specs, node.inputs[0])]
        if not isinstance(spec, OwnSpec):
            return {}
        grids[node.inputs[0]] = spec
    return grids


def _see(graph: Graph, images: Array, names: Iterable[str]) -> dict[str, _Seen]:
    """Observe the `names` values on all `images`; `some` values come from the first `AT_ONCE` of them."""
    names, statistics = set(names), dict[str, _Seen]()

    def visit(name: str, value: Tensor) -> None:
        if name not in names:
            return
        channels = value.transpose(0, 1).flatten(1)
        largest = channels.abs().amax(1).numpy()
        if not np.isfinite(largest).all():
            raise not_finite_error(name)
        if name in statistics:
            np.maximum(statistics[name].largest, largest, out=statistics[name].largest)
            return
        total = channels.shape[1]
        places = np.linspace(0, total - 1, min(total, max(FEWEST, SAMPLES // len(channels)))).round()
        statistics[name] = _Seen(largest, channels[:, torch.from_numpy(places.astype(np.int64))].numpy())

    module = GraphModule(graph).eval()
    for some in torch.split(torch.from_numpy(images), AT_ONCE):
        module.run(some, visit=visit)
    return statistics


@dataclasses.dataclass(frozen=True)
class _Reader:
    """A layer with a `weight` ``(O, I / groups, taps)`` of `bits` bits that reads `value`, or some of its outputs.

    `heard` is how much of a channel's variance arrives in its outputs ``(I,)``, and `variance` the channels' own
    ``(I,)``. Channels count as independent, and means as corrected for.
    """

    value: str
    weight: Wide
    groups: int
    bits: int
    heard: Wide
    variance: Wide

    @classmethod
    def of(cls, graph: Graph, node: Node, bits: int, seen: Mapping[str, _Seen]) -> _Reader:
        weight = graph.constants[node.inputs[1]].astype(np.float64)
        weight = weight.reshape(*weight.shape[:2], -1)
        groups = graph.shapes[node.inputs[0]][1] // weight.shape[1]
        if groups == 1:
            weight = weight[:: -(-len(weight) // OUTPUTS)]
        variance = seen[node.inputs[0]].some.var(axis=1, dtype=np.float64)
        return cls(node.inputs[0], weight, groups, bits, _by_input(weight**2, groups), variance)

    @property
    def signal(self) -> float:
        """Variance of the outputs, all together."""
        return max(float(self.heard @ self.variance), 1e-30)

    def error(self, scales: Wide, noise: Wide) -> float:
        """Expected, relative to the signal, with channels `scales` times as large ``(I,)`` and then `noise` on them,
        in units of the channel as it was."""
        spread = _spread(scales, self.groups, len(self.weight))
        scaled = (self.weight / spread).astype(np.float32)
        grid = quantize_weight(scaled, self.bits)
        lost = weight_integers(scaled, grid) * grid.scale[:, None, None] * spread - self.weight
        return float(self.heard @ noise + _by_input(lost**2, self.groups) @ self.variance) / self.signal


def _by_input(weight: Wide, groups: int) -> Wide:
    """Sum a weight ``(O, I / groups, taps)`` over outputs and taps, for each input channel, ``(I,)``."""
    outputs, inputs, _ = weight.shape
    return np.asarray(weight.sum(2).reshape(groups, outputs // groups, inputs).sum(1).reshape(-1))


def _spread(channels: Wide, groups: int, outputs: int) -> Wide:
    """Arrange numbers of input channels ``(I,)`` as a weight ``(O, I / groups, taps)`` has them, ``(O, I / groups,
    1)``."""
    return channels.reshape(groups, -1).repeat(outputs // groups, axis=0)[:, :, None]


def _best(
    joint: Joint,
    own: Mapping[str, OwnSpec],
    layers: Sequence[_Reader],
    shown: Mapping[str, _Seen],
    judging: Mapping[str, _Seen],
) -> Wide:
    """Choose scales ``(C,)`` with the least error in the layers that read them.

    Candidates are made of what was `shown`, one for each pair of `EVENED` and `WEIGHED`; the error on `judging` chooses
    the pair, whose scales are then made of both. A channel that was always 0 keeps its scale.
    """
    largest = _largest(joint, shown)
    all_seen = np.maximum(largest, _largest(joint, judging))
    weights = np.sqrt(sum((layer.heard / layer.signal for layer in layers), start=np.zeros(len(largest))))
    best, least = np.ones(len(largest)), math.inf
    for evened, weighed in itertools.product(EVENED, WEIGHED):
        scales = _scales(joint.cap, largest, weights, evened, weighed)
        noise = {name: _noise(judging[name].some, scales, joint.cap, spec) for name, spec in own.items()}
        error = sum(layer.error(scales, noise[layer.value]) for layer in layers)
        if error < WORTH * least:
            best, least = _scales(joint.cap, all_seen, weights, evened, weighed), error
    return best


def _largest(joint: Joint, seen: Mapping[str, _Seen]) -> Wide:
    return np.asarray(np.max([seen[name].largest for name in joint.values], axis=0), np.float64)


def _scales(cap: float, largest: Wide, weights: Wide, evened: float, weighed: float) -> Wide:
    """Scales ``(C,)`` for channels of sizes `largest` ``(C,)`` that are read by weights of sizes `weights` ``(C,)``.

    The largest value stays what it was. Under a finite `cap` no scale is below 1, which would let a channel pass where
    it was cut.
    """
    if evened == weighed == 0.0:
        return np.ones(len(largest))
    top = max(largest.max(), 1e-30)
    scales = _shares(largest) ** -evened * _shares(weights) ** weighed
    scales *= top / (scales * np.maximum(largest, FAINT * top)).max()
    return np.where(largest > 0, scales if math.isinf(cap) else np.maximum(scales, 1.0), 1.0)


def _shares(sizes: Wide) -> Wide:
    """Sizes as shares of the largest one, `FAINT` at least."""
    return np.asarray(np.maximum(sizes / max(sizes.max(), 1e-30), FAINT))


def _noise(some: Array, scales: Wide, cap: float, spec: OwnSpec) -> Wide:
    """Mean squared error of each channel ``(C,)`` when it is scaled by `scales`, cut at `cap` and quantized.

    `some` are values of each channel ``(C, n)``. The grid is the one with the least error over all channels.
    """
    channels = some * scales[:, None]
    low, high, levels = min(channels.min(), 0.0), min(max(channels.max(), 1e-12), cap), 2**spec.bits - 1
    tried = []
    for share in RANGES[:1] if spec.exact else RANGES:
        step = share * (high - low) / levels
        lowest = round(share * low / step)
        lost = np.clip(np.rint(channels / step), lowest, lowest + levels) * step - channels
        tried.append(np.square(lost).mean(axis=1))
    return np.asarray(min(tried, key=lambda errors: float(errors.sum())) / scales**2)


def _absorb(constants: Mapping[str, Array], joint: Joint, scales: Wide) -> dict[str, Array]:
    """Put `scales` into the constants of the layers that write and read the values of `joint`.

    A layer may do both, so readers come after the makers.
    """
    scaled: dict[str, Array] = {}
    for node in joint.makers:
        for name in node.inputs[1:]:
            array = constants[name]
            scaled[name] = (array * scales.reshape(-1, *([1] * (array.ndim - 1)))).astype(np.float32)
    for node in joint.readers:
        array = scaled.get(node.inputs[1], constants[node.inputs[1]])
        groups = len(scales) // array.shape[1]
        spread = _spread(scales, groups, len(array)).reshape(*array.shape[:2], *([1] * (array.ndim - 2)))
        scaled[node.inputs[1]] = (array / spread).astype(np.float32)
    return scaled
