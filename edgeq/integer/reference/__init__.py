"""The exact reference: an integer graph computed value for value as LiteRT's ``BUILTIN_REF`` kernels do.

Logical NCHW, any batch, one file of kernels per op family. Everything after a layer's sums is in int64. Where a kernel
forms a ratio of scales in float32 before widening it, so does this; each such place says so.
"""

from edgeq.integer.reference import attention, elementwise, layers, moves, norms
from edgeq.integer.reference.runner import run
from edgeq.integer.reference.table import KERNELS

__all__ = ["KERNELS", "attention", "elementwise", "layers", "moves", "norms", "run"]
