"""Computing on a value's last dimensions as if they were the channels of a picture.

Networks that keep channels last, ``(N, H, W, C)`` or tokens ``(N, L, C)``, are brought to ``(N, C, H, W)`` for every
layer and back again; `optimize` takes out what cancels, and a TFLite file has channels last anyway.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from edgeq.graph.capture.aten import Call, Value
from edgeq.graph.capture.moves import permute, reshape
from edgeq.graph.ops import Shape

__all__ = ["Back", "as_channels"]

Back = Callable[[Value, Shape], Value]
"""(the picture computed, what its channels are to be) -> the value they are the last dimensions of."""


def as_channels(call: Call, value: Value, count: int = 1) -> tuple[Value, Back]:
    """`value` with its last `count` dimensions as channels, ``(1, C, H, W)``, and the way back."""
    places = value.shape[1 : len(value.shape) - count]
    size = math.prod(value.shape[len(value.shape) - count :])
    if len(places) == 2 and count == 1:
        return permute(call, value, (0, 3, 1, 2)), lambda made, tail: permute(call, made, (0, 2, 3, 1))
    if not places:
        return reshape(call, value, (1, size, 1, 1)), lambda made, tail: reshape(call, made, (1, *tail))
    rows = math.prod(places)
    columns = permute(call, reshape(call, value, (1, rows, size)), (0, 2, 1))

    def back(value: Value, tail: Shape) -> Value:
        turned = permute(call, reshape(call, value, (1, value.shape[1], rows)), (0, 2, 1))
        return reshape(call, turned, (1, *places, *tail))

    return reshape(call, columns, (1, size, rows, 1)), back
