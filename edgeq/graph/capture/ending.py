"""An L2 normalisation at the end of an exported program: found, and left to the app where only angles count."""

from __future__ import annotations

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind, TensorArgument

__all__ = ["cut_normalization"]

_SCALING = ("div.Tensor", "mul.Tensor")
_LENGTHS = ("linalg_vector_norm", "norm", "rsqrt", "sqrt", "pow", "square", "sum")
"""Calls by which a length may be computed."""


def cut_normalization(program: ExportedProgram) -> bool:
    """Let `program` end before a final ``x / |x|``, in place; returns whether there was one.

    Any form counts that scales a value by something computed from that value alone, through a norm or a root
    (``F.normalize``, ``x / x.norm(...)``, ``x * x.square().sum(...).rsqrt()``). Whoever calls this must compare angles:
    that the rest is the normalised vector is for `confirm` to see.
    """
    outputs = [spec for spec in program.graph_signature.output_specs if spec.kind is OutputKind.USER_OUTPUT]
    ending = next(node for node in program.graph.nodes if node.op == "output")
    last = ending.args[0]
    if len(outputs) != 1 or not isinstance(last, tuple | list) or not isinstance(last[-1], torch.fx.Node):
        return False
    scaled = last[-1]
    if not _name(scaled).endswith(_SCALING) or len(scaled.args) != 2:
        return False
    value, scale = scaled.args
    if not isinstance(value, torch.fx.Node) or not isinstance(scale, torch.fx.Node):
        return False
    calls = _calls_between(value, scale)
    if calls is None or not any(_name(call).partition(".")[0] in _LENGTHS for call in calls):
        return False
    ending.replace_input_with(scaled, value)
    outputs[0].arg = TensorArgument(name=value.name)
    return True


def _name(node: torch.fx.Node) -> str:
    """``div.Tensor`` of a call of ``aten.div.Tensor``; "" of what is no call of ATen."""
    return str(node.target).removeprefix("aten.") if node.op == "call_function" else ""


def _calls_between(value: torch.fx.Node, end: torch.fx.Node) -> list[torch.fx.Node] | None:
    """The calls that make `end` of `value`; None where `end` reads anything else that a network computes or stores."""
    calls: list[torch.fx.Node] = []
    waiting = [end]
    while waiting:
        node = waiting.pop()
        if node is value or node in calls:
            continue
        if node.op != "call_function" or not node.all_input_nodes:
            return None
        calls.append(node)
        waiting += node.all_input_nodes
    return calls
