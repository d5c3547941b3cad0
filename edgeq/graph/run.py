"""A Graph run in torch: the float network that synthesis reads, calibration observes and fake quantization perturbs.

Everything about the graph is settled when the module is built; a run is one loop over prepared steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeq.errors import ConfigError, UnsupportedError
from edgeq.graph import ops
from edgeq.graph.ir import Graph
from edgeq.graph.ops import Op, Sides, elementwise, norms

__all__ = ["GraphModule", "Visit", "function"]

Visit = Callable[[str, Tensor], "Tensor | None"]
"""Called with each value's name and tensor; what it returns (if anything) takes the value's place."""

SMALLEST_POWER = 1e-12
"""Below it an inverse square root says what it says there: what was rounded to 0 is no reason for infinity."""

_Kernel = Callable[..., Tensor]
_K = TypeVar("_K", bound=Op)


class GraphModule(nn.Module):
    """The graph as a module: any batch size, any memory format, differentiable in its input.

    Constants are buffers named by their path with ``/`` for ``.``, in the graph's own memory, which nobody writes to;
    with ``trainable=True`` they are parameters, copied.
    """

    def __init__(self, graph: Graph, *, trainable: bool = False) -> None:
        super().__init__()
        self.graph = graph
        for name, array in graph.constants.items():
            tensor = torch.from_numpy(np.require(array, np.float32, ("C", "W")))
            if trainable:
                self.register_parameter(_attribute(name), nn.Parameter(tensor.clone()))
            else:
                self.register_buffer(_attribute(name), tensor)
        if len(graph.inputs) != 1:
            raise UnsupportedError(f"the graph has {len(graph.inputs)} inputs", where=graph.name)
        self._steps = _plan(graph)

    def constant(self, name: str) -> Tensor:
        """The buffer or parameter holding the constant `name`."""
        found: Tensor = getattr(self, _attribute(name))
        return found

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The graph's output, or a tuple of them."""
        values = self.run(x)
        outputs = tuple(values[name] for name in self.graph.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def run(
        self,
        x: Tensor,
        visit: Visit | None = None,
        *,
        keep: Collection[str] = (),
        constants: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Run `x` (N, ...) and return the outputs and the values named in `keep`, by name.

        `visit` sees the input and then every node's output, in order. `constants` stand in for the module's own of the
        same name. A value is let go after its last reader, unless kept.
        """
        (entry,) = self.graph.inputs
        if x.shape[1:] != self.graph.input_shapes[entry][1:]:
            raise ConfigError(
                f"input has shape {list(x.shape)}", where=self.graph.name,
                hint=f"expected (N, {', '.join(map(str, self.graph.input_shapes[entry][1:]))})",
            )  # fmt: skip
        wanted = {*self.graph.outputs, *keep}
        values: dict[str, Tensor] = {name: self.constant(name) for name in self.graph.constants}
        values.update(constants or {})
        values[entry] = x if visit is None else _or(visit(entry, x), x)
        del x
        for step in self._steps:
            made = step.kernel(*[values[name] for name in step.inputs])
            if visit is not None:
                made = _or(visit(step.name, made), made)
            values[step.name] = made
            del made
            for name in step.spent:
                if name not in wanted:
                    del values[name]
        return {name: values[name] for name in values if name in wanted}


def _or(replacement: Tensor | None, value: Tensor) -> Tensor:
    return value if replacement is None else replacement


def _attribute(name: str) -> str:
    return name.replace(".", "/")


@dataclass(frozen=True)
class _Step:
    name: str
    kernel: _Kernel
    inputs: tuple[str, ...]
    spent: tuple[str, ...]


def _plan(graph: Graph) -> list[_Step]:
    last = {name: node.name for node in graph.nodes for name in graph.activations(node)}
    unread = {node.name for node in graph.nodes} - set(last)
    steps = []
    for node in graph.nodes:
        spent = tuple(n for n in dict.fromkeys(graph.activations(node)) if last[n] == node.name)
        spent += (node.name,) if node.name in unread else ()
        build = _KERNELS.get(type(node.op))
        if build is None:
            raise UnsupportedError(f"{type(node.op).__name__} cannot be run in torch", where=node.name)
        steps.append(_Step(node.name, build(node.op), node.inputs, spent))
    return steps


def function(op: Op) -> _Kernel:
    """The torch call for an op: from its inputs' tensors, parameters included, to its output."""
    return _KERNELS[type(op)](op)


_KERNELS: dict[type[Op], Callable[[Any], _Kernel]] = {}
"""Op kind -> function that turns an op into the torch call for it, run once per node."""


def _kernel(kind: type[_K]) -> Callable[[Callable[[_K], _Kernel]], Callable[[_K], _Kernel]]:
    def add(build: Callable[[_K], _Kernel]) -> Callable[[_K], _Kernel]:
        _KERNELS[kind] = build
        return build

    return add


@_kernel(ops.Clamp)
def _clamp(op: ops.Clamp) -> _Kernel:
    if op == ops.RELU:
        return F.relu
    low = None if op.minimum == -math.inf else op.minimum
    high = None if op.maximum == math.inf else op.maximum
    if low is None and high is None:
        return lambda x: x
    if low is not None and high is not None and low <= high:
        return lambda x: F.hardtanh(x, low, high)  # no gradient at the limits, as the networks themselves have it
    return lambda x: torch.clamp(x, low, high)


def _then(kernel: _Kernel, activation: ops.Clamp | None) -> _Kernel:
    if activation is None:
        return kernel
    limit = _clamp(activation)
    return lambda *inputs: limit(kernel(*inputs))


def _symmetric(padding: Sides) -> bool:
    return padding[0] == padding[1] and padding[2] == padding[3]


def _last_first(padding: Sides) -> list[int]:
    top, bottom, left, right = padding
    return [left, right, top, bottom]


@_kernel(ops.Conv2d)
def _conv2d(op: ops.Conv2d) -> _Kernel:
    stride, dilation, groups = list(op.stride), list(op.dilation), op.groups
    inside = [op.padding[0], op.padding[2]] if _symmetric(op.padding) else [0, 0]
    outside = None if _symmetric(op.padding) else _last_first(op.padding)

    def kernel(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if outside is not None:
            x = F.pad(x, outside)
        return F.conv2d(x, weight, bias, stride, inside, dilation, groups)

    return _then(kernel, op.activation)


@_kernel(ops.ConvTranspose2d)
def _conv_transpose2d(op: ops.ConvTranspose2d) -> _Kernel:
    stride, groups = list(op.stride), op.groups
    cut = [-side for side in _last_first(op.padding)]

    def kernel(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        o, i, kh, kw = weight.shape
        theirs = weight.view(groups, o // groups, i, kh, kw).transpose(1, 2).reshape(groups * i, o // groups, kh, kw)
        whole = F.pad(F.conv_transpose2d(x, theirs, None, stride, groups=groups), cut)
        return whole if bias is None else whole + bias.view(1, -1, 1, 1)

    return _then(kernel, op.activation)


@_kernel(ops.Linear)
def _linear(op: ops.Linear) -> _Kernel:
    return _then(F.linear, op.activation)


@_kernel(ops.Add)
def _add(op: ops.Add) -> _Kernel:
    return _then(torch.add, op.activation)


@_kernel(elementwise.Requantize)
def _requantize(op: elementwise.Requantize) -> _Kernel:
    return lambda x: x


@_kernel(elementwise.Mul)
def _mul(op: elementwise.Mul) -> _Kernel:
    return torch.mul


@_kernel(elementwise.Maximum)
def _maximum(op: elementwise.Maximum) -> _Kernel:
    return torch.maximum


@_kernel(elementwise.Affine)
def _affine(op: elementwise.Affine) -> _Kernel:
    def kernel(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        shape = (1, -1, *[1] * (x.dim() - 2))
        return x * scale.view(shape) + shift.view(shape)

    return kernel


@_kernel(elementwise.Sigmoid)
def _sigmoid(op: elementwise.Sigmoid) -> _Kernel:
    return torch.sigmoid


@_kernel(elementwise.Tanh)
def _tanh(op: elementwise.Tanh) -> _Kernel:
    return torch.tanh


@_kernel(elementwise.HardSigmoid)
def _hard_sigmoid(op: elementwise.HardSigmoid) -> _Kernel:
    return F.hardsigmoid


@_kernel(elementwise.HardSwish)
def _hard_swish(op: elementwise.HardSwish) -> _Kernel:
    return F.hardswish


@_kernel(elementwise.GELU)
def _gelu(op: elementwise.GELU) -> _Kernel:
    return lambda x: F.gelu(x, approximate="tanh" if op.approximate else "none")


@_kernel(elementwise.ELU)
def _elu(op: elementwise.ELU) -> _Kernel:
    return lambda x: torch.ops.aten.elu(x, op.alpha, op.scale, op.input_scale)


@_kernel(elementwise.Softplus)
def _softplus(op: elementwise.Softplus) -> _Kernel:
    return F.softplus


@_kernel(elementwise.Mish)
def _mish(op: elementwise.Mish) -> _Kernel:
    return F.mish


@_kernel(norms.MeanSquare)
def _mean_square(op: norms.MeanSquare) -> _Kernel:
    return lambda x: x.square().mean(1, keepdim=True) + op.eps


@_kernel(norms.Rsqrt)
def _rsqrt(op: norms.Rsqrt) -> _Kernel:
    return lambda x: x.clamp(min=SMALLEST_POWER).rsqrt()


@_kernel(ops.BatchNorm)
def _batch_norm(op: ops.BatchNorm) -> _Kernel:
    def kernel(x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return F.batch_norm(x, mean, variance, gamma, beta, False, 0.0, op.eps)

    return kernel


@_kernel(ops.LeakyReLU)
def _leaky_relu(op: ops.LeakyReLU) -> _Kernel:
    return lambda x: F.leaky_relu(x, op.slope)


@_kernel(ops.Softmax)
def _softmax(op: ops.Softmax) -> _Kernel:
    return lambda x: torch.softmax(x, op.axis)


@_kernel(ops.Concat)
def _concat(op: ops.Concat) -> _Kernel:
    return lambda *inputs: torch.cat(inputs, op.axis)


def _poolable(op: ops.MaxPool2d | ops.AvgPool2d) -> bool:
    """Torch's pools pad both sides alike and by at most half the window."""
    return _symmetric(op.padding) and op.padding[0] <= op.kernel[0] // 2 and op.padding[2] <= op.kernel[1] // 2


@_kernel(ops.MaxPool2d)
def _max_pool2d(op: ops.MaxPool2d) -> _Kernel:
    if _poolable(op):
        return lambda x: F.max_pool2d(x, op.kernel, op.stride, (op.padding[0], op.padding[2]))
    sides = _last_first(op.padding)
    return lambda x: F.max_pool2d(F.pad(x, sides, value=-math.inf), op.kernel, op.stride)


@_kernel(ops.AvgPool2d)
def _avg_pool2d(op: ops.AvgPool2d) -> _Kernel:
    if _poolable(op):
        inside = (op.padding[0], op.padding[2])
        return lambda x: F.avg_pool2d(x, op.kernel, op.stride, inside, False, op.count_padding)
    sides = _last_first(op.padding)

    def kernel(x: Tensor) -> Tensor:
        mean = F.avg_pool2d(F.pad(x, sides), op.kernel, op.stride)
        if op.count_padding:
            return mean
        real = F.avg_pool2d(F.pad(x.new_ones((1, 1, *x.shape[2:])), sides), op.kernel, op.stride)
        return mean / real

    return kernel


@_kernel(ops.GlobalAvgPool)
def _global_avg_pool(op: ops.GlobalAvgPool) -> _Kernel:
    return lambda x: x.mean((2, 3), keepdim=True)


@_kernel(ops.Pad)
def _pad(op: ops.Pad) -> _Kernel:
    counts = [c for pair in zip(reversed(op.before), reversed(op.after), strict=True) for c in pair]
    return lambda x: F.pad(x, counts[:-2], value=-math.inf if op.lowest else 0.0)


@_kernel(ops.Slice)
def _slice(op: ops.Slice) -> _Kernel:
    pieces = (slice(None), *(slice(*p) for p in zip(op.start[1:], op.stop[1:], op.step[1:], strict=True)))
    return lambda x: x[pieces]


@_kernel(ops.Permute)
def _permute(op: ops.Permute) -> _Kernel:
    return lambda x: x.permute(op.order)


@_kernel(ops.Resize2d)
def _resize(op: ops.Resize2d) -> _Kernel:
    corners = op.align_corners if op.mode == "bilinear" else None
    return lambda x: F.interpolate(x, list(op.size), mode=op.mode, align_corners=corners)


@_kernel(ops.Reshape)
def _reshape(op: ops.Reshape) -> _Kernel:
    return lambda x: x.reshape(x.shape[0], *op.shape)
