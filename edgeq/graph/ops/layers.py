"""One frozen dataclass per op kind, each checking the shapes it is given.

Shapes are logical and in torch's order (NCHW, weights OIHW) whatever a file later uses. The leading dimension of every
activation is the batch; graphs are captured with batch 1 and can be run with any. Spatial padding is always explicit
and per side, ``(top, bottom, left, right)``, so that torch's symmetric and TensorFlow's SAME padding are the same op.

To add an op: a dataclass in the file of its family (here, `moves.py`, `elementwise.py` or `norms.py`), and a rule in
the file of the same name in `graph/run`, `graph/capture`, `integer/reference` and the `emit` folder of each format.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from edgeq.graph.ops.base import Op, Pair, Shape, Sides, broadcast, register, require
from edgeq.graph.ops.nearest import NEAREST_MODES

__all__ = [
    "NEGATIVE",
    "RELU",
    "RELU6",
    "UNIT",
    "Add",
    "AvgPool2d",
    "BatchNorm",
    "Clamp",
    "Conv2d",
    "ConvTranspose2d",
    "GlobalAvgPool",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "Resize2d",
    "Softmax",
]


@register
@dataclass(frozen=True)
class Clamp(Op):
    """Limit values to ``[minimum, maximum]``. ReLU and ReLU6 are clamps; a convolution, linear or add can carry one."""

    minimum: float = -math.inf
    maximum: float = math.inf

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        require(len(inputs) == 1, self, inputs, "takes one input")
        return inputs[0]


RELU = Clamp(0.0, math.inf)
RELU6 = Clamp(0.0, 6.0)
UNIT = Clamp(0.0, 1.0)
"""What ends a hard sigmoid."""
NEGATIVE = Clamp(maximum=0.0)
"""The other half of a ReLU."""


def _window(size: int, kernel: int, stride: int, before: int, after: int, dilation: int = 1) -> int:
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


def _filtered(op: Op, inputs: Sequence[Shape], groups: int) -> tuple[int, int, Pair, Pair]:
    """Batch, outputs, size of picture and of filter of a convolution whose inputs belong together."""
    require(len(inputs) in (2, 3) and len(inputs[0]) == 4 and len(inputs[1]) == 4, op, inputs, "takes x, w[, b]")
    (n, c, *size), (o, i, *kernel) = inputs[0], inputs[1]
    require(c == i * groups and o % groups == 0, op, inputs, f"channels do not fit {groups} groups")
    require(len(inputs) == 2 or inputs[2] == (o,), op, inputs, f"bias is not ({o},)")
    return n, o, (size[0], size[1]), (kernel[0], kernel[1])


@register
@dataclass(frozen=True)
class Conv2d(Op):
    """Convolution. Inputs: x ``(N, I, H, W)``, weight ``(O, I/groups, kh, kw)``, optional bias ``(O,)``."""

    stride: Pair = (1, 1)
    padding: Sides = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    activation: Clamp | None = None

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        n, o, (h, w), (kh, kw) = _filtered(self, inputs, self.groups)
        top, bottom, left, right = self.padding
        oh = _window(h, kh, self.stride[0], top, bottom, self.dilation[0])
        ow = _window(w, kw, self.stride[1], left, right, self.dilation[1])
        require(oh > 0 and ow > 0, self, inputs, "window is larger than the padded input")
        return (n, o, oh, ow)

    def macs(self, inputs: Sequence[Shape], output: Shape) -> int:
        return math.prod(output[1:]) * math.prod(inputs[1][1:])

    def depthwise(self, weight: Shape) -> bool:
        """One filter (or a whole multiple) per input channel."""
        return self.groups > 1 and weight[1] == 1


@register
@dataclass(frozen=True)
class ConvTranspose2d(Op):
    """Transposed convolution; `optimize` makes a convolution and moves of it.

    Inputs: x ``(N, I, H, W)``, weight ``(O, I/groups, kh, kw)`` (outputs first, as in every other layer), optional bias
    ``(O,)``. `padding` is what is cut off each side of the full result; negative: rows or columns of bias alone.
    """

    stride: Pair = (1, 1)
    padding: Sides = (0, 0, 0, 0)
    groups: int = 1
    activation: Clamp | None = None

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        n, o, (h, w), (kh, kw) = _filtered(self, inputs, self.groups)
        top, bottom, left, right = self.padding
        oh, ow = (h - 1) * self.stride[0] + kh - top - bottom, (w - 1) * self.stride[1] + kw - left - right
        require(oh > 0 and ow > 0, self, inputs, "more is cut off than there is")
        return (n, o, oh, ow)

    def macs(self, inputs: Sequence[Shape], output: Shape) -> int:
        return math.prod(inputs[0][1:]) * math.prod(inputs[1]) // inputs[0][1]


@register
@dataclass(frozen=True)
class Linear(Op):
    """Inputs: x ``(N, I)``, weight ``(O, I)``, optional bias ``(O,)``."""

    activation: Clamp | None = None

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        require(len(inputs) in (2, 3) and len(inputs[0]) == 2 and len(inputs[1]) == 2, self, inputs, "takes x, w[, b]")
        (n, i), (o, wi) = inputs[0], inputs[1]
        require(i == wi, self, inputs, f"{i} features in, weight has {wi}")
        require(len(inputs) == 2 or inputs[2] == (o,), self, inputs, f"bias is not ({o},)")
        return (n, o)

    def macs(self, inputs: Sequence[Shape], output: Shape) -> int:
        return math.prod(inputs[1])


@register
@dataclass(frozen=True)
class BatchNorm(Op):
    """Inputs: x ``(N, C, ...)``, then gamma, beta, running mean, running variance, each ``(C,)``. Inference form."""

    eps: float = 1e-5

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        require(len(inputs) == 5 and len(inputs[0]) >= 2, self, inputs, "takes x, gamma, beta, mean, variance")
        require(all(s == (inputs[0][1],) for s in inputs[1:]), self, inputs, "parameters are not one per channel")
        return inputs[0]


@register
@dataclass(frozen=True)
class LeakyReLU(Op):
    slope: float = 0.01

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        require(len(inputs) == 1, self, inputs, "takes one input")
        return inputs[0]


@register
@dataclass(frozen=True)
class Softmax(Op):
    """Softmax over what files have last: the channels of ``(N, C, H, W)``, else the last dimension."""

    axis: int = 1

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        require(len(inputs) == 1 and len(inputs[0]) >= 2, self, inputs, "takes one input")
        last = 1 if len(inputs[0]) == 4 else len(inputs[0]) - 1
        require(self.axis == last, self, inputs, f"runs along {last}, not {self.axis}")
        return inputs[0]


@register
@dataclass(frozen=True)
class Add(Op):
    """Sum of two activations of one rank; a dimension of 1 is repeated."""

    activation: Clamp | None = None

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        return broadcast(self, inputs)


@dataclass(frozen=True)
class _Pool2d(Op):
    kernel: Pair = (2, 2)
    stride: Pair = (2, 2)
    padding: Sides = (0, 0, 0, 0)
    shares_quantization: ClassVar[bool] = True

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        require(len(inputs) == 1 and len(inputs[0]) == 4, self, inputs, "takes one (N, C, H, W) input")
        n, c, h, w = inputs[0]
        top, bottom, left, right = self.padding
        oh = _window(h, self.kernel[0], self.stride[0], top, bottom)
        ow = _window(w, self.kernel[1], self.stride[1], left, right)
        require(oh > 0 and ow > 0, self, inputs, "window is larger than the padded input")
        return (n, c, oh, ow)


@register
@dataclass(frozen=True)
class MaxPool2d(_Pool2d):
    """Maximum over a window; padding never wins. torch's ``ceil_mode`` arrives as bottom and right padding."""


