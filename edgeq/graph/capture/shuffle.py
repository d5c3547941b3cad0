"""Rules for ATen calls that are reshape, permutation and reshape: channels shuffled, or turned into pixels and back."""

from __future__ import annotations

from edgeq.graph import ops
from edgeq.graph.capture.aten import Call, Value, aten
from edgeq.graph.ops import Shape


@aten("pixel_shuffle")
def _pixel_shuffle(call: Call) -> Value:
    value, r = call.value(), int(call["upscale_factor"])
    _, c, h, w = _picture(call, value)
    return _reorder(call, value, (c // (r * r), r, r, h, w), (0, 1, 4, 2, 5, 3))


@aten("pixel_unshuffle")
def _pixel_unshuffle(call: Call) -> Value:
    value, r = call.value(), int(call["downscale_factor"])
    _, c, h, w = _picture(call, value)
    return _reorder(call, value, (c, h // r, r, w // r, r), (0, 1, 3, 5, 2, 4))


@aten("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(call: Call) -> Value:
    value, groups = call.value(), int(call["groups"])
    _, c, h, w = _picture(call, value)
    return _reorder(call, value, (groups, c // groups, h, w), (0, 2, 1, 3, 4))


def _picture(call: Call, value: Value) -> Shape:
    if len(value.shape) != 4:
        raise call.unsupported(f"its input has shape {list(value.shape)}", "shuffle (N, C, H, W)")
    return value.shape


def _reorder(call: Call, value: Value, apart: Shape, order: Shape) -> Value:
    split = call.emit(ops.Reshape(apart), value, label="split")
    moved = call.emit(ops.Permute(order), split, label="permute")
    return call.emit(ops.Reshape(call.shape[1:]), moved)
