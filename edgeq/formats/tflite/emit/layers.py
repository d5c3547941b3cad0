"""One emitter per op kind: a node of the graph to rows of a TFLite file. Integer and float networks share them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from edgeq.errors import UnsupportedError
from edgeq.formats.tflite.flatbuffer import File, Operator, Tensor
from edgeq.formats.tflite.layout import Carriage, Layout, Network
from edgeq.graph import ops
from edgeq.graph.ir import Node
from edgeq.graph.ops import Clamp, Op, Shape, fixed_grid
from edgeq.integer.graph import IntegerGraph, Quantization

__all__ = ["NHWC", "Emitter", "emits", "grid_key", "options_of", "pad", "strided_slice"]

_CODE = schema.BuiltinOperator
_FUSED = schema.ActivationFunctionType
NHWC = (0, 2, 3, 1)

FUSED: dict[Clamp | None, int] = {
    None: _FUSED.NONE,
    ops.RELU: _FUSED.RELU,
    ops.RELU6: _FUSED.RELU6,
    Clamp(-1.0, 1.0): _FUSED.RELU_N1_TO_1,
}
UNFUSED = (ops.UNIT, ops.NEGATIVE)
"""Clamps no operator can end with, but an integer grid can."""
STANDALONE: dict[Clamp, int] = {
    ops.RELU: _CODE.RELU,
    ops.RELU6: _CODE.RELU6,
    ops.UNIT: _CODE.RELU_0_TO_1,
    Clamp(-1.0, 1.0): _CODE.RELU_N1_TO_1,
}

_Emit = Callable[["Emitter", Node, Any], None]
_K = TypeVar("_K", bound=type[Op])
_EMITTERS: dict[type[Op], _Emit] = {}


def emits(kind: type[Op]) -> Callable[[_Emit], _Emit]:
    def add(emit: _Emit) -> _Emit:
        _EMITTERS[kind] = emit
        return emit

    return add


class Emitter:
    """Collects a file's rows. `index` maps a value's name to its tensor.

    `weights` is the type that weights of four bits or fewer are stored in: int8 or int4. `dtype` is the type of the
    values that the op being written reads, and `sums` that of its bias.
    """

    def __init__(self, graph: Network, layout: Layout, weights: str = "int8") -> None:
        self.graph, self.layout, self.weights = graph, layout, weights
        self.file = File()
        self.index: dict[str, int] = {}
        self._numbers: dict[tuple[Shape, bytes], int] = {}
        self.quantizations = graph.quantizations if isinstance(graph, IntegerGraph) else {}
        self.dtype = "float32"

    @property
    def wide(self) -> bool:
        return self.dtype == "int16"

    @property
    def sums(self) -> str:
        return {"float32": "float32", "int8": "int32", "int16": "int64"}[self.dtype]

    def type_of(self, name: str) -> str:
        """The type a value is computed in."""
        q = self.quantizations.get(name)
        return "float32" if q is None else q.dtype

    def node(self, node: Node) -> None:
        """Append what computes `node`. `UnsupportedError` for ops no TFLite form is known for."""
        emit = _EMITTERS.get(type(node.op))
        if emit is None:
            hint = "fold it into a convolution first" if isinstance(node.op, ops.BatchNorm) else ""
            raise UnsupportedError(f"{type(node.op).__name__} has no TFLite form", where=node.name, hint=hint)
        if node.name in self.layout.alias:
            self.index[node.name] = self.index[self.layout.alias[node.name]]
            return
        self.dtype = self.type_of(node.inputs[0])
        if node.op.shares_quantization:
            self._same_quantization(node)
        if self.wide and getattr(node.op, "activation", None) == ops.NEGATIVE:
            self._negative(emit, node)
        else:
            emit(self, node, node.op)

    def _negative(self, emit: _Emit, node: Node) -> None:
        """An int16 grid goes on above 0, and no kernel fuses an end there: a MINIMUM of its own."""
        q, name = self.quantizations[node.name], node.name
        linear = self.activation(f"{name}/linear", self.file_shape(self.graph.shapes[name]), q)
        self.index[name] = linear
        emit(self, node, node.op)
        del self.index[name]
        zero = self.constant("maximum", np.zeros((), np.int16), q)
        self.operator(_CODE.MINIMUM, (linear, zero), self.output(node))

    def file_shape(self, shape: Shape) -> Shape:
        return tuple(shape[i] for i in NHWC) if len(shape) == 4 else shape

    def activation(self, name: str, shape: Shape, quantization: Quantization | None, dtype: str | None = None) -> int:
        """A tensor for values computed at run time; `shape` as the file has it."""
        return self.file.add(Tensor(name, shape, dtype or self.dtype, quantization))

    def output(self, node: Node) -> int:
        """The tensor of the node's own value, created when first asked for."""
        if node.name not in self.index:
            shape = self.file_shape(self.graph.shapes[node.name])
            q, kind = self.quantizations.get(node.name), self.type_of(node.name)
            self.index[node.name] = self.activation(node.name, shape, q, kind)
        return self.index[node.name]

    def like(self, source: int, name: str, shape: Shape) -> int:
        """An intermediate tensor with the quantization of tensor `source`."""
        return self.activation(name, shape, self.file.tensors[source].quantization, self.file.tensors[source].dtype)

    def shaped(self, x: int, shape: Shape, name: str) -> int:
        """Tensor `x` in another shape, which is called `name` if that takes a RESHAPE."""
        if self.file.tensors[x].shape == shape:
            return x
        y = self.like(x, name, shape)
        self.operator(_CODE.RESHAPE, (x, self.numbers(shape)), y, None, 1)
        return y

    def constant(self, name: str, data: npt.NDArray[Any], quantization: Quantization | None = None) -> int:
        """A tensor with content. Constants are named by their role: the operator's output says whose they are, and a
        path for each would take more room than the values of a small layer."""
        return self.file.add(Tensor(name, data.shape, str(data.dtype), quantization, np.ascontiguousarray(data)))

    def weight(self, data: npt.NDArray[Any], quantization: Quantization | None) -> int:
        """A layer's weights, packed where they may and can be: 16-bit kernels take none.

        Their operators keep the versions of int8: the converter raises them (7, depthwise 7, linear 10), but LiteRT's
        reference kernels, which do know INT4, are not registered that high.
        """
        few = quantization is not None and (quantization.bits or 8) <= 4
        packed = few and self.weights == "int4" and not self.wide
        return self.file.add(Tensor("weight", data.shape, "int4" if packed else str(data.dtype), quantization, data))

    def numbers(self, values: Any) -> int:
        """A small int32 constant: axes, shapes, paddings. Equal ones are one tensor."""
        data = np.asarray(values, np.int32)
        key = (data.shape, data.tobytes())
        if key not in self._numbers:
            self._numbers[key] = self.constant("const", data)
        return self._numbers[key]

    def operator(
        self, code: int, inputs: tuple[int, ...], output: int, options: Any = None, version: int = 0, wide: int = 0
    ) -> None:
        """Append an operator. `version` 0 is the usual one: 1 in float, 2 where int8 came with the second. `wide` is
        that of int16, which mostly came with the third."""
        number = version or (1 if self.dtype == "float32" else 2)
        if self.wide:
            number = wide or version or 3
        self.file.operators.append(Operator(code, number, inputs, (output,), options))

    def _same_quantization(self, node: Node) -> None:
        seen = {grid_key(self.quantizations.get(name)) for name in (node.name, *self.graph.activations(node))}
        if len(seen) > 1:
            raise UnsupportedError(f"{type(node.op).__name__} would have to rescale", where=node.name,
                                   hint="its inputs and output need one quantization")  # fmt: skip


