"""The rule for transposed convolutions."""

from __future__ import annotations

from edgeq.graph import ops
from edgeq.graph.capture.aten import Call, Constant, Value, aten

__all__ = ["conv_transpose2d"]


@aten("conv_transpose2d")
def conv_transpose2d(call: Call) -> Value:
    weight, bias = call.constant("weight"), call.constant("bias")
    if weight is None or weight.tensor.dim() != 4:
        raise call.unsupported("only two-dimensional transposed convolutions are known", "use nn.ConvTranspose2d")
    if call.pair("dilation", (1, 1)) != (1, 1):
        raise call.unsupported("it is dilated", "use a transposed convolution without dilation")
    groups = int(call.get("groups", 1))
    i, o, kh, kw = weight.tensor.shape  # torch keeps (inputs, outputs / groups, ...)
    ours = weight.tensor.reshape(groups, i // groups, o, kh, kw).transpose(1, 2).reshape(groups * o, -1, kh, kw)
    (top, left), (down, right) = call.pair("padding", (0, 0)), call.pair("output_padding", (0, 0))
    cut = (top, top - down, left, left - right)
    op = ops.ConvTranspose2d(call.pair("stride", (1, 1)), cut, groups)
    return call.emit(op, call.value("input"), Constant(weight.name, ours), bias)
