"""Input transforms: a file's input takes the network's normalised values, or raw pixels and absorbs the normalisation.

A raw integer input is the pixel itself (uint8), or the pixel less 128 (int8); a float one is 0 to 255. Mean and std go

grid     into the input's scale and zero point, where all channels share them: nothing is added, no integer changes;
weights  into the first convolutions, where these pad nothing or pad with pixel 0;
op       into a 1 x 1 convolution in front, which leaves the integers a normalised input would have had.

Padding is the difficulty: a border is normalised 0, the mean pixel, and an input has one zero point for all channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgeq.data.calibration import CalibrationSet
from edgeq.errors import TargetLimitError
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import Conv2d
from edgeq.graph.passes.fold_input import fold_input
from edgeq.integer.graph import IntegerGraph, Quantization
from edgeq.model.spec import ModelSpec
from edgeq.quant.specify import grid

__all__ = ["FORMS", "InputTransform", "choose_raw_pixels", "describe_raw_input", "normalised_input"]

FORMS = {
    "grid": "in the input's scale and zero point",
    "weights": "in the first layers' weights",
    "op": "in a 1 x 1 convolution in front",
}
"""The place of mean and std in the file, in words, by form."""

PIXELS = 256
NEARLY = 1e-3
"""Tolerance, in pixels, for the float32 rounding of a decimal mean."""
PIXEL_GRID = Quantization(np.float32(1), np.int32(-PIXELS // 2))  # type: ignore[arg-type]


@dataclass(frozen=True)
class InputTransform:
    """`network` is the model's own specification, `spec` the one whose mean and std make the file's input of pixels.

    `form` is ``normalised`` or one of those above, `why` says why. `border` is how far, in pixels, padding is from the
    mean: up to a half where 255 x mean is no integer, for 256 pixels and such a border do not fit into 8 bits together.
    """

    network: ModelSpec
    form: str
    spec: ModelSpec
    why: str = ""
    border: float = 0.0

    @property
    def raw(self) -> bool:
        return self.form != "normalised"

    @property
    def zero(self) -> int:
        """The pixel that the input's real 0 stands for."""
        return round(255 * self.spec.mean[0])

    @property
    def added_macs(self) -> int:
        return len(self.spec.mean) * int(np.prod(self.spec.input_shape)) if self.form == "op" else 0

    def images(self, calibration: CalibrationSet) -> CalibrationSet:
        """Normalised images as the file takes them; raw ones are rounded and clipped to what a pixel can be."""
        if not self.raw:
            return calibration
        mean, std = (np.reshape(v, (1, -1, 1, 1)) for v in (self.network.mean, self.network.std))
        pixels = np.clip(np.round(255 * (calibration.inputs * std + mean)), 0, 255)
        if self.form == "grid":
            return replace(calibration, inputs=self.spec.normalise(pixels.astype(np.uint8).transpose(0, 2, 3, 1)))
        return replace(calibration, inputs=pixels.astype(np.float32))

    def graph(self, graph: Graph) -> Graph:
        """The optimised `graph` to calibrate: with form ``weights`` it takes pixels, else normalised values."""
        if self.form != "weights":
            return graph
        mean, std = np.array(self.network.mean), np.array(self.network.std)
        return fold_input(graph, 1 / (255 * std), -mean / std)

    def front(self, integer: IntegerGraph) -> tuple[Graph, IntegerGraph]:
        """The convolution in front of form ``op``, alone: in float, and as `integers` has it."""
        node, (entry,) = integer.nodes[0], integer.inputs
        mean, std = np.array(self.network.mean), np.array(self.network.std)
        weights = (np.diag(1 / (255 * std))[:, :, None, None], -mean / std)
        reals = {name: v.astype(np.float32) for name, v in zip(node.inputs[1:], weights, strict=True)}
        graph = Graph(integer.name, (entry,), (node.name,), (node,), reals, integer.input_shapes)
        kept = {name: integer.constants[name] for name in reals}
        return graph, replace(integer, outputs=(node.name,), nodes=(node,), constants=kept)

    def integers(self, integer: IntegerGraph, weight_bits: int = 8) -> IntegerGraph:
        """What `graph` was frozen to, taking pixels. `weight_bits` are those the target's kernels multiply."""
        if self.form == "grid":
            return _shift(integer, _offset(self.network, self.zero))
        return _with_op(integer, self.network, weight_bits) if self.form == "op" else integer


def describe_raw_input(io: str) -> str:
    """Describe what an app puts into a raw input of type `io`."""
    return {"uint8": "pixels 0..255 as they are", "int8": "pixels 0..255 less 128", "float32": "pixels 0..255"}[io]


def normalised_input(spec: ModelSpec) -> InputTransform:
    """The transform of an input that takes normalised values, as the network does."""
    return InputTransform(spec, "normalised", spec)


