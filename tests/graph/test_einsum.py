"""Products of two activations that capture reads from `einsum`, and those that it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from graph_networks import same
from torch import Tensor, nn

from edgeq.graph.capture.walk import capture, unsupported_calls


class Forward(nn.Module):
    """A module around a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


EQUATIONS = {
    "bhid,bhjd->bhij": ((2, 3, 4), (2, 5, 4)),
    "b h i j , b h j d -> b h d i": ((2, 3, 5), (2, 5, 4)),
    "bchw,bkhw->bck": ((2, 3, 4), (5, 3, 4)),
    "bcij,bnij->bnc": ((2, 3, 4), (5, 3, 4)),
    "bik,bkj->bij": ((3, 4), (4, 5)),
    "bxyc,bzyc->bxyz": ((3, 2, 4), (5, 2, 4)),
}


@pytest.mark.parametrize("equation", EQUATIONS)
def test_products_by_einsum(equation: str) -> None:
    """Of two activations, halves of one."""
    left, right = EQUATIONS[equation]
    size = math.prod(left)

    def forward(x: Tensor) -> Tensor:
        made = torch.einsum(equation, x[:, :size].reshape(-1, *left), x[:, size:].reshape(-1, *right))
        return made.flatten(1)

    shape = (size + math.prod(right),)
    module = Forward(forward)
    same(module, capture(module, shape, "net"), shape)


@pytest.mark.parametrize("equation", ["bij,bkj->b", "...ij,...kj->...ik", "bij->bji", "bij,bik->bijk"])
def test_other_einsums_are_refused(equation: str) -> None:
    operands = equation.partition("->")[0].count(",") + 1
    module = Forward(lambda x: torch.einsum(equation, *[F.relu(x)] * operands))
    errors = unsupported_calls(module, (3, 3), "net")
    assert errors
    assert "matmul" in str(errors[0])