@register
@dataclass(frozen=True)
class AvgPool2d(_Pool2d):
    """Mean over a window. ``count_padding`` false divides by the number of real pixels under the window."""

    count_padding: bool = False


@register
@dataclass(frozen=True)
class GlobalAvgPool(Op):
    """Mean over height and width: ``(N, C, H, W)`` to ``(N, C, 1, 1)``. Has a scale of its own."""

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        require(len(inputs) == 1 and len(inputs[0]) == 4, self, inputs, "takes one (N, C, H, W) input")
        return (*inputs[0][:2], 1, 1)


@register
@dataclass(frozen=True)
class Resize2d(Op):
    """Scale height and width to ``size``, ``mode`` bilinear, nearest or nearest-exact.

    Pixel centres correspond (torch's ``align_corners=False``), or with ``align_corners`` the centres of the corners.
    The nearest modes are torch's: ``nearest`` takes the pixel at ``floor(y * H / H')``, ``nearest-exact`` the one at
    ``floor((y + 0.5) * H / H')``, in float32 (`edgeq.graph.ops.nearest`). Interpolated values lie between those they
    are made of, so input and output share one quantization.
    """

    size: Pair = (1, 1)
    mode: str = "bilinear"
    align_corners: bool = False
    shares_quantization: ClassVar[bool] = True

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        require(len(inputs) == 1 and len(inputs[0]) == 4, self, inputs, "takes one (N, C, H, W) input")
        modes = ("bilinear", *NEAREST_MODES)
        require(self.mode in modes and min(self.size) > 0, self, inputs, f"cannot be {self.mode}")
        require(not self.align_corners or self.mode == "bilinear", self, inputs, "nearest has no corners to align")
        return (*inputs[0][:2], *self.size)