def grid_key(q: Quantization | None) -> tuple[float, int] | None:
    """Scale and zero point, to compare by."""
    return None if q is None else (float(q.scale), int(q.zero_point))


def _fused(e: Emitter, node: Node, clamp: Clamp | None) -> int:
    """The option that says which activation an operator ends with: none where the output's grid ends with it, ReLU
    where an int16 grid ends above with it."""
    q = e.quantizations.get(node.name)
    if e.wide and clamp == ops.NEGATIVE:
        return int(_FUSED.NONE)
    if clamp in UNFUSED and q is not None:
        ends = [q.dequantize(np.asarray(k)) for k in q.limits]
        if ends[1] <= np.float32(clamp.maximum * (1 + 1e-6)):
            if ends[0] >= clamp.minimum:
                return int(_FUSED.NONE)
            if clamp.minimum == 0:
                return int(_FUSED.RELU)
    if clamp is not None and clamp not in FUSED:
        raise UnsupportedError(f"{type(node.op).__name__} with a fused clamp to [{clamp.minimum}, {clamp.maximum}]",
                               where=node.name, hint="leave the clamp a node of its own")  # fmt: skip
    return FUSED[clamp]


def _within(q: Quantization, clamp: Clamp) -> bool:
    """Whether no integer of the grid lies beyond the clamp."""
    low, high = (q.dequantize(np.asarray(k)) for k in q.limits)
    return bool(clamp.minimum <= low and high <= np.float32(clamp.maximum * (1 + 1e-6)))


