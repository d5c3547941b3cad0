"""What every op kind is: a frozen dataclass that checks the shapes it is given, known by its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from edgeq.errors import UnsupportedError

__all__ = ["OPS", "Op", "Pair", "Shape", "Sides", "broadcast", "register", "require"]

Shape = tuple[int, ...]
Pair = tuple[int, int]
Sides = tuple[int, int, int, int]


@dataclass(frozen=True)
class Op:
    """Base of all op kinds."""

    shares_quantization: ClassVar[bool] = False
    """Output carries its (first) input's scale and zero point: the op only moves or selects values."""

    def infer(self, inputs: Sequence[Shape]) -> Shape:
        """The output shape, or `UnsupportedError` when the inputs cannot be this op's."""
        raise NotImplementedError(type(self).__name__)

    def macs(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Multiply-accumulates for these shapes; 0 where the op does none worth counting."""
        return 0


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
