"""ATen call -> op: one registry of small functions, looked up by the call's name without its overload.

A rule reads its call's arguments by their schema names (so `conv2d.default` and `conv2d.padding` are one rule), emits
ops and returns the value that stands for the call's result. Calls whose tensor arguments are all constants never come
here: `capture` evaluates those.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from torch import Tensor

from edgeq.errors import UnsupportedError
from edgeq.graph import ops
from edgeq.graph.ops import Op, Pair, Shape, Sides
from edgeq.registry import Registry

__all__ = ["ATEN", "Call", "Constant", "Rule", "Value"]


@dataclass(frozen=True)
class Value:
    """An activation. `key` names it until capture is over; `seen` is the shape torch saw, which may lack the batch."""

    key: str
    shape: Shape
    seen: Shape


@dataclass(frozen=True)
class Constant:
    """A parameter, buffer or what was computed from them, under its parameter path."""

    name: str
    tensor: Tensor


Emit = Callable[[Op, Sequence["Value | Constant"], str], Value]


@dataclass(frozen=True)
class Call:
    """One ATen call: name, arguments by schema name (`Value` or `Constant` where torch has tensors), result shapes."""

    name: str
    arguments: Mapping[str, Any]
    shapes: tuple[Shape, ...]
    sink: Emit

    @property
    def shape(self) -> Shape:
        return self.shapes[0]

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]

    def get(self, argument: str, default: Any = None) -> Any:
        found = self.arguments.get(argument)
        return default if found is None else found

    def value(self, argument: str = "self") -> Value:
        """The activation given as `argument`; `UnsupportedError` for a constant or one without a batch dimension."""
        return self.activation(self.arguments[argument])

    def activation(self, given: Any) -> Value:
        if not isinstance(given, Value):
            raise self.unsupported("an activation is combined with a constant", _CONSTANT_HINT)
        if given.shape != given.seen:
            raise self.unsupported("the batch dimension was squeezed or reshaped away before it", _BATCH_HINT)
        return given

    def constant(self, argument: str) -> Constant | None:
        """The parameter given as `argument`, None where it is absent."""
        given = self.arguments.get(argument)
        if given is None or isinstance(given, Constant):
            return given
        raise self.unsupported(
            f"its {argument} is computed from the input, not a parameter", "use a constant parameter"
        )

    def pair(self, argument: str, default: Pair | None = None) -> Pair:
        """Torch's one-or-two numbers, as two."""
        given = self.get(argument, [])
        numbers = [given] if isinstance(given, int) else list(given)
        if not numbers and default is not None:
            return default
        return (int(numbers[0]), int(numbers[-1]))

    def emit(self, op: Op, *inputs: Value | Constant | None, label: str = "") -> Value:
        return self.sink(op, [i for i in inputs if i is not None], label)

    def unsupported(self, why: str, hint: str = "") -> UnsupportedError:
        return UnsupportedError(f"{self.name} is not supported in this form", why=why, hint=hint)


Rule = Callable[[Call], "Value | tuple[Value, ...]"]
ATEN: Registry[Rule] = Registry("aten")
"""Rules by ATen name, e.g. ``aten.conv2d``."""

_CONSTANT_HINT = (
    "fold it into a neighbouring convolution; input normalisation belongs in [input] mean and std of model.toml"
)
_BATCH_HINT = "use flatten(1), or name the dimensions to squeeze"


_R = TypeVar("_R", bound=Rule)


def _aten(*names: str) -> Callable[[_R], _R]:
    """Register a rule under each name, in-place spellings (``relu_``) included."""

    def add(rule: _R) -> _R:
        for name in names:
            ATEN.register(f"aten.{name}")(rule)
        return rule

    return add


# Values that pass through untouched. In evaluation mode dropout is one of them.
@_aten("contiguous", "detach", "detach_", "clone", "alias", "lift_fresh", "lift_fresh_copy", "positive")
def _identity(call: Call) -> Value:
    return call.arguments["self"]  # type: ignore[no-any-return]


@_aten("dropout", "dropout_", "feature_dropout", "feature_dropout_", "alpha_dropout", "native_dropout")
def _dropout(call: Call) -> Value:
    if call.get("train", False):
        raise call.unsupported("the network was exported in training mode", "call model.eval() before exporting")
    return call["input"]  # type: ignore[no-any-return]


@_aten("to", "_to_copy", "type_as")
def _cast(call: Call) -> Value:
    dtype = str(call.get("dtype", "torch.float32"))
    if dtype not in ("torch.float32", "torch.float16", "torch.bfloat16", "torch.float64"):
        raise call.unsupported(f"it casts to {dtype}", "keep the network in float32")
    return call["self"]  # type: ignore[no-any-return]


