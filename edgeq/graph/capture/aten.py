"""ATen call -> op: one registry of small functions, looked up by the call's name without its overload.

A rule reads its call's arguments by their schema names (so `conv2d.default` and `conv2d.padding` are one rule), emits
ops and returns the value that stands for the call's result. Calls whose tensor arguments are all constants never come
here: `capture` evaluates those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

from edgeq.errors import UnsupportedError
from edgeq.graph import ops
from edgeq.graph.ops import Op, Pair, Shape
from edgeq.registry import Registry

__all__ = ["ANYWHERE", "ATEN", "Call", "Constant", "Rule", "Value", "aten", "axis_of", "own_shape", "with_batch"]


@dataclass(frozen=True)
class Value:
    """An activation. `key` names it until capture is over; `seen` is the shape torch saw.

    `shape` is the value's own. The batch, which is 1, always stands in front of it; where torch moved it or merged it
    into another dimension, as windows and heads of attention do, `shape` is `seen` behind one or two dimensions of 1.
    Four dimensions are a picture for every stage that comes after, so there are two where one would make four.
    `stacked` says along which of its dimensions it is a stack, and of what: a sum over that dimension adds these.
    """

    key: str
    shape: Shape
    seen: Shape
    stacked: tuple[int, tuple[Value, ...]] = (0, ())

    @property
    def offset(self) -> int:
        """How many dimensions stand in front of those that torch saw."""
        return len(self.shape) - len(self.seen)


@dataclass(frozen=True)
class Constant:
    """A parameter, buffer or what was computed from them, under its parameter path."""

    name: str
    tensor: Tensor


Emit = Callable[[Op, Sequence["Value | Constant"], str], Value]


@dataclass(frozen=True)
class Call:
    """One ATen call: name, arguments by schema name (`Value` or `Constant` where torch has tensors), result shapes.

    `anywhere` says that its rule takes values wherever their batch is; others get them as torch saw them.
    """

    name: str
    arguments: Mapping[str, Any]
    shapes: tuple[Shape, ...]
    sink: Emit
    anywhere: bool = False

    @property
    def shape(self) -> Shape:
        return self.shapes[0]

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]

    def get(self, argument: str, default: Any = None) -> Any:
        value = self.arguments.get(argument)
        return default if value is None else value

    def value(self, argument: str = "self") -> Value:
        """The activation given as `argument`; `UnsupportedError` for a constant, or one whose batch the rule misses."""
        return self.activation(self.arguments[argument])

    def activation(self, given: Any) -> Value:
        if not isinstance(given, Value):
            raise self.unsupported("an activation is combined with a constant", _CONSTANT_HINT)
        if self.anywhere or not given.offset:
            return given
        if len(given.seen) < 2 or given.seen[0] != 1:
            raise self.unsupported("the batch dimension was squeezed or reshaped away before it", _BATCH_HINT)
        return self.emit(ops.Reshape(given.seen[1:]), given, label="batch")

    def axis(self, dim: int, value: Value) -> int:
        """Where in `value` the dimension is that torch calls `dim`."""
        return axis_of(dim, len(value.seen)) + value.offset

    def operand(self, given: Any, rank: int) -> Value:
        """An activation or a constant, as an activation of `rank` dimensions: torch counts them from the last one."""
        if not isinstance(given, Constant):
            value = self.activation(given)
            missing = rank - len(value.shape)
            shape = (*value.shape[:1], *(1,) * missing, *value.shape[1:])
            return value if missing <= 0 else self.emit(ops.Reshape(shape[1:]), value)
        shape = tuple(given.tensor.shape)
        shape = (1,) * (rank - len(shape)) + shape
        if len(shape) > rank or shape[0] != 1:
            raise self.unsupported(f"a constant of shape {list(given.tensor.shape)} reaches over the batch")
        return self.emit(ops.Constant(), Constant(given.name, given.tensor.float().reshape(shape)))

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
ANYWHERE: set[str] = set()
"""Names of calls whose rules take values wherever their batch is."""
ATEN: Registry[Rule] = Registry(
    "aten",
    modules=(
        "edgeq.graph.capture.attention",
        "edgeq.graph.capture.elementwise",
        "edgeq.graph.capture.layers",
        "edgeq.graph.capture.moves",
        "edgeq.graph.capture.pooling",
        "edgeq.graph.capture.padding",
        "edgeq.graph.capture.indexing",
        "edgeq.graph.capture.norms",
        "edgeq.graph.capture.shuffle",
        "edgeq.graph.capture.arithmetic",
        "edgeq.graph.capture.one_dimensional",
        "edgeq.graph.capture.reductions",
        "edgeq.graph.capture.repeats",
        "edgeq.graph.capture.three_dimensional",
        "edgeq.graph.capture.matrices",
        "edgeq.graph.capture.writes",
    ),
)
"""Rules by ATen name, e.g. ``aten.conv2d``."""

PICTURE = 4
"""Dimensions of a picture."""

_CONSTANT_HINT = (
    "fold it into a neighbouring convolution; input normalisation belongs in [input] mean and std of model.toml"
)
_BATCH_HINT = "use flatten(1), or name the dimensions to squeeze"


_R = TypeVar("_R", bound=Rule)


def aten(*names: str, anywhere: bool = False) -> Callable[[_R], _R]:
    """Register a rule under each name, in-place spellings (``relu_``) included.

    `anywhere`: the rule takes values wherever their batch is, and finds dimensions with `Call.axis`.
    """

    def add(rule: _R) -> _R:
        for name in names:
            ATEN.register(f"aten.{name}")(rule)
            if anywhere:
                ANYWHERE.add(f"aten.{name}")
        return rule

    return add


def axis_of(dim: int, rank: int) -> int:
    """A dimension counted from the front."""
    return dim + rank if dim < 0 else dim


def own_shape(seen: Shape) -> Shape:
    """The shape of a value that torch sees as `seen`: the same where that begins with a batch of 1."""
    return seen if seen[:1] == (1,) and len(seen) > 1 else with_batch(seen)


def with_batch(seen: Shape) -> Shape:
    """The shape of a value that torch sees as `seen`, without a batch of its own in front."""
    return (1, *seen) if len(seen) != PICTURE - 1 else (1, 1, *seen)