def choose_raw_pixels(
    graph: Graph, spec: ModelSpec, io: str, *, tuned: bool = False, free: bool = False
) -> InputTransform:
    """Choose where the normalisation of an optimised `graph` goes: the cheapest form that is exact for inputs of type
    `io`.

    `tuned`: its weights are trained before they are frozen, on normalised images. `free` raises `UnsupportedError`
    where an op would have to be added.
    """
    zero = int(grid(*spec.input_range()).zero_point) + PIXELS // 2
    not_grid = "float inputs begin at pixel 0" if io == "float32" else _off_grid(graph, spec, zero)
    if not not_grid:
        shifted = replace(spec, mean=(zero / 255,) * len(spec.mean))
        border = abs(_offset(spec, zero)) if _is_padded(graph) else 0.0
        return InputTransform(spec, "grid", shifted, "all channels share mean and std", border)
    pixels = replace(spec, mean=(0.0,) * len(spec.mean), std=(1 / 255,) * len(spec.std))
    not_weights = "the weights are trained on normalised images" if tuned else _not_in_weights(graph, spec)
    if not not_weights:
        return InputTransform(
            spec, "weights", pixels, f"{not_grid}; the first layers see no border of another pixel than 0"
        )
    why = f"{not_grid}; {not_weights}"
    if free:
        raise TargetLimitError(
            "raw pixels without an op more",
            where=spec.name,
            why=why,
            hint="--raw-pixels yes puts a 1 x 1 convolution in front",
        )
    return InputTransform(spec, "op", pixels, why)


def _offset(spec: ModelSpec, zero: int) -> float:
    """How many pixels the input's zero point lies above the mean; at most a half on a grid."""
    off = zero - 255 * spec.mean[0]
    return off if abs(off) > NEARLY else 0.0


def _is_padded(graph: Graph) -> bool:
    """Whether a border stands beside pixels anywhere, before the first layers or in them."""
    held = set(graph.inputs)
    for node in graph.nodes:
        if not held & set(node.inputs):
            continue
        if node.op.pads:
            return True
        if node.op.shares_quantization:
            held.add(node.name)
    return False


def _off_grid(graph: Graph, spec: ModelSpec, zero: int) -> str:
    """Why the input's scale and zero point cannot be those of pixels; "" where they are."""
    means, steps = 255 * np.array(spec.mean), 255 * np.array(spec.std) * float(grid(*spec.input_range()).scale)
    if np.ptp(means) > NEARLY or np.ptp(steps) * 255 > NEARLY:
        return "channels differ in mean or std"
    if abs(zero - means[0]) > 0.5 + NEARLY or abs(steps[0] - 1) * 255 > 10 * NEARLY:
        return f"the mean is no pixel but {means[0]:.6g}"
    if _offset(spec, zero) and not _exits(graph):
        return f"the mean is {means[0]:.6g}, and not every reader of the input has a bias to take the rest"
    return ""


def _not_in_weights(graph: Graph, spec: ModelSpec) -> str:
    """Why the first layers cannot take the normalisation; "" where they can."""
    (entry,) = graph.inputs
    if entry in graph.outputs:
        return "the input is also an output"
    for node in graph.consumers()[entry]:
        if not node.op.is_layer or len(graph.shapes[node.inputs[1]]) != 4:
            return f"{node.name} reads the input and is no convolution"
        if node.op.pads and any(spec.mean):
            pixels = ", ".join(f"{255 * mean:.6g}" for mean in spec.mean)
            return f"{node.name} pads with the mean ({pixels}), which one zero point at pixel 0 does not say"
    return ""


def _exits(graph: Graph | IntegerGraph) -> list[Node]:
    """Layers that read the input, or what only moves or selects its values; none where anything else does."""
    held, layers = set(graph.inputs), []
    for node in graph.nodes:
        read = [name in held for name in graph.activations(node)]
        if not any(read):
            continue
        if node.op.is_layer:
            layers.append(node)
        elif node.op.shares_quantization and all(read):
            held.add(node.name)
        else:
            return []
    return [] if held & set(graph.outputs) else layers


def _shift(integer: IntegerGraph, offset: float) -> IntegerGraph:
    """`integer` for inputs whose true zero point is `offset` lower than the integer it has: biases take the rest."""
    if not offset:
        return integer
    constants = dict(integer.constants)
    for node in _exits(integer):
        weight, bias = node.inputs[1:]
        total = integer.constants[weight].astype(np.int64).reshape(len(integer.constants[weight]), -1).sum(1)
        constants[bias] = np.round(integer.constants[bias] + offset * total).astype(integer.constants[bias].dtype)
    return replace(integer, constants=constants)


def _with_op(integer: IntegerGraph, spec: ModelSpec, weight_bits: int) -> IntegerGraph:
    """`integer` behind a convolution that brings pixels onto the grid of its input.

    It is a dense one with zeros beside the diagonal: on three channels a depthwise kernel fills few of its lanes and
    takes twice the time in XNNPACK.
    """
    (entry,), channels = integer.inputs, len(spec.std)
    name = f"{entry}.normalised"
    while name in integer.shapes:
        name += "_"
    weight, bias = f"{name}.weight", f"{name}.bias"
    most = 2 ** (weight_bits - 1) - 1
    scale = (1 / (255 * np.array(spec.std) * most)).astype(np.float32)
    zeros = np.zeros(channels, np.int32)
    biases = np.round(-np.array(spec.mean) / np.array(spec.std) / scale.astype(np.float64)).astype(np.int32)
    op = Node(name, Conv2d(), (entry, weight, bias))
    moved = tuple(
        Node(node.name, node.op, tuple(name if value == entry else value for value in node.inputs))
        for node in integer.nodes
    )
    return replace(
        integer,
        outputs=tuple(name if value == entry else value for value in integer.outputs),
        nodes=(op, *moved),
        constants={
            **integer.constants,
            weight: np.diag(np.full(channels, most, np.int8))[:, :, None, None],
            bias: biases,
        },
        quantizations={
            **integer.quantizations,
            entry: PIXEL_GRID,
            name: integer.quantizations[entry],
            weight: Quantization(scale, zeros, "int8", 0),
            bias: Quantization(scale, zeros, "int32", 0),
        },
    )
