"""Ops that move, select or resize: their output has the quantization of their input. And constants that are joined with
what moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from edgeq.graph.ops.base import Op, Pair, Shape, register, require
from edgeq.graph.ops.nearest import NEAREST_MODES

__all__ = ["Concat", "Constant", "Pad", "Permute", "Reshape", "Resize2d", "Slice"]


@dataclass(frozen=True)
class _Move(Op):
    """Every output integer is an input integer, in another place, or padding."""

    shares_quantization: ClassVar[bool] = True
    rounds: ClassVar[bool] = False
    keeps_bits: ClassVar[bool] = True


@register
@dataclass(frozen=True)
class Concat(_Move):
    """Join along a dimension counted from the front, batch included (1 is channels)."""

    axis: int = 1
    keeps_sign: ClassVar[bool] = True

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        require(len(inputs) >= 1 and 1 <= self.axis < len(inputs[0]), self, inputs, f"cannot join along {self.axis}")
        rest = {(*s[: self.axis], *s[self.axis + 1 :]) for s in inputs}
        require(len(rest) == 1, self, inputs, "other dimensions differ")
        first = inputs[0]
        return (*first[: self.axis], sum(s[self.axis] for s in inputs), *first[self.axis + 1 :])


@register
@dataclass(frozen=True)
class Constant(Op):
    """Input: a constant ``(1, ...)``, which becomes an activation with a grid of its own: a class token, a position
    embedding, a mask."""

    holds_constant: ClassVar[bool] = True
    rounds: ClassVar[bool] = False
    gains_bits: ClassVar[bool] = True  # of a real number, any number of bits can be kept

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        require(len(inputs) == 1 and inputs[0][:1] == (1,), self, inputs, "takes one constant with a batch of 1")
        return inputs[0]


@register
@dataclass(frozen=True)
class Pad(_Move):
    """Surround with zeros (real 0.0). ``before`` and ``after`` hold one count per dimension, batch included.

    ``lowest`` surrounds with minus infinity: the padding of the max pools behind it, of which `optimize` makes it part.
    """

    before: Shape = ()
    after: Shape = ()
    lowest: bool = False

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        require(len(inputs) == 1, self, inputs, "takes one input")
        (shape,) = inputs
        counts = (*self.before, *self.after)
        fits = len(self.before) == len(self.after) == len(shape) and min(counts) >= 0
        require(
            fits and not (self.before[0] or self.after[0]), self, inputs, f"cannot pad by {self.before}, {self.after}"
        )
        return tuple(b + s + a for b, s, a in zip(self.before, shape, self.after, strict=True))

    @property
    def pads(self) -> bool:
        return True

    def non_negative(self, inputs: bool) -> bool:
        return inputs and not self.lowest


@register
@dataclass(frozen=True)
class Slice(_Move):
    """``x[start:stop:step]`` along every dimension (batch: all of it); ``stop`` is exclusive and within the shape."""

    start: Shape = ()
    stop: Shape = ()
    step: Shape = ()
    keeps_sign: ClassVar[bool] = True

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        require(len(inputs) == 1, self, inputs, "takes one input")
        (shape,) = inputs
        ok = len(self.start) == len(self.stop) == len(self.step) == len(shape) and all(
            0 <= a < b <= s and k > 0 for a, b, k, s in zip(self.start, self.stop, self.step, shape, strict=True)
        )
        require(ok, self, inputs, f"cannot take {self.start}:{self.stop}:{self.step}")
        sizes = (len(range(a, b, k)) for a, b, k in zip(self.start, self.stop, self.step, strict=True))
        return (shape[0], *tuple(sizes)[1:])


@register
@dataclass(frozen=True)
class Reshape(_Move):
    """Same values in torch's order, new ``shape`` per sample (batch dimension kept and not listed)."""

    shape: Shape = ()
    keeps_sign: ClassVar[bool] = True

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        require(len(inputs) == 1, self, inputs, "takes one input")
        require(math.prod(inputs[0][1:]) == math.prod(self.shape), self, inputs, f"cannot become {self.shape}")
        return (inputs[0][0], *self.shape)

    def scales_with_input(self, inputs: Sequence[Shape], output: Shape) -> bool:
        return len(inputs[0]) == 4 and inputs[0][2:] == (1, 1) and output == inputs[0][:2]


@register
@dataclass(frozen=True)
class Permute(_Move):
    """Reorder dimensions as `torch.permute` does; ``order`` lists all of them, the batch (0) first."""

    order: Shape = ()

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        require(len(inputs) == 1, self, inputs, "takes one input")
        (shape,) = inputs
        fits = sorted(self.order) == list(range(len(shape))) and self.order[:1] == (0,)
        require(fits, self, inputs, f"cannot be ordered as {self.order}")
        return tuple(shape[i] for i in self.order)


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

    def scales_with_input(self, inputs: Sequence[Shape], output: Shape) -> bool:
        return True
