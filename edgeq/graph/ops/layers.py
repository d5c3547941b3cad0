"""Convolutions, linear layers and pools: ops that sum over a window or over all features.

Shapes are logical and in torch's order (NCHW, weights OIHW) whatever a file later uses. The leading dimension of every
activation is the batch; graphs are captured with batch 1 and can be run with any. Spatial padding is always explicit
and per side, ``(top, bottom, left, right)``, so that torch's symmetric and TensorFlow's SAME padding are the same op.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from edgeq.graph.ops.base import Op, Pair, Shape, Sides, SlidingWindow, register, require
from edgeq.graph.ops.elementwise import Clamp, Fusing

__all__ = ["AvgPool2d", "Conv2d", "ConvTranspose2d", "GlobalAvgPool", "Linear", "MaxPool2d"]


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
class Conv2d(Fusing):
    """Convolution. Inputs: x ``(N, I, H, W)``, weight ``(O, I/groups, kh, kw)``, optional bias ``(O,)``."""

    stride: Pair = (1, 1)
    padding: Sides = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    activation: Clamp | None = None
    is_layer: ClassVar[bool] = True

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        n, o, (h, w), (kh, kw) = _filtered(self, inputs, self.groups)
        top, bottom, left, right = self.padding
        oh = _window(h, kh, self.stride[0], top, bottom, self.dilation[0])
        ow = _window(w, kw, self.stride[1], left, right, self.dilation[1])
        require(oh > 0 and ow > 0, self, inputs, "window is larger than the padded input")
        return (n, o, oh, ow)

    def macs(self, inputs: Sequence[Shape], output: Shape) -> int:
        return math.prod(output[1:]) * math.prod(inputs[1][1:])

    @property
    def pads(self) -> bool:
        return any(self.padding)

    def sliding_window(self, inputs: Sequence[Shape]) -> SlidingWindow:
        return SlidingWindow((inputs[1][2], inputs[1][3]), self.stride, self.dilation, self.padding)

    def depthwise(self, weight: Shape) -> bool:
        """One filter (or a whole multiple) per input channel."""
        return self.groups > 1 and weight[1] == 1


@register
@dataclass(frozen=True)
class ConvTranspose2d(Fusing):
    """Transposed convolution; `optimize` makes a convolution and moves of it.

    Inputs: x ``(N, I, H, W)``, weight ``(O, I/groups, kh, kw)`` (outputs first, as in every other layer), optional bias
    ``(O,)``. `padding` is what is cut off each side of the full result; negative: rows or columns of bias alone.
    """

    stride: Pair = (1, 1)
    padding: Sides = (0, 0, 0, 0)
    groups: int = 1
    activation: Clamp | None = None
    lowering: ClassVar[str] = "lower it with `optimize`"

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
class Linear(Fusing):
    """Inputs: x ``(N, I)``, weight ``(O, I)``, optional bias ``(O,)``."""

    activation: Clamp | None = None
    is_layer: ClassVar[bool] = True

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        require(len(inputs) in (2, 3) and len(inputs[0]) == 2 and len(inputs[1]) == 2, self, inputs, "takes x, w[, b]")
        (n, i), (o, wi) = inputs[0], inputs[1]
        require(i == wi, self, inputs, f"{i} features in, weight has {wi}")
        require(len(inputs) == 2 or inputs[2] == (o,), self, inputs, f"bias is not ({o},)")
        return (n, o)

    def macs(self, inputs: Sequence[Shape], output: Shape) -> int:
        return math.prod(inputs[1])


@dataclass(frozen=True)
class _Pool2d(Op):
    """A window over every channel on its own."""

    kernel: Pair = (2, 2)
    stride: Pair = (2, 2)
    padding: Sides = (0, 0, 0, 0)
    shares_quantization: ClassVar[bool] = True
    keeps_sign: ClassVar[bool] = True

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        require(len(inputs) == 1 and len(inputs[0]) == 4, self, inputs, "takes one (N, C, H, W) input")
        n, c, h, w = inputs[0]
        top, bottom, left, right = self.padding
        oh = _window(h, self.kernel[0], self.stride[0], top, bottom)
        ow = _window(w, self.kernel[1], self.stride[1], left, right)
        require(oh > 0 and ow > 0, self, inputs, "window is larger than the padded input")
        return (n, c, oh, ow)

    def sliding_window(self, inputs: Sequence[Shape]) -> SlidingWindow:
        return SlidingWindow(self.kernel, self.stride, (1, 1), self.padding, self.border)

    @property
    def border(self) -> str:
        """What padding counts as (`SlidingWindow`)."""
        return "lowest"

    def scales_with_input(self, inputs: Sequence[Shape], output: Shape) -> bool:
        return True


@register
@dataclass(frozen=True)
class MaxPool2d(_Pool2d):
    """Maximum over a window; padding never wins. torch's ``ceil_mode`` arrives as bottom and right padding."""

    rounds: ClassVar[bool] = False
    keeps_bits: ClassVar[bool] = True


@register
@dataclass(frozen=True)
class AvgPool2d(_Pool2d):
    """Mean over a window. ``count_padding`` false divides by the number of real pixels under the window."""

    count_padding: bool = False
    gains_bits: ClassVar[bool] = True

    @property
    def border(self) -> str:
        return "zero" if self.count_padding else "left out"

    @property
    def pads(self) -> bool:
        return any(self.padding)


@register
@dataclass(frozen=True)
class GlobalAvgPool(Op):
    """Mean over height and width: ``(N, C, H, W)`` to ``(N, C, 1, 1)``. Has a scale of its own."""

    averages_map: ClassVar[bool] = True
    gains_bits: ClassVar[bool] = True
    keeps_sign: ClassVar[bool] = True

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        require(len(inputs) == 1 and len(inputs[0]) == 4, self, inputs, "takes one (N, C, H, W) input")
        return (*inputs[0][:2], 1, 1)

    def scales_with_input(self, inputs: Sequence[Shape], output: Shape) -> bool:
        return True
