"""The student: the deployable graph with every rounding the integers will do, learning its weights and step sizes.

Batch norm is folded, activations are fused, values share grids as the target's scheme says, and values are rounded
where the integer kernels round them, twice where they round twice. What was trained is therefore what `freeze` freezes;
`agreement` checks it against the exact reference: with few bits to the last value, with eight to the float32 sums.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgeq.finetune.kernels import OWN_WAY, Reading, adds_inputs
from edgeq.finetune.lsq import fake_quantize
from edgeq.graph.ir import Graph, Node
from edgeq.graph.run import GraphModule
from edgeq.integer.graph import IntegerGraph, Quantization
from edgeq.integer.reference import run as run_reference
from edgeq.quant.calibrate import Calibration
from edgeq.quant.fakequant import quantize_weight, simulation
from edgeq.quant.layerwise import quantize_layerwise
from edgeq.quant.rounding import COMPENSATED
from edgeq.quant.specify import fixed_output

__all__ = ["Agreement", "Learned", "Student", "agreement"]


@dataclass(frozen=True)
class Learned:
    """What moves while fine-tuning. Biases go with the weights; the input's grid is the preprocessing's and never does.

    Everything by default, as in LSQ; ``benchmarks/low_bit.py --ablation`` takes one away at a time.
    """

    weights: bool = True
    weight_steps: bool = True
    activation_steps: bool = True


class Student(nn.Module):
    """An optimised `graph` under `calibration`, bias corrections included: at first, exactly the PTQ network.

    Values that share a quantization share one step. Zero points and the number of levels stay as calibrated. Steps are
    kept as logarithms: never negative, and one rate means the same relative change for all of them. For the same reason
    weights are kept in units of their channel's largest and biases in units of their output's range: after folding,
    channels of one layer differ by orders of magnitude, and so do layers of networks fed 0..255 or 0..1.

    `relax` lets weights of few bits go where they like for a while, `round_weights` rounds them again, and `hold` keeps
    them so.
    """

    def __init__(self, graph: Graph, calibration: Calibration, learned: Learned = Learned()) -> None:
        super().__init__()
        self._exact = {name: graph.constants[name] for name in calibration.constants}
        graph = self.graph = _add_biases(calibration.rounded(graph))
        self.calibration = calibration
        self._relaxed: frozenset[str] = frozenset()
        self._held: frozenset[str] = frozenset()
        self._split = simulation(graph, {})
        self._module = GraphModule(self._split).eval().requires_grad_(False)
        self._leaders = _leaders(calibration.activations)
        self.steps = nn.ParameterDict()
        demanded = (
            node.name for node in graph.nodes if fixed_output(node.op) is not None or _copies_input(graph, node)
        )
        fixed = self._fixed = {self._leaders[name] for name in (*graph.inputs, *demanded)}
        for name in sorted(set(self._leaders.values())):
            step = _tensor(calibration.activations[name].scale)
            self.steps[_key(name)] = nn.Parameter(
                step.log(), requires_grad=learned.activation_steps and name not in fixed
            )
        self.weights, self.weight_steps, self.biases = nn.ParameterDict(), nn.ParameterDict(), nn.ParameterDict()
        self._ranges: dict[str, float] = {}
        self._layers = {node.name: node for node in graph.layers()}
        for name, node in self._layers.items():
            weight = graph.constants[node.inputs[1]]
            bias = graph.constants[node.inputs[2]] + calibration.bias_corrections.get(name, np.float32(0.0))
            largest = np.abs(weight).reshape(len(weight), -1).max(1).reshape(-1, *([1] * (weight.ndim - 1)))
            unit = _tensor(np.maximum(largest, 1e-12))
            self.register_buffer(f"unit/{_key(name)}", unit, persistent=False)
            covered = self._ranges[name] = _range(calibration.activations[name])
            self.weights[_key(name)] = nn.Parameter(_tensor(weight) / unit, requires_grad=learned.weights)
            self.biases[_key(name)] = nn.Parameter(_tensor(bias) / covered, requires_grad=learned.weights)
            scale = calibration.weights[node.inputs[1]].scale
            self.weight_steps[_key(name)] = nn.Parameter(_tensor(scale).log(), requires_grad=learned.weight_steps)
        self._rounded = _rounded_values(graph) & set(calibration.activations)
        wide = {name for name, grid in calibration.activations.items() if grid.dtype == "int16"}
        self._own_way = {
            node.name: node for node in graph.nodes if type(node.op) in OWN_WAY and wide.isdisjoint(node.inputs)
        }
        self._summands = {name for node in self._own_way.values() if adds_inputs(node.op) for name in node.inputs}

    def groups(self, weight_rate: float, step_rate: float) -> list[dict[str, object]]:
        """Parameter groups for an optimiser: weights and biases, weight steps, activation steps."""
        parts = (
            ([*self.weights.values(), *self.biases.values()], weight_rate),
            ([*self.weight_steps.values()], step_rate),
            ([*self.steps.values()], step_rate),
        )
        chosen = [([p for p in some if p.requires_grad], rate) for some, rate in parts]
        return [{"params": some, "lr": rate} for some, rate in chosen if some]

    @property
    def relaxed(self) -> bool:
        """Whether it has weights that are not rounded, which no integer network has."""
        return bool(self._relaxed)

    @torch.no_grad()
    def relax(self) -> None:
        """Weights of few bits are those of the float network, and are not rounded until `quantize_layerwise`."""
        self.continue_relaxed()
        for name in self._relaxed:
            weight = self._layers[name].inputs[1]
            whole = _tensor(self._exact.get(weight, self.graph.constants[weight]))
            self.weights[_key(name)].copy_(whole.to(self._unit_of(name).device) / self._unit_of(name))

    def continue_relaxed(self) -> None:
        """`relax`, with the weights as they are: what a checkpoint of a relaxed student holds."""
        self._relaxed = self._coarse()

    def hold(self) -> None:
        """Weights of few bits, and their steps, stay as they are from here on: what is left to learn are biases, the
        steps of activations, and weights of many bits."""
        self._held = self._coarse()

    def _coarse(self) -> frozenset[str]:
        bits = {name: self.calibration.weights[node.inputs[1]].bits for name, node in self._layers.items()}
        return frozenset(name for name, count in bits.items() if count is not None and count <= COMPENSATED)

    @torch.no_grad()
    def round_weights(self, inputs: npt.NDArray[np.float32]) -> None:
        """Round what `relax` let go: scales of least squared error, errors compensated under what normalised images
        `inputs` ``(N, C, H, W)`` make reach each layer. Followed is this student as it was. Biases stay as they were
        trained: what is left of their means is noise of these images, and correcting for it loses more than it wins."""
        if not self._relaxed:
            return
        graph, decided = self.frozen()
        weights = dict(decided.weights)
        for name in self._relaxed:
            weight = self._layers[name].inputs[1]
            weights[weight] = quantize_weight(graph.constants[weight], weights[weight].bits or 8)
        rounded = quantize_layerwise(
            graph, decided.activations, weights, inputs, correct_bias=False, beside_rounded=True
        )
        for name in self._relaxed:
            weight = self._layers[name].inputs[1]
            self.weights[_key(name)].copy_(_tensor(rounded.constants[weight]) / self._unit_of(name))
            self.weight_steps[_key(name)].copy_(_tensor(weights[weight].scale).log())
        self._relaxed = frozenset()

    def run(self, x: Tensor, keep: Collection[str] = ()) -> dict[str, Tensor]:
        """Outputs, and the values named in `keep`, for normalised images ``(N, C, H, W)``."""

        summands: dict[str, Tensor] = {}

        def visit(name: str, value: Tensor) -> Tensor:
            value = self._on_grid(name, value, summands) if name in self._rounded else value
            if name in self._summands:
                summands[name] = value.detach()
            return value

        # Whatever surrounds it: on a grid that was rounded to fewer bits, nothing is what will be frozen.
        with torch.autocast(x.device.type, enabled=False):
            return self._module.run(x.float(), visit, keep=keep, constants=self._constants())

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The graph's output, or a tuple of them."""
        values = self.run(x)
        outputs = tuple(values[name] for name in self.graph.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def _step(self, name: str) -> Tensor:
        leader = self._leaders[name]
        step: Tensor = self.steps[_key(leader)]
        if leader in self._fixed:  # to the last bit, which a logarithm does not keep
            return step.new_tensor(float(self.calibration.activations[leader].scale))
        return step.exp()

    def _on_grid(self, name: str, value: Tensor, summands: Mapping[str, Tensor]) -> Tensor:
        grid = self.calibration.activations[name]
        low, high = grid.limits
        zero = int(grid.zero_point)
        step = self._step(name)
        if name in self._own_way and not self._relaxed:
            value = self._as_kernel(name, value, step, summands)
        return fake_quantize(value, step, low - zero, high - zero)

    def _as_kernel(self, name: str, value: Tensor, step: Tensor, summands: Mapping[str, Tensor]) -> Tensor:
        """`value` as an int8 kernel has it before it is rounded to whole steps. Straight-through."""
        node, step = self._own_way[name], step.detach()
        with torch.no_grad():
            reads = self.graph.activations(node)
            reading = Reading(
                [self._step(read) for read in reads],
                [summands[read] for read in reads] if adds_inputs(node.op) else [],
                self.weight_steps[_key(name)].exp() if node.op.is_layer else None,
                self.graph.shapes[node.inputs[0]],
                int(self.calibration.activations[name].zero_point),
            )
            result = OWN_WAY.get(node.op)(node.op, value, step, reading)
            limits = node.op.clamp
            if limits is not None:  # what lies at one is no sum
                result = torch.where((value > limits.minimum) & (value < limits.maximum), result, value)
        return value + (result - value).detach()

    def _weight(self, name: str) -> Tensor:
        """A layer's weight as the kernels will have it, unless relaxed."""
        node = self._layers[name]
        step = self.weight_steps[_key(name)].exp()
        limit = self.calibration.weights[node.inputs[1]].limits[1]
        whole: Tensor = self.weights[_key(name)] * self._unit_of(name)
        if name in self._relaxed:
            return whole
        if name in self._held:
            whole, step = whole.detach(), step.detach()
        return fake_quantize(whole, step, -limit, limit, axis=0)

    def _bias(self, name: str) -> Tensor:
        bias: Tensor = self.biases[_key(name)] * self._ranges[name]
        return bias

    def _unit_of(self, name: str) -> Tensor:
        """What a layer's kept weights are worth, per channel; beside them."""
        unit: Tensor = self.get_buffer(f"unit/{_key(name)}")
        return unit

    def _constants(self) -> dict[str, Tensor]:
        """Weights and biases on their grids, by the constants' names."""
        constants = {}
        for name, node in self._layers.items():
            constants[node.inputs[1]] = self._weight(name)
            unit = (self._step(node.inputs[0]) * self.weight_steps[_key(name)].exp()).detach()
            bias = self._bias(name)
            constants[node.inputs[2]] = bias + (torch.round(bias / unit) * unit - bias).detach()
        return constants

    @torch.no_grad()
    def frozen(self) -> tuple[Graph, Calibration]:
        """What `freeze` takes: the graph with what was learned, and its grids."""
        constants = dict(self.graph.constants)
        weights = dict(self.calibration.weights)
        for name, node in self._layers.items():
            constants[node.inputs[1]] = _array(self._weight(name))
            constants[node.inputs[2]] = _array(self._bias(name))
            step = _array(self.weight_steps[_key(name)].exp())
            weights[node.inputs[1]] = dataclasses.replace(weights[node.inputs[1]], scale=step)
        activations: dict[str, Quantization] = {}
        moved: dict[str, Quantization] = {}
        for name, old in self.calibration.activations.items():
            leader = self._leaders[name]
            if leader not in moved:
                moved[leader] = dataclasses.replace(old, scale=_array(self._step(name)))
            activations[name] = moved[leader]
        return self.graph.replace(constants=constants), Calibration(activations, weights, {})


def _add_biases(graph: Graph) -> Graph:
    """`graph` with a bias in every layer, as every frozen layer has one: corrections must have a place, and learn."""
    nodes, constants = [], dict(graph.constants)
    for node in graph.nodes:
        if node.op.is_layer and len(node.inputs) == 2:
            name = f"{node.name}.bias"
            constants[name] = np.zeros(len(graph.constants[node.inputs[1]]), np.float32)
            node = dataclasses.replace(node, inputs=(*node.inputs, name))
        nodes.append(node)
    return graph.replace(nodes=tuple(nodes), constants=constants)


def _copies_input(graph: Graph, node: Node) -> bool:
    return node.op.output_bits is not None and node.inputs[0] in graph.inputs


def _leaders(activations: Mapping[str, Quantization]) -> dict[str, str]:
    """Every value to the first that has the very same quantization: calibration gives one object to a group."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(grid), name) for name, grid in activations.items()}


def _rounded_values(graph: Graph) -> set[str]:
    """Values an integer kernel rounds: all but those that ops only move or select, which lie on their grid already."""
    return {*graph.inputs, *(node.name for node in graph.nodes if node.op.rounds)}


def _range(grid: Quantization) -> float:
    """What the grid covers, in real units."""
    low, high = grid.limits
    return float(grid.scale) * (high - low)


def _key(name: str) -> str:
    """Parameter names may hold no dots."""
    return name.replace(".", "/")


def _tensor(array: npt.ArrayLike) -> Tensor:
    return torch.from_numpy(np.array(array, np.float32))


def _array(tensor: Tensor) -> npt.NDArray[np.float32]:
    return np.asarray(tensor.detach().cpu().numpy(), np.float32).copy()


@dataclass(frozen=True)
class Agreement:
    """A student against the exact reference of what it was frozen to, over `images`.

    `equal_argmax` and `equal` are shares, of images and of output values; `largest_step` is in integer steps.
    """

    images: int
    equal_argmax: float
    equal: float
    largest_step: int


@torch.no_grad()
def agreement(student: Student, integer: IntegerGraph, inputs: npt.NDArray[np.float32], batch: int = 16) -> Agreement:
    """Compare the first output of both on `inputs` ``(N, C, H, W)``: was what was trained what was frozen?"""
    (entry,), end = integer.inputs, integer.outputs[0]
    grid = integer.quantizations[end]
    same = largest = argmax = total = 0
    for some in _batches(inputs, batch):
        expected = run_reference(integer, integer.quantizations[entry].quantize(some))[end]
        output = grid.quantize(_array(student.run(torch.from_numpy(some))[end]))
        steps = np.abs(expected.astype(np.int64) - output.astype(np.int64))
        same, total = same + int((steps == 0).sum()), total + steps.size
        largest = max(largest, int(steps.max()))
        flat = (v.reshape(len(some), -1).argmax(1) for v in (expected, output))
        argmax += int(np.equal(*flat).sum())
    return Agreement(len(inputs), argmax / len(inputs), same / total, largest)


def _batches(inputs: npt.NDArray[np.float32], batch: int) -> Iterator[npt.NDArray[np.float32]]:
    for start in range(0, len(inputs), batch):
        yield np.ascontiguousarray(inputs[start : start + batch], np.float32)