@_aten("conv2d", "convolution")
def _conv2d(call: Call) -> Value:
    weight, bias = call.constant("weight"), call.constant("bias")
    if weight is None or weight.tensor.dim() != 4 or call.get("transposed", False):
        raise call.unsupported("only two-dimensional, not transposed convolutions are known", "use nn.Conv2d")
    dilation = call.pair("dilation", (1, 1))
    padding: Sides = _padding(call, (int(weight.tensor.shape[2]), int(weight.tensor.shape[3])), dilation)
    op = ops.Conv2d(call.pair("stride", (1, 1)), padding, dilation, int(call.get("groups", 1)))
    return call.emit(op, call.value("input"), weight, bias)


def _padding(call: Call, kernel: Pair, dilation: Pair) -> Sides:
    given = call.get("padding", [0, 0])
    if given == "valid":
        return (0, 0, 0, 0)
    if given == "same":  # torch puts the odd one at the bottom and right
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return (total[0] // 2, total[0] - total[0] // 2, total[1] // 2, total[1] - total[1] // 2)
    vertical, horizontal = call.pair("padding", (0, 0))
    return (vertical, vertical, horizontal, horizontal)


@_aten("linear", "addmm", "mm")
def _linear(call: Call) -> Value:
    if "mat2" in call.arguments:  # decomposed form: the weight arrives transposed
        if call.get("beta", 1) != 1 or call.get("alpha", 1) != 1:
            raise call.unsupported("beta and alpha must be 1", "use nn.Linear")
        given = call.constant("mat2")
        weight = None if given is None else Constant(given.name, given.tensor.t())
        x, bias = ("mat1", call.constant("self")) if "mat1" in call.arguments else ("self", None)
    else:
        weight, x, bias = call.constant("weight"), "input", call.constant("bias")
    value = call.value(x)
    if len(value.shape) != 2:
        raise call.unsupported(f"its input has shape {list(value.shape)}", "flatten to (N, features) first")
    return call.emit(ops.Linear(), value, weight, bias)


@_aten("batch_norm", "_native_batch_norm_legit_no_training", "native_batch_norm", "cudnn_batch_norm")
def _batch_norm(call: Call) -> Value:
    mean, variance = call.constant("running_mean"), call.constant("running_var")
    if call.get("training", False) or mean is None or variance is None:
        raise call.unsupported(
            "it normalises with the statistics of each batch",
            "call model.eval() before exporting and keep track_running_stats=True",
        )
    gamma, beta = call.constant("weight"), call.constant("bias")
    stem = mean.name.rpartition(".")[0]
    prefix = f"{stem}." if stem else ""
    gamma = gamma or Constant(f"{prefix}weight", mean.tensor.new_ones(mean.tensor.shape))
    beta = beta or Constant(f"{prefix}bias", mean.tensor.new_zeros(mean.tensor.shape))
    return call.emit(ops.BatchNorm(float(call.get("eps", 1e-5))), call.value("input"), gamma, beta, mean, variance)


@_aten("relu", "relu_")
def _relu(call: Call) -> Value:
    return call.emit(ops.RELU, call.value(), label="relu")


@_aten("relu6", "relu6_")
def _relu6(call: Call) -> Value:
    return call.emit(ops.RELU6, call.value(), label="relu6")


@_aten("hardtanh", "hardtanh_")
def _hardtanh(call: Call) -> Value:
    op = ops.Clamp(float(call["min_val"]), float(call["max_val"]))
    return call.emit(op, call.value(), label="relu6" if op == ops.RELU6 else "")


@_aten("clamp", "clamp_", "clip", "clip_", "clamp_min", "clamp_min_", "clamp_max", "clamp_max_")
def _clamp(call: Call) -> Value:
    limits = call.get("min", -math.inf), call.get("max", math.inf)
    if not all(isinstance(limit, (int, float)) for limit in limits):
        raise call.unsupported("its limits are tensors", "clamp between two numbers")
    return call.emit(ops.Clamp(float(limits[0]), float(limits[1])), call.value())


@_aten("leaky_relu", "leaky_relu_")
def _leaky_relu(call: Call) -> Value:
    return call.emit(ops.LeakyReLU(float(call["negative_slope"])), call.value())


@_aten("prelu", "_prelu_kernel")
def _prelu(call: Call) -> Value:
    slope = call.constant("weight")
    if slope is None or bool((slope.tensor != slope.tensor.flatten()[0]).any()):
        raise call.unsupported("it has a slope per channel", "use nn.LeakyReLU, or nn.PReLU with one parameter")
    return call.emit(ops.LeakyReLU(float(slope.tensor.flatten()[0])), call.value())


@_aten("add", "add_")
def _add(call: Call) -> Value:
    if call.get("alpha", 1) != 1:
        raise call.unsupported("alpha is not 1", "add without scaling")
    left, right = call.value(), call.value("other")
    if left.shape != right.shape:
        raise call.unsupported(f"it broadcasts {list(left.shape)} with {list(right.shape)}", "add values of one shape")
    return call.emit(ops.Add(), left, right)


@_aten("cat", "concat", "concatenate")
def _cat(call: Call) -> Value:
    values = [call.activation(given) for given in call["tensors"]]
    axis = _axis(int(call.get("dim", 0)), len(call.shape))
    if axis == 0:
        raise call.unsupported("it joins along the batch", "join channels: torch.cat(values, dim=1)")
    return values[0] if len(values) == 1 else call.emit(ops.Concat(axis), *values)


@_aten("softmax", "_softmax")
def _softmax(call: Call) -> Value:
    value = call.value()
    if len(value.shape) != 2 or _axis(int(call["dim"]), 2) != 1:
        raise call.unsupported(
            f"it runs along {call['dim']} of {list(value.shape)}", "softmax the last of (N, classes)"
        )
    return call.emit(ops.Softmax(), value)


@_aten("max_pool2d", "max_pool2d_with_indices")
def _max_pool2d(call: Call) -> Value:
    if call.pair("dilation", (1, 1)) != (1, 1):
        raise call.unsupported("it is dilated", "use a max pool without dilation")
    value, kernel = call.value(), call.pair("kernel_size")
    stride, before = call.pair("stride", kernel), call.pair("padding", (0, 0))
    return call.emit(ops.MaxPool2d(kernel, stride, _pool_sides(call, value, kernel, stride, before)), value)


@_aten("avg_pool2d")
def _avg_pool2d(call: Call) -> Value:
    value, kernel = call.value(), call.pair("kernel_size")
    stride, before = call.pair("stride", kernel), call.pair("padding", (0, 0))
    if any(before) and call.get("count_include_pad", True):
        # Zeros that count are zeros like any others; no integer runtime's average pool counts its own padding.
        around = (0, 0, *before)
        value, before = call.emit(ops.Pad(around, around), value), (0, 0)
    sides = _pool_sides(call, value, kernel, stride, before)
    if call.get("divisor_override", kernel[0] * kernel[1]) != kernel[0] * kernel[1] or (
        "divisor_override" in call.arguments and any(sides)
    ):
        raise call.unsupported("it divides by something else than the pixels under the window", "drop divisor_override")
    if not any(sides) and kernel == value.shape[2:]:
        return call.emit(ops.GlobalAvgPool(), value)
    return call.emit(ops.AvgPool2d(kernel, stride, sides), value)


def _pool_sides(call: Call, value: Value, kernel: Pair, stride: Pair, before: Pair) -> Sides:
    """Padding that gives torch's output size with a floor: ``ceil_mode`` adds at the bottom and right."""
    if len(value.shape) != 4:
        raise call.unsupported(f"its input has shape {list(value.shape)}", "pool (N, C, H, W)")
    after = [
        max(p, (out - 1) * s + k - size - p)
        for out, s, k, size, p in zip(call.shape[2:], stride, kernel, value.shape[2:], before, strict=True)
    ]
    return (before[0], after[0], before[1], after[1])


@_aten("adaptive_avg_pool2d", "_adaptive_avg_pool2d")
def _adaptive_avg_pool2d(call: Call) -> Value:
    value = call.value()
    if call.shape == value.shape:
        return value
    if call.shape[2:] == (1, 1):
        return call.emit(ops.GlobalAvgPool(), value)
    kernel = _even_windows(call, value)
    return call.emit(ops.AvgPool2d(kernel, kernel), value)


@_aten("adaptive_max_pool2d")
def _adaptive_max_pool2d(call: Call) -> Value:
    value = call.value()
    kernel = _even_windows(call, value)
    return value if kernel == (1, 1) else call.emit(ops.MaxPool2d(kernel, kernel), value)


def _even_windows(call: Call, value: Value) -> Pair:
    (height, width), (rows, columns) = value.shape[2:], call.shape[2:]
    if height % rows or width % columns:
        raise call.unsupported(f"{height}x{width} does not divide into {rows}x{columns} equal windows", "pool to 1x1")
    return (height // rows, width // columns)


@_aten("mean")
def _mean(call: Call) -> Value:
    value = call.value()
    axes = sorted(_axis(int(dim), len(value.shape)) for dim in call.get("dim", range(len(value.shape))))
    if len(value.shape) not in (3, 4) or axes != list(range(2, len(value.shape))):
        raise call.unsupported(f"it averages over {axes} of {list(value.shape)}", "average over height and width")
    if len(value.shape) == 3:
        value = _reshaped(call, value, (*value.shape, 1))
    if value.shape[2:] != (1, 1):
        value = call.emit(ops.GlobalAvgPool(), value)
    return _reshaped(call, value, call.shape)


@_aten("flatten", "view", "reshape", "_unsafe_view", "squeeze", "unsqueeze", "view_copy", "_reshape_alias", "unflatten")
def _reshape(call: Call) -> Value:
    return _reshaped(call, call["self"], call.shape)


@_aten("permute", "transpose", "t", "numpy_T", "swapaxes", "movedim")
def _permute(call: Call) -> Value:
    """A permutation that moves only dimensions of size 1 is a reshape; any other reorders memory."""
    value = call.value()
    before, after = [s for s in value.shape[1:] if s > 1], [s for s in call.shape[1:] if s > 1]
    if before != after or len(set(before)) != len(before):
        raise call.unsupported(f"it reorders {list(value.shape)}", "move only dimensions of size 1, or reshape instead")
    return _reshaped(call, value, call.shape)


def _reshaped(call: Call, value: Value, shape: Shape) -> Value:
    """`value` under another shape; one without a batch dimension is remembered and settled by the next reshape."""
    if not isinstance(value, Value):
        raise call.unsupported("it reshapes a constant")
    if value.shape == shape:
        return replace(value, seen=shape)
    if not shape or shape[0] != 1 or len(shape) < 2:
        return replace(value, seen=shape)
    label = "flatten" if len(shape) == 2 else "reshape"
    return replace(call.emit(ops.Reshape(shape[1:]), value, label=label), seen=shape)


@_aten("pad", "constant_pad_nd")
def _pad(call: Call) -> Value:
    value, given = call.value(), [int(count) for count in call["pad"]]
    if call.get("mode", "constant") != "constant" or float(call.get("value", 0.0)) != 0.0:
        raise call.unsupported(f"mode {call.get('mode', 'constant')!r}, value {call.get('value', 0)}", "pad with zeros")
    free = [0] * (len(value.shape) - len(given) // 2)
    before, after = (*free, *given[0::2][::-1]), (*free, *given[1::2][::-1])  # torch lists the last dimension first
    if before[0] or after[0]:
        raise call.unsupported("it pads the batch", "pad channels, height or width")
    if min(given, default=0) < 0:  # a negative count cuts
        start = tuple(max(0, -b) for b in before)
        stop = tuple(s - max(0, -a) for s, a in zip(value.shape, after, strict=True))
        value = call.emit(ops.Slice(start, stop, (1,) * len(start)), value)
        before, after = tuple(max(0, b) for b in before), tuple(max(0, a) for a in after)
    return call.emit(ops.Pad(before, after), value) if any((*before, *after)) else value


@_aten("slice", "narrow")
def _slice(call: Call) -> Value:
    value = call.value()
    axis = _axis(int(call.get("dim", 0)), len(value.shape))
    size, start, length = value.shape[axis], int(call.get("start", 0)), call.get("length")
    stop = size if length is None else start + int(length)
    stop = int(call.get("end", stop))
    first, last, step = slice(start, stop, int(call.get("step", 1))).indices(size)
    return _cut(call, value, axis, first, last, step)


@_aten("select")
def _select(call: Call) -> Value:
    value = call.value()
    axis = _axis(int(call["dim"]), len(value.shape))
    index = int(call["index"]) % value.shape[axis]
    return _reshaped(call, _cut(call, value, axis, index, index + 1, 1), call.shape)


@_aten("split", "split_with_sizes", "chunk", "unsafe_split", "unsafe_chunk")
def _split(call: Call) -> tuple[Value, ...]:
    value = call.value()
    axis = _axis(int(call.get("dim", 0)), len(value.shape))
    ends = list(itertools.accumulate(shape[axis] for shape in call.shapes))
    starts = [0, *ends[:-1]]
    return tuple(_cut(call, value, axis, first, last, 1) for first, last in zip(starts, ends, strict=True))


def _cut(call: Call, value: Value, axis: int, first: int, last: int, step: int) -> Value:
    if (first, last, step) == (0, value.shape[axis], 1):
        return value
    if axis == 0:
        raise call.unsupported("it slices the batch", "slice channels, height or width")
    ranges = [(0, size, 1) for size in value.shape]
    ranges[axis] = (first, last, step)
    start, stop, steps = (tuple(column) for column in zip(*ranges, strict=True))
    return call.emit(ops.Slice(start, stop, steps), value)


def _axis(dim: int, rank: int) -> int:
    return dim + rank if dim < 0 else dim