def options_of(kind: str, **fields: Any) -> Any:
    options = getattr(schema, f"{kind}T")()
    for name, value in fields.items():
        setattr(options, name, value)
    return options


def _padding(name: str) -> int:
    return int(getattr(schema.Padding, name))


@emits(ops.Conv2d)
def _conv(e: Emitter, node: Node, op: ops.Conv2d) -> None:
    carriage = e.layout.carriages[node.name]
    weight = e.graph.constants[node.inputs[1]]
    quantization = e.quantizations.get(node.inputs[1])
    depthwise = op.depthwise(weight.shape)
    mirror, taps = e.layout.mirror, carriage.window.taps
    kernel = weight[:, :, :: -1 if mirror[0] else 1, :: -1 if mirror[1] else 1]
    if node.inputs[0] in e.layout.reversed_channels:
        kernel = kernel[:, ::-1]
    kernel = np.pad(kernel, ((0, 0), (0, 0), *taps))
    kernel = kernel.transpose(1, 2, 3, 0) if depthwise else kernel.transpose(NHWC)
    if depthwise and quantization is not None:
        quantization = replace(quantization, axis=3)
    x = _carried_input(e, node, carriage)
    w = e.weight(kernel, quantization)
    b = _bias(e, node)
    options = {
        "padding": _padding(carriage.window.padding),
        "strideH": op.stride[0], "strideW": op.stride[1],
        "dilationHFactor": op.dilation[0], "dilationWFactor": op.dilation[1],
        "fusedActivationFunction": _fused(e, node, op.activation),
    }  # fmt: skip
    dilated = max(op.dilation) > 1
    version = (2 if depthwise and dilated else 1) if e.dtype == "float32" else 3
    if depthwise:
        options |= {"depthMultiplier": weight.shape[0] // op.groups}
        e.operator(
            _CODE.DEPTHWISE_CONV_2D,
            (x, w, *b),
            e.output(node),
            options_of("DepthwiseConv2DOptions", **options),
            version,
            wide=5,
        )
    else:
        version = max(version, 6) if op.groups > 1 else version
        e.operator(_CODE.CONV_2D, (x, w, *b), e.output(node), options_of("Conv2DOptions", **options), version, wide=4)


def _bias(e: Emitter, node: Node) -> tuple[int, ...]:
    """The bias as an operator's last input: the graph's, else zeros where kernels insist on one: all in integers, and
    those of float convolutions, which fail without, or crash when they are depthwise."""
    if len(node.inputs) == 3:
        return (e.constant("bias", e.graph.constants[node.inputs[2]], e.quantizations.get(node.inputs[2])),)
    outputs = len(e.graph.constants[node.inputs[1]])
    if e.dtype == "float32":
        return (e.constant("bias", np.zeros(outputs, np.float32)),) if isinstance(node.op, ops.Conv2d) else ()
    x, w = (e.quantizations[name] for name in node.inputs)
    q = Quantization(x.scale * w.scale, w.zero_point, e.sums, axis=w.axis)
    return (e.constant("bias", np.zeros(outputs, e.sums), q),)


def _carried_input(e: Emitter, node: Node, carriage: Carriage) -> int:
    """The tensor a windowed op reads, after whatever has to come before it."""
    x = e.index[node.inputs[0]]
    if carriage.pad is not None:
        top, bottom, left, right = carriage.pad
        n, h, w, c = e.file.tensors[x].shape
        padded = e.like(x, f"{node.name}/pad", (n, h + top + bottom, w + left + right, c))
        pad(e, x, padded, [(0, 0), (top, bottom), (left, right), (0, 0)], lowest=isinstance(node.op, ops.MaxPool2d))
        return padded
    if carriage.crop is not None:
        shape = e.file.tensors[x].shape
        ranges = [range(start, size) for start, size in zip((0, *carriage.crop, 0), shape, strict=True)]
        cut = e.like(x, f"{node.name}/crop", tuple(map(len, ranges)))
        strided_slice(e, x, cut, ranges, shape)
        return cut
    return x


def strided_slice(e: Emitter, x: int, y: int, ranges: list[range], shape: Shape) -> None:
    """`y` is what `ranges` pick of tensor `x` of `shape`, one range for each dimension."""
    begin = e.numbers([r.start for r in ranges])
    # A masked end means "to the last element" and is never read: one constant less.
    ends = sum(1 << i for i, (r, size) in enumerate(zip(ranges, shape, strict=True)) if r[-1] + r.step >= size)
    end = begin if ends == (1 << len(ranges)) - 1 else e.numbers([r[-1] + 1 for r in ranges])
    options = options_of("StridedSliceOptions", beginMask=0, endMask=ends)
    e.operator(_CODE.STRIDED_SLICE, (x, begin, end, e.numbers([r.step for r in ranges])), y, options, wide=4)


def pad(e: Emitter, x: int, padded: int, counts: list[tuple[int, int]], *, lowest: bool = False) -> None:
    if not lowest:
        e.operator(_CODE.PAD, (x, e.numbers(counts)), padded)
        return
    limit = np.finfo(np.float32).min if e.dtype == "float32" else np.iinfo(e.dtype).min
    value = np.array(limit, e.dtype)
    fill = e.constant("value", value, e.file.tensors[x].quantization)
    e.operator(_CODE.PADV2, (x, e.numbers(counts), fill), padded)


@emits(ops.Linear)
def _linear(e: Emitter, node: Node, op: ops.Linear) -> None:
    weight = np.take(e.graph.constants[node.inputs[1]], e.layout.order(node.inputs[0]), axis=1)
    w = e.weight(weight, e.quantizations.get(node.inputs[1]))
    b = _bias(e, node)
    options = options_of("FullyConnectedOptions", fusedActivationFunction=_fused(e, node, op.activation))
    x = e.index[node.inputs[0]]
    e.operator(_CODE.FULLY_CONNECTED, (x, w, *b), e.output(node), options, 1 if e.dtype == "float32" else 5, wide=7)


@emits(ops.Add)
def _add(e: Emitter, node: Node, op: ops.Add) -> None:
    inputs = tuple(e.index[name] for name in node.inputs)
    # The flag only concerns int16, where true asks for power-of-two scales.
    options = options_of("AddOptions", fusedActivationFunction=_fused(e, node, op.activation), potScaleInt16=False)
    e.operator(_CODE.ADD, inputs, e.output(node), options, wide=3)


@emits(ops.Clamp)
def _clamp(e: Emitter, node: Node, op: Clamp) -> None:
    x, q = e.index[node.inputs[0]], e.quantizations.get(node.name)
    if q is not None and not e.wide and _within(q, op):
        # Saturation does it, and what is left is a change of grid: XNNPACK has a leaky ReLU of slope 1 for that, and
        # leaves a RELU that rescales to the plain kernel, which takes seven times as long as all around it.
        e.operator(_CODE.LEAKY_RELU, (x,), e.output(node), options_of("LeakyReluOptions", alpha=1.0))
        return
    if e.wide and op == ops.UNIT and grid_key(e.quantizations.get(node.name)) == fixed_grid(op, 16):
        e.operator(_CODE.RELU, (x,), e.output(node))  # the grid ends at 1
        return
    if op in STANDALONE and not (e.wide and op not in (ops.RELU, ops.RELU6)):
        e.operator(STANDALONE[op], (x,), e.output(node), None, 1 if op not in (ops.RELU, ops.RELU6) else 0)
        return
    if grid_key(e.quantizations.get(node.inputs[0])) != grid_key(e.quantizations.get(node.name)):
        raise UnsupportedError(f"Clamp to [{op.minimum}, {op.maximum}] would have to rescale", where=node.name,
                               hint="use ReLU or ReLU6, or give input and output one quantization")  # fmt: skip
    limits = [(_CODE.MAXIMUM, op.minimum, "minimum"), (_CODE.MINIMUM, op.maximum, "maximum")]
    limits = [limit for limit in limits if math.isfinite(limit[1])]
    if not limits:
        raise UnsupportedError("Clamp without a limit does nothing", where=node.name, hint="remove it")
    for place, (code, value, kind) in enumerate(limits):
        data = np.asarray(value, np.float32) if q is None else q.quantize(np.asarray(value, np.float32))
        limit = e.constant(kind, np.asarray(data), q)
        last = place == len(limits) - 1
        y = e.output(node) if last else e.like(x, f"{node.name}/limited", e.file.tensors[x].shape)
        e.operator(code, (x, limit), y)
        x = y


@emits(ops.LeakyReLU)
def _leaky_relu(e: Emitter, node: Node, op: ops.LeakyReLU) -> None:
    e.operator(
        _CODE.LEAKY_RELU,
        (e.index[node.inputs[0]],),
        e.output(node),
        options_of("LeakyReluOptions", alpha=op.slope),
        wide=2,
    )


@emits(ops.Softmax)
def _softmax(e: Emitter, node: Node, op: ops.Softmax) -> None:
    q = e.quantizations.get(node.name)
    demanded = fixed_grid(op, 16 if e.wide else 8)
    if q is not None and grid_key(q) != demanded:
        raise UnsupportedError("softmax with a scale of its own", where=node.name,
                               hint=f"TFLite fixes scale and zero point: {demanded}")  # fmt: skip
    e.operator(_CODE.SOFTMAX, (e.index[node.inputs[0]],), e.output(node), options_of("SoftmaxOptions", beta=1.0))


def _pool(e: Emitter, node: Node, op: ops.MaxPool2d | ops.AvgPool2d) -> None:
    carriage = e.layout.carriages[node.name]
    x = _carried_input(e, node, carriage)
    padding, (height, width) = _padding(carriage.window.padding), op.kernel
    options = options_of("Pool2DOptions", padding=padding, strideH=op.stride[0], strideW=op.stride[1],
                         filterHeight=height, filterWidth=width)  # fmt: skip
    code = _CODE.MAX_POOL_2D if isinstance(op, ops.MaxPool2d) else _CODE.AVERAGE_POOL_2D
    e.operator(code, (x,), e.output(node), options)


_EMITTERS[ops.MaxPool2d] = _EMITTERS[ops.AvgPool2d] = _pool


@emits(ops.GlobalAvgPool)
def _mean(e: Emitter, node: Node, op: ops.GlobalAvgPool) -> None:
    axes = e.numbers([1, 2])
    e.operator(_CODE.MEAN, (e.index[node.inputs[0]], axes), e.output(node), options_of("ReducerOptions", keepDims=True))
