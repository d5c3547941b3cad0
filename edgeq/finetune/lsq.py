"""Fake quantization whose step size learns: LSQ (Esser et al., "Learned Step Size Quantization", ICLR 2020).

Straight-through with a clipping mask: inside the grid's range the gradient passes as it is, outside it is zero (the
variant of LSQ and of PACT; ZAQ's released code lets it pass everywhere). The step's gradient is LSQ's, divided by
sqrt(values x largest level) so that steps and weights learn at comparable rates.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

__all__ = ["fake_quantize", "round_away"]


def round_away(value: Tensor) -> Tensor:
    """Nearest integers, halves away from zero, as the integer kernels round."""
    return value.sign() * (value.abs() + 0.5).floor()


def fake_quantize(value: Tensor, step: Tensor, low: int, high: int, axis: int | None = None) -> Tensor:
    """Round `value` to the grid ``step * {low, ..., high}``; differentiable in `value` and `step`.

    `step` is one positive number ``()``, or ``(C,)`` along `axis`. `low` and `high` are relative to the zero point.
    """
    quantized: Tensor = _LSQ.apply(value, step, low, high, axis)  # type: ignore[no-untyped-call]
    return quantized


class _LSQ(torch.autograd.Function):
    """Autograd function with hand-written gradients: it saves one tensor, where autograd would save six."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, step: Tensor, low: int, high: int, axis: int | None) -> Tensor:
        shape = _spread(step, value, axis)
        ratio = value / step.view(shape)
        levels = round_away(ratio).clamp_(low, high)
        ctx.save_for_backward(ratio, levels)
        ctx.facts = low, high, shape, step.shape
        ctx.step = step
        return levels * step.view(shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        (gradient,) = gradients
        ratio, levels = ctx.saved_tensors
        low, high, shape, step_shape = ctx.facts
        # Half a step beyond the last level still rounds to it: that far the value counts as inside.
        inside = (ratio >= low - 0.5) & (ratio <= high + 0.5)
        to_value = gradient * inside if ctx.needs_input_grad[0] else None
        to_step = None
        if ctx.needs_input_grad[1]:
            slope = torch.where(inside, levels - ratio, levels) * gradient
            values = slope.numel() // max(1, math.prod(step_shape))
            summed = slope.sum() if step_shape == () else slope.sum([d for d, n in enumerate(shape) if n == 1])
            to_step = summed.view(step_shape) / math.sqrt(values * max(abs(low), abs(high), 1))
        return to_value, to_step, None, None, None


def _spread(step: Tensor, value: Tensor, axis: int | None) -> list[int]:
    shape = [1] * value.dim()
    if axis is not None:
        shape[axis] = step.numel()
    return shape
