"""The base class of all ops: frozen data that checks the shapes it is given, and traits that the stages ask for.

A trait says once, on the op's class, what other stages need to know about it. A stage asks for the trait and never for
a list of op classes, so a new op is its class here and one rule in the same-named file of each stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeVar

from edgeq.errors import UnsupportedError

if TYPE_CHECKING:
    from edgeq.graph.ops.elementwise import Clamp

__all__ = ["OPS", "Op", "Pair", "Shape", "Sides", "SlidingWindow", "broadcast", "register", "require"]

Shape = tuple[int, ...]
Pair = tuple[int, int]
Sides = tuple[int, int, int, int]


@dataclass(frozen=True)
class SlidingWindow:
    """A window that moves over height and width; `padding` is ``(top, bottom, left, right)`` in pixels.

    `border` is what padding counts as: "zero", "lowest" (it never wins a maximum) or "left out" (of a mean).
    """

    kernel: Pair
    stride: Pair
    dilation: Pair
    padding: Sides
    border: str = "zero"


@dataclass(frozen=True)
class Op:
    """Base of all op kinds. Every trait has the default of an op that computes something new from its inputs."""

    shares_quantization: ClassVar[bool] = False
    """The output has the scale and zero point of the inputs: the op moves, selects or averages integers."""

    rounds: ClassVar[bool] = True
    """The integer kernel rounds its results. False where every output integer is one of the input integers."""

    is_layer: ClassVar[bool] = False
    """Convolution or linear layer: input 1 is its weight, output channels first; input 2, if present, its bias."""

    accepts_activation: ClassVar[bool] = False
    """A clamp that follows can become part of the op (`with_activation`)."""

    holds_constant: ClassVar[bool] = False
    """Makes an activation of its one input, a constant: the same for every image."""

    unary: ClassVar[bool] = False
    """A function of each value alone, with no other input."""

    elementwise: ClassVar[bool] = False
    """Each output depends on the inputs at the same place only, and in the same way at every place."""

    activation_function: ClassVar[bool] = False
    """An activation function whose output range calibration decides, so that few bits are meant for its output."""

    tabulated: ClassVar[bool] = False
    """No runtime has an integer kernel for it: int8 looks it up in a table of 256 entries, int16 cannot have it."""

    averages_map: ClassVar[bool] = False
    """Mean over a whole map: rounding of the inputs averages out, clipping does not."""

    keeps_bits: ClassVar[bool] = False
    """Hands values on as they are: the output needs no more bits than the input has."""

    gains_bits: ClassVar[bool] = False
    """Sums, products and means: exact results of 8-bit values have more than 8 bits."""

    never_negative: ClassVar[bool] = False
    """No output is below zero, whatever the inputs are."""

    keeps_sign: ClassVar[bool] = False
    """No output is below zero where no input is."""

    demanded_grid: ClassVar[tuple[float, int] | None] = None
    """Scale and zero point that TFLite's int8 kernel demands of the output."""

    lowering: ClassVar[str] = ""
    """What to do where a stage has no rule for the op, for an error's hint."""

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        """The output shape, or `UnsupportedError` when the inputs cannot be this op's."""
        raise NotImplementedError(type(self).__name__)

    def macs(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Multiply-accumulates for these shapes; 0 where the op does none worth counting."""
        return 0

    def fixed_grid(self, bits: int = 8) -> tuple[float, int] | None:
        """Scale and zero point of the output that no calibration decides, int8 or with 16 `bits` int16; None where
        there is a choice.

        TFLite's kernels demand theirs of sigmoid, tanh and softmax. What ends in 0..1 has a grid that ends there, so
        that saturation is the clamp: no kernel can fuse that one. (An int16 grid goes on below 0, where a ReLU ends
        it.)
        """
        if self.demanded_grid is None:
            return None
        return (1 / 32768, 0) if bits == 16 else self.demanded_grid

    @property
    def clamp(self) -> Clamp | None:
        """The limits of the output: the op itself, or the activation that is part of it."""
        return None

    @property
    def fused_activation(self) -> Clamp | None:
        """The activation that is part of the op and is applied to its result."""
        return None

    def with_activation(self, activation: Clamp | None) -> Op:
        """The op with another fused activation, or without. Raises `UnsupportedError` where none can be fused."""
        raise UnsupportedError(f"{type(self).__name__} takes no fused activation")

    @property
    def output_bits(self) -> int | None:
        """8 or 16 where the op decides the type of its output, so that input and output types differ."""
        return None

    @property
    def reads_ratios(self) -> bool:
        """Whether the relative error of its input counts: an inverse of 0.01 is as wrong as that of 1."""
        return False

    @property
    def pads(self) -> bool:
        """Whether zeros, which are no value of the input, stand beside what the op reads."""
        return False

    def sliding_window(self, inputs: Sequence[Shape]) -> SlidingWindow | None:
        """The window that moves over the ``(N, C, H, W)`` input of these shapes; None for ops without one."""
        return None

    def non_negative(self, inputs: bool) -> bool:
        """Whether no output is below zero; `inputs` says whether no input is."""
        return self.never_negative or (self.keeps_sign and inputs)

    def scales_with_input(self, inputs: Sequence[Shape], output: Shape) -> bool:
        """Whether the op is positively homogeneous per channel: a channel of its inputs that becomes s times as large
        (s > 0) makes the same channel of its output s times as large."""
        return False


OPS: dict[str, type[Op]] = {}
"""Every op kind by name; the name is what a saved graph stores."""

_Kind = TypeVar("_Kind", bound=type[Op])


def register(kind: _Kind) -> _Kind:
    """Decorator: make an op kind known by its name."""
    OPS[kind.__name__] = kind
    return kind


def require(condition: bool, op: Op, inputs: Sequence[Shape], why: str) -> None:
    """Raise `UnsupportedError` for these input shapes unless `condition` holds."""
    if not condition:
        raise UnsupportedError(f"{type(op).__name__} got shapes {list(inputs)}", why=why)


def broadcast(op: Op, inputs: Sequence[Shape]) -> Shape:
    """Shape of what combines two activations of one rank value by value; one of 1 is repeated along the other's."""
    require(len(inputs) == 2 and len(inputs[0]) == len(inputs[1]), op, inputs, "takes two inputs of one rank")
    pairs = list(zip(*inputs, strict=True))
    require(all(a == b or 1 in (a, b) for a, b in pairs), op, inputs, "shapes neither agree nor repeat")
    return tuple(b if a == 1 else a for a, b in pairs)
