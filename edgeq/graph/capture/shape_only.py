"""Arguments of which a call reads shape and type alone: given an activation there, it still has a constant result."""

from __future__ import annotations

from typing import Any

import torch

from edgeq.graph.capture.aten import Constant, Value
from edgeq.graph.capture.torch_export import packet

__all__ = ["shape_only_as_constants"]

SHAPE_ONLY = {
    **{f"aten.{name}": "other" for name in ("expand_as", "reshape_as", "to", "type_as", "view_as")},
    **{
        f"aten.{name}": "self"
        for name in (
            "empty_like",
            "full_like",
            "new_empty",
            "new_full",
            "new_ones",
            "new_zeros",
            "ones_like",
            "zeros_like",
        )
    },
}
"""Arguments that a call reads for their shape and type alone."""


def shape_only_as_constants(node: torch.fx.Node, args: Any) -> Any:
    """The call's arguments, those of which it reads shape and type alone as constants, whatever they hold.

    ``buffer.type_as(x)`` and ``x.new_zeros(...)`` are constants, though they are made from an activation.
    """
    name = SHAPE_ONLY.get(packet(node))
    if name is None:
        return args
    positional, named = args
    names = [argument.name for argument in node.target._schema.arguments]  # type: ignore[union-attr]
    place = names.index(name) if name in names else len(positional)
    if place < len(positional) and isinstance(positional[place], Value):
        val = node.args[place].meta["val"]  # type: ignore[union-attr]
        model = Constant("", torch.zeros((), dtype=val.dtype).expand(positional[place].seen))
        return ((*positional[:place], model, *positional[place + 1 :]), named)
    return args
