"""The table of float kernels, filled by one file per op family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from edgeq.graph.ops import OpTable

__all__ = ["KERNELS", "Kernel"]

Kernel = Callable[..., Tensor]
"""The torch call for one op: from its inputs' tensors, parameters included, to its output."""

KERNELS: OpTable[Callable[[Any], Kernel]] = OpTable("cannot be run in torch")
"""Op class to the function that turns an op into its kernel, called once per node."""
