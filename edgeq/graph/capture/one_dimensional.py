"""Rules for pools, resizing and transposed convolutions over one dimension: those of pictures one pixel high."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgeq.graph.capture.aten import Call, Constant, Rule, Value, aten
from edgeq.graph.capture.layers import conv_transpose2d
from edgeq.graph.capture.moves import reshape, resize
from edgeq.graph.capture.pooling import adaptive_avg_pool2d, adaptive_max_pool2d, avg_pool2d, max_pool2d

__all__: list[str] = []

SIZES = {"kernel_size": 1, "stride": 1, "dilation": 1, "padding": 0, "output_padding": 0}
"""Arguments that have a number per dimension, and the number for a height of one pixel."""


@aten("max_pool1d", "max_pool1d_with_indices")
def _max_pool1d(call: Call) -> Value:
    return _as_picture(call, max_pool2d)


@aten("avg_pool1d")
def _avg_pool1d(call: Call) -> Value:
    return _as_picture(call, avg_pool2d)


@aten("adaptive_avg_pool1d")
def _adaptive_avg_pool1d(call: Call) -> Value:
    return _as_picture(call, adaptive_avg_pool2d)


@aten("adaptive_max_pool1d")
def _adaptive_max_pool1d(call: Call) -> Value:
    return _as_picture(call, adaptive_max_pool2d)


@aten("conv_transpose1d")
def _conv_transpose1d(call: Call) -> Value:
    return _as_picture(call, conv_transpose2d)


@aten("upsample_nearest1d", "_upsample_nearest_exact1d", "upsample_linear1d")
def _resize1d(call: Call) -> Value:
    """The height stays, so its scale is 1."""
    scales = call.get("scale_factors") or [call.get("scales")]
    lifted = replace(call, name=call.name.replace("linear1d", "bilinear2d").replace("1d", "2d"))
    lifted = replace(lifted, arguments={**call.arguments, "scale_factors": [None, *scales]})
    return _as_picture(lifted, resize)


def _as_picture(call: Call, rule: Rule) -> Value:
    """Apply the two-dimensional `rule` to ``(1, C, L)`` as ``(1, C, 1, L)``."""
    argument = "input" if "input" in call.arguments else "self"
    value, weight = call.value(argument), call.constant("weight")
    if len(value.shape) != 3:
        raise call.unsupported(f"its input has shape {list(value.shape)}", "give it (N, C, L)")
    _, channels, length = value.shape
    arguments: dict[str, Any] = dict(call.arguments)
    for name, neutral in SIZES.items():
        if name in arguments and not isinstance(arguments[name], str) and arguments[name] != []:
            arguments[name] = [neutral, call.pair(name)[1]]
    if weight is not None:
        arguments["weight"] = Constant(weight.name, weight.tensor.unsqueeze(2))
    arguments[argument] = reshape(call, value, (1, channels, 1, length))
    shape = call.shape
    result = rule(replace(call, arguments=arguments, shapes=((*shape[:2], 1, shape[2]),)))
    if not isinstance(result, Value):
        raise call.unsupported("it has several results")
    return reshape(call, result, shape)
